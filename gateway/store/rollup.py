"""Sums of the ledger by hour and day, kept in the transaction that inserts the rows: charts never scan the ledger."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, Table

from gateway.policy.usage import Outcome
from gateway.store.base import Base
from gateway.store.ledger_models import DAY_S, HOUR_S, UsageDay, UsageHour
from gateway.store.row_groups import RowGroup
from gateway.store.statements import Statement

USAGE_HOUR: Final[Table] = Base.metadata.tables[UsageHour.__tablename__]
USAGE_DAY: Final[Table] = Base.metadata.tables[UsageDay.__tablename__]
NAMES: Final = ("team", "app", "key", "route", "target", "provider", "model")
SUMS: Final = (
    "requests",
    "errors",
    "unpriced",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd_micros",
)
FAILED: Final = frozenset({Outcome.UPSTREAM_FAILED, Outcome.REFUSED, Outcome.INTERRUPTED})
_HOUR_NS: Final = HOUR_S * 1_000_000_000


def _adding(table: str, step: str) -> Statement:
    key = ", ".join([f'"{name}"' for name in (step, *NAMES)])
    marks = ", ".join(["?"] * len((step, *NAMES, *SUMS)))
    added = ", ".join([f"{name} = {table}.{name} + excluded.{name}" for name in SUMS])
    return Statement(
        f"INSERT INTO {table} ({key}, {', '.join(SUMS)}) VALUES ({marks})"  # noqa: S608 - constants
        f" ON CONFLICT ({key}) DO UPDATE SET {added}"
    )


_ADD_HOURS: Final = _adding("usage_hour", "hour_s")
_ADD_DAYS: Final = _adding("usage_day", "day_s")


def is_error(status: int, outcome: str) -> bool:
    """Refused by us, failed upstream, or interrupted."""
    return outcome in FAILED or status >= 400


def add_groups(connection: Connection, groups: Iterable[RowGroup]) -> None:
    """Add rows that are new in the ledger to the sums of their hours and days."""
    sums: dict[tuple[int | str, ...], list[int]] = {}
    for group in groups:
        names = [group.shared(name) or "" for name in NAMES]
        for hour, part in by_hour(group):
            added = sums.setdefault((hour * HOUR_S, *names), [0] * len(SUMS))
            added[0] += len(part.rows)
            if is_error(part.shared("status"), part.shared("outcome")):
                added[1] += len(part.rows)
            added[2] += unpriced(part)
            for i, name in enumerate(SUMS[3:], 3):
                added[i] += part.sum_of(name)
    # In one order on every node, so that two keepers never wait for each other's rows.
    _ADD_HOURS.run_each(connection, [(*key, *sums[key]) for key in sorted(sums)])
    days: dict[tuple[int | str, ...], list[int]] = {}
    for (hour_s, *names), figures in sums.items():
        day = (int(hour_s) // DAY_S * DAY_S, *names)
        known = days.get(day)
        days[day] = figures if known is None else [a + b for a, b in zip(known, figures, strict=True)]
    _ADD_DAYS.run_each(connection, [(*key, *days[key]) for key in sorted(days)])


def by_hour(group: RowGroup) -> list[tuple[int, RowGroup]]:
    """Its rows by the hour in which they began, in hours of Unix time."""
    started = group.column("started_at_ns")
    first = min(started) // _HOUR_NS
    if max(started) // _HOUR_NS == first:
        return [(first, group)]
    hours: dict[int, RowGroup] = {}
    for row, started_ns in zip(group.rows, started, strict=True):
        part = hours.get(started_ns // _HOUR_NS)
        if part is None:
            hours[started_ns // _HOUR_NS] = RowGroup(group.kind, [row], [])
        else:
            part.rows.append(row)
    return list(hours.items())


def unpriced(group: RowGroup) -> int:
    """How many used tokens whose cost is not known."""
    costs = group.column("cost_usd_micros")
    if None not in costs:
        return 0
    used = zip(costs, group.column("input_tokens"), group.column("output_tokens"), strict=True)
    return sum([cost is None and bool(read or made) for cost, read, made in used])
