"""A plugin leaves: what it keeps is written to a file, taken out of the database, and put back when it returns.

Switching off keeps everything.  What it gave stays in the journal for ever; what goes is what it keeps for itself: its own
rows, its tables, how far it has read the journal, when its jobs are due.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import sqlalchemy as sa

from . import discovery, migrate, tables
from .errors import InvalidRequest, ProofFailed
from .ledger import parse_entry, read_record
from .manifest import Manifest
from .settle import plugin_of

#: Rows of the core that are a plugin's: the table, and how they are found.
_SHARED: Mapping[str, tuple[sa.Table, str]] = {
    "own": (tables.own, "plugin"),
    "consumer": (tables.consumer, "name"),
    "job": (tables.job, "name"),
}
_CHUNK = 1_000


def export(conn: sa.Connection, declared: Manifest) -> Iterator[str]:
    """Everything the plugin keeps for itself, of all tenants, as lines of JSON; the last one says that nothing is missing."""
    digest, count = hashlib.sha256(), 0
    head = {"plugin": declared.id, "version": str(declared.version), "revision": _revision(conn, declared)}
    for document in [head, *_rows(conn, declared)]:
        line = msgspec.json.encode(document, order="deterministic").decode() + "\n"
        digest.update(line.encode())
        count += 1
        yield line
    yield msgspec.json.encode({"rows": count - 1, "sha256": digest.hexdigest()}).decode() + "\n"


def check(lines: Iterable[str], declared: Manifest) -> list[dict[str, Any]]:
    """The head and the rows of an export.  Raises ProofFailed if it is not whole, InvalidRequest if it is another plugin's."""
    digest, found, said = hashlib.sha256(), [], None
    for line in lines:
        if said is not None:
            raise ProofFailed("there is more behind the export's last line")
        try:
            document = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ProofFailed("this is no export of a plugin") from None
        if "sha256" in document:
            said = document
            continue
        digest.update(line.encode())
        found.append(document)
    if said is None or said["sha256"] != digest.hexdigest() or said["rows"] != len(found) - 1:
        raise ProofFailed("the export is not whole, or was changed")
    if found[0].get("plugin") != declared.id:
        raise InvalidRequest(f"this is an export of {found[0].get('plugin')}, not of {declared.id}")
    return found


def referred(conn: sa.Connection, declared: Manifest) -> list[str]:
    """Why the plugin cannot be purged yet: what members still hold or wait for by it."""
    found = []
    lot, repair, order, record = tables.lot, tables.repair, tables.order_entry, tables.record
    for unit in declared.units:
        held = sa.select(lot.c.tenant, sa.func.count()).where(lot.c.unit == unit.name, lot.c.remaining > 0)
        for tenant, count in conn.execute(held.group_by(lot.c.tenant)).all():
            found.append(f"{tenant}: {count} {'lot' if count == 1 else 'lots'} of {unit.name} with something left")
    owing = sa.select(repair.c.tenant, sa.func.count()).where(repair.c.plugin == declared.id, repair.c.repaired == 0)
    for tenant, count in conn.execute(owing.group_by(repair.c.tenant)).all():
        found.append(f"{tenant}: {count} entries wait for `tally repair`")
    decided = {
        parse_entry(name.removeprefix("entry/"))
        for name in conn.scalars(sa.select(order.c.order_id).where(order.c.role.in_(("released", "voided"))))
    }
    waiting = sa.or_(*[record.c.body.contains(f'"status":"{word}"'.encode()) for word in ("held", "step_up")])
    for row in conn.execute(sa.select(record.c.entry, record.c.tenant, record.c.body).where(waiting)):
        entry = read_record(bytes(row.body))
        rules = [step.rule for step in entry.explanation]
        rules += [body["rule"] for _, body in (entry.more or {}).get("deferred", ())]
        if entry.status != "recorded" and row.entry not in decided and declared.id in map(plugin_of, rules):
            found.append(f"{row.tenant}: {entry.entry} is held and waits for a decision")
    return found


def purge(conn: sa.Connection, declared: Manifest) -> dict[str, int]:
    """Take out everything the plugin keeps for itself, in one transaction; how many rows of which table.

    The caller has checked that an export of it is whole and that nothing refers to it any more.
    """
    gone = {}
    for name, (table, column) in _SHARED.items():
        gone[name] = conn.execute(sa.delete(table).where(_is_its(table.c[column], declared.id))).rowcount
    there = set(sa.inspect(conn).get_table_names())
    for table in reversed(_tables(declared)):
        if table.name in there:
            gone[table.name] = conn.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            table.drop(conn)
    if declared.migrations is not None:
        migrate.forget(conn, migrate.Part(declared.id, declared.migrations))
    return {name: count for name, count in gone.items() if count}


