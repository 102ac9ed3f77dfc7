"""The shape of sluicegate.yaml (contract.md), which is the shape of the REST API's bodies too.

A document says what is wanted; `config` and `apply` bring it into SQL. Within the YAML, apps stand in teams and keys in
apps; by REST each comes alone and names its parent (`AppEntry`, `KeyEntry`). What only SQL can tell (does the provider
exist?) is checked in `config`.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.policy.interception import (
    Mode,
    OnFailure,
    RefusedCertificate,
    SourceAddress,
    Tls,
    Unmatched,
    WhoseCredential,
)
from gateway.policy.model import Auth, Dialect, Metric, Strategy, Timeouts, WhenUnknown, Window
from gateway.store.caller_documents import CallerDocument
from gateway.store.capture_documents import CaptureDocument
from gateway.store.document import Document
from gateway.store.fields import (
    GREATEST_AMOUNT,
    Amount,
    BaseUrl,
    Cidr,
    Duration,
    Host,
    KeyValue,
    ModelName,
    Name,
    PartName,
    PathPrefix,
    Secret,
    User,
    refused,
)
from gateway.store.header_documents import MOST_ENTRIES, CorsDocument, EgressEntry, HeaderRulesDocument
from gateway.store.service_documents import ServiceDocument
from gateway.store.upstream_documents import HealthDocument, ProxyField, UpstreamTlsDocument

MICRO = Decimal(1_000_000)


def _first_repeated(names: list[str]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


def _none_as_empty(value: Any) -> Any:
    """`limits:` with nothing behind it is YAML's null."""
    return [] if value is None else value


class _OrNull:
    """Says in the JSON schema that null is taken too."""

    @staticmethod
    def __get_pydantic_json_schema__(schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "null"}]}


# ---- providers


class CredentialDocument(Document):
    name: PartName
    value: Secret | None = None
    """The secret. Left out: the one already stored under this name stays."""


class ProviderDocument(Document):
    name: PartName
    dialect: Dialect
    base_url: BaseUrl
    credentials: list[CredentialDocument] = Field(default_factory=list, max_length=1000)
    zone: PartName | None = None
    """Where it is: a worker of this zone (`SLUICEGATE_ZONE`) goes to it first."""
    tags: list[PartName] = Field(default_factory=list, max_length=64)
    """What a route's `prefer` may name."""
    proxy: ProxyField | None = None
    """Left out: as `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say."""
    tls: UpstreamTlsDocument | None = None
    health: HealthDocument | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "ProviderDocument":
        if (name := _first_repeated([each.name for each in self.credentials])) is not None:
            raise refused(f"two credentials are named {name!r}", "give each its own name", "credentials")
        if (tag := _first_repeated(self.tags)) is not None:
            raise refused(f"{tag!r} stands twice", "remove one", "tags")
        if self.tls is not None and not self.base_url.lower().startswith("https:"):
            raise refused("is for https", "remove it, or write the base URL with https", "tls")
        return self


# ---- routes


class TargetDocument(Document):
    provider: PartName
    model: ModelName | None = None
    """As the provider knows it; left out on HTTP routes."""
    weight: int = Field(default=1, ge=0, le=1_000_000)


class TimeoutDocument(Document):
    connect: Duration = Timeouts().connect_s
    first_byte: Duration = Timeouts().first_byte_s
    idle: Duration = Timeouts().idle_s
    total: Duration = Timeouts().total_s


class MatchDocument(Document):
    host: Host | None = None
    path: PathPrefix | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> "MatchDocument":
        if self.host is None and self.path is None:
            raise refused("claims nothing", "give `host`, `path` or both")
        return self


