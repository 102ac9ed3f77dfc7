"""The draft: changes of the configuration that are collected, looked at, tried, and published at once (decision 0017).

There is one for the gateway. It is kept as the whole configuration that it would make, beside what was in force when
the two were last brought together. What is changed in force meanwhile flows into it, field by field; where both have
changed the same field in different ways, that is a conflict, which keeps it from being published until somebody has
chosen.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel
from sqlalchemy import delete
from sqlalchemy.orm import Session

from gateway.errors import BadRequest, Conflict, Invalid, NotFound, PreconditionFailed
from gateway.store import audit, versions
from gateway.store.apply import MadeKey, apply, rehearse, validated
from gateway.store.config.editing import Editing, merge
from gateway.store.differences import Difference, differences
from gateway.store.draft_models import ConfigurationDraft, DraftSecret
from gateway.store.entries import (
    Conflicting,
    Entries,
    Entry,
    EntryId,
    checked,
    entries_of,
    keep_secrets,
    name_of,
    own_problems,
    secrets_in,
    values_of,
)
from gateway.store.entries import merge as merge_entries
from gateway.store.export import export, to_yaml
from gateway.store.models import now
from gateway.store.upstream_documents import SEALED_MARK
from gateway.store.versions import VersionView
from gateway.store.yaml_source import Source

FILE: Final = "the draft"
EDITABLE: Final = ("provider", "route", "team", "app", "limit", "price", "interception rule")
"""Kinds of which single entries can be drafted: a key is made and shown at once, or written in the document."""
REMOVED: Final = {"removed": True}


class DraftView(BaseModel):
    exists: bool
    revision: int
    """For `If-Match`; grows with each change of the draft, and never comes again."""
    changes: int
    """Entries that differ from what was in force when the draft was written last."""
    conflicts: int
    started_at: datetime | None
    started_by: str | None
    updated_at: datetime | None
    updated_by: str | None


class AuthorView(BaseModel):
    actor: str
    at: datetime


class DraftEntryView(BaseModel):
    kind: str
    name: str
    etag: str
    """For `If-Match`: it names this state of the entry."""
    drafted: bool
    """Whether the draft changes it."""
    entry: dict[str, Any] | None
    """As it would be; null: the draft removes it."""
    in_force: dict[str, Any] | None
    """As it is; null: the draft adds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What publishing would do."""

    differences: Sequence[Difference]
    before: str
    """YAML of the whole configuration."""
    after: str
    errors: Sequence[Mapping[str, Any]] = ()
    """Why it cannot be published: file, line, field, problem, remedy, of `after`."""
    conflicts: Sequence[Conflicting] = ()
    authors: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    version: VersionView
    differences: Sequence[Difference]
    keys: Sequence[MadeKey]


@dataclass(slots=True, kw_only=True)
class _Work:
    """The draft as it is being changed, brought together with what is in force."""

    row: ConfigurationDraft | None
    in_force: Entries
    in_force_text: str
    mine: Entries
    conflicts: list[Conflicting]

    @property
    def exists(self) -> bool:
        return self.row is not None and self.row.document is not None


def view(session: Session) -> DraftView:
    row = session.get(ConfigurationDraft, 1)
    if row is None or row.document is None:
        revision = row.revision if row is not None else 0
        return DraftView(
            exists=False, revision=revision, changes=0, conflicts=0, started_at=None, started_by=None, updated_at=None,
            updated_by=None,
        )  # fmt: skip
    return DraftView(
        exists=True,
        revision=row.revision,
        changes=row.changes,
        conflicts=len(row.conflicts),
        started_at=row.started_at,
        started_by=row.started_by,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


def document(editing: Editing) -> tuple[int, str]:
    """Revision and YAML of the configuration as it would be; without a draft, as it is."""
    row = editing.session.get(ConfigurationDraft, 1)
    if row is None or row.document is None:
        return row.revision if row is not None else 0, export(editing)
    return row.revision, to_yaml(values_of(_open(editing).mine))


def put(editing: Editing, text: str, expected_revision: int | None) -> DraftView:
    """Replace the draft by a whole document. Raises Invalid with the line of each problem, PreconditionFailed."""
    editing.lock()
    work = _open(editing)
    _require_revision(work, expected_revision)
    secrets = _plain_secrets(_entries(text))
    normal = _tried(editing, text)  # as its author wrote it, so that a problem has the right line
    work.conflicts = []  # whoever wrote the whole has seen the whole
    return _save(editing, work, normal, secrets)


def change(editing: Editing, entry_id: EntryId, patch: Mapping[str, Any], etag: str | None) -> DraftEntryView:
    """Draft a change of one entry (a merge patch, RFC 7396), or a new entry. Raises PreconditionFailed with both sides
    where the entry is not as the caller has seen it, Invalid where the draft would not apply."""
    _require_editable(entry_id.kind)
    editing.lock()
    work = _open(editing)
    present = work.mine.get(entry_id)
    _require_etag(entry_id, present, etag)
    wanted = merge(present or {}, patch)
    if entry_id.kind != "price":
        wanted.setdefault("name", entry_id.name)
    if name_of(entry_id.kind, wanted) != entry_id.name:
        raise BadRequest(
            f"a draft does not rename: {entry_id.name!r} is not {name_of(entry_id.kind, wanted)!r}",
            fix="rename it at once, or draft a new one and the removal of this one",
        )
    return _change(editing, work, entry_id, checked(entry_id, wanted))


def remove(editing: Editing, entry_id: EntryId, etag: str | None) -> DraftEntryView:
    """Draft that an entry goes. Raises NotFound, PreconditionFailed, Invalid, Conflict where others belong to it."""
    _require_editable(entry_id.kind)
    editing.lock()
    work = _open(editing)
    if entry_id not in work.mine:
        raise NotFound(f"there is no {entry_id.kind} {entry_id.name!r}", fix="look at the draft again")
    _require_etag(entry_id, work.mine[entry_id], etag)
    return _change(editing, work, entry_id, None)


def entry(editing: Editing, entry_id: EntryId) -> DraftEntryView:
    """One entry as the draft has it, or as it is in force. Raises NotFound where neither has it."""
    _require_editable(entry_id.kind)
    work = _open(editing)
    if entry_id not in work.mine and entry_id not in work.in_force:
        raise NotFound(f"there is no {entry_id.kind} {entry_id.name!r}", fix="correct the name")
    return _entry_view(work, entry_id)


def revert(editing: Editing, entry_id: EntryId) -> DraftView:
    """Take one entry out of the draft: it stays as it is in force."""
    editing.lock()
    work = _open(editing)
    _require_draft(work)
    mine = dict(work.mine)
    if entry_id in work.in_force:
        mine[entry_id] = work.in_force[entry_id]
    else:
        mine.pop(entry_id, None)
    _forget_conflicts(work, entry_id)
    return _save(editing, work, _tried(editing, to_yaml(values_of(mine))), ())


def resolve(editing: Editing, entry_id: EntryId, field: str | None, take: Literal["draft", "in_force"]) -> DraftView:
    """Settle a conflict by one of its sides. Raises NotFound where there is none."""
    editing.lock()
    work = _open(editing)
    _require_draft(work)
    found = [one for one in work.conflicts if (one.kind, one.name, one.field) == (*entry_id, field)]
    if not found:
        raise NotFound("there is no such conflict (any more)", fix="look at the draft again")
    mine = {each: dict(one) for each, one in work.mine.items()}
    if take == "in_force":
        theirs = work.in_force.get(entry_id)
        if field is None or theirs is None:
            mine.pop(entry_id, None)
            if theirs is not None:
                mine[entry_id] = theirs
        elif field in theirs:
            mine[entry_id][field] = theirs[field]
        else:
            mine[entry_id].pop(field, None)
    work.conflicts = [one for one in work.conflicts if one not in found]
    return _save(editing, work, _tried(editing, to_yaml(values_of(mine))), ())


def discard(editing: Editing, expected_revision: int | None) -> None:
    """Raises NotFound, PreconditionFailed."""
    editing.lock()
    work = _open(editing)
    _require_draft(work)
    _require_revision(work, expected_revision)
    audit.record(
        editing.session,
        actor=editing.authority.actor,
        action="discard",
        kind="draft",
        name=str(work.row.revision if work.row else 0),
    )
    _close(editing, work)


def compare(editing: Editing) -> Compared:
    """What publishing the draft would change now; nothing where there is none. Needs a write transaction, and leaves
    nothing in it."""
    editing.lock()
    work = _open(editing)
    if not work.exists:
        return Compared(differences=(), before=work.in_force_text, after=work.in_force_text)
    text = to_yaml(values_of(work.mine))
    try:
        after = _tried(editing, text)
    except Invalid as error:
        return Compared(
            differences=differences(work.in_force, work.mine),
            before=work.in_force_text,
            after=text,
            errors=error.fields.get("errors", ()),
            conflicts=work.conflicts,
            authors=work.row.authors if work.row is not None else {},
        )
    return Compared(
        differences=differences(work.in_force, after),
        before=work.in_force_text,
        after=to_yaml(values_of(after)),
        conflicts=work.conflicts,
        authors=work.row.authors if work.row is not None else {},
    )


def compare_document(editing: Editing, text: str, file: str) -> Compared:
    """The same of any document that would be the whole configuration. Raises Invalid where it does not apply."""
    editing.lock()
    before = export(editing)
    after = _tried(editing, text, file)
    return Compared(
        differences=differences(_entries(before), after), before=before, after=to_yaml(values_of(after))
    )  # fmt: skip


def publish(editing: Editing, note: str, expected_revision: int | None) -> Published:
    """Bring the draft into force and keep it as a version. Raises NotFound, PreconditionFailed, Invalid, and Conflict
    where it contradicts what has been changed in force."""
    editing.lock()
    work = _open(editing)
    _require_draft(work)
    _require_revision(work, expected_revision)
    if work.conflicts:
        places = ", ".join(
            f"{one.kind} {one.name}" + (f" ({one.field})" if one.field else "") for one in work.conflicts
        )
        raise Conflict(
            f"the draft and what is in force have both changed {places}",
            fix="choose a side of each conflict first",
            conflicts=[asdict(one) for one in work.conflicts],
        )
    done = apply(editing, to_yaml(values_of(work.mine)), file=FILE, environment={}, prune=True)
    version = versions.publish(editing, note)
    _close(editing, work)
    return Published(
        version=version, differences=differences(work.in_force, _entries(export(editing))), keys=done.keys
    )  # fmt: skip


def text_to_try(editing: Editing) -> str:
    """The draft's document, brought together with what is in force; without a draft, what is in force."""
    work = _open(editing)
    return to_yaml(values_of(work.mine))


