"""What members gain: the plugin's proposals through the core's settling.  Letters and numbers are those of the semantics list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

import attrs
import pytest

from tallystick.effects import Grant
from tallystick.events import Line, Payment, Purchase
from tallystick.rules.explain import what_would_it_take
from tallystick.situation import Member, Unit
from tallystick_points.errors import UnknownRate

Till = Callable[..., Any]

BASE = """
[[earn]]
name = "base"
points = 1
per = 100
"""


def item(amount: int, sku: str = "S", **more: Any) -> Line:
    return Line(sku=sku, amount=amount, **more)


@pytest.mark.parametrize(
    "rules, amount, expected",
    [
        pytest.param(BASE, 1999, 19, id="A1 19.99"),
        pytest.param(BASE.replace("points = 1", "points = 3"), 4000, 120, id="A1 3 points per 1.00"),
        pytest.param(BASE + '[[earn]]\nname = "half"\npoints = 1\nper = 200', 1999, 28, id="A2 19 + 9"),
        pytest.param(BASE + '[[earn]]\nname = "double"\nkind = "multiply"\nfactor = "2"', 1999, 38, id="A3 x2"),
        pytest.param(BASE + '[[earn]]\nname = "more"\nkind = "multiply"\nfactor = "1.5"', 1999, 28, id="A3 x1.5, floor"),
        pytest.param(BASE + '[[earn]]\nname = "fixed"\npoints = 100\nexclusive = true', 1999, 100, id="A4 a fixed 100 displaces 19"),
        pytest.param(
            BASE
            + '[[earn]]\nname = "fifty"\npoints = 50\nexclusive = true\npriority = 5\n'
            + '[[earn]]\nname = "two_hundred"\npoints = 200\nexclusive = true\npriority = 20',
            1999, 200, id="A4 the higher priority",
        ),
        pytest.param(
            BASE
            + '[[earn]]\nname = "fifty"\npoints = 50\nexclusive = true\npriority = 20\n'
            + '[[earn]]\nname = "two_hundred"\npoints = 200\nexclusive = true\npriority = 5',
            1999, 50, id="A4 the priority, not the value",
        ),
        pytest.param(
            BASE + '[[earn]]\nname = "nothing"\npoints = 0\nexclusive = true', 1999, 0, id="an exclusive rule of 0 points: this order earns nothing"
        ),
        pytest.param('[[earn]]\nname = "value"\nvalue = "eligible / 50"', 1999, 39, id="an amount as an expression"),
        pytest.param(
            '[[earn]]\nname = "value"\nvalue = \'decimal("0.015") * eligible\'', 1999, 29, id="a decimal amount rounds down"
        ),
        pytest.param('[[earn]]\nname = "value"\nvalue = "0 - eligible"', 1999, 0, id="never below 0"),
        pytest.param('[[earn]]\nname = "flat"\nkind = "bonus"\npoints = 7', 1, 7, id="a flat bonus"),
    ],
)  # fmt: skip
def test_rules_add_multiply_and_displace(till: Till, rules: str, amount: int, expected: int) -> None:
    assert till(rules).buys(item(amount)) == expected


@pytest.mark.parametrize(
    "rounding, expected",
    [pytest.param("floor", 28), pytest.param("half_up", 29), pytest.param("half_even", 28), pytest.param("ceil", 29)],
)
def test_a3_the_programme_rounds_once(till: Till, rounding: Any, expected: int) -> None:
    shop = till(
        BASE + '[[earn]]\nname = "more"\nkind = "multiply"\nfactor = "1.5"',
        units=(Unit(name="points", rounding=rounding, plugin="points"),),
    )
    assert shop.buys(item(1999)) == expected


# The basket of A5 to A9: 12.00 red, 100.00 blue (SKU 000), 40.00 delivery; 4 points per 1.00
RED, BLUE, DELIVERY = (
    item(1200, "123", labels=("red",)), item(10_000, "000", labels=("blue",)), item(4000, "D", kind="shipping"),
)  # fmt: skip
FOUR = """
[basis]
shipping = "included"

