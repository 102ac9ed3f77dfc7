"""Tables of the ledger, its hourly roll-up, and the counters of the limits (docs/quotas.md).

Rows name teams, apps, routes and targets by text: they outlive what they name.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Float, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
NOT_COMPLETED = text("outcome <> 'completed'")
"""Nearly all rows are completed: no index finds them quicker than reading on does."""

KNOWN_PROCESS: Final = text("process IS NOT NULL")


class LedgerEntry(Base):
    """One request that has ended: `policy.usage.LedgerRow`, field by field."""

    __tablename__ = "ledger"
    __table_args__ = (
        # Lists go newest first by (started_at_ns, id), over all and within one team, app, route, …
        Index("ix_ledger_started", "started_at_ns", "id"),
        Index("ix_ledger_team", "team", "started_at_ns", "id"),
        Index("ix_ledger_app", "app", "started_at_ns", "id"),
        Index("ix_ledger_route", "route", "started_at_ns", "id"),
        # Nearly no row has a process: those of intercepted local connections.
        Index(
            "ix_ledger_process",
            "process",
            "started_at_ns",
            "id",
            sqlite_where=KNOWN_PROCESS,
            postgresql_where=KNOWN_PROCESS,
        ),
        Index(
            "ix_ledger_not_completed",
            "outcome",
            "started_at_ns",
            "id",
            sqlite_where=NOT_COMPLETED,
            postgresql_where=NOT_COMPLETED,
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    started_at_ns: Mapped[int] = mapped_column(BigInteger)
    team: Mapped[str] = mapped_column(Text)
    app: Mapped[str] = mapped_column(Text)
    key: Mapped[str | None] = mapped_column(Text)
    route: Mapped[str | None] = mapped_column(Text)
    target: Mapped[str | None] = mapped_column(Text)
    provider: Mapped[str | None] = mapped_column(Text)
    dialect: Mapped[str] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    status: Mapped[int] = mapped_column(Integer)
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cached_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cost_usd_micros: Mapped[int | None] = mapped_column(BigInteger)
    latency_ms: Mapped[float | None] = mapped_column(Float)
    ttft_ms: Mapped[float | None] = mapped_column(Float)
    upstream_status: Mapped[int | None] = mapped_column(Integer)
    attempts: Mapped[int] = mapped_column(Integer)
    outcome: Mapped[str] = mapped_column(String(24))
    error_code: Mapped[str | None] = mapped_column(Text)
    estimated: Mapped[bool] = mapped_column(Boolean)
    overrun: Mapped[int] = mapped_column(BigInteger)
    stream: Mapped[bool] = mapped_column(Boolean)
    client_request_id: Mapped[str | None] = mapped_column(Text)
    client_ip: Mapped[str | None] = mapped_column(Text)
    process: Mapped[str | None] = mapped_column(Text)
    user: Mapped[str | None] = mapped_column(Text)
    container: Mapped[str | None] = mapped_column(Text)
    host: Mapped[str | None] = mapped_column(Text)
    bytes_in: Mapped[int | None] = mapped_column(BigInteger)
    bytes_out: Mapped[int | None] = mapped_column(BigInteger)
    admit_ms: Mapped[float | None] = mapped_column(Float)
    connect_ms: Mapped[float | None] = mapped_column(Float)
    longest_gap_ms: Mapped[float | None] = mapped_column(Float)
    events: Mapped[int | None] = mapped_column(BigInteger)
    attempt_log: Mapped[str | None] = mapped_column(Text)


class UsageSums:
    """Sums of the ledger in a step of time, written in the transaction that inserts the rows. Absent names are ''."""

    team: Mapped[str] = mapped_column(Text, primary_key=True)
    app: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    route: Mapped[str] = mapped_column(Text, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    """Requests refused by us, failed upstream, or interrupted."""
    unpriced: Mapped[int] = mapped_column(BigInteger)
    """Requests that used tokens whose cost is unknown."""
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd_micros: Mapped[int] = mapped_column(BigInteger)


class UsageHour(UsageSums, Base):
    __tablename__ = "usage_hour"

    hour_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, sort_order=-1)


class UsageDay(UsageSums, Base):
    """By day (UTC): a month is read as its days and the hours at its ends."""

    __tablename__ = "usage_day"

    day_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, sort_order=-1)


class LimitAccount(Base):
    """What one limit has been charged in one window, over all nodes."""

    __tablename__ = "limit_account"

    account: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Limit and metric in one (`policy.quota.account_of`)."""
    window_start_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    settled: Mapped[int] = mapped_column(BigInteger)
    recall_ns: Mapped[int] = mapped_column(BigInteger, index=True)
    """When some node last needed the idle parts of all leases (Unix nanoseconds)."""


class LeaseEntry(Base):
    """What one worker may spend of one limit in one window: outstanding is `max(0, granted - ingested)`."""

    __tablename__ = "lease"
    __table_args__ = (Index("ix_lease_limit", "account", "window_start_s"),)

    incarnation: Mapped[str] = mapped_column(String(32), primary_key=True)
    account: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Limit and metric in one (`policy.quota.account_of`)."""
    window_start_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    node: Mapped[str] = mapped_column(String(32), index=True)
    granted: Mapped[int] = mapped_column(BigInteger)
    ingested: Mapped[int] = mapped_column(BigInteger)
    """What of it has been charged to the account."""
    recalled_ns: Mapped[int] = mapped_column(BigInteger)
    """The newest recall mark that this lease's node has followed."""
