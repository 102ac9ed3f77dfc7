"""The configuration's tables. Ledger and counters have their own (`ledger_models`).

Ids are never used twice (`sqlite_autoincrement`), because ledger rows, leases and counters outlive what they name.
`version` counts the changes of a row (ETag, optimistic concurrency): SQLAlchemy raises StaleDataError where two writers
met.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Dialect,
    Float,
    ForeignKey,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from gateway.store.base import Base

NAME_LENGTH = 128


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime, kept as integer Unix microseconds: the same, exact and sortable, on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        since = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        seconds, micros = divmod(value, 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def now() -> datetime:
    return datetime.now(UTC)


class Entity:
    """What each thing that an operator manages has."""

    id: Mapped[int] = mapped_column(primary_key=True, sort_order=-1)
    version: Mapped[int] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcTime, default=now, onupdate=now)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.__dict__.get("version", cls.version)}


class Provider(Entity, Base):
    """An account at a vendor, or a plain HTTP upstream."""

    __tablename__ = "provider"
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    dialect: Mapped[str] = mapped_column(String(16))
    base_url: Mapped[str] = mapped_column(Text)
    zone: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    tags: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    proxy: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """`ProxyDocument` without its password."""
    tls: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """`UpstreamTlsDocument` without its key."""
    health: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """`HealthDocument`."""
    credentials: Mapped[list["Credential"]] = relationship(
        back_populates="provider",
        lazy="raise",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="Credential.position",
    )
    secrets: Mapped[list["ProviderSecret"]] = relationship(
        lazy="raise", cascade="all, delete-orphan", passive_deletes=True, order_by="ProviderSecret.name"
    )


class Credential(Base):
    """A provider's secret, sealed (`gateway.store.sealing`)."""

    __tablename__ = "credential"
    __table_args__ = (UniqueConstraint("provider_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    provider_id: Mapped[int] = mapped_column(ForeignKey("provider.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """Nonce, ciphertext and tag."""
    sealing_key_id: Mapped[str] = mapped_column(String(16))
    """Which sealing key opens it."""
    last_four: Mapped[str] = mapped_column(String(4))
    """The end of the secret, to be recognised by; empty where the secret is short."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    provider: Mapped[Provider] = relationship(back_populates="credentials", lazy="raise")


class ProviderSecret(Base):
    """What else of a provider is secret, sealed like a credential: `tls.key`, `proxy.password`."""

    __tablename__ = "provider_secret"
    __table_args__ = (UniqueConstraint("provider_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    provider_id: Mapped[int] = mapped_column(ForeignKey("provider.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(32))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    sealing_key_id: Mapped[str] = mapped_column(String(16))


class Route(Entity, Base):
    """What callers ask for. Timeouts in seconds."""

    __tablename__ = "route"
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    strategy: Mapped[str] = mapped_column(String(16))
    retries: Mapped[int]
    connect_timeout_s: Mapped[float] = mapped_column(Float)
    first_byte_timeout_s: Mapped[float] = mapped_column(Float)
    idle_timeout_s: Mapped[float] = mapped_column(Float)
    total_timeout_s: Mapped[float] = mapped_column(Float)
    match_host: Mapped[str | None] = mapped_column(String(255))
    match_path: Mapped[str | None] = mapped_column(Text)
    max_output_tokens: Mapped[int]
    strip_prefix: Mapped[bool]
    preserve_host: Mapped[bool]
    auth: Mapped[str] = mapped_column(String(16))
    read_to_end: Mapped[bool]
    request_headers: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """A `HeaderRulesDocument` as it was validated, as is the next; None = no rules."""
    response_headers: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    prefer: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Tags of providers."""
    service: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """A `ServiceDocument` as it was validated, its teams by id; None = nothing is said."""
    capture: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """A `CaptureDocument` as it was validated; None = bodies are not recorded."""
    targets: Mapped[list["Target"]] = relationship(
        back_populates="route",
        lazy="raise",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="Target.position",
    )


class Target(Base):
    """One provider and model behind a route, in the route's order."""

    __tablename__ = "target"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    route_id: Mapped[int] = mapped_column(ForeignKey("route.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    provider_id: Mapped[int] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"), index=True)
    model: Mapped[str | None] = mapped_column(Text)
    """None on HTTP routes."""
    weight: Mapped[int]
    route: Mapped[Route] = relationship(back_populates="targets", lazy="raise")
    provider: Mapped[Provider] = relationship(lazy="raise")


class Team(Entity, Base):
    __tablename__ = "team"
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    apps: Mapped[list["App"]] = relationship(lazy="raise", viewonly=True, order_by="App.name")


class App(Entity, Base):
    """A consumer of routes."""

    __tablename__ = "app"
    __table_args__ = {"sqlite_autoincrement": True}

    team_id: Mapped[int] = mapped_column(ForeignKey("team.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    all_routes: Mapped[bool]
    """`routes: "*"`; else `routes` are those it may call."""
    cors: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """A `CorsDocument` as it was validated."""
    egress: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    sources: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    team: Mapped[Team] = relationship(lazy="raise")
    routes: Mapped[list[Route]] = relationship(secondary="app_route", lazy="raise", order_by="Route.name")


class AppRoute(Base):
    """Which route an app may call."""

    __tablename__ = "app_route"

    app_id: Mapped[int] = mapped_column(ForeignKey("app.id", ondelete="CASCADE"), primary_key=True)
    route_id: Mapped[int] = mapped_column(ForeignKey("route.id", ondelete="RESTRICT"), primary_key=True, index=True)


class Key(Entity, Base):
    """An app's API key: only its digest is kept."""

    __tablename__ = "key"
    __table_args__ = (UniqueConstraint("app_id", "name"), {"sqlite_autoincrement": True})

    app_id: Mapped[int] = mapped_column(ForeignKey("app.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """SHA-256 of the key's text."""
    prefix: Mapped[str] = mapped_column(String(16))
    """How the key begins, to be recognised by; empty where only its digest was ever known."""
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    previous_digest: Mapped[bytes | None] = mapped_column(LargeBinary(32), index=True, unique=True)
    """Of the text before the last rotation, good until `previous_until`."""
    previous_until: Mapped[datetime | None] = mapped_column(UtcTime)
    app: Mapped[App] = relationship(lazy="raise")


class LimitRule(Entity, Base):
    """A limit. Scope columns that are null do not narrow; what a scope names takes the limit along when it goes."""

    __tablename__ = "limit_rule"
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    metric: Mapped[str] = mapped_column(String(24))
    window: Mapped[str] = mapped_column(String(16))
    """`lifetime` for concurrent requests, which have none."""
    at_most: Mapped[int] = mapped_column(BigInteger)
    """In the metric's unit; cost in micro-USD."""
    unpriced: Mapped[str] = mapped_column(String(8))
    when_unavailable: Mapped[str] = mapped_column(String(8))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), index=True)
    app_id: Mapped[int | None] = mapped_column(ForeignKey("app.id", ondelete="CASCADE"), index=True)
    key_id: Mapped[int | None] = mapped_column(ForeignKey("key.id", ondelete="CASCADE"), index=True)
    route_id: Mapped[int | None] = mapped_column(ForeignKey("route.id", ondelete="CASCADE"), index=True)
    provider_id: Mapped[int | None] = mapped_column(ForeignKey("provider.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[int | None] = mapped_column(ForeignKey("credential.id", ondelete="CASCADE"), index=True)
    target_provider_id: Mapped[int | None] = mapped_column(ForeignKey("provider.id", ondelete="CASCADE"), index=True)
    """`scope.target` in two parts, so that it survives the replacing of targets and the renaming of the provider."""
    target_model: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    team: Mapped[Team | None] = relationship(lazy="raise")
    app: Mapped[App | None] = relationship(lazy="raise")
    key: Mapped[Key | None] = relationship(lazy="raise")
    route: Mapped[Route | None] = relationship(lazy="raise")
    provider: Mapped[Provider | None] = relationship(lazy="raise", foreign_keys=[provider_id])
    credential: Mapped[Credential | None] = relationship(lazy="raise")
    target_provider: Mapped[Provider | None] = relationship(lazy="raise", foreign_keys=[target_provider_id])


class PriceOverride(Entity, Base):
    """Micro-USD per million tokens; `per_request` micro-USD a request. `model` is a shell pattern (fnmatch)."""

    __tablename__ = "price_override"
    __table_args__ = (UniqueConstraint("provider_id", "model"), {"sqlite_autoincrement": True})

    provider_id: Mapped[int] = mapped_column(ForeignKey("provider.id", ondelete="CASCADE"))
    model: Mapped[str] = mapped_column(String(255))
    input: Mapped[int] = mapped_column(BigInteger)
    output: Mapped[int] = mapped_column(BigInteger)
    cached_input: Mapped[int | None] = mapped_column(BigInteger)
    cache_write: Mapped[int | None] = mapped_column(BigInteger)
    reasoning: Mapped[int | None] = mapped_column(BigInteger)
    per_request: Mapped[int] = mapped_column(BigInteger)
    provider: Mapped[Provider] = relationship(lazy="raise")


class InterceptionRule(Entity, Base):
    """A rule in the order of the document; `document` is an `InterceptionDocument` as it was validated, but for name,
    app and callers."""

    __tablename__ = "interception_rule"
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    app_id: Mapped[int | None] = mapped_column(ForeignKey("app.id", ondelete="RESTRICT"), index=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    app: Mapped[App | None] = relationship(lazy="raise")
    callers: Mapped[list["InterceptionCaller"]] = relationship(
        back_populates="rule",
        lazy="raise",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="InterceptionCaller.position",
    )


class InterceptionCaller(Base):
    """Whom a rule lets in without a key, in its order; `document` is a `CallerDocument` but for app."""

    __tablename__ = "interception_caller"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    rule_id: Mapped[int] = mapped_column(ForeignKey("interception_rule.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    app_id: Mapped[int | None] = mapped_column(ForeignKey("app.id", ondelete="RESTRICT"), index=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    rule: Mapped[InterceptionRule] = relationship(back_populates="callers", lazy="raise")
    app: Mapped[App | None] = relationship(lazy="raise")


class CertificateAuthority(Base):
    """The one that signs for intercepted hosts (`gateway.store.authority`); no row until it is made."""

    __tablename__ = "certificate_authority"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    certificate: Mapped[str] = mapped_column(Text)
    """PEM."""
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """The private key (PKCS 8, PEM), sealed like a credential."""
    sealing_key_id: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    renewed_at: Mapped[datetime | None] = mapped_column(UtcTime)


class User(Entity, Base):
    """Someone who signs in to the console."""

    __tablename__ = "user_account"  # `user` is a reserved word in PostgreSQL
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    password_hash: Mapped[str | None] = mapped_column(Text)
    """argon2id; None = cannot sign in by password."""
    role: Mapped[str] = mapped_column(String(16))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), index=True)
    """For the roles team-admin and team-member."""
    disabled: Mapped[bool] = mapped_column(default=False)
    last_sign_in_at: Mapped[datetime | None] = mapped_column(UtcTime)
    source: Mapped[str | None] = mapped_column(String(16))
    """Who manages it: an `accounts.Source`; None = we do."""
    team: Mapped[Team | None] = relationship(lazy="raise")


class LoginSession(Base):
    """A console session; the cookie's SHA-256 is kept."""

    __tablename__ = "login_session"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    last_seen_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    expires_at: Mapped[datetime] = mapped_column(UtcTime, index=True)
    method: Mapped[str | None] = mapped_column(String(24))
    """How it was begun: a `login_sessions.Method`; None = by a password, before there were others."""
    address: Mapped[str | None] = mapped_column(Text)
    """From where it was begun, and with what."""
    user_agent: Mapped[str | None] = mapped_column(Text)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """When its user last showed who they are; None = when it was begun, by a release before this was kept."""
    user: Mapped[User] = relationship(lazy="raise")


class Token(Entity, Base):
    """A bearer token for the REST API; only its SHA-256 is kept."""

    __tablename__ = "token"
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    prefix: Mapped[str] = mapped_column(String(16))
    role: Mapped[str] = mapped_column(String(16))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    created_by: Mapped[str] = mapped_column(String(NAME_LENGTH))
    scopes: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Permissions that it is confined to; None = all of its role's."""
    team: Mapped[Team | None] = relationship(lazy="raise")


class AuditEntry(Base):
    """One change, appended and never altered; each entry's hash covers the one before (`gateway.store.audit`)."""

    __tablename__ = "audit_entry"
    __table_args__ = {"sqlite_autoincrement": True}

    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcTime, index=True)
    actor: Mapped[str] = mapped_column(String(256))
    """`user:NAME`, `token:NAME` or `cli:UNIX-USER`."""
    action: Mapped[str] = mapped_column(String(32))
    """`create`, `update`, `delete`, or a word of the caller's, e.g. `sign-in`."""
    kind: Mapped[str] = mapped_column(String(32), index=True)
    name: Mapped[str] = mapped_column(Text)
    before: Mapped[str | None] = mapped_column(Text)
    """JSON text as hashed, without secrets."""
    after: Mapped[str | None] = mapped_column(Text)
    origin: Mapped[str | None] = mapped_column(Text)
    """The address that it was asked from; None = not over the network, or written before there were origins."""
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class Meta(Base):
    """The one row about the installation as a whole; made by the first migration."""

    __tablename__ = "meta"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    installation_id: Mapped[str] = mapped_column(String(36))
    generation: Mapped[int] = mapped_column(BigInteger)
    """Grows with each transaction that changes what a snapshot is made of; the keeper polls it."""
    audit_seq: Mapped[int | None] = mapped_column(BigInteger)
    """Of the last audit entry, with its hash: what is cut off the log's end is missed by it."""
    audit_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))


class ConfigurationVersion(Base):
    """A published state of the whole configuration, as `export` writes it: no secrets, only references to them."""

    __tablename__ = "configuration_version"
    __table_args__ = {"sqlite_autoincrement": True}

    number: Mapped[int] = mapped_column(primary_key=True)
    published_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    actor: Mapped[str] = mapped_column(String(256))
    note: Mapped[str] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)
    """YAML."""
