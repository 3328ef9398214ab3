"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _number(name: str, default: str | None = None) -> sa.Column[int]:
    return sa.Column(
        name, Int, autoincrement=False, nullable=False, server_default=sa.text(default) if default else None
    )


def _text(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(
        name, sa.Text(), autoincrement=False, nullable=False, server_default=sa.text(default) if default else None
    )


def upgrade() -> None:
    op.create_table(
        "notify_message",
        _text("tenant"), _text("id"), _number("member"), _text("template"), _text("purpose"), _text("facts"), _number("entry"),
        _number("due_at"), _number("expires_at", "0"), _number("created_at"), _number("planned", "0"), _number("read_at", "0"),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("notify_message_member", "notify_message", ["tenant", "member", "created_at"])
    op.create_index("notify_message_planned", "notify_message", ["tenant", "planned", "due_at"])
    op.create_table(
        "notify_delivery",
        _text("tenant"), _text("message"), _text("channel"), _text("state"), _text("reason", "''"), _number("attempts", "0"),
        _number("due_at"), _number("at"),
        sa.PrimaryKeyConstraint("tenant", "message", "channel"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("notify_delivery_due", "notify_delivery", ["tenant", "state", "due_at"])
    op.create_table(
        "notify_consent",
        _text("tenant"), _number("member"), _text("purpose"), _text("channel"), _number("number"), _number("given"),
        _text("wording"), _text("via"), _number("at"),
        sa.PrimaryKeyConstraint("tenant", "member", "purpose", "channel", "number"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
