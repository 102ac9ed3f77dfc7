"""Shapes of single sign-on: what the REST API takes and gives. No secret is in any view."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gateway.policy.egress import address_of
from gateway.policy.roles import TEAM_ROLES, Role
from gateway.store.document import Document
from gateway.store.fields import Name, PartName, Secret, refused

MOST_RULES = 500


class Passwords(StrEnum):
    """Who may sign in by password while sign-on is set up."""

    EVERYONE = "everyone"
    OWNERS = "owners"
    """Those alone, so that a provider that is down locks nobody out for good."""


def is_secure(url: str) -> bool:
    """Whether what goes there cannot be read on the way: https, or this host itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = address_of(host)
    return parts.scheme == "https" or (
        parts.scheme == "http" and (host == "localhost" or (address is not None and address.is_loopback))
    )


def _issuer(value: str) -> str:
    try:
        parts = urlsplit(value)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or len(value) > 512 or any(each.isspace() for each in value):
        raise refused("is no URL", "write it as the provider does, e.g. https://login.example.com/realms/main")
    if parts.query or parts.fragment or parts.username:
        raise refused("has more than scheme, host and path", "write it as the provider's discovery document does")
    if not is_secure(value):
        raise refused("is not https", "anyone on the way could sign in as anyone: use the provider's https address")
    return value


def _scopes(value: str) -> str:
    words = value.split()
    if "openid" not in words:
        raise refused("lacks `openid`", "begin with openid, e.g. openid profile email groups")
    return " ".join(dict.fromkeys(words))


Issuer = Annotated[str, AfterValidator(_issuer)]
Scopes = Annotated[str, Field(max_length=512), AfterValidator(_scopes)]
ClientId = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[\x20-\x7e]+$")]
Claim = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^\S+$")]
Group = Annotated[str, Field(min_length=1, max_length=512)]


class AdmissionDocument(Document):
    """As what somebody comes in."""

    role: Role
    team: PartName | None = None
    """For the roles team-admin and team-member."""

    @model_validator(mode="after")
    def _team_for_team_roles(self) -> "AdmissionDocument":
        if self.role in TEAM_ROLES and self.team is None:
            raise refused(f"a {self.role} belongs to a team", "name its team", "team")
        if self.role not in TEAM_ROLES and self.team is not None:
            raise refused(f"the role {self.role} is not confined to a team", "remove `team`", "team")
        return self


class SignOnRuleDocument(AdmissionDocument):
    group: Group


class SignOnDocument(Document):
    """What holds for all providers, and for SCIM."""

    rules: Annotated[list[SignOnRuleDocument], Field(max_length=MOST_RULES, default_factory=list)]
    """In order: the first whose group somebody is in decides."""
    default: AdmissionDocument | None = None
    """For who is in none of these groups; null = refused."""
    passwords: Passwords = Passwords.EVERYONE


class SignOnView(SignOnDocument):
    rules: list[SignOnRuleDocument]
    default: AdmissionDocument | None
    passwords: Passwords
    redirect_uri: str
    """What to register at a provider."""
    scim_url: str
    version: int
    """0 = never set."""


class SignOnProviderDocument(Document):
    name: PartName
    label: Name | None = None
    """What the button says behind "Sign in with"; left out: the name."""
    issuer: Issuer
    client_id: ClientId
    client_secret: Secret | None = None
    """Left out for a public client, which has PKCE alone."""
    scopes: Scopes = "openid profile email"
    groups_claim: Claim = "groups"
    """Of the ID token, else of the userinfo endpoint; with dots where it is nested."""
    name_claim: Claim = "preferred_username"
    enabled: bool = True
    provisions: bool = False
    """It is the directory's, which makes users by SCIM: they, and no other provider's people, are those. One may be."""


class SignOnProviderPatch(Document):
    """What is to change; anything left out stays."""

    name: PartName | None = None
    label: Name | None = None
    issuer: Issuer | None = None
    client_id: ClientId | None = None
    client_secret: Secret | None = None
    """null takes it away."""
    scopes: Scopes | None = None
    groups_claim: Claim | None = None
    name_claim: Claim | None = None
    enabled: bool | None = None
    provisions: bool | None = None


class SignOnProviderView(Document):
    id: int
    name: str
    label: str
    issuer: str
    client_id: str
    has_secret: bool
    scopes: str
    groups_claim: str
    name_claim: str
    enabled: bool
    provisions: bool
    users: int
    """Who have come by it."""
    created_at: datetime
    updated_at: datetime
    version: int


class SignOnOption(Document):
    name: str
    label: str


class SignInOptions(Document):
    """What the sign-in page offers."""

    providers: list[SignOnOption]
    passwords: Passwords


class SignOnFinding(Document):
    ok: bool
    what: str
    """What was looked at."""
    found: str
    """What came of it."""
    fix: str | None = None


class SignOnTrial(Document):
    """What a provider said for real."""

    ok: bool
    findings: list[SignOnFinding]
