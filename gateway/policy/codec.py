"""A snapshot's JSON document, as the keeper sends it and a worker reads it.

Rows are positional lists in the order of the `*Row` types below: ten thousand keys decode in a fraction of the time
that objects take. The two ends are of one release (the supervisor starts both); `FORMAT` tells when they are not.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import orjson

from gateway.policy.capture import Capture
from gateway.policy.cors import Cors, CorsUnion
from gateway.policy.egress import Sources
from gateway.policy.header_rules import NO_RULES, HeaderRules, header_rules
from gateway.policy.interception import rule_of
from gateway.policy.model import (
    App,
    AppId,
    Auth,
    CertificateAuthority,
    Credential,
    CredentialId,
    Dialect,
    HealthCheck,
    Key,
    KeyId,
    Limit,
    LimitId,
    Match,
    Metric,
    Price,
    Provider,
    ProviderId,
    Proxy,
    Route,
    RouteId,
    Scope,
    Strategy,
    Target,
    TargetId,
    TeamId,
    Timeouts,
    UpstreamTls,
    WhenUnknown,
    Window,
)
from gateway.policy.snapshot import Snapshot

FORMAT: Final = 5

CredentialRow: TypeAlias = tuple[int, str, str]
"""id, name, secret."""
ProxyRow: TypeAlias = tuple[str | None, str | None, str | None]
"""URL (None = direct), user, password."""
TlsRow: TypeAlias = tuple[str | None, str | None, str | None, str | None, bool]
"""CA, certificate, key, server name, verify."""
CheckRow: TypeAlias = tuple[str, float, float, int, int]
"""path, interval, timeout, healthy after, unhealthy after."""
ProviderRow: TypeAlias = tuple[
    int, str, str, str, list[CredentialRow], str | None, list[str], ProxyRow | None, TlsRow | None, CheckRow | None
]
"""id, name, dialect, base_url, credentials in order, zone, tags, proxy, TLS, health check."""
PriceRow: TypeAlias = tuple[int, int, int | None, int | None, int | None, int]
"""input, output, cached_input, cache_write, reasoning, per_request."""
TargetRow: TypeAlias = tuple[int, int, str | None, int, PriceRow | None]
"""id, provider's id, model, weight, price."""
TimeoutsRow: TypeAlias = tuple[float, float, float, float]
"""connect, first byte, idle, total; seconds."""
HeaderRulesRow: TypeAlias = tuple[dict[str, Any] | None, dict[str, Any] | None]
"""Of requests and of answers: `set`, `add`, `remove`."""
RouteRow: TypeAlias = tuple[
    int,
    str,
    str,
    int,
    TimeoutsRow,
    tuple[str | None, str | None] | None,
    int,
    bool,
    bool,
    str,
    bool,
    HeaderRulesRow | None,
    list[str],
    dict[str, Any] | None,
    list[TargetRow],
]
"""id, name, strategy, retries, timeouts, (host, path) to match, max_output_tokens, strip_prefix, preserve_host, auth,
read_to_end, header rules, preferred tags, fields of `Capture`, targets in order."""
AppRow: TypeAlias = tuple[int, str, int, str, list[str] | None, dict[str, Any] | None, list[str], list[str]]
"""id, name, team's id, team's name, names of routes (None = all), cross-origin rules, egress, source networks."""
KeyRow: TypeAlias = tuple[str, int, str, int, float | None, str | None]
"""SHA-256 in hex, id, name, app's id, expiry in Unix seconds, name of its only target."""
ScopeRow: TypeAlias = tuple[
    int | None, int | None, int | None, int | None, int | None, int | None, str | None, str | None
]
"""team, app, key, route, provider, credential (ids), target's name, model."""
AuthorityRow: TypeAlias = tuple[str, str]
"""certificate, key."""
LimitRow: TypeAlias = tuple[int, str, ScopeRow, str, str, int, str, str]
"""id, name, scope, metric, window, at_most, unpriced, when_unavailable."""

InterceptionRow: TypeAlias = dict[str, Any]
"""As `interception.plain` writes it: there are few."""

SnapshotDocument: TypeAlias = dict[str, Any]


def document(
    generation: int,
    providers: list[ProviderRow],
    routes: list[RouteRow],
    apps: list[AppRow],
    keys: list[KeyRow],
    limits: list[LimitRow],
    interception: list[InterceptionRow],
    authority: AuthorityRow | None,
    body_key: str | None,
) -> SnapshotDocument:
    """The JSON-ready document of these rows."""
    return {
        "format": FORMAT,
        "generation": generation,
        "providers": providers,
        "routes": routes,
        "apps": apps,
        "keys": keys,
        "limits": limits,
        "interception": interception,
        "authority": authority,
        "body_key": body_key,
    }


def encode_snapshot(wanted: SnapshotDocument) -> bytes:
    return orjson.dumps(wanted)


def decode_snapshot(encoded: bytes) -> Snapshot:
    """Raises ValueError on anything that is not a document of this format."""
    read = orjson.loads(encoded)
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise ValueError(f"not a snapshot of format {FORMAT}: restart keeper and workers of one release")
    providers = {row[0]: _provider(row) for row in read["providers"]}
    apps = {row[0]: _app(row) for row in read["apps"]}
    return Snapshot(
        generation=read["generation"],
        keys={
            bytes.fromhex(digest): Key(
                id=KeyId(id_), name=name, app=apps[app_id], expires_at_s=expires_at_s, only_target=only_target
            )
            for digest, id_, name, app_id, expires_at_s, only_target in read["keys"]
        },
        routes={row[1]: _route(row, providers) for row in read["routes"]},
        apps={app.name: app for app in apps.values()},
        providers={provider.name: provider for provider in providers.values()},
        limits=tuple(_limit(row) for row in read["limits"]),
        cors=CorsUnion(tuple((app.cors, app.routes) for app in apps.values() if app.cors is not None)),
        sources=Sources.of((network, app.name) for app in apps.values() for network in app.sources),
        interception=tuple(rule_of(row) for row in read["interception"]),
        authority=None if read["authority"] is None else _authority(read["authority"]),
        body_key=None if read["body_key"] is None else bytes.fromhex(read["body_key"]),
    )


