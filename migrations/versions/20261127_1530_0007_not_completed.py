"""The index of outcomes without `completed`: nearly all rows have that one, so looking for it needs no index, and each
new row would have to go there too. The new one is there before the old one goes: readers wait for neither. The release
before, which may still run, finds the same rows without it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = ("outcome", "started_at_ns", "id")


def upgrade() -> None:
    some = sa.text("outcome <> 'completed'")
    op.create_index("ix_ledger_not_completed", "ledger", COLUMNS, sqlite_where=some, postgresql_where=some)
    op.drop_index("ix_ledger_outcome", "ledger")


def downgrade() -> None:
    op.create_index("ix_ledger_outcome", "ledger", COLUMNS)
    op.drop_index("ix_ledger_not_completed", "ledger")
