"""What became of a message after it was sent, and browsers to push to.

pre: the columns have defaults, and the code before neither reads nor writes them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("notify_delivery", sa.Column("reference", sa.Text(), nullable=False, server_default=sa.text("''")))
    for name in ("delivered_at", "opened_at", "unsubscribed_at"):
        op.add_column("notify_delivery", sa.Column(name, Int, nullable=False, server_default=sa.text("0")))
    op.create_index("notify_delivery_reference", "notify_delivery", ["tenant", "reference"])
    op.create_table(
        "notify_subscription",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("member", Int, nullable=False, autoincrement=False),
        sa.Column("print", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", Int, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "member", "print"),
        sqlite_strict=True, sqlite_with_rowid=False,
    )  # fmt: skip
