"""Who stands where, read by the thousand: own rows, counters and members, page by page in the order of members."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tallystick.ledger import Record, moment, read_record
from tallystick.queries import Reading
from tallystick.situation import Member
from tallystick.tables import counter, member, own, record

from .course import Bounds, Course
from .standing import Standing

_read = msgspec.json.Decoder(Standing).decode
_EPOCH = date(1970, 1, 1).toordinal()


class Place(NamedTuple):
    """One member on one ladder, with what counters say."""

    member: Member
    course: Course
    standing: Standing
    counted: Mapping[str, int]


class Range(NamedTuple):
    """Rows behind the key *after*, up to *last*; None: up to the end."""

    after: str
    last: str | None


def list_standings(
    reading: Reading,
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
        with reading() as conn:
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


def list_ranges(reading: Reading, tenant: str, *, after: str = "", size: int = 100_000) -> Iterator[Range]:
    """All own rows of tiers in ranges of about *size*, along their key, from behind *after* on."""
    rows = sa.select(own.c.key).where(own.c.tenant == tenant, own.c.plugin == "tiers").order_by(own.c.key)
    while True:
        with reading() as conn:
            last = conn.scalar(rows.where(own.c.key > after).offset(size - 1).limit(1))
        yield Range(after, last)
        if last is None:
            return
        after = last


def list_unsettled(reading: Reading, tenant: str, course: Course, day: date, within: Range) -> Iterator[list[Place]]:
    """Who stands on the ladder of *course*, less those of whom the database itself can tell that they stay as of *day*."""
    with reading() as conn:
        query = _unsettled(course, day, within, postgres=conn.dialect.name == "postgresql")
        rows = conn.execute(query, {"tenant": tenant}).all()
        for start in range(0, len(rows), 5_000):
            some = rows[start : start + 5_000]
            people = _people(conn, tenant, {row.member for row in some})
            counts = _counts(conn, tenant, [course], day, people)
            yield [
                Place(
                    people[row.member],
                    course,
                    _read(row.value),
                    {name: counts.get((row.member, *key), 0) for name, key in course.counters.items()},
                )
                for row in some
                if row.member in people
            ]


def _unsettled(course: Course, day: date, within: Range, *, postgres: bool) -> sa.TextClause:
    """Rows are canonical JSON, its fields in the order of :class:`Standing`: most of what decides is found without parsing it."""
    given: dict[str, Any] = {"ladder": course.ladder.name, "after": within.after, "day": day.isoformat()}
    where = "own.tenant = :tenant AND own.plugin = 'tiers' AND own.key > :after AND own.name = :ladder"
    if within.last is not None:
        where += " AND own.key <= :last"
        given["last"] = within.last
    bounds = course.bounds()
    if bounds is not None:
        place = "strpos" if postgres else "instr"
        by = course.ladder.by
        counter, window = course.counters[by]
        today = day.toordinal() - _EPOCH
        given |= {"counter": counter}
        value = (
            "coalesce((SELECT {} FROM counter WHERE counter.tenant = :tenant AND counter.member = own.member"
            " AND counter.name = :counter AND counter.grain = {}), 0)"
        )
        if window == "lifetime":  # one row, found by its key
            value = value.format("value", "'lifetime' AND counter.start = 0")
        else:
            given |= {"since": today - int(window[1:-1]) + 1, "today": today}
            value = value.format("sum(counter.value)", "'day' AND counter.start BETWEEN :since AND :today")
        if course.ladder.periodic:
            given["by"] = by if postgres else f'$.base."{by}"'
            base = "own.value::jsonb -> 'base' ->> CAST(:by AS text)" if postgres else "json_extract(own.value, :by)"
            value = f"{value} - coalesce(CAST({base} AS bigint), 0)"
        least, higher = (_by_tier(given, bounds, n, postgres=postgres) for n in (0, 2))
        amount = f"{'greatest' if postgres else 'max'}(0, {value})"
        plain = " AND ".join(f"{place}(value, '\"{key}\":') = 0" for key in ("gift", "paid", "lower"))
        # SQLite works out once what stands in front of BETWEEN: a fifth of the whole review
        before = f"{amount} BETWEEN {least} AND {higher} - 1"
        no = "false" if postgres else "0"
        if course.reviews:
            review = f"CASE WHEN {place}(value, '\"review\":\"') > 0 THEN substr(value, {place}(value, '\"review\":\"') + 10, 10) ELSE '9' END"
            at_review = _by_tier(given, bounds, 1, postgres=postgres)
            on_its_day = f"WHEN {review} = :day THEN {amount} BETWEEN {at_review} AND {higher} - 1"
            before = f"CASE WHEN {review} > :day THEN {before} {on_its_day} ELSE {no} END"
        else:  # nobody who began under these settings has a day of review
            before = f'{place}(value, \'"review":"\') = 0 AND {before}'
            del given["day"]
        where += f" AND NOT coalesce({plain} AND {before}, {no})"
    text = f"SELECT own.key, own.member, own.value FROM own WHERE {where} ORDER BY own.key"  # noqa: S608  all is bound
    return sa.text(text).bindparams(**given)


def _by_tier(given: dict[str, Any], bounds: Mapping[str, Bounds], field: int, *, postgres: bool) -> str:
    """The bound of the tier that was earned, which is the first thing in the row; null if nobody stays or nobody knows it."""
    cases = []
    for n, (tier, each) in enumerate(bounds.items()):
        begin = f'{{"earned":{msgspec.json.encode(tier).decode()},'
        given |= {f"tier{n}": begin, f"bound{field}_{n}": each[field]}
        bound = f"CAST(:bound{field}_{n} AS bigint)" if postgres else f":bound{field}_{n}"
        cases.append(f"WHEN substr(value, 1, {len(begin)}) = :tier{n} THEN {bound}")
    return f"CASE {' '.join(cases)} END"


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


def list_changes(reading: Reading, tenant: str, number: int) -> Iterator[tuple[Record, Mapping[str, str]]]:
    """Every change of the member's tiers, in the order of the journal: the record, and ladder, tier and reason."""
    query = (
        sa.select(record.c.body)
        .where(record.c.tenant == tenant, record.c.member == number)
        .order_by(record.c.received, record.c.entry)
    )
    with reading() as conn:
        bodies = [bytes(body) for body in conn.scalars(query)]
    for page in map(read_record, bodies):
        for step in page.explanation:
            if step.effect == "tier" and step.data is not None:
                yield page, step.data
