"""What a merchant wants to read about a programme: points issued, spent, expired, outstanding; rules; members; months."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from . import people, tables
from .ledger import EXPIRED, HELD, ISSUED, NEVER, REDEEMED, REVERSED, member_name, moment
from .problems import Language
from .words import translate

_HOUR: Final = 3_600_000_000
_BAR: Final = 40


class UnitReport(Struct, frozen=True, kw_only=True):
    """One unit, in its smallest part, from the first entry to the last."""

    issued: int = 0
    spent: int = 0  #: less what came back
    expired: int = 0
    taken_back: int = 0  #: by refunds
    held: int = 0
    outstanding: int = 0  #: what members hold, deficits subtracted
    by_month: Mapping[str, int] = {}  #: issued, per local month
    due: Mapping[str, int] = {}  #: what is left of lots, per local month of their expiry; "never" for the rest


class RuleReport(Struct, frozen=True, kw_only=True):
    """How busy a rule was."""

    rule: str
    unit: str
    times: int
    issued: int


class Best(Struct, frozen=True, kw_only=True):
    """A member who holds much."""

    member: str
    external_ids: tuple[str, ...]
    balance: int


class Report(Struct, frozen=True, kw_only=True):
    """A programme in numbers."""

    tenant: str
    members: int
    entries: int
    units: Mapping[str, UnitReport]
    tiers: Mapping[str, Mapping[str, int]]  #: ladder -> tier -> members
    rules: tuple[RuleReport, ...]  #: the busiest first
    best: tuple[Best, ...]  #: by their balance in the first unit


def read_report(conn: sa.Connection, tenant: str, zone: ZoneInfo, units: Sequence[str], *, top: int = 10) -> Report:
    """The numbers of *tenant* as *conn*'s transaction sees them; *units* say which come first."""
    rules: dict[tuple[str, str], tuple[int, int]] = {}
    flows = {unit: Counter[str]() for unit in units}
    transfer = tables.transfer
    query = sa.select(
        transfer.c.unit,
        transfer.c.rule,
        _system(transfer.c.debit).label("debit"),
        _system(transfer.c.credit).label("credit"),
        sa.func.count().label("times"),
        sa.func.sum(transfer.c.amount).label("amount"),
    ).where(transfer.c.tenant == tenant)
    for row in conn.execute(query.group_by("unit", "rule", "debit", "credit")):
        flow, amount = flows.setdefault(row.unit, Counter()), int(row.amount)
        flow[f"+{row.debit}"] += amount
        flow[f"-{row.credit}"] += amount
        if row.debit == ISSUED:
            times, issued = rules.get((row.rule, row.unit), (0, 0))
            rules[row.rule, row.unit] = (times + row.times, issued + amount)
    outstanding = _by_unit(conn, tables.balance, tables.balance.c.posted, tenant)
    months, due = _months(conn, tenant, zone), _due(conn, tenant, zone)
    first = next(iter(units), "points")
    return Report(
        tenant=tenant,
        members=_count(conn, tables.member, tenant),
        entries=_count(conn, tables.record, tenant),
        units={
            unit: UnitReport(
                issued=flow[f"+{ISSUED}"] - flow[f"-{ISSUED}"],
                spent=flow[f"-{REDEEMED}"] - flow[f"+{REDEEMED}"],
                expired=flow[f"-{EXPIRED}"] - flow[f"+{EXPIRED}"],
                taken_back=flow[f"-{REVERSED}"] - flow[f"+{REVERSED}"],
                held=flow[f"-{HELD}"] - flow[f"+{HELD}"],
                outstanding=outstanding.get(unit, 0),
                by_month=months.get(unit, {}),
                due=due.get(unit, {}),
            )
            for unit, flow in flows.items()
        },
        tiers=_tiers(conn, tenant),
        rules=tuple(
            RuleReport(rule=rule, unit=unit, times=times, issued=issued)
            for (rule, unit), (times, issued) in sorted(rules.items(), key=lambda item: (-item[1][0], item[0]))
        )[:top],
        best=tuple(_best(conn, tenant, first, top)),
    )


def _system(account: sa.Column[str]) -> sa.ColumnElement[str]:
    """The house's own accounts by name, all members as one."""
    return sa.case((account.like("m-%"), sa.literal("member")), else_=account)


def _count(conn: sa.Connection, table: sa.Table, tenant: str) -> int:
    return int(conn.scalar(sa.select(sa.func.count()).select_from(table).where(table.c.tenant == tenant)) or 0)


def _by_unit(conn: sa.Connection, table: sa.Table, column: sa.Column[int], tenant: str) -> dict[str, int]:
    query = (
        sa.select(table.c.unit, sa.func.sum(column).label("amount"))
        .where(table.c.tenant == tenant)
        .group_by(table.c.unit)
    )
    return {row.unit: int(row.amount) for row in conn.execute(query)}


