"""What is kept of lines to partners in other deployments.

pre: new tables, which the code before neither reads nor writes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, Int, autoincrement=False, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), autoincrement=False, nullable=False)


def upgrade() -> None:
    op.create_table(
        "coalition_line",
        _text("tenant"), _text("partner"), _number("heard"), _number("failures"), _number("failed_at"),
        sa.PrimaryKeyConstraint("tenant", "partner"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "coalition_nonce",
        _text("tenant"), _text("partner"), _number("sequence"), _text("nonce"),
        sa.PrimaryKeyConstraint("tenant", "partner", "sequence", "nonce"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
