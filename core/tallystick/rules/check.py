"""The checker: gives every node its type and its range, or says in one sentence what is wrong and where.

What it accepts has a value for every fact inside its declared type: no missing field, no unguarded null, no overflow, no
division by zero, no more work than `MAX_COST`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from tallystick.errors import InvalidRule
from tallystick.rules import clock, flow, operations, typed, types
from tallystick.rules.operations import Mismatch
from tallystick.rules.parse import Source, parse_source
from tallystick.rules.scope import Scope
from tallystick.rules.tree import (
    Binary,
    Call,
    Conditional,
    Index,
    ListNode,
    Literal,
    Logic,
    Member,
    Name,
    Node,
    Unary,
    unparse,
)
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
    Items,
    Variable,
)
from tallystick.rules.types import (
    BOOL,
    DATE,
    NULL,
    TIMESTAMP,
    Duration,
    Fixed,
    Int,
    ListOf,
    MapOf,
    Object,
    Optional,
    String,
    Type,
    join,
    nullable,
    strip,
)

#: Plain operations one expression may take at worst, with every list as long as its type allows.
MAX_COST = 250_000
#: Items of a list written out in a rule.
MAX_ITEMS = 500

_MACROS = frozenset(("all", "exists", "exists_one", "filter", "map", "sum"))


@dataclass(frozen=True, slots=True)
class Typed:
    """A checked expression: ready to be interpreted, generated, explained."""

    root: Checked
    node: Node
    scope: Scope
    #: Plain operations it takes at worst.
    cost: int
    #: Where its text stands; errors and explanations point there.
    source: Source = field(compare=False)

    @property
    def type(self) -> Type:
        """The type of its value, with the range it can take."""
        return self.root.type

    @property
    def text(self) -> str:
        """Its canonical text."""
        return unparse(self.node)


def check(
    expression: str | Node,
    scope: Scope,
    expected: Type | None = None,
    *,
    file: str = "",
    line: int = 1,
    column: int = 1,
    given: Iterable[str] = (),
) -> Typed:
    """Check *expression* against *scope*; with *expected*, its value must be of that type (of any range).

    *given* lists names of `Optional` type that the caller has already found not to be null.
    Raises `InvalidRule` with the place, what was found, what was expected and, where it can be told, what to write.
    """
    source = Source(expression if isinstance(expression, str) else unparse(expression), file, line, column)
    return check_source(source, scope, expected, given=given)


def check_source(
    source: Source,
    scope: Scope,
    expected: Type | None = None,
    *,
    given: Iterable[str] = (),
    node: Node | None = None,
) -> Typed:
    """As `check`, for a text whose place is known and which may have been parsed already."""
    if node is None:
        node = parse_source(source)
    checker = _Checker(source, scope, {name: strip(scope.names[name]) for name in given})
    root = checker.visit(node)
    if expected is not None:
        _expect(root, expected, checker)
    return Typed(root, node, scope, checker.cost, source)


def under(typed_: Typed, known: flow.Known) -> Checked:
    """The expression's tree, checked once more where *known* holds: its ranges are narrower, its value the same."""
    checker = _Checker(typed_.source, typed_.scope, known)
    return checker.visit(typed_.node)


def names(typed_: Typed) -> frozenset[str]:
    """The dotted paths of facts the expression reads: ``member.tier``, ``counter.visits``, ``purchase.lines``.

    Only the longest path is named, not the objects on the way to it. Paths inside macro variables belong to their list.
    """
    found: set[str] = set()
    _collect(typed_.root, found)
    return frozenset(found)


def _collect(node: Checked, found: set[str]) -> None:
    path = typed.path_of(node)
    if path is not None:
        if not isinstance(_root(node), Variable):
            found.add(path)
        return
    for child in typed.below(node):
        _collect(child, found)


def _root(node: Checked) -> Checked:
    while isinstance(node, typed.Field | Entry | Element):
        node = node.target
    return node


def _expect(root: Checked, expected: Type, checker: _Checker) -> None:
    found = root.type
    if nullable(found) and not nullable(expected):
        checker.must_be_there(root)
    both = join(found, expected)
    same = both is not None and (type(strip(both)) is type(strip(expected)))
    if not same or (isinstance(expected, types.Simple) and found != expected):
        checker.fail(
            root.source, f"this must be {_a(expected)}, found {_a(found)}", expected=str(expected), found=str(found)
        )


def _a(kind: Type) -> str:
    text = str(kind)
    return f"an {text}" if text[0] in "aeio" else f"a {text}"


