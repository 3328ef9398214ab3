"""Times, dates, durations and decimals as they are written in rules; each reader raises ValueError with a plain sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PIECE = re.compile(r"(\d{1,12})(?:\.(\d{1,6}))?(d|h|ms|us|m|s)", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,18}(?:\.(\d{1,9}))?", re.ASCII)
_MICROSECONDS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z0-9_+-]{1,31}){0,2}", re.ASCII)

#: Files that lie among the zones and are none: the machine's own zone, and clocks that count leap seconds.
_MACHINES = frozenset(("localtime", "posixrules", "Factory"))


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name."""
    if not _ZONE.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is not a zone name")
    if name in _MACHINES or name.startswith(("posix/", "right/")):
        raise ValueError(f"{name!r} means another zone on another machine")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no zone {name!r}") from None


#: From here on no zone changed twice within six hours and back; before, nothing is assumed.
_KNOWN_FROM = date(1973, 1, 2).toordinal()
_KNOWN_UNTIL = date.max.toordinal() - 1
#: Days whose distance from UTC is remembered: a century.
_REMEMBERED = 40_000
#: How far back the search for a steady clock goes.
_STEADY_FROM = 2009
_NEVER = datetime.max.replace(tzinfo=UTC)
#: A day's first instant in UTC, that of the next, and how far the zone's clock is ahead all through it.
_Day = tuple[datetime, datetime, timedelta]


@lru_cache(maxsize=1024)
def wall_clock(zone: ZoneInfo) -> Callable[[datetime], datetime]:
    """The wall clock of a zone, as a function of an instant; at the two ends of time, where none exists, it shows UTC.

    For instants in UTC it remembers the zone's distance from UTC on each day on which that does not change, and costs half of
    ``astimezone``. The fields of the answer are those of the wall clock; its ``tzinfo`` is not.
    """
    days: dict[int, _Day | None] = {}
    # The day asked for last: nearly every event is of today.
    latest: _Day = (_NEVER, _NEVER, timedelta(0))

    def read(moment: datetime) -> datetime:
        first, last, offset = latest
        if first <= moment < last and moment.tzinfo is UTC:
            return moment + offset
        return look(moment)

    def look(moment: datetime) -> datetime:
        nonlocal latest
        if moment.tzinfo is UTC:
            number = moment.toordinal()
            day = days[number] if number in days else learn(number)
            if day is not None:
                latest = day
                return moment + day[2]
        try:
            return moment.astimezone(zone)
        except OverflowError:
            return moment

    def learn(number: int) -> _Day | None:
        day: _Day | None = None
        if _KNOWN_FROM <= number < _KNOWN_UNTIL:
            midnight = datetime.combine(date.fromordinal(number), datetime.min.time(), UTC)
            found = {(midnight + timedelta(hours=6 * each)).astimezone(zone).utcoffset() for each in range(5)}
            if len(found) == 1 and (offset := found.pop()) is not None:
                day = midnight, midnight + timedelta(days=1), offset
        if len(days) >= _REMEMBERED:
            days.clear()
        days[number] = day
        return day

    return read


@lru_cache(maxsize=1024)
def steady(zone: ZoneInfo) -> _Day | None:
    """The last years before 2038 in which the zone's clock was not moved: first instant, end, distance; None if that is no year."""
    end = datetime(2038, 1, 1, tzinfo=UTC)
    first, step, offset = end, timedelta(hours=6), end.astimezone(zone).utcoffset()
    while first.year > _STEADY_FROM and (first - step).astimezone(zone).utcoffset() == offset:
        first -= step
    return None if offset is None or end - first < timedelta(days=366) else (first, end, offset)


def timestamp(text: str) -> datetime:
    """An instant, RFC 3339 with its offset, in UTC."""
    found = _TIMESTAMP.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:60]!r} is not an instant with its offset from UTC")
    day, clock, fraction, offset = found.groups()
    try:
        return datetime.fromisoformat(day + "T" + clock + (fraction or "") + offset.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError("this instant lies outside the years 1 to 9999") from None


def day(text: str) -> date:
    """A calendar day."""
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a date")
    return date.fromisoformat(text)


def duration(text: str) -> timedelta:
    """A length of time: ``1h30m``, ``90s``, ``-2h``, ``30d`` (a day is always 24 hours)."""
    negative, rest = text.startswith("-"), text.removeprefix("-")
    at, total = 0, 0
    while at < len(rest):
        piece = _PIECE.match(rest, at)
        if piece is None:
            break
        unit = _MICROSECONDS[piece[3]]
        fraction = piece[2] or ""
        if unit * int(fraction or 0) % 10 ** len(fraction):
            raise ValueError(f"{text[:60]!r} is finer than a microsecond")
        total += int(piece[1]) * unit + unit * int(fraction or 0) // 10 ** len(fraction)
        at = piece.end()
    if not rest or at < len(rest):
        raise ValueError(f"{text[:60]!r} is not a duration")
    if total > 3_652_059 * _MICROSECONDS["d"]:
        raise ValueError("this duration is longer than ten thousand years")
    return timedelta(microseconds=-total if negative else total)


def decimal(text: str) -> tuple[Decimal, int]:
    """An exact decimal and its digits after the point: at most 18 before it, 9 after it."""
    found = _DECIMAL.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:60]!r} is not a decimal number")
    return Decimal(text), len(found[1] or "")
