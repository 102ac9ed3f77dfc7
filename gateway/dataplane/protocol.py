"""The HTTP protocol class that uvicorn runs: data-plane requests are served right here, all others by FastAPI.

One connection, one request at a time: what is pipelined behind it waits, parsed, in a queue that is bounded by pausing
the socket. httptools (llhttp) parses; the checks that it lacks are `gateway.wire.heads`.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Any, Final

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from gateway.dataplane.asgi import AsgiRequest
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.express import ExpressCall, set_out
from gateway.dataplane.head_memo import HeadMemo, memo_of
from gateway.dataplane.listeners import Serves
from gateway.dataplane.plane import Plane
from gateway.dataplane.relay import ClientAnswer
from gateway.dataplane.request import Request, RequestBody
from gateway.dataplane.routing import exchange_for, operation_of
from gateway.dialects.base import Operation
from gateway.wire.errors import WireError
from gateway.wire.heads import check_head
from gateway.wire.proxy_preamble import read_preamble

log = logging.getLogger("sluicegate.dataplane")

HEAD_SECONDS: Final = 15.0
"""How long a request head may take to arrive."""
IDLE_SECONDS: Final = 75.0
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 4 * 1024 * 1024
"""After an answer that closes: what is still on its way is read and dropped, lest a reset destroy the answer."""
WRITE_HIGH_WATER_BYTES: Final = 64 * 1024
MEMO_MISSES: Final = 8
"""A client whose heads differ from call to call is not worth remembering."""
LARGE_DIGITS: Final = 6
"""A `Content-Length` of more digits may be more than is allowed."""
MAX_QUEUED: Final = 64
"""Pipelined requests that may wait on one connection."""


class ClientConnection(asyncio.Protocol):
    """One client connection. `plane` is set by the subclass that `protocol_class` makes."""

    plane: Plane
    express = True
    """Common calls may go the express way, past `_serve` and `exchange_done`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.flow: FlowControl = None  # type: ignore[assignment]
        self.client_ip = ""
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.serves = Serves.ALL
        self.closed = False
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        """The request whose bytes are being parsed."""
        self._head_bytes = 0
        self._in_head = False
        self._stale_upgrade = False
        self._queue: deque[Request] = deque()
        self._active: Exchange | AsgiRequest | ExpressCall | None = None
        self._active_request: Request | None = None
        self._tunnel = False
        self._lingering = False
        self._linger_left = LINGER_BYTES
        self._deadline_s = self.loop.time() + HEAD_SECONDS
        self._poisoned = False
        self._preamble: bytes | None = b"" if self.plane.settings.proxy_protocol else None
        """What has come of the PROXY preamble; None once it was read, and where none is expected."""
        self._data = b""
        """What was received last, if a request began with it."""
        self._memo: HeadMemo | None = None
        self._memo_misses = 0

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self.flow = FlowControl(self.transport)
        self.client = get_remote_addr(self.transport)
        self.server = get_local_addr(self.transport)
        self.serves = self.plane.listeners.serves(self.server)
        self.client_ip = self.client[0] if self.client else ""
        self.scheme = "https" if is_ssl(self.transport) else "http"
        self.server_state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes
        self.plane.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.server_state.connections.discard(self)
        self.plane.connections.discard(self)
        self.flow.resume_writing()
        if self._request is not None and self._request is not self._active_request:
            self._request.sink.close()
        for request in self._queue:
            request.sink.close()
        self._queue.clear()
        if self._active is not None:
            self._active.client_gone()

    def eof_received(self) -> bool:
        # A half-closed client is told apart from a gone one only inside a tunnel; elsewhere clients that shut down
        # their side after the request are so rare, and those that left so common, that an end is an end (as nginx).
        if self._tunnel and isinstance(self._active, Exchange):
            self._active.client_half_closed()
            return True
        return False

    def data_received(self, data: bytes) -> None:
        if self._preamble is not None:
            data = self._take_preamble(self._preamble + data)
            if not data:
                return
        if self._tunnel:
            if isinstance(self._active, Exchange):
                self._active.on_client_bytes(data)
            return
        if self._lingering:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self.transport.abort()
            return
        if self._poisoned:
            return
        if self._memo is not None and self._recognised(self._memo, data):
            return
        self._data = data if self._request is None else b""
        if self._in_head or self._request is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._start_next()
            self._upgraded(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._start_next()
            cause = error.__context__
            if isinstance(cause, WireError):
                self._bad_request(cause.status, str(cause))
            else:
                self._bad_request(400, f"this is not HTTP/1.1: {error}")
            return
        self._start_next()
        if self._in_head and self._head_bytes > self.plane.settings.max_head_bytes:
            self._bad_request(431, f"the request head is larger than {self.plane.settings.max_head_bytes} bytes")

    def _recognised(self, memo: HeadMemo, data: bytes) -> bool:
        """Serve what was received, if it is the head of the call before with another body, and its turn."""
        if self._active is not None or self._request is not None or memo.snapshot is not self.plane.snapshot:
            return False
        body = memo.body_of(data)
        if body is None:
            return False
        self._deadline_s = 0.0
        self._memo_misses = 0
        if not (self.express and set_out(self, memo, body)):
            memo.request.renew(RequestBody.of(body), time.perf_counter_ns())
            self._serve(memo.request, memo.operation)
        return True

    def _take_preamble(self, received: bytes) -> bytes:
        """Learn from a load balancer whose connection this is; returns what follows, b"" while that is not known."""
        try:
            preamble = read_preamble(received)
        except WireError as error:
            log.warning("connection refused", extra={"reason": error.message})
            self.transport.abort()
            return b""
        if preamble is None:
            self._preamble = received
            return b""
        self._preamble = None
        if preamble.client is not None:
            self.client = preamble.client
            self.client_ip = preamble.client[0]
        return received[preamble.length :]

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        if self._active is not None:
            self._active.client_paused()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if self._active is not None:
            self._active.client_resumed()

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        settings = self.plane.settings
        body = RequestBody(self.flow, settings.data, settings.body_memory_bytes, settings.max_body_bytes)
        self._request = Request(body, time.perf_counter_ns())
        self._in_head = True
        self._stale_upgrade = False
        self._deadline_s = self.loop.time() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        assert self._request is not None
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers.append((name.lower(), value))  # type: ignore[union-attr]  # set by on_message_begin

    def on_headers_complete(self) -> None:
        request, parser = self._request, self._parser
        assert request is not None
        self._in_head = False
        if self._head_bytes > self.plane.settings.max_head_bytes:
            self._check_head_size(request)
        self._head_bytes = 0
        request.method = parser.get_method()
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        check_head(request.method, request.target, request.version, request.headers)
        request.path, _, request.query = request.target.partition(b"?")
        for name, value in request.headers:
            if name == b"content-length":
                request.has_body = value != b"0"
                if len(value) > LARGE_DIGITS:
                    request.body.declare(int(value))
            elif name == b"transfer-encoding":
                request.has_body = True
            elif name == b"expect":
                request.expect_continue = value.lower() == b"100-continue"
            elif name == b"upgrade":
                request.upgrade = value.strip().lower()
            elif name == b"x-request-id":
                request.client_request_id = value.decode("latin-1")[:256]
        if parser.should_upgrade():
            if request.method == b"CONNECT" or request.upgrade != b"websocket":
                self._stale_upgrade = True  # not ours to switch to (RFC 9110 7.8): served as if it had not been asked
                return
        else:
            request.upgrade = b""
        self._deadline_s = 0.0
        self._queue.append(request)
        if len(self._queue) >= MAX_QUEUED:
            self.flow.pause_reading()

    def _check_head_size(self, request: Request) -> None:
        """What was received holds more than a head may; is it the head, or the body behind it?"""
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
        most = self.plane.settings.max_head_bytes
        if size > most:
            raise WireError(431, f"the request head is larger than {most} bytes")

    def on_body(self, piece: bytes) -> None:
        if not self._stale_upgrade:
            self._request.sink.feed(piece)  # type: ignore[union-attr]

    def on_message_complete(self) -> None:
        if not self._stale_upgrade:
            self._request.sink.end()  # type: ignore[union-attr]
            self._request = None

    # -- serving

    def _start_next(self) -> None:
        """Serve what waits, if nothing is being served: called when the parser has done with what was received."""
        if self._active is not None or not self._queue or self.closed:
            return
        request = self._queue.popleft()
        operation = None if self.serves is Serves.ADMIN else operation_of(self.plane, request)
        data, self._data = self._data, b""
        if operation is not None and data and self._memo_misses < MEMO_MISSES and not self._queue:
            self._memo_misses += 1
            self._memo = memo_of(data, request, operation, self.plane.snapshot)
        else:
            self._memo = None
        self._serve(request, operation)

    def _serve(self, request: Request, operation: Operation | None) -> None:
        self._active_request = request
        exchange = exchange_for(self.plane, self, request, operation)
        self._active = exchange
        if isinstance(exchange, Exchange):
            self.plane.exchanges.add(exchange)
        exchange.start()

    def exchange_done(self, done: "Exchange | AsgiRequest") -> None:
        """The active request is served: go on with the next one, or close as its answer said."""
        request = self._active_request
        self._active = self._active_request = None
        self.server_state.total_requests += 1
        if self.closed or request is None:
            return
        if not done.answer.keep_alive or self._tunnel:
            self._close(linger=not request.sink.complete)
            return
        if not request.sink.complete:
            self._close(linger=True)
            return
        self._go_on()

    def begin_express(self, call: ExpressCall) -> None:
        self._active, self._active_request = call, call.memo.request

    def replace_active(self, exchange: Exchange) -> None:
        """The active call goes on as another exchange."""
        self._active = exchange

    def express_done(self) -> None:
        """`exchange_done` of a call that was served whole, on a connection that lives on."""
        self._active = self._active_request = None
        self.server_state.total_requests += 1
        if not self.closed:
            self._go_on()

    def _go_on(self) -> None:
        """The connection lives on: serve what waits, or idle."""
        if self._queue:
            self.flow.resume_reading()
            self.loop.call_soon(self._start_next)
        elif self._poisoned or self.plane.draining:
            self.transport.close()
        else:
            self.flow.resume_reading()
            self._deadline_s = self.loop.time() + IDLE_SECONDS

    def _close(self, *, linger: bool) -> None:
        if not linger or self.transport.is_closing():
            self.transport.close()
            return
        self._lingering = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline_s = self.loop.time() + LINGER_SECONDS

    def _upgraded(self, rest: bytes) -> None:
        request = self._request or self._active_request
        if self._stale_upgrade and self._request is not None:
            # llhttp stops at an upgrade: parse the same request again without it, body and all.
            request = self._request
            if request.method == b"CONNECT":
                self._bad_request(405, "CONNECT is not served on this listener")
                return
            lines = [b"%b %b HTTP/%b\r\n" % (request.method, request.target, request.version.encode())]
            lines += [
                b"%b: %b\r\n" % (name, value if name != b"connection" else _without_upgrade(value))
                for name, value in request.headers
                if name not in (b"upgrade", b"http2-settings")
            ]
            request.sink.close()
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(b"".join((*lines, b"\r\n", rest)))
            return
        self._tunnel = True
        if rest and isinstance(self._active, Exchange):
            self._active.on_client_bytes(rest)

    def _bad_request(self, status: int, reason: str) -> None:
        """Answer what cannot be parsed and close: nothing after it on this connection can be trusted."""
        self._poisoned = True
        self.plane.counted["malformed"] += 1
        if self._active is not None:
            if self._active_request is self._request:
                self._active.client_gone()  # its body is broken: the rest will never come
                self.transport.abort()
            return  # the answers before it go out first; exchange_done closes
        text = b'{"error":{"message":%b,"type":"invalid_request_error","code":"malformed_request"}}' % _json(reason)
        answer = ClientAnswer(self, http10=False, head_only=False, keep_alive=False)
        answer.whole(status, [b"content-type: application/json\r\n"], text)
        self._close(linger=True)

    # -- ClientWriter

    def write(self, payload: bytes) -> None:
        if not self.closed:
            self.transport.write(payload)

    def writelines(self, payloads: list[bytes]) -> None:
        if not self.closed:
            self.transport.writelines(payloads)

    def abort(self) -> None:
        """End the connection at once. What was written before goes out if the socket takes it."""
        if not self.closed:
            self.transport.close() if self.transport.get_write_buffer_size() == 0 else self.transport.abort()

    # -- deadlines and shutdown

    def check_deadlines(self, now_s: float) -> None:
        """Slow heads are answered 408, idle connections closed; called once a second."""
        if not self._deadline_s or now_s < self._deadline_s or self._active is not None:
            return
        self._deadline_s = 0.0
        if self._lingering or not self._in_head:
            self.transport.close()
        else:
            self._bad_request(408, "the request head took too long")

    def shutdown(self) -> None:
        """The server asks to end: an idle connection closes, a busy one after its answer."""
        if self._active is None:
            self.transport.close()
        else:
            self._active.answer.keep_alive = False


def protocol_class(plane: Plane) -> type[ClientConnection]:
    """The class that `uvicorn.Config(http=…)` takes, bound to one worker's data plane."""
    return type("BoundClientConnection", (ClientConnection,), {"plane": plane})


def _without_upgrade(connection: bytes) -> bytes:
    tokens = [token.strip() for token in connection.split(b",")]
    return b", ".join(token for token in tokens if token.lower() not in (b"upgrade", b"http2-settings"))


def _json(text: str) -> bytes:
    return orjson.dumps(text)
