"""From spool records to SQL: ledger rows, roll-up and charges in one transaction, each request once.

A row is inserted if its id is not there yet, and only then is anything charged: replaying a spool changes nothing.
"""

from collections.abc import Sequence
from typing import Final

import orjson
from sqlalchemy import Connection, Table

from gateway.policy.records import Record
from gateway.policy.usage import LEDGER_FIELDS
from gateway.store import rollup
from gateway.store.base import Base
from gateway.store.leases import LeaseKey
from gateway.store.ledger_models import LedgerEntry
from gateway.store.statements import Statement

LEDGER: Final[Table] = Base.metadata.tables[LedgerEntry.__tablename__]

_COLUMNS: Final = ", ".join([f'"{name}"' for name in LEDGER_FIELDS])
_MARKS: Final = ", ".join(["?"] * len(LEDGER_FIELDS))
_INSERT: Final = Statement(f"INSERT INTO ledger ({_COLUMNS}) VALUES ({_MARKS})")  # noqa: S608 - constants
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


def ingest(connection: Connection, node: str, incarnation: str, ended: Sequence[Record]) -> list[Record]:
    """Insert the rows that are new and charge what they used. Returns the records whose rows were new."""
    known = known_ids(connection, [record.request_id for record in ended])
    new: list[Record] = []
    charged: dict[LeaseKey, int] = {}
    for record in ended:
        request_id = record.request_id
        if request_id in known:
            continue
        known.add(request_id)
        new.append(record)
        numbers = record.charges
        for at in range(0, len(numbers), 3):
            key = (numbers[at], numbers[at + 1])
            charged[key] = charged.get(key, 0) + numbers[at + 2]
    if not new:
        return new
    _charge(connection, node, incarnation, charged)
    _INSERT.run_each(connection, [tuple(record.values) for record in new])
    rollup.add_rows(connection, [record.values for record in new])
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
