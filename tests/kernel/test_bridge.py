"""Containers behind a bridge of this host, with bridge netfilter and without (pitfall 25): captured as others are."""

import contextlib
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.lab import Lab, gateway, servers
from tests.support.lab.lab import CONTAINER4, CONTAINER6, ROUTER4, SERVER4, SERVER6, SERVERS4, SERVERS6
from tests.support.lab.namespace import Namespace
from tests.support.lab.probing import Fate, probe_from, wait_for_fate
from tests.support.lab.servers import TcpServer
from tests.support.lab.talking import read_all, read_exactly, wait_until
from tests.support.lab.world import BASE, World, rule
from tests.support.provider import Provider

SOURCES = '{cidrs: ["10.9.1.0/24", "fd09:1::/64", "10.9.3.0/24", "fd09:3::/64"], local: true}'
OPEN, CLOSED, WORN, DENIED, OBSERVED, BESIDE, HTTP = 4001, 4002, 4003, 4004, 4005, 4006, 80
NEIGHBOUR4 = "10.9.3.3"
"""On the container's bridge."""
YAML = (
    BASE
    + "interception:\n"
    + rule("observed", [OBSERVED], sources=SOURCES, more="mode: observe")
    + rule("denied", [DENIED], sources=SOURCES, more="mode: deny")
    + rule("open", [OPEN, HTTP], sources=SOURCES)
    + rule("closed", [CLOSED], sources=SOURCES, more="on_failure: closed")
    + rule("worn", [WORN], sources=SOURCES, more="source_address: client")
    + rule("beside", [BESIDE], cidrs=f'["{NEIGHBOUR4}/32", "10.9.2.0/28"]', sources=SOURCES)
)
SWITCHES = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")
ADDRESSES = (SERVER4, SERVER6)


@dataclass
class Place:
    """A lab with a container and a gateway; one for all tests, which may set the bridge's switches."""

    world: World
    container: Namespace

    @property
    def lab(self) -> Lab:
        return self.world.lab

    def filter_bridges(self, value: int) -> None:
        for switch in SWITCHES:
            self.lab.router.sysctl(switch, value)

    def fates(self, server: TcpServer) -> list[Fate]:
        """Of the container's connections, IPv4 and IPv6."""
        return [probe_from(self.container, address, server) for address in ADDRESSES]


@pytest.fixture(scope="module")
def _running() -> Iterator[Place]:
    with Lab(container=True) as lab, gateway(lab, YAML) as running:
        assert lab.container is not None
        yield Place(World(lab, running), lab.container)


@pytest.fixture(params=[0, 1], ids=["bridge-nf-off", "bridge-nf-on"])
def place(request: pytest.FixtureRequest, _running: Place) -> Iterator[Place]:
    _running.filter_bridges(request.param)
    with _running.lab.scope():
        yield _running
        assert {_running.lab.router.sysctl(switch) for switch in SWITCHES} <= {"0", "1"}


@pytest.mark.parametrize("port", [OPEN, CLOSED])
def test_a_container_is_captured(place: Place, port: int) -> None:
    server = place.lab.serve(servers.echo, port)
    name = "open" if port == OPEN else "closed"
    before = place.world.gateway.rule(name)["captured"]
    assert place.fates(server) == [Fate.CAPTURED] * 2
    for other in (place.lab.client, place.lab.router):
        assert probe_from(other, SERVER4, server) is Fate.CAPTURED
    assert place.world.gateway.rule(name)["captured"] == before + 4


@pytest.mark.parametrize("address", ADDRESSES)
def test_it_sees_nothing_of_it(place: Place, address: str) -> None:
    """Neither end, reset nor peer's address differ from what they are without us."""
    server = place.lab.serve(servers.echo, OPEN)
    with place.container.connect((address, OPEN)) as connection:
        assert connection.getpeername()[:2] == (address, OPEN)
        connection.sendall(servers.BLOCK[:300_000])
        connection.shutdown(1)
        assert read_all(connection) == servers.BLOCK[:300_000]
    wait_until(lambda: server.last.end == "fin", 5)


def test_its_calls_are_governed(place: Place) -> None:
    lab, running = place.lab, place.world.gateway
    provider = lab.keep(Provider(hosts=(SERVER4,), port=HTTP, enter=lab.server.enter))
    before = running.settled_rows()
    call = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
    with place.container.http(timeout=10) as client:
        answer = client.post(f"http://{SERVER4}/v1/chat/completions", json=call)
        passed = client.get(f"http://{SERVER4}/unclaimed")
    assert (answer.status_code, answer.headers["x-sluicegate-route"]) == (200, "chat")
    assert "x-sluicegate-route" not in passed.headers
    row = running.wait_for_ledger(before + 1)[-1]
    assert (row["app"], row["route"], row["client_ip"]) == ("indexer", "chat", CONTAINER4)
    assert provider.requests[0].header("authorization") == "Bearer sk-provider"


