"""Without systemd: `sluicegate service` as root keeps the gateway (its folder's owner's) and the agent (root's)."""

import json
import os
import pwd
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.agent_client import ask
from gateway.cli.agent_service import FOLDER
from gateway.errors import SluicegateError
from gateway.privileges import NET_RAW, effective_of
from tests.support.lab import Lab, servers
from tests.support.lab.gateway import Agent
from tests.support.lab.probing import WAYS, Fate, probe
from tests.support.lab.talking import wait_until
from tests.support.lab.world import RANGES, WORLD
from tests.support.own_cgroup import cgroup_root
from tests.support.preparation import prepare

pytestmark = pytest.mark.timeout(400)
WITHIN_S = 60.0
GUARDED_AFTER_S = 5.5
"""An earlier end counts as a start that failed."""


class Installation:
    """A data folder of user nobody's, and the commands that root types."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.data = lab.folder / "data"
        self.name = str(self.data).strip("/").replace("/", "-")
        prepare(self.data, None, WORLD)
        (self.data / "sluicegate.toml").write_text(
            'listen = "127.0.0.1:8080"\nworkers = 1\ndrain = 1\n' + f'cgroup = "{cgroup_root()}"\n'
        )
        owner = pwd.getpwnam("nobody")
        for path in (self.data, *self.data.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def __call__(self, *words: str, code: int = 0) -> str:
        env = {"SLUICEGATE_DATA": str(self.data)}
        done = self.lab.router.run("sluicegate", *words, env=env, check=False, within_s=120)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def agent(self) -> dict[str, Any]:
        """What it says; empty while it is away."""
        try:
            return ask(self.data / "agent.sock", "status")
        except SluicegateError:
            return {}

    def armed(self) -> bool:
        rules = self.agent().get("rules", [])
        return bool(rules) and all(rule["armed"] for rule in rules)

    @property
    def guard(self) -> int:
        return int((FOLDER / f"{self.name}-agent.lock").read_text())


@pytest.fixture
def installation(lab: Lab) -> Iterator[Installation]:
    made = Installation(lab)
    try:
        yield made
    finally:
        made("service", "stop")
        made("intercept", "down")
        for path in (FOLDER / f"{made.name}-agent.lock", FOLDER / f"{made.name}-agent.log"):
            path.unlink(missing_ok=True)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_both_run_are_kept_running_and_leave_nothing(installation: Installation) -> None:
    lab, service = installation.lab, installation
    opened, closed = (lab.serve(servers.echo, RANGES[name][0]) for name in ("open", "closed"))
    policy = lab.router.policy()
    service("service", "start")
    wait_until(service.armed, WITHIN_S, service.agent)
    assert {probe(lab, way, opened) for way in WAYS} == {Fate.CAPTURED}
    assert len(opened.connections) == len(WAYS), "its own connections are marked, not captured again"
    told = service("service", "status")
    assert "agent    ready (background process" in told
    assert "3 of 3 rules armed" in told

    supervisor = json.loads((service.data / "serve.json").read_text())["pid"]
    assert Path(f"/proc/{supervisor}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert effective_of(supervisor) == {NET_RAW}
    findings = [line.split("\t") for line in service("doctor").splitlines() if "\t" in line]
    verdicts = {finding[1]: finding[0] for finding in findings}
    assert {verdicts[name] for name in ("agent", "nftables", "own connections", "reverse path")} == {"ok"}, findings

    time.sleep(GUARDED_AFTER_S)
    (agent,) = children_of(service.guard)
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: children_of(service.guard) not in ([], [agent]) and service.armed(), WITHIN_S, service.agent)
    logs = service("service", "logs", "-n", "200")
    assert "agent ready" in logs
    assert "serving listen=127.0.0.1:8080" in logs

    began = service.agent()["started_at"]
    assert "the agent is release" in service("service", "upgrade", "--agent")
    wait_until(service.armed, WITHIN_S, service.agent)
    assert service.agent()["started_at"] == began

    service("service", "stop")
    assert "not running" in service("service", "status", code=3)
    assert not service.agent()
    assert {probe(lab, way, opened) for way in WAYS} == {Fate.DIRECT}
    assert {probe(lab, way, closed) for way in WAYS} == {Fate.REFUSED}
    service("intercept", "down")
    assert {probe(lab, way, closed) for way in WAYS} == {Fate.DIRECT}
    assert lab.router.tables() == []
    assert lab.router.policy() == policy


def test_doctor_sees_who_is_in_the_way(installation: Installation) -> None:
    """And says nothing of interception where no rule asks for it (tests/integration/cli/test_care.py)."""
    lab = installation.lab
    away = installation("doctor")
    assert "warning\tagent\t3 interception rules" in away
    assert "systemctl start sluicegate-agent" in away
    lab.router.nft(
        "table inet firewalld { }\n"
        "table ip filter {\n"
        "chain INPUT { type filter hook input priority filter; policy drop; iif lo accept; }\n"
        "chain FORWARD { type filter hook forward priority filter; policy drop; }\n}\n"
    )
    lab.router.ip("rule", "add", "pref", "50", "fwmark", "0x100/0x300", "lookup", "main")
    told = installation("doctor")
    for words in (
        "firewall-cmd --permanent --zone=ZONE --add-port=443/tcp",
        "nft insert rule ip filter INPUT meta mark",
        "iptables -I DOCKER-USER -i LAN -j ACCEPT",
        "others use bits 0x300 of the packet mark",
    ):
        assert words in told, told
    lab.router.nft("add rule ip filter INPUT meta mark & 0x100 == 0x100 accept\n")
    assert "nft insert rule ip filter INPUT" not in installation("doctor")
    assert "sluicegate" not in lab.router.ruleset(), "what doctor tries it leaves nowhere"


def test_an_agent_that_cannot_start_is_told_of_and_the_gateway_runs(installation: Installation) -> None:
    """Another one holds this network namespace. The gateway's start has made the command another user by then, who may
    not read what root's agent has said."""
    other = installation.lab.folder / "other"
    other.mkdir()
    agent = Agent(installation.lab, other, {}, probes=False)
    agent.start()
    wait_until(lambda: "agent ready" in agent.log(), 60, agent.log)
    try:
        said = installation("service", "start")
        assert "running" in said
        assert "an agent of another data folder runs on this host" in said
    finally:
        agent.finish()
