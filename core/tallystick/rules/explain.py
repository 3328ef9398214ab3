"""Why a rule fired, why another did not, and the smallest change of one fact that would have made it fire.

Answers are data; `sentence` writes each in English or Chinese. "What would it take" is proved by evaluating the rule: with the change
it fires, and with one unit less it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import singledispatch
from typing import Any

from tallystick.rules import clock
from tallystick.rules.aloud import ENGLISH, Wording, phrase
from tallystick.rules.check import Typed
from tallystick.rules.interpret import value_of
from tallystick.rules.ruleset import RuleSet
from tallystick.rules.tree import unparse
from tallystick.rules.typed import (
    Apply,
    Both,
    Checked,
    Constant,
    Each,
    Either,
    Items,
    Variable,
    path_of,
    walk,
)
from tallystick.rules.types import BOOL, DATE, TIMESTAMP, Fixed, Int, ListOf, MapOf, Object, String, Type, strip

#: Rules evaluated at most to answer one "what would it take".
MAX_TRIALS = 20_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What one fact was."""

    #: The expression, canonical: a path, or a sum over lines.
    text: str
    value: Any
    node: Checked | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Why:
    """A rule fired, and the numbers that made its value."""

    rule: str
    value: Any
    basis: int
    #: (number of the line, counted from 0, what it brought)
    lines: tuple[tuple[int, int], ...]
    #: What its condition read.
    facts: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class WhyNot:
    """A rule did not fire: the first condition that failed, and what it read."""

    rule: str
    #: "given": a name it takes for granted is null; "when": the condition; "lines": no line counts.
    part: str
    #: The condition that failed, as it is written.
    text: str
    facts: tuple[Reading, ...]
    node: Checked | None


@dataclass(frozen=True, slots=True)
class Change:
    """Were this one fact so, the rule would fire."""

    rule: str
    text: str
    found: Any
    needed: Any
    #: ``needed - found`` where that makes sense; one unit less does not do.
    by: Any
    #: The number of the line whose fact this is, else None.
    line: int | None = None
    node: Checked | None = field(default=None, compare=False, repr=False)


def why(rules: RuleSet, values: Mapping[str, Any]) -> list[Why]:
    """Each rule that fires for these facts, in order."""
    found = []
    for firing in rules.interpret(**values):
        rule = rules[firing.rule]
        facts = tuple(_readings(rule.when.root, rule.when, values))
        found.append(Why(rule.name, firing.value, firing.basis, firing.lines, facts))
    return found


def whynot(rules: RuleSet, name: str, values: Mapping[str, Any]) -> WhyNot | None:
    """The first condition of the rule that fails for these facts; None if it fires. KeyError if there is no such rule."""
    number = rules.named(name)
    if rules.judge(number, values) is not None:
        return None
    rule = rules[number]
    for needed in sorted(rule.given):
        if values.get(needed) is None:
            return WhyNot(name, "given", f"{needed} != null", (Reading(needed, None),), None)
    if not _true(rule.when.root, rule.when, values):
        node = _first_failing(rule.when.root, rule.when, values)
        return WhyNot(name, "when", unparse(node.source), tuple(_readings(node, rule.when, values)), node)
    if rule.lines is None:
        return WhyNot(name, "lines", rules.places.lines, (), None)
    return WhyNot(name, "lines", rule.lines.text, tuple(_line_readings(rules, number, values)), rule.lines.root)


def what_would_it_take(rules: RuleSet, name: str, values: Mapping[str, Any]) -> list[Change]:
    """Changes of one fact that make the rule fire, each the smallest of its kind, the smallest of all first.

    Numbers, times and durations are searched outwards from what they are; texts and flags are tried against what the rule asks
    for. Empty if the rule fires already, or if no change of a single fact does it.
    """
    number = rules.named(name)
    rule = rules[number]
    if rules.judge(number, values) is not None or any(values.get(each) is None for each in rule.given):
        return []
    trials = _Trials(rules, number, values)
    facts = {unparse(node.source): node for node in _changeable(rule.when.root)}
    found = [replace(change, node=node) for node in facts.values() if (change := trials.when(node)) is not None]
    if rule.lines is not None and _true(rule.when.root, rule.when, values):
        found += trials.lines(rule.lines)
    return sorted(found, key=_size)


