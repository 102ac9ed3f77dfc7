"""The draft of the configuration, and the secrets that it names."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "configuration_draft",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=True),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("conflicts", sa.JSON(), nullable=False),
        sa.Column("authors", sa.JSON(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("started_by", sa.String(length=256), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.String(length=256), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_configuration_draft_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configuration_draft")),
    )
    op.create_table(
        "draft_secret",
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("sealing_key_id", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_draft_secret")),
    )


def downgrade() -> None:
    op.drop_table("draft_secret")
    op.drop_table("configuration_draft")
