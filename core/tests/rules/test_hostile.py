"""Rules by somebody who means harm: each is refused by name, or is bounded before it runs."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest

from core.tests.rules import shop
from tallystick.errors import InvalidRule
from tallystick.rules import RuleText, Scope, check, compile_expression, compile_rules, parse
from tallystick.rules.scope import Function
from tallystick.rules.types import BOOL, INT, LIST_LIMIT, Int, ListOf

MEMORY = 64 * 2**20
#: Calls of Python and C functions; the promise is 100 ms, and a call costs less than a microsecond. Counted, because a crowded
#: machine keeps no time.
CALLS = 100_000


@contextmanager
def bounded() -> Iterator[None]:
    """What happens inside is little work in little memory."""
    calls = 0

    def count(*_event: object) -> None:
        nonlocal calls
        calls += 1

    tracemalloc.start()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert calls < 2 * CALLS  # a call and its return are two events
    assert peak < MEMORY


HOSTILE = {
    "deep parentheses": "(" * 4_000 + "1" + ")" * 90,
    "deep lists": "[" * 2_000 + "1" + "]" * 2_000,
    "deep negation": "!" * 4_000 + "true",
    "deep minus": "-" * 4_000 + "1",
    "deep ternary": "true ? 1 : " * 300 + "1",
    "deep members": "event" + ".a" * 2_000,
    "deep index": "event" + "[0]" * 1_300,
    "long sum": "1" + "+1" * 2_000,
    "long product": "9" + "*9" * 2_000,
    "long text": "x" * 5_000_000,
    "endless string": '"' + "a" * 4_000,
    "huge number": "9" * 4_000,
    "huge hexadecimal": "0x" + "f" * 4_000,
    "huge decimal": f'decimal("{"9" * 4_000}")',
    "huge exponent": 'decimal("1e999999999")',
    "endless decimal": 'decimal("NaN")',
    "huge duration": f'duration("{"9" * 3_000}h")',
    "overflow by product": "balance * balance * balance",
    "overflow by a literal": "9223372036854775807 + 1",
    "smallest number negated": "-(-9223372036854775808)",
    "division by nothing": "1 / 0",
    "division by a fact": "1 / balance",
    "lists in lists in lists": "purchase.lines.all(a, purchase.lines.all(b, purchase.lines.all(c, a.sku == b.sku || c.discounted)))",
    "maps that grow": "purchase.lines.map(a, purchase.lines.map(b, purchase.lines.map(c, 1)))",
    "dunder": "event.__class__",
    "dunder name": "__import__",
    "dunder call": '__import__("os").system("true")',
    "private": "event._kind",
    "builtin": 'open("/etc/passwd")',
    "evaluation": 'eval("1")',
    "method of a value": '"a".format(event)',
    "attribute of a text": "event.kind.upper",
    "lambda": "lambda: 1",
    "comprehension": "[x for x in [1]]",
    "assignment": "balance = 5",
    "walrus": "(balance := 5)",
    "statement": "1; import os",
    "newline statement": "1\nimport os",
    "backslash": "1 \\ 2",
    "regular expression": 'event.kind.matches("(a+)+$")',
    "cyrillic": "b\u0430lance > 1",
    "full width": "\uff42alance > 1",
    "zero width": "bal\u200bance > 1",
    "right to left": "\u202ebalance > 1",
    "nul": "balance\x00 > 1",
    "non-breaking space": "balance\u00a0> 1",
    "surrogate": '"\ud800"',
    "surrogate escape": '"\\ud800"',
    "zone outside": 'now.getHours("../../etc/passwd")',
    "zone absolute": 'now.getHours("/etc/passwd")',
    "zone endless": f'now.getHours("{"A" * 3_000}")',
    "zone computed": "now.getHours(event.kind)",
    "shadow a fact": "member.tags.all(balance, true)",
    "macro on a number": "balance.all(x, true)",
    "unknown function": "system(1)",
    "too many arguments": "size(" + ",".join("1" * 900) + ")",
    "many items": "balance in [" + ",".join("1" * 900) + "]",
    "null arithmetic": "null + 1",
    "bytes": 'b"abc"',
    "floating point": "balance * 1.5",
    "unsigned": "1u",
    "keyword": "event.class",
    "reserved": "event.import",
    "empty": "",
    "blank": " \n\t",
    "comment": "// nothing",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_it_is_refused_soon_and_in_little_memory(text: str) -> None:
    with bounded(), pytest.raises(InvalidRule) as refusal:
        check(text, shop.SCOPE, given=shop.GIVEN)
    assert len(str(refusal.value)) < 2_000


#: Large, but fine: what is accepted must be compiled and run within the same bounds.
LARGE = {
    "wide and": " && ".join(["balance > 1"] * 270),
    "wide or": " || ".join([f'event.store == "s{n}"' for n in range(150)]),
    "nested defaults": "event.store.orValue(event.channel.orValue(" + 'member.tags[0].orValue("a")))',
    "nested choices": "balance > 2 ? 1 : (" * 15 + "3" + ")" * 15,
    "rounded rounds": "round(decimal(1) * " * 14 + 'decimal("1.5")' + ")" * 14,
    "long list": "balance in [" + ",".join(str(n) for n in range(499)) + "]",
    "a walk in a walk": "purchase.lines.all(a, purchase.lines.exists(b, a.sku == b.sku))",
    "long string": '"' + "a" * 4_000 + '" == event.kind',
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE.keys())
def test_what_is_accepted_stays_small(text: str) -> None:
    with bounded():
        typed = check(text, shop.SCOPE, given=shop.GIVEN)
        compile_expression(typed)(**shop.values())


def test_no_text_of_a_rule_reaches_the_generated_code() -> None:
    evil = "'); import os; os.system('true'); ('"
    rules = compile_rules(
        [RuleText("r", when=f'event.kind == "{evil}" && "{evil}" in member.tags', value="1")], shop.SCOPE
    )
    assert "import" not in rules.source
    assert "os" not in rules.source.replace("_fired", "")


def test_the_generated_function_knows_no_builtin_that_reaches_outside() -> None:
    rules = compile_rules([RuleText("r", when="balance > 1")], shop.SCOPE)
    assert rules.fire.__globals__["__builtins__"] == {}
    allowed = {"abs", "enumerate", "getattr", "len", "max", "min", "sum", "tuple"}
    found = {
        each.__name__
        for each in rules.fire.__globals__.values()
        if getattr(each, "__module__", "") == "builtins" and hasattr(each, "__name__")
    }
    assert found == allowed


@pytest.mark.parametrize("name", ["_x", "a b", "x;y", "é", "", "class"])
def test_a_scope_takes_no_name_that_could_be_code(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        Scope({name: INT})


@pytest.mark.parametrize("name", ["size", "has", "_f", "filter"])
def test_a_plugin_cannot_redefine_the_language(name: str) -> None:
    with pytest.raises(ValueError, match="function"):
        Function(name, (INT,), INT, abs)


def test_the_cost_is_known_before_running() -> None:
    scope = Scope({"xs": ListOf(Int(), LIST_LIMIT), "x": INT}, [Function("slow", (INT,), BOOL, bool, cost=1_000)])
    assert check("xs.all(i, i > 1)", scope).cost < 10_000
    assert check("slow(x)", scope).cost > 1_000
    with pytest.raises(InvalidRule, match="operations"):
        check("xs.all(i, slow(i))", scope)


def test_a_decimal_fact_of_any_length_is_cut_not_rounded() -> None:
    values = shop.values()
    purchase = shop.Purchase(amount=1, lines=(), rate=Decimal("1.2345679999"))
    typed = check("purchase.rate", shop.SCOPE, given=shop.GIVEN)
    assert compile_expression(typed)(**values | {"purchase": purchase}) == Decimal("1.234567")


def test_a_place_in_a_file_is_the_place_in_the_file() -> None:
    with pytest.raises(InvalidRule) as refusal:
        parse("a &&\n  b ||| c", file="tally.toml", line=12, column=9)
    assert (refusal.value.file, refusal.value.line, refusal.value.column) == ("tally.toml", 13, 7)
    with pytest.raises(InvalidRule) as refusal:
        parse("a + ?", file="tally.toml", line=12, column=9)
    assert (refusal.value.line, refusal.value.column) == (12, 13)
