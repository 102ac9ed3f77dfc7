"""Tags of this worker's sockets, for the kernel's probes: which route and target their packets belong to now.

An array that the agent's probes made, mapped into our memory: an entry for each value of a socket cookie's low bits,
with the cookie, the series (a number for route and target) and when a client's connection was accepted. A tag is a
store, and costs no system call. Layout: `struct tag` of bpf/routes.c. Without an agent there is no array, and tagging
does nothing.
"""

import asyncio
import logging
import mmap
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("sluicegate.dataplane")

SO_COOKIE: Final = 57
"""asm-generic/socket.h"""
FRESH: Final = 1 << 32
"""Not a first byte to go by: a new TLS connection's session tickets may come before it."""
WORDS: Final = 3
_COOKIE: Final = struct.Struct("=Q")


class SocketTags:
    """One a worker. Sockets are named by their cookies."""

    __slots__ = ("_ask", "_asked", "_mask", "_numbers", "_words")

    def __init__(self) -> None:
        self._words: memoryview | None = None
        self._mask = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._asked: set[tuple[str, str]] = set()
        self._ask: Callable[[str, str], None] | None = None

    # -- from the link to the agent

    def use(self, descriptor: int, bits: int) -> None:
        """Write into this map from now on; what is open is tagged again as requests come. Closes nothing."""
        size = (WORDS * 8) << bits
        try:
            mapped = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, ValueError) as error:
            log.error("connections are not measured in the kernel", extra={"reason": str(error)})
            return
        self._words = memoryview(mapped).cast("Q")
        self._mask = (1 << bits) - 1

    def know(self, numbers: dict[tuple[str, str], int]) -> None:
        """Of series."""
        self._numbers = numbers
        self._asked.clear()

    def ask_by(self, ask: Callable[[str, str], None] | None) -> None:
        """How to have a route and target numbered; None = nobody is there."""
        self._ask = ask
        self._asked.clear()
        if ask is None:
            self._words = None
            self._numbers = {}

    # -- from connections

    def cookie(self, sock: socket.socket | asyncio.BaseTransport) -> int:
        """By which the kernel's programs know a socket; 0 = they will not."""
        found = sock if isinstance(sock, socket.socket) else sock.get_extra_info("socket")
        if found is None:  # a transport of our own
            return 0
        try:
            raw = found.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
        except OSError:
            return 0
        cookie: int = _COOKIE.unpack(raw)[0]
        return cookie

    def accepted(self, transport: asyncio.BaseTransport) -> int:
        """The cookie of a client's connection that has come from the kernel just now."""
        cookie, words = self.cookie(transport), self._words
        if words is not None and cookie:
            at = (cookie & self._mask) * WORDS
            words[at + 1], words[at + 2], words[at] = 0, time.monotonic_ns(), cookie
        return cookie

    def mark(self, names: tuple[str, str], client: int, upstream: int, *, fresh: bool) -> None:
        """From here on these two sockets (their cookies) work for a route and target. `fresh`: the upstream's is a new
        TLS connection."""
        words = self._words
        if words is None:
            return
        series = self._numbers.get(names)
        if series is None:
            self._have_numbered(names)
            return
        mask = self._mask
        at = (client & mask) * WORDS
        if words[at] == client:  # else it was accepted before there was an array, or its place is taken
            words[at + 1] = series
        elif client:
            words[at + 1], words[at + 2], words[at] = series, 1, client  # 1: a client's, accepted whenever
        at = (upstream & mask) * WORDS
        words[at + 1] = series | FRESH if fresh else series
        if words[at] != upstream:
            words[at + 2], words[at] = 0, upstream

    def connecting(self, names: tuple[str, str], sock: socket.socket) -> None:
        """A socket is about to connect for a route and target: how long that takes is measured, too."""
        words = self._words
        if words is None:
            return
        series = self._numbers.get(names)
        cookie = self.cookie(sock)
        if not cookie:
            return
        if series is None:
            self._have_numbered(names)
            series = 0  # its time to connect is lost, but not the connection
        at = (cookie & self._mask) * WORDS
        words[at + 1], words[at + 2], words[at] = series, 0, cookie

    def _have_numbered(self, names: tuple[str, str]) -> None:
        if self._ask is not None and names not in self._asked:
            self._asked.add(names)
            self._ask(*names)

    def forget(self, cookie: int) -> None:
        """The socket is closed."""
        words = self._words
        if words is not None and cookie:
            at = (cookie & self._mask) * WORDS
            if words[at] == cookie:
                words[at] = 0
