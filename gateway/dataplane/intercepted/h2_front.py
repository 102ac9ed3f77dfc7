"""A captured connection whose TLS ends here and that speaks HTTP/2 (RFC 9113): each of its streams is served as a
connection with one HTTP/1.1 request would be (`h2_stream`), so that routes, limits, errors and what is passed on are
the same.

Framing, HPACK and the windows are h2's. Ours are the limits: how many streams, how often they may be thrown away, and
how much may be sent that asks for nothing (CVE-2019-9512 and its kin, CVE-2023-44487).
"""

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from gateway.dataplane.intercepted.direct import DirectPool
from gateway.dataplane.intercepted.flow import Flow
from gateway.dataplane.intercepted.h2_limits import (
    CONNECTION_WINDOW_BYTES,
    ENCODER_TABLE_BYTES,
    MOST_STREAMS,
    MOST_STREAMS_EVER,
    Allowance,
    count_streams_ourselves,
    new_connection,
)
from gateway.dataplane.intercepted.h2_stream import StreamSession, StreamTransport
from gateway.policy.interception import Unmatched
from gateway.wire.errors import WireError
from gateway.wire.h2_text import Fields, request_text

if TYPE_CHECKING:
    from gateway.dataplane.intercepted.hall import Hall

log = logging.getLogger("sluicegate.dataplane")

WRITE_HIGH_WATER_BYTES: Final = 256 * 1024
BEGIN_S: Final = 15.0
"""Within it the client has sent its settings."""
IDLE_S: Final = 75.0
"""Without a stream."""
LAST_CALL_S: Final = 5.0
"""A client that goes on opening streams while the server ends is told after that, come what may."""
PARTING_S: Final = 1.0
"""From the last word to the end: the client reads it meanwhile."""


