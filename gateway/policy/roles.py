"""Who may do what: one table of role × permission, and which roles a caller may hand on.

Every endpoint of the REST API declares one `Permission` (`gateway.api.caller.permit`); a test walks all endpoints with
all roles. Team roles are further confined to their own team: what belongs to others does not exist for them (404,
never 403).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.policy.model import TeamId


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"
    TEAM_ADMIN = "team-admin"
    TEAM_MEMBER = "team-member"


TEAM_ROLES: Final = frozenset({Role.TEAM_ADMIN, Role.TEAM_MEMBER})
"""They belong to one team and see nothing beyond it."""


class Permission(StrEnum):
    SESSION = "session"
    """Anything about oneself: who am I, sign out, change the own password."""
    CONFIGURATION_READ = "configuration:read"
    """Providers, interception, versions, discoveries: what only the platform's people see."""
    CONFIGURATION_WRITE = "configuration:write"
    """The same and routes, teams, limits; apply, export, publish, restore."""
    SERVICES_READ = "services:read"
    """Routes, limits and their state, teams, apps, keys: of one's own team for team roles."""
    AUTHORITY_WRITE = "authority:write"
    """The certificate authority for intercepted TLS: make, renew, remove it."""
    APPS_WRITE = "apps:write"
    KEYS_WRITE = "keys:write"
    USAGE_READ = "usage:read"
    """Ledger, usage, live feed, telemetry."""
    MEMBERS = "members"
    """Users and tokens that hold a role which the caller may hand on."""
    ACCESS_REQUEST = "access:request"
    """Ask that an app may call routes, and withdraw that."""
    ACCESS_DECIDE = "access:decide"
    """Approve, deny and revoke: a team admin what the routes leave to the team."""
    BODIES_READ = "bodies:read"
    """What routes have recorded of bodies. Team roles: of their own apps' requests, where the route shows them."""
    BODIES_ERASE = "bodies:erase"
    AUDIT_READ = "audit:read"
    METRICS_READ = "metrics:read"
    BACKUP = "backup"
    """A copy of the database, all hashes and sealed secrets in it."""
    SIGN_ON_READ = "sign-on:read"
    """Identity providers, and which group comes in as what."""
    SIGN_ON_WRITE = "sign-on:write"
    """The same: whoever may change it could be an owner."""
    SCIM = "scim"
    """Users and groups by SCIM: as far as changing sign-on. Only tokens that are confined to it may."""


_TEAM_MEMBER: Final = frozenset(
    {
        Permission.SESSION,
        Permission.SERVICES_READ,
        Permission.KEYS_WRITE,
        Permission.USAGE_READ,
        Permission.ACCESS_REQUEST,
        Permission.BODIES_READ,
    }
)
_VIEWER: Final = frozenset(
    {
        Permission.SESSION,
        Permission.CONFIGURATION_READ,
        Permission.SERVICES_READ,
        Permission.USAGE_READ,
        Permission.METRICS_READ,
    }
)
_OPERATOR: Final = _VIEWER | {
    Permission.CONFIGURATION_WRITE,
    Permission.APPS_WRITE,
    Permission.KEYS_WRITE,
    Permission.ACCESS_REQUEST,
    Permission.ACCESS_DECIDE,
}
_ALL: Final = frozenset(Permission)

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.OWNER: _ALL,
    Role.ADMIN: _ALL - {Permission.BODIES_ERASE, Permission.SIGN_ON_WRITE, Permission.SCIM, Permission.BACKUP},
    Role.OPERATOR: _OPERATOR,
    Role.VIEWER: _VIEWER,
    Role.TEAM_ADMIN: _TEAM_MEMBER | {Permission.APPS_WRITE, Permission.MEMBERS, Permission.ACCESS_DECIDE},
    Role.TEAM_MEMBER: _TEAM_MEMBER,
}

GRANTABLE: Final[Mapping[Role, frozenset[Role]]] = {
    Role.OWNER: frozenset(Role),
    Role.ADMIN: frozenset(Role) - {Role.OWNER},
    Role.OPERATOR: frozenset(),
    Role.VIEWER: frozenset(),
    Role.TEAM_ADMIN: TEAM_ROLES,
    Role.TEAM_MEMBER: frozenset(),
}
"""Roles of the users and tokens that a holder of a role may see, make, change and remove (team roles: in their own
team). Nobody hands on more than they have."""


def effective(role: Role, scopes: Collection[Permission] | None) -> frozenset[Permission]:
    """What a holder of a role may who is confined to scopes, None = to none. Anyone may ask who they are."""
    return PERMISSIONS[role] if scopes is None else PERMISSIONS[role].intersection({*scopes, Permission.SESSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """In whose name something is done. `team_id` confines it to one team; None = the whole gateway."""

    actor: str
    """As the audit log writes it: `user:NAME`, `token:NAME` or `cli:UNIX-USER`."""
    role: Role
    team_id: TeamId | None = None
    scopes: frozenset[Permission] | None = None
    """What it is confined to (tokens); None = all that the role may."""
    expires_at: datetime | None = None
    """When it ends (tokens); None = never. A token that it makes or extends ends no later."""
    names_prefixed: bool = False
    """What it names begins with the name of its team (`store.team_names`)."""

    @property
    def permissions(self) -> frozenset[Permission]:
        return effective(self.role, self.scopes)

    @property
    def grantable(self) -> frozenset[Role]:
        """Roles of the users and tokens that it may see, make, change and remove: none that may more than itself."""
        return frozenset(role for role in GRANTABLE[self.role] if PERMISSIONS[role] <= self.permissions)

    def may_grant(self, role: Role, team_id: int | None) -> bool:
        """Whether this authority may see, make, change or remove what holds `role` in `team_id`."""
        return role in self.grantable and (self.team_id is None or self.team_id == team_id)
