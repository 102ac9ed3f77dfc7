"""Compile the configuration in SQL into the document that workers decode into their `Snapshot`.

One query a table, core rows only: 10,000 keys and 1,000 routes take a fraction of a second in the keeper's SQL thread.
"""

import logging
from collections import defaultdict
from typing import Any, Final

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from gateway.policy import codec
from gateway.policy.callers import CallerClaim
from gateway.policy.codec import (
    AppRow,
    AuthorityRow,
    CheckRow,
    CredentialRow,
    HeaderRulesRow,
    InterceptionRow,
    KeyRow,
    LimitRow,
    PriceRow,
    ProviderRow,
    ProxyRow,
    RouteRow,
    SnapshotDocument,
    TargetRow,
    TlsRow,
)
from gateway.policy.interception import InterceptionRule, RuleSources, plain
from gateway.policy.model import Dialect, Price
from gateway.store.access_grants import grants_by_app
from gateway.store.body_models import BodyKey
from gateway.store.capture_documents import capture_row
from gateway.store.documents import InterceptionDocument
from gateway.store.models import (
    App,
    AppRoute,
    CertificateAuthority,
    Credential,
    InterceptionCaller,
    Key,
    LimitRule,
    Meta,
    PriceOverride,
    Provider,
    ProviderSecret,
    Route,
    Target,
    Team,
)
from gateway.store.models import InterceptionRule as StoredRule
from gateway.store.playground_models import FIRST_KEY_ID, KEY_NAME, PlaygroundKey
from gateway.store.prices import Override, PriceBook
from gateway.store.sealing import Sealed, Sealer, SealingKeyError
from gateway.store.upstream_documents import DIRECT, PROXY_PASSWORD, TLS_KEY, HealthDocument

log: Final = logging.getLogger(__name__)

_SHIPPED_PRICES: Final = PriceBook()


def compile_snapshot(session: Session, sealer: Sealer, prices: PriceBook = _SHIPPED_PRICES) -> SnapshotDocument:
    """The whole configuration as a JSON-ready document (`codec.encode_snapshot`).

    The session must see one state throughout (`database.read_session`). A credential that cannot be opened is left out
    and logged: the rest of the gateway goes on. The document holds secrets in clear: it goes to workers only.
    """
    prices.refresh()
    return codec.document(
        generation(session),
        _providers(session, sealer),
        _routes(session, prices),
        _apps(session),
        _keys(session),
        _limits(session),
        _interception(session),
        _authority(session, sealer),
        _body_key(session),
    )


def generation(session: Session) -> int:
    """The number of the configuration's present state; grows with every change of it."""
    return session.execute(select(Meta.generation)).scalar_one()


def _providers(session: Session, sealer: Sealer) -> list[ProviderRow]:
    credentials: dict[int, list[CredentialRow]] = defaultdict(list)
    for row in session.execute(
        select(
            Credential.id, Credential.provider_id, Credential.name, Credential.sealing_key_id, Credential.sealed
        ).order_by(Credential.provider_id, Credential.position)
    ):
        try:
            secret = sealer.open(Sealed(row.sealing_key_id, row.sealed), row.provider_id, row.name)
        except SealingKeyError as error:
            log.error("credential left out", extra={"credential": row.id, "reason": str(error)})
            continue
        credentials[row.provider_id].append((row.id, row.name, secret))
    secrets = _provider_secrets(session, sealer)
    columns = Provider.__table__.c
    return [
        (
            row.id,
            row.name,
            row.dialect,
            row.base_url,
            credentials[row.id],
            row.zone,
            row.tags or [],
            _proxy(row.proxy, secrets[row.id]),
            _tls(row.tls, secrets[row.id]),
            _check(row.health),
        )
        for row in session.execute(select(*columns))
    ]


