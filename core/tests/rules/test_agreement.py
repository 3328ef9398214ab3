"""Whatever passes the checker has one value, whoever computes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from core.tests.rules import shop
from tallystick.errors import InvalidRule
from tallystick.rules import RuleText, check, compile_expression, compile_rules, interpret, parse, unparse

#: Rules are texts: a failing one is read as it is, and shrinking it takes longer than reading it.
PATIENT = settings(
    deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False, phases=(Phase.generate,)
)


def accepted(texts: list[RuleText]) -> list[RuleText]:
    """Those that pass the checker; the others must be refused by name."""
    found = []
    for number, text in enumerate(texts):
        named = RuleText(f"r{number}", text.when, text.lines, text.basis, text.value)
        try:
            compile_rules([named], shop.SCOPE)
        except InvalidRule:
            continue
        found.append(named)
    return found


@settings(PATIENT, max_examples=650)
@given(
    texts=st.lists(shop.rules(), min_size=4, max_size=4), situations=st.lists(shop.situations, min_size=4, max_size=4)
)
def test_the_generated_function_answers_as_the_interpreter(
    texts: list[RuleText], situations: list[dict[str, Any]]
) -> None:
    """650 examples of four rules on four events: about ten thousand verdicts."""
    rules = compile_rules(accepted(texts), shop.SCOPE)
    for values in situations:
        assert rules.fire(**values) == rules.interpret(**values)


@settings(PATIENT, max_examples=150)
@given(texts=st.lists(shop.rules(), min_size=1, max_size=3), count=st.integers(8, 30), values=shop.situations)
def test_an_index_over_constants_changes_nothing(texts: list[RuleText], count: int, values: dict[str, Any]) -> None:
    many = [
        RuleText(f"i{n}", when=f'event.store == "{word}" && balance > {n}', value=str(n))
        for n, word in enumerate((shop.WORDS * 4)[:count])
    ]
    many += [
        RuleText(
            f"j{n}", lines=f'line.category == "{word}" && line.amount > {n}', basis="line.amount", value="basis / 10"
        )
        for n, word in enumerate((shop.WORDS * 4)[:count])
    ]
    rules = compile_rules([*accepted(texts), *many], shop.SCOPE)
    assert rules.fire(**values) == rules.interpret(**values)


#: Facts that cost something, so that what several rules say of them is computed once.
COSTLY = (
    "event.at.getHours() >= 12",
    "event.at.getHours() < 20",
    "date(event.at).weekday == 2",
    'member.tier.club == "gold"',
    '"a" in member.tags && member.tier.club != "tea"',
    "event.kind.lowerAscii().contains(event.kind.upperAscii())",
    "event.store.orValue(event.channel.orValue('a')) == member.tags[0]",
    "event.kind in member.tier",
)
OF_LINES = (
    'purchase.lines.exists(x, x.sku == "a")',
    'purchase.lines.exists(x, x.sku == "tea") && purchase.lines.exists(y, y.sku == "a")',
    'purchase.lines.exists(x, x.category == "tea")',
    "purchase.lines.sum(x, x.amount) > balance",
    "size(purchase.lines.filter(x, x.quantity > event.at.getHours())) > 1",
)


@st.composite
def alike(draw: st.DrawFn) -> list[RuleText]:
    """Rules that say the same things in other orders and places: where one stops, the next must not count on its answers."""
    writer = shop.Writer(draw, purchase=True)
    tests = [*COSTLY, *OF_LINES, *(writer.boolean(draw(st.integers(1, 2))) for _ in range(2))]
    tests = draw(st.lists(st.sampled_from(tests), min_size=2, max_size=4, unique=True))
    numbers = [
        "event.at.getHours()",
        "size(member.tags.filter(t, t != 'a'))",
        "(balance * event.at.getHours() - 3) / 7",
        writer.integer(2),
    ]
    found = []
    for number in range(draw(st.integers(2, 6))):
        a, b, c = (f"({draw(st.sampled_from(tests))})" for _ in range(3))
        one, two = (draw(st.sampled_from(numbers)) for _ in range(2))
        shapes = (
            a,
            f"{a} && {b} && {c}",
            f"{a} || {b}",
            f"!({a} || {b} && {c})",
            f"{a} ? {b} : {c}",
            f"({b} ? {one} : {two}) > 9",
        )
        parts: dict[str, str | None] = {"when": draw(st.sampled_from(("true", *shapes, *OF_LINES[:3])))}
        if draw(st.booleans()):
            parts["lines"] = draw(st.sampled_from((None, 'line.sku == "a"', f"line.amount > 5 && {a}", f"{a} || {b}")))
            parts["basis"] = draw(st.sampled_from(("line.amount", f"{a} ? 1 : {one}", two)))
        parts["value"] = draw(st.sampled_from((None, "5", one, f"{a} ? {one} : {two}", 'decimal("1.5") * 2')))
        found.append(RuleText(f"r{number}", **parts))  # type: ignore[arg-type]
    return found


@settings(PATIENT, max_examples=300)
@given(texts=alike(), situations=st.lists(shop.situations, min_size=3, max_size=3))
def test_what_rules_share_is_there_wherever_it_is_needed(
    texts: list[RuleText], situations: list[dict[str, Any]]
) -> None:
    rules = compile_rules(accepted(texts), shop.SCOPE)
    for values in situations:
        assert rules.fire(**values) == rules.interpret(**values)


@pytest.mark.parametrize("names", [("one",), ("one", "other")])
def test_what_lines_and_value_share_is_computed_before_the_lines_are_walked(names: tuple[str, ...]) -> None:
    lines, value = "line.amount > 0 && event.at.getHours() >= 12", "basis * event.at.getHours()"
    texts = [RuleText(name, "purchase != null && balance > 0", lines, "line.amount", value) for name in names]
    rules = compile_rules(texts, shop.SCOPE)
    values = shop.values(balance=5)
    assert rules.fire(**values) == rules.interpret(**values) != []


@settings(PATIENT, max_examples=300)
@given(data=st.data(), values=shop.situations)
def test_a_single_expression_too(data: st.DataObject, values: dict[str, Any]) -> None:
    writer = shop.Writer(data.draw, purchase=False)
    write = data.draw(
        st.sampled_from((writer.integer, writer.decimal, writer.boolean, writer.text, writer.instant, writer.day))
    )
    text = write(3)
    try:
        typed = check(text, shop.SCOPE)
    except InvalidRule:
        return
    assert compile_expression(typed)(**values) == interpret(typed, values)


@settings(PATIENT, max_examples=300)
@given(text=shop.rules())
def test_text_to_tree_to_text_is_stable(text: RuleText) -> None:
    for part in (text.when, text.lines, text.basis, text.value):
        if part is not None:
            node = parse(part)
            once = unparse(node)
            assert parse(once) == node
            assert unparse(parse(once)) == once


@settings(PATIENT, max_examples=300)
@given(text=st.text(alphabet='ab1".()[]!&|?:=<>+-*/%, \n\\"truenlis', max_size=60))
def test_anything_is_either_parsed_or_refused_with_its_place(text: str) -> None:
    refusal = None
    try:
        node = parse(text)
    except InvalidRule as problem:
        refusal = problem
    if refusal is None:
        assert parse(unparse(node)) == node
    else:
        assert min(refusal.line, refusal.column) >= 1
        assert "^" in refusal.reason


@pytest.mark.parametrize(
    "text",
    [
        "event.store.startsWith('a')",
        "balance / counter.purchases > 1",
        "balance * balance * balance > 1",
        "member.birthday.month == 2",
        "member.tags[0] + 'x' == 'ax'",
    ],
)
def test_what_some_fact_would_break_is_refused(text: str) -> None:
    with pytest.raises(InvalidRule):
        check(text, shop.SCOPE)
