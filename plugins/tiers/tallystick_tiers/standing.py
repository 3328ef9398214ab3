"""Where a member stands on a ladder: what is remembered between events, as one own row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

#: Why a tier changed: enough was counted, or no longer; what had counted was returned; a review, or the end of its grace;
#: a gift, a membership, or their end; two members who are one.
Reason = Literal[
    "reached",
    "lost",
    "returned",
    "review",
    "grace_over",
    "gift",
    "gift_over",
    "membership",
    "membership_over",
    "joined",
]


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered of a member on one ladder.  Days are local; an end is the first day without.

    The tier held is the highest of what was earned, given and paid for.
    """

    earned: str  #: the tier of the member's own merit
    confirmed: str  #: the tier that the last review left: returns do not go below it
    begin: date  #: first day of the current period, or since when it is looked at
    since: date  #: since when the tier is held
    review: date | None = None  #: the day of the next review
    base: Mapping[str, int] = {}  #: what the counters stood at when the period began
    closed: Mapping[str, int] = {}  #: what the period before came to
    lower: str = ""  #: where one falls when the grace is over
    lower_on: date | None = None
    gift: str = ""
    gift_ends: date | None = None
    paid: str = ""
    paid_ends: date | None = None
    paid_order: str = ""
    rewarded: tuple[str, ...] = ()  #: tiers whose bonus was given for this climb
    warned: date | None = None  #: the review of which the member was warned
    months: Mapping[str, int] = {}  #: events by month, where months are counted


class Change(NamedTuple):
    """A tier changed."""

    was: str
    tier: str
    reason: Reason
    day: date
    bonus: bool = False


def read_standing(row: Any) -> Standing:
    """The standing that an own row holds."""
    return msgspec.convert(row, Standing)


def written(standing: Standing) -> Any:
    """The own row that holds *standing*."""
    return msgspec.to_builtins(standing)
