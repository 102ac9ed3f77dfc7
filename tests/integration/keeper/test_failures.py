"""Database away, disk full, keeper and workers dead: no row lost, none twice, no limit passed."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import LedgerUnavailable, LimitsUnavailable
from gateway.policy.model import Metric
from gateway.policy.quota import Amounts
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.database import make_engine
from tests.integration.keeper.conftest import Ground, Worker, eventually, make_ground, new_row, restart_keeper, workers
from tests.support.postgres import Postgres

USED = Amounts(3, 4, 5)


async def spend(worker: Worker, limit: object, count: int) -> list[str]:
    """Requests from begin to end; returns their ids."""
    ids = []
    for _ in range(count):
        reservation = await worker.reserve((limit,), Amounts(10, 10, 10))  # type: ignore[arg-type]
        row = worker.open(reservation)
        worker.close(reservation, row, USED)
        ids.append(row.id)
    return ids


def ledger_ids(ground: Ground) -> list[str]:
    return [row["id"] for row in ground.rows("SELECT id FROM ledger ORDER BY id")]


@pytest.fixture
def stoppable(tmp_path: Path, own_postgres: Postgres) -> Iterator[tuple[Ground, Postgres]]:
    url = own_postgres.url(own_postgres.new_database())
    engine = make_engine(Settings(database=url).database_url)
    migrate.upgrade(engine)
    engine.dispose()
    for ground in make_ground(tmp_path, url):
        yield ground, own_postgres


def test_postgresql_stops_and_comes_back(stoppable: tuple[Ground, Postgres]) -> None:
    ground, server = stoppable

    async def run() -> None:
        limit, tight = ground.limit(1_000_000), ground.limit(40)
        async with workers(ground, 1) as (worker,):
            ids = await spend(worker, limit, 50)
            server.stop()
            while True:  # what is leased goes on being spent, and is recorded
                try:
                    ids += await spend(worker, limit, 1)
                except LimitsUnavailable:
                    break
                if len(ids) > 3_000:
                    break
            before = time.monotonic()
            with pytest.raises(LimitsUnavailable):
                await worker.reserve((tight,), Amounts(30, 0, 0))
            assert time.monotonic() - before < 2.5
            assert worker.link.pending_rows() > 0
            assert worker.link.connected
            server.start()
            deadline = time.monotonic() + 10
            while True:
                try:
                    ids += await spend(worker, limit, 10)
                    break
                except LimitsUnavailable:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.1)
            await eventually(lambda: worker.link.pending_rows() == 0, "rows in SQL", 10)
            assert ledger_ids(ground) == sorted(ids)
            assert ground.account(limit)[0] == 7 * len(ids)

    asyncio.run(run())


def test_sqlite_is_locked_for_seconds(sqlite_ground: Ground) -> None:
    ground = sqlite_ground

    async def run() -> None:
        limit = ground.limit(1_000_000)
        async with workers(ground, 1) as (worker,):
            ids = await spend(worker, limit, 20)
            locker = sqlite3.connect(ground.settings.data.parent / "sluicegate.sqlite", isolation_level=None)
            locker.execute("BEGIN IMMEDIATE")
            ids += await spend(worker, limit, 20)
            await asyncio.sleep(2.5)
            assert worker.link.pending_rows() > 0
            locker.execute("COMMIT")
            locker.close()
            await eventually(lambda: worker.link.pending_rows() == 0, "rows in SQL")
            assert ledger_ids(ground) == sorted(ids)
            assert ground.account(limit)[0] == 7 * len(ids)

    asyncio.run(run())


def test_a_new_keeper_takes_over_where_the_last_one_was_killed(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(1_000_000)
        ids: list[str] = []
        async with workers(ground, 2) as made:
            for _ in range(3):
                for worker in made:
                    ids += await spend(worker, limit, 300)
                await restart_keeper(ground, *made)
            for worker in made:
                await eventually(lambda w=worker: w.link.pending_rows() == 0, "rows in SQL")
            assert ledger_ids(ground) == sorted(ids)
            assert ground.account(limit)[0] == 7 * len(ids)
            hours = ground.rows("SELECT sum(requests) AS requests, sum(input_tokens) AS input FROM usage_hour")[0]
            assert (int(hours["requests"]), int(hours["input"])) == (len(ids), 3 * len(ids))

    asyncio.run(run())


def test_a_dead_worker_is_settled_within_two_seconds(ground: Ground) -> None:
    async def run() -> None:
        tokens, slots = ground.limit(100), ground.limit(2, Metric.CONCURRENT_REQUESTS)
        async with workers(ground, 2) as (dying, other):
            first = await dying.reserve((tokens, slots), Amounts(30, 10, 0))
            row = new_row()
            dying.spool.open(row, first.charges(), first.need)
            second = await dying.reserve((tokens, slots), Amounts(20, 0, 0))
            died = time.monotonic()
            await dying.die()
            await eventually(lambda: ledger_ids(ground) == [row.id], "the interrupted row", 2)
            found = ground.rows("SELECT outcome, estimated, input_tokens, output_tokens, error_code FROM ledger")[0]
            assert found | {"estimated": bool(found["estimated"])} == {
                "outcome": "interrupted",
                "estimated": True,
                "input_tokens": 30,
                "output_tokens": 10,
                "error_code": "worker_died",
            }
            await eventually(lambda: ground.account(tokens) == (40, 0), "leases returned", 2)
            assert time.monotonic() - died < 2
            await other.reserve((tokens, slots), Amounts(60, 0, 0))
            assert second.charges()  # it had no open record: nothing of it went upstream, nothing is charged
            await eventually(lambda: len(os.listdir(ground.settings.spool_folder)) == 3, "its spool is gone", 3)

    asyncio.run(run())


def test_a_worker_that_only_lost_its_keeper_keeps_its_requests(ground: Ground) -> None:
    """Its lock says that it lives: nothing is interrupted however long the keeper was away."""

    async def run() -> None:
        limit = ground.limit(100)
        async with workers(ground, 1) as (worker,):
            reservation = await worker.reserve((limit,), Amounts(60, 0, 0))
            row = worker.open(reservation)
            await restart_keeper(ground, worker)
            assert [each["id"] for each in await worker.link.open_rows()] == [row.id]
            state = await worker.link.limit_state(limit.id)
            assert state is not None
            assert (state.used, state.reserved) == (0, 60)
            worker.close(reservation, row, Amounts(10, 0, 0))
            await eventually(lambda: ground.account(limit)[0] == 10, "the row")
            assert ground.rows("SELECT outcome FROM ledger") == [{"outcome": "completed"}]

    asyncio.run(run())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_refuses_new_requests_and_loses_none_that_was_admitted(
    small_disk: Path, tmp_path: Path, postgres_server: Postgres, request: pytest.FixtureRequest
) -> None:
    """3 MiB for the spool, and a keeper that is away until the disk is full."""
    name = postgres_server.new_database(template=request.getfixturevalue("_migrated_postgres"))

    async def run(ground: Ground) -> None:
        limit = ground.limit(1 << 40)
        async with workers(ground, 1) as (worker,):
            worker.book.release(await worker.reserve((limit,), Amounts(1 << 20, 0, 0)))
            ground.kill_keeper()
            await eventually(lambda: not worker.link.connected, "loss of the keeper")
            in_flight = []
            ids = []
            with pytest.raises(LedgerUnavailable):
                while True:
                    reservation = worker.book.try_reserve((limit,), Amounts(1, 0, 0), time.time())
                    assert reservation is not None
                    row = worker.open(reservation)
                    ids.append(row.id)
                    if len(ids) % 3:
                        worker.close(reservation, row, Amounts(1, 0, 0))
                    else:
                        in_flight.append((reservation, row))
                    assert len(ids) < 100_000
            assert len(ids) > 1_000
            assert worker.spool.dropped_refusals == 0
            for _ in range(20):  # refusals, for which nothing was promised
                worker.spool.close(row := new_row(), ())
                if worker.spool.dropped_refusals:
                    break
                ids.append(row.id)
            for reservation, row in in_flight:
                worker.close(reservation, row, Amounts(1, 0, 0))
            assert worker.spool.dropped_refusals == 1
            ground.start_keeper()
            await worker.connected()
            await eventually(lambda: worker.link.pending_rows() == 0, "rows in SQL", 20)
            assert ledger_ids(ground) == sorted(ids)
            again = await eventually(lambda: _opened(worker, limit), "room again", 5)
            worker.close(again[0], again[1], Amounts(1, 0, 0))

    for ground in make_ground(tmp_path, postgres_server.url(name), data=small_disk / "data"):
        asyncio.run(run(ground))
    postgres_server.drop_database(name)


def _opened(worker: Worker, limit: object) -> object:
    reservation = worker.book.try_reserve((limit,), Amounts(1, 0, 0), time.time())  # type: ignore[arg-type]
    if reservation is None:
        return None
    try:
        return reservation, worker.open(reservation)
    except LedgerUnavailable:
        worker.book.release(reservation)
        return None


def test_figures_that_no_sql_integer_holds_do_not_stop_the_ledger(ground: Ground) -> None:
    async def run() -> None:
        async with workers(ground, 1) as (worker,):
            worker.spool.close(new_row(input_tokens=(1 << 64) - 1, model="nul\0 in a name"), ())
            worker.spool.close(new_row(output_tokens=1 << 80, error_code="half \ud800 a pair"), ())
            worker.spool.close(new_row(model="m" * 100_000), ())
            await eventually(lambda: len(ledger_ids(ground)) == 3, "three rows")

    asyncio.run(run())


def test_two_nodes_share_a_limit(tmp_path: Path, postgres_url: str) -> None:
    """Two data folders and keepers, one PostgreSQL: idle parts of one node serve the other, to the last token."""
    engine = make_engine(Settings(database=postgres_url).database_url)
    migrate.upgrade(engine)
    engine.dispose()

    async def run(one: Ground, other: Ground) -> None:
        limit = one.limit(1_000)
        async with workers(one, 2) as here, workers(other, 2) as there:
            for worker in (*here, *there):
                worker.book.release(await worker.reserve((limit,), Amounts(10, 0, 0)))
            held = await there[0].reserve((limit,), Amounts(100, 0, 0))
            await here[0].reserve((limit,), Amounts(900, 0, 0))
            there[0].book.release(held)
            await asyncio.sleep(0.3)
            await here[1].reserve((limit,), Amounts(100, 0, 0))

    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    for one in make_ground(tmp_path / "one", postgres_url):
        for other in make_ground(tmp_path / "other", postgres_url):
            asyncio.run(run(one, other))


def test_a_keeper_that_is_told_to_end_takes_the_last_rows_first(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(1_000_000)
        async with workers(ground, 1) as (worker,):
            ids = await spend(worker, limit, 1_000)
            await worker.die()
            ground.kill_keeper(signal.SIGTERM)
            assert ledger_ids(ground) == sorted(ids)
            assert ground.account(limit) == (7 * len(ids), 0)
            assert list(ground.settings.spool_folder.iterdir()) == []

    asyncio.run(run())


def test_a_keeper_ends_although_its_database_hangs(stoppable: tuple[Ground, Postgres]) -> None:
    ground, server = stoppable

    async def run() -> None:
        limit = ground.limit(1_000_000)
        async with workers(ground, 1) as (worker,):
            await spend(worker, limit, 10)
            server.pause()
            try:
                await spend(worker, limit, 10)
                ground.kill_keeper(signal.SIGTERM)
            finally:
                server.resume()

    asyncio.run(run())
