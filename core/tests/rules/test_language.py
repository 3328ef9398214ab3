"""What the language says, row by row; the reference page lists all of it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from core.tests.rules import shop
from tallystick.errors import InvalidRule
from tallystick.rules import (
    BOOL,
    INT,
    STRING,
    Int,
    ListOf,
    MapOf,
    Optional,
    RuleText,
    Scope,
    check,
    check_rules,
    compile_expression,
    compile_rules,
    interpret,
    names,
    object_type,
    parse,
    unparse,
)
from tallystick.rules.operations import FUNCTIONS, METHODS
from tallystick.rules.scope import Function
from tallystick.rules.types import Fixed

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "rules.md").read_text(encoding="utf-8")


def value(text: str, **changed: Any) -> Any:
    typed = check(text, shop.SCOPE, given=shop.GIVEN)
    facts = shop.values(**changed)
    found = interpret(typed, facts)
    assert compile_expression(typed)(**facts) == found
    return found


@pytest.mark.parametrize(
    "text, expected",
    [
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("-7 % 2", -1),
        ("7 % -2", 1),
        ("2 + 3 * 4 - -1", 15),
        ("0x1F", 31),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775807", 2**63 - 1),
        ('decimal("1.25") * 3', Decimal("3.75")),
        ('floor(decimal("-0.5"))', -1),
        ('ceil(decimal("-0.5"))', 0),
        ('round(decimal("0.5"))', 1),
        ('round(decimal("-0.5"))', -1),
        ('round(decimal("0.49"))', 0),
        ('decimal("0.1") + decimal("0.2") == decimal("0.3")', True),
        ("decimal(2) > 1", True),
        ("min(3, 1, 2)", 1),
        ('max(3, decimal("3.5"))', Decimal("3.5")),
        ("abs(-5)", 5),
        ("'a' + \"b\"", "ab"),
        (r"'\u00e9\n\x41\101'", "é\nAA"),
        (r"r'a\n'", r"a\n"),
        ("size('été')", 3),
        ("'ABCé'.lowerAscii()", "abcé"),
        ("'abcé'.upperAscii()", "ABCé"),
        ("'abc'.startsWith('') && 'abc'.endsWith('') && 'abc'.contains('')", True),
        ("event.store == null", False),
        ("purchase.coupon == null", True),
        ("purchase.coupon == 'x'", False),
        ("purchase.coupon in ['x', null]", True),
        ("purchase.coupon.orValue('none')", "none"),
        ("has(event.store)", True),
        ("has(member.birthday)", False),
        ("member.tier.club", "gold"),
        ("member.tier['staff']", None),
        ("'staff' in member.tier", False),
        ("member.tags[3]", None),
        ("purchase.lines.map(l, l.quantity)", (1, 2, 1)),
        ("purchase.lines.map(l, l.amount > 2000, l.sku)", ("a1", "b7")),
        ("purchase.lines.sum(l, l.amount)", 12_345),
        ("purchase.lines.exists_one(l, l.discounted)", True),
        ("purchase.lines.filter(l, l.category == 'none').all(l, false)", True),
        ("sum(purchase.lines.filter(l, false).map(l, l.amount))", 0),
        ("now.getHours()", 12),
        ("now.getHours('UTC')", 17),
        ("now.getMonth()", 10),
        ("now.getDayOfWeek()", 2),
        ("date(now).weekday", 2),
        ("date(now).month", 11),
        ("date(now, 'Asia/Shanghai')", date(2026, 11, 25)),
        ("date('2026-03-01') - date('2026-02-01')", 28),
        ("timestamp('2026-11-24T12:00:00-05:00') == now", True),
        (
            "duration('1d2h3m4s5ms6us')",
            timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5, microseconds=6),
        ),
        ("duration('-90s').getMinutes()", -1),
        ("duration('1.5h').getMinutes()", 90),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1d')", datetime.max.replace(tzinfo=UTC)),
        ("net(119, 19)", 100),
        ('decimal("1.00") in [1, 2]', True),
        ('decimal("1.5") in [1, balance]', False),
        ("purchase.rate in purchase.lines.map(l, l.quantity)", True),
        ("member.factor in [1, null]", True),
        ("member.factor in [1, 2]", False),
        ("null == null", True),
        ("size('\u2615\U0001f600e\u0301')", 4),
        ("purchase.lines.exists(line, line.amount > 5)", True),
        ("member.tags.all(is, is == 'a') && member.tags.all(is, is == 'b')", True),
        ("purchase.lines.all(x, x.labels.all(y, y != x.sku))", True),
        ("member[\"tier\"]['club']", "gold"),
        ("true || balance / 1 > 0", True),
        ("balance > 0 ? 100 / balance : 0", 0),
        ("balance > 0 && balance < 1000 && balance * balance * balance > 1", True),
        ("1 < 2 // a comment\n && true", True),
    ],
)
def test_what_it_comes_to(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    "instant, hour, day",
    [
        ("2026-03-08T06:59:59Z", 1, 8),
        ("2026-03-08T07:00:00Z", 3, 8),
        ("2026-11-01T05:30:00Z", 1, 1),
        ("2026-11-01T06:30:00Z", 1, 1),
        ("2026-11-01T03:59:59Z", 23, 31),
    ],
)
def test_the_nights_on_which_the_clock_is_moved(instant: str, hour: int, day: int) -> None:
    assert value(f"timestamp('{instant}').getHours()") == hour
    assert value(f"date(timestamp('{instant}')).day") == day


@pytest.mark.parametrize(
    "text, message",
    [
        ("purchase.amout > 5", "1:10: there is no field in purchase `amout`; did you mean `amount`?"),
        ("balanc > 5", "1:1: there is no name `balanc`; did you mean `balance`?"),
        (
            "purchase.coupon.startsWith('A')",
            "purchase.coupon may be null here; guard it first: `purchase.coupon != null && ...`",
        ),
        ("balance > 'a'", "`>` does not take int and string"),
        ("balance == null", "this int is never null"),
        ("1.5 * balance", 'write decimal("1.5")'),
        ("balance * balance * balance", "more than 64 bits hold; bound what is multiplied"),
        ("100 / balance", "the divisor can be 0"),
        ("decimal('1.5') / 2", "decimals are not divided"),
        ("balance", "this must be a bool, found an int"),
        ("event.kind.matches('a.*')", "regular expressions are not part of the rule language"),
        ("timestamp('2026-11-11') > now", "is not an instant with its offset"),
        ("now.getHours('Mars/Olympus') > 1", "there is no zone 'Mars/Olympus'"),
        ("balance = 5", "write == to compare"),
        ("purchase.lines.exist(l, true)", "did you mean `exists`?"),
        (".5 < balance", 'write decimal("0.5")'),
        ("1e3 < balance", 'write decimal("1000")'),
        ("2.5e-3 < balance", 'write decimal("0.0025")'),
        ("member.tags.0", "a field or function name is expected here, found `0`"),
        ("now.getHours('localtime') > 1", "'localtime' means another zone on another machine"),
        ("now.getHours('right/UTC') > 1", "'right/UTC' means another zone on another machine"),
        ("null + 1 > 0", "this is always null"),
        ("true < false", "`<` does not take bool and bool"),
        ("[1] == [1]", "does not compare list(int) with list(int)"),
    ],
)
def test_the_checker_says_what_is_wrong_and_what_to_write(text: str, message: str) -> None:
    with pytest.raises(InvalidRule) as refusal:
        check(text, shop.SCOPE, BOOL, given=shop.GIVEN)
    assert message in str(refusal.value)
    assert refusal.value.code == "invalid_rule"


def test_the_caret_stands_under_the_place() -> None:
    with pytest.raises(InvalidRule) as refusal:
        check("balance > 5 &&\n  purchase.amout > 5", shop.SCOPE, given=shop.GIVEN, file="tally.toml", line=7, column=9)
    first, excerpt, caret = str(refusal.value).splitlines()
    assert first.startswith("tally.toml:8:12: ")
    assert excerpt.index("amout") == caret.index("^")


@pytest.mark.parametrize(
    "guard",
    [
        "event.store != null && event.store.startsWith('s')",
        "has(event.store) && event.store.startsWith('s')",
        "event.store == null || event.store.startsWith('s')",
        "!(event.store == null) && event.store.startsWith('s')",
        "event.store != null ? event.store.startsWith('s') : false",
        "event.store == 's1' && event.store.startsWith('s')",
        "event.store.orValue('').startsWith('s')",
    ],
)
def test_a_guard_makes_a_nullable_value_usable(guard: str) -> None:
    assert value(guard) is True


def test_names_are_the_paths_that_are_read() -> None:
    text = "member.tier.club == 'a' && counter.purchases > 1 && purchase.lines.exists(l, l.amount > balance)"
    assert names(check(text, shop.SCOPE, given=shop.GIVEN)) == {
        "member.tier.club",
        "counter.purchases",
        "purchase.lines",
        "balance",
    }


def test_a_set_names_all_facts_of_its_rules_but_not_the_line() -> None:
    rules = compile_rules(
        [RuleText("r", lines="line.amount > balance", basis="line.amount", value="basis")], shop.SCOPE
    )
    assert rules.names == {"purchase.lines", "balance"}


def test_rules_that_need_no_purchase_work_for_any_event() -> None:
    texts = [
        RuleText("any", when="balance > 1", value="1"),
        RuleText("sale", when="purchase.amount > 1", value="2"),
        RuleText("lines", lines="line.amount > 1", value="matched"),
        RuleText("none", when="purchase == null", value="4"),
    ]
    rules = compile_rules(texts, shop.SCOPE)
    assert [rules[each.rule].name for each in rules.fire(**shop.values())] == ["any", "sale", "lines"]
    assert [rules[each.rule].name for each in rules.fire(**shop.values(purchase=None))] == ["any", "none"]


def test_every_mistake_of_a_set_is_listed_with_its_rule() -> None:
    texts = [
        RuleText("a", when="balanc > 1", value="1 +", places={"when": (3, 8), "value": (4, 9)}, file="tally.toml"),
        RuleText("b", basis="line.nothing", value="basis"),
        RuleText("b", when="1"),
    ]
    problems = check_rules(texts, shop.SCOPE)
    assert [(each.details.get("rule"), each.line, each.column) for each in problems][:2] == [("a", 4, 12), ("a", 3, 8)]
    assert "there are two rules called 'b'" in "\n".join(map(str, problems))
    assert "there is no field in line `nothing`" in "\n".join(map(str, problems))


def test_a_struct_gives_its_fields_ranges_and_choices() -> None:
    class Inner(msgspec.Struct):
        n: Annotated[int, msgspec.Meta(ge=1, le=9)]

    class Outer(msgspec.Struct):
        inner: Inner
        many: Annotated[tuple[Inner, ...], msgspec.Meta(max_length=3)]
        way: Literal["in", "out"]
        words: dict[str, str]
        maybe: int | None
        rate: Annotated[Decimal, msgspec.Meta(ge=0, le=2)]
        anything: Any

    # Annotations of classes made inside a function are resolved by the module that holds them.
    globals()["Inner"] = Inner
    found = object_type(Outer)
    assert found.fields["inner"].fields == {"n": Int(1, 9)}  # type: ignore[union-attr]
    assert found.fields["many"] == ListOf(object_type(Inner), 3)
    assert found.fields["words"] == MapOf(STRING)
    assert found.fields["maybe"] == Optional(INT)
    assert found.fields["rate"] == Fixed(0, 2_000_000, 6)
    assert "anything" not in found.fields
    with pytest.raises(InvalidRule, match=r"never equal; possible here: in, out"):
        check("o.way == 'up'", Scope({"o": found}))


def test_a_value_that_cannot_be_written_is_not_proposed_in_the_place_of_null() -> None:
    with pytest.raises(InvalidRule) as refusal:
        check("purchase.lines[0].amount > 5", shop.SCOPE, given=shop.GIVEN)
    assert "guard it first: `purchase.lines[0] != null && ...`\n" in str(refusal.value)


def test_the_value_of_a_rule_that_may_be_null_is_refused_with_what_to_write() -> None:
    with pytest.raises(InvalidRule, match=r"found int or null; put something in the place of null: `\(...\).orValue"):
        compile_rules([RuleText("r", value="counter.visits")], shop.SCOPE)


@pytest.mark.parametrize("name", ["abs", "enumerate", "getattr", "len", "max", "min", "sum", "tuple"])
def test_a_fact_may_be_called_as_something_of_python_is(name: str) -> None:
    """The generated function's own tools go by names that no fact can have."""
    scope = Scope(
        {name: Int(0, 9), "words": ListOf(STRING, 5), "purchase": Optional(object_type(shop.Purchase))},
        [Function("twice", (ListOf(STRING, 5),), Int(0, 10), lambda words: 2 * len(words))],
    )
    rules = compile_rules(
        [
            RuleText("sizes", when=f"size(words) > {name} && min(abs({name}), 7) == 1", value=f"max({name}, 5)"),
            RuleText(
                "lines",
                when=f"size(words.filter(w, w != 'a')) == {name} && twice(words) == 4",
                basis=f"line.amount * sum([1, {name}])",
                value="basis * matched",
            ),
        ],
        scope,
    )
    facts = {name: 1, "words": ("a", "b"), "purchase": shop.values()["purchase"]}
    assert [each.value for each in rules.fire(**facts)] == [5, 12_345 * 2 * 3]
    assert rules.fire(**facts) == rules.interpret(**facts)


