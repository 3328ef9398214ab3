"""Rings of gifts: members whose points come back to where they started.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

#: Longer ways around are not looked for.
LONGEST: Final = 8
#: Receivers of one member that are followed: who gives to more is found by other signals.
WIDEST: Final = 32


class Gift(NamedTuple):
    """Points that went from one member to another."""

    giver: int
    taker: int
    points: int


def graph(gifts: Iterable[Gift]) -> dict[int, set[int]]:
    """Who gave to whom.

    >>> graph([Gift(1, 2, 5), Gift(1, 3, 5), Gift(2, 1, 5)])
    {1: {2, 3}, 2: {1}}
    """
    found: dict[int, set[int]] = {}
    for gift in gifts:
        found.setdefault(gift.giver, set()).add(gift.taker)
    return found


def ring_through(giver: int, taker: int, given: Mapping[int, set[int]], *, longest: int = LONGEST) -> tuple[int, ...]:
    """The shortest way from *taker* back to *giver*, with the giver first; empty if there is none.

    >>> ring_through(3, 1, {1: {2}, 2: {3}, 3: {1}})
    (3, 1, 2)
    >>> ring_through(1, 2, {1: {2}, 2: {3}})
    ()
    """
    ways: dict[int, tuple[int, ...]] = {taker: (giver, taker)}
    edge = [taker]
    for _ in range(longest - 1):
        ahead: list[int] = []
        for member in edge:
            for other in sorted(given.get(member, ()))[:WIDEST]:
                if other == giver:
                    return ways[member]
                if other not in ways:
                    ways[other] = (*ways[member], other)
                    ahead.append(other)
        edge = ahead
    return ()
