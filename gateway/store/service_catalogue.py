"""The catalogue: routes as services, as a team may see them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import or_, select

from gateway.errors import NotFound
from gateway.policy.model import Dialect, Metric, Window
from gateway.policy.quota import shown
from gateway.store.access_documents import RequestState
from gateway.store.access_grants import grants_by_app
from gateway.store.config.editing import Editing
from gateway.store.config.limits import Limits
from gateway.store.config.routes import Routes, callable_by
from gateway.store.config.service import service_of, service_view
from gateway.store.models import App, AppRoute, Key, LimitRule, Route
from gateway.store.portal_models import AccessRequest, AccessRequestRoute, ServiceFile
from gateway.store.views import ServiceView, View

BATCH: Final = 200
MOST_APPS: Final = 200
"""That one service names."""


class AppAccess(View):
    """One of the caller's apps that may call the service."""

    app: str
    expires_at: datetime | None
    """null: for good."""
    request: int | None
    """By which it was granted; null: the app's own `routes` say so."""


class ServiceLimit(View):
    """One that calls of the team would count for. Amounts in the metric's unit; cost in USD."""

    limit: str | None
    """null: one that is shared with other teams."""
    metric: Metric
    window: Window | None
    at_most: int | float
    app: str | None
    """null: of all apps."""
    key: str | None
    """`app/name`; null: of all keys."""
    this_route: bool
    """Counts calls of this route alone."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the catalogue knows of a service from SQL."""

    row: Route
    service: ServiceView
    dialects: tuple[Dialect, ...]
    apps: list[AppAccess]
    pending: list[int]
    """Requests for it that await a decision."""
    limits: list[ServiceLimit]
    has_openapi: bool


