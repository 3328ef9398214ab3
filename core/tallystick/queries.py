"""What may be asked of the books: SQL in, frozen objects out.  Nothing here decides, locks or writes.

*Usable* is always counted over lots at the asked instant: whether the nightly sweep has run makes no difference.
Instants are microseconds since 1970.  Every question names its tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from . import tables, vault
from .errors import UnknownEntry
from .history import PastAccount, play
from .ledger import (
    EXPIRED,
    HELD,
    ISSUED,
    NEVER,
    REDEEMED,
    REVERSED,
    Record,
    Step,
    Transfer,
    entry_name,
    member_name,
    read_record,
)

#: ``house.reading``: gives a connection that sees one instant of the books, waits for no writer and cannot write.
Reading = Callable[[], AbstractContextManager[sa.Connection]]

MAX_PAGE = 500
_DAY = 86_400_000_000


class Balance(Struct, frozen=True, kw_only=True):
    """A member's balance of one unit at one instant.  ``posted == usable + pending + due`` at every instant."""

    unit: str
    posted: int  #: sum of all transfers
    usable: int  #: what can be spent; below zero only while a deficit is open
    pending: int  #: granted, not yet usable
    due: int  #: expired, not yet swept
    deficit: int  #: what the next grants will absorb


class LotRow(Struct, frozen=True, kw_only=True):
    """One lot as it stands."""

    lot: str
    unit: str
    amount: int  #: what the grant gave
    left: int
    usable_from: int
    expires_at: int | None
    state: str  #: usable, pending, due or spent
    sliding: bool = False
    waits: str = ""
    issuer: str = ""


class Statement(Struct, frozen=True, kw_only=True):
    """One line of a member's statement: an entry, and what it changed for this member."""

    entry: str
    kind: str
    at: int
    received: int
    status: str
    own: bool  #: whether the event was this member's; otherwise only the transfers that touched the member are told
    changes: Mapping[str, int]  #: unit -> gained (negative: lost)
    order: str = ""
    cause: str = ""
    transfers: tuple[Transfer, ...] = ()


class StatementPage(Struct, frozen=True, kw_only=True):
    """Some lines, newest first; *next* is where the following page begins, None after the last."""

    lines: tuple[Statement, ...]
    next: str | None


class ProgrammeVersion(Struct, frozen=True, kw_only=True):
    """A set of settings that judged events."""

    generation: int
    hash: str
    since: int
    plugins: Mapping[str, str]
    actor: str
    document: Any


class Explanation(Struct, frozen=True, kw_only=True):
    """Why an entry is what it is: the steps as they were stored then, and what later entries took back of each."""

    record: Record
    steps: tuple[Step, ...]
    taken_back: tuple[int, ...]  #: per step
    programme: ProgrammeVersion | None  #: the settings that judged it
    related: tuple[str, ...]  #: other entries that named the same order, oldest first


class Expiring(Struct, frozen=True, kw_only=True):
    """What is lost at one instant if it is not used before."""

    unit: str
    expires_at: int
    amount: int  #: of this batch
    total: int  #: of this and all earlier batches in the list


class Sums(Struct, frozen=True, kw_only=True):
    """Where all points of one unit are.  ``issued == redeemed + expired + reversed + held + elsewhere + outstanding``."""

    unit: str
    issued: int
    redeemed: int
    expired: int
    reversed: int
    held: int
    elsewhere: int  #: on accounts that plugins name, for example a partner's
    outstanding: int  #: what members hold, deficits subtracted
    usable: int  #: of what is outstanding: what can be spent at the asked instant, before deficits
    pending: int
    due: int
    deficit: int


class RuleUse(Struct, frozen=True, kw_only=True):
    """How much one rule has given."""

    rule: str
    unit: str
    times: int
    amount: int


class Leader(Struct, frozen=True, kw_only=True):
    """A member's place among all."""

    member: str
    amount: int


class Day(Struct, frozen=True, kw_only=True):
    """What one UTC day moved in one unit."""

    day: int  #: days since 1970
    issued: int
    redeemed: int
    expired: int
    reversed: int


# --- balances -------------------------------------------------------------------------------------------------------


