"""A new connection to an upstream: DNS, TCP, an HTTP proxy on the way, TLS as the provider wants it.

Whoever calls sets the time limit; it covers every step.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.dataplane.dialer import Dialer, Series
from gateway.dataplane.proxies import ProxyError, ProxyServer
from gateway.policy.model import UpstreamTls

if TYPE_CHECKING:
    from gateway.dataplane.upstream import Origin

LONGEST_REPLY_BYTES: Final = 16 * 1024

Made = TypeVar("Made", bound=asyncio.Protocol)


def tls_context(tls: UpstreamTls | None) -> ssl.SSLContext:
    """What a provider's `tls` asks for; None = the system's authorities. Raises ssl.SSLError for what cannot be used.

    Reads the authorities from disk: tens of milliseconds, so call it in a thread.
    """
    if tls is None:
        return ssl.create_default_context()
    context = ssl.create_default_context(cadata=tls.ca)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None and tls.key is not None:
        # OpenSSL reads a chain from files only; this one is in memory and has no name.
        descriptor = os.memfd_create("client-certificate")
        try:
            os.write(descriptor, (tls.cert + tls.key).encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context


async def dial(
    dialer: Dialer,
    origin: "Origin",
    proxy: ProxyServer | None,
    context: ssl.SSLContext,
    server_name: str,
    make: Callable[[], Made],
    series: Series | None = None,
) -> Made:
    """A connected protocol. `series`: route and target that it is for. Raises OSError (ssl.SSLError and ProxyError
    among them)."""
    loop = asyncio.get_running_loop()
    if proxy is None:
        sock = await dialer.connect(origin.host, origin.port, series=series)
        _, made = await over(sock, make, context if origin.tls else None, server_name if origin.tls else None)
    elif not origin.tls:
        _, made = await _to_proxy(dialer, proxy, make, series)
    else:
        tunnel = await _tunnel(dialer, origin, proxy, series)
        made = make()
        try:
            secured = await loop.start_tls(tunnel, made, context, server_hostname=server_name)
        except BaseException:
            tunnel.abort()
            raise
        if secured is None:
            raise ProxyError("the connection ended before it was encrypted")
        made.connection_made(secured)
    return made


async def over(
    sock: socket.socket, make: Callable[[], Made], context: ssl.SSLContext | None, server_name: str | None
) -> tuple[asyncio.Transport, Made]:
    """A protocol over a connected socket, which is closed where that fails."""
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_connection(make, sock=sock, ssl=context, server_hostname=server_name)
    except BaseException:
        sock.close()
        raise


async def _to_proxy(
    dialer: Dialer, proxy: ProxyServer, make: Callable[[], Made], series: Series | None
) -> tuple[asyncio.Transport, Made]:
    if proxy.unusable:
        raise ProxyError(proxy.unusable)
    context = await asyncio.to_thread(ssl.create_default_context) if proxy.tls else None
    try:
        sock = await dialer.connect(proxy.host, proxy.port, series=series)
        return await over(sock, make, context, proxy.host if proxy.tls else None)
    except OSError as error:
        raise ProxyError(f"the proxy {proxy.host}:{proxy.port}: {error.strerror or error}") from error


async def _tunnel(dialer: Dialer, origin: "Origin", proxy: ProxyServer, series: Series | None) -> asyncio.Transport:
    """CONNECT (RFC 9110 9.3.6)."""
    transport, reply = await _to_proxy(dialer, proxy, _Reply, series)
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    place = f"{host}:{origin.port}".encode()
    transport.write(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (place, place, proxy.lines))
    try:
        await reply.established
    except BaseException:
        transport.abort()
        raise
    return transport


class _Reply(asyncio.Protocol):
    """Reads the proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._read = b""

    def data_received(self, data: bytes) -> None:
        if self.established.done():
            return
        self._read += data
        head, end, rest = self._read.partition(b"\r\n\r\n")
        if not end:
            if len(self._read) > LONGEST_REPLY_BYTES:
                self._fail("the proxy sent an endless head")
            return
        words = head.split(b"\r\n", 1)[0].split(b" ", 2)
        if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            self._fail("the proxy sent what is not HTTP")
        elif not 200 <= int(words[1]) < 300:
            self._fail(f"the proxy answered {int(words[1])} to CONNECT")
        elif rest:
            self._fail("the proxy sent bytes of its own into the tunnel")
        else:
            self.established.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the proxy closed the connection")

    def _fail(self, reason: str) -> None:
        if not self.established.done():
            self.established.set_exception(ProxyError(reason))
            self.established.exception()  # seen, even if the connect timeout has come first
