"""Single sign-on, SCIM, tokens with scopes.

New columns of present tables may be null: the release before goes on writing while this one takes over.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TABLES = (
    "scim_group",
    "sign_on_policy",
    "sign_on_provider",
    "sign_on_rule",
    "sign_on_secret",
    "scim_member",
    "scim_user",
    "user_identity",
    "sign_on_session",
)


def upgrade() -> None:
    op.create_table(
        "scim_group",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("external_id", sa.String(length=512), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scim_group")),
        sa.UniqueConstraint("display_name", name=op.f("uq_scim_group_display_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_scim_group_external_id"), "scim_group", ["external_id"])
    op.create_table(
        "sign_on_policy",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("passwords", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_sign_on_policy_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_on_policy")),
    )
    op.create_table(
        "sign_on_provider",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("groups_claim", sa.String(length=128), nullable=False),
        sa.Column("name_claim", sa.String(length=128), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("endpoints", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_on_provider")),
        sa.UniqueConstraint("name", name=op.f("uq_sign_on_provider_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sign_on_rule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("group_name", sa.Text(), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("team_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["team_id"], ["team.id"], name=op.f("fk_sign_on_rule_team_id_team"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_on_rule")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_sign_on_rule_team_id"), "sign_on_rule", ["team_id"])
    op.create_table(
        "sign_on_secret",
        sa.Column("provider_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("sealing_key_id", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_id"],
            ["sign_on_provider.id"],
            name=op.f("fk_sign_on_secret_provider_id_sign_on_provider"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("provider_id", name=op.f("pk_sign_on_secret")),
    )
    op.create_table(
        "scim_member",
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["scim_group.id"], name=op.f("fk_scim_member_group_id_scim_group"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_scim_member_user_id_user_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_scim_member")),
    )
    op.create_index(op.f("ix_scim_member_user_id"), "scim_member", ["user_id"])
    op.create_table(
        "scim_user",
        sa.Column("user_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_scim_user_user_id_user_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_scim_user")),
    )
    op.create_index(op.f("ix_scim_user_external_id"), "scim_user", ["external_id"])
    op.create_table(
        "user_identity",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("provider_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_id"],
            ["sign_on_provider.id"],
            name=op.f("fk_user_identity_provider_id_sign_on_provider"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_user_identity_user_id_user_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_identity")),
        sa.UniqueConstraint("provider_id", "subject", name=op.f("uq_user_identity_provider_id_subject")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_user_identity_user_id"), "user_identity", ["user_id"])
    op.create_table(
        "sign_on_session",
        sa.Column("session_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("provider_id", sa.Integer(), nullable=False),
        sa.Column("id_token", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_id"],
            ["sign_on_provider.id"],
            name=op.f("fk_sign_on_session_provider_id_sign_on_provider"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["login_session.id"],
            name=op.f("fk_sign_on_session_session_id_login_session"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_sign_on_session")),
    )
    op.create_index(op.f("ix_sign_on_session_provider_id"), "sign_on_session", ["provider_id"])
    op.add_column("token", sa.Column("scopes", sa.JSON, nullable=True))
    op.add_column("user_account", sa.Column("source", sa.String(length=16), nullable=True))


def downgrade() -> None:
    op.drop_column("user_account", "source")
    op.drop_column("token", "scopes")
    for name in reversed(TABLES):
        op.drop_table(name)
