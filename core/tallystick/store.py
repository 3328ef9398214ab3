"""SQL in, plain rows out: the statements of the event path, one per table and batch, on SQLite and PostgreSQL.

No policy lives here.  Every statement names its tenant.  Rows are tuples: at thousands of events a second nothing else
is cheap enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec
import sqlalchemy as sa

from . import tables
from .errors import Insufficient, OutOfStock, TallyError

if TYPE_CHECKING:
    from .wire import Wire

Row = tuple[Any, ...]
_PG_TYPES = {"BIGINT": "bigint", "TEXT": "text", "BYTEA": "bytea"}


def _array(keys: Collection[Any]) -> str:
    """Keys as `json_each` takes them."""
    return msgspec.json.encode(list(keys)).decode()


def array_text(kind: str, values: Sequence[Any]) -> str:
    """*values* (bigint, text or bytea; None is NULL) as PostgreSQL writes an array.

    The driver looks at every value to find out what it is, which took a third of the processor time of a batch.
    """
    if None in values:
        return "{" + ",".join("NULL" if value is None else array_text(kind, (value,))[1:-1] for value in values) + "}"
    if not values:
        return "{}"
    if kind == "bigint":
        return "{" + ",".join(map(str, values)) + "}"
    if kind == "bytea":
        return '{"\\\\x' + '","\\\\x'.join(map(bytes.hex, values)) + '"}'
    text = '","'.join(values)
    if "\\" in text or text.count('"') != 2 * (len(values) - 1):
        text = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return '{"' + text + '"}'


def _columns(kinds: Sequence[str], rows: Sequence[Row]) -> list[str]:
    return [array_text(kind, column) for kind, column in zip(kinds, zip(*rows, strict=True), strict=True)]


class Cursor(Protocol):
    """What both drivers' cursors have in common."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, sql: Any, parameters: Any = ..., /) -> Any: ...
    def executemany(self, sql: Any, rows: Any, /) -> Any: ...
    def fetchall(self) -> Any: ...
    def fetchone(self) -> Any: ...


