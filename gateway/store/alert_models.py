"""The table of alerts: what the gateway's own processes, and watched ones, did that they should not."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Boolean, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base
from gateway.store.models import UtcTime


class Alert(Base):
    """What was done once or, told again after a minute, `count` times. Written by the keeper of the node that saw it,
    never changed."""

    __tablename__ = "alert"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcTime, index=True)
    """Of the last time, as the kernel saw it."""
    node: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(8), index=True)
    """`exec`, `connect`."""
    reason: Mapped[str] = mapped_column(Text)
    count: Mapped[int] = mapped_column(BigInteger)
    refused: Mapped[bool] = mapped_column(Boolean)
    """The kernel refused it."""
    pid: Mapped[int | None] = mapped_column(BigInteger)
    process: Mapped[str | None] = mapped_column(Text)
    executable: Mapped[str | None] = mapped_column(Text)
    argv: Mapped[list[str] | None] = mapped_column(JSON)
    parent: Mapped[int | None] = mapped_column(BigInteger)
    uid: Mapped[int | None] = mapped_column(BigInteger)
    user: Mapped[str | None] = mapped_column("user_name", Text)  # `user` is a reserved word in PostgreSQL
    cgroup: Mapped[str | None] = mapped_column(Text)
    container: Mapped[str | None] = mapped_column(Text)
    destination: Mapped[str | None] = mapped_column(Text)
    port: Mapped[int | None]
