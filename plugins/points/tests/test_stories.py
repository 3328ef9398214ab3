"""Stories through the real house on real databases.  Letters and numbers are those of the semantics list."""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tallystick import database, people, receipts, tables
from tallystick.errors import (
    ApprovalNeeded,
    EventConflict,
    Insufficient,
    InvalidEvent,
    LimitReached,
    MemberInactive,
    OutOfStock,
    TallyError,
)

Open = Callable[..., Any]

BASE = '\n[[earn]]\nname = "base"\npoints = 1\nper = 100\n'
TEN = BASE.replace("points = 1", "points = 5")  # 1000 points for 200.00
REDEEM = "\n[redeem]\npoints = 1\ngives = 1\n"
MONTH_END = '\n[expiry]\npolicy = "period_end"\nend_of = "month"\nafter = "P1M"\n'


# --- earning ---------------------------------------------------------------------------------------------------------


def test_a1_a_purchase_earns_and_is_explained(shop: Open) -> None:
    store = shop(
        BASE + '[[earn]]\nname = "wednesday"\nkind = "multiply"\nfactor = "1.5"\nwhen = "today.weekday == 3"\n'
    )
    store.joins("ada")
    record = store.says("purchase.completed", "ada", order="R-1", currency="USD", lines=[{"sku": "S", "amount": 1999}])
    base, more = record.explanation
    assert (base.rule, base.amount, base.data) == ("points.base", 19, {"basis": 1999, "points": 1, "per": 100})
    assert (more.rule, more.amount) == ("points.wednesday", 9)
    assert base.version
    assert store.usable("ada") == 28


def test_a17_a_guest_order_earns_when_it_is_linked_and_only_once(shop: Open) -> None:
    store = shop(BASE)
    assert store.buys("", 10_000, order="G-1") == 0
    store.joins("ada")
    store.says("order.claimed", "ada", order="G-1")
    assert store.usable("ada") == 100
    store.says("order.claimed", "ada", order="G-1")
    assert store.usable("ada") == 100
    assert store.returns("G-1", amount=5000) == -50


def test_enrolment_pays_both_sides(shop: Open) -> None:
    store = shop(
        '\n[[earn]]\nname = "welcome"\non = "member.enrolled"\npoints = 50\n'
        '[[earn]]\nname = "thanks"\non = "member.enrolled"\nto = "invited_by"\npoints = 80\n'
    )
    store.joins("ada", "ben")
    store.says("member.enrolled", "ben", channel="app", invited_by="ada")
    assert (store.usable("ada"), store.usable("ben")) == (80, 50)


def test_pending_points_wait_for_days(shop: Open) -> None:
    store = shop(BASE + REDEEM + "\n[pending]\ndays = 14\n")
    store.joins("ada")
    store.buys("ada", 10_000)
    assert (store.posted("ada"), store.usable("ada")) == (100, 0)
    assert store.redeems("ada", 100)["status"] == "below_minimum"
    store.until(2025, 1, 15, 0)
    assert store.usable("ada") == 100
    assert store.redeems("ada", 100)["discount"] == 100


def test_pending_points_wait_for_a_state(shop: Open) -> None:
    store = shop(BASE + '\n[pending]\nstate = "delivered"\n')
    store.joins("ada")
    store.buys("ada", 10_000, order="R-1", state="paid")
    assert store.usable("ada") == 0
    store.says("order.advanced", "", order="R-1", state="packed")
    assert store.usable("ada") == 0
    store.says("order.advanced", "", order="R-1", state="delivered")
    assert store.usable("ada") == 100


@pytest.mark.parametrize("policy, balance", [("none", 1000), ("net", 2000), ("gross", 3000)])
def test_a14_an_order_paid_with_points(shop: Open, policy: str, balance: int) -> None:
    """4,000 at 0.5 points is 2,000; then 1,000 points pay for half of an order of 4,000."""
    store = shop(
        f'\n[[earn]]\nname = "base"\npoints = 1\nper = 2\n[basis]\npoints = "{policy}"\n[redeem]\npoints = 1\ngives = 2\n'
    )
    store.joins("ada")
    store.buys("ada", 4000)
    assert store.redeems("ada", 1000, order="R-2", total=4000)["discount"] == 2000
    store.buys("ada", 4000, order="R-2", payments=[{"method": "points", "amount": 2000}])
    assert store.usable("ada") == balance


