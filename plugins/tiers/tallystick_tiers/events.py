"""What can happen to tiers beside purchases: they are given, joined, reviewed, and they change."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from msgspec import Meta

from tallystick.events import Facts, Name, Text

from .standing import Reason


class Assigned(Facts, frozen=True):
    """Staff give a tier to a member: a floor, not a lock.  Without a tier the gift ends."""

    ladder: Name
    by: Name  #: who does it: a staff number or login, not a name
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    tier: Text = ""
    until: date | None = None  #: the last day of the gift; without it, it has no end


class Joined(Facts, frozen=True):
    """A membership was paid for: the tier is held for its term, or for one more term."""

    ladder: Name
    tier: Name
    order: Text = ""  #: the order it was paid with: a full return of that order ends it


class Reviewed(Facts, frozen=True):
    """A member's tiers were looked at as of a day, by the clock or by hand."""

    day: date


class Warned(Facts, frozen=True):
    """A member may fall at the next review; the daily job says so once for each review."""

    ladder: Name
    review: date  #: the first day on which the tier would be lost


class Changed(Facts, frozen=True):
    """A member's tier changed.  Follows from what caused it; sent from outside it is only a note."""

    ladder: Name
    was: Text
    tier: Name
    reason: Reason
    day: date
    bonus: bool = False  #: whether the tier's bonus is due
