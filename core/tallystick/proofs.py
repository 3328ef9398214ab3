"""Whether the books add up: everything is computed again from the journal, in bounded memory.

The records are the truth: each batch's Merkle root fixes its records, each chain hash fixes all batches before.
Transfers must repeat the records, and everything that follows from them (lots, balances, counters, claims) must be what
the journal makes it.  A :mod:`~tallystick.glance` says whether all of it is.

If it is not, the books are gone through entry by entry, some hundred entries beside their transfers at a time, which names
what is out of place.  For what follows from the journal this pass adds up ``weight(key) * amount`` over the journal and
subtracts the same over the tables, with weights nobody can foresee: where anything differs by one, a sum is not zero, and
another pass looks for the keys that differ.
"""

from __future__ import annotations

import gc
import hashlib
import secrets
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from . import crew, tables
from .history import PastLot
from .leaves import (
    GENESIS,
    TERMS,
    Explained,
    Given,
    Leaf,
    OrderRow,
    Step,
    Terms,
    order_rows,
    read_leaf,
    read_term,
    shelves,
    stream,
)
from .ledger import (
    BATCH_BITS,
    NEVER,
    PLACE_BITS,
    Head,
    chain_hash,
    entry_name,
    leaf_hash,
    member_name,
    merkle_path,
    merkle_root,
    parse_entry,
    parse_member,
)
from .queries import replay_member
from .store import Store

_BUCKETS = 1 << 12
_MASK = _BUCKETS - 1
MAX_FINDINGS = 100
_CHUNK = 500  # members per statement
_FLUSH = 20_000  # entries kept in memory while rebuilding
_AT_ONCE = 500  # entries compared at a time
_END = 1 << 62  # after every entry


class Finding(Struct, frozen=True, kw_only=True):
    """Something that does not add up."""

    code: str  #: a word for programs: root, chain, transfer, lot, balance, ...
    message: str
    entry: str = ""  #: the entry it is about, if it is about one
    tenant: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """What a verification saw."""

    batches: int
    entries: int
    transfers: int
    findings: tuple[Finding, ...]  #: in the order of the journal, what follows from it last; at most MAX_FINDINGS
    #: tenant -> unit -> account -> net amount, members together under "members"; each unit adds up to zero
    sums: Mapping[str, Mapping[str, Mapping[str, int]]]

    @property
    def ok(self) -> bool:
        """Whether everything adds up."""
        return not self.findings

    @property
    def first_bad(self) -> str:
        """The first entry that is not as it was written; empty if none is named."""
        return next((finding.entry for finding in self.findings if finding.entry), "")


def heads(conn: sa.Connection) -> list[Head]:
    """The last batch of every writer, closed ones too, by writer: what a signed head lists."""
    batch = tables.batch
    last = sa.select(batch.c.writer, sa.func.max(batch.c.number).label("number")).group_by(batch.c.writer).subquery()
    rows = conn.execute(
        sa.select(batch.c.writer, batch.c.number, batch.c.chain)
        .join(last, sa.and_(batch.c.writer == last.c.writer, batch.c.number == last.c.number))
        .order_by(batch.c.writer)
    )
    return [Head(writer=row.writer, number=row.number, chain=bytes(row.chain)) for row in rows]


class EntryProof(Struct, frozen=True, kw_only=True):
    """One record and its way to the chain."""

    body: bytes
    index: int  #: place among the batch's leaves
    count: int
    path: tuple[bytes, ...]
    previous: bytes  #: the chain up to the batch before
    head: Head  #: the batch itself
    at: int  #: when the batch was written


def entry_proof(conn: sa.Connection, tenant: str, entry: int) -> EntryProof | None:
    """The record of *entry* with its audit path; None if the tenant has no such entry."""
    record, batch = tables.record, tables.batch
    first = entry >> PLACE_BITS << PLACE_BITS
    mates = conn.execute(
        sa.select(record.c.entry, record.c.tenant, record.c.body)
        .where(record.c.entry >= first, record.c.entry < first + (1 << PLACE_BITS))
        .order_by(record.c.entry)
    ).all()
    index = next((n for n, row in enumerate(mates) if row.entry == entry and row.tenant == tenant), None)
    writer, number = entry >> BATCH_BITS + PLACE_BITS, entry >> PLACE_BITS & (1 << BATCH_BITS) - 1
    row = conn.execute(sa.select(batch).where(batch.c.writer == writer, batch.c.number == number)).one_or_none()
    if index is None or row is None:
        return None
    return EntryProof(
        body=bytes(mates[index].body),
        index=index,
        count=len(mates),
        path=tuple(merkle_path([leaf_hash(bytes(mate.body)) for mate in mates], index)),
        previous=bytes(row.previous),
        head=Head(writer=writer, number=number, chain=bytes(row.chain)),
        at=row.at,
    )


def writers_at_work(conn: sa.Connection, now: int) -> set[int]:
    """Writers whose lease somebody holds."""
    rows = tables.writer
    return set(conn.scalars(sa.select(rows.c.id).where(rows.c.leased_until > now)))


#: Findings about the journal itself: what is made anew from such a journal repeats the damage.
JOURNAL = frozenset({"record", "facts", "transfer", "batch", "root", "chain", "gap", "head", "sum"})


