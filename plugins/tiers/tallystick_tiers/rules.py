"""The rules of tiers, each a function that could be printed on a poster.  Pure: all they know comes in as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from tallystick.situation import Member
from tallystick.values import Period

#: Whether a tier's further condition holds for what was counted of a member.
Condition = Callable[[Mapping[str, int], Member], bool]
_MONTHS: Final = {"month": 1, "quarter": 3, "half": 6, "year": 12}


class Rung(NamedTuple):
    """One step of a ladder: from how much on it is reached, from how much on it is kept, and what else must hold."""

    name: str
    at: int | None = None
    keep: int | None = None
    when: Condition | None = None
    keep_when: Condition | None = None

    def reached(self, amount: int, values: Mapping[str, int], member: Member) -> bool:
        """Whether one climbs here; a threshold is reached exactly at it."""
        return self._holds(self.at, self.when, amount, values, member)

    def kept(self, amount: int, values: Mapping[str, int], member: Member) -> bool:
        """Whether one who stands here stays."""
        keep = self.at if self.keep is None else self.keep
        return self._holds(keep, self.keep_when or self.when, amount, values, member)

    @staticmethod
    def _holds(
        least: int | None, condition: Condition | None, amount: int, values: Mapping[str, int], member: Member
    ) -> bool:
        if least is None and condition is None:
            return False  # joined or given, never earned
        return (least is None or amount >= least) and (condition is None or condition(values, member))


def reached(rungs: Sequence[Rung], by: str, values: Mapping[str, int], member: Member) -> int:
    """The highest rank that *values* come to; 0 is everybody's."""
    amount = values.get(by, 0)
    return max((rank for rank, rung in enumerate(rungs) if rung.reached(amount, values, member)), default=0)


def retained(rungs: Sequence[Rung], by: str, rank: int, values: Mapping[str, int], member: Member) -> int:
    """What one who stands at *rank* keeps: the highest rank up to it whose lower threshold is met."""
    amount = values.get(by, 0)
    return max((n for n in range(1, rank + 1) if rungs[n].kept(amount, values, member)), default=0)


def fallen(rank: int, kept: int, *, soft_landing: bool) -> int:
    """Where one lands who stands at *rank* and met the terms of *kept*: with a soft landing, at most one step lower.

    >>> fallen(3, 0, soft_landing=True), fallen(3, 0, soft_landing=False), fallen(1, 2, soft_landing=False)
    (2, 0, 1)
    """
    return min(rank, max(kept, rank - 1) if soft_landing else kept)


def period_of(window: str, day: date, enrolled: date) -> tuple[date, date]:
    """The period of *window* around *day*: its first day, and the first day of the next.

    >>> period_of("quarter", date(2025, 5, 17), date(2024, 1, 1))
    (datetime.date(2025, 4, 1), datetime.date(2025, 7, 1))
    >>> period_of("anniversary", date(2025, 3, 1), date(2024, 2, 29))
    (datetime.date(2025, 2, 28), datetime.date(2026, 2, 28))
    """
    if window == "anniversary":
        years = max(0, day.year - enrolled.year)
        if Period(12 * years).after(enrolled) > day:
            years = max(0, years - 1)
        return Period(12 * years).after(enrolled), Period(12 * (years + 1)).after(enrolled)
    months = _MONTHS[window]
    first = date(day.year, (day.month - 1) // months * months + 1, 1)
    return first, Period(months).after(first)


def months_within(months: Mapping[str, int], first: date | None, last: date) -> int:
    """In how many months from *first* to *last* there was something."""
    since, until = f"{first:%Y-%m}" if first is not None else "", f"{last:%Y-%m}"
    return sum(1 for month, times in months.items() if times > 0 and since <= month <= until)


def crossed(before: int, after: int, threshold: int) -> bool:
    """Whether a count came from below *threshold* up to it."""
    return before < threshold <= after


class Forecast(NamedTuple):
    """What the pace of so far comes to."""

    missing: int  #: how much more it takes
    on: date | None  #: the day on which it is reached at this pace; None: not within the period


def forecast(amount: int, threshold: int, since: date, today: date, end: date | None) -> Forecast:
    """At the pace of the days from *since* to *today*, when *threshold* is reached; never on or after *end*.

    >>> forecast(30_000, 50_000, date(2025, 1, 1), date(2025, 1, 30), date(2026, 1, 1))
    Forecast(missing=20000, on=datetime.date(2025, 2, 19))
    """
    missing = max(0, threshold - amount)
    if not missing:
        return Forecast(0, today)
    if amount <= 0:
        return Forecast(missing, None)
    days = (today - since).days + 1
    ahead = -(-missing * days // amount)  # whole days: the part of a day counts as one
    if ahead > 36_500:
        return Forecast(missing, None)
    on = today + timedelta(days=ahead)
    return Forecast(missing, on if end is None or on < end else None)
