"""Alerts of what the gateway's own processes execute, and of what watched ones execute and connect to.

    ← {"type": "watched", "executables": [glob], "users": [name or number], "containers": [id]}

A watched process is one of such an executable, user or container; where it may connect to is what the gateway's
configuration names (`egress_maps`). Of the gateway's own connections `egress_guard` knows.
"""

import asyncio
import ipaddress
import itertools
import logging
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Self

from gateway.probes import tracefs
from gateway.probes.alerting import Alerts
from gateway.probes.egress_guard import EgressGuard
from gateway.probes.own_processes import executable_of
from gateway.probes.program import Program, ProgramRefused
from gateway.probes.trace_sources import Event, Source, Taker

log = logging.getLogger("sluicegate.probes")

LOOK_S: Final = 1.0
RECENT: Final = 4096
SHORT_ID: Final = 12


@dataclass(frozen=True, slots=True)
class Watched:
    executables: tuple[str, ...] = ()
    users: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Self:
        return cls(
            tuple(map(str, message.get("executables") or ())),
            frozenset(map(str, message.get("users") or ())),
            frozenset(str(each)[:SHORT_ID] for each in message.get("containers") or ()),
        )

    def __bool__(self) -> bool:
        return bool(self.executables or self.users or self.containers)

    @property
    def executables_alone(self) -> bool:
        return not (self.users or self.containers)

    def names(self, executable: str | None) -> bool:
        return any(fnmatchcase(executable or "", each) for each in self.executables)

    def fits(self, event: Event, executable: str | None) -> bool:
        return (
            bool(self.users & {str(event["uid"]), event["user"]})
            or event["container"] in self.containers
            or self.names(executable)
        )


class Watching:
    """A `Feature`."""

    name = "alerts"
    kinds = frozenset(("watched",))

    def __init__(self, alerts: Alerts, guard: EgressGuard, sources: Mapping[str, Source]) -> None:
        """`sources`: of `gateway.probes.trace`, which these join and leave as anybody who traces."""
        self._alerts = alerts
        self._guard = guard
        self._sources = sources
        self._watched = Watched()
        self._joined: dict[str, Taker] = {}
        self._refused: set[str] = set()
        """Sources that this kernel does not have."""
        self._recent: OrderedDict[int, None] = OrderedDict()
        """Started by the gateway's processes in a moment between two looks."""

    @property
    def programs(self) -> Sequence[Program]:
        """Those of the sources, which `trace` tells of."""
        return ()

    def load(self) -> None:
        if not self._guard.programs:
            raise ProgramRefused("alerts need the feature egress_guard")
        tracefs.tracepoint("sched:sched_process_exec")

    def lost(self) -> Mapping[str, int]:
        return {}

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        self._watched = Watched.of(message)
        self._join()

    async def run(self) -> None:
        while True:
            self._join()
            await asyncio.sleep(LOOK_S)

    def _join(self) -> None:
        self._want("exec", self._on_exec, wanted=bool(self._guard.family or self._watched))
        self._want("connect", self._on_connect, wanted=bool(self._watched))

    def _want(self, kind: str, taker: Taker, *, wanted: bool) -> None:
        if wanted and kind not in self._joined and kind not in self._refused:
            try:
                self._sources[kind].add(taker)
            except (ProgramRefused, OSError) as error:
                self._refused.add(kind)
                log.error("there are no alerts", extra={"kind": kind, "reason": str(error)})
                return
            self._joined[kind] = taker
        elif not wanted and kind in self._joined:
            self._sources[kind].remove(self._joined.pop(kind))

    def _on_exec(self, event: Event) -> None:
        if event["result"] != "done":
            return
        family = self._guard.family
        ours = {event["pid"], event["parent"]} & (family | self._recent.keys())
        if ours:
            self._recent[event["pid"]] = None
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
            if _is_gateway(event):
                return
            reason = "a process of the gateway executed a program"
        elif self._watched.fits(event, event["executable"]):
            reason = "a watched process executed a program"
        else:
            return
        self._alerts.add(
            ("exec", event["executable"], event["parent_process"], event["uid"], reason),
            {"kind": "exec", **_who(event), "executable": event["executable"], "argv": event["argv"],
             "parent": event["parent"], "reason": reason},
        )  # fmt: skip

    def _on_connect(self, event: Event) -> None:
        executable = executable_of(event["pid"])
        if event["pid"] in self._guard.family or not event["port"] or not self._watched.fits(event, executable):
            return
        if self._guard.allowed.permits(ipaddress.ip_address(event["destination"]), event["port"]):
            return
        self._alerts.add(
            ("watched", executable, event["process"], event["uid"], event["destination"], event["port"]),
            {"kind": "connect", **_who(event), "executable": executable, "destination": event["destination"],
             "port": event["port"], "reason": "a watched process went where nothing in the configuration leads"},
        )  # fmt: skip


def _who(event: Event) -> Event:
    return {name: event[name] for name in ("at_s", "pid", "process", "uid", "user", "cgroup", "container")}


def _is_gateway(event: Event) -> bool:
    """The supervisor starts workers and other processes of the gateway's, by the interpreter that runs us."""
    executable, argv = event["executable"] or "", event["argv"]
    if Path(executable).resolve() != Path(sys.executable).resolve():
        return False
    modules = [after for word, after in itertools.pairwise(argv) if word == "-m"]
    return any(each.startswith("gateway.") for each in modules[:1])
