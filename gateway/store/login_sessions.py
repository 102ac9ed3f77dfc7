"""Sessions of the console: begun, given a new cookie, listed, ended.

A session ends when its user signs out or is signed out, 12 hours after its last use, and after 7 days whatever happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, CursorResult, and_, delete, func, select, update
from sqlalchemy.orm import Session

from gateway.errors import Forbidden, NotFound
from gateway.policy.roles import Role
from gateway.store import audit, passwords, sign_on
from gateway.store.account_documents import SessionView
from gateway.store.identity import ABSOLUTE_LIMIT, IDLE_LIMIT, Caller, Method, end_sessions, user_caller
from gateway.store.models import LoginSession, User

COOKIE_LENGTH: Final = 48
MOST_SHOWN: Final = 200
LONGEST_USER_AGENT: Final = 400
"""Characters kept of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who is at the other end before we know who it is."""

    address: str
    user_agent: str
    cookie: str | None = None
    """Of a session that the browser has already: it ends when another begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    caller: Caller
    cookie: str
    """The session's secret, of which only the digest is kept."""


def begin(session: Session, user: User, method: Method, visitor: Visitor, at: datetime) -> SignedIn:
    """A new session, whatever the browser had before. `user` with its team loaded. Audited; the caller commits.

    Raises Forbidden where the account is to come in another way.
    """
    _require_way_in(session, user, method)
    audit.come_from(session, visitor.address)
    # Not through the row: it is no change of the user that others' ETags should know of. Before the sessions, in the
    # order in which a change of the user locks them.
    session.execute(update(User).where(User.id == user.id).values(last_sign_in_at=at, updated_at=User.updated_at))
    session.execute(delete(LoginSession).where(LoginSession.expires_at <= at))
    if visitor.cookie:
        session.execute(delete(LoginSession).where(LoginSession.digest == passwords.digest(visitor.cookie)))
    cookie = passwords.random_text(COOKIE_LENGTH)
    begun = LoginSession(
        digest=passwords.digest(cookie),
        user_id=user.id,
        created_at=at,
        last_seen_at=at,
        confirmed_at=at,
        expires_at=at + ABSOLUTE_LIMIT,
        method=method,
        address=visitor.address,
        user_agent=visitor.user_agent[:LONGEST_USER_AGENT],
    )
    session.add(begun)
    session.flush()
    caller = user_caller(user, begun)
    after = {"method": method}
    actor = caller.authority.actor
    audit.record(session, actor=actor, action="sign-in", kind="session", name=visitor.address, after=after)
    return SignedIn(caller=caller, cookie=cookie)


def _require_way_in(session: Session, user: User, method: Method) -> None:
    """Raises Forbidden where the account comes in by its provider only: who is let in no more there, is let in no more.

    Owners of our own always get in, lest a provider that is down locks everybody out.
    """
    if method is Method.SIGN_ON:
        return
    if user.source is not None:
        raise Forbidden("this account signs in at its provider", fix="use the button of the sign-in page")
    if user.role != Role.OWNER and sign_on.local_sign_in_is_closed(session):
        raise Forbidden(
            "passwords and passkeys are for owners only here", fix="use the button of the sign-in page, or ask an owner"
        )


def renew_cookie(session: Session, caller: Caller) -> str:
    """Another secret for the same session, after what makes it worth more than before. The caller commits."""
    cookie = passwords.random_text(COOKIE_LENGTH)
    renewed = update(LoginSession).where(LoginSession.id == caller.session_id)
    session.execute(renewed.values(digest=passwords.digest(cookie)))
    return cookie


def raise_to(session: Session, caller: Caller, method: Method) -> str:
    """After a first factor was shown: this session counts as begun with it, and gets a new cookie, which is returned;
    those that were begun without end. The caller commits."""
    assert caller.user_id is not None
    end_sessions(session, caller.user_id, but=caller.session_id)
    if caller.method is Method.PASSWORD:
        session.execute(update(LoginSession).where(LoginSession.id == caller.session_id).values(method=method))
    return renew_cookie(session, caller)


def list_own(session: Session, caller: Caller, at: datetime) -> list[SessionView]:
    """The last used first."""
    found = select(LoginSession).where(LoginSession.user_id == caller.user_id, _lasts(at))
    rows = session.scalars(found.order_by(LoginSession.last_seen_at.desc(), LoginSession.id.desc()).limit(MOST_SHOWN))
    return [_view(row, caller) for row in rows]


def counts(session: Session, user_ids: Sequence[int], at: datetime) -> dict[int, int]:
    """How many sessions each user has; users without any are left out."""
    counted = select(LoginSession.user_id, func.count()).where(LoginSession.user_id.in_(user_ids), _lasts(at))
    return dict(session.execute(counted.group_by(LoginSession.user_id)).all())


def end_own(session: Session, caller: Caller, session_id: int) -> None:
    """Raises NotFound where the caller has no such session."""
    ended = delete(LoginSession).where(LoginSession.id == session_id, LoginSession.user_id == caller.user_id)
    done = session.execute(ended)
    assert isinstance(done, CursorResult)
    if done.rowcount != 1:
        raise NotFound(f"you have no session {session_id}", fix="GET /api/v1/account/sessions lists them")
    audit.record(session, actor=caller.authority.actor, action="end", kind="session", name=caller.name)


def end_others(session: Session, caller: Caller) -> None:
    """All of the caller's but this one."""
    assert caller.user_id is not None
    end_sessions(session, caller.user_id, but=caller.session_id)
    after = {"which": "all others"}
    audit.record(session, actor=caller.authority.actor, action="end", kind="session", name=caller.name, after=after)


def _lasts(at: datetime) -> ColumnElement[bool]:
    return and_(LoginSession.expires_at > at, LoginSession.last_seen_at > at - IDLE_LIMIT)


def _view(row: LoginSession, caller: Caller) -> SessionView:
    return SessionView(
        id=row.id,
        current=row.id == caller.session_id,
        method=Method(row.method or Method.PASSWORD),
        address=row.address,
        user_agent=row.user_agent,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        expires_at=row.expires_at,
    )
