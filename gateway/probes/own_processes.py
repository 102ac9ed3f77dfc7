"""Which processes are the gateway's: its workers, their supervisor, and all that this has started."""

from collections.abc import Iterable
from pathlib import Path


def family_of(workers: Iterable[int]) -> frozenset[int]:
    """Workers, supervisor, keeper and their children, as /proc has them now. Of a worker whose supervisor is gone
    itself and what it started."""
    parents = _parents()
    heads = set()
    for worker in workers:
        parent = parents.get(worker)
        heads.add(parent if parent is not None and _alike(worker, parent) else worker)
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    family: set[int] = set()
    new = [head for head in heads if head in parents]
    while new:
        pid = new.pop()
        if pid not in family:
            family.add(pid)
            new += children.get(pid, ())
    return frozenset(family)


def _parents() -> dict[int, int]:
    """By process; proc_pid_stat(5)."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text(encoding="ascii", errors="replace")
                found[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    return found


def _alike(worker: int, parent: int) -> bool:
    """A supervisor runs the same program as its worker, as the same user; who adopts an orphan does not."""
    try:
        folders = [Path(f"/proc/{pid}") for pid in (worker, parent)]
        first, second = (folder.stat().st_uid for folder in folders)
        mine, its = ((folder / "exe").stat() for folder in folders)
    except OSError:
        return False
    return first == second and (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino)


def executable_of(pid: int) -> str | None:
    """None where the process is gone, or a thread of the kernel's."""
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return None