[[earn]]
name = "base"
points = 4
per = 100
"""


def times(label: str, factor: int) -> str:
    return f'[[earn]]\nname = "{label}"\nkind = "multiply"\nfactor = "{factor}"\nlines = \'"{label}" in line.labels\'\n'


@pytest.mark.parametrize(
    "rules, expected",
    [
        pytest.param(FOUR, 608, id="A5 base"),
        pytest.param(
            FOUR + '[[earn]]\nname = "flat"\nkind = "bonus"\npoints = 100\nlines = \'line.sku == "123"\'',
            708,
            id="A5 flat 100 on a SKU",
        ),
        pytest.param(FOUR + times("red", 3), 704, id="A5 x3 on red"),
        pytest.param(FOUR + times("red", 3) + times("blue", 6), 2704, id="A6 red x3, blue x6"),
        pytest.param(FOUR + times("red", 0) + times("blue", 2), 960, id="A6 red x0, blue x2"),
        pytest.param(FOUR + times("red", 0) + times("blue", 0), 160, id="A6 red x0, blue x0"),
        pytest.param(FOUR + "lines = 'line.sku != \"000\"'", 208, id="A7 exclude a SKU"),
        pytest.param(FOUR + "lines = '!(\"red\" in line.labels)'", 560, id="A7 exclude red"),
        pytest.param(FOUR + "lines = '\"red\" in line.labels'", 48, id="A7 only red"),
        pytest.param(
            FOUR + 'lines = \'line.kind != "shipping" && !("red" in line.labels)\'',
            400,
            id="A7 exclude delivery and red",
        ),
        pytest.param(FOUR + "when = 'purchase.total >= 10000'", 608, id="A8 minimum 100"),
        pytest.param(FOUR + "when = 'purchase.total >= 30000'", 0, id="A8 minimum 300"),
        pytest.param(
            FOUR + "when = 'purchase.total >= 15200'\nlines = '\"red\" in line.labels'",
            48,
            id="A8 the minimum sees excluded lines",
        ),
        pytest.param(FOUR + "when = 'purchase.items >= 11200'", 608, id="A8 delivery-free total, reached"),
        pytest.param(FOUR + "when = 'purchase.items >= 11201'", 0, id="A8 delivery-free total, missed"),
    ],
)
def test_the_basket_of_three_lines(till: Till, rules: str, expected: int) -> None:
    assert till(rules).buys(RED, BLUE, DELIVERY) == expected


def step(name: str, points: int, more: str = "") -> str:
    return f'[[earn]]\nname = "{name}"\npoints = {points}\nper = 100\n{more}\n'


SHIPPED = '[basis]\nshipping = "included"\n'


@pytest.mark.parametrize(
    "rules, expected",
    [
        pytest.param(step("one", 1) + step("last", 1, "stop = true") + step("ten", 10), 304, id="A9 the last rule fired"),
        pytest.param(
            step("one", 1) + step("last", 1, "stop = true\nwhen = 'purchase.total >= 100000000'") + step("two", 2), 456,
            id="A9 the last rule did not fire",
        ),
    ],
)  # fmt: skip
def test_stop_counts_only_if_the_rule_fired(till: Till, rules: str, expected: int) -> None:
    assert till(SHIPPED + rules).buys(RED, BLUE, DELIVERY) == expected


@pytest.mark.parametrize(
    "basis, expected",
    [
        pytest.param("", 5000, id="A10 items, tax in"),
        pytest.param('tax = "excluded"', 4200, id="A10 items, tax out"),
        pytest.param('shipping = "included"', 6000, id="A10 order, tax in"),
        pytest.param('shipping = "included"\ntax = "excluded"', 5000, id="A10 order, tax out"),
    ],
)
@pytest.mark.parametrize("lines", ["", "lines = 'true'"], ids=["order rule", "line rule"])
def test_a10_the_basis_is_explicit(till: Till, basis: str, lines: str, expected: int) -> None:
    shop = till(f'[basis]\n{basis}\n[[earn]]\nname = "base"\npoints = 1\nper = 1\n{lines}')
    assert shop.buys(item(5000, tax=800), item(1000, tax=200, kind="shipping")) == expected


def paid(method: Any, amount: int) -> tuple[Payment, ...]:
    return (Payment(method=method, amount=amount),)


def test_a11_promotions_reduce_the_basis_and_stored_value_does_not(till: Till) -> None:
    shop = till(BASE)
    assert shop.buys(item(10_000), discount=1000) == 90
    assert shop.buys(item(10_000), payments=paid("stored_value", 1000)) == 100
    assert shop.buys(item(10_000), payments=paid("gift_card", 5000)) == 100


def test_a12_a_general_discount_does_not_touch_a_rule_about_food(till: Till) -> None:
    shop = till(BASE + "lines = 'line.category == \"food\"'")
    assert shop.buys(item(10_000, category="food"), item(5000), discount=1500) == 100
    assert shop.buys(item(10_000, category="food", discount=1000), item(5000)) == 90


def test_a13_reward_lines_and_stored_value_never_earn(till: Till) -> None:
    for rules in (BASE, '[[earn]]\nname = "each"\npoints = 1\neach = "line"', BASE + "lines = 'true'"):
        shop = till(rules)
        assert shop.buys(item(100), item(100, kind="reward")) == 1
        assert shop.buys(item(100), item(100, kind="stored_value")) == 1


@pytest.mark.parametrize("policy, expected", [("net", 1000), ("none", 0), ("gross", 2000)])
def test_a14_earning_on_an_order_paid_with_points(till: Till, policy: str, expected: int) -> None:
    """4,000 at 0.5 points each, 2,000 of it paid with points."""
    shop = till(f'[basis]\npoints = "{policy}"\n[[earn]]\nname = "base"\npoints = 1\nper = 2')
    assert shop.buys(item(4000), payments=paid("points", 2000)) == expected


EVENT_RULES = """
groups = { visit = "best" }