class RouteDocument(Document):
    name: Name
    strategy: Strategy = Strategy.ORDERED
    targets: list[TargetDocument] = Field(min_length=1, max_length=1000)
    retries: int = Field(default=1, ge=0, le=100)
    """Attempts after the first, over all targets."""
    timeout: TimeoutDocument = TimeoutDocument()
    match: MatchDocument | None = None
    """What an HTTP route claims; its targets are then providers of dialect http."""
    max_output_tokens: int = Field(default=4096, ge=1, le=100_000_000)
    strip_prefix: bool = False
    preserve_host: bool = False
    auth: Auth = Auth.KEY
    read_to_end: bool = False
    """When the client leaves, read the answer to its end instead of cancelling the upstream."""
    request_headers: HeaderRulesDocument = HeaderRulesDocument()
    """Changes to what goes upstream; HTTP routes only, as is the next."""
    response_headers: HeaderRulesDocument = HeaderRulesDocument()
    prefer: list[PartName] = Field(default_factory=list, max_length=64)
    """Tags of providers: their targets come first, in this order; the others are fallback."""
    service: ServiceDocument = ServiceDocument()
    """What app teams read of it in the catalogue."""
    capture: CaptureDocument | None = None
    """Bodies of requests and answers are recorded, redacted and sealed; left out: they are not."""

    @model_validator(mode="after")
    def _consistent(self) -> "RouteDocument":
        names = [f"{each.provider}/{each.model}" if each.model else each.provider for each in self.targets]
        if (name := _first_repeated(names)) is not None:
            raise refused(f"the target {name!r} stands twice", "remove one, or give it more weight", "targets")
        if self.match is None:
            for field in ("strip_prefix", "preserve_host"):
                if getattr(self, field):
                    raise refused("is for HTTP routes", "add `match`, or remove it", field)
            for field in ("request_headers", "response_headers"):
                if getattr(self, field) != HeaderRulesDocument():
                    raise refused("is for HTTP routes", "add `match`, or remove it", field)
            if self.auth is not Auth.KEY:
                raise refused("is for HTTP routes", "add `match`, or remove it", "auth")
        elif self.strip_prefix and self.match.path is None:
            raise refused("there is no path prefix to strip", "add `match.path`, or remove it", "strip_prefix")
        if (tag := _first_repeated(self.prefer)) is not None:
            raise refused(f"{tag!r} stands twice", "remove one", "prefer")
        if all(each.weight == 0 for each in self.targets):
            raise refused("no target has a weight above 0", "raise one of the weights", "targets")
        return self


# ---- teams, apps, keys


