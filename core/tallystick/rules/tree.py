"""The tree of a rule as it was written; `unparse` writes it back in one canonical form."""

from __future__ import annotations

from typing import Literal as OneOf

from msgspec import Struct
from msgspec.structs import astuple


class Node(Struct, frozen=True, kw_only=True, eq=False):
    """A place in a rule's text. Two nodes are equal if they say the same, wherever they stand."""

    #: Offset of the first character that belongs to this node (for an operator: of the operator).
    at: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and type(self) is type(other) and astuple(self)[:-1] == astuple(other)[:-1]

    def __hash__(self) -> int:  # of all fields but the last, which is `at`
        return hash((type(self), astuple(self)[:-1]))


class Literal(Node, frozen=True):
    """An int, a string, true, false or null."""

    value: int | str | bool | None

    def __eq__(self, other: object) -> bool:  # 1 == True in Python, not in a rule
        return isinstance(other, Literal) and type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


class Name(Node, frozen=True):
    """A name of the scope, or the variable of a macro."""

    name: str


class Member(Node, frozen=True):
    """``target.name``"""

    target: Node
    name: str


class Index(Node, frozen=True):
    """``target[index]``"""

    target: Node
    index: Node


class Call(Node, frozen=True):
    """``name(arguments)`` or ``target.name(arguments)``; macros are calls too until the checker has seen them."""

    name: str
    target: Node | None
    arguments: tuple[Node, ...]


class Unary(Node, frozen=True):
    """``!operand`` or ``-operand``"""

    operator: OneOf["!", "-"]
    operand: Node


class Binary(Node, frozen=True):
    """Arithmetic, comparison or ``in``."""

    operator: str
    left: Node
    right: Node


class Logic(Node, frozen=True):
    """Two or more items joined by the same ``&&`` or ``||``; nested joins of the same kind are flattened."""

    operator: OneOf["&&", "||"]
    items: tuple[Node, ...]


class Conditional(Node, frozen=True):
    """``test ? yes : no``"""

    test: Node
    yes: Node
    no: Node


class ListNode(Node, frozen=True):
    """``[items]``"""

    items: tuple[Node, ...]


_CONDITIONAL, _OR, _AND, _RELATION, _SUM, _PRODUCT, _UNARY, _MEMBER = range(8)
_STRENGTH = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def unparse(node: Node) -> str:
    """The canonical text: parsing it gives the same tree, and unparsing that the same text."""
    return _write(node, _CONDITIONAL)


def _write(node: Node, weakest: int) -> str:
    text, strength = _text(node)
    return text if strength >= weakest else f"({text})"


def _text(node: Node) -> tuple[str, int]:
    match node:
        case Literal(value=value):
            return quote(value), _UNARY if type(value) is int and value < 0 else _MEMBER
        case Name(name=name):
            return name, _MEMBER
        case Member(target=target, name=name):
            return f"{_write(target, _MEMBER)}.{name}", _MEMBER
        case Index(target=target, index=index):
            return f"{_write(target, _MEMBER)}[{unparse(index)}]", _MEMBER
        case Call(name=name, target=target, arguments=arguments):
            before = "" if target is None else f"{_write(target, _MEMBER)}."
            return f"{before}{name}({', '.join(map(unparse, arguments))})", _MEMBER
        case ListNode(items=items):
            return f"[{', '.join(map(unparse, items))}]", _MEMBER
        case Unary(operator=operator, operand=operand):
            return f"{operator}{_write(operand, _UNARY)}", _UNARY
        case Binary(operator=operator, left=left, right=right):
            strength = _STRENGTH.get(operator, _RELATION)
            return f"{_write(left, strength)} {operator} {_write(right, strength + 1)}", strength
        case Logic(operator=operator, items=items):
            strength = _AND if operator == "&&" else _OR
            return f" {operator} ".join(_write(item, strength + 1) for item in items), strength
        case Conditional(test=test, yes=yes, no=no):
            return f"{_write(test, _OR)} ? {_write(yes, _OR)} : {_write(no, _CONDITIONAL)}", _CONDITIONAL
    raise AssertionError(node)


def quote(value: int | str | bool | None) -> str:
    """A literal as it is written in a rule."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
    return '"' + "".join(_ESCAPES.get(each, each) if each.isprintable() else _escape(each) for each in value) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