[[earn]]
name = "small"
on = "member.enrolled"
points = 30
group = "visit"

[[earn]]
name = "large"
on = "member.enrolled"
points = 50
group = "visit"

[[earn]]
name = "inviter_small"
on = "member.enrolled"
to = "invited_by"
points = 70
group = "visit"

[[earn]]
name = "inviter_large"
on = "member.enrolled"
to = "invited_by"
points = 90
group = "visit"
"""


def test_a15_of_competing_rules_the_best_one_counts_on_each_side(till: Till) -> None:
    postings = till(EVENT_RULES).joins(invited_by="m-000000000002").postings
    assert sorted((posting.gain.to, posting.rule, posting.amount) for posting in postings) == [
        (0, "points.large", 50), (2, "points.inviter_large", 90),
    ]  # fmt: skip


def test_a_rule_for_the_inviter_says_nothing_without_one(till: Till) -> None:
    assert [posting.rule for posting in till(EVENT_RULES).joins().postings] == ["points.large"]


BANDS = """
[[earn]]
name = "bands"
over = "year"
bands = [
    { from = 0, points = 1, per = 10000 },
    { from = 500000, points = 12, per = 100000 },
    { from = 750000, points = 15, per = 100000 },
    { from = 1000000, points = 0, per = 1 },
]
"""


def test_a16_progressive_bands_over_a_year(till: Till) -> None:
    shop = till(BANDS)
    assert shop.buys(item(400_000)) == 40
    assert shop.buys(item(300_000)) == 34, "A16: 10 + 24"
    assert shop.buys(item(300_000)) == 6 + 37
    assert shop.buys(item(10_000_000)) == 0
    assert shop.plugin.needs("purchase.completed").counters == {("points.bands.bands", "year")}


def test_bands_of_one_order(till: Till) -> None:
    shop = till(BANDS.replace('over = "year"', ""))
    assert [shop.buys(item(400_000)), shop.buys(item(400_000))] == [40, 40]


def test_a17_guests_earn_nothing(till: Till) -> None:
    assert till(BASE).buys(item(10_000), guest=True) == 0


def test_a18_the_blocked_earn_nothing_but_are_welcomed(till: Till) -> None:
    shop = till(BASE + '[[earn]]\nname = "welcome"\non = "member.enrolled"\npoints = 50')
    shop.member = Member(number=1, status="blocked", enrolled_at=shop.member.enrolled_at)
    assert shop.buys(item(10_000)) == 0
    assert [posting.amount for posting in shop.joins().postings] == [50]


def test_f65_foreign_money_is_converted_before_the_ratio(till: Till) -> None:
    """100 EUR at 1.085 is 108.50: 108 points, and never 1,700 because of another currency's look."""
    rates = {"EUR": ((date(2025, 1, 1), Fraction(1085, 1000)), (date(2025, 7, 1), Fraction(2)))}
    shop = till(BASE, rates=rates)
    effects = shop.effects(Purchase(order="R-1", currency="EUR", lines=(item(10_000),)))
    assert [effect.amount for effect in effects] == [108]
    assert effects[0].data == {"basis": 10_850, "points": 1, "per": 100, "currency": "EUR", "rate": "217/200"}


