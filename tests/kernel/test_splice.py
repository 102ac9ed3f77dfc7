"""What no route claims reaches its destination byte for byte, both ends too (pitfalls 9, 10, 13–20, 36, 37)."""

import contextlib
import random
import socket
import ssl
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.certificates import make_certificates
from tests.support.lab import servers
from tests.support.lab.lab import CLIENT4, ROUTER_OUT4, ROUTER_OUT6, SERVER4, SERVER6, SERVERS4, SERVERS6
from tests.support.lab.probing import WAYS, Fate, Way, probe, probe_from
from tests.support.lab.servers import Connection
from tests.support.lab.talking import (
    client_hello,
    ech_hello,
    in_two_records,
    read_all,
    read_exactly,
    read_line,
    wait_until,
)
from tests.support.lab.world import World

every_way = pytest.mark.parametrize("way", WAYS, ids=str)


@every_way
def test_it_is_caught_and_the_server_sees_the_gateway(world: World, way: Way) -> None:
    server = world.serve(servers.echo)
    assert probe(world.lab, way, server) is Fate.CAPTURED
    assert server.last.peer[0] == (ROUTER_OUT6 if ":" in way.address else ROUTER_OUT4)
    assert server.last.local[0] == way.address


def test_each_connection_goes_where_its_client_wanted(world: World) -> None:
    """Pitfall 10: the original destination is never mistaken, of either family."""
    server = world.serve(servers.echo)
    for address in [*SERVERS4, *SERVERS6]:
        assert probe_from(world.lab.client, address, server) is Fate.CAPTURED
        assert server.last.local[0] == address


@every_way
def test_up_and_down_a_megabyte_each(world: World, way: Way) -> None:
    """Pitfall 9: not the SYN alone is marked."""
    server = world.serve(servers.echo)
    with way.start(world.lab).connect((way.address, server.port)) as connection:

        def write() -> None:
            connection.sendall(servers.BLOCK)
            connection.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        assert read_all(connection) == servers.BLOCK
        writer.join(5)
    assert server.last.received == servers.BLOCK
    assert server.last.end == "fin"


def test_the_same_client_port_to_two_servers(world: World) -> None:
    """Pitfalls 14 and 15: 4-tuples do not clash, nor are they merged."""
    server = world.serve(servers.echo)
    held = []
    for address in SERVERS4[:4]:
        connection = world.lab.client.connect((address, server.port), source=(CLIENT4, 33333))
        held.append(connection)
    for number, connection in enumerate(held):
        connection.sendall(b"to server %d" % number)
    for number, connection in enumerate(held):
        assert connection.recv(100) == b"to server %d" % number
        connection.close()
    assert sorted(one.local[0] for one in server.connections) == SERVERS4[:4]


@every_way
def test_the_clients_half_may_end_long_before_the_servers(world: World, way: Way) -> None:
    """Pitfall 16."""
    server = world.serve(servers.after_half_close(pieces=20, gap_s=0.05))
    with way.start(world.lab).connect((way.address, server.port)) as connection:
        connection.sendall(b"all I have to say")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"".join(b"%06d\n" % number for number in range(20))
    assert server.last.received == b"all I have to say"
    assert server.last.end == "fin"


@every_way
def test_the_servers_half_may_end_first(world: World, way: Way) -> None:
    server = world.serve(servers.half_close_first)
    with way.start(world.lab).connect((way.address, server.port)) as connection:
        assert read_all(connection) == b"that is all\n"
        for piece in (b"still", b" here"):
            connection.sendall(piece)
            time.sleep(0.2)
    assert server.last.over.wait(5)
    assert server.last.received == b"still here"
    assert server.last.end == "fin"


@every_way
def test_a_reset_by_the_server_is_a_reset_for_the_client(world: World, way: Way) -> None:
    """Pitfall 17, from the server: RST on the wire, and no FIN before it."""
    server = world.serve(servers.reset_after(4))
    where, device = (world.lab.router, "lo") if way.local else (world.lab.client, "c0")
    seen = world.lab.capture(where, device, f"tcp port {server.port}")
    with way.start(world.lab).connect((way.address, server.port)) as connection:
        connection.sendall(b"four")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    if not way.local:  # the host's own segments pass no device in this direction
        flags = seen.flags_from(way.address, server.port)
        assert any("R" in one for one in flags), flags
        assert not any("F" in one for one in flags), flags


