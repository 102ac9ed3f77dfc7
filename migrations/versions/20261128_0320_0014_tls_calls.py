"""What findings are known to have called, where TLS of chosen processes is read."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

COUNTS = ("calls", "input_tokens", "output_tokens")


def upgrade() -> None:
    with op.batch_alter_table("discovery") as discovery:
        for name in COUNTS:
            discovery.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
        discovery.add_column(sa.Column("models", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("discovery") as discovery:
        for name in ("models", *reversed(COUNTS)):
            discovery.drop_column(name)
