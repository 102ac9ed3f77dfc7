"""From all spools of this node to SQL, and the end of workers that died. All of it runs in the keeper's SQL thread."""

import logging
import os
import time
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError

from gateway.policy.records import SHARED, Record, mend
from gateway.policy.usage import LEDGER_FIELDS
from gateway.store import leases
from gateway.store.ingest import Entered, ingest, known_ids
from gateway.store.row_groups import RowGroup
from gateway.store.spool_reader import SpoolReader, is_alive, segments_in
from gateway.store.sql_thread import write_transaction

log = logging.getLogger(__name__)

BATCH_S: Final = 0.1
"""How long a transaction may take: a lease that is asked for waits behind it. Bigger ones cost less a row."""
FEWEST_ROWS: Final = 100
FIRST_ROWS: Final = 400
MOST_ROWS: Final = 1600
"""Of one transaction."""


@dataclass(slots=True)
class Progress:
    """What one step did."""

    new: list[Record] = field(default_factory=list)
    new_rows: list[RowGroup] = field(default_factory=list)
    """Those of `new`."""
    ended: list[Record] = field(default_factory=list)
    """All that are in SQL now, `new` and known ones: a keeper that was killed after its commit comes by them again."""
    more: bool = False
    """A batch was full: there is more to do at once."""
    recorded: int = 0
    """How many ended requests of the incarnation are in SQL."""


@dataclass(frozen=True, slots=True)
class SyncDue:
    """Files to sync, then segments to delete. `run` waits for the disk: not in the SQL thread, where asks wait."""

    descriptors: list[int]
    removable: dict[str, list[Path]]

    def run(self) -> None:
        """Sync and close. Raises OSError where the disk fails; then nothing may be deleted."""
        try:
            for descriptor in self.descriptors:
                os.fdatasync(descriptor)
        finally:
            for descriptor in self.descriptors:
                os.close(descriptor)


