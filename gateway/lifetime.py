"""How our processes hang together: children that end with their parent, settings handed down, limits raised."""

import ctypes
import gc
import os
import resource
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""linux/prctl.h: the signal a process gets when its parent dies."""

REPLACED: Final = signal.SIGUSR1
"""Tells a worker that a successor serves: it goes on until its last answer has ended."""


def end_with_parent(parent_pid: int) -> None:
    """Get SIGTERM when the parent dies, even by kill -9; end at once if it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(0)


def raise_file_limit() -> None:
    """As many open files as the hard limit allows: each stream takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def calm_collector() -> None:
    """What the start allocated lives for ever: keep the cycle collector from walking it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