def test_minimums_are_in_the_programmes_currency(till: Till) -> None:
    rates = {"JPY": ((date(2025, 1, 1), Fraction(65, 100)),)}
    shop = till(BASE + "when = 'purchase.total >= 10000'", rates=rates)
    assert shop.buys(item(15_384), currency="JPY") == 0
    assert shop.buys(item(15_385), currency="JPY") == 100


def test_without_a_rate_the_event_waits_for_repair(till: Till) -> None:
    with pytest.raises(UnknownRate, match="no rate from GBP to USD is known for 2025-06-15"):
        till(BASE).effects(Purchase(order="R-1", currency="GBP", lines=(item(10_000),)))


def test_f67_points_know_no_currency_rounding(till: Till) -> None:
    """One point stays one point, whatever the currency's smallest coin is."""
    assert till(BASE, rates={"JPY": ((date(2025, 1, 1), Fraction(1)),)}).buys(item(100), currency="JPY") == 1


SUNDAY = datetime(2025, 6, 15, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    "window, expected",
    [
        pytest.param('from = "2025-06-15"\nuntil = "2025-06-15"', 10, id="C37 from = to = today"),
        pytest.param('until = "2025-06-14"', 0, id="C37 to = yesterday"),
        pytest.param('from = "2025-06-16"', 0, id="from tomorrow"),
        pytest.param('from = "2025-06-15T12:00:00+08:00"', 10, id="from this instant"),
        pytest.param('until = "2025-06-15T12:00:00+08:00"', 0, id="until this instant"),
    ],
)
def test_rules_hold_in_their_window(till: Till, window: str, expected: int) -> None:
    assert till(BASE + window).buys(item(1000), at=SUNDAY) == expected


@pytest.mark.parametrize(
    "at, expected",
    [
        pytest.param(datetime(2025, 6, 14, 15, 59, 59, tzinfo=UTC), 10, id="Saturday night in Shanghai"),
        pytest.param(datetime(2025, 6, 14, 16, 0, tzinfo=UTC), 20, id="Sunday begins"),
        pytest.param(datetime(2025, 6, 15, 16, 0, tzinfo=UTC), 10, id="Monday begins"),
    ],
)
def test_double_sundays_in_the_shops_zone(till: Till, at: datetime, expected: int) -> None:
    shop = till(BASE + '[[earn]]\nname = "sunday"\nkind = "multiply"\nfactor = "2"\nwhen = "today.weekday == 7"')
    assert shop.buys(item(1000), at=at) == expected