class Store:
    """The event path's statements in one dialect.  Holds text only: no connection, no state."""

    def __init__(self, dialect: str, *, locking: bool = True) -> None:
        self.postgres = dialect == "postgresql"
        self.locking = self.postgres and locking  #: on SQLite the writing transaction is the lock
        self._inserts: dict[tuple[str, str], tuple[str, Sequence[str]]] = {}

    def cursor(self, conn: sa.Connection) -> Cursor:
        """A cursor inside *conn*'s transaction: the hot path does not pay for result objects."""
        if not self.postgres:
            return conn.connection.cursor()
        from .wire import Prepared, Wire  # brings the driver along: only who has a server waits for it

        driver: Any = conn.connection.driver_connection
        return Wire(driver, conn.connection.info.setdefault("prepared", Prepared()))

    def together(self, cur: Cursor) -> AbstractContextManager[object]:
        """What is written inside goes to a server in one go, and is looked at at the end: refusals come there."""
        return cast("Wire", cur) if self.postgres else nullcontext()

    # -- shapes of statements ---------------------------------------------------------------------------------------

    def _rows(
        self,
        cur: Cursor,
        sqlite: str,
        postgres: str,
        before: Sequence[Any],
        keys: Collection[Any],
        kind: str = "bigint",
    ) -> list[Row]:
        """Rows whose key is among *keys*: json_each on SQLite, an array on PostgreSQL."""
        if not keys:
            return []
        if self.postgres:
            cur.execute(
                postgres.replace("KEYS", f"= ANY(%s::{kind}[])").replace("?", "%s"),
                (*before, array_text(kind, [*keys])),
            )
        elif len(keys) == 1:  # a lone event: no list is opened for one key
            cur.execute(sqlite.replace("KEYS", "= ?"), (*before, *keys))
        else:
            cur.execute(sqlite.replace("KEYS", "IN (SELECT value FROM json_each(?))"), (*before, _array(keys)))
        return list(cur.fetchall())

    def _select(
        self, cur: Cursor, sql: str, before: Sequence[Any], keys: Collection[Any], kind: str = "bigint", lock: str = ""
    ) -> list[Row]:
        return self._rows(cur, sql, sql + (lock if self.locking else ""), before, keys, kind)

    def _insert(self, cur: Cursor, table: sa.Table, rows: Sequence[Row], conflict: str = "") -> None:
        """One statement for all *rows*: executemany on SQLite, UNNEST on PostgreSQL."""
        if not rows:
            return
        found = self._inserts.get((table.name, conflict))
        if found is None:
            found = self._inserts[table.name, conflict] = self._insert_text(table, conflict)
        sql, kinds = found
        if self.postgres:
            cur.execute(sql, _columns(kinds, rows))
        else:
            cur.executemany(sql, rows)

    def _insert_text(self, table: sa.Table, conflict: str) -> tuple[str, Sequence[str]]:
        """The statement, and on PostgreSQL the types of its columns."""
        names = ", ".join(column.name for column in table.columns)
        if not self.postgres:
            marks = ", ".join("?" for _ in table.columns)
            return f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {conflict}", ()
        from sqlalchemy.dialects import postgresql

        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        kinds = [_PG_TYPES[column.type.compile(dialect)] for column in table.columns]
        arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
        return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}) {conflict}", kinds

    def _update(
        self,
        cur: Cursor,
        table: str,
        sets: str,
        columns: Sequence[tuple[str, str]],
        keys: Sequence[tuple[str, str]],
        rows: Sequence[Row],
        guard: str = "",
        refusal: TallyError | None = None,
    ) -> None:
        """Update many rows by key; *sets* and *guard* name the new values as ``v.column``.  *refusal* if not all matched."""
        if not rows:
            return
        named = [*columns, *keys]
        if self.postgres:
            arrays = ", ".join(f"%s::{kind}[]" for _, kind in named)
            names = ", ".join(name for name, _ in named)
            match = " AND ".join(f"{table}.{name} = v.{name}" for name, _ in keys)
            sql = f"UPDATE {table} SET {sets} FROM unnest({arrays}) AS v ({names}) WHERE {match} {guard}"
            self._change(cur, sql, _columns([kind for _, kind in named], rows), len(rows), refusal)
            return
        for place, (name, _) in enumerate(named, 1):
            sets = sets.replace(f"v.{name}", f"?{place}")
            guard = guard.replace(f"v.{name}", f"?{place}")
        match = " AND ".join(f"{name} = ?{len(columns) + place}" for place, (name, _) in enumerate(keys, 1))
        cur.executemany(f"UPDATE {table} SET {sets} WHERE {match} {guard}", rows)
        if refusal is not None and cur.rowcount != len(rows):
            raise refusal

    def _change(
        self, cur: Cursor, sql: str, parameters: Sequence[Any], matched: int, refusal: TallyError | None
    ) -> None:
        """*refusal* unless exactly so many rows *matched*."""
        if refusal is not None and self.postgres:
            cast("Wire", cur).demand(sql, parameters, matched, refusal)
            return
        cur.execute(sql, parameters)
        if refusal is not None and cur.rowcount != matched:
            raise refusal

    # -- generation and writer ---------------------------------------------------------------------------------------

    def share_generations(self, cur: Cursor, tenants: Collection[str]) -> dict[str, tuple[int, str]]:
        """The generation in force per tenant; on PostgreSQL no change of settings can commit while we hold it."""
        rows = self._select(
            cur,
            "SELECT id, generation, programme FROM tenant WHERE id KEYS",
            (),
            sorted(tenants),
            "text",
            " ORDER BY id FOR SHARE",
        )
        return {tenant: (generation, programme) for tenant, generation, programme in rows}

    def find_turn(self, cur: Cursor, writer: int) -> tuple[tuple[int, bytes] | None, int | None, int]:
        """Whose turn it is: number and chain hash of the writer's last batch (None: it has none), which lease of its row is
        in force, and when the last batch of all writers was written (0: none was).
        """
        mark = "%s" if self.postgres else "?"
        last = "SELECT batch.at FROM batch WHERE batch.writer = writer.id ORDER BY batch.number DESC LIMIT 1"
        cur.execute(
            "SELECT number, chain, epoch, newest FROM"
            f" (SELECT max(CASE WHEN id = {mark} THEN epoch END) AS epoch, max(({last})) AS newest FROM writer) AS lease"
            f" LEFT JOIN (SELECT number, chain FROM batch WHERE writer = {mark} ORDER BY number DESC LIMIT 1) AS head"
            " ON true",
            (writer, writer),
        )
        number, chain, epoch, newest = cur.fetchone()
        return (number, bytes(chain)) if number is not None else None, epoch, newest or 0

    # -- claim ---------------------------------------------------------------------------------------------------------

    def claim(self, cur: Cursor, rows: Sequence[tuple[str, str, str, int]]) -> set[int]:
        """Claim event ids ``(tenant, source, id, entry)`` in sorted order; the entries that got theirs.

        On PostgreSQL a concurrent claim of the same id is waited for; nobody waits in a circle because ids are sorted.
        """
        rows = sorted(rows)
        if self.postgres:
            cur.execute(
                "INSERT INTO claim (tenant, source, id, entry) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[],"
                " %s::bigint[]) ON CONFLICT DO NOTHING RETURNING entry",
                _columns(("text", "text", "text", "bigint"), rows),
            )
            return {row[0] for row in cur.fetchall()}
        cur.executemany(
            "INSERT INTO claim (tenant, source, id, entry) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows
        )
        if cur.rowcount == len(rows):
            return {row[3] for row in rows}
        return {entry for tenant, source, id, entry in rows if self.find_claim(cur, tenant, source, id) == entry}

    def find_claim(self, cur: Cursor, tenant: str, source: str, id: str) -> int | None:
        """The entry that claimed an event id."""
        mark = "%s" if self.postgres else "?"
        cur.execute(
            f"SELECT entry FROM claim WHERE tenant = {mark} AND source = {mark} AND id = {mark}", (tenant, source, id)
        )
        row = cur.fetchone()
        return row[0] if row else None

    def unclaim(self, cur: Cursor, rows: Sequence[tuple[str, str, str]]) -> None:
        """Give back the ids of refused events: a refusal writes nothing and may be retried."""
        mark = "%s" if self.postgres else "?"
        if rows:
            cur.executemany(f"DELETE FROM claim WHERE tenant = {mark} AND source = {mark} AND id = {mark}", rows)

    # -- lock and load -------------------------------------------------------------------------------------------------

    def lock_orders(self, cur: Cursor, tenant: str, orders: Collection[str]) -> None:
        """Lock the keys of *orders*, absent ones too, before anything else is read."""
        if self.locking and orders:
            named = array_text("text", sorted(orders))
            later = cast("Wire", cur).later
            later(
                "INSERT INTO order_key (tenant, order_id) SELECT %s, * FROM unnest(%s::text[]) ON CONFLICT DO NOTHING",
                (tenant, named),
            )
            later(
                "SELECT 1 FROM order_key WHERE tenant = %s AND order_id = ANY(%s::text[]) ORDER BY order_id FOR UPDATE",
                (tenant, named),
            )

    def load_order_entries(self, cur: Cursor, tenant: str, orders: Collection[str]) -> list[Row]:
        """``(order_id, entry, role, member, value, returned, lines)`` of every entry that named one of *orders*."""
        return self._select(
            cur,
            "SELECT order_id, entry, role, member, value, returned, lines FROM order_entry WHERE tenant = ? AND order_id KEYS",
            (tenant,), orders, "text", " ORDER BY order_id, entry",
        )  # fmt: skip

    def load_records(self, cur: Cursor, tenant: str, entries: Collection[int]) -> dict[int, tuple[bytes, bytes | None]]:
        """``entry -> (body, sealed facts)``."""
        rows = self._select(
            cur, "SELECT entry, body, facts FROM record WHERE tenant = ? AND entry KEYS", (tenant,), entries
        )
        return {entry: (bytes(body), bytes(facts) if facts is not None else None) for entry, body, facts in rows}

    def find_members(self, cur: Cursor, tenant: str, fingerprints: Collection[str]) -> dict[str, int]:
        """Member number by fingerprint of an external id."""
        return dict(
            self._select(
                cur,
                "SELECT fingerprint, member FROM alias WHERE tenant = ? AND fingerprint KEYS",
                (tenant,),
                fingerprints,
                "text",
            )
        )

    def lock_members(self, cur: Cursor, tenant: str, numbers: Collection[int]) -> list[Row]:
        """Lock and read members: ``(number, status, enrolled_at, secret, tags, merged_into, language)``."""
        return self._select(
            cur,
            "SELECT number, status, enrolled_at, secret, tags, merged_into, language FROM member WHERE tenant = ? AND number KEYS",
            (tenant,), sorted(numbers), "bigint", " ORDER BY number FOR UPDATE",
        )  # fmt: skip

    def load_profiles(self, cur: Cursor, tenant: str, numbers: Collection[int]) -> dict[int, bytes]:
        """Sealed profiles by member."""
        rows = self._select(cur, "SELECT member, body FROM person WHERE tenant = ? AND member KEYS", (tenant,), numbers)
        return {number: bytes(body) for number, body in rows}

    def load_balances(self, cur: Cursor, tenant: str, numbers: Collection[int]) -> list[Row]:
        """``(member, unit, posted, deficit)``."""
        return self._select(
            cur,
            "SELECT member, unit, posted, deficit FROM balance WHERE tenant = ? AND member KEYS",
            (tenant,),
            numbers,
        )

    def load_lots(self, cur: Cursor, tenant: str, numbers: Collection[int]) -> list[Row]:
        """Lots with something left: ``(member, unit, entry, part, amount, remaining, usable_from, expires_at, sliding,
        waits, issuer)``.
        """
        return self._select(
            cur,
            "SELECT member, unit, entry, part, amount, remaining, usable_from, expires_at, sliding, waits, issuer FROM lot"
            " WHERE tenant = ? AND remaining > 0 AND member KEYS",
            (tenant,), numbers,
        )  # fmt: skip

    def load_lots_of(self, cur: Cursor, tenant: str, numbers: Collection[int], entries: Collection[int]) -> list[Row]:
        """All lots of members that *entries* opened, spent ones too, as :meth:`load_lots`."""
        if not entries:
            return []
        one_of = "= ANY(?::bigint[])" if self.postgres else "IN (SELECT value FROM json_each(?))"
        wanted = array_text("bigint", [*entries]) if self.postgres else _array(entries)
        return self._select(
            cur,
            "SELECT member, unit, entry, part, amount, remaining, usable_from, expires_at, sliding, waits, issuer FROM lot"
            f" WHERE tenant = ? AND entry {one_of} AND member KEYS",
            (tenant, wanted), numbers,
        )  # fmt: skip

    def load_taken(self, cur: Cursor, tenant: str, entries: Collection[int]) -> dict[tuple[int, int], int]:
        """How much of each gain was taken back: ``(entry, place) -> amount``."""
        rows = self._select(
            cur, "SELECT entry, place, amount FROM taken WHERE tenant = ? AND entry KEYS", (tenant,), entries
        )
        return {(entry, place): amount for entry, place, amount in rows}

    def load_expired(self, cur: Cursor, tenant: str, member: int, lot: str, since: int) -> int:
        """How much of *lot*, which fell due at *since*, expired.  Reads the member's entries since then."""
        mark = "%s" if self.postgres else "?"
        cur.execute(
            f"SELECT coalesce(sum(amount), 0) FROM transfer WHERE lot = {mark} AND credit = 'expired' AND entry IN"
            f" (SELECT entry FROM record WHERE tenant = {mark} AND member = {mark} AND received >= {mark}"
            f" UNION ALL SELECT entry FROM entry_member WHERE tenant = {mark} AND member = {mark})",
            (lot, tenant, member, since, tenant, member),
        )
        row = cur.fetchone()
        return int(row[0]) if row else 0

    def load_counters(
        self, cur: Cursor, tenant: str, numbers: Collection[int], wanted: Mapping[tuple[str, str], int]
    ) -> list[Row]:
        """``(member, name, grain, start, value)`` of *wanted* counters: ``(name, grain)`` -> the first bucket."""
        if not wanted or not numbers:
            return []
        buckets = [(name, grain, since) for (name, grain), since in sorted(wanted.items())]
        if self.postgres:
            cur.execute(
                "SELECT member, counter.name, counter.grain, start, value FROM unnest(%s::text[], %s::text[], %s::bigint[])"
                " AS wanted (name, grain, since) JOIN counter ON counter.name = wanted.name AND counter.grain = wanted.grain"
                " AND start >= since WHERE tenant = %s AND member = ANY(%s::bigint[])",
                (*_columns(("text", "text", "bigint"), buckets), tenant, array_text("bigint", list(numbers))),
            )
        else:  # each bucket is found by its key: CROSS JOIN keeps the order
            cur.execute(
                f"WITH wanted (name, grain, since) AS (VALUES {', '.join(['(?, ?, ?)'] * len(buckets))})"
                " SELECT member, counter.name, counter.grain, start, counter.value FROM json_each(?) AS one CROSS JOIN wanted"
                " CROSS JOIN counter WHERE counter.tenant = ? AND member = one.value AND counter.name = wanted.name"
                " AND counter.grain = wanted.grain AND start >= since",
                (*[value for bucket in buckets for value in bucket], _array(numbers), tenant),
            )
        return list(cur.fetchall())

    def load_all_counters(self, cur: Cursor, tenant: str, numbers: Collection[int]) -> list[Row]:
        """Every counter of *numbers*, as :meth:`load_counters`."""
        return self._select(
            cur,
            "SELECT member, name, grain, start, value FROM counter WHERE tenant = ? AND member KEYS",
            (tenant,),
            numbers,
        )

    def lock_shared_counters(self, cur: Cursor, tenant: str, names: Collection[str]) -> None:
        """Lock the tenant's own counters (budgets), absent ones too, before anything else is read."""
        if self.locking and names:
            named = array_text("text", sorted(names))
            later = cast("Wire", cur).later
            later(
                "INSERT INTO counter (tenant, member, name, grain, start, value) SELECT %s, 0, n, 'lifetime', 0, 0"
                " FROM unnest(%s::text[]) AS n ON CONFLICT DO NOTHING",
                (tenant, named),
            )
            later(
                "SELECT 1 FROM counter WHERE tenant = %s AND member = 0 AND name = ANY(%s::text[]) ORDER BY name, grain, start"
                " FOR UPDATE",
                (tenant, named),
            )

    def lock_stock(self, cur: Cursor, tenant: str, keys: Collection[str]) -> dict[str, int]:
        """Lock and read what is left per stock key."""
        rows = self._select(
            cur,
            "SELECT key, remaining FROM stock WHERE tenant = ? AND key KEYS",
            (tenant,),
            sorted(keys),
            "text",
            " ORDER BY key FOR UPDATE",
        )
        return dict(rows)

    def load_own(
        self, cur: Cursor, tenant: str, members: Collection[int], shared: Collection[tuple[str, str]]
    ) -> list[Row]:
        """``(plugin, key, name, value)`` of plugins' own rows: all of *members* (their lock covers them), and *shared* ones.

        A member's rows stand under a key for each plugin, and are found by the member: by the key alone the rows of all
        members would be gone through.
        """
        found = self._rows(
            cur,
            # without the index SQLite would go through the tenant's rows
            "SELECT plugin, key, name, value FROM own INDEXED BY own_member WHERE tenant = ? AND member KEYS",
            "SELECT plugin, key, name, value FROM own WHERE tenant = ? AND member KEYS",
            (tenant,), sorted(members),
        )  # fmt: skip
        if not shared:
            return found
        named = sorted(shared)
        if self.postgres:
            plugins, keys = (array_text("text", column) for column in zip(*named, strict=True))
            cur.execute(
                "SELECT own.plugin, own.key, own.name, own.value FROM unnest(%s::text[], %s::text[]) AS wanted (plugin, key)"
                " JOIN own ON own.plugin = wanted.plugin AND own.key = wanted.key WHERE own.tenant = %s",
                (plugins, keys, tenant),
            )
        else:
            cur.execute(
                "SELECT own.plugin, own.key, own.name, own.value FROM json_each(?) AS wanted CROSS JOIN own"
                " WHERE own.tenant = ? AND own.plugin = wanted.value ->> 0 AND own.key = wanted.value ->> 1",
                (_array(named), tenant),
            )
        return [*found, *cur.fetchall()]

    def lock_own(self, cur: Cursor, tenant: str, keys: Collection[tuple[str, str]]) -> None:
        """Lock rows shared by the tenant ``(plugin, key)``, absent ones too, by a row of their own, before anything else is read."""
        if self.locking and keys:
            named = sorted(keys)
            plugins, names = (array_text("text", column) for column in zip(*named, strict=True))
            later = cast("Wire", cur).later
            later(
                "INSERT INTO own (tenant, plugin, key, name, member, value) SELECT %s, p, k, '', 0, 'null'"
                " FROM unnest(%s::text[], %s::text[]) AS t (p, k) ON CONFLICT DO NOTHING",
                (tenant, plugins, names),
            )
            later(
                "SELECT 1 FROM own WHERE tenant = %s AND name = '' AND (plugin, key) IN"
                " (SELECT * FROM unnest(%s::text[], %s::text[])) ORDER BY plugin, key FOR UPDATE",
                (tenant, plugins, names),
            )

    # -- append --------------------------------------------------------------------------------------------------------

    def append_records(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(entry, tenant, member, received, body, facts)``."""
        self._insert(cur, tables.record, rows)

    def append_transfers(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(entry, place, tenant, debit, credit, unit, amount, rule, lot, into_lot)``."""
        self._insert(cur, tables.transfer, rows)

    def append_entry_members(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(tenant, member, entry)`` of members whose points an entry of somebody else moved."""
        self._insert(cur, tables.entry_member, rows)

    def append_lots(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(tenant, member, unit, entry, part, amount, remaining, usable_from, expires_at, sliding, waits, issuer)``."""
        self._insert(cur, tables.lot, rows)

    def append_claims(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """Ids of entries the house made itself: ``(tenant, source, id, entry)``."""
        self._insert(cur, tables.claim, rows)

    def append_order_entries(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(tenant, order_id, entry, role, member, value, returned, lines)``."""
        self._insert(cur, tables.order_entry, rows)

    def append_stock(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(tenant, key, remaining)``."""
        self._insert(cur, tables.stock, rows)

    def append_intents(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(entry, place, tenant, member, channel, key, body)``."""
        self._insert(cur, tables.intent, rows)

    def append_repairs(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(tenant, entry, plugin, hook, situation, repaired)``."""
        self._insert(cur, tables.repair, rows, "ON CONFLICT DO NOTHING")

    def mark_repaired(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(by, tenant, entry)``: the entry was made good by another, or nothing was owed (-1)."""
        if rows:
            mark = "%s" if self.postgres else "?"
            cur.executemany(
                f"UPDATE repair SET repaired = {mark} WHERE tenant = {mark} AND entry = {mark} AND repaired = 0", rows
            )

    def append_batch(self, cur: Cursor, row: Row) -> None:
        """``(writer, number, epoch, at, count, root, previous, chain)``."""
        self._insert(cur, tables.batch, [row])

    def change_lots(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(remaining, usable_from, expires_at, waits, was, tenant, member, unit, entry, part)``.

        A debit is a conditional update: it only happens if the lot still holds what was read under the lock.
        """
        columns = (
            ("remaining", "bigint"),
            ("usable_from", "bigint"),
            ("expires_at", "bigint"),
            ("waits", "text"),
            ("was", "bigint"),
        )
        keys = (("tenant", "text"), ("member", "bigint"), ("unit", "text"), ("entry", "bigint"), ("part", "bigint"))
        sets = "remaining = v.remaining, usable_from = v.usable_from, expires_at = v.expires_at, waits = v.waits"
        own = "lot.remaining" if self.postgres else "remaining"
        refusal = Insufficient("a lot changed underneath: nothing was spent")
        self._update(cur, "lot", sets, columns, keys, rows, f"AND {own} = v.was", refusal)

    def put_balances(self, cur: Cursor, fresh: Sequence[Row], changed: Sequence[Row]) -> None:
        """*fresh*: ``(tenant, member, unit, posted, deficit)``; *changed*: ``(posted, deficit, was, tenant, member, unit)``."""
        self._insert(cur, tables.balance, fresh)
        columns = (("posted", "bigint"), ("deficit", "bigint"), ("was", "bigint"))
        keys = (("tenant", "text"), ("member", "bigint"), ("unit", "text"))
        own = "balance.posted" if self.postgres else "posted"
        sets = "posted = v.posted, deficit = v.deficit"
        refusal = Insufficient("a balance changed underneath: nothing was posted")
        self._update(cur, "balance", sets, columns, keys, changed, f"AND {own} = v.was", refusal)

    def add_counters(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """Add to counters: ``(tenant, member, name, grain, start, amount)``."""
        self._insert(
            cur,
            tables.counter,
            rows,
            "ON CONFLICT (tenant, member, name, grain, start) DO UPDATE SET value = counter.value + excluded.value",
        )

    def add_taken(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """Remember what was taken back: ``(tenant, entry, place, amount)``."""
        self._insert(
            cur,
            tables.taken,
            rows,
            "ON CONFLICT (tenant, entry, place) DO UPDATE SET amount = taken.amount + excluded.amount",
        )

    def change_orders(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """``(role, returned, lines, tenant, order_id, entry)``."""
        columns = (("role", "text"), ("returned", "bigint"), ("lines", "text"))
        keys = (("tenant", "text"), ("order_id", "text"), ("entry", "bigint"))
        self._update(cur, "order_entry", "role = v.role, returned = v.returned, lines = v.lines", columns, keys, rows)

    def change_stock(
        self, cur: Cursor, changed: Mapping[tuple[str, str], int], added: Iterable[tuple[str, str, int]]
    ) -> None:
        """Take (negative) or add per ``(tenant, key)``; set absolutely for *added*."""
        mark = "%s" if self.postgres else "?"
        for (tenant, key), amount in sorted(changed.items()):
            if amount > 0:
                given = (tenant, key, amount)
                cur.execute(
                    f"INSERT INTO stock (tenant, key, remaining) VALUES ({mark}, {mark}, {mark}) ON CONFLICT (tenant, key) DO UPDATE SET remaining = stock.remaining + excluded.remaining",
                    given,
                )
                continue
            self._change(
                cur,
                f"UPDATE stock SET remaining = remaining + {mark} WHERE tenant = {mark} AND key = {mark} AND remaining + {mark} >= 0",
                (amount, tenant, key, amount), 1, OutOfStock(f"nothing left of {key}"),
            )  # fmt: skip
        self._insert(
            cur, tables.stock, list(added), "ON CONFLICT (tenant, key) DO UPDATE SET remaining = excluded.remaining"
        )

    def put_own(self, cur: Cursor, rows: Sequence[Row], deleted: Sequence[Row]) -> None:
        """*rows*: ``(tenant, plugin, key, name, member, value)``; *deleted*: ``(tenant, plugin, key, name)``."""
        self._insert(
            cur, tables.own, rows, "ON CONFLICT (tenant, plugin, key, name) DO UPDATE SET value = excluded.value"
        )
        mark = "%s" if self.postgres else "?"
        if deleted:
            cur.executemany(
                f"DELETE FROM own WHERE tenant = {mark} AND plugin = {mark} AND key = {mark} AND name = {mark}",
                deleted,
            )

    def extend_lots(self, cur: Cursor, rows: Sequence[Row]) -> None:
        """Move sliding lots: ``(expires_at, now, tenant, member, unit)``, in this order; what was due at *now* stays due."""
        own = "lot.expires_at" if self.postgres else "expires_at"
        columns = (("expires_at", "bigint"), ("now", "bigint"))
        keys = (("tenant", "text"), ("member", "bigint"), ("unit", "text"))
        guard = f"AND sliding = 1 AND remaining > 0 AND {own} > v.now AND {own} < v.expires_at"
        while rows:
            # one statement moves each account once: on PostgreSQL it would see only the first of several
            first = list({row[2:]: row for row in reversed(rows)}.values())
            self._update(cur, "lot", "expires_at = v.expires_at", columns, keys, first, guard)
            chosen = set(map(id, first))
            rows = [row for row in rows if id(row) not in chosen]
