"""What the plugin reads and writes: its projections, and its own rows from outside an event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tallystick.ledger import Record, moment, parse_member, read_record
from tallystick.situation import Member
from tallystick.tables import claim, counter, member, own, record, stock

from .boards import end_of_span, span_of
from .paid import ROW as PAID
from .tables import drawn, score, span
from .watch import BOARD

PLUGIN = "gamification"
MERGES = ("member.merged", "member.unmerged")
#: The own rows of those who hide: one for each, under their number.
HIDDEN = "hidden"


class Place(NamedTuple):
    """A place on a leaderboard."""

    rank: int  #: members with the same score share a rank, and the next ones follow as if they did not
    member: int
    score: int


# --- learning what was committed -----------------------------------------------------------------------------------


def project(conn: sa.Connection, records: Iterable[Record]) -> None:
    """Write what *records* add to leaderboards and draws.  Called once per record: the house keeps the offset."""
    added: dict[tuple[str, str, int, str, int], int] = {}
    draws: list[dict[str, Any]] = []
    for page in records:
        gone = parse_member(page.member) if page.kind in MERGES else None
        for number, name, _, start, amount, _ in page.counts:
            if name.startswith(BOARD):
                board, _, scope = name.removeprefix(BOARD).partition("/")
                key = (page.tenant, board, start, scope, number)
                added[key] = added.get(key, 0) + amount
                if gone is not None:  # who was merged leaves the list as the other gains, and comes back when they part
                    key = (page.tenant, board, start, scope, gone)
                    added[key] = added.get(key, 0) - amount
        if page.kind == "gamification.drawn":
            draws += [_drawn(page, step.data) for step in page.explanation if step.data and "drawn" in step.data]
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    keys = ("tenant", "board", "start", "scope", "member")
    rows = [dict(zip((*keys, "score"), (*key, amount), strict=True)) for key, amount in sorted(added.items()) if amount]
    if rows:
        new = insert(score)
        upsert = new.on_conflict_do_update(
            index_elements=list(keys), set_={"score": score.c.score + new.excluded.score}
        )
        scores = conn.execute(upsert.returning(*score.c), rows).all()
        _move(conn, ((*row[:4], row.score - added[row[:5]], row.score) for row in scores))
    if draws:
        conn.execute(insert(drawn).on_conflict_do_nothing(), draws)


def _move(conn: sa.Connection, scores: Iterable[tuple[str, str, int, str, int, int]]) -> None:
    """Members go from one span to another: (tenant, board, start, scope, score before, score now)."""
    moved = Counter[tuple[str, str, int, str, int]]()
    for *board, before, now in scores:
        if before > 0:
            moved[(*board, span_of(before))] -= 1  # type: ignore[index]
        if now > 0:
            moved[(*board, span_of(now))] += 1  # type: ignore[index]
    keys = ("tenant", "board", "start", "scope", "span")
    rows = [dict(zip((*keys, "members"), (*key, n), strict=True)) for key, n in sorted(moved.items()) if n]
    if rows:
        insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
        new = insert(span)
        conn.execute(
            new.on_conflict_do_update(
                index_elements=list(keys), set_={"members": span.c.members + new.excluded.members}
            ),
            rows,
        )


def _drawn(record: Record, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tenant": record.tenant, "entry": record.entry, "member": record.member,
        **{name: data[name] for name in ("draw", "round", "salt", "drawn", "prize")},
    }  # fmt: skip


# --- leaderboards ----------------------------------------------------------------------------------------------------


def _hiding(tenant: str) -> sa.Select[tuple[str]]:
    """Members who do not want to be seen, as `m:1`: one key, so that a list reads them together."""
    return sa.select(own.c.name).where(
        own.c.tenant == tenant, own.c.plugin == PLUGIN, own.c.key == HIDDEN, own.c.name != ""
    )


def _shown(tenant: str) -> sa.ColumnElement[bool]:
    """Members who do not hide."""
    return ~_hiding(tenant).where(own.c.name == sa.literal("m:") + sa.cast(score.c.member, sa.Text)).exists()


def _board(tenant: str, board: str, start: int, scope: str) -> tuple[sa.ColumnElement[bool], ...]:
    c = score.c
    return (c.tenant == tenant, c.board == board, c.start == start, c.scope == scope, c.score > 0)


def top(conn: sa.Connection, tenant: str, board: str, start: int, scope: str, limit: int) -> list[Place]:
    """The first *limit* places; those who hide are passed over, ties are listed by member number."""
    query = (
        sa.select(score.c.member, score.c.score)
        .where(*_board(tenant, board, start, scope), _shown(tenant))
        .order_by(score.c.score.desc(), score.c.member)
        .limit(limit)
    )
    places: list[Place] = []
    for place, row in enumerate(conn.execute(query), 1):
        tied = places and places[-1].score == row.score
        places.append(Place(places[-1].rank if tied else place, row.member, row.score))
    return places


def place_of(conn: sa.Connection, tenant: str, board: str, start: int, scope: str, member: int) -> Place | None:
    """The member's own place, which they see even if they hide; None if they are not on the list."""
    here = _board(tenant, board, start, scope)
    mine = conn.scalar(sa.select(score.c.score).where(*here, score.c.member == member))
    if mine is None:
        return None
    # by spans, and one by one within the member's own; those who hide are counted and taken off, for they are few
    higher = sa.select(sa.func.coalesce(sa.func.sum(span.c.members), 0)).where(
        span.c.tenant == tenant, span.c.board == board, span.c.start == start, span.c.scope == scope,
        span.c.span > span_of(mine),
    )  # fmt: skip
    ahead = (
        sa.select(sa.func.count())
        .select_from(score)
        .where(*here[:-1], score.c.score > mine, score.c.score < end_of_span(mine))
    )
    number = sa.cast(sa.func.substr(own.c.name, 3), sa.BigInteger)
    hiding = sa.select(sa.func.count()).select_from(own.join(score, score.c.member == number)).where(
        own.c.tenant == tenant, own.c.plugin == PLUGIN, own.c.key == HIDDEN, own.c.name != "", own.c.name != f"m:{member}",
        *here[:-1], score.c.score + 0 > mine,  # as a sum, or the database would walk the ranks for each of them
    )  # fmt: skip
    found = int(conn.scalar(higher) or 0) + (conn.scalar(ahead) or 0) - (conn.scalar(hiding) or 0)
    return Place(found + 1, member, mine)


