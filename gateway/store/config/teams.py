"""Teams, their apps, and the apps' keys."""

import hashlib
import secrets
import string
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal

from pydantic import SecretStr
from sqlalchemy import ColumnElement, Select, inspect, or_, select
from sqlalchemy.orm import joinedload, selectinload

from gateway.errors import Conflict, Forbidden
from gateway.store import problems
from gateway.store.access_documents import RequestState
from gateway.store.access_grants import Grant, grants_by_app
from gateway.store.config.editing import Collection, Editing, is_new, joined
from gateway.store.config.providers import unknown
from gateway.store.documents import AppEntry, KeyEntry, TeamEntry
from gateway.store.header_documents import CorsDocument
from gateway.store.models import (
    App,
    AppRoute,
    InterceptionCaller,
    InterceptionRule,
    Key,
    LimitRule,
    Route,
    Team,
    Token,
    User,
    now,
)
from gateway.store.portal_models import AccessRequest
from gateway.store.team_names import require_name_of_team
from gateway.store.views import AppView, CorsView, GrantView, KeyCreated, KeyView, TeamView

KEY_MARK: Final = "sk-sg-"
KEY_LENGTH: Final = 40
"""Random characters after the mark: 238 bits."""
DIGEST_MARK: Final = "sha256:"
_PREFIX_LENGTH: Final = 10
_ALPHABET: Final = string.ascii_letters + string.digits


class Teams(Collection[Team, TeamEntry, TeamView]):
    kind = "team"
    path = "teams"
    row_type = Team
    document_type = TeamEntry

    def query(self) -> Select[Team]:
        return select(Team).options(selectinload(Team.apps))

    def visible(self, query: Select[Team], team_id: int) -> Select[Team]:
        return query.where(Team.id == team_id)

    def show(self, row: Team) -> TeamView:
        return TeamView(
            id=row.id,
            name=row.name,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            apps=[app.name for app in row.apps] if "apps" not in inspect(row).unloaded else [],
        )

    def document_of(self, row: Team) -> TeamEntry:
        return TeamEntry.model_construct(name=row.name)

    def fill(self, row: Team, wanted: TeamEntry) -> None:
        row.name = wanted.name

    def limits_naming(self, row: Team) -> ColumnElement[bool]:
        return LimitRule.team_id == row.id

    def refuse_deletion(self, row: Team) -> None:
        apps = self.session.scalars(select(App.name).where(App.team_id == row.id).order_by(App.name)).all()
        if apps:
            raise Conflict(f"the team {row.name!r} has the app {joined(apps)}", fix="delete or move those apps first")
        users = self.session.scalars(select(User.name).where(User.team_id == row.id).order_by(User.name)).all()
        tokens = self.session.scalars(select(Token.name).where(Token.team_id == row.id).order_by(Token.name)).all()
        for kind, names in (("user", users), ("token", tokens)):
            if names:
                raise Conflict(
                    f"the {kind} {joined(names)} belongs to the team {row.name!r}",
                    fix=f"delete or move the {kind}s first",
                )


