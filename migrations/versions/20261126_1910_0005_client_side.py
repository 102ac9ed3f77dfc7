"""Header rules of routes, cross-origin rules, destinations and networks of apps, and what the forward proxy writes into
the ledger. All may be null: the release before goes on writing while this one takes over."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = {
    "route": {"request_headers": sa.JSON(), "response_headers": sa.JSON()},
    "app": {"cors": sa.JSON(), "egress": sa.JSON(), "sources": sa.JSON()},
    "ledger": {"host": sa.Text(), "bytes_in": sa.BigInteger(), "bytes_out": sa.BigInteger()},
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for table, columns in COLUMNS.items():
        for name in reversed(columns):
            op.drop_column(table, name)
