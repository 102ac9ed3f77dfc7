"""Ledger rows the way the keeper brings them in: rows and roll-up in one transaction."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from gateway.policy.records import CLOSED, payload_of, record_of
from gateway.policy.usage import LedgerRow
from gateway.store.ingest import ingest


def insert_rows(session: Session, rows: Iterable[LedgerRow]) -> None:
    records = [record_of(payload_of(CLOSED, row, (), number)) for number, row in enumerate(rows, 1)]
    ingest(session.connection(), "tests", "tests", records)
