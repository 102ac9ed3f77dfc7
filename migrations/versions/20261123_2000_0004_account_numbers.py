# ruff: noqa: S608 - constants only
"""Accounts and leases are kept by account number: limit and metric in one, so that a limit whose metric is changed
starts from nothing instead of going on in another unit."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

METRICS = ("requests", "input_tokens", "output_tokens", "total_tokens", "cost_usd", "concurrent_requests")


NUMBER = (
    "(SELECT limit_rule.id * 8 + CASE metric "
    + " ".join([f"WHEN '{metric}' THEN {index}" for index, metric in enumerate(METRICS)])
    + " END FROM limit_rule WHERE limit_rule.id = {limit})"
)
"""The account number of a limit, as `gateway.policy.quota.account_of` made it when this was written."""


def upgrade() -> None:
    for table in ("limit_account", "lease"):
        op.execute(f"DELETE FROM {table} WHERE limit_id NOT IN (SELECT id FROM limit_rule)")
        op.execute(f"ALTER TABLE {table} RENAME COLUMN limit_id TO account")
        # Negative first: a number must not meet one that is still to be changed.
        op.execute(f"UPDATE {table} SET account = -{NUMBER.format(limit=f'{table}.account')}")
        op.execute(f"UPDATE {table} SET account = -account")


def downgrade() -> None:
    for table in ("limit_account", "lease"):
        # Of a limit whose metric was changed only the present account can be kept.
        number = NUMBER.format(limit=f"{table}.account / 8")
        op.execute(f"DELETE FROM {table} WHERE account <> coalesce({number}, -1)")
        op.execute(f"UPDATE {table} SET account = -(account / 8)")
        op.execute(f"UPDATE {table} SET account = -account")
        op.execute(f"ALTER TABLE {table} RENAME COLUMN account TO limit_id")
