"""Passkeys (WebAuthn level 3): registered under names, and to sign in with, without user name or password.

A passkey is bound to the host name that the console was opened at (the relying party's id). User verification is
required, so that one is two factors by itself. Both ceremonies begin with a ticket (`tickets`), whose nonce is the
challenge. What browser and authenticator are told, and whether their answer is right, is next door (`webauthn_answers`,
loaded when somebody has a passkey).
"""

import hashlib
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, joinedload

from gateway.errors import Conflict, NotFound
from gateway.late import importing
from gateway.store import audit, factors, login_sessions, throttle, tickets
from gateway.store.account_documents import PasskeyMade, PasskeyView
from gateway.store.database import read_session, write_session
from gateway.store.factor_models import Passkey
from gateway.store.identity import Caller, Method
from gateway.store.login_sessions import SignedIn, Visitor
from gateway.store.models import Meta, User
from gateway.store.sealing import Sealer
from gateway.store.signing_in import SignInRefused, admit_attempt, note_refusal
from gateway.store.tickets import Purpose, Ticket

if TYPE_CHECKING:
    from gateway.store.webauthn_answers import Registered

MOST_PASSKEYS: Final = 20
"""Of a user."""

_REFUSED: Final = "this passkey is not known here"
_REMEDY: Final = "sign in with your password"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the browser has the console open."""

    origin: str
    """`https://gateway.example.com`"""

    @property
    def rp_id(self) -> str:
        return urlsplit(self.origin).hostname or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    ticket: str
    options: dict[str, Any]
    """`PublicKeyCredentialCreationOptionsJSON` or `…RequestOptionsJSON`, for the browser."""


def begin_registration(session: Session, sealer: Sealer, caller: Caller, site: Site, at: datetime) -> Ceremony:
    """Options for a new passkey. Raises Conflict where there are enough."""
    assert caller.user_id is not None
    with importing():
        from gateway.store import webauthn_answers
    present = session.scalars(select(Passkey).where(Passkey.user_id == caller.user_id)).all()
    _require_room(len(present))
    text, ticket = tickets.issue(sealer, Purpose.NEW_PASSKEY, at, user_id=caller.user_id)
    user_handle = _user_handle(session, caller.user_id)
    options = webauthn_answers.creation_options(
        site, ticket.nonce, user_name=caller.name, user_handle=user_handle, present=present
    )
    return Ceremony(ticket=text, options=options)


def check_registration(
    sealer: Sealer, caller: Caller, site: Site, ticket_text: str, credential: Mapping[str, Any], at: datetime
) -> "tuple[Ticket, Registered]":
    """What the authenticator made for the caller; to be kept by `finish_registration`, which takes the ticket too.
    Before the transaction: it may load a library. Raises TicketRefused, Invalid."""
    with importing():
        from gateway.store import webauthn_answers
    ticket = tickets.read(sealer, ticket_text, Purpose.NEW_PASSKEY, at)
    if ticket.user_id != caller.user_id:
        raise tickets.TicketRefused
    return ticket, webauthn_answers.registered(credential, ticket.nonce, site)


def finish_registration(
    session: Session, caller: Caller, site: Site, ticket: Ticket, made: "Registered", name: str, at: datetime
) -> PasskeyMade:
    """Keep it. Raises TicketRefused, Conflict. The caller commits."""
    assert caller.user_id is not None
    tickets.spend(session, ticket, at)
    audit.lock(session)  # of those that end at once, no more are kept than there may be
    _require_room(session.scalar(select(func.count()).where(Passkey.user_id == caller.user_id)) or 0)
    if session.scalar(select(Passkey.id).where(Passkey.credential_id == made.credential_id)) is not None:
        raise Conflict("this passkey is registered already", fix="use another authenticator")
    passkey = Passkey(
        user_id=caller.user_id,
        name=_free_name(session, caller.user_id, name),
        rp_id=site.rp_id,
        credential_id=made.credential_id,
        public_key=made.public_key,
        sign_count=made.sign_count,
        transports=made.transports,
        synced=made.synced,
        created_at=at,
    )
    session.add(passkey)
    session.flush()
    _note(session, caller, "add", passkey.name)
    return PasskeyMade(**_view(passkey).model_dump(), recovery_codes=factors.codes_for_first(session, caller))


def list_own(session: Session, caller: Caller) -> list[PasskeyView]:
    rows = session.scalars(select(Passkey).where(Passkey.user_id == caller.user_id).order_by(Passkey.id))
    return [_view(row) for row in rows]


def rename(session: Session, caller: Caller, passkey_id: int, name: str) -> PasskeyView:
    """Raises NotFound, Conflict."""
    row = _find(session, caller, passkey_id)
    audit.lock(session)  # no two get one name; behind the row, as signing in takes them
    if name != row.name:
        row.name = _free_name(session, row.user_id, name)
        session.flush()
        _note(session, caller, "update", row.name)
    return _view(row)


def remove(session: Session, caller: Caller, passkey_id: int) -> None:
    """Raises NotFound."""
    row = _find(session, caller, passkey_id)
    session.delete(row)
    session.flush()
    _note(session, caller, "remove", row.name)
    factors.drop_orphaned_codes(session, caller)


def begin_sign_in(sealer: Sealer, site: Site, at: datetime) -> Ceremony:
    """Options to sign in with whichever passkey the authenticator has for this site; they say nothing about anybody."""
    with importing():
        from gateway.store import webauthn_answers
    text, ticket = tickets.issue(sealer, Purpose.PASSKEY, at)
    return Ceremony(ticket=text, options=webauthn_answers.request_options(site, ticket.nonce))


def sign_in(
    engine: Engine,
    sealer: Sealer,
    site: Site,
    ticket_text: str,
    credential: Mapping[str, Any],
    visitor: Visitor,
    at: datetime,
) -> SignedIn:
    """Raises TicketRefused, SignInRefused, TooManyAttempts."""
    load()
    ticket = tickets.read(sealer, ticket_text, Purpose.PASSKEY, at)
    credential_id = credential_id_of(credential)
    with read_session(engine) as session:
        of = select(User.name).join(Passkey, Passkey.user_id == User.id).where(Passkey.credential_id == credential_id)
        name = session.scalar(of)
    account = name or f"passkey {credential_id.hex()}"
    admit_attempt(engine, account, visitor.address, at)
    with write_session(engine) as session:
        audit.lock(session)
        row = session.scalars(select(Passkey).where(Passkey.credential_id == credential_id).with_for_update()).first()
        if row is not None and answers(session, row, ticket.nonce, site, credential, at):
            owner = select(User).where(User.id == row.user_id, ~User.disabled).options(joinedload(User.team))
            user = session.scalars(owner).one_or_none()
            if user is not None:
                tickets.spend(session, ticket, at)
                throttle.forgive(session, account, visitor.address)
                return login_sessions.begin(session, user, Method.PASSKEY, visitor, at)
    note_refusal(engine, account, visitor.address, known=name is not None, step="passkey")
    raise SignInRefused(_REFUSED, fix=_REMEDY)


def load() -> None:
    """What `answers` takes, before the transaction in which it is asked."""
    with importing():
        import gateway.store.webauthn_answers  # noqa: F401


def answers(
    session: Session, row: Passkey, challenge: bytes, site: Site, credential: Mapping[str, Any], at: datetime
) -> bool:
    """Whether the passkey has signed the challenge, here and now, for a user whom the authenticator has verified; its
    count of signatures moves on. One that does not has been copied."""
    with importing():
        from gateway.store import webauthn_answers
    if row.rp_id != site.rp_id:
        return False
    shown = webauthn_answers.signed(credential, challenge, site, row, _user_handle(session, row.user_id))
    if shown is None:
        return False
    row.sign_count, row.synced, row.last_used_at = shown.sign_count, shown.synced, at
    return True


def credential_id_of(credential: Mapping[str, Any]) -> bytes:
    """Which passkey an authenticator's answer is of. Raises SignInRefused."""
    try:
        return urlsafe_b64decode(f"{credential['id']}===")[:1023]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SignInRefused(_REFUSED, fix=_REMEDY) from None