def put_back(conn: sa.Connection, declared: Manifest, found: list[dict[str, Any]]) -> int:
    """Put the rows of an export back; how many.  The plugin's tables are there, as new as in the export, and empty.

    Raises InvalidRequest if they are not.
    """
    head, rows = found[0], found[1:]
    revision = _revision(conn, declared)
    if revision is None and head["revision"] is not None:
        raise InvalidRequest(f"{declared.id} has no tables here yet: `tally plugins enable {declared.id}` makes them")
    if revision != head["revision"]:
        raise InvalidRequest(
            f"the export was made at revision {head['revision']} and the tables are at {revision}: "
            f"install {declared.id} {head['version']} first"
        )
    known = {table.name: table for table in [*_tables(declared), *(table for table, _ in _SHARED.values())]}
    for table in _tables(declared):
        if conn.execute(sa.select(table).limit(1)).first() is not None:
            raise InvalidRequest(f"{table.name} is not empty: an import never mixes with what is there")
    if conn.execute(sa.select(tables.own.c.key).where(tables.own.c.plugin == declared.id).limit(1)).first() is not None:
        raise InvalidRequest(f"{declared.id} keeps rows already: an import never mixes with what is there")
    waiting: dict[str, list[dict[str, Any]]] = {}
    for document in rows:
        if document["table"] not in known:
            raise InvalidRequest(f"{declared.id} has no table {document['table']}")
        waiting.setdefault(document["table"], []).append(
            {name: _read(value) for name, value in document["row"].items()}
        )
    for name, (table, column) in _SHARED.items():
        if name in waiting:  # what the plugin has begun anew since it was enabled again
            conn.execute(sa.delete(table).where(_is_its(table.c[column], declared.id)))
    for table in [*_tables(declared), *(table for table, _ in _SHARED.values())]:
        mine = waiting.get(table.name, [])
        for start in range(0, len(mine), _CHUNK):
            conn.execute(sa.insert(table), mine[start : start + _CHUNK])
        _go_on_counting(conn, table)
    return len(rows)


def _revision(conn: sa.Connection, declared: Manifest) -> str | None:
    if declared.migrations is None:
        return None
    return migrate.revision(conn, migrate.Part(declared.id, declared.migrations))


def _tables(declared: Manifest) -> list[sa.Table]:
    """Its tables, those that others point to first."""
    if declared.metadata is None:
        return []
    metadata: sa.MetaData = discovery.load(declared.metadata, plugin=declared.id)
    return [table for table in metadata.sorted_tables if table.name in declared.tables]


def _is_its(column: sa.Column[Any], plugin: str) -> sa.ColumnElement[bool]:
    return sa.or_(column == plugin, column.startswith(f"{plugin}.", autoescape=True))


def _rows(conn: sa.Connection, declared: Manifest) -> Iterator[dict[str, Any]]:
    there = set(sa.inspect(conn).get_table_names())
    mine = [(table, sa.select(table)) for table in _tables(declared) if table.name in there]
    for table, column in _SHARED.values():
        mine.append((table, sa.select(table).where(_is_its(table.c[column], declared.id))))
    for table, query in mine:
        keys = [*table.primary_key.columns] or [*table.columns]
        for row in conn.execute(query.order_by(*keys)).mappings():
            yield {"table": str(table.name), "row": {str(name): _said(value) for name, value in row.items()}}


def _said(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime):
        return {"instant": value.isoformat()}
    if isinstance(value, date):
        return {"day": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, timedelta):
        return {"seconds": str(value.total_seconds())}
    return {"json": value} if isinstance(value, dict | list) else value


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, said),) = value.items()
    match kind:
        case "bytes":
            return base64.b64decode(said)
        case "instant":
            return datetime.fromisoformat(said)
        case "day":
            return date.fromisoformat(said)
        case "decimal":
            return Decimal(said)
        case "seconds":
            return timedelta(seconds=float(said))
    return said


def _go_on_counting(conn: sa.Connection, table: sa.Table) -> None:
    """On PostgreSQL numbers that the database gives out go on behind the largest that was put back."""
    column = table.autoincrement_column
    if conn.dialect.name != "postgresql" or column is None:
        return
    sequence = conn.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name)))
    last = conn.scalar(sa.select(sa.func.max(column)))
    if sequence is not None and last is not None:
        conn.execute(sa.select(sa.func.setval(sequence, last)))
