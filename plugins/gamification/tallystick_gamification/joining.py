"""Two members who turn out to be one person: what becomes of progress, streaks, badges and invitations.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .checkin import ROW as CHECK_IN
from .paid import ROW as PAID
from .paid import joined as paid_joined
from .tasks import joined as progress_joined

REFERRAL = "referral"


def join(source: Mapping[str, Any], into: Mapping[str, Any], endless: Mapping[str, bool]) -> Iterator[tuple[str, Any]]:
    """(row, value) of the one who remains, where it is not simply what one of the two had.

    *endless* says of each task whether its rounds have no end.
    """
    for name in sorted({*source, *into}):
        mine, theirs = source.get(name), into.get(name)
        if mine is None or theirs is None:
            continue
        if name == PAID:
            yield name, paid_joined(mine, theirs, endless)
        elif name.startswith("task:"):
            yield name, progress_joined(mine, theirs)
        elif name.startswith("badge:"):
            if mine["level"] > theirs["level"]:
                yield name, mine
        elif name == CHECK_IN:
            yield name, streak_joined(mine, theirs)
        elif name == REFERRAL and mine.get("paid") and not theirs.get("paid"):
            yield name, mine  # one person is a friend once
        elif name == "invited":
            yield name, mine + theirs


def streak_joined(mine: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    """Of two streaks the one that goes on: the later, and of the same day the longer.  All days count."""
    goes_on = max(mine, theirs, key=lambda row: (row["day"], row["length"]))
    return {
        "day": goes_on["day"], "length": goes_on["length"], "best": max(mine["best"], theirs["best"]),
        "total": mine["total"] + theirs["total"],
    }  # fmt: skip
