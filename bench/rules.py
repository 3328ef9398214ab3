"""What rules cost: twenty realistic rules on an event of three lines, each further rule, building, and a file of a million events.

CPU time, best of several rounds. The yardstick is a plain Python loop, printed before and after: read the costs as multiples of it
when comparing machines. The other engines run the same twenty conditions where they are installed; none of them was asked for
line-by-line numbers, which ours are.

    python bench/rules.py [--columns EVENTS]
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import sys
import tempfile
import time
import timeit
import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tallystick.rules import (
    COUNT,
    DATE,
    TIMESTAMP,
    Object,
    Optional,
    RuleText,
    Scope,
    compile_rules,
    object_type,
)
from tallystick.rules.parse import remembered_trees
from tallystick.rules.python import remembered_code

Cents = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class Line(msgspec.Struct, frozen=True):
    sku: str
    category: str | None
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1_000)]
    amount: Cents
    brand: str | None = None
    discounted: bool = False


class Purchase(msgspec.Struct, frozen=True):
    amount: Cents
    lines: tuple[Line, ...]
    coupon: str | None = None


class Event(msgspec.Struct, frozen=True):
    kind: str
    at: datetime
    store: str | None = None
    channel: str | None = None


class Member(msgspec.Struct, frozen=True):
    tier: dict[str, str]
    tags: tuple[str, ...]
    birthday: date | None


SCOPE = Scope(
    {
        "event": object_type(Event),
        "purchase": Optional(object_type(Purchase)),
        "member": object_type(Member),
        "counter": Object("counter", {"purchases": COUNT}, keyed=True),
        "today": DATE,
        "now": TIMESTAMP,
    },
    zone="Asia/Shanghai",
)
R = RuleText
RULES = [
    R("base", lines="!line.discounted", basis="line.amount", value="basis / 100"),
    R("coffee", lines='line.category == "coffee"', basis="line.amount", value="basis / 50"),
    R("tea", lines='line.category == "tea"', basis="line.amount", value="basis / 50"),
    R("double-tuesday", when="date(event.at).weekday == 2", value='decimal("2")'),
    R("happy-hour", when="event.at.getHours() >= 14 && event.at.getHours() < 17", value='decimal("1.5")'),
    R("gold", when='member.tier.club == "gold"', value='decimal("1.2")'),
    R("platinum", when='member.tier.club == "platinum"', value='decimal("1.5")'),
    R("birthday", when="member.birthday != null && member.birthday.month == today.month", value='decimal("2")'),
    R("first", when="purchase.amount > 0 && counter.purchases == 0", value="500"),
    R("big", when="purchase.amount >= 10000", value="200"),
    R("bigger", when="purchase.amount >= 50000", value="1500"),
    R("app", when='event.channel == "app"', value="50"),
    R(
        "store-12",
        when='event.store == "s12"',
        lines="line.quantity >= 3",
        basis="line.amount",
        value="basis * 2 / 100",
    ),
    R("vip", when='"vip" in member.tags', value="100"),
    R("welcome", when='purchase.coupon == "WELCOME"', value="250"),
    R("acme", lines='line.brand == "acme" && line.amount >= 1000', value="20 * matched"),
    R("two", when='purchase.lines.exists(l, l.sku == "a1") && purchase.lines.exists(l, l.sku == "b2")', value="150"),
    R("toys", lines='line.category == "toys"', basis="line.amount", value="basis / 20"),
    R("three-stores", when='event.store in ["s1", "s2", "s3"]', value="30"),
    R(
        "singles-day",
        when='event.at >= timestamp("2026-11-11T00:00:00+08:00") && event.at < timestamp("2026-11-12T00:00:00+08:00")',
        value='decimal("3")',
    ),
]
AT = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
LINES = (Line("a1", "coffee", 1, 4_500), Line("b7", "food", 2, 6_845, "acme"), Line("c3", "toys", 1, 1_000, None, True))
VALUES = (
    Event("purchase.completed", AT, "s12", "pos"),
    Purchase(12_345, LINES),
    Member({"club": "gold"}, ("regular", "tea"), date(1990, 5, 5)),
    {"purchases": 7},
    date(2026, 11, 24),
    AT,
)


def yardstick() -> float:
    """Nanoseconds per turn of ``for i in range(n): x = i + 1``."""
    return (
        min(timeit.repeat("for i in r: x = i + 1", "r = range(100000)", repeat=5, number=1, timer=time.process_time))
        * 1e4
    )


def per_call(function: Callable[..., Any], *arguments: Any, least: float = 0.05) -> float:
    """CPU microseconds of one call, best of nine rounds."""
    number = 1
    while (spent := timeit.timeit(lambda: function(*arguments), number=number, timer=time.process_time)) < least:
        number = max(number * 2, int(number * least / max(spent, 1e-6)))
    space = {"f": function, **{f"a{n}": each for n, each in enumerate(arguments)}}
    call = f"f({', '.join(f'a{n}' for n in range(len(arguments)))})"
    return min(timeit.repeat(call, globals=space, number=number, repeat=9, timer=time.process_time)) / number * 1e6


def show(what: str, cost: float, unit: str = "us") -> None:
    print(f"{what:<62} {cost:9.3f} {unit}")


def first_time() -> float:
    """CPU seconds to build the set where no text was parsed and no function compiled before."""
    remembered_trees.cache_clear()
    remembered_code.cache_clear()
    began = time.process_time()
    compile_rules(RULES, SCOPE)
    return time.process_time() - began


def ours() -> None:
    rules = compile_rules(RULES, SCOPE)
    assert rules.fire(*VALUES) == rules.interpret(**dict(zip(SCOPE.names, VALUES, strict=True)))
    base = per_call(rules.fire, *VALUES)
    show(f"twenty rules, three lines ({len(rules.fire(*VALUES))} fire), numbers included", base)
    show("  without a purchase", per_call(rules.fire, VALUES[0], None, *VALUES[2:]))
    show("  the interpreter", per_call(lambda: rules.interpret(**dict(zip(SCOPE.names, VALUES, strict=True)))))
    show("building the set, nothing of it seen before", min(first_time() for _ in range(15)) * 1_000, "ms")
    show("  again: its texts and its form are remembered", per_call(compile_rules, RULES, SCOPE) / 1_000, "ms")
    more: dict[str, Callable[[int], RuleText]] = {
        "another shop's (indexed)": lambda n: R(
            f"x{n}", when=f'event.store == "t{n}" && purchase.amount > 5', value="5"
        ),
        "a higher amount (tested one by one)": lambda n: R(f"x{n}", when=f"purchase.amount > {20_000 + n}", value="5"),
        "another category (lines indexed)": lambda n: R(
            f"x{n}", lines=f'line.category == "q{n}"', basis="line.amount", value="basis / 20"
        ),
    }
    for what, rule in more.items():
        many = compile_rules([*RULES, *map(rule, range(1_980))], SCOPE)
        show(f"each of 1,980 further rules: {what}", (per_call(many.fire, *VALUES) - base) / 1_980)


def files(events: int) -> None:
    import duckdb

    from tallystick.rules.columns import columns

    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "events.parquet"
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"""COPY (SELECT
            {{kind: 'purchase.completed', "at": make_timestamptz(1764000000000000 + n * 37000000), store: 's' || n % 40,
              channel: ['pos', 'app', 'web'][n % 3 + 1]}} AS event,
            {{amount: n * 7919 % 60000, coupon: CASE WHEN n % 50 = 0 THEN 'WELCOME' END,
              lines: [{{sku: ['a', 'b', 'c'][(n + i) % 3 + 1] || n % 5,
                        category: ['coffee', 'tea', 'food', 'toys'][(n * i + i) % 4 + 1], quantity: n % 4 + 1,
                        amount: n * i * 31 % 9000, brand: CASE WHEN n % 3 = 0 THEN 'acme' END, discounted: n % 7 = i}}
                      FOR i IN range(1, 4)]}} AS purchase,
            {{tier: MAP {{'club': ['gold', 'platinum', 'basic'][n % 3 + 1]}}, tags: ['regular', ['vip', 'tea'][n % 2 + 1]],
              birthday: DATE '1980-01-01' + (n % 9000)::INTEGER}} AS member,
            {{purchases: n % 20}} AS counter, DATE '2026-11-24' AS today, make_timestamptz(1764000000000000) AS now
            FROM range({events}) t(n)) TO '{path}' (FORMAT parquet)""")
        rules = compile_rules(RULES, SCOPE)
        query = columns(rules, f"read_parquet('{path}')")
        # The sums force every verdict to be computed; nothing is fetched but one row.
        sums = ", ".join(f"sum(fired{n}::INTEGER), sum(value{n}), sum(basis{n})" for n in range(len(rules)))
        best, wall = float("inf"), float("inf")
        for _ in range(3):
            began, clock = time.process_time(), time.perf_counter()
            connection.execute(f"SELECT {sums} FROM ({query.sql})", dict(query.parameters)).fetchone()
            best, wall = min(best, time.process_time() - began), min(wall, time.perf_counter() - clock)
        show(f"columns: each of {events:,} events from Parquet, CPU of all cores", best / events * 1e6)
        show("  the same by the clock", wall / events * 1e6)


# --- others --------------------------------------------------------------------------------------------------------

FACTS = {
    "amount": 12_345, "store": "s12", "channel": "pos", "tier": "gold", "hour": 11, "weekday": 2, "purchases": 7, "coupon": "",
    "birthday_month": 5, "month": 11, "tags": ["regular", "tea"],
    "categories": ["coffee", "food", "toys"], "skus": ["a1", "b7", "c3"],
}  # fmt: skip
#: The twenty conditions over facts that are given ready-made: a lighter task than ours.
CEL = [
    "amount > 0", '"coffee" in categories', '"tea" in categories', "weekday == 2", "hour >= 14 && hour < 17", 'tier == "gold"',
    'tier == "platinum"', "birthday_month == month", "purchases == 0", "amount >= 10000", "amount >= 50000", 'channel == "app"',
    'store == "s12"', '"vip" in tags', 'coupon == "WELCOME"', '"food" in categories && amount >= 1000',
    '"a1" in skus && "b2" in skus', '"toys" in categories', 'store in ["s1", "s2", "s3"]', "month == 11 && hour < 3",
]  # fmt: skip


def google_cel() -> Callable[[], object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cel_expr_python import cel
    kinds = {
        name: cel.Type.INT
        if isinstance(value, int)
        else cel.Type.STRING
        if isinstance(value, str)
        else cel.Type.List(cel.Type.STRING)
        for name, value in FACTS.items()
    }
    programs = [cel.NewEnv(variables=kinds).compile(text) for text in CEL]
    return lambda: [program.eval(data=FACTS) for program in programs]


def rust_cel() -> Callable[[], object]:
    import cel

    programs = [cel.compile(text) for text in CEL]
    return lambda: [program.execute(FACTS) for program in programs]


def rule_engine() -> Callable[[], object]:
    import rule_engine

    rules = [rule_engine.Rule(text.replace("&&", "and").replace("||", "or")) for text in CEL]
    return lambda: [rule.matches(FACTS) for rule in rules]


def zen() -> Callable[[], object]:
    import zen

    programs = [zen.compile_expression(text.replace("&&", "and").replace("||", "or")) for text in CEL]
    return lambda: [program.evaluate(FACTS) for program in programs]


def json_logic() -> Callable[[], object]:
    from json_logic import jsonLogic

    rules = [{"and": [{">=": [{"var": "amount"}, 10_000]}, {"==": [{"var": "tier"}, "gold"]}]}] * 20
    return lambda: [jsonLogic(rule, FACTS) for rule in rules]


OTHERS = {
    "cel-expr-python": google_cel,
    "common-expression-language": rust_cel,
    "zen-engine": zen,
    "rule-engine": rule_engine,
    "json-logic-qubit": json_logic,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--columns", type=int, default=1_000_000, metavar="EVENTS", help="size of the file; 0 leaves it out"
    )
    events = parser.parse_args().columns
    gc.freeze()
    gc.set_threshold(100_000)
    print(f"Python {sys.version.split()[0]}, msgspec {importlib.metadata.version('msgspec')}")
    show("yardstick: one turn of a plain loop", yardstick(), "ns")
    ours()
    for name, prepare in OTHERS.items():
        try:
            run = prepare()
        except ImportError:
            print(f"{name:<62}  not installed")
            continue
        show(f"twenty conditions on ready-made facts: {name} {importlib.metadata.version(name)}", per_call(run))
    if events:
        files(events)
    show("yardstick: one turn of a plain loop", yardstick(), "ns")


if __name__ == "__main__":
    main()
