"""What is suspicious is said, and what is said is so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from core.tests.rules import shop
from core.tests.rules.test_agreement import PATIENT, accepted
from tallystick.rules import RuleText, compile_rules
from tallystick.rules.lint import Standing, lint


def findings(*texts: RuleText, **more: Any) -> list[tuple[str, str]]:
    return [(found.code, found.rule) for found in lint(compile_rules(texts, shop.SCOPE), **more)]


@pytest.mark.parametrize(
    "when",
    [
        "balance > 5 && balance < 3",
        "counter.purchases < 0",
        'event.kind == "a" && event.kind == "b"',
        'event.at >= timestamp("2026-02-01T00:00:00Z") && event.at < timestamp("2026-01-01T00:00:00Z")',
        "event.at.getHours() > 23",
        "balance > 10 && (balance < 3 || balance == 4)",
        "1 > 2",
    ],
)
def test_a_rule_that_cannot_fire_is_named(when: str) -> None:
    assert findings(RuleText("r", when=when)) == [("never_fires", "r")]


@pytest.mark.parametrize("when", ["counter.purchases >= 0", "event.at.getHours() < 24", "balance == balance"])
def test_a_condition_that_says_nothing_is_named(when: str) -> None:
    assert findings(RuleText("r", when=when)) == [("always_fires", "r")]


def test_a_value_below_zero_is_named_unless_it_is_bounded() -> None:
    lines = {"basis": "line.amount"}
    assert findings(RuleText("r", **lines, value="basis / 100")) == [("negative_value", "r")]
    assert findings(RuleText("r", **lines, value="max(0, basis / 100)")) == []


def test_a_reward_for_nothing_is_named() -> None:
    free = RuleText("free", when='event.kind == "a"', value="100")
    paid = RuleText("paid", when="purchase.amount > 100", value="100")
    assert findings(free, paid, spending=("purchase",)) == [("without_spending", "free")]


def test_a_rule_in_the_shadow_of_another_is_named() -> None:
    weak = RuleText("weak", when='balance >= 100 && event.kind == "a"', value="1")
    strong = RuleText("strong", when='event.kind == "a" && balance > 50', value="2")
    group = {"weak": Standing("g", 1), "strong": Standing("g", 2, exclusive=True)}
    assert findings(weak, strong, standings=group) == [("always_displaced", "weak")]
    assert findings(strong, RuleText("weak", when="balance >= 40", value="1"), standings=group) == []


def test_two_exclusive_rules_of_one_rank_that_can_meet_are_named() -> None:
    low, high = RuleText("low", when="balance < 100", value="1"), RuleText("high", when="balance >= 90", value="2")
    group = {name: Standing("g", 1, exclusive=True) for name in ("low", "high")}
    assert findings(low, high, standings=group) == [("ambiguous_group", "high")]
    apart = RuleText("high", when="balance >= 100", value="2")
    assert findings(low, apart, standings=group) == []


@settings(PATIENT, max_examples=200)
@given(text=shop.rules(), values=shop.situations)
def test_never_means_never_and_always_always(text: RuleText, values: dict[str, Any]) -> None:
    for checked in accepted([text]):
        rules = compile_rules([checked], shop.SCOPE)
        codes = {found.code for found in lint(rules)}
        firing = rules.judge(0, values)
        if codes & {"never_fires", "no_line_counts"}:
            assert firing is None
        if "always_fires" in codes and not rules[0].counts and not rules[0].given:
            assert firing is not None
        if firing is not None and firing.value is not None and firing.value < 0:
            assert "negative_value" in codes