def test_a16_bands_over_a_year_and_a_return_makes_room_again(shop: Open) -> None:
    store = shop(
        '\n[[earn]]\nname = "bands"\nover = "year"\nbands = [{ from = 0, points = 1, per = 10000 },'
        " { from = 500000, points = 12, per = 100000 }, { from = 750000, points = 0, per = 1 }]\n"
    )
    store.joins("ada")
    assert store.buys("ada", 400_000) == 40
    assert store.buys("ada", 300_000, order="R-2") == 34
    assert store.returns("R-2", amount=150_000) == -17
    assert store.buys("ada", 50_000) == 6, "5,500 spent after the return: 500 more at 1.2 %"
    store.until(2026, 1, 1)
    assert store.buys("ada", 400_000) == 40, "a new year"


# --- returns ---------------------------------------------------------------------------------------------------------


def test_b19_a_partial_return_takes_back_its_share(shop: Open) -> None:
    store = shop(TEN)
    store.joins("ada")
    assert store.buys("ada", 20_000, order="R-1") == 1000
    assert store.returns("R-1", amount=10_000) == -500
    assert store.returns("R-1") == -500
    assert store.returns("R-1", amount=10_000) == 0, "all is back already"
    assert store.usable("ada") == 0


def test_b20_sixty_and_sixty_per_cent_take_back_all_and_no_more(shop: Open) -> None:
    store = shop(TEN)
    store.joins("ada")
    store.buys("ada", 20_000, order="R-1")
    assert [store.returns("R-1", amount=12_000), store.returns("R-1", amount=12_000)] == [-600, -400]


@pytest.mark.parametrize(
    "policy, taken, usable", [("negative", -1000, -300), ("within_balance", -700, 0), ("pending_only", 0, 700)]
)
def test_b21_the_shortfall_policy_is_explicit(shop: Open, policy: str, taken: int, usable: int) -> None:
    store = shop(TEN + REDEEM, tenant=f'[tenants.shop.units.points]\nshortfall = "{policy}"')
    store.joins("ada")
    store.buys("ada", 20_000, order="R-1")
    assert store.redeems("ada", 300)["points"] == 300
    assert store.returns("R-1") == taken
    assert store.usable("ada") == usable


def test_b22_a_return_told_twice_takes_once(shop: Open) -> None:
    store = shop(TEN)
    store.joins("ada")
    store.buys("ada", 20_000, order="R-1")
    first = store.says("purchase.refunded", "", order="R-1", amount=10_000, event_id="r")
    again = store.says("purchase.refunded", "", order="R-1", amount=10_000, event_id="r")
    assert first == again
    assert store.usable("ada") == 500


def test_b23_late_returns_keep_their_points(shop: Open) -> None:
    store = shop(TEN + '\n[refund]\nkeep_after = "P30D"\n')
    store.joins("ada")
    store.buys("ada", 20_000, order="R-1")
    store.wait(days=31)
    assert store.returns("R-1") == 0
    assert store.usable("ada") == 1000


def test_b24_spent_points_go_back_to_their_own_lots(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END)
    store.joins("ada")
    store.buys("ada", 10_000)
    store.until(2025, 2, 10)
    store.buys("ada", 10_000)
    before = store.lots("ada")
    assert before == [(100, date(2025, 3, 1)), (100, date(2025, 4, 1))]
    store.redeems("ada", 150, order="R-9")
    store.buys("ada", lines=[{"sku": "S", "amount": 1000}], order="R-9", payments=[{"method": "points", "amount": 150}])
    assert store.lots("ada") == [(50, date(2025, 4, 1)), (8, date(2025, 4, 1))]
    store.returns("R-9")
    assert store.lots("ada") == before


def test_b24_what_has_expired_meanwhile_expires_at_once(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END)
    store.joins("ada")
    store.buys("ada", 10_000)
    store.redeems("ada", 100, order="R-9")
    store.buys("ada", 99, order="R-9")
    store.until(2025, 3, 1)
    record = store.says("purchase.refunded", "", order="R-9")
    assert [(step.effect, step.amount) for step in record.explanation] == [("give_back", 100), ("expire", -100)]
    assert store.usable("ada") == 0


