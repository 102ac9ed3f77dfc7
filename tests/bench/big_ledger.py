"""A large ledger made in SQL: rows over the last 90 days, and the roll-up that they would have."""

import sqlite3
import time
from typing import Final

from gateway.policy.usage import LEDGER_FIELDS
from gateway.store.ledger_models import HOUR_S
from gateway.store.rollup import FAILED, NAMES, SUMS

DAYS: Final = 90
APPS, TEAMS, MODELS = 20, 5, 4

# One row by its number n. The multipliers are primes: names, times and sizes do not go in step.
_ROW: Final = {
    "id": "printf('%026x', n)",
    "started_at_ns": "{start} + n * {step}",
    "team": f"'team-' || (n * 7919 % {APPS} % {TEAMS})",
    "app": f"'app-' || (n * 7919 % {APPS})",
    "key": f"'key-' || (n * 7919 % {APPS})",
    "route": f"'route-' || (n * 104729 % {MODELS} / 2)",
    "target": f"'mock/model-' || (n * 104729 % {MODELS})",
    "provider": "'mock'",
    "dialect": "'openai'",
    "model": f"'model-' || (n * 104729 % {MODELS})",
    "status": "CASE WHEN n % 50 = 0 THEN 502 ELSE 200 END",
    "input_tokens": "n * 31 % 4000",
    "output_tokens": "n * 17 % 900",
    "cost_usd_micros": "n * 13 % 5000",
    "latency_ms": "400.0 + n % 700",
    "ttft_ms": "90.0 + n % 130",
    "upstream_status": "CASE WHEN n % 50 = 0 THEN 502 ELSE 200 END",
    "attempts": "1 + (n % 50 = 0)",
    "outcome": "CASE WHEN n % 50 = 0 THEN 'upstream_failed' ELSE 'completed' END",
    "estimated": "0",
    "overrun": "0",
    "stream": "n % 2",
}


def fill(connection: sqlite3.Connection, rows: int) -> int:
    """Add so many rows to the ledger and their sums to `usage_hour`, which must be empty. Returns the hours' rows."""
    step_ns = DAYS * 24 * HOUR_S * 1_000_000_000 // rows
    start_ns = time.time_ns() - DAYS * 24 * HOUR_S * 1_000_000_000 - step_ns
    columns = [name for name in LEDGER_FIELDS if name in _ROW]
    values = ", ".join(_ROW[name].format(start=start_ns, step=step_ns) for name in columns)
    connection.execute(
        f"INSERT INTO ledger ({', '.join(columns)}) WITH RECURSIVE number(n) AS"
        f" (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {rows}) SELECT {values} FROM number"
    )
    failed = ", ".join(f"'{outcome}'" for outcome in FAILED)
    hour = f"started_at_ns / {HOUR_S * 1_000_000_000} * {HOUR_S}"
    names = ", ".join(f"coalesce({name}, '')" for name in NAMES)
    counted = f"count(*), sum(outcome IN ({failed}) OR status >= 400), 0"
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in SUMS[3:])
    made = connection.execute(
        f"INSERT INTO usage_hour (hour_s, {', '.join(NAMES)}, {', '.join(SUMS)})"
        f" SELECT {hour}, {names}, {counted}, {sums} FROM ledger GROUP BY {hour}, {names}"
    ).rowcount
    connection.execute("ANALYZE")
    return made
