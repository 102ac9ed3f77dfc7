"""The audit log: appended in the transaction of the change it tells of, hash-chained, never altered.

`hash` = SHA-256 of the JSON array [previous hash in hex, seq, at (RFC 3339), actor, action, kind, name, before, after];
the first entry's previous hash is 32 zero bytes. Whoever alters or removes an entry must forge all that follow, which
`verify` (and anyone who noted an earlier hash) finds out.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, SessionTransaction

from gateway.store.models import AuditEntry, Meta, now

FIRST_HASH: Final = bytes(32)

_CHAIN: Final = "sluicegate_audit_chain"


@dataclass(frozen=True, slots=True)
class _Chain:
    """Its end, as this transaction knows it."""

    transaction: SessionTransaction | None
    seq: int
    hash: bytes


def lock(session: Session) -> None:
    """Wait for our turn to change what is configured or to append here; it lasts until the transaction's end."""
    _end_of_chain(session)


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    kind: str,
    name: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Append one entry. `before` and `after` are JSON-ready and hold no secret. The caller commits."""
    chain = _end_of_chain(session)
    entry = AuditEntry(
        seq=chain.seq + 1,
        at=now(),
        actor=actor,
        action=action,
        kind=kind,
        name=name,
        before=_canonical(before),
        after=_canonical(after),
        previous_hash=chain.hash,
    )
    columns = {name: getattr(entry, name) for name in AuditEntry.__table__.columns.keys()}  # noqa: SIM118 (no mapping)
    columns["hash"] = _hash(entry)
    session.execute(insert(AuditEntry).values(columns))  # at once: the order of a flush is not ours
    session.info[_CHAIN] = _Chain(chain.transaction, chain.seq + 1, columns["hash"])


def entries(
    session: Session,
    *,
    before_seq: int | None = None,
    limit: int = 100,
    kind: str | None = None,
    name: str | None = None,
) -> list[AuditEntry]:
    """Newest first, those older than `before_seq`."""
    query = select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(limit)
    if before_seq is not None:
        query = query.where(AuditEntry.seq < before_seq)
    if kind is not None:
        query = query.where(AuditEntry.kind == kind)
    if name is not None:
        query = query.where(AuditEntry.name == name)
    return list(session.scalars(query))


def verify(session: Session) -> int | None:
    """The first entry that is not as it was written, or that follows a gap; None where the chain holds."""
    expected_seq, previous = 1, FIRST_HASH
    query = select(AuditEntry).order_by(AuditEntry.seq).execution_options(yield_per=1000)
    with closing(session.scalars(query)) as found:
        for entry in found:
            if entry.seq != expected_seq or entry.previous_hash != previous or entry.hash != _hash(entry):
                return expected_seq
            expected_seq, previous = entry.seq + 1, entry.hash
    return None


def _end_of_chain(session: Session) -> _Chain:
    """The last entry. Read once a transaction: while we hold the lock nobody appends but we."""
    chain: _Chain | None = session.info.get(_CHAIN)
    transaction = session.get_transaction()
    if chain is None or chain.transaction is not transaction:
        session.execute(select(Meta.id).with_for_update())
        last = session.execute(select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)).first()
        transaction = session.get_transaction()
        chain = _Chain(transaction, 0, FIRST_HASH) if last is None else _Chain(transaction, last.seq, last.hash)
        session.info[_CHAIN] = chain
    return chain


def _canonical(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def _hash(entry: AuditEntry) -> bytes:
    parts = [
        entry.previous_hash.hex(),
        entry.seq,
        _rfc3339(entry.at),
        entry.actor,
        entry.action,
        entry.kind,
        entry.name,
        entry.before,
        entry.after,
    ]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()).digest()


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
