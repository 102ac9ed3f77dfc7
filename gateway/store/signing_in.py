"""Signing in: password, then a code where the user has a second factor. (By passkey alone: `passkeys`.)

Every attempt is counted before it is looked at (`throttle`), each step as one, and forgiven when the user is in.
Failures of accounts that exist are audited; those of names that do not are told nowhere, because people type passwords
into name fields. Both take the same time and statements of the same weight.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Engine, select
from sqlalchemy.orm import Session, joinedload

from gateway.errors import Forbidden, Unauthenticated
from gateway.store import audit, factors, login_sessions, passwords, throttle, tickets
from gateway.store.database import read_session, write_session
from gateway.store.factors import Factors
from gateway.store.identity import Caller, Method, end_sessions
from gateway.store.login_sessions import SignedIn, Visitor
from gateway.store.models import LoginSession, User
from gateway.store.sealing import Sealer
from gateway.store.tickets import Purpose

log = logging.getLogger(__name__)

STEPS_WITH_CODE: Final = 2
RECENT: Final = timedelta(minutes=15)
"""How long it is believed that it is still the user who sits there."""


class SignInRefused(Unauthenticated):
    """Wrong name, password or code: which of the first two is not told."""

    code = "sign_in_refused"


class SignInAgain(Forbidden):
    """Too long ago that we saw who this is."""

    code = "sign_in_again"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeNeeded:
    """The password was right; a second factor is to follow."""

    user_id: int
    user_version: int
    factors: Factors


def with_password(engine: Engine, name: str, password: str, visitor: Visitor, at: datetime) -> SignedIn | CodeNeeded:
    """Raises SignInRefused, or TooManyAttempts with the time to wait.

    Takes as long for an unknown name as for a wrong password. No transaction is open while the password is hashed.
    """
    admit_attempt(engine, name, visitor.address, at)
    with read_session(engine) as session:
        found = session.execute(select(User.id, User.password_hash).where(User.name == name, ~User.disabled)).first()
    password_hash = found.password_hash if found is not None else None
    if not passwords.password_matches(password_hash, password):
        note_refusal(engine, name, visitor.address, known=found is not None, step="password")
        raise SignInRefused("user name or password is wrong", fix="try again, or ask an owner to set a new password")
    outdated = password_hash is not None and passwords.needs_rehash(password_hash)
    rehashed = passwords.hash_password(password) if outdated else None
    with write_session(engine) as session:
        audit.lock(session)  # who changes the account now ends the session that begins here, or is seen here
        user = _user_to_sign_in(session, User.name == name)
        if user is None or user.password_hash != password_hash:
            raise SignInRefused("the account has just been changed", fix="sign in again")
        if rehashed is not None:
            user.password_hash = rehashed
            session.flush()
        present = factors.held(session, user.id)
        if present.any:
            return CodeNeeded(user_id=user.id, user_version=user.version, factors=present)
        throttle.forgive(session, name, visitor.address)
        return login_sessions.begin(session, user, Method.PASSWORD, visitor, at)


def with_code(engine: Engine, sealer: Sealer, ticket_text: str, code: str, visitor: Visitor, at: datetime) -> SignedIn:
    """The second step. Raises TicketRefused, SignInRefused, TooManyAttempts."""
    ticket = tickets.read(sealer, ticket_text, Purpose.CODE, at)
    with read_session(engine) as session:
        name = session.scalar(select(User.name).where(User.id == ticket.user_id))
    if name is None:
        raise tickets.TicketRefused
    admit_attempt(engine, name, visitor.address, at)
    with write_session(engine) as session:
        audit.lock(session)
        user = _user_to_sign_in(session, User.id == ticket.user_id)
        if user is None or user.version != ticket.user_version:
            raise tickets.TicketRefused
        method = factors.accept_code(session, sealer, user.id, code, at)
        if method is not None:
            tickets.spend(session, ticket, at)
            throttle.forgive(session, name, visitor.address, attempts=STEPS_WITH_CODE)
            return login_sessions.begin(session, user, method, visitor, at)
    note_refusal(engine, name, visitor.address, known=True, step="code")
    raise SignInRefused("the code is wrong or was used before", fix="wait for the next one, or use a recovery code")


def confirm_presence(
    engine: Engine, caller: Caller, password: str | None, visitor: Visitor, at: datetime
) -> str | None:
    """Whether it is still the user who sits there, before factors change: by the password, where there is one. Returns
    its hash.

    A wrong one counts as a failed sign-in. Raises SignInRefused, TooManyAttempts; SignInAgain for a user without a
    password who has not signed in, or confirmed who they are, within the last minutes.
    """
    with read_session(engine) as session:
        password_hash = session.scalar(select(User.password_hash).where(User.id == caller.user_id))
    if password_hash is None:
        if caller.confirmed_at is None or at - caller.confirmed_at > RECENT:
            raise SignInAgain(
                "you signed in too long ago to change this",
                fix="POST /api/v1/session/confirmation, or sign out and in, and do it then",
            )
        return None
    admit_attempt(engine, caller.name, visitor.address, at)
    if not passwords.password_matches(password_hash, password or ""):
        note_refusal(engine, caller.name, visitor.address, known=True, step="confirm")
        raise SignInRefused("the password is wrong", fix="try again, or ask an owner to set a new one")
    with write_session(engine) as session:
        throttle.forgive(session, caller.name, visitor.address)
    return password_hash


def change_own_password(engine: Engine, caller: Caller, current: str, new: str, visitor: Visitor, at: datetime) -> str:
    """Replace the caller's password, end their other sessions, and give this one a new cookie, which is returned.

    A wrong `current` counts as a failed sign-in. Raises SignInAgain where the account has changed meanwhile: whoever
    reset it has the last word.
    """
    passwords.require_good_password(new, caller.name)
    confirmed = confirm_presence(engine, caller, current, visitor, at)
    new_hash = passwords.hash_password(new)
    with write_session(engine) as session:
        audit.come_from(session, visitor.address)
        audit.lock(session)
        user = session.get_one(User, caller.user_id)
        if user.password_hash != confirmed or session.get(LoginSession, caller.session_id) is None:
            raise SignInAgain("the account has just been changed", fix="sign in again")
        user.password_hash = new_hash
        end_sessions(session, user.id, but=caller.session_id)
        cookie = login_sessions.renew_cookie(session, caller)
        audit.record(session, actor=caller.authority.actor, action="password", kind="user", name=user.name)
    return cookie


def admit_attempt(engine: Engine, account: str, address: str, at: datetime) -> None:
    """Count an attempt before it is looked at. Raises TooManyAttempts."""
    with read_session(engine) as session:
        throttle.refuse_if_blocked(session, account, address, at)
    with write_session(engine) as session:
        throttle.admit_attempt(session, account, address, at)


def note_refusal(engine: Engine, name: str, address: str, *, known: bool, step: str) -> None:
    """Tell the audit log of a failure. For a name that nobody has, the same locks are taken and as much is written, so
    that the time of an answer does not tell which names exist."""
    log.warning("sign-in refused", extra={"address": address})
    with write_session(engine) as session:
        audit.come_from(session, address)
        if known:
            actor, after = f"user:{name}", {"step": step}
            audit.record(session, actor=actor, action="refuse", kind="session", name=address, after=after)
        else:
            audit.lock(session)
            throttle.rewrite(session, name, address)


def _user_to_sign_in(session: Session, which: ColumnElement[bool]) -> User | None:
    user = session.scalars(select(User).where(which).options(joinedload(User.team))).one_or_none()
    return None if user is None or user.disabled else user
