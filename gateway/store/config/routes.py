"""Routes and their targets."""

from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import selectinload

from gateway.errors import Conflict
from gateway.policy.model import Auth, Dialect, Strategy
from gateway.store import body_keys, problems
from gateway.store.access_grants import IN_FORCE
from gateway.store.capture_documents import CaptureDocument
from gateway.store.config.editing import Collection, Editing, is_new, joined
from gateway.store.config.providers import unknown
from gateway.store.config.service import ServiceTeams, service_of, service_view, stored_service
from gateway.store.documents import MatchDocument, RouteDocument, TargetDocument, TimeoutDocument
from gateway.store.header_documents import HeaderRulesDocument
from gateway.store.models import App, AppRoute, LimitRule, Provider, Route, Target
from gateway.store.views import CaptureView, HeaderRulesView, MatchView, RouteView, TargetView, TimeoutView


class Routes(Collection[Route, RouteDocument, RouteView]):
    kind = "route"
    path = "routes"
    row_type = Route
    document_type = RouteDocument

    def __init__(self, editing: Editing) -> None:
        super().__init__(editing)
        self.teams = ServiceTeams(editing.session)

    def query(self) -> Select[Route]:
        return select(Route).options(selectinload(Route.targets).joinedload(Target.provider))

    def visible(self, query: Select[Route], team_id: int) -> Select[Route]:
        """Those that an app of the team may call."""
        return query.where(callable_by(team_id))

    def show(self, row: Route) -> RouteView:
        timeout = TimeoutView(
            connect=row.connect_timeout_s,
            first_byte=row.first_byte_timeout_s,
            idle=row.idle_timeout_s,
            total=row.total_timeout_s,
        )
        claims = row.match_host is not None or row.match_path is not None
        return RouteView(
            id=row.id,
            name=row.name,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            strategy=Strategy(row.strategy),
            targets=[
                TargetView(id=each.id, provider=each.provider.name, model=each.model, weight=each.weight)
                for each in row.targets
            ],
            retries=row.retries,
            timeout=timeout,
            match=MatchView(host=row.match_host, path=row.match_path) if claims else None,
            max_output_tokens=row.max_output_tokens,
            strip_prefix=row.strip_prefix,
            preserve_host=row.preserve_host,
            auth=Auth(row.auth),
            read_to_end=row.read_to_end,
            request_headers=HeaderRulesView(**_rules(row.request_headers).model_dump()),
            response_headers=HeaderRulesView(**_rules(row.response_headers).model_dump()),
            prefer=row.prefer or [],
            service=service_view(row, self.teams, self.editing.own_team_only()),
            capture=None if row.capture is None else CaptureView(**row.capture),
        )

    def document_of(self, row: Route) -> RouteDocument:
        claims = row.match_host is not None or row.match_path is not None
        return RouteDocument.model_construct(
            name=row.name,
            strategy=Strategy(row.strategy),
            targets=[
                TargetDocument.model_construct(provider=each.provider.name, model=each.model, weight=each.weight)
                for each in row.targets
            ],
            retries=row.retries,
            timeout=TimeoutDocument.model_construct(
                connect=row.connect_timeout_s,
                first_byte=row.first_byte_timeout_s,
                idle=row.idle_timeout_s,
                total=row.total_timeout_s,
            ),
            match=MatchDocument.model_construct(host=row.match_host, path=row.match_path) if claims else None,
            max_output_tokens=row.max_output_tokens,
            strip_prefix=row.strip_prefix,
            preserve_host=row.preserve_host,
            auth=Auth(row.auth),
            read_to_end=row.read_to_end,
            request_headers=_rules(row.request_headers),
            response_headers=_rules(row.response_headers),
            prefer=row.prefer or [],
            service=service_of(row, self.teams),
            capture=None if row.capture is None else CaptureDocument.model_construct(**row.capture),
        )

    def normal(self, row: Route | None, wanted: RouteDocument) -> RouteDocument:
        """The order in which teams are named means nothing."""
        if wanted.service.teams is None:
            return wanted
        service = wanted.service.model_copy(update={"teams": sorted(wanted.service.teams)})
        return wanted.model_copy(update={"service": service})

    def fill(self, row: Route, wanted: RouteDocument) -> None:
        providers = self._providers(wanted)
        service = stored_service(wanted.service, self.teams, self._subject(wanted.name))
        self._refuse_shared_match(row, wanted)
        row.name, row.strategy, row.retries = wanted.name, wanted.strategy, wanted.retries
        row.connect_timeout_s, row.first_byte_timeout_s = wanted.timeout.connect, wanted.timeout.first_byte
        row.idle_timeout_s, row.total_timeout_s = wanted.timeout.idle, wanted.timeout.total
        row.match_host = wanted.match.host if wanted.match else None
        row.match_path = wanted.match.path if wanted.match else None
        row.max_output_tokens = wanted.max_output_tokens
        row.strip_prefix, row.preserve_host = wanted.strip_prefix, wanted.preserve_host
        row.auth, row.read_to_end = wanted.auth, wanted.read_to_end
        row.request_headers, row.response_headers = _stored(wanted.request_headers), _stored(wanted.response_headers)
        row.prefer = list(wanted.prefer) or None
        row.service = service
        row.capture = None if wanted.capture is None else wanted.capture.model_dump(mode="json")
        if wanted.capture is not None:
            body_keys.ensure(self.session, self.editing.sealer)
        # A target that stays keeps its id, and with it its health and its place in figures.
        present = {} if is_new(row) else {(each.provider_id, each.model): each for each in row.targets}
        targets = []
        for position, each in enumerate(wanted.targets):
            provider = providers[each.provider]
            target = present.get((provider.id, each.model)) or Target(provider=provider, model=each.model)
            target.position, target.weight = position, each.weight
            targets.append(target)
        row.targets = targets

    def limits_naming(self, row: Route) -> ColumnElement[bool]:
        return LimitRule.route_id == row.id

    def refuse_deletion(self, row: Route) -> None:
        apps = self.session.scalars(
            select(App.name)
            .join(AppRoute, AppRoute.app_id == App.id)
            .where(AppRoute.route_id == row.id)
            .order_by(App.name)
        ).all()
        if apps:
            raise Conflict(
                f"the route {row.name!r} is in use by the app {joined(apps)}", fix="take it out of their `routes` first"
            )
        granted = self.session.scalars(
            select(App.name).join(IN_FORCE, IN_FORCE.c.app_id == App.id).where(IN_FORCE.c.route_id == row.id).distinct()
        ).all()
        if granted:
            raise Conflict(
                f"the route {row.name!r} was granted to the app {joined(sorted(granted))}",
                fix="revoke those requests under /api/v1/access-requests first",
            )

    def _providers(self, wanted: RouteDocument) -> dict[str, Provider]:
        """The providers of all targets by name, fit for this kind of route."""
        names = {each.provider for each in wanted.targets}
        found = {row.name: row for row in self.session.scalars(select(Provider).where(Provider.name.in_(names)))}
        subject = self._subject(wanted.name)
        wrong: list[problems.Problem] = []
        for place, each in enumerate(wanted.targets):
            provider = found.get(each.provider)
            if provider is None:
                wrong += problems.of_error(unknown(f"targets.{place}.provider", "provider", each.provider, subject))
                continue
            wrong += _unfit(place, each, Dialect(provider.dialect), http_route=wanted.match is not None)
        if wrong:
            raise problems.invalid(wrong, subject)
        return found

    def _refuse_shared_match(self, row: Route, wanted: RouteDocument) -> None:
        if wanted.match is None:
            return
        other = self.session.scalar(
            select(Route.name).where(
                Route.match_host.is_not_distinct_from(wanted.match.host),
                Route.match_path.is_not_distinct_from(wanted.match.path),
                Route.id != (0 if is_new(row) else row.id),
            )
        )
        if other is not None:
            raise problems.refuse(
                "match",
                f"claims the same as the route {other!r}",
                "give the two different hosts or paths",
                self._subject(wanted.name),
            )


