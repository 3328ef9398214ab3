"""Tables for the rules that are plain arithmetic; the letters are those of the semantics list."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from tallystick.errors import ApprovalNeeded
from tallystick.events import Line, Payment, Purchase
from tallystick.situation import LotView, Original
from tallystick.values import period
from tallystick_points.basis import converted, earning_lines, order_basis, share_of_lines
from tallystick_points.events import Adjusted
from tallystick_points.rules import check_approval, expiring_soon, kept, payment, points_for, progressive
from tallystick_points.settings import Band, Basis, Expiry, Pending, Redeem, Window
from tallystick_points.terms import Calendar, Schedule, last_good_day

SHANGHAI, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York")


def purchase(*lines: Line, **more: object) -> Purchase:
    return Purchase(order="R-1", currency="USD", lines=lines, **more)  # type: ignore[arg-type]


def item(amount: int, **more: object) -> Line:
    return Line(sku="S", amount=amount, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "basis, points, per, expected",
    [
        pytest.param(1999, 1, 100, 19, id="A1 19.99 at 1 per 1.00"),
        pytest.param(4000, 3, 100, 120, id="A1 40.00 at 3 per 1.00"),
        pytest.param(1999, 1, 200, 9, id="A2 19.99 at 1 per 2.00"),
        pytest.param(99, 1, 100, 0, id="99 cents"),
        pytest.param(100, 1, 100, 1, id="100 cents"),
        pytest.param(0, 1, 100, 0, id="nothing"),
        pytest.param(10**12, 7, 3, 7 * 10**12 // 3, id="the largest amount, exactly"),
    ],
)
def test_points_per_money_round_down(basis: int, points: int, per: int, expected: int) -> None:
    assert points_for(basis, points, per) == expected


# 1 % to 5,000, 1.2 % to 7,500, 1.5 % to 10,000, nothing above; one point is one unit of money
BANDS = (
    Band(start=0, points=1, per=10_000),
    Band(start=500_000, points=12, per=100_000),
    Band(start=750_000, points=15, per=100_000),
    Band(start=1_000_000, points=0, per=1),
)


@pytest.mark.parametrize(
    "before, basis, expected",
    [
        pytest.param(400_000, 300_000, 34, id="A16 at 4,000 already, +3,000: 10 + 24"),
        pytest.param(0, 0, 0, id="nothing"),
        pytest.param(0, 500_000, 50, id="the whole first band"),
        pytest.param(0, 2_000_000, 117, id="50 + 30 + 37.5, and nothing above"),
        pytest.param(1_000_000, 500_000, 0, id="above the last band"),
        pytest.param(-5_000, 10_000, 1, id="a negative counter is nothing spent"),
    ],
)
def test_bands_split_the_amount(before: int, basis: int, expected: int) -> None:
    assert progressive(basis, before, BANDS) == expected


def test_bands_do_not_care_where_a_year_of_spending_is_cut() -> None:
    """With ratios that divide, two purchases earn what one of the same sum does."""
    whole = progressive(1_200_000, 0, BANDS)
    assert whole == progressive(600_000, 0, BANDS) + progressive(600_000, 600_000, BANDS)


ITEMS_AND_SHIPPING = purchase(item(5000, tax=800), item(1000, tax=200, kind="shipping"))


@pytest.mark.parametrize(
    "policy, expected",
    [
        pytest.param(Basis(), 5000, id="A10 items, tax in"),
        pytest.param(Basis(tax="excluded"), 4200, id="A10 items, tax out"),
        pytest.param(Basis(shipping="included"), 6000, id="A10 order, tax in"),
        pytest.param(Basis(shipping="included", tax="excluded"), 5000, id="A10 order, tax out"),
    ],
)
def test_the_basis_is_explicit(policy: Basis, expected: int) -> None:
    assert order_basis(ITEMS_AND_SHIPPING, earning_lines(ITEMS_AND_SHIPPING, policy), policy) == expected


def paid(method: str, amount: int) -> tuple[Payment, ...]:
    return (Payment(method=method, amount=amount),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bought, policy, expected",
    [
        pytest.param(purchase(item(10_000), discount=1000), Basis(), 9000, id="A11 10 % promotion"),
        pytest.param(purchase(item(10_000), discount=1000), Basis(discounts="gross"), 10_000, id="A11 gross"),
        pytest.param(purchase(item(10_000, discount=1000)), Basis(), 9000, id="A11 discount on the line"),
        pytest.param(purchase(item(10_000), payments=paid("stored_value", 1000)), Basis(), 10_000, id="A11 e-wallet"),
        pytest.param(purchase(item(10_000), payments=paid("gift_card", 5000)), Basis(), 10_000, id="A11 gift card"),
        pytest.param(purchase(item(4000), payments=paid("points", 2000)), Basis(), 2000, id="A14 net"),
        pytest.param(purchase(item(4000), payments=paid("points", 2000)), Basis(points="gross"), 4000, id="A14 gross"),
        pytest.param(
            purchase(item(10_000), item(5000), discount=1500), Basis(), 13_500, id="A12 10 % on all, whole order"
        ),
        pytest.param(purchase(item(500), item(9000, kind="stored_value")), Basis(), 500, id="a top-up earns nothing"),
        pytest.param(purchase(item(500), item(500, kind="reward")), Basis(), 500, id="A13 a reward earns nothing"),
        pytest.param(purchase(item(500), item(900, kind="shipping"), discount=900), Basis(), 0, id="never below 0"),
        pytest.param(
            purchase(item(12_000, tax=2000), discount=1200), Basis(tax="excluded"), 9000, id="discount without its tax"
        ),
        pytest.param(purchase(item(0)), Basis(), 0, id="a free line"),
    ],
)
def test_discounts_reduce_the_basis_and_stored_value_does_not(bought: Purchase, policy: Basis, expected: int) -> None:
    assert order_basis(bought, earning_lines(bought, policy), policy) == expected


@pytest.mark.parametrize(
    "bought, basis, expected",
    [
        pytest.param(
            purchase(item(10_000), item(5000), discount=1500),
            10_000,
            10_000,
            id="A12 a general discount leaves the food alone",
        ),
        pytest.param(
            purchase(item(3000), item(1000), payments=paid("points", 1000)), 3000, 2250, id="paid a quarter with points"
        ),
        pytest.param(purchase(item(3000), payments=paid("points", 3000)), 3000, 0, id="paid all with points"),
        pytest.param(purchase(item(0), payments=paid("points", 0)), 0, 0, id="nothing to pay"),
    ],
)
def test_a_rule_about_some_lines(bought: Purchase, basis: int, expected: int) -> None:
    assert share_of_lines(bought, basis, Basis()) == expected


@pytest.mark.parametrize("rate", [Fraction(1, 17), Fraction(17), Fraction(1085, 1000), Fraction(1, 3)])
def test_a_foreign_purchase_keeps_its_total(rate: Fraction) -> None:
    bought = purchase(item(333), item(999, discount=999, tax=0), item(777, discount=10, tax=100), discount=50)
    home = converted(bought, rate, "ZAR")
    assert home.total == bought.total * rate.numerator // rate.denominator
    assert home.currency == "ZAR"
    assert all(line.net >= 0 and line.tax <= line.amount for line in home.lines)
    assert home.lines[1].net == 0, "a line that was free stays free"


@pytest.mark.parametrize(
    "earned, expiry, expected",
    [
        pytest.param(date(2020, 7, 6), Expiry(), None, id="never"),
        pytest.param(
            date(2018, 7, 1), Expiry(policy="rolling", after=period("P30D")), date(2018, 7, 31), id="C35 30 days"
        ),
        pytest.param(
            date(2020, 7, 6),
            Expiry(policy="rolling", after=period("P12M"), end_of="month"),
            date(2021, 8, 1),
            id="C35 P12M to month end",
        ),
        pytest.param(
            date(2024, 1, 31),
            Expiry(policy="rolling", after=period("P1M")),
            date(2024, 2, 29),
            id="C36 clamps, leap year",
        ),
        pytest.param(
            date(2025, 1, 31), Expiry(policy="rolling", after=period("P1M")), date(2025, 2, 28), id="C36 clamps"
        ),
        pytest.param(
            date(2024, 2, 29), Expiry(policy="rolling", after=period("P1Y")), date(2025, 2, 28), id="29 February"
        ),
        pytest.param(
            date(2025, 5, 20), Expiry(policy="period_end", end_of="month"), date(2025, 6, 1), id="end of this month"
        ),
        pytest.param(
            date(2025, 5, 20), Expiry(policy="period_end", end_of="quarter"), date(2025, 7, 1), id="end of this quarter"
        ),
        pytest.param(
            date(2025, 5, 20), Expiry(policy="period_end", end_of="half"), date(2025, 7, 1), id="end of this half"
        ),
        pytest.param(
            date(2025, 5, 20), Expiry(policy="period_end", end_of="year"), date(2026, 1, 1), id="end of this year"
        ),
        pytest.param(
            date(2025, 5, 20),
            Expiry(policy="period_end", end_of="year", after=period("P1Y")),
            date(2027, 1, 1),
            id="end of next year",
        ),
        pytest.param(
            date(2025, 12, 31), Expiry(policy="period_end", end_of="month"), date(2026, 1, 1), id="last day of the year"
        ),
        pytest.param(
            date(2025, 5, 20), Expiry(policy="fixed", on=date(2025, 12, 31)), date(2026, 1, 1), id="a date is included"
        ),
        pytest.param(
            date(2025, 3, 31), Expiry(policy="fixed", on=(3, 31)), date(2025, 4, 1), id="31 March, on the day"
        ),
        pytest.param(
            date(2025, 4, 1), Expiry(policy="fixed", on=(3, 31)), date(2026, 4, 1), id="31 March, the day after"
        ),
        pytest.param(
            date(2025, 5, 20),
            Expiry(policy="fixed", on=(3, 31), after=period("P1Y")),
            date(2027, 4, 1),
            id="31 March after a year",
        ),
        pytest.param(
            date(2025, 5, 20), Expiry(policy="fixed", on=(2, 29)), date(2026, 3, 1), id="29 February of every year"
        ),
    ],
)
def test_points_expire_at_the_end_of_their_last_good_day(earned: date, expiry: Expiry, expected: date | None) -> None:
    """*expected* is the first day on which they cannot be used any more."""
    last = last_good_day(earned, expiry)
    assert (None if last is None else last.toordinal() + 1) == (None if expected is None else expected.toordinal())


@pytest.mark.parametrize(
    "at, zone, day",
    [
        pytest.param(
            datetime(2025, 6, 30, 16, 0, tzinfo=UTC), SHANGHAI, date(2025, 7, 1), id="C36 midnight in Shanghai"
        ),
        pytest.param(
            datetime(2025, 6, 30, 15, 59, 59, 999_999, tzinfo=UTC), SHANGHAI, date(2025, 6, 30), id="C36 just before"
        ),
        pytest.param(datetime(2025, 11, 2, 4, 30, tzinfo=UTC), NEW_YORK, date(2025, 11, 2), id="DST ends"),
        pytest.param(datetime(2025, 3, 9, 4, 59, tzinfo=UTC), NEW_YORK, date(2025, 3, 8), id="the night before DST"),
        pytest.param(
            datetime(1960, 1, 1, 0, 0, tzinfo=UTC), ZoneInfo("Africa/Monrovia"), date(1959, 12, 31), id="old local time"
        ),
    ],
)
def test_a_day_is_the_programmes_day(at: datetime, zone: ZoneInfo, day: date) -> None:
    calendar = Calendar(zone)
    assert [calendar.day(at), calendar.day(at)] == [day, day]


def test_points_expire_at_local_midnight() -> None:
    schedule = Schedule(Calendar(SHANGHAI), Expiry(policy="period_end", end_of="month"), Pending(days=14))
    terms = schedule.on(date(2025, 6, 3))
    assert terms is not None
    assert terms.expires_at == datetime(2025, 6, 30, 16, tzinfo=UTC)
    assert terms.usable_from == datetime(2025, 6, 16, 16, tzinfo=UTC)


def test_nothing_is_given_that_could_never_be_used() -> None:
    assert (
        Schedule(Calendar(SHANGHAI), Expiry(policy="fixed", on=date(2025, 6, 30)), Pending()).on(date(2025, 7, 1))
        is None
    )


TODAY, YESTERDAY, TOMORROW = date(2025, 6, 15), date(2025, 6, 14), date(2025, 6, 16)
NOON = datetime(2025, 6, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "window, holds",
    [
        pytest.param(Window(), True, id="always"),
        pytest.param(Window(since=TODAY, until=TODAY), True, id="C37 from = to = today"),
        pytest.param(Window(until=YESTERDAY), False, id="C37 to = yesterday"),
        pytest.param(Window(since=TOMORROW), False, id="from tomorrow"),
        pytest.param(Window(since=NOON), True, id="instants include their beginning"),
        pytest.param(Window(until=NOON), False, id="instants exclude their end"),
        pytest.param(Window(since=NOON.replace(microsecond=1)), False, id="one microsecond early"),
        pytest.param(Window(until=NOON.replace(microsecond=1)), True, id="one microsecond left"),
    ],
)
def test_dates_are_both_included_and_instants_half_open(window: Window, holds: bool) -> None:
    assert window.holds(NOON, TODAY) is holds


BY_HUNDREDS = Redeem(points=100, gives=500, step=100)
BY_ONES = Redeem(points=1, gives=1, step=1, minimum=0, share=Fraction(1, 2))


@pytest.mark.parametrize(
    "wanted, usable, redeem, total, expected",
    [
        pytest.param(1050, 5000, BY_HUNDREDS, None, (1000, 5000, "reduced", "step"), id="E47 1050 -> 1000 = 50.00"),
        pytest.param(10_000, 20_000, BY_ONES, 10_000, (5000, 5000, "reduced", "share"), id="E47 half of 100.00"),
        pytest.param(1000, 700, BY_ONES, None, (700, 700, "reduced", "balance"), id="E47 balance 700"),
        pytest.param(
            400,
            9000,
            Redeem(points=1, gives=1, step=1, minimum=500),
            None,
            (0, 0, "below_minimum", "minimum"),
            id="E47 400 below 500",
        ),
        pytest.param(
            500,
            9000,
            Redeem(points=1, gives=1, step=1, minimum=500),
            None,
            (500, 500, "applied", ""),
            id="at the minimum",
        ),
        pytest.param(99, 9000, BY_HUNDREDS, None, (0, 0, "below_minimum", "minimum"), id="E48 less than one step"),
        pytest.param(1000, 1000, BY_HUNDREDS, 2600, (500, 2500, "reduced", "share"), id="never more than the order"),
        pytest.param(1000, -50, BY_HUNDREDS, None, (0, 0, "below_minimum", "balance"), id="a deficit buys nothing"),
        pytest.param(
            900,
            9000,
            Redeem(points=100, gives=500, step=100, maximum=350),
            None,
            (300, 1500, "reduced", "maximum"),
            id="at most 350",
        ),
        pytest.param(100, 100, BY_HUNDREDS, 0, (0, 0, "below_minimum", "share"), id="a free order"),
    ],
)
def test_points_pay_as_far_as_they_may(
    wanted: int, usable: int, redeem: Redeem, total: int | None, expected: tuple[int, int, str, str]
) -> None:
    assert payment(wanted, usable, redeem, total=total) == expected


def test_a_members_limit_reduces_and_then_stops() -> None:
    assert payment(1000, 5000, BY_HUNDREDS, left=350)[:3] == (300, 1500, "reduced")
    assert payment(1000, 5000, BY_HUNDREDS, left=50) == (0, 0, "limit_reached", "limit")
    assert payment(1000, 5000, BY_HUNDREDS, times_left=False) == (0, 0, "limit_reached", "limit")


@pytest.mark.parametrize(
    "points, approved_by, ok",
    [
        pytest.param(1000, "", True, id="at the limit"),
        pytest.param(1001, "", False, id="above the limit"),
        pytest.param(-1001, "", False, id="taking counts as much as giving"),
        pytest.param(1001, "staff-2", True, id="a second person"),
        pytest.param(1001, "Staff-1 ", False, id="the same person"),
    ],
)
def test_large_adjustments_need_a_second_person(points: int, approved_by: str, ok: bool) -> None:
    adjusted = Adjusted(points=points, reason="goodwill", by="staff-1", approved_by=approved_by)
    if ok:
        check_approval(adjusted, 1000)
    else:
        with pytest.raises(ApprovalNeeded):
            check_approval(adjusted, 1000)


def test_every_batch_that_expires_soon_is_listed() -> None:
    """C38: 100 (February), 200 (June), 50 never."""

    def instant(month: int) -> datetime:
        return datetime(2025, month, 1, tzinfo=UTC)

    lots = [
        LotView("1-1-2.0", 200, instant(1), datetime(2025, 6, 15, tzinfo=UTC)),
        LotView("1-1-1.0", 100, instant(1), datetime(2025, 2, 15, tzinfo=UTC)),
        LotView("1-1-3.0", 50, instant(1), None),
        LotView("1-1-4.0", 0, instant(1), datetime(2025, 2, 15, tzinfo=UTC)),
    ]
    january = instant(1)
    assert sum(batch.points for batch in expiring_soon(lots, january, instant(3))) == 100
    assert sum(batch.points for batch in expiring_soon(lots, january, instant(7))) == 300
    assert [batch.lot for batch in expiring_soon(lots, january, instant(7))] == ["1-1-1.0", "1-1-2.0"]
    assert expiring_soon(lots, instant(7), instant(8)) == [], "what has expired does not expire soon"


def test_points_of_late_returns_are_kept() -> None:
    bought = purchase(item(1000))
    original = Original(
        entry="1-1-0", kind="purchase.completed", at=NOON, facts=bought,
        granted=(("points.base", "points", 10), ("tiers.credit", "tier_credit", 10)), value=1000, returned_before=0, returned=1000,
    )  # fmt: skip
    assert kept(original, TODAY, TODAY) == []
    assert [(keep.of_rule, keep.amount) for keep in kept(original, TOMORROW, TODAY)] == [("points.base", 10)]
