"""One turn of the event loop: all that has arrived is read first, then worked on, then written.

uvloop calls a protocol between two reads and writes at once what it is given, so under load read, our own code and
write take turns thousands of times a second: each finds the processor's caches full of the others, and each write
wakes a peer that has gone back to sleep since the last one. Done one kind after the other, the same calls cost a
quarter less (docs/performance.md).

Both ends of every exchange come through here. Answers are worked on before requests: what does the same follows each
other, and connections are back in their pools when they are looked for. Dealt with at once is what is large, for it
is no small part of its turn and may have to be paused, and all that comes while hardly anything is going on: there
would be nothing to put together, only to wait.
"""

import asyncio
from collections.abc import Callable, Sized
from typing import Final, Protocol, TypeAlias

SMALL_BYTES: Final = 16 * 1024
"""No more is put off in one piece."""
FEW: Final = 4
"""With fewer exchanges going on nothing is put off."""
MOST_POSTED: Final = 64
"""Writes that wait for each other: what was asked first is not kept for hundreds behind it."""


class Connection(Protocol):
    """What has something to work on."""

    transport: asyncio.Transport

    def take(self, data: bytes) -> None: ...


Arrival: TypeAlias = tuple[Connection, bytes]


class Turn:
    """Of one event loop, shared by all connections of a worker."""

    __slots__ = ("_call_soon", "_posted", "_scheduled", "_working", "answers", "going_on", "requests")

    def __init__(self) -> None:
        self.going_on: Sized = ()
        """The exchanges."""
        self.answers: list[Arrival] = []
        self.requests: list[Arrival] = []
        self._posted: list[tuple[asyncio.Transport, bytes]] = []
        self._scheduled = False
        self._working = False
        self._call_soon: Callable[..., object] | None = None

    def arrive(self, waiting: list[Arrival], connection: Connection, data: bytes) -> None:
        """What was just read from a connection, which gets it through `take` before the loop waits again. `waiting`:
        this turn's `answers` or `requests`."""
        if len(self.going_on) < FEW or len(data) > SMALL_BYTES:
            if self._scheduled:
                self.work()  # in the order in which it came
            connection.take(data)
            return
        if not self._scheduled:
            self._schedule()
        waiting.append((connection, data))

    def work(self) -> None:
        """Work on what has arrived, then write what is due. A connection whose work fails is closed."""
        self._scheduled = False
        arrived = self.answers + self.requests
        if not arrived:
            return
        self.answers.clear()
        self.requests.clear()
        self._working = True
        try:
            for connection, data in arrived:
                try:
                    connection.take(data)
                except Exception as error:  # noqa: BLE001  # one connection's, as where the event loop calls it
                    _give_up(connection.transport, error)
        finally:
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
        if self._posted:
            self.flush()
        if not transport.is_closing():
            transport.write(payload)

    def flush(self) -> None:
        """Write what was posted. A connection that cannot be written to is closed."""
        posted = self._posted
        if posted:
            self._posted = []
            for transport, payload in posted:
                if not transport.is_closing():
                    try:
                        transport.write(payload)
                    except Exception as error:  # noqa: BLE001  # nobody else's writes are lost by it
                        _give_up(transport, error)

    def _schedule(self) -> None:
        self._scheduled = True
        if self._call_soon is None:  # asking for the loop is a system call each time
            self._call_soon = asyncio.get_running_loop().call_soon
        self._call_soon(self.work)


def _give_up(transport: asyncio.Transport, error: Exception) -> None:
    """As the event loop does where a protocol fails."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": "a connection failed at its turn", "exception": error, "transport": transport}
    )
    transport.abort()
