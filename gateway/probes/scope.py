"""What an agent's probes are about: one cgroup of the v2 hierarchy and all below it (`sluicegate agent --cgroup`), by
default the whole hierarchy. Programs are attached there; rules and findings name cgroups from the hierarchy's root on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gateway.probes.feature import cgroup_root


class NoCgroup(ValueError):
    """The text says what was named, and what to do."""


@dataclass(frozen=True, slots=True)
class Scope:
    named: Path | None = None
    """Its folder; None = where the hierarchy is mounted."""
    name: str = ""
    """As /proc/PID/cgroup has it."""

    @classmethod
    def of(cls, path: Path | None) -> Self:
        """`path`: a folder, or as /proc/PID/cgroup has it, from the hierarchy's root on. Raises NoCgroup."""
        if path is None:
            return cls()
        try:
            root = cgroup_root().resolve()
        except OSError as error:
            raise NoCgroup(str(error)) from error
        folder = path.resolve()
        if folder != root and root not in folder.parents:
            folder = (root / str(path).lstrip("/")).resolve()
        if folder == root:
            return cls()
        if root not in folder.parents or not (folder / "cgroup.procs").exists():
            raise NoCgroup(f"{path} is no cgroup of the v2 hierarchy, which is mounted at {root}: mkdir {root}/NAME")
        return cls(folder, f"/{folder.relative_to(root)}")

    @property
    def folder(self) -> Path:
        """Where programs are attached. Raises OSError."""
        return cgroup_root() if self.named is None else self.named

    @property
    def whole(self) -> bool:
        return self.named is None

    def holds(self, cgroup: str) -> bool:
        """`cgroup`: of the v2 hierarchy, as /proc/PID/cgroup has it."""
        if self.named is None:
            return True
        return cgroup == self.name or cgroup.startswith(f"{self.name}/")
