"""Tags of this worker's sockets, for the kernel's probes: which route and target their packets belong to now.

An array that the agent's probes made is mapped into our memory (`gateway.places`). A tag is a store, and costs no
system call; while a connection goes on working for the same route and target, not even that. Without an agent there is
no array, and tagging does nothing.
"""

import asyncio
import logging
import mmap
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from gateway.places import CLIENT, FRESH, SERIES_SHIFT, WORDS, owner_of, place_of

log = logging.getLogger("sluicegate.dataplane")

SO_COOKIE: Final = 57
"""asm-generic/socket.h"""
_COOKIE: Final = struct.Struct("=Q")


class SocketTag:
    """Of one connection."""

    __slots__ = ("at", "cookie", "names", "word")

    def __init__(self, cookie: int) -> None:
        self.cookie = cookie
        """By which the kernel's programs know the socket; 0 = they will not."""
        self.names: tuple[str, str] | None = None
        """Of the route and target that its tag stands for; None: it has to be written."""
        self.at = 0
        self.word = 0
        """What was written, and where."""


class SocketTags:
    """One a worker."""

    __slots__ = ("_ask", "_asked", "_bits", "_numbers", "_open", "_words")

    def __init__(self) -> None:
        self._words: memoryview | None = None
        self._bits = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._asked: set[tuple[str, str]] = set()
        self._ask: Callable[[str, str], None] | None = None
        self._open: set[SocketTag] = set()

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
        self._bits = bits
        for tag in self._open:
            tag.names = None

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

    def accepted(self, transport: asyncio.BaseTransport) -> SocketTag:
        """Of a client's connection that has come from the kernel just now."""
        tag = self.connected(transport)
        if self._words is not None and tag.cookie:
            self._words[place_of(tag.cookie, self._bits) + 1] = time.monotonic_ns()
            self._write(tag, CLIENT)
        return tag

    def connected(self, transport: asyncio.BaseTransport) -> SocketTag:
        """Of a connection to an upstream."""
        sock = transport.get_extra_info("socket")
        tag = SocketTag(0 if sock is None else _cookie(sock))  # None: a transport of our own
        self._open.add(tag)
        return tag

    def mark(self, names: tuple[str, str], client: SocketTag, upstream: SocketTag, fresh: bool) -> None:
        """From here on these two connections work for a route and target. `fresh`: the upstream's is a new one by
        TLS."""
        words = self._words
        same = client.names is names and upstream.names is names
        # Another socket may have written into the place of one of them meanwhile.
        if same and (words is None or (words[client.at] == client.word and words[upstream.at] == upstream.word)):
            return
        if words is not None:
            series = self._numbers.get(names)
            if series is None:
                self._have_numbered(names)
                return
            self._write(client, series << SERIES_SHIFT | CLIENT)
            self._write(upstream, series << SERIES_SHIFT | (FRESH if fresh else 0))
        client.names = names
        upstream.names = None if fresh else names

    def connecting(self, names: tuple[str, str], sock: socket.socket) -> None:
        """A socket is about to connect for a route and target: how long that takes is measured, too."""
        if self._words is None:
            return
        series = self._numbers.get(names)
        if series is None:
            self._have_numbered(names)
            series = 0  # its time to connect is lost, but not the connection
        # Fresh until it is marked: what a handshake with TLS or a proxy brings is no answer.
        self._write(SocketTag(_cookie(sock)), series << SERIES_SHIFT | FRESH)

    def forget(self, tag: SocketTag) -> None:
        """The connection is closed. What it is tagged with stays: the kernel may have a good deal to send yet, and no
        other socket gets its cookie."""
        self._open.discard(tag)

    def _write(self, tag: SocketTag, of_what: int) -> None:
        if self._words is not None and tag.cookie:
            tag.at, tag.word = place_of(tag.cookie, self._bits), owner_of(tag.cookie, self._bits) | of_what
            self._words[tag.at] = tag.word

    def _have_numbered(self, names: tuple[str, str]) -> None:
        if self._ask is not None and names not in self._asked:
            self._asked.add(names)
            self._ask(*names)


def _cookie(sock: socket.socket) -> int:
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
    except OSError:
        return 0
    cookie: int = _COOKIE.unpack(raw)[0]
    return cookie