def test_b25_half_an_order_gives_half_of_the_points_back_the_latest_first(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END)
    store.joins("ada")
    store.buys("ada", 10_000)
    store.until(2025, 2, 1)
    store.buys("ada", 10_000)
    store.redeems("ada", 200, order="R-9")
    store.buys("ada", 49, 49, order="R-9")
    store.returns("R-9", amount=49)
    assert store.lots("ada") == [(100, date(2025, 4, 1))]
    store.returns("R-9")
    assert store.lots("ada") == [(100, date(2025, 3, 1)), (100, date(2025, 4, 1))]
    assert store.returns("R-9") == 0, "never more than was spent"


def test_b27_no_line_of_a_sale_can_be_negative(shop: Open) -> None:
    store = shop(BASE)
    store.joins("ada")
    with pytest.raises(InvalidEvent):
        store.buys("ada", 10_000, -5000)
    assert store.entries() == 0


def test_b26_a_return_restores_caps_and_budgets(shop: Open) -> None:
    store = shop(
        BASE
        + '[[earn]]\nname = "monthly"\nkind = "cap"\nlimit = 150\nwindow = "month"\n'
        + '[[earn]]\nname = "budget"\nkind = "cap"\nlimit = 260\nwindow = "budget"\n'
    )
    store.joins("ada", "ben")
    assert store.buys("ada", 10_000, order="R-1") == 100
    assert store.buys("ada", 10_000, order="R-2") == 50
    store.returns("R-1")
    assert store.buys("ada", 20_000, order="R-3") == 100, "the month has room for 100 again"
    assert store.buys("ben", 20_000, order="R-4") == 110, "F62: the budget gives what is left"


def test_b28_pending_points_are_taken_first(shop: Open) -> None:
    store = shop(
        '\n[[earn]]\nname = "now"\npoints = 1\nper = 100\n'
        '[[earn]]\nname = "later"\npoints = 1\nper = 100\npending = { days = 30 }\n' + REDEEM
    )
    store.joins("ada")
    store.buys("ada", 10_000, order="R-1")
    store.buys("ada", 10_000, order="R-2")
    assert store.redeems("ada", 200)["points"] == 200, "all that is usable, of both orders"
    store.returns("R-1")
    assert (store.usable("ada"), store.posted("ada")) == (0, 0), "200 taken from pending, and no deficit"


def test_a_return_of_a_line_takes_back_that_lines_points(shop: Open) -> None:
    store = shop(
        BASE + '[[earn]]\nname = "coffee"\nkind = "multiply"\nfactor = "3"\nlines = \'line.category == "COFFEE"\'\n'
    )
    store.joins("ada")
    lines = [{"sku": "C", "amount": 1000, "category": "COFFEE"}, {"sku": "M", "amount": 1000}]
    assert store.buys("ada", lines=lines, order="R-1") == 40
    assert store.returns("R-1", lines=[{"line": 1, "amount": 1000}]) == -10
    assert store.returns("R-1", lines=[{"line": 0, "amount": 500}]) == -15
    assert store.returns("R-1", lines=[{"line": 0, "amount": 500}]) == -15


def test_a_return_before_its_sale_ends_the_same(shop: Open) -> None:
    store = shop(TEN)
    store.joins("ada")
    assert store.says("purchase.refunded", "ada", order="R-1", amount=5000).status == "parked"
    store.buys("ada", 20_000, order="R-1")
    assert store.usable("ada") == 750


# --- lots and expiry -------------------------------------------------------------------------------------------------


def test_c29_the_earliest_expiry_is_spent_first(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END)
    store.joins("ada")
    store.buys("ada", 5000)
    store.until(2025, 2, 1)
    store.buys("ada", 5000)
    store.redeems("ada", 70)
    assert store.lots("ada") == [(30, date(2025, 4, 1))]


def test_c29_never_expiring_lots_are_spent_last(shop: Open) -> None:
    store = shop(
        '\n[[earn]]\nname = "forever"\npoints = 1\nper = 100\nwhen = "purchase.store == \\"a\\""\n'
        '[[earn]]\nname = "soon"\npoints = 1\nper = 100\nwhen = "purchase.store == \\"b\\""\nexpiry = { policy = "rolling", after = "P10D" }\n'
        + REDEEM
    )
    store.joins("ada")
    store.buys("ada", 10_000, store="a")
    store.buys("ada", 10_000, store="b")
    store.redeems("ada", 100)
    assert store.lots("ada") == [(100, None)]


