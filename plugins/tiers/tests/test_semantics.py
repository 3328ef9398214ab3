"""What a tier engine must get right, with its numbers: one table for each question."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from .conftest import THREE, Walk

AT_ONCE = f'downgrade = "at_once"\n{THREE}'
YEAR = f'window = "year"\n{THREE}'


@pytest.mark.parametrize("spent, tier", [(19, "base"), (20, "silver"), (21, "silver"), (29, "silver"), (30, "gold")])
def test_a_threshold_is_reached_exactly_at_it(walk: Callable[..., Walk], spent: int, tier: str) -> None:
    assert walk(THREE).spends(spent).tier == tier


@pytest.mark.parametrize(
    "start, given, spends, tier",
    [
        (0, "silver", 40, "gold"),  # a gift is a floor, not a lid
        (30, "silver", -30, "silver"),  # and holds whoever falls
        (20, "silver", 1, "silver"),
        (30, "base", -9, "silver"),  # a lower gift holds nobody back
    ],
)
def test_a_gifted_tier_is_a_floor_and_not_a_lock(
    walk: Callable[..., Walk], start: int, given: str, spends: int, tier: str
) -> None:
    ada = walk(AT_ONCE).spends(start).gets(given)
    assert (ada.spends(spends) if spends > 0 else ada.returns(-spends)).tier == tier


@pytest.mark.parametrize(
    "ladder, spends_next_year, reviewed, tier",
    [
        ('window = "year"\ndowngrade = "never"', 0, "2027-01-01", "gold"),
        ('window = "year"\ndowngrade = "at_once"', 0, "2026-01-01", "base"),
        ('window = "year"', 0, "2026-12-31", "gold"),  # the rest of the year, and the next
        ('window = "year"', 29, "2027-01-01", "silver"),
        ('window = "year"', 30, "2027-01-01", "gold"),
        ('window = "year"\nvalid = "period"', 0, "2026-01-01", "base"),
        ('window = "year"\nsoft_landing = true', 0, "2027-01-01", "silver"),
        ('window = "year"\nsoft_landing = true', 0, "2028-01-01", "base"),
        ('window = "review"\nreview = "P30D"', 0, "2025-01-30", "gold"),
        ('window = "review"\nreview = "P30D"', 0, "2025-01-31", "gold"),  # what came since the beginning
        ('window = "review"\nreview = "P30D"', 0, "2025-03-02", "base"),  # what came since the review before
        ('window = "P90D"\nreview = "P6M"', 0, "2025-06-30", "gold"),
        ('window = "P90D"\nreview = "P6M"', 0, "2025-07-01", "base"),
        ('window = "P90D"\ndowngrade = "at_once"', 0, "2025-03-31", "gold"),
        ('window = "P90D"\ndowngrade = "at_once"', 0, "2025-04-01", "base"),
    ],
)
def test_how_one_falls_is_declared(
    walk: Callable[..., Walk], ladder: str, spends_next_year: int, reviewed: str, tier: str
) -> None:
    ada = walk(f"{ladder}\n{THREE}").spends(30)
    if spends_next_year:
        ada.on("2026-05-01").spends(spends_next_year)
    assert ada.reviewed(reviewed).tier == tier


def test_several_periods_without_a_sign_of_life_fall_one_step_each(walk: Callable[..., Walk]) -> None:
    ada = walk(f"soft_landing = true\n{YEAR}").spends(30).reviewed("2029-06-01")
    assert ada.moves == [("base", "gold", "reached"), ("gold", "silver", "review"), ("silver", "base", "review")]
    assert [change.day for change in ada.changes[1:]] == [date(2027, 1, 1), date(2028, 1, 1)]


def test_a_lower_threshold_is_enough_to_stay_and_not_to_climb(walk: Callable[..., Walk]) -> None:
    ladder = 'window = "year"\ntiers = [{ name = "base" }, { name = "gold", at = 30, keep = 20 }]'
    assert walk(ladder).spends(29).tier == "base"
    assert walk(ladder).spends(30).on("2026-03-01").spends(20).reviewed("2027-01-01").tier == "gold"
    assert walk(ladder).spends(30).on("2026-03-01").spends(19).reviewed("2027-01-01").tier == "base"


@pytest.mark.parametrize(
    "in_grace, on, tier",
    [(0, "2027-01-30", "gold"), (0, "2027-01-31", "base"), (29, "2027-01-31", "silver"), (30, "2027-01-31", "gold")],
)
def test_days_of_grace_keep_the_tier_and_can_save_it(
    walk: Callable[..., Walk], in_grace: int, on: str, tier: str
) -> None:
    ada = walk(f"grace_days = 30\n{YEAR}").spends(30).on("2027-01-10")
    assert ada.tier == "gold" and ada.standing.lower == "base"
    if in_grace:
        ada.spends(in_grace)
    assert ada.reviewed(on).tier == tier


def test_what_was_returned_lifts_nobody_and_both_changes_are_told_once(walk: Callable[..., Walk]) -> None:
    ada = walk(YEAR).spends(19).spends(11).returns(11).returns(0)
    assert ada.moves == [("base", "gold", "reached"), ("gold", "base", "returned")]


def test_a_return_takes_nothing_that_an_earlier_year_has_earned(walk: Callable[..., Walk]) -> None:
    ada = walk(YEAR).spends(20).on("2026-02-01").spends(10)
    assert ada.returns(10, bought="2026-02-01").tier == "silver"
    ada.spends(30)
    assert ada.returns(30).tier == "silver" and ada.moves[-1] == ("gold", "silver", "returned")


def test_a_return_of_last_years_purchase_leaves_this_years_count_alone(walk: Callable[..., Walk]) -> None:
    ada = walk(YEAR).spends(20).on("2026-02-01").spends(10).returns(20, bought="2025-01-01")
    assert ada.course.values(ada.standing, ada.counted(), ada.day) == {"spend": 10}
    assert ada.spends(10).reviewed("2027-01-01").tier == "silver"


@pytest.mark.parametrize(
    "policy, tier", [('downgrade = "never"', "gold"), ('returns = "policy"', "gold"), ("", "base")]
)
def test_what_returns_do_is_declared(walk: Callable[..., Walk], policy: str, tier: str) -> None:
    assert walk(f"{policy}\n{YEAR}").spends(30).returns(30).tier == tier


def test_a_purchase_that_arrives_late_counts_in_its_own_year(walk: Callable[..., Walk]) -> None:
    ada = walk(YEAR).spends(19).on("2026-01-02").spends(1, late="2025-12-31")
    assert ada.tier == "silver"
    assert ada.course.values(ada.standing, ada.counted(), ada.day) == {"spend": 0}


def test_what_is_older_than_the_period_before_counts_in_neither(walk: Callable[..., Walk]) -> None:
    """A month and a half late: January's money is none of February's, and none of March's."""
    ada = walk(f'window = "month"\n{THREE}').on("2025-02-10").spends(15).on("2025-03-02").spends(10, late="2025-01-20")
    assert (ada.tier, ada.standing.closed) == ("base", {"spend": 15})
    assert ada.returns(10, bought="2025-01-20").standing.closed == {"spend": 15}
    assert ada.spends(5, late="2025-02-11").tier == "silver"
    assert ada.course.values(ada.standing, ada.counted(), ada.day) == {"spend": 0}