@every_way
def test_a_reset_by_the_client_is_a_reset_for_the_server(world: World, way: Way) -> None:
    server = world.serve(servers.silent)
    seen = world.lab.capture(world.lab.server, "s0", f"tcp port {server.port}")
    connection = way.start(world.lab).connect((way.address, server.port))
    connection.sendall(b"some")
    wait_until(lambda: bool(server.connections) and server.last.received == b"some")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert server.last.over.wait(5)
    assert server.last.end == "reset"
    flags = [packet.flags for packet in seen.tcp(lambda packet: packet.target_port == server.port)]
    assert any("R" in one for one in flags), flags
    assert not any("F" in one for one in flags), flags


@every_way
def test_an_end_is_an_end_and_not_a_reset(world: World, way: Way) -> None:
    server = world.serve(servers.echo)
    client_side = world.lab.capture(way.start(world.lab), "any", f"tcp port {server.port}")
    server_side = world.lab.capture(world.lab.server, "s0", f"tcp port {server.port}")
    with way.start(world.lab).connect((way.address, server.port)) as connection:
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b""
    assert server.last.end == "fin"
    for side in (client_side, server_side):
        flags = [packet.flags for packet in side.tcp()]
        assert sum("F" in one for one in flags) >= 2, flags
        assert not any("R" in one for one in flags), flags


@every_way
def test_a_server_that_refuses_is_told_as_a_reset(world: World, way: Way) -> None:
    with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
        with way.start(world.lab).connect((way.address, world.port())) as connection:
            connection.sendall(b"\x00")
            connection.recv(1)


@every_way
def test_a_protocol_in_which_the_server_speaks_first(world: World, way: Way) -> None:
    """Pitfall 19: nobody waits for a client that waits itself."""
    server = world.serve(servers.banner)
    begun = time.monotonic()
    with way.start(world.lab).connect((way.address, server.port)) as connection:
        assert connection.recv(100) == b"220 mail.example ready\r\n"
        assert time.monotonic() - begun < 1.0
        connection.sendall(b"EHLO me\r\n")
        assert connection.recv(100) == b"250 EHLO me\r\n"
        connection.sendall(b"QUIT\r\n")
        assert read_all(connection) == b"221 bye\r\n"


@every_way
def test_a_binary_protocol(world: World, way: Way) -> None:
    server = world.serve(servers.binary)
    generator = random.Random(5)
    with way.start(world.lab).connect((way.address, server.port)) as connection:
        for size in (0, 1, 5, 4096, 70_000):
            frame = generator.randbytes(size)
            connection.sendall(struct.pack("!I", size) + frame)
            assert read_exactly(connection, 8) == struct.pack("!II", size, zlib.crc32(frame))


ANSWERS = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
)


@pytest.mark.parametrize("piece", [1, 3, 100_000], ids=lambda size: f"{size}-byte-pieces")
@pytest.mark.parametrize("kind", ["http-unclaimed", "http-odd", "almost-http", "http2", "zeros", "newlines"])
def test_whatever_the_first_bytes_are_they_arrive_as_they_were(world: World, kind: str, piece: int) -> None:
    """Each comes in pieces too: what was looked at is not lost, doubled or changed."""
    sent = {
        "http-unclaimed": b"GET /x HTTP/1.1\r\nHost:  elsewhere.example \r\nX-a: 1\r\n\r\n",
        "http-odd": b"POST /y HTTP/1.1\r\nHost: elsewhere.example\r\ncontent-length: 3\r\nX: \xff\r\n\r\nabc"
        b"GET /z HTTP/1.1\r\nHost: a\r\n\r\n",
        "almost-http": b"GET /x HTTQ/1.1\r\nHost elsewhere\r\n\r\n",
        "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        "zeros": bytes(64),
        "newlines": b"\r\n\r\n\n\n",
    }[kind]

    first, second = ANSWERS

    def answer(connection: Connection) -> None:
        head = sent.find(b"GET /z")  # the second request, where there is one
        connection.recv_exactly(head if head > 0 else len(sent))
        connection.send(first)
        connection.recv_exactly(len(sent) - head if head > 0 else 0)
        connection.send(second)
        connection.finish_sending()
        while connection.recv():
            pass

    server = world.serve(answer)
    with world.lab.client.connect((SERVER4, server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), piece):
            connection.sendall(sent[at : at + piece])
            if piece < 100:
                time.sleep(0.002)
        assert read_all(connection) == first + second
    assert server.last.over.wait(5)
    assert server.last.received == sent