def test_c30_a_deficit_is_absorbed_by_the_next_credit(shop: Open) -> None:
    store = shop(BASE + REDEEM)
    store.joins("ada")
    store.buys("ada", 10_000, order="R-1")
    store.redeems("ada", 80)
    store.returns("R-1")
    assert (store.posted("ada"), store.lots("ada")) == (-80, [])
    store.buys("ada", 10_000)
    assert (store.posted("ada"), store.lots("ada")) == (20, [(20, None)])


def test_c31_expiry_takes_only_what_is_left_and_only_once(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END)
    store.joins("ada", "ben")
    store.buys("ada", 15_000)
    store.redeems("ada", 50)
    store.buys("ben", 5000)
    store.redeems("ben", 50)
    store.until(2025, 3, 1, 0)
    before = store.entries()
    assert store.sweeps() == 1, "ben's lot is spent: nobody looks at it again"
    assert store.posted("ada") == 0
    assert store.entries() == before + 1
    assert store.sweeps() == 0
    assert store.entries() == before + 1


def test_c32_due_points_are_unusable_though_nobody_swept(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END)
    store.joins("ada")
    store.buys("ada", 10_000)
    store.until(2025, 2, 28, 23)
    assert store.usable("ada") == 100
    store.wait(hours=1)
    assert (store.posted("ada"), store.usable("ada")) == (100, 0)
    assert store.redeems("ada", 100)["points"] == 0


def test_c33_the_balance_of_any_day_comes_from_the_lots(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END)
    store.joins("ada")
    days = []
    for month, day, step in ((1, 1, "buy"), (1, 20, "spend"), (2, 10, "buy"), (2, 28, ""), (3, 1, ""), (3, 5, "spend")):
        store.until(2025, month, day, 13)
        if step == "buy":
            store.buys("ada", 10_000)
        elif step == "spend":
            store.redeems("ada", 30)
        days.append((store.now, store.usable("ada")))
    assert [usable for _, usable in days] == [100, 70, 170, 170, 100, 70]
    store.sweeps()
    store.until(2026, 1, 1)
    assert [store.usable("ada", at=at) for at, _ in days] == [usable for _, usable in days]


def test_c34_a_reward_claimed_on_the_order_that_earns_takes_older_lots(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END)
    store.joins("ada")
    store.buys("ada", 10_000)
    store.until(2025, 2, 1)
    store.buys("ada", 10_000, order="R-2")
    store.redeems("ada", 100, order="R-2")
    assert store.lots("ada") == [(100, date(2025, 4, 1))]


@pytest.mark.parametrize(
    "expiry, earned, gone",
    [
        pytest.param(
            'policy = "rolling"\nafter = "P12M"\nend_of = "month"',
            (2020, 7, 6),
            date(2021, 8, 1),
            id="C35 P12M to month end",
        ),
        pytest.param('policy = "rolling"\nafter = "P30D"', (2018, 7, 1), date(2018, 7, 31), id="C35 30 days"),
        pytest.param('policy = "rolling"\nafter = "P1M"', (2024, 1, 31), date(2024, 2, 29), id="C36 months clamp"),
    ],
)
def test_c35_lots_expire_when_the_settings_say(
    shop: Open, expiry: str, earned: tuple[int, int, int], gone: date
) -> None:
    store = shop(BASE + REDEEM + f"\n[expiry]\n{expiry}\n")
    store.until(*earned)
    store.joins("ada")
    store.buys("ada", 10_000)
    assert store.lots("ada") == [(100, gone)]
    store.until(gone.year, gone.month, gone.day, 0)
    assert store.usable("ada") == 0
    store.wait(microseconds=-1)
    assert store.usable("ada") == 100


