"""The audit log: appended in the transaction of the change it tells of, hash-chained, never altered.

`hash` = SHA-256 of the JSON array [previous hash in hex, seq, at (RFC 3339), actor, action, kind, name, before, after],
and `origin` behind them where there is one; the first entry's previous hash is 32 zero bytes. Whoever alters or removes
an entry must forge all that follow and the chain's end in `meta`, which only who noted an earlier hash elsewhere finds
out. Reading and verifying are next door (`audit_trail`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session, SessionTransaction

from gateway.store.models import AuditEntry, Meta, now

FIRST_HASH: Final = bytes(32)

_TABLE: Final = AuditEntry.metadata.tables[AuditEntry.__tablename__]
_CHAIN: Final = "sluicegate_audit_chain"
_ORIGIN: Final = "sluicegate_audit_origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an entry tells. `before` and `after` are JSON-ready and hold no secret."""

    actor: str
    action: str
    kind: str
    name: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Chain:
    """Its end, as this transaction knows it."""

    transaction: SessionTransaction | None
    seq: int
    hash: bytes


def lock(session: Session) -> None:
    """Wait for our turn to change what is configured, or who may do what, or to append here; it lasts until the
    transaction's end.

    The one order of locks: this first, then any rows. Whatever changes users, tokens, sessions or factors begins so.
    Two that meet do not wait for each other then, and the later one sees all that the earlier one has done: a sign-in
    the new password, a change of the password the session that a sign-in has just begun. (Transactions that touch one
    table and append nothing, such as a count of failed sign-ins, need it not.)
    """
    _end_of_chain(session)


def come_from(session: Session, address: str) -> None:
    """From which address the session's changes are asked for."""
    session.info[_ORIGIN] = address or None


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
    record_all(session, [Change(actor=actor, action=action, kind=kind, name=name, before=before, after=after)])


def record_all(session: Session, changes: Sequence[Change]) -> None:
    """Append an entry for each, in their order."""
    if not changes:
        return
    chain = _end_of_chain(session)
    seq, last_hash, at, rows = chain.seq, chain.hash, now(), []
    origin = session.info.get(_ORIGIN)
    for change in changes:
        seq += 1
        row = {
            "seq": seq,
            "at": at,
            "actor": change.actor,
            "action": change.action,
            "kind": change.kind,
            "name": change.name,
            "before": _canonical(change.before),
            "after": _canonical(change.after),
            "origin": origin,
            "previous_hash": last_hash,
        }
        last_hash = _hash(row)
        rows.append(row | {"hash": last_hash})
    session.execute(insert(_TABLE), rows)  # at once: the order of a flush is not ours
    session.execute(update(Meta).values(audit_seq=seq, audit_hash=last_hash))
    session.info[_CHAIN] = _Chain(chain.transaction, seq, last_hash)


def _end_of_chain(session: Session) -> _Chain:
    """The last entry. Read once a transaction: while we hold the lock nobody appends but we.

    Where `meta` knows a later one than there is, the log was cut: it goes on behind the gap, which stays to be seen.
    Where it knows another hash of the last, that was forged: what follows is chained to the one that `meta` noted.
    (Entries behind what `meta` knows come from a release that did not know of it, while this one took over.)
    """
    chain: _Chain | None = session.info.get(_CHAIN)
    transaction = session.get_transaction()
    if chain is None or chain.transaction is not transaction:
        noted = session.execute(select(Meta.audit_seq, Meta.audit_hash).with_for_update()).one()
        last = session.execute(select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)).first()
        transaction = session.get_transaction()
        chain = _Chain(transaction, 0, FIRST_HASH) if last is None else _Chain(transaction, last.seq, last.hash)
        if noted.audit_seq is not None and noted.audit_hash is not None and noted.audit_seq >= chain.seq:
            chain = _Chain(transaction, noted.audit_seq, noted.audit_hash)
        session.info[_CHAIN] = chain
    return chain


def _canonical(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def hash_of(entry: AuditEntry) -> bytes:
    """As it must be: `entry.hash` is what stands there."""
    return _hash({name: getattr(entry, name) for name in _TABLE.columns.keys()})  # noqa: SIM118 (no mapping)


def _hash(row: Mapping[str, Any]) -> bytes:
    parts = [
        row["previous_hash"].hex(),
        row["seq"],
        rfc3339(row["at"]),
        row["actor"],
        row["action"],
        row["kind"],
        row["name"],
        row["before"],
        row["after"],
        *([] if row["origin"] is None else [row["origin"]]),
    ]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()).digest()


def rfc3339(at: datetime) -> str:
    """As it is hashed: UTC, always with six digits."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
