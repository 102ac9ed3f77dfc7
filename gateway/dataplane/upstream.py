"""Connections to upstreams: one HTTP/1.1 exchange at a time each, kept alive and pooled per origin."""

import asyncio
import contextlib
import enum
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from errno import ECONNRESET
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

from gateway.dataplane.dialer import Dialer, Series
from gateway.dataplane.dialing import dial, tls_context
from gateway.dataplane.forwarding import MODEL_RESPONSE_DROP
from gateway.dataplane.proxies import EnvironmentProxies, ProxyServer, choose
from gateway.dataplane.tags import SocketTag
from gateway.dataplane.turn import Turn
from gateway.policy.model import Provider, UpstreamTls
from gateway.wire.answer_head import AnswerHead, AnswerHeads
from gateway.wire.chunked import ChunkedDecoder, one_chunk
from gateway.wire.errors import WireError

log = logging.getLogger("sluicegate.dataplane")

MAX_IDLE_PER_ORIGIN = 1024
IDLE_SECONDS = 55.0
"""Below the keep-alive of common servers (nginx 75 s, uvicorn's 5 s is met by the safe-retry rule)."""
NO_GAPS = -1.0
"""No lane was offered."""
MAX_HEAD_BYTES = 256 * 1024
MAX_INTERIM = 64
"""Answers of status 1xx before the final one."""
WRITE_HIGH_WATER_BYTES = 256 * 1024
_heads = AnswerHeads(MODEL_RESPONSE_DROP)