def verify(
    conn: sa.Connection,
    tenant: str | None = None,
    *,
    expected: Iterable[Head] = (),
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Recompute chain, roots, transfers, sums, lots, balances, deficits, counters and claims from the journal.

    Rows that plugins keep are theirs: of these is looked at only whether they can be read, and whether their member is here.

    *conn* is a :func:`~tallystick.database.reading` transaction, so that a house at work may be verified.  *expected* are
    heads exported earlier: with them truncation and rewriting are found too.  With *tenant*, what follows from the journal
    is checked for that tenant alone; the chain always is for all.  *progress* is told how many entries were read.
    """
    with _uncollected():
        # prime the transaction: drivers' own cursors below must see the same snapshot
        conn.execute(sa.select(sa.literal(1)))
        findings = _Findings()
        heads = {head.writer: head for head in expected}
        read = crew.look(conn, tenant, heads, progress) or _name_what_differs(conn, tenant, heads, progress, findings)
        if not findings.found:  # a journal that is not sound cannot be played
            _check_terms(conn, tenant, findings)
        _check_own(conn, tenant, findings)
        _check_members(conn, tenant, findings)
        _check_programmes(conn, tenant, read.terms, findings)
    _check_sums(read.sums, findings)
    return Report(
        batches=read.batches,
        entries=read.entries,
        transfers=read.transfers,
        findings=tuple(findings.found[:MAX_FINDINGS]),
        sums=_nested(read.sums),
    )


def _name_what_differs(
    conn: sa.Connection,
    tenant: str | None,
    heads: Mapping[int, Head],
    progress: Callable[[int], object] | None,
    findings: _Findings,
) -> _Pass:
    """Go through everything entry by entry, three times as slow as a glance."""
    keys = _Keys()
    sketch = _Sketch(keys)
    read = _Pass(conn, sketch, keys, findings, tenant, progress)
    read.journal(heads)
    _subtract_tables(conn, sketch, keys, tenant)
    if any(sketch.sums):
        exact = _Exact(sketch, keys)
        _Pass(conn, exact, keys, _Findings(), tenant, None).journal({})
        _subtract_tables(conn, exact, keys, tenant)
        keys.describe(exact.found, findings)
    return read


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing here refers back to itself, and looking whether it does is a quarter of the time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


# --- making anew -----------------------------------------------------------------------------------------------------


class Rebuilt(Struct, frozen=True, kw_only=True):
    """How many rows were written anew from the journal."""

    balances: int
    lots: int
    counters: int
    claims: int
    entry_members: int
    taken: int
    stock: int
    orders: int


def rebuild(conn: sa.Connection, tenant: str, *, progress: Callable[[int], object] | None = None) -> Rebuilt:
    """Write what follows from one tenant's records anew: balances, lots, counters, claims, mentions, what was taken back,
    stock and orders, in one transaction.  Plugins' own rows stay as they are: their values are not in the journal, where
    they could not be forgotten.

    The house must not serve meanwhile.  Verify first: what is rebuilt from a changed journal repeats the change.
    *progress* is told how many members are done.
    """
    store = Store(conn.dialect.name)
    _empty(
        conn, tenant, tables.counter, tables.claim, tables.entry_member, tables.taken, tables.stock, tables.order_entry
    )
    written = _rebuild_by_entry(conn, store, tenant)
    record, beside = tables.record, tables.entry_member
    numbers = sa.union(
        sa.select(record.c.member).where(record.c.tenant == tenant),
        sa.select(beside.c.member).where(beside.c.tenant == tenant),
    ).subquery()
    members = conn.scalars(sa.select(numbers.c.member).where(numbers.c.member > 0).order_by(numbers.c.member)).all()
    _empty(conn, tenant, tables.balance, tables.lot)
    cur = store.cursor(conn)
    balances = lots = 0
    for start in range(0, len(members), _CHUNK):
        fresh_balances, fresh_lots = [], []
        for member in members[start : start + _CHUNK]:
            for unit, account in replay_member(conn, tenant, member).items():
                fresh_balances.append((tenant, member, unit, account.posted, account.deficit))
                fresh_lots += [_lot_row(tenant, member, lot) for lot in account.lots.values()]
        store.put_balances(cur, fresh_balances, [])
        store.append_lots(cur, fresh_lots)
        balances, lots = balances + len(fresh_balances), lots + len(fresh_lots)
        if progress is not None:
            progress(min(start + _CHUNK, len(members)))
    return Rebuilt(balances=balances, lots=lots, **written)


def _empty(conn: sa.Connection, tenant: str, *emptied: sa.Table) -> None:
    for table in emptied:
        conn.execute(sa.delete(table).where(table.c.tenant == tenant))


def _lot_row(tenant: str, member: int, lot: PastLot) -> tuple[Any, ...]:
    entry, _, part = lot.given.lot.rpartition(".")
    given = lot.given
    return (
        tenant, member, given.unit, parse_entry(entry), int(part), given.amount, lot.left, lot.usable_from, lot.expires_at,
        int(given.sliding), lot.waits, given.issuer,
    )  # fmt: skip


def _rebuild_by_entry(conn: sa.Connection, store: Store, tenant: str) -> dict[str, int]:
    """Everything that follows from records one by one; rows by table."""
    counts: dict[tuple[Any, ...], int] = {}
    taken: dict[tuple[int, int], int] = {}
    stock: dict[str, int] = {}
    orders: dict[OrderRow, int] = {}
    claims: list[tuple[Any, ...]] = []
    mentions: list[tuple[Any, ...]] = []
    written = {"claims": 0, "entry_members": 0}
    cur = store.cursor(conn)

    def flush() -> None:
        store.add_counters(cur, [(tenant, *key, amount) for key, amount in counts.items()])
        store.add_taken(cur, [(tenant, *key, amount) for key, amount in taken.items()])
        store.append_claims(cur, claims)
        store.append_entry_members(cur, mentions)
        written["claims"] += len(claims)
        written["entry_members"] += len(mentions)
        for done in (counts, taken, claims, mentions):
            done.clear()

    for entry, body in stream(conn, "SELECT entry, body FROM record", tenant):
        leaf = read_leaf(body)
        claims.append((tenant, leaf.source, leaf.id, entry))
        for member, counter, grain, first, amount, _mode in leaf.counts:
            _add(counts, (member, counter, grain, first), amount)
        for of, place, amount in leaf.took:
            _add(taken, (parse_entry(of) or 0, place), amount)
        for shelf, amount in shelves(leaf):
            _add(stock, shelf, amount)
        for row, sign in order_rows(leaf, entry):
            # how a row was is taken away again by whoever changed it, in whatever order the writers are read
            _add(orders, row, sign)
            if not orders[row]:
                del orders[row]
        holders = {account for transfer in leaf.transfers for account in transfer[:2] if account[:2] == "m-"}
        if isinstance(leaf, Explained):
            holders |= {read_term(step.data).member for step in leaf.explanation if step.effect in {"usable", "awaits"}}
        mentions += [(tenant, parse_member(holder), entry) for holder in holders - {leaf.member}]
        if len(claims) >= _FLUSH:
            flush()
    flush()
    store.append_stock(cur, [(tenant, shelf, left) for shelf, left in stock.items()])
    store.append_order_entries(cur, [(tenant, *row) for row in orders])
    return {
        **written,
        "counters": _count(conn, tables.counter, tenant),
        "taken": _count(conn, tables.taken, tenant),
        "stock": len(stock),
        "orders": len(orders),
    }


def _add(sums: dict[Any, int], key: Any, amount: int) -> None:
    sums[key] = sums.get(key, 0) + amount


def _count(conn: sa.Connection, table: sa.Table, tenant: str) -> int:
    return conn.scalar(sa.select(sa.func.count()).select_from(table).where(table.c.tenant == tenant)) or 0


# --- adding up ------------------------------------------------------------------------------------------------------


_Terms = tuple[str, str, int, int, str]  # member, unit, amount, sliding, issuer: what never changes of a lot


class _Adding(Protocol):
    def add(self, key: tuple[Any, ...], amount: int) -> None: ...
    def add_lot(
        self, tenant: str, name: str, left: int, usable_from: int, expires_at: int, terms: _Terms | None, sign: int
    ) -> None: ...


class _Sketch:
    """Sums of weight times amount in buckets: zero in all of them if journal and tables agree on every key."""

    def __init__(self, keys: _Keys) -> None:
        self.sums = [0] * _BUCKETS
        self.lot = keys.left
        # a lot's numbers are one number: its parts can cancel each other only for who knows these factors
        self.left, self.usable_from, self.expires_at = (secrets.randbits(60) for _ in range(3))

    def add(self, key: tuple[Any, ...], amount: int) -> None:
        weight = hash(key)  # SipHash under the process's secret, and each kind of key begins with a number drawn now
        self.sums[weight & _MASK] += weight * amount

    def add_lot(
        self, tenant: str, name: str, left: int, usable_from: int, expires_at: int, terms: _Terms | None, sign: int
    ) -> None:
        weight = hash((self.lot, tenant, name))
        amount = left * self.left + usable_from * self.usable_from + expires_at * self.expires_at
        if terms is not None:
            amount += hash(terms)
        self.sums[weight & _MASK] += weight * amount * sign


class _Exact:
    """The second pass: every key of the buckets that were not zero, with its own sum."""

    def __init__(self, sketch: _Sketch, keys: _Keys) -> None:
        self.bad = frozenset(bucket for bucket, total in enumerate(sketch.sums) if total)
        self.keys = keys
        self.found: dict[tuple[Any, ...], int] = {}

    def add(self, key: tuple[Any, ...], amount: int) -> None:
        if hash(key) & _MASK in self.bad:
            self._count(key, amount)

    def add_lot(
        self, tenant: str, name: str, left: int, usable_from: int, expires_at: int, terms: _Terms | None, sign: int
    ) -> None:
        keys = self.keys
        if hash((keys.left, tenant, name)) & _MASK in self.bad:
            self._count((keys.left, tenant, name), left * sign)
            self._count((keys.usable_from, tenant, name), usable_from * sign)
            self._count((keys.expires_at, tenant, name), expires_at * sign)
            if terms is not None:
                self._count((keys.terms, tenant, name, *terms), sign)

    def _count(self, key: tuple[Any, ...], amount: int) -> None:
        total = self.found.get(key, 0) + amount
        if total:
            self.found[key] = total
        else:
            self.found.pop(key, None)


class _Findings:
    """Collects what is wrong, with an end."""

    def __init__(self) -> None:
        self.found: list[Finding] = []

    def add(self, code: str, message: str, entry: int | str = "", tenant: str = "") -> None:
        if len(self.found) < MAX_FINDINGS:
            name = entry_name(entry) if isinstance(entry, int) else entry
            self.found.append(Finding(code=code, message=message, entry=name, tenant=tenant))


class _Keys:
    """Numbers that begin the keys of each kind, drawn anew for every verification."""

    def __init__(self) -> None:
        names = (
            "left",
            "terms",
            "usable_from",
            "expires_at",
            "posted",
            "deficit",
            "counter",
            "claim",
            "member",
            "taken",
            "stock",
            "order",
        )
        self.names = {secrets.randbits(60): name for name in names}
        (
            self.left, self.terms, self.usable_from, self.expires_at, self.posted, self.deficit, self.counter, self.claim, self.member,
            self.taken, self.stock, self.order,
        ) = self.names  # fmt: skip

    def describe(self, differences: Mapping[tuple[Any, ...], int], findings: _Findings) -> None:
        """Say what differs, key by key, earliest entry first where a key has one."""
        told = [self._describe(key, amount) for key, amount in differences.items()]
        for finding in sorted(told, key=lambda each: (each.entry == "", parse_entry(each.entry) or 0, each.message)):
            findings.add(finding.code, finding.message, finding.entry, finding.tenant)

    def _describe(self, key: tuple[Any, ...], amount: int) -> Finding:
        kind, tenant, *rest = key
        name = self.names[kind]
        more = f"the journal has {abs(amount)} {'more' if amount > 0 else 'less'} than the table"
        if name in {"left", "usable_from", "expires_at"}:
            word = {"left": "what is left", "usable_from": "when it can be used", "expires_at": "when it expires"}[name]
            message = f"lot {rest[0]}: {word} is not what the journal makes it: {more}"
            return Finding(code="lot", message=message, entry=rest[0].rpartition(".")[0], tenant=tenant)
        if name == "terms":
            where = "the journal" if amount > 0 else "the table"
            message = f"lot {rest[0]}: only {where} has it as {rest[1]}, {rest[3]} {rest[2]}"
            return Finding(code="lot", message=message, entry=rest[0].rpartition(".")[0], tenant=tenant)
        if name in {"posted", "deficit"}:
            return Finding(code="balance", message=f"{rest[0]}, {rest[1]}, {name}: {more}", tenant=tenant)
        if name == "counter":
            return Finding(
                code="counter",
                message=f"counter {rest[1]} of {member_name(rest[0])} ({rest[2]}, day {rest[3]}): {more}",
                tenant=tenant,
            )
        if name == "taken":
            what = f"what was taken back of place {rest[1]}"
            return Finding(code="taken", message=f"{what}: {more}", entry=entry_name(rest[0]), tenant=tenant)
        if name == "stock":
            return Finding(code="stock", message=f"stock {rest[0]}: {more}", tenant=tenant)
        if name == "order":
            where = "the journal" if amount > 0 else "the table"
            message = f"order {rest[0]}: only {where} has it as {rest[2]} of {rest[4]} with {rest[5]} returned"
            return Finding(code="order", message=message, entry=entry_name(rest[1]), tenant=tenant)
        if name == "member":
            message = f"{'missing' if amount > 0 else 'foreign'} mention of {member_name(rest[0])} beside the entry"
            return Finding(code="entry_member", message=message, entry=entry_name(rest[1]), tenant=tenant)
        message = (
            f"the id {rest[1]} from {rest[0]} is {'no longer claimed' if amount > 0 else 'claimed for another entry'}"
        )
        return Finding(code="claim", message=message, entry=entry_name(rest[2]), tenant=tenant)


# --- the pass over the journal -----------------------------------------------------------------------------------------

_BATCHES = "SELECT writer, number, count, root, previous, chain FROM batch ORDER BY writer, number"
_TRANSFERS = "SELECT entry, place, tenant, debit, credit, unit, amount, rule, lot, into_lot FROM transfer"
_LOTS = "SELECT entry, part, tenant, member, unit, amount, sliding, issuer, remaining, usable_from, expires_at FROM lot"
_ORDERS = "SELECT entry, tenant, order_id, role, member, value, returned, lines FROM order_entry"


class _Piece(NamedTuple):
    """Some entries and every row that belongs to them, each list in the order of the journal."""

    records: list[Any]
    transfers: list[Any]
    claims: list[Any]
    lots: list[Any]
    orders: list[Any]
    mentions: list[Any]


class _Beside:
    """Records and what belongs to them, read side by side; all but the journal itself of one tenant, if there is one."""

    def __init__(self, conn: sa.Connection, tenant: str | None) -> None:
        self.streams = [
            _InOrder(stream(conn, sql, of, order=order))
            for sql, order, of in (
                ("SELECT entry, tenant, member, received, body, facts FROM record", "entry", None),
                (_TRANSFERS, "entry, place", None),
                ("SELECT entry, tenant, source, id FROM claim", "entry", tenant),
                (_LOTS, "entry, part", tenant),
                (_ORDERS, "entry, order_id", tenant),
                ("SELECT entry, member, tenant FROM entry_member", "entry, member", tenant),
            )
        ]

    def until(self, entry: int) -> _Piece:
        """All that comes before *entry* and was not taken yet."""
        return _Piece(*(stream.until(entry) for stream in self.streams))


class _InOrder:
    """Rows that begin with their entry's number, in this order."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = rows
        self._kept: list[Any] = []

    def until(self, entry: int) -> list[Any]:
        kept = self._kept
        while not kept or kept[-1][0] < entry:
            more = list(islice(self._rows, _AT_ONCE))
            if not more:
                break
            kept += more
        end = bisect_left(kept, entry, key=itemgetter(0))
        taken, self._kept = kept[:end], kept[end:]
        return taken


def _claim_keys(keys: _Keys, rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    return ((keys.claim, tenant, source, id, entry) for entry, tenant, source, id in rows)


def _order_keys(keys: _Keys, rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    return ((keys.order, tenant, order, entry, *state) for entry, tenant, order, *state in rows)


def _mention_keys(keys: _Keys, rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    return ((keys.member, tenant, member, entry) for entry, member, tenant in rows)


class _Pass:
    """One pass over batches, records and transfers, all in the order of the journal."""

    def __init__(
        self,
        conn: sa.Connection,
        adding: _Adding,
        keys: _Keys,
        findings: _Findings,
        tenant: str | None,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.conn, self.findings, self.tenant, self.progress = conn, findings, tenant, progress
        self.add, self.add_lot, self.keys = adding.add, adding.add_lot, keys
        self.batches = self.entries = self.transfers = 0
        self.sums: dict[tuple[str, str, str], int] = {}
        self.terms: dict[Terms, int] = {}
        self.expected: Mapping[int, Head] = {}
        self.last: dict[int, tuple[int, bytes]] = {}  #: writer -> number and chain of the batch before

    def journal(self, expected: Mapping[int, Head]) -> None:
        """Read everything; *expected* by writer."""
        self.expected = expected
        beside = _Beside(self.conn, self.tenant)
        batches: list[Any] = []
        entries = 0
        for row in stream(self.conn, _BATCHES):
            batches.append(row)
            entries += row[2]
            if entries >= _AT_ONCE or len(batches) >= _AT_ONCE:
                self._piece(batches, beside)
                batches, entries = [], 0
        if batches:
            self._piece(batches, beside)
        self._one_by_one([], beside.until(_END))
        for writer, head in expected.items():
            if self.last.get(writer, (0,))[0] < head.number:
                self._say(
                    "head", f"writer {writer} ends before batch {head.number}, which a head names: the end was cut off"
                )

    def _piece(self, batches: list[Any], beside: _Beside) -> None:
        """Some batches, their records, and all that belongs to these."""
        writer, number = batches[-1][:2]
        piece = beside.until((((writer << BATCH_BITS) | number) + 1) << PLACE_BITS)
        self._one_by_one(batches, piece)

    def _one_by_one(self, batches: list[Any], piece: _Piece) -> None:
        """The same with a name for everything that is out of place."""
        transfers, records = _Ahead(iter(piece.transfers)), iter(piece.records)
        record = next(records, None)
        for batch in batches:
            key = (batch[0] << BATCH_BITS) | batch[1]
            leaves: list[bytes] = []
            record = self._orphans(record, records, key, transfers)
            while record is not None and record[0] >> PLACE_BITS == key:
                leaves.append(self._record(record, transfers))
                record = next(records, None)
            self._batch(batch, leaves)
        self._orphans(record, records, _END, transfers)
        self._compare(_END, "", None, list(transfers.until(_END)))
        keys, add = self.keys, self.add
        for key in (
            *_claim_keys(keys, piece.claims),
            *_order_keys(keys, piece.orders),
            *_mention_keys(keys, piece.mentions),
        ):
            add(key, -1)
        for row in piece.lots:
            self._subtract_lot(row)

    def _say(self, code: str, message: str, entry: int | str = "", tenant: str = "") -> None:
        self.findings.add(code, message, entry, tenant)

    def _orphans(self, record: Any, records: Iterator[Any], key: int, transfers: _Ahead) -> Any:
        while record is not None and record[0] >> PLACE_BITS < key:
            self._say("batch", "the entry belongs to no batch", record[0], record[1])
            self._record(record, transfers)
            record = next(records, None)
        return record

    def _batch(self, row: Any, leaves: Sequence[bytes]) -> None:
        writer, number, count = row[:3]
        root, previous, chain = map(bytes, row[3:])
        self.batches += 1
        first = ((writer << BATCH_BITS) | number) << PLACE_BITS
        before, link = self.last.get(writer, (0, GENESIS))
        if number != before + 1:
            self._say("gap", f"batches {before + 1} to {number - 1} of writer {writer} are missing", first)
        elif previous != link:
            self._say("chain", f"batch {number} of writer {writer} does not follow on the batch before", first)
        if len(leaves) != count:
            self._say(
                "batch",
                f"batch {number} of writer {writer} was written with {count} entries and has {len(leaves)}",
                first,
            )
        elif merkle_root(leaves) != root:
            self._say("root", f"a record of batch {number} of writer {writer} is not as it was written", first)
        if chain_hash(previous, root, writer, number, count) != chain:
            self._say("chain", f"the chain hash of batch {number} of writer {writer} does not fit", first)
        self.last[writer] = (number, chain)
        head = self.expected.get(writer)
        if head is not None and head.number == number and head.chain != chain:
            self._say("head", f"batch {number} of writer {writer} is not the one the head was made of", first)

    def _record(self, row: Any, transfers: _Ahead) -> bytes:
        """Check one record against its row and its transfers, and add up what it says; its leaf hash."""
        entry, tenant, member, received, body, facts = row
        self.entries += 1
        if self.progress is not None and not self.entries % 10_000:
            self.progress(self.entries)
        try:
            leaf = read_leaf(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._say("record", "the record cannot be read", entry, tenant)
            self._compare(entry, tenant, None, list(transfers.until(entry + 1)))
            return leaf_hash(bytes(body))
        if (
            leaf.tenant != tenant
            or leaf.received != received
            or leaf.entry != entry_name(entry)
            or leaf.member != (member_name(member) if member else "")
        ):
            self._say("record", "the row names another entry, tenant, member or time than the record", entry, tenant)
        if (hashlib.sha256(facts).hexdigest() if facts is not None else "") != leaf.facts:
            self._say("facts", "the sealed facts are not those the record was made of", entry, tenant)
        wanted = [(entry, place, leaf.tenant, *transfer) for place, transfer in enumerate(leaf.transfers)]
        self.transfers += len(wanted)
        if not transfers.fits(entry, wanted):
            self._compare(entry, tenant, wanted, list(transfers.until(entry + 1)))
        if self.tenant is None or self.tenant == leaf.tenant:
            try:
                self._post(leaf, entry)
            except (msgspec.MsgspecError, UnicodeDecodeError):  # the term of a step
                self._say("record", "the record cannot be read", entry, tenant)
        return leaf_hash(bytes(body))

    def _compare(self, entry: int, tenant: str, wanted: list[Any] | None, found: list[Any]) -> None:
        """Say which transfers of *entry* differ from what its record *wanted*, and which stand where there is no entry."""
        for row in found:
            if row[0] < entry:
                self._say("transfer", f"transfer {row[1]} belongs to no entry", row[0], row[2])
        if wanted is None:
            return
        found = [row for row in found if row[0] == entry]
        if found != wanted:
            equal = [one == other for one, other in zip(found, wanted, strict=False)]
            place = equal.index(False) if False in equal else len(equal)
            self._say("transfer", f"transfer {place} is not as the record has it", entry, tenant)

    def _post(self, leaf: Leaf, entry: int) -> None:
        tenant, keys, add = leaf.tenant, self.keys, self.add
        add((keys.claim, tenant, leaf.source, leaf.id, entry), 1)
        self.terms.setdefault((tenant, leaf.generation, leaf.programme), entry)
        others: set[str] = set()
        fresh = set()
        for given in leaf.lots:
            fresh.add(given.lot)
            self._open(tenant, given)
        for debit, credit, unit, amount, _rule, lot, into in leaf.transfers:
            if amount <= 0 or debit == credit:
                self._say("transfer", f"{amount} from {debit} to {credit} is no transfer", entry, tenant)
            self._move(leaf, debit, unit, -amount, lot, others)
            # what went into a fresh lot is in the lot's opening amount already
            self._move(leaf, credit, unit, amount, into, others, counted=into in fresh)
        self._post_rest(leaf, others)
        for row, sign in order_rows(leaf, entry):
            add((keys.order, tenant, *row), sign)
        for other in others:
            add((keys.member, tenant, parse_member(other) or 0, entry), 1)

    def _post_rest(self, leaf: Leaf, others: set[str]) -> None:
        """What few entries have."""
        tenant, keys, add = leaf.tenant, self.keys, self.add
        for member, counter, grain, start, amount, _mode in leaf.counts:
            add((keys.counter, tenant, member, counter, grain, start), amount)
        if isinstance(leaf, Explained):
            for step in leaf.explanation:
                if step.effect in TERMS:
                    self._change(leaf, step, others)
        for of, place, amount in leaf.took:
            add((keys.taken, tenant, parse_entry(of), place), amount)
        for shelf, amount in shelves(leaf):
            add((keys.stock, tenant, shelf), amount)

    def _subtract_lot(self, row: Any) -> None:
        entry, part, tenant, member, unit, amount, sliding, issuer, left, usable_from, expires_at = row
        terms = (member_name(member), unit, amount, sliding, issuer)
        name = f"{entry_name(entry)}.{part}"
        self.add_lot(tenant, name, left, usable_from, 0 if sliding else expires_at, terms, -1)

    def _open(self, tenant: str, given: Given) -> None:
        # the expiry of sliding lots is played, see _check_terms
        expires_at = 0 if given.sliding else given.expires_at
        terms = (given.member, given.unit, given.amount, int(given.sliding), given.issuer)
        self.add_lot(tenant, given.lot, given.left, given.usable_from, expires_at, terms, 1)
        if given.amount != given.left:
            self.add((self.keys.deficit, tenant, given.member, given.unit), given.left - given.amount)

    def _move(
        self, leaf: Leaf, account: str, unit: str, amount: int, lot: str, others: set[str], *, counted: bool = False
    ) -> None:
        tenant = leaf.tenant
        if account[:2] == "m-":
            self.add((self.keys.posted, tenant, account, unit), amount)
            if account != leaf.member:
                others.add(account)
            if not lot:
                self.add((self.keys.deficit, tenant, account, unit), -amount)
            elif not counted:
                self.add_lot(tenant, lot, amount, 0, 0, None, 1)
            account = "members"
        key = (tenant, unit, account)
        self.sums[key] = self.sums.get(key, 0) + amount

    def _change(self, leaf: Leaf, step: Step, others: set[str]) -> None:
        term = read_term(step.data)
        if step.effect == "grace":
            self.add_lot(leaf.tenant, term.lot, 0, 0, term.expires_at - term.was, None, 1)
        else:
            self.add_lot(leaf.tenant, term.lot, 0, term.usable_from - NEVER, 0, None, 1)
            if term.member != leaf.member:
                others.add(term.member)


class _Ahead:
    """The stream of transfers, which runs beside the records and finds its way back after a difference."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = rows
        self._kept: list[Any] = []  # read and not yet taken: after a good entry, the first row of a later one

    def fits(self, entry: int, wanted: list[tuple[Any, ...]]) -> bool:
        """Whether the next rows are exactly *wanted* and the one after belongs to a later entry; then they are taken."""
        missing = len(wanted) + 1 - len(self._kept)
        rows = self._kept + list(islice(self._rows, missing)) if missing > 0 else self._kept
        if len(rows) == len(wanted) + 1 and rows[-1][0] > entry and rows[:-1] == wanted:
            self._kept = rows[-1:]
            return True
        self._kept = rows
        return False

    def until(self, entry: int) -> Iterator[Any]:
        """Take every row before *entry*."""
        while True:
            for place, row in enumerate(self._kept):
                if row[0] >= entry:
                    self._kept = self._kept[place:]
                    return
                yield row
            self._kept = list(islice(self._rows, 16))
            if not self._kept:
                return


def _subtract_tables(conn: sa.Connection, adding: _Adding, keys: _Keys, tenant: str | None) -> None:
    """Subtract what the tables say that many entries make together; what is left over is what differs."""
    add = adding.add
    for of, member, unit, posted, deficit in stream(
        conn, "SELECT tenant, member, unit, posted, deficit FROM balance", tenant
    ):
        holder = member_name(member)
        add((keys.posted, of, holder, unit), -posted)
        add((keys.deficit, of, holder, unit), -deficit)
    counters = "SELECT tenant, member, name, grain, start, value FROM counter"
    for of, member, name, grain, start, value in stream(conn, counters, tenant):
        add((keys.counter, of, member, name, grain, start), -value)
    for of, entry, place, amount in stream(conn, "SELECT tenant, entry, place, amount FROM taken", tenant):
        add((keys.taken, of, entry, place), -amount)
    for of, shelf, left in stream(conn, "SELECT tenant, key, remaining FROM stock", tenant):
        add((keys.stock, of, shelf), -left)


def _check_terms(conn: sa.Connection, tenant: str | None, findings: _Findings) -> None:
    """What lots wait for, and when sliding ones expire, is played through member by member.

    What a lot waits for is replaced and not added up, and an extension moves all sliding lots of an account at once.
    """
    lot = tables.lot
    waiting = sa.or_(lot.c.waits != "", sa.and_(lot.c.usable_from == NEVER, lot.c.remaining > 0))
    played_through = sa.or_(lot.c.sliding == 1, waiting)
    members = sa.select(lot.c.tenant, lot.c.member).where(played_through).distinct()
    if tenant is not None:
        members = members.where(lot.c.tenant == tenant)
    for of, member in conn.execute(members).all():
        played = replay_member(conn, of, member)
        rows = conn.execute(sa.select(lot).where(lot.c.tenant == of, lot.c.member == member, played_through))
        for row in rows:
            name = f"{entry_name(row.entry)}.{row.part}"
            account = played.get(row.unit)
            past = account.lots.get(name) if account is not None else None
            if past is not None and row.sliding and past.expires_at != row.expires_at:
                findings.add("lot", f"lot {name}: when it expires is not what the journal makes it", row.entry, of)
            if past is not None and past.waits != row.waits:
                findings.add("lot", f"lot {name}: what it waits for is not what the journal makes it", row.entry, of)


def _check_own(conn: sa.Connection, tenant: str | None, findings: _Findings) -> None:
    """What plugins keep is not in the journal, where it could not be forgotten.  But somebody's it is, and it can be read."""
    own, member = tables.own, tables.member
    strays = (
        sa.select(own.c.tenant, own.c.plugin, own.c.key, own.c.name, own.c.member)
        .outerjoin(member, sa.and_(member.c.tenant == own.c.tenant, member.c.number == own.c.member))
        .where(own.c.member != 0, sa.or_(member.c.number.is_(None), member.c.status == "erased"))
        .order_by(own.c.tenant, own.c.plugin, own.c.key, own.c.name)
        .limit(MAX_FINDINGS)
    )
    if tenant is not None:
        strays = strays.where(own.c.tenant == tenant)
    for row in conn.execute(strays):
        message = f"row {row.name} of {row.plugin} under {row.key}: there is no {member_name(row.member)} (any more)"
        findings.add("own", message, tenant=row.tenant)
    for of, plugin, key, name, value in stream(conn, "SELECT tenant, plugin, key, name, value FROM own", tenant):
        try:
            msgspec.json.decode(value)
        except msgspec.MsgspecError:
            findings.add("own", f"row {name} of {plugin} under {key} cannot be read", tenant=of)


def _check_members(conn: sa.Connection, tenant: str | None, findings: _Findings) -> None:
    """Whoever the books name is a member; whoever was forgotten has no key any more, nor anything that says who it was."""
    member = tables.member
    told_by = {
        tables.balance: "a balance",
        tables.record: "an entry",
        tables.person: "a profile",
        tables.alias: "an id",
    }
    for table, what in told_by.items():
        named = sa.select(table.c.tenant, table.c.member).distinct().where(table.c.member != 0)
        if tenant is not None:
            named = named.where(table.c.tenant == tenant)
        all_named = named.subquery()
        here = sa.and_(member.c.tenant == all_named.c.tenant, member.c.number == all_named.c.member)
        stray = sa.select(all_named).where(~sa.exists().where(here)).order_by(all_named.c.tenant, all_named.c.member)
        for row in conn.execute(stray.limit(MAX_FINDINGS)):
            message = f"{member_name(row.member)}, of whom there is {what}, is no member here"
            findings.add("member", message, tenant=row.tenant)
    other = member.alias()
    there = sa.exists().where(other.c.tenant == member.c.tenant, other.c.number == member.c.merged_into)
    told = sa.or_(*(
        sa.exists().where(table.c.tenant == member.c.tenant, table.c.member == member.c.number)
        for table in (tables.person, tables.alias)
    ))  # fmt: skip
    odd = sa.or_(
        (member.c.status == "merged") != (member.c.merged_into != 0),
        sa.and_(member.c.merged_into != 0, ~there),
        (member.c.status == "erased") != member.c.secret.is_(None),
        sa.and_(member.c.status == "erased", told),
        member.c.status.not_in(("active", "blocked", "merged", "erased")),
    )
    query = sa.select(member.c.tenant, member.c.number).where(odd)
    if tenant is not None:
        query = query.where(member.c.tenant == tenant)
    for row in conn.execute(query.order_by(member.c.tenant, member.c.number).limit(MAX_FINDINGS)):
        findings.add("member", f"{member_name(row.number)} is not what a member can be", tenant=row.tenant)


def _check_programmes(
    conn: sa.Connection, tenant: str | None, judged: Mapping[Terms, int], findings: _Findings
) -> None:
    """Settings have the hash under which they *judged*, are numbered without a gap, and the last are in force."""
    rows, of = tables.programme, tables.tenant
    last: dict[str, tuple[int, str]] = {}
    kept: set[Terms] = set()
    query = sa.select(rows.c.tenant, rows.c.generation, rows.c.hash, rows.c.document)
    if tenant is not None:
        query = query.where(rows.c.tenant == tenant)
    for row in conn.execute(query.order_by(rows.c.tenant, rows.c.generation)):
        if row.generation != last.get(row.tenant, (0, ""))[0] + 1:
            findings.add(
                "programme", f"generation {row.generation} does not follow on the one before", tenant=row.tenant
            )
        try:
            found = msgspec.json.encode(msgspec.json.decode(row.document), order="deterministic")
        except msgspec.MsgspecError:
            found = b""
        if hashlib.sha256(found).hexdigest() != row.hash:
            findings.add(
                "programme", f"the settings of generation {row.generation} are not those that judged", tenant=row.tenant
            )
        last[row.tenant] = row.generation, row.hash
        kept.add((row.tenant, row.generation, row.hash))
    for terms, entry in sorted(judged.items(), key=itemgetter(1)):
        if terms not in kept and terms[0] in last:  # where none are kept no event can be judged
            message = f"the settings of generation {terms[1]} that are kept are not those that judged it"
            findings.add("programme", message, entry, terms[0])
    in_force = {row.id: (row.generation, row.programme) for row in conn.execute(sa.select(of))}
    for name, end in last.items():
        if in_force.get(name) != end:
            findings.add("programme", f"not generation {end[0]}, the last one, is in force", tenant=name)


def _check_sums(sums: Mapping[tuple[str, str, str], int], findings: _Findings) -> None:
    totals: dict[tuple[str, str], int] = {}
    for (tenant, unit, _account), amount in sums.items():
        totals[tenant, unit] = totals.get((tenant, unit), 0) + amount
    for (tenant, unit), total in totals.items():
        if total:
            findings.add("sum", f"{unit} adds up to {total}, not to zero", tenant=tenant)


def _nested(sums: Mapping[tuple[str, str, str], int]) -> dict[str, dict[str, dict[str, int]]]:
    nested: dict[str, dict[str, dict[str, int]]] = {}
    for (tenant, unit, account), amount in sorted(sums.items()):
        nested.setdefault(tenant, {}).setdefault(unit, {})[account] = amount
    return nested
