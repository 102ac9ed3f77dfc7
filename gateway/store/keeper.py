"""The keeper: one process a node that grants leases, takes spools into the ledger and hands snapshots to the workers.

It listens on a Unix socket (0600) in the data folder. SQL runs in one thread (grants and ledger, the only busy writer);
a second one compiles snapshots, which only reads, and waits for the disk. It outlives a database that is away: leases
are then refused as unavailable, rows wait in the spools, the last good snapshot is still handed out.
"""

import asyncio
import dataclasses
import fcntl
import logging
import os
import secrets
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from gateway.policy import codec
from gateway.policy.quota import LimitState
from gateway.settings import Settings
from gateway.store import compiler, leases, retention, sign_on
from gateway.store.catalogue import OwnCatalogue
from gateway.store.contacts import webhooks
from gateway.store.database import make_engine, read_session
from gateway.store.keeper_agent import AgentFeed
from gateway.store.keeper_alerts import KeeperAlerts
from gateway.store.keeper_bodies import KeeperBodies
from gateway.store.keeper_checks import ProviderChecks
from gateway.store.keeper_discoveries import KeeperDiscoveries
from gateway.store.keeper_events import EventFeed
from gateway.store.keeper_grants import Grants, InFlight
from gateway.store.keeper_kernel import KernelBook
from gateway.store.keeper_ledger import Progress, SpoolLedger
from gateway.store.keeper_portal import KeeperPortal
from gateway.store.keeper_sessions import Session, Sessions
from gateway.store.keeper_tls import KeeperTls
from gateway.store.keeper_watch import Watch, configured
from gateway.store.leases import LeaseKey
from gateway.store.prices import price_book
from gateway.store.row_groups import grouped
from gateway.store.sealing import Sealer, load_sealer
from gateway.store.sql_thread import SqlThread, write_transaction
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.ledger_metrics import LedgerMetrics
from gateway.telemetry.metrics_journal import MetricsJournal
from gateway.telemetry.node_gauges import render_node
from gateway.wire.frames import FrameError, FrameReader, message_of, snapshot_frame, text_frame

log = logging.getLogger(__name__)

LEDGER_PAUSE_S: Final = 0.15
"""Rows wait for company: a transaction costs as much as a hundred of them."""
GENERATION_PAUSE_S: Final = 0.2
SYNC_PAUSE_S: Final = 1.0
LAST_PASS_S: Final = 4.0
TIDY_PAUSE_S: Final = 60.0
FAILED_PAUSE_S: Final = 0.25
ELSEWHERE_PAUSE_S: Final = 0.2
CONNECT_TIMEOUT_S: Final = 2
SQLITE_BUSY_MS: Final = 1_000
SQLITE_CHECKPOINT_PAGES: Final = 4_000
"""A page that many batches change is written back once in so many pages of the log (16 MB)."""
WATCH_PAUSE_S: Final = 1.0


