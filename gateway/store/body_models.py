"""The key pair that recorded bodies are sealed to. Bodies themselves are files (`bodies`), not rows."""

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base
from gateway.store.models import UtcTime, now


class BodyKey(Base):
    """There is at most one, made when a route records bodies for the first time. Workers get the public half alone:
    what they have written they cannot read."""

    __tablename__ = "body_key"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Always 1."""
    public: Mapped[bytes] = mapped_column(LargeBinary(32))
    """X25519 (RFC 7748)."""
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """The private half, in hex."""
    sealing_key_id: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
