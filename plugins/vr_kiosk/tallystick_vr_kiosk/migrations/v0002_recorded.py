"""What devices send while they are recorded.

pre: a new table and a column with a default, which the code before neither reads nor writes.
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
    until = sa.Column("recorded_until", Int, autoincrement=False, nullable=False, server_default=sa.text("0"))
    op.add_column("vr_kiosk_device", until)
    op.create_table(
        "vr_kiosk_recorded",
        _text("tenant"), _text("device"), _number("epoch"), _number("counter"), _text("line"), _number("at"),
        sa.PrimaryKeyConstraint("tenant", "device", "epoch", "counter"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