@pytest.mark.parametrize("how", ["whole", "byte-by-byte", "two-records"])
@every_way
def test_tls_is_the_servers_own_whatever_way_its_hello_comes(world: World, way: Way, how: str) -> None:
    """Pitfall 20. The handshake succeeds with the server's certificate: every byte of the hello was as it was sent."""
    certificates = make_certificates(world.lab.folder / f"tls-{world.port()}")
    server = world.lab.serve(servers.echo, world.port(), tls=certificates.server_context())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    hello = outgoing.read()
    if how == "two-records":
        hello = in_two_records(hello)
    with way.start(world.lab).connect((way.address, server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = 1 if how == "byte-by-byte" else len(hello) // 2 + 3 if how == "two-records" else len(hello)
        for at in range(0, len(hello), size):
            connection.sendall(hello[at : at + size])
            time.sleep(0.0005 if size == 1 else 0.05)
        _handshake(session, incoming, outgoing, connection)
        session.write(b"over TLS")
        connection.sendall(outgoing.read())
        answer = b""
        while not answer:
            incoming.write(connection.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):  # session tickets come first
                answer = session.read(100)
        assert answer == b"over TLS"
        assert server.last.peer != connection.getsockname()[:2]
    certificate = session.getpeercert()
    assert certificate is not None
    assert ("DNS", "localhost") in certificate["subjectAltName"]


@pytest.mark.parametrize("hello", ["ech", "no-sni", "ssl2", "cut-off"])
def test_a_hello_that_says_little_passes_too(world: World, hello: str) -> None:
    """Pitfall 21: with Encrypted Client Hello the name is hidden, and a hello may be none at all."""
    sent = {
        "ech": ech_hello("public.example"),
        "no-sni": client_hello(None, ("h2", "http/1.1")),
        "ssl2": bytes.fromhex("802e0100020015000000100100800700c0030080060040020080") + bytes(23),
        "cut-off": client_hello("localhost")[:200],
    }[hello]

    def answer(connection: Connection) -> None:
        connection.recv_exactly(len(sent))
        connection.send(b"seen")

    server = world.serve(answer)
    with world.lab.client.connect((SERVER4, server.port)) as connection:
        connection.sendall(sent)
        if hello == "cut-off":
            connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"seen"
    assert server.last.received == sent


def test_a_small_mtu_behind_the_gateway(world: World) -> None:
    """Pitfall 36: path MTU is found on both legs."""
    server = world.serve(servers.sink)
    world.lab.server.ip("link", "set", "s0", "mtu", "1280")
    world.lab.router.ip("link", "set", "rs", "mtu", "1280")
    try:
        for address in (SERVER4, SERVER6):
            with world.lab.client.connect((address, server.port)) as connection:
                connection.sendall(servers.BLOCK)
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"%d %08x\n" % (len(servers.BLOCK), zlib.crc32(servers.BLOCK))
    finally:
        world.lab.server.ip("link", "set", "s0", "mtu", "1500")
        world.lab.router.ip("link", "set", "rs", "mtu", "1500")


def test_a_multipath_client_falls_back_to_tcp(world: World) -> None:
    """Pitfall 37: MPTCP cannot be proxied; the listener answers as plain TCP, and the client goes on so."""
    server = world.serve(servers.echo)
    with world.lab.client.entered():
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)  # IPPROTO_MPTCP, linux/in.h
    with connection:
        connection.settimeout(5)
        connection.connect((SERVER4, server.port))
        connection.sendall(b"by many paths")
        assert connection.recv(100) == b"by many paths"
    assert server.last.peer[0] == ROUTER_OUT4


def test_five_hundred_mixed_connections_at_once(world: World) -> None:
    """HTTP, TLS, SMTP-like, binary, echo; each checked to its last byte, all open at the same time."""
    certificates = make_certificates(world.lab.folder / "mixed")
    context = certificates.client_context()
    places = {
        "http": world.serve(servers.plain_http),
        "smtp": world.serve(servers.banner),
        "binary": world.serve(servers.binary),
        "echo": world.serve(servers.echo),
        "tls": world.lab.serve(servers.echo, world.port(), tls=certificates.server_context()),
    }
    together = threading.Barrier(500)

    def talk(number: int) -> None:
        kind = list(places)[number % 5]
        way = WAYS[number // 5 % 4]
        with way.start(world.lab).connect((way.address, places[kind].port), within_s=60) as connection:
            together.wait(60)
            word = b"%d " % number * 50
            if kind == "http":
                connection.sendall(b"GET /%d HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n" % number)
                answer = read_all(connection)
                assert answer.startswith(b"HTTP/1.1 200 OK\r\nX-Odd:  kept \r\n")
                assert answer.endswith(f" to {way.address}\n".encode())
            elif kind == "smtp":
                assert read_line(connection) == b"220 mail.example ready\r\n"
                connection.sendall(word + b"\r\nQUIT\r\n")
                assert read_all(connection) == b"250 " + word + b"\r\n221 bye\r\n"
            elif kind == "binary":
                connection.sendall(struct.pack("!I", len(word)) + word)
                assert read_exactly(connection, 8) == struct.pack("!II", len(word), zlib.crc32(word))
            elif kind == "echo":
                connection.sendall(word)
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == word
            else:
                with context.wrap_socket(connection, server_hostname="localhost") as wrapped:
                    wrapped.sendall(word)
                    assert wrapped.recv(len(word)) == word

    with ThreadPoolExecutor(500) as pool:
        for done in [pool.submit(talk, number) for number in range(500)]:
            done.result(timeout=90)
    assert [len(server.connections) for server in places.values()] == [100] * 5
    assert [server.failures for server in places.values()] == [[]] * 5


def test_nothing_is_left_of_connections_that_ended(world: World) -> None:
    """Pitfall 18: no CLOSE_WAIT, no FIN_WAIT_2 and no open file, however they ended."""
    places = [world.serve(servers.echo), world.serve(servers.reset_after(4)), world.serve(servers.half_close_first)]
    filters = [f"{end} = :{server.port}" for server in places for end in ("sport", "dport")]

    def left() -> dict[str, int]:
        found = world.lab.router.sockets("( " + " or ".join(filters) + " )")
        return {state: count for state, count in found.items() if state != "TIME-WAIT"}

    files_before = sum(worker.open_files for worker in world.gateway.workers())
    for number in range(120):
        way = WAYS[number % 4]
        with way.start(world.lab).connect((way.address, places[number % 3].port)) as connection:
            connection.sendall(b"four")
            if number % 5 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: not left(), 10, left)
    wait_until(lambda: sum(worker.open_files for worker in world.gateway.workers()) <= files_before + 4, 5)


@pytest.mark.long
@every_way
def test_a_gigabyte_each_way_arrives_whole(world: World, way: Way) -> None:
    total = 1 << 30
    down, up = world.serve(servers.pump(total)), world.serve(servers.sink)
    code = (
        "import json, socket, sys, zlib\n"
        "address, down, up, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])\n"
        "sock = socket.create_connection((address, down)); sock.sendall(b'go\\n')\n"
        "buffer = bytearray(1 << 20); got = check = 0\n"
        "while n := sock.recv_into(buffer):\n"
        "    got += n; check = zlib.crc32(memoryview(buffer)[:n], check)\n"
        "sock = socket.create_connection((address, up)); block = bytes(range(256)) * 4096\n"
        "for _ in range(total // len(block)): sock.sendall(block)\n"
        "sock.shutdown(socket.SHUT_WR); said = sock.makefile().readline()\n"
        "print(json.dumps([got, check, said]))"
    )
    words = (way.address, str(down.port), str(up.port), str(total))
    got, check, said = way.start(world.lab).python(code, *words, within_s=110)
    assert (got, check) == (total, _crc(servers.BLOCK, total))
    assert said == f"{total} {_crc(bytes(range(256)) * 4096, total):08x}\n"


def _crc(block: bytes, total: int) -> int:
    check = 0
    for _ in range(total // len(block)):
        check = zlib.crc32(block, check)
    return check


def _handshake(
    session: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, connection: socket.socket
) -> None:
    while True:
        try:
            session.do_handshake()
            connection.sendall(outgoing.read())
            return
        except ssl.SSLWantReadError:
            if outgoing.pending:
                connection.sendall(outgoing.read())
            incoming.write(connection.recv(65536))
