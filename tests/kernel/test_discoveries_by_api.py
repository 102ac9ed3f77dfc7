"""A program that goes past the gateway is found, denied and let go again over REST and by the command line, with real
probes."""

import errno
import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab import Lab, gateway, servers
from tests.support.lab.gateway import Gateway
from tests.support.lab.lab import SERVER4

pytestmark = pytest.mark.timeout(120)
USER = 64324
TALK = """
import json, socket, sys, time
sock = socket.socket()
sock.settimeout(3)
error = sock.connect_ex((sys.argv[1], 443))
if not error:
    sock.sendall(bytes.fromhex(sys.argv[2]))
    sock.recv(1)
    time.sleep(0.5)  # of what is gone at once the executable may not be known
print(json.dumps(error))
"""
YAML = "teams:\n  - {name: search, apps: [{name: indexer}]}\n"


def client_hello(host: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    return outgoing.read()


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    with Lab() as lab:
        lab.serve(servers.echo, 443)
        with gateway(lab, YAML, armed=False, probes=True, workers=1) as running:
            running.until(lambda: running.api.get("/api/v1/discoveries").json()["reason"] is None, 20)
            yield running


def talk(running: Gateway, host: str = "api.openai.com") -> int:
    """By a process of its own, which says its ClientHello and reads a byte; the error of its connect."""
    said: int = running.lab.router.python(TALK, SERVER4, client_hello(host).hex(), user=USER)
    return said


def discoveries(running: Gateway, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = running.api.get("/api/v1/discoveries", params=query).json()["items"]
    return items


def mine(running: Gateway) -> dict[str, Any]:
    found = discoveries(running, user=str(USER))
    assert len(found) == 1, found
    return found[0]


def test_it_is_found_denied_and_let_go(running: Gateway) -> None:
    assert talk(running) == 0
    talked_s = time.monotonic()
    running.until(lambda: discoveries(running, user=str(USER)), 5)
    assert time.monotonic() - talked_s < 2.5
    one = mine(running)
    assert (one["provider"], one["host"], one["evidence"]) == ("openai", "api.openai.com", "sni")
    assert (one["address"], one["port"], one["state"]) == (SERVER4, 443, "new")
    assert "python" in one["executable"]
    number = str(one["id"])

    running.cli("discoveries", "deny", number)
    running.until(lambda: talk(running) == errno.EPERM, 2)
    running.until(lambda: (mine(running)["denied"] or 0) >= 1, 4)
    shown = json.loads(running.cli("discoveries", "show", number, "--json").stdout)
    assert (shown["state"], shown["in_force"]) == ("deny", True)

    running.cli("discoveries", "observe", number)
    running.until(lambda: talk(running) == 0, 2)

    decided = running.api.post(f"/api/v1/discoveries/{number}/action", json={"action": "govern"}).json()
    running.wait_armed(decided["rule"])
    running.until(lambda: mine(running)["in_force"] is True, 4, lambda: str(discoveries(running)))
    assert talk(running) == 0
    running.until(lambda: running.rule(decided["rule"])["captured"] >= 1, 4)
    running.cli("discoveries", "ignore", number)
    running.until(lambda: running.interception()["rules"] == [], 4)
