"""Programs that talk to AI providers past the gateway (gateway/probes/discovery.py)."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.agent_channel import VERSION
from gateway.wire.frames import FrameReader, frame, message_of
from tests.support.certificates import make_certificates
from tests.support.lab import Lab, gateway, servers
from tests.support.lab.lab import SERVER4, SERVERS4
from tests.support.lab.talking import wait_until
from tests.support.lab.world import WORLD
from tests.support.probes import Probes, probes

pytestmark = pytest.mark.timeout(120)
WITHIN_S = 10.0
"""On a machine that runs other tests meanwhile."""
HOST = "api.fake.test"
CATALOGUE = {
    "fake": {"title": "Fake", "hosts": [HOST, "*.wild.test"]},
    "other": {"title": "Other", "hosts": ["api.other.test"]},
}


@pytest.fixture
def running(lab: Lab, tmp_path: Path) -> Iterator[Probes]:
    names = lab.names()
    names.set(HOST, SERVER4)
    names.set("eu.wild.test", SERVERS4[1])
    names.set("harmless.test", SERVERS4[2])
    lab.serve(servers.plain_http, 443, tls=make_certificates(tmp_path, host=HOST).server_context())
    lab.serve(servers.plain_http, 80)
    lab.serve(servers.echo, 9000)
    with probes(lab.router) as made:
        made.tell({"type": "catalogue", "providers": CATALOGUE})
        yield made


def finding(running: Probes, **wanted: Any) -> dict[str, Any]:
    """The first report of one that is so."""

    def fits(item: dict[str, Any]) -> bool:
        return all(item[name] == value for name, value in wanted.items())

    message = running.wait_for("findings", lambda said: any(map(fits, said["items"])), WITHIN_S)
    return next(item for item in message["items"] if fits(item))


def test_curl_by_tls(lab: Lab, running: Probes) -> None:
    """By the name in its ClientHello; a host that is nobody's is none."""
    for host in ("harmless.test", HOST):
        lab.router.run("curl", "-sk", "--max-time", "5", f"https://{host}/", check=False)
    found = finding(running, host=HOST, evidence="sni")
    assert found["process"] == "curl"
    assert found["executable"] == os.path.realpath("/usr/bin/curl")
    assert (found["provider"], found["address"], found["port"]) == ("fake", SERVER4, 443)
    assert (found["uid"], found["user"], found["client"]) == (0, "root", None)
    assert found["connections"] == 1
    assert abs(found["last_seen_s"] - time.time()) < 10
    said = [item for message in running.messages if message["type"] == "findings" for item in message["items"]]
    assert "harmless.test" not in {item["host"] for item in said}
    assert sum(item["connections"] for item in said if item["host"] == HOST) == 1


def test_a_provider_on_this_host_is_one_and_loopback_is_nobodys_address(
    lab: Lab, running: Probes, tmp_path: Path
) -> None:
    """A connection that ends at another program of this host is a finding, unlike one that the gateway has captured;
    and what else goes to 127.0.0.1 is not taken for the provider."""
    port = 8443
    tls = make_certificates(tmp_path, host=HOST).server_context()
    lab.serve(servers.plain_http, port, where=lab.router, tls=tls)
    other = lab.serve(servers.echo, 8444, where=lab.router)
    curl = ["curl", "-sk", "--max-time", "5", "--resolve", f"{HOST}:{port}:127.0.0.1", f"https://{HOST}:{port}/"]
    lab.router.run(*curl, check=False)
    found = finding(running, host=HOST, evidence="sni", port=port)
    assert (found["process"], found["address"]) == ("curl", "127.0.0.1")
    with lab.router.connect(("127.0.0.1", other.port)) as sock:
        sock.sendall(b"neither TLS nor HTTP")
        assert sock.recv(100)
        time.sleep(1.5)
    said = [item for message in running.messages if message["type"] == "findings" for item in message["items"]]
    mine = {item["port"] for item in said if item["address"] == "127.0.0.1" and item["host"] == HOST}
    assert mine == {port}


def test_python_by_an_address_that_a_name_server_gave(lab: Lab, running: Probes) -> None:
    """It speaks neither TLS nor HTTP; its bytes are counted as they pass."""
    code = """
import socket, sys, time, json, os
sock = socket.create_connection(("eu.wild.test", 9000))
for _ in range(20):
    sock.sendall(bytes(100))
    got = 0
    while got < 100:
        got += len(sock.recv(100 - got))
    time.sleep(0.1)
print(json.dumps(os.getpid()))
"""
    pid = lab.router.python(code)
    found = finding(running, host="eu.wild.test", evidence="dns")
    assert found["pid"] == pid
    assert found["process"].startswith("python")
    assert "python" in Path(found["executable"]).name
    time.sleep(1.2)
    said = [item for message in running.messages if message["type"] == "findings" for item in message["items"]]
    counted = sum(item["bytes"] for item in said if item["pid"] == pid)
    assert 4000 <= counted <= 4003  # TCP counts SYN and FIN as a byte each
    assert sum(item["connections"] for item in said if item["pid"] == pid) == 1


