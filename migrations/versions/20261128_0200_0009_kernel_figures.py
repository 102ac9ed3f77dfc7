"""The kernel's figures by minute and by hour."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kernel_figures",
        sa.Column("step_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.String(length=32), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("measured", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("step_s", "at_s", "node", "route", "target", name=op.f("pk_kernel_figures")),
    )


def downgrade() -> None:
    op.drop_table("kernel_figures")