class ResponseSink(Protocol):
    """Who is told of an answer, in this order: `on_head`, any number of `on_body`, then `on_end` or `on_broken`."""

    def on_interim(self, head: AnswerHead) -> None:
        """A 1xx answer other than 101; the final one is still to come."""

    def on_head(self, head: AnswerHead) -> None: ...

    def on_whole(self, head: AnswerHead, body: bytes) -> None:
        """The three at once: head, body and end came in one read."""

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        """`framed`: the same payload as it came, where that is complete, plain chunks and nothing else."""

    def on_end(self) -> None: ...

    def on_broken(self, reason: str) -> None: ...

    def on_tunnel(self, rest: bytes) -> None:
        """101: from here on the connection is a byte pipe (bytes go on through `on_body`)."""

    def on_writable(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a provider's base URL leads, cut once a snapshot."""

    tls: bool
    host: str
    port: int
    prefix: bytes
    """Path of the base URL without its trailing slash."""

    @property
    def authority(self) -> bytes:
        """The value of Host: the port is left out where it is the scheme's own (RFC 9110 4.2.1)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}").encode()


def origin_of(base_url: str) -> Origin:
    """Raises ValueError for anything but http(s)://host[:port][/path]."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{base_url!r} is not an http or https URL")
    tls = parts.scheme == "https"
    return Origin(tls, parts.hostname, parts.port or (443 if tls else 80), parts.path.rstrip("/").encode())


Lane: TypeAlias = tuple[Callable[[bytes], bytes | None], asyncio.Transport, Callable[[bytes], None]]
"""What a chunk's payload is fed to; where the chunk then goes as it came, where the answer is None; and what
gets the payload that takes its place otherwise."""


class _Framing(enum.IntEnum):
    """How the end of the body is known (RFC 9112 6.3)."""

    HEAD = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_CLOSE = 3
    TUNNEL = 4


_HEAD, _CHUNKED, _LENGTH = _Framing.HEAD, _Framing.CHUNKED, _Framing.LENGTH


class UpstreamConnection(asyncio.Protocol):
    """One connection. `sink` is set while an exchange owns it; without one it idles in the pool.

    Heads are read by `wire.answer_head`; bodies are framed here: a read that holds whole chunks costs a fraction of a
    parser's callbacks.
    """

    __slots__ = (
        "_decoder", "_framing", "_held", "_interim", "_keep", "_lane", "_last_read_s", "_left", "_offered_lane",
        "_pool", "_turn", "answered", "bodiless", "closed", "fresh", "idle_since", "longest_gap_s", "read_paused",
        "sink", "stirred", "tag", "transport", "write_paused",
    )  # fmt: skip

    def __init__(self, pool: "OriginPool") -> None:
        self._pool = pool
        self._turn = pool.turn
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anyone sees the connection
        self.sink: ResponseSink | None = None
        self.tag: SocketTag = None  # type: ignore[assignment]  # set by connection_made
        self.closed = False
        self.fresh = True
        """No exchange has used it yet."""
        self.idle_since = 0.0
        self.read_paused = False
        self.write_paused = False
        # of the answer under way
        self.bodiless = False
        self.answered = False
        """A byte of the answer has arrived: without one, a connection that ends may have died in the pool."""
        self._framing = _Framing.HEAD
        self._held = b""
        self._interim = 0
        self._keep = False
        self._left = 0
        self._decoder: ChunkedDecoder | None = None
        self._lane: Lane | None = None
        """What whole chunks go through, while a chunk's beginning is due."""
        self._offered_lane: Lane | None = None
        self.stirred = False
        """Something has gone through the lane since the sink looked last."""
        self.longest_gap_s = NO_GAPS
        """Between two reads of this answer, from when a lane was offered on."""
        self._last_read_s = 0.0

    # -- used by the exchange

    def begin(self, sink: ResponseSink, *, bodiless: bool = False) -> None:
        """Start an exchange. `bodiless`: the answer has no body whatever its head says (HEAD)."""
        self.bodiless = bodiless
        self.answered = False
        self.sink = sink

    def write(self, payload: bytes) -> None:
        self._turn.post(self.transport, payload)

    def pause_reading(self) -> None:
        """The client is slower than the upstream."""
        self.read_paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.read_paused = False
        self.transport.resume_reading()

    def offer_lane(self, lane: "Lane | None") -> None:
        """From here on whole chunks pass the sink by; it gets all else. An event of a paced stream then touches a third
        of the objects, of which those of other streams have mostly left the processor's cache."""
        self._offered_lane = lane
        self._lane = lane if self._decoder is not None and self._decoder.between else None
        if lane is not None:
            self._last_read_s, self.longest_gap_s = self._turn.now_s, 0.0

    @property
    def trailers(self) -> list[bytes]:
        """Lines of the trailer section, once a chunked answer has ended."""
        return self._decoder.trailers if self._framing is _Framing.CHUNKED and self._decoder is not None else []

    def release(self) -> None:
        """The answer is complete: back to the pool, or closed where the peer will not keep it."""
        self.sink = None
        if not self._keep or self.closed:
            self.abort()
            return
        self.fresh = False
        if self.read_paused:  # a client that is slow with the last piece: the next caller's answer must be read
            self.resume_reading()
        if self._framing is not _HEAD or self._interim or self.bodiless:
            self._framing, self._interim, self.bodiless = _HEAD, 0, False
            self._lane = self._offered_lane = None
            self.stirred = False
        self._pool.give_back(self)

    def abort(self) -> None:
        """Close at once, whatever is on the way: the upstream sees a reset or an end and can stop its work."""
        self.sink = self._lane = self._offered_lane = None
        if not self.closed:
            self.transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self.tag = self._pool.dialer.tags.connected(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._pool.dialer.tags.forget(self.tag)
        self._lane = self._offered_lane = None
        sink, self.sink = self.sink, None
        if sink is None:
            self._pool.forget(self)
        elif self._framing is _Framing.TUNNEL or (self._framing is _Framing.UNTIL_CLOSE and exc is None):
            self._keep = False
            sink.on_end()
        elif self.answered:
            sink.on_broken(f"closed the connection in mid-answer ({_cause(exc)})")
        else:
            sink.on_broken(f"closed the connection without an answer ({_cause(exc)})")

    def eof_received(self) -> bool:
        self._turn.work()  # on what came before
        return False

    def data_received(self, data: bytes) -> None:
        if self.sink is None:
            self.abort()  # nobody asked: an answer to nothing must not become the next caller's
        else:
            turn = self._turn
            turn.arrive(turn.answers, self, data)

    def take(self, data: bytes) -> None:
        """Work on what was received."""
        lane = self._lane
        if lane is not None:
            payload = one_chunk(data)
            if payload is not None:  # as an event of a paced stream comes
                self.stirred = True
                now_s = self._turn.now_s
                gap_s = now_s - self._last_read_s
                if gap_s > self.longest_gap_s:
                    self.longest_gap_s = gap_s
                self._last_read_s = now_s
                feed, transport, otherwise = lane
                edited = feed(payload)
                if edited is None:
                    self._turn.post(transport, data)
                else:
                    otherwise(edited)
                return
        sink = self.sink
        if sink is None:  # whoever asked has left
            self.abort()
            return
        framing = self._framing
        if framing is _CHUNKED:
            if lane is None and self._decoder.between:  # type: ignore[union-attr]  # set with the framing
                payload = one_chunk(data)
                if payload is not None:
                    sink.on_body(payload, data)
                    return
            self._read_chunks(sink, data)
        elif framing is _HEAD:
            self._read_head(sink, data)
        elif framing is _LENGTH:
            self._read_length(sink, data)
        else:
            sink.on_body(data, None)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.sink is not None:
            self.sink.on_writable()

    # -- reading the answer

    def _read_head(self, sink: ResponseSink, data: bytes) -> None:
        self.answered = True
        if self._held:
            data = self._held + data
            self._held = b""
        while True:
            head_end = data.find(b"\r\n\r\n")
            if head_end < 0:
                self._held = data
                if len(data) > MAX_HEAD_BYTES:
                    self._fail(sink, "sent an endless head")
                return
            try:
                head = _heads.read(data[:head_end])
            except WireError as error:
                self._fail(sink, f"sent what is not HTTP ({error.message})")
                return
            rest = data[head_end + 4 :]
            if head.plain and head.length == len(rest) and not self.bodiless:
                self._keep = head.keep
                sink.on_whole(head, rest)  # as most plain answers come: head and body in one read
                return
            if head.status >= 200 or head.status == 101:
                self._take_head(sink, head, rest)
                return
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._fail(sink, "sent interim answers without end")
                return
            sink.on_interim(head)
            if not rest or self.sink is not sink:
                return
            data = rest

    def _take_head(self, sink: ResponseSink, head: AnswerHead, rest: bytes) -> None:
        """The final head is there, and `rest` behind it."""
        status, length = head.status, head.length
        self._keep = head.keep
        self.longest_gap_s = NO_GAPS
        if status == 101:
            self._framing = _Framing.TUNNEL
            self._keep = False
            sink.on_head(head)
            heir = self.sink
            if heir is not None:
                heir.on_tunnel(rest)
            return
        if self.bodiless or status == 204 or status == 304:
            self._framing, self._left = _Framing.LENGTH, 0
        elif length is not None:
            if length == len(rest):
                sink.on_whole(head, rest)
                return
            self._framing, self._left = _Framing.LENGTH, length
        elif head.chunked:
            self._framing = _Framing.CHUNKED
            self._decoder = ChunkedDecoder()
        else:
            self._framing = _Framing.UNTIL_CLOSE
            self._keep = False
        sink.on_head(head)
        if self.sink is None:
            return
        sink = self.sink  # an express call has become the exchange that it would have been
        if self._framing is _Framing.CHUNKED:
            if rest:
                self._read_chunks(sink, rest)
        elif self._framing is _Framing.LENGTH:
            self._read_length(sink, rest)
        elif rest:
            sink.on_body(rest, None)

    def _read_length(self, sink: ResponseSink, data: bytes) -> None:
        left = self._left - len(data)
        if left < 0:
            data = data[:left]
            self._keep = False  # more than it promised: whatever that is, it is nobody's answer
        self._left = max(0, left)
        if data:
            sink.on_body(data, None)
        if left <= 0 and self.sink is sink:
            sink.on_end()

    def _read_chunks(self, sink: ResponseSink, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        try:
            payload = decoder.feed(data)
        except WireError as error:
            self._fail(sink, f"sent what is not a chunked body ({error.message})")
            return
        if payload:
            sink.on_body(payload, data if decoder.whole else None)
        if self._offered_lane is not None:
            self._lane = self._offered_lane if decoder.between else None
            now_s = self._turn.now_s
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._last_read_s)
            self._last_read_s = now_s
        if decoder.done and self.sink is sink:
            if decoder.rest:
                self._keep = False
            sink.on_end()

    def _fail(self, sink: ResponseSink, reason: str) -> None:
        self.sink = None
        self.transport.abort()
        sink.on_broken(reason)


def _cause(exc: Exception | None) -> str:
    """Why a connection ended, in words that may go to a client."""
    if exc is None:
        return "end of stream"
    if isinstance(exc, OSError):
        return exc.strerror or type(exc).__name__
    log.error("an answer could not be handled", exc_info=exc)
    return "internal error"


@dataclass(frozen=True, slots=True)
class Way:
    """How an origin is reached. Connections are shared by whoever goes exactly this way."""

    origin: Origin
    proxy: ProxyServer | None = None
    tls: UpstreamTls | None = None


class OriginPool:
    """Idle connections one way, newest first: the oldest are the likeliest to have died."""

    __slots__ = ("_idle", "_tls", "_way", "absolute", "dialer", "lines", "origin", "retired", "turn")

    def __init__(self, way: Way, tls: ssl.SSLContext | None, turn: Turn, dialer: Dialer) -> None:
        """`tls`: None = made at the first connection, as the way's `tls` wants it."""
        self._way = way
        self.turn = turn
        self.dialer = dialer
        origin = self.origin = way.origin
        self._tls = tls
        self._idle: list[UpstreamConnection] = []
        self.retired = False
        """Nobody is configured to go this way any more: what comes back is closed."""
        through_proxy = way.proxy is not None and not origin.tls
        self.absolute = b"http://" + origin.authority if through_proxy else b""
        """Stands before the path in a request line: a proxy is asked in absolute form (RFC 9112 3.2.2)."""
        self.lines = way.proxy.lines if through_proxy and way.proxy is not None else b""
        """Header lines for the proxy alone."""

    def take(self) -> UpstreamConnection | None:
        """An idle connection that is not known to be dead, or None."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.closed and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, timeout_s: float, series: Series | None = None) -> UpstreamConnection:
        """A new connection, for a route and target where that is known. Raises OSError (ssl.SSLError among them) or
        TimeoutError."""
        way, name = self._way, self.origin.host
        if way.tls is not None and way.tls.server_name is not None:
            name = way.tls.server_name
        async with asyncio.timeout(timeout_s):
            if self._tls is None:
                self._tls = await asyncio.to_thread(tls_context, way.tls)
            connection = await dial(
                self.dialer, self.origin, way.proxy, self._tls, name, lambda: UpstreamConnection(self), series
            )
        if connection.closed or connection.transport.is_closing():
            raise ConnectionResetError(ECONNRESET, "closed at once, or answered before it was asked")
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        if len(self._idle) >= MAX_IDLE_PER_ORIGIN or self.retired:
            connection.abort()
            return
        connection.idle_since = 0.0
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """An idle connection was closed by its peer."""
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def expire(self, now_s: float) -> None:
        """Close what has idled for too long. Called once a second: what is new to it begins to idle now."""
        for connection in self._idle:
            if not connection.idle_since:
                connection.idle_since = now_s
        kept = [connection for connection in self._idle if now_s - connection.idle_since <= IDLE_SECONDS]
        if len(kept) < len(self._idle):
            stale = [connection for connection in self._idle if now_s - connection.idle_since > IDLE_SECONDS]
            self._idle = kept
            for connection in stale:
                connection.abort()

    def close(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()


class Upstreams:
    """The pools of all providers, kept over snapshots: a way that is configured again keeps its connections."""

    def __init__(self, tls: ssl.SSLContext, environment: EnvironmentProxies | None = None) -> None:
        self._tls = tls
        self.turn = Turn()
        self.dialer = Dialer()
        self._environment = environment or EnvironmentProxies()
        self._pools: dict[Way, OriginPool] = {}
        self._by_provider: dict[int, tuple[Provider, OriginPool]] = {}
        """By the identity of the provider, of the snapshot in force."""

    def of(self, provider: Provider) -> OriginPool:
        found = self._by_provider.get(id(provider))
        if found is not None and found[0] is provider:
            return found[1]
        way = self._way(provider)
        pool = self._pools.get(way)
        if pool is None:
            pool = self._pools[way] = OriginPool(way, self._tls if way.tls is None else None, self.turn, self.dialer)
        self._by_provider[id(provider)] = (provider, pool)
        return pool

    def keep(self, providers: Iterable[Provider]) -> None:
        """A new snapshot is in force: what leads to none of its providers is closed."""
        self._by_provider.clear()
        ways = {self._way(provider) for provider in providers}
        for way in [way for way in self._pools if way not in ways]:
            pool = self._pools.pop(way)
            pool.retired = True
            pool.close()

    def _way(self, provider: Provider) -> Way:
        origin = origin_of(provider.base_url)
        proxy = choose(provider.proxy, self._environment, origin.host, origin.port, tls=origin.tls)
        return Way(origin, proxy, provider.tls)

    def expire(self, now_s: float) -> None:
        """Called once a second."""
        for pool in self._pools.values():
            pool.expire(now_s)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
