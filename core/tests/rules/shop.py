"""The shop that rules are tried out in: what its rules may name, and how to write rules and events at random."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from hypothesis import strategies as st

from tallystick.rules import (
    BOOL,
    COUNT,
    DATE,
    INT,
    STRING,
    TIMESTAMP,
    Function,
    Int,
    Object,
    Optional,
    RuleText,
    Scope,
    object_type,
)

Cents = Annotated[int, msgspec.Meta(ge=-(10**9), le=10**9)]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    sku: str
    category: str | None = None
    brand: str | None = None
    quantity: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 1
    amount: Cents = 0
    discounted: bool = False
    labels: Annotated[tuple[str, ...], msgspec.Meta(max_length=8)] = ()


class Purchase(msgspec.Struct, frozen=True, kw_only=True):
    amount: Cents
    lines: Annotated[tuple[Line, ...], msgspec.Meta(max_length=100)]
    coupon: str | None = None
    rate: Decimal = Decimal(1)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    at: datetime
    store: str | None = None
    channel: str | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    tier: dict[str, str]
    tags: Annotated[tuple[str, ...], msgspec.Meta(max_length=20)] = ()
    birthday: date | None = None
    enrolled_at: datetime
    factor: Decimal | None = None


def _net(amount: int, rate: int) -> int:
    return amount * 100 // (100 + rate)


SCOPE = Scope(
    {
        "event": object_type(Event),
        "purchase": Optional(object_type(Purchase)),
        "member": object_type(Member),
        "counter": Object("counter", {"purchases": COUNT, "visits": Optional(COUNT)}, keyed=True),
        "balance": INT,
        "now": TIMESTAMP,
        "today": DATE,
    },
    functions=[Function("net", (Int(0, 10**9), Int(0, 100)), Int(0, 10**9), _net)],
    zone="America/New_York",
)
#: What is asked of a rule when the purchase is known to be there.
GIVEN = ("purchase",)

NOON = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)


def values(**changed: Any) -> dict[str, Any]:
    """One plain Tuesday in the shop, with some facts changed."""
    usual = {
        "event": Event(kind="purchase.completed", at=NOON, store="s1", channel="shop"),
        "purchase": Purchase(
            amount=12_345,
            lines=(
                Line(sku="a1", category="coffee", amount=4_500),
                Line(sku="b7", category="food", brand="acme", quantity=2, amount=6_845),
                Line(sku="c3", category="toys", amount=1_000, discounted=True),
            ),
        ),
        "member": Member(tier={"club": "gold"}, enrolled_at=NOON - timedelta(days=400)),
        "counter": {"purchases": 7, "visits": 3},
        "balance": 500,
        "now": NOON,
        "today": date(2026, 11, 24),
    }
    return usual | changed


# --- events at random ----------------------------------------------------------------------------------------------

WORDS = ("", "a", "tea", "coffee", "gold", "s1", "Zürich", "咖啡")
words = st.sampled_from(WORDS)
cents = st.one_of(st.integers(-5, 20), st.sampled_from((99, 100, 101, -(10**9), 10**9)), st.integers(-(10**9), 10**9))
#: Among them the two nights on which New York's clock is moved, and the ends of time.
instants = st.one_of(
    st.sampled_from(
        [
            datetime(2026, 3, 8, 6, 59, 59, 999_999, tzinfo=UTC),
            datetime(2026, 3, 8, 7, 0, tzinfo=UTC),
            datetime(2026, 11, 1, 5, 30, tzinfo=UTC),
            datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            NOON,
        ]
    ),
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
days = st.dates(min_value=date(1920, 2, 29), max_value=date(2032, 2, 29))
decimals = st.one_of(
    st.decimals(min_value=-1000, max_value=1000, places=7), st.sampled_from([Decimal("1.25"), Decimal(0)])
)

lines = st.builds(
    Line,
    sku=words,
    category=st.none() | words,
    brand=st.none() | words,
    quantity=st.integers(0, 1_000),
    amount=cents,
    discounted=st.booleans(),
    labels=st.lists(words, max_size=3).map(tuple),
)
purchases = st.builds(
    Purchase, amount=cents, lines=st.lists(lines, max_size=4).map(tuple), coupon=st.none() | words, rate=decimals
)
events = st.builds(Event, kind=words, at=instants, store=st.none() | words, channel=st.none() | words)
members = st.builds(
    Member,
    tier=st.dictionaries(st.sampled_from(("club", "staff")), words, max_size=2),
    tags=st.lists(words, max_size=4).map(tuple),
    birthday=st.none() | days,
    enrolled_at=instants,
    factor=st.none() | decimals,
)
situations: st.SearchStrategy[Mapping[str, Any]] = st.fixed_dictionaries(
    {
        "event": events,
        "purchase": st.none() | purchases,
        "member": members,
        "counter": st.fixed_dictionaries({"purchases": st.integers(0, 50), "visits": st.none() | st.integers(0, 50)}),
        "balance": cents,
        "now": instants,
        "today": days,
    }
)

# --- rules at random -----------------------------------------------------------------------------------------------

LINE_FACTS = {
    INT: ("line.amount", "line.quantity"),
    STRING: ("line.sku",),
    BOOL: ("line.discounted",),
    "text or null": ("line.category", "line.brand"),
}


class Writer:
    """Writes well-typed rules of a bounded depth; nearly all of them pass the checker, the rest leave their range."""

    def __init__(self, draw: st.DrawFn, *, purchase: bool, line: bool = False, sums: bool = False) -> None:
        self.draw, self.purchase, self.line, self.sums = draw, purchase, line, sums

    def pick(self, *ways: Any) -> Any:
        chosen = self.draw(st.sampled_from(ways))
        return chosen() if callable(chosen) else chosen

    def text(self, depth: int) -> str:
        quoted = f'"{self.draw(words)}"'
        if depth <= 0:
            return self.pick(quoted, "event.kind", *(LINE_FACTS[STRING] if self.line else ()))
        return self.pick(
            quoted,
            lambda: f"{self.maybe_text()}.orValue({self.text(depth - 1)})",
            lambda: f"({self.boolean(depth - 1)} ? {self.text(depth - 1)} : {self.text(depth - 1)})",
            lambda: f"({self.text(depth - 1)} + {self.text(depth - 1)})",
            lambda: f"{self.text(depth - 1)}.{self.pick('lowerAscii', 'upperAscii')}()",
        )

    def maybe_text(self) -> str:
        paths = ["event.store", "event.channel", "member.tier.club", 'member.tier["staff"]', "member.tags[0]"]
        paths += ["purchase.coupon", "purchase.lines[1].orValue(purchase.lines[0])"][:1] if self.purchase else []
        return self.pick(*paths, *(LINE_FACTS["text or null"] if self.line else ()))

    def integer(self, depth: int) -> str:
        facts = ["balance", "counter.purchases", *(LINE_FACTS[INT] if self.line else ())]
        facts += ["purchase.amount"] if self.purchase else []
        facts += ["basis", "matched"] if self.sums else []
        if depth <= 0:
            return self.pick(*facts, lambda: str(self.draw(st.sampled_from((-7, -1, 0, 1, 2, 100, 10**6)))))
        return self.pick(
            lambda: f"({self.integer(depth - 1)} {self.pick('+', '-')} {self.integer(depth - 1)})",
            lambda: f"(min({self.integer(depth - 1)}, 1000) * max(-5, min({self.integer(depth - 1)}, 7)))",
            lambda: f"({self.integer(depth - 1)} {self.pick('/', '%')} {self.pick('3', '-7', '100', '1')})",
            lambda: f"({self.boolean(depth - 1)} ? {self.integer(depth - 1)} : {self.integer(depth - 1)})",
            lambda: f"(balance > 0 ? {self.integer(depth - 1)} / balance : -1)",
            lambda: f"-{self.integer(depth - 1)}",
            lambda: f"abs({self.integer(depth - 1)})",
            lambda: f"size({self.text(depth - 1)})",
            lambda: "counter.visits.orValue(-1)",
            lambda: f"net(max(0, min({self.integer(depth - 1)}, 1000)), 19)",
            lambda: f"{self.pick('floor', 'ceil', 'round')}({self.decimal(depth - 1)})",
            lambda: f"{self.instant(depth - 1)}.{self.pick(*PARTS)}({self.pick(*ZONES)})",
            lambda: f"{self.day(depth - 1)}.{self.pick('year', 'month', 'day', 'weekday')}",
            lambda: f"({self.day(depth - 1)} - {self.day(depth - 1)})",
            lambda: f"{self.span(depth - 1)}.{self.pick('getHours', 'getMinutes', 'getSeconds')}()",
            "sum(member.tags.map(t, size(t)))",
            lambda: f"size({self.list(depth - 1)})",
            *([lambda: f"purchase.lines.sum(x, x.amount / {self.pick('2', '-3')})"] if self.purchase else []),
            *(
                [lambda: f"sum(purchase.lines.map(x, x.quantity > 1, min(x.amount, {self.integer(depth - 1)})))"]
                if self.purchase
                else []
            ),
            *(
                [lambda: f"floor(purchase.lines.sum(x, x.amount * {self.pick('purchase.rate', DECIMAL)}))"]
                if self.purchase
                else []
            ),
        )

    def decimal(self, depth: int) -> str:
        facts = ["member.factor.orValue(decimal(1))", *(["purchase.rate"] if self.purchase else [])]
        if depth <= 0:
            return self.pick(*facts, 'decimal("1.25")', 'decimal("-0.005")')
        return self.pick(
            lambda: f"({self.decimal(depth - 1)} {self.pick('+', '-', '*')} {self.decimal(depth - 1)})",
            lambda: f"(min({self.integer(depth - 1)}, 99) * {self.decimal(depth - 1)})",
            lambda: f"{self.pick('min', 'max')}({self.decimal(depth - 1)}, {self.integer(depth - 1)})",
            lambda: (
                f"({self.boolean(depth - 1)} ? {self.decimal(depth - 1)} : {self.integer(depth - 1)} + {self.decimal(0)})"
            ),
            lambda: f"abs(-{self.decimal(depth - 1)})",
        )

    def span(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(*SPANS)
        return self.pick(
            lambda: f"({self.instant(depth - 1)} - {self.instant(depth - 1)})",
            lambda: f"({self.span(depth - 1)} {self.pick('+', '-')} {self.span(depth - 1)})",
            lambda: f"(-{self.span(depth - 1)})",
            lambda: f"{self.pick('min', 'max')}({self.span(depth - 1)}, {self.span(depth - 1)})",
            lambda: f"({self.boolean(depth - 1)} ? {self.span(depth - 1)} : {self.span(depth - 1)})",
            lambda: f"member.tags.sum(t, {self.span(0)})",
        )

    def instant(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("event.at", "now", "member.enrolled_at", 'timestamp("2026-03-08T02:30:00-05:00")')
        return self.pick(
            lambda: f"({self.instant(depth - 1)} {self.pick('+', '-')} {self.span(depth - 1)})",
            lambda: f"({self.span(depth - 1)} + {self.instant(depth - 1)})",
            lambda: f"{self.pick('min', 'max')}({self.instant(depth - 1)}, {self.instant(depth - 1)})",
        )

    def day(self, depth: int) -> str:
        return self.pick(
            "today",
            'date("2026-11-01")',
            'member.birthday.orValue(date("2000-02-29"))',
            lambda: f"date({self.instant(depth - 1)}{self.pick(NONE, SHANGHAI)})",
        )

    def list(self, depth: int) -> str:
        ways = ["member.tags", '["a", "tea", "gold"]', lambda: f'[{self.text(depth - 1)}, "a"]']
        ways += [lambda: f"member.tags.filter(t, t != {self.text(0)} || {self.boolean(depth - 1)})"]
        ways += ["purchase.lines.map(x, x.sku)"] if self.purchase else []
        ways += ["line.labels"] if self.line else []
        return self.pick(*ways)

    def boolean(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("true", "false", "has(event.store)", *(LINE_FACTS[BOOL] if self.line else ()))
        compare = lambda: self.pick("==", "!=", "<", "<=", ">", ">=")  # noqa: E731
        return self.pick(
            lambda: f"{self.integer(depth - 1)} {compare()} {self.integer(depth - 1)}",
            lambda: f"{self.text(depth - 1)} {compare()} {self.text(depth - 1)}",
            lambda: (
                f"{self.decimal(depth - 1)} {compare()} {self.pick(lambda: self.decimal(depth - 1), lambda: self.integer(0))}"
            ),
            lambda: f"{self.instant(depth - 1)} {compare()} {self.instant(depth - 1)}",
            lambda: f"{self.day(depth - 1)} {compare()} {self.day(depth - 1)}",
            lambda: f"{self.maybe_text()} {self.pick('==', '!=')} {self.pick(self.maybe_text(), self.text(0), 'null')}",
            self.guarded,
            lambda: f"({self.boolean(depth - 1)} && {self.boolean(depth - 1)} && {self.boolean(depth - 1)})",
            lambda: f"({self.boolean(depth - 1)} || {self.boolean(depth - 1)})",
            lambda: f"!({self.boolean(depth - 1)})",
            lambda: f"({self.boolean(depth - 1)} ? {self.boolean(depth - 1)} : {self.boolean(depth - 1)})",
            lambda: f"{self.text(depth - 1)} in {self.list(depth - 1)}",
            lambda: f"{self.maybe_text()} in {self.pick(TEA, TAGS)}",
            lambda: f"{self.integer(depth - 1)} in [1, 2, 100]",
            lambda: f"{self.decimal(depth - 1)} in [1, {self.integer(0)}]",
            lambda: f"member.factor in [1, {self.pick('null', '2')}]",
            lambda: f"{self.span(depth - 1)} {compare()} {self.span(depth - 1)}",
            lambda: '"club" in member.tier',
            lambda: f"{self.text(depth - 1)}.{self.pick('startsWith', 'endsWith', 'contains')}({self.text(depth - 1)})",
            lambda: (
                f"{self.list(depth - 1)}.{self.pick('all', 'exists', 'exists_one')}(t, t {compare()} {self.text(depth - 1)})"
            ),
            *([lambda: self.over_lines(depth)] if self.purchase else []),
        )

    def guarded(self) -> str:
        path = self.maybe_text()
        return self.pick(
            f"({path} != null && {path}.startsWith({self.text(0)}))",
            f"({path} == null || {path} < {self.text(0)})",
            f"!({path} == null) && {path} >= {self.text(0)}",
            f"({path} == null ? false : {path}.contains({self.text(0)}))",
            "(has(member.birthday) && member.birthday.month == today.month)",
            "(has(member.factor) ? member.factor * balance > 100 : false)",
            "(has(counter.visits) && counter.visits % 10 == 0)",
        )

    def over_lines(self, depth: int) -> str:
        macro = self.pick("all", "exists", "exists_one")
        inner = self.pick(
            f"x.category == {self.text(0)}",
            f"x.amount > {self.integer(depth - 1)}",
            f'x.labels.exists(t, t == "a" && {self.boolean(depth - 1)})',
            f"x.brand != null && x.brand.startsWith({self.text(0)})",
        )
        nth = f"purchase.lines[{self.pick('0', '2', 'max(0, min(balance, 3))')}]"
        return self.pick(
            f"purchase.lines.{macro}(x, {inner})",
            f"purchase.lines.{macro}(x, {inner})",
            f"{self.maybe_text()} in purchase.lines.map(x, {self.pick('x.brand', 'x.sku')})",
            f"{self.decimal(0)} in purchase.lines.map(x, x.quantity)",
            f"({nth} != null && {nth}.amount > {self.integer(0)})",
            f"purchase.lines.filter(x, {inner}).{macro}(x, x.discounted)",
        )


PARTS = (
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
)
ZONES = ("", '"Asia/Shanghai"', '"UTC"', '"Australia/Lord_Howe"')
SPANS = ('duration("1h")', 'duration("-36h30m")', 'duration("3650000d")', "(now - event.at)")
NONE, SHANGHAI, TEA, TAGS = "", ', "Asia/Shanghai"', '["a", "tea"]', "member.tags"
DECIMAL = 'decimal("0.333")'


@st.composite
def rules(draw: st.DrawFn, name: str = "rule") -> RuleText:
    purchase = draw(st.booleans())
    about_lines = purchase and draw(st.booleans())
    writer = Writer(draw, purchase=purchase)
    parts: dict[str, str | None] = {"when": draw(st.sampled_from(("true", None)))}
    if parts["when"] is None:
        parts["when"] = writer.boolean(draw(st.integers(1, 3)))
    if about_lines:
        inside = Writer(draw, purchase=True, line=True)
        parts["lines"] = draw(
            st.sampled_from((None, 'line.category == "tea"', 'line.sku == "a" && line.amount > 9', ""))
        )
        if parts["lines"] == "":
            parts["lines"] = inside.boolean(draw(st.integers(1, 2)))
        parts["basis"] = draw(st.sampled_from(("line.amount", "")))
        if parts["basis"] == "":
            parts["basis"] = inside.integer(draw(st.integers(0, 2)))
    summing = Writer(draw, purchase=purchase, sums=about_lines)
    value = draw(st.sampled_from((None, "int", "int", "decimal")))
    if value is not None:
        depth = draw(st.integers(0, 2))
        parts["value"] = summing.integer(depth) if value == "int" else summing.decimal(depth)
    return RuleText(name, **parts)  # type: ignore[arg-type]
