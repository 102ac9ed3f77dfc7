"""Sums of the ledger by day, beside those by hour that they are made from."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

NAMES = ("team", "app", "key", "route", "target", "provider", "model")
SUMS = (
    "requests", "errors", "unpriced", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_usd_micros",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "usage_day",
        sa.Column("day_s", sa.BigInteger(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in NAMES),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in SUMS),
        sa.PrimaryKeyConstraint("day_s", *NAMES, name=op.f("pk_usage_day")),
    )
    names = ", ".join([f'"{name}"' for name in NAMES])
    summed = ", ".join([f"sum({name})" for name in SUMS])
    day = "hour_s - hour_s % 86400"
    op.execute(
        f"INSERT INTO usage_day (day_s, {names}, {', '.join(SUMS)})"  # noqa: S608 - constants
        f" SELECT {day}, {names}, {summed} FROM usage_hour GROUP BY {day}, {names}"
    )


def downgrade() -> None:
    op.drop_table("usage_day")
