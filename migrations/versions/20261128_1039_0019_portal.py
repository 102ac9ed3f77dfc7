"""The portal for app teams: services, requests for access, keys that overlap, notices."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NAME = sa.String(length=128)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer(), primary_key=True)


def _times() -> list[sa.Column[int]]:
    return [
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    ]


def _part_of(table: str, *, nullable: bool = False, column: str | None = None) -> sa.Column[int]:
    name = column or f"{table}_id"
    return sa.Column(name, sa.Integer(), sa.ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=nullable)


def upgrade() -> None:
    # Not in a batch: SQLite would make the table anew, and forget which ids were given.
    op.add_column("route", sa.Column("service", sa.JSON(), nullable=True))
    op.add_column("key", sa.Column("previous_digest", sa.LargeBinary(length=32), nullable=True))
    op.add_column("key", sa.Column("previous_until", sa.BigInteger(), nullable=True))
    op.create_index("ix_key_previous_digest", "key", ["previous_digest"], unique=True)
    op.create_table(
        "access_request",
        _id(),
        *_times(),
        _part_of("team"),
        _part_of("app", nullable=True),
        sa.Column("app_name", NAME, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_until", sa.BigInteger(), nullable=True),
        sa.Column("requested_by", sa.String(length=256), nullable=False),
        sa.Column("decided_by", sa.String(length=256), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decision_reason", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_access_request_team_id", "access_request", ["team_id"])
    op.create_index("ix_access_request_app_id", "access_request", ["app_id"])
    op.create_index("ix_access_request_state_expires_at", "access_request", ["state", "expires_at"])
    op.create_table(
        "access_request_route",
        _part_of("access_request", column="request_id"),
        _part_of("route"),
        sa.PrimaryKeyConstraint("request_id", "route_id"),
    )
    op.create_index("ix_access_request_route_route_id", "access_request_route", ["route_id"])
    op.create_table(
        "service_file",
        _part_of("route"),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("route_id"),
    )
    op.create_table(
        "notice",
        _id(),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        _part_of("team", nullable=True),
        sa.Column("once", sa.String(length=128), nullable=True, unique=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notice_team_id", "notice", ["team_id"])
    op.create_table(
        "notice_delivery",
        _id(),
        _part_of("notice"),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notice_delivery_notice_id", "notice_delivery", ["notice_id"])
    op.create_index("ix_notice_delivery_state_due_at", "notice_delivery", ["state", "due_at"])
    op.create_table(
        "team_contact",
        _part_of("team"),
        sa.Column("emails", sa.JSON(), nullable=False),
        sa.Column("webhook", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("sealing_key_id", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("team_id"),
    )


def downgrade() -> None:
    for table in (
        "team_contact", "notice_delivery", "notice", "service_file", "access_request_route", "access_request"
    ):  # fmt: skip
        op.drop_table(table)
    op.drop_index("ix_key_previous_digest", "key")
    op.drop_column("key", "previous_until")
    op.drop_column("key", "previous_digest")
    op.drop_column("route", "service")
