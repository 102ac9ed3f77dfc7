"""Passkeys (WebAuthn level 3): registered under names, and to sign in with, without user name or password.

A passkey is bound to the host name that the console was opened at (the relying party's id). User verification is
required, so that one is two factors by itself. Both ceremonies begin with a ticket (`tickets`), whose nonce is the
challenge. Attestation is not asked for: any maker's authenticator will do.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import webauthn
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, joinedload
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from gateway.errors import Conflict, Invalid, NotFound
from gateway.store import audit, factors, login_sessions, throttle, tickets
from gateway.store.account_documents import PasskeyMade, PasskeyView
from gateway.store.database import read_session, write_session
from gateway.store.factor_models import Passkey
from gateway.store.identity import Caller, Method
from gateway.store.login_sessions import SignedIn, Visitor
from gateway.store.models import Meta, User
from gateway.store.sealing import Sealer
from gateway.store.signing_in import SignInRefused, admit_attempt, note_refusal
from gateway.store.tickets import Purpose

log = logging.getLogger(__name__)

MOST_PASSKEYS: Final = 20
"""Of a user."""
RP_NAME: Final = "Sluicegate"

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
    present = session.scalars(select(Passkey).where(Passkey.user_id == caller.user_id)).all()
    if len(present) >= MOST_PASSKEYS:
        raise Conflict(f"there are {len(present)} passkeys", fix="remove one that is not used any more")
    text, ticket = tickets.issue(sealer, Purpose.NEW_PASSKEY, at, user_id=caller.user_id)
    options = webauthn.generate_registration_options(
        rp_id=site.rp_id,
        rp_name=RP_NAME,
        user_name=caller.name,
        user_id=_user_handle(session, caller.user_id),
        challenge=ticket.nonce,
        timeout=int(tickets.GOOD_FOR.total_seconds() * 1000),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[_descriptor(each) for each in present],
    )
    return Ceremony(ticket=text, options=json.loads(webauthn.options_to_json(options)))


def finish_registration(
    session: Session,
    sealer: Sealer,
    caller: Caller,
    site: Site,
    ticket_text: str,
    credential: Mapping[str, Any],
    name: str,
    at: datetime,
) -> PasskeyMade:
    """Keep what the authenticator made. Raises TicketRefused, Invalid, Conflict. The caller commits."""
    assert caller.user_id is not None
    ticket = tickets.read(sealer, ticket_text, Purpose.NEW_PASSKEY, at)
    if ticket.user_id != caller.user_id:
        raise tickets.TicketRefused
    tickets.spend(session, ticket, at)
    try:
        made = webauthn.verify_registration_response(
            credential=dict(credential),
            expected_challenge=ticket.nonce,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            require_user_verification=True,
        )
        transports = [AuthenticatorTransport(each).value for each in credential["response"].get("transports") or []]
    except Exception as error:  # noqa: BLE001  the library lets through what its parsers raise on what is malformed
        raise Invalid(f"the authenticator's answer cannot be used: {error}", fix="try again") from None
    if session.scalar(select(Passkey.id).where(Passkey.credential_id == made.credential_id)) is not None:
        raise Conflict("this passkey is registered already", fix="use another authenticator")
    passkey = Passkey(
        user_id=caller.user_id,
        name=_free_name(session, caller.user_id, name),
        rp_id=site.rp_id,
        credential_id=made.credential_id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        transports=transports,
        synced=made.credential_backed_up,
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
    text, ticket = tickets.issue(sealer, Purpose.PASSKEY, at)
    options = webauthn.generate_authentication_options(
        rp_id=site.rp_id,
        challenge=ticket.nonce,
        timeout=int(tickets.GOOD_FOR.total_seconds() * 1000),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return Ceremony(ticket=text, options=json.loads(webauthn.options_to_json(options)))


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
    ticket = tickets.read(sealer, ticket_text, Purpose.PASSKEY, at)
    credential_id = _credential_id(credential)
    with read_session(engine) as session:
        of = select(User.name).join(Passkey, Passkey.user_id == User.id).where(Passkey.credential_id == credential_id)
        name = session.scalar(of)
    account = name or f"passkey {credential_id.hex()}"
    admit_attempt(engine, account, visitor.address, at)
    with write_session(engine) as session:
        row = session.scalars(select(Passkey).where(Passkey.credential_id == credential_id).with_for_update()).first()
        if row is not None and _answers(session, row, ticket.nonce, site, credential, at):
            owner = select(User).where(User.id == row.user_id, ~User.disabled).options(joinedload(User.team))
            user = session.scalars(owner).one_or_none()
            if user is not None:
                tickets.spend(session, ticket, at)
                throttle.forgive(session, account, visitor.address)
                return login_sessions.begin(session, user, Method.PASSKEY, visitor, at)
    note_refusal(engine, account, visitor.address, known=name is not None, step="passkey")
    raise SignInRefused(_REFUSED, fix=_REMEDY)


def _answers(
    session: Session, row: Passkey, challenge: bytes, site: Site, credential: Mapping[str, Any], at: datetime
) -> bool:
    """Whether the passkey has signed the challenge, here and now, for a user whom the authenticator has verified; its
    count of signatures moves on. One that does not has been copied."""
    if row.rp_id != site.rp_id:
        return False
    try:
        shown = webauthn.verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=row.public_key,
            credential_current_sign_count=row.sign_count,
            require_user_verification=True,
        )
        handle = credential["response"].get("userHandle")
        if handle is not None and base64url_to_bytes(handle) != _user_handle(session, row.user_id):
            return False
    except Exception as error:  # noqa: BLE001  as above
        log.warning("passkey refused", extra={"passkey": row.id, "why": str(error)})
        return False
    row.sign_count, row.synced, row.last_used_at = shown.new_sign_count, shown.credential_backed_up, at
    return True


def _credential_id(credential: Mapping[str, Any]) -> bytes:
    try:
        return base64url_to_bytes(credential["id"])[:1023]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SignInRefused(_REFUSED, fix=_REMEDY) from None


def _user_handle(session: Session, user_id: int) -> bytes:
    """What authenticators know an account by: 32 bytes that say nothing, the same for all its passkeys (WebAuthn
    14.6.1)."""
    installation = session.scalars(select(Meta.installation_id)).one()
    return hashlib.sha256(f"sluicegate user handle {installation} {user_id}".encode()).digest()


def _descriptor(row: Passkey) -> PublicKeyCredentialDescriptor:
    transports = [AuthenticatorTransport(each) for each in row.transports]
    return PublicKeyCredentialDescriptor(id=row.credential_id, transports=transports)


def _find(session: Session, caller: Caller, passkey_id: int) -> Passkey:
    found = select(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == caller.user_id)
    row = session.scalars(found).one_or_none()
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
