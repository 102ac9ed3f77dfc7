"""A cgroup (v2) for each pytest process: all that it starts and all sockets that it makes are in it, and its agents'
probes are about it alone (`--cgroup`). So tests that run at once neither see nor deny each other's connections.

Without root, or where the hierarchy cannot be written to, there is none, and `cgroup_root` is the hierarchy's own.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_own: Path | None = None


def hierarchy() -> Path:
    """Where cgroup v2 is mounted."""
    unified = Path("/sys/fs/cgroup/unified")
    return unified if unified.is_dir() else Path("/sys/fs/cgroup")


def cgroup_root() -> Path:
    """The folder below which tests make cgroups, and whose programs their agents' probes see."""
    return _own or hierarchy()


def cgroup_name(folder: Path) -> str:
    """A cgroup as /proc/PID/cgroup and rules have it."""
    return "/" + str(folder.relative_to(hierarchy()))


@contextmanager
def own_cgroup() -> Iterator[None]:
    """This process is in one of its own until the block ends; what it left running there is killed then."""
    global _own
    before = _present()
    folder = hierarchy() / f"sgl{os.getpid()}.slice"  # so that a unit below it is the system's
    if before is None:
        yield
        return
    try:
        sweep_cgroups()
        remove_cgroup(folder)  # of a process that had our number
        folder.mkdir()
        (folder / "cgroup.procs").write_text("0")
    except OSError:
        yield
        return
    _own = folder
    try:
        yield
    finally:
        _own = None
        (before / "cgroup.procs").write_text("0")
        remove_cgroup(folder)


def _present() -> Path | None:
    """Where this process is. None: not root, or no such hierarchy."""
    if os.geteuid() != 0:
        return None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return hierarchy() / line[3:].lstrip("/")
    return None


def remove_cgroup(cgroup: Path) -> None:
    """Kill what is in it and below it and remove all of it; one that is gone already is no error."""
    for _ in range(100):
        if not cgroup.is_dir():  # another process may sweep, too
            return
        with contextlib.suppress(OSError):
            (cgroup / "cgroup.kill").write_text("1")
        try:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(folder)
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"{cgroup} cannot be removed: {(cgroup / 'cgroup.procs').read_text()}")


def sweep_cgroups() -> None:
    """Remove those of dead processes."""
    for path in hierarchy().glob("sgl*"):
        number = re.fullmatch(r"sgl(\d+)\.slice", path.name)
        if number is not None and not Path(f"/proc/{number[1]}").exists():
            remove_cgroup(path)
