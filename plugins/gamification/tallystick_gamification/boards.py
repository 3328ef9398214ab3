"""Leaderboards: their windows, and what others see of who is on them.  Counters of the core are projected into lists after the commit."""

from __future__ import annotations

from datetime import date
from hashlib import sha256

from .periods import period_of

_EPOCH = date(1970, 1, 1).toordinal()


def start_of(window: str, day: date) -> int:
    """First local day of the window around *day*, in days since 1970."""
    return 0 if window == "lifetime" else period_of(window, day) - _EPOCH


def pseudonym(tenant: str, member: int) -> str:
    """What others see of a member who chose no name: always the same, and nothing that leads to the person."""
    return f"Member {sha256(f'{tenant}/{member}/leaderboard'.encode()).hexdigest()[:6].upper()}"
