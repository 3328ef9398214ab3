"""One rule: a condition, the lines it counts, what each line is worth, and a value; as text and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tallystick.errors import InvalidRule
from tallystick.rules.check import Typed, check_source
from tallystick.rules.parse import Source, children, parse_source
from tallystick.rules.scope import Scope
from tallystick.rules.tree import Binary, Literal, Name, Node
from tallystick.rules.types import BOOL, INT, INT_MAX, INT_MIN, Fixed, Int, ListOf, Object, Optional, Type, strip


class RuleText(msgspec.Struct, frozen=True, kw_only=False, forbid_unknown_fields=True):
    """One rule as a merchant writes it.

    The rule fires if *when* holds and, if it is about lines, at least one line counts.
    """

    name: str
    #: bool: whether the rule applies at all.
    when: str = "true"
    #: bool per ``line``: which lines count. None: all of them.
    lines: str | None = None
    #: int per ``line``: what one counted line brings into the sum ``basis``. None: the rule has no basis.
    basis: str | None = None
    #: int or decimal; may also name ``basis`` (the sum) and ``matched`` (how many lines count). None: the rule only says yes.
    value: str | None = None
    file: str = ""
    #: Line and column where each of the four texts begins in the file, by its name.
    places: Mapping[str, tuple[int, int]] = {}


class Firing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """That a rule fired, and the numbers it was made of."""

    #: Its number in the set.
    rule: int
    #: What its ``value`` came to; None if it has none.
    value: Any
    #: The sum over the counted lines; 0 if the rule has no basis.
    basis: int
    #: (number of the line, what it brought) for each counted line; empty if the rule is not about lines.
    lines: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked rule."""

    name: str
    when: Typed
    lines: Typed | None
    basis: Typed | None
    value: Typed | None
    #: Names that may be null and that the rule takes for granted: where one is null, the rule is not asked.
    given: frozenset[str]
    #: Whether it counts lines.
    counts: bool

    @property
    def parts(self) -> Iterator[tuple[str, Typed]]:
        """Its texts by their name, those it has."""
        for name in ("when", "lines", "basis", "value"):
            part = getattr(self, name)
            if part is not None:
                yield name, part


@dataclass(frozen=True, slots=True)
class Places:
    """Where a rule set finds the lines: the path of the list, and the name of one line inside rules."""

    lines: str = "purchase.lines"
    line: str = "line"


#: Where the core's purchases have their lines.
USUAL = Places()


def lines_of(scope: Scope, places: Places) -> Typed | None:
    """The expression of the list of lines, if the scope has one."""
    root = places.lines.split(".")[0]
    if root not in scope.names:
        return None
    given = (root,) if isinstance(scope.names[root], Optional) else ()
    return check_source(Source(places.lines), scope, given=given)


def checked_rule(
    text: RuleText, scope: Scope, places: Places, lines: Typed | None, problems: list[InvalidRule]
) -> Rule | None:
    """The checked rule, or None after its mistakes have been added to *problems*."""
    return _Draft(text, scope, places, lines, problems).checked()