def test_activity_keeps_points_alive(shop: Open) -> None:
    store = shop(BASE + REDEEM + '\n[expiry]\npolicy = "activity"\nafter = "P6M"\n')
    store.joins("ada", "ben")
    store.buys("ada", 10_000)
    store.buys("ben", 10_000)
    store.until(2025, 6, 30)
    store.buys("ada", 99)
    store.until(2025, 7, 1, 0)
    assert (store.usable("ada"), store.usable("ben")) == (100, 0)
    assert store.lots("ada") == [(100, date(2025, 12, 30))]
    store.until(2025, 12, 29)
    store.redeems("ada", 10)
    store.until(2026, 6, 28)
    assert store.usable("ada") == 90
    store.buys("ben", 99)
    assert store.usable("ben") == 0, "what is gone does not come back to life"


# --- spending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "redeem, held, wanted, total, applied, discount",
    [
        pytest.param("points = 100\ngives = 500", 5000, 1050, None, 1000, 5000, id="E47 1050 -> 1000 (= 50.00)"),
        pytest.param(
            'points = 1\ngives = 1\nshare = "0.5"', 20_000, 10_000, 10_000, 5000, 5000, id="E47 max 50 % of 100.00"
        ),
        pytest.param("points = 1\ngives = 1", 700, 1000, None, 700, 700, id="E47 balance 700"),
        pytest.param("points = 1\ngives = 1\nminimum = 500", 9000, 400, None, 0, 0, id="E47 400 with min 500"),
        pytest.param("points = 1\ngives = 1", 0, 10, None, 0, 0, id="nothing ever earned"),
    ],
)
def test_e47_requested_and_applied(
    shop: Open, redeem: str, held: int, wanted: int, total: int | None, applied: int, discount: int
) -> None:
    store = shop(f"\n[redeem]\n{redeem}\n")
    store.joins("ada")
    if held:
        store.adjusts("ada", held)
    more = {} if total is None else {"total": total}
    gives = store.redeems("ada", wanted, **more)
    assert (gives["points"], gives["discount"]) == (applied, discount)
    assert store.usable("ada") == held - applied


def test_e47_a_member_in_deficit_can_still_check_out(shop: Open) -> None:
    store = shop(BASE + REDEEM)
    store.joins("ada")
    store.buys("ada", 10_000, order="R-1")
    store.redeems("ada", 100)
    store.returns("R-1")
    assert store.redeems("ada", 100)["status"] == "below_minimum"


REWARDS = """
[[rewards]]
name = "mug"
cost = 100
stock = true
limits = [{ window = "lifetime", times = 2 }]
"""


def test_f61_a_limit_per_member(shop: Open) -> None:
    store = shop(REWARDS)
    store.joins("ada", "ben")
    store.says("points.restocked", "", reward="mug", pieces=10)
    for name in ("ada", "ben"):
        store.adjusts(name, 1000)
    for _ in range(2):
        store.says("points.redeemed", "ada", reward="mug")
    with pytest.raises(LimitReached):
        store.says("points.redeemed", "ada", reward="mug")
    assert store.says("points.redeemed", "ben", reward="mug").gives == (
        {"reward": "mug", "quantity": 1, "points": 100, "status": "applied"},
    )
    assert store.usable("ada") == 800


def test_the_last_piece_goes_once(shop: Open) -> None:
    store = shop(REWARDS)
    store.joins("ada", "ben")
    store.adjusts("ada", 1000)
    store.adjusts("ben", 50)
    with pytest.raises(OutOfStock):
        store.says("points.redeemed", "ada", reward="mug")
    store.says("points.restocked", "", reward="mug", pieces=1)
    with pytest.raises(Insufficient):
        store.says("points.redeemed", "ben", reward="mug")
    store.says("points.redeemed", "ada", reward="mug")
    with pytest.raises(OutOfStock):
        store.says("points.redeemed", "ada", reward="mug")
    assert store.usable("ada") == 900


def test_f62_a_budget_that_refuses_whole(shop: Open) -> None:
    store = shop(BASE + '[[earn]]\nname = "budget"\nkind = "cap"\nlimit = 150\nwindow = "budget"\nwhole = true\n')
    store.joins("ada", "ben")
    assert [store.buys("ada", 10_000), store.buys("ben", 10_000), store.buys("ben", 5000)] == [100, 0, 50]


