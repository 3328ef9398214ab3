"""Tasks: what was done adds up by day or period, and everything else follows from the sums.

Nothing here depends on the order in which events came: progress is a sum over days, a level is reached by the sum, a task is
done on the day on which the sum of days up to it reached the goal, and what comes after it counts from that day.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from fractions import Fraction
from functools import cached_property
from typing import Any

from tallystick import rules
from tallystick.effects import Effect, Put, Revoke
from tallystick.events import Event
from tallystick.ledger import taken_by_now
from tallystick.rules import BOOL, INT, STRING, RuleText, compile_expression, compile_rules
from tallystick.situation import Needs, Original, Programme, Situation

from .periods import period_of
from .rewards import badge_row, cap_counters, give, rule_of, times_of
from .scope import PLACES, has_facts, scope_of_event, scope_of_level, scope_of_member
from .settings import PURCHASE, Task

#: Periods of a repeating task that are remembered: what comes later than that is too late.
PERIODS = 40
#: Days that a chained task remembers one by one; older ones are kept as one sum.
DAYS = 366
#: Different values that a task tells apart in one period.
VALUES = 500
#: Sets of tasks whose followers are kept in mind.
REMEMBERED = 1_000
ORDER_ROW = "order/{order}"


class Progress:
    """One member's progress in one task, as its own row holds it."""

    def __init__(self, row: Mapping[str, Any] | None = None) -> None:
        row = row or {}
        #: first day of the bucket -> the sum, or how often each value was seen
        self.done: dict[int, Any] = {
            int(day): dict(amount) if isinstance(amount, Mapping) else amount
            for day, amount in row.get("done", {}).items()
        }
        #: first day of the period -> (levels paid, [(entry, levels)] where a return takes them back)
        self.paid: dict[int, tuple[int, list[tuple[str, int]]]] = {
            int(period): (levels, [(entry, n) for entry, n in entries])
            for period, (levels, entries) in row.get("paid", {}).items()
        }

    def row(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "done": {str(day): amount for day, amount in sorted(self.done.items())},
            "paid": {str(period): [levels, entries] for period, (levels, entries) in sorted(self.paid.items())},
        }

    def add(self, bucket: int, amount: int, value: str) -> None:
        """Something was done (or, below 0, undone)."""
        if not value:
            left = self.done.get(bucket, 0) + amount
        else:
            left = self.done.get(bucket, {})
            count = left.get(value, 0) + amount
            if count > 0 and (value in left or len(left) < VALUES):
                left[value] = count
            else:
                left.pop(value, None)
        if left:
            self.done[bucket] = left
        else:
            self.done.pop(bucket, None)

    def total(self, buckets: Sequence[int]) -> int:
        """What these buckets come to."""
        found = [self.done[bucket] for bucket in buckets]
        if found and isinstance(found[0], dict):
            return len({value for each in found for value in each})
        return sum(found)


def goals_of(task: Task) -> tuple[int, ...]:
    """What each level takes, from level 1.

    >>> goals_of(Task(name="t", goal="3 * level", levels=4))
    (3, 6, 9, 12)
    """
    if task.goal.isdecimal():
        return (int(task.goal),) * task.levels
    goal = compile_expression(rules.check(task.goal, scope_of_level(), INT))
    return tuple(int(goal(level=level)) for level in range(1, task.levels + 1))


def level_of(progress: int, goals: Sequence[int]) -> int:
    """The level that *progress* reaches; what is beyond the last level changes nothing.

    >>> [level_of(progress, [3 * level for level in range(1, 101)]) for progress in (1, 4, 304)]
    [0, 1, 100]
    """
    return bisect_right(goals, progress)


