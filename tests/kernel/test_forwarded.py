"""Machines beyond this host that talk to AI providers past the gateway (gateway/probes/forwarded.py)."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import dns.message
import pytest

from tests.support.lab import Lab, gateway
from tests.support.lab.lab import NAMESERVER4, SERVER4, SERVER6, SERVERS4
from tests.support.lab.machine import MACHINE4, MACHINE6, Machine
from tests.support.lab.servers import Connection, TcpServer
from tests.support.lab.talking import client_hello, ech_hello, wait_until
from tests.support.probes import Probes, probes

pytestmark = pytest.mark.timeout(120)
WITHIN_S = 3.5
HOST = f"api.fake{os.getpid()}.test"
CATALOGUE = {
    "fake": {"title": "Fake", "hosts": [HOST, "*.wild.test"]},
    "other": {"title": "Other", "hosts": ["api.other.test"]},
}


def zeros(connection: Connection) -> None:
    """As many as bytes have come: an echo would be a ClientHello, too."""
    while data := connection.recv():
        connection.send(bytes(len(data)))


@pytest.fixture
def running(lab: Lab) -> Iterator[Probes]:
    lab.serve(zeros, 443)
    lab.serve(zeros, 80)
    lab.serve(zeros, 9000)
    names = lab.names()
    names.set(HOST, SERVER4, SERVER6)
    names.set("eu.wild.test", SERVERS4[1])
    names.set("harmless.test", SERVERS4[2])
    with probes(lab.router) as made:
        made.tell({"type": "catalogue", "providers": CATALOGUE})
        time.sleep(0.2)
        yield made


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    with Machine(lab) as made:
        yield made


def told(running: Probes, **wanted: Any) -> list[dict[str, Any]]:
    """Of all clients."""
    said = [item for message in list(running.messages) if message["type"] == "findings" for item in message["items"]]
    return [item for item in said if item["client"] and all(item[name] == value for name, value in wanted.items())]


def finding(running: Probes, **wanted: Any) -> dict[str, Any]:
    wait_until(lambda: told(running, **wanted), WITHIN_S, lambda: told(running))
    return told(running, **wanted)[0]


def talk(machine: Machine, address: str, port: int, *pieces: bytes) -> None:
    """And wait for as much as was said."""
    connection = machine.connect(address, port)
    for piece in pieces:
        connection.sendall(piece)
        got = 0
        while got < len(piece):
            got += len(connection.recv())
    connection.close()


@pytest.mark.parametrize(("address", "client"), [(SERVER4, MACHINE4), (SERVER6, MACHINE6)])
def test_tls_by_its_server_name(running: Probes, machine: Machine, address: str, client: str) -> None:
    talk(machine, address, 443, client_hello("harmless.test"))
    talk(machine, address, 443, client_hello(HOST))
    found = finding(running, host=HOST)
    assert (found["client"], found["provider"], found["evidence"]) == (client, "fake", "sni")
    assert (found["address"], found["port"], found["connections"]) == (address, 443, 1)
    assert {found[name] for name in ("process", "pid", "executable", "uid", "user", "container")} == {None}
    assert abs(found["last_seen_s"] - time.time()) < 10
    time.sleep(1.2)
    assert {item["host"] for item in told(running)} == {HOST}
    assert sum(item["connections"] for item in told(running)) == 1


def test_a_hello_in_pieces(running: Probes, machine: Machine) -> None:
    """In segments of one write, and written piece by piece."""
    hello = client_hello(HOST)
    assert len(hello) > 300
    connection = machine.connect(SERVERS4[3], 443)
    connection.sendall(hello, piece=200)
    assert finding(running, host=HOST, address=SERVERS4[3])["evidence"] == "sni"
    talk(machine, SERVERS4[4], 443, hello[:100], hello[100:250], hello[250:])
    assert finding(running, host=HOST, address=SERVERS4[4])["evidence"] == "sni"


@pytest.mark.parametrize(("address", "client"), [(SERVER4, MACHINE4), (SERVER6, MACHINE6)])
def test_plain_http_by_its_host(running: Probes, machine: Machine, address: str, client: str) -> None:
    """One connection, however many requests."""
    head = b"POST /v1/chat HTTP/1.1\r\nhost: api.other.test\r\ncontent-length: 0\r\n\r\n"
    talk(machine, address, 80, head, head)
    found = finding(running, host="api.other.test")
    assert (found["client"], found["provider"], found["evidence"]) == (client, "other", "http")
    time.sleep(1.2)
    assert sum(item["connections"] for item in told(running)) == 1


def test_what_says_nothing_by_the_address_that_a_name_server_gave(running: Probes, machine: Machine) -> None:
    """Its first connection opens before the kernel knows the address, its second after; bytes are counted."""
    question = dns.message.make_query("eu.wild.test", "A").to_wire()
    assert b"\x04" + bytes(map(int, SERVERS4[1].split("."))) in machine.ask(NAMESERVER4, question)
    first = machine.connect(SERVERS4[1], 9000)
    for _ in range(10):
        first.sendall(b"\0" * 1000)
        first.recv()
        time.sleep(0.05)
    found = finding(running, host="eu.wild.test")
    assert (found["client"], found["evidence"], found["port"]) == (MACHINE4, "dns", 9000)
    talk(machine, SERVERS4[1], 9000, b"\0" * 1000)
    wait_until(lambda: sum(item["connections"] for item in told(running)) == 2, WITHIN_S, lambda: told(running))
    time.sleep(1.2)
    assert 15_000 < sum(item["bytes"] for item in told(running)) < 26_000


def test_a_hidden_name_and_a_readable_one_at_a_known_address(running: Probes, machine: Machine) -> None:
    machine.ask(NAMESERVER4, dns.message.make_query(HOST, "A").to_wire())
    time.sleep(0.3)
    talk(machine, SERVER4, 443, client_hello("harmless.test"))
    time.sleep(2)
    assert told(running) == []
    talk(machine, SERVER4, 443, ech_hello("cover.test"))
    assert finding(running, host=HOST)["evidence"] == "ech"


def test_programs_of_this_host_are_told_as_such(lab: Lab, running: Probes) -> None:
    """Those in another network namespace, whose packets are forwarded, too."""
    with lab.client.connect((SERVER4, 443)) as connection:
        connection.sendall(client_hello(HOST))
        connection.recv(1)
        running.wait_for("findings", lambda said: any(item["host"] == HOST for item in said["items"]))
        time.sleep(1.5)
    assert told(running) == []


def test_the_table_is_ours_alone_and_goes_with_us(lab: Lab) -> None:
    before = lab.router.tables()
    with probes(lab.router) as first:
        assert lab.router.tables() == [*before, "inet sluicegate_watch"]
        lab.router.nft("flush ruleset")
        assert lab.router.tables() == ["inet sluicegate_watch"]
        with probes(lab.router):  # as over an upgrade
            assert sorted(lab.router.tables()) == ["inet sluicegate_watch", "inet sluicegate_watch_2"]
        first.kill()
        wait_until(lambda: lab.router.tables() == [], 3)


def test_what_was_not_read_is_counted(lab: Lab, running: Probes, machine: Machine) -> None:
    """More heads at once than are copied in a second; nothing of them is held up."""
    os.kill(running.process.pid, signal.SIGSTOP)
    try:
        connection = machine.connect(SERVERS4[5], 9000)
        for _ in range(6000):
            connection.sendall(b"GET /")
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
    wait_until(lambda: running.lost()["forwarded.packets"] > 500, 6)


RULES = """
teams:
  - {name: search, apps: [{name: indexer}]}
