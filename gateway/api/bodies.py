"""`/api/v1/ledger/{id}/bodies`: what a route has recorded of a request, for who may read it. Readings are audited."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import anyio.from_thread
import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.ledger import NO_TEAM, own_team
from gateway.errors import NotFound
from gateway.policy.body_records import ERASED, Bodies, Body, bodies_of, day_of
from gateway.policy.capture import Capture
from gateway.policy.roles import Permission
from gateway.policy.usage import LedgerRow
from gateway.store import audit, bodies, body_keys, ledger
from gateway.store.bodies import Found
from gateway.store.capture_documents import capture_row
from gateway.store.config.routes import Routes
from gateway.store.models import Route

router = APIRouter(prefix="/api/v1", tags=["ledger"])

KIND: Final = "bodies"
"""In the audit log."""


class BodyView(BaseModel):
    """One body as it was recorded."""

    text: str | None
    """Redacted before it was written: what was taken out stands as `[email]`, `[key]`, `[card]`, `[phone]`,
    `[redacted]`. null = not kept, and `why_not` says why."""
    why_not: str | None
    """`off` (the route does not record it), `empty`, `binary`, `encoded` (a coding that is not understood), `tunnel`,
    `busy` (there was no memory for it)."""
    content_type: str
    size: int
    """Bytes that passed, as they passed."""
    cut: bool
    """There was more than the route's `max_bytes`."""
    redacted: dict[str, int]
    """How often what was replaced."""
    stream: bool
    """A sequence of events: server-sent, or lines of JSON."""


class BodiesView(BaseModel):
    """`request`: as the caller sent it; `response`: as the caller got it."""

    id: str
    route: str
    recorded_at: datetime
    request: BodyView
    response: BodyView


class BodiesErased(BaseModel):
    bytes: int
    """What they took of the disk."""


class NotRecorded(NotFound):
    """`fields["reason"]`: `off`, `sampled`, `expired`, `erased`, `unreadable`, `not_shown` or `missing`."""

    code = "not_recorded"


@router.get("/ledger/{id}/bodies")
def read_bodies(id: str, desk: Annotated[Desk, permit(Permission.BODIES_READ)]) -> BodiesView:  # noqa: A002
    """The bodies of one request, where its route has `capture`. 404 says why there are none."""
    services = desk.services
    with desk.read() as session:
        row = ledger.get_row(session, id)
        if own_team(desk, row.team) == NO_TEAM:
            raise NotFound(f"no request {id} in the ledger", fix="rows appear within 2 s of a request's end")
        capture = _capture(session, row.route)
        private = body_keys.private_key(session, services.sealer)
    if desk.team_id is not None and (capture is None or not capture.visible_to_team):
        raise _not_shown(row)
    found, recorded = Found.MISSING, None
    if private is not None:
        folder = str(services.settings.bodies_folder)
        question = {"kind": "bodies", "folder": folder, "id": id, "private": private.hex()}
        answer = orjson.loads(anyio.from_thread.run(services.reports.reporters.report, question))
        found = Found(answer["found"])
        recorded = None if answer["bodies"] is None else bodies_of(answer["bodies"])
    if recorded is None:
        raise _why_not(row, capture, found)
    if desk.team_id is not None and not recorded.visible_to_team:
        raise _not_shown(row)
    with desk.change() as session:
        audit.record(session, actor=desk.actor, action="read", kind=KIND, name=id, after={"route": recorded.route})
    return _view(recorded)


@router.delete("/ledger/{id}/bodies", status_code=204)
def erase_bodies(id: str, desk: Annotated[Desk, permit_change(Permission.BODIES_ERASE)]) -> None:  # noqa: A002
    """Overwrite what is recorded of one request, on this node."""
    folder = desk.services.settings.bodies_folder
    with desk.change() as session:
        place = bodies.locate(folder, id)
        if place is None or place.state == ERASED:
            raise NotRecorded(f"no bodies of request {id} are recorded here", fix="there is nothing to do")
        audit.record(session, actor=desk.actor, action="erase", kind=KIND, name=id)
        if not desk.dry_run:
            bodies.erase(folder, id)


@router.delete("/bodies")
def erase_bodies_of_route(
    route: Annotated[str, Query(description="The route's name or id")],
    desk: Annotated[Desk, permit_change(Permission.BODIES_ERASE)],
) -> BodiesErased:
    """Remove all that is recorded of a route's requests, on this node. Recording goes on, if it is on."""
    folder = desk.services.settings.bodies_folder
    with desk.changing() as editing:
        found = Routes(editing).find(route)
        size = bodies.size_of_route(folder, found.id)
        audit.record(
            editing.session, actor=desk.actor, action="erase", kind=KIND, name=found.name, after={"bytes": size}
        )
        if not desk.dry_run:
            size = bodies.erase_route(folder, found.id)
    return BodiesErased(bytes=size)


def _capture(session: Session, route: str | None) -> Capture | None:
    """What the route records today."""
    stored = capture_row(session.scalar(select(Route.capture).where(Route.name == route)))
    return None if stored is None else Capture(**{**stored, "redact": tuple(stored["redact"])})


def _not_shown(row: LedgerRow) -> NotRecorded:
    return NotRecorded(
        f"route {row.route} shows bodies to the platform's people alone",
        fix="its operator can set `capture.visible_to_team`",
        reason="not_shown",
        route=row.route,
    )


def _why_not(row: LedgerRow, capture: Capture | None, found: Found) -> NotRecorded:
    """The likeliest reason, and what to do about it."""
    reason, problem, fix = _reason(row, capture, found)
    return NotRecorded(f"no bodies of this request: {problem}", fix=fix, reason=reason, route=row.route)


def _reason(row: LedgerRow, capture: Capture | None, found: Found) -> tuple[str, str, str]:
    if found is Found.ERASED:
        return "erased", "an owner has erased them", "the audit log says who"
    if found is Found.UNREADABLE:
        return "unreadable", "they were sealed to another installation's key", "restore the database that belongs to it"
    if capture is None:
        return "off", f"route {row.route} does not record them", "turn it on under Routes > Bodies, or by `capture`"
    if datetime.now(UTC).date() > day_of(row.id) + timedelta(days=capture.keep_days):
        return "expired", f"the route keeps them for {capture.keep_days} d", "raise `capture.keep` for those to come"
    if not capture.takes(row.id):
        return "sampled", f"the route records {capture.sample:.2%} of its requests", "raise `capture.sample`"
    return (
        "missing",
        "recording was off then, they found no room, or another node has them",
        "look at sluicegate_bodies_lost_total, and ask the node that served the request",
    )


def _view(recorded: Bodies) -> BodiesView:
    return BodiesView(
        id=recorded.id,
        route=recorded.route,
        recorded_at=datetime.fromtimestamp(recorded.recorded_at_ms / 1000, UTC),
        request=_body_view(recorded.request),
        response=_body_view(recorded.response),
    )


def _body_view(body: Body) -> BodyView:
    fields: dict[str, Any] = {name: getattr(body, name) for name in BodyView.model_fields}
    return BodyView(**fields)
