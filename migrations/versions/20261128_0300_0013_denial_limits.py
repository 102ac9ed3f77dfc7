"""Denials that let pass so much of each window."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COLUMNS = (
    ("limit_amount", sa.BigInteger()),
    ("limit_of", sa.String(length=16)),
    ("limit_per", sa.String(length=8)),
)


def upgrade() -> None:
    with op.batch_alter_table("denial") as denial:
        for name, kind in COLUMNS:
            denial.add_column(sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("denial") as denial:
        for name, _ in reversed(COLUMNS):
            denial.drop_column(name)
