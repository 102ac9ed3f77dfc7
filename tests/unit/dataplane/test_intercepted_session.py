"""Ends, claims and bytes of an intercepted connection, over loopback: the destination is real, the exchange is not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.dataplane.dialer import Dialer
from gateway.dataplane.flow import ConnectionFlow
from gateway.dataplane.intercepted import session as under_test
from gateway.dataplane.intercepted.claims import OURS, THEIRS, Claim, Verdict
from gateway.dataplane.intercepted.flow import Flow
from gateway.dataplane.intercepted.session import InterceptedSession
from gateway.dialects.registry import classify
from gateway.policy.interception import InterceptionRule
from gateway.policy.snapshot import EMPTY

LOOKED_UP_S = 0.1
HEAD = b"POST /%b HTTP/1.1\r\nhost: a.test\r\ncontent-length: %d\r\n\r\n"


class Inner:
    """Takes what is ours."""

    def __init__(self) -> None:
        self.direct = self.host = None
        self.denied = self.expected = False
        self.taken = b""
        self.lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport, self.flow = transport, ConnectionFlow(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        self.taken += data

    def eof_received(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    @staticmethod
    def now_s() -> float:
        return 0.0


class Hosts:
    def judge_at_once(self, *_: Any) -> None:
        return None

    async def judge(self, host: str, *_: Any) -> str:
        await asyncio.sleep(LOOKED_UP_S)
        return host


class Scene:
    """A client's connection, the session that serves it, and the destination."""

    inner: Inner
    session: InterceptedSession
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    visitor: asyncio.StreamWriter
    """The connection to the destination, at its end."""

    def __init__(self) -> None:
        self.received = b""
        self.answers: list[bytes] = []
        self.visitors = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visitors += 1
        self.visitor = writer
        while data := await reader.read(65536):
            self.received += data
            if self.answers:
                answer = self.answers.pop(0)
                writer.write(answer.removesuffix(b"END"))
                if answer.endswith(b"END"):
                    break
        writer.close()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(3):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def scene(
    monkeypatch: pytest.MonkeyPatch, folder: Path, verdict: Callable[[Any], Verdict], *, by_host: bool = False
) -> AsyncIterator[Scene]:
    made = Scene()
    destination = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    settings = SimpleNamespace(
        data=folder, body_memory_bytes=1 << 16, max_body_bytes=1 << 18, max_upload_bytes=1 << 18, tunnel_idle=60.0
    )
    plane = SimpleNamespace(
        settings=settings,
        snapshot=EMPTY,
        turn=SimpleNamespace(work=lambda: None, flush=lambda: None),
        http_routes=SimpleNamespace(by_any_host=by_host),
    )
    hall = SimpleNamespace(
        plane=plane, dialer=Dialer(), hosts=Hosts(), counts=Counter(), directs=None, ended=lambda *_: None
    )
    monkeypatch.setattr(under_test, "judge", lambda _plane, head, _host, _caller: verdict(head))
    monkeypatch.setattr(under_test, "caller_of", lambda *_: SimpleNamespace())
    monkeypatch.setattr(under_test, "names_route", lambda *_: True)
    flow = Flow(InterceptionRule(name="r"), ("127.0.0.1", 1), destination.sockets[0].getsockname()[:2])

    def make() -> InterceptedSession:
        made.inner = Inner()
        made.session = InterceptedSession(cast("Any", hall), flow, cast("Any", made.inner), None, None)
        return made.session

    front = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    made.reader, made.writer = await asyncio.open_connection(*front.sockets[0].getsockname()[:2])
    await made.until(lambda: hasattr(made, "session"))
    try:
        yield made
    finally:
        made.writer.close()
        made.inner.transport.close()
        front.close()
        destination.close()


def by_path(head: Any) -> Verdict:
    return OURS if head.path.startswith(b"/ours") else THEIRS


def held(_: Any) -> Verdict:
    return Verdict(Claim.BODY, classify(b"POST", b"/v1/chat/completions", b"", []))


def test_a_claimed_request_is_ours_though_its_sender_half_closes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path, by_host=True) as made:
            request = HEAD % (b"ours", 2) + b"{}"
            made.writer.write(request)
            made.writer.write_eof()
            await made.until(lambda: made.inner.taken or made.received)
            assert (made.inner.taken, made.received) == (request, b"")

    asyncio.run(talk())


def test_an_unclaimed_one_passes_with_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path, by_host=True) as made:
            made.answers = [b"HTTP/1.0 200 OK\r\n\r\nallEND"]
            made.writer.write(HEAD % (b"theirs", 2) + b"{}")
            made.writer.write_eof()
            async with asyncio.timeout(3):
                assert (await made.reader.read()).endswith(b"all")

    asyncio.run(talk())


