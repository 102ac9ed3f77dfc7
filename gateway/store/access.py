"""Requests for access: made by a team, decided by the platform's people, by the team's admin, or at once.

An approved request is the permission itself (`access_grants`): approving, revoking and ending one moves the
configuration's generation, and so reaches every worker within a second. Each step is audited and leaves a notice.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from gateway.errors import Conflict, Forbidden, NotFound, PreconditionFailed
from gateway.policy.roles import Authority, Permission, Role
from gateway.store import notices, problems
from gateway.store.access_documents import (
    AccessApproval,
    AccessAsked,
    AccessDecision,
    AccessRequestView,
    Deed,
    RequestState,
)
from gateway.store.access_grants import grants_by_app, in_force
from gateway.store.config.editing import GREATEST_ID, Editing
from gateway.store.config.providers import unknown
from gateway.store.config.routes import callable_by
from gateway.store.config.service import ServiceTeams, service_of
from gateway.store.config.teams import Apps
from gateway.store.contacts import Contacts
from gateway.store.documents import AppEntry
from gateway.store.models import App, Route, Team, now
from gateway.store.notices import Kind
from gateway.store.portal_models import AccessRequest
from gateway.store.service_documents import Access
from gateway.store.team_names import require_name_of_team

MOST_PENDING: Final = 100
"""Of one team."""
MOST_IN_FORCE: Final = 1_000
"""Approved requests of one team that have not ended."""
DECIDERS: Final = frozenset({Role.OWNER, Role.ADMIN, Role.OPERATOR})
"""They decide on every request."""
TEAM_DECIDES: Final = frozenset({Access.OPEN, Access.TEAM})

_ENDS: Final = {
    RequestState.DENIED: Kind.ACCESS_DENIED,
    RequestState.WITHDRAWN: Kind.ACCESS_WITHDRAWN,
    RequestState.REVOKED: Kind.ACCESS_REVOKED,
    RequestState.EXPIRED: Kind.ACCESS_EXPIRED,
}


class AccessRequests:
    """In the caller's name, within the caller's transaction. What belongs to another team does not exist."""

    def __init__(self, editing: Editing, contacts: Contacts) -> None:
        self._editing = editing
        self._session: Session = editing.session
        self._contacts = contacts
        self._teams = ServiceTeams(editing.session)

    # ---- read

    def page(
        self, *, state: RequestState | None = None, app: str | None = None, before_id: int | None, limit: int
    ) -> list[AccessRequestView]:
        """The newest first."""
        query = self._own()
        if state is not None:
            query = query.where(AccessRequest.state == state.value)
        if app is not None:
            query = query.outerjoin(App, App.id == AccessRequest.app_id).where(
                func.coalesce(App.name, AccessRequest.app_name) == app
            )
        if before_id is not None:
            query = query.where(AccessRequest.id < before_id)
        return [self.show(row) for row in self._session.scalars(query.order_by(AccessRequest.id.desc()).limit(limit))]

    def get(self, number: int) -> AccessRequestView:
        """Raises NotFound."""
        return self.show(self._find(number))

    def show(self, row: AccessRequest) -> AccessRequestView:
        state = state_of(row)
        return AccessRequestView(
            id=row.id,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            team=row.team.name,
            app=name_of_app(row),
            new_app=row.app_id is None,
            routes=[route.name for route in row.routes],
            state=state,
            reason=row.reason,
            asked_until=row.asked_until,
            requested_by=row.requested_by,
            decided_by=row.decided_by,
            decided_at=row.decided_at,
            decision_reason=row.decision_reason,
            expires_at=row.expires_at,
            you_may=self._deeds(row, state),
        )

    # ---- ask

    def ask(self, wanted: AccessAsked) -> AccessRequestView:
        """Raises Invalid for what is not there or cannot be seen, Conflict for what is allowed or asked for already,
        Forbidden for routes that are closed."""
        self._editing.lock()
        subject = f"the request for {wanted.app!r}"
        app, team = self._app_and_team(wanted, subject)
        routes = self._routes(wanted, team.id, subject)
        if wanted.expires_at is not None and wanted.expires_at <= now():
            raise problems.refuse("expires_at", "is past", "name a time to come, or leave it out", subject)
        self._refuse_needless(wanted, app, team, routes)
        row = AccessRequest(
            team=team, app=app, app_name=wanted.app, state=RequestState.PENDING.value, reason=wanted.reason,
            asked_until=wanted.expires_at, requested_by=self._editing.authority.actor, routes=routes,
        )  # fmt: skip
        self._session.add(row)
        self._session.flush()
        self._record("create", row, None)
        # An app is made at once for those alone who may make one without asking.
        may_have = app is not None or Permission.APPS_WRITE in self._editing.authority.permissions
        if may_have and all(self._access(route) is Access.OPEN for route in routes):
            self._approve(row, None, None, row.asked_until)
        else:
            self._tell(Kind.ACCESS_REQUESTED, row)
        return self.show(row)

    def _app_and_team(self, wanted: AccessAsked, subject: str) -> tuple[App | None, Team]:
        own = self._editing.own_team_only()
        app = self._session.scalars(
            select(App).options(joinedload(App.team), selectinload(App.routes)).where(App.name == wanted.app)
        ).one_or_none()
        if not wanted.new_app:
            if app is None or (own is not None and app.team_id != own):
                raise unknown("app", "app", wanted.app, subject)
            return app, app.team
        if app is None or (own is not None and app.team_id != own):
            require_name_of_team(self._session, self._editing.authority, wanted.app, field="app", subject=subject)
        if app is not None:
            raise Conflict(f"the app {wanted.app!r} exists already", fix="choose another name, or leave `new_app` out")
        query = select(Team).where(Team.id == own) if own is not None else select(Team).where(Team.name == wanted.team)
        team = self._session.scalars(query).one_or_none()
        if team is None or (wanted.team is not None and team.name != wanted.team):
            raise unknown("team", "team", wanted.team or "", subject)
        return None, team

    def _routes(self, wanted: AccessAsked, team_id: int, subject: str) -> list[Route]:
        """Those that the team may see."""
        own = self._editing.own_team_only()
        found = {
            route.name: route
            for route in self._session.scalars(select(Route).where(Route.name.in_(wanted.routes)))
            if own is None or self.sees(route, team_id)
        }
        for place, name in enumerate(wanted.routes):
            if name not in found:
                raise unknown(f"routes.{place}", "route", name, subject)
        for route in found.values():
            if self._access(route) is Access.CLOSED and self._editing.authority.role not in DECIDERS:
                owner = service_of(route, self._teams).owner
                raise Forbidden(
                    f"the route {route.name!r} cannot be asked for",
                    fix=f"ask {owner or 'an operator'}",
                    route=route.name,
                )
        return sorted(found.values(), key=lambda route: route.name)

    def sees(self, route: Route, team_id: int) -> bool:
        """Whether the catalogue shows the route to the team."""
        teams = None if route.service is None else route.service["teams"]
        if teams is None or team_id in teams:
            return True
        return self._session.scalar(select(Route.id).where(Route.id == route.id, callable_by(team_id))) is not None

    def _refuse_needless(self, wanted: AccessAsked, app: App | None, team: Team, routes: Iterable[Route]) -> None:
        names = {route.name for route in routes}
        if app is not None and (app.all_routes or names <= self._had(app, wanted.expires_at)):
            raise Conflict(f"the app {app.name!r} may call that already", fix="make a key for it and call")
        pending = self._session.scalars(
            self._loaded().where(AccessRequest.team_id == team.id, AccessRequest.state == RequestState.PENDING.value)
        ).all()
        if len(pending) >= MOST_PENDING:
            raise Conflict(f"the team {team.name!r} has {MOST_PENDING} requests open", fix="withdraw some first")
        granted = select(func.count()).select_from(AccessRequest).where(AccessRequest.team_id == team.id, in_force())
        if (self._session.scalar(granted) or 0) >= MOST_IN_FORCE:
            raise Conflict(
                f"the team {team.name!r} has {MOST_IN_FORCE} approved requests in force",
                fix="withdraw those that it needs no more",
            )
        for each in pending:
            if name_of_app(each) == wanted.app and names & {route.name for route in each.routes}:
                raise Conflict(
                    f"request {each.id} asks for that already",
                    fix="wait for its decision, or withdraw it",
                    request=each.id,
                )

    def _had(self, app: App, until: datetime | None) -> set[str]:
        """Routes that the app may call already, for at least as long as is asked for."""
        granted = grants_by_app(self._session, app.team_id).get(app.id, ())
        lasting = {
            each.route
            for each in granted
            if each.expires_at is None or (until is not None and until <= each.expires_at)
        }
        return lasting | {route.name for route in app.routes}

    # ---- decide

    def approve(self, number: int, decision: AccessApproval, expected_version: int | None) -> AccessRequestView:
        """The app may call the routes within a second; one that does not exist is made."""
        row = self._to_do(number, Deed.APPROVE, expected_version)
        until = decision.expires_at if "expires_at" in decision.model_fields_set else row.asked_until
        if until is not None and until <= now():
            raise problems.refuse(
                "expires_at", "is past", "name a time to come, or null for good", f"the approval of request {row.id}"
            )
        self._approve(row, self._editing.authority.actor, decision.reason, until)
        return self.show(row)

    def end(self, number: int, deed: Deed, decision: AccessDecision, expected_version: int | None) -> AccessRequestView:
        """Deny, withdraw or revoke."""
        row = self._to_do(number, deed, expected_version)
        state = {
            Deed.DENY: RequestState.DENIED, Deed.WITHDRAW: RequestState.WITHDRAWN, Deed.REVOKE: RequestState.REVOKED
        }[deed]  # fmt: skip
        before = self._audited(row)
        row.state = state.value
        row.decided_by, row.decided_at, row.decision_reason = self._editing.authority.actor, now(), decision.reason
        self._changed(deed.value, row, before, _ENDS[state])
        return self.show(row)

    def end_expired(self) -> int:
        """Write down which have ended by themselves. How many."""
        self._editing.lock()
        ended = self._session.scalars(loaded().where(*OVERDUE, AccessRequest.expires_at <= now())).all()
        for row in ended:
            before = self._audited(row)
            row.state = RequestState.EXPIRED.value
            self._changed("expire", row, before, Kind.ACCESS_EXPIRED)
        return len(ended)

    def _to_do(self, number: int, deed: Deed, expected_version: int | None) -> AccessRequest:
        """Raises NotFound, PreconditionFailed, Forbidden, Conflict."""
        self._editing.lock()
        row = self._find(number)
        if expected_version is not None and row.version != expected_version:
            raise PreconditionFailed(
                f"request {row.id} has been changed since (version {row.version}, not {expected_version})",
                fix="read it again, and decide on what you see",
            )
        state = state_of(row)
        if deed in self._deeds(row, state):
            return row
        if deed in _POSSIBLE.get(state, ()):
            raise Forbidden(
                f"the role {self._editing.authority.role} may not {deed} this request", fix="ask an operator"
            )
        raise Conflict(f"request {row.id} is {state}", fix="make another request")

    def _approve(self, row: AccessRequest, actor: str | None, reason: str | None, until: datetime | None) -> None:
        before = self._audited(row)
        if row.app_id is None:
            # The app is part of what is approved: who may approve need not be one who may make apps.
            # Its name may be one that was asked for by others, or long ago.
            subject = f"the approval of request {row.id}"
            require_name_of_team(self._session, self._editing.authority, row.app_name, field="app", subject=subject)
            platform = replace(
                self._editing, authority=Authority(actor=self._editing.authority.actor, role=Role.OPERATOR)
            )
            row.app = Apps(platform).add(AppEntry(name=row.app_name, team=row.team.name))
        row.state, row.expires_at = RequestState.APPROVED.value, until
        row.decided_by, row.decided_at, row.decision_reason = actor, now(), reason
        self._changed(Deed.APPROVE.value, row, before, Kind.ACCESS_APPROVED)

    def _deeds(self, row: AccessRequest, state: RequestState) -> list[Deed]:
        authority = self._editing.authority
        decides = authority.role in DECIDERS or (
            authority.role is Role.TEAM_ADMIN and all(self._access(route) in TEAM_DECIDES for route in row.routes)
        )
        asks = authority.role is not Role.VIEWER
        # A route that was hidden since is not handed on any more, by those who would not see it themselves.
        approves = decides and (
            authority.role in DECIDERS
            or state is not RequestState.PENDING
            or all(self.sees(route, row.team_id) for route in row.routes)
        )
        allowed = {Deed.APPROVE: approves, Deed.DENY: decides, Deed.REVOKE: decides, Deed.WITHDRAW: asks}
        return [deed for deed in _POSSIBLE.get(state, ()) if allowed[deed]]

    # ---- inside

    def _access(self, route: Route) -> Access:
        return Access.APPROVAL if route.service is None else Access(route.service["access"])

    def _changed(self, action: str, row: AccessRequest, before: dict[str, Any], kind: Kind) -> None:
        row.updated_at = now()
        self._session.flush()
        self._record(action, row, before)
        self._tell(kind, row)

    def _record(self, action: str, row: AccessRequest, before: dict[str, Any] | None) -> None:
        self._editing.record(action, "access-request", str(row.id), before, self._audited(row))

    def _tell(self, kind: Kind, row: AccessRequest) -> None:
        owners = [service_of(route, self._teams).owner for route in row.routes]
        to = (
            self._contacts.of_platform(owners)
            if kind in notices.TO_PLATFORM
            else self._contacts.of_team(self._session, row.team_id)
        )
        notices.write(self._session, kind, title_of(kind, row), notice_of(row), team_id=row.team_id, to=to)

    def _audited(self, row: AccessRequest) -> dict[str, Any]:
        hidden = {"id", "version", "created_at", "updated_at", "you_may"}
        return self.show(row).model_dump(mode="json", exclude=hidden)

    def _find(self, number: int) -> AccessRequest:
        row = self._session.scalars(self._own().where(AccessRequest.id == min(number, GREATEST_ID))).one_or_none()
        if row is None:
            raise NotFound(f"there is no request {number}", fix="GET /api/v1/access-requests lists them")
        return row

    def _own(self) -> Select[AccessRequest]:
        own = self._editing.own_team_only()
        return self._loaded() if own is None else self._loaded().where(AccessRequest.team_id == own)

    @staticmethod
    def _loaded() -> Select[AccessRequest]:
        return loaded()


_POSSIBLE: Final = {
    RequestState.PENDING: (Deed.APPROVE, Deed.DENY, Deed.WITHDRAW),
    RequestState.APPROVED: (Deed.REVOKE, Deed.WITHDRAW),
}


OVERDUE: Final = (AccessRequest.state == RequestState.APPROVED.value, AccessRequest.expires_at.is_not(None))
"""Of requests that may have ended by themselves."""


def any_expired(session: Session) -> bool:
    return (
        session.scalar(select(AccessRequest.id).where(*OVERDUE, AccessRequest.expires_at <= now()).limit(1)) is not None
    )


def pending_count(session: Session, team_id: int | None) -> int:
    """How many await a decision; with `team_id` of this team alone."""
    query = select(func.count()).select_from(AccessRequest).where(AccessRequest.state == RequestState.PENDING.value)
    if team_id is not None:
        query = query.where(AccessRequest.team_id == team_id)
    return session.scalar(query) or 0


def loaded() -> Select[AccessRequest]:
    return select(AccessRequest).options(
        joinedload(AccessRequest.team), joinedload(AccessRequest.app), selectinload(AccessRequest.routes)
    )


def state_of(row: AccessRequest) -> RequestState:
    """At this moment, whether or not the keeper has written the end down."""
    state = RequestState(row.state)
    if state is RequestState.APPROVED and row.expires_at is not None and row.expires_at <= now():
        return RequestState.EXPIRED
    return state


def name_of_app(row: AccessRequest) -> str:
    return row.app_name if row.app is None else row.app.name


def title_of(kind: Kind, row: AccessRequest) -> str:
    """What happened, in a line."""
    what = f"{name_of_app(row)} → {', '.join(route.name for route in row.routes)}"
    match kind:
        case Kind.ACCESS_REQUESTED:
            return f"{row.team.name} asks for access: {what}"
        case Kind.ACCESS_APPROVED:
            until = "" if row.expires_at is None else f", until {row.expires_at:%Y-%m-%d %H:%M} UTC"
            return f"Access approved: {what}{until}"
        case Kind.ACCESS_DENIED:
            return f"Access denied: {what}"
        case Kind.ACCESS_WITHDRAWN:
            return f"{row.team.name} withdrew: {what}"
        case Kind.ACCESS_REVOKED:
            return f"Access revoked: {what}"
        case _:
            return f"Access has ended: {what}"


def notice_of(row: AccessRequest) -> dict[str, Any]:
    return {
        "request": row.id,
        "state": row.state,
        "app": name_of_app(row),
        "routes": [route.name for route in row.routes],
        "requested_by": row.requested_by,
        "reason": row.reason,
        "decided_by": row.decided_by,
        "decision_reason": row.decision_reason,
        "expires_at": None if row.expires_at is None else row.expires_at.isoformat(),
    }