def balances(conn: sa.Connection, tenant: str, member: int, now: int) -> dict[str, Balance]:
    """The member's balance per unit at *now*, which is not before the last entry.

    >>> balances(conn, "corner-shop", 4711, now)["points"].usable
    120
    """
    return balances_of(conn, tenant, [member], now).get(member, {})


def balances_of(conn: sa.Connection, tenant: str, members: Collection[int], now: int) -> dict[int, dict[str, Balance]]:
    """The :func:`balances` of several members, each by unit; who never had any is left out."""
    found: dict[int, dict[str, Balance]] = {}
    asked = {"b_tenant": tenant, "b_members": sorted(members), "b_now": now}
    for row in conn.execute(_balances(), asked) if members else ():
        found.setdefault(row.member, {})[row.unit] = Balance(
            unit=row.unit,
            posted=row.posted,
            usable=int(row.usable) - row.deficit,
            pending=int(row.pending),
            due=int(row.due),
            deficit=row.deficit,
        )
    return found


@cache
def _balances() -> sa.Select[Any]:
    """Put together once: it is asked behind every purchase and at every kiosk."""
    lot, account = tables.lot, tables.balance
    due, pending, usable = _parts(sa.bindparam("b_now", type_=sa.BigInteger()))
    same = [lot.c[name] == account.c[name] for name in ("tenant", "member", "unit")]
    members = account.c.member.in_(sa.bindparam("b_members", expanding=True))
    return (
        sa.select(account.c.member, account.c.unit, account.c.posted, account.c.deficit, usable, pending, due)
        .select_from(account)
        .outerjoin(lot, sa.and_(*same, lot.c.remaining > 0))
        .where(account.c.tenant == sa.bindparam("b_tenant"), members)
        .group_by(account.c.member, account.c.unit, account.c.posted, account.c.deficit)
        .order_by(account.c.member, account.c.unit)
    )


def _parts(
    now: int | sa.BindParameter[int],
) -> tuple[sa.ColumnElement[int], sa.ColumnElement[int], sa.ColumnElement[int]]:
    """Sums of lots that are due, pending and usable at *now*."""
    lot = tables.lot
    is_due = lot.c.expires_at <= now
    is_pending = sa.and_(lot.c.expires_at > now, lot.c.usable_from > now)
    is_usable = sa.and_(lot.c.expires_at > now, lot.c.usable_from <= now)

    def total(condition: Any, name: str) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, lot.c.remaining), else_=0)), 0).label(name)

    return total(is_due, "due"), total(is_pending, "pending"), total(is_usable, "usable")


def balances_at(conn: sa.Connection, tenant: str, member: int, at: int) -> dict[str, Balance]:
    """The member's balance per unit as :func:`balances` would have answered at the instant *at*, once all was recorded
    that had been received by then.

    Played from the journal, so the answer stays the same for ever; costs a few microseconds per entry of the member.
    """
    accounts = play(member_name(member), _records(conn, tenant, member, at))
    return {
        unit: Balance(
            unit=unit,
            posted=account.posted,
            usable=account.usable(at),
            pending=account.pending(at),
            due=account.due(at),
            deficit=account.deficit,
        )
        for unit, account in sorted(accounts.items())
    }


def replay_member(conn: sa.Connection, tenant: str, member: int) -> dict[str, PastAccount]:
    """The member's accounts by unit as the whole journal makes them."""
    return play(member_name(member), _records(conn, tenant, member, NEVER))


def _records(conn: sa.Connection, tenant: str, member: int, until: int) -> Iterator[Record]:
    """Records that moved something of the member, in the order in which they were received."""
    for row in conn.execute(
        _touching(tenant, member).where(sa.column("received") <= until).order_by("received", "entry")
    ):
        yield read_record(bytes(row.body))


def _touching(tenant: str, member: int) -> sa.Select[Any]:
    """Own entries of the member, and others' that moved something of theirs."""
    record, beside = tables.record, tables.entry_member
    columns = (record.c.entry, record.c.received, record.c.body)
    own = sa.select(*columns, sa.literal(1).label("own")).where(record.c.tenant == tenant, record.c.member == member)
    others = (
        sa.select(*columns, sa.literal(0).label("own"))
        .join(beside, beside.c.entry == record.c.entry)
        .where(beside.c.tenant == tenant, beside.c.member == member, record.c.tenant == tenant)
    )
    both = sa.union_all(own, others).subquery("touching")
    return sa.select(both)


