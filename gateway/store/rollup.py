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
_group_of: Final = itemgetter(*[LEDGER_FIELDS.index(name) for name in NAMES])
_tokens_of: Final = itemgetter(*[LEDGER_FIELDS.index(name) for name in SUMS[3:]])
_STARTED: Final = LEDGER_FIELDS.index("started_at_ns")
_STATUS: Final = LEDGER_FIELDS.index("status")
_OUTCOME: Final = LEDGER_FIELDS.index("outcome")


def is_error(status: int, outcome: str) -> bool:
    """Refused by us, failed upstream, or interrupted."""
    return outcome in FAILED or status >= 400


def add_rows(connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows (values in the order of LEDGER_FIELDS) that are new in the ledger to the sums of their hours."""
    sums: dict[tuple[int | str, ...], list[int]] = {}
    for values in rows:
        names = _group_of(values)
        if None in names:
            names = tuple([name or "" for name in names])
        group = (values[_STARTED] // _HOUR_NS * HOUR_S, *names)
        added = sums.get(group)
        if added is None:
            added = sums[group] = [0] * len(SUMS)
        tokens_in, _cached, _written, tokens_out, _reasoning, cost = tokens = _tokens_of(values)
        added[0] += 1
        added[1] += is_error(values[_STATUS], values[_OUTCOME])
        added[2] += cost is None and bool(tokens_in or tokens_out)
        for i, amount in enumerate(tokens, 3):
            if amount:
                added[i] += amount
    # In one order on every node, so that two keepers never wait for each other's rows.
    _ADD.run_each(connection, [(*group, *sums[group]) for group in sorted(sums)])