class Tasks:
    """All tasks of a merchant and how they hang together."""

    def __init__(self, tasks: Sequence[Task], programme: Programme) -> None:
        self.programme = programme
        self.by_name = {task.name: task for task in tasks}
        self.goals = {task.name: goals_of(task) for task in tasks if task.measure != "steps"}
        leads = {name for task in tasks for name in task.after}
        self.chained = {task.name for task in tasks if task.after or task.name in leads}
        self.followers: dict[str, list[str]] = {}
        for task in tasks:
            for name in task.after:
                self.followers.setdefault(name, []).append(task.name)
        self.order = {name: place for place, name in enumerate(_sorted(self.by_name))}
        self._watches: dict[str, Watch | None] = {}
        self._concerned: dict[tuple[str, ...], list[str]] = {}
        self.returns = any(task.refund != "keep" and task.on == PURCHASE for task in tasks)

    def watch(self, kind: str) -> Watch | None:
        """What counts events of *kind*; None if nothing does."""
        if kind not in self._watches:
            tasks = [task for task in self.by_name.values() if task.on == kind]
            self._watches[kind] = Watch(kind, tasks, self.programme) if tasks else None
        return self._watches[kind]

    def concerned(self, names: Sequence[str]) -> list[str]:
        """These tasks and all that come after them, those first that come first."""
        key = tuple(names)
        if key not in self._concerned:
            if len(self._concerned) > REMEMBERED:
                self._concerned.clear()
            self._concerned[key] = self._find_concerned(key)
        return self._concerned[key]

    def _find_concerned(self, names: Sequence[str]) -> list[str]:
        found, todo = set(names), list(names)
        while todo:
            for follower in self.followers.get(todo.pop(), ()):
                if follower not in found:
                    found.add(follower)
                    todo.append(follower)
        return sorted(found, key=self.order.__getitem__)

    def needs(self, kind: str) -> Needs | None:
        """What must be known of a member before an event of *kind* is looked at."""
        watch = self.watch(kind)
        if watch is None:
            return None
        names = self.concerned([task.name for task in watch.tasks])
        rewards = [(name, self.by_name[name].rewards) for name in names]
        own = {"{member}": frozenset(map(task_row, names))}
        if kind == PURCHASE and self.returns:
            own[ORDER_ROW] = frozenset(("tasks",))
        return Needs(
            own=own,
            counters=frozenset(counter for name, given in rewards for counter in cap_counters(name, given)),
            profile="member.language" in watch.names,
        )

    def bucket(self, task: Task, day: date) -> int:
        """Where what was done on *day* adds up."""
        return day.toordinal() if task.name in self.chained else period_of(task.repeat, day)

    def react(self, event: Event, situation: Situation, outcome: Mapping[str, int]) -> Iterator[Effect]:
        """What an event adds to tasks, and what that gives."""
        watch = self.watch(event.kind)
        if watch is None:
            return
        day = self.programme.local_date(event.at)
        added = watch.look(event, situation, outcome, day)
        if not added:
            return
        notes: dict[str, Any] = {}
        look = Look(self, situation)
        for task, amount, value in added:
            look.add(task, day, amount, value)
            if task.refund != "keep" and event.kind == PURCHASE:
                notes[task.name] = [day.toordinal(), amount, value, 0]
        yield from look.effects(day)
        if notes:
            key = f"order/{event.facts.order}"
            yield Put(rule=rule_of(next(iter(notes))), key=key, name="tasks", value=notes)

    def taken_back(self, event: Event, situation: Situation, original: Original) -> Iterator[Effect]:
        """What a return takes back: a share of sums, and of counts all once everything is back."""
        notes = situation.own.get(ORDER_ROW, {}).get("tasks") or {}
        look, days, kept = Look(self, situation), set(), {}
        for name, (ordinal, amount, value, before) in notes.items():
            task = self.by_name.get(name)
            if task is None:
                continue
            now = amount if original.complete else before
            if task.measure == "sum":
                now = taken_by_now(amount, original.value, original.returned)
            kept[name] = [ordinal, amount, value, max(now, before)]
            if now > before:
                day = date.fromordinal(ordinal)
                look.add(task, day, before - now, value)
                days.add(day)
        if days:
            for day in sorted(days):
                yield from look.effects(day)
            yield Put(rule=rule_of(next(iter(kept))), key=f"order/{event.facts.order}", name="tasks", value=kept)


