"""The agent's socket and life: who may speak to it, which comes first, and that the gateway works without it."""

import json
import stat
import sys

from tests.support.lab import Lab, gateway, servers
from tests.support.lab.gateway import PORT
from tests.support.lab.lab import ROUTER4, UNPRIVILEGED
from tests.support.lab.probing import WAYS, Fate, probe, wait_for_fate
from tests.support.lab.talking import wait_until
from tests.support.lab.world import KEY, RANGES, WORLD

OPEN_PORT = RANGES["open"][0]
CONNECT = """
import json, socket, sys
kinds = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET}
said = {}
for name, kind in kinds.items():
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.settimeout(2)
    try:
        sock.connect(sys.argv[1])
        said[name] = "served" if sock.recv(100) else "ended"
    except OSError as error:
        said[name] = type(error).__name__
print(json.dumps(said))
"""


def test_the_gateway_works_without_the_agent_and_with_one_that_comes_late(lab: Lab) -> None:
    """Explicit requests are served all along; rules stand as soon as there is an agent, and it says why not before."""
    provider = lab.provider(80)
    server = lab.serve(servers.echo, OPEN_PORT)
    with gateway(lab, WORLD, agent=False, listen="0.0.0.0") as running:

        def ask() -> int:
            asked = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
            with lab.client.http(headers={"authorization": f"Bearer {KEY}"}) as client:
                return client.post(f"http://{ROUTER4}:{PORT}/v1/chat/completions", json=asked).status_code

        assert ask() == 200
        state = running.interception()
        assert state["agent"] is False
        assert not any(rule["armed"] for rule in state["rules"])
        assert all(rule["reason"] for rule in state["rules"])
        assert {probe(lab, way, server) for way in WAYS} == {Fate.DIRECT}
        running.agent.start()
        running.wait_armed()
        assert running.interception()["agent"] is True
        assert {probe(lab, way, server) for way in WAYS} == {Fate.CAPTURED}
        assert ask() == 200
        assert running.agent.stop() == 0
        wait_for_fate(lambda: probe(lab, WAYS[0], server), Fate.DIRECT, 5)
        assert ask() == 200
        wait_until(lambda: running.interception()["agent"] is False, 5)
    assert provider.served.answers == 3


def test_the_agent_may_be_first(lab: Lab) -> None:
    """And its socket is for the gateway's user and root alone."""
    server = lab.serve(servers.echo, OPEN_PORT)
    with gateway(lab, WORLD, agent=False) as running:
        assert running.stop() == 0
        running.agent.start()
        wait_until(running.agent.socket.exists, 10, running.agent.log)
        mode = running.agent.socket.stat()
        assert stat.S_ISSOCK(mode.st_mode)
        assert stat.S_IMODE(mode.st_mode) == 0o600
        assert mode.st_uid in (0, UNPRIVILEGED)
        assert {probe(lab, way, server) for way in WAYS} == {Fate.DIRECT}
        running.start()
        running.wait_armed()
        assert {probe(lab, way, server) for way in WAYS} == {Fate.CAPTURED}
        # Even where the folder's mode would let a stranger through.
        for folder in (running.data, running.data.parent):
            folder.chmod(0o755)
        running.agent.socket.chmod(0o666)
        said = lab.router.python(CONNECT, str(running.agent.socket), user=UNPRIVILEGED + 7)
        assert "served" not in said.values(), said
        running.data.chmod(0o700)
        assert {probe(lab, way, server) for way in WAYS} == {Fate.CAPTURED}


def test_status_in_the_cli(lab: Lab) -> None:
    server = lab.serve(servers.echo, OPEN_PORT)
    with gateway(lab, WORLD) as running:
        assert {probe(lab, way, server) for way in WAYS} == {Fate.CAPTURED}
        wait_until(lambda: running.rule("open")["captured"] == 4, 5, lambda: running.rule("open"))
        told = json.loads(running.cli("intercept", "status", "--json").stdout)
        rules = {rule["rule"]: rule for rule in told["rules"]}
        assert rules["open"]["armed"] is True
        assert rules["open"]["captured"] == 4
        text = running.cli("intercept", "status").stdout
        for name in ("open", "closed", "everywhere"):
            assert name in text
        running.agent.kill()
        wait_until(lambda: not running.rule("open")["armed"], 5)
        text = running.cli("intercept", "status", check=False).stdout
        assert "agent" in text
        assert sys.executable not in text
