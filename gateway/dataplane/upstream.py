"""Connections to upstreams: one HTTP/1.1 exchange at a time each, kept alive and pooled per origin."""

import asyncio
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import httptools

from gateway.dataplane.request import Headers

MAX_IDLE_PER_ORIGIN = 1024
IDLE_SECONDS = 55.0
"""Below the keep-alive of common servers (nginx 75 s, uvicorn's 5 s is met by the safe-retry rule)."""
MAX_HEAD_BYTES = 256 * 1024
WRITE_HIGH_WATER_BYTES = 256 * 1024


class ResponseSink(Protocol):
    """Who is told of an answer, in this order: `on_head`, any number of `on_body`, then `on_end` or `on_broken`."""

    def on_head(self, status: int, headers: Headers) -> None: ...

    def on_body(self, payload: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_broken(self, reason: str) -> None: ...

    def on_tunnel(self, rest: bytes) -> None:
        """101: from here on the connection is a byte pipe (`data` goes on through `on_body`)."""

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


class UpstreamConnection(asyncio.Protocol):
    """One connection. `sink` is set while an exchange owns it; without one it idles in the pool."""

    __slots__ = (
        "_answered", "_body", "_complete", "_extra", "_head_bytes", "_head_ready", "_head_told", "_headers", "_keep",
        "_parser", "_pool", "_status", "_until_close", "bodiless", "closed", "fresh", "idle_since", "origin", "sink",
        "transport", "tunnel", "write_paused",
    )  # fmt: skip

    def __init__(self, pool: "UpstreamPool", origin: Origin) -> None:
        self._pool = pool
        self.origin = origin
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anyone sees the connection
        self.sink: ResponseSink | None = None
        self.closed = False
        self.fresh = True
        """No exchange has used it yet."""
        self.idle_since = 0.0
        self.write_paused = False
        self.tunnel = False
        self._parser = httptools.HttpResponseParser(self)
        self._reset(bodiless=False)

    def _reset(self, *, bodiless: bool) -> None:
        self.bodiless = bodiless
        self._status = 0
        self._headers: Headers = []
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._head_ready = False
        self._head_told = False
        self._complete = False
        self._extra = False
        self._answered = False
        self._until_close = False
        self._keep = False

    # -- used by the exchange

    def begin(self, sink: ResponseSink, *, bodiless: bool = False) -> None:
        """Start an exchange. `bodiless`: the answer has no body whatever its head says (HEAD)."""
        self._reset(bodiless=bodiless)
        self.sink = sink

    def write(self, payload: bytes) -> None:
        self.transport.write(payload)

    @property
    def answered(self) -> bool:
        """Whether a byte of the answer has arrived: until then a died-in-the-pool connection may be told apart."""
        return self._answered

    def release(self) -> None:
        """The answer is complete: back to the pool, or closed where the peer will not keep it."""
        self.sink = None
        self.fresh = False
        keep = not self.closed and not self._extra and not self._until_close and not self.tunnel
        if keep and self._keep:
            if self.bodiless:
                self._parser = httptools.HttpResponseParser(self)  # it still waits for the body that HEAD never has
            self._pool.give_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once, whatever is on the way: the upstream sees a reset or an end and can stop its work."""
        self.sink = None
        if not self.closed:
            self.transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        sink = self.sink
        if sink is None:
            self._pool.forget(self)
            return
        self.sink = None
        if self.tunnel or (self._until_close and self._head_told and exc is None):
            sink.on_end()
        elif self._answered:
            sink.on_broken(f"closed the connection in mid-answer ({exc or 'end of stream'})")
        else:
            sink.on_broken(f"closed the connection without an answer ({exc or 'end of stream'})")

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            self.abort()  # nobody asked: an answer to nothing must not become the next caller's
            return
        if self.tunnel:
            sink.on_body(data)
            return
        self._answered = True
        if not self._head_ready:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self._body:
                self._fail("sent an endless head")
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._status == 101:
                self.tunnel = True
                sink.on_head(101, self._headers)
                sink.on_tunnel(data[upgrade.args[0] :])
                return
            self._fail("sent an upgrade that was not asked for")
            return
        except httptools.HttpParserError as error:
            if not self._complete:
                self._fail(f"sent what is not HTTP ({error})")
                return
            self._extra = True
        if self._head_ready and not self._head_told:
            self._head_told = True
            if self.bodiless or self._status in (204, 304):
                self._complete = True
            sink.on_head(self._status, self._headers)
        if self._body and self.sink is sink and not self.bodiless:
            body = self._body
            payload = body[0] if len(body) == 1 else b"".join(body)
            body.clear()
            sink.on_body(payload)
        if self._complete and self.sink is sink:
            sink.on_end()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.sink is not None:
            self.sink.on_writable()

    # -- httptools callbacks (they only take notes: an exception in one would be wrapped)

    def on_message_begin(self) -> None:
        if self._complete:
            self._extra = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._complete:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._headers = []
            return
        self._status = status
        self._head_ready = True
        self._keep = self._parser.should_keep_alive()  # llhttp forgets it once the message is complete
        framed = False
        for name, _ in self._headers:
            if name in (b"content-length", b"transfer-encoding"):
                framed = True
        self._until_close = not framed and not self.bodiless and status not in (101, 204, 304)

    def on_body(self, piece: bytes) -> None:
        if not self._complete:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        if self._head_ready:
            self._complete = True

    def _fail(self, reason: str) -> None:
        sink, self.sink = self.sink, None
        self.transport.abort()
        if sink is not None:
            sink.on_broken(reason)


class UpstreamPool:
    """Idle connections per origin, newest first (the oldest are the likeliest to have died)."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: dict[Origin, deque[UpstreamConnection]] = {}

    def take(self, origin: Origin) -> UpstreamConnection | None:
        """An idle connection that is not known to be dead, or None."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.closed and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, origin: Origin, timeout_s: float) -> UpstreamConnection:
        """A new connection. Raises OSError (ssl.SSLError among them) or TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self, origin),
                origin.host,
                origin.port,
                ssl=self._tls if origin.tls else None,
                server_hostname=origin.host if origin.tls else None,
            )
        sock = connection.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        idle = self._idle.setdefault(connection.origin, deque())
        if len(idle) >= MAX_IDLE_PER_ORIGIN:
            connection.abort()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """An idle connection was closed by its peer."""
        idle = self._idle.get(connection.origin)
        if idle:
            try:
                idle.remove(connection)
            except ValueError:
                return

    def expire(self, now_s: float) -> None:
        """Close what has idled for too long; called once a second."""
        for origin, idle in list(self._idle.items()):
            while idle and now_s - idle[0].idle_since > IDLE_SECONDS:
                idle.popleft().abort()
            if not idle:
                del self._idle[origin]

    def close(self) -> None:
        for idle in self._idle.values():
            for connection in list(idle):
                connection.abort()
        self._idle.clear()
