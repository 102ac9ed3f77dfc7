"""Whether it is still the user who sits there: asked again before deeds that outlive a session.

A session that was left open, or stolen, must not become tokens, other people's passwords, another role. Such deeds take
a session whose user has signed in, or confirmed who they are, within the last minutes: by password, by a code of the
authenticator app (or a recovery code), or by a passkey. Who comes from an identity provider signs in there afresh.
Tokens are not asked: nobody sits there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from gateway.errors import BadRequest, Forbidden
from gateway.store import audit, factors, identity, login_sessions, passkeys, throttle, tickets
from gateway.store.database import write_session
from gateway.store.factor_models import Passkey
from gateway.store.identity import Caller, Method
from gateway.store.login_sessions import Visitor
from gateway.store.models import LoginSession, User
from gateway.store.passkeys import Site
from gateway.store.sealing import Sealer
from gateway.store.sign_on_documents import SignOnOption
from gateway.store.sign_on_models import SignOnProvider, SignOnSession
from gateway.store.signing_in import (
    RECENT,
    SignInAgain,
    SignInRefused,
    admit_attempt,
    confirm_presence,
    note_refusal,
)
from gateway.store.tickets import Purpose

_AGAIN: Final = "sign in again"


class ConfirmItIsYou(Forbidden):
    """Too long ago that we saw who this is. To be repeated once it has been confirmed."""

    code = "confirm_it_is_you"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How the caller may show who they are."""

    password: bool
    code: bool
    passkey: bool
    provider: SignOnOption | None
    """Where to sign in afresh; None = the session was not begun at a provider."""


def require(caller: Caller, at: datetime) -> None:
    """Raises ConfirmItIsYou."""
    if caller.user_id is not None and not is_confirmed(caller, at):
        raise ConfirmItIsYou(
            f"you signed in more than {RECENT.seconds // 60} minutes ago: confirm that it is still you",
            fix="POST /api/v1/session/confirmation with your password, a code or a passkey (of a provider's account: "
            "sign in there afresh), and repeat this",
        )


def is_confirmed(caller: Caller, at: datetime) -> bool:
    return caller.confirmed_at is not None and at - caller.confirmed_at <= RECENT


def ways(session: Session, caller: Caller) -> Ways:
    assert caller.user_id is not None
    user = session.get_one(User, caller.user_id)
    held = factors.held(session, caller.user_id)
    begun = (
        select(SignOnProvider.name, SignOnProvider.label)
        .join(SignOnSession, SignOnSession.provider_id == SignOnProvider.id)
        .where(SignOnSession.session_id == caller.session_id)
    )
    provider = session.execute(begun).one_or_none()
    return Ways(
        password=user.password_hash is not None,
        code=held.totp,
        passkey=held.passkeys > 0,
        provider=None if provider is None else SignOnOption(name=provider.name, label=provider.label),
    )


def by_password(engine: Engine, caller: Caller, password: str, visitor: Visitor, at: datetime) -> str:
    """The session's new cookie. A wrong password counts as a failed sign-in. Raises SignInRefused, TooManyAttempts;
    BadRequest for an account without a password; SignInAgain where it has been changed meanwhile."""
    confirmed = confirm_presence(engine, caller, password, visitor, at)
    if confirmed is None:
        raise BadRequest("this account has no password", fix="confirm it in another way, or sign in again")
    with write_session(engine) as session:
        user = _still_here(session, caller, visitor)
        if user.password_hash != confirmed:
            raise SignInAgain("the account has just been changed", fix=_AGAIN)
        return _confirmed(session, caller, Method.PASSWORD, visitor, at)


def by_code(engine: Engine, sealer: Sealer, caller: Caller, code: str, visitor: Visitor, at: datetime) -> str:
    """The same by a code, which is good once. Raises SignInRefused, SignInAgain, TooManyAttempts."""
    assert caller.user_id is not None
    admit_attempt(engine, caller.name, visitor.address, at)
    with write_session(engine) as session:
        _still_here(session, caller, visitor)
        method = factors.accept_code(session, sealer, caller.user_id, code, at)
        if method is not None:
            throttle.forgive(session, caller.name, visitor.address)
            return _confirmed(session, caller, method, visitor, at)
    note_refusal(engine, caller.name, visitor.address, known=True, step="confirm")
    raise SignInRefused("the code is wrong or was used before", fix="wait for the next one, or use your password")


def by_passkey(
    engine: Engine,
    sealer: Sealer,
    site: Site,
    caller: Caller,
    ticket_text: str,
    credential: Mapping[str, Any],
    visitor: Visitor,
    at: datetime,
) -> str:
    """The same by one of the caller's passkeys. Raises TicketRefused, SignInRefused, SignInAgain, TooManyAttempts."""
    passkeys.load()
    ticket = tickets.read(sealer, ticket_text, Purpose.PASSKEY, at)
    credential_id = passkeys.credential_id_of(credential)
    admit_attempt(engine, caller.name, visitor.address, at)
    with write_session(engine) as session:
        _still_here(session, caller, visitor)
        own = select(Passkey).where(Passkey.credential_id == credential_id, Passkey.user_id == caller.user_id)
        row = session.scalars(own).one_or_none()
        if row is not None and passkeys.answers(session, row, ticket.nonce, site, credential, at):
            tickets.spend(session, ticket, at)
            throttle.forgive(session, caller.name, visitor.address)
            return _confirmed(session, caller, Method.PASSKEY, visitor, at)
    note_refusal(engine, caller.name, visitor.address, known=True, step="confirm")
    raise SignInRefused("this is no passkey of yours", fix="use another one, or your password")


def _still_here(session: Session, caller: Caller, visitor: Visitor) -> User:
    """The caller, in the transaction's turn. Raises SignInAgain where the session has been ended meanwhile."""
    audit.come_from(session, visitor.address)
    audit.lock(session)
    if not identity.still_stands(session, caller):
        raise SignInAgain("the session has just been ended", fix=_AGAIN)
    return session.get_one(User, caller.user_id)


def _confirmed(session: Session, caller: Caller, by: Method, visitor: Visitor, at: datetime) -> str:
    """From now on the session may more than before: a copy of its cookie may not (`renew_cookie`)."""
    session.execute(update(LoginSession).where(LoginSession.id == caller.session_id).values(confirmed_at=at))
    cookie = login_sessions.renew_cookie(session, caller)
    actor, after = caller.authority.actor, {"by": "code" if by in (Method.TOTP, Method.RECOVERY_CODE) else by}
    audit.record(session, actor=actor, action="confirm", kind="session", name=visitor.address, after=after)
    return cookie
