"""Where a request's time went: until admitted, connecting, between events, and its attempts. Rows from before are null:
not recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

COLUMNS = {
    "admit_ms": sa.Float(),
    "connect_ms": sa.Float(),
    "longest_gap_ms": sa.Float(),
    "events": sa.BigInteger(),
    "attempt_log": sa.Text(),
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("ledger", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("ledger", name)
