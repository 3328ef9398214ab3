"""Leaderboards: their windows, and what others see of who is on them.  Counters of the core are projected into lists after the commit."""

from __future__ import annotations

from datetime import date
from hashlib import sha256

from .periods import period_of

_EPOCH = date(1970, 1, 1).toordinal()


def start_of(window: str, day: date) -> int:
    """First local day of the window around *day*, in days since 1970."""
    return 0 if window == "lifetime" else period_of(window, day) - _EPOCH


def span_of(score: int) -> int:
    """The span of scores that *score* belongs to: higher scores are in the same or a higher one, each 1/64 wide or less.

    >>> [span_of(score) for score in (1, 127, 128, 129, 130, 100_000)]
    [1, 127, 192, 192, 193, 1377]
    """
    shift = max(0, score.bit_length() - 7)
    return (shift << 7) + (score >> shift)


def end_of_span(score: int) -> int:
    """The first score above the span of *score*.

    >>> end_of_span(5), end_of_span(128), end_of_span(100_000)
    (6, 130, 100352)
    """
    shift = max(0, score.bit_length() - 7)
    return ((score >> shift) + 1) << shift


def pseudonym(tenant: str, member: int) -> str:
    """What others see of a member who chose no name: always the same, and nothing that leads to the person."""
    return f"Member {sha256(f'{tenant}/{member}/leaderboard'.encode()).hexdigest()[:6].upper()}"
