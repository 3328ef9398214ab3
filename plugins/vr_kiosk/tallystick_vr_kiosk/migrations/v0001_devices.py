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
        "vr_kiosk_device",
        _text("tenant"), _text("id"), _text("name"), _text("place", "''"), _text("public_key"), _text("state"),
        _number("epoch"), _number("counter", "0"), _text("last"), _number("paired_at"), _number("seen_at", "0"),
        _text("version", "''"), _text("health", "'{}'"), _number("offline_day", "0"),
        _number("offline_events", "0"),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "vr_kiosk_pairing",
        _text("tenant"), _text("letters"), _text("public_key"), _text("version"), _text("state"),
        _text("device", "''"), _number("expires_at"),
        sa.PrimaryKeyConstraint("tenant", "letters"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("vr_kiosk_pairing_key", "vr_kiosk_pairing", ["tenant", "public_key"])
    op.create_table(
        "vr_kiosk_frame",
        _text("tenant"), _text("device"), _number("epoch"), _number("counter"), _text("hash"),
        _text("answer", "''"), _number("at"),
        sa.PrimaryKeyConstraint("tenant", "device", "epoch", "counter"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "vr_kiosk_command",
        _text("tenant"), _text("device"), _text("id"), _text("command"), _text("facts"), _text("state"),
        _number("tries", "0"), _text("said", "''"), _number("created_at"), _number("due_at"),
        sa.PrimaryKeyConstraint("tenant", "device", "id"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "vr_kiosk_grant",
        _text("tenant"), _text("device"), _text("id"), _number("points"), _number("until"), _text("state"),
        sa.PrimaryKeyConstraint("tenant", "device", "id"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "vr_kiosk_alias",
        _text("tenant"), _text("alias"), _number("member"), _text("kind"), _text("state"), _number("created_at"),
        sa.PrimaryKeyConstraint("tenant", "alias"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("vr_kiosk_alias_member", "vr_kiosk_alias", ["tenant", "member"])
    op.create_table(
        "vr_kiosk_used",
        _text("tenant"), _text("alias"), _number("step"), _text("operation"),
        sa.PrimaryKeyConstraint("tenant", "alias", "step"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "vr_kiosk_pin",
        _text("tenant"), _number("member"), _text("salt"), _text("hash"), _number("changed_at"),
        sa.PrimaryKeyConstraint("tenant", "member"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "vr_kiosk_attempt",
        _text("tenant"), _text("who"), _number("minute"), _number("count"),
        sa.PrimaryKeyConstraint("tenant", "who", "minute"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "vr_kiosk_session",
        _text("tenant"), _text("id"), _text("device"), _number("member"), _text("level"), _number("expires_at"),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("vr_kiosk_session_member", "vr_kiosk_session", ["tenant", "member"])
    op.create_table(
        "vr_kiosk_alarm",
        _text("tenant"), _text("id"), _text("device"), _text("code"), _text("detail"), _number("at"),
        _number("seen_at", "0"),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("vr_kiosk_alarm_at", "vr_kiosk_alarm", ["tenant", "at"])
    op.create_table(
        "vr_kiosk_wish",
        _text("tenant"), _number("member"), _text("product"), _text("showroom"), _number("at"),
        sa.PrimaryKeyConstraint("tenant", "member", "product"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "vr_kiosk_found",
        _text("tenant"), _number("member"), _text("showroom"), _text("spot"),
        sa.PrimaryKeyConstraint("tenant", "member", "showroom", "spot"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
