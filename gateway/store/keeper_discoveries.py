"""The keeper's part in discovery and denial: what probes find goes into SQL and the live feed, what operators decide
goes to the probes.

Findings are written once a second. The configuration's generation is looked at twice a second, and at once when
somebody says that it has changed: then, and when the time of a decision is over, the agent gets all denials anew. What
stands in the kernel comes back by `denial_state`, and is kept in memory for whoever asks.
"""

import asyncio
import contextlib
import logging
import math
import pwd
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from gateway.policy.discovery import State
from gateway.policy.roles import Authority, Role
from gateway.store import compiler, findings
from gateway.store.catalogue import Entries, OwnCatalogue, configured_hosts, merged, shipped
from gateway.store.config.discoveries import Discoveries, state_now
from gateway.store.config.editing import Editing
from gateway.store.database import read_session, write_session
from gateway.store.discovery_models import Denial, Discovery
from gateway.store.keeper_agent import AgentFeed, Message
from gateway.store.keeper_events import Event, EventFeed
from gateway.store.sealing import Sealer
from gateway.store.sql_thread import SqlThread, write_transaction

log = logging.getLogger(__name__)

LOOK_PAUSE_S: Final = 0.5
WRITE_PAUSE_S: Final = 1.0
FINDINGS_A_JOB: Final = 100
"""2 ms of the SQL thread on SQLite, 9 on PostgreSQL, for which leases wait."""
EVENTS_A_BATCH: Final = 200
"""New findings of one second that the feed shows; the table has them all."""
SYSTEM: Final = Authority(actor="system", role=Role.OWNER)
NO_AGENT: Final = "the agent is not connected: start `sluicegate agent` as root on this host"


@dataclass(frozen=True, slots=True)
class Decided:
    """A finding in a state other than `new`."""

    state: str
    process: str | None
    provider: str
    host: str


@dataclass(frozen=True, slots=True)
class Told:
    """What SQL says that must be known outside of it."""

    generation: int
    denials: dict[int, Denial]
    states: dict[int, Decided]
    """Of findings that somebody has decided upon."""
    hosts: dict[str, str]
    """Of configured AI providers, by name."""
    next_end_s: float
    """When the time of the next denial or decision is over (Unix seconds); infinite where none ends."""


