"""What all kinds of configuration share: find by id or name, page, create, merge a patch, delete; audit and generation.

Everything happens in the caller's session and is committed by it. One writer at a time: a change begins by locking the
`meta` row, so that what was checked still holds when it is written.
"""

import builtins
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, TypeVar

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Select, false, inspect, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from gateway.errors import Conflict, NotFound, PreconditionFailed
from gateway.policy.roles import Authority
from gateway.store import audit, problems
from gateway.store.document import Document
from gateway.store.models import Entity, LimitRule, Meta, now
from gateway.store.sealing import Sealer
from gateway.store.views import EntityView

GREATEST_ID: Final = 2**31 - 1
_MOVED: Final = "sluicegate_generation_moved"
"""In a session's `info`: the transaction that has moved the generation already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing done. `fields`: what an update touched."""

    action: str
    kind: str
    name: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        touched = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.action} {self.kind} {self.name}{touched}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Editing:
    """In whose name, and with what, the configuration is read or changed. `session`: of `database.write_session` for
    changes."""

    session: Session
    authority: Authority
    sealer: Sealer
    journal: list[Change] = field(default_factory=list)
    """What was done, in order."""

    def lock(self) -> None:
        """Wait for our turn to change the configuration."""
        audit.lock(self.session)

    def record(
        self, action: str, kind: str, name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> None:
        """Audit a change, and let the keeper know that snapshots are out of date once this is committed."""
        touched = tuple(key for key in after if after[key] != before.get(key)) if before and after else ()
        self.journal.append(Change(action=action, kind=kind, name=name, fields=touched))
        actor = self.authority.actor
        audit.record(self.session, actor=actor, action=action, kind=kind, name=name, before=before, after=after)
        transaction = self.session.get_transaction()
        if self.session.info.get(_MOVED) is not transaction:
            self.session.execute(update(Meta).values(generation=Meta.generation + 1))
            self.session.info[_MOVED] = transaction

    def remove_limits(self, naming: ColumnElement[bool], cause: str) -> None:
        """Delete the limits whose scope names what is about to go, rather than let the database do it unrecorded."""
        for limit in self.session.scalars(select(LimitRule).where(naming).order_by(LimitRule.id)).all():
            self.session.delete(limit)
            self.session.flush()
            self.record("delete", "limit", limit.name, {"named": cause}, None)

    def own_team_only(self) -> int | None:
        """The team that the authority is confined to."""
        return None if self.authority.team_id is None else int(self.authority.team_id)


Row = TypeVar("Row", bound=Entity)
Wanted = TypeVar("Wanted", bound=Document)
Shown = TypeVar("Shown", bound=EntityView)


class Collection(ABC, Generic[Row, Wanted, Shown]):
    """All things of one kind. A subclass says what they consist of."""

    kind: ClassVar[str]
    """As messages and the audit log write it."""
    path: ClassVar[str]
    """Of the REST API, under /api/v1/."""
    row_type: type[Row]
    document_type: type[Wanted]

    def __init__(self, editing: Editing) -> None:
        self.editing = editing
        self.session = editing.session

    # ---- what a subclass says

    @abstractmethod
    def show(self, row: Row) -> Shown:
        """The view of a row that `query` loaded."""

    @abstractmethod
    def document_of(self, row: Row) -> Wanted:
        """The document that would make this row, without secrets."""

    def normal(self, row: Row | None, wanted: Wanted) -> Wanted:
        """`wanted` as `document_of` would write it, so that the two compare. Raises Invalid for bad references."""
        return wanted

    @abstractmethod
    def fill(self, row: Row, wanted: Wanted) -> None:
        """Bring the row to `wanted`. Raises Invalid or Conflict, before it has touched the row."""

    def refuse_deletion(self, row: Row) -> None:
        """Raises Conflict, saying by what, while the row is in use."""

    def limits_naming(self, row: Row) -> ColumnElement[bool] | None:
        """Which limits go with the row."""
        return None

    def query(self) -> Select[Row]:
        """Rows with all that `show` and `document_of` need."""
        return select(self.row_type)

    def visible(self, query: Select[Row], team_id: int) -> Select[Row]:
        """Those that members of a team may see."""
        return query.where(false())

    def named(self, query: Select[Row], name: str) -> Select[Row]:
        return query.where(self._name_column() == name)

    def name_of(self, row: Row) -> str:
        return str(row.name)  # type: ignore[attr-defined]

    def name_in(self, wanted: Wanted) -> str:
        """The name that `name_of` will give to the row of this document."""
        return str(wanted.name)  # type: ignore[attr-defined]

    # ---- what callers use

    def list(self, *, after_id: int = 0, limit: int = 100) -> builtins.list[Shown]:
        """By id, those after `after_id`."""
        query = self._own().where(self.row_type.id > after_id).order_by(self.row_type.id).limit(limit)
        return [self.show(row) for row in self.session.scalars(query)]

    def get(self, reference: str) -> Shown:
        """By id (digits) or name. Raises NotFound."""
        return self.show(self.find(reference))

    def create(self, wanted: Wanted) -> Shown:
        """Raises Conflict where the name is taken, Invalid for what it refers to."""
        return self.show(self.add(wanted))

    def update(self, reference: str, patch: Document, expected_version: int | None = None) -> Shown:
        """Merge a patch (RFC 7396) of which only the fields given count. Raises PreconditionFailed where the version is
        another. A patch that changes nothing leaves the version as it is."""
        self.editing.lock()
        row = self.find(reference)
        self._require_version(row, expected_version)
        merged = merge(self.document_of(row).model_dump(), patch.model_dump(exclude_unset=True))
        try:
            wanted = self.document_type.model_validate(merged)
        except ValidationError as error:
            found = problems.from_validation(error, self.document_type)
            raise problems.invalid(found, self._subject(self.name_of(row))) from None
        self.change(row, wanted)
        return self.show(row)

    def delete(self, reference: str, expected_version: int | None = None) -> None:
        """Raises NotFound, PreconditionFailed, or Conflict where something else needs it."""
        self.editing.lock()
        row = self.find(reference)
        self._require_version(row, expected_version)
        self.refuse_deletion(row)
        self.remove(row)

    # ---- what `apply` uses too

    def find(self, reference: str) -> Row:
        query = self._own()
        if reference.isascii() and reference.isdecimal():
            query = query.where(self.row_type.id == min(int(reference[:20]), GREATEST_ID))
        else:
            query = self.named(query, reference)
        rows = self.session.scalars(query.limit(2)).all()
        if len(rows) != 1:
            problem = f"more than one {self.kind} is named" if rows else f"there is no {self.kind}"
            raise NotFound(f"{problem} {reference!r}", fix=f"GET /api/v1/{self.path} lists them")
        return rows[0]

    def rows(self) -> Iterable[Row]:
        return self.session.scalars(self.query().order_by(self.row_type.id)).all()

    def add(self, wanted: Wanted) -> Row:
        self.editing.lock()
        wanted = self.normal(None, wanted)
        row = self.row_type()
        self._require_free_name(wanted, None)
        with self.session.no_autoflush:
            self.fill(row, wanted)
        self.session.add(row)
        self.session.flush()
        self.editing.record("create", self.kind, self.name_of(row), None, self.audited(row))
        return row

    def change(self, row: Row, wanted: Wanted) -> bool:
        """Whether anything was changed."""
        wanted = self.normal(row, wanted)
        if self.document_of(row) == wanted:
            return False
        self._require_free_name(wanted, row)
        before, name = self.audited(row), self.name_of(row)
        with self.session.no_autoflush:
            self.fill(row, wanted)
        row.updated_at = now()  # also where only credentials or targets changed: the version must move
        self.session.flush()
        self.editing.record("update", self.kind, name, before, self.audited(row))
        return True

    def remove(self, row: Row) -> None:
        name, before = self.name_of(row), self.audited(row)
        naming = self.limits_naming(row)
        if naming is not None:
            self.editing.remove_limits(naming, self._subject(name))
        self.session.delete(row)
        self.session.flush()
        self.editing.record("delete", self.kind, name, before, None)

    def audited(self, row: Row) -> dict[str, Any]:
        return self.show(row).model_dump(mode="json", exclude={"id", "version", "created_at", "updated_at"})

    # ---- inside

    def _own(self) -> Select[Row]:
        team_id = self.editing.own_team_only()
        return self.query() if team_id is None else self.visible(self.query(), team_id)

    def _name_column(self) -> InstrumentedAttribute[str]:
        column: InstrumentedAttribute[str] = self.row_type.name  # type: ignore[attr-defined]
        return column

    def _require_free_name(self, wanted: Wanted, row: Row | None) -> None:
        name: str = wanted.name  # type: ignore[attr-defined]
        taken = self.session.scalar(select(self.row_type.id).where(self._name_column() == name))
        if taken is not None and (row is None or taken != row.id):
            raise Conflict(f"the {self.kind} {name!r} exists already", fix="choose another name, or change that one")

    def _require_version(self, row: Row, expected: int | None) -> None:
        if expected is not None and row.version != expected:
            raise PreconditionFailed(
                f"the {self.kind} {self.name_of(row)!r} has been changed since (version {row.version}, not {expected})",
                fix="read it again, and repeat the change on what you see",
            )

    def _subject(self, name: str) -> str:
        return f"{self.kind} {name!r}"


def merge(present: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7396): null removes, objects merge, all else replaces."""
    merged = dict(present)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def is_new(row: Entity) -> bool:
    """Whether the database has not seen the row yet."""
    return bool(inspect(row).transient)


def joined(names: Iterable[str], most: int = 5) -> str:
    """`a, b and 3 more`"""
    known = list(names)
    shown = ", ".join(repr(name) for name in known[:most])
    return shown if len(known) <= most else f"{shown} and {len(known) - most} more"
