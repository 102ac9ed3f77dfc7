"""What approved requests for access allow at this moment."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Subquery, bindparam, or_, select
from sqlalchemy.orm import Session

from gateway.store.access_documents import RequestState
from gateway.store.models import App, Route, UtcTime, now
from gateway.store.portal_models import AccessRequest, AccessRequestRoute


def in_force() -> ColumnElement[bool]:
    """Of requests: approved, and not past their end, whether or not the keeper has written that down yet."""
    moment = bindparam("in_force_at", callable_=now, type_=UtcTime, unique=True)
    return (AccessRequest.state == RequestState.APPROVED.value) & or_(
        AccessRequest.expires_at.is_(None), AccessRequest.expires_at > moment
    )


IN_FORCE: Final[Subquery] = (
    select(
        AccessRequest.app_id,
        AccessRequestRoute.route_id,
        AccessRequest.expires_at,
        AccessRequest.id.label("request_id"),
    )
    .join(AccessRequestRoute, AccessRequestRoute.request_id == AccessRequest.id)
    .where(AccessRequest.app_id.is_not(None), in_force())
    .subquery("in_force")
)
"""App, route, end and request of every permission that was asked for and is in force."""


@dataclass(frozen=True, slots=True)
class Grant:
    route: str
    expires_at: datetime | None
    request_id: int


def grants_by_app(session: Session, team_id: int | None = None) -> Mapping[int, list[Grant]]:
    """By app's id: each route once, with the permission that lasts longest. `team_id`: of this team's apps alone."""
    query = select(IN_FORCE.c.app_id, Route.name, IN_FORCE.c.expires_at, IN_FORCE.c.request_id).join(
        Route, Route.id == IN_FORCE.c.route_id
    )
    if team_id is not None:
        query = query.join(App, App.id == IN_FORCE.c.app_id).where(App.team_id == team_id)
    found: dict[int, dict[str, Grant]] = defaultdict(dict)
    for app_id, route, expires_at, request_id in session.execute(query.order_by(Route.name, IN_FORCE.c.request_id)):
        present = found[app_id].get(route)
        if present is None or _later(expires_at, present.expires_at):
            found[app_id][route] = Grant(route, expires_at, request_id)
    return {app_id: list(by_route.values()) for app_id, by_route in found.items()}


def _later(one: datetime | None, other: datetime | None) -> bool:
    return other is not None and (one is None or one > other)