def sentence(answer: Why | WhyNot | Change, wording: Wording = ENGLISH) -> str:
    """The answer in words."""
    return _sentence(answer, wording)


def readings(facts: tuple[Reading, ...], wording: Wording = ENGLISH) -> str:
    """What facts were, in words."""
    return _facts(facts, wording)


# --- sentences -----------------------------------------------------------------------------------------------------


@singledispatch
def _sentence(answer: object, wording: Wording) -> str:
    raise TypeError(answer, wording)


@_sentence.register
def _(answer: Why, wording: Wording) -> str:
    parts = []
    if answer.lines:
        each = wording.pick(", ", "，").join(
            wording.pick(
                f"line {n + 1}: {wording.value(amount, 'basis')}", f"第{n + 1}行：{wording.value(amount, 'basis')}"
            )
            for n, amount in answer.lines
        )
        basis = wording.value(answer.basis, "basis")
        parts.append(wording.pick(f"it counted {basis} ({each})", f"计入{basis}（{each}）"))
    elif answer.facts:
        parts.append(_facts(answer.facts, wording))
    if answer.value is not None:
        value = wording.value(answer.value, "value")
        parts.append(wording.pick(f"it gave {value}", f"得{value}"))
    tail = wording.pick("; ", "；").join(parts)
    return wording.pick(
        f"{answer.rule} fired: {tail}." if tail else f"{answer.rule} fired.",
        f"{answer.rule} 已触发：{tail}。" if tail else f"{answer.rule} 已触发。",
    )


@_sentence.register
def _(answer: WhyNot, wording: Wording) -> str:
    if answer.part == "given":
        fact = wording.label(answer.facts[0].text)
        return wording.pick(f"{answer.rule} did not fire: there is no {fact}.", f"{answer.rule} 未触发：没有{fact}。")
    if answer.part == "lines":
        if answer.node is None:
            return wording.pick(
                f"{answer.rule} did not fire: there are no lines.", f"{answer.rule} 未触发：没有商品行。"
            )
        wanted = phrase(answer.node, wording)
        return wording.pick(
            f"{answer.rule} did not fire: for no line, {wanted}.", f"{answer.rule} 未触发：没有一行满足“{wanted}”。"
        )
    assert answer.node is not None
    wanted, facts = phrase(answer.node, wording), _facts(answer.facts, wording)
    return wording.pick(
        f"{answer.rule} did not fire: it needs that {wanted}" + (f"; {facts}." if facts else "."),
        f"{answer.rule} 未触发：需要{wanted}" + (f"；{facts}。" if facts else "。"),
    )


@_sentence.register
def _(answer: Change, wording: Wording) -> str:
    label = _called(answer, wording)
    if answer.line is not None:
        label += wording.pick(f" of line {answer.line + 1}", f"（第{answer.line + 1}行）")
    needed = wording.value(answer.needed, answer.text)
    more = "" if answer.by is None else _difference(answer, wording)
    return wording.pick(
        f"{answer.rule} would fire if {label} were {needed}{more}.",
        f"如果{label}是{needed}{more}，{answer.rule} 就会触发。",
    )


def _difference(answer: Change, wording: Wording) -> str:
    by, zero = answer.by, type(answer.by)(0) if not isinstance(answer.by, timedelta) else timedelta(0)
    up = by > zero
    amount = wording.length(abs(by)) if isinstance(by, timedelta) else wording.value(abs(by), answer.text)
    if isinstance(answer.needed, date):
        return wording.pick(f" ({amount} {'later' if up else 'earlier'})", f"（{'晚' if up else '早'}{amount}）")
    return wording.pick(f" ({amount} {'more' if up else 'less'})", f"（{'再多' if up else '再少'}{amount}）")


