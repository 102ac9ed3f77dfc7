"""Sums by who called what, how soon answers began, and what went past the gateway: by hour and by day.

Paths of the time before come from `usage_hour`, which never knew the process.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

HOUR_S, DAY_S = 3_600, 86_400
PATH = ("process", "user", "container", "team", "app", "key", "route", "target", "provider")
PATH_SUMS = (
    "requests", "errors", "refused", "unpriced", "input_tokens", "output_tokens", "cost_usd_micros", "bytes",
)  # fmt: skip
PAST_SUMS = ("connections", "bytes", "calls", "input_tokens", "output_tokens")


def upgrade() -> None:
    step = (("step_s", sa.Integer()), ("at_s", sa.BigInteger()))
    _create("flow_sum", (*step, *[(name, sa.Text()) for name in PATH]), PATH_SUMS)
    names = [(name, sa.Text()) for name in ("team", "route", "target", "provider")]
    _create("first_token_sum", (*step, *names, ("bucket", sa.Integer())), ("answers",))
    _create("route_bytes", (*step, ("route", sa.Text()), ("target", sa.Text())), ("bytes",))
    op.create_table(
        "past_sum",
        sa.Column(
            "discovery_id",
            sa.Integer(),
            sa.ForeignKey("discovery.id", name=op.f("fk_past_sum_discovery_id_discovery"), ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("step_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_s", sa.BigInteger(), autoincrement=False, nullable=False),
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in PAST_SUMS],
        sa.PrimaryKeyConstraint("discovery_id", "step_s", "at_s", name=op.f("pk_past_sum")),
    )
    op.create_index("ix_past_sum_step", "past_sum", ["step_s", "at_s"])
    for step_s in (HOUR_S, DAY_S):
        at = f"hour_s - hour_s % {step_s}"
        known = 'team, app, "key", route, target, provider'
        summed = ", ".join([f"sum({name})" for name in PATH_SUMS if name not in ("refused", "bytes")])
        into = ", ".join([f'"{name}"' for name in ("step_s", "at_s", *PATH)])
        named = ", ".join([name for name in PATH_SUMS if name not in ("refused", "bytes")])
        op.execute(
            f"INSERT INTO flow_sum ({into}, {named}, refused, bytes)"  # noqa: S608 - constants
            f" SELECT {step_s}, {at}, '', '', '', {known}, {summed}, 0, 0 FROM usage_hour GROUP BY {at}, {known}"
        )


def downgrade() -> None:
    for table in ("past_sum", "route_bytes", "first_token_sum", "flow_sum"):
        op.drop_table(table)


def _create(table: str, key: tuple[tuple[str, sa.types.TypeEngine[object]], ...], sums: tuple[str, ...]) -> None:
    op.create_table(
        table,
        *[sa.Column(name, kind, autoincrement=False, nullable=False) for name, kind in key],
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in sums],
        sa.PrimaryKeyConstraint(*[name for name, _ in key], name=op.f(f"pk_{table}")),
    )
