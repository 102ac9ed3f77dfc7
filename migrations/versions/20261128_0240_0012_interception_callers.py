"""Whom interception rules let in without a key."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "interception_caller",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("app_id", sa.Integer(), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["app_id"], ["app.id"], name=op.f("fk_interception_caller_app_id_app"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["interception_rule.id"],
            name=op.f("fk_interception_caller_rule_id_interception_rule"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_interception_caller")),
        sqlite_autoincrement=True,
    )
    for column in ("rule_id", "app_id"):
        op.create_index(op.f(f"ix_interception_caller_{column}"), "interception_caller", [column])


def downgrade() -> None:
    op.drop_table("interception_caller")
