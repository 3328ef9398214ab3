"""Text to tree: the lexer and the parser of the rule language, a subset of CEL.

Both are bounded before they start: a text has at most `MAX_LENGTH` characters, a tree at most `MAX_DEPTH` levels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, NoReturn

from tallystick.errors import InvalidRule
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
)

#: Characters of one expression.
MAX_LENGTH = 4_096
#: Levels of one tree; an `&&` or `||` of any number of items is one level.
MAX_DEPTH = 32

#: Characters of a text whose tree is remembered.
_REMEMBERED_LENGTH = 512
_INT_MAX = 2**63 - 1
_RESERVED = frozenset(
    "as break const continue else for function if import let loop package namespace return var void while".split()
)
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_STRENGTHS = {
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 1),
    **dict.fromkeys(("+", "-"), 2),
    **dict.fromkeys(("*", "/", "%"), 3),
}
# No alternative can match the empty text or what another one begins, so the lexer never goes back.
_TOKEN = re.compile(
    r"""
    (?P<space>(?:[ \t\r\n]+|//[^\n]*)+)
  | (?P<float>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
  | (?P<int>0[xX][0-9a-fA-F]+|[0-9]+)
  | (?P<string>[rRbB]{0,2}(?:"|'))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]])
    """,
    re.VERBOSE,
)
_SIMPLE_ESCAPES = {
    "\\": "\\", "'": "'", '"': '"', "`": "`", "?": "?",
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip
_CODE_ESCAPES = {"x": 2, "X": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True)
class Source:
    """A rule's text and the place it was read from, so that an error can point into the file the merchant edits."""

    text: str
    file: str = ""
    line: int = 1
    column: int = 1

    def error(self, at: int, message: str, **details: Any) -> InvalidRule:
        """The error for the character at offset *at*: place, message and an excerpt with a caret under it."""
        before = self.text[:at]
        row = before.count("\n")
        start = before.rfind("\n") + 1
        column = at - start
        excerpt = self.text[start:].split("\n", 1)[0]
        first = max(0, column - 70)
        shown = "".join(each if each.isprintable() else " " for each in excerpt[first : first + 110])
        return InvalidRule(
            f"{message}\n    {shown}\n    {' ' * (column - first)}^",
            file=self.file,
            line=self.line + row,
            column=(self.column if row == 0 else 1) + column,
            **details,
        )


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    at: int
    value: int | str | None = None


def parse(text: str, *, file: str = "", line: int = 1, column: int = 1) -> Node:
    """The tree of one expression. *file*, *line* and *column* say where its first character stands.

    Raises `InvalidRule` with place, reason and a caret under the place.
    """
    return parse_source(Source(text, file, line, column))


def parse_source(source: Source) -> Node:
    """As `parse`, for a text whose place is known."""
    if len(source.text) > MAX_LENGTH:
        raise source.error(MAX_LENGTH, f"this rule has {len(source.text)} characters; the limit is {MAX_LENGTH}")
    if len(source.text) <= _REMEMBERED_LENGTH:
        try:
            return remembered_trees(source.text)
        except InvalidRule:
            pass  # said again below, with the place
    return _Parser(source).whole()


@lru_cache(maxsize=2_048)
def remembered_trees(text: str) -> Node:
    """A tree says nothing of the file it was read from, so equal texts share one: most of a new set was in the old one."""
    return _Parser(Source(text)).whole()


class _Parser:
    """Recursive descent, one method per level of binding strength, weakest first."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens = _tokens(source)
        self.position = 0
        self.level = 0

    def whole(self) -> Node:
        if self.tokens[0].kind == "end":
            self.fail("an expression is expected here")
        node = self.expression()
        if self.token.kind != "end":
            raise self.unexpected("an operator or the end")
        _check_depth(node, self.source)
        return node

    # --- tokens

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def take(self) -> _Token:
        token = self.tokens[self.position]
        self.position += 1
        return token

    def sees(self, *texts: str) -> bool:
        return self.tokens[self.position].text in texts  # the text of a string has its quotes

    def expect(self, text: str) -> _Token:
        if not self.sees(text):
            raise self.unexpected(f"`{text}`")
        return self.take()

    def fail(self, message: str, at: int | None = None, **details: object) -> NoReturn:
        raise self.source.error(self.token.at if at is None else at, message, **details)

    def unexpected(self, wanted: str) -> InvalidRule:
        found = "the end of the rule" if self.token.kind == "end" else f"`{self.token.text[:60]}`"
        message = f"{wanted} is expected here, found {found}"
        return self.source.error(self.token.at, message, expected=wanted, found=found)

    # --- levels

    def expression(self) -> Node:
        self.level += 1
        if self.level > MAX_DEPTH:
            self.fail(f"this rule is nested more than {MAX_DEPTH} levels deep")
        test = self.logic("||")
        if self.sees("?"):
            at = self.take().at
            yes = self.logic("||")
            self.expect(":")
            test = Conditional(test, yes, self.expression(), at=at)
        self.level -= 1
        return test

    def logic(self, operator: str) -> Node:
        below = self.comparison if operator == "&&" else self.conjunction
        first = below()
        if not self.sees(operator):
            return first
        at, items = self.token.at, list(_flat(first, operator))
        while self.sees(operator):
            self.take()
            items += _flat(below(), operator)
        return Logic(operator, tuple(items), at=at)  # type: ignore[arg-type]

    def conjunction(self) -> Node:
        return self.logic("&&")

    def comparison(self) -> Node:
        return self.binary(1)

    def binary(self, weakest: int) -> Node:
        """Operators that bind as strongly as *weakest* or more, each taking what stands to its left."""
        left = self.unary()
        while (strength := _STRENGTHS.get(self.tokens[self.position].text, 0)) >= weakest:
            token = self.take()
            left = Binary(token.text, left, self.binary(strength + 1), at=token.at)
        return left

    def unary(self) -> Node:
        signs: list[_Token] = []
        while self.sees("!", "-"):
            signs.append(self.take())
            if len(signs) > MAX_DEPTH:
                self.fail(f"more than {MAX_DEPTH} signs in a row")
        # The smallest int has no positive twin, so its sign belongs to the literal.
        negative = bool(signs) and signs[-1].text == "-" and self.token.kind == "int"
        node = self.member(negative)
        for sign in reversed(signs):
            if sign.text == "-" and isinstance(node, Literal) and type(node.value) is int:
                node = Literal(-node.value, at=sign.at)
            else:
                node = Unary(sign.text, node, at=sign.at)  # type: ignore[arg-type]
        if isinstance(node, Literal) and type(node.value) is int and node.value > _INT_MAX:
            self.fail("this number needs more than 64 bits", node.at)
        return node

    def member(self, negative: bool = False) -> Node:
        node = self.primary(negative)
        while self.sees(".", "["):
            if negative and isinstance(node, Literal) and node.value == _INT_MAX + 1:
                self.fail("this number needs more than 64 bits", node.at)
            token = self.take()
            if token.text == "[":
                node = Index(node, self.expression(), at=token.at)
                self.expect("]")
                continue
            name = self.identifier("a field or function name")
            if self.sees("("):
                node = Call(name.text, node, self.arguments(")"), at=name.at)
            else:
                node = Member(node, name.text, at=name.at)
        return node

    def primary(self, negative: bool = False) -> Node:
        token = self.token
        if token.kind == "int":
            value = token.value
            assert isinstance(value, int)
            if value > _INT_MAX + negative:
                self.fail("this number needs more than 64 bits")
            return Literal(value, at=self.take().at)
        if token.kind == "string":
            return Literal(token.value, at=self.take().at)
        if token.kind == "name" and token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text], at=self.take().at)
        if token.kind == "name":
            name = self.identifier("a value")
            if self.sees("("):
                return Call(name.text, None, self.arguments(")"), at=name.at)
            return Name(name.text, at=name.at)
        if self.sees("("):
            self.take()
            node = self.expression()
            self.expect(")")
            return node
        if self.sees("["):
            return ListNode(self.arguments("]"), at=token.at)
        raise self.unexpected("a value")

    def arguments(self, end: str) -> tuple[Node, ...]:
        self.take()
        items: list[Node] = []
        while not self.sees(end):
            items.append(self.expression())
            if not self.sees(end):
                self.expect(",")
                if self.sees(end) and end == ")":
                    raise self.unexpected("another argument")
        self.take()
        return tuple(items)

    def identifier(self, wanted: str) -> _Token:
        token = self.token
        if token.kind != "name" or token.text == "in" or token.text in _CONSTANTS:
            raise self.unexpected(wanted)
        if token.text in _RESERVED:
            self.fail(f"`{token.text}` is a reserved word and cannot be a name")
        if token.text.startswith("_"):
            self.fail("a name cannot begin with an underscore")
        return self.take()


def _flat(node: Node, operator: str) -> tuple[Node, ...]:
    return node.items if isinstance(node, Logic) and node.operator == operator else (node,)


def _check_depth(root: Node, source: Source) -> None:
    """Chains such as a + b + c nest without parentheses; bound them too, so that every later walk may recurse."""
    waiting: list[tuple[Node, int]] = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH * 2:
            raise source.error(node.at, f"this rule is nested more than {MAX_DEPTH * 2} levels deep")
        waiting += [(child, depth + 1) for child in children(node)]


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below."""
    match node:
        case Member(target=target):
            return (target,)
        case Index(target=target, index=index):
            return (target, index)
        case Call(target=target, arguments=arguments):
            return arguments if target is None else (target, *arguments)
        case Unary(operand=operand):
            return (operand,)
        case Binary(left=left, right=right):
            return (left, right)
        case Logic(items=items) | ListNode(items=items):
            return items
        case Conditional(test=test, yes=yes, no=no):
            return (test, yes, no)
    return ()


def _tokens(source: Source) -> list[_Token]:
    text, at = source.text, 0
    tokens: list[_Token] = []
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _bad_character(source, at)
        kind, piece, start = found.lastgroup, found[0], at
        at = found.end()
        match kind:
            case "space":
                continue
            case "float":
                if piece[0] == "." and tokens and (tokens[-1].kind == "name" or tokens[-1].text in (")", "]")):
                    tokens.append(_Token("sign", ".", start))  # a.5: no number, a field that cannot be
                    at = start + 1
                    continue
                hint = _exact(piece)
                raise source.error(
                    start,
                    f"{piece[:60]} is a floating-point number, which cannot hold money exactly; write {hint}",
                    hint=hint,
                )
            case "int":
                if at < len(text) and ((text[at].isascii() and text[at].isalnum()) or text[at] == "_"):
                    raise source.error(
                        start, "a number is followed by letters; put a space or an operator between them"
                    )
                value = int(piece, 16) if piece[:2] in ("0x", "0X") else int(piece)
                tokens.append(_Token("int", piece, start, value))
            case "string":
                value_text, at = _string(source, start, piece)
                tokens.append(_Token("string", text[start:at], start, value_text))
            case _:
                assert kind is not None
                tokens.append(_Token(kind, piece, start))
    tokens.append(_Token("end", "", len(text)))
    return tokens


def _exact(piece: str) -> str:
    """How a floating-point literal is written as a decimal, if it is one that can be written."""
    digits, _, power = piece.lower().partition("e")
    if len(digits) > 20 or len(power) > 3 or abs(int(power or 0)) > 18:
        return 'decimal("1.25")'
    return f'decimal("{Decimal(piece):f}")'


def _bad_character(source: Source, at: int) -> InvalidRule:
    character = source.text[at]
    hints = {
        "=": "write == to compare",
        "&": "write && for and",
        "|": "write || for or",
        "{": "maps cannot be written here",
    }
    hint = hints.get(character)
    if hint:
        return source.error(at, f"`{character}` is not an operator here; {hint}", hint=hint)
    if character.isprintable() and not character.isascii():
        return source.error(
            at, f"U+{ord(character):04X} `{character}` cannot be part of a name; names are plain ASCII letters"
        )
    return source.error(at, f"a character that does not belong here: U+{ord(character):04X}")


def _string(source: Source, start: int, opening: str) -> tuple[str, int]:
    """The value of a quoted text and the offset behind its closing quote."""
    text, quote, prefix = source.text, opening[-1], opening[:-1].lower()
    at = start + len(opening)
    if "b" in prefix or len(prefix) > 1:
        raise source.error(start, "byte strings are not part of the rule language; write a plain string")
    if text[at : at + 2] == quote * 2:
        raise source.error(
            start, "triple quotes are not part of the rule language; write one quote and \\n for a new line"
        )
    parts: list[str] = []
    while True:
        if at >= len(text) or text[at] == "\n":
            raise source.error(start, f"this string has no closing {quote}")
        character = text[at]
        if character == quote:
            return "".join(parts), at + 1
        if character != "\\" or prefix == "r":
            if "\ud800" <= character <= "\udfff":
                raise source.error(at, "half a surrogate pair is not a character")
            parts.append(character)
            at += 1
            continue
        piece, at = _escape(source, at)
        parts.append(piece)


def _escape(source: Source, at: int) -> tuple[str, int]:
    letter = source.text[at + 1 : at + 2]
    if letter in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[letter], at + 2
    if letter in _CODE_ESCAPES:
        start, digits, base = at + 2, _CODE_ESCAPES[letter], 16
    elif letter in ("0", "1", "2", "3"):
        start, digits, base = at + 1, 3, 8
    else:
        raise source.error(at, f"`\\{letter}` is not an escape; write \\\\ for a backslash")
    code = source.text[start : start + digits]
    allowed = "01234567" if base == 8 else "0123456789abcdefABCDEF"
    if len(code) < digits or any(each not in allowed for each in code):
        raise source.error(at, f"`\\{letter}` needs {digits} digits")
    number = int(code, base)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise source.error(at, "this escape is not a character")
    return chr(number), start + digits
