"""The nouns of the gateway as frozen values: what a `Snapshot` is made of.

Money is integer micro-USD, tokens are tokens, times are seconds (floats, Unix epoch where absolute).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from gateway.policy.capture import Capture
from gateway.policy.cors import Cors
from gateway.policy.header_rules import NO_RULES, HeaderRules

TeamId = NewType("TeamId", int)
AppId = NewType("AppId", int)
KeyId = NewType("KeyId", int)
ProviderId = NewType("ProviderId", int)
CredentialId = NewType("CredentialId", int)
RouteId = NewType("RouteId", int)
TargetId = NewType("TargetId", int)
LimitId = NewType("LimitId", int)


class Dialect(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    MISTRAL = "mistral"
    OLLAMA = "ollama"
    HTTP = "http"


class Strategy(StrEnum):
    ORDERED = "ordered"
    WEIGHTED = "weighted"
    ROUND_ROBIN = "round-robin"
    LEAST_BUSY = "least-busy"
    FASTEST = "fastest"
    CHEAPEST = "cheapest"


class Metric(StrEnum):
    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOTAL_TOKENS = "total_tokens"
    COST_USD = "cost_usd"
    CONCURRENT_REQUESTS = "concurrent_requests"


class Window(StrEnum):
    """Calendar windows in UTC; weeks begin on Monday (ISO 8601)."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    LIFETIME = "lifetime"


class Auth(StrEnum):
    """How an HTTP route identifies its callers."""

    KEY = "key"
    SOURCE = "source"
    NONE = "none"


class WhenUnknown(StrEnum):
    """What a limit does where it cannot judge: no price known, or the authority away."""

    REFUSE = "refuse"
    ADMIT = "admit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Micro-USD per million tokens; `per_request` in micro-USD a request. None = charged as its parent kind
    (`cached_input` and `cache_write` as `input`, `reasoning` as `output`)."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    per_request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    id: CredentialId
    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy between us and a provider. `url` None: none, whatever the environment says."""

    url: str | None
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    """How a provider is spoken to over TLS, where that is not the usual way. PEM texts."""

    ca: str | None = None
    """In place of the system's authorities."""
    cert: str | None = None
    key: str | None = field(default=None, repr=False)
    server_name: str | None = None
    """For SNI and the certificate's name, in place of the base URL's host."""
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How a provider is asked, unasked by callers, whether it is well."""

    path: str
    interval_s: float = 10.0
    timeout_s: float = 2.0
    healthy_after: int = 2
    unhealthy_after: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    id: ProviderId
    name: str
    dialect: Dialect
    base_url: str
    """As configured; `dataplane` cuts it into scheme, host, port and path prefix."""
    credentials: tuple[Credential, ...] = ()
    zone: str | None = None
    tags: frozenset[str] = frozenset()
    proxy: Proxy | None = None
    """None = as the environment says."""
    tls: UpstreamTls | None = None
    check: HealthCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One provider and model (or, for an HTTP provider, one backend) behind a route."""

    id: TargetId
    provider: Provider
    model: str | None
    """The name that the provider knows; None on HTTP routes."""
    weight: int = 1
    price: Price | None = None
    """None = unknown: the cost of its answers is null, never 0."""
    name: str = field(init=False)
    """`provider/model`, or the provider alone on HTTP routes."""

    def __post_init__(self) -> None:
        name = f"{self.provider.name}/{self.model}" if self.model else self.provider.name
        object.__setattr__(self, "name", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    connect_s: float = 5.0
    first_byte_s: float = 120.0
    idle_s: float = 120.0
    total_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What an HTTP route claims: an exact host (lower case, no port), a path prefix, or both."""

    host: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    id: RouteId
    name: str
    strategy: Strategy
    targets: tuple[Target, ...]
    retries: int = 1
    timeouts: Timeouts = Timeouts()
    match: Match | None = None
    max_output_tokens: int = 4096
    """Reserved for an answer where the request names no bound of its own."""
    strip_prefix: bool = False
    preserve_host: bool = False
    auth: Auth = Auth.KEY
    prefer: tuple[str, ...] = ()
    """Tags of providers: their targets come first, in this order; the others are fallback."""
    read_to_end: bool = False
    """When the client leaves: False cancels the upstream at once, True reads its answer to the end (and pays it)."""
    request_headers: HeaderRules = NO_RULES
    """Of HTTP routes, as are the next: changes to what goes upstream, and to what comes back."""
    response_headers: HeaderRules = NO_RULES
    capture: Capture | None = None
    """What is recorded of bodies; None = nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    id: AppId
    name: str
    team_id: TeamId
    team: str
    routes: frozenset[str] | None
    """Names of the routes it may call; None = all."""
    cors: Cors | None = None
    """Web pages that may use its keys."""
    egress: tuple[str, ...] = ()
    """Where it may go through the forward proxy (`policy.egress`), beside the hosts of its routes."""
    sources: tuple[str, ...] = ()
    """Networks whose callers are this app's where they show no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    id: KeyId
    name: str
    app: App
    expires_at_s: float | None = None
    only_target: str | None = None
    """Name of the target that calls with it go to; None = where the route sends them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whom a limit counts: every part that is given must fit; an empty scope is the whole gateway."""

    team_id: TeamId | None = None
    app_id: AppId | None = None
    key_id: KeyId | None = None
    route_id: RouteId | None = None
    provider_id: ProviderId | None = None
    credential_id: CredentialId | None = None
    target: str | None = None
    """`provider/model`"""
    model: str | None = None
    """The model name that the target's provider knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority:
    """Signs leaf certificates for the hosts whose intercepted TLS is terminated, and can sign for no others
    (`policy.authority`). PEM texts."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    id: LimitId
    name: str
    scope: Scope
    metric: Metric
    window: Window
    at_most: int
    """In the metric's unit: requests, tokens, slots, or micro-USD."""
    unpriced: WhenUnknown = WhenUnknown.REFUSE
    when_unavailable: WhenUnknown = WhenUnknown.REFUSE
