"""How proposals become amounts: SEMANTICS A in numbers, and that the order of proposals cannot matter."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.effects import Bonus, Cap, Effect, Grant, Multiply, Put, SetTier, Spend
from tallystick.errors import EffectRefused
from tallystick.settle import Settlement, combined_factor, round_to_unit, settle
from tallystick.situation import Unit

UNITS = {"points": Unit(name="points"), "credit": Unit(name="credit", rounding="ceil")}
RED, BLUE, PLAIN = (0, 12), (1, 100), (2, 40)
BASKET = (RED, BLUE, PLAIN)


def grant(amount: int, rule: str = "p.base", **more: Any) -> Grant:
    return Grant(rule=rule, unit="points", amount=amount, **more)


def multiply(factor: Any, rule: str = "p.times", **more: Any) -> Multiply:
    return Multiply(rule=rule, unit="points", factor=factor, **more)


def bonus(amount: int, rule: str = "p.bonus", **more: Any) -> Bonus:
    return Bonus(rule=rule, unit="points", amount=amount, **more)


def cap(limit: int, rule: str = "p.cap", **more: Any) -> Cap:
    return Cap(rule=rule, unit="points", limit=limit, **more)


def settled(*effects: Effect, used: dict[tuple[str, str], int] | None = None, **unit: Any) -> Settlement:
    units = UNITS | ({"points": Unit(name="points", **unit)} if unit else {})
    return settle(effects, units, used or {}, {"p": "1.0"})


def total(*effects: Effect, **more: Any) -> int:
    return sum(posting.amount for posting in settled(*effects, **more).postings)


def base4(lines: tuple[tuple[int, int], ...] = BASKET) -> Grant:
    return grant(4 * sum(basis for _, basis in lines), lines=lines)


@pytest.mark.parametrize(
    "effects, points",
    [
        ((grant(19, "p.one"), grant(9, "p.two")), 28),  # A2: stackable rules add
        ((grant(19), multiply(2)), 38),  # A3
        ((grant(19), multiply(Decimal("1.5"))), 28),
        ((grant(100, "p.fixed", exclusive=True), grant(19)), 100),  # A4
        ((grant(50, "p.a", exclusive=True, priority=5), grant(200, "p.b", exclusive=True, priority=20)), 200),
        ((grant(200, "p.a", exclusive=True, priority=5), grant(50, "p.b", exclusive=True, priority=20)), 50),
        ((base4(),), 608),  # A5
        ((base4(), bonus(100)), 708),
        ((base4(), multiply(3, lines=frozenset({0}))), 704),
        ((base4(), multiply(3, lines=frozenset({0})), bonus(100)), 804),
        (
            (base4(), multiply(3, "p.red", lines=frozenset({0})), multiply(6, "p.blue", lines=frozenset({1}))),
            2704,
        ),  # A6
        ((base4(), multiply(0, "p.red", lines=frozenset({0})), multiply(2, "p.blue", lines=frozenset({1}))), 960),
        ((base4(), multiply(0, "p.red", lines=frozenset({0})), multiply(0, "p.blue", lines=frozenset({1}))), 160),
        ((base4((RED, PLAIN)),), 208),  # A7
        ((base4((BLUE, PLAIN)),), 560),
        ((base4((RED,)),), 48),
        ((grant(152, "p.a", order=1), grant(152, "p.b", order=2, stop=True), grant(1520, "p.c", order=3)), 304),  # A9
        ((grant(152, "p.a", order=1), grant(304, "p.c", order=3)), 456),
        ((grant(100), multiply(2, "p.x"), multiply(3, "p.y")), 400),  # gains add up: not 600
        ((grant(100), multiply(2, "p.x", compound=True), multiply(3, "p.y", compound=True)), 600),
        ((grant(100), multiply(0, "p.x"), multiply(5, "p.y")), 0),
        ((grant(100), multiply(Decimal("0.5"), "p.x"), multiply(Decimal("0.25"), "p.y")), 0),  # never below 0
        ((grant(7), multiply(Fraction(1, 3))), 2),
        ((grant(10, "p.a"), grant(10, "p.b"), multiply(2, rules=frozenset({"p.a"}))), 30),
        ((multiply(2),), 0),
        ((bonus(10), multiply(2)), 10),
        ((), 0),
    ],
)
def test_gains_in_numbers(effects: tuple[Effect, ...], points: int) -> None:
    assert total(*effects) == points
    assert total(*reversed(effects)) == points


@pytest.mark.parametrize("how, points", [("floor", 28), ("half_up", 29), ("half_even", 28), ("ceil", 29)])
def test_the_total_is_rounded_once(how: str, points: int) -> None:
    assert total(grant(19), multiply(Decimal("1.5")), rounding=how) == points
    parts = [grant(1, f"p.r{n}") for n in range(19)]
    assert total(*parts, multiply(Decimal("1.5")), rounding=how) == points, "never per rule"
    lines = tuple((n, 1) for n in range(19))
    assert (
        total(grant(19, lines=lines), multiply(Decimal("1.5"), lines=frozenset(range(19))), rounding=how) == points
    ), "nor per line"


@pytest.mark.parametrize(
    "value, floor, half_up, half_even, ceil",
    [("57/2", 28, 29, 28, 29), ("59/2", 29, 30, 30, 30), ("28", 28, 28, 28, 28), ("85/3", 28, 28, 28, 29), ("86/3", 28, 29, 29, 29), ("0", 0, 0, 0, 0), ("1/1000", 0, 0, 0, 1)],
)  # fmt: skip
def test_rounding(value: str, floor: int, half_up: int, half_even: int, ceil: int) -> None:
    found = [round_to_unit(Fraction(value), how) for how in ("floor", "half_up", "half_even", "ceil")]  # type: ignore[arg-type]
    assert found == [floor, half_up, half_even, ceil]


@pytest.mark.parametrize(
    "effects, used, amounts",
    [
        ((grant(100), cap(60)), {}, [60]),
        ((grant(100), bonus(30), cap(120)), {}, [100, 20]),  # what stands last is cut first
        ((grant(100), bonus(30), cap(20)), {}, [20]),
        ((grant(100), cap(60, whole=True)), {}, []),
        ((grant(100), cap(150, per="day")), {("cap:p.cap", "day"): 80}, [70]),
        ((grant(100), cap(150, per="day")), {("cap:p.cap", "day"): 150}, []),
        ((grant(100), cap(150, per="day")), {("cap:p.cap", "day"): 900}, []),
        ((grant(100), cap(1000, per="budget", key="pot")), {("cap:pot", "budget"): 990}, [10]),
        ((grant(100), cap(80), cap(60, "p.other"), cap(70, "p.third")), {}, [60]),
        ((grant(100), bonus(50), cap(20, rules=frozenset({"p.bonus"}))), {}, [100, 20]),
        ((grant(100), multiply(2), cap(150)), {}, [100, 50]),
    ],
)
def test_caps_in_numbers(effects: tuple[Effect, ...], used: dict[tuple[str, str], int], amounts: list[int]) -> None:
    found = settled(*effects, used=used)
    assert [posting.amount for posting in found.postings] == amounts
    cut = [step for step in found.steps if step.wanted is not None]
    assert all(step.by and step.amount < step.wanted for step in cut)  # type: ignore[operator]


def test_a_cap_uses_up_only_what_all_caps_let_through() -> None:
    found = settled(grant(100), cap(80, per="day"), cap(50, "p.other"), used={("cap:p.cap", "day"): 0})
    assert [(one.rule, amount) for one, amount in found.caps] == [("p.cap", 50)]


def test_who_was_displaced_stopped_or_capped_is_told_by_whom() -> None:
    steps = settled(grant(100, "p.x", exclusive=True), grant(19), cap(60)).steps
    assert [(step.rule, step.amount, step.wanted, step.note, step.by) for step in steps] == [
        ("p.base", 0, 19, "displaced", "p.x"), ("p.x", 60, 100, "capped", "p.cap"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "effect",
    [
        Grant(rule="p.x", unit="nothing", amount=1),
        Spend(rule="p.x", unit="nothing", amount=1),
        multiply(-1),
        cap(1, per="day"),  # its counter was never read
    ],
)
def test_what_makes_no_sense_is_refused_by_name(effect: Effect) -> None:
    with pytest.raises(EffectRefused) as refusal:
        settled(grant(1), effect)
    assert refusal.value.details["rule"].startswith("p.")


def test_members_are_rounded_apart() -> None:
    found = settled(grant(1, "p.a"), grant(1, "p.b", to=7), multiply(Decimal("1.5")))
    assert sorted((posting.gain.to, posting.amount) for posting in found.postings) == [(0, 1), (7, 1)]


# -- properties -------------------------------------------------------------------------------------------------------

LINES = st.none() | st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 500)), max_size=4, unique_by=lambda pair: pair[0]
).map(tuple)
FACTORS = st.sampled_from([0, 1, 2, 3, Decimal("0.5"), Decimal("1.5"), Fraction(4, 3)])
RULES = st.sampled_from(["p.a", "p.b", "p.c", "q.a", "q.b"])
EFFECTS = st.lists(
    st.one_of(
        st.builds(
            grant, st.integers(0, 500), RULES, lines=LINES, order=st.integers(0, 2), priority=st.integers(0, 2),
            exclusive=st.booleans(), stop=st.booleans(), group=st.sampled_from(["", "g"]), to=st.sampled_from([0, 0, 7]),
        ),
        st.builds(multiply, FACTORS, RULES, compound=st.booleans(), lines=st.none() | st.frozensets(st.integers(0, 4))),
        st.builds(bonus, st.integers(0, 500), RULES, to=st.sampled_from([0, 7])),
        st.builds(cap, st.integers(0, 900), RULES, per=st.sampled_from(["event", "day", "budget"]), whole=st.booleans()),
        st.builds(lambda n: Put(rule="p.put", name=f"n{n}", value=n), st.integers(0, 99)),
        st.builds(lambda n: SetTier(rule="p.tier", ladder=f"l{n}", tier="gold", reason="x"), st.integers(0, 3)),
    ),
    max_size=8,
)  # fmt: skip
USED = {(f"cap:{rule}", per): 40 for rule in ("p.a", "p.b", "p.c", "q.a", "q.b") for per in ("day", "budget")}


def outcome(found: Settlement) -> Any:
    steps = sorted(msgspec.json.encode(msgspec.structs.replace(step, data=None)) for step in found.steps)
    postings = sorted((p.rule, p.amount, p.gain.to) for p in found.postings)
    caps = sorted((c.rule, c.per, c.limit, amount) for c, amount in found.caps)
    return steps, postings, caps


@given(EFFECTS, st.randoms(use_true_random=False))
def test_the_order_of_proposals_cannot_matter(effects: list[Effect], chance: Any) -> None:
    other = list(effects)
    chance.shuffle(other)
    assert outcome(settled(*effects, used=USED)) == outcome(settled(*other, used=USED))


def test_equal_proposals_of_other_terms_come_to_the_same_in_any_order() -> None:
    """Rule, place and amount are the same; what they say besides tells them apart."""
    one, two = grant(10, "p.a", stop=True, lines=((0, 5),)), grant(10, "p.a", stop=True, lines=((1, 5),))
    assert outcome(settled(one, two)) == outcome(settled(two, one))
    bonuses = bonus(10, lines=((0, 5),)), bonus(10, lines=((1, 5),)), cap(15)
    assert outcome(settled(*bonuses)) == outcome(settled(*bonuses[::-1]))


@given(EFFECTS)
def test_nothing_is_negative_and_caps_hold(effects: list[Effect]) -> None:
    found = settled(*effects, used=USED)
    assert all(posting.amount > 0 for posting in found.postings)
    for one in effects:
        if isinstance(one, Cap):
            room = one.limit if one.per == "event" else max(0, one.limit - 40)
            assert sum(p.amount for p in found.postings) <= room
    gained = sum(step.amount for step in found.steps if step.effect in ("grant", "bonus", "multiply"))
    assert gained == sum(posting.amount for posting in found.postings), "the explanation adds up"


@given(
    st.integers(0, 10**9),
    st.lists(st.tuples(FACTORS, st.booleans()), max_size=5),
    st.sampled_from(["floor", "ceil", "half_up", "half_even"]),
)
def test_a_multiplied_total_is_the_exact_product_rounded_once(
    amount: int, factors: list[tuple[Any, bool]], how: Any
) -> None:
    chosen = [multiply(factor, f"p.m{n}", compound=compound) for n, (factor, compound) in enumerate(factors)]
    assert total(grant(amount), *chosen, rounding=how) == round_to_unit(amount * combined_factor(chosen), how)
