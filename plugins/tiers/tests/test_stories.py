"""Ladders in the real house, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tallystick.errors import TallyError

from .conftest import Shop

Opens = Callable[..., Shop]
CLUB = """
[[plugins.tiers.ladders]]
name = "club"
window = "year"
soft_landing = true
metrics.spend.lines = "line.department != 'FUEL'"
[[plugins.tiers.ladders.tiers]]
name = "base"
[[plugins.tiers.ladders.tiers]]
name = "silver"
at = 50000
bonus = 200
multiplier = "1.5"
[[plugins.tiers.ladders.tiers]]
name = "gold"
at = 150000
keep = 120000
multiplier = "2"
"""


def test_a_member_climbs_with_what_counts_and_the_next_purchase_earns_by_it(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("""
        2025-01-02  ada buys 499.99             earns 499 points
        2025-01-03  ada buys 900.00 of FUEL     earns 900 points
        2025-01-04  ada buys 0.01               earns nothing
        2025-01-04  ada has 1599 points
        2025-01-05  ada buys 10.00              earns 15 points
    """)
    assert club.tier("ada") == "silver"
    assert club.changes("ada") == [("base", "began"), ("silver", "reached")]


def test_rules_of_other_plugins_read_the_tier_that_was_held_before(shop: Opens) -> None:
    points = """
[[plugins.points.earn]]
name = "silver"
points = 1
per = 100
when = "'club' in member.tiers && member.tiers['club'] == 'silver'"
"""
    club = shop(CLUB.replace('multiplier = "1.5"', "").replace("bonus = 200", ""), points)
    club.play("""
        2025-01-02  ada buys 500.00  earns nothing
        2025-01-03  ada buys 10.00   earns 10 points
    """)


def test_a_purchase_may_be_multiplied_by_the_tier_it_reaches(shop: Opens) -> None:
    club = shop(CLUB.replace("soft_landing = true", "soft_landing = true\nincludes_current = true"))
    club.play("2025-01-02  ada buys 1500.00  earns 3000 points")


@pytest.mark.parametrize(
    "before, now, tier", [(0, 6_000, 1), (0, 15_000, 2), (8_000, 3_000, 2), (18_000, 3_000, 3), (22_000, 5_000, 3)]
)
def test_the_tier_for_a_purchase_may_include_it(shop: Opens, before: int, now: int, tier: int) -> None:
    club = shop("""
