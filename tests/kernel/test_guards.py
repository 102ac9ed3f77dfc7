"""What must never be caught, and what must not stop the capture (pitfalls 2–6, 12, 13, 22, 24, 39)."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.lab import servers
from tests.support.lab.lab import ROUTER4, ROUTER6, ROUTER_OUT4, SERVER4, SERVER6
from tests.support.lab.namespace import Namespace
from tests.support.lab.probing import WAYS, Fate, Way, probe, probe_from
from tests.support.lab.talking import read_all, wait_until
from tests.support.lab.world import World

every_way = pytest.mark.parametrize("way", WAYS, ids=str)


@every_way
def test_the_gateways_own_connections_are_never_caught(world: World, way: Way) -> None:
    """Pitfall 2: one connection of a client is one at the server, and none of the gateway with itself."""
    server = world.serve(servers.echo)
    files = _open_files(world)
    for _ in range(10):
        assert probe(world.lab, way, server) is Fate.CAPTURED
    time.sleep(0.2)
    assert len(server.connections) == 10
    wait_until(lambda: _open_files(world) <= files + 4, 5)


@pytest.mark.parametrize("address", [ROUTER4, ROUTER6, "127.0.0.1", "::1"])
def test_a_transparent_listener_that_is_reached_directly_hangs_up(world: World, address: str) -> None:
    """Its own address is no destination: no connection to itself, which would have no end."""
    files = _open_files(world)
    start = world.lab.router if address in ("127.0.0.1", "::1") else world.lab.client
    for port in _listening(world):
        for _ in range(5):
            begun = time.monotonic()
            with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
                with start.connect((address, port)) as connection:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert read_all(connection) == b""
            assert time.monotonic() - begun < 2
    wait_until(lambda: _open_files(world) <= files + 4, 5)


PATHS = ["/", "/console/", "/api/v1/routes", "/api/openapi.json", "/healthz", "/readyz", "/metrics"]


@pytest.mark.parametrize("host", ["elsewhere.example", "localhost", "127.0.0.1:8080", f"{ROUTER4}:8080"])
def test_console_and_api_never_answer_on_intercepted_connections(world: World, host: str) -> None:
    """Whatever the Host says: what no route claims is the server's."""
    server = world.serve(servers.plain_http)
    for path in PATHS:
        with world.lab.client.connect((SERVER4, server.port)) as connection:
            token = world.gateway.token
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            assert f"{ROUTER_OUT4} to {SERVER4}\n".encode() in read_all(connection), path
        assert server.last.received == head.encode()


@pytest.mark.parametrize("src_valid_mark", [0, 1])
@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_reverse_path_filters_do_no_harm(world: World, rp_filter: int, src_valid_mark: int) -> None:
    """Pitfalls 5 and 6: Tailscale and WireGuard helpers set src_valid_mark; no sysctl need be changed for us."""
    server = world.serve(servers.echo)
    names = [f"net.ipv4.conf.{device}" for device in ("all", "rc", "rs", "lo")]
    try:
        for name in names:
            world.lab.router.sysctl(f"{name}.rp_filter", rp_filter)
            world.lab.router.sysctl(f"{name}.src_valid_mark", src_valid_mark)
        for way in WAYS:
            assert probe(world.lab, way, server) is Fate.CAPTURED, str(way)
    finally:
        for name in names:
            world.lab.router.sysctl(f"{name}.rp_filter", 0)
            world.lab.router.sysctl(f"{name}.src_valid_mark", 0)


def test_what_the_host_says_to_itself_is_left_alone(world: World) -> None:
    """Pitfall 12: loopback and own addresses, although a rule names every address."""
    port = world.port("everywhere")
    server = world.lab.serve(servers.echo, port, where=world.lab.router)
    for address in ("127.0.0.1", "::1", ROUTER_OUT4, "fd09:2::1"):
        assert probe_from(world.lab.router, address, server) is Fate.DIRECT, address
    assert probe_from(world.lab.client, ROUTER_OUT4, server) is Fate.DIRECT


def test_link_local_and_multicast_are_left_alone(world: World) -> None:
    """Pitfall 12: neighbour discovery, ping, mDNS and connections to link-local addresses work as before."""
    server = world.serve(servers.echo, "everywhere")
    told = world.lab.server.ip("-6", "-o", "addr", "show", "dev", "s0", "scope", "link").split()
    address = next(word for word in told if word.startswith("fe80")).partition("/")[0]
    with world.lab.router.entered():
        scope = socket.if_nametoindex("rs")
        connection = socket.socket(socket.AF_INET6)
    with connection:
        connection.settimeout(3)
        connection.connect((address, server.port, 0, scope))
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        assert server.last.peer[1] == connection.getsockname()[1]
    world.lab.router.ip("-6", "neigh", "flush", "dev", "rs")
    assert _pings(world.lab.router, SERVER6)
    assert _pings(world.lab.client, SERVER6)
    assert _pings(world.lab.client, SERVER4)
    with _multicast_listener(world.lab.server) as listener:
        with world.lab.router.make_socket(kind=socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ROUTER_OUT4))
            sender.sendto(b"mdns", ("224.0.0.251", 5353))
        assert listener.recv(100) == b"mdns"


