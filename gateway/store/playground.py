"""Keys for the playground: whoever may make keys for an app tries its routes with one that ends by itself.

Calls with it are that app's: its limits refuse them, its budget pays, the ledger names the app and the key
`playground`. A key may be bound to one target, so that two of them can be compared: no header of a call can do that,
so apps cannot choose targets past a route's strategy.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel, Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from gateway.errors import BadRequest
from gateway.store.config import Apps, Editing, Routes
from gateway.store.config.teams import new_key
from gateway.store.document import Document
from gateway.store.playground_models import PlaygroundKey

LIFETIME: Final = timedelta(minutes=10)
MOST_AT_ONCE: Final = 20
"""Of one person, the newest: a page that is open needs two."""


class PlaygroundKeyRequest(Document):
    app: str = Field(min_length=1, max_length=128)
    """Whose calls they will be, by id or name."""
    route: str | None = Field(default=None, max_length=128)
    """Needed with `target`: the route that has it."""
    target: str | None = Field(default=None, max_length=1024)
    """`provider/model`, or the provider alone where the target has no model. Left out: where the route sends calls."""


class PlaygroundKeyCreated(BaseModel):
    key: str
    """Known in every worker within a second. Shown in this answer only."""
    app: str
    team: str
    target: str | None
    expires_at: datetime


def make_key(editing: Editing, wanted: PlaygroundKeyRequest) -> PlaygroundKeyCreated:
    """A new key for a few minutes; those that have ended go. Raises NotFound for what the caller may not see, and
    BadRequest where the route has no such target."""
    editing.lock()
    app = Apps(editing).get(wanted.app)
    if wanted.target is not None:
        _require_target(editing, wanted.route, wanted.target)
    session, now, made_by = editing.session, datetime.now(UTC), editing.authority.actor
    _forget(session, made_by, now)
    text, expires_at = new_key(), now + LIFETIME
    session.add(
        PlaygroundKey(
            app_id=app.id,
            digest=hashlib.sha256(text.encode()).digest(),
            made_by=made_by,
            target=wanted.target,
            expires_at=expires_at,
        )
    )
    session.flush()
    told = {"target": wanted.target, "expires_at": expires_at.isoformat()}
    editing.record("create", "playground key", app.name, None, told)
    return PlaygroundKeyCreated(key=text, app=app.name, team=app.team, target=wanted.target, expires_at=expires_at)


def _require_target(editing: Editing, route: str | None, target: str) -> None:
    if route is None:
        raise BadRequest("a target is one of a route's, and no route is named", fix="send `route` beside `target`")
    found = Routes(editing).get(route)
    names = [f"{each.provider}/{each.model}" if each.model else each.provider for each in found.targets]
    if target not in names:
        raise BadRequest(f"route {found.name} has no target {target[:200]!r}", fix=f"use one of: {', '.join(names)}")


def _forget(session: Session, made_by: str, now: datetime) -> None:
    """What has ended, and the oldest of one who has many."""
    session.execute(delete(PlaygroundKey).where(PlaygroundKey.expires_at <= now))
    newest = select(PlaygroundKey.id).where(PlaygroundKey.made_by == made_by).order_by(PlaygroundKey.id.desc())
    kept = session.scalars(newest.limit(MOST_AT_ONCE - 1)).all()
    session.execute(delete(PlaygroundKey).where(PlaygroundKey.made_by == made_by, PlaygroundKey.id.not_in(kept)))
