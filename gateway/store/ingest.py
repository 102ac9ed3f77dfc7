"""From spool records to SQL: ledger rows, roll-up and charges in one transaction, each request once.

A row is inserted if its id is not there yet, and only then is anything charged: replaying a spool changes nothing.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Table, select

from gateway.policy.records import Record
from gateway.policy.usage import LEDGER_FIELDS
from gateway.store import rollup
from gateway.store.base import Base
from gateway.store.leases import ACCOUNT, LEASE, LeaseKey, insert_into
from gateway.store.ledger_models import LedgerEntry

LEDGER: Final[Table] = Base.metadata.tables[LedgerEntry.__tablename__]
IDS_A_QUERY: Final = 500

_COLUMNS: Final = ", ".join([f'"{name}"' for name in LEDGER_FIELDS])
_INSERT: Final = {
    "sqlite": f"INSERT INTO ledger ({_COLUMNS}) VALUES ({', '.join(['?'] * len(LEDGER_FIELDS))})",  # noqa: S608 - constants
    "postgresql": f"INSERT INTO ledger ({_COLUMNS}) VALUES ({', '.join(['%s'] * len(LEDGER_FIELDS))})",  # noqa: S608 - constants
}
"""Written out: through SQLAlchemy's constructs the parameters alone take longer than the insert."""


def ingest(connection: Connection, node: str, incarnation: str, ended: Sequence[Record]) -> list[Record]:
    """Insert the rows that are new and charge what they used. Returns the records whose rows were new."""
    known = known_ids(connection, [record.request_id for record in ended])
    new: list[Record] = []
    charged: dict[LeaseKey, int] = {}
    for record in ended:
        if record.request_id in known:
            continue
        known.add(record.request_id)
        new.append(record)
        numbers = record.charges
        for at in range(0, len(numbers), 3):
            key = (numbers[at], numbers[at + 1])
            charged[key] = charged.get(key, 0) + numbers[at + 2]
    if not new:
        return new
    _charge(connection, node, incarnation, charged)
    connection.exec_driver_sql(_INSERT[connection.dialect.name], [tuple(record.values) for record in new])
    rollup.add_rows(connection, [record.values for record in new])
    return new


def known_ids(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these requests the ledger has."""
    known: set[str] = set()
    for at in range(0, len(ids), IDS_A_QUERY):
        known.update(
            connection.execute(select(LEDGER.c.id).where(LEDGER.c.id.in_(ids[at : at + IDS_A_QUERY]))).scalars()
        )
    return known


def _charge(connection: Connection, node: str, incarnation: str, charged: dict[LeaseKey, int]) -> None:
    """Move amounts from outstanding to settled. Accounts first and in order: that is the order of all locks."""
    if not charged:
        return
    keys = sorted(charged)
    accounts = insert_into(connection, ACCOUNT)
    connection.execute(
        accounts.on_conflict_do_update(
            index_elements=["limit_id", "window_start_s"],
            set_={"settled": ACCOUNT.c.settled + accounts.excluded.settled},
        ),
        [{"limit_id": key[0], "window_start_s": key[1], "settled": charged[key], "recall_ns": 0} for key in keys],
    )
    leases = insert_into(connection, LEASE)
    connection.execute(
        leases.on_conflict_do_update(
            index_elements=["incarnation", "limit_id", "window_start_s"],
            set_={"ingested": LEASE.c.ingested + leases.excluded.ingested},
        ),
        [
            {
                "incarnation": incarnation,
                "limit_id": key[0],
                "window_start_s": key[1],
                "node": node,
                "granted": 0,
                "ingested": charged[key],
                "recalled_ns": 0,
            }
            for key in keys
        ],
    )
