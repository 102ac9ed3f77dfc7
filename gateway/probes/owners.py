"""Names for what programs know by number: users, cgroups, and the containers in those."""

import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from gateway.probes.container_ids import container_of
from gateway.probes.feature import cgroup_of, cgroup_root
from gateway.probes.identity import user_name
from gateway.probes.trace_events import Who

KEPT: Final = 4096
WALK_S: Final = 1.0
"""The tree of cgroups is not walked more often."""


class Owners:
    """Bounded caches; used from one event loop."""

    def __init__(self) -> None:
        self._users: dict[int, str | None] = {}
        self._cgroups: OrderedDict[int, str] = OrderedDict()
        self._walked_s = -WALK_S
        try:
            self._root: Path | None = cgroup_root()
        except OSError:
            self._root = None

    def describe(self, who: Who) -> dict[str, Any]:
        """`{"pid", "process", "uid", "user", "cgroup", "container"}`; all null where nobody was stamped."""
        if not who.pid:
            return dict.fromkeys(("pid", "process", "uid", "user", "cgroup", "container"))
        cgroup = self.cgroup(who.cgroup, who.pid)
        return {
            "pid": who.pid,
            "process": who.comm.decode(errors="replace"),
            "uid": who.uid,
            "user": self.user(who.uid),
            "cgroup": cgroup,
            "container": container_of(cgroup),
        }

    def user(self, uid: int) -> str | None:
        """None: it has no account here."""
        if uid not in self._users:
            if len(self._users) >= KEPT:
                self._users.clear()
            self._users[uid] = user_name(uid)
        return self._users[uid]

    def cgroup(self, number: int, pid: int) -> str | None:
        """Its path below the root of cgroup v2; None where it is gone. `number`: its id, the folder's inode."""
        found = self._cgroups.get(number)
        if found is None and self._root is not None:
            found = self._of_process(number, pid)
            if found is None and time.monotonic() - self._walked_s >= WALK_S:
                self._walked_s = time.monotonic()
                self._walk()
                found = self._cgroups.get(number)
        return found

    def _of_process(self, number: int, pid: int) -> str | None:
        try:
            folder = cgroup_of(pid)
            if folder.stat().st_ino != number:
                return None
        except OSError:
            return None
        return self._keep(number, folder)

    def _walk(self) -> None:
        assert self._root is not None
        for folder, _, _ in os.walk(self._root):
            try:
                self._keep(Path(folder).stat().st_ino, Path(folder))
            except OSError:
                continue

    def _keep(self, number: int, folder: Path) -> str:
        assert self._root is not None
        path = "/" + str(folder.relative_to(self._root)).strip(".")
        self._cgroups[number] = path
        if len(self._cgroups) > KEPT:
            self._cgroups.popitem(last=False)
        return path
