"""The HTTP protocol class that uvicorn runs: data-plane requests are served right here, all others by FastAPI.

One connection, one request at a time: what is pipelined behind it waits, parsed, in a queue that is bounded by pausing
the socket. `request_reader` cuts what comes into requests.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from gateway.dataplane.asgi import AsgiRequest
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.express import ExpressCall, set_out
from gateway.dataplane.flow import ConnectionFlow
from gateway.dataplane.head_memo import MOST_BODY_BYTES, HeadMemo
from gateway.dataplane.listeners import Serves
from gateway.dataplane.plane import Plane
from gateway.dataplane.proxied import proxied_exchange, proxied_operation
from gateway.dataplane.refused_head import refusal
from gateway.dataplane.relay import ClientAnswer
from gateway.dataplane.request import Request, RequestBody
from gateway.dataplane.request_reader import RequestReader
from gateway.dataplane.routing import exchange_for, operation_of
from gateway.dataplane.tags import SocketTag
from gateway.dialects.base import Operation
from gateway.errors import MalformedRequest
from gateway.wire.errors import WireError
from gateway.wire.proxy_preamble import Preamble

if TYPE_CHECKING:
    from gateway.dataplane.intercepted.whose import Identity

log = logging.getLogger("sluicegate.dataplane")

HEAD_SECONDS: Final = 15.0
"""How long a request head may take to arrive."""
IDLE_SECONDS: Final = 75.0
"""Without a request; and how long a client may take nothing of what was written to it."""
BODY_IDLE_SECONDS: Final = 30.0
"""How long nothing of a request body may come."""
BODY_GRACE_SECONDS: Final = 60.0
BODY_LEAST_RATE: Final = 512
"""Bytes a second that a body must have come at once its grace is over."""
AHEAD_BYTES: Final = 256 * 1024
"""What is read of requests that wait behind the one being served."""
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 4 * 1024 * 1024
"""After an answer that closes: what is still on its way is read and dropped, lest a reset destroy the answer."""
WRITE_HIGH_WATER_BYTES: Final = 64 * 1024
MEMO_MISSES: Final = 8
"""A client whose heads differ from call to call is not worth remembering."""
MAX_QUEUED: Final = 64
"""Pipelined requests that may wait on one connection."""


class ClientConnection(asyncio.Protocol):
    """One client connection. `plane` and `serves` are set by the subclass that `protocol_class` makes."""

    __slots__ = (
        "__weakref__", "_active_request", "_ahead_bytes", "_data", "_deadline_s", "_linger_left", "_lingering", "_memo",
        "_memo_misses", "_most_memo_misses", "_poisoned", "_progress_bytes", "_progress_s", "_queue", "_reader",
        "_ready", "_refusal", "_tunnel", "_unsent_bytes", "_unsent_since_s", "_watched", "_watched_since_s", "active",
        "announced", "app_state", "client", "client_ip", "closed", "config", "flow", "known_request", "loop",
        "scheme", "scope", "server", "server_state", "tag", "transport",
    )  # fmt: skip

    plane: ClassVar[Plane]
    serves: ClassVar[Serves]
    express: ClassVar[bool] = True
    """Common calls may go the express way, past `_serve` and `exchange_done`."""
    identity: "Identity | None" = None
    """Whose process the client is, where the kernel has told: of captured connections."""

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
        self.flow: ConnectionFlow = None  # type: ignore[assignment]
        self.client_ip = ""
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = self.scope = "http"
        self.tag: SocketTag = None  # type: ignore[assignment]  # set by connection_made
        self.closed = False
        self.announced: Preamble | None = None
        """What a load balancer said of the connection before it began."""
        settings = self.plane.settings
        self._reader = RequestReader(
            self._new_request,
            self._on_request,
            max_head_bytes=settings.max_head_bytes,
            max_body_bytes=max(settings.max_body_bytes, settings.max_upload_bytes),
            tunnels=self.serves is Serves.PROXY,
        )
        self._queue: list[Request] = []
        self.active: Exchange | AsgiRequest | ExpressCall | None = None
        self._active_request: Request | None = None
        self._tunnel = False
        self._lingering = False
        self._linger_left = LINGER_BYTES
        self._deadline_s = self.loop.time() + HEAD_SECONDS
        self._poisoned = False
        """What comes next cannot be trusted: it is read and dropped."""
        self._refusal: WireError | None = None
        """What to answer to a malformed request once those before it are served."""
        self._ahead_bytes = 0
        self._watched: Request | None = None
        """The request whose body is being looked at for progress."""
        self._watched_since_s = self._progress_s = 0.0
        self._progress_bytes = 0
        self._unsent_bytes = 0
        self._unsent_since_s = 0.0
        self._data = b""
        """What was received last, if a request began with it."""
        self._most_memo_misses = MEMO_MISSES if settings.max_body_bytes >= MOST_BODY_BYTES else 0
        """None where a body that is taken for known could be larger than is allowed."""
        self._memo: HeadMemo | None = None
        self.known_request: Request | None = None
        """That with the head of `_memo`; there while that is."""
        self._ready: HeadMemo | None = None
        """The memo, while nothing stands between the next request and being served: between requests of the express
        way and of well-behaved clients, that is always."""
        self._memo_misses = 0

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self.flow = ConnectionFlow(self.transport)
        self.tag = self.plane.tags.accepted(transport)
        self.client = get_remote_addr(self.transport)
        self.server = get_local_addr(self.transport)
        if self.announced is not None and self.announced.client is not None:
            self.client = self.announced.client
        self.client_ip = self.client[0] if self.client else ""
        self.scheme = self.scope = "https" if is_ssl(self.transport) else "http"
        self.server_state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes
        self.plane.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.plane.tags.forget(self.tag)
        self._ready = None
        self.server_state.connections.discard(self)
        self.plane.connections.discard(self)
        self.flow.resume_writing()
        for request in self._queue:
            request.sink.close()
        self._queue.clear()
        self._reader.close()
        if self.active is not None:
            self.active.client_gone()

    def eof_received(self) -> bool:
        # A half-closed client is told apart from a gone one only inside a tunnel; elsewhere clients that shut down
        # their side after the request are so rare, and those that left so common, that an end is an end (as nginx).
        self.plane.turn.work()  # on what came before
        if self._tunnel and isinstance(self.active, Exchange):
            self.active.client_half_closed()
            return True
        return False

    def data_received(self, data: bytes) -> None:
        turn = self.plane.turn
        turn.arrive(turn.requests, self, data)

    def take(self, data: bytes) -> None:
        """Work on what was received."""
        ready = self._ready
        if ready is not None and self.active is None and ready.snapshot is self.plane.snapshot:
            body = ready.body_of(data)
            if body is not None:
                self._memo_misses = 0
                if not (self.express and set_out(self, ready, body)):
                    self._serve_again(ready, body)
                return
        self._ready = None
        if self._tunnel:
            if isinstance(self.active, Exchange):
                self.active.on_client_bytes(data)
            return
        if self._lingering:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self.transport.abort()
            return
        if self._poisoned:
            return
        reader = self._reader
        at_head = reader.request is None and not reader.head_bytes
        self._data = data if at_head else b""
        if at_head:
            self._deadline_s = self.loop.time() + HEAD_SECONDS
        try:
            rest = reader.feed(data)
        except WireError as error:
            self._start_next()
            self._malformed(error)
            return
        self._start_next()
        if reader.ended:
            self._behind_last(rest)
        elif self._queue:
            self._ahead_bytes += len(data)
            if self._ahead_bytes > AHEAD_BYTES or len(self._queue) >= MAX_QUEUED:
                self.flow.pause_reading()

    def _serve_again(self, memo: HeadMemo, body: bytes) -> None:
        """Serve the memo's request with another body."""
        self._ready = None
        self._deadline_s = 0.0
        request = self.known_request
        assert request is not None
        request.renew(RequestBody.of(body), time.perf_counter_ns())
        self._serve(request, memo.operation)

    def pause_writing(self) -> None:
        self._ready = None
        self.flow.pause_writing()
        if self.active is not None:
            self.active.client_paused()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if self.active is not None:
            self.active.client_resumed()
        elif self._queue:
            self.loop.call_soon(self._start_next)
        else:
            self._get_ready()

    # -- called by the reader

    def _new_request(self) -> Request:
        settings = self.plane.settings
        body = RequestBody(self.flow, settings.data, settings.body_memory_bytes, settings.max_body_bytes)
        return Request(body, time.perf_counter_ns())

    def _on_request(self, request: Request) -> None:
        self._deadline_s = 0.0
        if (request.upgrade or request.method == b"CONNECT") and (self._queue or self.active is not None):
            raise WireError(400, "a request for an upgrade or a tunnel cannot be pipelined")
        self._queue.append(request)

    def _behind_last(self, rest: bytes) -> None:
        """What follows a request that asked for the end of the connection, for an upgrade or for a tunnel."""
        active = self._active_request
        if active is not None and (active.upgrade or active.method == b"CONNECT"):
            self._tunnel = True
            if rest and isinstance(self.active, Exchange):
                self.active.on_client_bytes(rest)
        else:
            self._poisoned = True

    # -- serving

    def _start_next(self) -> None:
        """Serve what waits, if nothing is being served: called when the parser has done with what was received."""
        if self.active is not None or not self._queue or self.closed or self.flow.write_paused:
            return
        request = self._queue.pop(0)
        if not self._queue:  # read on only now: a read may bring thousands of requests
            self._ahead_bytes = 0
            self.flow.resume_reading()
        data, self._data = self._data, b""
        if self.serves is Serves.PROXY:
            data = b""  # who asks is found out anew for each request: no head is remembered
        operation = self.find_operation(request)
        self._memo = self.known_request = None
        if operation is not None and data and self._memo_misses < self._most_memo_misses and not self._queue:
            self._memo_misses += 1
            if self._know(data, request, operation):
                return
        self._serve(request, operation)

    def _know(self, data: bytes, request: Request, operation: Operation) -> bool:
        """Look for the head among those that are known, or begin to know it. Whether the call is on its express way."""
        plane = self.plane
        memo = plane.heads.memo_of(data, request, operation, plane.snapshot, self.client_ip, self.scope)
        if memo is None:
            return False
        self._memo, self.known_request, request.known = memo, request, memo
        if not memo.shared:
            return False
        self._memo_misses = 0
        body = memo.body_of(data) if self.express else None
        if body is None:
            return False
        self._get_ready()
        if self._ready is not None and set_out(self, memo, body):
            request.body.close()  # what comes of the call has it
            return True
        self._ready = None
        return False

    def _serve(self, request: Request, operation: Operation | None) -> None:
        self._active_request = request
        exchange = self.make_exchange(request, operation)
        self.active = exchange
        if isinstance(exchange, Exchange):
            self.plane.exchanges.add(exchange)
        exchange.start()

    def find_operation(self, request: Request) -> Operation | None:
        """The dialect's operation that is asked for; None where it is something else."""
        if self.serves is Serves.PROXY:
            return proxied_operation(self.plane, request)
        return None if self.serves is Serves.ADMIN else operation_of(self.plane, request)

    def make_exchange(self, request: Request, operation: Operation | None) -> Exchange | AsgiRequest:
        """Who serves it."""
        if self.serves is Serves.PROXY:
            return proxied_exchange(self.plane, self, request, operation)
        return exchange_for(self.plane, self, request, operation)

    def exchange_done(self, done: "Exchange | AsgiRequest") -> None:
        """The active request is served: go on with the next one, or close as its answer said."""
        request = self._active_request
        self.active = self._active_request = None
        self.server_state.total_requests += 1
        if self.closed or request is None:
            return
        if not done.answer.keep_alive or self._tunnel or (self._reader.ended and not self._queue):
            self._close(linger=not request.sink.complete)
            return
        if not request.sink.complete:
            self._close(linger=True)
            return
        self._go_on()

    def replace_active(self, exchange: Exchange) -> None:
        """The active express call goes on as another exchange."""
        self.active, self._active_request = exchange, exchange.request
        self._ready = None
        self._deadline_s = 0.0

    def express_done(self, now_s: float) -> None:
        """`exchange_done` of a call that was served whole, on a connection that lives on. `now_s`: event-loop time."""
        self.active = None
        if self._ready is not None:  # nothing else has happened meanwhile
            self._deadline_s = now_s + IDLE_SECONDS
        elif not self.closed:
            self._go_on()

    def _go_on(self) -> None:
        """The connection lives on: serve what waits, or idle."""
        # An answer that promised to keep the connection is never followed by a close at once, drain or not.
        idle_s = self.plane.idle_grace_s if self.plane.draining else IDLE_SECONDS
        self._deadline_s = self.loop.time() + (HEAD_SECONDS if self._reader.head_bytes else idle_s)
        if self._queue:
            self.loop.call_soon(self._start_next)
        elif self._refusal is not None:
            self._answer_malformed(self._refusal)
        elif self._poisoned:
            self._close(linger=False)
        else:
            self.flow.resume_reading()
            self._get_ready()

    def _get_ready(self) -> None:
        """Nothing is being served and nothing waits: what comes next may be the last head once more."""
        reader = self._reader
        between = reader.request is None and not reader.head_bytes and not reader.ended
        if between and not (self.flow.write_paused or self._poisoned or self._lingering or self._tunnel):
            memo = self._memo
            if memo is not None and not memo.shared and memo.snapshot is self.plane.snapshot:
                assert self.known_request is not None
                memo = self._memo = self.known_request.known = self.plane.heads.share(memo)
            self._ready = memo

    def _close(self, *, linger: bool) -> None:
        self.plane.turn.flush()
        if not linger or self.transport.is_closing():
            self._deadline_s = self.loop.time() + IDLE_SECONDS
            self.transport.close()
            return
        self._lingering = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline_s = self.loop.time() + LINGER_SECONDS

    def _malformed(self, error: WireError) -> None:
        """Answer what is no request and close: nothing after it on this connection can be trusted."""
        self._poisoned = True
        self.plane.counted["malformed"] += 1
        reader = self._reader
        if reader.in_body and reader.request is not None:
            reader.request.sink.refuse(MalformedRequest(error.status, error.message))  # whoever serves it says so
        elif self.active is not None or self._queue:
            self._refusal = error  # the answers before it go out first
        else:
            self._answer_malformed(error)

    def _answer_malformed(self, error: WireError) -> None:
        self._write_refusal(error)
        self._close(linger=True)

    def refuse_body(self, error: MalformedRequest, *, started: bool) -> None:
        """FastAPI's request has a body that cannot be read: said here, since the application takes its client for
        gone."""
        if not started:
            self._write_refusal(WireError(error.status, error.message))

    def _write_refusal(self, error: WireError) -> None:
        request = self._reader.request
        answer = ClientAnswer(
            self, http10=False, head_only=request is not None and request.method == b"HEAD", keep_alive=False
        )
        answer.whole(error.status, *refusal(error, request, self.plane.ids.make(time.time_ns())))

    # -- ClientWriter

    def write(self, payload: bytes) -> None:
        if not self.closed:
            self.plane.turn.post(self.transport, payload)

    def writelines(self, payloads: list[bytes]) -> None:
        if not self.closed:
            self.plane.turn.post(self.transport, b"".join(payloads))

    def abort(self) -> None:
        """End the connection at once. What was written before goes out if the socket takes it."""
        if not self.closed:
            self.plane.turn.flush()
            self.transport.close() if self.transport.get_write_buffer_size() == 0 else self.transport.abort()

    # -- deadlines and shutdown

    def check_deadlines(self, now_s: float) -> None:
        """Slow heads and bodies are answered 408, idle connections closed; called once a second."""
        self._check_unsent(now_s)
        if self._reader.in_body and not self._lingering and not self._poisoned:
            self._check_body(now_s)
        if not self._deadline_s or now_s < self._deadline_s or self.active is not None:
            return
        self._deadline_s = 0.0
        if self._lingering or not self._reader.head_bytes:
            self._close(linger=False)
        else:
            self._malformed(WireError(408, "the request head took too long"))

    def _check_body(self, now_s: float) -> None:
        """A body must come on, and on average at a modem's pace at least, as long as we read."""
        reader = self._reader
        request = reader.request
        if request is None:
            return
        if request is not self._watched:
            self._watched, self._watched_since_s, self._progress_s = request, now_s, now_s
            self._progress_bytes = reader.body_bytes
        elif self.flow.read_paused:
            self._watched_since_s += now_s - self._progress_s
            self._progress_s = now_s
        elif reader.body_bytes > self._progress_bytes:
            self._progress_s, self._progress_bytes = now_s, reader.body_bytes
        allowed_s = BODY_GRACE_SECONDS + reader.body_bytes / BODY_LEAST_RATE
        if now_s - self._progress_s > BODY_IDLE_SECONDS or now_s - self._watched_since_s > allowed_s:
            self._malformed(WireError(408, "the request body came too slowly"))

    def _check_unsent(self, now_s: float) -> None:
        """A client that takes nothing of its answers holds no memory of ours. While an exchange runs, its route's idle
        timeout decides."""
        unsent = self.transport.get_write_buffer_size()
        took = unsent < self._unsent_bytes or not self._unsent_bytes
        if took or not unsent or isinstance(self.active, Exchange | ExpressCall):
            self._unsent_since_s = now_s
        elif now_s - self._unsent_since_s > IDLE_SECONDS:
            self.transport.abort()
        self._unsent_bytes = unsent

    def shutdown(self) -> None:
        """The server asks to end: an idle connection closes after a moment's grace, a busy one after its answer."""
        active = self.active
        if active is None:
            if not (self._reader.head_bytes or self._lingering or self._queue):
                grace_s = self.loop.time() + self.plane.idle_grace_s
                self._deadline_s = min(self._deadline_s or grace_s, grace_s)
        elif not active.answer.started:
            active.answer.keep_alive = False


def protocol_class(plane: Plane, serves: Serves) -> type[ClientConnection]:
    """The class of all connections to one listener of a worker."""
    return type("BoundClientConnection", (ClientConnection,), {"__slots__": (), "plane": plane, "serves": serves})
