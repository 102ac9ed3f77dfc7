"""Hourly sums of the ledger, kept in the transaction that inserts the rows: charts never scan the ledger."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Table

from gateway.policy.usage import LEDGER_FIELDS, Outcome
from gateway.store.base import Base
from gateway.store.ledger_models import HOUR_S, UsageHour
from gateway.store.statements import Statement

USAGE_HOUR: Final[Table] = Base.metadata.tables[UsageHour.__tablename__]
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
_KEY: Final = ("hour_s", *NAMES)
_KEY_COLUMNS: Final = ", ".join([f'"{name}"' for name in _KEY])
_MARKS: Final = ", ".join(["?"] * len((*_KEY, *SUMS)))
_ADDED: Final = ", ".join([f"{name} = usage_hour.{name} + excluded.{name}" for name in SUMS])
_ADD: Final = Statement(
    f"INSERT INTO usage_hour ({_KEY_COLUMNS}, {', '.join(SUMS)}) VALUES ({_MARKS})"  # noqa: S608 - constants
    f" ON CONFLICT ({_KEY_COLUMNS}) DO UPDATE SET {_ADDED}"
)
_kind_of: Final = itemgetter(*[LEDGER_FIELDS.index(name) for name in ("status", "outcome", *NAMES)])
_tokens_of: Final = itemgetter(*[LEDGER_FIELDS.index(name) for name in SUMS[3:]])
_STARTED: Final = LEDGER_FIELDS.index("started_at_ns")
_COST: Final = SUMS.index("cost_usd_micros") - 3


def is_error(status: int, outcome: str) -> bool:
    """Refused by us, failed upstream, or interrupted."""
    return outcome in FAILED or status >= 400


def add_rows(connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows (values in the order of LEDGER_FIELDS) that are new in the ledger to the sums of their hours."""
    alike: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
    for values in rows:
        kind = (values[_STARTED] // _HOUR_NS, *_kind_of(values))
        found = alike.get(kind)
        if found is None:
            alike[kind] = [values]
        else:
            found.append(values)
    sums: dict[tuple[int | str, ...], list[int]] = {}
    for (hour, status, outcome, *names), group_rows in alike.items():
        group = (hour * HOUR_S, *[name or "" for name in names])
        added = sums.setdefault(group, [0] * len(SUMS))
        added[0] += len(group_rows)
        if is_error(status, outcome):
            added[1] += len(group_rows)
        columns = list(zip(*map(_tokens_of, group_rows), strict=True))
        if None in columns[_COST]:
            priceless = [row for row in zip(*columns, strict=True) if row[_COST] is None]
            added[2] += sum(bool(read or made) for read, _, _, made, _, _ in priceless)
        for i, column in enumerate(columns, 3):
            added[i] += sum(filter(None, column))
    # In one order on every node, so that two keepers never wait for each other's rows.
    _ADD.run_each(connection, [(*group, *sums[group]) for group in sorted(sums)])
