"""What of a process's cgroups only root can have made: users to whom a part of the tree was given, as systemd gives it
to each who signs in, may name what is within it after anybody's unit or container.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.probes.containers import container_of
from gateway.probes.feature import cgroup_root

V1_ROOT: Final = Path("/sys/fs/cgroup")
V2: Final = ""
"""In /proc/PID/cgroup, in place of the controllers."""


def held(cgroups: Mapping[str, str]) -> dict[str, Any]:
    """`{"cgroup": path | null, "container": id | null}`: the deepest that is root's all the way, and the container that
    this names. `cgroups`: paths by controllers, as /proc/PID/cgroup has them."""
    paths = {controllers: _held(_mounted(controllers), path) for controllers, path in cgroups.items()}
    found = container_of(path for path in paths.values() if path is not None)
    return {"cgroup": paths.get(V2), "container": None if found is None else found[0]}


def _mounted(controllers: str) -> Path | None:
    try:
        return cgroup_root() if controllers == V2 else V1_ROOT / controllers.removeprefix("name=")
    except OSError:
        return None


def _held(root: Path | None, path: str) -> str | None:
    if root is None or not _is_roots(root):
        return None
    deepest = root
    for name in path.strip("/").split("/"):
        if name in ("", ".."):  # of another cgroup namespace: above our root
            break
        if not _is_roots(deepest / name):
            break
        deepest /= name
    return "/" + str(deepest.relative_to(root)).removeprefix(".")


def _is_roots(folder: Path) -> bool:
    """Nobody but root makes folders in it, or moves processes into it."""
    try:
        found = [folder.stat()]
        if (folder / "cgroup.procs").exists():
            found.append((folder / "cgroup.procs").stat())
    except OSError:
        return False
    return all(each.st_uid == 0 and not each.st_mode & stat.S_IWOTH and _group(each) for each in found)


def _group(found: os.stat_result) -> bool:
    return found.st_gid == 0 or not found.st_mode & stat.S_IWGRP