class _Checker:
    """One walk over one expression."""

    def __init__(self, source: Source, scope: Scope, known: flow.Known) -> None:
        self.source = source
        self.scope = scope
        self.known = known
        self.variables: dict[str, Type] = {}
        self.cost = 0
        self.times = 1

    # --- errors

    def fail(self, node: Node, message: str, **details: object) -> NoReturn:
        raise self.source.error(node.at, message, **details)

    def attempt(self, node: Node, typing: Callable[..., operations.Typing], *arguments: Any) -> operations.Typing:
        try:
            return typing(*arguments)
        except Mismatch as mismatch:
            raise self.source.error(node.at, str(mismatch), **mismatch.details) from None

    def unknown(self, node: Node, what: str, name: str, known: Iterable[str]) -> InvalidRule:
        known = sorted(known)
        close = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.6)
        hint = f"; did you mean `{close[0]}`?" if close else f"; there is {', '.join(known[:12])}" if known else ""
        return self.source.error(
            node.at, f"there is no {what} `{name[:80]}`{hint}", found=name[:80], hint=close[0] if close else None
        )

    def must_be_there(self, node: Checked) -> NoReturn:
        text = unparse(node.source)
        shown = text if len(text) <= 60 else "it"
        if node.type == NULL:
            self.fail(node.source, "this is always null, where a value is needed", found="null")
        instead = f", or give a value in its place: `{shown}.orValue(...)`"
        if isinstance(strip(node.type), Object | MapOf | ListOf):  # none can be written in a rule
            instead = ""
        self.fail(
            node.source,
            f"{shown} may be null here; guard it first: `{shown} != null && ...`{instead}",
            found=str(node.type),
            expected=str(strip(node.type)),
            hint=f"{shown} != null && ...",
        )

    # --- the walk

    def visit(self, node: Node) -> Checked:
        self.pay(node, 1)
        match node:
            case Literal(value=value):
                return self.literal(node, value)
            case Name(name=name):
                return self.name(node, name)
            case Member(target=target, name=name):
                return self.narrowed(self.member(node, self.visit(target), name))
            case Index(target=target, index=index):
                return self.narrowed(self.index(node, self.visit(target), self.visit(index)))
            case Unary(operator=operator, operand=operand):
                return self.unary(node, operator, operand)
            case Binary(operator=operator, left=left, right=right):
                return self.binary(node, operator, self.visit(left), self.visit(right))
            case Logic(operator=operator, items=items):
                return self.logic(node, operator == "&&", items)
            case Conditional(test=test, yes=yes, no=no):
                return self.conditional(node, test, yes, no)
            case ListNode(items=items):
                return self.items(node, items)
            case Call():
                return self.call(node)
        raise AssertionError(node)

    def pay(self, node: Node, operations_: int) -> None:
        self.cost += self.times * operations_
        if self.cost > MAX_COST:
            self.fail(
                node,
                f"this can take more than {MAX_COST:,} operations, counting every list at its longest; "
                "do not look at lists inside lists, or write a shorter condition",
            )

    def value(self, node: Node) -> Checked:
        """Visit a node that must not be null."""
        checked = self.visit(node)
        if nullable(checked.type):
            self.must_be_there(checked)
        return checked

    def boolean(self, node: Node, where: str) -> Checked:
        checked = self.value(node)
        if checked.type != BOOL:
            self.fail(node, f"{where} needs a bool, found {_a(checked.type)}", expected="bool", found=str(checked.type))
        return checked

    @contextmanager
    def knowing(self, known: flow.Known) -> Iterator[None]:
        before, self.known = self.known, flow.together(self.known, known)
        yield
        self.known = before

    def narrowed(self, checked: Checked) -> Checked:
        if not self.known:
            return checked
        path = typed.path_of(checked)
        if path is None or path not in self.known:
            return checked
        return _retyped(checked, flow.meet(checked.type, self.known[path]))

    # --- values

    def literal(self, node: Node, value: object) -> Checked:
        match value:
            case bool():
                return Constant(BOOL, node, value)
            case int():
                return Constant(Int(value, value), node, value)
            case str():
                return Constant(String((value,)), node, value)
        return Constant(NULL, node, None)

    def name(self, node: Node, name: str) -> Checked:
        if name in self.variables:
            return self.narrowed(Variable(self.variables[name], node, name))
        if name not in self.scope.names:
            raise self.unknown(node, "name", name, [*self.scope.names, *self.variables])
        return self.narrowed(Fact(self.scope.names[name], node, name))

    def member(self, node: Node, target: Checked, name: str) -> Checked:
        if isinstance(target.type, Optional):
            self.must_be_there(target)
        match target.type:
            case Object(fields=fields, keyed=keyed):
                if name not in fields:
                    raise self.unknown(node, f"field in {target.type}", name, fields)
                return typed.Field(fields[name], node, target, name, keyed)
            case MapOf(value=value):
                key = Constant(String((name,)), node, name)
                return Entry(Optional(strip(value)), node, target, key)
        if target.type == DATE:
            part = operations.date_part(name)
            if part is None:
                raise self.unknown(node, "field in date", name, operations.DATE_FIELDS)
            return Apply(part[1], node, part[0], (target,))
        raise self.source.error(node.at, f"{_a(target.type)} has no fields", found=str(target.type))

    def index(self, node: Node, target: Checked, index: Checked) -> Checked:
        for each in (target, index):
            if nullable(each.type):
                self.must_be_there(each)
        match target.type, index.type:
            case ListOf(element=element), Int(low=low):
                if low < 0:
                    self.fail(node, "a position is counted from 0 and cannot be negative", found=str(index.type))
                return Element(Optional(strip(element)), node, target, index)
            case MapOf(value=value), String():
                return Entry(Optional(strip(value)), node, target, index)
            case Object(), String() if isinstance(index, Constant):
                return self.member(node, target, str(index.value))
        raise self.source.error(node.at, f"{_a(target.type)} is not read with [{index.type}]", found=str(target.type))

    def items(self, node: Node, items: tuple[Node, ...]) -> Checked:
        if not items:
            self.fail(node, "an empty list has no type and contains nothing; leave the condition out")
        if len(items) > MAX_ITEMS:
            self.fail(node, f"a list written in a rule has at most {MAX_ITEMS} items")
        checked = tuple(self.visit(item) for item in items)
        element = checked[0].type
        for item in checked[1:]:
            both = join(element, item.type)
            if both is None:
                self.fail(item.source, f"the items of a list have one type; this is {_a(item.type)} among {element}")
            element = both
        if isinstance(strip(element), Fixed | ListOf | MapOf | Object):
            self.fail(
                node, f"a list of {element} cannot be written in a rule; it holds numbers, strings, times or bools"
            )
        return Items(ListOf(element, len(items)), node, checked)

    # --- operators

    def unary(self, node: Node, operator: str, operand: Node) -> Checked:
        if operator == "!":
            return Apply(BOOL, node, "not", (self.boolean(operand, "`!`"),))
        target = self.value(operand)
        operation, kind = self.attempt(node, operations.negation, target.type)
        return Apply(kind, node, operation, (target,))

    def binary(self, node: Node, sign: str, left: Checked, right: Checked) -> Checked:
        if sign not in ("==", "!="):
            for each in (left, right):
                if nullable(each.type) and not (sign == "in" and each is left and isinstance(right.type, ListOf)):
                    self.must_be_there(each)
        operation, kind = self.attempt(node, operations.binary, sign, left.type, right.type)
        if operation in ("absent", "present"):
            return Apply(kind, node, operation, (left if right.type == NULL else right,))
        if sign == "in" and isinstance(right.type, ListOf) and not isinstance(right, Items):
            self.pay(node, right.type.most // 8)  # one membership test runs at the speed of the machine
        return Apply(kind, node, operation, (left, right))

    def logic(self, node: Node, conjunction: bool, items: tuple[Node, ...]) -> Checked:
        before, checked = self.known, []
        for item in items:
            checked.append(self.boolean(item, "`&&`" if conjunction else "`||`"))
            self.known = flow.together(self.known, flow.learn(checked[-1], conjunction))
        self.known = before
        return (Both if conjunction else Either)(BOOL, node, tuple(checked))

    def conditional(self, node: Node, test: Node, yes: Node, no: Node) -> Checked:
        asked = self.boolean(test, "the test before `?`")
        with self.knowing(flow.learn(asked, True)):
            one = self.visit(yes)
        with self.knowing(flow.learn(asked, False)):
            two = self.visit(no)
        kind = join(one.type, two.type)
        if kind is None:
            self.fail(
                node,
                f"both sides of `:` have one type, found {one.type} and {two.type}",
                found=str(two.type),
                expected=str(one.type),
            )
        return Choice(kind, node, asked, one, two)

    # --- calls

    def call(self, node: Call) -> Checked:
        name = node.name
        if node.target is None:
            if name == "has":
                return self.has(node)
            if name in ("timestamp", "duration", "date", "decimal"):
                return self.made(node)
            if name in self.scope.functions:
                return self.domain(node)
            if name not in operations.FUNCTIONS:
                raise self.no_function(node)
            arguments = tuple(self.value(each) for each in node.arguments)
            operation, kind = self.attempt(node, operations.function, name, [each.type for each in arguments])
            self.pay_for_sum(node, operation, arguments)
            return Apply(kind, node, operation, arguments)
        if name in _MACROS and (name != "sum" or node.arguments):
            return self.macro(node, node.target)
        return self.method(node, node.target)

    def pay_for_sum(self, node: Node, operation: str, arguments: tuple[Checked, ...]) -> None:
        if operation == "sum" and isinstance(arguments[0].type, ListOf):
            self.pay(node, arguments[0].type.most)

    def no_function(self, node: Call) -> InvalidRule:
        if node.name == "matches":
            return self.source.error(
                node.at, "regular expressions are not part of the rule language; use startsWith, endsWith or contains"
            )
        known = operations.METHODS | _MACROS if node.target else operations.FUNCTIONS | set(self.scope.functions)
        return self.unknown(node, "function", node.name, known)

    def has(self, node: Call) -> Checked:
        if len(node.arguments) != 1 or not isinstance(node.arguments[0], Member):
            self.fail(node, "has() takes one field: has(member.birthday)")
        target = self.visit(node.arguments[0])
        if isinstance(target, Apply):
            self.fail(node, "has() takes a field of an object or map; the parts of a date are always there")
        # The field may be known to be there already; has() still only asks.
        return Apply(BOOL, node, "present", (target,))

    def method(self, node: Call, target_node: Node) -> Checked:
        target = self.visit(target_node)
        if node.name != "orValue" and nullable(target.type):
            self.must_be_there(target)
        if node.name not in operations.METHODS and node.name not in operations.ZONED:
            raise self.no_function(node)
        arguments = tuple(self.visit(each) if node.name == "orValue" else self.value(each) for each in node.arguments)
        if node.name in operations.ZONED and target.type == TIMESTAMP:
            if len(arguments) > 1:
                self.fail(node, f"{node.name}() takes at most one argument, the zone")
            zone = self.zone(arguments[0] if arguments else None)
            operation, kind = self.attempt(node, operations.method, node.name, target.type, [])
            return Apply(kind, node, operation, (target, Constant(String(), node, zone)))
        operation, kind = self.attempt(
            node, operations.method, node.name, target.type, [each.type for each in arguments]
        )
        self.pay_for_sum(node, operation, (target,))
        return Apply(kind, node, operation, (target, *arguments))

    def zone(self, argument: Checked | None) -> ZoneInfo:
        if argument is None:
            return ZoneInfo(self.scope.zone)
        if not isinstance(argument, Constant) or not isinstance(argument.value, str):
            self.fail(argument.source, 'a zone is written out: "Asia/Shanghai"')
        try:
            return clock.zone(argument.value)
        except ValueError as error:
            self.fail(argument.source, str(error))

    def made(self, node: Call) -> Checked:
        """timestamp("..."), duration("..."), decimal("...") and date("...") are values; date(t) and decimal(n) are operations."""
        name = node.name
        if name == "date" and 1 <= len(node.arguments) <= 2:
            first = self.value(node.arguments[0])
            if first.type == TIMESTAMP:
                zone = self.zone(self.value(node.arguments[1]) if node.arguments[1:] else None)
                return Apply(DATE, node, "date.of", (first, Constant(String(), node, zone)))
        if len(node.arguments) != 1:
            self.fail(node, f"{name}() takes one argument")
        argument = self.value(node.arguments[0])
        if name == "decimal" and isinstance(argument.type, Int):
            operation, kind = self.attempt(node, operations.function, name, [argument.type])
            return Apply(kind, node, operation, (argument,))
        if not isinstance(argument, Constant) or not isinstance(argument.value, str):
            self.fail(argument.source, f"{name}() takes a text written out in the rule: {_EXAMPLES[name]}")
        try:
            return _made(node, name, argument.value)
        except ValueError as error:
            self.fail(argument.source, f"{error}; write it like {_EXAMPLES[name]}", hint=_EXAMPLES[name])

    def domain(self, node: Call) -> Checked:
        wanted = self.scope.functions[node.name]
        if len(node.arguments) != len(wanted.parameters):
            self.fail(node, f"{node.name}() takes {len(wanted.parameters)} arguments, found {len(node.arguments)}")
        self.pay(node, wanted.cost)
        arguments = tuple(self.visit(each) for each in node.arguments)
        for argument, parameter in zip(arguments, wanted.parameters, strict=True):
            if nullable(argument.type) and not nullable(parameter):
                self.must_be_there(argument)
            if not _holds(parameter, argument.type):
                self.fail(
                    argument.source,
                    f"{node.name}() wants {_a(parameter)} here{_range(parameter)}, found {_a(argument.type)}{_range(argument.type)}",
                    expected=str(parameter),
                    found=str(argument.type),
                )
        return Apply(wanted.result, node, f"call:{node.name}", arguments)

    def macro(self, node: Call, target_node: Node) -> Checked:
        items = self.value(target_node)
        if not isinstance(items.type, ListOf):
            self.fail(
                node, f".{node.name}() looks at the items of a list, found {_a(items.type)}", found=str(items.type)
            )
        first, *bodies = node.arguments or (None,)
        allowed = (1, 2) if node.name == "map" else (1,)
        if not isinstance(first, Name) or len(bodies) not in allowed:
            self.fail(node, f".{node.name}() takes a new name and what to do with it: .{node.name}(x, ...)")
        if first.name in self.variables or first.name in self.scope.names:
            self.fail(first, f"`{first.name}` is already a name here; choose another one for the items")
        before, self.times = self.times, self.times * max(1, items.type.most)
        self.variables[first.name] = items.type.element
        test = self.boolean(bodies[0], ".map(x, test, ...)") if len(bodies) == 2 else None
        with self.knowing(flow.learn(test, True) if test is not None else {}):
            body = (
                self.visit(bodies[-1]) if node.name in ("map", "sum") else self.boolean(bodies[-1], f".{node.name}()")
            )
        del self.variables[first.name]
        self.times = before
        kind = self.result(node, items.type, body)
        return Each(kind, node, node.name, items, first.name, body, test)  # type: ignore[arg-type]

    def result(self, node: Call, items: ListOf, body: Checked) -> Type:
        match node.name:
            case "filter":
                return items
            case "map":
                if isinstance(strip(body.type), Fixed):
                    self.fail(node, "a list cannot hold decimals; use .sum(x, ...) or round each item with floor()")
                return ListOf(body.type, items.most)
            case "sum":
                if nullable(body.type):
                    self.must_be_there(body)
                return self.attempt(node, operations.total, body.type, items.most)[1]
        return BOOL


def _retyped(checked: Checked, kind: Type) -> Checked:
    match checked:
        case Fact(source=source, name=name):
            return Fact(kind, source, name)
        case Variable(source=source, name=name):
            return Variable(kind, source, name)
        case typed.Field(source=source, target=target, name=name, keyed=keyed):
            return typed.Field(kind, source, target, name, keyed)
        case Entry(source=source, target=target, key=key):
            return Entry(kind, source, target, key)
        case Element(source=source, target=target, index=index):
            return Element(kind, source, target, index)
    return checked


def _holds(wanted: Type, found: Type) -> bool:
    """Whether every value of the one type is a value of the other."""
    if isinstance(wanted, Object) and isinstance(found, Object):
        return wanted == found
    if isinstance(strip(wanted), String):
        return isinstance(strip(found), String)
    if isinstance(strip(wanted), Fixed) and not (isinstance(strip(found), Fixed) and _scale(found) <= _scale(wanted)):
        return False
    return join(wanted, found) == wanted


def _scale(kind: Type) -> int:
    inner = strip(kind)
    assert isinstance(inner, Fixed)
    return inner.scale


def _range(kind: Type) -> str:
    inner = strip(kind)
    return f" ({inner.low} to {inner.high})" if isinstance(inner, Int) else ""


_EXAMPLES: Mapping[str, str] = {
    "timestamp": 'timestamp("2026-11-11T00:00:00+08:00")',
    "duration": 'duration("1h30m")',
    "date": 'date("2026-11-11")',
    "decimal": 'decimal("1.25")',
}


def _made(node: Node, name: str, text: str) -> Constant:
    match name:
        case "timestamp":
            moment = clock.timestamp(text)
            return Constant(TIMESTAMP, node, moment)
        case "duration":
            length = clock.duration(text)
            amount = length // timedelta(microseconds=1)
            return Constant(Duration(amount, amount), node, length)
        case "date":
            return Constant(DATE, node, clock.day(text))
    number, scale = clock.decimal(text)
    digits = int(number.scaleb(scale, operations.EXACT))
    return Constant(Fixed(digits, digits, scale), node, number)
