"""Routes may record bodies; the key pair that these are sealed to."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("route") as route:
        route.add_column(sa.Column("capture", sa.JSON(), nullable=True))
    op.create_table(
        "body_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("public", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("sealing_key_id", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_body_key")),
    )


def downgrade() -> None:
    op.drop_table("body_key")
    with op.batch_alter_table("route") as route:
        route.drop_column("capture")
