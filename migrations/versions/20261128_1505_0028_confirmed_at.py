"""When a session's user was last seen to be who they are: asked before deeds that outlive a session."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("login_session", sa.Column("confirmed_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("login_session", "confirmed_at")