class H2Front(asyncio.Protocol):
    """One connection."""

    def __init__(self, hall: "Hall", flow: Flow, tls: ssl.SSLContext, *, alone: bool) -> None:
        """`tls`: how to speak to the destination; `alone`: the client speaks nothing but HTTP/2."""
        self._hall = hall
        self._flow = flow
        self._tls = tls
        self._alone = alone
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.h2 = new_connection()
        self.writable = True
        self._streams: dict[int, StreamTransport] = {}
        self._highest_id = 0
        self._opened = 0
        now_s = self._loop.time()
        self._wasted = Allowance(200, 20, now_s)
        """Streams that came to nothing: reset before their answer was whole, refused, malformed."""
        self._idle_frames = Allowance(1000, 50, now_s)
        """Frames that ask for nothing."""
        self._flushing = False
        self._ends_when_idle = False
        self._leaving = False
        """No new stream is served."""
        self._closed = False
        self._timer = self._loop.call_later(BEGIN_S, self._expire)
        self._pool: DirectPool | None = None

    @property
    def pool(self) -> DirectPool:
        """Connections to the destination for what is metered."""
        if self._pool is None:
            self._pool = DirectPool(self._hall.plane, self._flow, self._tls)
        return self._pool

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self._hall.connections.add(self)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - 65535)
        count_streams_ourselves(self.h2)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as error:  # its GOAWAY is written already
            log.info("HTTP/2 is broken", extra={"rule": self._flow.rule.name, "error": str(error)})
            self._end()
            return
        reset = {event.stream_id for event in events if isinstance(event, StreamReset)}
        for event in events:
            if self._has_ended():
                return
            self._handle(event, reset)
        self._pump()
        self._flush()

    def _has_ended(self) -> bool:
        return self._closed

    def eof_received(self) -> bool:
        self._hall.plane.turn.work()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._timer.cancel()
        self._hall.connections.discard(self)
        for stream in tuple(self._streams.values()):
            stream.lose(exc or ConnectionResetError("the connection has ended"))
        if self._pool is not None:
            self._pool.retired = True
            self._pool.close()
        self._hall.ended(self._flow, "completed" if exc is None else "client_reset")

    def pause_writing(self) -> None:
        self.writable = False
        self.transport.pause_reading()  # each frame may ask for one in answer

    def resume_writing(self) -> None:
        self.writable = True
        self.transport.resume_reading()
        self._pump()
        self._flush()

    # -- what the client sends

    def _handle(self, event: Event, reset: set[int]) -> None:
        """`reset`: streams that the client has given up in the same read."""
        if isinstance(event, RequestReceived):
            assert event.stream_id is not None
            self._open(event.stream_id, event.headers or [], ended=event.stream_ended is not None, reset=reset)
        elif isinstance(event, DataReceived):
            assert event.stream_id is not None
            payload, counted = event.data or b"", event.flow_controlled_length or 0
            if not payload and event.stream_ended is None:
                self._charge_idle()
            stream = self._streams.get(event.stream_id)
            if stream is None:
                self.acknowledge(event.stream_id, counted)
            else:
                stream.feed(payload, counted)
        elif isinstance(event, TrailersReceived):
            self._end_request(event.stream_id, event.headers or [])
        elif isinstance(event, StreamEnded):
            self._end_request(event.stream_id, [])
        elif isinstance(event, StreamReset):
            stream = self._streams.get(event.stream_id or 0)
            if stream is not None:
                if not stream.answered:
                    self._charge_wasted()
                stream.reset_by_client()
        elif isinstance(event, ConnectionTerminated):
            self._told_to_end(event)
        elif isinstance(event, RemoteSettingsChanged):
            self.h2.encoder.header_table_size = min(self.h2.encoder.header_table_size, ENCODER_TABLE_BYTES)
            if not self._highest_id:
                self._restart_timer(IDLE_S)
            self._charge_idle()
        elif not isinstance(event, WindowUpdated):
            self._charge_idle()

    def _open(self, stream_id: int, fields: Fields, *, ended: bool, reset: set[int]) -> None:
        self._highest_id = stream_id
        if stream_id in reset:
            self._charge_wasted()
            return
        if self._leaving or len(self._streams) >= MOST_STREAMS:
            self.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            self._charge_wasted()
            return
        try:
            text = request_text(fields, ended=ended)
        except WireError as error:
            log.info("a malformed request", extra={"rule": self._flow.rule.name, "reason": error.message})
            self.reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            self._charge_wasted()
            return
        if text.method == b"CONNECT":
            self.h2.send_headers(stream_id, [(b":status", b"405"), (b"content-length", b"0")], end_stream=True)
            return
        if text.is_grpc:
            self._refuse_grpc(stream_id)
            return
        self._timer.cancel()
        self._opened += 1
        stream = StreamTransport(self, stream_id, text)
        self._streams[stream_id] = stream
        session = self._hall.session(self._hall, self._flow, None, self._tls, StreamSession)
        assert isinstance(session, StreamSession)
        stream.begin(session, ended=ended)
        if self._opened >= MOST_STREAMS_EVER:
            self.shutdown()

    def _end_request(self, stream_id: int | None, trailers: Fields) -> None:
        stream = self._streams.get(stream_id or 0)
        if stream is None or stream.request_ended:
            return
        try:
            stream.end(trailers)
        except WireError:
            stream.refuse(ErrorCodes.PROTOCOL_ERROR)
            self._charge_wasted()

    def _refuse_grpc(self, stream_id: int) -> None:
        """It is not governed. Where the rule lets pass what no route claims, the client is sent to another connection,
        which is passed on (gRPC tries again by itself); else it is told so as gRPC tells (trailers only)."""
        rule = self._flow.rule
        if self._alone and rule.unmatched is Unmatched.SPLICE:
            log.warning(
                "gRPC cannot be governed: passed on from the next connection on",
                extra={"rule": rule.name, "client": self._flow.client[0], "host": self._flow.server_name},
            )
            self._hall.terminator.pass_grpc(self._flow)
            self.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            self._say_last(below=stream_id)
            return
        message = (
            f"gRPC is not served under interception rule {rule.name}: "
            "use the provider's REST interface, or have the rule pass this host's TLS through"
        )
        self.h2.send_headers(
            stream_id,
            [
                (b":status", b"200"),
                (b"content-type", b"application/grpc"),
                (b"grpc-status", b"12"),
                (b"grpc-message", quote(message, safe=" !\"#$&'()*+,/:;<=>?@[]^_`{|}~").encode()),
            ],
            end_stream=True,
        )

    # -- limits

    def _charge_wasted(self) -> None:
        if not self._wasted.spend(self._loop.time()):
            self._throw_out("streams thrown away without end")

    def _charge_idle(self) -> None:
        if not self._idle_frames.spend(self._loop.time()):
            self._throw_out("frames that ask for nothing, without end")

    def _throw_out(self, reason: str) -> None:
        log.warning("an HTTP/2 client is cut off", extra={"client": self._flow.client[0], "reason": reason})
        self.h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        self._end()

    def _expire(self) -> None:
        """Nothing has come for long."""
        if not self._streams:
            self._say_last()

    def _restart_timer(self, seconds: float) -> None:
        self._timer.cancel()
        if not self._closed:
            self._timer = self._loop.call_later(seconds, self._expire)

    # -- what is sent, called by the streams

    def acknowledge(self, stream_id: int, counted: int) -> None:
        """So much of what was received is taken: the client may send as much again."""
        if counted and not self._closed:
            try:
                self.h2.acknowledge_received_data(counted, stream_id)
            except ProtocolError:
                return
            self.flush_soon()

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        if self._closed:
            return
        try:
            self.h2.reset_stream(stream_id, code)
        except ProtocolError:
            return  # it is gone already
        self.flush_soon()

    def flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def forget(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        if not self._streams and not self._closed:
            if self._leaving:
                self._loop.call_later(PARTING_S, self._end)
            elif self._ends_when_idle:
                self._say_last()
            else:
                self._restart_timer(IDLE_S)

    def _pump(self) -> None:
        """A frame of each stream in turn, until nothing more can go."""
        moving = list(self._streams.values())
        waiting = moving
        while moving:
            moving = [stream for stream in moving if stream.pump()]
        for stream in waiting:
            stream.pumped()

    def _flush(self) -> None:
        self._flushing = False
        frames = self.h2.data_to_send()
        if frames and not self.transport.is_closing():
            self.transport.write(frames)

    # -- the end

    def shutdown(self) -> None:
        """The server asks to end: what is under way ends first.

        RFC 9113 6.8 would have GOAWAY said at once; but clients that use h2 (httpx, and the SDKs with it) lose at that
        word what is under way. So it is said in a moment without streams, if there is one."""
        if self._leaving or self._ends_when_idle:
            return
        self._ends_when_idle = True
        self._loop.call_later(LAST_CALL_S, self._last_call, self._highest_id)
        if not self._streams:
            self._loop.call_later(self._hall.plane.idle_grace_s, self._expire)

    def _last_call(self, highest_id: int) -> None:
        if self._highest_id != highest_id:
            self._say_last()

    def _say_last(self, below: int | None = None) -> None:
        """No more streams: those under way are the last ones."""
        if self._leaving or self._closed:
            return
        self._leaving = True
        self._go_away(self._highest_id if below is None else max(0, below - 2))
        if not self._streams:
            self._loop.call_later(PARTING_S, self._end)

    def _go_away(self, last_id: int) -> None:
        """Written here: after a GOAWAY of its own h2 sends nothing more."""
        self._flush()
        if not self.transport.is_closing():
            code = ErrorCodes.NO_ERROR.to_bytes(4, "big")
            self.transport.write(b"\0\0\x08\x07\0\0\0\0\0" + last_id.to_bytes(4, "big") + code)

    def _told_to_end(self, event: ConnectionTerminated) -> None:
        if event.error_code or not self._streams:
            self._end()
            return
        self._leaving = True
        self.h2.state_machine.state = ConnectionState.SERVER_OPEN  # what is under way goes on, which h2 does not allow

    def _end(self) -> None:
        if not self._closed:
            self._flush()
            self._closed = True
            for stream in tuple(self._streams.values()):
                stream.lose(ConnectionAbortedError("the connection has ended"))
            self.transport.close()