class Apps(Collection[App, AppEntry, AppView]):
    kind = "app"
    path = "apps"
    row_type = App
    document_type = AppEntry

    def __init__(self, editing: Editing) -> None:
        super().__init__(editing)
        self._granted: Mapping[int, list[Grant]] | None = None

    def query(self) -> Select[App]:
        return select(App).options(joinedload(App.team), selectinload(App.routes))

    def visible(self, query: Select[App], team_id: int) -> Select[App]:
        return query.where(App.team_id == team_id)

    def show(self, row: App) -> AppView:
        return AppView(
            id=row.id,
            name=row.name,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            team=row.team.name,
            routes=_allowed(row),
            granted=[
                GrantView(route=each.route, expires_at=each.expires_at, request=each.request_id)
                for each in self._grants().get(row.id, ())
            ],
            cors=None if row.cors is None else CorsView(**row.cors),
            egress=row.egress or [],
            sources=row.sources or [],
        )

    def document_of(self, row: App) -> AppEntry:
        return AppEntry.model_construct(
            name=row.name,
            team=row.team.name,
            routes=_allowed(row),
            cors=None if row.cors is None else CorsDocument.model_validate(row.cors),
            egress=row.egress or [],
            sources=row.sources or [],
        )

    def normal(self, row: App | None, wanted: AppEntry) -> AppEntry:
        """The order in which routes and destinations are named means nothing."""
        routes: Literal["*"] | list[str] = "*" if wanted.routes == "*" else sorted(set(wanted.routes))
        egress, sources = sorted(set(wanted.egress)), sorted(set(wanted.sources))
        return wanted.model_copy(update={"routes": routes, "egress": egress, "sources": sources})

    def fill(self, row: App, wanted: AppEntry) -> None:
        team = self._team(wanted)
        self._refuse_beyond_team(row, wanted)  # first: what others have is not told apart from what is not
        routes = self._routes(wanted)
        if not is_new(row) and row.team_id != team.id:
            self._move_requests(row, team)
        row.name, row.team, row.team_id = wanted.name, team, team.id
        row.all_routes = wanted.routes == "*"
        row.routes = routes
        row.cors = None if wanted.cors is None else wanted.cors.model_dump(mode="json")
        row.egress, row.sources = wanted.egress or None, wanted.sources or None

    def _require_free_name(self, wanted: AppEntry, row: App | None) -> None:
        team_id = self.editing.own_team_only()
        if team_id is not None and (row is None or row.name != wanted.name):
            own = select(App.id).where(App.name == wanted.name, App.team_id == team_id)
            if self.session.scalar(own) is None:  # what it has itself is no secret
                subject = self._subject(wanted.name)
                require_name_of_team(self.session, self.editing.authority, wanted.name, field="name", subject=subject)
        super()._require_free_name(wanted, row)

    def limits_naming(self, row: App) -> ColumnElement[bool]:
        keys = select(Key.id).where(Key.app_id == row.id)
        return or_(LimitRule.app_id == row.id, LimitRule.key_id.in_(keys))

    def refuse_deletion(self, row: App) -> None:
        by_caller = select(InterceptionCaller.rule_id).where(InterceptionCaller.app_id == row.id)
        rules = self.session.scalars(
            select(InterceptionRule.name)
            .where(or_(InterceptionRule.app_id == row.id, InterceptionRule.id.in_(by_caller)))
            .order_by(InterceptionRule.id)
        ).all()
        if rules:
            raise Conflict(
                f"the app {row.name!r} is charged by the interception rule {joined(rules)}",
                fix="name another app in those rules first",
            )

    def audited(self, row: App) -> dict[str, Any]:
        """Without what requests for access give it: they have entries of their own."""
        shown = super().audited(row)
        del shown["granted"]
        return shown

    def _grants(self) -> Mapping[int, list[Grant]]:
        """All, read once: an app's view needs them as soon as a list has two."""
        if self._granted is None:
            self._granted = grants_by_app(self.session, self.editing.own_team_only())
        return self._granted

    def _move_requests(self, row: App, team: Team) -> None:
        """The app takes along what it was granted. What its old team still asks for is nobody's to decide any more;
        what has ended stays with that team."""
        live = (RequestState.PENDING.value, RequestState.APPROVED.value)
        query = select(AccessRequest).where(AccessRequest.app_id == row.id, AccessRequest.state.in_(live))
        for request in self.session.scalars(query.order_by(AccessRequest.id)).all():
            before, after = {"team": row.team.name}, {"team": team.name}
            action = "update"
            if request.state == RequestState.PENDING.value:
                action, before, after = "deny", {"state": request.state}, {"state": RequestState.DENIED.value}
                request.state = RequestState.DENIED.value
                request.decided_by, request.decided_at = self.editing.authority.actor, now()
                request.decision_reason = "The app has moved to another team."
            else:
                request.team_id = team.id
            request.updated_at = now()
            self.editing.record(action, "access-request", str(request.id), before, after)

    def _team(self, wanted: AppEntry) -> Team:
        query = select(Team).where(Team.name == wanted.team)
        team_id = self.editing.own_team_only()
        found = self.session.scalars(query if team_id is None else query.where(Team.id == team_id)).one_or_none()
        if found is None:
            raise unknown("team", "team", wanted.team, self._subject(wanted.name))
        return found

    def _routes(self, wanted: AppEntry) -> list[Route]:
        if wanted.routes == "*":
            return []
        found = {row.name: row for row in self.session.scalars(select(Route).where(Route.name.in_(wanted.routes)))}
        missing = [name for name in wanted.routes if name not in found]
        if missing:
            raise unknown("routes", "route", missing[0], self._subject(wanted.name))
        return sorted(found.values(), key=lambda route: route.name)

    def _refuse_beyond_team(self, row: App, wanted: AppEntry) -> None:
        """A team hands on among its apps the routes that it has, and gives itself no others."""
        team_id = self.editing.own_team_only()
        if team_id is None:
            return
        for field, had in (("egress", row.egress), ("sources", row.sources)):
            if getattr(wanted, field) != (had or []):
                raise Forbidden(f"`{field}` is not a team's to change", fix="ask an operator")
        if not is_new(row) and _allowed(row) == wanted.routes:
            return
        apps = self.session.execute(
            select(App.all_routes, Route.name)
            .outerjoin(AppRoute, AppRoute.app_id == App.id)
            .outerjoin(Route, Route.id == AppRoute.route_id)
            .where(App.team_id == team_id)
        ).all()
        if any(all_routes for all_routes, _ in apps):
            return
        beyond = ["*"] if wanted.routes == "*" else sorted(set(wanted.routes) - {name for _, name in apps})
        if beyond:
            raise Forbidden(
                f"no app of your team may call the route {joined(beyond)}", fix="ask an operator for access to it"
            )


