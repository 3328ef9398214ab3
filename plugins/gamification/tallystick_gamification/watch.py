"""What is looked at when an event of one kind comes: tasks and leaderboards, compiled once.

A plain task is a counter of the core: an event adds to it, a return takes its share away again, and a late event counts in the
period in which it happened.  All the plugin keeps of it is how many levels were paid.  The rest (tasks that follow each other,
that tell values apart, that read what was gained, or whose monthly reward a return takes back) is kept by the day as own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple

from tallystick import rules
from tallystick.effects import Count
from tallystick.events import Event
from tallystick.rules import STRING, RuleSet, RuleText, compile_expression, compile_rules
from tallystick.situation import Programme, Situation

from .scope import PLACES, has_facts, scope_of_event
from .settings import PURCHASE, Board, Span, Task

BOARD = "gamification.board."


def text_of(task: Task) -> RuleText:
    """The rule that says whether, and by how much, an event counts for a task."""
    when, lines = task.when or "true", task.lines or None
    if task.measure != "sum":
        return RuleText(task.name, when=when, lines=lines)
    if lines is not None:
        return RuleText(task.name, when=when, lines=lines, basis="line.net", value=task.value or "basis")
    return RuleText(task.name, when=when, value=task.value or ("purchase.total" if task.on == PURCHASE else "1"))


def text_of_board(board: Board) -> RuleText:
    """The rule that says what an event adds to a leaderboard."""
    return RuleText(f"board.{board.name}", when=board.when or "true", value=board.value or "1")


def counter_of(task: Task) -> tuple[str, str]:
    """The counter, and the window, in which the core counts a plain task."""
    window = "lifetime" if task.repeat in ("never", "completion") else task.repeat
    return f"gamification.task.{task.name}", window


def is_plain(task: Task, chained: Collection[str]) -> bool:
    """Whether the core's counter of the task says all there is to know about its progress."""
    return (
        task.measure in ("count", "sum")
        and task.name not in chained
        and "gained" not in f"{task.when} {task.value} {task.lines}"
        # the counter of a month gone by cannot be read when a return asks what still stands
        and (task.refund != "reward" or counter_of(task)[1] == "lifetime")
    )


class Counting(NamedTuple):
    """What one rule of the first set adds to."""

    rule: str
    counter: str
    window: str
    share: bool  #: whether a return in part takes its share
    reversible: bool
    money: bool  #: whether the amount is money of the purchase
    span: Span | None
    scope: Callable[..., Any] | None  #: of a leaderboard: what it is divided by
    once: Count  #: what one more of it is, where that is all it can be


