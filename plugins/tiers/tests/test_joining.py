"""Two members who turn out to be one person: what both counted counts, and the better of both holds; and rules that can be asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from tallystick import rulebook
from tallystick.ledger import parse_entry
from tallystick_tiers.standing import Standing

from .conftest import THREE, Shop, Walk

Opens = Callable[..., Shop]
DAY = date(2025, 1, 1)
LADDER = """
[plugins.tiers]
[[plugins.tiers.ladders]]
name = "club"
window = "year"
tiers = [{ name = "base" }, { name = "silver", at = 50000, bonus = 10 }, { name = "gold", at = 100000, bonus = 20 }]
"""


def standing(earned: str = "base", **more: object) -> Standing:
    return Standing(earned=earned, **{"confirmed": "base", "begin": DAY, "since": DAY, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "mine, theirs, held, more",
    [
        (standing("gold"), standing("silver"), "gold", {}),
        (standing("silver"), standing("gold"), "gold", {}),
        (standing(gift="gold"), standing("silver"), "gold", {"gift": "gold"}),
        (standing(gift="silver", gift_ends=date(2025, 3, 1)), standing(gift="silver", gift_ends=date(2025, 6, 1)), "silver", {"gift_ends": date(2025, 6, 1)}),
        (standing(gift="silver"), standing(gift="silver", gift_ends=date(2025, 6, 1)), "silver", {"gift_ends": None}),
        (standing(paid="silver", paid_order="A"), standing(), "silver", {"paid_order": "A"}),
        (standing(base={"spend": 5}), standing(base={"spend": 7}), "base", {"base": {"spend": 12}}),
        (standing(rewarded=("silver",)), standing(rewarded=("gold",)), "base", {"rewarded": ("gold", "silver")}),
        (standing("gold"), standing("silver", lower="base", lower_on=DAY), "gold", {"lower": "", "lower_on": None}),
        (standing(), standing("silver", lower="base", lower_on=DAY), "silver", {"lower": "base", "lower_on": DAY}),
        (standing(months={"2025-01": 1}), standing(months={"2025-01": 2, "2025-02": 1}), "base", {"months": {"2025-01": 3, "2025-02": 1}}),
    ],
)  # fmt: skip
def test_the_better_of_both_holds_and_what_both_counted_counts(
    mine: Standing, theirs: Standing, held: str, more: dict[str, object]
) -> None:
    course = Walk(THREE).course
    joined = course.joined(mine, theirs)
    assert course.held(joined) == held
    assert {name: getattr(joined, name) for name in more} == more


def test_two_cards_climb_as_one_and_part_again(shop: Opens) -> None:
    opened = shop(LADDER)
    opened.play(
        """
        2025-01-02  ada buys 300.00 as A
        2025-01-02  ann buys 600.00 as B
        """
    )
    assert (opened.tier("ada"), opened.tier("ann")) == ("base", "silver")
    merged = opened.stage.send("member.merged", {"into": "ada"}, member="ann")
    assert opened.tier("ada") == "silver"
    opened.stage.send("member.unmerged", {"entry": merged.entry})
    assert opened.tier("ada") == "base"
    opened.stage.send("member.merged", {"into": "ada"}, member=merged.member)
    opened.play("2025-01-05  ada buys 100.00 as C")
    assert opened.tier("ada") == "gold"


def test_counts_of_a_year_gone_by_do_not_come_back_with_a_merge(shop: Opens) -> None:
    opened = shop(LADDER)
    opened.play(
        """
        2025-01-02  ada buys 400.00 as A
        2025-01-02  ann buys 400.00 as B
        2026-01-02  ada buys 100.00 as C
        2026-01-02  ann buys 100.00 as D
        """
    )
    opened.stage.send("member.merged", {"into": "ada"}, member="ann")
    opened.play("2026-01-05  ada buys 299.99 as E")
    assert opened.tier("ada") == "base"
    opened.play("2026-01-05  ada buys 0.01 as F")
    assert opened.tier("ada") == "silver"


def test_the_house_reads_and_asks_what_a_ladder_counts(shop: Opens) -> None:
    opened = shop(LADDER.replace('window = "year"', "metrics.spend.lines = \"line.department != 'FUEL'\""))
    opened.play('2025-01-02  ada buys [{"sku": "d", "amount": 4000, "department": "FUEL"}] as A')
    generation = opened.stage.house.registry.latest("shop")
    assert "tiers.club.spend" in {each.rule for each in rulebook.rules_of(generation)}
    assert rulebook.written_at(generation, "tiers", "club.spend") == ("ladders", 0, "metrics", "spend")
    assert rulebook.suspicions(generation) == []
    entry = parse_entry(opened.stage.records("ada")[0].entry) or 0
    why = rulebook.whynot(opened.stage.house, "shop", "tiers.club.spend", entry=entry)
    assert (why.fires, why.part) == (False, "lines")
