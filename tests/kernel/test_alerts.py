"""Alerts: what the gateway's own processes execute, and what watched ones do, as rows and to a webhook."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import agent_client
from tests.support.lab import Gateway, Lab, gateway, servers
from tests.support.lab.lab import SERVER4
from tests.support.lab.namespace import REPOSITORY
from tests.support.lab.servers import Connection
from tests.support.lab.talking import wait_until
from tests.support.lab.world import BASE

Row = dict[str, Any]
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
WATCHED_USER = 23456
HOOK_PORT = 8099
TAKEN_OVER = """
import os, threading, time

def wait():
    while True:
        time.sleep(0.05)
        try:
            os.rmdir({folder!r})
        except OSError:
            continue
        os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "/bin/echo stolen; exit 0"], {{}}), 0)

os.register_at_fork(after_in_child=lambda: threading.Thread(target=wait, daemon=True).start())
"""
"""A process of the gateway's that a request has taken over, as far as the kernel can tell: it starts a shell when a
folder appears. Workers and keeper are forked."""


class Hook:
    """A webhook that fails at first."""

    def __init__(self) -> None:
        self.bodies: list[Row] = []

    def __call__(self, connection: Connection) -> None:
        head = connection.recv_until(b"\r\n\r\n").lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        self.bodies.append(json.loads(connection.recv_exactly(length)))
        status = b"503 Not Yet" if len(self.bodies) == 1 else b"204 No Content"
        connection.send(b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)


@pytest.fixture(scope="module")
def hook() -> Hook:
    return Hook()


@pytest.fixture(scope="module")
def running(hook: Hook) -> Iterator[Gateway]:
    with Lab() as lab:
        lab.serve(hook, HOOK_PORT)
        code = lab.folder / "code"
        code.mkdir()
        (code / "sitecustomize.py").write_text(TAKEN_OVER.format(folder=str(lab.folder / "open" / "now")))
        (lab.folder / "open").mkdir()
        for path, mode in ((code, 0o755), (code / "sitecustomize.py", 0o644), (lab.folder / "open", 0o777)):
            path.chmod(mode)
        env = {
            "PYTHONPATH": f"{code}:{REPOSITORY}",
            "SLUICEGATE_ALERT_WEBHOOK": f"http://{SERVER4}:{HOOK_PORT}/hook",
            "SLUICEGATE_WATCHED": json.dumps([f"user:{WATCHED_USER}"]),
        }
        with gateway(lab, BASE, workers=1, probes=True, armed=False, env=env) as started:
            wait_until(lambda: "alerts" in features(started), 30, started.agent.log)
            time.sleep(2.5)  # processes are found
            yield started


def features(running: Gateway) -> Any:
    return agent_client.ask(running.agent.socket, "status")["probes"]["features"]


def alerts(running: Gateway, **query: str) -> list[Row]:
    answer = running.api.get("/api/v1/alerts", params=query)
    assert answer.status_code == 200, answer.text
    items: list[Row] = answer.json()["items"]
    return items


def test_nothing_is_said_of_a_gateway_at_work(running: Gateway) -> None:
    """Its own start included; a worker that is started anew too."""
    running.kill_workers()
    wait_until(running.is_ready, 10)
    time.sleep(2)
    assert not alerts(running), "\n".join(map(str, alerts(running)))


def test_a_worker_that_starts_a_shell_is_told_of(running: Gateway, hook: Hook) -> None:
    (running.lab.folder / "open" / "now").mkdir()
    wait_until(lambda: len(alerts(running, kind="exec")) >= 2, 10, running.agent.log)
    echo, shell = alerts(running, kind="exec")[:2]
    assert shell["executable"] == "/bin/sh"
    assert shell["argv"] == ["sh", "-c", "/bin/echo stolen; exit 0"]
    assert shell["parent"] in [process.pid for process in running.processes()]
    assert echo["executable"] == "/bin/echo"
    assert echo["parent"] == shell["pid"]
    for each in (echo, shell):
        assert each["reason"] == "a process of the gateway executed a program"
        assert each["count"] == 1
    # The webhook refused the first time, and gets them again.
    wait_until(lambda: len(hook.bodies) >= 2, 10)
    assert [each["alert"] for each in hook.bodies[0]["alerts"]] == [each["alert"] for each in hook.bodies[1]["alerts"]]
    assert {each["executable"] for body in hook.bodies for each in body["alerts"]} == {"/bin/sh", "/bin/echo"}


def test_watched_processes(running: Gateway) -> None:
    """What a watched user executes, and where it connects to; the same again within the minute is the same alert."""
    server = running.lab.serve(servers.echo, 4001)
    before = len(alerts(running))
    for _ in range(3):
        running.lab.router.run(sys.executable, "-c", CONNECT, SERVER4, str(server.port), user=WATCHED_USER)
    running.lab.router.run(sys.executable, "-c", CONNECT, SERVER4, str(server.port), user=WATCHED_USER + 1)
    wait_until(lambda: alerts(running, kind="connect", user="-") or alerts(running, kind="connect"), 10)
    time.sleep(1.5)
    connects = alerts(running, kind="connect")
    assert [(each["destination"], each["port"], each["uid"]) for each in connects] == [
        (SERVER4, server.port, WATCHED_USER)
    ]
    assert connects[0]["refused"] is False
    assert Path(connects[0]["executable"] or "python").name.startswith("python")
    executed = [each for each in alerts(running, kind="exec") if each["uid"] == WATCHED_USER]
    assert executed
    assert all(each["reason"] == "a watched process executed a program" for each in executed)
    assert len(alerts(running)) == before + len(connects) + len(executed)


def test_pages_and_filters(running: Gateway) -> None:
    every = alerts(running)
    first = running.api.get("/api/v1/alerts", params={"limit": "1"}).json()
    second = running.api.get("/api/v1/alerts", params={"limit": "1", "cursor": first["next_cursor"]}).json()
    assert [first["items"][0]["id"], second["items"][0]["id"]] == [each["id"] for each in every[:2]]
    assert alerts(running, since="2100-01-01T00:00:00Z") == []
    assert alerts(running, refused="true") == []
    assert running.api.get("/api/v1/alerts", params={"kind": "other"}).status_code == 422
