"""The audit log: appended in the transaction of the change it tells of, hash-chained, never altered.

`hash` = SHA-256 of the JSON array [previous hash in hex, seq, at (RFC 3339), actor, action, kind, name, before, after];
the first entry's previous hash is 32 zero bytes. Whoever alters or removes an entry must forge all that follow, which
`verify` (and anyone who noted an earlier hash) finds out.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.store.models import AuditEntry, Meta, now

FIRST_HASH: Final = bytes(32)


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    kind: str,
    name: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Append one entry. `before` and `after` are JSON-ready and hold no secret. The caller commits."""
    session.execute(select(Meta.id).with_for_update())  # one writer at a time, or the chain would fork
    last = session.execute(select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)).first()
    entry = AuditEntry(
        seq=1 if last is None else last.seq + 1,
        at=now(),
        actor=actor,
        action=action,
        kind=kind,
        name=name,
        before=_canonical(before),
        after=_canonical(after),
        previous_hash=FIRST_HASH if last is None else last.hash,
        hash=b"",
    )
    entry.hash = _hash(entry)
    session.add(entry)
    session.flush()
    return entry


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