def lots(conn: sa.Connection, tenant: str, member: int, now: int, *, spent: bool = False) -> list[LotRow]:
    """The member's lots in the order in which they are spent; with *spent* also those with nothing left."""
    lot = tables.lot
    statement = sa.select(lot).where(lot.c.tenant == tenant, lot.c.member == member)
    if not spent:
        statement = statement.where(lot.c.remaining > 0)
    rows = conn.execute(statement.order_by(lot.c.unit, lot.c.expires_at, lot.c.usable_from, lot.c.entry, lot.c.part))
    return [
        LotRow(
            lot=f"{entry_name(row.entry)}.{row.part}",
            unit=row.unit,
            amount=row.amount,
            left=row.remaining,
            usable_from=row.usable_from,
            expires_at=row.expires_at if row.expires_at < NEVER else None,
            state=_state(row, now),
            sliding=bool(row.sliding),
            waits=row.waits,
            issuer=row.issuer,
        )
        for row in rows
    ]


def _state(lot: Any, now: int) -> str:
    if not lot.remaining:
        return "spent"
    if lot.expires_at <= now:
        return "due"
    return "pending" if lot.usable_from > now else "usable"


def expiring(conn: sa.Connection, tenant: str, member: int, now: int, until: int) -> list[Expiring]:
    """Every batch that expires after *now* and up to *until*, soonest first, with the running total per unit."""
    lot = tables.lot
    statement = (
        sa.select(lot.c.unit, lot.c.expires_at, sa.func.sum(lot.c.remaining).label("amount"))
        .where(lot.c.tenant == tenant, lot.c.member == member, lot.c.remaining > 0)
        .where(lot.c.expires_at > now, lot.c.expires_at <= until)
        .group_by(lot.c.unit, lot.c.expires_at)
        .order_by(lot.c.unit, lot.c.expires_at)
    )
    found: list[Expiring] = []
    for row in conn.execute(statement):
        before = found[-1].total if found and found[-1].unit == row.unit else 0
        amount = int(row.amount)
        found.append(Expiring(unit=row.unit, expires_at=row.expires_at, amount=amount, total=before + amount))
    return found


def members_expiring(
    conn: sa.Connection, tenant: str, unit: str, now: int, until: int, *, after: int = 0, limit: int = 1_000
) -> list[tuple[int, int, int]]:
    """``(member, first expiry, amount)`` of whoever loses something between *now* and *until*, by member number after *after*."""
    lot = tables.lot
    statement = (
        sa.select(lot.c.member, sa.func.min(lot.c.expires_at), sa.func.sum(lot.c.remaining))
        .where(lot.c.tenant == tenant, lot.c.unit == unit, lot.c.member > after, lot.c.remaining > 0)
        .where(lot.c.expires_at > now, lot.c.expires_at <= until)
        .group_by(lot.c.member)
        .order_by(lot.c.member)
        .limit(limit)
    )
    return [(member, first, int(amount)) for member, first, amount in conn.execute(statement)]


# --- the journal ----------------------------------------------------------------------------------------------------


def statement(
    conn: sa.Connection, tenant: str, member: int, *, after: str | None = None, limit: int = 50
) -> StatementPage:
    """The member's entries, newest first, others' that moved something of theirs among them.

    *after* is the ``next`` of the page before; nonsense in it is :class:`UnknownEntry`.  At most :data:`MAX_PAGE` lines.
    """
    limit = max(1, min(limit, MAX_PAGE))
    found = _touching(tenant, member)
    received, entry = found.selected_columns.received, found.selected_columns.entry
    if after is not None:
        since, number = _read_place(after)
        found = found.where(sa.or_(received < since, sa.and_(received == since, entry < number)))
    rows = conn.execute(found.order_by(received.desc(), entry.desc()).limit(limit + 1)).all()
    holder = member_name(member)
    lines = tuple(_line(read_record(bytes(row.body)), holder, own=bool(row.own)) for row in rows[:limit])
    return StatementPage(
        lines=lines, next=f"{rows[limit - 1].received}-{rows[limit - 1].entry}" if len(rows) > limit else None
    )


