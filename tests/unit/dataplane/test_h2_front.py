"""The front of an HTTP/2 connection by itself: whatever a client sends, it neither fails nor forgets."""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import hpack
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, StreamEnded, StreamReset
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.intercepted import h2_front
from gateway.dataplane.intercepted.flow import Flow
from gateway.dataplane.intercepted.h2_front import H2Front
from gateway.dataplane.intercepted.h2_limits import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from gateway.dataplane.intercepted.h2_stream import HIGH_WATER_BYTES, StreamSession, StreamTransport
from gateway.wire.cutting import RequestCutter

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIELDS = [(":method", "POST"), (":scheme", "https"), (":authority", "a.example"), (":path", "/v1")]


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class Wire(asyncio.Transport):
    """The client's TLS connection."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Session(StreamSession):
    """Answers each whole request by itself."""

    made: "list[Session]"
    answer: Callable[["Session"], None] | None = None

    def __init__(self) -> None:
        self.cutter = RequestCutter()
        self.body = b""
        self.lost: list[Exception | None] = []
        self.paused = False
        self.ours = False

    @property
    def serves_inner(self) -> bool:
        return self.ours

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, StreamTransport)

    def data_received(self, data: bytes) -> None:
        assert not self.lost
        assert self.cutter.feed(data) == b""
        self.body += self.cutter.payload
        if self.cutter.ended and type(self).answer is not None:
            type(self).answer(self)  # type: ignore[misc]

    def eof_received(self) -> bool:
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False


class Scene:
    """A front, its wire, and the client's half of h2. Within a running event loop."""

    def __init__(self, answer: Callable[[Session], None] | None = None) -> None:
        self.sessions: list[Session] = []
        self.ended: list[str] = []
        kind = type("Answering", (Session,), {"answer": staticmethod(answer) if answer else None})

        def make(*_: object) -> Session:
            self.sessions.append(kind())
            return self.sessions[-1]

        plane = SimpleNamespace(turn=SimpleNamespace(work=lambda: None), idle_grace_s=0.0)
        hall = SimpleNamespace(
            plane=plane, connections=set(), session=make, ended=lambda _, outcome: self.ended.append(outcome),
            counts=Counter(),
        )  # fmt: skip
        rule = SimpleNamespace(name="rule")
        flow = Flow(rule, ("10.0.0.1", 1), ("10.0.0.2", 443))  # type: ignore[arg-type]
        self.front = H2Front(hall, flow, None, alone=True)  # type: ignore[arg-type]
        self.wire = Wire()
        self.front.connection_made(self.wire)
        self.client = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
        self.client.initiate_connection()

    async def exchange(self) -> list[Any]:
        """Both ways, until nothing more comes."""
        events: list[Any] = []
        for _ in range(1000):
            for _ in range(3):  # what was put off to the next turn of the loop may put off more
                await asyncio.sleep(0)
            asked, answered = self.client.data_to_send(), self.wire.sent
            self.wire.sent = b""
            if asked and not self.wire.closed:
                self.front.data_received(asked)
            if answered:
                events += self.client.receive_data(answered)
            if not (asked or answered or self.wire.sent):
                break
        return events

    def ask(self, body: bytes | None = b"") -> int:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, FIELDS, end_stream=body is None)
        if body is not None:
            self.client.send_data(stream, body, end_stream=True)
        return stream

    def finish(self) -> None:
        self.front.connection_lost(None)
        assert all(len(session.lost) == 1 for session in self.sessions), "each session hears of its end, once"
        assert self.ended == ["completed"]


def plain(session: Session) -> None:
    session.stream.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(session.body), session.body))


def large(session: Session) -> None:
    session.stream.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + bytes(100_000))


@in_a_loop
async def test_question_and_answer() -> None:
    scene = Scene(plain)
    scene.ask(b"hello")
    events = await scene.exchange()
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"hello"]
    assert any(isinstance(event, StreamEnded) for event in events)
    assert scene.sessions[0].lost == [None]
    scene.finish()


