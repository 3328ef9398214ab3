"""A file of events answers as the events one by one do, in their order and to the last unit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tests.rules import shop
from core.tests.rules.test_agreement import PATIENT, accepted
from tallystick.errors import InvalidRule
from tallystick.rules import Firing, RuleText, compile_rules
from tallystick.rules.columns import columns

duckdb = pytest.importorskip("duckdb")

LINE = "STRUCT(sku VARCHAR, category VARCHAR, brand VARCHAR, quantity BIGINT, amount BIGINT, discounted BOOLEAN, labels VARCHAR[])"
TYPES = {
    "event": 'STRUCT(kind VARCHAR, "at" TIMESTAMPTZ, store VARCHAR, channel VARCHAR)',
    "purchase": f"STRUCT(amount BIGINT, lines {LINE}[], coupon VARCHAR, rate DECIMAL(20, 12))",
    "member": (
        "STRUCT(tier MAP(VARCHAR, VARCHAR), tags VARCHAR[], birthday DATE, enrolled_at TIMESTAMPTZ, factor DECIMAL(20, 12))"
    ),
    "counter": "STRUCT(purchases BIGINT, visits BIGINT)",
    "balance": "BIGINT",
    "now": "TIMESTAMPTZ",
    "today": "DATE",
}
INSERT = (
    f"INSERT INTO events VALUES ({', '.join(['?', *(f'CAST(CAST(? AS JSON) AS {kind})' for kind in TYPES.values())])})"
)


@pytest.fixture(scope="module")
def connection() -> Any:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        yield opened


def lay_down(connection: Any, situations: list[dict[str, Any]]) -> None:
    named = ", ".join(f'"{name}" {kind}' for name, kind in TYPES.items())
    connection.execute(f"CREATE OR REPLACE TABLE events (number INTEGER, {named})")
    for number, values in enumerate(situations):
        connection.execute(INSERT, [number, *(msgspec.json.encode(values[name]).decode() for name in TYPES)])


@settings(PATIENT, max_examples=80)
@given(
    texts=st.lists(shop.rules(), min_size=3, max_size=3), situations=st.lists(shop.situations, min_size=6, max_size=6)
)
def test_a_file_answers_as_its_events_do(
    connection: Any, texts: list[RuleText], situations: list[dict[str, Any]]
) -> None:
    situations = [each for each in situations if all(1900 < moment.year < 2100 for moment in _moments(each))]
    rules = compile_rules(accepted(texts), shop.SCOPE)
    if not situations or not len(rules):
        return
    try:
        query = columns(rules, "(SELECT * FROM events ORDER BY number)")
    except InvalidRule as problem:
        if "net()" in str(problem) or "more digits" in str(problem):
            return
        raise
    lay_down(connection, situations)
    rows = query.run(connection).fetchall()
    for values, row in zip(situations, rows, strict=True):
        wanted = [Firing(each.rule, each.value, each.basis, ()) for each in rules.fire(**values)]
        assert query.firings(row) == wanted


FAR = "(now - duration('3650000d'))"


@pytest.mark.parametrize(
    "rule",
    [
        RuleText("null among null", when="purchase.coupon in purchase.lines.map(x, x.brand)"),
        RuleText("null among texts", when="purchase.coupon in member.tags"),
        RuleText("decimal among numbers", when="purchase.rate in purchase.lines.map(x, x.quantity)"),
        RuleText("keys", value="size(member.tier)"),
        RuleText("the beginning of time", value=f"{FAR}.getFullYear() * 100 + {FAR}.getHours()"),
        RuleText(
            "a clock that stands", value="now.getHours('Asia/Shanghai') * 100 + now.getDayOfWeek('Europe/Moscow')"
        ),
        RuleText("a key", when="member.tier.club == 'gold' && 'club' in member.tier && !('x' in member.tier)"),
        RuleText("its day", value=f"date({FAR}) - today"),
        RuleText("guarded sum", basis="!(balance < 9 && balance + 9223372036854774000 > 0) ? 1 : 2", value="basis"),
        RuleText("guarded product", when="!(balance > 0 && balance < 9 && balance * 922337203685477400 < 0)"),
        RuleText("a far one negated", when="!(balance < 9 && 9223372036854774000 - -balance > 0)"),
    ],
    ids=lambda rule: rule.name,
)
def test_corners_that_random_rules_seldom_reach(connection: Any, rule: RuleText) -> None:
    rules = compile_rules([rule], shop.SCOPE)
    lines = (shop.Line(sku="a", amount=5), shop.Line(sku="b", amount=7, brand="b"))
    situations = [
        shop.values(balance=balance, now=now, purchase=shop.Purchase(amount=1, lines=lines, coupon=coupon))
        for balance in (10**12, 5, 10**9)
        for coupon in (None, "b", "c")
        for now in (shop.NOON, datetime(1988, 7, 1, 12, tzinfo=UTC), datetime(2050, 7, 1, 20, tzinfo=UTC))
    ]
    lay_down(connection, situations)
    rows = columns(rules, "(SELECT * FROM events ORDER BY number)").run(connection).fetchall()
    for values, row in zip(situations, rows, strict=True):
        wanted = rules.interpret(**values)
        assert rules.fire(**values) == wanted
        assert columns(rules, "events").firings(row) == [
            Firing(each.rule, each.value, each.basis, ()) for each in wanted
        ]


def _moments(values: dict[str, Any]) -> list[Any]:
    return [values["event"].at, values["now"], values["member"].enrolled_at]
