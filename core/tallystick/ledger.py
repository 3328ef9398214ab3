"""Transfers, lots, zero sums, claw-back arithmetic.  Pure: nothing here knows a database, a clock or a plugin.

Money-like amounts are integers in the unit's smallest part.  Instants are integers: microseconds since 1970 in UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from .errors import Insufficient, LimitReached
from .situation import Unit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: A day of 24 hours, in microseconds.
DAY = 86_400_000_000
#: Later than anything: lots that never expire, lots that wait for something.
NEVER = 1 << 62
#: No posted balance may leave this range (64 bits, with room for one more event).
MAX_BALANCE = 1 << 62

# An entry's number is one integer: writer, batch and place in the batch, so that it grows with time within a writer.
PLACE_BITS, BATCH_BITS, WRITER_BITS = 12, 39, 12
MAX_BATCH = 1 << PLACE_BITS

#: System accounts.  They have no balance row: a hot row would serialise the house.
ISSUED, REDEEMED, EXPIRED, REVERSED, HELD = "issued", "redeemed", "expired", "reversed", "held"


def instant(moment: datetime) -> int:
    """A moment as microseconds since 1970."""
    return (moment - EPOCH) // _MICROSECOND


def moment(instant: int) -> datetime:
    """Microseconds since 1970 as an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=instant)


def entry_number(writer: int, batch: int, place: int) -> int:
    """The number of an entry in the journal."""
    return (writer << (BATCH_BITS + PLACE_BITS)) | (batch << PLACE_BITS) | place


def entry_name(number: int) -> str:
    """An entry as people see it: ``writer-batch-place``."""
    return f"{number >> 51}-{(number >> 12) & 0x7FFFFFFFFF}-{number & 0xFFF}"


def parse_entry(name: str) -> int | None:
    """The entry's number, or None if this is not an entry's name."""
    parts = name.split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= 12 for part in parts):
        return None
    writer, batch, place = map(int, parts)
    if writer >= 1 << WRITER_BITS or batch >= 1 << BATCH_BITS or place >= MAX_BATCH:
        return None
    return entry_number(writer, batch, place)


@lru_cache(maxsize=8_192)
def member_name(number: int) -> str:
    """A member as the ledger and the API name it."""
    return f"m-{number:012d}"


def parse_member(reference: str) -> int | None:
    """The member number in ``m-`` and twelve digits, or None if this is an external id."""
    if len(reference) == 14 and reference.startswith("m-") and reference[2:].isascii() and reference[2:].isdigit():
        return int(reference[2:])
    return None


# --- what is written ------------------------------------------------------------------------------------------------


class Transfer(Struct, frozen=True, array_like=True):
    """*amount* of *unit* went from one account to another.  Every transfer is its own zero sum."""

    debit: str
    credit: str
    unit: str
    amount: int  #: at least 1
    rule: str
    lot: str = ""  #: the lot it was taken from
    into: str = ""  #: the lot it went into


class LotGiven(Struct, frozen=True, omit_defaults=True):
    """A lot as it was opened."""

    lot: str
    member: str
    unit: str
    amount: int
    left: int  #: less than *amount* where a deficit absorbed a part
    usable_from: int
    expires_at: int = NEVER
    sliding: bool = False
    waits: str = ""  #: what it waits for: "<order>/<state>" or "held"
    issuer: str = ""


class Step(Struct, frozen=True, omit_defaults=True):
    """One line of an explanation: which rule, in which version, did what, with the numbers that made it."""

    rule: str
    effect: str
    version: str = ""
    unit: str = ""
    amount: int = 0  #: what the member gained by it (negative: lost)
    wanted: int | None = None  #: what it would have been without caps, limits and displacement
    note: str = ""  #: why it differs, as a word: displaced, stopped, capped, kept, shortfall, ...
    by: str = ""  #: the rule that displaced, stopped or capped it
    lines: tuple[tuple[int, int], ...] | None = None  #: weights by line, for refunds of single lines
    fixed: bool = False  #: not taken back by refunds
    data: Mapping[str, Any] | None = None
    member: str = ""  #: whose gain it is, where it is not the event's own member's