[[plugins.tiers.ladders]]
name = "club"
includes_current = true
tiers = [{ name = "bronze" }, { name = "silver", at = 10000, multiplier = "2" }, { name = "gold", at = 20000, multiplier = "3" }]
""")
    if before:
        club.play(f"2025-01-02  ada buys {before / 100:.2f}")
    club.play(f"2025-01-03  ada buys {now / 100:.2f}  earns {now // 100 * tier} points")


def test_spending_points_lowers_nobody(shop: Opens) -> None:
    club = shop(
        CLUB,
        "[plugins.points.redeem]\npoints = 1\ngives = 1\n[[plugins.points.earn]]\nname = 'base'\npoints = 1\nper = 1\n",
    )
    club.play("""
        2025-01-02  ada buys 500.00        earns 50000 points
        2025-01-03  ada redeems 50000 points  spends 50000 points
    """)
    assert club.tier("ada") == "silver"


def test_a_return_after_a_climb_tells_both_changes_once_and_the_bonus_is_not_paid_again(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("""
        2025-01-02  ada buys 400.00
        2025-01-03  ada buys 200.00 as A-2
        2025-01-04  ada returns 100.01 of A-2
        2025-01-04  ada returns 0.01 of A-2
        2025-01-05  ada buys 0.02
    """)
    assert club.changes("ada") == [
        ("base", "began"),
        ("silver", "reached"),
        ("base", "returned"),
        ("silver", "reached"),
    ]
    assert [facts["tier"] for _, facts in club.messages("ada", "tiers.reached")] == ["silver", "silver"]
    assert [facts["tier"] for _, facts in club.messages("ada", "tiers.lowered")] == ["base"]
    bonuses = [
        s.amount
        for r in club.stage.records("ada")
        for s in r.explanation
        if s.rule == "tiers.club.silver" and s.effect == "bonus"
    ]
    assert bonuses == [200]
    assert [r.kind for r in club.stage.records("ada")].count("tiers.changed") == 3


def test_a_year_without_a_purchase_lands_softly_whoever_looks_first(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("""
        2025-03-01  ada buys 2000.00
        2025-03-01  bob buys 2000.00
    """)
    club.on("2026-01-01").runs("tiers.review")
    assert (club.tier("ada"), club.tier("bob")) == ("gold", "gold")
    club.on("2027-01-01").runs("tiers.review")
    assert (club.tier("ada"), club.tier("bob")) == ("silver", "silver")
    club.play("2028-02-01  bob buys 1.00  earns 1 points")  # no review has run: the days pass before the purchase
    assert club.tier("bob") == "base"
    club.on("2028-02-01").runs("tiers.review")
    club.runs("tiers.review")
    assert club.changes("ada") == [("gold", "reached"), ("silver", "review"), ("base", "review")]


def test_nobody_is_reviewed_as_of_a_day_that_has_not_come(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("2025-03-01  ada buys 2000.00")
    club.on("2025-06-01").says("tiers.reviewed", "ada", day="2099-01-01")
    assert (club.tier("ada"), club.standing("ada")["review"]) == ("gold", "2026-01-01")
    assert club.changes("ada") == [("gold", "reached")]


def test_a_gift_is_a_floor_with_an_end_and_its_sender_is_asked_whether_the_tier_exists(shop: Opens) -> None:
    club = shop(CLUB)
    gift = {"ladder": "club", "by": "staff-17", "reason": "flight was cancelled", "until": "2025-06-30"}
    club.on("2025-05-01").says("tiers.assigned", "ada", tier="gold", **gift)
    assert club.tier("ada") == "gold"
    club.play("2025-05-02  ada buys 500.00  earns 1000 points")
    assert club.tier("ada") == "gold"
    club.on("2025-06-30").runs("tiers.review")
    assert club.tier("ada") == "gold"
    club.on("2025-07-01").runs("tiers.review")
    assert club.tier("ada") == "silver"
    for wrong in ({"tier": "platinum"}, {"tier": "gold", "ladder": "nobody"}):
        with pytest.raises(TallyError) as refusal:
            club.says("tiers.assigned", "ada", **{**gift, **wrong})
        assert refusal.value.code == "tiers_unknown_tier"


PLUS = """
[[plugins.tiers.ladders]]
name = "plus"
tiers = [{ name = "none" }, { name = "member", membership = "P1Y", sku = "PLUS-1Y" }]
"""


def test_buying_a_membership_is_joining_and_returning_it_is_leaving(shop: Opens) -> None:
    plus = shop(PLUS)
    plus.play("""
        2025-01-02  ada buys 10.00
        2025-01-03  ada buys [{"sku": "PLUS-1Y", "amount": 4900}] as A-7
    """)
    assert plus.tier("ada", "plus") == "member"
    plus.play("2025-01-09  ada returns A-7")
    assert plus.tier("ada", "plus") == "none"
    plus.on("2025-02-01").says("tiers.joined", "bob", ladder="plus", tier="member")
    plus.on("2026-01-31").runs("tiers.review")
    assert plus.tier("bob", "plus") == "member"
    plus.on("2026-02-01").runs("tiers.review")
    assert plus.changes("bob") == [("member", "membership"), ("none", "membership_over")]
    with pytest.raises(TallyError) as refusal:
        plus.says("tiers.joined", "bob", ladder="plus", tier="none")
    assert refusal.value.code == "tiers_not_joinable"


MANY = """
[[plugins.tiers.ladders]]
name = "visits"
metrics.visits = { measure = "visits", when = "purchase.total >= 1000" }
tiers = [{ name = "new" }, { name = "regular", at = 2 }]
[[plugins.tiers.ladders]]
name = "months"
window = "year"
metrics.months = { measure = "months" }
tiers = [{ name = "new" }, { name = "loyal", at = 3 }]
[[plugins.tiers.ladders]]
name = "earned"
metrics.points = { measure = "gains", unit = "points" }
tiers = [{ name = "new" }, { name = "rich", at = 40 }]
[[plugins.tiers.ladders]]
name = "both"
metrics.spend = {}
metrics.visits = { measure = "visits" }
tiers = [{ name = "new" }, { name = "friend", at = 1000, when = "metric.visits >= 3" }]
"""


def test_visits_months_gains_and_several_metrics_count_each_in_its_way(shop: Opens) -> None:
    many = shop(MANY)
    tiers = lambda: [many.tier("ada", ladder) for ladder in ("visits", "months", "earned", "both")]  # noqa: E731
    many.play("""
        2025-01-02  ada buys 9.99
        2025-01-03  ada buys 10.00
    """)
    assert tiers() == ["new", "new", "new", "new"]
    many.play("2025-02-01  ada buys 10.00 as A-3")
    assert tiers() == ["regular", "new", "new", "friend"]
    many.play("2025-03-01  ada buys 12.00 as A-4")
    assert tiers() == ["regular", "loyal", "rich", "friend"]
    many.play("2025-03-02  ada returns A-4")
    assert tiers() == ["regular", "new", "new", "friend"]


def test_foreign_money_counts_at_its_rate_and_an_order_discount_does_not(shop: Opens) -> None:
    club = shop(CLUB + '\n[rates]\nEUR = { 2025-01-01 = "2" }\n')
    club.play('2025-01-02  ada buys {"currency": "EUR", "discount": 5001, "lines": [{"sku": "a", "amount": 30000}]}')
    assert club.tier("ada") == "base"
    club.play('2025-01-02  ada buys {"currency": "EUR", "lines": [{"sku": "a", "amount": 1}]}')
    assert club.tier("ada") == "silver"


def test_little_is_missing_is_said_once_for_each_tier_and_period(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("""
        2025-01-02  ada buys 399.99
        2025-01-03  ada buys 0.01 as A-2
        2025-01-04  ada returns A-2
        2025-01-05  ada buys 20.00
    """)
    assert club.messages("ada") == [
        ("tiers.near", {"ladder": "club", "tier": "silver", "missing": 10_000, "before": "2026-01-01"})
    ]


def test_who_would_fall_at_the_next_review_is_warned_once(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("""
        2025-03-01  ada buys 1500.00
        2025-03-01  bob buys 1500.00
        2026-03-01  ada buys 1000.00
        2026-03-01  bob buys 1200.00
    """)
    club.on("2026-11-30").runs("tiers.warn")
    assert club.messages("ada", "tiers.at_risk") == []
    for day in ("2026-12-02", "2026-12-03"):
        club.on(day).runs("tiers.warn")
    risk = {"ladder": "club", "tier": "gold", "next": "silver", "missing": 20_000, "before": "2027-01-01"}
    assert club.messages("ada", "tiers.at_risk") == [("tiers.at_risk", risk)]
    assert club.messages("bob", "tiers.at_risk") == []
    assert [r.kind for r in club.stage.records("ada")].count("tiers.warned") == 1


def test_a_note_from_outside_gives_no_bonus(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("2025-01-02  ada buys 1.00")
    record = club.says(
        "tiers.changed", "ada", ladder="club", was="base", tier="silver", reason="reached", day="2025-01-02", bonus=True
    )
    assert not record.transfers and club.tier("ada") == "base"


def test_a_sale_that_arrives_after_its_return_lifts_nobody(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("""
        2025-01-02  ada returns 500.00 of A-5  parked
        2025-01-03  ada buys 500.00 as A-5
    """)
    assert club.tier("ada") == "base"


def test_a_blocked_member_stays_and_goes_on_when_the_block_ends(shop: Opens) -> None:
    club = shop(CLUB)
    club.play("2025-03-01  ada buys 2000.00")
    with club.stage.house.db.begin() as conn:
        conn.exec_driver_sql("UPDATE member SET status = 'blocked'")
    club.on("2027-01-01").runs("tiers.review")
    assert club.tier("ada") == "gold"
    with club.stage.house.db.begin() as conn:
        conn.exec_driver_sql("UPDATE member SET status = 'active'")
    club.on("2027-01-02").runs("tiers.review")
    assert club.tier("ada") == "silver"


def test_lower_thresholds_lift_everybody_with_the_next_review(shop: Opens, tmp_path: Path) -> None:
    club = shop(CLUB)
    club.play("2025-03-01  ada buys 400.00")
    club.on("2025-03-02").reopens(tmp_path, (tmp_path / "tally.toml").read_text().replace("at = 50000", "at = 40000"))
    club.runs("tiers.review")
    assert club.tier("ada") == "silver"


def test_switched_off_it_keeps_everything_and_switched_on_it_goes_on(shop: Opens, tmp_path: Path) -> None:
    club = shop(CLUB.replace("bonus = 200", ""))
    written = (tmp_path / "tally.toml").read_text()
    off = written[: written.index("[[tenants.shop.plugins.tiers")] + "[tenants.shop.plugins.tiers]\nenabled = false\n"
    club.play("2025-03-01  ada buys 500.00 as A-1")
    club.on("2025-03-02").reopens(tmp_path, off)
    club.play("2025-03-03  ada returns 100.00 of A-1")  # the core takes back what had been counted
    assert club.tier("ada") == "silver"
    club.on("2025-03-04").reopens(tmp_path, written)
    club.play("2025-03-05  ada buys 99.99  earns 148 points")
    assert club.standing("ada")["earned"] == "silver"
    club.play("2025-03-06  ada returns 0.01 of A-1")
    assert club.changes("ada")[-1] == ("base", "returned")


def test_what_a_bonus_gives_may_end(shop: Opens) -> None:
    club = shop(CLUB.replace("soft_landing = true", 'soft_landing = true\nbonus_valid = "P1M"'))
    club.play("2025-01-31  ada buys 500.00")
    assert sorted(lot[2].isoformat() for lot in club.stage.lots("ada") if lot[2]) == ["2025-02-28T05:00:00+00:00"]


OTHERS = """
[plugins.gamification.check_in]
days = [{ rewards = [{ unit = "points", amount = 1 }] }]
[[plugins.gamification.tasks]]
name = "walks"
on = "gamification.checked_in"
goal = 1000
[[plugins.tiers.ladders]]
name = "walkers"
window = "month"
metrics.walks = { measure = "counter", counter = "gamification.task.walks", on = ["gamification.checked_in"] }
tiers = [{ name = "still" }, { name = "fleet", at = 2 }]
[[plugins.tiers.ladders]]
name = "baskets"
metrics.pieces = { measure = "visits", value = "size(goods)", when = "purchase.store == 'north'" }
tiers = [{ name = "light" }, { name = "full", at = 5 }]
"""


def test_a_ladder_may_count_what_another_plugin_counts_or_what_a_rule_says(shop: Opens) -> None:
    others = shop(OTHERS)
    basket = (
        '{"store": "%s", "lines": [{"sku": "a", "amount": 1}, {"sku": "b", "amount": 1}, {"sku": "c", "amount": 1}]}'
    )
    others.play(f"""
        2025-01-02  ada does gamification.checked_in
        2025-01-02  ada buys {basket % "north"}
        2025-01-02  ada buys {basket % "south"}
    """)
    assert (others.tier("ada", "walkers"), others.tier("ada", "baskets")) == ("still", "light")
    others.play(f"""
        2025-01-03  ada does gamification.checked_in
        2025-01-03  ada buys {basket % "north"} as B-9
    """)
    assert (others.tier("ada", "walkers"), others.tier("ada", "baskets")) == ("fleet", "full")
    others.play("2025-01-04  ada returns B-9")
    assert others.tier("ada", "baskets") == "light"
    others.on("2025-03-01").runs("tiers.review")  # one check-in in February would not do: the month's count begins anew
    assert others.tier("ada", "walkers") == "still"
