"""Who a caller is: sign-in, sessions, bearer tokens, and the first owner.

Tokens and session cookies are random texts of which only the SHA-256 is kept; passwords are argon2id. Managing users
and tokens is next door (`members`).
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session, joinedload

from gateway.errors import Unauthenticated
from gateway.policy.model import TeamId
from gateway.policy.roles import TEAM_ROLES, Authority, Role
from gateway.store import audit, passwords, throttle
from gateway.store.database import read_session, write_session
from gateway.store.models import LoginSession, Team, Token, User

log = logging.getLogger(__name__)

OWNER_NAME: Final = "admin"
"""The user that a new installation begins with."""
IDLE_LIMIT: Final = timedelta(hours=12)
ABSOLUTE_LIMIT: Final = timedelta(days=7)
TOUCH_EVERY: Final = timedelta(minutes=1)
"""How stale `last_seen_at` may be: a session in use costs one small write a minute, not one a request."""
SESSION_LENGTH: Final = 48
GENERATED_PASSWORD_LENGTH: Final = 20


class SignInRefused(Unauthenticated):
    """Wrong name or password: which of them is not told."""

    code = "sign_in_refused"


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
    session_id: int | None = None
    last_seen_at: datetime | None = None
    expires_at: datetime | None = None
    """When session or token ends at the latest; None = never."""

    @property
    def authority(self) -> Authority:
        kind = "token" if self.user_id is None else "user"
        return Authority(actor=f"{kind}:{self.name}", role=self.role, team_id=self.team_id)


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
        expires_at=token.expires_at,
    )


def caller_by_session(session: Session, cookie: str, at: datetime) -> Caller | None:
    """None: unknown, ended, idle for too long, or of a user who may no longer sign in."""
    found = select(LoginSession).options(joinedload(LoginSession.user).joinedload(User.team))
    row = session.scalars(found.where(LoginSession.digest == passwords.digest(cookie))).one_or_none()
    if row is None or row.expires_at <= at or row.last_seen_at + IDLE_LIMIT <= at or row.user.disabled:
        return None
    return _user_caller(row.user, row)


def session_needs_touch(caller: Caller, at: datetime) -> bool:
    return caller.last_seen_at is not None and at - caller.last_seen_at >= TOUCH_EVERY


def touch_session(session: Session, caller: Caller, at: datetime) -> None:
    session.execute(update(LoginSession).where(LoginSession.id == caller.session_id).values(last_seen_at=at))


def sign_in(engine: Engine, name: str, password: str, address: str, at: datetime) -> tuple[Caller, str]:
    """The caller and the new session's cookie. Raises SignInRefused, or TooManyAttempts with the time to wait.

    Takes as long for an unknown name as for a wrong password. No transaction is open while the password is hashed.
    """
    _admit_attempt(engine, name, address, at)
    with read_session(engine) as session:
        password_hash = session.scalar(select(User.password_hash).where(User.name == name, ~User.disabled))
    if not passwords.password_matches(password_hash, password):
        log.warning("sign-in refused", extra={"address": address})
        raise SignInRefused("user name or password is wrong", fix="try again, or ask an owner to set a new password")
    cookie = passwords.random_text(SESSION_LENGTH)
    with write_session(engine) as session:
        audit.come_from(session, address)
        throttle.forgive(session, name, address)
        session.execute(delete(LoginSession).where(LoginSession.expires_at <= at))
        user = session.scalars(select(User).where(User.name == name).options(joinedload(User.team))).one_or_none()
        if user is None or user.disabled or user.password_hash != password_hash:
            raise SignInRefused("the account has just been changed", fix="sign in again")
        if password_hash is not None and passwords.needs_rehash(password_hash):
            user.password_hash = passwords.hash_password(password)
        begun = LoginSession(
            digest=passwords.digest(cookie),
            user_id=user.id,
            created_at=at,
            last_seen_at=at,
            expires_at=at + ABSOLUTE_LIMIT,
        )
        session.add(begun)
        session.flush()
        caller = _user_caller(user, begun)
        audit.record(session, actor=caller.authority.actor, action="sign-in", kind="session", name=address)
    return caller, cookie


def sign_out(session: Session, caller: Caller) -> None:
    """Ends the caller's session; of a token nothing."""
    session.execute(delete(LoginSession).where(LoginSession.id == caller.session_id))


def change_own_password(engine: Engine, caller: Caller, current: str, new: str, address: str, at: datetime) -> None:
    """Replace the caller's password and end their other sessions. A wrong `current` counts as a failed sign-in."""
    passwords.require_good_password(new, caller.name)
    _admit_attempt(engine, caller.name, address, at)
    with read_session(engine) as session:
        password_hash = session.scalar(select(User.password_hash).where(User.id == caller.user_id))
    if not passwords.password_matches(password_hash, current):
        raise SignInRefused("the current password is wrong", fix="try again, or ask an owner to set a new one")
    new_hash = passwords.hash_password(new)
    with write_session(engine) as session:
        audit.come_from(session, address)
        throttle.forgive(session, caller.name, address)
        user = session.get_one(User, caller.user_id)
        user.password_hash = new_hash
        end_sessions(session, user.id, but=caller.session_id)
        audit.record(session, actor=caller.authority.actor, action="password", kind="user", name=user.name)


def end_sessions(session: Session, user_id: int, *, but: int | None = None) -> None:
    """Ends all sessions of a user (whose password or role has changed), but one where given."""
    ended = delete(LoginSession).where(LoginSession.user_id == user_id)
    session.execute(ended if but is None else ended.where(LoginSession.id != but))


def ensure_owner(session: Session, password: str | None) -> str | None:
    """Make the user `admin` where no owner exists yet. Returns the password, to be shown once; None = one existed.

    `password`: the operator's own choice (`SLUICEGATE_ADMIN_PASSWORD`), taken as it is; None = a random one.
    """
    if session.scalar(select(User.id).where(User.role == Role.OWNER).limit(1)) is not None:
        return None
    chosen = password or passwords.random_text(GENERATED_PASSWORD_LENGTH)
    session.add(User(name=OWNER_NAME, role=Role.OWNER, password_hash=passwords.hash_password(chosen), disabled=False))
    audit.record(session, actor="system", action="create", kind="user", name=OWNER_NAME, after={"role": Role.OWNER})
    return chosen


def _admit_attempt(engine: Engine, account: str, address: str, at: datetime) -> None:
    with read_session(engine) as session:
        throttle.refuse_if_blocked(session, account, address, at)
    with write_session(engine) as session:
        throttle.admit_attempt(session, account, address, at)


def _user_caller(user: User, begun: LoginSession) -> Caller:
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
    )


def _confinement(role: Role, team_id: int | None) -> TeamId | None:
    """The team that a role is confined to. A team role without a team would see all: it is refused instead."""
    if role not in TEAM_ROLES:
        return None
    if team_id is None:
        raise Unauthenticated(f"this {role} belongs to no team", fix="ask an owner to name its team")
    return TeamId(team_id)
