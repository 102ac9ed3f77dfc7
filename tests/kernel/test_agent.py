"""The agent's socket and life: who may speak to it, which comes first, and that the gateway works without it."""

import contextlib
import json
import os
import socket
import stat
import sys
import time

from gateway.agent_channel import VERSION
from gateway.policy.interception import InterceptionRule, plain
from gateway.wire.frames import frame
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


HELLO = {"type": "hello", "v": VERSION, "role": "worker", "slot": 7, "may_mark": True, "doors": []}
ALIVE = {"type": "alive", "serving": [], "flows": {}, "counts": {}, "ended": []}
RULE = plain(InterceptionRule(name="r", cidrs=("192.0.2.0/24",)))
NONSENSE: list[dict[str, object]] = [
    {"type": "alive"},
    {**ALIVE, "flows": {"open": "many"}},
    {**ALIVE, "counts": {"open arrived": "many"}},
    {**ALIVE, "serving": [[1]]},
    {"type": "rules", "rules": [{**RULE, "cidrs": ["garbage"]}]},
    {"type": "rules", "rules": [{**RULE, "hosts": [1]}]},
    {"type": "rules", "rules": [{**RULE, "name": ["r"]}]},
    {"type": "rules", "rules": [{**RULE, "sources": {**RULE["sources"], "cgroups": [5]}}]},
    {"type": "rules", "rules": [{**RULE, "sources": {**RULE["sources"], "cidrs": [None]}}]},
    {**HELLO, "doors": ["open"]},
    {**HELLO, "doors": [["open"]], "fds": 1},
    {"type": "ask", "id": [], "what": {}, "options": 3},
]


def test_no_message_ends_it(lab: Lab) -> None:
    """A worker is not root, and may be broken or worse: it loses its connection, and nobody else anything."""
    server = lab.serve(servers.echo, OPEN_PORT)
    with gateway(lab, WORLD) as running:
        before = running.agent.pid
        for nonsense in NONSENSE:
            with socket.socket(socket.AF_UNIX) as talking, open(os.devnull) as null:
                talking.settimeout(2)
                talking.connect(str(running.agent.socket))
                talking.sendall(frame(HELLO))
                with contextlib.suppress(OSError):
                    socket.send_fds(talking, [frame(nonsense)], [null.fileno()])
                time.sleep(0.1)
        many = [os.dup(0) for _ in range(200)]
        with socket.socket(socket.AF_UNIX) as talking:
            talking.connect(str(running.agent.socket))
            with contextlib.suppress(OSError):
                for _ in range(100):
                    socket.send_fds(talking, [b"\0"], many)
        for number in many:
            os.close(number)
        time.sleep(1.5)
        assert (running.agent.running, running.agent.pid) == (True, before)
        assert {probe(lab, way, server) for way in WAYS} == {Fate.CAPTURED}
        assert len(os.listdir(f"/proc/{before}/fd")) < 100
        running.agent.tolerated.append("messages that are not understood")