class Look:
    """One member's tasks while one event is looked at."""

    def __init__(self, tasks: Tasks, situation: Situation) -> None:
        self._tasks, self._situation = tasks, situation
        self.rows = situation.own.get("{member}", {})
        self._progress: dict[str, Progress] = {}
        self._touched: dict[str, None] = {}

    def progress(self, name: str) -> Progress:
        """The member's progress in one task."""
        if name not in self._progress:
            self._progress[name] = Progress(self.rows.get(task_row(name)))
        return self._progress[name]

    def add(self, task: Task, day: date, amount: int, value: str) -> None:
        """Something was done on *day*."""
        self.progress(task.name).add(self._tasks.bucket(task, day), amount, value)
        self._touched[task.name] = None

    def buckets(self, task: Task, period: int, since: int) -> list[int]:
        """The buckets of a period, from the day on which the task could begin."""
        done = self.progress(task.name).done
        if task.name not in self._tasks.chained:
            return [period] if period in done else []
        repeat = task.repeat
        return sorted(
            day
            for day in done
            if day >= since and (repeat == "never" or period_of(repeat, date.fromordinal(day)) == period)
        )

    def begins(self, task: Task, period: int) -> int | None:
        """The day from which the task counts; None: what comes before it is not done."""
        days = [self.done_on(self._tasks.by_name[name], period) for name in task.after]
        return None if None in days else max([day for day in days if day is not None], default=0)

    def count(self, task: Task, period: int) -> int:
        """Progress in a period."""
        begins = self.begins(task, period)
        if begins is None:
            return 0
        return 1 if task.measure == "steps" else self.progress(task.name).total(self.buckets(task, period, begins))

    def level(self, task: Task, period: int) -> int:
        """The level (or round) that was reached in a period."""
        count = self.count(task, period)
        if task.measure == "steps":
            return count
        goals = self._tasks.goals[task.name]
        return count // goals[0] if task.repeat == "completion" else level_of(count, goals)

    def done_on(self, task: Task, period: int) -> int | None:
        """The day on which the task was done in a period; None: it is not."""
        begins = self.begins(task, period)
        if begins is None or task.measure == "steps":
            return begins
        goal, done = self._tasks.goals[task.name][-1], self.progress(task.name).done
        total, seen = 0, set[str]()
        for day in self.buckets(task, period, begins):
            if isinstance(done[day], dict):
                seen.update(done[day])
                total = len(seen)
            else:
                total += done[day]
            if total >= goal:
                return max(day, begins)
        return None

    def effects(self, day: date) -> Iterator[Effect]:
        """What follows for the period around *day*: rewards given or taken back, and the rows as they are now."""
        for name in self._tasks.concerned(list(self._touched)):
            task, progress = self._tasks.by_name[name], self.progress(name)
            period = period_of(task.repeat, day)
            due = self.level(task, period)
            paid, entries = progress.paid.get(period, (0, []))
            if due > paid:
                on = day.isoformat()
                yield from give(name, task.rewards, before=paid, now=due, on=on, badges=self.rows)
                if task.refund == "reward":
                    entries = [*entries, (self._situation.entry, due - paid)]
                progress.paid[period] = (due, entries)
            elif due < paid and task.refund == "reward":
                yield from self._taken_back(task, paid, due, entries)
                progress.paid[period] = (due, entries)
            _forget(task, progress, name in self._tasks.chained)
            row = progress.row()
            if name in self._touched or row != Progress(self.rows.get(task_row(name))).row():
                yield Put(rule=rule_of(name), name=task_row(name), value=row)

    @staticmethod
    def _taken_back(task: Task, paid: int, due: int, entries: list[tuple[str, int]]) -> Iterator[Effect]:
        """Levels that no longer stand, the last first.  *entries* loses them."""
        while paid > due and entries:
            entry, levels = entries.pop()
            back = min(levels, paid - due)
            if back < levels:
                entries.append((entry, levels - back))
            for place, reward in enumerate(task.rewards):
                times = times_of(reward, paid - back, paid)
                if times and reward.unit:
                    rule = rule_of(task.name, place)
                    yield Revoke(rule=rule, entry=entry, of_rule=rule, amount=reward.amount * times)
                elif times and reward.badge:
                    left = 0 if reward.level else paid - back
                    value = {"level": left, "on": ""} if left else None
                    yield Put(rule=rule_of(task.name, place), name=badge_row(reward.badge), value=value)
            paid -= back