def test_node_by_plain_http(lab: Lab, running: Probes) -> None:
    """By the Host that it asks for, whatever the address."""
    code = (
        "require('http').get({host: process.argv[1], port: 80, path: '/', headers: {host: 'api.other.test'}},"
        " r => { r.resume(); setTimeout(() => process.exit(0), 500) })"
    )
    lab.router.run("node", "-e", code, SERVERS4[3])
    found = finding(running, host="api.other.test", evidence="http")
    assert found["process"].startswith("node") or found["process"] == "MainThread"
    assert Path(found["executable"]).name.startswith("node")
    assert (found["provider"], found["address"], found["port"]) == ("other", SERVERS4[3], 80)


def test_a_hello_in_pieces_and_one_without_a_name(lab: Lab, running: Probes) -> None:
    code = """
import socket, ssl, sys, time
context = ssl._create_unverified_context()
for host, address in (("api.other.test", sys.argv[1]), (None, socket.gethostbyname(sys.argv[2]))):
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    sock = socket.create_connection((address, 443))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in (hello[:100], hello[100:300], hello[300:]):
        sock.sendall(piece)
        time.sleep(0.05)
    time.sleep(0.3)
"""
    lab.router.python(code, SERVERS4[4], HOST)
    assert finding(running, host="api.other.test")["evidence"] == "sni"
    assert finding(running, host=HOST)["evidence"] == "dns"


def test_a_readable_name_counts_more_than_the_address(lab: Lab, running: Probes) -> None:
    """Hosts of others may be at a provider's address, and it may be known as such only later."""
    code = """
import socket, ssl, sys, time
context = ssl._create_unverified_context()
tls = context.wrap_socket(socket.create_connection((sys.argv[1], 443)), server_hostname="harmless.test")
socket.gethostbyname(sys.argv[2])
time.sleep(2.5)  # nobody waits for a decision so long
tls.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
tls.recv(1)
print(os.getpid())
"""
    pid = lab.router.python("import os\n" + code, SERVER4, HOST)
    time.sleep(1.2)
    said = [item for message in running.messages if message["type"] == "findings" for item in message["items"]]
    assert [item for item in said if item["pid"] == pid] == []


def test_a_connection_that_was_there_before(lab: Lab) -> None:
    names = lab.names()
    names.set(HOST, SERVER4)
    lab.serve(servers.echo, 9000)
    code = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], 9000))
while True:
    sock.sendall(b"x")
    time.sleep(0.1)
"""
    process = lab.router.popen([sys.executable, "-c", code, SERVER4])
    time.sleep(0.5)
    with probes(lab.router) as running:
        running.tell({"type": "catalogue", "providers": CATALOGUE})
        time.sleep(0.3)
        lab.router.python(f"import socket; socket.gethostbyname('{HOST}')")
        found = finding(running, host=HOST, evidence="dns")
        assert "python" in found["process"]
        assert found["executable"] is not None
    process.kill()


FLOOD = """
import socket, sys, json
for turn in range(int(sys.argv[2])):
    with socket.create_connection((sys.argv[1], 9000)) as sock:
        sock.sendall(b"GET /flood HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n" % sys.argv[3].encode())
        sock.recv(1)
print(json.dumps(turn + 1))
"""


def test_what_was_lost_of_a_flood_is_counted(running: Probes, lab: Lab) -> None:
    """Nobody reads while there are more first bytes than the ring buffer holds: what is read later and what was lost
    are all there were."""
    many = 700
    running.process.send_signal(signal.SIGSTOP)
    try:
        assert lab.router.python(FLOOD, SERVER4, str(many), HOST, within_s=60) == many
    finally:
        running.process.send_signal(signal.SIGCONT)

    def found() -> int:
        told = [item for each in list(running.messages) if each["type"] == "findings" for item in each["items"]]
        return sum(item["connections"] for item in told)

    wait_until(lambda: 0 < found() == many - running.lost()["discovery.events"] < many, 15)


@contextmanager
def observer(path: Path) -> Iterator[tuple[socket.socket, list[dict[str, Any]]]]:
    """A connection to the agent that gets what is found."""
    heard: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(frame({"type": "hello", "v": VERSION, "role": "observer"}))
        sock.sendall(frame({"type": "catalogue", "providers": CATALOGUE}))

        def listen() -> None:
            reader = FrameReader()
            with contextlib.suppress(OSError):
                while data := sock.recv(65536):
                    heard.extend(map(message_of, reader.feed(data)))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield sock, heard
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_what_the_gateway_does_is_no_finding(lab: Lab, tmp_path: Path) -> None:
    """Neither its own connections to providers, nor what it has captured of others; what goes past it is."""
    names = lab.names()
    names.set(HOST, SERVER4)
    tls = make_certificates(tmp_path, host=HOST).server_context()
    captured = lab.serve(servers.plain_http, 443, tls=tls)
    passed = lab.serve(servers.plain_http, 9443, tls=tls)
    with gateway(lab, WORLD, probes=True) as running:
        running.wait_armed()
        with observer(running.agent.socket) as (_, heard):
            wait_until(lambda: any(each["type"] == "probes" and each["state"] == "here" for each in heard), 10)
            time.sleep(0.3)
            for port in (443, 9443):
                lab.router.run("curl", "-sk", "--max-time", "5", f"https://{HOST}:{port}/", check=False)

            def found() -> list[dict[str, Any]]:
                said = [item for each in heard if each["type"] == "findings" for item in each["items"]]
                return [item for item in said if item["host"] == HOST]

            wait_until(lambda: bool(found()), 5)
            time.sleep(1.2)
            assert (len(captured.connections), len(passed.connections)) == (1, 1)
            assert {item["port"] for item in found()} == {9443}, found()
