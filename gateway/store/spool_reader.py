"""Reads the spool segments of one worker incarnation: which requests are open, which have ended, which segments are
done with. Blocking; used in the keeper's SQL thread only.

A segment may go when it is complete and every record in it belongs to a request that is in SQL (and SQL is on disk).
"""

import fcntl
import os
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from gateway.policy.records import (
    OPENED_BEGIN,
    Record,
    SegmentCutter,
    TornRecord,
    opened_id,
    record_of,
    records_of,
)
from gateway.policy.usage import LEDGER_FIELDS, Outcome

READ_BYTES: Final = 512 * 1024
_OUTCOME: Final = LEDGER_FIELDS.index("outcome")
_ESTIMATED: Final = LEDGER_FIELDS.index("estimated")
_BOUNDED: Final = tuple([LEDGER_FIELDS.index(name) for name in ("input_tokens", "output_tokens", "cost_usd_micros")])
_ERROR: Final = LEDGER_FIELDS.index("error_code")


class _Segment:
    __slots__ = ("cutter", "descriptor", "path", "unresolved")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.cutter = SegmentCutter()
        self.unresolved = 0
        """Records of requests that are not in SQL yet."""


class _Opened(NamedTuple):
    """The newest open record of a request in flight."""

    payload: bytes
    segment: _Segment


class _Ended(NamedTuple):
    """A request that has ended and is not known to be in SQL, with the segments that hold it."""

    record: Record
    lies_in: tuple[_Segment, ...]


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
        self._ended: deque[_Ended] = deque()
        self._done: list[_Segment] = []
        self._to_sync: set[_Segment] = set()

    @property
    def open(self) -> dict[str, Record]:
        """Requests in flight, as their newest open records tell."""
        return {request_id: record_of(opened.payload) for request_id, opened in list(self._open.items())}

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
        return [ended.record for ended in islice(self._ended, most)]

    def resolve(self, request_ids: Iterable[str]) -> None:
        """These requests are in SQL."""
        gone = set(request_ids)
        ended = self._ended
        while ended and ended[0].record.request_id in gone:
            first = ended.popleft()
            self.recorded = max(self.recorded, first.record.number)
            for segment in first.lies_in:
                segment.unresolved -= 1
        for request_id in gone.intersection(self._open):
            self._open.pop(request_id).segment.unresolved -= 1

    def interrupt(self) -> None:
        """The worker is dead and everything is read: what is open has ended, charged with its whole reservation, and
        its row says the same."""
        segment = self._segments.get(self._reading)
        if segment is not None and any(os.pread(segment.descriptor, 8, segment.cutter.position)):
            self.torn += 1
        for opened in self._open.values():
            record = record_of(opened.payload)
            record.values[_OUTCOME] = str(Outcome.INTERRUPTED)
            record.values[_ESTIMATED] = True
            record.values[_ERROR] = "worker_died"
            for at, bound in zip(_BOUNDED, record.bounds or (), strict=False):
                record.values[at] = record.values[at] or bound or None
            self._ended.append(_Ended(record, (opened.segment,)))
        self._open.clear()

    def to_sync(self) -> list[int]:
        """Descriptors (copies, the caller closes them) of segments that were read and must reach the disk: power loss
        may cost no more than the pause between two syncs."""
        segments = [each for each in self._to_sync if each.unresolved or not each.cutter.ended]
        self._to_sync.clear()
        return [os.dup(segment.descriptor) for segment in segments]

    def removable(self) -> list[Path]:
        """Segments that are complete and in SQL: they may go once SQL is on disk."""
        return [segment.path for segment in self._done if not segment.unresolved]

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

    def _take(self, segment: _Segment, payloads: Sequence[bytes]) -> None:
        """Records in the order they were written. A newer open record of a request replaces an older one."""
        ended, opened = self._ended, self._open
        records = iter(self._records_of([payload for payload in payloads if not payload.startswith(OPENED_BEGIN)]))
        for payload in payloads:
            if payload.startswith(OPENED_BEGIN):
                request_id = opened_id(payload)
                earlier = opened.get(request_id)
                if earlier is not None:
                    earlier.segment.unresolved -= 1
                opened[request_id] = _Opened(payload, segment)
                segment.unresolved += 1
                continue
            record = next(records)
            if record is None:
                continue
            segment.unresolved += 1
            earlier = opened.pop(record.values[0], None)
            ended.append(_Ended(record, (segment,) if earlier is None else (segment, earlier.segment)))

    def _records_of(self, payloads: Sequence[bytes]) -> Sequence[Record | None]:
        """All at once where they are whole; None for one of a release whose records cannot be read."""
        try:
            return records_of(payloads)
        except (ValueError, TypeError):
            found: list[Record | None] = []
            for payload in payloads:
                try:
                    found.append(record_of(payload))
                except (ValueError, TypeError):
                    found.append(None)
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
