"""TCP connections that this worker makes: marked, where interception is on, so that the kernel never hands them back to
us as if an application had made them."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Final, TypeAlias

from gateway.dataplane.tags import SocketTags

SO_MARK: Final = getattr(socket, "SO_MARK", 36)
"""asm-generic/socket.h"""
EACH_BUT_LAST_S: Final = 3.0
"""How long an address may take where another one follows."""

Place: TypeAlias = tuple[socket.AddressFamily, str]
"""Family and address."""
Series: TypeAlias = tuple[str, str]
"""Route and target."""


class Dialer:
    """Makes connected sockets. `mark` is set by the link to the agent; 0 = none is wanted."""

    __slots__ = ("mark", "tags")

    def __init__(self) -> None:
        self.mark = 0
        self.tags = SocketTags()

    async def connect(self, host: str, port: int, *, series: Series | None = None) -> socket.socket:
        """To the first address of a host (a name or an address) that takes the connection, for a route and target where
        that is known. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return await self.connect_to([(info[0], str(info[4][0])) for info in found], port, series=series)

    async def connect_to(self, places: Sequence[Place], port: int, *, series: Series | None = None) -> socket.socket:
        """To the first of these that takes the connection. Raises OSError, that of the last one."""
        for place in places[:-1]:
            with contextlib.suppress(OSError):  # TimeoutError is one
                async with asyncio.timeout(EACH_BUT_LAST_S):
                    return await self._open(place, port, series)
        if not places:
            raise OSError("the host has no address")
        return await self._open(places[-1], port, series)

    async def _open(self, place: Place, port: int, series: Series | None) -> socket.socket:
        family, address = place
        sock = self.new_socket(family)
        try:
            if series is not None:
                self.tags.connecting(series, sock)
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def new_socket(self, family: socket.AddressFamily) -> socket.socket:
        """Not yet connected, and marked if need be. Raises PermissionError where the kernel refuses the mark."""
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            if self.mark:
                sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self.mark)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return sock


def may_mark() -> bool:
    """Whether this process may set SO_MARK: CAP_NET_RAW since Linux 5.17, CAP_NET_ADMIN before."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, SO_MARK, 1)
        except PermissionError:
            return False
    return True
