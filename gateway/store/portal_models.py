"""Tables of the portal for app teams: requests for access, OpenAPI documents, notices and how they are delivered."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from gateway.store.base import Base
from gateway.store.models import NAME_LENGTH, App, Entity, Route, Team, UtcTime, now


class AccessRequest(Entity, Base):
    """A team's wish that an app may call routes. Approved and not ended, it is the permission itself: what it allows
    stands beside the app's own `routes`, so that applying a document does not take it away."""

    __tablename__ = "access_request"
    __table_args__ = (
        Index("ix_access_request_state_expires_at", "state", "expires_at"),
        {"sqlite_autoincrement": True},
    )

    team_id: Mapped[int] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), index=True)
    app_id: Mapped[int | None] = mapped_column(ForeignKey("app.id", ondelete="CASCADE"), index=True)
    """None: the app is made with the approval."""
    app_name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    """Of an app that does not exist yet."""
    state: Mapped[str] = mapped_column(String(16))
    """A `RequestState`."""
    reason: Mapped[str] = mapped_column(Text)
    asked_until: Mapped[datetime | None] = mapped_column(UtcTime)
    requested_by: Mapped[str] = mapped_column(String(256))
    decided_by: Mapped[str | None] = mapped_column(String(256))
    decided_at: Mapped[datetime | None] = mapped_column(UtcTime)
    decision_reason: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """Of an approved one."""
    team: Mapped[Team] = relationship(lazy="raise")
    app: Mapped[App | None] = relationship(lazy="raise")
    routes: Mapped[list[Route]] = relationship(secondary="access_request_route", lazy="raise", order_by="Route.name")


class AccessRequestRoute(Base):
    """What is asked for; a route that goes is asked for no more."""

    __tablename__ = "access_request_route"

    request_id: Mapped[int] = mapped_column(ForeignKey("access_request.id", ondelete="CASCADE"), primary_key=True)
    route_id: Mapped[int] = mapped_column(ForeignKey("route.id", ondelete="CASCADE"), primary_key=True, index=True)


class ServiceFile(Base):
    """The OpenAPI document of an HTTP route. Beside the configuration: it is large, and no version needs it."""

    __tablename__ = "service_file"

    route_id: Mapped[int] = mapped_column(ForeignKey("route.id", ondelete="CASCADE"), primary_key=True)
    content: Mapped[str] = mapped_column(Text)
    """JSON."""
    source: Mapped[str | None] = mapped_column(Text)
    """The URL that it was fetched from; None: it was sent."""
    updated_at: Mapped[datetime] = mapped_column(UtcTime, default=now)


class Notice(Base):
    """Something that people are told once. Numbers grow in the order of the transactions: whoever writes one holds the
    audit log's lock."""

    __tablename__ = "notice"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    kind: Mapped[str] = mapped_column(String(32))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), index=True)
    """Whose it is; None: the platform's alone."""
    once: Mapped[str | None] = mapped_column(String(128), unique=True)
    """What may be told of no more than once, e.g. a budget's window and threshold; None: as often as it happens."""
    title: Mapped[str] = mapped_column(Text)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What programs read: ids, names and figures."""
    team: Mapped[Team | None] = relationship(lazy="raise")
    deliveries: Mapped[list["NoticeDelivery"]] = relationship(
        back_populates="notice", lazy="raise", cascade="all, delete-orphan", passive_deletes=True,
        order_by="NoticeDelivery.id",
    )  # fmt: skip


class NoticeDelivery(Base):
    """One way in which a notice goes to somebody."""

    __tablename__ = "notice_delivery"
    __table_args__ = (Index("ix_notice_delivery_state_due_at", "state", "due_at"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    notice_id: Mapped[int] = mapped_column(ForeignKey("notice.id", ondelete="CASCADE"), index=True)
    channel: Mapped[str] = mapped_column(String(8))
    """`email` or `webhook`."""
    destination: Mapped[str] = mapped_column(Text)
    """An address, or a URL."""
    state: Mapped[str] = mapped_column(String(8))
    """`waiting`, `sent` or `failed`."""
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    """When it is tried next. Whoever tries it puts this off first: so it is one keeper's at a time."""
    error: Mapped[str | None] = mapped_column(Text)
    """Why the last attempt failed."""
    notice: Mapped[Notice] = relationship(back_populates="deliveries", lazy="raise")


class TeamContact(Base):
    """Where a team hears of its notices."""

    __tablename__ = "team_contact"

    team_id: Mapped[int] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), primary_key=True)
    emails: Mapped[list[str]] = mapped_column(JSON)
    webhook: Mapped[str | None] = mapped_column(Text)
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The secret that webhooks are signed with, sealed like a credential."""
    sealing_key_id: Mapped[str | None] = mapped_column(String(16))
