"""Points go out: what the plugin proposes, and how it says no.  Letters and numbers are those of the semantics list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

import pytest

from tallystick.effects import Bonus, Count, Extend, Move, Restock, Spend, Take
from tallystick.errors import ApprovalNeeded, LimitReached, MemberInactive, Refused
from tallystick.events import Line, Purchase
from tallystick.problems import problem_document
from tallystick.situation import Balance, Member, Original
from tallystick_points.errors import BadGift, NotEligible, NotOffered, UnknownRate
from tallystick_points.events import Adjusted, Gifted, Redeemed, Restocked

Till = Callable[..., Any]

HUNDREDS = "[redeem]\npoints = 100\ngives = 500\n"
ONES = '[redeem]\npoints = 1\ngives = 1\nshare = "1/2"\n'


def redeems(shop: Any, points: int, usable: int = 20_000, **more: Any) -> Spend:
    shop.balance = Balance(posted=usable, usable=usable)
    found = shop.effects(Redeemed(points=points, **more), kind="points.redeemed")
    assert isinstance(found[0], Spend)
    return found[0]


@pytest.mark.parametrize(
    "settings, points, usable, total, applied, discount, status",
    [
        pytest.param(HUNDREDS, 1050, 5000, None, 1000, 5000, "reduced", id="E47 1050 -> 1000 (= 50.00)"),
        pytest.param(ONES, 10_000, 20_000, 10_000, 5000, 5000, "reduced", id="E47 at most half of 100.00"),
        pytest.param(ONES, 1000, 700, None, 700, 700, "reduced", id="E47 balance 700"),
        pytest.param(
            ONES + "minimum = 500", 400, 9000, None, 0, 0, "below_minimum", id="E47 400 with a minimum of 500"
        ),
        pytest.param(HUNDREDS, 250, 5000, None, 200, 1000, "reduced", id="E48 whole multiples of 100"),
        pytest.param(HUNDREDS, 300, 5000, None, 300, 1500, "applied", id="all that was asked for"),
        pytest.param(HUNDREDS, 300, 0, None, 0, 0, "below_minimum", id="nothing there"),
    ],
)
def test_points_pay_as_far_as_they_may(
    till: Till, settings: str, points: int, usable: int, total: int | None, applied: int, discount: int, status: str
) -> None:
    spend = redeems(till(settings), points, usable, total=total, order="R-1")
    assert (spend.amount, spend.wanted, spend.order) == (applied, points, "R-1")
    assert spend.gives is not None
    assert (spend.gives["discount"], spend.gives["points"], spend.gives["status"]) == (discount, applied, status)


def test_a_foreign_order_gets_its_discount_in_its_own_money(till: Till) -> None:
    """100 points are 5.00 USD; at 1 EUR = 1.25 USD that is 4.00 EUR, and 20.00 EUR cost 500 points."""
    rates = {"EUR": ((date(2025, 1, 1), Fraction(5, 4)),)}
    spend = redeems(till(HUNDREDS, rates=rates), 1000, total=2000, currency="EUR")
    assert spend.amount == 500
    assert spend.gives == {"discount": 2000, "currency": "EUR", "points": 500, "status": "reduced", "by": "share"}
    with pytest.raises(UnknownRate):
        redeems(till(HUNDREDS), 1000, total=2000, currency="EUR")


def test_a_limit_per_member_reduces_and_never_fails_at_checkout(till: Till) -> None:
    shop = till(HUNDREDS + 'limits = [{ window = "day", points = 500 }, { window = "month", times = 3 }]')
    assert shop.plugin.needs("points.redeemed").counters == {
        ("points.redeemed", "day"),
        ("points.redeemed_times", "month"),
    }
    shop.counters = {("points.redeemed", "day"): 300}
    assert redeems(shop, 400).amount == 200
    shop.counters = {("points.redeemed", "day"): 500}
    assert redeems(shop, 400).gives["status"] == "limit_reached"  # type: ignore[index]
    shop.counters = {("points.redeemed_times", "month"): 3}
    assert redeems(shop, 400).gives["status"] == "limit_reached"  # type: ignore[index]
    counts = [
        effect for effect in shop.effects(Redeemed(points=400), kind="points.redeemed") if isinstance(effect, Count)
    ]
    assert counts == [], "what was not redeemed is not counted"


REWARDS = """
[[rewards]]
name = "mug"
cost = 250
stock = true
when = 'member.tags.exists(t, t == "vip")'
gives = { voucher = "MUG" }
limits = [{ window = "lifetime", times = 2 }]
from = "2025-06-01"
until = "2025-06-30"
"""


def vip(shop: Any) -> Any:
    shop.member = Member(number=1, status="active", enrolled_at=datetime(2024, 1, 1, tzinfo=UTC), tags=("vip",))
    return shop


def test_a_reward_takes_points_and_a_piece(till: Till) -> None:
    effects = vip(till(REWARDS)).effects(Redeemed(reward="mug", quantity=2), kind="points.redeemed")
    spend, count, take = effects
    assert (spend.amount, spend.gives) == (
        500,
        {"voucher": "MUG", "reward": "mug", "quantity": 2, "points": 500, "status": "applied"},
    )
    assert (count.counter, count.window, count.amount) == ("points.reward.mug_times", "lifetime", 2)
    assert isinstance(take, Take)
    assert (take.key, take.amount) == ("points:reward.mug", 2)


def test_f61_the_third_use_is_refused(till: Till) -> None:
    shop = vip(till(REWARDS))
    shop.counters = {("points.reward.mug_times", "lifetime"): 1}
    assert len(shop.effects(Redeemed(reward="mug"), kind="points.redeemed")) == 3
    with pytest.raises(LimitReached):
        shop.effects(Redeemed(reward="mug", quantity=2), kind="points.redeemed")
    shop.counters = {("points.reward.mug_times", "lifetime"): 2}
    with pytest.raises(LimitReached):
        shop.effects(Redeemed(reward="mug"), kind="points.redeemed")


def test_a_reward_says_no_by_name(till: Till) -> None:
    shop = till(REWARDS)
    with pytest.raises(NotEligible):
        shop.effects(Redeemed(reward="mug"), kind="points.redeemed")
    with pytest.raises(NotOffered, match="no reward 'cup'"):
        shop.effects(Redeemed(reward="cup"), kind="points.redeemed")
    with pytest.raises(NotOffered, match="not on offer at this time"):
        vip(shop).effects(Redeemed(reward="mug"), kind="points.redeemed", at=datetime(2025, 6, 30, 16, tzinfo=UTC))
    with pytest.raises(NotOffered, match="does not take points"):
        shop.effects(Redeemed(points=100), kind="points.redeemed")


def test_rewards_are_put_on_the_shelf(till: Till) -> None:
    shop = till(REWARDS)
    (added,) = shop.effects(Restocked(reward="mug", pieces=40), kind="points.restocked")
    (counted,) = shop.effects(Restocked(reward="mug", pieces=38, counted=True), kind="points.restocked")
    assert isinstance(added, Restock)
    assert (added.key, added.amount, added.absolute) == ("points:reward.mug", 40, False)
    assert (counted.amount, counted.absolute) == (38, True)
    with pytest.raises(NotOffered):
        shop.effects(Restocked(reward="cup", pieces=1), kind="points.restocked")


GIFTS = '[gift]\nminimum = 10\nmaximum = 500\nlimits = [{ window = "month", points = 600 }]\n'


def gives(shop: Any, points: int, to: int = 2) -> list[Any]:
    found: list[Any] = shop.effects(Gifted(to="x", points=points), kind="points.gifted", others={"to": to})
    return found


def test_a_gift_is_a_move_and_earns_nothing(till: Till) -> None:
    move, count = gives(till(GIFTS), 200)
    assert isinstance(move, Move)
    assert (move.unit, move.amount, move.to) == ("points", 200, 2)
    assert (count.counter, count.window, count.amount) == ("points.gifted", "month", 200)


def test_gifts_have_bounds(till: Till) -> None:
    shop = till(GIFTS)
    for points in (9, 501):
        with pytest.raises(BadGift):
            gives(shop, points)
    with pytest.raises(BadGift, match="oneself"):
        gives(shop, 200, to=1)
    shop.counters = {("points.gifted", "month"): 401}
    with pytest.raises(LimitReached):
        gives(shop, 200)
    shop.others = {2: Member(number=2, status="blocked", enrolled_at=datetime(2024, 1, 1, tzinfo=UTC))}
    shop.counters = {}
    with pytest.raises(MemberInactive):
        gives(shop, 200)
    with pytest.raises(NotOffered):
        gives(till(""), 200)


def adjusts(shop: Any, points: int, **more: Any) -> Any:
    (effect,) = shop.effects(
        Adjusted(points=points, reason="goodwill of J. Doe", by="staff-1", **more), kind="points.adjusted"
    )
    return effect


def test_adjustments_give_and_take(till: Till) -> None:
    shop = till('[expiry]\npolicy = "period_end"\nend_of = "year"\n[adjust]\napprove_above = 1000')
    given, taken = adjusts(shop, 1000), adjusts(shop, -1000)
    assert isinstance(given, Bonus)
    assert (given.amount, given.reversible, given.expires_at) == (1000, False, datetime(2025, 12, 31, 16, tzinfo=UTC))
    assert isinstance(taken, Spend)
    assert (taken.amount, taken.account) == (1000, "adjusted")
    assert "Doe" not in str((given, taken)), "the reason stays with the facts, under the member's key"
    with pytest.raises(ApprovalNeeded):
        adjusts(shop, 1001)
    assert adjusts(shop, 1001, approved_by="staff-2").amount == 1001


def test_the_blocked_spend_nothing(till: Till) -> None:
    shop = till(HUNDREDS)
    shop.member = Member(number=1, status="blocked", enrolled_at=datetime(2024, 1, 1, tzinfo=UTC))
    with pytest.raises(MemberInactive):
        redeems(shop, 100)


def test_paying_with_points_is_activity(till: Till) -> None:
    shop = till(HUNDREDS + '[expiry]\npolicy = "activity"\nafter = "P6M"')
    shop.balance = Balance(usable=500)
    effects = shop.effects(Redeemed(points=100), kind="points.redeemed")
    assert [type(effect) for effect in effects] == [Spend, Extend]
    shop.balance = Balance(usable=50)
    assert [type(effect) for effect in shop.effects(Redeemed(points=100), kind="points.redeemed")] == [Spend], (
        "nothing was spent"
    )


@pytest.mark.parametrize("error", [NotOffered, NotEligible, BadGift, UnknownRate])
def test_every_refusal_has_a_code_of_ours_and_speaks_two_languages(error: type[Refused]) -> None:
    assert error.code.startswith("points_")
    english, chinese = (problem_document(error(), language) for language in ("en", "zh"))
    assert english["title"] == error.__doc__
    assert chinese["title"] == chinese["detail"] == error.chinese
    assert english["status"] == 422


@pytest.mark.parametrize("days, kept", [(30, 0), (31, 1)])
def test_points_of_late_returns_are_kept(till: Till, days: int, kept: int) -> None:
    from datetime import timedelta

    shop = till('[refund]\nkeep_after = "P30D"')
    bought_at = datetime(2025, 5, 1, 4, tzinfo=UTC)
    original = Original(
        entry="1-1-0", kind="purchase.completed", at=bought_at,
        facts=Purchase(order="R-1", currency="USD", lines=(Line(sku="S", amount=1000),)),
        granted=(("points.base", "points", 10),), value=1000, returned_before=0, returned=1000,
    )  # fmt: skip
    event = shop.event("purchase.refunded", None, at=bought_at + timedelta(days=days))
    assert len(shop.plugin.reverse(event, original)) == kept
