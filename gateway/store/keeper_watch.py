"""What the keeper looks at once a second: workers, targets, credentials, limits, spools, processes.

It becomes gauges at the next scrape, which thereby waits for nothing, and events of the live feed where a state
changed.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.policy.quota import limit_of
from gateway.serve_settings import HANDED_DOWN
from gateway.settings import Settings
from gateway.store import leases
from gateway.store.keeper_events import Event, EventFeed, changes
from gateway.store.keeper_sessions import Session, Sessions
from gateway.store.spool_reader import is_alive
from gateway.store.sql_thread import SqlThread
from gateway.telemetry.metrics_journal import MetricsJournal
from gateway.telemetry.node_gauges import NodeState
from gateway.telemetry.processes import ProcessBook

log = logging.getLogger(__name__)

NEAR: Final = 0.8
"""From this share on a limit is said to be near its end."""
LIMITS_SHARE: Final = 50
"""Looking at the limits takes no more than one part in so many of the CPU …"""
LONGEST_PAUSE_S: Final = 5.0
"""… but for this."""


@dataclass(frozen=True, slots=True)
class Configured:
    """Names that gauges have a value for, whether or not anything was ever sent there."""

    generation: int
    targets: frozenset[str]
    credentials: frozenset[tuple[str, str]]


NOTHING: Final = Configured(-1, frozenset(), frozenset())


def configured(document: Mapping[str, Any]) -> Configured:
    """From a snapshot's document (`policy.codec`)."""
    providers = {row[0]: row[1] for row in document["providers"]}
    return Configured(
        document["generation"],
        frozenset(
            f"{providers[target[1]]}/{target[2]}" if target[2] else providers[target[1]]
            for route in document["routes"]
            for target in route[-1]
        ),
        frozenset((row[1], credential[1]) for row in document["providers"] for credential in row[4]),
    )


