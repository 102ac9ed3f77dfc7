"""The worker's end of the ledger: records go into memory-mapped, pre-allocated segment files that the keeper reads.

Appending is a copy into memory: no system call, and once it returned the record survives the death of every process
(the page cache has it); the keeper syncs to disk each second. Records by form are gathered, and appended together by
`commit`: whoever made them calls it before anybody can learn of what they tell. Blocks are allocated before they are
promised, so a full disk refuses a request at admission and never breaks one that is under way.
"""

import fcntl
import logging
import mmap
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final
from zlib import crc32 as _crc32

from gateway.errors import LedgerUnavailable
from gateway.policy.quota import Amounts
from gateway.policy.records import (
    CLOSED,
    END_MARK,
    HEAD_BYTES,
    MAX_RECORD_BYTES,
    OPENED,
    RECORD_HEAD,
    RUN_BEGIN,
    RecordForms,
    payload_of,
    record_bytes,
)
from gateway.policy.usage import Charges, LedgerRow

log = logging.getLogger(__name__)

CLOSE_MARGIN_BYTES: Final = 1024
"""How much longer a close record may be than its open record: target, model, figures, error code."""
RETRY_AFTER_S: Final = 0.05
"""Pause between attempts to allocate a segment while the disk or the spool is full."""

FULL_FOR_S: Final = 2.0
PADDED_HEAD_BYTES: Final = HEAD_BYTES + 7
EMPTY_RUN_BYTES: Final = PADDED_HEAD_BYTES + len(RUN_BEGIN)

_pack_head = RECORD_HEAD.pack_into


