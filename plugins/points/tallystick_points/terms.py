"""When a lot becomes usable and when it expires, reckoned in days of the programme's zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from .settings import Expiry, Pending

_MONTHS = {"month": 1, "quarter": 3, "half": 6, "year": 12}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Days kept in mind: eleven years of history.
_REMEMBERED = 4096


class Terms(NamedTuple):
    """How a lot lives; the names are those of :class:`~tallystick.effects.Grant`."""

    usable_from: datetime | None
    usable_state: str
    expires_at: datetime | None
    sliding: bool


def last_good_day(day: date, expiry: Expiry) -> date | None:
    """The last day on which points earned on *day* can be used; None: they never expire.

    >>> from tallystick.values import period
    >>> last_good_day(date(2020, 7, 6), Expiry(policy="rolling", after=period("P12M"), end_of="month"))
    datetime.date(2021, 7, 31)
    """
    if expiry.policy == "never":
        return None
    after = expiry.after.after(day) if expiry.after is not None else day
    if isinstance(expiry.on, date):
        return expiry.on
    if expiry.on is not None:
        this_year = _clamped(after.year, expiry.on)
        return this_year if this_year >= after else _clamped(after.year + 1, expiry.on)
    if expiry.end_of:
        months = _MONTHS[expiry.end_of]
        return _first_of(after.year, (after.month - 1) // months * months + months) - timedelta(days=1)
    return after - timedelta(days=1)


def _clamped(year: int, day: tuple[int, int]) -> date:
    try:
        return date(year, *day)
    except ValueError:  # 29 February in a common year
        return date(year, day[0], 28)


def _first_of(year: int, months: int) -> date:
    """The first day of the month that comes *months* after January of *year*."""
    return date(year + months // 12, months % 12 + 1, 1)


def ever_usable(expiry: Expiry, pending: Pending) -> bool:
    """Whether points can be used on some day of a year: not if they wait longer than they live."""
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(366)]
    if isinstance(expiry.on, date) or not pending.days:  # one date is over one day in any case
        return True
    lasts = [(day, last_good_day(day, expiry)) for day in days]
    return any(last is None or last >= day + timedelta(days=pending.days) for day, last in lasts)


class Calendar:
    """The programme's days.  Events come mostly in the order of time, so the last day is the one to look at first."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._last = (_EPOCH, _EPOCH, _EPOCH.date())

    def day(self, at: datetime) -> date:
        """The local day of an instant."""
        begin, end, day = self._last
        if begin <= at < end:
            return day
        day = at.astimezone(self.zone).date()
        self._last = (self.begin(day), self.begin(day + timedelta(days=1)), day)
        return day

    def begin(self, day: date) -> datetime:
        """The first instant of a local day."""
        return datetime.combine(day, time.min, self.zone).astimezone(UTC)


class Schedule:
    """The terms of lots under one expiry and one pending policy, worked out once per day."""

    def __init__(self, calendar: Calendar, expiry: Expiry, pending: Pending) -> None:
        self._calendar, self._expiry, self._pending = calendar, expiry, pending
        self._terms: dict[date, Terms | None] = {}
        #: whether its lots are usable at once and keep their expiry
        self.plain = not pending.days and not pending.state and expiry.policy != "activity"

    def on(self, day: date) -> Terms | None:
        """How a lot lives that was earned on *day*; None if its points could never be used."""
        terms = self._terms
        if day in terms:
            return terms[day]
        if len(terms) > _REMEMBERED:
            terms.clear()
        terms[day] = found = self._work_out(day)
        return found

    def _work_out(self, day: date) -> Terms | None:
        begin = self._calendar.begin
        last = last_good_day(day, self._expiry)
        if last is not None and last < day:
            return None
        return Terms(
            usable_from=begin(day + timedelta(days=self._pending.days)) if self._pending.days else None,
            usable_state=self._pending.state,
            expires_at=None if last is None else begin(last + timedelta(days=1)),
            sliding=self._expiry.policy == "activity",
        )
