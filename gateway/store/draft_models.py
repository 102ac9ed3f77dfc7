"""Tables of the draft: changes of the configuration that are collected before they are published."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base
from gateway.store.models import UtcTime


class ConfigurationDraft(Base):
    """The one draft of the gateway. The row stays when the draft goes, so that its revision never comes again."""

    __tablename__ = "configuration_draft"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int]
    document: Mapped[str | None] = mapped_column(Text)
    """YAML of the whole configuration as it would be; None = there is no draft."""
    base: Mapped[str] = mapped_column(Text)
    """What was in force when it was last brought together with the draft, as `export` writes it."""
    conflicts: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """Where both have changed the same (`drafts.Conflicting`)."""
    authors: Mapped[dict[str, Any]] = mapped_column(JSON)
    """`kind name` → who drafted that last, and when."""
    changes: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(UtcTime)
    started_by: Mapped[str] = mapped_column(String(256))
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_by: Mapped[str] = mapped_column(String(256))


class DraftSecret(Base):
    """A provider's secret that a draft names, sealed like a credential; it goes with the draft."""

    __tablename__ = "draft_secret"

    reference: Mapped[str] = mapped_column(String(64), primary_key=True)
    """As the draft's document writes it, without its mark."""
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    sealing_key_id: Mapped[str] = mapped_column(String(16))