def no_number(value: Any) -> Any:
    """Pydantic would take a number for seconds or milliseconds since 1970, as its size suggests."""
    if isinstance(value, int | float) or (isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+", value)):
        raise refused("is a number", "write a time, e.g. 2027-01-31T00:00:00Z")
    return value


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise refused("has no time zone", "write e.g. 2027-01-31T00:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise refused("is too far away", "write e.g. 2027-01-31T00:00:00Z") from None


Moment = Annotated[datetime, BeforeValidator(no_number), AfterValidator(_aware)]


class KeyDocument(Document):
    name: PartName
    value: KeyValue | None = None
    """The key's text or `sha256:HEX`. Left out: an existing key of this name stays, else one is made and shown once."""
    expires_at: Moment | None = None


def _lone_star(value: Any) -> Any:
    return "*" if value == ["*"] else value


AllowedRoutes = Annotated[
    Annotated[Literal["*"], Tag("all")] | Annotated[list[Name], Tag("names")],
    Discriminator(lambda value: "all" if isinstance(value, str) else "names"),
    BeforeValidator(_lone_star),
]


class AppFields(Document):
    name: PartName
    routes: AllowedRoutes = Field(default_factory=list)
    """Names of the routes that it may call, or `*` for all."""
    cors: CorsDocument | None = None
    """Web pages that may use its keys; none without it."""
    egress: list[EgressEntry] = Field(default_factory=list, max_length=MOST_ENTRIES)
    """Where it may go through the forward proxy, beside the hosts of its routes."""
    sources: list[Cidr] = Field(default_factory=list, max_length=MOST_ENTRIES)
    """Networks from which callers that show no key are this app's: on the forward proxy, and on routes with
    `auth: source`."""


class AppDocument(AppFields):
    keys: Annotated[list[KeyDocument], BeforeValidator(_none_as_empty), _OrNull] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_once(self) -> "AppDocument":
        if (name := _first_repeated([each.name for each in self.keys])) is not None:
            raise refused(f"two keys are named {name!r}", "give each its own name", "keys")
        return self


class TeamDocument(Document):
    name: PartName
    apps: Annotated[list[AppDocument], BeforeValidator(_none_as_empty), _OrNull] = Field(default_factory=list)


class TeamEntry(Document):
    """A team by itself, as the REST API takes it."""

    name: PartName


class AppEntry(AppFields):
    """An app by itself, as the REST API takes it."""

    team: PartName


class KeyEntry(KeyDocument):
    """A key by itself, as the REST API takes it."""

    app: PartName


# ---- prices


class PriceDocument(Document):
    """Micro-USD per million tokens; `per_request` micro-USD a request."""

    provider: PartName
    model: ModelName = "*"
    """A model's name or a shell pattern; the most specific that fits wins."""
    input: int = Field(ge=0, le=GREATEST_AMOUNT)
    output: int = Field(ge=0, le=GREATEST_AMOUNT)
    cached_input: int | None = Field(default=None, ge=0, le=GREATEST_AMOUNT)
    cache_write: int | None = Field(default=None, ge=0, le=GREATEST_AMOUNT)
    reasoning: int | None = Field(default=None, ge=0, le=GREATEST_AMOUNT)
    per_request: int = Field(default=0, ge=0, le=GREATEST_AMOUNT)


# ---- limits


class ScopeDocument(Document):
    """Whom a limit counts; empty = the whole gateway."""

    team: PartName | None = None
    app: PartName | None = None
    key: Name | None = None
    """`app/name`, or the bare name where one app alone has a key so named."""
    route: Name | None = None
    provider: PartName | None = None
    credential: Name | None = None
    """`provider/name`, or the bare name where one provider alone has a credential so named."""
    target: ModelName | None = None
    """`provider/model`; of an HTTP provider its name alone."""
    model: ModelName | None = None


class LimitDocument(Document):
    name: PartName
    scope: ScopeDocument = ScopeDocument()
    metric: Metric
    window: Window | None = None
    """Calendar window, UTC; none with `concurrent_requests`."""
    at_most: Amount
    """Requests, tokens, slots, or USD (a decimal number, to the millionth)."""
    unpriced: WhenUnknown = WhenUnknown.REFUSE
    when_unavailable: WhenUnknown = WhenUnknown.REFUSE

    @property
    def amount(self) -> int:
        """`at_most` in the metric's integer unit: micro-USD where it is a cost."""
        return int(self.at_most * MICRO) if self.metric is Metric.COST_USD else int(self.at_most)

    @model_validator(mode="after")
    def _consistent(self) -> "LimitDocument":
        if self.metric is Metric.CONCURRENT_REQUESTS:
            if self.window is not None:
                raise refused("concurrent_requests are counted now, not in a window", "remove `window`", "window")
        elif self.window is None:
            raise refused("is missing", f"add one of {', '.join(Window)}", "window")
        units_each = MICRO if self.metric is Metric.COST_USD else Decimal(1)
        if not 0 < self.at_most <= GREATEST_AMOUNT / units_each:  # first: what is much longer cannot be reckoned with
            raise refused("is not above 0 and up to 10^15 units", "use a number in between", "at_most")
        if self.at_most * units_each % 1:
            if self.metric is Metric.COST_USD:
                raise refused("is finer than a micro-USD", "use at most six decimals", "at_most")
            raise refused(f"{self.metric} are counted in whole numbers", "use an integer", "at_most")
        return self


# ---- interception


Port = Annotated[int, Field(ge=1, le=65535)]


class DestinationsDocument(Document):
    hosts: list[Host] = Field(default_factory=list)
    cidrs: list[Cidr] = Field(default_factory=list)
    ports: list[Port] = Field(default_factory=lambda: [80, 443], min_length=1)

    @model_validator(mode="after")
    def _one_at_least(self) -> "DestinationsDocument":
        if not self.hosts and not self.cidrs:
            raise refused("names no destination", "give `hosts`, `cidrs` or both")
        return self


class SourcesDocument(Document):
    """A connection that matches any listed item."""

    cidrs: list[Cidr] = Field(default_factory=list)
    users: list[User] = Field(default_factory=list)
    cgroups: list[ModelName] = Field(default_factory=list)
    local: bool = False


class InterceptionDocument(Document):
    name: PartName
    destinations: DestinationsDocument
    sources: SourcesDocument | None = None
    """Left out: everyone."""
    mode: Mode = Mode.GOVERN
    on_failure: OnFailure = OnFailure.OPEN
    tls: Tls = Tls.PASSTHROUGH
    refused_certificate: RefusedCertificate = RefusedCertificate.FAIL
    """Of a client that does not accept our certificate (`tls: terminate`): let it fail, or pass its later connections
    to the same host on untouched."""
    source_address: SourceAddress = SourceAddress.GATEWAY
    unmatched: Unmatched = Unmatched.SPLICE
    credential: WhoseCredential = WhoseCredential.PROVIDER
    app: PartName | None = None
    """Whom to charge when the caller shows no key of ours."""
    callers: list[CallerDocument] = Field(default_factory=list, max_length=1000)
    """If any: only these need no key of ours. The first that fits says who is charged."""

    @model_validator(mode="after")
    def _callers_have_apps(self) -> "InterceptionDocument":
        place = next((place for place, each in enumerate(self.callers) if each.app is None), None)
        if place is not None and self.app is None:
            raise refused("has no app to charge", "give it an `app`, or the rule", f"callers.{place}")
        return self


# ---- the whole file


class GatewayDocument(Document):
    """sluicegate.yaml: the wanted state of a gateway."""

    providers: Annotated[list[ProviderDocument], BeforeValidator(_none_as_empty), _OrNull] = Field(default_factory=list)
    routes: Annotated[list[RouteDocument], BeforeValidator(_none_as_empty), _OrNull] = Field(default_factory=list)
    teams: Annotated[list[TeamDocument], BeforeValidator(_none_as_empty), _OrNull] = Field(default_factory=list)
    prices: Annotated[list[PriceDocument], BeforeValidator(_none_as_empty), _OrNull] = Field(default_factory=list)
    limits: Annotated[list[LimitDocument], BeforeValidator(_none_as_empty), _OrNull] = Field(default_factory=list)
    interception: Annotated[list[InterceptionDocument], BeforeValidator(_none_as_empty), _OrNull] = Field(
        default_factory=list
    )
