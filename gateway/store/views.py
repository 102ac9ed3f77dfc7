"""What the configuration looks like from outside: output shapes without defaults, and never a secret."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gateway.policy.interception import (
    Mode,
    OnFailure,
    RefusedCertificate,
    SourceAddress,
    Tls,
    Unmatched,
    WhoseCredential,
)
from gateway.policy.model import Auth, Dialect, Metric, Strategy, WhenUnknown, Window
from gateway.store.service_documents import Access


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class EntityView(View):
    id: int
    name: str
    version: int
    created_at: datetime
    updated_at: datetime


class CredentialView(View):
    id: int
    name: str
    last_four: str
    """The end of the secret; empty where it is too short to show any of it."""


class ProxyView(View):
    url: str
    """`none`: no proxy, whatever the environment says."""
    user: str | None
    has_password: bool


class UpstreamTlsView(View):
    ca: str | None
    cert: str | None
    has_key: bool
    server_name: str | None
    verify: bool


class HealthView(View):
    """Seconds."""

    path: str
    interval: float
    timeout: float
    healthy_after: int
    unhealthy_after: int


class ProviderView(EntityView):
    dialect: Dialect
    base_url: str
    credentials: list[CredentialView]
    zone: str | None
    tags: list[str]
    proxy: ProxyView | None
    """null: as the environment says."""
    tls: UpstreamTlsView | None
    health: HealthView | None


class TargetView(View):
    id: int
    provider: str
    model: str | None
    weight: int


class TimeoutView(View):
    """Seconds."""

    connect: float
    first_byte: float
    idle: float
    total: float


class MatchView(View):
    host: str | None
    path: str | None


class HeaderRulesView(View):
    set: dict[str, str]
    add: dict[str, str]
    remove: list[str]


class CorsView(View):
    origins: list[str]
    methods: list[str]
    headers: list[str]
    expose: list[str]
    credentials: bool
    max_age: int
    """Seconds."""


class ServiceView(View):
    title: str | None
    description: str | None
    owner: str | None
    documentation: str | None
    access: Access
    teams: list[str] | None
    """null: all. Team roles see no other team here."""


class CaptureView(View):
    request: bool
    response: bool
    sample: float
    max_bytes: int
    keep: str
    """Whole days, as `7d`."""
    redact: list[str]
    visible_to_team: bool


class RouteView(EntityView):
    strategy: Strategy
    targets: list[TargetView]
    retries: int
    timeout: TimeoutView
    match: MatchView | None
    max_output_tokens: int
    strip_prefix: bool
    preserve_host: bool
    auth: Auth
    read_to_end: bool
    request_headers: HeaderRulesView
    response_headers: HeaderRulesView
    prefer: list[str]
    service: ServiceView
    capture: CaptureView | None


class TeamView(EntityView):
    apps: list[str]


class GrantView(View):
    route: str
    expires_at: datetime | None
    """null: never."""
    request: int


class AppView(EntityView):
    team: str
    routes: Literal["*"] | list[str]
    granted: list[GrantView]
    """What it may call beside them, by requests for access."""
    cors: CorsView | None
    egress: list[str]
    sources: list[str]


class KeyView(EntityView):
    app: str
    team: str
    prefix: str
    """How the key begins; empty where only its digest was ever known."""
    expires_at: datetime | None
    previous_until: datetime | None
    """Until when the text before the last rotation is good, too; null: it is not."""


class KeyCreated(KeyView):
    key: str | None
    """The key's text, shown this once; null where the caller chose it."""


class PriceView(EntityView):
    """`name` is `provider/model`. Micro-USD per million tokens; `per_request` micro-USD a request."""

    provider: str
    model: str
    input: int
    output: int
    cached_input: int | None
    cache_write: int | None
    reasoning: int | None
    per_request: int


class ScopeView(View):
    team: str | None
    app: str | None
    key: str | None
    """`app/name`"""
    route: str | None
    provider: str | None
    credential: str | None
    """`provider/name`"""
    target: str | None
    """`provider/model`"""
    model: str | None


class LimitView(EntityView):
    scope: ScopeView
    metric: Metric
    window: Window | None
    at_most: int | float
    """In the metric's unit; cost in USD."""
    unpriced: WhenUnknown
    when_unavailable: WhenUnknown


class DestinationsView(View):
    hosts: list[str]
    cidrs: list[str]
    ports: list[int]


class SourcesView(View):
    cidrs: list[str]
    users: list[str]
    cgroups: list[str]
    local: bool


class CallerView(View):
    executable: str | None
    sha256: str | None
    user: str | None
    unit: str | None
    container: str | None
    image: str | None
    label: str | None
    cgroup: str | None
    app: str | None


class InterceptionView(EntityView):
    destinations: DestinationsView
    sources: SourcesView | None
    mode: Mode
    on_failure: OnFailure
    tls: Tls
    refused_certificate: RefusedCertificate
    source_address: SourceAddress
    unmatched: Unmatched
    credential: WhoseCredential
    app: str | None
    callers: list[CallerView]
