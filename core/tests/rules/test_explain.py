"""Every answer about a rule is checked against the rule itself."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from core.tests.rules import shop
from core.tests.rules.test_agreement import PATIENT, accepted
from tallystick.rules import RuleText, compile_rules
from tallystick.rules.aloud import Wording, boundaries, sentence
from tallystick.rules.explain import sentence as answer
from tallystick.rules.explain import what_would_it_take, why, whynot
from tallystick.rules.types import strip

EN, ZH = Wording("en", "America/New_York"), Wording("zh", "America/New_York")
BIG = RuleText("big", when="purchase.amount >= 50000", value="1500")
COFFEE = RuleText("coffee", lines='line.category == "coffee"', basis="line.amount", value="basis / 50")
MORE_COFFEE = RuleText(
    "more-coffee",
    when='purchase.lines.sum(l, l.category == "coffee" ? l.amount : 0) >= 5740',
    value="100",
)
EVENING = RuleText("evening", when="event.at.getHours() >= 18", value='decimal("2")')
VIP = RuleText("vip", when='"vip" in member.tags', value="1")
BIRTHDAY = RuleText("birthday", when="member.birthday != null && member.birthday.month == today.month", value="50")


def rules(*texts: RuleText) -> Any:
    return compile_rules(texts, shop.SCOPE)


def test_why_names_the_lines_and_what_each_brought() -> None:
    [found] = why(rules(COFFEE), shop.values())
    assert (found.value, found.basis, found.lines) == (90, 4_500, ((0, 4_500),))
    assert answer(found, EN) == "coffee fired: it counted 4500 (line 1: 4500); it gave 90."
    assert answer(found, ZH) == "coffee 已触发：计入4500（第1行：4500）；得90。"


def test_whynot_names_the_first_condition_that_failed_and_what_it_read() -> None:
    found = whynot(rules(BIG), "big", shop.values())
    assert found is not None
    assert (found.part, found.text) == ("when", "purchase.amount >= 50000")
    assert [(fact.text, fact.value) for fact in found.facts] == [("purchase.amount", 12_345)]
    assert answer(found, EN).startswith("big did not fire: it needs that the purchase amount is at least 50000")
    assert answer(found, ZH).startswith("big 未触发：需要消费的金额不少于50000")


def test_whynot_says_that_there_is_no_purchase() -> None:
    found = whynot(rules(BIG), "big", shop.values(purchase=None))
    assert found is not None
    assert found.part == "given"
    assert answer(found, EN) == "big did not fire: there is no purchase."
    assert what_would_it_take(rules(BIG), "big", shop.values(purchase=None)) == []


@pytest.mark.parametrize(
    "rule, fact, needed, by",
    [
        (BIG, "purchase.amount", 50_000, 37_655),
        (MORE_COFFEE, 'purchase.lines.sum(l, l.category == "coffee" ? l.amount : 0)', 5_740, 1_240),
        (EVENING, "event.at", shop.NOON + timedelta(hours=6), timedelta(hours=6)),
        (VIP, "member.tags", ("vip",), None),
        (BIRTHDAY, "member.birthday", None, None),
    ],
    ids=lambda value: value.name if isinstance(value, RuleText) else "",
)
def test_what_it_would_take(rule: RuleText, fact: str, needed: Any, by: Any) -> None:
    found = what_would_it_take(rules(rule), rule.name, shop.values())
    if needed is None:  # no birthday is known, and no single day can be named from nothing but a month
        assert all(change.text != fact or change.found is None for change in found)
        return
    assert (found[0].text, found[0].needed, found[0].by) == (fact, needed, by)


def test_what_it_would_take_in_words() -> None:
    [coffee] = what_would_it_take(rules(MORE_COFFEE), "more-coffee", shop.values())
    money = Wording("en", show=lambda _path, value: f"{Decimal(value) / 100:.2f}" if isinstance(value, int) else None)
    assert answer(coffee, money).endswith("were 57.40 (12.40 more).")
    [evening] = what_would_it_take(rules(EVENING), "evening", shop.values())
    assert answer(evening, EN) == "evening would fire if event time were 2026-11-24 18:00 (6 hours later)."
    assert answer(evening, ZH) == "如果事件的时间是2026-11-24 18:00（晚6 小时），evening 就会触发。"


def test_a_line_can_be_what_is_missing() -> None:
    rule = RuleText("three", lines="line.quantity >= 3", value="matched")
    first = what_would_it_take(rules(rule), "three", shop.values())[0]
    assert (first.text, first.line, first.needed, first.by) == ("line.quantity", 1, 3, 1)


@settings(PATIENT, max_examples=200)
@given(text=shop.rules(), values=shop.situations)
def test_every_change_is_proved(text: RuleText, values: dict[str, Any]) -> None:
    """With the change the rule fires; with one unit less of it, it does not."""
    for checked in accepted([text]):
        compiled = rules(checked)
        fired = compiled.judge(0, values) is not None
        assert (whynot(compiled, checked.name, values) is None) == fired
        if fired:
            assert what_would_it_take(compiled, checked.name, values) == []
            continue
        for change in what_would_it_take(compiled, checked.name, values):
            if change.line is not None:
                continue
            assert compiled.judge(0, values, {change.text: change.needed}) is not None
            less = one_unit_less(change.needed, change.by, change.node)
            if less is not None:
                assert compiled.judge(0, values, {change.text: less}) is None
        for wording in (EN, ZH):
            assert sentence(compiled[0], wording)
            refusal = whynot(compiled, checked.name, values)
            assert refusal is not None
            assert answer(refusal, wording)


def one_unit_less(needed: Any, by: Any, node: Any) -> Any:
    match needed, by:
        case datetime(), timedelta():
            return needed - timedelta(microseconds=1 if by > timedelta(0) else -1)
        case date(), timedelta():
            return needed - timedelta(days=1 if by > timedelta(0) else -1)
        case Decimal(), Decimal():
            unit = Decimal(1).scaleb(-strip(node.type).scale)
            return needed - unit if by > 0 else needed + unit
        case int(), int() if by:
            return needed - (1 if by > 0 else -1)
    return None


def test_the_sentence_of_a_rule_says_what_is_computed() -> None:
    [rule] = rules(RuleText("t", when='date(event.at).weekday == 2 && event.channel == "app"', value='decimal("2")'))
    assert (
        sentence(rule, EN)
        == "If the day of the event time is a Tuesday and the event channel is “app”: the value is 2."
    )
    assert sentence(rule, ZH) == "如果事件的时间当天是星期二，且事件的渠道为「app」：数值为2。"
    [rule] = rules(RuleText("b", lines="!line.discounted", basis="line.amount", value="basis / 100"))
    assert sentence(rule, EN) == (
        "Always: lines count for which the line is not discounted, each with the line amount; "
        "the value is basis divided by 100, without the remainder."
    )


def test_the_boundary_table_is_executed() -> None:
    table = boundaries(rules(BIG), "big", shop.values())
    assert [(row.value, row.firing is not None) for row in table] == [(49_999, False), (50_000, True), (50_001, True)]
