"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, Int, autoincrement=False, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), autoincrement=False, nullable=False)


def upgrade() -> None:
    op.create_table(
        "coalition_entry",
        _text("tenant"), _text("partner"), _text("period"), _text("transfer"), _number("n"), _text("kind"), _text("source"),
        _text("target"), _number("amount"), _number("gets"), _number("owed"), _text("agreement"), _text("entry"), _number("member"),
        sa.PrimaryKeyConstraint("tenant", "partner", "period", "transfer", "n"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("coalition_entry_member", "coalition_entry", ["tenant", "member"])
    op.create_table(
        "coalition_waiting",
        _text("tenant"), _text("partner"), _text("transfer"), _number("n"), _number("at"), _number("before"), _text("period"),
        sa.PrimaryKeyConstraint("tenant", "partner", "transfer", "n"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("coalition_waiting_at", "coalition_waiting", ["tenant", "at"])
    op.create_table(
        "coalition_statement",
        _text("tenant"), _text("partner"), _text("period"), _text("state"), _text("ours"), _text("theirs"), _text("dispute"),
        _number("at"),
        sa.PrimaryKeyConstraint("tenant", "partner", "period"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