# ---- inside


def _open(editing: Editing) -> _Work:
    row = editing.session.get(ConfigurationDraft, 1)
    text = export(editing)
    in_force = _exported(text)
    if row is None or row.document is None:
        return _Work(row=row, in_force=in_force, in_force_text=text, mine=_copied(in_force), conflicts=[])
    conflicts = [Conflicting(**each) for each in row.conflicts]
    mine = _exported(row.document)
    if row.base != text:
        mine, found = merge_entries(_exported(row.base), mine, in_force)
        known = {(one.kind, one.name, one.field) for one in found}
        conflicts = [one for one in conflicts if (one.kind, one.name, one.field) not in known] + found
    return _Work(row=row, in_force=in_force, in_force_text=text, mine=_copied(mine), conflicts=conflicts)


def _exported(text: str) -> Entries:
    """The same of what `export` or a draft has written: it is read many times, and holds no secrets."""
    return _copied(_remembered(text))


@lru_cache(8)
def _remembered(text: str) -> Entries:
    return _entries(text)


def _entries(text: str) -> Entries:
    return entries_of(validated(Source(text, file=FILE, environment={})))


def _copied(entries: Entries) -> Entries:
    """Down to the leaves: entries are changed in place."""
    return {each: orjson.loads(orjson.dumps(entry)) for each, entry in entries.items()}