class Watch:
    """`look` once a second; everything else is memory."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        reading: SqlThread,
        sessions: Sessions,
        feed: EventFeed,
        journal: MetricsJournal,
        refused_accounts: set[int],
    ) -> None:
        """`refused_accounts`: filled by whoever refuses, emptied here."""
        self._settings = settings
        self._engine = engine
        self._reading = reading
        self._sessions = sessions
        self._feed = feed
        self._journal = journal
        self._refused_accounts = refused_accounts
        self._processes = ProcessBook(journal.node.get("processes") or {})
        self._supervisor = os.getppid() if HANDED_DOWN in os.environ else None
        self.configured = NOTHING
        self.limits_seen: Callable[[list[leases.LimitUse], set[int]], None] | None = None
        """Gets how far all limits are used, and which of them have refused requests since."""
        deaths = int(journal.node.get("worker_deaths") or 0)
        self.state = NodeState(workers_configured=settings.workers, worker_deaths=deaths)
        self._levels: dict[str, tuple[int, str]] = {}
        self._limits_next_s = 0.0
        self._cooling: dict[str, set[str]] = {"target": set(), "credential": set()}
        self._left: list[Session] = []
        self._bodies_lost: Counter[str] = Counter()
        """Of workers that have left."""
        self._exporter_now: dict[str, int] = {}
        self._exporter_seen: dict[str, int] = {}
        self._exporter_total: dict[str, int] = dict(journal.node.get("otel") or {})

    async def look(self) -> None:
        """Raises SQLAlchemyError where the database is away; all else is then looked at nevertheless."""
        state = self.state
        sessions = list(self._sessions.workers.values())
        programs = [("keeper", os.getpid()), *[(session.program, session.pid) for session in sessions]]
        if self._supervisor is not None:
            programs.append(("supervisor", self._supervisor))
        self._processes.look(programs)
        state.cpu_s, state.resident_bytes = self._processes.cpu_s(), self._processes.resident_bytes
        self._look_after_left()
        self._journal.node = {
            "processes": self._processes.state(),
            "worker_deaths": state.worker_deaths,
            "otel": self._exporter_total,
        }
        self._journal.write()
        state.workers = len(sessions)
        state.client_connections = sum(session.condition.get("connections", 0) for session in sessions)
        state.bodies_lost = sum((_bodies_lost(session) for session in sessions), self._bodies_lost)
        state.generation = self.configured.generation
        self._look_at_exporter()
        self._look_at_spool()
        self._look_at_health(sessions)
        try:
            await self._look_at_limits()
        except SQLAlchemyError:
            self._tell_database(up=False)
            raise
        self._tell_database(up=True)

    def worker_came(self, session: Session) -> None:
        if not self.state.database_up:
            session.send({"type": "database", "up": False})
        self._feed.add([{"type": "worker", "worker": session.program, "pid": session.pid, "state": "started"}])

    def exporter_told(self, spans: Mapping[str, int]) -> None:
        """What became of the exporter's spans since it started."""
        self._exporter_now = dict(spans)

    def worker_left(self, session: Session) -> None:
        """Its connection has ended: whether it is dead shows at the next look."""
        self._left.append(session)
        self._bodies_lost += _bodies_lost(session)

    # -- within -----------------------------------------------------------------------------------------------------

    def _tell_database(self, *, up: bool) -> None:
        """Workers hear of a change at once, so that `/readyz` can tell."""
        if self.state.database_up != up:
            self.state.database_up = self.state.limit_authority_up = up
            self._feed.add([{"type": "database", "state": "answers" if up else "away"}])
            for session in self._sessions.workers.values():
                session.send({"type": "database", "up": up})

    def _look_after_left(self) -> None:
        """One that drained has said so before, and one that only lost its connection holds its lock."""
        left, self._left = self._left, []
        for session in left:
            if not session.leaves and is_alive(self._settings.spool_folder, session.incarnation):
                continue
            if not session.leaves:
                self.state.worker_deaths += 1
                log.warning("worker died", extra={"worker": session.program, "worker_pid": session.pid})
            state = "drained" if session.leaves else "died"
            self._feed.add([{"type": "worker", "worker": session.program, "pid": session.pid, "state": state}])

    def _look_at_exporter(self) -> None:
        """Its counts begin anew when it does; ours go on."""
        if not self._settings.otel:
            return
        for state in ("exported", "failed", "dropped"):
            now, seen = self._exporter_now.get(state, 0), self._exporter_seen.get(state, 0)
            self._exporter_total[state] = self._exporter_total.get(state, 0) + (now - seen if now >= seen else now)
        self._exporter_seen = self._exporter_now
        missed = self._feed.rows_missed
        self.state.otel = {**self._exporter_total, "dropped": self._exporter_total["dropped"] + missed}

    def _look_at_spool(self) -> None:
        by_worker: Counter[str] = Counter()
        try:
            with os.scandir(self._settings.spool_folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".spool"):
                        by_worker[entry.name.partition("-")[0]] += entry.stat().st_size
        except OSError:  # a segment went while we looked
            return
        self.state.spool_bytes = by_worker.total()
        self.state.spool_used_ratio = max(by_worker.values(), default=0) / self._settings.spool_max_bytes

    def _look_at_health(self, sessions: list[Session]) -> None:
        count = max(1, len(sessions))
        cooling = Counter(name for session in sessions for name in session.condition.get("cooling", ()))
        aside = Counter(
            (provider, name) for session in sessions for provider, name in session.condition.get("aside", ())
        )
        known = self.configured
        self.state.targets = {name: 1 - cooling[name] / count for name in known.targets}
        self.state.credentials = {pair: 1 - aside[pair] / count for pair in known.credentials}
        events: list[Event] = []
        for kind, present, begun in (
            ("target", set(cooling) & known.targets, "cooling"),
            ("credential", {f"{provider}/{name}" for provider, name in aside if (provider, name) in known.credentials},
             "set_aside"),
        ):  # fmt: skip
            happened = changes(kind, self._cooling[kind], present, begun, "available")
            self._cooling[kind] = present
            for event in happened:
                log.warning("%s changed its state", kind, extra={kind: event[kind], "state": event["state"]})
            events += happened
        self._feed.add(events)

    async def _look_at_limits(self) -> None:
        begun_s = time.monotonic()
        if begun_s < self._limits_next_s:
            return
        found, cpu_s = await self._reading.run(self._limit_uses)
        parallel = {use.key: use for use in found if use.concurrent}
        held = await self._sessions.report(parallel) if parallel else {}
        ratios: dict[str, float] = {}
        for use in found:
            in_flight = sum(reserved for _used, reserved in held.get(use.key, {}).values())
            ratios[use.name] = in_flight / max(1, use.at_most) if use.concurrent else use.ratio
        self.state.limits = ratios
        refused = {limit_of(account) for account in self._refused_accounts}
        self._refused_accounts.clear()
        if self.limits_seen is not None:
            self.limits_seen(found, refused)
        self._feed.add([event for use in found for event in self._limit_events(use, ratios[use.name], refused)])
        for name in set(self._levels) - set(ratios):
            del self._levels[name]
        self._limits_next_s = begun_s + min(LONGEST_PAUSE_S, LIMITS_SHARE * cpu_s)

    def _limit_uses(self) -> tuple[list[leases.LimitUse], float]:
        """And the CPU seconds that it took."""
        begun_s = time.thread_time()
        with self._engine.begin() as connection:
            found = leases.limit_uses(connection, time.time())
        return found, time.thread_time() - begun_s

    def _limit_events(self, use: leases.LimitUse, ratio: float, refused: set[int]) -> list[Event]:
        window, level = self._levels.get(use.name, (use.key[1], "free"))
        if window != use.key[1]:
            level, was = "free", level
        else:
            was = level
        if ratio >= 1 or use.limit_id in refused:
            level = "reached"
        elif use.concurrent or level == "free":
            level = "near" if ratio >= NEAR else "free"
        self._levels[use.name] = (use.key[1], level)
        if level == was:
            return []
        return [{"type": "limit", "limit": use.name, "state": level, "used_ratio": round(ratio, 6)}]


def _bodies_lost(session: Session) -> Counter[str]:
    return Counter(session.condition.get("bodies_lost", {}))
