"""The files that one worker appends bodies to: `DAY/ROUTE-until-DAY/WRITER-BEGUN.bodies` (`policy.body_records`).

Written by one thread with plain `write`s, so that what was appended survives the worker's death. A record that could
not be written whole is cut off again; one that death has cut is the last of its file, which nobody appends to any more.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.policy.body_records import Bodies, BodyWriter, file_name

FILE_BYTES: Final = 32 * 1024 * 1024
"""A file that has grown so long is followed by the next: what a reader has to look through, and what goes at once when
the oldest make room."""
FILES_AT_LEAST: Final = 16
"""Where all together may take little, files are shorter."""
MOST_OPEN: Final = 16
LOOK_AGAIN_S: Final = 5.0
LOOK_AGAIN_BYTES: Final = 8 * 1024 * 1024
"""How much one worker writes, at most, before it looks again at how much there is."""


class NoRoom(Exception):
    """The bodies have what they may take of the disk, or others need the rest."""


class _File:
    __slots__ = ("fd", "key", "offset", "seal")

    def __init__(self, path: Path, key: bytes) -> None:
        self.key = key
        self.seal = BodyWriter(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.offset = 0
        try:
            self.write(self.seal.head)
        except OSError:
            os.close(self.fd)
            path.unlink(missing_ok=True)
            raise

    def write(self, record: bytes) -> None:
        """All of it or nothing. Raises OSError."""
        done = 0
        try:
            while done < len(record):
                done += os.pwrite(self.fd, record[done:], self.offset + done)
        except OSError:
            os.ftruncate(self.fd, self.offset)
            raise
        self.offset += len(record)

    @property
    def gone(self) -> bool:
        """Somebody has removed it."""
        return os.fstat(self.fd).st_nlink == 0


class BodyFiles:
    """Of one worker, for one thread."""

    def __init__(self, folder: Path, writer: str, most_bytes: int, spare_bytes: int) -> None:
        self._folder = folder
        self._writer = writer
        self._most_bytes = most_bytes
        self._file_bytes = min(FILE_BYTES, most_bytes // FILES_AT_LEAST)
        self._spare_bytes = spare_bytes
        self._open: dict[str, _File] = {}
        """By folder; that which was not used for longest comes first."""
        self._looked_s = float("-inf")
        self._since_look = 0
        self._room = 0
        self._last_ms = 0

    def append(self, folder: str, key: bytes, bodies: Bodies) -> None:
        """Raises NoRoom, OSError."""
        self._look()
        file = self._file(folder, key)
        record = file.seal.record(bodies, file.offset)
        if len(record) > self._room:
            raise NoRoom("all that bodies may take of the disk is taken")
        try:
            file.write(record)
        except OSError:
            self._looked_s = float("-inf")
            raise
        self._room -= len(record)
        self._since_look += len(record)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1].fd)

    def _file(self, folder: str, key: bytes) -> _File:
        file = self._open.pop(folder, None)
        if file is not None and (file.offset >= self._file_bytes or file.key != key or file.gone):
            os.close(file.fd)
            file = None
        if file is None:
            self._last_ms = max(self._last_ms + 1, time.time_ns() // 1_000_000)
            file = _File(self._folder / folder / file_name(self._writer, self._last_ms), key)
        self._open[folder] = file
        while len(self._open) > MOST_OPEN:
            os.close(self._open.pop(next(iter(self._open))).fd)
        return file

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_AGAIN_S and self._since_look < LOOK_AGAIN_BYTES:
            return
        self._looked_s, self._since_look = now_s, 0
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free - self._spare_bytes
        self._room = min(self._most_bytes - size_of(self._folder), free)


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(size for _, size in _files(folder))


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in folder.glob("*/*/*.bodies"):
        try:
            yield path, path.stat().st_size
        except FileNotFoundError:
            continue