class Keeper:
    """`run` serves until it is cancelled."""

    def __init__(self, settings: Settings, engine: Engine | None = None, sealer: Sealer | None = None) -> None:
        self._settings = settings
        self._engine = engine if engine is not None else keeper_engine(settings)
        self._sealer = sealer if sealer is not None else load_sealer(settings)
        self._prices = price_book(settings)
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._node = node_id(settings.data)
        self._sql = SqlThread("keeper-sql")
        self._reading = SqlThread("keeper-aside")
        self._sessions = Sessions()
        self._grants = Grants(self._engine, self._sql, self._sessions, self._node)
        self._ledger = SpoolLedger(self._engine, settings.spool_folder, self._node)
        self._metrics = LedgerMetrics()
        self._journal = MetricsJournal(settings.data / "metrics.journal", self._metrics)
        self._feed = EventFeed(self._sessions)
        self._access_log = access_log_of(settings)
        self._watch = Watch(
            settings, self._engine, self._reading, self._sessions, self._feed, self._journal,
            self._grants.refused_accounts,
        )  # fmt: skip
        self._checks = ProviderChecks(self._sessions, self._feed)
        self._agent = AgentFeed(settings.agent_socket_path)
        self._kernel = KernelBook(self._agent, self._engine, self._sql, self._node)
        self._agent.follow("connected", lambda _: self._agent_up(True))
        self._agent.follow("lost", lambda _: self._agent_up(False))
        self._discoveries = KeeperDiscoveries(
            self._engine, self._sealer, self._sql, self._reading, self._feed, self._agent, self._node,
            OwnCatalogue(settings.data),
        )  # fmt: skip
        self._alerts = KeeperAlerts(settings, self._engine, self._sql, self._feed, self._agent, self._node)
        self._portal = KeeperPortal(settings, self._engine, self._sealer, self._sql, self._reading, self._feed)
        self._bodies = KeeperBodies(settings)
        self._watch.limits_seen = self._portal.limits_seen
        self._tls = KeeperTls(settings, self._engine, self._sql, self._agent, self._node)
        self._snapshot: bytes | None = None
        self._generation = -1
        self._changed = asyncio.Event()
        self._troubles: set[str] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        lock = await _hold(self._settings.data / "keeper.lock")
        server = None
        try:
            await self._refresh_snapshot()
            server = await self._listen()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._grants.run())
                tasks.create_task(self._agent.run())
                tasks.create_task(self._discoveries.run())
                tasks.create_task(self._alerts.run())
                tasks.create_task(self._tls.run())
                tasks.create_task(self._portal.run())
                tasks.create_task(self._bodies.run())
                tasks.create_task(self._run_ledger())
                tasks.create_task(self._run_snapshots())
                tasks.create_task(self._repeat("sync", SYNC_PAUSE_S, self._sync))
                tasks.create_task(self._repeat("tidy", TIDY_PAUSE_S, self._tidy))
                tasks.create_task(self._repeat("watch", WATCH_PAUSE_S, self._watch.look))
                tasks.create_task(self._repeat("kernel", WATCH_PAUSE_S, self._kernel.write_due))
                if kept := retention.Retention(
                    rows=self._settings.ledger_retention, usage=self._settings.usage_retention
                ):
                    tasks.create_task(retention.keep(self._engine, self._sql, kept))
                if self._engine.dialect.name == "postgresql":
                    tasks.create_task(self._run_recalls_from_elsewhere())
        except asyncio.CancelledError:
            await self._last_pass()
            raise
        finally:
            if server is not None:
                server.close()
            for session in list(self._sessions.all):
                if session.wants_rows:
                    session.writer.close()  # the exporter still gets what was written
                else:
                    session.writer.transport.abort()  # its task then ends by itself
            if self._serving:
                await asyncio.wait(self._serving, timeout=1.0)
            self._sql.close()
            self._reading.close()
            self._engine.dispose()
            self._journal.close()
            if self._access_log is not None:
                self._access_log.close()
            os.close(lock)

    def _agent_up(self, up: bool) -> None:
        self._watch.state.agent_up = up
        self._feed.add([{"type": "agent", "state": "connected" if up else "away"}])

    async def _last_pass(self) -> None:
        """The workers have drained and gone: what they left is taken now rather than at the next start."""
        try:
            async with asyncio.timeout(LAST_PASS_S):
                while await self._work_ledger():
                    pass
                await self._sync()
                await self._kernel.last_pass()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("rows stay in the spools until the next start", extra={"error": str(error)[:500]})

    # -- connections ------------------------------------------------------------------------------------------------

    async def _listen(self) -> asyncio.Server:
        path = self._settings.keeper_socket
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._connected, str(path), limit=1 << 20)
        finally:
            os.umask(mask)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(writer)
        self._sessions.all.add(session)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        frames = FrameReader()
        try:
            while piece := await reader.read(1 << 18):
                for payload in frames.feed(piece):
                    self._take_message(session, message_of(payload))
        except (OSError, FrameError, KeyError, TypeError, ValueError) as error:
            log.warning("connection ended", extra={"incarnation": session.incarnation, "error": repr(error)})
        finally:
            self._serving.discard(task)
            if self._sessions.workers.get(session.incarnation) is session:
                self._watch.worker_left(session)
            self._sessions.remove(session)
            self._checks.left(session)
            writer.close()

    def _take_message(self, session: Session, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ask":
                self._grants.ask(session, message)
            case "give":
                for account, start_s, amount in message["leases"]:
                    session.give_back((account, start_s), amount)
            case "recalled" | "reported":
                self._sessions.answered(session, message)
            case "hello":
                self._hello(session, message)
            case "changed":
                self._changed.set()
                self._discoveries.look_now()
                self._portal.look_now()
            case "subscribe":
                session.wants_events = bool(message["on"])
                session.wants_rows = bool(message.get("rows"))
            case "trace":
                self._feed.pass_on(message)
            case "otel":
                self._watch.exporter_told(message["spans"])
            case "condition":
                session.condition = message
            case "leaving":
                session.leaves = True
            case "rejected":
                self._metrics.reject(message["counts"])
            case "checks":
                self._checks.take(session, message["providers"])
            case _:
                self._take_question(session, message)

    def _take_question(self, session: Session, message: dict[str, Any]) -> None:
        match message["type"]:
            case "state":
                self._reply(session, message, self._limit_state(int(message["limit"])))
            case "open":
                self._reply(session, message, self._open_rows())
            case "metrics":
                self._begin(self._send_metrics(session, message["request"], bool(message.get("openmetrics"))))
            case "health":
                session.send({"type": "reply", "request": message["request"], "health": self._checks.report()})
            case "kernel":
                told = self._kernel.report(message)
                session.send({"type": "reply", "request": message["request"], "kernel": told})
            case "denials":
                told = self._discoveries.report() | {"tls": self._tls.report()}
                session.send({"type": "reply", "request": message["request"], "denials": told})
            case "missed":
                missed = self._feed.since(message["after"])
                reply = {"events": missed.events, "complete": missed.complete}
                session.send({"type": "reply", "request": message["request"]} | reply)
            case "flush":
                self._reply(session, message, self._flush())

    def _hello(self, session: Session, message: dict[str, Any]) -> None:
        """A worker is there, again or for the first time: what it says that it holds is what it holds."""
        session.incarnation = message["incarnation"]
        session.pid = message["pid"]
        session.program = message.get("program", session.program)
        session.wants_events = message["events"]
        for account, start_s, granted in message["leases"]:
            session.granted[account, start_s] = granted
            session.dirty.append((account, start_s))
        self._sessions.workers[session.incarnation] = session
        self._watch.worker_came(session)
        self._checks.came(session)
        if self._snapshot is not None:
            session.send_bytes(snapshot_frame(self._snapshot))

    def _reply(self, session: Session, message: dict[str, Any], work: Coroutine[Any, Any, dict[str, Any]]) -> None:
        """Answer when it is ready; the connection goes on meanwhile."""

        async def answer() -> None:
            try:
                reply = await work
            except SQLAlchemyError as error:
                reply = {"error": f"the database does not answer: {type(error).__name__}"}
            session.send({"type": "reply", "request": message["request"]} | reply)

        self._begin(answer())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    # -- questions --------------------------------------------------------------------------------------------------

    async def _limit_state(self, limit_id: int) -> dict[str, Any]:
        window = await self._sql.run(self._limit_window_in_sql, limit_id)
        if window is None:
            return {"state": None}
        in_flight = await self._sessions.report([window])
        state = await self._sql.run(self._limit_state_in_sql, limit_id, in_flight)
        return {"state": None if state is None else dataclasses.asdict(state)}

    async def _open_rows(self) -> dict[str, Any]:
        return {"rows": await self._sql.run(self._ledger.open_rows)}

    async def _send_metrics(self, session: Session, request: int, openmetrics: bool) -> None:
        """Of what is in memory alone: a database that hangs shows in the figures, not in their absence."""
        state = self._watch.state
        state.providers = {one["provider"]: float(one["healthy"]) for one in self._checks.providers}
        state.in_flight = await asyncio.to_thread(self._ledger.in_flight)
        state.bodies_bytes = self._bodies.size
        state.pending_rows = sum(map(self._pending_of, self._ledger.incarnations))
        text = self._metrics.render(openmetrics=openmetrics) + render_node(state, openmetrics=openmetrics)
        text += self._kernel.exposition(openmetrics=openmetrics)
        session.send_bytes(text_frame(request, text.encode()))

    def _pending_of(self, incarnation: str) -> int:
        """By a live worker's own count, or what was read of a dead one's spool."""
        session = self._sessions.workers.get(incarnation)
        read = self._ledger.waiting(incarnation)
        return read if session is None else max(read, session.condition.get("closed", 0) - session.recorded_told)

    async def _flush(self) -> dict[str, Any]:
        """Everything that ended before the question is in SQL when it is answered."""
        while await self._work_ledger():
            pass
        await self._grants.flush()
        return {"flushed": True}

    def _limit_window_in_sql(self, limit_id: int) -> LeaseKey | None:
        with self._engine.begin() as connection:
            window = leases.limit_window(connection, limit_id, time.time())
        return None if window is None else window[0]

    def _limit_state_in_sql(self, limit_id: int, in_flight: InFlight) -> LimitState | None:
        with self._engine.begin() as connection:
            return leases.limit_state(connection, self._node, limit_id, time.time(), in_flight)

    # -- work that repeats ------------------------------------------------------------------------------------------

    async def _repeat(self, what: str, pause_s: float, work: Any) -> None:
        while True:
            try:
                await work()
                self._recovered(what)
            except (SQLAlchemyError, OSError) as error:
                self._failed(what, error)
            await asyncio.sleep(pause_s)

    async def _run_ledger(self) -> None:
        while True:
            try:
                more = await self._work_ledger()
                self._recovered("ledger")
                await asyncio.sleep(0 if more else LEDGER_PAUSE_S)
            except (SQLAlchemyError, OSError) as error:
                self._failed("ledger", error)
                await asyncio.sleep(FAILED_PAUSE_S)

    async def _work_ledger(self) -> bool:
        """One batch of every spool, each a job of its own so that asks come in between. Whether there is more."""
        more = False
        for incarnation in await self._sql.run(self._ledger.look):
            session = self._sessions.workers.get(incarnation)
            progress = await self._sql.run(self._ledger.work, incarnation, session is not None)
            more = more or progress.more
            if session is not None and session.recorded_told != progress.recorded:
                session.recorded_told = progress.recorded
                session.send({"type": "pending", "recorded": progress.recorded})
            self._count(incarnation, progress)
            if progress.new:
                self._feed.add_rows(progress.new)
                if self._access_log is not None:
                    self._access_log.take(progress.new)
        return more

    def _count(self, incarnation: str, progress: Progress) -> None:
        """Count what has not been counted yet, by the close record's number; interrupted ones have none."""
        if not progress.ended:
            return
        counted, ended = self._journal.marks.get(incarnation, 0), progress.ended
        first, last = ended[0], ended[-1]  # numbered in this order; interrupted ones come last
        if len(progress.new) == len(ended) and last.closed and first.number > counted:
            self._metrics.observe(progress.new_rows)
            self._journal.marks[incarnation] = last.number
        else:
            new = set(map(id, progress.new))
            wanted = [r for r in ended if (r.number > counted if r.closed else id(r) in new)]
            self._metrics.observe(grouped(wanted))
            self._journal.marks[incarnation] = max([counted, *[r.number for r in ended if r.closed]])
        self._journal.write()

    async def _run_snapshots(self) -> None:
        while True:
            try:
                async with asyncio.timeout(GENERATION_PAUSE_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            await self._refresh_snapshot()

    async def _refresh_snapshot(self) -> None:
        try:
            compiled = await self._reading.run(self._compile_if_changed, self._generation)
            self._recovered("snapshot")
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the configuration: workers keep their last good one
            self._failed("snapshot", error)
            await asyncio.sleep(FAILED_PAUSE_S)
            return
        if compiled is None:
            return
        self._generation, document, self._snapshot, named_urls = compiled
        self._watch.configured = configured(document)
        self._alerts.configured(document, named_urls)
        self._bodies.configured(document)
        piece = snapshot_frame(self._snapshot)
        for session in self._sessions.workers.values():
            session.send_bytes(piece)
        self._feed.add([{"type": "configuration", "generation": self._generation}])

    def _compile_if_changed(self, known: int) -> tuple[int, codec.SnapshotDocument, bytes, list[str]] | None:
        with read_session(self._engine) as session:
            generation = compiler.generation(session)
            if generation == known:
                return None
            document = compiler.compile_snapshot(session, self._sealer, self._prices)
            named_urls = [*sign_on.urls(session), *webhooks(session)]
        return generation, document, codec.encode_snapshot(document), named_urls

    async def _sync(self) -> None:
        await self._grants.flush()
        due = await self._sql.run(self._ledger.sync_due)
        await self._reading.run(due.run)
        await self._sql.run(self._ledger.remove, due)

    async def _tidy(self) -> None:
        await self._sql.run(self._ledger.bury_strangers, frozenset(self._sessions.workers))
        await self._sql.run(self._forget_past)
        await self._grants.forget_past()
        self._journal.forget([*self._ledger.incarnations, *self._sessions.workers])

    def _forget_past(self) -> None:
        with write_transaction(self._engine) as connection:
            leases.forget_past(connection, time.time())

    async def _run_recalls_from_elsewhere(self) -> None:
        """Other nodes mark the accounts of which they need the idle parts; ours are given back in SQL."""
        seen_ns = time.time_ns()
        while True:
            await asyncio.sleep(ELSEWHERE_PAUSE_S)
            try:
                marks = await self._sql.run(self._recalls_since, seen_ns)
                if marks:
                    seen_ns = max(marks.values())
                    await self._sessions.recall(marks)
                    await self._grants.flush()
                    await self._sql.run(self._follow, marks)
                elif self._sessions.any_dirty():
                    await self._grants.flush()
                self._recovered("recalls")
            except SQLAlchemyError as error:
                self._failed("recalls", error)

    def _recalls_since(self, after_ns: int) -> dict[LeaseKey, int]:
        with self._engine.begin() as connection:
            return leases.recalls_since(connection, after_ns)

    def _follow(self, marks: dict[LeaseKey, int]) -> None:
        with write_transaction(self._engine) as connection:
            leases.follow_recall(connection, self._node, marks)

    # -- telling ----------------------------------------------------------------------------------------------------

    def _failed(self, what: str, error: Exception) -> None:
        """Logged when trouble begins, not while it lasts."""
        if what not in self._troubles:
            self._troubles.add(what)
            log.error("keeper's work waits", extra={"work": what, "error": str(error)[:500]})

    def _recovered(self, what: str) -> None:
        if what in self._troubles:
            self._troubles.discard(what)
            log.info("keeper's work goes on", extra={"work": what})


def access_log_of(settings: Settings) -> AccessLog | None:
    """As `access_log` says; None = off."""
    if settings.access_log == "off":
        return None
    share = float(settings.access_log) if settings.access_log not in ("all", "errors") else 1.0
    return AccessLog(settings.log_format, errors_only=settings.access_log == "errors", share=share)


def keeper_engine(settings: Settings) -> Engine:
    """The keeper's engine: it waits for a locked SQLite no longer than a worker waits for the keeper, and asks
    PostgreSQL without trying first whether the connection still stands (grants are tried again)."""
    if not settings.database_url.startswith("sqlite"):
        connect_args = {"connect_timeout": CONNECT_TIMEOUT_S}
        return create_engine(settings.database_url, pool_size=2, hide_parameters=True, connect_args=connect_args)
    engine = make_engine(settings.database_url, pool_size=2)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_MS}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {SQLITE_CHECKPOINT_PAGES}")

    return engine


def node_id(data: Path) -> str:
    """Random, made once, kept in the data folder: tells this node's leases from those of others."""
    path = data / "node.id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        made = path.with_suffix(f".{os.getpid()}")
        made.write_text(secrets.token_hex(8))
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        made.unlink()
        return path.read_text().strip()


async def _hold(path: Path) -> int:
    """Wait until no other keeper works in this data folder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError:
            if not told:
                log.info("another keeper holds this data folder; waiting for its end")
                told = True
            await asyncio.sleep(0.05)
