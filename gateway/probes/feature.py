"""What `main` runs: one `Feature` for each thing that probes are used for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from gateway.probes.program import Program

Tell: TypeAlias = Callable[[Mapping[str, Any], Sequence[int]], None]
"""Sends the agent a message and descriptors with it."""


class Feature(Protocol):
    """Made once a process. What it cannot do on this host it says, and the others go on without it."""

    name: str
    kinds: frozenset[str]
    """Types of the agent's messages that it gets."""

    def load(self) -> None:
        """Compile, load, attach. Raises BccMissing, ProgramRefused, OSError."""

    @property
    def programs(self) -> Sequence[Program]:
        """Those loaded, for what they cost."""

    def lost(self) -> Mapping[str, int]:
        """What maps and buffers had no room for, by what it was; since the load."""

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """`descriptors` are closed by whoever calls."""

    async def run(self) -> None:
        """For ever."""


def cgroup_root() -> Path:
    """Where cgroup v2 is mounted (/proc/self/mounts). Raises OSError where it is not."""
    with Path("/proc/self/mounts").open(encoding="utf-8") as mounts:
        for line in mounts:
            words = line.split()
            if len(words) > 2 and words[2] == "cgroup2":
                return Path(words[1])
    raise OSError("cgroup v2 is not mounted on this host: mount -t cgroup2 none /sys/fs/cgroup/unified")


def cgroup_of(pid: int) -> Path:
    """The v2 cgroup of a process, as a folder. Raises OSError."""
    with Path(f"/proc/{pid}/cgroup").open(encoding="utf-8") as lines:
        for line in lines:
            number, _, path = line.rstrip("\n").split(":", 2)
            if number == "0":
                return cgroup_root() / path.lstrip("/")
    raise OSError(f"process {pid} is in no v2 cgroup")
