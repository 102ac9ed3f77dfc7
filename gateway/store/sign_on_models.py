"""Tables of single sign-on: identity providers, whom their groups admit, and who came by which of them."""

from datetime import datetime

from sqlalchemy import JSON, CheckConstraint, ForeignKey, LargeBinary, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from gateway.store.base import Base
from gateway.store.models import NAME_LENGTH, Entity, Team, User, UtcTime, now


class SignOnPolicy(Entity, Base):
    """What holds for all providers; no row until it is set."""

    __tablename__ = "sign_on_policy"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    passwords: Mapped[str] = mapped_column(String(16))
    """Who may sign in by password: a `sign_on_documents.Passwords`."""


class SignOnRule(Base):
    """Which group comes in as what; the lowest position that fits decides."""

    __tablename__ = "sign_on_rule"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int]
    group_name: Mapped[str | None] = mapped_column(Text)
    """None = everybody."""
    role: Mapped[str] = mapped_column(String(16))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), index=True)
    team: Mapped[Team | None] = relationship(lazy="raise")


class SignOnProvider(Entity, Base):
    """An OpenID provider, and what we are to it."""

    __tablename__ = "sign_on_provider"
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    label: Mapped[str] = mapped_column(String(NAME_LENGTH))
    """What the button says."""
    issuer: Mapped[str] = mapped_column(Text)
    client_id: Mapped[str] = mapped_column(Text)
    scopes: Mapped[str] = mapped_column(Text)
    """Separated by spaces."""
    groups_claim: Mapped[str] = mapped_column(String(NAME_LENGTH))
    name_claim: Mapped[str] = mapped_column(String(NAME_LENGTH))
    enabled: Mapped[bool] = mapped_column(default=True)
    provisions: Mapped[bool] = mapped_column(default=False, server_default=false())
    """It is the directory's, which makes users by SCIM: they come in by it. At most one is."""
    endpoints: Mapped[list[str]] = mapped_column(JSON, default=list)
    """URLs that its discovery document named, for the list of where our processes have reason to go."""
    secret: Mapped["SignOnSecret | None"] = relationship(
        lazy="raise", cascade="all, delete-orphan", passive_deletes=True
    )


class SignOnSecret(Base):
    """The client secret, sealed like a credential; a public client has none."""

    __tablename__ = "sign_on_secret"

    provider_id: Mapped[int] = mapped_column(
        ForeignKey("sign_on_provider.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    sealing_key_id: Mapped[str] = mapped_column(String(16))


class UserIdentity(Base):
    """Who a provider's subject is here."""

    __tablename__ = "user_identity"
    __table_args__ = (UniqueConstraint("provider_id", "subject"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    provider_id: Mapped[int] = mapped_column(ForeignKey("sign_on_provider.id", ondelete="CASCADE"))
    subject: Mapped[str] = mapped_column(String(255))
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    groups: Mapped[list[str]] = mapped_column(JSON, default=list)
    """As they were at the last sign-in."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    seen_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    user: Mapped[User] = relationship(lazy="raise")


class SignOnSession(Base):
    """A console session that was begun at a provider: what signing out there takes, its ID token, sealed like a
    credential."""

    __tablename__ = "sign_on_session"

    session_id: Mapped[int] = mapped_column(
        ForeignKey("login_session.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    provider_id: Mapped[int] = mapped_column(ForeignKey("sign_on_provider.id", ondelete="CASCADE"), index=True)
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """None of a session from before they were sealed: the provider asks whether to sign out."""
    sealing_key_id: Mapped[str | None] = mapped_column(String(16))
