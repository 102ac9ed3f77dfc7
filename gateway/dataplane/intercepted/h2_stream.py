"""One stream of an HTTP/2 connection: to its session it is a client connection that carries one HTTP/1.1 request.

What the session writes goes out as HEADERS and DATA as it comes, as far as the client's windows allow; beyond that the
session is paused, and with it whoever answers. What the client sends is acknowledged when the session has taken it.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from gateway.dataplane.intercepted.direct import DirectPool
from gateway.dataplane.intercepted.session import InterceptedSession
from gateway.wire.errors import WireError
from gateway.wire.h2_text import AnswerReader, Body, End, Event, Fields, Head, RequestText, body_text, end_text

if TYPE_CHECKING:
    from gateway.dataplane.intercepted.h2_front import H2Front

HIGH_WATER_BYTES: Final = 64 * 1024
_HIDDEN: Final = frozenset(("socket", "pipe"))
"""What is the whole connection's: nobody may set options for the sake of one stream."""


class StreamSession(InterceptedSession):
    """Decides about the stream's request as about that of a connection."""

    stream: "StreamTransport"
    """Set by whoever makes it."""

    def answered(self) -> None:
        super().answered()
        self.stream.settled()

    def _ended(self, outcome: str) -> None:
        """The flow goes on: it is the connection's, not the stream's."""

    @property
    def pool(self) -> DirectPool:
        return self.stream.front.pool


