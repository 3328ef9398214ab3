"""What the plugin reads and writes: traces, cases, notes, and its own rows from outside an event."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tallystick.ledger import member_name
from tallystick.tables import own

from .memory import Seen, read_memory
from .tables import case, concerned, mark, note, trace, waiting

PLUGIN = "risk"
#: The own rows of what guests did and was not learned yet, under the name of the entry.
GUESTS = "guests"
#: Keys asked about in one query.
AT_ONCE = 500
#: Traces looked at in one turn.
AT_MOST = 20_000

_SEEN = msgspec.json.Decoder(Seen)


class Trace(NamedTuple):
    """One event, as watches see it."""

    number: int
    entry: str
    member: int
    at: int
    what: str
    other: int
    store: str
    cashier: str
    device: str
    address: str
    cents: int
    points: int
    order_id: str


class Sum(NamedTuple):
    """What one member did somewhere, added up by kind."""

    subject: Any
    member: int
    what: str
    times: int
    cents: int
    points: int


_TRACE = [trace.c[name] for name in Trace._fields]


def _some(keys: Iterable[Any]) -> Iterator[list[Any]]:
    found = sorted(keys)
    for start in range(0, len(found), AT_ONCE):
        yield found[start : start + AT_ONCE]


# --- learning what was committed ---------------------------------------------------------------------------------------


def learn(conn: sa.Connection, tenant: str, entries: Mapping[str, int]) -> None:
    """Take over what *entries* (with their members) left in the memories; said again, it is the same.

    A member who did more than a memory holds before this was called is known by what the memory still holds.
    """
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    rows: list[dict[str, Any]] = []
    for some in _some({f"m:{member}" for member in entries.values() if member}):
        for row in conn.execute(_rows(tenant, own.c.key.in_(some), own.c.name == "seen")):
            member, events = int(row.key[2:]), read_memory(msgspec.json.decode(row.value)).events
            rows += [_row(tenant, member, seen) for seen in events if entries.get(seen.entry) == member]
    for some in _some(entry for entry, member in entries.items() if not member):
        guests = sa.and_(own.c.key == GUESTS, own.c.name.in_(some))
        found = conn.execute(_rows(tenant, guests)).all()
        rows += [_row(tenant, 0, _SEEN.decode(msgspec.json.decode(row.value))) for row in found]
        if found:
            conn.execute(own.delete().where(own.c.tenant == tenant, own.c.plugin == PLUGIN, guests))
    if rows:
        order = {entry: place for place, entry in enumerate(entries)}
        rows.sort(key=lambda row: order[row["entry"]])
        conn.execute(insert(trace).on_conflict_do_nothing(), rows)


def _rows(tenant: str, *where: sa.ColumnElement[bool]) -> sa.Select[tuple[str, str, str]]:
    mine = (own.c.tenant == tenant, own.c.plugin == PLUGIN)
    return sa.select(own.c.key, own.c.name, own.c.value).where(*mine, *where)


def _row(tenant: str, member: int, seen: Seen) -> dict[str, Any]:
    return {
        "tenant": tenant, "entry": seen.entry, "at": seen.at, "what": seen.what, "member": member, "other": seen.other,
        "store": seen.store, "cashier": seen.cashier, "device": seen.device, "address": seen.address, "cents": seen.cents,
        "points": seen.points, "order_id": seen.order,
    }  # fmt: skip


def traces_after(conn: sa.Connection, tenant: str, number: int, limit: int = AT_MOST) -> list[Trace]:
    """Traces that were learned after *number*."""
    query = sa.select(*_TRACE).where(trace.c.tenant == tenant, trace.c.number > number)
    return [Trace(*row) for row in conn.execute(query.order_by(trace.c.number).limit(limit))]


def sums(conn: sa.Connection, tenant: str, column: str, subjects: Collection[Any], since: int, until: int) -> list[Sum]:
    """What members did at each of *subjects* (stores, cashiers, devices, ...) after *since* and up to *until*."""
    about, found = trace.c[column], []
    for some in _some(subjects):
        query = (
            sa.select(
                about, trace.c.member, trace.c.what, sa.func.count(), sa.func.sum(trace.c.cents), sa.func.sum(trace.c.points)
            )
            .where(trace.c.tenant == tenant, about.in_(some), trace.c.at > since, trace.c.at <= until)
            .group_by(about, trace.c.member, trace.c.what)
        )  # fmt: skip
        found += [Sum(*row[:3], *map(int, row[3:])) for row in conn.execute(query)]
    return sorted(found)


def traces_of(
    conn: sa.Connection, tenant: str, column: str, subjects: Collection[Any], since: int, until: int, *whats: str
) -> list[Trace]:
    """Single traces of *subjects*, in the order of time."""
    about, found = trace.c[column], []
    for some in _some(subjects):
        query = sa.select(*_TRACE).where(
            trace.c.tenant == tenant, about.in_(some), trace.c.at > since, trace.c.at <= until
        )
        if whats:
            query = query.where(trace.c.what.in_(whats))
        found += [Trace(*row) for row in conn.execute(query)]
    return sorted(found, key=lambda one: (one.at, one.number))


def traces_of_entry(conn: sa.Connection, tenant: str, entry: str) -> list[Trace]:
    """The trace of one entry, if there is one."""
    found = conn.execute(sa.select(*_TRACE).where(trace.c.tenant == tenant, trace.c.entry == entry))
    return [Trace(*row) for row in found]


def gifts(conn: sa.Connection, tenant: str, since: int, until: int) -> list[Trace]:
    """All gifts of a time."""
    query = sa.select(*_TRACE).where(
        trace.c.tenant == tenant, trace.c.at > since, trace.c.at <= until, trace.c.what == "give", trace.c.other > 0
    )
    return [Trace(*row) for row in conn.execute(query.order_by(trace.c.at, trace.c.number))]


def looked(conn: sa.Connection, tenant: str) -> int:
    """The last trace that the watches have looked at."""
    return conn.scalar(sa.select(mark.c.number).where(mark.c.tenant == tenant)) or 0


def look_on(conn: sa.Connection, tenant: str, number: int) -> None:
    """The watches have looked at everything up to *number*."""
    if not conn.execute(mark.update().where(mark.c.tenant == tenant).values(number=number)).rowcount:
        conn.execute(mark.insert(), {"tenant": tenant, "number": number})


def sweep(conn: sa.Connection, tenant: str, before: int) -> int:
    """Forget traces that are older than *before* and were looked at; how many there were."""
    old = sa.and_(trace.c.tenant == tenant, trace.c.at < before, trace.c.number <= looked(conn, tenant))
    return conn.execute(trace.delete().where(old)).rowcount


# --- cases ---------------------------------------------------------------------------------------------------------------


class Occasion(NamedTuple):
    """Why a case is opened, or what adds to it."""

    policy: str
    about: str
    subject: str
    reason: str
    at: int
    monitor: bool = False
    maker: str = ""


def open_case(conn: sa.Connection, tenant: str, why: Occasion) -> int:
    """The open case about this subject, one more time; a new one if there is none."""
    mine = sa.and_(
        case.c.tenant == tenant, case.c.policy == why.policy, case.c.about == why.about, case.c.subject == why.subject,
        case.c.status == "open",
    )  # fmt: skip
    number = conn.scalar(sa.select(case.c.number).where(mine))
    if number is not None:
        more: dict[str, Any] = {"last_at": why.at, "times": case.c.times + 1, "reason": why.reason}
        conn.execute(case.update().where(case.c.number == number).values(**more))
        return int(number)
    new = conn.execute(
        case.insert().values(
            tenant=tenant, policy=why.policy, about=why.about, subject=why.subject, status="open", monitor=int(why.monitor),
            opened_at=why.at, last_at=why.at, times=1, reason=why.reason, maker=why.maker, assigned="", decision="",
            decided_by="", decided_at=0,
        )
    )  # fmt: skip
    (number,) = new.inserted_primary_key or (0,)
    return int(number)


def concern(conn: sa.Connection, tenant: str, number: int, members: Iterable[int]) -> set[int]:
    """These members are part of the case; those who were not before."""
    known = set(conn.scalars(sa.select(concerned.c.member).where(concerned.c.case == number)))
    new = {member for member in members if member} - known
    if new:
        conn.execute(concerned.insert(), [{"case": number, "member": m, "tenant": tenant} for m in sorted(new)])
    return new


def wait(conn: sa.Connection, tenant: str, number: int, entry: str, **more: Any) -> None:
    """An entry belongs to a case, and may wait there for a decision."""
    known = sa.select(waiting.c.entry).where(waiting.c.case == number, waiting.c.entry == entry)
    if conn.scalar(known) is None:
        conn.execute(waiting.insert().values(case=number, entry=entry, tenant=tenant, **more))


def decided(conn: sa.Connection, tenant: str, entry: str, status: str) -> None:
    """An entry waits no longer."""
    mine = sa.and_(waiting.c.tenant == tenant, waiting.c.entry == entry)
    conn.execute(waiting.update().where(mine).values(status=status))


def due(conn: sa.Connection, tenant: str, now: int, limit: int = AT_ONCE) -> list[tuple[str, str]]:
    """Entries that waited long enough, with how they end: the earliest word of all their cases."""
    c = waiting.c
    query = (
        sa.select(c.entry, c.end)
        .where(c.tenant == tenant, c.status.in_(("held", "step_up")), c.due_at <= now)
        .order_by(c.due_at, c.entry)
        .limit(limit)
    )
    found: dict[str, str] = {}
    for entry, end in conn.execute(query):
        found.setdefault(entry, end)
    return list(found.items())


def case_of(conn: sa.Connection, tenant: str, number: int) -> Any:
    """The row of a case; None if there is none."""
    return conn.execute(sa.select(case).where(case.c.tenant == tenant, case.c.number == number)).one_or_none()


def cases_of(
    conn: sa.Connection, tenant: str, *, status: str = "", policy: str = "", assigned: str = "", member: int = 0,
    before: int = 0, limit: int = 100,
) -> list[Any]:  # fmt: skip
    """Rows of cases, newest first."""
    query = sa.select(case).where(case.c.tenant == tenant)
    for column, wanted in ((case.c.status, status), (case.c.policy, policy), (case.c.assigned, assigned)):
        if wanted:
            query = query.where(column == wanted)
    if before:
        query = query.where(case.c.number < before)
    if member:
        theirs = sa.select(concerned.c.case).where(concerned.c.tenant == tenant, concerned.c.member == member)
        query = query.where(case.c.number.in_(theirs))
    return list(conn.execute(query.order_by(case.c.number.desc()).limit(limit)))


def cases_about(conn: sa.Connection, tenant: str, policy: str, about: str, subject: str) -> list[Any]:
    """Rows of open cases about one subject."""
    query = sa.select(case).where(
        case.c.tenant == tenant, case.c.policy == policy, case.c.about == about, case.c.subject == subject,
        case.c.status == "open",
    )  # fmt: skip
    return list(conn.execute(query))


def decided_after(conn: sa.Connection, tenant: str, policy: str, about: str, subject: str, after: int) -> bool:
    """Whether people decided about this subject not long ago."""
    query = sa.select(case.c.number).where(
        case.c.tenant == tenant, case.c.policy == policy, case.c.about == about, case.c.subject == subject,
        case.c.status == "decided", case.c.decided_at > after,
    )  # fmt: skip
    return conn.scalar(query.limit(1)) is not None


def members_of(conn: sa.Connection, number: int) -> list[int]:
    """Whom a case concerns."""
    return list(conn.scalars(sa.select(concerned.c.member).where(concerned.c.case == number).order_by("member")))


def entries_of(conn: sa.Connection, number: int) -> list[Any]:
    """Rows of a case's entries."""
    return list(conn.execute(sa.select(waiting).where(waiting.c.case == number).order_by(waiting.c.entry)))


