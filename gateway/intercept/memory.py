"""What the agent knows before any worker has spoken: rules, marks and whether interception is up, from its last life.

One small file beside the socket, opened before privileges are given up (its folder may be another user's) and written
in place: a length and a checksum tell a torn write, after which it counts as empty.
"""

import errno
import os
import stat
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import orjson

from gateway.intercept.marks import Marks
from gateway.policy.interception import InterceptionRule, plain, rule_of

FORMAT: Final = 1


@dataclass(slots=True)
class Known:
    rules: list[InterceptionRule] = field(default_factory=list)
    up: bool = True
    marks: Marks | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    """Of rules in the tables, by name."""
    ports: dict[str, int] = field(default_factory=dict)
    """Of listeners, by name: the next life has the same, so that its tables are the same."""


class Memory:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises OSError, also for what is not a file of this name alone: the folder's owner may have put it there, to
        have us write to a file that is not theirs."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(descriptor)
            raise OSError(errno.EPERM, "not a file of this name alone", str(path))
        return cls(descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> Known:
        size = os.fstat(self._descriptor).st_size
        head, _, body = os.pread(self._descriptor, size, 0).partition(b"\n")
        try:
            length, checksum = map(int, head.split())
            body = body[:length]
            if len(body) != length or zlib.crc32(body) != checksum:
                return Known()
            kept: dict[str, Any] = orjson.loads(body)
            if kept["format"] != FORMAT:
                return Known()
            marks = kept["marks"]
            return Known(
                [rule_of(each) for each in kept["rules"]],
                bool(kept["up"]),
                None if marks is None else Marks.of(marks),
                {str(name): int(number) for name, number in kept["numbers"].items()},
                {str(name): int(port) for name, port in kept.get("ports", {}).items() if 1024 <= int(port) < 65536},
            )
        except (ValueError, KeyError, TypeError):
            return Known()

    def write(self, known: Known) -> None:
        body = orjson.dumps(
            {
                "format": FORMAT,
                "up": known.up,
                "marks": None if known.marks is None else known.marks.plain(),
                "rules": [plain(rule) for rule in known.rules],
                "numbers": known.numbers,
                "ports": known.ports,
            }
        )
        whole = b"%d %d\n%b" % (len(body), zlib.crc32(body), body)
        os.pwrite(self._descriptor, whole, 0)
        os.ftruncate(self._descriptor, len(whole))
        os.fdatasync(self._descriptor)