def test_birthday_month(till: Till) -> None:
    shop = till(
        BASE
        + '[[earn]]\nname = "birthday"\nkind = "multiply"\nfactor = "2"\nwhen = "member.birthday != null && member.birthday.month == today.month"'
    )
    assert shop.buys(item(1000)) == 10
    shop.born(6, 30)
    assert shop.buys(item(1000)) == 20
    assert shop.plugin.needs("purchase.completed").profile


@pytest.mark.parametrize(
    "kept_on, day, expected",
    [
        pytest.param("02-28", (2025, 2, 28), 110, id="C36 a common year, the default"),
        pytest.param("02-28", (2025, 3, 1), 10, id="C36 not twice"),
        pytest.param("03-01", (2025, 3, 1), 110, id="C36 a common year, as declared"),
        pytest.param("02-28", (2024, 2, 29), 110, id="C36 a leap year"),
        pytest.param("02-28", (2024, 2, 28), 10, id="C36 the day before in a leap year"),
    ],
)
def test_a_birthday_on_29_february_is_kept_every_year(
    till: Till, kept_on: Any, day: tuple[int, int, int], expected: int
) -> None:
    shop = till(BASE + '[[earn]]\nname = "birthday"\nkind = "bonus"\npoints = 100\nwhen = "birthday_today"')
    shop.programme = attrs.evolve(shop.programme, birthday_29_february=kept_on)
    shop.born(2, 29)
    assert shop.buys(item(1000), at=datetime(*day, 4, tzinfo=UTC)) == expected
    assert shop.plugin.needs("purchase.completed").profile


def test_an_order_that_earns_nothing_is_counted_as_a_visit(till: Till) -> None:
    shop = till(BASE + '[basis]\npoints = "none"\n[counters.orders]\nwindow = "lifetime"\n')
    assert shop.buys(item(1000), payments=paid("points", 100)) == 0
    assert shop.counters == {("points.orders", "lifetime"): 1}


def test_first_purchase(till: Till) -> None:
    shop = till(
        BASE
        + '[counters.orders]\nwindow = "lifetime"\n[[earn]]\nname = "first"\nkind = "bonus"\npoints = 100\nwhen = "counter.orders == 0"'
    )
    assert [shop.buys(item(1000)), shop.buys(item(1000))] == [110, 10]
    assert shop.plugin.needs("purchase.completed").counters == {("points.orders", "lifetime")}


def test_a_counter_never_counts_backwards(till: Till) -> None:
    shop = till(BASE + '[counters.odd]\nwindow = "day"\nvalue = "0 - eligible"')
    assert shop.buys(item(1000)) == 10
    assert shop.counters == {}


def test_nothing_is_loaded_that_no_rule_names(till: Till) -> None:
    needs = till(BASE).plugin.needs("purchase.completed")
    assert (needs.balances, needs.counters, needs.stock, needs.profile) == (
        frozenset(),
        frozenset(),
        frozenset(),
        False,
    )


@pytest.mark.parametrize(
    "cap, gains",
    [
        pytest.param("limit = 15", [10, 10, 10], id="per event, not reached"),
        pytest.param("limit = 7", [7, 7, 7], id="per event"),
        pytest.param('limit = 25\nwindow = "month"', [10, 10, 5], id="per member and month"),
        pytest.param('limit = 25\nwindow = "budget"', [10, 10, 5], id="F62 a budget gives what is left"),
        pytest.param('limit = 25\nwindow = "budget"\nwhole = true', [10, 10, 0], id="F62 a budget refuses whole"),
        pytest.param('limit = 5\nof = ["other"]', [10, 10, 10], id="of other rules only"),
    ],
)
def test_caps(till: Till, cap: str, gains: list[int]) -> None:
    shop = till(
        BASE
        + f'[[earn]]\nname = "most"\nkind = "cap"\n{cap}\n'
        + '[[earn]]\nname = "other"\npoints = 1\nper = 100\nwhen = "false"'
    )
    assert [shop.buys(item(1000)) for _ in gains] == gains