def _provider(row: ProviderRow) -> Provider:
    id_, name, dialect, base_url, credentials, zone, tags, proxy, tls, check = row
    return Provider(
        id=ProviderId(id_),
        name=name,
        dialect=Dialect(dialect),
        base_url=base_url,
        credentials=tuple(
            Credential(id=CredentialId(each), name=called, secret=secret) for each, called, secret in credentials
        ),
        zone=zone,
        tags=frozenset(tags),
        proxy=None if proxy is None else _proxy(proxy),
        tls=None if tls is None else _tls(tls),
        check=None if check is None else _check(check),
    )


def _proxy(row: ProxyRow) -> Proxy:
    url, user, password = row
    return Proxy(url=url, user=user, password=password)


def _tls(row: TlsRow) -> UpstreamTls:
    ca, cert, key, server_name, verify = row
    return UpstreamTls(ca=ca, cert=cert, key=key, server_name=server_name, verify=verify)


def _check(row: CheckRow) -> HealthCheck:
    path, interval_s, timeout_s, healthy_after, unhealthy_after = row
    return HealthCheck(
        path=path,
        interval_s=interval_s,
        timeout_s=timeout_s,
        healthy_after=healthy_after,
        unhealthy_after=unhealthy_after,
    )


def _authority(row: AuthorityRow) -> CertificateAuthority:
    certificate, key = row
    return CertificateAuthority(certificate=certificate, key=key)


def _app(row: AppRow) -> App:
    id_, name, team_id, team, routes, cors, egress, sources = row
    allowed = None if routes is None else frozenset(routes)
    return App(
        id=AppId(id_),
        name=name,
        team_id=TeamId(team_id),
        team=team,
        routes=allowed,
        cors=None if cors is None else _cors(cors),
        egress=tuple(egress),
        sources=tuple(sources),
    )


def _cors(rules: Mapping[str, Any]) -> Cors:
    return Cors(
        origins=frozenset(rules["origins"]),
        methods=frozenset(rules["methods"]),
        headers=frozenset(rules["headers"]),
        expose=tuple(rules["expose"]),
        credentials=rules["credentials"],
        max_age_s=rules["max_age"],
    )


def _rules(rules: Mapping[str, Any] | None) -> HeaderRules:
    return NO_RULES if rules is None else header_rules(rules["set"], rules["add"], rules["remove"])


def _route(row: RouteRow, providers: Mapping[int, Provider]) -> Route:
    (
        id_, name, strategy, retries, timeouts, match, max_output_tokens, strip_prefix, preserve_host, auth, to_end,
        rules, prefer, capture, ts,
    ) = row  # fmt: skip
    request_rules, response_rules = rules or (None, None)
    connect_s, first_byte_s, idle_s, total_s = timeouts
    return Route(
        id=RouteId(id_),
        name=name,
        strategy=Strategy(strategy),
        targets=tuple(_target(target, providers) for target in ts),
        retries=retries,
        timeouts=Timeouts(connect_s=connect_s, first_byte_s=first_byte_s, idle_s=idle_s, total_s=total_s),
        match=None if match is None else Match(host=match[0], path=match[1]),
        max_output_tokens=max_output_tokens,
        strip_prefix=strip_prefix,
        preserve_host=preserve_host,
        auth=Auth(auth),
        read_to_end=to_end,
        request_headers=_rules(request_rules),
        response_headers=_rules(response_rules),
        prefer=tuple(prefer),
        capture=None if capture is None else Capture(**{**capture, "redact": tuple(capture["redact"])}),
    )


def _target(row: TargetRow, providers: Mapping[int, Provider]) -> Target:
    id_, provider_id, model, weight, price = row
    return Target(
        id=TargetId(id_),
        provider=providers[provider_id],
        model=model,
        weight=weight,
        price=None if price is None else _price(price),
    )


def _price(row: PriceRow) -> Price:
    input_, output, cached_input, cache_write, reasoning, per_request = row
    return Price(
        input=input_,
        output=output,
        cached_input=cached_input,
        cache_write=cache_write,
        reasoning=reasoning,
        per_request=per_request,
    )


def _limit(row: LimitRow) -> Limit:
    id_, name, scope, metric, window, at_most, unpriced, when_unavailable = row
    team_id, app_id, key_id, route_id, provider_id, credential_id, target, model = scope
    return Limit(
        id=LimitId(id_),
        name=name,
        scope=Scope(
            team_id=None if team_id is None else TeamId(team_id),
            app_id=None if app_id is None else AppId(app_id),
            key_id=None if key_id is None else KeyId(key_id),
            route_id=None if route_id is None else RouteId(route_id),
            provider_id=None if provider_id is None else ProviderId(provider_id),
            credential_id=None if credential_id is None else CredentialId(credential_id),
            target=target,
            model=model,
        ),
        metric=Metric(metric),
        window=Window(window),
        at_most=at_most,
        unpriced=WhenUnknown(unpriced),
        when_unavailable=WhenUnknown(when_unavailable),
    )
