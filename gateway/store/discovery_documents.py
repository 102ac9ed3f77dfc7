"""Documents and views of denials and discoveries."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.policy.discovery import Action, Per, State
from gateway.policy.interception import OnFailure, Tls
from gateway.store.document import Document
from gateway.store.documents import Moment, Port
from gateway.store.fields import Cidr, Host, ModelName, PartName, User, refused
from gateway.store.views import EntityView, View

MOST_DESTINATIONS: Final = 100
"""Hosts or networks of one denial: the kernel's maps are bounded."""
MOST_ALLOWED: Final = (1 << 39) - 1
"""Connections or bytes of one window (`probes.allowances.MOST`)."""
LONGEST_EXPIRY_S: Final = 366 * 86_400

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_DISTANCE: Final = re.compile(r"([0-9]{1,9})\s*(s|m|h|d|w)")


def _expires_in(value: Any) -> timedelta:
    seconds = -1.0
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (found := _DISTANCE.fullmatch(value.strip())):
        seconds = float(found[1]) * _UNITS_S[found[2]]
    if not 1 <= seconds <= LONGEST_EXPIRY_S:
        raise refused(f"{value!r} is no time from a second to a year", "write e.g. 30m, 2h, 7d, or seconds")
    return timedelta(seconds=seconds)


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value or len(value) > 4096:
        raise refused(f"{value!r} is no absolute path", "write it as /proc/PID/exe shows it, e.g. /usr/bin/curl")
    return value


def _cgroup(value: str) -> str:
    path = value.strip("/")
    if not path or "\0" in path or len(path) > 4096 or ".." in path.split("/"):
        raise refused(f"{value!r} is no cgroup", "write its path below the cgroup root, e.g. system.slice/x.service")
    return path


ExpiresIn = Annotated[
    timedelta,
    BeforeValidator(_expires_in),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 1, "maximum": LONGEST_EXPIRY_S},
                {"type": "string", "pattern": "^[0-9]{1,9}[smhdw]$"},
            ],
            "examples": ["2h", "7d", 3600],
        }
    ),
]
Executable = Annotated[str, AfterValidator(_absolute)]
Cgroup = Annotated[str, AfterValidator(_cgroup)]


class DenialLimit(Document):
    """What fits is refused only beyond this: one of `connections` and `bytes`, in each fixed window."""

    connections: Annotated[int, Field(ge=1, le=MOST_ALLOWED)] | None = None
    """That are made; a datagram that is sent without `connect` is one, too."""
    bytes: Annotated[int, Field(ge=1, le=MOST_ALLOWED)] | None = None
    """Of payload, both ways. Beyond them packets are dropped, and new connections refused."""
    per: Per

    @model_validator(mode="after")
    def _one(self) -> "DenialLimit":
        if (self.connections is None) == (self.bytes is None):
            raise refused("is of connections or of bytes", "give one of `connections` and `bytes`")
        return self


class DenialDocument(Document):
    """Who may not reach what. Of the first four all that are given must fit a connection; of `provider`, `hosts` and
    `cidrs` one."""

    name: PartName
    executable: Executable | None = None
    user: User | None = None
    cgroup: Cgroup | None = None
    """Below the cgroup root, with all that is below it."""
    container: ModelName | None = None
    """Its name or id."""
    provider: PartName | None = None
    """As the catalogue names it: all its hosts."""
    hosts: list[Host] = Field(default_factory=list, max_length=MOST_DESTINATIONS)
    cidrs: list[Cidr] = Field(default_factory=list, max_length=MOST_DESTINATIONS)
    ports: list[Port] = Field(default_factory=list, max_length=MOST_DESTINATIONS)
    """Empty: all."""
    expires_at: Moment | None = None
    on_failure: OnFailure = OnFailure.OPEN
    """`closed`: it holds when the agent dies, too."""
    note: Annotated[str, Field(max_length=1000)] = ""
    limit: DenialLimit | None = None
    """Left out: nothing that fits may pass."""

    @model_validator(mode="after")
    def _whole(self) -> "DenialDocument":
        if not (self.executable or self.user or self.cgroup or self.container):
            raise refused("says nothing of who is denied", "give executable, user, cgroup or container")
        if not (self.provider or self.hosts or self.cidrs):
            raise refused("says nothing of what is denied", "give provider, hosts or cidrs")
        return self


