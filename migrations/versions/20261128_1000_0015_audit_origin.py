"""From which address a change came, and where the audit log ends. May be null: the release before goes on writing while
this one takes over. On the way back the addresses are lost, and with them the proof of the entries that have one."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit_entry", sa.Column("origin", sa.Text(), nullable=True))
    op.add_column("meta", sa.Column("audit_seq", sa.BigInteger(), nullable=True))
    op.add_column("meta", sa.Column("audit_hash", sa.LargeBinary(length=32), nullable=True))
    for name, column in (("audit_seq", "seq"), ("audit_hash", "hash")):
        last = f"SELECT {column} FROM audit_entry ORDER BY seq DESC LIMIT 1"  # noqa: S608  constants
        op.execute(f"UPDATE meta SET {name} = ({last})")  # noqa: S608


def downgrade() -> None:
    op.drop_column("meta", "audit_hash")
    op.drop_column("meta", "audit_seq")
    op.drop_column("audit_entry", "origin")
