"""Keys for the playground: whoever may make keys for an app tries its routes with one that ends by itself.

Calls with it are that app's: its limits refuse them, its budget pays, the ledger names the app and the key
`playground`. A key may be bound to one target, so that two of them can be compared: no header of a call can do that,
so apps cannot choose targets past a route's strategy.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel, Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from gateway.errors import BadRequest
from gateway.policy.model import Dialect
from gateway.store.config import Apps, Editing, Routes
from gateway.store.config.teams import new_key
from gateway.store.document import Document
from gateway.store.models import Provider
from gateway.store.playground_models import PlaygroundKey
from gateway.store.views import MatchView, RouteView, TargetView

LIFETIME: Final = timedelta(minutes=10)
MOST_ROUTES: Final = 10_000
TWINS: Final = ((Dialect.OPENAI, Dialect.MISTRAL), (Dialect.MISTRAL, Dialect.OPENAI))
"""Where no target speaks the second, calls in it go to those that speak the first (`dataplane.route_choice`)."""
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


class DialectToTry(BaseModel):
    dialect: Dialect
    targets: list[str]
    """Where a call in it may go, as `target` of a key names them."""


class RouteToTry(BaseModel):
    name: str
    match: MatchView | None
    """What it claims by host and path; null: calls whose model is its name."""
    dialects: list[DialectToTry]


def routes_to_try(editing: Editing) -> list[RouteToTry]:
    """Every route that the caller may see, by name, with each dialect that it can be called in."""
    spoken = dict(editing.session.execute(select(Provider.name, Provider.dialect)).all())
    found = Routes(editing).list(after_id=0, limit=MOST_ROUTES)
    return [_to_try(route, spoken) for route in sorted(found, key=lambda route: route.name)]


def _to_try(route: RouteView, spoken: Mapping[str, str]) -> RouteToTry:
    by_dialect: dict[Dialect, list[str]] = {}
    for target in route.targets:
        by_dialect.setdefault(Dialect(spoken[target.provider]), []).append(target_name(target))
    for dialect, twin in TWINS:
        if dialect in by_dialect and twin not in by_dialect:
            by_dialect[twin] = by_dialect[dialect]
    dialects = [
        DialectToTry(dialect=dialect, targets=by_dialect[dialect]) for dialect in Dialect if dialect in by_dialect
    ]
    return RouteToTry(name=route.name, match=route.match, dialects=dialects)


def target_name(target: TargetView) -> str:
    """As the ledger has it."""
    return f"{target.provider}/{target.model}" if target.model else target.provider


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
    names = [target_name(each) for each in found.targets]
    if target not in names:
        raise BadRequest(f"route {found.name} has no target {target[:200]!r}", fix=f"use one of: {', '.join(names)}")


def _forget(session: Session, made_by: str, now: datetime) -> None:
    """What has ended, and the oldest of one who has many."""
    session.execute(delete(PlaygroundKey).where(PlaygroundKey.expires_at <= now))
    newest = select(PlaygroundKey.id).where(PlaygroundKey.made_by == made_by).order_by(PlaygroundKey.id.desc())
    kept = session.scalars(newest.limit(MOST_AT_ONCE - 1)).all()
    session.execute(delete(PlaygroundKey).where(PlaygroundKey.made_by == made_by, PlaygroundKey.id.not_in(kept)))
