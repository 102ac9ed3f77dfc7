"""One turn of the event loop: all that has arrived is read first, then worked on, then written.

uvloop calls a protocol between two reads and writes at once what it is given, so under load read, our own code and
write take turns thousands of times a second: each finds the processor's caches full of the others, and each write
wakes a peer that has gone back to sleep since the last one. Done one kind after the other, the same calls cost a
quarter less (docs/performance.md).

Both ends of every exchange come through here. Answers are worked on before requests: what does the same follows each
other, and connections are back in their pools when they are looked for. Dealt with at once is what is large, for it
is no small part of its turn and may have to be paused, and all that comes while hardly anything is going on: there
would be nothing to put together, only to wait. What matters then is to be awake when the peer answers: where two
arrivals followed each other soon, the loop looks for the next for a moment before it sleeps (as HAProxy's
`busy-polling` and KVM's halt polling do). A slept-through answer costs an interrupt and finds cold caches: that was a
quarter of the median at one connection.
"""

import asyncio
from collections.abc import Callable, Sized
from time import monotonic
from typing import Final, Protocol, TypeAlias

SMALL_BYTES: Final = 16 * 1024
"""No more is put off in one piece."""
FEW: Final = 4
"""With fewer exchanges going on nothing is put off."""
MOST_POSTED: Final = 64
"""Writes that wait for each other: what was asked first is not kept for hundreds behind it."""

SOON_S: Final = 200e-6
"""An arrival that comes this soon after the work on the one before promises another. It is looked for no longer than
this, and in vain only once: a model that takes its time to answer costs no looking."""


class Connection(Protocol):
    """What has something to work on."""

    transport: asyncio.Transport

    def take(self, data: bytes) -> None: ...


Arrival: TypeAlias = tuple[Connection, bytes]


class Turn:
    """Of one event loop, shared by all connections of a worker."""

    __slots__ = (
        "_awake",
        "_call_soon",
        "_posted",
        "_scheduled",
        "_soon_until",
        "_working",
        "answers",
        "before_writing",
        "going_on",
        "now_s",
        "requests",
    )

    def __init__(self) -> None:
        self.going_on: Sized = ()
        """The exchanges."""
        self.before_writing: Callable[[], None] = _nothing
        """Makes sure of what the writes must not go ahead of: records."""
        self.now_s = 0.0
        """When what is being worked on was taken up (monotonic)."""
        self.answers: list[Arrival] = []
        self.requests: list[Arrival] = []
        self._posted: list[tuple[asyncio.Transport, bytes]] = []
        self._scheduled = False
        self._working = False
        self._awake = False
        self._soon_until = 0.0
        """An arrival before then (monotonic) comes soon after the last one."""
        self._call_soon: Callable[..., object] | None = None

    def arrive(self, waiting: list[Arrival], connection: Connection, data: bytes) -> None:
        """What was just read from a connection, which gets it through `take` before the loop waits again. `waiting`:
        this turn's `answers` or `requests`."""
        if len(self.going_on) < FEW or len(data) > SMALL_BYTES:
            if self._scheduled:
                self.work()  # in the order in which it came
            now_s = self.now_s = monotonic()
            soon = now_s < self._soon_until
            connection.take(data)
            self._soon_until = monotonic() + SOON_S
            if soon and not self._awake:
                self._stay_awake()
            return
        if not self._scheduled:
            self._scheduled = True
            self._next(self.work)
        waiting.append((connection, data))

    def work(self) -> None:
        """Work on what has arrived, then write what is due. A connection whose work fails is closed."""
        self._scheduled = False
        arrived = self.answers + self.requests
        if not arrived:
            return
        self.now_s = monotonic()
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
        else:
            self.before_writing()
        if not transport.is_closing():
            transport.write(payload)

    def flush(self) -> None:
        """Write what was posted. A connection that cannot be written to is closed."""
        posted = self._posted
        if posted:
            self._posted = []
            self.before_writing()
            for transport, payload in posted:
                if not transport.is_closing():
                    try:
                        transport.write(payload)
                    except Exception as error:  # noqa: BLE001  # nobody else's writes are lost by it
                        _give_up(transport, error)

    def _stay_awake(self) -> None:
        """Have the loop look once more for what has arrived, while it may come soon."""
        self._awake = len(self.going_on) < FEW and monotonic() < self._soon_until
        if self._awake:
            self._next(self._stay_awake)

    def _next(self, what: Callable[[], None]) -> None:
        """Before the event loop waits."""
        if self._call_soon is None:  # asking for the loop is a system call each time
            self._call_soon = asyncio.get_running_loop().call_soon
        self._call_soon(what)


def _nothing() -> None:
    pass


def _give_up(transport: asyncio.Transport, error: Exception) -> None:
    """As the event loop does where a protocol fails."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": "a connection failed at its turn", "exception": error, "transport": transport}
    )
    transport.abort()