def waits_for(conn: sa.Connection, tenant: str, entry: str) -> list[Any]:
    """Rows of an entry in all its cases."""
    return list(conn.execute(sa.select(waiting).where(waiting.c.tenant == tenant, waiting.c.entry == entry)))


def waiting_of(conn: sa.Connection, tenant: str, member: int) -> list[Any]:
    """Rows of what is pending of a member."""
    c = waiting.c
    query = sa.select(waiting).where(c.tenant == tenant, c.member == member, c.status.in_(("held", "step_up")))
    return list(conn.execute(query.order_by(c.entry)))


def notes_of(conn: sa.Connection, number: int) -> list[Any]:
    """Rows of a case's notes."""
    return list(conn.execute(sa.select(note).where(note.c.case == number).order_by(note.c.number)))


def add_note(conn: sa.Connection, tenant: str, number: int, at: int, by: str, text: str) -> None:
    """Write to a case."""
    conn.execute(note.insert().values(case=number, tenant=tenant, at=at, by=by, text=text))


def change(conn: sa.Connection, number: int, **fields: Any) -> None:
    """Change a case."""
    conn.execute(case.update().where(case.c.number == number).values(**fields))


class Count(NamedTuple):
    """How busy a policy or watch was."""

    policy: str
    status: str
    monitor: bool
    cases: int
    times: int


