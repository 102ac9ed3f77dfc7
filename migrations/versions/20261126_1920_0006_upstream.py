"""How providers are reached (zone, tags, proxy, TLS, health checks), their secrets, and the tags a route prefers."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("provider") as provider:
        provider.add_column(sa.Column("zone", sa.String(length=128), nullable=True))
        for name in ("tags", "proxy", "tls", "health"):
            provider.add_column(sa.Column(name, sa.JSON(none_as_null=True), nullable=True))
    with op.batch_alter_table("route") as route:
        route.add_column(sa.Column("prefer", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "provider_secret",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("provider_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("sealing_key_id", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["provider.id"], name=op.f("fk_provider_secret_provider_id_provider"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_secret")),
        sa.UniqueConstraint("provider_id", "name", name=op.f("uq_provider_secret_provider_id_name")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("provider_secret")
    with op.batch_alter_table("route") as route:
        route.drop_column("prefer")
    with op.batch_alter_table("provider") as provider:
        for name in ("health", "tls", "proxy", "tags", "zone"):
            provider.drop_column(name)