class _Segment:
    """A mapped file: `memory[position:]` is free."""

    __slots__ = ("memory", "path")

    def __init__(self, path: Path, size: int) -> None:
        """Raises OSError when the blocks cannot be had; then no file is left behind.

        The file gets its name once it has its size: a reader that saw it grow would take its present end for its last.
        """
        making = path.with_suffix(".making")
        descriptor = os.open(making, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            self.memory = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
            making.rename(path)
        except BaseException:
            making.unlink()
            raise
        finally:
            os.close(descriptor)
        self.path = path


class Spool:
    """One worker incarnation's spool. Used from the worker's event loop only; segments are prepared in a thread."""

    def __init__(self, folder: Path, incarnation: str, segment_bytes: int, max_bytes: int) -> None:
        """Take the incarnation's lock and map the first segments. Raises LedgerUnavailable when there is no room."""
        self._folder = folder
        self._incarnation = incarnation
        self._size = max(segment_bytes & ~7, 4 * MAX_RECORD_BYTES)
        self._max_bytes = max_bytes
        self._past: list[Path] = []
        self._spares: deque[_Segment] = deque()
        self._allocating = threading.Lock()
        self._next_number = 0
        self._retry_at_s = 0.0
        self._closing_rooms: dict[str, int] = {}
        self._promised = 0
        """Bytes that close records of open requests may still need."""
        self._gathered: list[bytes] = []
        self._gathered_bytes = EMPTY_RUN_BYTES
        """Of the record that they will be, for which the current segment has room."""
        self.closed = 0
        """Close records written: what the keeper has not yet confirmed of them is pending."""
        self.dropped_refusals = 0
        """Rows of refused requests for which there was no room."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_descriptor = _take_lock(folder, incarnation)
        if not self._allocate():
            raise _full()
        self._current = self._spares.popleft()
        self._memory = self._current.memory
        self._position = 0
        self._allocate()
        self._good_to = 0
        self._count_free()

    def open(self, row: LedgerRow, charges: Charges, need: Amounts | None = None) -> None:
        """Record that the request is admitted, with the most it can be charged and use; room for its close record is
        set aside. A later open record of the same request replaces the earlier one. Raises LedgerUnavailable."""
        self.commit()
        payload = payload_of(OPENED, row, charges, self.closed, need)
        size = record_bytes(len(payload))
        room = size + CLOSE_MARGIN_BYTES
        promised = self._promised + room - self._closing_rooms.get(row.id, 0)
        if self._position + size + promised > self._good_to:
            self._make_room(size + promised)
        self._promised = promised
        self._append(payload)
        self._closing_rooms[row.id] = room

    def open_by_form(self, forms: RecordForms, payload: bytes) -> int:
        """`open` with the payload made, at the next `commit`; returns the room that is set aside for the close record,
        which `close_by_form` wants back. Raises LedgerUnavailable."""
        room = forms.room + CLOSE_MARGIN_BYTES
        wanted = self._gathered_bytes + self._promised + 2 * room
        if self._position + wanted > self._good_to:
            self._make_room(wanted)
        self._promised += room
        self._gather(forms, payload)
        return room

    def close_by_form(self, forms: RecordForms, payload: bytes, room: int) -> None:
        """`close` with the payload made, whose number is `closed + 1`, at the next `commit`."""
        self.closed += 1
        self._promised -= room
        self._gather(forms, payload)

    def commit(self) -> None:
        """Append what was gathered: once this returned it survives."""
        gathered = self._gathered
        if gathered:
            self._gathered = []
            self._gathered_bytes = EMPTY_RUN_BYTES
            self._append(gathered[0] if len(gathered) == 1 else RUN_BEGIN + b"\n".join(gathered))

    def adopt(self, request_id: str, room: int) -> None:
        """A request that was opened by `open_by_form` will be closed by `close`."""
        self._closing_rooms[request_id] = room

    def close(self, row: LedgerRow, charges: Charges) -> None:
        """Record the end of a request, or a refusal that was never opened. Never raises."""
        self.commit()
        self.closed += 1
        payload = payload_of(CLOSED, row, charges, self.closed)
        size = record_bytes(len(payload))
        room = self._closing_rooms.pop(row.id, 0)
        self._promised -= room
        if size > room and self._position + size + self._promised > self._good_to:
            try:
                self._make_room(size + self._promised)
            except LedgerUnavailable:
                if not room:
                    self.dropped_refusals += 1
                    self.closed -= 1
                    return
                payload = payload_of(CLOSED, _bare(row), charges, self.closed)
                size = record_bytes(len(payload))
        self._append(payload)

    def had_no_room(self, within_s: float = FULL_FOR_S) -> bool:
        """Whether a segment that was needed could not be had lately."""
        return self._retry_at_s + within_s > time.monotonic() and bool(self._retry_at_s)

    def dispose(self) -> None:
        """End of the worker: the lock is let go, the keeper takes what is left."""
        self.commit()
        os.close(self._lock_descriptor)

    def _gather(self, forms: RecordForms, payload: bytes) -> None:
        gathered = self._gathered_bytes + len(payload) + 1
        full = gathered > MAX_RECORD_BYTES or self._position + gathered > self._size
        if full or forms.defined_in is not self._current:
            gathered = self._prepare_to_gather(forms, len(payload) + 1)
        self._gathered.append(payload)
        self._gathered_bytes = gathered

    def _prepare_to_gather(self, forms: RecordForms, size: int) -> int:
        """The segment that the record comes to has room for it and defines its form. Returns `_gathered_bytes` with
        it."""
        defining = record_bytes(len(forms.definition))
        self.commit()
        if self._position + defining + EMPTY_RUN_BYTES + size > self._size:
            self._rotate()
        if forms.defined_in is not self._current:
            self._append(forms.definition)
            forms.defined_in = self._current
        return EMPTY_RUN_BYTES + size

    def _append(self, payload: bytes) -> None:
        position = self._position
        length = len(payload)
        size = (length + PADDED_HEAD_BYTES) & ~7
        if position + size > self._size:
            self._rotate()
            position = 0
        memory = self._memory
        start = position + HEAD_BYTES
        memory[start : start + length] = payload
        _pack_head(memory, position, length, _crc32(payload))
        self._position = position + size

    def _rotate(self) -> None:
        """Go on in the next segment; another one is prepared meanwhile."""
        if self._position + HEAD_BYTES <= self._size:
            _pack_head(self._memory, self._position, END_MARK, 0)
        with self._allocating:  # held by the thread only while it allocates
            self._past.append(self._current.path)
        self._current.memory.close()
        self._current = self._spares.popleft()
        self._memory = self._current.memory
        self._position = 0
        self._count_free()
        threading.Thread(target=self._prepare, name="spool-prepare", daemon=True).start()

    def _prepare(self) -> None:
        if not self._spares:
            self._allocate()

    def _make_room(self, wanted: int) -> None:
        """Count what the thread has prepared, else allocate here. Raises LedgerUnavailable."""
        self._count_free()
        while self._position + wanted > self._good_to:
            now_s = time.monotonic()
            if now_s < self._retry_at_s:
                raise _full()
            if not self._allocate():
                self._retry_at_s = now_s + RETRY_AFTER_S
                raise _full()
            self._count_free()

    def _count_free(self) -> None:
        """Up to where records can surely go on, as if all segments were one: the end of each may be too short for the
        next record."""
        here = max(self._position, self._size - MAX_RECORD_BYTES)
        self._good_to = here + len(self._spares) * (self._size - MAX_RECORD_BYTES)

    def _allocate(self) -> bool:
        """A new spare segment; False while the disk is full or the keeper is too far behind. Segments are used in the
        order of their numbers, in which the keeper reads them: so it becomes a spare while the lock is held."""
        with self._allocating:
            self._past = [path for path in self._past if path.exists()]
            if (len(self._past) + len(self._spares) + 2) * self._size > self._max_bytes + self._size:
                return False
            path = self._folder / f"{self._incarnation}-{self._next_number:06d}.spool"
            try:
                segment = _Segment(path, self._size)
            except OSError as error:
                log.warning("no room for a spool segment", extra={"error": str(error)})
                return False
            self._next_number += 1
            self._spares.append(segment)
            return True


def _take_lock(folder: Path, incarnation: str) -> int:
    """Hold `<incarnation>.lock` for as long as this process lives: that is how the keeper knows."""
    made = folder / f"{incarnation}.making"
    descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    made.rename(folder / f"{incarnation}.lock")
    return descriptor


def _bare(row: LedgerRow) -> LedgerRow:
    """The row without what is only nice to have."""
    row.client_request_id = row.process = row.user = row.container = row.attempt_log = None
    return row


def _full() -> LedgerUnavailable:
    return LedgerUnavailable(
        "the ledger's spool is full: the database or the disk cannot take more",
        fix="retry shortly; the gateway's operator finds the cause with `sluicegate doctor`",
        retry_after_s=1.0,
    )