@in_a_loop
async def test_a_session_that_has_not_done_with_the_request_is_waited_for() -> None:
    """Its row for the ledger, say, is written after the answer's last byte."""
    scene = Scene(plain)
    scene.ask(b"hello")
    answering = type("Slow", (Session,), {"answer": staticmethod(plain)})()
    answering.ours = True
    scene.front._hall.session = lambda *_: answering  # type: ignore[attr-defined, method-assign, assignment]
    events = await scene.exchange()
    assert any(isinstance(event, StreamEnded) for event in events)
    assert answering.lost == []
    answering.ours = False
    answering.stream.settled()
    await asyncio.sleep(0)
    assert answering.lost == [None]


@in_a_loop
async def test_what_a_client_does_not_take_is_held_within_bounds() -> None:
    scene = Scene()
    scene.ask(b"")
    await scene.exchange()
    (session,) = scene.sessions
    session.stream.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not session.paused:
        session.stream.write(b"x" * 8192)
    assert HIGH_WATER_BYTES < session.stream.get_write_buffer_size() <= HIGH_WATER_BYTES + 8192
    events = await scene.exchange()
    assert sum(len(event.data) for event in events if isinstance(event, DataReceived)) == 65535
    assert session.paused
    scene.client.increment_flow_control_window(2**20)
    scene.client.increment_flow_control_window(2**20, 1)
    await scene.exchange()
    assert not session.paused
    assert session.stream.get_write_buffer_size() == 0
    session.stream.close()
    assert any(isinstance(event, StreamEnded) for event in await scene.exchange())
    scene.finish()


@in_a_loop
async def test_a_stream_whose_end_the_client_waited_to_take_is_over_then() -> None:
    scene = Scene(large)
    for _ in range(3):
        stream = scene.ask(b"")
        assert not any(isinstance(event, StreamEnded) for event in await scene.exchange())
        scene.client.increment_flow_control_window(2**16, stream)
        scene.client.increment_flow_control_window(2**17)
        assert any(isinstance(event, StreamEnded) for event in await scene.exchange())
    assert [session.lost for session in scene.sessions] == [[None]] * 3
    assert scene.front._streams == {}
    scene.finish()


@in_a_loop
async def test_what_a_session_does_not_take_stops_the_client() -> None:
    scene = Scene()
    stream = scene.client.get_next_available_stream_id()
    scene.client.send_headers(stream, FIELDS)
    await scene.exchange()
    (session,) = scene.sessions
    session.stream.pause_reading()
    sent = 0
    while room := min(scene.client.local_flow_control_window(stream), 16384):
        scene.client.send_data(stream, b"x" * room)
        sent += room
        await scene.exchange()
    assert sent == STREAM_WINDOW_BYTES
    assert session.body == b""
    session.stream.resume_reading()
    await scene.exchange()
    assert len(session.body) == sent
    assert scene.client.local_flow_control_window(stream) >= STREAM_WINDOW_BYTES // 2
    scene.client.reset_stream(stream)
    await scene.exchange()
    assert isinstance(session.lost[0], ConnectionResetError)
    scene.finish()


@in_a_loop
async def test_the_connections_window_survives_streams_that_are_given_up() -> None:
    scene = Scene()
    for _ in range(40):
        stream = scene.client.get_next_available_stream_id()
        scene.client.send_headers(stream, FIELDS)
        await scene.exchange()
        scene.sessions[-1].stream.pause_reading()
        for _ in range(12):
            scene.client.send_data(stream, b"x" * 16384)
        await scene.exchange()
        scene.client.reset_stream(stream)
        await scene.exchange()
    assert not scene.wire.closed
    assert scene.client.outbound_flow_control_window >= CONNECTION_WINDOW_BYTES // 2
    scene.finish()


