"""What apps and tills ask: the ladders of the programme, and where a member stands on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from tallystick import errands

from .api import View, benefits_of, standings
from .hooks import Tiers

Request: TypeAlias = errands.Request[Tiers]


class Step(Struct, frozen=True, kw_only=True):
    """One tier as it is shown."""

    name: str
    title: str
    at: int | None  #: its threshold; None: it is joined, or reached by a condition
    benefits: Mapping[str, Any]


class Steps(Struct, frozen=True, kw_only=True):
    """One ladder as it is shown, from the lowest tier to the highest."""

    name: str
    title: str
    window: str
    by: str  #: the metric that thresholds are about
    tiers: tuple[Step, ...]


def ladders(request: Request) -> list[Steps]:
    """The ladders of the programme, their tiers and what they give."""
    language = request.language
    return [
        Steps(
            name=course.ladder.name, title=course.ladder.summary.in_language(language), window=course.ladder.window,
            by=course.ladder.by,
            tiers=tuple(
                Step(name=tier.name, title=tier.summary.in_language(language), at=tier.at, benefits=benefits_of(course, tier.name))
                for tier in course.ladder.tiers
            ),
        )
        for course in request.plugin.courses.values()
    ]  # fmt: skip


def member(request: Request) -> list[View]:
    """Where the member stands: tier, benefits, the next review, what the next tier takes and adds, and the pace."""
    return standings(request, request.member)