def _read_place(text: str) -> tuple[int, int]:
    received, _, entry = text.partition("-")
    if not (text.isascii() and received.isdigit() and entry.isdigit() and len(text) <= 40):
        raise UnknownEntry("that is no place in a statement", pointer="/after")
    found = int(received), int(entry)
    if max(found) >= 1 << 63:
        raise UnknownEntry("that is no place in a statement", pointer="/after")
    return found


def _line(record: Record, holder: str, *, own: bool) -> Statement:
    changes: dict[str, int] = {}
    mine = []
    for transfer in record.transfers:
        if holder in (transfer.debit, transfer.credit):
            mine.append(transfer)
            gained = (transfer.amount if transfer.credit == holder else 0) - (
                transfer.amount if transfer.debit == holder else 0
            )
            changes[transfer.unit] = changes.get(transfer.unit, 0) + gained
    return Statement(
        entry=record.entry,
        kind=record.kind,
        at=record.at,
        received=record.received,
        status=record.status,
        own=own,
        changes=changes,
        order=record.order if own else "",
        cause=record.cause,
        transfers=tuple(mine),
    )


def load_record(conn: sa.Connection, tenant: str, entry: int) -> Record:
    """The record of an entry; raises :class:`UnknownEntry`, for another tenant's entries too."""
    record = tables.record
    body = conn.scalar(sa.select(record.c.body).where(record.c.entry == entry, record.c.tenant == tenant))
    if body is None:
        raise UnknownEntry(f"there is no entry {entry_name(entry)}")
    return read_record(bytes(body))


def records_of(conn: sa.Connection, tenant: str, member: int) -> Iterator[Record]:
    """Every record that moved something of the member or is about it, in the order in which they were received."""
    return _records(conn, tenant, member, NEVER)


def owed(conn: sa.Connection) -> list[dict[str, Any]]:
    """Which plugin failed in which hook, and how many entries of each tenant wait to be made good."""
    rows = tables.repair
    if not sa.inspect(conn).has_table(rows.name):
        return []
    columns = (rows.c.tenant, rows.c.plugin, rows.c.hook)
    query = sa.select(*columns, sa.func.count()).where(rows.c.repaired == 0).group_by(*columns).order_by(*columns)
    return [dict(zip(("tenant", "plugin", "hook", "entries"), row, strict=True)) for row in conn.execute(query).all()]


def load_facts(conn: sa.Connection, house_secret: bytes, tenant: str, entry: int) -> Any:
    """What the sender claimed, as a document; None if the member was forgotten."""
    record, member = tables.record, tables.member
    same = sa.and_(member.c.tenant == record.c.tenant, member.c.number == record.c.member)
    columns = (record.c.member, record.c.facts, member.c.secret)
    row = conn.execute(
        sa.select(*columns).outerjoin(member, same).where(record.c.entry == entry, record.c.tenant == tenant)
    ).one_or_none()
    if row is None:
        raise UnknownEntry(f"there is no entry {entry_name(entry)}")
    if row.facts is None:
        return None
    key = house_secret if not row.member else (bytes(row.secret) if row.secret is not None else None)
    facts = vault.open_facts(key, entry, bytes(row.facts))
    return msgspec.json.decode(facts) if facts is not None else None


def explain(conn: sa.Connection, tenant: str, entry: int) -> Explanation:
    """Why an entry is what it is, from what was stored with it; raises :class:`UnknownEntry`."""
    record = load_record(conn, tenant, entry)
    taken, named = tables.taken, tables.order_entry
    took = sa.select(taken.c.place, taken.c.amount).where(taken.c.tenant == tenant, taken.c.entry == entry)
    back = {row.place: row.amount for row in conn.execute(took)}
    related: tuple[str, ...] = ()
    if record.order:
        rows = conn.scalars(
            sa.select(named.c.entry)
            .where(named.c.tenant == tenant, named.c.order_id == record.order, named.c.entry != entry)
            .distinct()
            .order_by(named.c.entry)
        )
        related = tuple(entry_name(number) for number in rows)
    return Explanation(
        record=record,
        steps=record.explanation,
        taken_back=tuple(back.get(place, 0) for place in range(len(record.explanation))),
        programme=find_programme(conn, tenant, record.generation),
        related=related,
    )