def _tried(editing: Editing, text: str, file: str = FILE) -> Entries:
    """What a document would make of the configuration. A key that would be made has no value in it. Raises Invalid."""
    done, exported = rehearse(
        editing, text, file=file, environment={}, prune=True, look=lambda: export(editing)
    )  # fmt: skip
    found = _entries(exported)
    for made in done.keys:
        found[EntryId("key", f"{made.app}/{made.name}")].pop("value", None)
    return found


def _change(editing: Editing, work: _Work, entry_id: EntryId, wanted: Entry | None) -> DraftEntryView:
    mine = _copied(work.mine)
    if wanted is None:
        del mine[entry_id]
    else:
        mine[entry_id] = wanted
    keep_secrets(mine, work.mine)
    secrets = _plain_secrets(mine)
    _forget_conflicts(work, entry_id)
    text = to_yaml(values_of(mine))
    try:
        tried = _tried(editing, text)
    except Invalid as error:
        raise (error if wanted is None else own_problems(error, entry_id, mine)) from None
    _save(editing, work, tried, secrets)
    return _entry_view(_open(editing), entry_id)


def _forget_conflicts(work: _Work, entry_id: EntryId) -> None:
    """Whoever changes an entry has seen both sides."""
    work.conflicts = [one for one in work.conflicts if (one.kind, one.name) != tuple(entry_id)]


