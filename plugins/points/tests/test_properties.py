"""What holds for every order and every member, not only for the rows of a table."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.events import Line, Payment, Purchase
from tallystick_points.basis import converted, earning_lines, order_basis, share_of_lines
from tallystick_points.rules import payment, progressive
from tallystick_points.settings import Band, Basis, Redeem

from .conftest import Till


@st.composite
def lines(draw: Callable[..., Any]) -> Line:
    amount = draw(st.integers(0, 100_000))
    discount = draw(st.integers(0, amount))
    return Line(
        sku=draw(st.sampled_from(("coffee", "milk", "fuel"))),
        amount=amount,
        discount=discount,
        tax=draw(st.integers(0, amount - discount)),
        kind=draw(st.sampled_from(("item", "item", "item", "shipping", "fee", "reward", "stored_value"))),
    )


@st.composite
def purchases(draw: Callable[..., Any]) -> Purchase:
    found = tuple(draw(st.lists(lines(), min_size=1, max_size=6)))
    total = sum(line.amount - line.discount for line in found)
    discount = draw(st.integers(0, total))
    paid = draw(st.integers(0, total - discount))
    payments = (Payment(method="points", amount=paid),) if paid else ()
    return Purchase(order="R-1", currency="USD", lines=found, discount=discount, payments=payments)


policies = st.builds(
    Basis,
    discounts=st.sampled_from(("net", "gross")),
    tax=st.sampled_from(("included", "excluded")),
    shipping=st.sampled_from(("excluded", "included")),
    points=st.sampled_from(("net", "gross", "none")),
)


@given(purchases(), policies)
def test_the_basis_lies_between_nothing_and_what_the_lines_cost(bought: Purchase, policy: Basis) -> None:
    found = earning_lines(bought, policy)
    whole = sum(basis for _, basis in found)
    assert 0 <= order_basis(bought, found, policy) <= whole
    assert 0 <= share_of_lines(bought, whole, policy) <= whole


@given(purchases(), st.fractions(Fraction(1, 1000), Fraction(1000), max_denominator=10_000))
def test_conversion_rounds_the_total_once_and_keeps_every_line_sound(bought: Purchase, rate: Fraction) -> None:
    home = converted(bought, rate, "ZAR")
    assert home.total == bought.total * rate.numerator // rate.denominator
    for was, line in zip(bought.lines, home.lines, strict=True):
        assert 0 <= line.discount <= line.amount
        assert 0 <= line.tax <= line.amount
        assert line.kind == was.kind


@given(
    st.integers(0, 10**9),
    st.integers(-1000, 10**9),
    st.integers(1, 1000),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 5000),
    st.none() | st.integers(0, 10**7),
    st.none() | st.integers(-10, 10**7),
    st.fractions(Fraction(1, 100), Fraction(1)),
)
def test_paying_with_points_never_takes_too_much(
    wanted: int,
    usable: int,
    gives: int,
    steps: int,
    points: int,
    minimum: int,
    total: int | None,
    left: int | None,
    share: Fraction,
) -> None:
    redeem = Redeem(points=points, gives=gives, step=points * steps, minimum=minimum, share=share)
    paid = payment(wanted, usable, redeem, total=total, left=left)
    assert 0 <= paid.points <= max(0, min(wanted, usable))
    assert paid.points % redeem.step == 0
    assert paid.points == 0 or paid.points >= minimum
    assert paid.discount * points == paid.points * gives, "no cent is lost between points and money"
    if total is not None:
        assert paid.discount <= total * share
    if left is not None:
        assert paid.points <= max(0, left)
    assert (paid.status == "applied") == (paid.points == wanted and wanted > 0)


bands = st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 20), st.integers(1, 500)), min_size=1, max_size=5)


@given(bands, st.lists(st.integers(0, 5000), max_size=6))
def test_bands_over_time_give_what_one_order_would_less_than_a_point_each(
    shape: list[tuple[int, int, int]], amounts: list[int]
) -> None:
    start, found = 0, []
    for width, points, per in shape:
        found.append(Band(start=start, points=points, per=per))
        start += width
    before = gained = 0
    for amount in amounts:
        gained += progressive(amount, before, found)
        before += amount
    whole = progressive(before, 0, found)
    assert whole - len(amounts) <= gained <= whole


RULES = (
    '[[earn]]\nname = "base"\npoints = 1\nper = 100\n',
    '[[earn]]\nname = "coffee"\npoints = 3\nper = 200\nlines = \'line.sku == "coffee"\'\n',
    '[[earn]]\nname = "more"\nkind = "multiply"\nfactor = "1.5"\n',
    '[[earn]]\nname = "milk"\nkind = "multiply"\nfactor = "3"\nlines = \'line.sku == "milk"\'\n',
    '[[earn]]\nname = "flat"\nkind = "bonus"\npoints = 7\n',
    '[[earn]]\nname = "each"\npoints = 2\neach = "line"\n',
    '[[earn]]\nname = "most"\nkind = "cap"\nlimit = 500\n',
)
ORDERS = [Till("".join(RULES)), Till("".join(reversed(RULES))), Till("".join(RULES[3:] + RULES[:3]))]


@settings(max_examples=200)
@given(purchases())
def test_the_order_of_rules_does_not_matter(bought: Purchase) -> None:
    assert len({till.gains(bought) for till in ORDERS}) == 1
