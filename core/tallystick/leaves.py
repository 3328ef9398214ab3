"""What a proof reads of the journal: records as they were written, and rows past all result objects."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Raw, Struct

from .ledger import NEVER, parse_entry, parse_member

GENESIS = b"\x00" * 32  #: what the first batch of a writer follows on

_Transfer = tuple[str, str, str, int, str, str, str]  # debit, credit, unit, amount, rule, lot, into


class Given(Struct, gc=False):
    """A lot as it was opened."""

    lot: str
    member: str
    unit: str
    amount: int
    left: int
    usable_from: int
    expires_at: int = NEVER
    sliding: bool = False
    issuer: str = ""


class Step(Struct, gc=False):
    """A step of an explanation; its data may be a :class:`Term`."""

    effect: str
    unit: str = ""
    data: Raw = Raw()


class Term(Struct, gc=False):
    """A change of when a lot can be used or expires."""

    lot: str
    member: str = ""
    usable_from: int = 0
    was: int = 0
    expires_at: int = 0


_State = tuple[str, int, str]  # role, returned, lines
#: order, entry, role, member, value, returned, lines: a row of order_entry
OrderRow = tuple[str, int, str, int, int, int, str]
_Note = tuple[str, str, int, int, _State | None, _State]  # order, entry, member, value, how it was, how it is


#: Tenant, generation, and the hash of its settings: what a record says it was judged by.
Terms = tuple[str, int, str]


class Leaf(Struct, gc=False):
    """What verification needs of a record; everything else in it is fixed by the leaf's hash alone."""

    entry: str
    tenant: str
    id: str
    source: str
    received: int
    generation: int = 0
    programme: str = ""
    kind: str = ""
    member: str = ""
    facts: str = ""
    order: str = ""
    value: int = 0
    transfers: list[_Transfer] = []
    lots: list[Given] = []
    counts: list[tuple[int, str, str, int, int, str]] = []
    takes: list[tuple[str, int, bool]] = []
    restocks: list[tuple[str, int]] = []
    took: list[tuple[str, int, int]] = []
    orders: list[_Note] = []


class Explained(Leaf, gc=False):
    """As :class:`Leaf`, with the steps of the explanation."""

    explanation: list[Step] = []


#: Effects that change when a lot can be used or expires, or what it waits for.
TERMS = frozenset({"usable", "awaits", "grace"})
_plain: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Leaf)
_explained: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Explained)


def _reader(text: bytes) -> msgspec.json.Decoder[Any]:
    # few explanations change the terms of a lot, and reading all of them is a third of the work
    return _explained if b'"usable"' in text or b'"awaits"' in text or b'"grace"' in text else _plain


def read_leaf(body: bytes) -> Leaf:
    """One record.  Raises :class:`msgspec.MsgspecError` if it is none."""
    leaf: Leaf = _reader(body).decode(body)
    return leaf


def read_leaves(bodies: Sequence[bytes]) -> list[Leaf] | None:
    """Many at once; None if not each of them is one record on one line."""
    if not all(bodies) or any(b"\n" in body for body in bodies):
        return None
    text = b"\n".join(bodies)
    try:
        leaves: list[Leaf] = _reader(text).decode_lines(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return leaves if len(leaves) == len(bodies) else None


read_term = msgspec.json.Decoder(Term).decode


def shelves(leaf: Leaf) -> Iterator[tuple[str, int]]:
    """By how much an event changed which stock."""
    for shelf, amount, _ in leaf.takes:
        yield shelf, -amount
    yield from leaf.restocks


def order_rows(leaf: Leaf, entry: int) -> Iterator[tuple[OrderRow, int]]:
    """What an event made of the rows of its order: those that came, and negative those that went."""
    mine = False
    for order, named, member, value, was, now in leaf.orders:
        number = parse_entry(named) or 0
        mine = mine or (number == entry and was is None)
        if was is not None:
            yield (order, number, was[0], member, value, was[1], was[2]), -1
        yield (order, number, now[0], member, value, now[1], now[2]), 1
    if leaf.kind == "purchase.completed" and not mine:
        yield (leaf.order, entry, "sale", parse_member(leaf.member) or 0 if leaf.member else 0, leaf.value, 0, ""), 1


def stream(
    conn: sa.Connection, sql: str, tenant: str | None = None, *, order: str = "", given: Sequence[Any] = ()
) -> Iterator[Any]:
    """Rows of a query as tuples, fetched as they are used, past SQLAlchemy's result objects (a third of the time).

    *given* are the values of its question marks, *tenant* whose rows it is to be restricted to.
    """
    driver: Any = conn.connection.driver_connection
    if tenant is not None:
        sql, given = f"{sql} WHERE tenant = ?", (*given, tenant)
    if order:
        sql += f" ORDER BY {order}"
    if conn.dialect.name == "postgresql":
        return _stream_from_server(driver, sql.replace("?", "%s"), tuple(given))
    rows: Iterator[Any] = driver.execute(sql, tuple(given))
    return rows


def _stream_from_server(driver: Any, sql: str, given: tuple[Any, ...]) -> Iterator[Any]:
    with driver.cursor(name=f"proof_{secrets.token_hex(4)}") as cursor:  # named: it stays at the server
        cursor.itersize = 5_000
        cursor.execute(sql, given, binary=True)
        yield from cursor
