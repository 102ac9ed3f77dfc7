"""Bodies of PATCH: JSON merge patches (RFC 7396) of the documents.

What a patch leaves out stays, null takes back the default, an object is merged, a list is replaced. The merged document
is then checked as a whole, so these types only say what may be given.
"""

from pydantic import SecretStr

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
from gateway.store.caller_documents import CallerDocument
from gateway.store.capture_documents import Keep, RedactPattern
from gateway.store.document import Document
from gateway.store.documents import (
    AllowedRoutes,
    CredentialDocument,
    DestinationsDocument,
    Moment,
    ScopeDocument,
    SourcesDocument,
    TargetDocument,
)
from gateway.store.fields import Amount, BaseUrl, Cidr, Duration, Host, ModelName, Name, PartName, PathPrefix
from gateway.store.header_documents import (
    AllowedHeader,
    EgressEntry,
    HeaderName,
    HeaderValue,
    Method,
    Origin,
    RuledName,
    SetName,
)
from gateway.store.service_documents import Access, Contact, Prose, Title, WebAddress
from gateway.store.upstream_documents import ProxyField


class Patch(Document):
    """Only what was given counts (`model_fields_set`)."""


class TlsPatch(Patch):
    ca: str | None = None
    cert: str | None = None
    key: SecretStr | None = None
    server_name: Host | None = None
    verify: bool | None = None


class HealthPatch(Patch):
    path: str | None = None
    interval: Duration | None = None
    timeout: Duration | None = None
    healthy_after: int | None = None
    unhealthy_after: int | None = None


class ProviderPatch(Patch):
    name: PartName | None = None
    dialect: Dialect | None = None
    base_url: BaseUrl | None = None
    credentials: list[CredentialDocument] | None = None
    """All of them; one without `value` keeps the secret stored under its name."""
    zone: PartName | None = None
    tags: list[PartName] | None = None
    proxy: ProxyField | None = None
    tls: TlsPatch | None = None
    health: HealthPatch | None = None


class TimeoutPatch(Patch):
    connect: Duration | None = None
    first_byte: Duration | None = None
    idle: Duration | None = None
    total: Duration | None = None


class MatchPatch(Patch):
    host: Host | None = None
    path: PathPrefix | None = None


class HeaderRulesPatch(Patch):
    """A name with null goes; `remove` is replaced as a whole."""

    set: dict[SetName, HeaderValue | None] | None = None
    add: dict[SetName, HeaderValue | None] | None = None
    remove: list[RuledName] | None = None


class CorsPatch(Patch):
    origins: list[Origin] | None = None
    methods: list[Method] | None = None
    headers: list[AllowedHeader] | None = None
    expose: list[HeaderName] | None = None
    credentials: bool | None = None
    max_age: int | None = None


class ServicePatch(Patch):
    title: Title | None = None
    description: Prose | None = None
    owner: Contact | None = None
    documentation: WebAddress | None = None
    access: Access | None = None
    teams: list[PartName] | None = None
    """All of them; null: every team."""


class CapturePatch(Patch):
    request: bool | None = None
    response: bool | None = None
    sample: float | None = None
    max_bytes: int | None = None
    keep: Keep | None = None
    redact: list[RedactPattern] | None = None
    visible_to_team: bool | None = None


class RoutePatch(Patch):
    name: Name | None = None
    strategy: Strategy | None = None
    targets: list[TargetDocument] | None = None
    retries: int | None = None
    timeout: TimeoutPatch | None = None
    match: MatchPatch | None = None
    max_output_tokens: int | None = None
    strip_prefix: bool | None = None
    preserve_host: bool | None = None
    auth: Auth | None = None
    read_to_end: bool | None = None
    request_headers: HeaderRulesPatch | None = None
    response_headers: HeaderRulesPatch | None = None
    prefer: list[PartName] | None = None
    service: ServicePatch | None = None
    capture: CapturePatch | None = None
    """null turns it off."""


class TeamPatch(Patch):
    name: PartName | None = None


class AppPatch(Patch):
    name: PartName | None = None
    team: PartName | None = None
    routes: AllowedRoutes | None = None
    cors: CorsPatch | None = None
    egress: list[EgressEntry] | None = None
    sources: list[Cidr] | None = None


class KeyPatch(Patch):
    name: PartName | None = None
    expires_at: Moment | None = None


class PricePatch(Patch):
    provider: PartName | None = None
    model: ModelName | None = None
    input: int | None = None
    output: int | None = None
    cached_input: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    per_request: int | None = None


class LimitPatch(Patch):
    name: PartName | None = None
    scope: ScopeDocument | None = None
    metric: Metric | None = None
    window: Window | None = None
    at_most: Amount | None = None
    unpriced: WhenUnknown | None = None
    when_unavailable: WhenUnknown | None = None


class InterceptionPatch(Patch):
    name: PartName | None = None
    destinations: DestinationsDocument | None = None
    sources: SourcesDocument | None = None
    mode: Mode | None = None
    on_failure: OnFailure | None = None
    tls: Tls | None = None
    refused_certificate: RefusedCertificate | None = None
    source_address: SourceAddress | None = None
    unmatched: Unmatched | None = None
    credential: WhoseCredential | None = None
    app: PartName | None = None
    callers: list[CallerDocument] | None = None
