"""The far end of a CONNECT tunnel: bytes both ways, each side as fast as the other, ends and resets passed on."""

import asyncio
import socket
import struct
from typing import Final, Protocol

WRITE_HIGH_WATER_BYTES: Final = 256 * 1024
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends RST."""


class TunnelEnd(Protocol):
    """Who is told of what the far end does."""

    def on_peer_bytes(self, payload: bytes) -> None: ...

    def on_peer_half_closed(self) -> None: ...

    def on_peer_gone(self, *, reset: bool) -> None: ...

    def on_peer_writable(self) -> None: ...


class _Nobody:
    """Of a connection that was left."""

    def on_peer_bytes(self, payload: bytes) -> None:
        return

    def on_peer_half_closed(self) -> None:
        return

    def on_peer_gone(self, *, reset: bool) -> None:
        return

    def on_peer_writable(self) -> None:
        return


_NOBODY: Final = _Nobody()


class TunnelPeer(asyncio.Protocol):
    """The connection to where a tunnel leads."""

    def __init__(self, end: TunnelEnd) -> None:
        self._end = end
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anyone sees the peer
        self.write_paused = False
        self.half_closed = False
        """It will send no more."""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._end.on_peer_bytes(data)

    def eof_received(self) -> bool:
        self.half_closed = True
        self._end.on_peer_half_closed()
        return self.transport.get_extra_info("sslcontext") is None  # TLS knows no half-closed connection here

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._end.on_peer_gone(reset=exc is not None)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self._end.on_peer_writable()

    def end_sending(self) -> None:
        if not self.closed and not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()

    def leave(self) -> None:
        """Close it, and hear no more of it."""
        self._end = _NOBODY
        self.transport.close()

    def close(self, *, reset: bool) -> None:
        if self.closed:
            return
        if reset:
            reset_on_close(self.transport)
            self.transport.abort()
        else:
            self.transport.close()


def reset_on_close(transport: asyncio.Transport) -> None:
    """Whoever is on the other side shall see a reset, as we did."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except OSError:
            return  # gone already
