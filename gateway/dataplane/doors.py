"""How connections come in: a listening socket, what may stand before HTTP on it, and the protocol that then serves.

Plain and TLS listeners are asyncio's own servers. Where a load balancer sends a PROXY preamble, or where TLS is a
matter of each connection's first byte (the forward proxy), the connection is accepted and that much of it read here,
and not a byte more: TLS takes over a socket, not bytes that somebody else has read.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from gateway.wire.errors import WireError
from gateway.wire.proxy_preamble import Preamble, PreambleReader

log = logging.getLogger("sluicegate.dataplane")

BACKLOG: Final = 4096
PREAMBLE_SECONDS: Final = 5.0
HANDSHAKE_SECONDS: Final = 15.0
ACCEPTED_AT_ONCE: Final = 64
NO_DESCRIPTOR_PAUSE_S: Final = 0.1
TLS_RECORD: Final = b"\x16"
"""First byte of a ClientHello."""

Factory = Callable[[Preamble | None], asyncio.Protocol]
"""Makes the protocol of one connection; the preamble that it began with, if any."""


class Door(Protocol):
    """An open listener, as uvicorn's server closes it."""

    def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


async def open_door(
    sock: socket.socket, factory: Factory, tls: ssl.SSLContext | None, *, preamble: bool, tls_optional: bool
) -> Door:
    """Serve a listening socket. `tls_optional`: both TLS and plain connections are taken."""
    if preamble or (tls_optional and tls is not None):
        return Porter(sock, factory, tls, preamble=preamble, tls_optional=tls_optional)
    loop = asyncio.get_running_loop()
    handshake_s = None if tls is None else HANDSHAKE_SECONDS
    return await loop.create_server(
        lambda: factory(None), sock=sock, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=handshake_s
    )


class Porter:
    """Accepts connections and lets them in once their beginning is known."""

    def __init__(
        self, sock: socket.socket, factory: Factory, tls: ssl.SSLContext | None, *, preamble: bool, tls_optional: bool
    ) -> None:
        self._sock = sock
        self._factory = factory
        self._tls = tls
        self._preamble = preamble
        self._tls_optional = tls_optional
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Task[None]] = set()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    async def wait_closed(self) -> None:
        if self._waiting:
            await asyncio.wait(self._waiting)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("a connection cannot be accepted", extra={"error": str(error)})
                self._pause()
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._let_in(connection, peer))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    def _pause(self) -> None:
        """No descriptors are left: asking again at once would only heat the processor."""
        number = self._sock.fileno()
        self._loop.remove_reader(number)
        self._loop.call_later(NO_DESCRIPTOR_PAUSE_S, self._resume, number)

    def _resume(self, number: int) -> None:
        if self._sock.fileno() == number:
            self._loop.add_reader(number, self._accept)

    async def _let_in(self, connection: socket.socket, peer: object) -> None:
        try:
            async with asyncio.timeout(PREAMBLE_SECONDS):
                preamble = await self._read_preamble(connection) if self._preamble else None
                tls = self._tls
                if tls is not None and self._tls_optional and not await self._begins_with_tls(connection):
                    tls = None
            await self._loop.connect_accepted_socket(
                lambda: self._factory(preamble),
                connection,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_SECONDS,
            )
        except WireError as error:
            log.warning("connection refused", extra={"peer": str(peer), "reason": error.message})
            connection.close()
        except (OSError, TimeoutError, EOFError):  # a failed handshake is an ssl.SSLError, and that an OSError
            connection.close()

    async def _read_preamble(self, connection: socket.socket) -> Preamble:
        reader = PreambleReader()
        while True:
            piece = await self._loop.sock_recv(connection, reader.wanted)
            if not piece:
                raise EOFError
            preamble = reader.feed(piece)
            if preamble is not None:
                return preamble

    async def _begins_with_tls(self, connection: socket.socket) -> bool:
        while True:
            try:
                first = connection.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                await self._readable(connection)
                continue
            if not first:
                raise EOFError
            return first == TLS_RECORD

    async def _readable(self, connection: socket.socket) -> None:
        readable: asyncio.Future[None] = self._loop.create_future()
        number = connection.fileno()
        self._loop.add_reader(number, _set, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(number)


def _set(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)