class KeeperDiscoveries:
    """`run` is its one task. Used from the keeper's event loop."""

    def __init__(
        self,
        engine: Engine,
        sealer: Sealer,
        sql: SqlThread,
        reading: SqlThread,
        feed: EventFeed,
        agent: AgentFeed,
        node: str,
        catalogue: OwnCatalogue,
    ) -> None:
        self._engine = engine
        self._sealer = sealer
        self._sql = sql
        self._reading = reading
        self._feed = feed
        self._agent = agent
        self._node = node
        self._catalogue = catalogue
        self._gathered = findings.Gathered(node)
        self._told: Told | None = None
        self._unknown_users: dict[int, str] = {}
        """Denials that this host cannot have, because it has no such user."""
        self._states: dict[int, dict[str, Any]] = {}
        self._probes: str | None = NO_AGENT
        """Why nothing is found and denied; None = all is well."""
        self._features: dict[str, str | None] = {}
        """Of the probes: why one does not work; None = it works."""
        self._changed = asyncio.Event()
        self._troubled: set[str] = set()
        self._last_message: Message = {}
        self._shipped = self._providers = shipped()
        self._known: tuple[Entries, dict[str, str]] = ({}, {})
        agent.follow("findings", lambda message: self._gathered.add(message["items"]))
        agent.follow("denial_state", self._take_state)
        agent.follow("probes", self._take_probes)
        agent.follow("lost", lambda _: self._lost())

    def look_now(self) -> None:
        """Somebody says that the configuration has changed."""
        self._changed.set()

    async def run(self) -> None:
        """For ever. Raises nothing but CancelledError: the rest of the keeper does not hang on this."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat("findings", WRITE_PAUSE_S, self._write))
            tasks.create_task(self._follow_changes())

    def report(self) -> dict[str, Any]:
        """What the API shows of this node (`store.enforcement`)."""
        known = self._told.denials if self._told is not None else {}
        return {
            "node": self._node,
            "reason": self._probes or self._trouble_of("discovery"),
            "lost": self._gathered.lost,
            "refused": self._gathered.refused,
            "denials": [{"id": n, "name": each.name, **self._standing(n)} for n, each in known.items()],
        }

    def _trouble_of(self, feature: str) -> str | None:
        why = self._features.get(feature)
        return None if why is None else f"no {feature}: {why}"

    def _standing(self, number: int) -> dict[str, Any]:
        state = self._states.get(number)
        reason = self._probes or self._trouble_of("denials") or self._unknown_users.get(number)
        if reason is not None or state is None:
            reason = reason or "the probes have not taken it yet"
            return {"in_force": False, "reason": reason, "denied": state["denied"] if state else None}
        return state

    # -- what probes say

    def _take_state(self, message: Message) -> None:
        """`{"type": "denial_state", "items": [{"id", "in_force", "reason", "denied", and of a limit "used",
        "dropped_bytes", "resets_at_s"}]}`"""
        before, self._states = self._states, {int(item["id"]): _state(item) for item in message["items"]}
        denials = self._told.denials if self._told is not None else {}
        events: list[Event] = []
        for number, state in self._states.items():
            was = before.get(number, {}).get("in_force", False)
            if was != state["in_force"] and number in denials:
                name = "in_force" if state["in_force"] else "not_in_force"
                events.append({"type": "denial", "denial": denials[number].name, "state": name})
        self._feed.add(events[:EVENTS_A_BATCH])

    def _take_probes(self, message: Message) -> None:
        """`{"type": "probes", "state": "here" | "away", "reason", "features"}`"""
        self._probes = None if message["state"] == "here" else f"no probes: {message['reason']}"
        self._features = message.get("features", {})
        if self._probes is not None:
            self._states = {}

    def _lost(self) -> None:
        self._probes, self._states = NO_AGENT, {}

    # -- what operators say

    async def _follow_changes(self) -> None:
        while True:
            await self._guarded("denials", self._look)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_PAUSE_S):
                    await self._changed.wait()
            self._changed.clear()

    async def _look(self) -> None:
        known = -1 if self._told is None else self._told.generation
        if self._told is not None and self._told.next_end_s <= time.time():
            await self._reading.run(self._expire)  # it may wait for an operator's transaction: leases must not
            known = -1  # read anew, also where another node's keeper was first
        told = await self._reading.run(self._read_if_changed, known)
        if told is not None:
            before, self._told = self._told, told
            self._tell(before, told)
        own = await self._reading.run(self._catalogue.read)
        self._tell_catalogue(own)

    def _tell_catalogue(self, own: Entries) -> None:
        """Where it is not the shipped one, which the probes have."""
        hosts = self._told.hosts if self._told is not None else {}
        if (own, hosts) != self._known:
            self._known = (own, hosts)
            providers = merged(self._shipped, own, hosts)
            if providers != self._providers:
                self._providers = providers
                self._agent.tell({"type": "catalogue", "providers": providers})

    def _tell(self, before: Told | None, now: Told) -> None:
        self._unknown_users, items = {}, []
        for denial in now.denials.values():
            try:
                items.append(message_of(denial))
            except KeyError:
                self._unknown_users[denial.id] = f"this host has no user {denial.user!r}"
        message = {"type": "denials", "items": items}
        if message != self._last_message:
            self._last_message = message
            self._agent.tell(message)
        if before is not None:
            self._feed.add(changes(before, now)[:EVENTS_A_BATCH])

    def _read_if_changed(self, known: int) -> Told | None:
        with read_session(self._engine) as session:
            generation = compiler.generation(session)
            if generation == known:
                return None
            denials = {row.id: row for row in session.scalars(select(Denial).order_by(Denial.id))}
            columns = (Discovery.id, state_now.label("now"), Discovery.process, Discovery.provider, Discovery.host)
            decided = session.execute(select(*columns).where(Discovery.state != State.NEW.value))
            states = {row.id: Decided(row.now, row.process, row.provider, row.host) for row in decided}
            hosts = configured_hosts(session)
            ends = [session.scalar(select(func.min(column))) for column in (Denial.expires_at, Discovery.state_until)]
        next_end_s = min([end.timestamp() for end in ends if end is not None], default=math.inf)
        return Told(generation, denials, states, hosts, next_end_s)

    def _expire(self) -> None:
        with write_session(self._engine) as session:
            editing = Editing(session=session, authority=SYSTEM, sealer=self._sealer)
            Discoveries(editing).expire(datetime.now(UTC))

    # -- writing

    async def _write(self) -> None:
        """Raises OperationalError where the database is away: the findings wait then."""
        while self._gathered:  # a job each, so that leases come in between
            await self._write_some(self._gathered.take(FINDINGS_A_JOB))

    async def _write_some(self, batch: Mapping[str, findings.Finding]) -> None:
        try:
            written, gone = await self._sql.run(self._write_in_sql, batch)
        except OperationalError:
            self._gathered.put_back(batch)
            raise
        except SQLAlchemyError:  # it would be refused for ever
            self._gathered.lost += len(batch)
            raise
        if self._told is not None:
            for number in gone:
                self._told.states.pop(number, None)
        self._feed.add([new_event(one) for one in written[:EVENTS_A_BATCH]])

    def _write_in_sql(self, batch: Mapping[str, findings.Finding]) -> tuple[list[findings.Written], list[int]]:
        with write_transaction(self._engine) as connection:
            written = findings.write(connection, self._node, batch)
            return written, findings.forget_oldest(connection) if written else []

    # -- both

    async def _repeat(self, what: str, pause_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause_s)
            await self._guarded(what, work)

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Trouble is logged when it begins and when it ends, not while it lasts."""
        try:
            await work()
        except (SQLAlchemyError, OSError) as error:
            if what not in self._troubled:
                self._troubled.add(what)
                log.error("discovery waits", extra={"work": what, "error": str(error)[:500]})
        else:
            if what in self._troubled:
                self._troubled.discard(what)
                log.info("discovery goes on", extra={"work": what})


