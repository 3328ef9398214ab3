"""Tasks kept by the day: what was done adds up by day or period, and everything else follows from the sums.

Plain tasks are counters of the core instead (see `watch`).  Nothing here depends on the order in which events came: progress is a sum over days, a level is reached by the sum, a task is
done on the day on which the sum of days up to it reached the goal, and what comes after it counts from that day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from tallystick.effects import Effect, Put
from tallystick.events import Event
from tallystick.ledger import taken_by_now
from tallystick.situation import Needs, Original, Programme, Situation

from .levels import goals_of, level_of
from .paid import PERIODS, Plain, taken_back
from .periods import period_of
from .rewards import cap_counters, give, rule_of
from .settings import PURCHASE, Settings, Task
from .telling import Teller
from .watch import Watch, is_plain

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


class Tasks:
    """All tasks of a merchant and how they hang together."""

    def __init__(self, tasks: Sequence[Task], programme: Programme) -> None:
        self.programme, self.teller = programme, Teller(Settings(), programme.language)
        self.by_name = {task.name: task for task in tasks}
        self.goals = {task.name: goals_of(task) for task in tasks if task.measure != "steps"}
        leads = {name for task in tasks for name in task.after}
        self.chained = {task.name for task in tasks if task.after or task.name in leads}
        self.followers: dict[str, list[str]] = {}
        for task in tasks:
            for name in task.after:
                self.followers.setdefault(name, []).append(task.name)
        self.order = {name: place for place, name in enumerate(_sorted(self.by_name))}
        self._concerned: dict[tuple[str, ...], list[str]] = {}
        self.plain = {task.name: Plain(task) for task in tasks if is_plain(task, self.chained)}
        kept = [task for task in tasks if task.name not in self.plain]
        #: whether a return may take something back that is kept by the day
        self.returns = any(task.refund != "keep" and task.on == PURCHASE for task in kept)

    def kept_on(self, kind: str) -> list[Task]:
        """The tasks kept by the day that count events of *kind*."""
        return [task for task in self.by_name.values() if task.on == kind and task.name not in self.plain]

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

    def needs(self, kept: Sequence[Task]) -> Needs:
        """What must be known of a member before these tasks, kept by the day, are looked at."""
        names = self.concerned([task.name for task in kept])
        rewards = [(name, self.by_name[name].rewards) for name in names]
        return Needs(
            own={"{member}": frozenset(map(task_row, names))},
            counters=frozenset(counter for name, given in rewards for counter in cap_counters(name, given)),
        )

    def bucket(self, task: Task, day: date) -> int:
        """Where what was done on *day* adds up."""
        return day.toordinal() if task.name in self.chained else period_of(task.repeat, day)

    def react(self, event: Event, situation: Situation, outcome: Mapping[str, int], watch: Watch) -> Iterator[Effect]:
        """What an event adds to tasks that are kept by the day, and what that gives."""
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
                yield self._tasks.teller.of_task(task, due, str(period))
                if task.refund == "reward":
                    entries = [*entries, (self._situation.entry, due - paid)]
                progress.paid[period] = (due, entries)
            elif due < paid and task.refund == "reward":
                yield from taken_back(task, paid, due, entries)
                progress.paid[period] = (due, entries)
            _forget(task, progress, name in self._tasks.chained)
            row = progress.row()
            if name in self._touched or row != Progress(self.rows.get(task_row(name))).row():
                yield Put(rule=rule_of(name), name=task_row(name), value=row)


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


def joined(source: Mapping[str, Any], into: Mapping[str, Any]) -> dict[str, Any]:
    """The progress of two members who are one: what was done adds up, and the higher level that was paid stands."""
    mine, theirs = Progress(source), Progress(into)
    for day, amount in mine.done.items():
        for value, times in amount.items() if isinstance(amount, dict) else [("", amount)]:
            theirs.add(day, times, value)
    for period, (levels, entries) in mine.paid.items():
        paid, others = theirs.paid.get(period, (0, []))
        theirs.paid[period] = (max(paid, levels), [*others, *entries][-PERIODS:])
    return theirs.row()
