"""Checked tree to Python: the online rendering.

The generated text consists of names made here, fields that a type declares, and signs. No character of a merchant's rule reaches
it: constants, zones and functions are bound as globals of the generated function, decimals are whole numbers of their last
digit, and each macro becomes a small function of its own.
"""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from types import CodeType
from typing import Any

from tallystick.rules import clock
from tallystick.rules.check import Typed
from tallystick.rules.operations import EXACT, MEANING, TIME_PARTS, quotient, remainder, shift
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
    below,
)
from tallystick.rules.types import Duration, Fixed, Int, Optional, Type, nullable, strip

_SIGNS = {
    "int.add": "+",
    "int.sub": "-",
    "int.mul": "*",
    "str.add": "+",
    "span.add": "+",
    "span.sub": "-",
    "time.diff": "-",
    "in": "in",
}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_FORMS = {
    "not": "(not {0})",
    "present": "({0} is not None)",
    "absent": "({0} is None)",
    "in.map": "({1}.get({0}) is not None)",
    "int.neg": "(-{0})",
    "dec.neg": "(-{0})",
    "span.neg": "(-{0})",
    "int.abs": "_abs({0})",
    "dec.abs": "_abs({0})",
    "decimal": "{0}",
    "size": "_len({0})",
    "startsWith": "{0}.startswith({1})",
    "endsWith": "{0}.endswith({1})",
    "contains": "({1} in {0})",
    "time.add": "_shift({0}, {1})",
    "time.radd": "_shift({1}, {0})",
    "time.sub": "_shift({0}, -{1})",
    "date.diff": "({0} - {1}).days",
    "date.year": "{0}.year",
    "date.month": "{0}.month",
    "date.day": "{0}.day",
    "date.weekday": "{0}.isoweekday()",
    "int.mod": "_remainder({0}, {1})",
    "int.div": "_quotient({0}, {1})",
}
#: Forms that name their second operand first.
_BACKWARDS = frozenset(("in.map", "contains", "time.radd"))
#: Read from the wall clock; the wall clock itself is shared between the rules that read it.
_CLOCK = {
    "date.of": "{0}.date()",
    "getFullYear": "{0}.year",
    "getMonth": "({0}.month - 1)",
    "getDate": "{0}.day",
    "getDayOfMonth": "({0}.day - 1)",
    "getDayOfWeek": "({0}.isoweekday() % 7)",
    "getDayOfYear": "_day_of_year({0})",
    "getHours": "{0}.hour",
    "getMinutes": "{0}.minute",
    "getSeconds": "{0}.second",
    "getMilliseconds": "({0}.microsecond // 1000)",
}
_NOTHING = frozenset[str]()
#: What a value costs, in plain steps: decides what is tested first and what is worth keeping.
_WEIGHTS = {"time.add": 5, "time.radd": 5, "time.sub": 5, "date.diff": 5, "date.of": 4, "sum": 30, "str.add": 3}


def scaled(value: Decimal | None, scale: int) -> int | None:
    """A decimal fact as a whole number of its last declared digit."""
    return None if value is None else int(value.scaleb(scale, EXACT))


def unscaled(value: int | None, scale: int) -> Decimal | None:
    """The decimal that a whole number of last digits stands for."""
    return None if value is None else Decimal(value).scaleb(-scale, EXACT)


# A value that is needed twice is handed to a function: pasting its text twice would double the code at every level.


def element(items: Sequence[Any], index: int) -> Any:
    """The item at *index*, None behind the end."""
    return items[index] if index < len(items) else None


def instead(value: Any, alternative: Any) -> Any:
    """*value*, or the alternative where it is None."""
    return alternative if value is None else value


def times(value: int | None, factor: int) -> int | None:
    """A decimal written with more digits."""
    return None if value is None else value * factor