@in_a_loop
async def test_an_early_answer_stops_the_upload() -> None:
    scene = Scene()
    stream = scene.client.get_next_available_stream_id()
    scene.client.send_headers(stream, FIELDS)
    await scene.exchange()
    scene.sessions[0].stream.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
    events = await scene.exchange()
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"no"]
    resets = [event.error_code for event in events if isinstance(event, StreamReset)]
    assert resets == [ErrorCodes.NO_ERROR]
    scene.finish()


@pytest.mark.parametrize("wire", [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", b"", b"nonsense\r\n\r\n"])
@in_a_loop
async def test_an_answer_that_comes_to_no_end_resets_its_stream(wire: bytes) -> None:
    scene = Scene()
    scene.ask(b"")
    await scene.exchange()
    scene.sessions[0].stream.write(wire)
    scene.sessions[0].stream.close()
    events = await scene.exchange()
    assert [event.error_code for event in events if isinstance(event, StreamReset)] == [ErrorCodes.INTERNAL_ERROR]
    assert not any(isinstance(event, StreamEnded) for event in events)
    scene.finish()


@in_a_loop
async def test_a_client_that_says_goaway_still_gets_its_answer() -> None:
    scene = Scene()
    scene.ask(b"")
    await scene.exchange()
    scene.front.data_received(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8))
    assert not scene.wire.closed
    plain(scene.sessions[0])
    assert any(isinstance(event, StreamEnded) for event in await scene.exchange())
    scene.finish()


@in_a_loop
async def test_a_server_that_ends_waits_for_a_moment_without_streams() -> None:
    scene = Scene()
    scene.ask(b"")
    await scene.exchange()
    scene.front.shutdown()
    assert not any(isinstance(event, ConnectionTerminated) for event in await scene.exchange())
    plain(scene.sessions[0])
    (told,) = [event for event in await scene.exchange() if isinstance(event, ConnectionTerminated)]
    assert (told.error_code, told.last_stream_id) == (ErrorCodes.NO_ERROR, 1)
    scene.finish()


@pytest.mark.parametrize("asking", [True, False])
@in_a_loop
async def test_who_asks_for_nothing_is_parted_with(asking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("BEGIN_S", 0.02), ("IDLE_S", 0.08), ("PARTING_S", 0.02)):
        monkeypatch.setattr(h2_front, name, seconds)
    scene = Scene(plain)
    if asking:
        scene.ask(b"")
        await scene.exchange()
    await asyncio.sleep(0.03)
    assert scene.wire.sent == b"" or not asking, "it has longer, once it has begun"
    await asyncio.sleep(0.2)
    assert scene.wire.closed
    assert scene.wire.sent.endswith(b"\0\0\x08\x07\0\0\0\0\0\0\0\0%c\0\0\0\0" % asking)
    scene.finish()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


_BLOCKS = [
    hpack.Encoder().encode(FIELDS),
    hpack.Encoder().encode([*FIELDS, ("X", "a\r\nb")]),
    hpack.Encoder().encode([("x", "y")]),
]
_FLAGS = (0, 1, 4, 5, 8, 9, 32, 0x2D, 0xFF)
_frames = st.builds(
    _frame, st.integers(0, 11), st.sampled_from(_FLAGS), st.sampled_from((0, 1, 2, 3, 5, 7)),
    st.sampled_from(_BLOCKS) | st.binary(max_size=16),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    frames=st.lists(_frames, max_size=12),
    size=st.sampled_from((1, 9, 33, 100_000)),
    answering=st.sampled_from((None, plain)),
)
def test_whatever_a_client_sends_it_neither_fails_nor_forgets(
    frames: list[bytes], size: int, answering: Callable[[Session], None] | None
) -> None:
    async def attack() -> None:
        failed: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        scene = Scene(answering)
        sent = PREFACE + _frame(4, 0, 0, b"") + b"".join(frames)
        for at in range(0, len(sent), size):
            if scene.wire.closed:
                break
            scene.front.data_received(sent[at : at + size])
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        scene.finish()
        assert failed == []
        assert not scene.front._streams

    asyncio.run(attack())