def test_f62_what_was_wanted_is_said(shop: Open) -> None:
    store = shop(BASE + '[[earn]]\nname = "budget"\nkind = "cap"\nlimit = 150\nwindow = "budget"\n')
    store.joins("ada")
    store.buys("ada", 10_000)
    (step,) = store.says(
        "purchase.completed", "ada", order="R-x", currency="USD", lines=[{"sku": "S", "amount": 10_000}]
    ).explanation
    assert (step.amount, step.wanted, step.note, step.by) == (50, 100, "capped", "points.budget")


def test_f63_of_simultaneous_redemptions_one_gets_it(shop: Open) -> None:
    """Eight tills, one balance of 100: through the one writer, exactly one is served and nobody sees an error."""
    store = shop(REWARDS.replace("stock = true\n", "").replace("limits", "# limits"))
    store.joins("ada")
    store.adjusts("ada", 100)
    arrivals = [store.arrival("points.redeemed", "ada", {"reward": "mug"}) for _ in range(8)]
    ready, outcomes = threading.Barrier(len(arrivals)), []

    def till(arrival: Any) -> None:
        ready.wait()
        outcomes.append(store.house.writer.submit(arrival).result(timeout=60))

    with store.house:
        tills = [threading.Thread(target=till, args=(arrival,)) for arrival in arrivals]
        for each in tills:
            each.start()
        for each in tills:
            each.join()
    refused = [outcome for outcome in outcomes if isinstance(outcome, TallyError)]
    assert [type(outcome) for outcome in refused] == [Insufficient] * 7
    assert {outcome.code for outcome in refused} == {"insufficient_balance"}
    assert store.usable("ada") == 0


def test_f63_two_houses_share_one_balance(shop: Open) -> None:
    """Two processes with a writer each: the database decides, and exactly one of each pair is served."""
    store = shop(REWARDS.replace("stock = true\n", "").replace("limits", "# limits"))
    names = [f"member-{number}" for number in range(10)]
    store.joins(*names)
    for name in names:
        store.adjusts(name, 100)
    houses = [store.house, store.another_house()]
    batches = [[store.arrival("points.redeemed", name, {"reward": "mug"}) for name in names] for _ in houses]
    ready = threading.Barrier(len(houses))
    outcomes: list[list[Any]] = [[] for _ in houses]

    def till(place: int) -> None:
        ready.wait()
        for arrival in batches[place]:
            outcomes[place] += houses[place].engine.record([arrival])

    tills = [threading.Thread(target=till, args=(place,)) for place in range(len(houses))]
    for each in tills:
        each.start()
    for each in tills:
        each.join()
    for pair in zip(*outcomes, strict=True):
        refused = [outcome for outcome in pair if isinstance(outcome, TallyError)]
        assert [outcome.code for outcome in refused] == ["insufficient_balance"]
    assert [store.usable(name) for name in names] == [0] * len(names)
    houses[1].db.dispose()


def test_f64_the_same_event_twice_is_once_and_another_under_its_id_is_refused(shop: Open) -> None:
    store = shop(BASE)
    store.joins("ada")
    data = {"order": "99", "currency": "USD", "lines": [{"sku": "S", "amount": 10_000}]}
    assert store.says("purchase.completed", "ada", event_id="x", **data) == store.says(
        "purchase.completed", "ada", event_id="x", **data
    )
    assert store.usable("ada") == 100
    with pytest.raises(EventConflict):
        store.says("purchase.completed", "ada", event_id="x", **{**data, "lines": [{"sku": "S", "amount": 10_001}]})
    assert (store.usable("ada"), store.entries()) == (100, 1)


def test_f65_the_rate_is_kept_and_a_refund_uses_it(shop: Open) -> None:
    rates = '[tenants.shop.rates.EUR]\n"2025-01-01" = "1.085"\n"2025-02-01" = "2"\n'
    store = shop(BASE, tenant=rates)
    store.joins("ada")
    record = store.says(
        "purchase.completed", "ada", order="R-1", currency="EUR", lines=[{"sku": "S", "amount": 10_000}]
    )
    (step,) = record.explanation
    assert step.amount == 108
    assert step.data is not None
    assert (step.data["currency"], step.data["rate"]) == ("EUR", "217/200")
    store.until(2025, 2, 10)
    assert store.returns("R-1", amount=5000) == -54
    assert store.returns("R-1") == -54