class Watch:
    """The tasks that count events of one kind, compiled."""

    def __init__(self, kind: str, tasks: Sequence[Task], programme: Programme) -> None:
        self.kind, self.tasks, self._programme = kind, tasks, programme
        scope = scope_of_event(kind, programme.units, programme.zone)
        self._rules = compile_rules([text_of(task) for task in tasks], scope, places=PLACES)
        members = scope_of_member(programme.zone)
        self._audience = [
            compile_expression(rules.check(task.audience, members, BOOL)) if task.audience else None for task in tasks
        ]
        self._values: list[Callable[..., Any] | None] = [
            compile_expression(rules.check(task.value, scope, STRING)) if task.measure == "distinct" else None
            for task in tasks
        ]
        self._has_facts = has_facts(kind)
        # what no text names need not be made ready
        texts = " ".join(f"{task.when} {task.value} {task.lines}" for task in tasks)
        self._reads_gained = "gained" in texts
        self._reads_lines = "goods" in texts or any(task.lines for task in tasks)

    @cached_property
    def names(self) -> frozenset[str]:
        """What the rules look at."""
        return frozenset(self._rules.names)

    def look(
        self, event: Event, situation: Situation, outcome: Mapping[str, int], day: date
    ) -> list[tuple[Task, int, str]]:
        """(task, how much, which value) for each task that the event adds to."""
        facts = self._facts(event, situation, outcome, day)
        found = []
        for firing in self._rules.fire(**facts):
            task = self.tasks[firing.rule]
            audience, value = self._audience[firing.rule], self._values[firing.rule]
            if not task.span.holds(day) or (audience is not None and not audience(member=situation.member, today=day)):
                continue
            if value is not None:
                seen = str(value(**facts))
                if seen:
                    found.append((task, 1, seen))
                continue
            amount = 1 if firing.value is None else int(firing.value)
            if task.measure == "sum" and not task.value and self.kind == PURCHASE:
                amount = self._at_home(amount, event.facts.currency, day)
            if amount > 0:
                found.append((task, amount, ""))
        return found

    def _facts(self, event: Event, situation: Situation, outcome: Mapping[str, int], day: date) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "event": event, "member": situation.member, "today": day,
            "gained": {**dict.fromkeys(self._programme.units, 0), **outcome} if self._reads_gained else outcome,
        }  # fmt: skip
        if self.kind == PURCHASE:
            facts["purchase"] = event.facts
            facts["goods"] = (
                tuple([line for line in event.facts.lines if line.kind == "item"]) if self._reads_lines else ()
            )
        elif self._has_facts:
            facts["facts"] = event.facts
        return facts

    def _at_home(self, amount: int, currency: str, day: date) -> int:
        """Money in the programme's currency; without a rate nothing counts."""
        rate = Fraction(1) if currency == self._programme.currency else self._programme.rate(currency, day)
        return 0 if rate is None else amount * rate.numerator // rate.denominator


def text_of(task: Task) -> RuleText:
    """The rule that says whether, and by how much, an event counts."""
    when, lines = task.when or "true", task.lines or None
    if task.measure != "sum":
        return RuleText(task.name, when=when, lines=lines)
    if lines is not None:
        return RuleText(task.name, when=when, lines=lines, basis="line.net", value=task.value or "basis")
    return RuleText(task.name, when=when, value=task.value or ("purchase.total" if task.on == PURCHASE else "1"))


def task_row(name: str) -> str:
    """The own row that holds a member's progress in a task."""
    return f"task:{name}"


def _forget(task: Task, progress: Progress, chained: bool) -> None:
    """Keep what may still matter: of repeating tasks the last periods, of chained ones the last days."""
    if task.repeat not in ("never", "completion"):
        old = sorted({period_of(task.repeat, date.fromordinal(day)) for day in progress.done} | {*progress.paid})[
            :-PERIODS
        ]
        for day in [day for day in progress.done if period_of(task.repeat, date.fromordinal(day)) in old]:
            del progress.done[day]
        for period in [period for period in progress.paid if period in old]:
            del progress.paid[period]
    elif chained and task.measure != "distinct":
        while len(progress.done) > DAYS:
            first, second = sorted(progress.done)[:2]
            progress.done[second] += progress.done.pop(first)
    for period, (levels, entries) in progress.paid.items():
        progress.paid[period] = (levels, entries[-PERIODS:])


def _sorted(tasks: Mapping[str, Task]) -> list[str]:
    """Names, those first that come first; chains are known not to be circular."""
    found: dict[str, None] = {}

    def put(name: str) -> None:
        if name not in found and name in tasks:
            for earlier in tasks[name].after:
                put(earlier)
            found[name] = None

    for name in tasks:
        put(name)
    return list(found)