def _called(fact: Reading | Change, wording: Wording) -> str:
    return wording.label(fact.text) if fact.node is None or path_of(fact.node) else phrase(fact.node, wording)


def _facts(facts: tuple[Reading, ...], wording: Wording) -> str:
    shown = (
        f"{_called(each, wording)}{wording.pick(' is ', '现为')}{wording.value(each.value, each.text)}"
        for each in facts
    )
    return wording.pick(", ", "，").join(shown)


# --- reading -------------------------------------------------------------------------------------------------------


def _value(node: Checked, typed: Typed, values: Mapping[str, Any]) -> Any:
    return value_of(node, values, typed.scope.functions)


def _true(node: Checked, typed: Typed, values: Mapping[str, Any]) -> bool:
    return _value(node, typed, values) is True


def _first_failing(node: Checked, typed: Typed, values: Mapping[str, Any]) -> Checked:
    """The first item of an ``&&`` that is false, as deep as it goes."""
    if isinstance(node, Both):
        failing = next(item for item in node.items if not _true(item, typed, values))
        return _first_failing(failing, typed, values)
    return node


def _readings(node: Checked, typed: Typed, values: Mapping[str, Any]) -> Iterator[Reading]:
    """The facts a condition reads, with their values; none behind a guard that is shut."""
    seen: set[str] = set()
    for each in _changeable(node):
        text = unparse(each.source)
        if text not in seen and _reachable(each, typed, values):
            seen.add(text)
            yield Reading(text, _value(each, typed, values), each)


def _reachable(node: Checked, typed: Typed, values: Mapping[str, Any]) -> bool:
    """Whether the objects on the way to the fact are all there."""
    target = getattr(node, "target", None)
    if not isinstance(target, Checked) or not path_of(target):
        return True
    return _reachable(target, typed, values) and _value(target, typed, values) is not None


def _line_readings(rules: RuleSet, number: int, values: Mapping[str, Any]) -> Iterator[Reading]:
    lines = rules[number].lines
    assert rules.lines is not None
    assert lines is not None
    for index, line in enumerate(_value(rules.lines.root, rules.lines, values)):
        around = {**values, rules.places.line: line}
        failing = _first_failing(lines.root, lines, around)
        for reading in _readings(failing, lines, around):
            if reading.text.startswith(rules.places.line):
                yield Reading(
                    f"{rules.places.lines}[{index}]{reading.text.removeprefix(rules.places.line)}", reading.value
                )


def _changeable(node: Checked) -> Iterator[Checked]:
    """The facts of a condition that somebody could imagine otherwise: scalars, lists asked for an item, sums over lines."""
    if isinstance(node, Variable | Constant):
        return
    if (isinstance(node, Each) and node.macro == "sum") or path_of(node) is not None:
        inner = strip(node.type)
        held = inner.element if isinstance(inner, ListOf) else inner
        if not isinstance(strip(held), Object | MapOf) and not _mentions_item(node):
            yield node
        return
    for child in _parts(node):
        yield from _changeable(child)


def _parts(node: Checked) -> tuple[Checked, ...]:
    match node:
        case Each(items=items):
            return (items,)
        case Apply(arguments=arguments):
            return arguments
        case Both(items=items_) | Either(items=items_) | Items(items=items_):
            return items_
    return tuple(getattr(node, each) for each in ("test", "yes", "no") if hasattr(node, each))


def _mentions_item(node: Checked) -> bool:
    own = {each.variable for each in walk(node) if isinstance(each, Each)}
    return any(isinstance(each, Variable) and each.name not in own for each in walk(node))


# --- searching -----------------------------------------------------------------------------------------------------


