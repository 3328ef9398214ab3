"""Check-ins: one per local day, a streak of days, a calendar of rewards that starts anew after its last day.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import AlreadyCheckedIn

ROW = "check_in"


class Streak(NamedTuple):
    """How a member stands after a check-in."""

    day: int  #: the last day checked in, as `date.toordinal`; 0: never
    length: int  #: days in a row
    best: int
    total: int = 0
    frozen: int = 0  #: missed days that tokens bridged, at the last check-in

    def place(self, days: int) -> int:
        """Which day of a calendar of *days* days it is, from 0.

        >>> [Streak(1, length, 1).place(7) for length in (1, 7, 8, 15)]
        [0, 6, 0, 0]
        """
        return (self.length - 1) % days


NEVER = Streak(0, 0, 0)


def read_streak(row: Mapping[str, Any] | None) -> Streak:
    """A streak as its own row holds it."""
    return NEVER if not row else Streak(row["day"], row["length"], row["best"], row["total"])


def written(streak: Streak) -> dict[str, int]:
    """As it is kept."""
    return {"day": streak.day, "length": streak.length, "best": streak.best, "total": streak.total}


def check_in(streak: Streak, day: int, freezes: int = 0) -> Streak:
    """The streak after a check-in on *day*; with *freezes* tokens at hand to bridge missed days, all of them or none.

    Raises AlreadyCheckedIn on the same day, or for a day before the last one.

    >>> check_in(Streak(100, 6, 6, 6), 101).length, check_in(Streak(100, 6, 6, 6), 103).length
    (7, 1)
    >>> check_in(Streak(100, 6, 6, 6), 103, freezes=2)
    Streak(day=103, length=7, best=7, total=7, frozen=2)
    """
    if day <= streak.day:
        raise AlreadyCheckedIn
    missed = day - streak.day - 1 if streak.day else 0
    goes_on = bool(streak.day) and missed <= freezes
    length = streak.length + 1 if goes_on else 1
    return Streak(day, length, max(streak.best, length), streak.total + 1, missed if goes_on else 0)
