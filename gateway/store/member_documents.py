"""Shapes of users and tokens: what the REST API takes and gives. No secret is in any view."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from gateway.policy.roles import PERMISSIONS, TEAM_ROLES, Permission, Role
from gateway.store.accounts import Source
from gateway.store.document import Document
from gateway.store.documents import Moment
from gateway.store.fields import PartName, refused
from gateway.store.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD

Password = Annotated[SecretStr, Field(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]


class _Member(Document):
    role: Role
    team: PartName | None = None
    """For the roles team-admin and team-member: the team they are confined to."""

    @model_validator(mode="after")
    def _team_for_team_roles(self) -> "_Member":
        if self.role in TEAM_ROLES and self.team is None:
            raise refused(f"a {self.role} belongs to a team", "name its team", "team")
        if self.role not in TEAM_ROLES and self.team is not None:
            raise refused(f"the role {self.role} is not confined to a team", "remove `team`", "team")
        return self


class UserDocument(_Member):
    name: PartName
    password: Password | None = None
    """Left out: one is made and shown once."""
    disabled: bool = False


class TokenDocument(_Member):
    name: PartName | None = None
    """Left out: one is made from the role and a number."""
    expires_at: Moment | None = None
    scopes: Annotated[list[Permission], Field(min_length=1)] | None = None
    """Permissions that it is confined to, e.g. `usage:read`; left out: all of the role's."""

    @model_validator(mode="after")
    def _scopes_of_the_role(self) -> "TokenDocument":
        beyond = [each for each in self.scopes or () if each not in PERMISSIONS[self.role]]
        if beyond:
            may = ", ".join(sorted(PERMISSIONS[self.role]))
            raise refused(f"a {self.role} may not {beyond[0]}", f"choose among {may}", "scopes")
        return self


class UserPatch(Document):
    """What is to change of a user; anything left out stays."""

    name: PartName | None = None
    role: Role | None = None
    team: PartName | None = None
    password: Password | None = None
    disabled: bool | None = None


class TokenPatch(Document):
    """Role, team and scopes of a token never change: make another one."""

    name: PartName | None = None
    expires_at: Moment | None = None


class UserView(Document):
    id: int
    name: str
    role: Role
    team: str | None
    disabled: bool
    source: Source
    """Who manages the account. Others than `local` sign in at their provider only."""
    provider: str | None
    """By which they came last, as its button says."""
    totp: bool
    """An authenticator app is asked for a code after the password."""
    passkeys: int
    sessions: int
    """Where the user is signed in now."""
    last_sign_in_at: datetime | None
    """null = never, or before this was kept."""
    created_at: datetime
    updated_at: datetime
    version: int


class UserCreated(UserView):
    password: str | None
    """The one that was made, shown this once; null where one was given."""


class TokenView(Document):
    id: int
    name: str
    role: Role
    team: str | None
    prefix: str
    scopes: list[Permission] | None
    """What it is confined to; null = all that its role may."""
    expires_at: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int


class TokenCreated(TokenView):
    token: str
    """The bearer token, shown this once."""