class _Trials:
    """Evaluates one rule again and again, with one fact changed."""

    def __init__(self, rules: RuleSet, number: int, values: Mapping[str, Any]) -> None:
        self.rules, self.number, self.values = rules, number, values
        self.rule = rules[number]
        self.left = MAX_TRIALS

    def when(self, node: Checked) -> Change | None:
        if not _reachable(node, self.rule.when, self.values):
            return None
        text = unparse(node.source)
        found = _value(node, self.rule.when, self.values)

        def fires(value: Any) -> bool:
            self.left -= 1
            return self.left > 0 and self.rules.judge(self.number, self.values, {text: value}) is not None

        return self.change(text, found, node.type, self.wanted(node, self.rule.when, self.values), fires, None)

    def lines(self, lines: Typed) -> Iterator[Change]:
        """Changes of one field of one line that make that line count."""
        assert self.rules.lines is not None
        name = self.rules.places.line
        for number, line in enumerate(_value(self.rules.lines.root, self.rules.lines, self.values)):
            around = {**self.values, name: line}
            for node in {unparse(each.source): each for each in _changeable(lines.root)}.values():
                path = path_of(node)
                if path is None or not path.startswith(f"{name}.") or not _reachable(node, lines, around):
                    continue
                found = _value(node, lines, around)

                def counts(value: Any, path: str = path, around: Mapping[str, Any] = around) -> bool:
                    self.left -= 1
                    changed = {path: value}
                    return self.left > 0 and value_of(lines.root, around, lines.scope.functions, changed) is True

                change = self.change(path, found, node.type, self.wanted(node, lines, around), counts, number)
                if change is not None:
                    yield change

    def wanted(self, node: Checked, typed: Typed, values: Mapping[str, Any]) -> list[Any]:
        """What the rule compares this fact with, right now."""
        text, found = unparse(node.source), []
        for each in walk(typed.root):
            if not isinstance(each, Apply) or _mentions_item(each):
                continue
            others = [other for other in each.arguments if unparse(other.source) != text]
            if len(others) == len(each.arguments):
                continue
            for other in others:
                if isinstance(other, Items):
                    found += [item.value for item in other.items if isinstance(item, Constant)]
                elif _reachable(other, typed, values) and not _guarded(other, typed, values):
                    found.append(_value(other, typed, values))
        return [each for each in found if each is not None]

    def change(
        self, text: str, found: Any, kind: Type, wanted: list[Any], fires: Callable[[Any], bool], line: int | None
    ) -> Change | None:
        inner = strip(kind)
        match inner:
            case String():
                needed = next((value for value in wanted if isinstance(value, str) and fires(value)), None)
                return None if needed is None else Change(self.rule.name, text, found, needed, None, line)
            case ListOf() if found is not None:
                grown = next(
                    (value for value in wanted if not isinstance(value, tuple | list) and fires((*found, value))), None
                )
                return None if grown is None else Change(self.rule.name, text, found, (*found, grown), None, line)
        if inner == BOOL:
            return Change(self.rule.name, text, found, not found, None, line) if fires(not found) else None
        axis = _axis(inner, self.rule.when.scope.zone)
        if axis is None:
            return None
        if found is None:
            # Nothing to measure from: what the rule asks for, or one unit beside it.
            near = sorted(
                {axis.to(value) + step for value in wanted if axis.fits(value) for step in (0, 1, -1)} | {0, 1}
            )
            first = next((value for value in near if axis.holds(value) and fires(axis.back(value))), None)
            return None if first is None else Change(self.rule.name, text, None, axis.back(first), None, line)
        here = axis.to(found)
        near = [axis.to(value) + step for value in wanted if axis.fits(value) for step in (0, 1, -1)]
        point = _nearest(here, [*near, *axis.beside(found)], axis, fires)
        if point is None:
            return None
        needed = axis.back(point)
        return Change(self.rule.name, text, found, needed, needed - found, line)