# --- the programme ---------------------------------------------------------------------------------------------------


def programmes(conn: sa.Connection, tenant: str) -> list[ProgrammeVersion]:
    """Every generation of the tenant's settings, oldest first."""
    table = tables.programme
    rows = conn.execute(sa.select(table).where(table.c.tenant == tenant).order_by(table.c.generation))
    return [_programme(row) for row in rows]


def find_programme(conn: sa.Connection, tenant: str, generation: int) -> ProgrammeVersion | None:
    """One generation of the tenant's settings."""
    table = tables.programme
    row = conn.execute(sa.select(table).where(table.c.tenant == tenant, table.c.generation == generation)).one_or_none()
    return _programme(row) if row is not None else None


def _programme(row: Any) -> ProgrammeVersion:
    return ProgrammeVersion(
        generation=row.generation,
        hash=row.hash,
        since=row.since,
        plugins=msgspec.json.decode(row.plugins) if row.plugins else {},
        actor=row.actor,
        document=msgspec.json.decode(row.document) if row.document else None,
    )


# --- the whole programme in numbers ----------------------------------------------------------------------------------


def sums(conn: sa.Connection, tenant: str, now: int) -> dict[str, Sums]:
    """Where all points are, per unit.  Reads every transfer of the tenant."""
    flows: dict[str, dict[str, int]] = {}
    for unit, account, amount in _system_flows(conn, tenant):
        flows.setdefault(unit, {})
        flows[unit][account] = flows[unit].get(account, 0) + amount
    held = _held_by_members(conn, tenant, now)
    found = {}
    for unit in sorted(flows.keys() | held.keys()):
        net = flows.get(unit, {})
        posted, deficit, usable, pending, due = held.get(unit, (0, 0, 0, 0, 0))
        named = {ISSUED, REDEEMED, EXPIRED, REVERSED, HELD}
        found[unit] = Sums(
            unit=unit,
            issued=-net.get(ISSUED, 0),
            redeemed=net.get(REDEEMED, 0),
            expired=net.get(EXPIRED, 0),
            reversed=net.get(REVERSED, 0),
            held=net.get(HELD, 0),
            elsewhere=sum(amount for account, amount in net.items() if account not in named),
            outstanding=posted,
            usable=usable,
            pending=pending,
            due=due,
            deficit=deficit,
        )
    return found


def _system_flows(conn: sa.Connection, tenant: str) -> Iterator[tuple[str, str, int]]:
    """(unit, system account, what went in) and, negative, what came out."""
    transfer = tables.transfer
    for side, sign in ((transfer.c.credit, 1), (transfer.c.debit, -1)):
        statement = (
            sa.select(transfer.c.unit, side, sa.func.sum(transfer.c.amount))
            .where(transfer.c.tenant == tenant, sa.func.substr(side, 1, 2) != "m-")
            .group_by(transfer.c.unit, side)
        )
        for unit, account, amount in conn.execute(statement):
            yield unit, account, sign * int(amount)


def _held_by_members(conn: sa.Connection, tenant: str, now: int) -> dict[str, tuple[int, int, int, int, int]]:
    account, lot = tables.balance, tables.lot
    posted = (
        sa.select(account.c.unit, sa.func.sum(account.c.posted), sa.func.sum(account.c.deficit))
        .where(account.c.tenant == tenant)
        .group_by(account.c.unit)
    )
    due, pending, usable = _parts(now)
    parts = (
        sa.select(lot.c.unit, usable, pending, due)
        .where(lot.c.tenant == tenant, lot.c.remaining > 0)
        .group_by(lot.c.unit)
    )
    by_unit = {unit: (int(can), int(waits), int(gone)) for unit, can, waits, gone in conn.execute(parts)}
    return {
        unit: (int(total), int(deficit), *by_unit.get(unit, (0, 0, 0))) for unit, total, deficit in conn.execute(posted)
    }