#: An entry's part in an order: its role, how much of the order's value came back, and of which lines (JSON).
OrderState = tuple[str, int, str]
OrderNote = tuple[str, str, int, int, OrderState | None, OrderState]


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the house keeps of an event, for ever.  Its canonical JSON is the leaf of the batch's Merkle tree."""

    entry: str
    tenant: str
    id: str
    source: str
    kind: str
    at: int
    received: int
    status: str  #: recorded, held, step_up, parked
    generation: int
    programme: str  #: content hash of the settings that judged it
    member: str = ""
    facts: str = ""  #: SHA-256 of the facts as stored, encrypted under the member's key
    order: str = ""
    value: int = 0  #: value of the order, minor units
    explanation: tuple[Step, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    lots: tuple[LotGiven, ...] = ()
    balances: Mapping[str, int] = {}  #: posted balance per unit after the event
    #: member, counter, grain, first day, amount, and how a reversal treats it: share, whole, not at all, or (as JSON) by the
    #: lines or gains that it is about
    counts: tuple[tuple[int, str, str, int, int, str], ...] = ()
    takes: tuple[tuple[str, int, bool], ...] = ()  #: stock key, amount, whether a cancellation puts it back
    restocks: tuple[tuple[str, int], ...] = ()  #: stock key, and by how much the shelf changed otherwise
    #: of earlier entries: entry, place of the gain in its explanation, how much of it was taken back, kept or forgiven
    took: tuple[tuple[str, int, int], ...] = ()
    #: what changed at an order: its id, the entry that named it, member, value, how the row was and how it is
    orders: tuple[OrderNote, ...] = ()
    gives: tuple[Mapping[str, Any], ...] = ()  #: what the member gets (discounts, rewards)
    verdict: str = "allow"
    reasons: tuple[Mapping[str, Any], ...] = ()
    seed: str = ""  #: SHA-256 of the seed of the chance drawn, if any was
    cause: str = ""  #: the entry this one follows from
    depth: int = 0  #: how many causes lie before it
    skipped: tuple[Mapping[str, str], ...] = ()
    actor: str = ""
    #: plugins of :attr:`generation` that were switched off when it was judged: a late event, about which they were not asked
    off: tuple[str, ...] = ()
    more: Mapping[str, Any] | None = None


class Head(Struct, frozen=True, kw_only=True):
    """How far one writer has come, and the hash that fixes everything it wrote."""

    writer: int
    number: int
    chain: bytes


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Record).decode


def canonical(record: Record) -> bytes:
    """The bytes that are hashed, stored and handed out as a receipt."""
    return _encode(record)


def read_record(body: bytes) -> Record:
    """The record in its canonical bytes."""
    return _decode(body)


def leaf_hash(body: bytes) -> bytes:
    """RFC 6962 leaf hash."""
    return hashlib.sha256(b"\x00" + body).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 Merkle tree hash of leaf hashes.  Equal to the recursive definition; built level by level."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = list(leaves)
    sha256 = hashlib.sha256
    while len(level) > 1:
        above = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


def chain_hash(previous: bytes, root: bytes, writer: int, number: int, count: int) -> bytes:
    """The link of a batch: it covers every batch of the writer before it."""
    place = b"".join(value.to_bytes(8, "big", signed=True) for value in (writer, number, count))
    return hashlib.sha256(previous + root + place).digest()


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of RFC 6962 that proves leaf *index*."""
    path: list[bytes] = []
    level = list(leaves)
    sha256 = hashlib.sha256
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        above = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level, index = above, index // 2
    return path


def root_from_path(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to (RFC 9162 2.1.3.2); raises ValueError if the path does not fit."""
    if not 0 <= index < count:
        raise ValueError("no such leaf")
    node, last, steps = leaf, count - 1, iter(path)
    while last:
        if index % 2 or index < last:
            step = next(steps, None)
            if step is None:
                raise ValueError("path too short")
            node = hashlib.sha256(b"\x01" + (step + node if index % 2 else node + step)).digest()
        index, last = index // 2, last // 2
    if next(steps, None) is not None:
        raise ValueError("path too long")
    return node


# --- lots and accounts while a batch is being thought through -------------------------------------------------------


