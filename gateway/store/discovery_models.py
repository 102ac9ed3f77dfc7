"""The tables of who goes past the gateway (`discovery`) and of who may not (`denial`).

A finding is written by the keeper of the node that saw it, and decided upon by operators; both write columns of their
own. What a decision made (a rule, a denial) points back, so that taking it back finds it.
"""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from gateway.store.base import Base
from gateway.store.models import NAME_LENGTH, Entity, InterceptionRule, UtcTime


class Discovery(Base):
    """Who (process, user, container, forwarded client) talks to which AI provider past the gateway, on which node."""

    __tablename__ = "discovery"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 in hex of what makes it one finding (`store.findings.fingerprint`)."""
    node: Mapped[str] = mapped_column(String(32))
    process: Mapped[str | None] = mapped_column(Text)
    executable: Mapped[str | None] = mapped_column(Text)
    uid: Mapped[int | None] = mapped_column(BigInteger)
    user: Mapped[str | None] = mapped_column("user_name", Text)  # `user` is a reserved word in PostgreSQL
    cgroup: Mapped[str | None] = mapped_column(Text)
    unit: Mapped[str | None] = mapped_column(Text)
    container: Mapped[str | None] = mapped_column(Text)
    client: Mapped[str | None] = mapped_column(Text)
    """Address of a client whose traffic this host forwards."""
    provider: Mapped[str] = mapped_column(Text)
    """As the catalogue names it."""
    host: Mapped[str] = mapped_column(Text)
    """Name, or the address where no name was seen."""
    address: Mapped[str | None] = mapped_column(Text)
    """Of its last connection, as are port and evidence."""
    port: Mapped[int | None]
    evidence: Mapped[str] = mapped_column(String(16))
    first_seen: Mapped[datetime] = mapped_column(UtcTime)
    last_seen: Mapped[datetime] = mapped_column(UtcTime, index=True)
    connections: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Both ways."""
    calls: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Read within TLS, where somebody chose the process (`store.tls_calls`), as are the next three."""
    input_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    output_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    models: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Names with commas in between, ten at most."""
    state: Mapped[str] = mapped_column(String(8), index=True)
    """`policy.discovery.State`, as it was decided; what it made may be gone (`config.discoveries.state_now`)."""
    state_until: Mapped[datetime | None] = mapped_column(UtcTime, index=True)
    decided_by: Mapped[str | None] = mapped_column(String(256))
    decided_at: Mapped[datetime | None] = mapped_column(UtcTime)
    rule_id: Mapped[int | None] = mapped_column(ForeignKey("interception_rule.id", ondelete="SET NULL"), index=True)
    """What `govern` made, and `deny` for a client whose traffic is forwarded: those pass no cgroup of this host."""
    rule: Mapped[InterceptionRule | None] = relationship(lazy="raise")
    denial: Mapped["Denial | None"] = relationship(lazy="raise", back_populates="discovery", uselist=False)


class Denial(Entity, Base):
    """Who may not reach what. Of `executable` … `container` all that are given must fit, of `provider`, `hosts` and
    `cidrs` one of them."""

    __tablename__ = "denial"
    __table_args__ = {"sqlite_autoincrement": True}

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    discovery_id: Mapped[int | None] = mapped_column(ForeignKey("discovery.id", ondelete="SET NULL"), unique=True)
    """Whose `deny` made it; None = made by itself."""
    executable: Mapped[str | None] = mapped_column(Text)
    user: Mapped[str | None] = mapped_column("user_name", Text)
    """Name or number."""
    cgroup: Mapped[str | None] = mapped_column(Text)
    container: Mapped[str | None] = mapped_column(Text)
    provider: Mapped[str | None] = mapped_column(Text)
    hosts: Mapped[list[str]] = mapped_column(JSON)
    cidrs: Mapped[list[str]] = mapped_column(JSON)
    ports: Mapped[list[int]] = mapped_column(JSON)
    """Empty = all."""
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime, index=True)
    on_failure: Mapped[str] = mapped_column(String(8))
    created_by: Mapped[str] = mapped_column(String(256))
    note: Mapped[str] = mapped_column(Text)
    limit_amount: Mapped[int | None] = mapped_column(BigInteger)
    """What may pass in each window; None, as are the next two: nothing."""
    limit_of: Mapped[str | None] = mapped_column(String(16))
    """`connections` or `bytes`."""
    limit_per: Mapped[str | None] = mapped_column(String(8))
    """`policy.discovery.Per`"""
    discovery: Mapped[Discovery | None] = relationship(lazy="raise", back_populates="denial")
