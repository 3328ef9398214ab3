"""A set of rules, compiled into one function that answers which of them fire and with what numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tallystick.errors import InvalidRule
from tallystick.rules.check import Typed, names
from tallystick.rules.fuse import fuse
from tallystick.rules.interpret import Changed, interpret, total
from tallystick.rules.rule import USUAL, Firing, Places, Rule, RuleText, checked_rule, lines_of
from tallystick.rules.scope import Scope
from tallystick.rules.types import INT

#: Rules in one set.
MAX_RULES = 10_000


class RuleSet:
    """Checked rules in their order, and the one function that answers which of them fire.

    ``fire(event=..., purchase=..., member=...)`` takes the names of the scope (None where not given) and returns the firings in
    the order of the rules. It raises nothing for facts within their declared types.
    """

    def __init__(self, rules: Sequence[Rule], scope: Scope, places: Places, lines: Typed | None) -> None:
        self.rules = tuple(rules)
        self.scope = scope
        self.places = places
        #: The expression of the list of lines, if the scope has one.
        self.lines = lines
        self.fire: Callable[..., list[Firing]] = fuse(self.rules, scope, places, lines)

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __getitem__(self, number: int) -> Rule:
        return self.rules[number]

    def named(self, name: str) -> int:
        """The number of the rule of that name; KeyError if there is none."""
        for number, rule in enumerate(self.rules):
            if rule.name == name:
                return number
        raise KeyError(name)

    @property
    def source(self) -> str:
        """The generated Python."""
        text: str = self.fire.__dict__["source"]
        return text

    @property
    def names(self) -> frozenset[str]:
        """The dotted paths of all facts the rules read, to derive what must be loaded."""
        found: set[str] = set()
        for rule in self.rules:
            for _, part in rule.parts:
                found |= names(part)
            if rule.counts and self.lines is not None:
                found |= names(self.lines)
        own = (self.places.line, "basis", "matched")
        return frozenset(path for path in found if path.split(".")[0].split("[")[0] not in own)

    def interpret(self, **values: Any) -> list[Firing]:
        """What `fire` answers, read plainly from the tree: the oracle."""
        found = (self.judge(number, values) for number in range(len(self.rules)))
        return [firing for firing in found if firing is not None]

    def judge(self, number: int, values: Mapping[str, Any], changed: Changed | None = None) -> Firing | None:
        """Whether one rule fires, by the interpreter; *changed* asks what would be if some facts were other."""
        rule = self.rules[number]
        if any(values.get(name) is None for name in rule.given) or not interpret(rule.when, values, changed):
            return None
        counted: tuple[tuple[int, int], ...] = ()
        if rule.counts:
            counted = self.counted(rule, values, changed)
            if not counted:
                return None
        basis = total((amount for _, amount in counted), INT)
        value = None
        if rule.value is not None:
            value = interpret(rule.value, {**values, "basis": basis, "matched": len(counted)}, changed)
        return Firing(number, value, basis, counted)

    def counted(
        self, rule: Rule, values: Mapping[str, Any], changed: Changed | None = None
    ) -> tuple[tuple[int, int], ...]:
        """The lines the rule counts, each with its number and what it brings."""
        assert self.lines is not None
        found = []
        for number, line in enumerate(interpret(self.lines, values)):
            around = {**values, self.places.line: line}
            if rule.lines is None or interpret(rule.lines, around, changed):
                found.append((number, interpret(rule.basis, around, changed) if rule.basis is not None else 0))
        return tuple(found)


def compile_rules(rules: Sequence[RuleText], scope: Scope, *, places: Places = USUAL) -> RuleSet:
    """Check all *rules* and compile them into one `RuleSet`.

    Raises `InvalidRule` for the first mistake; `check_rules` lists all of them.
    """
    problems: list[InvalidRule] = []
    checked = _checked(rules, scope, places, problems)
    if problems:
        raise problems[0]
    return RuleSet(checked, scope, places, lines_of(scope, places))


def check_rules(rules: Sequence[RuleText], scope: Scope, *, places: Places = USUAL) -> list[InvalidRule]:
    """Every mistake in *rules*, at most one per text."""
    problems: list[InvalidRule] = []
    _checked(rules, scope, places, problems)
    return problems


def _checked(rules: Sequence[RuleText], scope: Scope, places: Places, problems: list[InvalidRule]) -> list[Rule]:
    if len(rules) > MAX_RULES:
        problems.append(InvalidRule(f"a set has at most {MAX_RULES:,} rules, found {len(rules):,}"))
        return []
    lines, seen, found = lines_of(scope, places), set[str](), []
    for rule in rules:
        if rule.name in seen:
            problems.append(InvalidRule(f"there are two rules called {rule.name!r}", file=rule.file, rule=rule.name))
        seen.add(rule.name)
        checked = checked_rule(rule, scope, places, lines, problems)
        if checked is not None:
            found.append(checked)
    return found
