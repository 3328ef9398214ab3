"""Scores are counted by spans, so that one's own place is found without walking past everybody ahead."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEYS = ("tenant", "board", "start", "scope")


def upgrade() -> None:
    span = op.create_table(
        "gamification_span",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("start", Int, autoincrement=False, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("span", Int, autoincrement=False, nullable=False),
        sa.Column("members", Int, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "board", "start", "scope", "span"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    found = Counter[tuple[str, str, int, str, int]]()
    query = sa.text(
        "SELECT tenant, board, start, scope, score, count(*) FROM gamification_score WHERE score > 0"
        " GROUP BY tenant, board, start, scope, score"
    )
    for *board, score, members in op.get_bind().execute(query):
        found[(*board, _span_of(score))] += members
    rows = [dict(zip((*KEYS, "span", "members"), (*key, members), strict=True)) for key, members in found.items()]
    if rows:
        op.bulk_insert(span, rows)


def _span_of(score: int) -> int:
    """As it was when this was written."""
    shift = max(0, score.bit_length() - 7)
    return (shift << 7) + (score >> shift)
