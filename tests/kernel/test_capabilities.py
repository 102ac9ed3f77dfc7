"""What each process may do, and that it is enough and no more: the table in docs/interception.md."""

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import agent_client
from gateway.privileges import BPF, NET_ADMIN, NET_RAW, PERFMON, SYS_PTRACE
from tests.support.lab import Lab, gateway, servers
from tests.support.lab.gateway import Agent, Gateway
from tests.support.lab.lab import SERVER4, UNPRIVILEGED
from tests.support.lab.probing import WAYS, Fate, probe
from tests.support.lab.talking import wait_until
from tests.support.lab.world import RANGES, WORLD

pytestmark = pytest.mark.timeout(300)
UNIT = Path(__file__).parents[2] / "deploy/systemd/sluicegate-agent.service"
OPEN_PORT = RANGES["open"][0]


def unit_capabilities() -> list[str]:
    """Those that the unit gives the agent for its first moment."""
    lines = UNIT.read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("CapabilityBoundingSet=")]
    return [name.removeprefix("CAP_").lower() for name in line.partition("=")[2].split()]


def probes(running: Gateway) -> Any:
    """What the agent says of them."""
    return agent_client.ask(running.agent.socket, "status")["probes"]


def capabilities(pid: int) -> dict[str, set[int]]:
    """By set (`CapEff`, `CapPrm`, …), numbers of linux/capability.h."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in status if line.startswith("Cap")}
    return {name: {number for number in range(64) if mask >> number & 1} for name, mask in masks.items()}


def test_the_agent_captures_with_net_admin_and_the_gateway_with_net_raw(lab: Lab) -> None:
    """Started as the unit starts it; what it has once it runs, it also has after an upgrade."""
    server = lab.serve(servers.echo, OPEN_PORT)
    lab.router.run("mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing")  # systemd does; the agent may not here
    with gateway(lab, WORLD, agent=False, probes=True) as running:
        running.agent.start(bounding=unit_capabilities())
        running.wait_armed()
        for turn in range(2):
            served = len(server.connections)
            assert {probe(lab, way, server) for way in WAYS} == {Fate.CAPTURED}
            assert len(server.connections) == served + len(WAYS), "the gateway's own connections are not captured again"
            found = capabilities(running.agent.pid)
            for which in ("CapEff", "CapPrm", "CapBnd"):
                assert found[which] == {NET_ADMIN, BPF, PERFMON, SYS_PTRACE}, which
            assert "NoNewPrivs:\t1" in Path(f"/proc/{running.agent.pid}/status").read_text()
            wait_until(
                lambda: probes(running)["running"] and not probes(running)["trouble"], 20, lambda: probes(running)
            )
            assert set(probes(running)["features"].values()) == {None}, probes(running)

            def counted() -> bool:
                lab.router.connect((SERVER4, server.port)).close()
                return any(runs for _, runs in probes(running)["programs"].values())

            wait_until(counted, 5, lambda: probes(running))
            for worker in running.workers():
                assert capabilities(worker.pid)["CapEff"] == {NET_RAW}
            if not turn:
                running.cli("service", "upgrade", "--agent")
                running.wait_armed()
        running.cli("intercept", "down")
        # Discovery goes on.
        watching = "inet sluicegate_watch", "inet sluicegate_watch_2"
        wait_until(lambda: not set(lab.router.tables()) - {*watching}, 10, lab.router.tables)


@pytest.mark.parametrize("without", ["net_admin", "dac_override", "chown"])
def test_each_of_them_is_needed(lab: Lab, without: str) -> None:
    """The agent says what it lacks, and ends; the data folder is another user's, as it is where install.sh made it."""
    data = lab.folder / "run" / "data"
    data.mkdir(mode=0o700, parents=True)
    os.chown(data, UNPRIVILEGED, UNPRIVILEGED)
    agent = Agent(lab, data, {}, probes=False)
    agent.start(bounding=[name for name in unit_capabilities() if name != without])
    wait_until(lambda: not agent.running, 60)
    assert agent.stop() != 0
    assert "Traceback" not in agent.log(), agent.log()
    assert any(words in agent.log() for words in ("CAP_NET_ADMIN", "ermission denied", "not permitted")), agent.log()
    agent.start(bounding=unit_capabilities())
    wait_until(lambda: "agent ready" in agent.log(), 60, agent.log)
    assert agent.stop() == 0


def test_a_gateway_that_may_not_mark_is_exempt_as_a_user(lab: Lab) -> None:
    """Without NET_RAW: others are captured, what the gateway's user does is not, and doctor says what would mend it."""
    server = lab.serve(servers.echo, OPEN_PORT)
    with gateway(lab, WORLD, capabilities=()) as running:
        assert {probe(lab, way, server) for way in WAYS} == {Fate.CAPTURED}
        assert len(server.connections) == len(WAYS)
        said = running.cli("doctor", check=False).stdout
        assert "own connections" in said
        assert "CAP_NET_RAW" in said
