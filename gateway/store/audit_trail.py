"""Reading the audit log: what fits a filter, whether the chain holds, and all of it as JSON lines.

Verifying goes by pieces, each a short read, so that a worker does it between its calls: entries are only ever appended.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from gateway.errors import BadRequest
from gateway.store.audit import FIRST_HASH, hash_of, rfc3339
from gateway.store.database import read_session
from gateway.store.models import AuditEntry, Meta

PIECE: Final = 250
"""Entries at once: some milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """What an entry has to be; None = anything."""

    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Before it."""

    def of(self, query: Select[AuditEntry]) -> Select[AuditEntry]:
        for column, wanted in (
            (AuditEntry.actor, self.actor),
            (AuditEntry.action, self.action),
            (AuditEntry.kind, self.kind),
            (AuditEntry.name, self.name),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        if self.since is not None:
            query = query.where(AuditEntry.at >= self.since)
        if self.until is not None:
            query = query.where(AuditEntry.at < self.until)
        return query


EVERYTHING: Final = AuditFilter()


def entries(
    session: Session, wanted: AuditFilter = EVERYTHING, *, before_seq: int | None = None, limit: int = 100
) -> list[AuditEntry]:
    """Newest first, those older than `before_seq`."""
    query = wanted.of(select(AuditEntry)).order_by(AuditEntry.seq.desc()).limit(limit)
    if before_seq is not None:
        query = query.where(AuditEntry.seq < before_seq)
    return list(session.scalars(query))


def export_piece(session: Session, wanted: AuditFilter, after_seq: int) -> tuple[bytes, int | None]:
    """JSON lines of some entries, oldest first, and where to go on; None = these were the last."""
    found = _piece(session, wanted, after_seq)
    lines = b"".join(orjson.dumps(shown(entry), option=orjson.OPT_APPEND_NEWLINE) for entry in found)
    return lines, found[-1].seq if len(found) == PIECE else None


def export(engine: Engine, wanted: AuditFilter) -> Iterator[bytes]:
    """All that fits, as JSON lines, oldest first."""
    after: int | None = 0
    while after is not None:
        with read_session(engine) as session:
            lines, after = export_piece(session, wanted, after)
        yield lines


def shown(entry: AuditEntry) -> dict[str, Any]:
    """As the REST API and the export show it: with these fields anyone can compute the hashes again."""
    return {
        "seq": entry.seq,
        "at": rfc3339(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "kind": entry.kind,
        "name": entry.name,
        "before": _object(entry.before),
        "after": _object(entry.after),
        "origin": entry.origin,
        "previous_hash": entry.previous_hash.hex(),
        "hash": entry.hash.hex(),
    }


def _object(text: str | None) -> Any:
    """What was written; where somebody has put something else there, that is shown as it is."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return {"unreadable": text}


# ---- whether it holds


@dataclass(frozen=True, slots=True)
class Mark:
    """One entry's number and hash: noted elsewhere, it proves what stood there."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"


def mark_from(text: str) -> Mark:
    """Raises BadRequest."""
    seq, _, digest = text.strip().partition(":")
    try:
        found = Mark(int(seq), bytes.fromhex(digest))
    except ValueError:
        found = Mark(0, b"")
    if found.seq < 1 or len(found.hash) != len(FIRST_HASH):
        raise BadRequest(
            f"{text[:80]!r} is not the mark of an audit entry",
            fix="give what an earlier one printed: SEQ:HASH",
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    entries: int
    """Read, up to the first that is wrong."""
    head: Mark | None
    """The last good one; None where there is none."""
    broken_at: int | None
    """The first entry that is not as it was written, or is missing; None = the chain holds."""
    problem: str | None
    """What is wrong with it, in words."""

    def as_item(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return {
            "intact": self.broken_at is None,
            "entries": self.entries,
            "head": None if self.head is None else str(self.head),
            "broken_at": self.broken_at,
            "problem": self.problem,
        }


@dataclass(slots=True)
class Chain:
    """Checks entries in their order. It finds what was altered, removed or put in, and the end that was cut off, where
    the noted end was not altered with it; who rewrites the whole log is found by a `noted` mark only."""

    noted: Mark | None = None
    entries: int = 0
    _last: Mark = field(default=Mark(0, FIRST_HASH))
    _broken_at: int | None = None
    _problem: str | None = None

    @property
    def after_seq(self) -> int:
        return self._last.seq

    @property
    def broken(self) -> bool:
        return self._broken_at is not None

    def feed(self, found: Sequence[AuditEntry], end: Mark | None) -> None:
        """`end`: what `meta` says is the last entry, read together with these."""
        for entry in found:
            self._take(entry, end)
            if self.broken:
                return

    def _take(self, entry: AuditEntry, end: Mark | None) -> None:
        expected = self._last.seq + 1
        if entry.seq != expected:
            gap = f"entry {expected} is" if entry.seq == expected + 1 else f"entries {expected} to {entry.seq - 1} are"
            self._break(expected, f"{gap} missing")
        elif entry.hash != hash_of(entry):
            self._break(entry.seq, f"entry {entry.seq} is not as it was written")
        elif entry.previous_hash != self._last.hash:
            self._break(entry.seq, f"entry {entry.seq} was not written behind the entry {self._last.seq} that is here")
        else:
            for mark, whose in ((end, "the last one that was written"), (self.noted, "the one that was noted")):
                if mark is not None and mark.seq == entry.seq and mark.hash != entry.hash:
                    self._break(entry.seq, f"entry {entry.seq} is not {whose}")
                    return
            self._last = Mark(entry.seq, entry.hash)
            self.entries += 1

    def close(self, end: Mark | None) -> Verdict:
        """All entries there are have been fed."""
        for mark, whose in ((end, "written"), (self.noted, "noted")):
            if not self.broken and mark is not None and mark.seq > self._last.seq:
                self._break(self._last.seq + 1, f"the log ends at entry {self._last.seq}; entry {mark.seq} was {whose}")
        head = self._last if self._last.seq else None
        return Verdict(entries=self.entries, head=head, broken_at=self._broken_at, problem=self._problem)

    def _break(self, seq: int, problem: str) -> None:
        self._broken_at, self._problem = seq, problem


def verify_piece(session: Session, chain: Chain) -> Verdict | None:
    """Check the next entries. None = there are more."""
    found = _piece(session, EVERYTHING, chain.after_seq)
    seq, digest = session.execute(select(Meta.audit_seq, Meta.audit_hash)).one()
    end = None if seq is None or digest is None else Mark(seq, digest)
    chain.feed(found, end)
    return chain.close(end) if chain.broken or len(found) < PIECE else None


def verify(session: Session, noted: Mark | None = None) -> Verdict:
    """Check the whole log. `noted`: a mark of an earlier verification."""
    chain = Chain(noted)
    while True:
        verdict = verify_piece(session, chain)
        session.expunge_all()
        if verdict is not None:
            return verdict


def _piece(session: Session, wanted: AuditFilter, after_seq: int) -> list[AuditEntry]:
    query = wanted.of(select(AuditEntry)).where(AuditEntry.seq > after_seq).order_by(AuditEntry.seq).limit(PIECE)
    return list(session.scalars(query))
