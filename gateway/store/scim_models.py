"""Tables of SCIM: what its client says of users and groups beyond what we go by (RFC 7643)."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base
from gateway.store.models import Entity, UtcTime, now


class ScimUser(Base):
    """Of a user that SCIM manages."""

    __tablename__ = "scim_user"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    external_id: Mapped[str | None] = mapped_column(Text, index=True)
    active: Mapped[bool] = mapped_column(default=True)
    """As the client said; an account that no group admits is disabled nevertheless."""
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The rest, as it came and was checked."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    changed_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    revision: Mapped[int] = mapped_column(default=1)
    """Counts what changes the resource: its ETag."""


class ScimGroup(Entity, Base):
    """A group; by its name the sign-on rules know it."""

    __tablename__ = "scim_group"
    __table_args__ = {"sqlite_autoincrement": True}

    display_name: Mapped[str] = mapped_column(Text, unique=True)
    external_id: Mapped[str | None] = mapped_column(String(512), index=True)


class ScimMember(Base):
    """Who is in a group."""

    __tablename__ = "scim_member"

    group_id: Mapped[int] = mapped_column(ForeignKey("scim_group.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True, index=True
    )
