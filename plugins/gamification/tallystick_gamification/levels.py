"""Levels of tasks: what each takes, and which one is reached.  Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from tallystick import rules
from tallystick.rules import INT, compile_expression

from .scope import scope_of_level
from .settings import Task


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