def _months(conn: sa.Connection, tenant: str, zone: ZoneInfo) -> dict[str, dict[str, int]]:
    """Issued per local month: added up by the hour in the database, for no zone shifts by less than a quarter of one."""
    transfer, record = tables.transfer, tables.record
    quarter = record.c.received / sa.literal_column(str(_HOUR // 4))
    query = (
        sa.select(transfer.c.unit, quarter.label("quarter"), sa.func.sum(transfer.c.amount).label("amount"))
        .join(record, record.c.entry == transfer.c.entry)
        .where(transfer.c.tenant == tenant, transfer.c.debit == ISSUED)
        .group_by(transfer.c.unit, sa.literal_column("quarter"))
    )
    found: dict[str, Counter[str]] = {}
    for row in conn.execute(query):
        month = f"{moment(int(row.quarter) * (_HOUR // 4)).astimezone(zone):%Y-%m}"
        found.setdefault(row.unit, Counter())[month] += int(row.amount)
    return {unit: dict(sorted(months.items())) for unit, months in found.items()}


def _due(conn: sa.Connection, tenant: str, zone: ZoneInfo) -> dict[str, dict[str, int]]:
    lot = tables.lot
    query = (
        sa.select(lot.c.unit, lot.c.expires_at, sa.func.sum(lot.c.remaining).label("amount"))
        .where(lot.c.tenant == tenant, lot.c.remaining > 0)
        .group_by(lot.c.unit, lot.c.expires_at)
    )
    found: dict[str, Counter[str]] = {}
    for row in conn.execute(query):
        month = "never" if row.expires_at >= NEVER else f"{moment(row.expires_at - 1).astimezone(zone):%Y-%m}"
        found.setdefault(row.unit, Counter())[month] += int(row.amount)
    return {unit: dict(sorted(months.items())) for unit, months in found.items()}


def _tiers(conn: sa.Connection, tenant: str) -> dict[str, dict[str, int]]:
    own = tables.own
    query = (
        sa.select(own.c.name, own.c.value, sa.func.count().label("members"))
        .where(own.c.tenant == tenant, own.c.plugin == "core", own.c.name.like("tier:%"))
        .group_by(own.c.name, own.c.value)
    )
    found: dict[str, Counter[str]] = {}
    for row in conn.execute(query):
        tier = msgspec.json.decode(row.value)["tier"]
        found.setdefault(row.name.removeprefix("tier:"), Counter())[tier] += row.members
    return {ladder: dict(tiers) for ladder, tiers in sorted(found.items())}


def _best(conn: sa.Connection, tenant: str, unit: str, top: int) -> Iterator[Best]:
    balance = tables.balance
    query = sa.select(balance.c.member, balance.c.posted).where(balance.c.tenant == tenant, balance.c.unit == unit)
    for row in conn.execute(query.order_by(balance.c.posted.desc(), balance.c.member).limit(top)).all():
        known = people.load_profile(conn, tenant, row.member).external_ids
        yield Best(member=member_name(row.member), external_ids=known, balance=row.posted)


# --- for people --------------------------------------------------------------------------------------------------------


def lines(report: Report, language: Language) -> Iterator[str]:
    """The report as a page for a terminal."""

    def say(text: str) -> str:
        return translate(text, language)

    yield f"{say('Members')}: {report.members:,}    {say('Entries')}: {report.entries:,}"
    # plugins bring units that not every programme uses
    for unit, each in [pair for place, pair in enumerate(report.units.items()) if not place or pair[1].issued]:
        yield ""
        yield f"{unit}"
        rows = [
            (say("issued"), each.issued),
            (say("spent"), each.spent),
            (say("expired"), each.expired),
            (say("taken back by refunds"), each.taken_back),
            (say("outstanding"), each.outstanding),
        ]
        for name, amount in rows:
            yield f"  {_pad(name, 24)}{amount:>14,}"
        if set(each.due) - {"never"}:
            yield f"  {say('due to expire')}: " + ", ".join(f"{month} {amount:,}" for month, amount in each.due.items())
        if each.by_month:
            yield ""
            yield f"  {say('issued per month')}"
            yield from _chart(each.by_month)
    for ladder, tiers in report.tiers.items():
        yield ""
        yield f"{say('Tiers')} ({ladder})"
        for tier, count in sorted(tiers.items(), key=lambda item: -item[1]):
            yield f"  {_pad(tier, 24)}{count:>14,}"
    if report.rules:
        yield ""
        yield say("Busiest rules")
        for rule in report.rules:
            yield f"  {_pad(rule.rule, 24)}{rule.times:>14,} x  {rule.issued:>14,} {rule.unit}"
    if report.best:
        yield ""
        yield say("Best members")
        for place, best in enumerate(report.best, 1):
            name = f"{best.member}  {', '.join(best.external_ids)}"
            yield f"  {place:>2}. {_pad(name, 30)}{best.balance:>14,}"


def _chart(months: Mapping[str, int]) -> Iterator[str]:
    most = max(months.values())
    for month, amount in months.items():
        eighths = amount * _BAR * 8 // most if most > 0 else 0
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        yield f"  {month}  {bar:<{_BAR}} {amount:>12,}"


def _pad(text: str, width: int) -> str:
    """*text* in *width* columns of a terminal, where a Chinese character takes two."""
    wide = sum(1 for character in text if ord(character) >= 0x2E80)
    return text + " " * max(1, width - len(text) - wide)
