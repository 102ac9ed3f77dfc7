"""The live feed's source: what happened on this node, numbered, with the newest kept for readers that come back.

An event's id is `EPOCH-NUMBER`; the epoch is this keeper's life. A reader that names an id of another life, or one that
is no longer kept, learns that it has missed something (`gap`) and reads the ledger instead.
"""

import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.policy.records import Record
from gateway.policy.usage import LEDGER_FIELDS
from gateway.store.keeper_sessions import Sessions
from gateway.wire.frames import frame

KEPT: Final = 2_000
ROWS_A_BATCH: Final = 200
"""Rows of one batch that the feed shows; the ledger has them all."""
MOST_BEHIND_BYTES: Final = 8 * 1024 * 1024
"""A subscriber of rows that is further behind gets none until it has caught up; what it missed is counted."""

Event = Mapping[str, Any]
"""`type`, and what there is to say."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What a returning reader gets."""

    events: list[dict[str, Any]]
    complete: bool
    """False: there was more in between than is kept."""


class EventFeed:
    """Used from the keeper's event loop."""

    def __init__(self, sessions: Sessions) -> None:
        self.epoch = secrets.token_hex(4)
        self._sessions = sessions
        self._kept: deque[Event | Record] = deque(maxlen=KEPT)
        self._last = 0
        self.rows_missed = 0
        """Rows that a subscriber of all rows (the OpenTelemetry exporter) did not get, because it was too slow."""

    def add(self, events: Sequence[Event]) -> None:
        """Tell all subscribed readers now."""
        self._add(events)

    def add_rows(self, records: Sequence[Record]) -> None:
        """Rows that are new in the ledger. Nothing is built where nobody reads."""
        if len(records) > ROWS_A_BATCH:
            self._add([{"type": "gap", "reason": "more requests ended than the feed shows"}])
        self._add(records[-ROWS_A_BATCH:])
        for session in self._sessions.all:
            if not session.wants_rows:
                continue
            if session.writer.transport.get_write_buffer_size() > MOST_BEHIND_BYTES:
                self.rows_missed += len(records)
                continue
            session.send({"type": "rows", "rows": [record.values for record in records]})

    def pass_on(self, message: Mapping[str, Any]) -> None:
        """A worker's note on a request, for those that get all rows."""
        for session in self._sessions.all:
            if session.wants_rows and session.writer.transport.get_write_buffer_size() <= MOST_BEHIND_BYTES:
                session.send(dict(message))

    def since(self, event_id: str) -> Missed:
        """What happened after the event with this id."""
        epoch, _, number = event_id.partition("-")
        if epoch != self.epoch or not number.isdecimal() or int(number) > self._last:
            return Missed([], complete=False)
        behind = self._last - int(number)
        kept = list(self._kept)[-behind:] if behind else []
        first = self._last - len(kept) + 1
        return Missed([self._told(first + at, each) for at, each in enumerate(kept)], complete=len(kept) == behind)

    def _add(self, happened: Sequence[Event | Record]) -> None:
        first = self._last + 1
        self._last += len(happened)
        self._kept.extend(happened)
        readers = [session for session in self._sessions.all if session.wants_events]
        if readers and happened:
            told = [self._told(first + at, each) for at, each in enumerate(happened)]
            piece = b"".join([frame({"type": "event", "event": each}) for each in told])
            for session in readers:
                session.send_bytes(piece)

    def _told(self, number: int, what: Event | Record) -> dict[str, Any]:
        event = row_event(what) if isinstance(what, Record) else dict(what)
        event["id"] = f"{self.epoch}-{number}"
        return event


def row_event(record: Record) -> dict[str, Any]:
    return {"type": "request", "row": dict(zip(LEDGER_FIELDS, record.values, strict=True))}


def changes(kind: str, before: Iterable[str], now: Iterable[str], begun: str, ended: str) -> list[Event]:
    """Events of names that came into a state, and of those that left it."""
    was, is_ = set(before), set(now)
    begins: list[Event] = [{"type": kind, kind: name, "state": begun} for name in sorted(is_ - was)]
    return [*begins, *({"type": kind, kind: name, "state": ended} for name in sorted(was - is_))]
