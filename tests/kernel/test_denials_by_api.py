"""Denials from the REST API into the kernel and back: in force within a second, counted, gone with their time."""

import errno
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab import Lab, gateway, servers
from tests.support.lab.gateway import Gateway
from tests.support.lab.lab import SERVER4

pytestmark = pytest.mark.timeout(120)
USER = 64323
PORT = 9311
TRY = """
import errno, json, socket, sys
with socket.socket() as sock:
    sock.settimeout(3)
    print(json.dumps(sock.connect_ex((sys.argv[1], int(sys.argv[2])))))
"""
YAML = "teams:\n  - {name: search, apps: [{name: indexer}]}\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    with Lab() as lab:
        lab.serve(servers.echo, PORT)
        with gateway(lab, YAML, armed=False, probes=True, workers=1) as running:
            running.until(lambda: running.api.get("/api/v1/discoveries").json()["reason"] is None, 20)
            yield running


def tried(running: Gateway) -> int:
    """The error of a connect by a process of its own, 0 = none."""
    said: int = running.lab.router.python(TRY, SERVER4, str(PORT), user=USER)
    return said


def denial(running: Gateway, **body: Any) -> dict[str, Any]:
    answer = running.api.post("/api/v1/denials", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def shown(running: Gateway, name: str) -> dict[str, Any]:
    found: dict[str, Any] = running.api.get(f"/api/v1/denials/{name}").json()
    return found


def test_a_denial_holds_within_a_second_counts_and_goes(running: Gateway) -> None:
    assert tried(running) == 0
    begun_s = time.monotonic()
    made = denial(running, user=str(USER), cidrs=[f"{SERVER4}/32"], ports=[PORT])
    running.until(lambda: tried(running) == errno.EPERM, 2)
    assert time.monotonic() - begun_s < 1.5  # a process a try, which takes its own time
    running.until(lambda: (shown(running, made["name"])["denied"] or 0) >= 1, 4)
    assert shown(running, made["name"])["in_force"] is True
    running.api.delete(f"/api/v1/denials/{made['name']}").raise_for_status()
    running.until(lambda: tried(running) == 0, 2)


def test_a_denial_ends_with_its_time(running: Gateway) -> None:
    denial(running, user=str(USER), cidrs=[f"{SERVER4}/32"], expires_in="3s")
    running.until(lambda: tried(running) == errno.EPERM, 2)
    running.until(lambda: tried(running) == 0, 5)
    running.until(lambda: running.api.get("/api/v1/denials").json()["items"] == [], 3)


def test_the_command_line_denies_too(running: Gateway) -> None:
    said = running.cli("denials", "add", "--user", str(USER), "--cidr", f"{SERVER4}/32", "--name", "by-cli")
    assert "by-cli" in said.stdout
    running.until(lambda: tried(running) == errno.EPERM, 2)
    listed = json.loads(running.cli("denials", "list", "--json").stdout)
    assert listed[0]["in_force"] is True
    running.cli("denials", "remove", "by-cli")
    running.until(lambda: tried(running) == 0, 2)


def test_what_the_kernel_does_not_take_says_why(running: Gateway) -> None:
    made = denial(running, user=str(USER), provider="no-such-provider")
    running.until(lambda: "no-such-provider" in str(shown(running, made["name"])["reason"]), 4)
    assert shown(running, made["name"])["in_force"] is False
    running.api.delete(f"/api/v1/denials/{made['name']}").raise_for_status()