def names_of(conn: sa.Connection, tenant: str, members: Iterable[int]) -> dict[int, str]:
    """The names that members chose to be shown by."""
    keys = {f"m:{member}": member for member in members}
    rows = sa.select(own.c.key, own.c.value).where(
        own.c.tenant == tenant, own.c.plugin == PLUGIN, own.c.key.in_(keys), own.c.name == "shown_as"
    )
    return {keys[row.key]: msgspec.json.decode(row.value) for row in conn.execute(rows)}


def forget(conn: sa.Connection, tenant: str, member: int) -> None:
    """Take a member off all leaderboards."""
    mine_all = (score.c.tenant == tenant, score.c.member == member)
    _move(conn, [(*row[:4], row.score, 0) for row in conn.execute(sa.select(score).where(*mine_all))])
    conn.execute(score.delete().where(*mine_all))
    mine = (own.c.tenant == tenant, own.c.plugin == PLUGIN, own.c.key == HIDDEN, own.c.name == f"m:{member}")
    conn.execute(own.delete().where(*mine))


def scores_of(conn: sa.Connection, tenant: str, member: int) -> list[dict[str, Any]]:
    """All scores of a member."""
    query = sa.select(score.c.board, score.c.start, score.c.scope, score.c.score).where(
        score.c.tenant == tenant, score.c.member == member
    )
    return [dict(row._mapping) for row in conn.execute(query.order_by(score.c.board, score.c.start, score.c.scope))]  # noqa: SLF001 - SQLAlchemy's public name


# --- own rows --------------------------------------------------------------------------------------------------------


def own_rows(conn: sa.Connection, tenant: str, key: str) -> dict[str, Any]:
    """The plugin's own rows under one key."""
    query = sa.select(own.c.name, own.c.value).where(own.c.tenant == tenant, own.c.plugin == PLUGIN, own.c.key == key)
    return {row.name: msgspec.json.decode(row.value) for row in conn.execute(query) if row.name}


def counters_of(conn: sa.Connection, tenant: str, member: int, names: Iterable[str]) -> dict[tuple[str, str, int], int]:
    """The member's counters of these names: (name, window, its first day) -> value."""
    query = sa.select(counter.c.name, counter.c.grain, counter.c.start, counter.c.value).where(
        counter.c.tenant == tenant, counter.c.member == member, counter.c.name.in_(list(names))
    )
    return {(row.name, row.grain, row.start): int(row.value) for row in conn.execute(query)}


