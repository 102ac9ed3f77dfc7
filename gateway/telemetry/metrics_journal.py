"""Keeps the counters over the keeper's death: they never go backwards, and still agree with the ledger.

An append-only file of JSON lines in the data folder. After each batch of rows one line with the new values of the
series that changed is written (no sync: what a process wrote outlives it), together with the number of the newest close
record that was counted of each worker. A keeper that was killed between its commit and this line reads those records
again from the spool, finds them in SQL, and still sees by their number that they have not been counted.

A line that cannot be read (torn by a power loss, of another release) is left out; the file is written anew when it has
grown.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.telemetry.ledger_metrics import LedgerMetrics

log = logging.getLogger(__name__)

VERSION: Final = 1
REWRITE_BYTES: Final = 8 * 1024 * 1024
MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
NO_CHANGES: Final[tuple[Any, ...]] = ([], [], {})
"""As `LedgerMetrics.take_changes` would tell them."""
Marks = dict[str, int]


class MetricsJournal:
    """Used from the keeper's event loop: a write to the page cache a batch."""

    def __init__(self, path: Path, metrics: LedgerMetrics) -> None:
        self._path = path
        self._metrics = metrics
        self.marks: Marks = {}
        """By incarnation: the number of the newest close record that is counted."""
        self.node: dict[str, Any] = {}
        """What else is to be kept: CPU of processes, deaths of workers (`store.keeper_watch`)."""
        self._node_written: dict[str, Any] = {}
        self._descriptor = -1
        self._size = 0
        self._read()
        self._rewrite()

    def write(self) -> None:
        """Write down what has changed. Never raises: a full disk must not end the keeper."""
        if self._descriptor < 0:
            return
        changes = self._metrics.take_changes()
        if changes is None and self.node == self._node_written:
            return
        self._append([VERSION, changes or NO_CHANGES, self.marks, self.node])
        self._node_written = self.node
        if self._size > REWRITE_BYTES:
            self._rewrite()

    def forget(self, alive: Iterable[str]) -> None:
        """Marks of workers whose spool is gone are needed no more."""
        kept = set(alive)
        for incarnation in [each for each in self.marks if each not in kept]:
            del self.marks[incarnation]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, line: list[Any]) -> None:
        text = b"\n" + orjson.dumps(line)  # on a line of its own even after one that was torn
        try:
            written = os.write(self._descriptor, text)
        except OSError as error:
            log.warning("metrics are not written down", extra={"error": str(error)})
            return
        self._size += written

    def _read(self) -> None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        unread = 0
        for text in content.splitlines():
            if not text:
                continue
            try:
                version, changes, marks, node = orjson.loads(text)
                if version != VERSION:
                    raise ValueError(version)
                self._metrics.restore(changes)
            except (ValueError, TypeError, KeyError):
                unread += 1
                continue
            self.marks, self.node = marks, node
        if unread:
            log.warning("lines of the metrics journal could not be read", extra={"lines": unread})

    def _rewrite(self) -> None:
        """The present state alone, in place of all that led to it."""
        making = self._path.with_suffix(".making")
        old = self._descriptor
        try:
            self._descriptor = os.open(
                making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            self._size = 0
            for changes in self._metrics.everything():
                self._append([VERSION, changes, self.marks, self.node])
            making.rename(self._path)
        except OSError as error:
            log.warning("metrics are not written down", extra={"error": str(error)})
        finally:
            if old >= 0:
                os.close(old)