def nearest(value: int, unit: int) -> int:
    """*value* in whole units, halves away from zero."""
    return (value + unit // 2) // unit if value >= 0 else -((-value + unit // 2) // unit)


def weight(node: Checked) -> int:
    """What evaluating the node costs, roughly, in attribute reads."""
    match node:
        case Constant() | Fact() | Variable():
            return 0
        case Each():
            return 30 + 3 * sum(weight(child) for child in below(node))
        case Apply(operation=operation):
            own = 10 if operation in _CLOCK else 20 if operation.startswith("call:") else _WEIGHTS.get(operation, 1)
            return own + sum(weight(child) for child in below(node))
        case Entry() | Element():
            return 3 + sum(weight(child) for child in below(node))
    return 1 + sum(weight(child) for child in below(node))


def self_contained(node: Checked, scope: Scope, given: Iterable[str]) -> bool:
    """Whether the node may be evaluated before the tests to its left: nothing in it leans on a guard outside it."""
    match node:
        case Fact(name=name, type=kind):
            if nullable(scope.names[name]) and not nullable(kind) and name not in given:
                return False
        case Field(target=target, name=name, type=kind):
            if nullable(strip(target.type).fields[name]) and not nullable(kind):  # type: ignore[union-attr]
                return False
        case Entry(type=kind) | Element(type=kind):
            if not nullable(kind):
                return False
        case Variable(type=kind):
            return False
        case Each():
            return False
        case Apply(operation="int.div" | "int.mod", arguments=(_, divisor)) if not isinstance(divisor, Constant):
            return False
        case Apply(operation=operation) if operation.startswith("call:"):
            return False
    return all(self_contained(child, scope, given) for child in below(node))


class Renderer:
    """Renders expressions of one generated function and collects what it is to be run with.

    Give it every expression with `count` first, then `render` each: values that several of them need are computed once.
    """

    def __init__(self, scope: Scope, moving: Iterable[str] = ()) -> None:
        self.scope = scope
        #: Names whose value changes within one run (the line, its sum): nothing that reads them is shared.
        self.moving = frozenset(moving)
        self.bound: dict[str, Any] = {
            "_UNSET": object(),
            # Under names no fact can have: a fact may be called ``sum``.
            **{f"_{each.__name__}": each for each in (abs, enumerate, getattr, len, max, min, sum, tuple)},
            "_shift": shift,
            "_day_of_year": TIME_PARTS["getDayOfYear"],
            "_quotient": quotient,
            "_remainder": remainder,
            "_scaled": scaled,
            "_unscaled": unscaled,
            "_at": element,
            "_instead": instead,
            "_nearest": nearest,
            "_times": times,
        }
        self.helpers: list[str] = []
        #: Local names of values that are computed at the first use, by their key.
        self.lazy: dict[str, str] = {}
        #: Of these, those that hold their value wherever what is being written is reached.
        self.assigned: set[str] = set()
        #: Those that some place has to ask first whether they do.
        self.unsure: dict[str, None] = {}
        self._written: set[str] = set()
        #: Whether what is being written stands in a loop, and so comes before itself.
        self.looping = False
        #: Local names of values that are computed first of all, by their key.
        self.eager: dict[str, str] = {}
        self.uses: Counter[str] = Counter()
        self.names: dict[str, str] = {}
        self._keys: dict[tuple[int, int], str] = {}
        self._reads: dict[int, frozenset[str]] = {}
        self._constants: dict[tuple[object, ...], str] = {}
        self._helpers: dict[str, str] = {}
        self.counting = False
        self.inside = 0

    # --- binding

    def bind(self, value: Any, prefix: str = "_k") -> str:
        """The global name under which the generated code finds *value*."""
        key: tuple[object, ...] = (prefix, type(value), value)
        try:
            name = self._constants.get(key)
        except TypeError:
            key = (prefix, id(value))
            name = self._constants.get(key)
        if name is None:
            name = f"{prefix}{len(self._constants)}"
            self._constants[key] = name
            self.bound[name] = value
        return name

    # --- sharing

    def count(self, node: Checked) -> None:
        """Note what *node* will need."""
        self.counting = True
        self.render(node)
        self.counting = False

    def keep(self, node: Checked, text: str, least: int) -> str:
        """*text*, or the local that keeps its value if at least two places need it and it costs *least* or more.

        While counting nothing is shared yet, so equal texts are equal values and the text serves as the key.
        """
        if self.inside or not self.reads(node).isdisjoint(self.moving):
            return text
        place = id(node), least
        if self.counting:
            self.uses[text] += 1
            self._keys[place] = text
            return text
        key = self._keys.get(place, "")
        if key in self.eager:
            return self.eager[key]
        if least < 3 or self.uses[key] < 2 or text.isidentifier():
            return text
        name = self.lazy.setdefault(key, f"_v{len(self.lazy)}")
        if name in self.assigned:
            return name
        self.assigned.add(name)
        if name not in self._written and not self.looping:  # nothing before this place can have computed it
            self._written.add(name)
            return f"({name} := {text})"
        self._written.add(name)
        self.unsure[name] = None
        return f"({name} if {name} is not _UNSET else ({name} := {text}))"

    def reads(self, node: Checked) -> frozenset[str]:
        """Names of facts and outer variables that the node reads."""
        found = self._reads.get(id(node))
        if found is None:
            match node:
                case Fact(name=name) | Variable(name=name):
                    found = frozenset((name,))
                case Each(items=items, variable=variable):
                    found = self.reads(items) | (_union(map(self.reads, below(node)[1:])) - {variable})
                case _:
                    found = _union(map(self.reads, below(node)))
            self._reads[id(node)] = found
        return found

    @contextmanager
    def perhaps(self) -> Iterator[None]:
        """What is written inside may not be reached: nothing after it may count on what it computed."""
        before, self.assigned = self.assigned, set(self.assigned)
        yield
        self.assigned = before

    # --- rendering

    def render(self, node: Checked) -> str:  # noqa: C901 - one case per kind of node
        """A Python expression with the node's value; decimals as whole numbers of their last digit.

        What is rendered must be used, once, in the order of rendering: it may hold what later texts count on.
        """
        match node:
            case Constant(value=value):
                return self.constant(node.type, value)
            case Fact(name=name) | Variable(name=name):
                return self.read(self.names.get(name, name), node.type)
            case Field(target=target, name=name, keyed=keyed):
                assert name.isascii() and name.isidentifier() and not name.startswith("_"), name
                inner = self.render(target)
                if keyed:
                    text, least = f"{inner}.get({self.bind(name)})", 3
                elif keyword.iskeyword(name):
                    text, least = f"_getattr({inner}, {self.bind(name)})", 3
                else:
                    text, least = f"{inner}.{name}", 1
                return self.keep(node, self.read(text, node.type), least)
            case Entry(target=target, key=key):
                return self.keep(node, self.read(f"{self.render(target)}.get({self.render(key)})", node.type), 3)
            case Element():
                return self.keep(node, self.element(node), 3)
            case Both(items=items):
                return f"({' and '.join(self.one_by_one(items))})"
            case Either(items=items):
                return f"({' or '.join(self.one_by_one(items))})"
            case Choice(test=test, yes=yes, no=no):
                asked = self.render(test)
                with self.perhaps():
                    one = self.at_scale(yes, node.type)
                with self.perhaps():
                    two = self.at_scale(no, node.type)
                return f"({one} if {asked} else {two})"
            case Items(items=items):
                return f"({', '.join(map(self.render, items))},)"
            case Apply():
                return self.apply(node)
            case Each():
                return self.keep(node, self.macro(node), 9)
        raise AssertionError(node)

    def one_by_one(self, tests: Sequence[Checked]) -> list[str]:
        """Tests of which each is only reached past those before it."""
        if not tests:
            return []
        first = self.render(tests[0])
        with self.perhaps():
            return [first, *map(self.render, tests[1:])]

    def constant(self, kind: Type, value: Any) -> str:
        if isinstance(value, Decimal) and isinstance(kind, Fixed):
            value = int(value.scaleb(kind.scale, EXACT))
        if value is None or isinstance(value, bool):
            return str(value)
        return self.bind(value)

    def read(self, text: str, kind: Type) -> str:
        """A fact as it comes from outside: decimals still are Decimals there."""
        inner = strip(kind)
        return f"_scaled({text}, {self.bind(inner.scale)})" if isinstance(inner, Fixed) else text

    def element(self, node: Element) -> str:
        return f"_at({self.render(node.target)}, {self.render(node.index)})"

    def at_scale(self, node: Checked, kind: Type) -> str:
        """The node, as many digits after the point as *kind* has."""
        text, wanted = self.render(node), strip(kind)
        if not isinstance(wanted, Fixed):
            return text
        found = strip(node.type)
        scale = found.scale if isinstance(found, Fixed) else 0
        if scale == wanted.scale or not isinstance(found, Fixed | Int):
            return text
        factor = self.bind(10 ** (wanted.scale - scale))
        if isinstance(node.type, Optional):
            return f"_times({text}, {factor})"
        return f"({text} * {factor})"

    def aligned(self, left: Checked, right: Checked) -> tuple[str, str]:
        kinds = [strip(each.type) for each in (left, right)]
        scale = max((each.scale for each in kinds if isinstance(each, Fixed)), default=None)
        if scale is None:
            return self.render(left), self.render(right)
        wanted = Fixed(0, 0, scale)
        return self.at_scale(left, wanted), self.at_scale(right, wanted)

    def apply(self, node: Apply) -> str:  # noqa: C901 - one case per kind of operation
        operation, arguments = node.operation, node.arguments
        if operation in _CLOCK:
            moment, zone = arguments
            assert isinstance(zone, Constant)
            wall = f"{self.bind(clock.wall_clock(zone.value), '_wall')}({self.render(moment)})"
            return self.keep(node, _CLOCK[operation].format(self.keep(node, wall, 9)), 3)
        if operation in _COMPARE:
            left, right = self.aligned(*arguments)
            return f"({left} {_COMPARE[operation]} {right})"
        if operation in ("dec.add", "dec.sub", "dec.min", "dec.max"):
            sides = [self.at_scale(each, node.type) for each in arguments]
            if operation in ("dec.min", "dec.max"):
                return f"_{operation[4:]}({', '.join(sides)})"
            return f"({sides[0]} {'+' if operation == 'dec.add' else '-'} {sides[1]})"
        if operation == "dec.mul":
            return f"({self.render(arguments[0])} * {self.render(arguments[1])})"
        if operation in ("floor", "ceil", "round"):
            return self.rounding(operation, arguments[0])
        if operation == "sum":
            start = "" if isinstance(node.type, Int) else f", {self.bind(timedelta(0))}"
            return self.keep(node, f"_sum({self.render(arguments[0])}{start})", 9)
        if operation == "orValue":
            value, alternative = (self.at_scale(each, node.type) for each in arguments)
            return f"_instead({value}, {alternative})"
        if operation == "in" and isinstance(strip(arguments[0].type), Fixed):  # there are no lists of decimals
            return f"({self.outside(arguments[0])} in {self.render(arguments[1])})"
        if (
            operation == "in"
            and isinstance(arguments[1], Items)
            and all(isinstance(each, Constant) for each in arguments[1].items)
        ):
            members = frozenset(each.value for each in arguments[1].items if isinstance(each, Constant))
            return f"({self.render(arguments[0])} in {self.bind(members)})"
        if operation.startswith("call:"):
            return self.keep(node, self.domain(node), 9)
        if operation in ("int.div", "int.mod") and _counts_up(arguments):
            sign = "//" if operation == "int.div" else "%"
            return f"({self.render(arguments[0])} {sign} {self.render(arguments[1])})"
        if operation in _BACKWARDS:  # rendered as they will be computed
            right = self.render(arguments[1])
            texts = [self.render(arguments[0]), right]
        else:
            texts = [self.render(each) for each in arguments]
        if operation == "int.div" and _is_positive(arguments[1]) and len(texts[0]) <= 40:
            number, by = texts  # short enough to be pasted three times
            return f"({number} // {by} if {number} >= 0 else -(-{number} // {by}))"
        match arguments:
            case (Apply(operation="date.of"),) if operation in _FORMS:
                # The parts of a date are those of the wall clock it was taken from.
                return _FORMS[operation].format(texts[0].removesuffix(".date()"))
        if operation in _SIGNS:
            return f"({texts[0]} {_SIGNS[operation]} {texts[1]})"
        if operation in ("min", "max"):
            return f"_{operation}({', '.join(texts)})"
        if operation in _FORMS:
            text = _FORMS[operation].format(*texts)
            return self.keep(node, text, 3) if "." in text[1:] else text
        return self.keep(node, f"{self.bind(MEANING[operation], '_m')}({', '.join(texts)})", 4)

    def rounding(self, operation: str, argument: Checked) -> str:
        kind = argument.type
        assert isinstance(kind, Fixed)
        text = self.render(argument)
        if kind.scale == 0:
            return text
        unit = self.bind(10**kind.scale)
        if operation == "floor":
            return f"({text} // {unit})"
        if operation == "ceil":
            return f"(-(-{text} // {unit}))"
        if kind.low >= 0:
            return f"(({text} + {self.bind(10**kind.scale // 2)}) // {unit})"
        return f"_nearest({text}, {unit})"

    def domain(self, node: Apply) -> str:
        """A plugin's function; decimals cross its door as Decimals."""
        function = self.scope.functions[node.operation[5:]]
        arguments = [self.outside(each) for each in node.arguments]
        return self.read(f"{self.bind(function.call, '_f')}({', '.join(arguments)})", node.type)

    def outside(self, node: Checked) -> str:
        """The node's value as the rest of the house knows it: decimals as Decimal."""
        kind, text = strip(node.type), self.render(node)
        if not isinstance(kind, Fixed):
            return text
        if isinstance(node, Constant):
            return self.bind(node.value)
        return f"_unscaled({text}, {self.bind(kind.scale)})"

    # --- macros

    def macro(self, node: Each) -> str:
        """A call of a function that holds the loop; the facts its body reads are its arguments."""
        items = self.render(node.items)
        free = sorted(_union(map(self.reads, below(node)[1:])) - {node.variable})
        given = [self.names.get(each, each) for each in free]
        variable = f"_i{self.inside}"
        before = self.names, self.inside, self.counting
        self.names = {
            **self.names,
            **{each: f"_p{self.inside}_{n}" for n, each in enumerate(free)},
            node.variable: variable,
        }
        parameters = [self.names[each] for each in free]
        self.inside, self.counting = self.inside + 1, False
        body = self.at_scale(node.body, node.type) if node.macro == "sum" else self.render(node.body)
        test = None if node.test is None else self.render(node.test)
        self.names, self.inside, self.counting = before
        lines = _loop(node.macro, variable, body, test, self.zero(node.type))
        text = f"({', '.join(['_items', *parameters])}):\n" + "\n".join(f"    {line}" for line in lines) + "\n"
        name = self._helpers.get(text)
        if name is None:
            name = self._helpers[text] = f"_each{len(self._helpers)}"
            self.helpers.append(f"def {name}{text}")
        return f"{name}({', '.join([items, *given])})"

    def zero(self, kind: Type) -> str:
        return self.bind(timedelta(0) if isinstance(kind, Duration) else 0)


def _loop(macro: str, variable: str, body: str, test: str | None, zero: str) -> list[str]:
    head = f"for {variable} in _items:"
    match macro:
        case "all":
            return [head, f"    if not {body}:", "        return False", "return True"]
        case "exists":
            return [head, f"    if {body}:", "        return True", "return False"]
        case "exists_one":
            return [
                "_n = False",
                head,
                f"    if {body}:",
                "        if _n:",
                "            return False",
                "        _n = True",
                "return _n",
            ]
        case "filter":
            return [
                "_found = []",
                head,
                f"    if {body}:",
                f"        _found.append({variable})",
                "return _tuple(_found)",
            ]
        case "sum":
            return [f"_n = {zero}", head, f"    _n += {body}", "return _n"]
    if test is None:
        return ["_found = []", head, f"    _found.append({body})", "return _tuple(_found)"]
    return ["_found = []", head, f"    if {test}:", f"        _found.append({body})", "return _tuple(_found)"]


def _counts_up(arguments: tuple[Checked, ...]) -> bool:
    """Whether both are never negative, so that Python's division is that of the rules."""
    left, right = (each.type for each in arguments)
    return isinstance(left, Int) and isinstance(right, Int) and left.low >= 0 and right.low > 0


def _is_positive(node: Checked) -> bool:
    return isinstance(node, Constant) and node.value > 0


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return _NOTHING.union(*sets)


def compile_expression(typed: Typed) -> Callable[..., Any]:
    """A function of the scope's names (by keyword or in their order, None where not given) that returns the expression's value."""
    renderer = Renderer(typed.scope)
    renderer.count(typed.root)
    text = renderer.outside(typed.root)
    lines = [f"def expression({', '.join(f'{name}=None' for name in typed.scope.names)}):"]
    if renderer.unsure:
        lines.append(f"    {' = '.join(renderer.unsure)} = _UNSET")
    lines.append(f"    return {text}")
    return build(renderer, "\n".join(lines), "expression")


def _code(source: str, name: str) -> CodeType:
    return compile(source, f"<rules:{name}>", "exec", dont_inherit=True)


#: Constants are bound, so the text only tells the form of a rule set: sets that differ in their numbers share its code.
remembered_code = lru_cache(maxsize=256)(_code)
_REMEMBERED_LENGTH = 20_000


def build(renderer: Renderer, source: str, name: str) -> Callable[..., Any]:
    """The function called *name* that *source* defines, bound to the renderer's constants and helpers."""
    whole = "\n".join([*renderer.helpers, source])
    code = remembered_code(whole, name) if len(whole) <= _REMEMBERED_LENGTH else _code(whole, name)
    space = dict(renderer.bound)
    space["__builtins__"] = {}
    exec(code, space)  # noqa: S102 - the text consists of names and signs made above
    function: Callable[..., Any] = space[name]
    function.__dict__["source"] = whole
    return function
