"""The keeper's side of its connections: which workers are there, what they hold, rounds of questions to all of them."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.store.leases import LeaseKey
from gateway.wire.frames import frame

ROUND_TIMEOUT_S: Final = 0.25
"""A worker that answers a recall later counts as using all that it holds."""
MOST_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""A peer that reads nothing is cut off: more than any snapshot."""


@dataclass(eq=False)
class Session:
    """One connection. A worker's has an incarnation; the CLI's and the API's have none."""

    writer: asyncio.StreamWriter
    incarnation: str = ""
    pid: int = 0
    program: str = "worker"
    """Which of the workers it is: `worker-0`, …"""
    wants_events: bool = False
    wants_rows: bool = False
    """All rows and all trace notes: the OpenTelemetry exporter."""
    condition: dict[str, Any] = field(default_factory=dict)
    """What the worker said last of itself (`dataplane.condition`)."""
    leaves: bool = False
    """It has drained and will end its connection."""
    recorded_told: int = 0
    granted: dict[LeaseKey, int] = field(default_factory=dict)
    """All that was ever granted, the hello's figures included. Then written by the SQL thread alone."""
    returned: dict[LeaseKey, int] = field(default_factory=dict)
    """All that was ever given back. Written by the event loop alone."""
    dirty: deque[LeaseKey] = field(default_factory=deque)
    """Leases of which SQL may say more than `held`: appended by the event loop, taken by the SQL thread."""
    silent: bool = False
    """It did not answer a round in time: nobody waits for it until it answers one."""
    confirmed_tight: set[LeaseKey] = field(default_factory=set)
    """Leases from which the worker reserves nothing without asking."""
    loosened: int = 0
    """How often a grant has ended tightness: tells whether a recall's answer is still true."""

    def send(self, message: dict[str, Any]) -> None:
        self.send_bytes(frame(message))

    def send_bytes(self, piece: bytes) -> None:
        if self.writer.is_closing():
            return
        self.writer.write(piece)
        if self.writer.transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
            self.writer.transport.abort()

    def held(self, key: LeaseKey) -> int:
        """What the worker holds, as the frames it has sent and will receive make it."""
        return self.granted.get(key, 0) - self.returned.get(key, 0)

    def give_back(self, key: LeaseKey, amount: int) -> None:
        if amount:
            self.returned[key] = self.returned.get(key, 0) + amount
            self.dirty.append(key)

    def grew(self, key: LeaseKey, *, tight: bool) -> None:
        """A grant is about to be sent."""
        if not tight:
            self.confirmed_tight.discard(key)
            self.loosened += 1


class Sessions:
    """All connections of this keeper."""

    def __init__(self) -> None:
        self.all: set[Session] = set()
        self.workers: dict[str, Session] = {}
        self._rounds: dict[tuple[int, str], asyncio.Future[list[list[int]] | None]] = {}
        self._next_round = 0

    def remove(self, session: Session) -> None:
        self.all.discard(session)
        if self.workers.get(session.incarnation) is session:
            del self.workers[session.incarnation]
        for (_, incarnation), answer in list(self._rounds.items()):
            if incarnation == session.incarnation and not answer.done():
                answer.set_result(None)

    def take_dirty(self) -> list[tuple[str, LeaseKey, int]]:
        """What SQL is to be told; `put_back` it when that fails."""
        views = []
        for incarnation, session in self.workers.items():
            views += [(incarnation, key, session.granted.get(key, 0)) for key in session.dirty]
            session.dirty.clear()
        return views

    @property
    def loosened(self) -> int:
        """Grows with every grant that ends a worker's tightness."""
        return sum([session.loosened for session in self.workers.values()])

    def any_dirty(self) -> bool:
        return any(session.dirty for session in self.workers.values())

    async def recall(self, keys: Iterable[LeaseKey]) -> tuple[dict[LeaseKey, dict[str, tuple[int, int]]], bool]:
        """Have every worker give back what is idle. Returns `(used, reserved)` by key and incarnation, and whether
        every worker that answers had been tight on all of these since before the question."""
        keys = list(keys)
        tight = {
            incarnation for incarnation, session in self.workers.items() if session.confirmed_tight.issuperset(keys)
        }
        were_tight = True
        loosened = {incarnation: session.loosened for incarnation, session in self.workers.items()}
        in_flight: dict[LeaseKey, dict[str, tuple[int, int]]] = {}
        for incarnation, answer in (await self._ask_all("recall", keys)).items():
            session = self.workers.get(incarnation)
            if answer is None or session is None:
                continue
            were_tight = were_tight and incarnation in tight
            for account, start_s, _returned, used, reserved, _was_tight in answer:
                key = (account, start_s)
                in_flight.setdefault(key, {})[incarnation] = (used, reserved)
                if session.loosened == loosened.get(incarnation):
                    session.confirmed_tight.add(key)
        return in_flight, were_tight

    async def report(self, keys: Iterable[LeaseKey]) -> dict[LeaseKey, dict[str, tuple[int, int]]]:
        """`(used, reserved)` by key and incarnation, each worker's of one moment."""
        in_flight: dict[LeaseKey, dict[str, tuple[int, int]]] = {}
        for incarnation, answer in (await self._ask_all("report", list(keys))).items():
            for account, start_s, used, reserved in answer or ():
                in_flight.setdefault((account, start_s), {})[incarnation] = (used, reserved)
        return in_flight

    def answered(self, session: Session, message: dict[str, Any]) -> None:
        """A worker's answer to a round; what it gave back is booked even when the round is over."""
        if message["type"] == "recalled":
            for account, start_s, returned, _used, _reserved, _was_tight in message["leases"]:
                session.give_back((account, start_s), returned)
        session.silent = False
        answer = self._rounds.get((message["round"], session.incarnation))
        if answer is not None and not answer.done():
            answer.set_result(message["leases"])

    async def _ask_all(self, kind: str, keys: list[LeaseKey]) -> dict[str, list[list[int]] | None]:
        self._next_round += 1
        number = self._next_round
        loop = asyncio.get_running_loop()
        waiting: dict[str, asyncio.Future[list[list[int]] | None]] = {}
        for incarnation, session in self.workers.items():
            session.send({"type": kind, "round": number, "keys": keys})
            if not session.silent:
                waiting[incarnation] = self._rounds[number, incarnation] = loop.create_future()
        try:
            if waiting:
                await asyncio.wait(waiting.values(), timeout=ROUND_TIMEOUT_S)
        finally:
            for incarnation in waiting:
                del self._rounds[number, incarnation]
        for incarnation, answer in waiting.items():
            if not answer.done() and incarnation in self.workers:
                self.workers[incarnation].silent = True
        return {incarnation: answer.result() if answer.done() else None for incarnation, answer in waiting.items()}