def _guarded(node: Checked, typed: Typed, values: Mapping[str, Any]) -> bool:
    """Whether the other side reads something that is not there."""
    return any(path_of(each) is not None and not _reachable(each, typed, values) for each in walk(node)) or any(
        path_of(each) is not None and strip(each.type) == each.type and _value(each, typed, values) is None
        for each in walk(node)
        if _reachable(each, typed, values) and not isinstance(each, Variable | Constant)
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    """A type whose values lie on a line of whole numbers."""

    to: Callable[[Any], int]
    back: Callable[[int], Any]
    fits: Callable[[Any], bool]
    low: int
    high: int
    #: Points where something may change: the hours of the next days, the coming midnights.
    beside: Callable[[Any], list[int]]

    def holds(self, point: int) -> bool:
        return self.low <= point <= self.high


_EPOCH = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
_TICK = timedelta(microseconds=1)


def _nowhere(_value: Any) -> list[int]:
    return []


def _axis(kind: Type, zone: str) -> _Axis | None:
    match kind:
        case Int(low=low, high=high):
            return _Axis(int, int, lambda value: type(value) is int, low, high, _nowhere)
        case Fixed(low=low, high=high, scale=scale):
            return _Axis(
                lambda value: int(Decimal(value).scaleb(scale)),
                lambda point: Decimal(point).scaleb(-scale),
                lambda value: isinstance(value, int | Decimal) and not isinstance(value, bool),
                low,
                high,
                _nowhere,
            )
    if kind == TIMESTAMP:

        def hours(moment: datetime) -> list[int]:
            if not 1000 < moment.year < 9000:  # where the calendar ends, nobody plans a purchase
                return []
            wall = moment.astimezone(clock.zone(zone)).replace(minute=0, second=0, microsecond=0)
            midnight = wall.replace(hour=0)
            found = [wall + timedelta(hours=n) for n in range(-24, 24 * 8)]
            found += [midnight + timedelta(days=n) for n in range(-31, 366)]
            return [(each - _EPOCH) // _TICK for each in found]

        span = 200 * 366 * 86_400 * 10**6
        return _Axis(
            lambda moment: (moment - _EPOCH) // _TICK,
            lambda point: _EPOCH + point * _TICK,
            lambda value: isinstance(value, datetime),
            -span,
            span,
            hours,
        )
    if kind == DATE:
        return _Axis(
            date.toordinal,
            date.fromordinal,
            lambda value: isinstance(value, date) and not isinstance(value, datetime),
            date.min.toordinal(),
            date.max.toordinal(),
            lambda day: [day.toordinal() + n for n in range(-366, 367)],
        )
    return None


def _nearest(here: int, candidates: list[int], axis: _Axis, fires: Callable[[Any], bool]) -> int | None:
    """The point next to *here* at which the rule begins to fire, found outwards from *here*.

    Candidates are tried nearest first; between the last point that does not fire and the first that does, halving finds
    the edge, so one unit less never fires.
    """
    reach = [sign * 2**n for n in range(63) for sign in (1, -1)]
    points = sorted({*candidates, *(here + step for step in reach)} - {here}, key=lambda point: abs(point - here))
    best: int | None = None
    shut = {1: here, -1: here}
    for point in points:
        if not axis.holds(point):
            continue
        side = 1 if point > here else -1
        if not fires(axis.back(point)):
            shut[side] = point
            continue
        best = _edge(shut[side], point, axis, fires)
        break
    return best


def _edge(shut: int, open_: int, axis: _Axis, fires: Callable[[Any], bool]) -> int:
    while abs(open_ - shut) > 1:
        middle = (shut + open_) // 2
        if fires(axis.back(middle)):
            open_ = middle
        else:
            shut = middle
    return open_


def _size(change: Change) -> tuple[int, float]:
    """Numbers before times before texts; among numbers the smaller step in proportion. Only for the order of the answers."""
    match change.by:
        case int() | Decimal():
            return 0, float(abs(change.by) / (1 + abs(change.needed)))
        case timedelta():
            return 1, abs(change.by).total_seconds()
    return 2, 0.0