class ServiceCatalogue:
    """`team_id`: as this team sees it; None: all of it."""

    def __init__(self, editing: Editing, team_id: int | None) -> None:
        self._editing = editing
        self._session = editing.session
        self._team_id = team_id
        self._routes = Routes(editing)

    def page(self, *, after_id: int, limit: int, words: str = "") -> list[Standing]:
        """By id, those after `after_id` that have all the words in name, title, description or a model's name."""
        found: list[Route] = []
        wanted = words.casefold().split()
        for row in self._rows(after_id):
            if self._sees(row) and all(each in self._text(row) for each in wanted):
                found.append(row)
                if len(found) == limit:
                    break
        return self._standings(found)

    def get(self, reference: str) -> Standing:
        """By id or name. Raises NotFound, also for what the team does not see."""
        query = self._routes.query()
        if reference.isascii() and reference.isdecimal():
            query = query.where(Route.id == min(int(reference[:20]), 2**31 - 1))
        else:
            query = query.where(Route.name == reference)
        row = self._session.scalars(query).one_or_none()
        if row is None or not self._sees(row):
            raise NotFound(f"there is no service {reference!r}", fix="GET /api/v1/catalogue lists them")
        return self._standings([row])[0]

    def openapi(self, route_id: int) -> ServiceFile | None:
        return self._session.get(ServiceFile, route_id)

    # ---- inside

    def _rows(self, after_id: int) -> Iterator[Route]:
        """In batches: which are seen is decided here, as teams stand in the service's JSON."""
        while True:
            query = self._routes.query().where(Route.id > after_id).order_by(Route.id).limit(BATCH)
            batch = self._session.scalars(query).all()
            yield from batch
            if len(batch) < BATCH:
                return
            after_id = batch[-1].id

    def _sees(self, row: Route) -> bool:
        if self._team_id is None or row.service is None or row.service["teams"] is None:
            return True
        return self._team_id in row.service["teams"] or row.id in self._callable()

    def _callable(self) -> frozenset[int]:
        assert self._team_id is not None
        return frozenset(self._session.scalars(select(Route.id).where(callable_by(self._team_id))))

    def _text(self, row: Route) -> str:
        service = service_of(row, self._routes.teams)
        models = [each.model or "" for each in row.targets]
        return " ".join([row.name, service.title or "", service.description or "", *models]).casefold()

    def _standings(self, rows: list[Route]) -> list[Standing]:
        if not rows:
            return []
        ids = [row.id for row in rows]
        documents = set(self._session.scalars(select(ServiceFile.route_id).where(ServiceFile.route_id.in_(ids))))
        apps, pending, limits = self._apps(), self._pending(ids), self._limits()
        return [
            Standing(
                row=row,
                service=service_view(row, self._routes.teams, self._team_id),
                dialects=_dialects(row),
                apps=[each for name, each in apps if name in (None, row.name)][:MOST_APPS],
                pending=pending.get(row.id, []),
                limits=[limit for route_id, limit in limits if route_id in (None, row.id)],
                has_openapi=row.id in documents,
            )
            for row in rows
        ]

    def _apps(self) -> list[tuple[str | None, AppAccess]]:
        """Route (None: all) and app, by name."""
        query = select(App.id, App.name, App.all_routes, Route.name.label("route"))
        query = query.outerjoin(AppRoute, AppRoute.app_id == App.id).outerjoin(Route, Route.id == AppRoute.route_id)
        if self._team_id is not None:
            query = query.where(App.team_id == self._team_id)
        found: list[tuple[str | None, AppAccess]] = []
        names: dict[int, str] = {}
        own: set[tuple[int, str | None]] = set()
        for app_id, name, all_routes, route in self._session.execute(query.order_by(App.name)):
            names[app_id] = name
            if all_routes or route is not None:
                own.add((app_id, None if all_routes else route))
                access = AppAccess(app=name, expires_at=None, request=None)
                found.append((None if all_routes else route, access))
        for app_id, grants in grants_by_app(self._session, self._team_id).items():
            found += [
                (each.route, AppAccess(app=names[app_id], expires_at=each.expires_at, request=each.request_id))
                for each in grants
                if (app_id, each.route) not in own and (app_id, None) not in own
            ]
        return found

    def _pending(self, ids: list[int]) -> dict[int, list[int]]:
        query = (
            select(AccessRequestRoute.route_id, AccessRequest.id)
            .join(AccessRequest, AccessRequest.id == AccessRequestRoute.request_id)
            .where(AccessRequest.state == RequestState.PENDING.value, AccessRequestRoute.route_id.in_(ids))
            .order_by(AccessRequest.id)
        )
        if self._team_id is not None:
            query = query.where(AccessRequest.team_id == self._team_id)
        found: dict[int, list[int]] = {}
        for route_id, request_id in self._session.execute(query):
            found.setdefault(route_id, []).append(request_id)
        return found

    def _limits(self) -> list[tuple[int | None, ServiceLimit]]:
        """Route (None: any) and limit: those of the team, and those of a route that all teams share. What bounds a
        provider or the gateway as a whole is the platform's affair."""
        query = Limits(self._editing).query().where(
            LimitRule.provider_id.is_(None), LimitRule.credential_id.is_(None),
            LimitRule.target_provider_id.is_(None), LimitRule.model.is_(None),
        )  # fmt: skip
        shared = LimitRule.team_id.is_(None) & LimitRule.app_id.is_(None) & LimitRule.key_id.is_(None)
        if self._team_id is None:
            query = query.where(shared)
        else:
            apps = select(App.id).where(App.team_id == self._team_id)
            keys = select(Key.id).where(Key.app_id.in_(apps))
            of_team = or_(LimitRule.team_id == self._team_id, LimitRule.app_id.in_(apps), LimitRule.key_id.in_(keys))
            query = query.where(or_(of_team, shared & LimitRule.route_id.is_not(None)))
        return [(row.route_id, self._limit(row)) for row in self._session.scalars(query.order_by(LimitRule.id))]

    def _limit(self, row: LimitRule) -> ServiceLimit:
        metric = Metric(row.metric)
        is_shared = row.team_id is None and row.app_id is None and row.key_id is None
        return ServiceLimit(
            limit=None if is_shared and self._team_id is not None else row.name,
            metric=metric,
            window=None if metric is Metric.CONCURRENT_REQUESTS else Window(row.window),
            at_most=shown(metric, row.at_most),
            app=None if row.app is None else row.app.name,
            key=None if row.key is None else f"{row.key.app.name}/{row.key.name}",
            this_route=row.route_id is not None,
        )


def _dialects(row: Route) -> tuple[Dialect, ...]:
    """In which it can be called: those of its targets; OpenAI's and Mistral's calls are alike."""
    spoken = {Dialect(each.provider.dialect) for each in row.targets}
    twins = {Dialect.OPENAI, Dialect.MISTRAL}
    if spoken & twins:
        spoken |= twins
    return tuple(each for each in Dialect if each in spoken)