def leaders(conn: sa.Connection, tenant: str, unit: str, now: int, limit: int = 10) -> list[Leader]:
    """Who can spend most at *now*; ties by number."""
    lot, account = tables.lot, tables.balance
    same = sa.and_(account.c.tenant == tenant, account.c.unit == unit, account.c.member == lot.c.member)
    usable = (sa.func.sum(lot.c.remaining) - account.c.deficit).label("usable")
    found = (
        sa.select(lot.c.member, usable)
        .join(account, same)
        .where(lot.c.tenant == tenant, lot.c.unit == unit, lot.c.remaining > 0)
        .where(lot.c.usable_from <= now, lot.c.expires_at > now)
        .group_by(lot.c.member, account.c.deficit)
        .order_by(usable.desc(), lot.c.member)
        .limit(min(limit, MAX_PAGE))
    )
    return [Leader(member=member_name(member), amount=int(amount)) for member, amount in conn.execute(found)]


def best_members(conn: sa.Connection, tenant: str, unit: str, limit: int = 10) -> list[Leader]:
    """Who was given most in all, whatever became of it; ties by number.  Reads every transfer of the tenant."""
    transfer = tables.transfer
    total = sa.func.sum(transfer.c.amount).label("total")
    found = (
        sa.select(transfer.c.credit, total)
        .where(transfer.c.tenant == tenant, transfer.c.unit == unit, transfer.c.debit == ISSUED)
        .group_by(transfer.c.credit)
        .order_by(total.desc(), transfer.c.credit)
        .limit(min(limit, MAX_PAGE))
    )
    return [Leader(member=member, amount=int(amount)) for member, amount in conn.execute(found)]


def busiest_rules(conn: sa.Connection, tenant: str, limit: int = 20) -> list[RuleUse]:
    """Which rules gave most often, and how much.  Reads every transfer of the tenant."""
    transfer = tables.transfer
    times = sa.func.count().label("times")
    found = (
        sa.select(transfer.c.rule, transfer.c.unit, times, sa.func.sum(transfer.c.amount))
        .where(transfer.c.tenant == tenant, transfer.c.debit == ISSUED)
        .group_by(transfer.c.rule, transfer.c.unit)
        .order_by(times.desc(), transfer.c.rule, transfer.c.unit)
        .limit(min(limit, MAX_PAGE))
    )
    return [
        RuleUse(rule=rule, unit=unit, times=count, amount=int(amount))
        for rule, unit, count, amount in conn.execute(found)
    ]


def days(conn: sa.Connection, tenant: str, unit: str, since: int, until: int) -> list[Day]:
    """What each UTC day from *since* to before *until* moved, for charts.  Days without a transfer are left out."""
    transfer, record = tables.transfer, tables.record
    day = record.c.received // _DAY

    def moved(account: str) -> sa.ColumnElement[int]:
        inward = sa.case(
            (transfer.c.credit == account, transfer.c.amount),
            (transfer.c.debit == account, -transfer.c.amount),
            else_=0,
        )
        return sa.func.sum(inward).label(account)

    found = (
        sa.select(day.label("day"), moved(ISSUED), moved(REDEEMED), moved(EXPIRED), moved(REVERSED))
        .join(record, record.c.entry == transfer.c.entry)
        .where(transfer.c.tenant == tenant, transfer.c.unit == unit)
        .where(record.c.received >= since, record.c.received < until)
        .group_by(day)
        .order_by(day)
    )
    return [
        Day(
            day=row.day,
            issued=-int(row.issued),
            redeemed=int(row.redeemed),
            expired=int(row.expired),
            reversed=int(row.reversed),
        )
        for row in conn.execute(found)
    ]


def count_members(conn: sa.Connection, tenant: str) -> int:
    """How many members are active or blocked."""
    member = tables.member
    living = sa.select(sa.func.count()).select_from(member)
    return conn.scalar(living.where(member.c.tenant == tenant, member.c.status.in_(("active", "blocked")))) or 0


def last_entries(conn: sa.Connection, tenant: str, limit: int = 20) -> Sequence[Record]:
    """The records received last, newest first: for a console that looks over the house's shoulder."""
    record = tables.record
    newest = (
        sa.select(record.c.body)
        .where(record.c.tenant == tenant)
        .order_by(record.c.entry.desc())
        .limit(min(limit, MAX_PAGE))
    )
    return [read_record(bytes(body)) for body in conn.scalars(newest)]
