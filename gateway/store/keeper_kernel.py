"""What the probes tell, as the keeper has it: the last hour by second in memory, totals for Prometheus, minutes for
SQL. Nothing waits for any of it.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.store.keeper_agent import AgentFeed, Message
from gateway.store.kernel_history import Names, forget_old, write_minute
from gateway.store.kernel_models import MINUTE_S
from gateway.store.kernel_series import Measured, total
from gateway.store.sql_thread import SqlThread, write_transaction
from gateway.telemetry.kernel_metrics import render_kernel

log = logging.getLogger(__name__)

KEPT_S: Final = 3600
"""By second, in memory: a restart of the keeper begins anew, minutes are in SQL."""
FORGET_MINUTES: Final = 60
NO_AGENT: Final = "none: the agent is not connected"

Second = tuple[float, dict[Names, Measured]]
"""When it ended (Unix time), and what had come."""


class KernelBook:
    """Used from the keeper's event loop."""

    def __init__(self, agent: AgentFeed, engine: Engine, sql: SqlThread, node: str) -> None:
        self._agent = agent
        self._engine = engine
        self._sql = sql
        self._node = node
        self._names: dict[int, Names] = {}
        self._seconds: deque[Second] = deque()
        self._minute: dict[Names, Measured] = {}
        self._minute_s = 0
        self._due: deque[tuple[int, dict[Names, Measured]]] = deque(maxlen=KEPT_S // MINUTE_S)
        """Minutes that are over, until SQL has them; the oldest go where it is away for an hour."""
        self._written = 0
        self._gauges: dict[Names, dict[str, int]] = {}
        self.totals: dict[Names, Measured] = {}
        """Since this keeper's start."""
        self.programs: dict[str, tuple[float, int]] = {}
        """Seconds and runs of each program, over restarts of the probes."""
        self._programs_before: dict[str, tuple[float, int]] = {}
        self._programs_now: dict[str, tuple[float, int]] = {}
        self.lost: dict[str, int] = {}
        self._lost_before: dict[str, int] = {}
        self._lost_now: dict[str, int] = {}
        self.features: dict[str, str | None] = {}
        self.reason: str | None = NO_AGENT
        """Why there are no figures now; None = there are."""
        agent.follow("series", self._series)
        agent.follow("figures", self._figures)
        agent.follow("costs", self._costs)
        agent.follow("probes", self._probes)
        agent.follow("lost", lambda _: self._gone(NO_AGENT))

    # -- what the agent says

    def _series(self, message: Message) -> None:
        self._names = {int(number): (str(route), str(target)) for route, target, number in message["known"]}

    def _figures(self, message: Message) -> None:
        at_s = float(message["at_s"])
        came = {
            self._names[int(number)]: Measured.of(told)
            for number, told in message["series"].items()
            if int(number) in self._names
        }
        self._seconds.append((at_s, came))
        while self._seconds[0][0] < at_s - KEPT_S:
            self._seconds.popleft()
        minute_s = int(at_s) // MINUTE_S * MINUTE_S
        if minute_s != self._minute_s:
            self.close_minute()
            self._minute_s = minute_s
        for names, measured in came.items():
            self._minute.setdefault(names, Measured()).add(measured)
            self.totals.setdefault(names, Measured()).add(measured)
            self._gauges[names] = measured.gauges

    def _costs(self, message: Message) -> None:
        self._programs_now = {name: (float(cost[0]), int(cost[1])) for name, cost in message["programs"].items()}
        self._lost_now = {name: int(count) for name, count in message["lost"].items()}
        self.programs = {
            name: (before[0] + now[0], before[1] + now[1])
            for name in self._programs_now.keys() | self._programs_before.keys()
            for before in (self._programs_before.get(name, (0.0, 0)),)
            for now in (self._programs_now.get(name, (0.0, 0)),)
        }
        self.lost = {
            name: self._lost_before.get(name, 0) + self._lost_now.get(name, 0)
            for name in self._lost_now.keys() | self._lost_before.keys()
        }

    def _probes(self, message: Message) -> None:
        if message["state"] == "here":
            self.features, self.reason = dict(message.get("features") or {}), None
        else:
            self._gone(f"none: {message['reason']}")

    def _gone(self, reason: str) -> None:
        """The next process of the probes counts from nothing."""
        self.reason = reason
        self.features = {}
        self._gauges.clear()
        self._programs_before, self._programs_now = self.programs, {}
        self._lost_before, self._lost_now = self.lost, {}

    # -- what the keeper does with it

    def close_minute(self) -> None:
        if self._minute:
            self._due.append((self._minute_s, self._minute))
            self._minute = {}

    async def write_due(self) -> None:
        """Put minutes that are over into SQL. Raises SQLAlchemyError; they are tried again then."""
        if self._minute and time.time() > self._minute_s + 2 * MINUTE_S:
            self.close_minute()  # the probes have gone
        while self._due:
            minute_s, measured = self._due[0]
            await self._sql.run(self._write, minute_s, measured)
            if self._due and self._due[0][0] == minute_s:
                self._due.popleft()

    def _write(self, minute_s: int, measured: dict[Names, Measured]) -> None:
        with write_transaction(self._engine) as connection:
            write_minute(connection, self._node, minute_s, measured)
            self._written += 1
            if self._written % FORGET_MINUTES == 1:
                forget_old(connection, minute_s)

    async def last_pass(self) -> None:
        """The keeper ends: the minute that has begun goes in as far as it got."""
        self.close_minute()
        try:
            await self.write_due()
        except SQLAlchemyError as error:
            log.warning("a minute of the kernel's figures is lost", extra={"error": str(error)[:300]})

    def window(self, seconds: float) -> dict[Names, Measured]:
        """What was measured in the last so many seconds; gauges as they stand."""
        since_s = time.time() - seconds
        by_names: dict[Names, list[Measured]] = {}
        for at_s, came in reversed(self._seconds):
            if at_s <= since_s:
                break
            for names, measured in came.items():
                by_names.setdefault(names, []).append(measured)
        found = {names: total(reversed(parts)) for names, parts in by_names.items()}
        for names, gauges in self._gauges.items():
            if any(gauges.values()) or names in found:
                found.setdefault(names, Measured()).gauges = dict(gauges)
        return found

    def seconds(self, since_s: float, names: Names | None) -> Iterable[Second]:
        """Each second after `since_s`, oldest first; only those of one series if it is named."""
        for at_s, came in self._seconds:
            if at_s > since_s:
                yield at_s, came if names is None else {each: came[each] for each in came if each == names}

    def exposition(self, *, openmetrics: bool) -> str:
        """Prometheus' text."""
        return render_kernel(self.totals, self.programs, self.lost, openmetrics=openmetrics)

    def report(self, message: Message) -> dict[str, Any]:
        """Answers `{"type": "kernel", "window_s"}`, or `{"since_s", "route", "target"}` for single seconds."""
        told: dict[str, Any] = {"reason": self.reason, "features": self.features}
        if "since_s" in message:
            names = None if message.get("route") is None else (message["route"], message["target"])
            told["seconds"] = [[at_s, _told(came)] for at_s, came in self.seconds(float(message["since_s"]), names)]
        else:
            told["series"] = _told(self.window(float(message["window_s"])))
            told["programs"], told["lost"] = self.programs, self.lost
        return told


def _told(measured: dict[Names, Measured]) -> list[list[Any]]:
    return [[*names, each.plain()] for names, each in sorted(measured.items())]