class Keys(Collection[Key, KeyEntry, KeyView]):
    """Named `app/name`, or by the bare name where it is unambiguous."""

    kind = "key"
    path = "keys"
    row_type = Key
    document_type = KeyEntry

    def query(self) -> Select[Key]:
        return select(Key).options(joinedload(Key.app).joinedload(App.team))

    def visible(self, query: Select[Key], team_id: int) -> Select[Key]:
        return query.where(Key.app_id.in_(select(App.id).where(App.team_id == team_id)))

    def named(self, query: Select[Key], name: str) -> Select[Key]:
        app, slash, key = name.rpartition("/")
        query = query.where(Key.name == key)
        return query.where(Key.app_id.in_(select(App.id).where(App.name == app))) if slash else query

    def name_of(self, row: Key) -> str:
        return f"{row.app.name}/{row.name}"

    def name_in(self, wanted: KeyEntry) -> str:
        return f"{wanted.app}/{wanted.name}"

    def show(self, row: Key) -> KeyView:
        return KeyView(
            id=row.id,
            name=row.name,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            app=row.app.name,
            team=row.app.team.name,
            prefix=row.prefix,
            expires_at=row.expires_at,
            previous_until=row.previous_until,
        )

    def document_of(self, row: Key) -> KeyEntry:
        return KeyEntry.model_construct(name=row.name, app=row.app.name, value=None, expires_at=row.expires_at)

    def create(self, wanted: KeyEntry) -> KeyCreated:
        row, text = self.make(wanted)
        return KeyCreated(**self.show(row).model_dump(), key=text)

    def make(self, wanted: KeyEntry) -> tuple[Key, str | None]:
        """The new row, and the key's text where the caller gave none."""
        if wanted.value is not None:
            return self.add(wanted), None
        text = new_key()
        return self.add(wanted.model_copy(update={"value": SecretStr(text)})), text

    def rotate(self, reference: str, expected_version: int | None = None, overlap_s: float | None = None) -> KeyCreated:
        """Give the key a new text. The old one is refused from then on, or with `overlap_s` after so many seconds."""
        self.editing.lock()
        row = self.find(reference)
        self._require_version(row, expected_version)
        text = new_key()
        if overlap_s is None:
            row.previous_digest, row.previous_until = None, None
        else:
            until = now() + timedelta(seconds=overlap_s)
            row.previous_digest = row.digest
            row.previous_until = until if row.expires_at is None else min(until, row.expires_at)
        self.change(row, self.document_of(row).model_copy(update={"value": SecretStr(text)}))
        return KeyCreated(**self.show(row).model_dump(), key=text)

    def retire(self, reference: str, expected_version: int | None = None) -> KeyView:
        """Refuse the text before the last rotation from now on. Raises Conflict where there is none."""
        self.editing.lock()
        row = self.find(reference)
        self._require_version(row, expected_version)
        if row.previous_digest is None:
            raise Conflict(
                f"the key {self.name_of(row)!r} has no earlier text that is good", fix="there is nothing to do"
            )
        before = self.audited(row)
        row.previous_digest, row.previous_until, row.updated_at = None, None, now()
        self.session.flush()
        self.editing.record("update", self.kind, self.name_of(row), before, self.audited(row))
        return self.show(row)

    def normal(self, row: Key | None, wanted: KeyEntry) -> KeyEntry:
        """A key that is stored already is left out."""
        if row is not None and wanted.value is not None and _digest(wanted.value) == row.digest:
            return wanted.model_copy(update={"value": None})
        return wanted

    def fill(self, row: Key, wanted: KeyEntry) -> None:
        app = self._app(wanted)
        digest = None if wanted.value is None else _digest(wanted.value)
        used = select(Key.id).where(or_(Key.digest == digest, Key.previous_digest == digest))
        if digest is not None and self.session.scalar(used) is not None:
            raise problems.refuse(
                "value",
                "is in use as another key",
                "give each key its own value, or leave `value` out to have one made",
                self._subject(self.name_in(wanted)),
            )
        row.app, row.name, row.expires_at = app, wanted.name, wanted.expires_at
        if wanted.value is not None and digest is not None:
            row.digest, row.prefix = digest, _prefix(wanted.value)

    def limits_naming(self, row: Key) -> ColumnElement[bool]:
        return LimitRule.key_id == row.id

    def _app(self, wanted: KeyEntry) -> App:
        query = select(App).options(joinedload(App.team)).where(App.name == wanted.app)
        team_id = self.editing.own_team_only()
        found = self.session.scalars(query if team_id is None else query.where(App.team_id == team_id)).one_or_none()
        if found is None:
            raise unknown("app", "app", wanted.app, self._subject(wanted.name))
        return found

    def _require_free_name(self, wanted: KeyEntry, row: Key | None) -> None:
        taken = self.session.scalars(self.named(select(Key), self.name_in(wanted))).first()
        if taken is not None and taken is not row:
            raise Conflict(
                f"the app {wanted.app!r} has a key {wanted.name!r} already",
                fix="choose another name, or rotate that key",
            )


class KeysOfApp(Keys):
    """The keys of one app; none where there is no such app."""

    def __init__(self, editing: Editing, app: str) -> None:
        super().__init__(editing)
        self._only_app = app

    def query(self) -> Select[Key]:
        return super().query().where(Key.app_id.in_(select(App.id).where(App.name == self._only_app)))


def new_key() -> str:
    return KEY_MARK + "".join(secrets.choice(_ALPHABET) for _ in range(KEY_LENGTH))


def _digest(value: SecretStr) -> bytes:
    text = value.get_secret_value()
    if text.startswith(DIGEST_MARK):
        return bytes.fromhex(text.removeprefix(DIGEST_MARK))
    return hashlib.sha256(text.encode()).digest()


def _prefix(value: SecretStr) -> str:
    text = value.get_secret_value()
    return "" if text.startswith(DIGEST_MARK) or len(text) < 2 * _PREFIX_LENGTH else text[:_PREFIX_LENGTH]


def _allowed(row: App) -> Literal["*"] | list[str]:
    return "*" if row.all_routes else sorted(route.name for route in row.routes)
