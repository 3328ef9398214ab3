"""Reviews of everybody: who moves as of a day, found by reading standings and counters, not by asking event by event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, TypeAlias

from tallystick import errands
from tallystick.ledger import member_name, moment

from .course import Course
from .hooks import Tiers
from .standing import Change
from .store import Range, list_ranges, list_standings, list_unsettled

#: Events sent through the door at once.
AT_ONCE = 500


Errand: TypeAlias = errands.Errand[Tiers]
Work: TypeAlias = errands.Work[Tiers]


class Move(NamedTuple):
    """One change that a review brings."""

    member: int
    ladder: str
    change: Change


def today(errand: Errand) -> date:
    """The programme's day."""
    return errand.plugin.programme.local_date(errand.now)


def list_moves(errand: Errand, day: date) -> Iterator[Move]:
    """Everybody whose tier changes as of *day*, range by range, in the order of members.

    Whoever stays is not written down: the next event of theirs lets the same days pass.
    """
    for within in list_ranges(errand.house.reading, errand.tenant):
        yield from _moves_within(errand, day, within)


def _moves_within(errand: Errand, day: date, within: Range) -> Iterator[Move]:
    for course in errand.plugin.courses.values():
        for places in list_unsettled(errand.house.reading, errand.tenant, course, day, within):
            for place in places:
                _, changes = course.as_of(place.standing, day, place.counted, place.member)
                for change in changes:
                    yield Move(place.member.number, course.ladder.name, change)


def record_review(errand: Work, day: date) -> list[Move]:
    """Review everybody as of *day*, range by range; the changes.

    Each is an event of its member, judged once more under their lock.  A review that was killed goes on behind the last
    range that was done.
    """
    moves: list[Move] = []
    refused: list[Exception] = []
    about, _, after = errand.turn.progress.partition(" ")
    for within in list_ranges(errand.house.reading, errand.tenant, after=after if about == day.isoformat() else ""):
        found = list(_moves_within(errand, day, within))
        refused += _record_moves(errand, day, list(dict.fromkeys(move.member for move in found)))
        moves += found
        if within.last is not None and not refused:
            errand.turn.reached(f"{day.isoformat()} {within.last}")
    if refused:  # what was recorded stands; who was refused is looked at again by the next review
        raise refused[0]
    return moves


def _record_moves(errand: Work, day: date, members: Sequence[int]) -> list[Exception]:
    # all of the event follows from the day and the settings: said again, it is the same event and changes nothing
    number = errand.generation.number
    time = begin_of(day, errand)
    if day == today(errand) and not errand.turn.history:
        time = max(time, moment(errand.generation.since))  # settings of today judge, even where they are younger
    refused: list[Exception] = []
    for start in range(0, len(members), AT_ONCE):
        outcomes = errand.record(
            {
                "id": f"review/{day.isoformat()}/{number}/{member}", "source": "tiers", "type": "tiers.reviewed",
                "time": time.isoformat(), "member": member_name(member), "data": {"day": day.isoformat()},
            }
            for member in members[start : start + AT_ONCE]
        )  # fmt: skip
        refused += [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    return refused


def record_warnings(errand: Errand, day: date) -> int:
    """Say `tiers.warned` of everybody who would fall at a review within reach; how often it was said."""
    courses = [course for course in errand.plugin.courses.values() if course.ladder.warn_days]
    if not courses:
        return 0
    said = 0
    time = errand.now.isoformat()
    for places in list_standings(errand.house.reading, errand.tenant, courses, day):
        found = []
        for place in places:
            course, member = place.course, place.member
            standing, _ = course.until(place.standing, day, place.counted, member)
            review = standing.review
            if review is None or standing.warned == review or not near(course, review, day):
                continue
            if course.rank(course.next_verdict(standing, place.counted, member)) < course.rank(standing.earned):
                found.append(
                    {
                        "id": f"warn/{course.ladder.name}/{review.isoformat()}/{member.number}", "source": "tiers",
                        "type": "tiers.warned", "time": time, "member": member_name(member.number),
                        "data": {"ladder": course.ladder.name, "review": review.isoformat()},
                    }
                )  # fmt: skip
        for start in range(0, len(found), AT_ONCE):
            errand.record(found[start : start + AT_ONCE])
        said += len(found)
    return said


def near(course: Course, review: date, day: date) -> bool:
    """Whether a review is so near that members are told."""
    return day < review <= day + timedelta(days=course.ladder.warn_days)


def begin_of(day: date, errand: Errand) -> datetime:
    """The first instant of a local day."""
    return datetime.combine(day, datetime.min.time(), errand.plugin.programme.zone).astimezone(UTC)
