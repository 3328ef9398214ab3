"""What is due of thousands of members leaves in a handful of statements: pages of a hundred transfers, one batch.

That a lot is due is nobody's decision: no plugin is asked, and the database knows what is left of it.  So the database
itself writes the transfers, and their text into the journal's pages; every proof reads them as it reads any other page.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec import Raw

from .ledger import EXPIRED, MAX_BATCH, NEVER, Record, Step, canonical, entry_name
from .store import Cursor, Store, array_text

#: The house's own pages about lots that were due; no door takes this kind.
KIND = "lots.expired"
RULE = "core.expire"
#: Transfers on one page.  A member's statement reads the whole page, so it stays small.
PER_PAGE = 100
#: Lots swept in one transaction.  Events wait for its end, so it takes about a tenth of a second and no longer.
AT_ONCE = 20_000
#: Member numbers lie below this and are issued at random: equal pieces of their space hold about equally many members.
NUMBERS = 10**12

_DUE = f"lot.tenant = ? AND lot.expires_at <= ? AND lot.expires_at < {NEVER} AND lot.remaining > 0"
# what is held waits for a decision: until then it does not expire
_FREE = "substr(lot.waits, 1, 4) <> 'held'"
_LOT = "(entry >> 51) || '-' || ((entry >> 12) & 549755813887) || '-' || (entry & 4095) || '.' || part"


class Piece(NamedTuple):
    """The members from *low* to below *high*."""

    low: int = 0
    high: int = NUMBERS

    def halves(self) -> tuple[Piece, Piece]:
        """The same members in two pieces."""
        middle = (self.low + self.high) // 2
        return Piece(self.low, middle), Piece(middle, self.high)


class TooMuch(Exception):
    """More is due in a piece than one batch may hold: it has to be halved."""


class Swept(NamedTuple):
    """What one piece came to: how many members had something, and the pages to be appended."""

    members: int
    pages: Sequence[tuple[int, Record, bytes]]


def pieces(store: Store, cur: Cursor, tenant: str, at: int) -> list[Piece]:
    """All members in pieces with about as much due at *at* as one transaction sweeps; none if nothing is due."""
    cur.execute(_in_dialect(store, f"SELECT count(*) FROM lot WHERE {_DUE} AND {_FREE}"), (tenant, at))
    count = -(-cur.fetchone()[0] // AT_ONCE)
    edges = [NUMBERS * n // count for n in range(count + 1)] if count else []
    return [Piece(*edge) for edge in pairwise(edges)]


def sweep(
    store: Store, cur: Cursor, tenant: str, piece: Piece, at: int, *, received: int, first: int, terms: tuple[int, str]
) -> Swept:
    """Expire what is due at *at* of the members in *piece*, who are locked first.

    Lots, balances, transfers and mentions are written; the pages, from entry *first* on, are not yet.  *terms* are the
    generation in force and its hash.  Raises :class:`TooMuch` before anything is changed.
    """
    members, found = (_postgres if store.postgres else _sqlite)(cur, tenant, piece, at, first)
    pages = []
    for entry, lots, transfers in found:
        record = Record(
            entry=entry_name(entry),
            tenant=tenant,
            id=f"expire/{at}/{entry_name(entry)}",
            source="tally",
            kind=KIND,
            at=at,
            received=received,
            status="recorded",
            generation=terms[0],
            programme=terms[1],
            explanation=(Step(rule=RULE, effect="expire", data={"due": at, "lots": lots}),),
            transfers=Raw(f"[{transfers}]".encode()),  # type: ignore[arg-type]  # as the database wrote them
            actor="tally",
        )
        pages.append((entry, record, canonical(record)))
    return Swept(members, pages)


def _in_dialect(store: Store, sql: str) -> str:
    return sql.replace("?", "%s") if store.postgres else sql


# one transfer as JSON, character by character as msgspec writes it; units' names need no escaping
_JSON = f"""'["' || debit || '","{EXPIRED}","' || unit || '",' || amount || ',"{RULE}","' || lot || '",""]'"""


def _sqlite(cur: Cursor, tenant: str, piece: Piece, at: int, first: int) -> tuple[int, list[tuple[int, int, str]]]:
    # A range of the key is updated five times faster than rows that are named; but where few have something due in a wide
    # range, the index of what is due finds them.
    everybody = piece == Piece()
    within = f"lot.member >= ? AND lot.member < ? AND {_FREE}"
    due = f"{_DUE} AND {within}" if everybody else f"{_DUE.replace('lot.expires_at', '+lot.expires_at')} AND {within}"
    which = (tenant, at, *piece)
    cur.execute(
        "CREATE TEMP TABLE IF NOT EXISTS sweep (n INTEGER PRIMARY KEY, member INT, unit TEXT, entry INT, part INT, amount INT)"
    )
    cur.execute("DELETE FROM temp.sweep")
    cur.execute(
        "INSERT INTO temp.sweep (member, unit, entry, part, amount)"
        f" SELECT member, unit, entry, part, remaining FROM lot WHERE {due} ORDER BY member, unit, entry, part",
        which,
    )
    cur.execute("SELECT count(*), count(DISTINCT member) FROM temp.sweep")
    count, members = cur.fetchone()
    if count > PER_PAGE * MAX_BATCH:
        raise TooMuch
    page = f"{first} + (n - 1) / {PER_PAGE}"
    cur.execute(
        "INSERT INTO transfer (entry, place, tenant, debit, credit, unit, amount, rule, lot)"
        f" SELECT {page}, (n - 1) % {PER_PAGE}, ?, printf('m-%012d', member), '{EXPIRED}', unit, amount, '{RULE}', {_LOT}"
        " FROM temp.sweep",
        (tenant,),
    )
    cur.execute(
        "INSERT INTO entry_member (tenant, member, entry)"
        f" SELECT ?, member, {page} FROM temp.sweep WHERE true ON CONFLICT DO NOTHING",
        (tenant,),
    )
    mine = f"lot.tenant = balance.tenant AND lot.member = balance.member AND lot.unit = balance.unit AND lot.expires_at <= {at} AND lot.remaining > 0 AND {_FREE}"
    members_of = "IN (SELECT member FROM temp.sweep)" if everybody else f">= {piece.low} AND member < {piece.high}"
    cur.execute(
        f"UPDATE balance SET posted = posted - (SELECT sum(lot.remaining) FROM lot WHERE {mine})"
        f" WHERE tenant = ? AND member {members_of} AND EXISTS (SELECT 1 FROM lot WHERE {mine})",
        (tenant,),
    )
    cur.execute(f"UPDATE lot SET remaining = 0 WHERE {due}", which)
    if cur.rowcount != count:
        raise AssertionError("a lot changed underneath: nothing was expired")
    cur.execute(
        f"SELECT entry, count(*), group_concat({_JSON}) FROM transfer WHERE entry >= ? AND entry < ? GROUP BY entry",
        (first, first + MAX_BATCH),
    )
    return members, cur.fetchall()


def _postgres(cur: Cursor, tenant: str, piece: Piece, at: int, first: int) -> tuple[int, list[tuple[int, int, str]]]:
    due = _DUE.replace("?", "%s")
    # along the keys, and never through whole tables: the few who have something due one by one, a dense piece side by side
    for way in ("seqscan", "hashjoin", "mergejoin") if piece == Piece() else ("seqscan", "nestloop"):
        cur.execute(f"SET LOCAL enable_{way} = off")
    # in the order in which everybody locks members; only then is read what is due of them
    cur.execute(
        "SELECT array_agg(number) FROM (SELECT number FROM member WHERE tenant = %s AND number >= %s AND number < %s AND number IN"
        f" (SELECT lot.member FROM lot WHERE {due} AND lot.member >= %s AND lot.member < %s AND {_FREE})"
        " ORDER BY number FOR UPDATE) AS locked",
        (tenant, *piece, tenant, at, *piece),
    )
    numbers = cur.fetchone()[0] or []
    if not numbers:
        return 0, []
    named = array_text("bigint", numbers)
    cur.execute(
        f"SELECT count(*) FROM lot WHERE {due} AND {_FREE} AND lot.member = ANY(%s::bigint[])", (tenant, at, named)
    )
    if cur.fetchone()[0] > PER_PAGE * MAX_BATCH:
        raise TooMuch
    cur.execute(
        f"""
        WITH due AS MATERIALIZED (
            SELECT row_number() OVER (ORDER BY member, unit, entry, part) - 1 AS n, tenant, member, unit, entry, part,
                   remaining AS amount, 'm-' || lpad(member::text, 12, '0') AS debit, {_LOT} AS lot
            FROM lot WHERE {due} AND {_FREE} AND lot.member = ANY(%s::bigint[])
        ), emptied AS (
            UPDATE lot SET remaining = 0 FROM due
            WHERE lot.tenant = %s AND lot.member >= {piece.low} AND lot.member < {piece.high} AND lot.member = due.member AND lot.unit = due.unit AND lot.entry = due.entry AND lot.part = due.part
            RETURNING 1
        ), lowered AS (
            UPDATE balance SET posted = posted - due.amount
            FROM (SELECT member, unit, sum(amount)::bigint AS amount FROM due GROUP BY member, unit) AS due
            WHERE balance.tenant = %s AND balance.member >= {piece.low} AND balance.member < {piece.high} AND balance.member = due.member AND balance.unit = due.unit
        ), moved AS (
            INSERT INTO transfer (entry, place, tenant, debit, credit, unit, amount, rule, lot)
            SELECT {first} + n / {PER_PAGE}, n %% {PER_PAGE}, tenant, debit, '{EXPIRED}', unit, amount, '{RULE}', lot FROM due
        ), mentioned AS (
            INSERT INTO entry_member (tenant, member, entry) SELECT DISTINCT tenant, member, {first} + n / {PER_PAGE} FROM due
        )
        SELECT {first} + n / {PER_PAGE}, count(*), string_agg({_JSON}, ',' ORDER BY n), (SELECT count(*) FROM emptied)
        FROM due GROUP BY 1 ORDER BY 1
        """,
        (tenant, at, named, tenant, tenant),
    )
    rows = cur.fetchall()
    if rows and rows[0][3] != sum([row[1] for row in rows]):
        raise AssertionError("a lot changed underneath: nothing was expired")
    return len(numbers), [row[:3] for row in rows]
