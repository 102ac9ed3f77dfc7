"""Sums of flows by week too, first tokens of all teams together, and both in the order of their keys in SQLite.

A month of a large installation was 290,000 rows of first tokens and 110,000 paths; now it is a tenth and a third.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

WEEK_S = 7 * 86_400
EVERY_TEAM = "*"
PATH = ("process", "user", "container", "team", "app", "key", "route", "target", "provider")
KEYS = {
    "flow_sum": PATH,
    "first_token_sum": ("team", "route", "target", "provider", "bucket"),
    "route_bytes": ("route", "target"),
    "past_sum": ("discovery_id",),
}
"""What, beside step and time, the rows of each are known by."""
SUMS = {
    "flow_sum": (
        "requests", "errors", "refused", "unpriced", "input_tokens", "output_tokens", "cost_usd_micros", "bytes",
    ),
    "first_token_sum": ("answers",),
    "route_bytes": ("bytes",),
    "past_sum": ("connections", "bytes", "calls", "input_tokens", "output_tokens"),
}  # fmt: skip
REBUILT = ("flow_sum", "first_token_sum", "route_bytes")
NUMBERS = {"step_s": sa.Integer(), "at_s": sa.BigInteger(), "bucket": sa.Integer()}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _rebuild(with_rowid=False)
    key = _quoted(KEYS["first_token_sum"][1:])
    op.execute(
        f"INSERT INTO first_token_sum (step_s, at_s, team, {key}, answers)"  # noqa: S608 - constants
        f" SELECT step_s, at_s, '{EVERY_TEAM}', {key}, sum(answers) FROM first_token_sum GROUP BY step_s, at_s, {key}"
    )
    for table, names in KEYS.items():
        week, key, sums = f"at_s - at_s % {WEEK_S}", _quoted(names), SUMS[table]
        op.execute(
            f"INSERT INTO {table} (step_s, at_s, {key}, {', '.join(sums)})"  # noqa: S608 - constants
            f" SELECT {WEEK_S}, {week}, {key}, {', '.join(f'sum({name})' for name in sums)}"
            f" FROM {table} WHERE step_s = 86400 GROUP BY {week}, {key}"
        )


def downgrade() -> None:
    for table in KEYS:
        op.execute(f"DELETE FROM {table} WHERE step_s = {WEEK_S}")  # noqa: S608 - constants
    op.execute(f"DELETE FROM first_token_sum WHERE team = '{EVERY_TEAM}'")  # noqa: S608 - constants
    if op.get_bind().dialect.name == "sqlite":
        _rebuild(with_rowid=True)


def _rebuild(*, with_rowid: bool) -> None:
    for table in REBUILT:
        key = ("step_s", "at_s", *KEYS[table])
        names = _quoted((*key, *SUMS[table]))
        op.rename_table(table, f"{table}_before")
        op.create_table(
            table,
            *[sa.Column(name, NUMBERS.get(name, sa.Text()), autoincrement=False, nullable=False) for name in key],
            *[sa.Column(name, sa.BigInteger(), nullable=False) for name in SUMS[table]],
            sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{table}")),
            sqlite_with_rowid=with_rowid,
        )
        op.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {table}_before")  # noqa: S608 - constants
        op.drop_table(f"{table}_before")


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join([f'"{name}"' for name in names])
