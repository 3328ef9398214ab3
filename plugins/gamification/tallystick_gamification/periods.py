"""Periods of the programme's calendar, as day numbers (1 is 1 January of the year 1, as `date.toordinal` has it)."""

from __future__ import annotations

from datetime import date, timedelta


def period_of(repeat: str, day: date) -> int:
    """The first day of the period around *day*; 0 where there is but one.

    >>> from datetime import date
    >>> date.fromordinal(period_of("quarter", date(2025, 5, 17))), period_of("never", date(2025, 5, 17))
    (datetime.date(2025, 4, 1), 0)
    """
    match repeat:
        case "day":
            first = day
        case "week":
            first = day - timedelta(days=day.weekday())
        case "month":
            first = day.replace(day=1)
        case "quarter":
            first = date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
        case "half":
            first = date(day.year, 1 if day.month < 7 else 7, 1)
        case "year":
            first = date(day.year, 1, 1)
        case _:
            return 0
    return first.toordinal()