def counts(conn: sa.Connection, tenant: str) -> list[Count]:
    """Cases by policy, status, and whether they were only watched."""
    kinds = (case.c.policy, case.c.status, case.c.monitor)
    query = sa.select(*kinds, sa.func.count(), sa.func.sum(case.c.times)).where(case.c.tenant == tenant)
    found = conn.execute(query.group_by(*kinds).order_by(*kinds))
    return [Count(row[0], row[1], bool(row[2]), int(row[3]), int(row[4])) for row in found]


def pending(conn: sa.Connection, tenant: str) -> int:
    """Entries that wait for a decision."""
    mine = (waiting.c.tenant == tenant, waiting.c.status.in_(("held", "step_up")))
    return conn.scalar(sa.select(sa.func.count(sa.distinct(waiting.c.entry))).where(*mine)) or 0


# --- people ----------------------------------------------------------------------------------------------------------------


def own_rows(conn: sa.Connection, tenant: str, member: int) -> Mapping[str, Any]:
    """The plugin's own rows of a member."""
    found = conn.execute(_rows(tenant, own.c.key == f"m:{member}"))
    return {row.name: msgspec.json.decode(row.value) for row in found if row.name}


def everything(conn: sa.Connection, tenant: str, member: int) -> Mapping[str, Any]:
    """All that is kept of a member: traces and cases."""
    rows = conn.execute(sa.select(trace).where(trace.c.tenant == tenant, trace.c.member == member).order_by("number"))
    cases = cases_of(conn, tenant, member=member, limit=10_000)
    return {
        "traces": [{k: v for k, v in row._mapping.items() if k not in ("tenant", "number", "member")} for row in rows],  # noqa: SLF001 - SQLAlchemy's public name
        "cases": [{"number": row.number, "policy": row.policy, "opened_at": row.opened_at, "reason": row.reason} for row in cases],
    }  # fmt: skip


def forget(conn: sa.Connection, tenant: str, member: int) -> None:
    """Forget a member: traces, and what cases say of them."""
    conn.execute(trace.delete().where(trace.c.tenant == tenant, trace.c.member == member))
    conn.execute(trace.update().where(trace.c.tenant == tenant, trace.c.other == member).values(other=0))
    mine = sa.and_(case.c.tenant == tenant, case.c.about.in_(("member", "inviter", "ring")), case.c.subject == member_name(member))  # fmt: skip
    numbers = list(conn.scalars(sa.select(case.c.number).where(mine)))
    for some in _some(numbers):
        conn.execute(note.delete().where(note.c.case.in_(some)))
        conn.execute(waiting.delete().where(waiting.c.case.in_(some)))
        conn.execute(concerned.delete().where(concerned.c.case.in_(some)))
        conn.execute(case.delete().where(case.c.number.in_(some)))
    conn.execute(waiting.delete().where(waiting.c.tenant == tenant, waiting.c.member == member))
    conn.execute(concerned.delete().where(concerned.c.tenant == tenant, concerned.c.member == member))


def last_at(traces: Sequence[Trace]) -> int:
    """When the latest of *traces* happened."""
    return max(one.at for one in traces)
