"""The interpreter: the plain reading of a checked rule, which every other rendering is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from functools import reduce
from typing import Any

from tallystick.rules.check import Typed
from tallystick.rules.operations import EXACT, MEANING, cut
from tallystick.rules.scope import Function
from tallystick.rules.tree import unparse
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
)
from tallystick.rules.types import Duration, Fixed, Type, strip

#: Values put in the place of what the facts give, by the canonical text of the expression: ``purchase.amount``.
Changed = Mapping[str, Any]


def interpret(typed: Typed, values: Mapping[str, Any], changed: Changed | None = None) -> Any:
    """The value of the expression for these facts. Instants are aware and in UTC; a fact that is not there is None.

    *changed* asks what would be if some expressions in it had other values.
    """
    return value_of(typed.root, values, typed.scope.functions, changed)


def value_of(  # noqa: C901 - one case per kind of node
    node: Checked, values: Mapping[str, Any], functions: Mapping[str, Function], changed: Changed | None = None
) -> Any:
    """The value of one node; *values* also holds the macro variables around it."""
    if changed and (text := unparse(node.source)) in changed:
        return changed[text]

    def value(inner: Checked) -> Any:
        return value_of(inner, values, functions, changed)

    match node:
        case Constant(value=constant):
            return constant
        case Fact(name=name) | Variable(name=name):
            return _seen(values.get(name), node.type)
        case Field(target=target, name=name, keyed=True):
            return _seen(value(target).get(name), node.type)
        case Field(target=target, name=name):
            return _seen(getattr(value(target), name), node.type)
        case Entry(target=target, key=key):
            return _seen(value(target).get(value(key)), node.type)
        case Element(target=target, index=index):
            items, position = value(target), value(index)
            return items[position] if position < len(items) else None
        case Both(items=tests):
            return all(value(test) for test in tests)
        case Either(items=tests):
            return any(value(test) for test in tests)
        case Choice(test=test, yes=yes, no=no):
            return _as(node.type, value(yes) if value(test) else value(no))
        case Items(items=parts):
            return tuple(value(part) for part in parts)
        case Apply(operation="sum", arguments=(items_,)):
            return total(value(items_), node.type)
        case Apply(operation=operation, arguments=arguments):
            meaning = functions[operation[5:]].call if operation.startswith("call:") else MEANING[operation]
            return _as(node.type, meaning(*(value(argument) for argument in arguments)))
        case Each():
            return _each(
                node,
                value(node.items),
                lambda body, item: value_of(body, {**values, node.variable: item}, functions, changed),
            )
    raise AssertionError(node)


def _each(node: Each, items: Iterable[Any], holds: Callable[[Checked, Any], Any]) -> Any:
    match node.macro:
        case "all":
            return all(holds(node.body, item) for item in items)
        case "exists":
            return any(holds(node.body, item) for item in items)
        case "exists_one":
            return sum(1 for item in items if holds(node.body, item)) == 1
        case "filter":
            return tuple(item for item in items if holds(node.body, item))
    found = (item for item in items if node.test is None or holds(node.test, item))
    images = [holds(node.body, item) for item in found]
    return tuple(images) if node.macro == "map" else total(images, node.type)


def total(amounts: Iterable[Any], kind: Type) -> Any:
    """The sum; of nothing it is the zero of its type."""
    if isinstance(kind, Fixed):
        return reduce(EXACT.add, amounts, Decimal(0))
    return sum(amounts, timedelta(0) if isinstance(kind, Duration) else 0)


def _as(kind: Type, value: Any) -> Any:
    """A whole number that stands where its type says decimal is a decimal."""
    return Decimal(value) if isinstance(value, int) and isinstance(strip(kind), Fixed) else value


def _seen(value: Any, kind: Type) -> Any:
    """A decimal fact is seen with its declared digits only."""
    inner = strip(kind)
    return cut(value, inner.scale) if isinstance(inner, Fixed) and value is not None else value