def test_without_a_rate_the_sale_stands_and_the_points_wait_for_repair(shop: Open) -> None:
    store = shop(BASE)
    store.joins("ada")
    record = store.says(
        "purchase.completed", "ada", order="R-1", currency="EUR", lines=[{"sku": "S", "amount": 10_000}]
    )
    assert [(skipped["plugin"], skipped["hook"]) for skipped in record.skipped] == [("points", "earn")]
    assert store.usable("ada") == 0


def test_f69_late_events_are_judged_by_the_rules_of_their_own_day(shop: Open) -> None:
    store = shop(BASE + '[[earn]]\nname = "january"\nkind = "multiply"\nfactor = "2"\nuntil = "2025-01-31"\n')
    store.joins("ada")
    store.until(2025, 2, 3)
    yesterday = store.now - timedelta(days=3)
    assert store.buys("ada", 10_000, at=yesterday) == 200
    assert store.buys("ada", 10_000) == 100


def test_gifts_keep_their_expiry(shop: Open) -> None:
    store = shop(BASE + MONTH_END + '\n[gift]\nlimits = [{ window = "month", times = 2 }]\n')
    store.joins("ada", "ben")
    store.buys("ada", 10_000)
    store.until(2025, 2, 1)
    store.buys("ada", 10_000)
    record = store.says("points.gifted", "ada", to="ben", points=150)
    assert store.lots("ada") == [(50, date(2025, 4, 1))]
    assert store.lots("ben") == [(100, date(2025, 3, 1)), (50, date(2025, 4, 1))]
    assert [step.effect for step in record.explanation] == ["move"], "nothing is earned by it"
    with pytest.raises(Insufficient):
        store.says("points.gifted", "ada", to="ben", points=51)
    store.says("points.gifted", "ada", to="ben", points=1)
    with pytest.raises(LimitReached):
        store.says("points.gifted", "ada", to="ben", points=1)


def test_adjustments_need_a_second_person_above_the_limit(shop: Open) -> None:
    store = shop("\n[adjust]\napprove_above = 1000\n")
    store.joins("ada")
    with pytest.raises(ApprovalNeeded):
        store.adjusts("ada", 1001)
    assert store.entries() == 0
    store.says("points.adjusted", "ada", points=1001, reason="parcel broken", by="staff-1", approved_by="staff-2")
    assert store.adjusts("ada", -501) == -501
    assert store.usable("ada") == 500
    with pytest.raises(Insufficient):
        store.adjusts("ada", -501)


def test_the_blocked_earn_nothing_and_cannot_spend(shop: Open) -> None:
    store = shop(BASE + REDEEM)
    store.joins("ada")
    store.adjusts("ada", 100)
    with store.house.db.begin() as conn:
        member = people.load(conn, store.house.secret, "shop", "ada").number
        people.change_member(conn, "shop", member, blocked=True)
    assert store.buys("ada", 10_000) == 0
    with pytest.raises(MemberInactive):
        store.redeems("ada", 10)


def test_what_was_not_applied_writes_no_transfer(shop: Open) -> None:
    store = shop(REDEEM)
    store.joins("ada")
    record = store.says("points.redeemed", "ada", points=10)
    assert record.transfers == ()
    assert record.gives == (
        {"discount": 0, "currency": "USD", "points": 0, "status": "below_minimum", "by": "balance"},
    )


def test_guests_are_told_so_by_name(shop: Open) -> None:
    with pytest.raises(TallyError) as refusal:
        shop(REDEEM).says("points.redeemed", "", points=10)
    assert refusal.value.code in ("guest_order", "invalid_event")


def reminders(store: Any) -> list[dict[str, Any]]:
    """What the reminders say that are waiting to be delivered."""
    with database.reading(store.house.db) as conn:
        rows = conn.execute(sa.select(tables.intent.c.body).order_by(tables.intent.c.entry)).all()
    return [msgspec.json.decode(row.body)["facts"] for row in rows]


