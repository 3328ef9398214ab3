"""Where this language and CEL both answer, they answer the same: Google's own implementation is asked."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tests.rules import shop
from core.tests.rules.test_agreement import PATIENT
from tallystick.errors import InvalidRule
from tallystick.rules import BOOL, INT, STRING, TIMESTAMP, ListOf, Scope, check, interpret

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cel = pytest.importorskip("cel_expr_python.cel")

SCOPE = Scope(
    {"i": INT, "j": INT, "s": STRING, "b": BOOL, "t": TIMESTAMP, "xs": ListOf(INT, 50), "words": ListOf(STRING, 50)}
)


@pytest.fixture(scope="module")
def google() -> Any:
    kinds = {"i": cel.Type.INT, "j": cel.Type.INT, "s": cel.Type.STRING, "b": cel.Type.BOOL, "t": cel.Type.TIMESTAMP}
    lists = {"xs": cel.Type.List(cel.Type.INT), "words": cel.Type.List(cel.Type.STRING)}
    return cel.NewEnv(variables=kinds | lists)


#: Written after the sections of CEL's own conformance tests: those of its parts that this language has.
CASES = [
    *("1 + 2 == 3", "7 / 2", "-7 / 2", "7 / -2", "-7 / -2", "7 % 3", "-7 % 3", "7 % -3", "-(3 - 5)", "i - j * 2"),
    *("i / 3 + j % 4", "-i / 3", "-9223372036854775808 < i", "0x1F == 31", "0xff - 256"),
    *(
        "'a' + 'b' == 'ab'",
        "s + 'x'",
        "s.startsWith('')",
        "s.endsWith(s)",
        "s.contains('é')",
        "size(s)",
        "s.size()",
        "size('été')",
    ),
    *(
        "'\\u00e9\\n\\t\\\\' == s",
        "r'a\\n' == 'a\\\\n'",
        "'\\x41' == 'A'",
        "'\\101' == 'A'",
        '"\\U0001F600".size()',
        "s < 'b'",
    ),
    *(
        "b && i > 0",
        "b || i > 0",
        "!b",
        "!(b && !b)",
        "b ? i : j",
        "(b ? 1 : 2) + 3",
        "b && b && !b || b",
        "true || i / 1 > 0",
    ),
    *("i in xs", "!(i in xs)", "s in ['a', 'b', s]", "3 in [1, 2]", "xs.size()", "size(xs)", "size([1, 2, 3])"),
    *(
        "xs.all(x, x > 0)",
        "xs.exists(x, x == i)",
        "xs.exists_one(x, x == i)",
        "xs.filter(x, x > 0).size()",
        "xs.map(x, x * 2)",
    ),
    *(
        "xs.map(x, x > 0, x + 1)",
        "words.exists(w, w.startsWith(s))",
        "words.filter(w, w != '').map(w, w + s)",
        "[1, 2].all(x, x in xs)",
    ),
    *(
        "t.getFullYear()",
        "t.getMonth()",
        "t.getDate()",
        "t.getDayOfMonth()",
        "t.getDayOfWeek()",
        "t.getDayOfYear()",
        "t.getHours()",
    ),
    *(
        "t.getMinutes()",
        "t.getSeconds()",
        "t.getMilliseconds()",
        "t.getHours('America/New_York')",
        "t.getDayOfWeek('Asia/Shanghai')",
    ),
    *(
        "t > timestamp('2026-03-08T02:00:00-05:00')",
        "t + duration('90m') > t",
        "t - timestamp('2020-01-01T00:00:00Z') > duration('1h')",
    ),
    *(
        "duration('1h30m').getMinutes()",
        "duration('-90s').getMinutes()",
        "duration('1h') + duration('1m') == duration('61m')",
    ),
    *(
        "(t - timestamp('2020-01-01T00:00:00Z')).getHours()",
        "i == j",
        "i != j",
        "s == 's'",
        "b == true",
        "t == t",
        "1 < 2 && 'a' <= 'b'",
    ),
]

facts = st.fixed_dictionaries(
    {
        "i": st.integers(-100, 100),
        "j": st.integers(-(10**9), 10**9),
        "s": shop.words,
        "b": st.booleans(),
        "t": shop.instants.filter(lambda moment: 1971 < moment.year < 2100),
        "xs": st.lists(st.integers(-3, 3), max_size=4),
        "words": st.lists(shop.words, max_size=4),
    }
)


def plainly(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def both(google: Any, text: str, values: dict[str, Any]) -> tuple[Any, Any]:
    theirs = google.compile(text).eval(data=values)
    return plainly(interpret(check(text, SCOPE), values)), plainly(unwrapped(theirs))


def unwrapped(value: Any) -> Any:
    found = value.value() if callable(getattr(value, "value", None)) else value
    return [unwrapped(each) for each in found] if isinstance(found, list | tuple) else found


@pytest.mark.parametrize("text", CASES)
@settings(PATIENT, max_examples=8)
@given(values=facts)
def test_the_same_text_has_the_same_value(google: Any, text: str, values: dict[str, Any]) -> None:
    ours, theirs = both(google, text, values)
    assert ours == theirs


@settings(PATIENT, max_examples=200)
@given(data=st.data(), values=facts)
def test_random_expressions_too(google: Any, data: st.DataObject, values: dict[str, Any]) -> None:
    def number(depth: int) -> str:
        way = data.draw(st.integers(0, 6 if depth else 1))
        if way < 2:
            return data.draw(st.sampled_from(("i", "j", "7", "-3", "size(xs)", "t.getHours()")))
        one, two = number(depth - 1), number(depth - 1)
        return {
            2: f"({one} + {two})",
            3: f"({one} - {two})",
            4: f"({one} / 7)",
            5: f"({one} % -5)",
            6: f"({test(depth - 1)} ? {one} : {two})",
        }[way]

    def test(depth: int) -> str:
        way = data.draw(st.integers(0, 4 if depth else 1))
        if way < 2:
            return f"{number(0)} {data.draw(st.sampled_from(('<', '<=', '==', '!=', '>', '>=')))} {number(max(0, depth - 1))}"
        one, two = test(depth - 1), test(depth - 1)
        return {2: f"({one} && {two})", 3: f"({one} || {two})", 4: f"!({one})"}[way]

    text = test(3)
    try:
        ours, theirs = both(google, text, values)
    except InvalidRule:
        return
    assert ours == theirs
