"""How long ledger rows and roll-ups stay. Rows go by full hours, oldest first, in batches that keep no writer waiting.

Nothing that is counted depends on them: limits have accounts of their own, usage has its hourly roll-up, which stays
longer than the rows. The audit log is never shortened: its entries are chained (`audit`).
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.store import flow_rollup
from gateway.store.ingest import LEDGER
from gateway.store.ledger import HOUR_NS, unix_ns
from gateway.store.ledger_models import DAY_S, HOUR_S
from gateway.store.rollup import USAGE_DAY, USAGE_HOUR
from gateway.store.sql_thread import SqlThread, write_transaction
from gateway.store.statements import Statement

log = logging.getLogger(__name__)

ROWS_A_BATCH: Final = 500
"""Some 10 ms on either database."""
REST: Final = 4.0
"""After each batch, times its own duration: writers have the database for four fifths of the time."""
SHORTEST_REST_S: Final = 0.01
LOOK_PAUSE_S: Final = 60.0

# Rows that another node is removing are passed over, so that two keepers never wait for each other.
_REMOVE: Final = Statement(
    "DELETE FROM ledger WHERE id IN (SELECT id FROM ledger WHERE started_at_ns < ? ORDER BY started_at_ns, id LIMIT ?)",
    postgresql="DELETE FROM ledger WHERE id IN"
    " (SELECT id FROM ledger WHERE started_at_ns < ? ORDER BY started_at_ns, id LIMIT ? FOR UPDATE SKIP LOCKED)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each stays; None = for ever."""

    rows: timedelta | None
    usage: timedelta | None

    def __bool__(self) -> bool:
        return self.rows is not None or self.usage is not None


def full_hour(moment: datetime) -> datetime:
    """The hour that `moment` is in: only whole hours go, so that usage by hour is never a mix of rows and sums."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def count_before(connection: Connection, cutoff: datetime) -> int:
    query = select(func.count()).select_from(LEDGER).where(LEDGER.c.started_at_ns < unix_ns(cutoff))
    return connection.execute(query).scalar_one()


def remove_batch(engine: Engine, cutoff_ns: int) -> int:
    """Remove the oldest rows before `cutoff_ns`, a batch of them. Returns how many went."""
    with write_transaction(engine) as connection:
        return _REMOVE.run(connection, cutoff_ns, ROWS_A_BATCH).rowcount


def forget_usage(engine: Engine, cutoff_s: int) -> int:
    """Remove sums of the days before that of `cutoff_s`: few rows, in one transaction. Returns how many went. Hours go
    with their day, so that both tell the same."""
    with write_transaction(engine) as connection:
        day_s = cutoff_s // DAY_S * DAY_S
        gone = connection.execute(delete(USAGE_HOUR).where(USAGE_HOUR.c.hour_s < day_s)).rowcount
        gone += connection.execute(delete(USAGE_DAY).where(USAGE_DAY.c.day_s < day_s)).rowcount
        return gone + flow_rollup.forget(connection, cutoff_s)


def prune(engine: Engine, cutoff: datetime) -> Iterator[int]:
    """Remove all rows before `cutoff`, resting after each batch. Yields how many rows each took."""
    cutoff_ns = unix_ns(cutoff)
    while True:
        began_s = time.monotonic()
        removed = remove_batch(engine, cutoff_ns)
        if removed:
            yield removed
        if removed < ROWS_A_BATCH:
            return
        time.sleep(max(SHORTEST_REST_S, REST * (time.monotonic() - began_s)))


async def keep(engine: Engine, sql: SqlThread, retention: Retention) -> None:
    """The keeper's: look every minute, for ever, and remove what is due as `prune` does. Batches are jobs of the SQL
    thread, where leases and rows come in between."""
    troubled = False
    while True:
        try:
            removed = await _remove_due(engine, sql, retention)
            if removed:
                log.info("rows beyond their retention are removed", extra={"rows": removed})
            troubled = False
        except SQLAlchemyError as error:
            if not troubled:
                log.error("retention waits", extra={"error": str(error)[:500]})
            troubled = True
        await asyncio.sleep(LOOK_PAUSE_S)


async def _remove_due(engine: Engine, sql: SqlThread, retention: Retention) -> int:
    now_s = int(time.time())
    removed = 0
    if retention.rows is not None:
        hour = int(now_s - retention.rows.total_seconds()) // HOUR_S
        batch = ROWS_A_BATCH
        while batch == ROWS_A_BATCH:
            began_s = time.monotonic()
            batch = await sql.run(remove_batch, engine, hour * HOUR_NS)
            removed += batch
            await asyncio.sleep(max(SHORTEST_REST_S, REST * (time.monotonic() - began_s)))
    if retention.usage is not None:
        hour = int(now_s - retention.usage.total_seconds()) // HOUR_S
        await sql.run(forget_usage, engine, hour * HOUR_S)
    return removed
