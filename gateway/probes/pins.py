"""Links that outlive this process: files in a bpf file system (bpf(2), BPF_OBJ_PIN), a folder for each agent, by its
network namespace and cgroup. Who removes the folder removes what is pinned in it: `rm -r /sys/fs/bpf/sluicegate-*`.
"""

import ctypes
import os
import shutil
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.probes.bpf_calls import Link
from gateway.probes.scope import Scope

PLACE: Final = Path("/sys/fs/bpf")
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
"""sys/mount.h"""


def mounted() -> bool:
    """The last mount at a place is the one that is seen."""
    with Path("/proc/self/mounts").open(encoding="utf-8") as mounts:
        kinds = [words[2] for words in map(str.split, mounts) if words[1] == str(PLACE)]
    return bool(kinds) and kinds[-1] == "bpf"


def mount() -> str | None:
    """See that there is a bpf file system; why not, where there is none. Takes CAP_SYS_ADMIN."""
    if mounted():
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", bytes(PLACE), b"bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"mode=0700"):
        return f"a bpf file system cannot be mounted: {os.strerror(ctypes.get_errno())}"
    return None


class Pins:
    """Of one feature, of this network namespace and scope."""

    def __init__(self, scope: Scope) -> None:
        self._network = f"sluicegate-{Path('/proc/self/ns/net').stat().st_ino}"
        part = "" if scope.named is None else f"-{zlib.crc32(bytes(scope.named)):08x}"
        self._folder = PLACE / (self._network + part)

    def put(self, links: Sequence[Link]) -> str | None:
        """These are pinned from now on, and no others, of whatever process. Returns why they could not be."""
        for folder in self._residue():
            shutil.rmtree(folder, ignore_errors=True)
        if not links:
            shutil.rmtree(self._folder, ignore_errors=True)
            return None
        if not mounted():
            return f"it ends with the agent: mount -t bpf bpf {PLACE}"
        fresh = self._folder / f"{os.getpid()}-{time.monotonic_ns()}"
        try:
            before = list(self._folder.iterdir()) if self._folder.is_dir() else []
            fresh.mkdir(parents=True, mode=0o700)
            for number, link in enumerate(links):
                link.pin(fresh / str(number))
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            return f"it ends with the agent: its links cannot be pinned to {PLACE}: {error.strerror}"
        for folder in before:
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def _residue(self) -> list[Path]:
        """What an agent of this network namespace left that was about another cgroup; there is one agent at a time."""
        found = [PLACE / self._network, *PLACE.glob(f"{self._network}-*")]
        return [folder for folder in found if folder != self._folder and not _is_held(folder)]


def _is_held(folder: Path) -> bool:
    """By a process that lives."""
    try:
        pids = [each.name.partition("-")[0] for each in folder.iterdir()]
    except OSError:
        return False
    return any(Path(f"/proc/{pid}").exists() for pid in pids)