def _user_handle(session: Session, user_id: int) -> bytes:
    """What authenticators know an account by: 32 bytes that say nothing, the same for all its passkeys (WebAuthn
    14.6.1)."""
    installation = session.scalars(select(Meta.installation_id)).one()
    return hashlib.sha256(f"sluicegate user handle {installation} {user_id}".encode()).digest()


def _require_room(present: int) -> None:
    if present >= MOST_PASSKEYS:
        raise Conflict(f"there are {present} passkeys", fix="remove one that is not used any more")


def _find(session: Session, caller: Caller, passkey_id: int) -> Passkey:
    found = select(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == caller.user_id)
    row = session.scalars(found.with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"you have no passkey {passkey_id}", fix="GET /api/v1/account/passkeys lists them")
    return row


def _free_name(session: Session, user_id: int, name: str) -> str:
    if session.scalar(select(Passkey.id).where(Passkey.user_id == user_id, Passkey.name == name)) is not None:
        raise Conflict(f"you have a passkey {name!r} already", fix="choose another name")
    return name


def _view(row: Passkey) -> PasskeyView:
    return PasskeyView(
        id=row.id,
        name=row.name,
        host=row.rp_id,
        synced=row.synced,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )


def _note(session: Session, caller: Caller, action: str, name: str) -> None:
    after = {"factor": "passkey", "passkey": name}
    audit.record(session, actor=caller.authority.actor, action=action, kind="factor", name=caller.name, after=after)
