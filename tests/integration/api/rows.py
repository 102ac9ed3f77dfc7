"""Ledger rows the way the keeper brings them in: rows and roll-up in one transaction."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from gateway.policy.records import Record
from gateway.policy.usage import LEDGER_FIELDS, LedgerRow
from gateway.store.ingest import ingest


def insert_rows(session: Session, rows: Iterable[LedgerRow]) -> None:
    records = [
        Record(closed=True, values=[getattr(row, name) for name in LEDGER_FIELDS], charges=[], number=number)
        for number, row in enumerate(rows, 1)
    ]
    ingest(session.connection(), "tests", "tests", records)
