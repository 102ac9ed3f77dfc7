"""Tickets: what the server must remember between two steps of a ceremony, kept by the client, sealed.

A ticket holds for a few minutes, for one purpose, and once. It is sealed with the installation's key, so that any
worker of any node takes it and whoever asks for thousands of them fills no table; only that one was used is kept.
"""

import base64
import binascii
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from gateway.errors import Unauthenticated
from gateway.store.factor_models import SpentTicket
from gateway.store.sealing import Sealed, Sealer, SealingKeyError

GOOD_FOR: Final = timedelta(minutes=5)
NONCE_BYTES: Final = 32
LONGEST_TICKET: Final = 1024
"""Characters of a ticket's text."""


class Purpose(StrEnum):
    CODE = "code"
    """The password was right; a code is to follow."""
    PASSKEY = "passkey"
    """To sign in with a passkey."""
    NEW_PASSKEY = "new-passkey"
    SIGN_ON = "sign-on"
    """What an identity provider's answer is to."""


class TicketRefused(Unauthenticated):
    """It is none of ours, is for something else, has been used, or took too long."""

    code = "ticket_refused"

    def __init__(self) -> None:
        super().__init__("this took too long, or was done already", fix="begin again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    purpose: Purpose
    nonce: bytes
    """Random: the challenge of a WebAuthn ceremony."""
    expires_at: datetime
    user_id: int = 0
    """Whose it is; 0 = of who will turn out."""
    user_version: int = 0
    """Of the user's row: a ticket does not outlive a new password or role."""

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.nonce).digest()


def issue(
    sealer: Sealer, purpose: Purpose, at: datetime, *, user_id: int = 0, user_version: int = 0
) -> tuple[str, Ticket]:
    """The ticket's text for the client, and what is in it."""
    ticket = Ticket(
        purpose=purpose,
        nonce=secrets.token_bytes(NONCE_BYTES),
        expires_at=at + GOOD_FOR,
        user_id=user_id,
        user_version=user_version,
    )
    within = json.dumps([ticket.nonce.hex(), ticket.expires_at.timestamp(), user_id, user_version])
    sealed = sealer.seal(within, 0, _name(purpose))
    return f"{sealed.key_id}.{base64.urlsafe_b64encode(sealed.ciphertext).decode()}", ticket


def read(sealer: Sealer, text: str, purpose: Purpose, at: datetime) -> Ticket:
    """What is in a ticket. Raises TicketRefused. Whether it was used is for `spend` to say."""
    key_id, _, ciphertext = text.partition(".")
    try:
        sealed = Sealed(key_id, base64.urlsafe_b64decode(ciphertext))
        nonce, expires_at, user_id, user_version = json.loads(sealer.open(sealed, 0, _name(purpose)))
    except (binascii.Error, ValueError, SealingKeyError):
        raise TicketRefused from None
    ticket = Ticket(
        purpose=purpose,
        nonce=bytes.fromhex(nonce),
        expires_at=datetime.fromtimestamp(expires_at, UTC),
        user_id=user_id,
        user_version=user_version,
    )
    if ticket.expires_at <= at:
        raise TicketRefused
    return ticket


def spend(session: Session, ticket: Ticket, at: datetime) -> None:
    """Use it. Raises TicketRefused where somebody has. The caller commits."""
    session.execute(delete(SpentTicket).where(SpentTicket.expires_at <= at))
    row = {"digest": ticket.digest, "expires_at": ticket.expires_at}
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(SpentTicket)
    if session.scalar(insert.values(row).on_conflict_do_nothing().returning(SpentTicket.digest)) is None:
        raise TicketRefused


def _name(purpose: Purpose) -> str:
    """What its ciphertext is bound to: no credential's name has a slash."""
    return f"/ticket {purpose}"
