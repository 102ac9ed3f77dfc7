"""A turn of the event loop over real sockets: what arrives together is worked on together, then written, in order."""

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from gateway.dataplane import turn as turns
from gateway.dataplane.turn import FEW, MOST_POSTED, SMALL_BYTES, SOON_S, Turn


def _busy() -> Turn:
    turn = Turn()
    turn.going_on = range(FEW)
    return turn


class Echo(asyncio.Protocol):
    """Answers through a turn, and notes who worked when in `told`."""

    transport: asyncio.Transport

    def __init__(self, turn: Turn, told: list[str]) -> None:
        self.turn = turn
        self.told = told
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        self.told.append("read")
        self.turn.arrive(self.turn.requests, self, data)

    def take(self, data: bytes) -> None:
        self.told.append("work")
        if data == b"fail":
            raise RuntimeError("as told")
        if data == b"close":
            self.turn.post(self.transport, b"bye")
            self.turn.flush()
            self.transport.close()
            return
        self.turn.post(self.transport, data)


class Host:
    """Connections to an Echo each, of one turn."""

    def __init__(self) -> None:
        self.turn = _busy()
        self.told: list[str] = []
        self.protocols: list[Echo] = []
        self.peers: list[socket.socket] = []

    async def __aenter__(self) -> "Host":
        return self

    async def __aexit__(self, *_: object) -> None:
        for protocol in self.protocols:
            protocol.transport.abort()
        for peer in self.peers:
            peer.close()
        await asyncio.sleep(0.01)

    async def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        protocol = Echo(self.turn, self.told)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: protocol, ours)
        self.protocols.append(protocol)
        self.peers.append(theirs)
        return theirs


