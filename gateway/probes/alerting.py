"""Alerts on their way to the keeper: the same one is told once a minute, with how often it happened.

    → {"type": "alerts", "items": [{"kind": "exec" | "connect", "at_s", "pid", "process", "executable", "argv",
       "parent", "uid", "user", "cgroup", "container", "destination", "port", "reason", "refused", "count"}],
       "lost": n}

`lost`: alerts of more kinds than can be kept in a minute, since the start.
"""

import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway.probes.feature import Tell

SAME_S: Final = 60.0
MOST_KEPT: Final = 2048
"""Different ones within a minute."""
Alert: TypeAlias = dict[str, Any]
EMPTY: Final[Alert] = {
    "kind": None, "at_s": None, "pid": None, "process": None, "executable": None, "argv": None, "parent": None,
    "uid": None, "user": None, "cgroup": None, "container": None, "destination": None, "port": None, "reason": None,
    "refused": False,
}  # fmt: skip


@dataclass(slots=True)
class _Kept:
    told_s: float
    alert: Alert
    count: int
    """Since it was told."""


class Alerts:
    """Shared by features; `flush` is called about once a second, by one of them."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._kept: dict[Hashable, _Kept] = {}
        self._due: list[Alert] = []
        self.lost = 0

    def add(self, key: Hashable, alert: Alert) -> None:
        """`key`: what makes it the same as another."""
        now_s = time.monotonic()
        kept = self._kept.get(key)
        if kept is not None:
            kept.alert = alert
            kept.count += 1
        elif len(self._kept) >= MOST_KEPT:
            self.lost += 1
        else:
            self._kept[key] = _Kept(now_s, alert, 0)
            self._due.append({**EMPTY, **alert, "count": 1})

    def flush(self) -> None:
        now_s = time.monotonic()
        for key, kept in [*self._kept.items()]:
            if now_s - kept.told_s < SAME_S:
                continue
            if kept.count:
                self._due.append({**EMPTY, **kept.alert, "count": kept.count})
                kept.told_s, kept.count = now_s, 0
            else:
                del self._kept[key]
        if self._due:
            due, self._due = self._due, []
            self._tell({"type": "alerts", "items": due, "lost": self.lost}, ())