class Lot:
    """What one grant gave: how much is left, from when it can be used, when it expires."""

    __slots__ = (
        "amount",
        "entry",
        "expires_at",
        "fresh",
        "issuer",
        "left",
        "part",
        "sliding",
        "usable_from",
        "waits",
        "was",
    )

    def __init__(
        self,
        entry: int,
        part: int,
        amount: int,
        left: int,
        usable_from: int,
        expires_at: int = NEVER,
        sliding: bool = False,
        waits: str = "",
        issuer: str = "",
        *,
        fresh: bool = False,
    ) -> None:
        self.entry, self.part, self.amount, self.left = entry, part, amount, left
        self.usable_from, self.expires_at, self.sliding = usable_from, expires_at, sliding
        self.waits, self.issuer = waits, issuer
        self.fresh = fresh  #: opened in this batch
        self.was = None if fresh else (left, usable_from, expires_at, waits)  #: as it stands in the store

    @property
    def name(self) -> str:
        """``entry.part``, as transfers name it."""
        return f"{entry_name(self.entry)}.{self.part}"

    @property
    def key(self) -> tuple[int, int]:
        """Identity within the tenant."""
        return self.entry, self.part

    @property
    def held(self) -> bool:
        """Whether it waits for a decision: until then it can neither be spent nor expire."""
        return self.waits[:4] == "held"

    @property
    def changed(self) -> bool:
        """Whether the store must learn of it."""
        return self.was != (self.left, self.usable_from, self.expires_at, self.waits)


def _spend_order(lot: Lot) -> tuple[int, int, int]:
    # never-expiring lots have the latest expiry of all and so come last; ties by time, then id (both in the entry)
    return lot.expires_at, lot.usable_from, lot.entry * 4096 + lot.part


Part = tuple[Lot, int]  # a lot and how much of it


class Account:
    """One member's holding of one unit, as the batch sees it.

    ``posted`` is the sum of all transfers; it equals the sum of what is left in lots minus ``deficit``.
    ``lots`` holds every lot with something left if ``complete``; otherwise only lots opened in this batch.
    """

    __slots__ = ("complete", "deficit", "lots", "member", "posted", "unit", "was")

    def __init__(self, member: int, unit: str, posted: int = 0, deficit: int = 0, *, stored: bool = False) -> None:
        self.member, self.unit, self.posted, self.deficit = member, unit, posted, deficit
        self.lots: dict[tuple[int, int], Lot] = {}
        self.complete = False
        self.was: tuple[int, int] | None = (posted, deficit) if stored else None

    @property
    def name(self) -> str:
        """The account's name in transfers."""
        return member_name(self.member)

    # -- questions ------------------------------------------------------------------------------------------------

    def usable(self, now: int) -> int:
        """What can be spent at *now*: posted - due - pending, never below 0 as long as no deficit is open."""
        usable = sum([lot.left for lot in self.lots.values() if lot.usable_from <= now < lot.expires_at])
        return usable - self.deficit

    def pending(self, now: int) -> int:
        """Granted and not yet usable at *now*."""
        return sum([lot.left for lot in self.lots.values() if lot.usable_from > now and lot.expires_at > now])

    def due(self, now: int) -> int:
        """Past its expiry at *now* and not yet swept."""
        return sum([lot.left for lot in self.lots.values() if lot.expires_at <= now])

    # -- changes --------------------------------------------------------------------------------------------------

    def credit(self, lot: Lot) -> Lot:
        """Put a fresh lot in; an open deficit absorbs what it can, and the lot opens smaller."""
        self.posted += lot.left
        if self.posted > MAX_BALANCE:
            raise LimitReached("the balance would leave the range of the ledger")
        absorbed = min(self.deficit, lot.left)
        self.deficit -= absorbed
        lot.left -= absorbed
        self.lots[lot.key] = lot
        return lot

    def expire(self, now: int) -> list[Part]:
        """Take what is due; each lot once, and only what is left of it."""
        parts = [(lot, lot.left) for lot in self.lots.values() if lot.expires_at <= now and lot.left and not lot.held]
        return self._take(sorted(parts, key=lambda part: _spend_order(part[0])))

    def spend(self, amount: int, now: int) -> list[Part]:
        """Take *amount* from usable lots: earliest expiry first, never-expiring last, ties by time, then id."""
        usable = self.usable(now)
        if amount > usable:
            raise Insufficient(
                f"{amount} asked for, {max(usable, 0)} usable", unit=self.unit, usable=max(usable, 0), asked=amount
            )
        lots = sorted(
            [lot for lot in self.lots.values() if lot.left and lot.usable_from <= now < lot.expires_at],
            key=_spend_order,
        )
        return self._take(_first(lots, amount))

    def take_back(
        self, amount: int, now: int, unit: Unit, own: Iterable[tuple[int, int]] = ()
    ) -> tuple[list[Part], int]:
        """Take back up to *amount*: from the *own* lots of the original grant, then pending, then usable lots.

        What no lot covers opens a deficit where the unit's shortfall policy allows it.  Returns the parts taken from
        lots and the deficit opened; what is missing from *amount* could not be taken.
        """
        mine = set(own)
        # what is held is its own event's business: nobody else's debt is paid from it
        lots = [
            lot for lot in self.lots.values() if lot.left and (lot.key in mine if lot.held else lot.expires_at > now)
        ]
        if unit.shortfall == "pending_only":
            lots = [lot for lot in lots if lot.usable_from > now]
        lots.sort(key=lambda lot: (lot.key not in mine, lot.usable_from <= now, *_spend_order(lot)))
        parts = self._take(_first(lots, amount))
        missing = amount - sum([taken for _, taken in parts])
        opened = 0
        if missing and unit.shortfall == "negative":
            room = missing if unit.shortfall_limit is None else max(0, unit.shortfall_limit - self.deficit)
            opened = min(missing, room)
            self.deficit += opened
            self.posted -= opened
        return parts, opened

    def give_back(self, lot: Lot, amount: int) -> int:
        """Put *amount* back into the lot it was taken from; an open deficit absorbs it first.  Returns what it absorbed."""
        self.posted += amount
        absorbed = min(self.deficit, amount)
        self.deficit -= absorbed
        lot.left += amount - absorbed
        self.lots[lot.key] = lot
        return absorbed

    def empty(self, parts: Iterable[Part] | None = None) -> list[Part]:
        """Take *parts*, or all of every lot that waits for nothing: another account takes them over."""
        if parts is None:
            parts = [(lot, lot.left) for lot in self.lots.values() if lot.left and not lot.waits]
        return self._take(sorted(parts, key=lambda part: _spend_order(part[0])))

    def absorb(self, amount: int) -> None:
        """Lower the deficit by *amount*, which somebody else takes over (a negative amount: raise it)."""
        self.deficit -= amount
        self.posted += amount
        assert self.deficit >= 0, "nobody can absorb more than is missing"

    def _take(self, parts: list[Part]) -> list[Part]:
        for lot, amount in parts:
            assert 0 < amount <= lot.left, "a lot can never go below zero"
            lot.left -= amount
            self.posted -= amount
        return parts