def test_its_flows_name_who_and_where_to(place: Place) -> None:
    place.lab.serve(servers.echo, OPEN)
    for address in ADDRESSES:
        with place.container.connect((address, OPEN)) as connection:
            connection.sendall(b"\0binary")
            assert read_exactly(connection, 7) == b"\0binary"
    ways = {(CONTAINER4, SERVER4, OPEN), (CONTAINER6, SERVER6, OPEN)}

    def told() -> set[tuple[str, str, int]]:
        flows = place.world.gateway.api.get("/api/v1/interception/flows", params={"rule": "open"}).json()["items"]
        return {(flow["client"], flow["destination"], flow["port"]) for flow in flows}

    wait_until(lambda: told() >= ways, 10, told)


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_server_sees_the_container_where_the_rule_says_so(place: Place, address: str) -> None:
    server = place.lab.serve(servers.echo, WORN)
    for number in range(10):
        with place.container.connect((address, WORN)) as connection:
            connection.sendall(servers.BLOCK[: 50_000 + number])
            connection.shutdown(1)
            assert read_all(connection) == servers.BLOCK[: 50_000 + number]
    assert {one.peer[0] for one in server.connections} == {CONTAINER6 if ":" in address else CONTAINER4}


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_one_port_of_a_client_to_many_servers(place: Place, six: bool) -> None:
    """Pitfall 15: redirected, they would be one connection, were it not for the kernel's choice of another port."""
    place.lab.serve(servers.echo, OPEN)
    held = []
    for number in range(3):
        source = (CONTAINER6 if six else CONTAINER4, secrets.choice(range(10_000, 30_000)))
        for address in (SERVERS6 if six else SERVERS4)[:4]:
            connection = place.container.connect((address, OPEN), source=source)
            word = f"{number} to {address}".encode()
            connection.sendall(word)
            assert read_exactly(connection, len(word)) == word
            assert connection.getpeername()[:2] == (address, OPEN)
            held.append((connection, word))
    for connection, word in held:
        connection.sendall(word)
        assert read_exactly(connection, len(word)) == word
        connection.close()


def test_refused_and_counted_as_the_rule_says(place: Place) -> None:
    denied, observed = place.lab.serve(servers.echo, DENIED), place.lab.serve(servers.echo, OBSERVED)
    before = place.world.gateway.rule("denied")["denied"], place.world.gateway.rule("observed")["passed"]
    assert place.fates(denied) == [Fate.REFUSED] * 2
    assert place.fates(observed) == [Fate.DIRECT] * 2
    assert place.world.gateway.rule("denied")["denied"] == before[0] + 2
    assert place.world.gateway.rule("observed")["passed"] == before[1] + 2


def test_bridge_netfilter_may_come_and_go(place: Place) -> None:
    """Docker switches it on when it starts: what is captured lives on, and what is new is captured at once."""
    server = place.lab.serve(servers.echo, OPEN)
    held = [place.container.connect((address, OPEN)) for address in ADDRESSES]
    for value in (1, 0, 1):
        place.filter_bridges(value)
        assert place.fates(server) == [Fate.CAPTURED] * 2
        for connection in held:
            connection.sendall(b"still here")
            assert read_exactly(connection, 10) == b"still here"
    for connection in held:
        connection.close()


def test_a_listener_that_is_asked_for_directly_hangs_up(place: Place) -> None:
    said = place.lab.router.run("ss", "-Hltn").stdout
    ports = {int(line.split()[3].rpartition(":")[2]) for line in said.splitlines()} - {place.world.gateway.port}
    assert len(ports) == 5  # open, closed, worn, beside, the canary's
    for port in ports:
        for address in ("10.9.3.1", ROUTER4):
            with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
                with place.container.connect((address, port)) as connection:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert read_all(connection) == b""


def test_a_router_that_has_a_link_local_address_alone(place: Place) -> None:
    router, container = place.lab.router, place.container
    server = place.lab.serve(servers.echo, OPEN)
    link = router.ip("-6", "-o", "addr", "show", "dev", "br0", "scope", "link").split()[3].partition("/")[0]
    router.ip("-6", "addr", "del", "fd09:3::1/64", "dev", "br0")
    router.ip("-6", "route", "add", "fd09:3::/64", "dev", "br0")
    container.ip("-6", "route", "replace", "default", "via", link, "dev", "k0")
    try:
        assert probe_from(container, SERVER6, server) is Fate.CAPTURED
    finally:
        router.ip("-6", "route", "del", "fd09:3::/64", "dev", "br0")
        router.ip("-6", "addr", "add", "fd09:3::1/64", "dev", "br0", "nodad")
        container.ip("-6", "route", "replace", "default", "via", "fd09:3::1", "dev", "k0")


