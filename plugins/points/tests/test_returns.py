"""What comes back with an order and what does not: stories about returns that a merchant would otherwise lose by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tallystick import receipts
from tallystick.errors import LimitReached

Open = Callable[..., object]

BASE = '\n[[earn]]\nname = "base"\npoints = 1\nper = 100\n'
FOOD = '\n[[earn]]\nname = "food"\npoints = 1\nper = 100\nlines = \'line.department == "FOOD"\'\n'

EXPIRING = '\n[expiry]\npolicy = "rolling"\nafter = "P30D"\n' + BASE + "[redeem]\npoints = 50\ngives = 50\n"


def basket(food: int, other: int) -> list[dict[str, object]]:
    return [{"sku": "F", "amount": food, "department": "FOOD"}, {"sku": "T", "amount": other}]


def test_returning_what_never_earned_makes_no_room_under_a_cap(shop) -> None:  # type: ignore[no-untyped-def]
    """Or a television that is bought and brought back would lift the limit of the month as often as anybody likes."""
    store = shop(FOOD + '[[earn]]\nname = "month"\nkind = "cap"\nlimit = 100\nwindow = "month"\n')
    store.joins("ada")
    assert store.buys("ada", lines=basket(10_000, 90_000), order="R-1") == 100
    assert store.returns("R-1", lines=[{"line": 1, "amount": 90_000}]) == 0
    assert store.buys("ada", lines=basket(10_000, 90_000), order="R-2") == 0
    assert store.returns("R-1", lines=[{"line": 0, "amount": 3000}]) == -30
    assert store.buys("ada", lines=basket(10_000, 90_000), order="R-3") == 30, "what was taken back makes room"


def test_what_may_be_kept_goes_on_using_the_cap_up(shop) -> None:  # type: ignore[no-untyped-def]
    store = shop(
        BASE
        + '[[earn]]\nname = "ever"\nkind = "cap"\nlimit = 100\nwindow = "lifetime"\n[refund]\nkeep_after = "P14D"\n'
    )
    store.joins("ada")
    assert store.buys("ada", 10_000, order="R-1") == 100
    store.wait(days=30)
    assert store.returns("R-1") == 0
    assert store.buys("ada", 10_000) == 0


def test_points_that_could_not_be_taken_back_go_on_using_the_cap_up(shop) -> None:  # type: ignore[no-untyped-def]
    store = shop(
        BASE
        + '[[earn]]\nname = "ever"\nkind = "cap"\nlimit = 100\nwindow = "lifetime"\n[redeem]\npoints = 100\ngives = 100\n',
        '[tenants.shop.units.points]\nshortfall = "within_balance"\n',
    )
    store.joins("ada")
    store.buys("ada", 10_000, order="R-1")
    store.redeems("ada", 100)
    assert store.returns("R-1") == 0
    assert store.buys("ada", 10_000) == 0, "or buying, spending and returning would be a living"


def test_bands_go_down_by_what_comes_back_of_the_lines_they_count(shop) -> None:  # type: ignore[no-untyped-def]
    store = shop(
        '\n[[earn]]\nname = "food"\nlines = \'line.department == "FOOD"\'\nover = "year"\n'
        "bands = [{ from = 0, points = 1, per = 100 }, { from = 10000, points = 0, per = 100 }]\n"
    )
    store.joins("ada")
    assert store.buys("ada", lines=basket(10_000, 90_000), order="R-1") == 100
    store.returns("R-1", lines=[{"line": 1, "amount": 90_000}])
    assert store.buys("ada", lines=basket(10_000, 90_000), order="R-2") == 0, "a television that went lifts no limit"
    store.returns("R-2")
    store.returns("R-1", lines=[{"line": 0, "amount": 4000}])
    assert store.buys("ada", lines=basket(10_000, 90_000)) == 40


def test_a_counter_of_what_earns_goes_down_by_what_comes_back_of_it(shop) -> None:  # type: ignore[no-untyped-def]
    store = shop(
        '\n[counters.spent]\nwindow = "year"\nvalue = "eligible"\n'
        '[[earn]]\nname = "first"\npoints = 50\nwhen = "counter.spent < 10000"\n'
    )
    store.joins("ada")
    lines = [{"sku": "S", "amount": 10_000}, {"sku": "V", "amount": 90_000, "kind": "stored_value"}]
    assert store.buys("ada", lines=lines, order="R-1") == 50
    store.returns("R-1", lines=[{"line": 1, "amount": 90_000}])
    assert store.buys("ada", 100, order="R-2") == 0
    store.returns("R-1", lines=[{"line": 0, "amount": 500}])
    assert store.buys("ada", 100) == 50


@pytest.mark.parametrize("sold", [True, False], ids=["returned", "cancelled before it was sold"])
def test_a_reward_and_its_limits_come_back_with_the_order_they_were_part_of(shop, sold: bool) -> None:  # type: ignore[no-untyped-def]
    store = shop(
        BASE
        + '[[rewards]]\nname = "mug"\ncost = 10\nstock = true\nlimits = [{ window = "year", times = 1 }]\n'
        + '[redeem]\npoints = 100\ngives = 100\nlimits = [{ window = "day", points = 100 }]\n'
    )
    store.joins("ada")
    store.buys("ada", 100_000)
    store.says("points.restocked", "", reward="mug", pieces=1)
    store.says("points.redeemed", "ada", reward="mug", order="R-2")
    assert store.redeems("ada", 100, order="R-2")["points"] == 100
    if sold:
        store.buys("ada", 10_000, order="R-2")
    store.says("purchase.cancelled", "ada", order="R-2")
    assert store.usable("ada") == 1000
    store.says("points.redeemed", "ada", reward="mug", order="R-3")
    assert store.redeems("ada", 100, order="R-3")["points"] == 100
    if not sold:  # the sale comes late, and its cancellation with it: nothing comes back twice
        store.buys("ada", 10_000, order="R-2")
        assert store.usable("ada") == 1000 - 110
        with pytest.raises(LimitReached):
            store.says("points.redeemed", "ada", reward="mug")


def test_what_paying_with_points_earned_goes_with_the_points_that_come_back(shop) -> None:  # type: ignore[no-untyped-def]
    """S06: paying and cancelling fifty times would be fifty gifts."""
    store = shop(
        BASE
        + '[[earn]]\nname = "thanks"\nkind = "bonus"\non = "points.redeemed"\npoints = 7\n'
        + "[redeem]\npoints = 100\ngives = 100\n"
    )
    store.joins("ada")
    store.buys("ada", 100_000)
    for n in range(3):
        store.redeems("ada", 100, order=f"P-{n}")
        store.buys("ada", 10_000, order=f"P-{n}")
        store.returns(f"P-{n}", amount=5000)
        store.returns(f"P-{n}")
        assert store.usable("ada") == 1000


def test_a_guest_order_that_is_linked_after_it_was_delivered_waits_for_nothing(shop) -> None:  # type: ignore[no-untyped-def]
    store = shop('\n[pending]\nstate = "delivered"\n' + BASE)
    store.joins("ada")
    store.buys("", 10_000, order="G-1", state="placed")
    store.says("order.advanced", "", order="G-1", state="delivered")
    store.says("order.claimed", "ada", order="G-1")
    assert store.usable("ada") == 100


@pytest.mark.parametrize(
    "spent, swept, after_half, after_all",
    [(0, True, 0, 0), (0, False, 0, 0), (100, True, 0, -100), (150, True, -50, -150), (200, True, -100, -200)],
)
def test_what_expired_unused_is_not_taken_back_once_more(  # type: ignore[no-untyped-def]
    shop, spent: int, swept: bool, after_half: int, after_all: int
) -> None:
    """Of 200 points a part was spent and the rest expired: who returns the order owes what was had of it, and no more."""
    store = shop(EXPIRING)
    store.joins("ada")
    store.buys("ada", 20_000, order="R-1")
    if spent:
        store.redeems("ada", spent)
    store.wait(days=40)
    if swept:
        store.sweeps()
    store.returns("R-1", amount=10_000)
    assert store.posted("ada") == after_half
    store.returns("R-1")
    assert store.posted("ada") == after_all


def test_what_was_taken_back_before_the_rest_expired_is_not_counted_twice(shop) -> None:  # type: ignore[no-untyped-def]
    store = shop(EXPIRING + '[[earn]]\nname = "twice"\nkind = "multiply"\nfactor = "2"\n')
    store.joins("ada")
    store.buys("ada", 20_000, order="R-1")
    assert store.returns("R-1", amount=5000) == -100
    store.redeems("ada", 100)
    store.wait(days=40)
    store.sweeps()
    store.returns("R-1", amount=10_000)
    assert store.posted("ada") == 0, "200 of the 300 that are gone with it had expired, and 100 were taken back before"
    store.returns("R-1")
    assert store.posted("ada") == -100, "what was spent"


@pytest.mark.parametrize(
    "told",
    ["paid sold returned", "paid returned sold", "sold paid returned", "returned paid sold"],
)
def test_points_that_paid_go_back_wherever_the_return_was_told(shop, told: str) -> None:  # type: ignore[no-untyped-def]
    """What paid is told before the return or after it; the sale may come last."""
    store = shop(BASE + "[redeem]\npoints = 1\ngives = 1\n")
    store.joins("ada")
    store.adjusts("ada", 1000)
    tell = {
        "paid": lambda: store.redeems("ada", 300, order="R-1", total=1000),
        "sold": lambda: store.buys("ada", 1000, order="R-1", payments=[{"method": "points", "amount": 300}]),
        "returned": lambda: store.returns("R-1", amount=500),
    }
    for what in told.split():
        tell[what]()
    assert store.usable("ada") == 1000 - 300 + 150 + 7 - 3
    store.returns("R-1")
    assert store.usable("ada") == 1000


def test_a_return_is_rounded_once_whether_lines_or_an_amount_came_back(shop) -> None:  # type: ignore[no-untyped-def]
    """150 points for 200.00: 116.66 came back in two ways, which is 87.495 points, and 87 of them go."""
    store = shop(BASE + '[[earn]]\nname = "most"\nkind = "cap"\nlimit = 150\n')
    store.joins("ada")
    assert store.buys("ada", 12_345, 7655, order="R-1") == 150
    taken = store.returns("R-1", lines=[{"line": 0, "amount": 5000}]) + store.returns("R-1", amount=6666)
    assert taken == -(150 * 11_666 // 20_000) == -87


def test_a_line_in_thirds_takes_back_whole_points_where_they_are_whole(shop) -> None:  # type: ignore[no-untyped-def]
    """Two lines of 3.00 with a point each: a third of one and two thirds of the other are a point."""
    store = shop('\n[[earn]]\nname = "each"\npoints = 1\neach = "line"\n')
    store.joins("ada")
    assert store.buys("ada", 300, 300, order="R-1") == 2
    assert store.returns("R-1", lines=[{"line": 0, "amount": 100}, {"line": 1, "amount": 200}]) == -1


def test_what_a_multiplier_added_comes_back_to_the_point(shop) -> None:  # type: ignore[no-untyped-def]
    """9.99 earned 9 points and as many again: 1.11 of it come to one of each, whatever lines they stand on."""
    store = shop(BASE + '[[earn]]\nname = "twice"\nkind = "multiply"\nfactor = "2"\n')
    store.joins("ada")
    assert store.buys("ada", 37, 74, 888, order="R-1") == 18
    assert store.returns("R-1", lines=[{"line": 0, "amount": 37}, {"line": 1, "amount": 74}]) == -2
    assert store.returns("R-1") == -16


def test_what_comes_back_to_somebody_else_is_not_told_as_the_buyers(shop) -> None:  # type: ignore[no-untyped-def]
    """Ben paid for a part of Ada's order: its return says what each of them got and lost, and the receipt only what she did."""
    store = shop(EXPIRING)
    store.joins("ada", "ben")
    store.adjusts("ben", 150)
    store.redeems("ben", 100, order="R-1")
    store.buys("ada", 10_000, order="R-1")
    store.wait(days=40)
    record = store.says("purchase.refunded", "", order="R-1")
    moved: Counter[str] = Counter()
    for transfer in record.transfers:
        moved[transfer.credit] += transfer.amount
        moved[transfer.debit] -= transfer.amount
    told: Counter[str] = Counter()
    for step in record.explanation:
        told[step.member or record.member] += step.amount
    assert {name: told[name] for name in told} == {name: moved[name] for name in told}
    assert [(step.effect, step.amount) for step in receipts.receipt(record).explanation] == [
        ("expire", -100),
        ("take_back", 0),
    ]
