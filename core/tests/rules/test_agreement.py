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
