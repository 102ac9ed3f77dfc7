"""Keys of the console's playground, which last for minutes."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "playground_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("app_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("made_by", sa.String(length=200), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_playground_key_app_id_app"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_playground_key")),
        sa.UniqueConstraint("digest", name=op.f("uq_playground_key_digest")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_playground_key_app_id"), "playground_key", ["app_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_playground_key_app_id"), table_name="playground_key")
    op.drop_table("playground_key")
