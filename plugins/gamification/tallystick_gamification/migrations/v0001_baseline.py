"""Leaderboards and draws."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "gamification_score",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("start", Int, autoincrement=False, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("member", Int, autoincrement=False, nullable=False),
        sa.Column("score", Int, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "board", "start", "scope", "member"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "gamification_score_rank",
        "gamification_score",
        ["tenant", "board", "start", "scope", sa.text("score DESC"), "member"],
    )
    op.create_table(
        "gamification_drawn",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("draw", sa.Text(), nullable=False),
        sa.Column("round", Int, autoincrement=False, nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("member", sa.Text(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("drawn", sa.Text(), nullable=False),
        sa.Column("prize", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "draw", "round", "entry"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
