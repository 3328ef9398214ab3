"""What the plugin reads and writes: the books of each partner, what waits for an answer, statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tallystick.ledger import Record
from tallystick.tables import lot, own

from .settle import Entry
from .tables import entry, statement, waiting

PLUGIN = "coalition"
#: Acts after which something is owed, or less.
OWED = ("confirmed", "committed", "returned")


def _insert(conn: sa.Connection, table: sa.Table) -> Any:
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)


def project(conn: sa.Connection, records: Iterable[Record]) -> None:
    """Write down what *records* say about partners.  Called once per record: the house keeps the offset."""
    entries: list[dict[str, Any]] = []
    begun: dict[tuple[Any, ...], dict[str, Any]] = {}
    over: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        if not record.kind.startswith("coalition."):
            continue
        for step in record.explanation:
            if step.data and "act" in step.data:
                _wait(record, step.data, begun, over)
                if step.data["act"] in OWED:
                    entries.append(_entry(record, step.data))
    if entries:
        conn.execute(_insert(conn, entry).on_conflict_do_nothing(), entries)
    if over:
        mine = [waiting.c[name] == sa.bindparam(f"its_{name}") for name in _PLACE]
        conn.execute(waiting.delete().where(*mine), list(over.values()))
    new = [row for place, row in begun.items() if place not in over]
    if new:
        conn.execute(_insert(conn, waiting).on_conflict_do_nothing(), new)


def _entry(record: Record, data: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "partner",
        "period",
        "transfer",
        "kind",
        "source",
        "target",
        "amount",
        "gets",
        "owed",
        "agreement",
        "member",
    )
    return {
        "tenant": record.tenant,
        "entry": record.entry,
        "n": data.get("n", 0),
        **{name: data[name] for name in names},
    }


_PLACE: Final = ("tenant", "partner", "transfer", "n")


def _wait(
    record: Record, data: Mapping[str, Any], begun: dict[Any, dict[str, Any]], over: dict[Any, dict[str, Any]]
) -> None:
    """What begins to wait for an answer, and what waits no more; a transfer that is over never waits again."""
    place = (record.tenant, data["partner"], data.get("transfer", ""), 0)
    match data["act"]:
        case "held":
            begun[place] = {**dict(zip(_PLACE, place, strict=True)), "at": record.received, "before": 0, "period": ""}
        case "confirmed" | "released":
            over[place] = {f"its_{name}": value for name, value in zip(_PLACE, place, strict=True)}
        case "returned" if data["role"] == "target":
            place = (*place[:3], data["n"])
            more = {"at": record.received, "before": data["before"], "period": data["period"]}
            begun[place] = {**dict(zip(_PLACE, place, strict=True)), **more}


def _same(table: sa.Table, values: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in values.items()]


def heard(conn: sa.Connection, tenant: str, partner: str, transfer: str, n: int) -> None:
    """The partner has answered."""
    place = {"tenant": tenant, "partner": partner, "transfer": transfer, "n": n}
    conn.execute(waiting.delete().where(*_same(waiting, place)))


def list_waiting(conn: sa.Connection, tenant: str, before: int, limit: int) -> list[Any]:
    """What has waited for an answer since *before*, oldest first; returns nobody else tells, so they wait for nothing."""
    query = sa.select(waiting).where(waiting.c.tenant == tenant, sa.or_(waiting.c.at <= before, waiting.c.n > 0))
    return list(conn.execute(query.order_by(waiting.c.at, waiting.c.transfer, waiting.c.n).limit(limit)))


def count_untold(conn: sa.Connection, tenant: str, partner: str, period: str) -> int:
    """Returns up to *period* that the partner has not heard of."""
    mine = (waiting.c.tenant == tenant, waiting.c.partner == partner, waiting.c.n > 0, waiting.c.period <= period)
    return conn.scalar(sa.select(sa.func.count()).select_from(waiting).where(*mine)) or 0


def list_untold(conn: sa.Connection, tenant: str, period: str) -> set[str]:
    """Partners that have not heard of returns up to *period*."""
    mine = (waiting.c.tenant == tenant, waiting.c.n > 0, waiting.c.period <= period)
    return set(conn.scalars(sa.select(waiting.c.partner).where(*mine).distinct()))


def read_entries(conn: sa.Connection, tenant: str, partners: Sequence[str], period: str) -> dict[str, Sequence[Entry]]:
    """The entries of a period with each of *partners* as the driver hands them over: a month may have a million."""
    found: dict[str, Sequence[Entry]] = {}
    columns = [entry.c[name] for name in Entry._fields]
    mine = sa.select(*columns, entry.c.partner).where(entry.c.tenant == tenant, entry.c.period == period)
    for start in range(0, len(partners), 500):
        query = mine.where(entry.c.partner.in_(partners[start : start + 500]))
        cursor: Any = conn.execute(query.order_by(entry.c.partner, entry.c.transfer, entry.c.n)).cursor
        for partner, rows in groupby(cursor.fetchall(), key=itemgetter(-1)):
            found[partner] = [row[:-1] for row in rows]  # tuples of an entry's fields, which are all that is hashed
    return found


def list_entries(conn: sa.Connection, tenant: str, partner: str, period: str) -> list[Entry]:
    """The entries of a period with a partner, in the order of transfers."""
    columns = [entry.c[name] for name in Entry._fields]
    place = {"tenant": tenant, "partner": partner, "period": period}
    return [
        Entry(*row)
        for row in conn.execute(sa.select(*columns).where(*_same(entry, place)).order_by(entry.c.transfer, entry.c.n))
    ]


def lots_of(conn: sa.Connection, tenant: str, partner: str, period: str) -> dict[tuple[str, int], str]:
    """The journal's entry behind each entry of a period: there stand the lots."""
    place = {"tenant": tenant, "partner": partner, "period": period}
    rows = conn.execute(sa.select(entry.c.transfer, entry.c.n, entry.c.entry).where(*_same(entry, place)))
    return {(row.transfer, row.n): row.entry for row in rows}


