"""A glance at the books: whether everything adds up, and not a word about what does not.

Whatever follows from the journal is written as lines of JSON, once from the records and once by the database from its
tables, and ``hash(line) * number`` is added up on one side and subtracted on the other.  The lines begin with a word drawn
for this glance, so nobody can choose rows whose sums are equal though they are not; and sums have no order, so no table
has to be sorted, and the books can be looked at in pieces, by a :mod:`~tallystick.crew`.  What differs is for
:mod:`~tallystick.proofs` to find and to name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from operator import mul
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from .leaves import GENESIS, TERMS, Explained, Leaf, Terms, order_rows, read_leaves, read_term, shelves, stream
from .ledger import (
    BATCH_BITS,
    NEVER,
    PLACE_BITS,
    Head,
    chain_hash,
    entry_name,
    merkle_root,
    parse_entry,
    parse_member,
)

_AT_ONCE = 500  # entries
_lines = msgspec.json.Encoder().encode_lines
_Row = tuple[Any, ...]

#: table -> the columns of its line, and the columns that are added up; without any, rows are counted.
#: The word HOLDER stands for the name of the member's account.
_TABLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "transfer": ("entry, place, tenant, debit, credit, unit, amount, rule, lot, into_lot", ()),
    "claim": ("entry, tenant, source, id", ()),
    "order_entry": ("entry, tenant, order_id, role, member, value, returned, lines", ()),
    "entry_member": ("entry, tenant, member", ()),
    "balance": ("tenant, HOLDER, unit", ("posted", "deficit")),
    "counter": ("tenant, member, name, grain, start", ("value",)),
    "taken": ("tenant, entry, place", ("amount",)),
    "stock": ("tenant, key", ("remaining",)),
}
#: Of the journal itself: nothing may stand beside what the chains hold.
_COUNTED = ("record", "batch")
_LOT = "entry, part, tenant, HOLDER, unit, amount, sliding, issuer"
#: The expiry of sliding lots is played by whoever looks more closely.
_LOT_NUMBERS = ("tenant", "entry", "part", "remaining", "usable_from", "CASE sliding WHEN 0 THEN expires_at ELSE 0 END")
_HOLDER = {"sqlite": "printf('m-%012d', member)", "postgresql": "'m-' || to_char(member, 'FM000000000000')"}


class Seen(NamedTuple):
    """What was looked at."""

    batches: int
    entries: int
    transfers: int
    sums: dict[tuple[str, str, str], int]  #: (tenant, unit, account) -> net amount, members together under "members"
    terms: dict[Terms, int]  #: what judged, and an entry that says so


class Piece(NamedTuple):
    """A part of the books: a table, or the batches of *writer* from *first* to *last*."""

    table: str = ""
    writer: int = 0
    first: int = 0
    last: int = 0


class Differs(Exception):
    """Something is not as it was written."""


#: What it means that books cannot even be read.
UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError)

# from one writer to the next by the key, past all that one has written
_ENDS = """
    WITH RECURSIVE found (writer) AS (
        SELECT min(writer) FROM batch
        UNION ALL SELECT (SELECT min(writer) FROM batch WHERE writer > found.writer) FROM found WHERE writer IS NOT NULL
    )
    SELECT writer, (SELECT max(number) FROM batch WHERE batch.writer = found.writer) FROM found WHERE writer IS NOT NULL
"""


def ends(conn: sa.Connection) -> dict[int, int]:
    """The number of each writer's last batch: whatever follows from the journal changes with one of these."""
    return dict(stream(conn, _ENDS))


