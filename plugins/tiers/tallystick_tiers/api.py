"""What others may ask about tiers: where a member stands, what that gives, and what the next tier would add."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from msgspec import Struct

from tallystick.situation import Member, Programme

from .course import Course
from .review import Errand, today
from .rules import forecast
from .store import Place, list_standings


class Next(Struct, frozen=True, kw_only=True):
    """The next tier, and what it takes."""

    tier: str
    at: int | None  #: the threshold; None: it is joined, or reached by a condition
    missing: int | None
    adds: Mapping[str, Any]  #: benefits that differ from what the member has
    on: date | None  #: the day on which it is reached at the pace so far; None: not in this period


class View(Struct, frozen=True, kw_only=True):
    """A member on one ladder, as an app shows it."""

    ladder: str
    tier: str
    since: date | None
    values: Mapping[str, int]  #: what counts now, by metric
    benefits: Mapping[str, Any]
    review: date | None = None  #: when it is next looked at
    falls_to: str = ""  #: what the review would leave if nothing more was counted
    lower: str = ""  #: during grace: the tier after it
    lower_on: date | None = None
    gift: str = ""
    paid: str = ""
    next: Next | None = None


def standings(errand: Errand, member: int) -> list[View]:
    """Where *member* stands on every ladder they are on, as of today."""
    day = today(errand)
    courses = list(errand.plugin.courses.values())
    found = [
        view_of(place, day)
        for places in list_standings(errand.house.reading, errand.tenant, courses, day, only=member)
        for place in places
    ]
    order = {course.ladder.name: n for n, course in enumerate(courses)}
    return sorted(found, key=lambda view: order[view.ladder])


def view_of(place: Place, day: date) -> View:
    """What one standing comes to on *day*."""
    course, counted, member = place.course, place.counted, place.member
    ladder = course.ladder
    standing, _ = course.as_of(place.standing, day, counted, member)
    values = course.values(standing, counted, day)
    held = course.held(standing)
    rank = course.rank(held)
    following = None
    if rank + 1 < len(ladder.tiers):
        tier = ladder.tiers[rank + 1]
        amount = values.get(ladder.by, 0)
        ahead = None
        if tier.at is not None:
            since = standing.begin if ladder.periodic else course.programme.local_date(member.enrolled_at)
            ahead = forecast(amount, tier.at, min(since, day), day, standing.review if ladder.periodic else None)
        following = Next(
            tier=tier.name, at=tier.at, missing=None if ahead is None else ahead.missing,
            adds=added(benefits_of(course, held), benefits_of(course, tier.name)),
            on=None if ahead is None else ahead.on,
        )  # fmt: skip
    falls_to = course.next_verdict(standing, counted, member) if standing.review is not None else ""
    return View(
        ladder=ladder.name, tier=held, since=standing.since, values=values, benefits=benefits_of(course, held),
        review=standing.review, falls_to=falls_to if course.rank(falls_to) < course.rank(standing.earned) else "",
        lower=standing.lower, lower_on=standing.lower_on, gift=standing.gift, paid=standing.paid, next=following,
    )  # fmt: skip


def benefits(programme: Programme, member: Member | None) -> dict[str, Any]:
    """What the tiers give that *member* holds in a situation: for hooks of plugins that depend on this one.  Pure.

    Of a benefit that several ladders give, the one of the ladder that comes first.
    """
    found: dict[str, Any] = {}
    if member is None:
        return found
    for ladder, tiers in programme.declared.get("tiers", {}).get("benefits", {}).items():
        for name, benefit in tiers.get(member.tiers.get(ladder, ""), {}).items():
            found.setdefault(name, benefit)
    return found


def benefits_of(course: Course, tier: str) -> Mapping[str, Any]:
    """What a tier gives: the declared benefits, and its multiplier if it has one."""
    return course.tiers[tier].gives


def added(now: Mapping[str, Any], then: Mapping[str, Any]) -> Mapping[str, Any]:
    """What *then* gives that *now* does not give, or gives otherwise."""
    return {name: benefit for name, benefit in then.items() if now.get(name) != benefit}
