"""A file of events answers as the events one by one do, in their order and to the last unit."""

from __future__ import annotations

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


def _moments(values: dict[str, Any]) -> list[Any]:
    return [values["event"].at, values["now"], values["member"].enrolled_at]