async def _answer(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    got = b""
    async with asyncio.timeout(5):
        while len(got) < size:
            piece = await loop.sock_recv(sock, size)
            if not piece:
                break
            got += piece
    return got


def test_what_arrives_together_is_read_then_worked_on() -> None:
    async def scene() -> None:
        async with Host() as host:
            socks = [await host.connect() for _ in range(5)]
            for at, sock in enumerate(socks):
                sock.send(b"%d" % at)
            assert [await _answer(sock, 1) for sock in socks] == [b"%d" % at for at in range(5)]
            assert host.told == ["read"] * 5 + ["work"] * 5

    uvloop.run(scene())


def test_a_connection_that_fails_is_closed_and_no_other() -> None:
    async def scene() -> None:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
        async with Host() as host:
            bad, good = await host.connect(), await host.connect()
            bad.send(b"fail")
            good.send(b"go on")
            assert await _answer(good, 5) == b"go on"
            assert await _answer(bad, 1) == b""
            assert host.protocols[0].lost
            assert [type(each) for each in told] == [RuntimeError]

    uvloop.run(scene())


def test_what_is_posted_before_a_close_goes_out() -> None:
    async def scene() -> None:
        async with Host() as host:
            sock = await host.connect()
            sock.send(b"close")
            assert await _answer(sock, 100) == b"bye"

    uvloop.run(scene())


@pytest.mark.parametrize("size", [SMALL_BYTES, SMALL_BYTES + 1])
def test_large_pieces_are_not_put_off_and_keep_their_order(size: int) -> None:
    sent: list[bytes] = []
    turn = _busy()

    class Transport(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

        def write(self, data: bytes | bytearray | memoryview) -> None:
            sent.append(bytes(data[:1]))

    class Connection:
        transport: asyncio.Transport = Transport()

        def take(self, data: bytes) -> None:
            turn.post(self.transport, data)

    async def scene() -> None:
        connection = Connection()
        turn.arrive(turn.requests, connection, b"a")
        turn.arrive(turn.requests, connection, b"b" * size)
        at_once = list(sent)
        await asyncio.sleep(0)
        assert sent == [b"a", b"b"]
        assert at_once == (sent if size > SMALL_BYTES else [])

    uvloop.run(scene())


def test_no_more_writes_wait_for_each_other_than_agreed() -> None:
    sent: list[bytes] = []
    most = 0
    turn = _busy()

    class Transport(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

        def write(self, data: bytes | bytearray | memoryview) -> None:
            sent.append(bytes(data))

    class Connection:
        transport: asyncio.Transport = Transport()

        def __init__(self) -> None:
            self.worked = 0

        def take(self, data: bytes) -> None:
            nonlocal most
            turn.post(self.transport, data)
            self.worked += 1
            most = max(most, self.worked - len(sent))

    async def scene() -> None:
        connection = Connection()
        pieces = [b"%d" % at for at in range(3 * MOST_POSTED + 5)]
        for piece in pieces:
            turn.arrive(turn.requests, connection, piece)
        await asyncio.sleep(0)
        assert sent == pieces

    uvloop.run(scene())
    assert most < MOST_POSTED


def test_a_closed_transport_takes_nothing_and_hurts_nobody() -> None:
    async def scene() -> None:
        async with Host() as host:
            _, good = await host.connect(), await host.connect()
            transport = host.protocols[0].transport
            transport.abort()
            await asyncio.sleep(0.01)
            host.turn.post(transport, b"too late")
            good.send(b"yes")
            assert await _answer(good, 3) == b"yes"

    uvloop.run(scene())


def test_answers_come_before_requests_and_few_exchanges_wait_for_nothing() -> None:
    told: list[bytes] = []
    turn = Turn()

    class Connection:
        transport: asyncio.Transport

        def take(self, data: bytes) -> None:
            told.append(data)

    async def scene() -> None:
        connection = Connection()
        turn.going_on = range(FEW - 1)
        turn.arrive(turn.requests, connection, b"at once")
        assert told == [b"at once"]
        turn.going_on = range(FEW)
        turn.arrive(turn.requests, connection, b"request")
        turn.arrive(turn.answers, connection, b"answer")
        assert told == [b"at once"]
        await asyncio.sleep(0)
        assert told == [b"at once", b"answer", b"request"]

    uvloop.run(scene())


def test_an_arrival_soon_after_another_keeps_the_loop_awake_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(turns, "monotonic", lambda: now_s)
    looks: list[Callable[[], None]] = []

    class Connection:
        transport: asyncio.Transport

        def take(self, data: bytes) -> None:
            pass

    turn, connection = Turn(), Connection()
    monkeypatch.setattr(turn, "_call_soon", looks.append)
    for _ in range(3):  # a stream's events, far apart
        now_s += 0.02
        turn.arrive(turn.answers, connection, b"event")
        assert not looks
    now_s += SOON_S / 2
    turn.arrive(turn.answers, connection, b"soon")
    turn.arrive(turn.answers, connection, b"too")
    assert len(looks) == 1  # once, however many arrive
    looks.pop()()
    assert len(looks) == 1
    now_s += SOON_S
    looks.pop()()
    assert not looks
    turn.arrive(turn.answers, connection, b"late")
    assert not looks
    turn.arrive(turn.answers, connection, b"soon")
    turn.going_on = range(FEW)
    looks.pop()()
    assert not looks  # then the turns are what is gained by


def test_a_write_that_fails_costs_nobody_else_theirs() -> None:
    class Broken(asyncio.Transport):
        aborted = False

        def is_closing(self) -> bool:
            return self.aborted

        def write(self, data: bytes | bytearray | memoryview) -> None:
            raise RuntimeError("nothing goes out any more")

        def abort(self) -> None:
            self.aborted = True

    async def scene() -> None:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
        async with Host() as host:
            bad, good = Echo(host.turn, host.told), await host.connect()
            broken = bad.transport = Broken()
            host.turn.arrive(host.turn.requests, bad, b"first")
            host.turn.arrive(host.turn.requests, host.protocols[0], b"second")
            assert await _answer(good, 6) == b"second"
            assert broken.aborted
            assert [type(each) for each in told] == [RuntimeError]

    uvloop.run(scene())
