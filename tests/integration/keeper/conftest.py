"""A real keeper on a real database, and workers that are what a worker process has: link, book and spool."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from gateway.dataplane.keeper_link import KeeperLink
from gateway.dataplane.lease import Reservation
from gateway.dataplane.leases import LeaseBook
from gateway.dataplane.spool import Spool
from gateway.policy.model import Limit, LimitId, Metric, Scope, WhenUnknown, Window
from gateway.policy.quota import Amounts, account_of
from gateway.policy.usage import LedgerRow, Outcome
from gateway.settings import Settings
from gateway.store.database import make_engine, write_session
from gateway.store.keeper_client import KeeperClient
from gateway.store.models import LimitRule, Meta

_ids = itertools.count(1)


@dataclass
class Ground:
    """A data folder, its database, and the keeper process that works in it."""

    settings: Settings
    engine: Engine
    process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> KeeperClient:
        return KeeperClient(self.settings.keeper_socket)

    def start_keeper(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.store.keeper_main"], env=os.environ | self.settings.to_hand_down()
        )

    def kill_keeper(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def limit(
        self, at_most: int, metric: Metric = Metric.TOTAL_TOKENS, window: Window = Window.LIFETIME, **more: Any
    ) -> Limit:
        """A new limit in SQL, and as the data plane knows it."""
        with write_session(self.engine) as session:
            rule = LimitRule(
                name=f"limit-{next(_ids)}",
                metric=metric.value,
                window=window.value,
                at_most=at_most,
                unpriced=more.get("unpriced", WhenUnknown.REFUSE).value,
                when_unavailable=more.get("when_unavailable", WhenUnknown.REFUSE).value,
            )
            session.add(rule)
            session.flush()
            limit_id, name = rule.id, rule.name
        return Limit(
            id=LimitId(limit_id), name=name, scope=Scope(), metric=metric, window=window, at_most=at_most, **more
        )

    def change_limit(self, limit: Limit, at_most: int) -> None:
        with write_session(self.engine) as session:
            rule = session.get_one(LimitRule, limit.id)
            rule.at_most = at_most
            session.get_one(Meta, 1).generation += 1

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]

    def account(self, limit: Limit) -> tuple[int, int]:
        """Settled and outstanding, in one transaction."""
        row = self.rows(
            "SELECT coalesce((SELECT sum(settled) FROM limit_account WHERE account = :id), 0) AS settled,"
            " coalesce((SELECT sum(CASE WHEN granted > ingested THEN granted - ingested ELSE 0 END)"
            " FROM lease WHERE account = :id), 0) AS outstanding",
            id=account_of(limit.id, limit.metric),
        )[0]
        return int(row["settled"]), int(row["outstanding"])


class Worker:
    """What a worker process has, in this one."""

    def __init__(self, settings: Settings) -> None:
        self.link = KeeperLink(settings, self._on_snapshot)
        self.book = LeaseBook(self.link)
        self.spool = Spool(
            settings.spool_folder, self.link.incarnation, settings.spool_segment_bytes, settings.spool_max_bytes
        )
        self.link.watch(self.spool)
        self.snapshots: list[bytes] = []
        self._task = asyncio.get_running_loop().create_task(self.link.run())

    def _on_snapshot(self, document: bytes) -> None:
        self.snapshots.append(document)

    async def connected(self) -> "Worker":
        await eventually(lambda: self.link.connected, "connection to the keeper", 20)
        return self

    async def reserve(self, limits: tuple[Limit, ...], need: Amounts) -> Reservation:
        return await self.book.reserve(limits, need, time.time())

    def open(self, reservation: Reservation) -> LedgerRow:
        row = new_row()
        self.spool.open(row, reservation.charges())
        return row

    def close(self, reservation: Reservation, row: LedgerRow, used: Amounts) -> None:
        row.outcome = Outcome.COMPLETED
        row.status = 200
        row.input_tokens, row.output_tokens, row.cost_usd_micros = (
            used.input_tokens,
            used.output_tokens,
            used.cost_microusd,
        )
        self.spool.close(row, self.book.settle(reservation, used))

    async def die(self) -> None:
        """As after kill -9: the connection breaks, the lock is free, what was not settled never will be."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.spool.dispose()


def new_row(**values: Any) -> LedgerRow:
    now_ns = time.time_ns()
    fields: dict[str, Any] = {
        "id": f"{now_ns:016x}{next(_ids):010x}",
        "started_at_ns": now_ns,
        "team": "search",
        "app": "indexer",
        "key": "ci",
        "route": "chat",
        "dialect": "openai",
        "provider": "local",
        "target": "local/small",
        "model": "small",
    }
    return LedgerRow(**(fields | values))


async def eventually(holds: Callable[[], Any], what: str, within_s: float = 5.0) -> Any:
    """Wait until `holds` gives something true."""
    deadline = time.monotonic() + within_s
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.01)


async def restart_keeper(ground: Ground, *workers: Worker) -> None:
    """Kill -9, and the next one is there for all of these workers."""
    ground.kill_keeper()
    for worker in workers:
        await eventually(lambda w=worker: not w.link.connected, "loss of the keeper")
    ground.start_keeper()
    for worker in workers:
        await worker.connected()


@asynccontextmanager
async def workers(ground: Ground, count: int) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as stack:
        made = [Worker(ground.settings) for _ in range(count)]
        for worker in made:
            stack.push_async_callback(_end, worker)
            await worker.connected()
        yield made


async def _end(worker: Worker) -> None:
    try:
        await worker.die()
    except OSError:
        return  # it had died in the test


@pytest.fixture
def ground(tmp_path: Path, migrated_url: str) -> Iterator[Ground]:
    yield from make_ground(tmp_path, migrated_url)


@pytest.fixture
def sqlite_ground(tmp_path: Path, migrated_sqlite_url: str) -> Iterator[Ground]:
    yield from make_ground(tmp_path, migrated_sqlite_url)


@pytest.fixture
def quiet_ground(tmp_path: Path, migrated_url: str) -> Iterator[Ground]:
    """Without a keeper: the test runs its own."""
    yield from make_ground(tmp_path, migrated_url, keeper=False)


def make_ground(folder: Path, url: str, *, keeper: bool = True, **options: Any) -> Iterator[Ground]:
    settings = Settings(**({"data": folder / "data", "database": url, "spool_segment_bytes": 256 * 1024} | options))
    settings.data.mkdir(mode=0o700, exist_ok=True)
    ground = Ground(settings, make_engine(settings.database_url))
    if keeper:
        ground.start_keeper()
    try:
        yield ground
    finally:
        ground.kill_keeper()
        ground.engine.dispose()