class SpoolLedger:
    """Readers of all spools in the folder."""

    def __init__(self, engine: Engine, folder: Path, node: str) -> None:
        self._engine = engine
        self._folder = folder
        self._node = node
        self._readers: dict[str, SpoolReader] = {}
        self._new_readers: set[str] = set()
        self._batch_rows = FIRST_ROWS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def look(self) -> list[str]:
        """Find spools and segments that are new. Returns all incarnations that have a spool."""
        for incarnation, numbers in segments_in(self._folder).items():
            reader = self._readers.get(incarnation)
            if reader is None:
                reader = self._readers[incarnation] = SpoolReader(self._folder, incarnation)
                self._new_readers.add(incarnation)
            reader.add_segments(numbers)
        return list(self._readers)

    def work(self, incarnation: str, connected: bool) -> Progress:
        """One batch of one spool. `connected`: its worker's connection stands, so it is alive. Raises SQLAlchemyError;
        then nothing is lost and the next pass goes on."""
        progress = Progress()
        reader = self._readers.get(incarnation)
        if reader is None:  # ended since the look
            return progress
        # Asked before reading: what a worker wrote while it lived is then surely read.
        dead = not connected and not is_alive(self._folder, incarnation)
        if dead:
            reader.add_segments(segments_in(self._folder).get(incarnation, ()))  # made since the last look
        self._advance(reader, progress)
        progress.recorded = reader.recorded
        if dead and not progress.more:
            self._end(reader, progress)
        return progress

    def bury_strangers(self, connected: Set[str]) -> None:
        """Leases of workers of this node that left neither spool nor lock. One with a spool keeps them until that is in
        SQL."""
        present = segments_in(self._folder)
        with write_transaction(self._engine) as connection:
            for incarnation in leases.incarnations_of(connection, self._node):
                known = incarnation in connected or incarnation in self._readers or incarnation in present
                if not known and not is_alive(self._folder, incarnation):
                    leases.bury(connection, incarnation)

    def sync_due(self) -> SyncDue:
        """What is to be put on disk now, and what may then go."""
        descriptors = [descriptor for reader in self._readers.values() for descriptor in reader.to_sync()]
        wal = self._log_descriptor()
        if wal is not None:
            descriptors.append(wal)
        removable = {incarnation: reader.removable() for incarnation, reader in self._readers.items()}
        return SyncDue(descriptors, removable)

    def remove(self, due: SyncDue) -> None:
        """Delete the segments that were in SQL when it was synced."""
        for incarnation, paths in due.removable.items():
            reader = self._readers.get(incarnation)
            if reader is not None:
                reader.remove(paths)

    def open_rows(self) -> list[dict[str, Any]]:
        """Requests in flight, newest first."""
        rows = [
            dict(zip(LEDGER_FIELDS, record.values, strict=True))
            for reader in self._readers.values()
            for record in reader.open.values()
        ]
        rows.sort(key=lambda row: (row["started_at_ns"], row["id"]), reverse=True)
        return rows

    def in_flight(self) -> dict[str, int]:
        """Requests in flight by route. Safe in any thread."""
        at = SHARED.index("route")
        opened = [record for reader in list(self._readers.values()) for record in reader.open.values()]
        return dict(Counter(record.kind.shared[at] or "" for record in opened))

    def waiting(self, incarnation: str) -> int:
        """How many ended rows of this worker were read and are not in SQL yet."""
        reader = self._readers.get(incarnation)
        return 0 if reader is None else reader.waiting

    @property
    def incarnations(self) -> list[str]:
        """Workers whose spool is not yet done with."""
        return list(self._readers)

    def _advance(self, reader: SpoolReader, progress: Progress) -> None:
        rows = self._batch_rows
        reader.read(rows)
        batch = reader.take_ended(rows)
        if batch:
            began_s = time.monotonic()
            self._ingest(reader, batch, progress)
            progress.more = len(batch) == rows
            self._fit_batch(len(batch), time.monotonic() - began_s)
        elif reader.incarnation in self._new_readers:
            # Read from the beginning after a restart: what seems open may have ended in a segment that is gone.
            self._new_readers.discard(reader.incarnation)
            if reader.open:
                with self._engine.begin() as connection:
                    reader.resolve_open(known_ids(connection, list(reader.open)))

    def _fit_batch(self, rows: int, took_s: float) -> None:
        """As big as `BATCH_S` allows on this database and machine, at this time."""
        if took_s > BATCH_S:
            self._batch_rows = max(FEWEST_ROWS, rows // 2)
        elif rows == self._batch_rows and took_s < BATCH_S / 2:
            self._batch_rows = min(MOST_ROWS, 2 * rows)

    def _ingest(self, reader: SpoolReader, batch: list[Record], progress: Progress) -> None:
        try:
            new = self._insert(reader, batch)
        except (OverflowError, DataError):  # figures that no SQL integer holds, reported by some upstream
            for record in batch:
                mend(record)
            new = self._insert(reader, batch)
        reader.resolve(len(batch))
        progress.new += new.records
        progress.new_rows += new.groups
        progress.ended += batch

    def _insert(self, reader: SpoolReader, batch: list[Record]) -> Entered:
        """What is known lies at the beginning of what a reader reads: behind a batch that was new all is new."""
        if reader.past_known:
            try:
                with write_transaction(self._engine) as connection:
                    return ingest(connection, self._node, reader.incarnation, batch, all_new=True)
            except IntegrityError:  # a commit that failed for us alone
                reader.past_known = False
        with write_transaction(self._engine) as connection:
            new = ingest(connection, self._node, reader.incarnation, batch)
        reader.past_known = len(new.records) == len(batch)
        return new

    def _end(self, reader: SpoolReader, progress: Progress) -> None:
        """The worker is dead and all that it ended is in SQL."""
        interrupted = len(reader.open)
        reader.interrupt()
        while batch := reader.take_ended(self._batch_rows):
            self._ingest(reader, batch, progress)
        with write_transaction(self._engine) as connection:
            leases.bury(connection, reader.incarnation)
        wal = self._log_descriptor()
        if wal is not None:
            SyncDue([wal], {}).run()
        reader.remove_all()
        del self._readers[reader.incarnation]
        self._new_readers.discard(reader.incarnation)
        log.info(
            "spool of an ended worker is in the ledger",
            extra={"incarnation": reader.incarnation, "interrupted": interrupted, "torn": reader.torn},
        )

    def _log_descriptor(self) -> int | None:
        """SQLite commits without waiting for the disk (`synchronous = NORMAL`): its log is synced by us instead, before
        any segment is deleted. None on PostgreSQL, which has synced at commit.

        Never open the database file itself: closing any descriptor of it drops every POSIX lock that SQLite holds in
        this process, and the next connection elsewhere then deletes the log under our feet. Nobody locks the log, and
        what has left it was synced by SQLite's checkpoint.
        """
        if self._engine.dialect.name != "sqlite" or not self._engine.url.database:
            return None
        try:
            return os.open(self._engine.url.database + "-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