def _provider_secrets(session: Session, sealer: Sealer) -> dict[int, dict[str, str]]:
    """By provider and name."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for row in session.scalars(select(ProviderSecret)):
        try:
            found[row.provider_id][row.name] = sealer.open_row(row)
        except SealingKeyError as error:
            log.error("provider's secret left out", extra={"provider": row.provider_id, "reason": str(error)})
    return found


def _authority(session: Session, sealer: Sealer) -> AuthorityRow | None:
    row = session.scalars(select(CertificateAuthority)).one_or_none()
    if row is None:
        return None
    try:
        return (row.certificate, sealer.open_row(row))
    except SealingKeyError as error:
        log.error("certificate authority left out", extra={"reason": str(error)})
        return None


def _body_key(session: Session) -> str | None:
    public = session.scalar(select(BodyKey.public))
    return None if public is None else public.hex()


def _proxy(stored: dict[str, Any] | None, secrets: dict[str, str]) -> ProxyRow | None:
    if stored is None:
        return None
    url = stored["url"]
    return (None if url == DIRECT else url, stored.get("user"), secrets.get(PROXY_PASSWORD))


def _tls(stored: dict[str, Any] | None, secrets: dict[str, str]) -> TlsRow | None:
    if stored is None:
        return None
    cert, key = stored.get("cert"), secrets.get(TLS_KEY)
    return (stored.get("ca"), cert, key if cert else None, stored.get("server_name"), stored.get("verify", True))


def _check(stored: dict[str, Any] | None) -> CheckRow | None:
    if stored is None:
        return None
    check = HealthDocument.model_validate(stored)
    return (check.path, check.interval, check.timeout, check.healthy_after, check.unhealthy_after)


def _routes(session: Session, prices: PriceBook) -> list[RouteRow]:
    targets = _targets(session, prices)
    columns = Route.__table__.c
    rows = session.execute(select(*columns).order_by(columns.id))
    return [
        (
            row.id,
            row.name,
            row.strategy,
            row.retries,
            (row.connect_timeout_s, row.first_byte_timeout_s, row.idle_timeout_s, row.total_timeout_s),
            None if row.match_host is None and row.match_path is None else (row.match_host, row.match_path),
            row.max_output_tokens,
            row.strip_prefix,
            row.preserve_host,
            row.auth,
            row.read_to_end,
            _rules_row(row.request_headers, row.response_headers),
            row.prefer or [],
            capture_row(row.capture),
            targets[row.id],
        )
        for row in rows
    ]


def _rules_row(request: dict[str, Any] | None, response: dict[str, Any] | None) -> HeaderRulesRow | None:
    return None if request is None and response is None else (request, response)


def _targets(session: Session, prices: PriceBook) -> dict[int, list[TargetRow]]:
    """Targets by route, each with its price."""
    overrides = overrides_by_provider(session)
    targets: dict[int, list[TargetRow]] = defaultdict(list)
    for row in session.execute(
        select(
            Target.id,
            Target.route_id,
            Target.provider_id,
            Target.model,
            Target.weight,
            Provider.dialect,
            Provider.base_url,
        )
        .join(Provider, Provider.id == Target.provider_id)
        .order_by(Target.route_id, Target.position)
    ):
        price = prices.find(Dialect(row.dialect), row.base_url, row.model or "", overrides.get(row.provider_id, ()))
        priced = None if price is None else _price_row(price)
        targets[row.route_id].append((row.id, row.provider_id, row.model, row.weight, priced))
    return targets


def overrides_by_provider(session: Session) -> dict[int, list[Override]]:
    """Overrides by provider."""
    found: dict[int, list[Override]] = defaultdict(list)
    columns = PriceOverride.__table__.c
    for row in session.execute(select(*columns)):
        price = Price(
            input=row.input,
            output=row.output,
            cached_input=row.cached_input,
            cache_write=row.cache_write,
            reasoning=row.reasoning,
            per_request=row.per_request,
        )
        found[row.provider_id].append(Override(model=row.model, price=price))
    return found


def _price_row(price: Price) -> PriceRow:
    return (
        price.input, price.output, price.cached_input, price.cache_write, price.reasoning, price.per_request
    )  # fmt: skip


def _apps(session: Session) -> list[AppRow]:
    allowed: dict[int, list[str]] = defaultdict(list)
    for app_id, route in session.execute(
        select(AppRoute.app_id, Route.name).join(Route, Route.id == AppRoute.route_id).order_by(Route.name)
    ):
        allowed[app_id].append(route)
    for app_id, granted in grants_by_app(session).items():
        allowed[app_id] = sorted({*allowed[app_id], *(each.route for each in granted)})
    rows = session.execute(
        select(
            App.id, App.name, App.all_routes, App.team_id, Team.name.label("team"), App.cors, App.egress, App.sources
        )
        .join(Team, Team.id == App.team_id)
        .order_by(App.id)
    )
    return [
        (
            row.id,
            row.name,
            row.team_id,
            row.team,
            None if row.all_routes else allowed[row.id],
            row.cors,
            row.egress or [],
            row.sources or [],
        )
        for row in rows
    ]


def _keys(session: Session) -> list[KeyRow]:
    """A key within the overlap of a rotation stands there twice: with either text it is the same key."""
    keys: list[KeyRow] = []
    rows = session.execute(
        select(Key.digest, Key.id, Key.name, Key.app_id, Key.expires_at, Key.previous_digest, Key.previous_until)
    )
    for digest, id_, name, app_id, expires_at, previous, until in rows:
        keys.append((digest.hex(), id_, name, app_id, None if expires_at is None else expires_at.timestamp(), None))
        if previous is not None:
            ends = [each.timestamp() for each in (expires_at, until) if each is not None]
            keys.append((previous.hex(), id_, name, app_id, min(ends), None))
    keys += [
        (key.digest.hex(), FIRST_KEY_ID + key.id, KEY_NAME, key.app_id, key.expires_at.timestamp(), key.target)
        for key in session.scalars(select(PlaygroundKey))
    ]
    return keys


def _limits(session: Session) -> list[LimitRow]:
    """By id: a request takes its reservations in this order."""
    columns = LimitRule.__table__.c
    query: Select[tuple[object, ...]] = (
        select(*columns, Provider.name.label("target_provider"))
        .outerjoin(Provider, Provider.id == columns.target_provider_id)
        .order_by(columns.id)
    )
    return [_limit_row(row) for row in session.execute(query)]


def _limit_row(row: Row[tuple[object, ...]]) -> LimitRow:
    target = None
    if row.target_provider is not None:
        target = f"{row.target_provider}/{row.target_model}" if row.target_model else row.target_provider
    scope = (
        row.team_id, row.app_id, row.key_id, row.route_id, row.provider_id, row.credential_id, target, row.model
    )  # fmt: skip
    return (
        row.id, row.name, scope, row.metric, row.window, row.at_most, row.unpriced, row.when_unavailable
    )  # fmt: skip


def _interception(session: Session) -> list[InterceptionRow]:
    """In the order of the document, in which the agent tries them."""
    rows = session.execute(
        select(StoredRule.id, StoredRule.name, StoredRule.document, App.name.label("app"))
        .outerjoin(App, App.id == StoredRule.app_id)
        .order_by(StoredRule.id)
    ).all()
    callers: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for caller in session.execute(
        select(InterceptionCaller.rule_id, InterceptionCaller.document, App.name.label("app"))
        .outerjoin(App, App.id == InterceptionCaller.app_id)
        .order_by(InterceptionCaller.position)
    ):
        callers[caller.rule_id].append({**caller.document, "app": caller.app})
    return [_interception_row(row.name, row.document, row.app, callers[row.id]) for row in rows]


def _interception_row(
    name: str, stored: dict[str, Any], app: str | None, callers: list[dict[str, Any]]
) -> InterceptionRow:
    document = InterceptionDocument.model_validate({**stored, "name": name, "app": app, "callers": callers})
    destinations, sources = document.destinations, document.sources
    return plain(
        InterceptionRule(
            name=name,
            hosts=tuple(destinations.hosts),
            cidrs=tuple(destinations.cidrs),
            ports=tuple(destinations.ports),
            sources=RuleSources(everyone=True)
            if sources is None
            else RuleSources(
                cidrs=tuple(sources.cidrs),
                users=tuple(sources.users),
                cgroups=tuple(sources.cgroups),
                local=sources.local,
            ),
            mode=document.mode,
            on_failure=document.on_failure,
            tls=document.tls,
            refused_certificate=document.refused_certificate,
            source_address=document.source_address,
            unmatched=document.unmatched,
            credential=document.credential,
            app=app,
            callers=tuple(
                CallerClaim(**{**each.model_dump(), "app": each.app if each.app is not None else document.app})
                for each in document.callers
            ),
        )
    )
