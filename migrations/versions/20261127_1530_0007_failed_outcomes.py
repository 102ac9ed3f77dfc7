"""The index of outcomes without `completed`: nearly all rows have that one, so looking for it needs no index, and each
new row would have to go there too."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAME = "ix_ledger_outcome"
COLUMNS = ("outcome", "started_at_ns", "id")


def upgrade() -> None:
    op.drop_index(NAME, "ledger")
    some = sa.text("outcome <> 'completed'")
    op.create_index(NAME, "ledger", COLUMNS, sqlite_where=some, postgresql_where=some)


def downgrade() -> None:
    op.drop_index(NAME, "ledger")
    op.create_index(NAME, "ledger", COLUMNS)
