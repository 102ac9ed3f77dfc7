"""The table of the playground's keys: they last for minutes and are no part of the configuration."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base
from gateway.store.models import UtcTime

KEY_NAME: Final = "playground"
"""Of all of them, in the ledger."""
FIRST_KEY_ID: Final = 1 << 52
"""Added to their ids in a snapshot, where they stand among the configuration's keys."""


class PlaygroundKey(Base):
    """A key of an app's that somebody tries routes with. Neither lists of keys nor exports nor versions name it."""

    __tablename__ = "playground_key"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("app.id", ondelete="CASCADE"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """SHA-256 of the key's text."""
    made_by: Mapped[str] = mapped_column(String(200))
    """As the audit log writes it: `user:NAME` or `token:NAME`."""
    target: Mapped[str | None] = mapped_column(Text)
    """`provider/model`: calls with this key go there and nowhere else. None = where the route sends them."""
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