class StreamTransport(asyncio.Transport):
    """The client's end as the session sees it."""

    def __init__(self, front: "H2Front", stream_id: int, text: RequestText) -> None:
        super().__init__()
        self.front = front
        self.session: StreamSession = None  # type: ignore[assignment]  # set by `begin`
        self._id = stream_id
        self._text = text
        self._reader = AnswerReader(bodiless=text.method == b"HEAD")
        # from the client
        self._request_ended = False
        self._held: deque[tuple[bytes, int]] = deque()
        """Of the request's text, while reading is paused: bounded by the stream's window. With what they count."""
        self._reading = True
        # to the client
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._high, self._low = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        self._paused = False
        self._trailers: list[tuple[bytes, bytes]] | None = None
        """There once the answer has come to its end."""
        self._end_sent = False
        self._settled = False
        """Whoever answered has done with the request."""
        self._closing = False
        self._leaving = False
        self._lost = False

    @property
    def answered(self) -> bool:
        """Its answer has gone out whole."""
        return self._end_sent

    @property
    def request_ended(self) -> bool:
        return self._request_ended

    # -- the client's side, called by the front

    def begin(self, session: StreamSession, *, ended: bool) -> None:
        self.session = session
        session.stream = self
        self._request_ended = ended
        session.connection_made(self)
        session.data_received(self._text.head)

    def feed(self, payload: bytes, counted: int) -> None:
        """Of the request's body. `counted`: what it is of the windows, padding included."""
        self._take(body_text(payload, chunked=self._text.chunked), counted)

    def end(self, trailers: Fields) -> None:
        """Raises WireError for trailers that are none."""
        self._request_ended = True
        self._take(end_text(trailers, chunked=self._text.chunked), 0)

    def _take(self, text: bytes, counted: int) -> None:
        if self._lost or self._end_sent:
            self.front.acknowledge(self._id, counted)
        elif self._reading and not self._held:
            self._pass(text, counted)
        else:
            self._held.append((text, counted))

    def _pass(self, text: bytes, counted: int) -> None:
        if text:
            self.session.data_received(text)
        self.front.acknowledge(self._id, counted)

    def reset_by_client(self) -> None:
        self._end_sent = True
        self.lose(ConnectionResetError("the client has reset the stream"))

    def refuse(self, code: ErrorCodes) -> None:
        """The stream ends in an error that is the client's."""
        self._reset(code)
        self.lose(ConnectionAbortedError("the stream is malformed"))

    def lose(self, error: Exception | None, *, orderly: bool = False) -> None:
        """No more of it, from now on. `orderly`: question and answer were whole."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._out.clear()
        self._out_bytes = 0
        self.front.forget(self._id)
        for _, counted in self._held:
            self.front.acknowledge(self._id, counted)
        self._held.clear()
        if orderly and self._request_ended and not self.session.serves_inner:
            self.session.eof_received()  # so that a connection to the destination is closed, not reset
        self.session.connection_lost(error)

    def pump(self) -> bool:
        """Send one frame of what waits. Whether another one could follow."""
        if self._lost or self._end_sent or not self.front.writable:
            return False
        h2 = self.front.h2
        try:
            if self._out:
                room = min(h2.local_flow_control_window(self._id), h2.max_outbound_frame_size)
                if room <= 0:
                    return False
                piece = self._out.popleft()
                if len(piece) > room:
                    self._out.appendleft(piece[room:])
                    piece = piece[:room]
                self._out_bytes -= len(piece)
                last = not self._out and self._trailers == []
                h2.send_data(self._id, piece, end_stream=last)
                self._end_sent = last
            elif self._trailers is not None:
                if self._trailers:
                    h2.send_headers(self._id, self._trailers, end_stream=True)
                else:
                    h2.send_data(self._id, b"", end_stream=True)
                self._end_sent = True
        except ProtocolError:
            return False  # the client has reset it: that is about to be handled
        self.front.flush_soon()
        if self._end_sent:
            self._after_end()
        return bool(self._out) or (self._trailers is not None and not self._end_sent)

    def pumped(self) -> None:
        """All that could be sent was."""
        if self._lost:
            return
        if self._paused and self._out_bytes <= self._low:
            self._paused = False
            self.session.resume_writing()
        self._leave_if_done()

    # -- the session's side: asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._reader.ended:
            return
        try:
            events = self._reader.feed(bytes(data))
        except WireError:
            self._break()
            return
        self._tell(events)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if self._closing:
            return
        self._closing = self._settled = True
        try:
            events = self._reader.close()
        except WireError:
            self._break()
            return
        self._tell(events)
        self._leave_if_done()

    def abort(self) -> None:
        self._break()

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError  # as asyncio's own transports over TLS: nobody may ask (`can_write_eof`)

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if self._held:
                asyncio.get_running_loop().call_soon(self._take_held)

    def _take_held(self) -> None:
        while self._held and self._reading and not self._lost:
            self._pass(*self._held.popleft())

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._out_bytes

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if name in _HIDDEN else self.front.transport.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.session

    def settled(self) -> None:
        """The session has done with the request."""
        self._settled = True
        self._leave_if_done()

    # -- what was written, as frames

    def _tell(self, events: list[Event]) -> None:
        for number, event in enumerate(events):
            if isinstance(event, Head):
                ends = events[number + 1 :] == [End([])]
                self._send_head(event, ends=ends)
                if ends:
                    self._trailers = []
                    break
            elif isinstance(event, Body):
                self._out.append(memoryview(event.payload))
                self._out_bytes += len(event.payload)
            else:
                self._trailers = event.trailers
        while self.pump():
            pass
        if self._out_bytes > self._high and not (self._paused or self._lost):
            self._paused = True
            self.session.pause_writing()
        self._leave_if_done()

    def _send_head(self, head: Head, *, ends: bool) -> None:
        try:
            self.front.h2.send_headers(self._id, head.fields, end_stream=ends)
        except ProtocolError:
            return  # as in `pump`
        self._end_sent = ends
        self.front.flush_soon()
        if ends:
            self._after_end()

    def _after_end(self) -> None:
        if not self._request_ended:
            self.front.reset(self._id, ErrorCodes.NO_ERROR)  # no need to send the rest (RFC 9113 8.1)

    def _break(self) -> None:
        """The answer cannot come to its end."""
        self._closing = True
        self._reset(ErrorCodes.INTERNAL_ERROR)
        self._leave(orderly=False)

    def _reset(self, code: ErrorCodes) -> None:
        if not self._end_sent:
            self._end_sent = True
            self.front.reset(self._id, code)

    def _leave_if_done(self) -> None:
        if self._end_sent and (self._settled or not self.session.serves_inner):
            self._leave(orderly=True)

    def _leave(self, *, orderly: bool) -> None:
        """Not at once: the session is at work."""
        if not (self._leaving or self._lost):
            self._leaving = True
            asyncio.get_running_loop().call_soon(self._left, orderly)

    def _left(self, orderly: bool) -> None:
        self.lose(None, orderly=orderly)
