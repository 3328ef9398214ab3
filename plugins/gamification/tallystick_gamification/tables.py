"""The plugin's own tables: projections of the journal that can be made again from it."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
_Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: What each member has on each leaderboard.
score = sa.Table(
    "gamification_score",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("board", sa.Text, primary_key=True),
    sa.Column("start", _Int, primary_key=True, autoincrement=False),  # first local day of the window, days since 1970
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("member", _Int, primary_key=True, autoincrement=False),
    sa.Column("score", _Int, nullable=False),
    sa.Index("gamification_score_rank", "tenant", "board", "start", "scope", sa.text("score DESC"), "member"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

#: How many members are in each span of scores: who is ahead is counted by spans, and one by one only within a member's own.
span = sa.Table(
    "gamification_span",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("board", sa.Text, primary_key=True),
    sa.Column("start", _Int, primary_key=True, autoincrement=False),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("span", _Int, primary_key=True, autoincrement=False),  # as `boards.span_of` numbers them
    sa.Column("members", _Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

#: Every draw with what is needed to recompute it.
drawn = sa.Table(
    "gamification_drawn",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("draw", sa.Text, primary_key=True),
    sa.Column("round", _Int, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Text, primary_key=True),
    sa.Column("member", sa.Text, nullable=False),
    sa.Column("salt", sa.Text, nullable=False),
    sa.Column("drawn", sa.Text, nullable=False),  # the prize that the number says
    sa.Column("prize", sa.Text, nullable=False),  # the prize that was given: another one if that was out of stock
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
