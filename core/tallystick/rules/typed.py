"""The tree of a rule after checking: every node knows its type, every overload is resolved.

All renderings (interpreter, Python, columns, SQL) and all readers (explain, aloud, lint) work on these few kinds of node.
Absence is a value here: a node of an `Optional` type may be None, and every operation is defined for what may reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from typing import Literal as OneOf

import msgspec

from tallystick.rules import tree
from tallystick.rules.types import Type


class Checked(msgspec.Struct, frozen=True):
    """A value with its type, and the node of the written tree it comes from."""

    type: Type
    source: tree.Node


class Constant(Checked, frozen=True):
    """A value known before any event: int, str, bool, None, Decimal, datetime (UTC), date or timedelta."""

    value: Any


class Fact(Checked, frozen=True):
    """A name of the scope."""

    name: str


class Variable(Checked, frozen=True):
    """The item a macro is looking at."""

    name: str


class Field(Checked, frozen=True):
    """A field of an object; *keyed* objects are mappings at run time."""

    target: Checked
    name: str
    keyed: bool


class Entry(Checked, frozen=True):
    """The value of a map for a text, null if there is none."""

    target: Checked
    key: Checked


class Element(Checked, frozen=True):
    """The item of a list at a position counted from 0, null if the list is not that long."""

    target: Checked
    index: Checked


class Apply(Checked, frozen=True):
    """A strict operation of `operations`, or a plugin's function (``call:name``)."""

    operation: str
    arguments: tuple[Checked, ...]


class Both(Checked, frozen=True):
    """``&&``: false at the first item that is false."""

    items: tuple[Checked, ...]


class Either(Checked, frozen=True):
    """``||``: true at the first item that is true."""

    items: tuple[Checked, ...]


class Choice(Checked, frozen=True):
    """``test ? yes : no``"""

    test: Checked
    yes: Checked
    no: Checked


class Items(Checked, frozen=True):
    """A list written out."""

    items: tuple[Checked, ...]


class Each(Checked, frozen=True):
    """A macro: *body* (and for ``map`` perhaps *test*) looked at for each item of a list."""

    macro: OneOf["all", "exists", "exists_one", "filter", "map", "sum"]
    items: Checked
    variable: str
    body: Checked
    test: Checked | None


def below(node: Checked) -> tuple[Checked, ...]:
    """The nodes directly below."""
    found = _BELOW.get(type(node))
    return () if found is None else found(node)


#: By the kind of node: building a rule set asks this more often than anything else.
_BELOW: Mapping[type[Checked], Callable[[Any], tuple[Checked, ...]]] = {
    Field: lambda node: (node.target,),
    Entry: lambda node: (node.target, node.key),
    Element: lambda node: (node.target, node.index),
    Apply: lambda node: node.arguments,
    Both: lambda node: node.items,
    Either: lambda node: node.items,
    Items: lambda node: node.items,
    Choice: lambda node: (node.test, node.yes, node.no),
    Each: lambda node: (node.items, node.body) if node.test is None else (node.items, node.test, node.body),
}


def walk(node: Checked) -> Iterator[Checked]:
    """The node and everything below it, from left to right."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(below(node)[::-1])


def path_of(node: Checked) -> str | None:
    """``member.tier`` for a chain of fields and constant keys that begins at a name, else None."""
    match node:
        case Fact(name=name) | Variable(name=name):
            return name
        case Field(target=target, name=name):
            before = path_of(target)
            return None if before is None else f"{before}.{name}"
        case Entry(target=target, key=Constant(value=key)):
            before = path_of(target)
            plain = key.isascii() and key.isidentifier()
            return None if before is None else f"{before}.{key}" if plain else f"{before}[{tree.quote(key)}]"
        case Element(target=target, index=Constant(value=index)):
            before = path_of(target)
            return None if before is None else f"{before}[{index}]"
    return None
