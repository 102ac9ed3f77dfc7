"""The ledger by process: few rows have one, and Traffic and Flows ask for them."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = sa.text("process IS NOT NULL")
    op.create_index(
        "ix_ledger_process",
        "ledger",
        ["process", "started_at_ns", "id"],
        sqlite_where=known,
        postgresql_where=known,
    )


def downgrade() -> None:
    op.drop_index("ix_ledger_process", table_name="ledger")
