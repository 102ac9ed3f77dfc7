"""The tables of what a user signs in with beside a password: time-based codes, recovery codes, passkeys."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base
from gateway.store.models import NAME_LENGTH, UtcTime, now


class Totp(Base):
    """A user's authenticator app (RFC 6238)."""

    __tablename__ = "totp"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """The shared secret in base32, sealed like a credential."""
    sealing_key_id: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """None: shown to the user, who has not answered with a code yet; it protects nothing so far."""
    last_step: Mapped[int] = mapped_column(BigInteger, default=0)
    """The latest 30 s of which a code was accepted: codes of it, and of earlier ones, are refused."""


class RecoveryCode(Base):
    """A code that stands in for the second factor once; the row goes with its use. Only its SHA-256 is kept."""

    __tablename__ = "recovery_code"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))


class Passkey(Base):
    """A WebAuthn credential."""

    __tablename__ = "passkey"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    rp_id: Mapped[str] = mapped_column(Text)
    """The host name that it was made for, and is good for."""
    credential_id: Mapped[bytes] = mapped_column(LargeBinary(1023), unique=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    """COSE."""
    sign_count: Mapped[int] = mapped_column(BigInteger)
    """As the authenticator told it last; 0 where it does not count."""
    transports: Mapped[list[str]] = mapped_column(JSON)
    synced: Mapped[bool]
    """Backed up by its maker: one passkey on several devices."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcTime)


class SpentTicket(Base):
    """A ticket (`gateway.store.tickets`) that has served its purpose; kept until it would have expired anyway."""

    __tablename__ = "spent_ticket"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(UtcTime, index=True)
