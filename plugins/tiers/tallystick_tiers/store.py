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
from .standing import Standing

_read = msgspec.json.Decoder(Standing).decode
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
    page: int = 5_000,
) -> Iterator[list[Place]]:
    """Active members who stand on one of *courses*, or *only* one; counters of days as they look on *day*.

    About *page* rows at a time, each page in a transaction of its own, along the key of the rows.
    """
    by_name = {course.ladder.name: course for course in courses}
    query = (
        sa.select(own.c.key, own.c.member, own.c.name, own.c.value)
        .where(own.c.tenant == tenant, own.c.plugin == "tiers", own.c.key > sa.bindparam("after"))
        .order_by(own.c.key)
        .limit(page)
    )
    if only is not None:
        query = query.where(own.c.key == f"m:{only}")
    after = ""
    while True:
        with db.connect() as conn:
            rows = conn.execute(query, {"after": after}).all()
            if len(rows) == page:  # the last member's rows may go on behind the page's end
                last = rows[-1].key
                rows = [row for row in rows if row.key != last]
            people = _people(conn, tenant, {row.member for row in rows})
            counts = _counts(conn, tenant, courses, day, people)
        if not rows:
            return
        found = []
        for row in rows:
            view, course = people.get(row.member), by_name.get(row.name)
            if view is not None and course is not None:
                counted = {name: counts.get((row.member, *key), 0) for name, key in course.counters.items()}
                found.append(Place(view, course, _read(row.value), counted))
        yield found
        if only is not None:
            return
        after = rows[-1].key


def _people(conn: sa.Connection, tenant: str, numbers: Collection[int]) -> dict[int, Member]:
    """Those of *numbers* who are active, as conditions see them."""
    query = sa.select(member.c.number, member.c.enrolled_at, member.c.tags, member.c.language).where(
        member.c.tenant == tenant, member.c.number.in_(numbers), member.c.status == "active"
    )
    return {
        number: Member(
            number,
            "active",
            moment(enrolled),
            tuple(msgspec.json.decode(tags)) if tags != "[]" else (),
            language=language,
        )
        for number, enrolled, tags, language in conn.execute(query)
    }


def _counts(
    conn: sa.Connection, tenant: str, courses: Collection[Course], day: date, numbers: Collection[int]
) -> dict[tuple[int, str, str], int]:
    """(member, counter, window) -> its number."""
    found: dict[tuple[int, str, str], int] = {}
    today = day.toordinal() - _EPOCH
    for window in {window for course in courses for _, window in course.counters.values()}:
        names = {name for course in courses for name, its in course.counters.values() if its == window}
        query = (
            sa.select(counter.c.member, counter.c.name, sa.func.sum(counter.c.value))
            .where(counter.c.tenant == tenant, counter.c.member.in_(numbers), counter.c.name.in_(names))
            .group_by(counter.c.member, counter.c.name)
        )
        if window == "lifetime":
            query = query.where(counter.c.grain == "lifetime")
        else:
            since = today - int(window[1:-1]) + 1
            query = query.where(counter.c.grain == "day", counter.c.start.between(since, today))
        for number, name, value in conn.execute(query):
            found[number, name, window] = int(value)
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