interception:
  - {name: some, destinations: {cidrs: ["10.9.2.0/28"], ports: [443]}, sources: {cidrs: ["10.9.1.0/24"]}, app: indexer}
"""


def forwarded_of(running: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = running.api.get("/api/v1/discoveries").json()["items"]
    return [item for item in items if item["client"] is not None]


def test_captured_is_no_finding_and_another_is_denied_over_rest(lab: Lab) -> None:
    captured: TcpServer = lab.serve(zeros, 443)
    lab.serve(zeros, 8443)
    with gateway(lab, RULES, probes=True, workers=1) as running, Machine(lab) as machine:
        running.wait_armed()
        running.until(lambda: running.api.get("/api/v1/discoveries").json()["reason"] is None, 20)
        talk(machine, SERVER4, 443, client_hello("api.openai.com"))
        assert captured.connections[0].peer[0] != MACHINE4 or running.rule("some")["captured"] >= 1
        talk(machine, SERVER4, 8443, client_hello("api.openai.com"))
        running.until(lambda: bool(forwarded_of(running)), 5)
        (one,) = forwarded_of(running)
        assert (one["client"], one["host"], one["port"], one["evidence"]) == (MACHINE4, "api.openai.com", 8443, "sni")

        decided = running.api.post(f"/api/v1/discoveries/{one['id']}/action", json={"action": "deny"}).json()
        assert decided["rule"]

        def refused() -> bool:
            try:
                machine.connect(SERVER4, 8443, within_s=1).close()
            except ConnectionRefusedError:
                return True
            return False

        running.until(refused, 4)
        running.cli("discoveries", "observe", str(one["id"]))
        running.until(lambda: not refused(), 4)
        running.agent.kill()
        wait_until(lambda: not any("sluicegate_watch" in table for table in lab.router.tables()), 3)


def test_without_programs_in_the_kernel_machines_are_found_all_the_same(lab: Lab) -> None:
    lab.serve(zeros, 443)
    yaml = "teams:\n  - {name: search, apps: [{name: indexer}]}\n"
    with gateway(lab, yaml, agent=False, armed=False, probes=True, workers=1) as running, Machine(lab) as machine:
        running.agent.start(bounding=["net_admin", "sys_ptrace", "dac_override", "chown", "setpcap"])
        wait_until(lambda: "inet sluicegate_watch" in lab.router.tables(), 20)
        time.sleep(1)

        def found() -> bool:
            talk(machine, SERVER4, 443, client_hello("api.openai.com"))
            return [item["client"] for item in forwarded_of(running)] == [MACHINE4]

        running.until(found, 8)
