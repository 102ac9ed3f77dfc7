"""Shapes of users and tokens: what the REST API takes and gives. No secret is in any view."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from gateway.policy.roles import TEAM_ROLES, Role
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


class UserPatch(Document):
    """What is to change of a user; anything left out stays."""

    name: PartName | None = None
    role: Role | None = None
    team: PartName | None = None
    password: Password | None = None
    disabled: bool | None = None


class TokenPatch(Document):
    """Role and team of a token never change: make another one."""

    name: PartName | None = None
    expires_at: Moment | None = None


class UserView(Document):
    id: int
    name: str
    role: Role
    team: str | None
    disabled: bool
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
    expires_at: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int


class TokenCreated(TokenView):
    token: str
    """The bearer token, shown this once."""