def test_a_queued_claimed_request_never_reaches_a_destination_that_breaks_its_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path) as made:
            made.answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"]
            made.writer.write(HEAD % (b"theirs", 0) + HEAD % (b"ours", 6) + b"SECRET")
            await made.until(lambda: made.inner.lost)
            assert b"SECRET" not in made.received

    asyncio.run(talk())


def test_an_answer_that_ends_with_the_connection_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path) as made:
            made.answers = [b"HTTP/1.0 200 OK\r\n\r\nallEND"]
            made.writer.write(HEAD % (b"theirs", 0))
            async with asyncio.timeout(3):
                assert (await made.reader.read()).endswith(b"all")
            made.writer.close()
            await made.until(lambda: made.inner.lost)

    asyncio.run(talk())


@pytest.mark.parametrize("more", [b"", b"upgrade: h2c\r\nconnection: upgrade\r\n", b"upgrade: websocket\r\n"])
def test_what_follows_a_claimed_request_is_judged_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: bytes
) -> None:
    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path) as made:
            first = b"GET /ours HTTP/1.1\r\nhost: a.test\r\n%b\r\n" % more
            made.writer.write(first)
            await made.until(lambda: made.inner.taken == first)
            second = HEAD % (b"theirs", 0)
            made.writer.write(second)
            await asyncio.sleep(0.05)
            assert made.inner.taken == first
            made.session.answered()
            await made.until(lambda: made.received == second)

    asyncio.run(talk())


def test_what_comes_with_an_upgrade_goes_the_same_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path) as made:
            head = b"GET /ours HTTP/1.1\r\nhost: a.test\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n"
            made.writer.write(head + b"frame 1")
            await made.until(lambda: made.inner.taken)
            made.writer.write(b"frame 2")
            await made.until(lambda: made.inner.taken == head + b"frame 1frame 2")

    asyncio.run(talk())


def test_a_body_that_no_route_takes_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, held) as made:
            size = 1 << 20
            made.writer.write(HEAD % (b"v1", size) + b'{"model": "' + b"x" * (size - 12))  # its last byte never comes
            await made.until(lambda: len(made.received) > size - 12)
            assert made.inner.taken == b""

    asyncio.run(talk())


def test_while_one_of_ours_is_served_the_destination_may_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Idle connections are closed after some seconds by most servers; an answer of a model takes longer."""

    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path) as made:
            ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            made.answers = [ok + b"END", ok]
            made.writer.write(HEAD % (b"theirs", 0) + HEAD % (b"ours", 0))
            await made.until(lambda: made.inner.taken)
            await asyncio.sleep(0.05)
            made.session.answered()
            made.writer.write(HEAD % (b"theirs", 0))
            async with asyncio.timeout(3):
                assert await made.reader.readexactly(2 * len(ok)) == 2 * ok
            assert made.visitors == 2

    asyncio.run(talk())


def test_requests_that_pile_up_unanswered_are_awaited_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A destination that takes requests and does not answer makes us hold no answer's state without end."""
    batches, one, answer = 3, HEAD % (b"theirs", 0), b"HTTP/1.1 204 No Content\r\n\r\n"

    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path) as made:
            made.writer.write(one * (batches * under_test.MOST_AWAITED))
            for number in range(1, batches + 1):
                await made.until(lambda: len(made.received) >= len(one) * under_test.MOST_AWAITED * number)  # noqa: B023
                await asyncio.sleep(0.05)
                assert made.received == one * (number * under_test.MOST_AWAITED)
                made.visitor.write(answer * under_test.MOST_AWAITED)
                async with asyncio.timeout(3):
                    await made.reader.readexactly(len(answer) * under_test.MOST_AWAITED)

    asyncio.run(talk())


def test_what_is_governed_is_not_left_for_a_malformed_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once a request was claimed, bytes that are no request are answered by us, and pass on to nobody."""
    request = HEAD % (b"ours", 2) + b"{}"

    async def talk() -> None:
        async with scene(monkeypatch, tmp_path, by_path) as made:
            made.writer.write(request)
            await made.until(lambda: made.inner.taken == request)
            made.session.answered()
            made.writer.write(b"NO REQUEST\r\n")
            await made.until(lambda: made.inner.taken != request)
            assert made.inner.taken == request + b"NO REQUEST\r\n"
            assert made.visitors == 0

    asyncio.run(talk())