class DenialCreate(DenialDocument):
    """The same as a caller sends it: the name may be left out, and the end be a distance."""

    name: PartName | None = None  # type: ignore[assignment]
    """Left out: one is made up."""
    expires_in: ExpiresIn | None = None
    """In place of `expires_at`."""

    def document(self, name: str, now: datetime) -> DenialDocument:
        given = self.model_dump(exclude={"name", "expires_in"})
        if self.expires_in is not None:
            given["expires_at"] = now + self.expires_in
        return DenialDocument(name=self.name or name, **given)

    @model_validator(mode="after")
    def _one_end(self) -> "DenialCreate":
        if self.expires_in is not None and self.expires_at is not None:
            raise refused("has two ends", "leave `expires_at` or `expires_in` out", "expires_in")
        if self.expires_at is not None and self.expires_at <= datetime.now(UTC):
            raise refused("is past", "write a time that is to come, or `expires_in`", "expires_at")
        return self


class DenialView(EntityView):
    executable: str | None
    user: str | None
    cgroup: str | None
    container: str | None
    provider: str | None
    hosts: list[str]
    cidrs: list[str]
    ports: list[int]
    expires_at: datetime | None
    on_failure: OnFailure
    created_by: str
    note: str
    discovery: int | None
    """Whose `deny` made it."""
    in_force: bool | None
    """In the kernel of the node that answers; null = not known (no keeper was asked)."""
    reason: str | None
    """Why it is not in force."""
    denied: int | None
    """Connections that it has refused since it was loaded."""
    limit: DenialLimit | None
    used: int | None
    """Connections or bytes of the present window; null = no limit, or not known."""
    dropped_bytes: int | None
    """By a limit of bytes, since it was loaded; what is sent again counts again."""
    resets_at: datetime | None
    """When the present window ends; null while nothing of it is used."""


class DecisionDocument(Document):
    """What is to become of a finding."""

    action: Action
    expires_in: ExpiresIn | None = None
    """After this `govern` and `deny` become `observe`, the others `new`. Left out: it stays."""
    app: PartName | None = None
    """With `govern`: whom to charge. May be left out where there is one app at most."""
    tls: Tls | None = None
    """With `govern`: `terminate` reads requests, and takes a client that trusts this gateway's authority. Left out:
    `passthrough`, or as the rule is already."""


class Coverage(StrEnum):
    """How far calls within TLS are read."""

    COVERED = "covered"
    HTTP2 = "http2"
    """They speak HTTP/2, which is not read."""
    NO_LIBSSL = "no_libssl"
    REFUSED = "refused"


class ProcessCoverage(View):
    """Processes of one program, user and container of which the same is to be said."""

    process: str | None
    executable: str | None
    user: str | None
    container: str | None
    """Its short id."""
    state: Coverage
    reason: str | None
    """Why they are not read."""
    running: int
    """How many there are; 0 = they have ended."""


class CoverageView(View):
    """Whose calls within TLS are read by the node that answers."""

    chosen: list[str] | None
    """The setting `tls_watched`; null = not known."""
    processes: list[ProcessCoverage]
    """Those that fit it: the ones that run, then the ones that ended last."""
    reason: str | None
    """Why nobody is read at present, whoever is chosen; null = nothing is in the way."""


class DiscoveryView(View):
    """A finding. What the kernel or the network could not tell is null."""

    id: int
    process: str | None
    executable: str | None
    user: str | None
    """Name, or number where there is none."""
    container: str | None
    cgroup: str | None
    unit: str | None
    """Of systemd."""
    client: str | None
    """Address of a client whose traffic this host forwards."""
    provider: str
    """As the catalogue of AI providers names it."""
    host: str
    """Name, or address where no name was seen."""
    address: str | None
    """Of its last connection, as are port and evidence."""
    port: int | None
    evidence: str
    """How the provider is known: `sni`, `http`, `dns`, `address` alone, `ech` (the name may be a cover)."""
    first_seen: datetime
    last_seen: datetime
    connections: int
    bytes: int
    """Both ways."""
    calls: int
    """Read within TLS where the setting `tls_watched` names the process, as are tokens and models."""
    input_tokens: int
    output_tokens: int
    models: list[str]
    """The first ten that were called."""
    coverage: Coverage | None
    """How far its processes are read within TLS, or were when they ran last; null = they are not chosen, or it is not
    known."""
    coverage_reason: str | None
    """Why they are not read."""
    node: str
    state: State
    state_until: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    rule: str | None
    """The interception rule that was made: by `govern`, and by `deny` for a client whose traffic is forwarded."""
    denial: str | None
    """The denial that `deny` made."""
    in_force: bool | None
    """Whether rule or denial stands in the kernel; null = there is none, or it is not known."""
    reason: str | None
    """Why it is not in force."""
    denied: int | None
    """Connections that were refused since the denial was loaded."""
