"""Reads the spool segments of one worker incarnation: which requests are open, which have ended, which segments are
done with. Blocking; used in the keeper's SQL thread only.

A segment may go when it is complete and every record in it belongs to a request that is in SQL (and SQL is on disk).
"""

import fcntl
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from typing import Final

from gateway.policy.records import (
    DEFINING,
    KIND_AT,
    OPENING,
    Form,
    Kind,
    Record,
    SegmentCutter,
    TornRecord,
    form_of,
    opened_id,
    record_of,
    records_of,
)
from gateway.policy.usage import LEDGER_FIELDS, Outcome

READ_BYTES: Final = 512 * 1024
MOST_KINDS: Final = 10_000
_OUTCOME: Final = LEDGER_FIELDS.index("outcome")
_ESTIMATED: Final = LEDGER_FIELDS.index("estimated")
_BOUNDED: Final = tuple([LEDGER_FIELDS.index(name) for name in ("input_tokens", "output_tokens", "cost_usd_micros")])
_ERROR: Final = LEDGER_FIELDS.index("error_code")


class _Segment:
    __slots__ = ("cutter", "descriptor", "forms", "needed_until", "open", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.cutter = SegmentCutter()
        self.forms: dict[int, Form] = {}
        """Those that its records are written against."""
        self.open = 0
        """Requests in flight whose newest open record lies here."""
        self.needed_until = 0
        """Of that many ended requests (the reader's count) some have a record here."""


_Opened = tuple[bytes, _Segment]
"""The newest open record of a request in flight: its payload, and where it lies."""


class SpoolReader:
    """One incarnation's spool, read from its beginning."""

    def __init__(self, folder: Path, incarnation: str) -> None:
        self.incarnation = incarnation
        self.torn = 0
        """Records that a crash left unfinished."""
        self.recorded = 0
        """The newest close record's number of which all up to it are in SQL."""
        self.past_known = False
        """What is read from here on has not been in SQL yet."""
        self._folder = folder
        self._segments: dict[int, _Segment] = {}
        self._reading = 0
        self._open: dict[str, _Opened] = {}
        self._ended: deque[Record] = deque()
        """Requests that have ended and are not known to be in SQL."""
        self._read_ended = 0
        """How many ever were in `_ended`."""
        self._kinds: dict[Kind, Kind] = {}
        self._done: list[_Segment] = []
        self._to_sync: set[_Segment] = set()

    @property
    def open(self) -> dict[str, Record]:
        """Requests in flight, as their newest open records tell."""
        opened = list(self._open.items())
        return {request_id: record_of(payload, segment.forms) for request_id, (payload, segment) in opened}

    @property
    def waiting(self) -> int:
        """Ended requests that are not in SQL yet, as far as they were read."""
        return len(self._ended)

    def add_segments(self, numbers: Iterable[int]) -> None:
        """Segments that the folder has; numbers already known are left alone."""
        for number in sorted(numbers):
            if number not in self._segments and number >= self._reading:
                path = self._folder / f"{self.incarnation}-{number:06d}.spool"
                try:
                    self._segments[number] = _Segment(path)
                except FileNotFoundError:
                    continue
        if self._segments:
            self._reading = max(self._reading, min(self._segments))

    def read(self, most: int) -> None:
        """Read on until `most` ended requests wait, or nothing more is written."""
        while len(self._ended) < most:
            segment = self._segments.get(self._reading)
            if segment is None:
                return
            if segment.cutter.ended:
                del self._segments[self._reading]
                self._done.append(segment)
                later = [number for number in self._segments if number > self._reading]
                self._reading = min(later) if later else self._reading + 1
                continue
            piece = os.pread(segment.descriptor, READ_BYTES, segment.cutter.position)
            if not piece:
                if not segment.cutter.position:
                    return  # an empty file is no segment that has ended
                segment.cutter.ended = True  # filled to its last byte: there was no room for the end mark
                continue
            try:
                payloads, more = segment.cutter.cut(piece)
            except TornRecord:
                return  # being written at this moment, or never to be finished
            if payloads:
                self._to_sync.add(segment)
            self._take(segment, payloads)
            if not more and not segment.cutter.ended:
                return

    def take_ended(self, most: int) -> list[Record]:
        """The oldest ended requests; they stay here until `resolve`."""
        return list(islice(self._ended, most))

    def resolve(self, count: int) -> None:
        """So many of the oldest ended requests are in SQL. Close records are numbered in the order of the spool."""
        for _ in repeat(None, count - 1):
            self._ended.popleft()
        if count:
            self.recorded = max(self.recorded, self._ended.popleft().number)

    def resolve_open(self, request_ids: Iterable[str]) -> None:
        """These requests, which seem to be in flight, are in SQL."""
        for request_id in request_ids:
            _, segment = self._open.pop(request_id)
            segment.open -= 1

    def interrupt(self) -> None:
        """The worker is dead and everything is read: what is open has ended, charged with its whole reservation, and
        its row says the same."""
        segment = self._segments.get(self._reading)
        if segment is not None and any(os.pread(segment.descriptor, 8, segment.cutter.position)):
            self.torn += 1
        self._read_ended += len(self._open)
        for payload, segment in self._open.values():
            record = record_of(payload, segment.forms)
            values = record.values
            values[_OUTCOME] = str(Outcome.INTERRUPTED)
            values[_ESTIMATED] = True
            values[_ERROR] = "worker_died"
            for at, bound in zip(_BOUNDED, record.bounds or (), strict=False):
                values[at] = values[at] or bound or None
            record.values = values
            self._ended.append(record)
            segment.open -= 1
            segment.needed_until = self._read_ended
        self._open.clear()

    def to_sync(self) -> list[int]:
        """Descriptors (copies, the caller closes them) of segments that were read and must reach the disk: power loss
        may cost no more than the pause between two syncs."""
        segments = [each for each in self._to_sync if self._needs(each) or not each.cutter.ended]
        self._to_sync.clear()
        return [os.dup(segment.descriptor) for segment in segments]

    def removable(self) -> list[Path]:
        """Segments that are complete and in SQL: they may go once SQL is on disk."""
        return [segment.path for segment in self._done if not self._needs(segment)]

    def remove(self, paths: Iterable[Path]) -> None:
        """Delete these of the removable segments."""
        gone = set(paths)
        for segment in self._done:
            if segment.path in gone:
                os.close(segment.descriptor)
                segment.path.unlink(missing_ok=True)
        self._done = [segment for segment in self._done if segment.path not in gone]

    def remove_all(self) -> None:
        """The dead worker's spool is in SQL and on disk: nothing of it is left behind."""
        for segment in [*self._done, *self._segments.values()]:
            os.close(segment.descriptor)
        self._done.clear()
        self._segments.clear()
        for path in self._folder.glob(f"{self.incarnation}-*"):
            path.unlink(missing_ok=True)
        (self._folder / f"{self.incarnation}.lock").unlink(missing_ok=True)

    def _needs(self, segment: _Segment) -> bool:
        """Whether a record in it belongs to a request that is not in SQL yet."""
        return segment.open > 0 or segment.needed_until > self._read_ended - len(self._ended)

    def _take(self, segment: _Segment, payloads: Sequence[bytes]) -> None:
        """Records in the order they were written: of one request the newest open record counts, until a close record.
        No open record comes after that."""
        closing: list[bytes] = []
        opening: list[bytes] = []
        for payload in payloads:
            kind = payload[KIND_AT]
            if kind in OPENING:
                opening.append(payload)
            elif kind in DEFINING:
                self._define(segment, payload)
            else:
                closing.append(payload)
        opened = dict(zip(map(opened_id, opening), opening, strict=True))
        if closing:
            records = self._records_of(closing, segment.forms)
            self._ended.extend(records)
            self._read_ended += len(records)
            segment.needed_until = self._read_ended
            request_ids = [record.figures[0] for record in records]
            self._forget(self._open.keys() & request_ids)
            for request_id in request_ids:  # most have begun not long before
                opened.pop(request_id, None)
        if opened:
            self._forget(self._open.keys() & opened.keys())
            segment.open += len(opened)
            self._open.update({request_id: (payload, segment) for request_id, payload in opened.items()})

    def _forget(self, request_ids: Iterable[str]) -> None:
        """Their open records no longer count; the segments that these lie in are needed for what was read so far."""
        for request_id in request_ids:
            _, segment = self._open.pop(request_id)
            segment.open -= 1
            segment.needed_until = self._read_ended

    def _define(self, segment: _Segment, payload: bytes) -> None:
        """Forms of all connections that make the same calls share one object for what their rows have in common."""
        try:
            number, form = form_of(payload)
        except (ValueError, TypeError):  # of a release whose forms cannot be read: nor can what is written against it
            return
        if len(self._kinds) > MOST_KINDS:
            self._kinds.clear()
        segment.forms[number] = replace(form, closed=self._kinds.setdefault(form.closed, form.closed))

    def _records_of(self, payloads: Sequence[bytes], forms: Mapping[int, Form]) -> list[Record]:
        """All at once where they are whole; without those of a release whose records cannot be read."""
        try:
            return records_of(payloads, forms)
        except (ValueError, TypeError, KeyError):
            found: list[Record] = []
            for payload in payloads:
                try:
                    found += records_of([payload], forms)
                except (ValueError, TypeError, KeyError):
                    self.torn += 1
            return found


def segments_in(folder: Path) -> dict[str, set[int]]:
    """Segment numbers by incarnation, and every incarnation that has a lock file."""
    found: dict[str, set[int]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name, dot, kind = entry.name.rpartition(".")
            if kind == "lock" and dot:
                found.setdefault(name, set())
            elif kind == "spool":
                incarnation, dash, number = name.rpartition("-")
                if dash and number.isdigit():
                    found.setdefault(incarnation, set()).add(int(number))
    return found


def is_alive(folder: Path, incarnation: str) -> bool:
    """Whether the worker still holds its lock: also true of one that lost its connection."""
    try:
        descriptor = os.open(folder / f"{incarnation}.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
