"""Checked tree to SQL, for SQLite, PostgreSQL and DuckDB: which members match, what a file of events would have earned.

Nothing of a rule's text reaches the statement: constants become parameters, names become the columns the caller gives. All dialects
work on the same plain values: whole numbers, texts, booleans; instants as microseconds since 1970, durations as microseconds, dates
as ``2026-11-24``, decimals as whole numbers of their last digit. So none of them rounds, and none has a clock of its own.

SQL asks both sides of ``&&`` and ``||``. That is harmless: where a guard is shut, the other side is NULL or any value, and
``false AND NULL`` is false. Divisors are wrapped in NULLIF for the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from tallystick.errors import InvalidRule
from tallystick.rules import clock
from tallystick.rules.check import Typed
from tallystick.rules.interpret import value_of
from tallystick.rules.operations import EXACT
from tallystick.rules.parse import Source
from tallystick.rules.scope import Scope
from tallystick.rules.typed import (
    Apply,
    Both,
    Checked,
    Choice,
    Constant,
    Each,
    Either,
    Element,
    Entry,
    Fact,
    Field,
    Items,
    Variable,
    path_of,
    walk,
)
from tallystick.rules.types import (
    DATE,
    INT_MAX,
    INT_MIN,
    TIMESTAMP,
    Duration,
    Fixed,
    Int,
    ListOf,
    MapOf,
    String,
    Type,
    nullable,
    strip,
)

Dialect = Literal["sqlite", "postgresql", "duckdb"]


@dataclass(frozen=True, slots=True)
class Column:
    """Where a fact stands: an SQL expression that gives its plain value, written by a programmer, never by a merchant."""

    sql: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A list that is kept as rows: *contains* is an SQL condition in which ``{item}`` stands for the item looked for."""

    contains: str


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL expression with named parameters (``:r0``)."""

    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def to_sql(
    typed: Typed,
    dialect: Dialect,
    columns: Mapping[str, Column | Relation],
    known: Mapping[str, Any] | None = None,
) -> Statement:
    """The expression as SQL over *columns* (by path); *known* gives facts that are the same for every row, such as ``now``.

    Raises `InvalidRule` if something in it cannot be asked of this database; then read the rows and ask the rule itself.
    """
    writer = _DIALECTS[dialect](typed.scope, typed.source, columns, known or {})
    return Statement(writer.write(typed.root), writer.parameters)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


def plain(value: Any, kind: Type) -> Any:
    """A value as the columns hold it."""
    match value:
        case datetime():
            return (value - _EPOCH) // _TICK
        case date():
            return value.isoformat()
        case timedelta():
            return value // _TICK
        case Decimal():
            inner = strip(kind)
            return int(value.scaleb(inner.scale if isinstance(inner, Fixed) else 0, EXACT))
    return value


class SqlWriter:
    """What the dialects share; forms that differ stand in tables below."""

    forms: Mapping[str, str] = {}
    #: The largest whole number an expression may reach on the way.
    limit = 10**38

    def __init__(
        self, scope: Scope, source: Source, columns: Mapping[str, Column | Relation], known: Mapping[str, Any]
    ) -> None:
        self.scope, self.source, self.columns, self.known = scope, source, columns, known
        self.parameters: dict[str, Any] = {}
        self.variables: dict[str, str] = {}

    def refuse(self, node: Checked, why: str) -> InvalidRule:
        return self.source.error(node.source.at, f"this cannot be asked of the database: {why}")

    def parameter(self, value: Any) -> str:
        if isinstance(value, str) and "\x00" in value:
            value = value.replace("\x00", "\ufffd")  # no database holds it, so it equals nothing there
        name = f"r{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def constant(self, value: Any, kind: Type) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return "(1 = 1)" if value else "(1 = 0)"
        return self.typed(self.parameter(plain(value, kind)), kind)

    def typed(self, text: str, kind: Type) -> str:  # noqa: ARG002 - the dialects below look at it
        """A parameter with its type, where a dialect wants to be told."""
        return text

    # --- nodes

    def write(self, node: Checked) -> str:  # noqa: C901 - one case per kind of node
        inner = strip(node.type)
        if isinstance(inner, Int | Fixed | Duration) and max(-inner.low, inner.high) > self.limit:
            raise self.refuse(node, "it may need more digits than this database has")
        if not isinstance(node, Constant) and not isinstance(strip(node.type), ListOf) and self.is_known(node):
            return self.constant(value_of(node, self.known, self.scope.functions), node.type)
        path = path_of(node)
        if path is not None and path in self.columns:
            column = self.columns[path]
            if isinstance(column, Relation):
                raise self.refuse(node, "a list can only be asked whether it contains something")
            return column.sql
        match node:
            case Constant(value=value):
                return self.constant(value, node.type)
            case Both(items=items):
                return f"({' AND '.join(map(self.write, items))})"
            case Either(items=items):
                return f"({' OR '.join(map(self.write, items))})"
            case Choice(test=test, yes=yes, no=no):
                one, two = self.at_scale(yes, node.type), self.at_scale(no, node.type)
                return f"CASE WHEN {self.write(test)} THEN {one} ELSE {two} END"
            case Apply():
                return self.apply(node)
            case Each():
                return self.each(node)
            case Items():
                return self.items(node)
            case Fact() | Field() | Entry() | Element() | Variable():
                return self.fact(node)
        raise AssertionError(node)

    def is_known(self, node: Checked) -> bool:
        """Whether the node reads only facts that are the same for every row."""
        own = {each.variable for each in walk(node) if isinstance(each, Each)}
        return all(
            each.name in self.known if isinstance(each, Fact) else each.name in own
            for each in walk(node)
            if isinstance(each, Fact | Variable)
        )

    def fact(self, node: Checked) -> str:
        raise self.refuse(node, f"there is no column for {path_of(node) or 'it'}")

    def each(self, node: Each) -> str:
        raise self.refuse(node, f"it walks over a list with .{node.macro}()")

    def items(self, node: Items) -> str:
        raise self.refuse(node, "a list is not kept in a column")

    def at_scale(self, node: Checked, kind: Type) -> str:
        text, wanted, found = self.write(node), strip(kind), strip(node.type)
        if not isinstance(wanted, Fixed) or not isinstance(found, Int | Fixed):
            return text
        missing = wanted.scale - (found.scale if isinstance(found, Fixed) else 0)
        return text if missing <= 0 else f"({text} * {self.constant(10**missing, Int(1, 10**missing))})"

    def aligned(self, arguments: tuple[Checked, ...]) -> list[str]:
        scales = [kind.scale for each in arguments if isinstance(kind := strip(each.type), Fixed)]
        kind = Fixed(0, 0, max(scales)) if scales else Int()
        return [self.at_scale(each, kind) for each in arguments]

    def apply(self, node: Apply) -> str:
        operation, arguments = node.operation, node.arguments
        if operation in ("eq", "ne"):
            left, right = self.aligned(arguments)
            return self.forms[operation].format(left, right)
        if operation in ("lt", "le", "gt", "ge"):
            left, right = self.aligned(arguments)
            sign = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}[operation]
            if isinstance(arguments[0].type, String):
                return self.forms["order"].format(left, right, sign)
            return f"({left} {sign} {right})"
        if operation in ("dec.add", "dec.sub"):
            left, right = (self.at_scale(each, node.type) for each in arguments)
            return f"({left} {'+' if operation == 'dec.add' else '-'} {right})"
        if operation in ("min", "max", "dec.min", "dec.max"):
            name = self.forms["min" if operation.endswith("min") else "max"]
            return f"{name}({', '.join(self.at_scale(each, node.type) for each in arguments)})"
        if operation == "orValue":
            return f"COALESCE({', '.join(self.at_scale(each, node.type) for each in arguments)})"
        if operation in ("floor", "ceil", "round"):
            return self.rounding(operation, arguments[0])
        if operation == "in":
            return self.membership(node, *arguments)
        if operation in ("lowerAscii", "upperAscii", "startsWith", "endsWith", "contains", "str.add") or (
            operation == "size" and isinstance(arguments[0].type, String)
        ):
            name = "length" if operation == "size" else operation
            return self.forms[name].format(*map(self.write, arguments))
        if operation == "date.of" or operation.startswith("get"):
            return self.wall_clock(node, operation, *arguments)
        form = self.forms.get(operation, _SHARED.get(operation))
        if form is None:
            raise self.refuse(node, f"it has no {operation.removeprefix('call:')}()")
        return form.format(*map(self.write, arguments))

    def wall_clock(self, node: Checked, operation: str, moment: Checked, zone: Checked) -> str:
        del operation, moment, zone
        raise self.refuse(node, "it has no time zones")

    def membership(self, node: Checked, item: Checked, items: Checked) -> str:
        path = path_of(items)
        relation = self.columns.get(path) if path is not None else None
        if isinstance(relation, Relation):
            if isinstance(strip(item.type), Fixed):
                raise self.refuse(node, "the list has no decimals")
            return "(" + relation.contains.replace("{item}", self.write(item)) + ")"
        if not isinstance(items, Items):
            raise self.refuse(node, "there is no relation for this list")
        parts = [each for each in items.items if not (isinstance(each, Constant) and each.value is None)]
        tests = [self.apply(Apply(node.type, node.source, "eq", (item, each))) for each in parts]
        if len(parts) < len(items.items):
            tests.append(f"({self.write(item)} IS NULL)")
        return f"({' OR '.join(tests)})"

    def rounding(self, operation: str, argument: Checked) -> str:
        kind, text = argument.type, self.write(argument)
        assert isinstance(kind, Fixed)
        if kind.scale == 0:
            return text
        return self.forms[operation].format(text, 10**kind.scale, 10**kind.scale // 2)


_SHARED: Mapping[str, str] = {
    "not": "(NOT {0})",
    "present": "({0} IS NOT NULL)",
    "absent": "({0} IS NULL)",
    "int.add": "({0} + {1})",
    "int.sub": "({0} - {1})",
    "int.mul": "({0} * {1})",
    "dec.mul": "({0} * {1})",
    "int.neg": "(-{0})",
    "dec.neg": "(-{0})",
    "span.neg": "(-{0})",
    "int.abs": "abs({0})",
    "dec.abs": "abs({0})",
    "decimal": "{0}",
    "span.add": "({0} + {1})",
    "span.sub": "({0} - {1})",
    "time.diff": "({0} - {1})",
    "date.year": "CAST(substr({0}, 1, 4) AS INTEGER)",
    "date.month": "CAST(substr({0}, 6, 2) AS INTEGER)",
    "date.day": "CAST(substr({0}, 9, 2) AS INTEGER)",
}
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _TICK
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _TICK
_SPAN_UNITS = {"span.getHours": 3_600_000_000, "span.getMinutes": 60_000_000, "span.getSeconds": 1_000_000}


def _clamped(least: str, most: str, sum_: str) -> str:
    """Time ends with the years 1 and 9999."""
    return f"{most}({_FIRST}, {least}({_LAST}, {sum_}))"


class SqliteWriter(SqlWriter):
    """SQLite: 64-bit integers that divide towards zero, no zones, no decimals."""

    limit = INT_MAX
    forms = {
        "eq": "({0} IS {1})",
        "ne": "({0} IS NOT {1})",
        "order": "({0} {2} {1})",
        "min": "min",
        "max": "max",
        "int.div": "({0} / NULLIF({1}, 0))",
        "int.mod": "({0} % NULLIF({1}, 0))",
        "floor": "({0} / {1} - ({0} % {1} < 0))",
        "ceil": "({0} / {1} + ({0} % {1} > 0))",
        "round": "({0} / {1} + CASE WHEN {0} % {1} >= {2} THEN 1 WHEN {0} % {1} <= -{2} THEN -1 ELSE 0 END)",
        "length": "length({0})",
        "str.add": "({0} || {1})",
        "startsWith": "(substr({0}, 1, length({1})) = {1})",
        "endsWith": "(length({0}) >= length({1}) AND substr({0}, length({0}) - length({1}) + 1) = {1})",
        "contains": "(instr({0}, {1}) > 0)",
        "lowerAscii": "lower({0})",
        "upperAscii": "upper({0})",
        "time.add": _clamped("min", "max", "{0} + {1}"),
        "time.radd": _clamped("min", "max", "{0} + {1}"),
        "time.sub": _clamped("min", "max", "{0} - {1}"),
        "date.diff": "CAST(julianday({0}) - julianday({1}) AS INTEGER)",
        "date.weekday": "((CAST(strftime('%w', {0}) AS INTEGER) + 6) % 7 + 1)",
        **{name: f"({{0}} / {unit})" for name, unit in _SPAN_UNITS.items()},
    }


class PostgresqlWriter(SqlWriter):
    """PostgreSQL: every number is a NUMERIC on the way, so that no order of evaluation can overflow."""

    forms = {
        "eq": "({0} IS NOT DISTINCT FROM {1})",
        "ne": "({0} IS DISTINCT FROM {1})",
        "order": '(({0}) COLLATE "C" {2} {1})',
        "min": "least",
        "max": "greatest",
        "int.div": "div({0}, NULLIF({1}, 0))",
        "int.mod": "mod({0}, NULLIF({1}, 0))",
        "floor": "floor({0} / CAST({1} AS NUMERIC))",
        "ceil": "ceil({0} / CAST({1} AS NUMERIC))",
        "round": "(sign({0}) * div(abs({0}) + {2}, {1}))",
        "length": "char_length({0})",
        "str.add": "({0} || {1})",
        "startsWith": "starts_with({0}, {1})",
        "endsWith": "(right({0}, NULLIF(char_length({1}), 0)) IS NOT DISTINCT FROM NULLIF({1}, ''))",
        "contains": "(strpos({0}, {1}) > 0)",
        "lowerAscii": "translate({0}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')",
        "upperAscii": "translate({0}, 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')",
        "time.add": _clamped("least", "greatest", "{0} + {1}"),
        "time.radd": _clamped("least", "greatest", "{0} + {1}"),
        "time.sub": _clamped("least", "greatest", "{0} - {1}"),
        "date.diff": "(CAST({0} AS DATE) - CAST({1} AS DATE))",
        "date.weekday": "CAST(EXTRACT(ISODOW FROM CAST({0} AS DATE)) AS INTEGER)",
        **{name: f"div({{0}}, {unit})" for name, unit in _SPAN_UNITS.items()},
    }

    def typed(self, text: str, kind: Type) -> str:
        return f"CAST({text} AS {'NUMERIC' if self.is_number(kind) else 'TEXT'})"

    def is_number(self, kind: Type) -> bool:
        return isinstance(strip(kind), Int | Fixed | Duration) or strip(kind) == TIMESTAMP

    def write(self, node: Checked) -> str:
        text = super().write(node)
        path = path_of(node)
        if path is not None and path in self.columns and self.is_number(node.type):
            return f"CAST({text} AS NUMERIC)"
        return text

    def wall_clock(self, node: Checked, operation: str, moment: Checked, zone: Checked) -> str:
        del node
        assert isinstance(zone, Constant)
        instant = f"(TIMESTAMP WITH TIME ZONE 'epoch' + ({self.write(moment)}) * INTERVAL '1 microsecond')"
        wall = f"({instant} AT TIME ZONE {self.typed(self.parameter(zone.value.key), String())})"
        if path_of(moment) is None:  # made by adding; the wall clock stops at the ends of time, as its instants do
            inside = f"EXTRACT(YEAR FROM {wall}) BETWEEN 1 AND 9999"
            wall = f"(CASE WHEN {inside} THEN {wall} ELSE {instant} AT TIME ZONE 'UTC' END)"
        if operation == "date.of":
            return f"to_char({wall}, 'YYYY-MM-DD')"
        return f"CAST({_PARTS[operation].format(wall)} AS NUMERIC)"


_PARTS = {
    "getFullYear": "EXTRACT(YEAR FROM {0})",
    "getMonth": "EXTRACT(MONTH FROM {0}) - 1",
    "getDate": "EXTRACT(DAY FROM {0})",
    "getDayOfMonth": "EXTRACT(DAY FROM {0}) - 1",
    "getDayOfWeek": "EXTRACT(DOW FROM {0})",
    "getDayOfYear": "EXTRACT(DOY FROM {0}) - 1",
    "getHours": "EXTRACT(HOUR FROM {0})",
    "getMinutes": "EXTRACT(MINUTE FROM {0})",
    "getSeconds": "floor(EXTRACT(SECOND FROM {0}))",
    "getMilliseconds": "floor(mod(EXTRACT(MILLISECONDS FROM {0}), 1000))",
}


_SIGNS = {"int.add": "+", "int.sub": "-", "int.mul": "*", "dec.add": "+", "dec.sub": "-", "dec.mul": "*"}


class DuckdbWriter(SqlWriter):
    """DuckDB: files of events. Objects are structs, lists are lists, dates are dates, so macros can be asked too."""

    forms = {
        "eq": "({0} IS NOT DISTINCT FROM {1})",
        "ne": "({0} IS DISTINCT FROM {1})",
        "order": "({0} {2} {1})",
        "min": "least",
        "max": "greatest",
        "int.div": "({0} // NULLIF({1}, 0))",
        "int.mod": "({0} % NULLIF({1}, 0))",
        "floor": "({0} // {1} - CAST({0} % {1} < 0 AS INTEGER))",
        "ceil": "({0} // {1} + CAST({0} % {1} > 0 AS INTEGER))",
        "round": "({0} // {1} + CASE WHEN {0} % {1} >= {2} THEN 1 WHEN {0} % {1} <= -{2} THEN -1 ELSE 0 END)",
        "length": "length({0})",
        "str.add": "({0} || {1})",
        "startsWith": "starts_with({0}, {1})",
        "endsWith": "ends_with({0}, {1})",
        "contains": "contains({0}, {1})",
        "lowerAscii": "translate({0}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')",
        "upperAscii": "translate({0}, 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')",
        "time.add": _clamped("least", "greatest", "{0} + {1}"),
        "time.radd": _clamped("least", "greatest", "{0} + {1}"),
        "time.sub": _clamped("least", "greatest", "{0} - {1}"),
        "date.diff": "({0} - {1})",
        "date.year": "year({0})",
        "date.month": "month({0})",
        "date.day": "day({0})",
        "date.weekday": "isodow({0})",
        "in.map": "(map_extract_value({1}, {0}) IS NOT NULL)",
        "size": "len({0})",
        **{name: f"({{0}} // {unit})" for name, unit in _SPAN_UNITS.items()},
    }

    def parameter(self, value: Any) -> str:
        return super().parameter(value).replace(":", "$")

    def typed(self, text: str, kind: Type) -> str:
        inner = strip(kind)
        if isinstance(inner, Int | Fixed | Duration):
            wide = max(-inner.low, inner.high) > INT_MAX
            return f"CAST({text} AS {'HUGEINT' if wide else 'BIGINT'})"
        return f"CAST({text} AS {'BIGINT' if inner == TIMESTAMP else 'DATE' if inner == DATE else 'VARCHAR'})"

    def fact(self, node: Checked) -> str:
        match node:
            case Variable(name=name):
                return self.plainly(self.variables[name], node.type)
            case Fact(name=name):
                return self.plainly(f'"{name}"', node.type)
            case Field(target=target, name=name):
                return self.plainly(f'{self.raw(target)}."{name}"', node.type)
            case Entry(target=target, key=key):
                return self.plainly(f"map_extract_value({self.raw(target)}, {self.write(key)})", node.type)
            case Element(target=target, index=index):
                return self.plainly(f"({self.raw(target)})[{self.write(index)} + 1]", node.type)
        raise self.refuse(node, "it is no fact")

    def raw(self, node: Checked) -> str:
        """The struct, map or list itself."""
        path = path_of(node)
        column = self.columns.get(path) if path is not None else None
        return column.sql if isinstance(column, Column) else self.write(node)

    def plainly(self, text: str, kind: Type) -> str:
        """A column of DuckDB's own type as a plain value."""
        inner = strip(kind)
        if inner == TIMESTAMP:
            return f"epoch_us({text})"
        if isinstance(inner, Fixed):
            return f"CAST(trunc(CAST({text} AS DECIMAL(38, 12)) * {10**inner.scale}) AS HUGEINT)"
        if isinstance(inner, Duration):
            return f"epoch_us({text})"
        return text

    def membership(self, node: Checked, item: Checked, items: Checked) -> str:
        if isinstance(items, Items) or isinstance(self.columns.get(path_of(items) or ""), Relation):
            return super().membership(node, item, items)
        assert isinstance(items.type, ListOf)
        among, value, element = self.write(items), self.write(item), strip(items.type.element)
        if isinstance(scale := strip(item.type), Fixed) and isinstance(element, Int) and scale.scale:
            among = f"list_transform({among}, lambda _each: CAST(_each AS HUGEINT) * {10**scale.scale})"
        contains = f"COALESCE(list_contains({among}, {value}), FALSE)"
        if nullable(item.type) and nullable(items.type.element):
            contains = f"CASE WHEN {value} IS NULL THEN list_count({among}) < len({among}) ELSE {contains} END"
        return f"({contains})"

    def items(self, node: Items) -> str:
        return f"[{', '.join(map(self.write, node.items))}]"

    def each(self, node: Each) -> str:
        items, name = self.write(node.items), f"v{len(self.variables)}"
        if not isinstance(node.items.type, ListOf):
            raise self.refuse(node, "it is no list")
        self.variables[node.variable] = name
        if node.macro == "sum":
            body = self.at_scale(node.body, node.type)
        else:
            body = self.holds(node.body) if node.macro in ("filter", "exists", "exists_one") else self.write(node.body)
        test = None if node.test is None else self.holds(node.test)
        del self.variables[node.variable]
        match node.macro:
            case "filter":
                return f"list_filter({items}, lambda {name}: {body})"
            case "exists":
                return f"COALESCE(list_bool_or(list_transform({items}, lambda {name}: {body})), FALSE)"
            case "all":
                return f"COALESCE(list_bool_and(list_transform({items}, lambda {name}: {body})), TRUE)"
            case "exists_one":
                return f"(list_count(list_transform({items}, lambda {name}: CASE WHEN {body} THEN 1 END)) = 1)"
            case "sum":
                return self.total(f"list_transform({items}, lambda {name}: {body})", node.type)
        chosen = items if test is None else f"list_filter({items}, lambda {name}: {test})"
        return f"list_transform({chosen}, lambda {name}: {body})"

    def apply(self, node: Apply) -> str:
        operation, arguments = node.operation, node.arguments
        if operation == "sum":
            return self.total(self.write(arguments[0]), node.type)
        if operation == "size" and isinstance(arguments[0].type, MapOf):
            return f"CAST(cardinality({self.write(arguments[0])}) AS BIGINT)"
        if operation in _SIGNS and self.reach(node) > INT_MAX:
            sides = [
                self.write(each) if operation[4:] == "mul" else self.at_scale(each, node.type) for each in arguments
            ]
            return f"(CAST({sides[0]} AS HUGEINT) {_SIGNS[operation]} {sides[1]})"
        if operation == "int.neg" and self.reach(node) > INT_MAX:
            return f"(-CAST({self.write(arguments[0])} AS HUGEINT))"
        return super().apply(node)

    def holds(self, node: Checked) -> str:
        """A condition where NULL says no: null equals null is then seldom worth asking, and ``=`` is much faster."""
        match node:
            case Both(items=items):
                return f"({' AND '.join(map(self.holds, items))})"
            case Either(items=items):
                return f"({' OR '.join(map(self.holds, items))})"
            case Apply(operation="eq", arguments=(left, right)) if not (nullable(left.type) and nullable(right.type)):
                return f"({' = '.join(self.aligned((left, right)))})"
        return self.write(node)

    def at_scale(self, node: Checked, kind: Type) -> str:
        wanted, found = strip(kind), strip(node.type)
        if isinstance(wanted, Fixed) and isinstance(found, Int) and self.reach(node) * 10**wanted.scale > INT_MAX:
            return f"(CAST({self.write(node)} AS HUGEINT) * {10**wanted.scale})"
        return super().at_scale(node, kind)

    def reach(self, node: Checked) -> int:
        """How large the value may become whatever the guards around it say.

        DuckDB looks behind shut ones, and refuses to overflow.
        """
        kind = strip(node.type)
        match node:
            case Fact(name=name):
                kind = strip(self.scope.names.get(name, Int(INT_MIN, INT_MAX)))
            case Field(target=target, name=name):
                kind = strip(strip(target.type).fields[name])  # type: ignore[union-attr]
            case Variable():
                return max(INT_MAX, self.most(kind))
            case Apply(operation=operation, arguments=arguments) if operation in _SIGNS or operation == "int.neg":
                sizes = [self.reach(each) for each in arguments]
                if operation[4:] == "mul":
                    return sizes[0] * sizes[1]
                scales = [each.scale if isinstance(each := strip(one.type), Fixed) else 0 for one in arguments]
                return sum(size * 10 ** (max(scales) - scale) for size, scale in zip(sizes, scales, strict=True))
            case Apply(operation="int.div" | "int.mod" | "int.abs", arguments=(left, *_)):
                return self.reach(left)
            case Apply(operation="min" | "max" | "orValue", arguments=arguments):
                return max(self.reach(each) for each in arguments)
            case Choice(yes=yes, no=no) if not isinstance(kind, Fixed):
                return max(self.reach(yes), self.reach(no))
        return self.most(kind)

    def most(self, kind: Type) -> int:
        return max(-kind.low, kind.high) if isinstance(kind, Int | Fixed | Duration) else INT_MAX

    def total(self, items: str, kind: Type) -> str:
        narrow = isinstance(kind, Int | Duration)
        return f"CAST(COALESCE(list_sum({items}), 0) AS {'BIGINT' if narrow else 'HUGEINT'})"

    def wall_clock(self, node: Checked, operation: str, moment: Checked, zone: Checked) -> str:
        del node
        assert isinstance(zone, Constant)
        wall = (
            f"timezone({self.typed(self.parameter(zone.value.key), String())}, make_timestamptz({self.write(moment)}))"
        )
        steady = clock.steady(zone.value) if path_of(moment) is not None else None
        if steady is not None:  # adding costs a quarter of asking for the zone
            first, end, offset = (plain(each, TIMESTAMP) for each in steady)
            instant = self.write(moment)
            inside = f"{instant} >= {first} AND {instant} < {end}"
            wall = f"(CASE WHEN {inside} THEN make_timestamp({instant} + {offset}) ELSE {wall} END)"
        if path_of(moment) is None:  # made by adding; the wall clock stops at the ends of time, as its instants do
            plainly = f"timezone('UTC', make_timestamptz({self.write(moment)}))"
            wall = f"(CASE WHEN year({wall}) BETWEEN 1 AND 9999 THEN {wall} ELSE {plainly} END)"
        if operation == "date.of":
            return f"CAST({wall} AS DATE)"
        part = _PARTS[operation]
        if operation == "getSeconds":
            return f"EXTRACT(SECOND FROM {wall})"
        if operation == "getMilliseconds":
            return f"(EXTRACT(MILLISECOND FROM {wall}) % 1000)"
        return f"({part.format(wall)})"


_DIALECTS: Mapping[str, type[SqlWriter]] = {
    "sqlite": SqliteWriter,
    "postgresql": PostgresqlWriter,
    "duckdb": DuckdbWriter,
}