def message_of(denial: Denial) -> dict[str, Any]:
    """As probes get it. Raises KeyError where this host has no such user. Executables and cgroups are absolute: the
    cgroup as in /proc/PID/cgroup."""
    user, end = denial.user, denial.expires_at
    uid = None if user is None else int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    return {
        "id": denial.id, "executable": denial.executable, "uid": uid,
        "cgroup": None if denial.cgroup is None else f"/{denial.cgroup}", "container": denial.container,
        "client": None, "hosts": denial.hosts, "provider": denial.provider, "cidrs": denial.cidrs,
        "ports": denial.ports, "expires_at_s": None if end is None else end.timestamp(),
        "on_failure": denial.on_failure,
        "limit": None if denial.limit_of is None else {denial.limit_of: denial.limit_amount, "per": denial.limit_per},
    }  # fmt: skip


def changes(before: Told, now: Told) -> list[Event]:
    """Events of decisions, and of denials that came and went."""
    events: list[Event] = []
    at = datetime.now(UTC)
    for number in before.denials.keys() - now.denials.keys():
        gone = before.denials[number]
        expired = gone.expires_at is not None and gone.expires_at <= at
        events.append({"type": "denial", "denial": gone.name, "state": "expired" if expired else "removed"})
    new = [now.denials[number] for number in now.denials.keys() - before.denials.keys()]
    events += [{"type": "denial", "denial": denial.name, "state": "added"} for denial in new]
    for number in sorted(before.states.keys() | now.states.keys()):
        was, is_ = before.states.get(number), now.states.get(number)
        known = is_ or was
        state = is_.state if is_ is not None else State.NEW.value
        if known is not None and state != (was.state if was is not None else State.NEW.value):
            events.append(
                {
                    "type": "discovery", "discovery": number, "state": state, "process": known.process,
                    "provider": known.provider, "host": known.host,
                }
            )  # fmt: skip
    return events


def new_event(written: findings.Written) -> Event:
    found = written.found
    return {
        "type": "discovery", "discovery": written.id, "state": State.NEW.value, "process": found.process,
        "provider": found.provider, "host": found.host, "user": found.user, "container": found.container,
        "client": found.client, "evidence": found.evidence,
    }  # fmt: skip


def _state(item: Mapping[str, Any]) -> dict[str, Any]:
    """Raises KeyError, TypeError and ValueError for what is none."""
    reason = item.get("reason")
    return {
        "in_force": bool(item["in_force"]),
        "reason": None if reason is None else str(reason),
        "denied": int(item["denied"]),
        "used": None if item.get("used") is None else int(item["used"]),
        "dropped_bytes": None if item.get("dropped_bytes") is None else int(item["dropped_bytes"]),
        "resets_at_s": None if item.get("resets_at_s") is None else float(item["resets_at_s"]),
    }