def test_line_by_line_each_line_rounds_down(till: Till) -> None:
    rules = BASE + 'each = "line"'
    assert till(BASE).buys(item(150), item(150)) == 3
    shop = till(rules)
    assert shop.buys(item(150), item(150)) == 2
    (grant,) = shop.effects(Purchase(order="R-1", currency="USD", lines=(item(150), item(50), item(299))))
    assert isinstance(grant, Grant)
    assert grant.lines == ((0, 1), (1, 0), (2, 2)), "a refund of a line takes back what that line gave"


def test_flat_points_per_line_and_per_piece(till: Till) -> None:
    assert till('[[earn]]\nname = "per_line"\npoints = 5\neach = "line"').buys(item(1), item(1, quantity=3)) == 10
    assert (
        till('[[earn]]\nname = "per_piece"\nvalue = "5 * line.quantity"\neach = "line"').buys(
            item(1), item(1, quantity=3)
        )
        == 20
    )


def test_terms_of_a_grant(till: Till) -> None:
    shop = till(
        BASE
        + '[[earn]]\nname = "short"\npoints = 1\nexpiry = { policy = "rolling", after = "P30D" }\npending = { state = "delivered" }\n'
        + '[expiry]\npolicy = "period_end"\nend_of = "year"\nafter = "P1Y"\n[pending]\ndays = 14'
    )
    base, short = shop.effects(Purchase(order="R-1", currency="USD", lines=(item(100),)))
    assert base.expires_at == datetime(2026, 12, 31, 16, tzinfo=UTC), "midnight in Shanghai"
    assert base.usable_from == datetime(2025, 6, 28, 16, tzinfo=UTC)
    assert short.expires_at == datetime(2025, 7, 14, 16, tzinfo=UTC)
    assert (short.usable_from, short.usable_state) == (None, "delivered")


def test_lots_live_on_with_activity(till: Till) -> None:
    shop = till(BASE + '[expiry]\npolicy = "activity"\nafter = "P6M"')
    grant, extend = shop.effects(Purchase(order="R-1", currency="USD", lines=(item(100),)))
    assert grant.sliding
    assert grant.expires_at == extend.expires_at == datetime(2025, 12, 14, 16, tzinfo=UTC)
    assert shop.buys(item(10)) == 0
    assert len(shop.effects(Purchase(order="R-1", currency="USD", lines=(item(10),)))) == 1, (
        "a purchase that earns nothing is activity too"
    )


def test_a_rule_after_the_programmes_last_day_gives_nothing(till: Till) -> None:
    shop = till(BASE + '[expiry]\npolicy = "fixed"\non = "2025-06-14"')
    assert shop.buys(item(1000)) == 0


def test_stamps_beside_points(till: Till) -> None:
    shop = till(
        BASE
        + '[[earn]]\nname = "stamp"\nunit = "stamps"\npoints = 1\nwhen = "purchase.lines.exists(l, l.category == \\"COFFEE\\")"',
        units=(Unit(name="points", plugin="points"), Unit(name="stamps")),
    )
    postings = shop.settled(Purchase(order="R-1", currency="USD", lines=(item(900, category="COFFEE"),))).postings
    assert {(posting.gain.unit, posting.amount) for posting in postings} == {("points", 9), ("stamps", 1)}


def test_rules_can_be_asked_why_and_why_not(till: Till) -> None:
    """The compiled rules and what they see of an event are open to whoever explains them."""
    shop = till(BASE + "when = 'purchase.total >= 2000'")
    event = shop.event("purchase.completed", Purchase(order="R-1", currency="USD", lines=(item(1999),)))
    rules, facts = shop.plugin.rules_about("purchase.completed"), shop.plugin.facts_about(event, shop.situation())
    (change,) = what_would_it_take(rules, "base", facts)
    assert (change.text, change.found, change.needed) == ("purchase.total", 1999, 2000)
    assert shop.plugin.rules_about("visit.checked_in") is None
