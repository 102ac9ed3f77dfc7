"""Who a caller is: by session or bearer token; and the first owner.

Tokens and session cookies are random texts of which only the SHA-256 is kept; passwords are argon2id. Signing in is
next door (`signing_in`), as are the user's own sessions (`login_sessions`), and managing users and tokens (`members`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, joinedload

from gateway.errors import Unauthenticated
from gateway.policy.model import TeamId
from gateway.policy.roles import TEAM_ROLES, Authority, Permission, Role, effective
from gateway.store import audit, passwords
from gateway.store.models import LoginSession, Team, Token, User

OWNER_NAME: Final = "admin"
"""The user that a new installation begins with."""
IDLE_LIMIT: Final = timedelta(hours=12)
ABSOLUTE_LIMIT: Final = timedelta(days=7)
TOUCH_EVERY: Final = timedelta(minutes=1)
"""How stale `last_seen_at` may be: a session in use costs one small write a minute, not one a request."""
GENERATED_PASSWORD_LENGTH: Final = 20


class Method(StrEnum):
    """How a session was begun."""

    PASSWORD = "password"  # noqa: S105  a word, not a secret
    TOTP = "password+totp"
    RECOVERY_CODE = "password+recovery"
    PASSKEY = "passkey"
    SIGN_ON = "sign-on"
    """At an identity provider, which asks for what it wants to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Someone whose token or session was found good."""

    name: str
    """Of the user or the token."""
    role: Role
    team_id: TeamId | None
    """For team roles: all they may see."""
    team: str | None
    user_id: int | None = None
    """None for tokens."""
    token_id: int | None = None
    """None for users."""
    session_id: int | None = None
    last_seen_at: datetime | None = None
    expires_at: datetime | None = None
    """When session or token ends at the latest; None = never."""
    confirmed_at: datetime | None = None
    """When the user signed in, or last showed who they are."""
    method: Method | None = None
    """None for tokens."""
    scopes: frozenset[Permission] | None = None
    """What a token is confined to; None = all that its role may."""

    @property
    def authority(self) -> Authority:
        kind = "token" if self.user_id is None else "user"
        return Authority(
            actor=f"{kind}:{self.name}",
            role=self.role,
            team_id=self.team_id,
            scopes=self.scopes,
            expires_at=self.expires_at if self.user_id is None else None,
        )

    @property
    def permissions(self) -> frozenset[Permission]:
        return effective(self.role, self.scopes)

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


def caller_by_token(session: Session, text: str, at: datetime) -> Caller | None:
    """None: unknown, revoked or expired."""
    found = select(Token, Team.name).outerjoin(Team, Team.id == Token.team_id)
    row = session.execute(found.where(Token.digest == passwords.digest(text))).one_or_none()
    if row is None:
        return None
    token, team = row
    if token.expires_at is not None and token.expires_at <= at:
        return None
    role = Role(token.role)
    return Caller(
        name=token.name,
        role=role,
        team_id=_confinement(role, token.team_id),
        team=team,
        token_id=token.id,
        expires_at=token.expires_at,
        scopes=None if token.scopes is None else frozenset(each for each in Permission if each in token.scopes),
    )


def caller_by_session(session: Session, cookie: str, at: datetime, *, only_former: bool = False) -> Caller | None:
    """None: unknown, ended, idle for too long, or of a user who may no longer sign in. `only_former`: one that a
    release began which named all cookies alike."""
    found = select(LoginSession).options(joinedload(LoginSession.user).joinedload(User.team))
    row = session.scalars(found.where(LoginSession.digest == passwords.digest(cookie))).one_or_none()
    if row is None or row.expires_at <= at or row.last_seen_at + IDLE_LIMIT <= at or row.user.disabled:
        return None
    if only_former and row.confirmed_at is not None:
        return None
    return user_caller(row.user, row)


def still_stands(session: Session, caller: Caller) -> bool:
    """Whether the caller's session or token is still there. Asked while holding `audit.lock`: who took it away at the
    moment of a change has the last word."""
    here = (
        select(LoginSession.id).where(LoginSession.id == caller.session_id)
        if caller.session_id is not None
        else select(Token.id).where(Token.id == caller.token_id)
    )
    return session.scalar(here) is not None


def session_needs_touch(caller: Caller, at: datetime) -> bool:
    return caller.last_seen_at is not None and at - caller.last_seen_at >= TOUCH_EVERY


def touch_session(session: Session, caller: Caller, at: datetime) -> None:
    session.execute(update(LoginSession).where(LoginSession.id == caller.session_id).values(last_seen_at=at))


def sign_out(session: Session, caller: Caller) -> None:
    """Ends the caller's session; of a token nothing."""
    session.execute(delete(LoginSession).where(LoginSession.id == caller.session_id))


def end_sessions(session: Session, user_id: int, *, but: int | None = None) -> None:
    """Ends all sessions of a user (whose password or role has changed), but one where given."""
    ended = delete(LoginSession).where(LoginSession.user_id == user_id)
    session.execute(ended if but is None else ended.where(LoginSession.id != but))


def ensure_owner(session: Session, password: str | None) -> str | None:
    """Make the user `admin` where no owner exists yet. Returns the password, to be shown once; None = one existed.

    `password`: the operator's own choice (`SLUICEGATE_ADMIN_PASSWORD`), taken as it is; None = a random one.
    """
    audit.lock(session)
    if session.scalar(select(User.id).where(User.role == Role.OWNER).limit(1)) is not None:
        return None
    chosen = password or passwords.random_text(GENERATED_PASSWORD_LENGTH)
    session.add(User(name=OWNER_NAME, role=Role.OWNER, password_hash=passwords.hash_password(chosen), disabled=False))
    audit.record(session, actor="system", action="create", kind="user", name=OWNER_NAME, after={"role": Role.OWNER})
    return chosen


def user_caller(user: User, begun: LoginSession) -> Caller:
    """The holder of a session; `user` with its team loaded."""
    role = Role(user.role)
    return Caller(
        name=user.name,
        role=role,
        team_id=_confinement(role, user.team_id),
        team=user.team.name if user.team is not None else None,
        user_id=user.id,
        session_id=begun.id,
        last_seen_at=begun.last_seen_at,
        expires_at=begun.expires_at,
        confirmed_at=begun.confirmed_at or begun.created_at,
        method=Method(begun.method or Method.PASSWORD),
    )


def _confinement(role: Role, team_id: int | None) -> TeamId | None:
    """The team that a role is confined to. A team role without a team would see all: it is refused instead."""
    if role not in TEAM_ROLES:
        return None
    if team_id is None:
        raise Unauthenticated(f"this {role} belongs to no team", fix="ask an owner to name its team")
    return TeamId(team_id)