def person(conn: sa.Connection, tenant: str, number: int) -> Member:
    """A member as conditions see them."""
    row = conn.execute(
        sa.select(member.c.status, member.c.enrolled_at, member.c.tags, member.c.language).where(
            member.c.tenant == tenant, member.c.number == number
        )
    ).one()
    held = conn.execute(
        sa.select(own.c.name, own.c.value).where(
            own.c.tenant == tenant, own.c.plugin == "core", own.c.key == f"m:{number}", own.c.name.like("tier:%")
        )
    )
    tiers = {each.name.removeprefix("tier:"): msgspec.json.decode(each.value)["tier"] for each in held}
    tags = tuple(msgspec.json.decode(row.tags))
    return Member(number, row.status, moment(row.enrolled_at), tags, tiers=tiers, language=row.language)


def stock_of(conn: sa.Connection, tenant: str, keys: Iterable[str]) -> dict[str, int]:
    """What is left on these shelves."""
    query = sa.select(stock.c.key, stock.c.remaining).where(stock.c.tenant == tenant, stock.c.key.in_(list(keys)))
    return {row.key: row.remaining for row in conn.execute(query)}


def levels_reached(conn: sa.Connection, tenant: str) -> dict[str, tuple[int, int]]:
    """By task: how many members reached something, and how many levels and rounds all of them together."""
    members, times = Counter[str](), Counter[str]()
    query = sa.select(own.c.name, own.c.value).where(
        own.c.tenant == tenant, own.c.plugin == PLUGIN, own.c.key.like("m:%")
    )
    for row in conn.execute(query.where(sa.or_(own.c.name == PAID, own.c.name.like("task:%")))):
        value = msgspec.json.decode(row.value)
        periods_of = value if row.name == PAID else {row.name.removeprefix("task:"): value.get("paid", {})}
        for task, periods in periods_of.items():
            levels = sum(each[0] for each in periods.values())
            members[task] += levels > 0
            times[task] += levels
    return {task: (members[task], times[task]) for task in times}


def badges_held(conn: sa.Connection, tenant: str) -> dict[str, int]:
    """By badge: how many members have it."""
    query = sa.select(own.c.name, sa.func.count()).where(
        own.c.tenant == tenant, own.c.plugin == PLUGIN, own.c.key.like("m:%"), own.c.name.like("badge:%")
    )
    return {name.removeprefix("badge:"): count for name, count in conn.execute(query.group_by(own.c.name))}


def last_window(conn: sa.Connection, tenant: str, board: str) -> int:
    """First day of the last window in which something was counted."""
    query = sa.select(sa.func.max(score.c.start)).where(score.c.tenant == tenant, score.c.board == board)
    return int(conn.scalar(query) or 0)


def find_event(conn: sa.Connection, tenant: str, source: str, id: str) -> Record | None:
    """What was recorded of an event."""
    query = sa.select(record.c.body).join(claim, claim.c.entry == record.c.entry)
    body = conn.scalar(query.where(claim.c.tenant == tenant, claim.c.source == source, claim.c.id == id))
    return read_record(bytes(body)) if body is not None else None


def list_due(conn: sa.Connection, tenant: str, first: str, last: str) -> list[tuple[str, Any]]:
    """(friend, note) of invitations that fall due from day *first* to day *last*."""
    query = sa.select(own.c.name, own.c.value).where(
        own.c.tenant == tenant, own.c.plugin == PLUGIN, own.c.key.between(f"referrals/{first}", f"referrals/{last}"),
        own.c.name != "",
    )  # fmt: skip
    found = conn.execute(query.order_by(own.c.key, own.c.name))
    return [(row.name, value) for row in found if (value := msgspec.json.decode(row.value)) is not None]


def list_draws(conn: sa.Connection, tenant: str, draw: str, round_: int) -> list[dict[str, Any]]:
    """Every draw of a round."""
    query = sa.select(drawn.c.entry, drawn.c.member, drawn.c.salt, drawn.c.drawn, drawn.c.prize).where(
        drawn.c.tenant == tenant, drawn.c.draw == draw, drawn.c.round == round_
    )
    return [dict(row._mapping) for row in conn.execute(query.order_by(drawn.c.entry))]  # noqa: SLF001 - SQLAlchemy's public name
