"""The ledger, its hourly roll-up, and the counters and leases of the limits."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("started_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_usd_micros", sa.BigInteger(), nullable=True),
        sa.Column("latency_ms", sa.Float(), nullable=True),
        sa.Column("ttft_ms", sa.Float(), nullable=True),
        sa.Column("upstream_status", sa.Integer(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=24), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("overrun", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("client_request_id", sa.Text(), nullable=True),
        sa.Column("client_ip", sa.Text(), nullable=True),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("container", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    op.create_index("ix_ledger_started", "ledger", ["started_at_ns", "id"])
    for name in ("team", "app", "route", "outcome"):
        op.create_index(f"ix_ledger_{name}", "ledger", [name, "started_at_ns", "id"])
    names = ("team", "app", "key", "route", "target", "provider", "model")
    sums = (
        "requests",
        "errors",
        "unpriced",
        "input_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost_usd_micros",
    )
    op.create_table(
        "usage_hour",
        sa.Column("hour_s", sa.BigInteger(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in names),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in sums),
        sa.PrimaryKeyConstraint("hour_s", *names, name=op.f("pk_usage_hour")),
    )
    op.create_table(
        "limit_account",
        sa.Column("limit_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("window_start_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("recall_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("limit_id", "window_start_s", name=op.f("pk_limit_account")),
    )
    op.create_index(op.f("ix_limit_account_recall_ns"), "limit_account", ["recall_ns"])
    op.create_table(
        "lease",
        sa.Column("incarnation", sa.String(length=32), nullable=False),
        sa.Column("limit_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("window_start_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.String(length=32), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("ingested", sa.BigInteger(), nullable=False),
        sa.Column("recalled_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("incarnation", "limit_id", "window_start_s", name=op.f("pk_lease")),
    )
    op.create_index("ix_lease_limit", "lease", ["limit_id", "window_start_s"])
    op.create_index(op.f("ix_lease_node"), "lease", ["node"])


def downgrade() -> None:
    for table in ("lease", "limit_account", "usage_hour", "ledger"):
        op.drop_table(table)