def _plain_secrets(entries: Entries) -> list[str]:
    return [
        holder[field] for holder, field in secrets_in(entries) if not str(holder[field]).startswith(SEALED_MARK)
    ]  # fmt: skip


def _save(editing: Editing, work: _Work, mine: Entries, secrets: Sequence[str]) -> DraftView:
    """Keep the draft; one that changes nothing any more goes. The secrets that it names are kept sealed beside it."""
    changed = differences(work.in_force, mine)
    if not changed and not work.conflicts:
        _close(editing, work)
        return view(editing.session)
    session, actor, at = editing.session, editing.authority.actor, now()
    row = work.row
    if row is None:
        row = ConfigurationDraft(id=1, revision=0)
    if row.document is None:
        row.started_at, row.started_by, row.authors = at, actor, {}
    before = {(one.kind, one.name): one for one in differences(work.in_force, work.mine)}
    authors = {}
    for one in changed:
        name = f"{one.kind} {one.name}"
        known = before.get((one.kind, one.name))
        if known == one and name in row.authors:
            authors[name] = row.authors[name]
            continue
        authors[name] = {"actor": actor, "at": at.isoformat()}
        audit.record(
            session,
            actor=actor,
            action="draft",
            kind=one.kind,
            name=one.name,
            before=work.in_force.get(EntryId(one.kind, one.name)),
            after=mine.get(EntryId(one.kind, one.name)) or REMOVED,
        )
    row.document, row.base = to_yaml(values_of(mine)), work.in_force_text
    row.authors, row.changes, row.conflicts = authors, len(changed), [asdict(one) for one in work.conflicts]
    row.revision += 1
    row.updated_at, row.updated_by = at, actor
    session.add(row)
    for secret in secrets:
        kept = DraftSecret(reference=editing.sealer.references(secret)[0])
        if session.get(DraftSecret, kept.reference) is None:
            editing.sealer.seal_row(kept, secret)
            session.add(kept)
    session.flush()
    named = [str(holder[field]).removeprefix(SEALED_MARK) for holder, field in secrets_in(mine)]
    session.execute(delete(DraftSecret).where(DraftSecret.reference.not_in(named)))
    return view(session)


def _close(editing: Editing, work: _Work) -> None:
    """There is no draft any more."""
    row = work.row
    if row is None or row.document is None:
        return
    row.document, row.base, row.conflicts, row.authors, row.changes = None, "", [], {}, 0
    row.revision += 1
    editing.session.execute(delete(DraftSecret))
    editing.session.flush()


def _entry_view(work: _Work, entry_id: EntryId) -> DraftEntryView:
    mine, theirs = work.mine.get(entry_id), work.in_force.get(entry_id)
    return DraftEntryView(
        kind=entry_id.kind,
        name=entry_id.name,
        etag=_etag(mine),
        drafted=mine != theirs,
        entry=mine,
        in_force=theirs,
    )


def _etag(entry: Entry | None) -> str:
    if entry is None:
        return "none"
    return hashlib.sha256(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]


def _require_editable(kind: str) -> None:
    if kind not in EDITABLE:
        raise BadRequest(f"entries of the kind {kind!r} cannot be drafted", fix=f"use one of {', '.join(EDITABLE)}")


def _require_draft(work: _Work) -> None:
    if not work.exists:
        raise NotFound("there is no draft", fix="draft a change first")


def _require_revision(work: _Work, expected: int | None) -> None:
    present = work.row.revision if work.row is not None else 0
    if expected is not None and present != expected:
        by = work.row.updated_by if work.row is not None else "nobody"
        raise PreconditionFailed(
            f"the draft has been changed since, by {by} (revision {present}, not {expected})",
            fix="read it again, and repeat the change on what you see",
        )


def _require_etag(entry_id: EntryId, present: Entry | None, expected: str | None) -> None:
    if expected is not None and _etag(present) != expected:
        raise PreconditionFailed(
            f"the {entry_id.kind} {entry_id.name!r} is not as you have seen it: somebody else has changed it",
            fix="read it again, and repeat the change on what you see",
            theirs=present,
            etag=_etag(present),
        )