def test_a_metadata_service_is_left_alone(world: World) -> None:
    """Pitfall 12: 169.254.169.254 is link-local, even where it is reached over a router."""
    server = world.serve(servers.echo, "everywhere")
    world.lab.server.ip("addr", "add", "169.254.169.254/32", "dev", "s0")
    world.lab.router.ip("route", "add", "169.254.169.254/32", "dev", "rs")
    try:
        assert probe_from(world.lab.client, "169.254.169.254", server) is Fate.DIRECT
        assert probe_from(world.lab.router, "169.254.169.254", server) is Fate.DIRECT
        assert probe_from(world.lab.client, SERVER4, server) is Fate.CAPTURED
    finally:
        world.lab.server.ip("addr", "del", "169.254.169.254/32", "dev", "s0")
        world.lab.router.ip("route", "del", "169.254.169.254/32", "dev", "rs")


def test_loopback_addresses_are_not_reached_from_outside(world: World) -> None:
    """Pitfall 39: route_localnet stays as it was."""
    world.lab.serve(servers.echo, world.port(), where=world.lab.router)
    world.lab.client.ip("route", "replace", "127.0.0.9/32", "via", ROUTER4, check=False)
    assert world.lab.router.sysctl("net.ipv4.conf.all.route_localnet") == "0"
    assert world.lab.router.sysctl("net.ipv4.conf.rc.route_localnet") == "0"
    assert world.lab.router.sysctl("net.ipv4.conf.lo.route_localnet") == "0"


def test_quic_is_refused_at_once(world: World) -> None:
    """Pitfall 22: UDP 443 to what is intercepted, by ICMP, forwarded and local; other UDP passes."""
    for way in WAYS:
        family = socket.AF_INET6 if ":" in way.address else socket.AF_INET
        with way.start(world.lab).make_socket(family, socket.SOCK_DGRAM) as sender:
            sender.settimeout(2)
            begun = time.monotonic()
            with pytest.raises((ConnectionRefusedError, PermissionError)):
                sender.connect((way.address, 443))
                for _ in range(3):
                    sender.send(b"\xc0" + bytes(1199))
                    time.sleep(0.05)
                sender.recv(100)
            assert time.monotonic() - begun < 1, str(way)
    with _udp_echo(world.lab.server, 4433):
        with world.lab.client.make_socket(kind=socket.SOCK_DGRAM) as sender:
            sender.settimeout(2)
            sender.sendto(b"other", (SERVER4, 4433))
            assert sender.recv(100) == b"other"


def test_addresses_and_interfaces_may_come_and_go(world: World) -> None:
    """Pitfall 24, under load: whatever happens to the router's addresses, capture goes on."""
    server = world.serve(servers.echo)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            world.lab.router.ip_batch(
                "addr add 10.9.7.1/24 dev rs\naddr add fd09:7::1/64 dev rs nodad\nlink add d0 type veth peer name d1\n"
                "addr add 10.9.8.1/24 dev d0\nlink set d0 up\n"
            )
            world.lab.router.ip_batch("link del d0\naddr del 10.9.7.1/24 dev rs\naddr del fd09:7::1/64 dev rs\n")

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for number in range(60):
            assert probe(world.lab, WAYS[number % 4], server, patience_s=3) is Fate.CAPTURED
    finally:
        stop.set()
        changer.join(5)


def test_an_address_that_becomes_the_hosts_own_is_left_alone(world: World) -> None:
    """What is local is decided when the connection is made, not when the rules were loaded."""
    port = world.port("everywhere")
    server = world.lab.serve(servers.echo, port, where=world.lab.router)
    world.lab.router.ip("addr", "add", "10.9.2.14/32", "dev", "lo")
    try:
        assert probe_from(world.lab.router, "10.9.2.14", server) is Fate.DIRECT
        assert probe_from(world.lab.client, "10.9.2.14", server) is Fate.DIRECT
    finally:
        world.lab.router.ip("addr", "del", "10.9.2.14/32", "dev", "lo")


# ---- what they stand on ----------------------------------------------------------------------------------------------
def _open_files(world: World) -> int:
    return sum(worker.open_files for worker in world.gateway.workers())


def _listening(world: World) -> list[int]:
    """Ports on which the router listens, but for the gateway's explicit one."""
    said = world.lab.router.run("ss", "-Hltn").stdout
    ports = {int(line.split()[3].rpartition(":")[2]) for line in said.splitlines()}
    found = sorted(ports - {world.gateway.port})
    assert found, "no transparent listener"
    return found


def _pings(where: Namespace, address: str) -> bool:
    """ICMP echo, with a datagram socket of the kernel's own (`ping` may be absent)."""
    six = ":" in address
    where.sysctl("net.ipv4.ping_group_range", "0 2147483647")
    kind = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with where.entered():
        sender = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM, kind)
    with sender:
        sender.settimeout(3)
        sender.connect((address, 0))
        sender.send(bytes([128 if six else 8, 0, 0, 0, 0, 1, 0, 1]) + b"ping")
        return sender.recv(100)[-4:] == b"ping"


@contextlib.contextmanager
def _udp_echo(where: Namespace, port: int) -> Iterator[None]:
    with where.make_socket(kind=socket.SOCK_DGRAM) as listener:
        listener.bind(("0.0.0.0", port))
        listener.settimeout(3)

        def work() -> None:
            with contextlib.suppress(OSError):
                piece, peer = listener.recvfrom(2000)
                listener.sendto(piece, peer)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        yield
        worker.join(5)


@contextlib.contextmanager
def _multicast_listener(where: Namespace) -> Iterator[socket.socket]:
    with where.make_socket(kind=socket.SOCK_DGRAM) as listener:
        listener.bind(("", 5353))
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton(SERVER4)
        with where.entered():
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        listener.settimeout(3)
        yield listener