def test_what_this_host_does_not_route_is_none_of_its_business(place: Place) -> None:
    """Bridge netfilter shows frames between two others on the bridge, one of which may be the other's router."""
    router, container, other = place.lab.router, place.container, place.lab.server
    server = place.lab.serve(servers.echo, BESIDE)
    assert probe_from(container, SERVER4, server) is Fate.CAPTURED
    try:
        router.ip_batch(f"link add rz type veth peer name z0 netns {other.name}\nlink set rz master br0 up\n")
        other.ip_batch(
            f"addr add {NEIGHBOUR4}/32 dev z0\nlink set z0 up\nroute add {CONTAINER4}/32 dev z0 src {NEIGHBOUR4}\n"
        )
        container.ip("neigh", "flush", "dev", "k0")
        container.ip("route", "add", "10.9.2.9/32", "via", NEIGHBOUR4)
        assert probe_from(container, NEIGHBOUR4, server) is Fate.DIRECT
        assert probe_from(container, "10.9.2.9", server) is Fate.DIRECT
    finally:
        container.ip("route", "del", "10.9.2.9/32", check=False)
        router.ip("link", "del", "rz")


def test_a_bridge_whose_name_is_no_word(place: Place) -> None:
    """Quotes and letters of any language are allowed in names of interfaces."""
    server = place.lab.serve(servers.echo, OPEN)
    name = 'b"ü*'
    place.lab.router.ip("link", "add", name, "type", "bridge")
    try:
        place.lab.router.ip("addr", "add", "10.9.7.1/24", "dev", name)
        time.sleep(0.3)
        assert place.fates(server) == [Fate.CAPTURED] * 2
        assert place.world.gateway.interception()["trouble"] is None
    finally:
        place.lab.router.ip("link", "del", name)


def test_down_waits_for_what_is_redirected(place: Place) -> None:
    """What was captured a moment before lives on, and then nothing is left."""
    place.lab.serve(servers.echo, OPEN)
    held = [place.container.connect((address, OPEN)) for address in ADDRESSES]
    place.world.gateway.cli("intercept", "down")
    for connection in held:
        connection.sendall(b"still here")
        assert read_exactly(connection, 10) == b"still here"
    assert place.lab.router.tables() != []
    for connection in held:
        connection.close()
    wait_until(lambda: place.lab.router.tables() == [], 10)
    place.world.gateway.cli("intercept", "up")
    place.world.gateway.wait_armed()


def test_an_upgrade_leaves_what_is_redirected_alone(place: Place) -> None:
    server = place.lab.serve(servers.echo, OPEN)
    held = [place.container.connect((address, OPEN)) for address in ADDRESSES]
    told = place.world.gateway.agent.log().count("upgraded release=")
    place.world.gateway.agent.send(signal.SIGUSR2)
    deadline = time.monotonic() + 20
    while place.world.gateway.agent.log().count("upgraded release=") == told:
        assert time.monotonic() < deadline
        assert place.fates(server) == [Fate.CAPTURED] * 2
    for connection in held:
        connection.sendall(b"still here")
        assert read_exactly(connection, 10) == b"still here"
        connection.close()


def test_a_bridge_that_comes_later(place: Place) -> None:
    """`docker network create`, and a container on it: nothing of it goes past."""
    router, container = place.lab.router, place.container
    server = place.lab.serve(servers.echo, OPEN)
    try:
        router.ip_batch(
            "link add br1 type bridge\nlink add rj type veth peer name j0\nlink set rj master br1\n"
            f"link set j0 netns {container.name}\naddr add 10.9.4.1/24 dev br1\nlink set br1 up\nlink set rj up\n"
        )
        container.ip_batch(
            f"addr add 10.9.4.2/24 dev j0\nlink set j0 up\nroute add {SERVER4}/32 via 10.9.4.1 src {CONTAINER4}\n"
        )
        router.ip("route", "add", f"{CONTAINER4}/32", "via", "10.9.4.2", "dev", "br1")
        time.sleep(0.2)
        assert probe_from(container, SERVER4, server) is Fate.CAPTURED
    finally:
        router.ip("link", "del", "rj")
        router.ip("link", "del", "br1")


def test_when_everything_dies(place: Place) -> None:
    """Last: `open` goes direct at once, `closed` is refused, and all is well again when they return."""
    running = place.world.gateway
    opened, closed = place.lab.serve(servers.echo, OPEN), place.lab.serve(servers.echo, CLOSED)
    held = place.container.connect((SERVER4, OPEN))
    held.sendall(b"x")
    assert read_exactly(held, 1) == b"x"
    running.agent.kill()
    assert place.fates(opened) == [Fate.DIRECT] * 2
    assert place.fates(closed) == [Fate.REFUSED] * 2
    held.sendall(b"outlives the agent")
    assert read_exactly(held, 18) == b"outlives the agent"
    held.close()
    running.agent.start()
    running.wait_armed()
    running.kill_everything()
    assert place.fates(opened) == [Fate.DIRECT] * 2
    assert place.fates(closed) == [Fate.REFUSED] * 2
    running.start()
    running.agent.start()
    running.wait_armed()
    for server in (opened, closed):
        for address in ADDRESSES:
            attempt = lambda a=address, s=server: probe_from(place.container, a, s)  # noqa: E731
            wait_for_fate(attempt, Fate.CAPTURED, 15)