def test_a_rule_about_lines_is_not_asked_where_there_are_none_whatever_it_says_of_the_purchase() -> None:
    texts = [
        RuleText("either", when="purchase == null || balance > 1", lines="line.amount > 1", value="matched"),
        RuleText("none", when="purchase == null", basis="line.amount", value="basis"),
        RuleText("there", when="purchase != null && purchase.amount > 1", lines="line.amount > 1", value="matched"),
        RuleText("named", when="purchase == null || true", basis="line.amount", value="basis + purchase.amount"),
    ]
    rules = compile_rules(texts, shop.SCOPE)
    for facts, fired in ((shop.values(), ["either", "there", "named"]), (shop.values(purchase=None), [])):
        assert [rules[each.rule].name for each in rules.fire(**facts)] == fired
        assert rules.fire(**facts) == rules.interpret(**facts)


def test_a_function_of_a_plugin_takes_every_decimal_within_its_parameters_range() -> None:
    half = Function("half", (Fixed(0, 10**9, 6),), Fixed(0, 10**9, 6), lambda x: x / 2)
    scope = Scope({"n": Int(0, 9)}, [half])
    for text, wanted in (('half(decimal("1.5"))', "0.75"), ("half(decimal(n) + 3)", "2")):
        typed = check(text, scope)
        assert compile_expression(typed)(n=1) == interpret(typed, {"n": 1}) == Decimal(wanted)
    for text in ('half(decimal("1.0000005"))', 'half(decimal("1000.5"))', 'half(decimal("-1"))'):
        with pytest.raises(InvalidRule, match="wants a decimal"):
            check(text, scope)


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("a&&(b&&c)", "a && b && c"),
        ("a && (b || c)", "a && (b || c)"),
        ("(a - b) - c", "a - b - c"),
        ("a - (b - c)", "a - (b - c)"),
        ("- - 5", "5"),
        ("-(5)", "-5"),
        ("(-5).f()", "(-5).f()"),
        ("-a.b", "-a.b"),
        ("!(a == b)", "!(a == b)"),
        ("(a ? b : c) ? d : e", "(a ? b : c) ? d : e"),
        ("a ? b : (c ? d : e)", "a ? b : c ? d : e"),
        ("'it\\'s \"so\"'", '"it\'s \\"so\\""'),
        ("[1,2 , 3,][0]", "[1, 2, 3][0]"),
    ],
)
def test_the_canonical_text(text: str, canonical: str) -> None:
    assert unparse(parse(text)) == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize("name", sorted(FUNCTIONS | METHODS | {"all", "exists", "exists_one", "filter", "map"}))
def test_the_reference_has_a_row_for_every_function(name: str) -> None:
    assert re.search(rf"^\|.*[`.]{name}\(.*\|$", PAGE, re.MULTILINE)


def test_the_reference_names_the_limits_that_hold() -> None:
    from tallystick.rules.check import MAX_COST, MAX_ITEMS
    from tallystick.rules.parse import MAX_DEPTH, MAX_LENGTH
    from tallystick.rules.ruleset import MAX_RULES

    limits = PAGE.split("## Limits")[1].split("##")[0]
    for limit in (MAX_LENGTH, MAX_DEPTH, 2 * MAX_DEPTH, MAX_ITEMS, MAX_COST, MAX_RULES):
        assert f"{limit:,}" in limits
