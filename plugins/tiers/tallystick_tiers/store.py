"""Who stands where, read by the thousand: own rows, counters and members, page by page in the order of members."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from tallystick.ledger import Record, moment, read_record
from tallystick.situation import Member
from tallystick.tables import counter, member, own, record

from .course import Course
from .standing import Standing, read_standing

_EPOCH = date(1970, 1, 1).toordinal()


class Place(NamedTuple):
    """One member on one ladder, with what counters say."""

    member: Member
    course: Course
    standing: Standing
    counted: Mapping[str, int]


def list_standings(
    db: sa.Engine,
    tenant: str,
    courses: Collection[Course],
    day: date,
    *,
    only: int | None = None,
    after: int = 0,
    page: int = 5_000,
) -> Iterator[list[Place]]:
    """Active members who stand on one of *courses*, *page* rows at a time; counters of days as they look on *day*.

    *only* one member, or those with a number above *after*.  Each page is read in a transaction of its own.
    """
    by_name = {course.ladder.name: course for course in courses}
    query = (
        sa.select(own.c.member, own.c.name, own.c.value, member.c.enrolled_at, member.c.tags, member.c.language)
        .join(member, sa.and_(member.c.tenant == own.c.tenant, member.c.number == own.c.member))
        .where(own.c.tenant == tenant, own.c.plugin == "tiers", own.c.name.in_(by_name), member.c.status == "active")
        .order_by(own.c.member)
        .limit(page)
    )
    if only is not None:
        query = query.where(own.c.member == only)
    while True:
        with db.connect() as conn:
            rows = conn.execute(query.where(own.c.member > after)).all()
            if len(rows) == page:  # the last member's rows may go on behind the page's end
                last = rows[-1].member
                rows = [row for row in rows if row.member != last] if rows[0].member != last else rows
            counts = _counts(conn, tenant, courses, day, rows[0].member, rows[-1].member) if rows else {}
        if not rows:
            return
        places = []
        for row in rows:
            course = by_name[row.name]
            view = Member(
                row.member,
                "active",
                moment(row.enrolled_at),
                tuple(msgspec.json.decode(row.tags)),
                language=row.language,
            )
            counted = {name: counts.get((row.member, *key), 0) for name, key in course.counters.items()}
            places.append(Place(view, course, read_standing(msgspec.json.decode(row.value)), counted))
        yield places
        if only is not None:
            return
        after = rows[-1].member


def _counts(
    conn: sa.Connection, tenant: str, courses: Collection[Course], day: date, first: int, last: int
) -> dict[tuple[int, str, str], int]:
    """(member, counter, window) -> its number, for members from *first* to *last*."""
    found: dict[tuple[int, str, str], int] = {}
    today = day.toordinal() - _EPOCH
    for window in {window for course in courses for _, window in course.counters.values()}:
        names = {name for course in courses for name, its in course.counters.values() if its == window}
        query = (
            sa.select(counter.c.member, counter.c.name, sa.func.sum(counter.c.value).label("number"))
            .where(counter.c.tenant == tenant, counter.c.member.between(first, last), counter.c.name.in_(names))
            .group_by(counter.c.member, counter.c.name)
        )
        if window == "lifetime":
            query = query.where(counter.c.grain == "lifetime")
        else:
            since = today - int(window[1:-1]) + 1
            query = query.where(counter.c.grain == "day", counter.c.start.between(since, today))
        for row in conn.execute(query):
            found[row.member, row.name, window] = int(row.number)
    return found


def list_changes(db: sa.Engine, tenant: str, number: int) -> Iterator[tuple[Record, Mapping[str, str]]]:
    """Every change of the member's tiers, in the order of the journal: the record, and ladder, tier and reason."""
    query = (
        sa.select(record.c.body)
        .where(record.c.tenant == tenant, record.c.member == number)
        .order_by(record.c.received, record.c.entry)
    )
    with db.connect() as conn:
        bodies = [bytes(body) for body in conn.scalars(query)]
    for page in map(read_record, bodies):
        for step in page.explanation:
            if step.effect == "tier" and step.data is not None:
                yield page, step.data
