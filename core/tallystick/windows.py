"""Counter windows: local days of the programme, as day numbers since 1970."""

from __future__ import annotations

import re
from datetime import date, timedelta
from functools import lru_cache

from .situation import CALENDAR_WINDOWS

_EPOCH = date(1970, 1, 1).toordinal()
_ROLLING = re.compile(r"P([1-9][0-9]{0,3})D\Z")


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return day.toordinal() - _EPOCH


@lru_cache(maxsize=4_096)
def start_of(window: str, day: date) -> int:
    """First local day of *window* around *day*; for a rolling ``P30D``, thirty days ending with *day*.

    >>> start_of("quarter", date(1970, 5, 17)), start_of("P3D", date(1970, 1, 10)), start_of("week", date(1970, 1, 7))
    (90, 7, 4)
    """
    match window:
        case "day":
            return day_number(day)
        case "week":
            return day_number(day - timedelta(days=day.weekday()))
        case "month":
            return day_number(day.replace(day=1))
        case "quarter":
            return day_number(date(day.year, (day.month - 1) // 3 * 3 + 1, 1))
        case "half":
            return day_number(date(day.year, 1 if day.month < 7 else 7, 1))
        case "year":
            return day_number(date(day.year, 1, 1))
        case "lifetime" | "budget":
            return 0
    return day_number(day) - rolling_days(window) + 1


@lru_cache(maxsize=4_096)
def bucket_of(window: str, day: date) -> tuple[str, int]:
    """Grain and first local day of the bucket in which something that happens on *day* is counted for *window*.

    >>> bucket_of("month", date(1970, 2, 3)), bucket_of("P30D", date(1970, 2, 3)), bucket_of("budget", date(1970, 2, 3))
    (('month', 31), ('day', 33), ('lifetime', 0))
    """
    grain = grain_of(window)
    return grain, start_of("day" if grain == "day" else window, day)


def rolling_days(window: str) -> int:
    """How many local days a rolling window spans; raises ValueError for anything else."""
    match = _ROLLING.match(window)
    if match is None:
        raise ValueError(f"{window!r} is no window: expected one of {', '.join(CALENDAR_WINDOWS)} or P<n>D")
    return int(match[1])


def grain_of(window: str) -> str:
    """How a counter is kept for *window*: rolling windows add up daily buckets."""
    if window == "budget":
        return "lifetime"
    return window if window in CALENDAR_WINDOWS else "day"
