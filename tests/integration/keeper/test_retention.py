"""Rows and sums go when their time is up, by the keeper, and nothing that is counted changes with them."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.dataplane.lease import Reservation
from gateway.policy.quota import Amounts
from gateway.policy.records import CLOSED, payload_of, record_of
from gateway.settings import Settings
from gateway.store.database import read_session
from gateway.store.ingest import ingest
from gateway.store.ledger import usage
from gateway.store.retention import ROWS_A_BATCH
from gateway.store.sql_thread import write_transaction
from tests.integration.keeper.conftest import Ground, Worker, eventually, make_ground, new_row, workers

HOUR_NS = 3_600 * 10**9
OLD = 3 * ROWS_A_BATCH + 7


def fill(ground: Ground, days: float, count: int) -> None:
    """So many rows that began that long ago."""
    at_ns = time.time_ns() - int(days * 24 * HOUR_NS)
    rows = [new_row(started_at_ns=at_ns + number, input_tokens=1, cost_usd_micros=2) for number in range(count)]
    with write_transaction(ground.engine) as connection:
        ingest(connection, "tests", "tests", [record_of(payload_of(CLOSED, row, (), 1)) for row in rows])


def count(ground: Ground, table: str) -> int:
    return int(ground.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])


async def spend(worker: Worker, reservation: Reservation) -> None:
    worker.close(reservation, worker.open(reservation), Amounts(10, 5, 7))


def test_the_keeper_removes_what_is_due_and_limits_stay(tmp_path: Path, migrated_url: str) -> None:
    grounds = make_ground(
        tmp_path, migrated_url, keeper=False, ledger_retention=timedelta(days=30), usage_retention=timedelta(days=60)
    )
    ground = next(grounds)
    try:
        limit = ground.limit(1_000)
        fill(ground, 90, 3)
        fill(ground, 45, OLD)
        fill(ground, 29, 5)
        with read_session(ground.engine) as session:
            before = usage(session, ["team", "day"])
        assert len(before) == 3

        async def run() -> None:
            ground.start_keeper()
            await eventually(ground.settings.keeper_socket.exists, "start of the keeper", 90)
            async with workers(ground, 1) as (worker,):
                longest_s = 0.0

                async def all_gone() -> None:
                    await eventually(lambda: count(ground, "ledger") <= 5 + 20, "rows beyond 30 days are gone", 60)

                removing = asyncio.create_task(all_gone())
                for _ in range(20):  # while rows go, requests are admitted and recorded as ever
                    began_s = time.monotonic()
                    reservation = await worker.reserve((limit,), Amounts(10, 5, 7))
                    longest_s = max(longest_s, time.monotonic() - began_s)
                    await spend(worker, reservation)
                    await asyncio.sleep(0.02)
                await removing
                assert longest_s < 2.0
                await eventually(lambda: count(ground, "ledger") == 5 + 20, "all that is left")
                await eventually(lambda: ground.account(limit)[0] == 20 * 15, "settled")
            await eventually(lambda: len(ground.rows("SELECT DISTINCT hour_s FROM usage_hour")) <= 3, "sums of 90 days")

        asyncio.run(run())
        with read_session(ground.engine) as session:
            after = usage(session, ["team", "day"], until=datetime.now(UTC) - timedelta(days=1))
        assert after == before[1:], "sums of 45 days stay although their rows are gone; those of 90 days went"
        assert ground.account(limit)[0] == 20 * 15
    finally:
        grounds.close()


def test_for_ever_unless_it_is_said(ground: Ground) -> None:
    fill(ground, 3_000, 10)
    time.sleep(1.5)
    assert count(ground, "ledger") == 10


@pytest.mark.parametrize(
    ("rows", "sums", "said"),
    [
        ("23h", None, "shorter than a day"),
        ("400", None, "ledger_retention"),
        ("30d", "29d", "shorter than ledger_retention"),
        (None, "29d", "shorter than ledger_retention"),
    ],
)
def test_settings_that_make_no_sense(rows: str | None, sums: str | None, said: str) -> None:
    given = {"ledger_retention": rows, "usage_retention": sums}
    with pytest.raises(ValidationError, match=said):
        Settings(**{name: value for name, value in given.items() if value})


def test_settings_are_handed_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "database"
    secret.write_text("postgresql://sluicegate:secret@postgres/sluicegate\n")
    monkeypatch.setenv("SLUICEGATE_LEDGER_RETENTION", "400d")
    monkeypatch.setenv("SLUICEGATE_DATABASE_FILE", str(secret))
    settings = Settings(data=tmp_path)
    assert settings.ledger_retention == timedelta(days=400)
    assert settings.database_url == "postgresql+psycopg://sluicegate:secret@postgres/sluicegate"
    for name, value in settings.to_hand_down().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLUICEGATE_DATABASE_FILE")
    assert Settings.handed_down() == settings
    monkeypatch.setenv("SLUICEGATE_DATABASE", "sqlite:///x")
    monkeypatch.setenv("SLUICEGATE_DATABASE_FILE", str(secret))
    assert Settings(data=tmp_path).database == "sqlite:///x", "the variable itself goes before"