def keep_statement(
    conn: sa.Connection,
    tenant: str,
    partner: str,
    period: str,
    *,
    state: str,
    ours: str,
    theirs: str,
    dispute: str,
    at: int,
) -> None:
    """Write down a statement with the partner's; a later one for the same period takes its place."""
    row = {
        "tenant": tenant, "partner": partner, "period": period, "state": state, "ours": ours, "theirs": theirs, "dispute": dispute,
        "at": at,
    }  # fmt: skip
    keep_statements(conn, [row])


def keep_statements(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write down statements; a later one for the same partner and period takes its place."""
    new = _insert(conn, statement)
    values = {name: new.excluded[name] for name in ("state", "ours", "theirs", "dispute", "at")}
    conn.execute(new.on_conflict_do_update(index_elements=["tenant", "partner", "period"], set_=values), list(rows))


def find_statement(conn: sa.Connection, tenant: str, partner: str, period: str) -> Any | None:
    """The statement of a period with a partner, if one was made."""
    return conn.execute(
        sa.select(statement).where(*_same(statement, {"tenant": tenant, "partner": partner, "period": period}))
    ).first()


def own_rows(conn: sa.Connection, tenant: str, key: str) -> dict[str, Any]:
    """The plugin's own rows under one key."""
    return rows_under(conn, tenant, (key,)).get(key, {})


def rows_under(conn: sa.Connection, tenant: str, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The plugin's own rows under each of *keys* that has any."""
    found: dict[str, dict[str, Any]] = {}
    mine = sa.select(own.c.key, own.c.name, own.c.value).where(own.c.tenant == tenant, own.c.plugin == PLUGIN)
    ordered = sorted(keys)
    for start in range(0, len(ordered), 500):
        some = ordered[start : start + 500]
        for key, name, value in conn.execute(mine.where(own.c.key.in_(some))):
            if name:
                found.setdefault(key, {})[name] = msgspec.json.decode(value)
    return found


def of_member(conn: sa.Connection, tenant: str, member: int) -> dict[str, Any]:
    """What is kept of a member: the transfers that were theirs."""
    columns = [entry.c[name] for name in ("partner", "period", "transfer", "n", "kind", "amount", "gets")]
    query = (
        sa.select(*columns)
        .where(entry.c.tenant == tenant, entry.c.member == member)
        .order_by(entry.c.period, entry.c.transfer)
    )
    return {"transfers": [dict(row._mapping) for row in conn.execute(query)]}  # noqa: SLF001 - SQLAlchemy's public name


def forget(conn: sa.Connection, tenant: str, member: int) -> None:
    """Whose transfers they were is forgotten; what they came to stays, for the partner has it too.  No code leads to the member."""
    conn.execute(entry.update().where(entry.c.tenant == tenant, entry.c.member == member).values(member=0))
    codes = (
        own.c.tenant == tenant,
        own.c.plugin == PLUGIN,
        own.c.key.between("alias/", "alias0"),
        own.c.name == "member",
    )
    conn.execute(own.delete().where(*codes, own.c.value == str(member)))


def list_given(conn: sa.Connection, tenant: str, unit: str) -> Iterator[tuple[int, int, int]]:
    """Everything members were ever given of *unit*: (member, usable from, amount), in no order."""
    mine = sa.select(lot.c.member, lot.c.usable_from, lot.c.amount).where(lot.c.tenant == tenant, lot.c.unit == unit)
    yield from (tuple(row) for row in conn.execute(mine))
