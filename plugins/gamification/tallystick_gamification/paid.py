"""Levels of plain tasks that were paid: one own row for all of them, written when a level is reached and never otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from tallystick.effects import Effect, Put, Revoke
from tallystick.situation import Needs, Programme, Situation

from .levels import goals_of, level_of
from .periods import period_of
from .rewards import badge_row, cap_counters, give, rule_of, times_of
from .settings import Task
from .telling import Teller
from .watch import counter_of

ROW = "tasks"
#: Periods of a repeating task that are remembered: what comes later than that is too late.
PERIODS = 40
#: Entries remembered for one period of a task whose reward a return takes back.
ENTRIES = 40


class Plain:
    """One plain task, ready to be compared."""

    def __init__(self, task: Task) -> None:
        self.task, self.name = task, task.name
        self.key = counter_of(task)
        self.total = f"counter:{self.key[0]}/{self.key[1]}"  #: as the house calls it after the event
        self.goals = goals_of(task)
        self.first = self.goals[0]
        self.endless = task.repeat == "completion"
        self.takes_back = task.refund == "reward"

    def level(self, progress: int) -> int:
        """The level (or round) that *progress* reaches."""
        return max(0, progress) // self.first if self.endless else level_of(progress, self.goals)

    def goal(self, level: int) -> int:
        """What the level after *level* takes in all; of the last one, what it took."""
        return self.first * (level + 1) if self.endless else self.goals[min(level, len(self.goals) - 1)]


class Payer:
    """Pays what was reached of the plain tasks at events of one kind."""

    def __init__(self, tasks: Sequence[Plain], programme: Programme, teller: Teller) -> None:
        self._tasks, self._programme, self._teller = tasks, programme, teller

    @property
    def needs(self) -> Needs:
        """What must be known to tell what is due."""
        caps = [counter for plain in self._tasks for counter in cap_counters(plain.name, plain.task.rewards)]
        counters = frozenset((*[plain.key for plain in self._tasks], *caps))
        return Needs(counters=counters, own={"{member}": frozenset((ROW,))})

    def effects(self, event: Any, situation: Situation, outcome: Mapping[str, int]) -> list[Effect]:
        """What the event has led to: rewards of levels reached, and taken back where a return lost them.

        Most events reach nothing: one comparison each, with the goal that comes next.
        """
        rows, effects = situation.own.get("{member}", _NOTHING), list[Effect]()
        row = rows.get(ROW)
        due: list[tuple[Plain, int, str, int]] = []
        for plain in self._tasks:
            now = outcome.get(plain.total)
            if now is None:
                now = situation.counters.get(plain.key, 0)
            periods = row.get(plain.name) if row is not None else None
            if periods is None and now < plain.first:
                continue
            period = str(period_of(plain.task.repeat, self._programme.local_date(event.at)))
            levels = periods[period][0] if periods is not None and period in periods else 0
            level = plain.level(now)
            if level > levels or (level < levels and plain.takes_back):
                due.append((plain, level, period, levels))
        if due:
            row = dict(row or {})
            for plain, level, period, levels in due:
                periods = dict(row.get(plain.name, {}))
                entries = [tuple(each) for each in periods[period][1]] if period in periods else []
                if level > levels:
                    on = self._programme.local_date(event.at).isoformat()
                    effects += give(plain.name, plain.task.rewards, before=levels, now=level, on=on, badges=rows)
                    effects.append(self._teller.of_task(plain.task, level, period))
                    if plain.takes_back:
                        entries = [*entries, (situation.entry, level - levels)][-ENTRIES:]
                else:
                    effects += taken_back(plain.task, levels, level, entries)
                periods[period] = [level, [list(each) for each in entries]]
                row[plain.name] = {each: periods[each] for each in sorted(periods, key=int)[-PERIODS:]}
            effects.append(Put(rule=rule_of(due[0][0].name), name=ROW, value=row))
        return effects


def taken_back(task: Task, paid: int, due: int, entries: list[Any]) -> Iterator[Effect]:
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


def joined(source: Mapping[str, Any], into: Mapping[str, Any], endless: Mapping[str, bool]) -> dict[str, Any]:
    """Levels paid of two members who are one: rounds without end add up, of levels the higher one stands."""
    found = {}
    for name in sorted({*source, *into}):
        mine, theirs = source.get(name, {}), into.get(name, {})
        periods = {}
        for period in sorted({*mine, *theirs}, key=int)[-PERIODS:]:
            (a, first), (b, second) = mine.get(period, (0, [])), theirs.get(period, (0, []))
            levels = a + b if endless.get(name) else max(a, b)
            periods[period] = [levels, [*second, *first][-ENTRIES:]]
        found[name] = periods
    return found


def levels_paid(row: Mapping[str, Any] | None, name: str, repeat: str, day: date) -> int:
    """How many levels of a task were paid in the period around *day*."""
    found = (row or {}).get(name, {}).get(str(period_of(repeat, day)))
    return int(found[0]) if found else 0


_NOTHING: Mapping[str, Any] = {}
