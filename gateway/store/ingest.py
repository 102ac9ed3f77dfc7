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

_OFTEN: Final = LEDGER_FIELDS.index("process")
"""Fields from here on are null in nearly all rows."""


def _insert(names: Sequence[str]) -> Statement:
    columns, marks = ", ".join([f'"{name}"' for name in names]), ", ".join(["?"] * len(names))
    return Statement(f"INSERT INTO ledger ({columns}) VALUES ({marks})")  # noqa: S608 - constants


_INSERT: Final = _insert(LEDGER_FIELDS)
_INSERT_OFTEN: Final = _insert(LEDGER_FIELDS[:_OFTEN])
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


def ingest(
    connection: Connection, node: str, incarnation: str, ended: Sequence[Record], *, all_new: bool = False
) -> list[Record]:
    """Insert the rows that are new and charge what they used. Returns the records whose rows were new.

    `all_new`: the ledger is not asked which it has. Where it has one all the same the database raises IntegrityError,
    and nothing has happened."""
    new = ended if all_new else _unknown(connection, ended)
    if not new:
        return []
    charged: dict[LeaseKey, int] = {}
    for record in new:
        numbers = iter(record.charges)
        for account, start_s, amount in zip(numbers, numbers, numbers, strict=True):
            key = (account, start_s)
            charged[key] = charged.get(key, 0) + amount
    _charge(connection, node, incarnation, charged)
    rows = [record.values for record in new]
    if any(any(values[_OFTEN:]) for values in rows):
        _INSERT.run_each(connection, rows)
    else:  # what most rows never have need not be handed over
        _INSERT_OFTEN.run_each(connection, [values[:_OFTEN] for values in rows])
    rollup.add_rows(connection, rows)
    return list(new)


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
