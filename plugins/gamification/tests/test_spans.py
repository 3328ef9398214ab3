"""Spans of scores: their order, and how a house that had none comes by them."""

from __future__ import annotations

from collections.abc import Callable

from alembic.migration import MigrationContext
from alembic.operations import Operations
from hypothesis import given
from hypothesis import strategies as st

from tallystick.testing import Stage, play
from tallystick_gamification.boards import end_of_span, span_of
from tallystick_gamification.migrations import v0002_spans

SCORES = st.integers(1, 10**12)


@given(SCORES, SCORES)
def test_a_higher_score_is_in_no_lower_span_and_a_span_ends_where_the_next_begins(one: int, other: int) -> None:
    assert (one <= other) <= (span_of(one) <= span_of(other))
    assert span_of(end_of_span(one)) > span_of(one) == span_of(end_of_span(one) - 1)


def test_a_house_that_had_scores_before_counts_them_as_one_that_began_with_spans(
    opened: Callable[[str], Stage],
) -> None:
    stage = opened('[[plugins.gamification.leaderboards]]\nname = "spend"\nvalue = "purchase.total"\n')
    play(
        """
        2025-01-02  ada buys 500.00
        2025-01-02  bob buys 500.10
        2025-01-02  eve buys 1.27 as C
        2025-01-02  joe buys 1.27
        2025-01-03  eve returns C
        """,
        stage=stage,
    )
    stage.house.run_jobs()
    kept = stage.rows(
        "SELECT board, start, scope, span, members FROM gamification_span WHERE members > 0 ORDER BY span"
    )
    assert sorted(row[4] for row in kept) == [1, 2]
    with stage.house.db.begin() as conn, Operations.context(MigrationContext.configure(conn)):
        conn.exec_driver_sql("DROP TABLE gamification_span")
        v0002_spans.upgrade()
    assert stage.rows("SELECT board, start, scope, span, members FROM gamification_span ORDER BY span") == kept
