"""Pipes that bytes cross between two sockets without being copied: lent while bytes are within, and not for longer."""

import fcntl
import os
from typing import Final

PIPE_BYTES: Final = 256 * 1024
"""What a pipe takes at most: 64 pages, and as much of a reader who stands still. (docs/performance.md: smaller ones
cost more CPU; 1 MB a quarter less.)"""
SMALLEST_BYTES: Final = 32 * 1024
"""Where the kernel gives less, for an unprivileged user has pages in too many pipes (pipe-user-pages-soft, pipe(7)),
copying is better."""
MOST_PIPES: Final = 256
"""Together 64 MB, the kernel's limit for a user without privileges."""
KEPT: Final = 32
"""Empty pipes that wait for the next borrower."""


class Pipe:
    __slots__ = ("read_fd", "size", "write_fd")

    def __init__(self) -> None:
        """Raise OSError where there are too many open files or pages in pipes."""
        self.read_fd, self.write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.size = fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            self.size = fcntl.fcntl(self.write_fd, fcntl.F_GETPIPE_SZ)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


class PipePool:
    """Of one event loop. At most `most` pipes are lent: a reader who stands still keeps one for as long as it does."""

    __slots__ = ("_free", "_most", "lent")

    def __init__(self, most: int = MOST_PIPES) -> None:
        self._most = most
        self._free: list[Pipe] = []
        self.lent = 0

    def take(self) -> Pipe | None:
        """An empty pipe; None: there is none to be had now."""
        if self._free:
            self.lent += 1
            return self._free.pop()
        if self.lent >= self._most:
            return None
        try:
            pipe = Pipe()
        except OSError:
            return None
        if pipe.size < SMALLEST_BYTES:
            pipe.close()
            return None
        self.lent += 1
        return pipe

    def give_back(self, pipe: Pipe, *, empty: bool) -> None:
        self.lent -= 1
        if empty and len(self._free) < KEPT:
            self._free.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Close what is not lent."""
        while self._free:
            self._free.pop().close()
