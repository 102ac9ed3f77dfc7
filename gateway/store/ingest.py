"""From spool records to SQL: ledger rows, roll-up and charges in one transaction, each request once.

A row is inserted if its id is not there yet, and only then is anything charged: replaying a spool changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection, Table

from gateway.policy.records import Record
from gateway.store import flow_rollup, ledger_insert, rollup
from gateway.store.base import Base
from gateway.store.leases import LeaseKey
from gateway.store.ledger_models import LedgerEntry
from gateway.store.row_groups import RowGroup, grouped
from gateway.store.statements import Statement

LEDGER: Final[Table] = Base.metadata.tables[LedgerEntry.__tablename__]

_KNOWN: Final = Statement(
    "SELECT id FROM ledger WHERE id IN (SELECT value FROM json_each(?))",
    postgresql="SELECT id FROM ledger WHERE id = ANY(?)",
)
_CHARGE_ACCOUNT: Final = Statement(
    "INSERT INTO limit_account (account, window_start_s, settled, recall_ns) VALUES (?, ?, ?, 0)"
    " ON CONFLICT (account, window_start_s) DO UPDATE SET settled = limit_account.settled + excluded.settled"
)
_CHARGE_LEASE: Final = Statement(
    "INSERT INTO lease (incarnation, account, window_start_s, node, granted, ingested, recalled_ns)"
    " VALUES (?, ?, ?, ?, 0, ?, 0)"
    " ON CONFLICT (incarnation, account, window_start_s) DO UPDATE SET ingested = lease.ingested + excluded.ingested"
)


@dataclass(frozen=True, slots=True)
class Entered:
    """What a batch brought that the ledger did not have."""

    records: list[Record]
    groups: list[RowGroup]
    """The rows of `records`."""


def ingest(
    connection: Connection, node: str, incarnation: str, ended: Sequence[Record], *, all_new: bool = False
) -> Entered:
    """Insert the rows that are new and charge what they used.

    `all_new`: the ledger is not asked which it has. Where it has one all the same the database raises IntegrityError,
    and nothing has happened."""
    new = list(ended) if all_new else _unknown(connection, ended)
    if not new:
        return Entered([], [])
    groups = grouped(new)
    _charge(connection, node, incarnation, charged_by(groups))
    ledger_insert.insert(connection, groups)
    rollup.add_groups(connection, groups)
    flow_rollup.add_groups(connection, groups)
    return Entered(new, groups)


def charged_by(groups: Iterable[RowGroup]) -> dict[LeaseKey, int]:
    """Sums of what is charged by account and window."""
    charged: dict[LeaseKey, int] = {}
    for group in groups:
        accounts = group.kind.accounts
        keys = zip(accounts[::2], accounts[1::2], strict=True)
        for key, column in zip(keys, zip(*group.amounts, strict=True), strict=True):
            charged[key] = charged.get(key, 0) + sum(column)
    return charged


def _unknown(connection: Connection, ended: Sequence[Record]) -> list[Record]:
    """Those that the ledger does not have, each once."""
    known = known_ids(connection, [record.request_id for record in ended])
    new: list[Record] = []
    for record in ended:
        if record.request_id not in known:
            known.add(record.request_id)
            new.append(record)
    return new


def known_ids(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these requests the ledger has."""
    wanted = orjson.dumps(ids).decode() if connection.dialect.name == "sqlite" else list(ids)
    return set(_KNOWN.run(connection, wanted).scalars())


def _charge(connection: Connection, node: str, incarnation: str, charged: dict[LeaseKey, int]) -> None:
    """Move amounts from outstanding to settled. Accounts first and in order: that is the order of all locks."""
    keys = sorted(charged)
    _CHARGE_ACCOUNT.run_each(connection, [(*key, charged[key]) for key in keys])
    _CHARGE_LEASE.run_each(connection, [(incarnation, *key, node, charged[key]) for key in keys])
