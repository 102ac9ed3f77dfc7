"""Published versions: what `export` gave at some moment, kept to be read, compared and restored.

A version is never altered. It holds references to secrets and never the secrets, so that restoring one needs those
secrets to be stored still.
"""

from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.errors import NotFound
from gateway.store import audit
from gateway.store.config.editing import Editing
from gateway.store.export import export
from gateway.store.models import ConfigurationVersion

LARGEST_NUMBER = 2**31 - 1


class VersionView(BaseModel):
    number: int
    published_at: datetime
    actor: str
    note: str


class VersionDocumentView(VersionView):
    document: str
    """YAML as `export` wrote it."""


def published(session: Session, *, before_number: int | None, limit: int) -> list[VersionView]:
    """Newest first, those below `before_number`."""
    query = select(ConfigurationVersion).order_by(ConfigurationVersion.number.desc()).limit(limit)
    if before_number is not None:
        query = query.where(ConfigurationVersion.number < before_number)
    return [_view(row) for row in session.scalars(query)]


def get(session: Session, number: int) -> VersionDocumentView:
    """Raises NotFound."""
    row = session.get(ConfigurationVersion, number) if 0 < number <= LARGEST_NUMBER else None
    if row is None:
        raise NotFound(f"there is no version {number}", fix="GET /api/v1/versions lists them")
    return VersionDocumentView(**_view(row).model_dump(), document=row.document)


def publish(editing: Editing, note: str) -> VersionView:
    """Keep what is in force in this transaction."""
    actor = editing.authority.actor
    row = ConfigurationVersion(actor=actor, note=note, document=export(editing))
    editing.session.add(row)
    editing.session.flush()
    audit.record(
        editing.session, actor=actor, action="publish", kind="version", name=str(row.number), after={"note": note}
    )
    return _view(row)


def note_restored(editing: Editing, number: int) -> None:
    audit.record(editing.session, actor=editing.authority.actor, action="restore", kind="version", name=str(number))


def _view(row: ConfigurationVersion) -> VersionView:
    return VersionView(number=row.number, published_at=row.published_at, actor=row.actor, note=row.note)