class _Draft:
    """One rule on its way through the checker."""

    def __init__(
        self, text: RuleText, scope: Scope, places: Places, lines: Typed | None, problems: list[InvalidRule]
    ) -> None:
        self.text, self.scope, self.places, self.lines, self.problems = text, scope, places, lines, problems
        self.failed = False
        self.nodes = {name: self.parsed(name) for name in ("when", "lines", "basis", "value")}

    def source(self, part: str) -> Source:
        line, column = self.text.places.get(part, (1, 1))
        return Source(getattr(self.text, part), self.text.file, line, column)

    def refuse(self, part: str, problem: InvalidRule) -> None:
        self.failed = True
        self.problems.append(
            InvalidRule(
                f"rule {self.text.name!r}, {part}: {problem.reason}",
                file=problem.file,
                line=problem.line,
                column=problem.column,
                **{**problem.details, "rule": self.text.name, "part": part},
            )
        )

    def parsed(self, part: str) -> Node | None:
        if getattr(self.text, part) is None:
            return None
        try:
            return parse_source(self.source(part))
        except InvalidRule as problem:
            self.refuse(part, problem)
            return None

    def checked(self) -> Rule | None:
        nodes = self.nodes
        named, asked = set[str](), set[str]()
        for part, node in nodes.items():
            if node is not None:
                _gather(node, named, asked if part == "when" else set())
        counts = nodes["lines"] is not None or nodes["basis"] is not None or "matched" in named
        if counts and not self.has_lines():
            return None
        if counts:
            named.add(self.places.lines.split(".")[0])
        optional = {name for name, kind in self.scope.names.items() if isinstance(kind, Optional)}
        given = frozenset(optional & named - asked)

        when = self.part("when", self.scope, given, BOOL)
        if counts:  # where there are no lines none counts, whatever the condition asks
            given |= optional & {self.places.lines.split(".")[0]}
        inside, whole = self.scope, self.scope
        if counts:
            assert self.lines is not None and isinstance(self.lines.type, ListOf)
            inside = self.scope.but(**{self.places.line: self.lines.type.element})
        lines = self.part("lines", inside, given, BOOL)
        basis = self.part("basis", inside, given, INT)
        if counts:
            whole = self.scope.but(**self.sums(basis))
        value = self.part("value", whole, given, None)
        if value is not None and not isinstance(value.type, Int | Fixed):
            missing = isinstance(value.type, Optional) and isinstance(strip(value.type), Int | Fixed)
            hint = "; put something in the place of null: `(...).orValue(0)`" if missing else ""
            self.refuse(
                "value",
                value.source.error(value.node.at, f"a value is an int or a decimal, found {value.type}{hint}"),
            )
        if self.failed or when is None:
            return None
        return Rule(self.text.name, when, lines, basis, value, given, counts)

    def has_lines(self) -> bool:
        if (
            self.lines is not None
            and isinstance(self.lines.type, ListOf)
            and isinstance(self.lines.type.element, Object)
        ):
            return True
        part = "lines" if self.text.lines is not None else "basis" if self.text.basis is not None else "value"
        self.refuse(part, self.source(part).error(0, f"there are no lines here: this scope has no {self.places.lines}"))
        return False

    def sums(self, basis: Typed | None) -> dict[str, Type]:
        assert self.lines is not None and isinstance(self.lines.type, ListOf)
        most, names_ = self.lines.type.most, {"matched": Int(1, self.lines.type.most)}
        if basis is None or not isinstance(basis.type, Int):
            return {**names_}
        low, high = min(basis.type.low, basis.type.low * most), max(basis.type.high, basis.type.high * most)
        if low < INT_MIN or high > INT_MAX:
            self.refuse(
                "basis", basis.source.error(basis.node.at, f"the sum over {most} lines can need more than 64 bits")
            )
        return {**names_, "basis": Int(max(low, INT_MIN), min(high, INT_MAX))}

    def part(self, name: str, scope: Scope, given: frozenset[str], expected: Type | None) -> Typed | None:
        node = self.nodes[name]
        if node is None:
            return None
        try:
            return check_source(self.source(name), scope, expected, given=given, node=node)
        except InvalidRule as problem:
            self.refuse(name, problem)
            return None


def _gather(root: Node, named: set[str], asked: set[str]) -> None:
    """Add the names that stand in the tree, and those that it compares with null."""
    waiting = [root]
    while waiting:
        match node := waiting.pop():
            case Name(name=name):
                named.add(name)
            case Literal():
                pass
            case Binary(operator="==" | "!=", left=Name(name=name), right=Literal(value=None)):
                named.add(name)
                asked.add(name)
            case Binary(operator="==" | "!=", left=Literal(value=None), right=Name(name=name)):
                named.add(name)
                asked.add(name)
            case _:
                waiting += children(node)