def test_a_bonus_is_due_once_for_each_real_climb(walk: Callable[..., Walk]) -> None:
    ladder = """window = "year"
    tiers = [{ name = "base" }, { name = "silver", at = 20, bonus = 5 }, { name = "gold", at = 30, bonus = 9 }]"""
    ada = walk(ladder).spends(20).returns(1).spends(1).spends(10)
    assert [(change.tier, change.bonus) for change in ada.changes] == [
        ("silver", True), ("base", False), ("silver", False), ("gold", True),
    ]  # fmt: skip
    ada.reviewed("2027-01-01").spends(30)  # a year later it is another climb; only the highest crossed tier pays
    assert [(change.tier, change.bonus) for change in ada.changes[4:]] == [("base", False), ("gold", True)]


def test_upgrades_may_wait_for_the_review(walk: Callable[..., Walk]) -> None:
    ada = walk(f'upgrade = "at_review"\n{YEAR}').spends(30)
    assert ada.tier == "base"
    assert ada.reviewed("2026-01-01").tier == "gold"


def test_a_membership_lasts_its_term_and_is_prolonged_by_another(walk: Callable[..., Walk]) -> None:
    ladder = 'tiers = [{ name = "base" }, { name = "silver", at = 20 }, { name = "plus", membership = "P1Y" }]'
    ada = walk(ladder).joins("plus").on("2025-12-31").joins("plus")
    assert ada.reviewed("2026-12-31").tier == "plus"
    assert ada.spends(20).reviewed("2027-01-01").tier == "silver"
    assert ada.moves[-1] == ("plus", "silver", "membership_over")


def test_a_gift_ends_after_its_last_day(walk: Callable[..., Walk]) -> None:
    ada = walk(THREE).gets("gold", until="2025-03-31")
    assert ada.reviewed("2025-03-31").tier == "gold"
    assert ada.reviewed("2025-04-01").tier == "base"


def test_conditions_may_stand_beside_a_threshold_or_instead_of_it(walk: Callable[..., Walk]) -> None:
    ladder = """tiers = [{ name = "base" }, { name = "silver", at = 20, when = "metric.spend != 25" },
    { name = "gold", when = "metric.spend >= 40 || 'vip' in member.tags" }]"""
    assert [walk(ladder).spends(spent).tier for spent in (24, 25, 26, 40)] == ["silver", "base", "silver", "gold"]


def test_a_year_may_begin_with_the_day_of_joining(walk: Callable[..., Walk]) -> None:
    ada = walk(f'window = "anniversary"\n{THREE}', start=date(2025, 6, 1)).spends(30)
    assert ada.standing.begin == date(2025, 1, 1) and ada.standing.review == date(2026, 1, 1)