def pieces(ends: Mapping[int, int], count: int) -> list[Piece]:
    """The books up to *ends* in pieces that can be looked at in any order, the journal in about *count* of them."""
    step = max(1, -(-sum(ends.values()) // count))
    journal = [
        Piece("", writer, first, min(first + step - 1, last))
        for writer, last in ends.items()
        for first in range(1, last + 1, step)
    ]
    return [*(Piece(table) for table in (*_TABLES, "lot", *_COUNTED)), *journal]


class Glance:
    """Looks at pieces of the books, and adds up what they come to; raises :class:`Differs` where one does not add up by itself.

    All that look at pieces of the same books are given the same *word* and *number*, which nobody could foresee, and hash
    alike.  *expected* are heads exported earlier, by writer.
    """

    def __init__(
        self,
        conn: sa.Connection,
        tenant: str | None,
        word: str,
        number: int,
        expected: Mapping[int, Head],
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.conn, self.tenant, self.expected, self.progress = conn, tenant, expected, progress
        self.word, self.number = word, number
        self.seen = Seen(0, 0, 0, {}, {})
        self.last = (0, GENESIS)  # number and chain of the batch before
        self.totals: dict[str, int] = {}  #: all zero if the journal and what follows from it agree

    def take(self, piece: Piece) -> None:
        """Look at one piece."""
        if not piece.table:
            self._journal(piece.writer, piece.first, piece.last)
        elif piece.table == "lot":
            self._lots()
        elif piece.table in _COUNTED:
            (count,) = next(stream(self.conn, f"SELECT count(*) FROM {piece.table}"))  # noqa: S608 - one of ours
            self._count(piece.table, -count)
        else:
            self._table(piece.table, *_TABLES[piece.table])

    # -- the journal --------------------------------------------------------------------------------------------------

    def _journal(self, writer: int, first: int, last: int) -> None:
        self.last = 0, GENESIS
        if first > 1:
            before = "SELECT number, chain FROM batch WHERE writer = ? AND number = ?"
            self.last = next(stream(self.conn, before, given=(writer, first - 1)), self.last)
        low, high = (((writer << BATCH_BITS) | number) << PLACE_BITS for number in (first, last + 1))
        sql = "SELECT entry, tenant, member, received, body, facts FROM record WHERE entry >= ? AND entry < ?"
        records = stream(self.conn, sql, order="entry", given=(low, high))
        batches: list[Any] = []
        entries = 0
        sql = "SELECT writer, number, count, root, previous, chain FROM batch WHERE writer = ? AND number >= ? AND number <= ?"
        for batch in stream(self.conn, sql, order="number", given=(writer, first, last)):
            batches.append(batch)
            entries += batch[2]
            if entries >= _AT_ONCE or len(batches) >= _AT_ONCE:
                self._piece(batches, list(islice(records, entries)))
                batches, entries = [], 0
        self._piece(batches, list(islice(records, entries)))
        if self.last[0] != last:
            raise Differs

    def _piece(self, batches: Sequence[Any], rows: Sequence[Any]) -> None:
        """Some batches and as many records as they have."""
        sha256, done = hashlib.sha256, 0
        hashes = [sha256(b"\x00" + row[4]).digest() for row in rows]
        for writer, number, count, root, previous, link in batches:
            first = ((writer << BATCH_BITS) | number) << PLACE_BITS
            end = done + count
            if (
                not (
                    done < end <= len(rows) and rows[done][0] >= first and rows[end - 1][0] < first + (1 << PLACE_BITS)
                )
                or self.last != (number - 1, previous)
                or merkle_root(hashes[done:end]) != root
                or chain_hash(previous, root, writer, number, count) != link
            ):
                raise Differs
            head = self.expected.get(writer)
            if head is not None and head.number == number and head.chain != link:
                raise Differs
            self.last = number, link
            done = end
        if done:
            leaves = read_leaves([row[4] for row in rows])
            if leaves is None:
                raise Differs
            transfers = self._as_written(rows, leaves)
            self._post(rows, leaves)
            self._count("batch", len(batches))
            self._count("record", done)
            before = self.seen.entries
            self.seen = self.seen._replace(
                batches=self.seen.batches + len(batches),
                entries=before + done,
                transfers=self.seen.transfers + transfers,
            )
            if self.progress is not None and before // 10_000 != self.seen.entries // 10_000:
                self.progress(self.seen.entries)

    def _as_written(self, rows: Sequence[Any], leaves: Sequence[Leaf]) -> int:
        """Rows must say what their records say; how many transfers they made, of whichever tenant."""
        word, sha256 = self.word, hashlib.sha256
        wanted: list[_Row] = []
        for (entry, tenant, member, received, _, facts), leaf in zip(rows, leaves, strict=True):
            if (
                leaf.tenant != tenant
                or leaf.received != received
                or leaf.entry
                != f"{entry >> 51}-{(entry >> 12) & 0x7FFFFFFFFF}-{entry & 0xFFF}"  # entry_name, which is called less
                or leaf.member != (f"m-{member:012d}" if member else "")
                or (sha256(facts).hexdigest() if facts is not None else "") != leaf.facts
            ):
                raise Differs
            for place, transfer in enumerate(leaf.transfers):
                if transfer[3] <= 0 or transfer[0] == transfer[1]:
                    raise Differs
                wanted.append((word, entry, place, tenant, *transfer))
        self._add("transfer", wanted)
        return len(wanted)

    def _post(self, rows: Sequence[Any], leaves: Sequence[Leaf]) -> None:  # noqa: C901 - one loop that calls little
        """Add what the tables must say of these entries."""
        word = self.word
        claims: list[_Row] = []
        orders: list[_Row] = []
        gone: list[_Row] = []  # rows of orders as they were before
        mentions: list[_Row] = []
        opened: list[tuple[int, Leaf]] = []
        posted: dict[_Row, int] = {}
        deficit: dict[_Row, int] = {}
        moved: dict[tuple[str, str], int] = {}
        explained = isinstance(leaves[0], Explained)
        terms = self.seen.terms
        for row, leaf in zip(rows, leaves, strict=True):
            entry, tenant = row[0], leaf.tenant
            if self.tenant is not None and self.tenant != tenant:
                continue
            terms.setdefault((tenant, leaf.generation, leaf.programme), entry)
            mine, others = leaf.member, set()
            claims.append((word, entry, tenant, leaf.source, leaf.id))
            fresh: list[str] = []
            if leaf.lots:
                opened.append((entry, leaf))
                fresh = [given.lot for given in leaf.lots]
            for debit, credit, unit, amount, _, lot, into in leaf.transfers:
                account: _Row = word, tenant, debit, unit
                posted[account] = posted.get(account, 0) - amount
                if debit[:2] == "m-":
                    if debit != mine:
                        others.add(debit)
                    if lot:
                        moved[tenant, lot] = moved.get((tenant, lot), 0) - amount
                    else:
                        deficit[account] = deficit.get(account, 0) + amount
                account = word, tenant, credit, unit
                posted[account] = posted.get(account, 0) + amount
                if credit[:2] == "m-":
                    if credit != mine:
                        others.add(credit)
                    if not into:
                        deficit[account] = deficit.get(account, 0) - amount
                    elif into not in fresh:  # what went into a fresh lot is in the lot's opening amount already
                        moved[tenant, into] = moved.get((tenant, into), 0) + amount
            if leaf.orders:
                for (order, number, *state), sign in order_rows(leaf, entry):
                    (orders if sign > 0 else gone).append((word, number, tenant, order, *state))
            elif leaf.kind == "purchase.completed":
                orders.append((word, entry, tenant, leaf.order, "sale", row[2], leaf.value, 0, ""))
            if explained or leaf.counts or leaf.took or leaf.takes or leaf.restocks:
                self._rest(leaf, others)
            for other in others:
                mentions.append((word, entry, tenant, parse_member(other) or 0))  # noqa: PERF401 - hardly ever any
        self._add("claim", claims)
        self._add("order_entry", orders)
        self._add("order_entry", gone, [-1] * len(gone))
        self._add("entry_member", mentions)
        self._open(opened, deficit)
        for (tenant, lot), amount in moved.items():
            self._change(tenant, lot, amount, 0, 0)
        self._balances(posted, deficit)

    def _balances(self, posted: Mapping[_Row, int], deficit: Mapping[_Row, int]) -> None:
        sums = self.seen.sums
        held: dict[_Row, int] = {}
        for account, amount in posted.items():
            _, tenant, name, unit = account
            member = name[:2] == "m-"
            if member and amount:
                held[account] = amount
            key = tenant, unit, "members" if member else name
            sums[key] = sums.get(key, 0) + amount
        self._add("balance.posted", held, held.values())
        self._add("balance.deficit", deficit, deficit.values())

    def _rest(self, leaf: Leaf, others: set[str]) -> None:
        """What few entries have."""
        word, tenant = self.word, leaf.tenant
        for member, counter, grain, start, amount, _ in leaf.counts:
            self._add("counter.value", [(word, tenant, member, counter, grain, start)], [amount])
        for of, place, amount in leaf.took:
            self._add("taken.amount", [(word, tenant, parse_entry(of), place)], [amount])
        for shelf, amount in shelves(leaf):
            self._add("stock.remaining", [(word, tenant, shelf)], [amount])
        for step in leaf.explanation if isinstance(leaf, Explained) else ():
            if step.effect in TERMS:
                term = read_term(step.data)
                if step.effect == "grace":
                    self._change(tenant, term.lot, 0, 0, term.expires_at - term.was)
                else:
                    self._change(tenant, term.lot, 0, term.usable_from - NEVER, 0)
                    if term.member != leaf.member:
                        others.add(term.member)

    def _open(self, opened: Iterable[tuple[int, Leaf]], deficit: dict[_Row, int]) -> None:
        word, secret = self.word, self.number
        fixed: list[_Row] = []
        left = usable_from = expires_at = 0
        for entry, leaf in opened:
            tenant = leaf.tenant
            for given in leaf.lots:
                part = int(given.lot[len(leaf.entry) + 1 :])
                if given.lot != f"{leaf.entry}.{part}":
                    raise Differs
                fixed.append((
                    word, entry, part, tenant, given.member, given.unit, given.amount, int(given.sliding), given.issuer
                ))  # fmt: skip
                weight = hash((secret, tenant, entry, part))
                left += weight * given.left
                usable_from += weight * given.usable_from
                if not given.sliding:
                    expires_at += weight * given.expires_at
                if given.amount != given.left:
                    account = word, tenant, given.member, given.unit
                    deficit[account] = deficit.get(account, 0) + given.left - given.amount
        self._add("lot", fixed)
        self._lot(left, usable_from, expires_at)

    def _change(self, tenant: str, lot: str, left: int, usable_from: int, expires_at: int) -> None:
        weight = hash((self.number, tenant, *_place(lot)))
        self._lot(weight * left, weight * usable_from, weight * expires_at)

    # -- adding up ----------------------------------------------------------------------------------------------------

    def _count(self, what: str, more: int) -> None:
        self.totals[what] = self.totals.get(what, 0) + more

    def _add(self, what: str, rows: Iterable[_Row], numbers: Iterable[int] | None = None) -> None:
        # what follows the last line is nothing, and the hash of nothing is zero
        hashes = map(hash, _lines(list(rows)).split(b"\n"))
        self._count(what, sum(hashes) if numbers is None else sum(map(mul, hashes, numbers)))

    def _lot(self, left: int, usable_from: int, expires_at: int) -> None:
        totals = self.totals
        totals["left"] = totals.get("left", 0) + left
        totals["usable_from"] = totals.get("usable_from", 0) + usable_from
        totals["expires_at"] = totals.get("expires_at", 0) + expires_at

    # -- the tables ---------------------------------------------------------------------------------------------------

    def _table(self, table: str, line: str, numbers: tuple[str, ...]) -> None:
        of = None if table == "transfer" else self.tenant
        if not numbers:
            total = sum(map(hash, chain.from_iterable(self._read(table, line, (), of))))
            self.totals[table] = self.totals.get(table, 0) - total
            return
        totals = [0] * len(numbers)
        for text, *amounts in self._read(table, line, numbers, of):
            weight = hash(text)
            for place, amount in enumerate(amounts):
                totals[place] += weight * amount
        for name, total in zip(numbers, totals, strict=True):
            self.totals[f"{table}.{name}"] = self.totals.get(f"{table}.{name}", 0) - total

    def _lots(self) -> None:
        rows = self._read("lot", _LOT, _LOT_NUMBERS, self.tenant)
        while some := list(islice(rows, _AT_ONCE)):
            texts, tenants, entries, parts, *numbers = zip(*some, strict=True)
            weights = list(map(hash, zip(repeat(self.number), tenants, entries, parts)))
            self.totals["lot"] = self.totals.get("lot", 0) - sum(map(hash, texts))
            self._lot(*(-sum(map(mul, weights, column)) for column in numbers))

    def _read(self, table: str, line: str, numbers: tuple[str, ...], of: str | None) -> Iterator[Any]:
        """(line, number, ...) of every row."""
        dialect = self.conn.dialect.name
        line = line.replace("HOLDER", _HOLDER[dialect])
        if dialect == "sqlite":
            text = f"CAST(json_array('{self.word}', {line}) AS BLOB)"
            return stream(self.conn, f"SELECT {', '.join((text, *numbers))} FROM {table}", of)  # noqa: S608 - our own
        rows = stream(self.conn, f"SELECT {', '.join((line, *numbers))} FROM {table}", of)  # noqa: S608 - our own
        return self._written(rows, len(numbers))

    def _written(self, rows: Iterator[Any], numbers: int) -> Iterator[Any]:
        """PostgreSQL writes JSON with spaces, so its rows are written here."""
        while some := list(islice(rows, _AT_ONCE)):
            end = len(some[0]) - numbers
            texts = _lines([(self.word, *row[:end]) for row in some]).split(b"\n")
            yield from ((text, *row[end:]) for text, row in zip(texts, some, strict=False))


def _place(lot: str) -> tuple[int, int]:
    """The entry that opened a lot, and which of its lots it is."""
    name, _, part = lot.rpartition(".")
    entry = parse_entry(name)
    if entry is None or lot != f"{entry_name(entry)}.{int(part)}":
        raise Differs
    return entry, int(part)