def test_c38_reminders_list_every_batch_and_come_once(shop: Open) -> None:
    store = shop(BASE + REDEEM + MONTH_END + "\n[remind]\ndays = 30\n")
    store.joins("ada", "ben", "cyd")
    store.buys("ada", 10_000)
    store.buys("ben", 10_000)
    store.redeems("ben", 100)
    store.until(2025, 1, 20)
    store.buys("ada", 5000)
    store.until(2025, 1, 29)
    store.house.run_jobs(force=True, only="points.remind")
    assert reminders(store) == [], "1 March is 31 days away"
    for day in (30, 31):
        store.until(2025, 1, day)
        store.house.run_jobs(force=True, only="points.remind")
    batches = [{"points": 100, "last_day": "2025-02-28"}, {"points": 50, "last_day": "2025-02-28"}]
    assert reminders(store) == [{"points": 150, "batches": batches}]
    store.until(2025, 2, 20)
    store.buys("cyd", 1000)
    store.house.run_jobs(force=True, only="points.remind")
    assert len(reminders(store)) == 1


def test_an_order_in_a_currency_without_a_rate_warns_the_till(shop: Open) -> None:
    """The sale stands, and whoever reads the answer learns why it earned nothing."""
    store = shop(BASE)
    store.joins("ada")
    record = store.says("purchase.completed", "ada", order="R-1", currency="GBP", lines=[{"sku": "S", "amount": 1999}])
    (warning,) = receipts.receipt(record).warnings
    told = (record.status, warning.plugin, warning.hook, warning.code)
    assert told == ("recorded", "points", "earn", "points_unknown_rate")


def test_a_rate_that_is_told_later_gives_the_points_that_waited_for_it(shop: Open, database_url: str) -> None:
    store = shop(BASE)
    store.joins("ada")
    for n in range(30):  # it says so by name: nothing is broken, and nobody is switched off
        store.says("purchase.completed", "ada", order=f"R-{n}", currency="EUR", lines=[{"sku": "S", "amount": 10_000}])
    assert store.buys("ada", 10_000) == 100
    first = store.house.repair("shop")
    assert (first.given, first.nothing, len(first.waiting)) == ((), 0, 30)
    assert (first.waiting[0].cause, first.waiting[0].error) == ("declined", "points_unknown_rate")
    store.wait(days=2)
    late = shop(BASE, tenant='[tenants.shop.rates.EUR]\n"2025-01-01" = "1.085"\n')
    late.now, late._events = store.now, store._events
    assert len(late.house.repair("shop", dry_run=True).given) == 30
    done = late.house.repair("shop")
    assert {step.amount for record in done.given for step in record.explanation} == {108}
    assert late.usable("ada") == 100 + 30 * 108
    assert late.house.repair("shop").given == ()
    assert late.returns("R-3") == -108


@pytest.mark.parametrize("state", ["placed", "delivered"], ids=["delivered later", "delivered at once"])
def test_points_that_wait_for_a_state_and_for_days_wait_for_both(shop: Open, state: str) -> None:
    store = shop(BASE + '\n[pending]\nstate = "delivered"\ndays = 14\n')
    store.joins("ada")
    store.buys("ada", 10_000, order="R-1", state=state)
    store.until(2025, 1, 3)
    store.says("order.advanced", "", order="R-1", state="delivered")
    assert store.usable("ada") == 0
    store.until(2025, 1, 15, 0)
    assert store.usable("ada") == 100
    store.until(2025, 1, 20)
    store.buys("ada", 10_000, order="R-2")
    store.until(2025, 2, 20)
    assert store.usable("ada") == 100
    store.says("order.advanced", "", order="R-2", state="delivered")
    assert store.usable("ada") == 200


def test_every_step_names_the_version_of_its_rule(shop: Open) -> None:
    store = shop(BASE + REDEEM + "\n[gift]\n")
    store.joins("ada", "ben")
    data = {"order": "R-1", "currency": "USD", "lines": [{"sku": "S", "amount": 10_000}]}
    records = [
        store.says("purchase.completed", "ada", **data),
        store.says("points.redeemed", "ada", points=10, order="R-1"),
        store.says("points.gifted", "ada", to="ben", points=10),
        store.says("points.adjusted", "ada", points=-10, reason="test", by="staff-1"),
        store.says("purchase.refunded", "", order="R-1"),
    ]
    told = {step.effect: step.version for record in records for step in record.explanation}
    assert told == dict.fromkeys(
        ("grant", "spend", "move", "take_back", "give_back"), importlib.metadata.version("tallystick-points")
    )