class Watch:
    """Everything that looks at events of one kind."""

    def __init__(
        self, kind: str, plain: Sequence[Task], kept: Sequence[Task], boards: Sequence[Board], programme: Programme
    ) -> None:
        self.kind, self.plain, self.kept, self._programme = kind, plain, kept, programme
        self._boards = boards
        self._scope = scope_of_event(kind, programme.units, programme.zone)
        texts = [
            *map(_for_audience, plain, map(text_of, plain)),
            *map(_for_audience, boards, map(text_of_board, boards)),
        ]
        self._first = compile_rules(texts, self._scope, places=PLACES)
        self._then = compile_rules([*map(_for_audience, kept, map(text_of, kept))], self._scope, places=PLACES)
        typed = {board.name: rules.check(board.scope, self._scope, STRING) for board in boards if board.scope}
        scopes = {name: compile_expression(each) for name, each in typed.items()}
        self._counting = [
            *map(_counting_task, plain),
            *[_counting_board(board, scopes.get(board.name)) for board in boards],
        ]
        values = [rules.check(task.value, self._scope, STRING) if task.measure == "distinct" else None for task in kept]
        self._values = [compile_expression(value) if value is not None else None for value in values]
        self._read_first = _roots([*self._first.names, *_names(typed.values())])
        self._read_then = _roots([*self._then.names, *_names([value for value in values if value is not None])])
        self.reads_profile = any(
            "member.language" in each.names for each in (self._first, self._then)
        ) or "member.language" in _names(typed.values())
        self._has_facts = has_facts(kind)

    @cached_property
    def rules(self) -> RuleSet:
        """All rules together, to be read and asked."""
        texts = [_for_audience(task, text_of(task)) for task in (*self.plain, *self.kept)]
        texts += [_for_audience(board, text_of_board(board)) for board in self._boards]
        return compile_rules(texts, self._scope, places=PLACES)

    def facts(
        self, event: Event, situation: Situation, gained: Mapping[str, int], read: Collection[str] | None = None
    ) -> dict[str, Any]:
        """What rules see of an event, by name; *read* says what of the dearer things is looked at, by default all."""
        facts: dict[str, Any] = {"event": event, "member": situation.member}
        if read is None or "today" in read:
            facts["today"] = self._programme.local_date(event.at)
        if read is None or "gained" in read:
            facts["gained"] = dict.fromkeys(self._programme.units, 0) | dict(gained)
        if self.kind == PURCHASE:
            facts["purchase"] = event.facts
            if read is None or "goods" in read:
                facts["goods"] = event.facts.goods
        elif self._has_facts:
            facts["facts"] = event.facts
        return facts

    def counts(self, event: Event, situation: Situation) -> list[Count]:
        """What the event adds to the core's counters: to plain tasks and to leaderboards."""
        if not self._counting:
            return []
        facts = self.facts(event, situation, _NOTHING, self._read_first)
        found = []
        for firing in self._first.fire(**facts):
            counting = self._counting[firing.rule]
            if counting.span is not None and not counting.span.holds(self._programme.local_date(event.at)):
                continue
            value = firing.value
            if value is None and counting.scope is None:
                found.append(counting.once)
                continue
            amount = 1 if value is None else value if type(value) is int else int(value)
            if counting.money and event.facts.currency != self._programme.currency:
                amount = self.at_home(amount, event)
            counter = counting.counter
            if counting.scope is not None:
                part = str(counting.scope(**facts))
                counter = f"{counter}/{part}" if part else ""
            if amount > 0 and counter:
                found.append(
                    Count(
                        rule=counting.rule, counter=counter, window=counting.window, amount=amount,
                        reversible=counting.reversible, by_share=counting.share,
                    )
                )  # fmt: skip
        return found

    def look(
        self, event: Event, situation: Situation, outcome: Mapping[str, int], day: date
    ) -> list[tuple[Task, int, str]]:
        """(task, how much, which value) for each task kept by the day that the event adds to."""
        facts = self.facts(event, situation, outcome if "gained" in self._read_then else _NOTHING, self._read_then)
        found = []
        for firing in self._then.fire(**facts):
            task, value = self.kept[firing.rule], self._values[firing.rule]
            if not task.span.holds(day):
                continue
            if value is not None:
                seen = str(value(**facts))
                if seen:
                    found.append((task, 1, seen))
                continue
            amount = 1 if firing.value is None else int(firing.value)
            if _is_money(task):
                amount = self.at_home(amount, event)
            if amount > 0:
                found.append((task, amount, ""))
        return found

    def at_home(self, amount: int, event: Event) -> int:
        """Money of a purchase in the programme's currency; without a rate nothing counts."""
        rate = self._programme.rate(event.facts.currency, self._programme.local_date(event.at))
        return 0 if rate is None else amount * rate.numerator // rate.denominator


def _for_audience(of: Task | Board, text: RuleText) -> RuleText:
    """The rule with the condition on the member, where there is one."""
    if not of.audience:
        return text
    when = of.audience if text.when == "true" else f"({of.audience}) && ({text.when})"
    return RuleText(text.name, when=when, lines=text.lines, basis=text.basis, value=text.value)


def _is_money(task: Task) -> bool:
    return task.measure == "sum" and not task.value and task.on == PURCHASE


def _counting_task(task: Task) -> Counting:
    counter, window = counter_of(task)
    rule, reversible = f"gamification.{task.name}", task.refund != "keep"
    share = task.measure == "sum"
    once = Count(rule=rule, counter=counter, window=window, reversible=reversible, by_share=share)
    span = task.span if task.span.since or task.span.until else None
    return Counting(rule, counter, window, share, reversible, _is_money(task), span, None, once)


def _counting_board(board: Board, scope: Callable[..., Any] | None) -> Counting:
    rule, share = f"{BOARD}{board.name}", bool(board.value)
    once = Count(rule=rule, counter=rule, window=board.window, by_share=share)
    return Counting(rule, rule, board.window, share, True, share and board.on == PURCHASE, None, scope, once)


def _names(typed: Iterable[Any]) -> set[str]:
    return {name for each in typed for name in rules.names(each)}


def _roots(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(path.partition(".")[0].partition("[")[0] for path in paths)


_NOTHING: Mapping[str, int] = {}
