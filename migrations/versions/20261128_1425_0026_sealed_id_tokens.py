"""ID tokens are kept sealed; one provider may be the directory's.

ID tokens that stood here as they came are dropped: no release has written them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sign_on_session", sa.Column("sealed", sa.LargeBinary(), nullable=True))
    op.add_column("sign_on_session", sa.Column("sealing_key_id", sa.String(length=16), nullable=True))
    op.drop_column("sign_on_session", "id_token")
    op.add_column("sign_on_provider", sa.Column("provisions", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("sign_on_provider", "provisions")
    op.add_column("sign_on_session", sa.Column("id_token", sa.Text(), nullable=False, server_default=""))
    op.drop_column("sign_on_session", "sealing_key_id")
    op.drop_column("sign_on_session", "sealed")
