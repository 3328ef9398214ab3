"""The rules of the how-to page are compiled, and asked what the page says they answer."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tallystick.events import MAX_AMOUNT, Line, Purchase
from tallystick.rules import (
    COUNT,
    DATE,
    STRING,
    TIMESTAMP,
    Int,
    ListOf,
    MapOf,
    Object,
    Optional,
    RuleText,
    Scope,
    check,
    compile_rules,
    interpret,
    object_type,
)

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "twenty-rules.md"
MONEY = Int(0, MAX_AMOUNT)
LINE = Object("line", {**object_type(Line).fields, "net": MONEY})
SCOPE = Scope(
    {
        "event": Object("event", {"kind": STRING, "at": TIMESTAMP}),
        "purchase": Object("purchase", {**object_type(Purchase).fields, "lines": ListOf(LINE), "total": MONEY}),
        "member": Object(
            "member",
            {
                "tiers": MapOf(STRING),
                "tags": ListOf(STRING, 64),
                "birthday": Optional(Object("birthday", {"month": Int(1, 12), "day": Int(1, 31)})),
                "enrolled_at": TIMESTAMP,
            },
        ),
        "counter": Object("counter", {"purchases": COUNT, "bonus": COUNT}, keyed=True),
        "today": DATE,
    },
    zone="Asia/Shanghai",
)
PURCHASE = Purchase(
    order="4711",
    currency="CNY",
    store="s12",
    channel="shop",
    lines=(
        Line(sku="COFFEE-1", amount=4_500, category="COFFEE", brand="ACME"),
        Line(sku="TEA-2", amount=3_000, discount=500, quantity=2, category="TEA"),
        Line(sku="MUG-9", amount=3_000, category="HOUSE"),
    ),
)
VALUES = {
    "event": SimpleNamespace(kind="purchase.completed", at=datetime(2026, 11, 24, 3, 0, tzinfo=UTC)),
    "purchase": PURCHASE,
    "member": SimpleNamespace(
        tiers={"club": "gold"},
        tags=("regular",),
        birthday=SimpleNamespace(month=5, day=5),
        enrolled_at=datetime(2024, 1, 1, tzinfo=UTC),
    ),
    "counter": {"purchases": 7, "bonus": 0},
    "today": date(2026, 11, 24),
}


def recipes() -> Iterator[tuple[str, str, str]]:
    """(heading, rule, answers) of each section of the page."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for section in sections:
        rule, answers = re.findall(r"^```(?:toml|text)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
        yield section.splitlines()[0], rule, answers


def test_there_are_twenty() -> None:
    assert len(list(recipes())) == 20


@pytest.mark.parametrize("rule, answers", [pytest.param(*rest, id=name) for name, *rest in recipes()])
def test_the_rule_answers_as_the_page_says(rule: str, answers: str) -> None:
    rules = compile_rules([RuleText("rule", **tomllib.loads(rule))], SCOPE)
    for answer in answers.splitlines():
        change, expected = answer.rsplit(" -> ", 1)
        firing = rules.judge(0, VALUES, changed(change))
        found: Any = None if firing is None else firing.value
        assert found == (None if expected == "nothing" else Decimal(expected)), answer
        if change == "as it is":
            assert rules.fire(**VALUES) == ([] if firing is None else [firing])


def changed(text: str) -> dict[str, Any]:
    """``event.at = timestamp("...")`` as what `RuleSet.judge` is asked."""
    if text == "as it is":
        return {}
    fact, value = text.rsplit(" = ", 1)
    return {fact: interpret(check(value, Scope({})), {})}
