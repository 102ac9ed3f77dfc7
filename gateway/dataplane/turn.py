"""One turn of the event loop: all that has arrived is read first, then worked on, then written.

uvloop calls a protocol between two reads and writes at once what it is given, so under load read, our own code and
write take turns thousands of times a second: each finds the processor's caches full of the others, and each write
wakes a peer that has gone back to sleep since the last one. Done one kind after the other, the same calls cost a
third less (docs/performance.md).

Both ends of every exchange come through here. What is large is dealt with at once, for it is no small part of its
turn and may have to be paused.
"""

import asyncio
from typing import Final, Protocol

SMALL_BYTES: Final = 16 * 1024
"""No more is put off in one piece."""
MOST_POSTED: Final = 64
"""Writes that wait for each other: what was asked first is not kept for hundreds behind it."""


class Connection(Protocol):
    """What has something to work on."""

    transport: asyncio.Transport

    def take(self, data: bytes) -> None: ...


class Turn:
    """Of one event loop, shared by all connections of a worker."""

    __slots__ = ("_arrived", "_posted", "_working")

    def __init__(self) -> None:
        self._arrived: list[tuple[Connection, bytes]] = []
        self._posted: list[tuple[asyncio.Transport, bytes]] = []
        self._working = False

    def arrive(self, connection: Connection, data: bytes) -> None:
        """What was just read from a connection, which gets it through `take` before the loop waits again."""
        arrived = self._arrived
        if len(data) > SMALL_BYTES:
            self.work()  # in the order in which it came
            connection.take(data)
            return
        if not arrived:
            asyncio.get_running_loop().call_soon(self.work)
        arrived.append((connection, data))

    def work(self) -> None:
        """Work on what has arrived, then write what is due. A connection whose work fails is closed."""
        arrived = self._arrived
        if not arrived:
            return
        self._arrived = []
        self._working = True
        for connection, data in arrived:
            try:
                connection.take(data)
            except Exception as error:  # noqa: BLE001  # one connection's, as where the event loop calls it
                _give_up(connection, error)
        self._working = False
        self.flush()

    def post(self, transport: asyncio.Transport, payload: bytes) -> None:
        """Write, at the end of the work if it is under way. In order with what was posted before; whoever closes a
        transport or asks for its buffer calls `flush` first."""
        if self._working and len(payload) <= SMALL_BYTES:
            posted = self._posted
            posted.append((transport, payload))
            if len(posted) >= MOST_POSTED:
                self.flush()
            return
        self.flush()
        if not transport.is_closing():
            transport.write(payload)

    def flush(self) -> None:
        """Write what was posted."""
        posted = self._posted
        if posted:
            self._posted = []
            for transport, payload in posted:
                if not transport.is_closing():
                    transport.write(payload)


def _give_up(connection: Connection, error: Exception) -> None:
    """As the event loop does where a protocol fails."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": "work on what a connection sent failed", "exception": error, "transport": connection.transport}
    )
    connection.transport.abort()