def callable_by(team_id: int) -> ColumnElement[bool]:
    """Of routes: whether an app of the team may call it."""
    allowed = select(AppRoute.route_id).join(App, App.id == AppRoute.app_id).where(App.team_id == team_id)
    granted = select(IN_FORCE.c.route_id).join(App, App.id == IN_FORCE.c.app_id).where(App.team_id == team_id)
    all_allowed = select(App.id).where(App.team_id == team_id, App.all_routes).exists()
    return or_(Route.id.in_(allowed), Route.id.in_(granted), all_allowed)


def _rules(stored: dict[str, Any] | None) -> HeaderRulesDocument:
    return HeaderRulesDocument.model_construct(**(stored or {"set": {}, "add": {}, "remove": []}))


def _stored(rules: HeaderRulesDocument) -> dict[str, Any] | None:
    return None if rules == HeaderRulesDocument() else rules.model_dump(mode="json")


def _unfit(place: int, target: TargetDocument, dialect: Dialect, *, http_route: bool) -> list[problems.Problem]:
    """Why this target cannot stand on this kind of route."""
    path: problems.Path = ("targets", place)
    if dialect is Dialect.HTTP:
        if not http_route:
            return [
                problems.Problem(
                    ("match",), f"is missing: {target.provider!r} is a provider of dialect http", "add `match`"
                )
            ]
        if target.model is not None:
            return [problems.Problem((*path, "model"), "is not for HTTP routes", "remove it")]
        return []
    if http_route:
        return [
            problems.Problem(
                (*path, "provider"),
                f"is of dialect {dialect}, but a route with `match` is an HTTP route",
                "remove `match`, or name a provider of dialect http",
            )
        ]
    if target.model is None:
        return [problems.Problem((*path, "model"), "is missing", "name the model as the provider knows it")]
    return []
