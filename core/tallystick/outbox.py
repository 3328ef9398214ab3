"""What happens after the commit: consumers read the journal batch by batch, each batch at least once, in order.

A consumer keeps one offset per writer.  Batches of a writer are numbered without gaps and committed in order, so that an
offset is all there is to remember; it advances in the transaction in which the consumer wrote what it made of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import sqlalchemy as sa
from msgspec import Struct

from . import database, tables
from .ledger import Record, entry_number, read_record

#: Batches one relay takes at most, and about how many entries, for an import writes thousands in a batch: a consumer that
#: was away for a week catches up in bounded memory, and keeps nobody else from writing for long.
MAX_BATCHES = 200
MAX_ENTRIES = 5_000


class Intent(Struct, frozen=True):
    """A message, a device command or a derived event that a batch left behind."""

    entry: int
    place: int
    tenant: str
    member: int
    channel: str  #: notify, command, event
    key: str
    body: bytes  #: the effect, as JSON


class Committed(Struct, frozen=True):
    """One batch as consumers see it."""

    writer: int
    number: int
    at: int
    records: tuple[Record, ...]
    intents: tuple[Intent, ...]


Take = Callable[[sa.Connection, Sequence[Committed]], None]


def relay(
    db: sa.Engine, consumer: str, take: Take, *, limit: int = MAX_BATCHES, tenants: Sequence[str] | None = None
) -> bool:
    """Hand batches that *consumer* has not seen to *take*, in one transaction with its offsets; whether more may be left.

    *take* may write through the connection it gets.  If it raises, nothing is kept and the same batches come again.
    Only records of *tenants* are shown (None: of all).  Two relays of one consumer exclude each other.
    """
    with db.begin() as conn:
        offsets = _lock_offsets(conn, consumer)
        batches: list[Committed] = []
        entries = 0
        for writer in sorted(offsets):
            heads = _heads(conn, writer, offsets[writer], limit - len(batches), MAX_ENTRIES - entries)
            entries += sum(head.entries for head in heads)
            batches += _read(conn, writer, heads, tenants)
        if batches:
            take(conn, batches)
            _advance(conn, consumer, batches)
        return len(batches) >= limit or entries >= MAX_ENTRIES


def unseen(db: sa.Engine, consumer: str, *, limit: int = MAX_BATCHES, channel: str = "") -> list[Committed]:
    """Batches *consumer* has not seen, for consumers that act outside the database: act, then :func:`advance`.

    With *channel* only intents of that channel are read, and only records that have one.
    """
    with db.begin() as conn:
        offsets = _lock_offsets(conn, consumer)
    with database.reading(db) as conn:
        batches: list[Committed] = []
        for writer in sorted(offsets):
            batches += _read(conn, writer, _heads(conn, writer, offsets[writer], limit - len(batches)), None, channel)
        return batches


def advance(db: sa.Engine, consumer: str, batches: Sequence[Committed]) -> None:
    """What is in *batches* was dealt with."""
    with db.begin() as conn:
        _lock_offsets(conn, consumer)
        _advance(conn, consumer, batches)


def _advance(conn: sa.Connection, consumer: str, batches: Sequence[Committed]) -> None:
    rows = tables.consumer
    for writer, number in {batch.writer: batch.number for batch in batches}.items():
        mine = sa.and_(rows.c.name == consumer, rows.c.writer == writer, rows.c.batch < number)
        conn.execute(rows.update().where(mine).values(batch=number))


def behind(conn: sa.Connection, consumer: str) -> int:
    """How many batches *consumer* has not seen yet."""
    rows, batches = tables.consumer, tables.batch
    seen = dict(conn.execute(sa.select(rows.c.writer, rows.c.batch).where(rows.c.name == consumer)).all())
    heads = conn.execute(sa.select(batches.c.writer, sa.func.max(batches.c.number)).group_by(batches.c.writer)).all()
    return sum(number - seen.get(writer, 0) for writer, number in heads)


def _lock_offsets(conn: sa.Connection, consumer: str) -> dict[int, int]:
    rows = tables.consumer
    mine = rows.c.name == consumer
    found = conn.execute(sa.select(rows.c.writer, rows.c.batch).where(mine).order_by(rows.c.writer).with_for_update())
    offsets = dict(found.all())
    for writer in conn.scalars(sa.select(tables.writer.c.id).order_by(tables.writer.c.id)):
        if writer not in offsets:
            database.insert_new(conn, rows, name=consumer, writer=writer, batch=0)
            offsets[writer] = (
                conn.scalar(sa.select(rows.c.batch).where(mine, rows.c.writer == writer).with_for_update()) or 0
            )
    return offsets


class _Head(NamedTuple):
    number: int
    at: int
    entries: int


def _heads(conn: sa.Connection, writer: int, after: int, limit: int, entries: int | None = None) -> list[_Head]:
    """The next batches of a writer: at most *limit*, and none after as many *entries*."""
    rows = tables.batch
    mine = sa.select(rows.c.number, rows.c.at, rows.c.count).where(rows.c.writer == writer, rows.c.number > after)
    found = [_Head(*row) for row in conn.execute(mine.order_by(rows.c.number).limit(limit))] if limit else []
    if entries is None:
        return found
    before = accumulate((head.entries for head in found), initial=0)
    return [head for head, so_far in zip(found, before, strict=False) if so_far < entries]


def _read(
    conn: sa.Connection, writer: int, heads: Sequence[_Head], tenants: Sequence[str] | None, channel: str = ""
) -> list[Committed]:
    if not heads:
        return []
    first, end = entry_number(writer, heads[0].number, 0), entry_number(writer, heads[-1].number + 1, 0)
    records: dict[int, list[Record]] = {}
    query = sa.select(tables.record.c.entry, tables.record.c.body).where(
        tables.record.c.entry >= first, tables.record.c.entry < end
    )
    if tenants is not None:
        query = query.where(tables.record.c.tenant.in_(tenants))
    rows = tables.intent
    wanted = sa.select(rows).where(rows.c.entry >= first, rows.c.entry < end)
    if channel:
        wanted = wanted.where(rows.c.channel == channel)
        query = query.where(tables.record.c.entry.in_(wanted.with_only_columns(rows.c.entry)))
    for entry, body in conn.execute(query.order_by(tables.record.c.entry)):
        records.setdefault(_number(entry), []).append(read_record(bytes(body)))
    intents: dict[int, list[Intent]] = {}
    if tenants is not None:
        wanted = wanted.where(rows.c.tenant.in_(tenants))
    for row in conn.execute(wanted.order_by(rows.c.entry, rows.c.place)):
        intents.setdefault(_number(row.entry), []).append(
            Intent(row.entry, row.place, row.tenant, row.member, row.channel, row.key, bytes(row.body))
        )
    return [
        Committed(
            writer, head.number, head.at, tuple(records.get(head.number, ())), tuple(intents.get(head.number, ()))
        )
        for head in heads
    ]


def _number(entry: int) -> int:
    return (entry >> 12) & 0x7FFFFFFFFF