def _first(lots: Iterable[Lot], amount: int) -> list[Part]:
    parts: list[Part] = []
    for lot in lots:
        if not amount:
            break
        taken = min(lot.left, amount)
        parts.append((lot, taken))
        amount -= taken
    return parts


# --- claw-back arithmetic -------------------------------------------------------------------------------------------


def taken_by_now(granted: int, value: int, returned: int) -> int:
    """How much of *granted* is taken back once *returned* of *value* has come back, in all.

    Proportional, rounded down (a member never owes a fraction), all of it when everything is back.  Because it is a
    function of the cumulative return, parts always add up: 60 % and 60 % of 1000 take back 600 and 400.

    >>> taken_by_now(1000, 200, 100), taken_by_now(1000, 100, 60), taken_by_now(1000, 100, 120)
    (500, 600, 1000)
    """
    if returned >= value:
        return granted
    return granted * returned // value


def returned_share(lines: Sequence[tuple[int, int]], values: Sequence[int], returned: Mapping[int, int]) -> Fraction:
    """The part of a grant that came from *lines* (index and weight) which came back, given what came back of each line's value.

    Exact: it is rounded once, where it meets the amount.  A line of value 0 counts as returned when it is named at all.

    >>> returned_share([(0, 1), (1, 1)], [300, 300], {0: 100, 1: 200})
    Fraction(1, 2)
    """
    whole = sum([weight for _, weight in lines])
    if not whole:
        return Fraction(0)
    back = Fraction(0)
    for index, weight in lines:
        came = returned.get(index)
        if came is not None:
            back += weight if came >= values[index] else Fraction(weight * came, values[index])
    return back / whole


def others_moved(record: Record) -> set[str]:
    """Members besides the record's own whose points it moved or made usable."""
    names = {account for t in record.transfers for account in (t.debit, t.credit) if account[:2] == "m-"}
    names |= {step.data["member"] for step in record.explanation if step.effect in {"usable", "awaits"} and step.data}
    return names - {record.member}


def zero_sum(transfers: Iterable[Transfer]) -> bool:
    """Whether amounts are positive and no transfer stays on one account: then every unit sums to zero."""
    return all(t.amount > 0 and t.debit != t.credit for t in transfers)
