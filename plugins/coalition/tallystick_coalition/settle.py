"""What brands owe one another: who owes whom, what that nets to, and statements that the partner can recompute.  Pure.

Amounts are minor units of the agreement's currency.  Every entry says what its source owes its target (less, where
something came back), so that both sides' books hold the same entries and what one owes the other is owed: the sum is zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from tallystick.ledger import leaf_hash, merkle_path, merkle_root, root_from_path

from . import agreement

FORMAT: Final = "tallystick-statement/1"
PURPOSE: Final = b"tallystick-statement/1\n"


class Entry(NamedTuple):
    """What one transfer, or one return of a part of it, comes to."""

    transfer: str
    n: int  #: 0, or the total that has come back with this return
    kind: str
    source: str
    target: str
    amount: int
    gets: int
    owed: int  #: minor units the source owes the target
    agreement: str


_encode = msgspec.json.Encoder().encode


def leaf(entry: Entry) -> bytes:
    """The entry's canonical bytes: a JSON array of its fields."""
    return _encode(entry)


def leaves(entries: Iterable[Entry]) -> list[bytes]:
    """The leaf hashes of *entries* in the order of transfers, whatever order they come in."""
    hashed = sha256  # as leaf_hash has it; a million calls less
    return [hashed(b"\x00" + body).digest() for body in map(_encode, sorted(entries))]


# --- who owes whom ---------------------------------------------------------------------------------------------------


def matrix(entries: Iterable[Entry]) -> dict[tuple[str, str], int]:
    """What each source owes each target, in all; pairs of brands without entries are left out."""
    owed: dict[tuple[str, str], int] = {}
    for _, _, _, source, target, _, _, amount, _ in entries:
        pair = source, target
        if pair in owed:
            owed[pair] += amount
        else:
            owed[pair] = amount
    return dict(sorted(owed.items()))


def positions(owed: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """What each brand is to receive in the end (below 0: to pay).  The sum is zero.

    >>> positions({("a", "b"): 100, ("b", "c"): 80, ("c", "a"): 90})
    {'a': -10, 'b': 20, 'c': -10}
    """
    net: dict[str, int] = {}
    for (source, target), amount in owed.items():
        net[source] = net.get(source, 0) - amount
        net[target] = net.get(target, 0) + amount
    return dict(sorted(net.items()))


class Payment(NamedTuple):
    """One payment that settles."""

    source: str
    target: str
    amount: int


def payments(net: Mapping[str, int]) -> list[Payment]:
    """Payments that bring every position to zero: at most one fewer than there are brands, and the same on every machine.

    The largest debt goes to the largest claim; ties go by name.

    >>> payments({"a": -10, "b": 20, "c": -10})
    [Payment(source='a', target='b', amount=10), Payment(source='c', target='b', amount=10)]
    """
    debts = {brand: -amount for brand, amount in net.items() if amount < 0}
    claims = {brand: amount for brand, amount in net.items() if amount > 0}
    if sum(debts.values()) != sum(claims.values()):
        raise ValueError("positions must sum to zero")
    made = []
    while debts:
        debtor = min(debts, key=lambda brand: (-debts[brand], brand))
        creditor = min(claims, key=lambda brand: (-claims[brand], brand))
        amount = min(debts[debtor], claims[creditor])
        made.append(Payment(debtor, creditor, amount))
        for side, brand in ((debts, debtor), (claims, creditor)):  # every payment closes at least one of the two
            side[brand] -= amount
            if not side[brand]:
                del side[brand]
    return made


# --- statements ------------------------------------------------------------------------------------------------------


class Statement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What two brands have with each other in a period, as one of them signs it.

    Both sides' statements are equal byte for byte if their books agree.
    """

    format: str
    brands: tuple[str, str]  #: in alphabetical order
    period: str
    currency: str
    entries: int
    owed: tuple[int, int]  #: what the first owes the second, and the second the first
    net: int  #: what the first is to pay to the second (below 0: to receive)
    root: str  #: RFC 6962 tree hash of all entries, in the order of transfers, as hexadecimal


class SignedStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement's canonical text and its brand's signature (empty: the brand has no key)."""

    brand: str
    text: str
    signature: str


def draw_up(brands: tuple[str, str], period: str, currency: str, entries: Sequence[Entry]) -> Statement:
    """The statement of these *entries*, all of which must be between the two *brands*."""
    first, second = sorted(brands)
    owed = matrix(entries)
    if not owed.keys() <= {(first, second), (second, first)}:
        raise ValueError(f"there are entries of others than {first} and {second}")
    there, back = owed.get((first, second), 0), owed.get((second, first), 0)
    return Statement(
        format=FORMAT, brands=(first, second), period=period, currency=currency, entries=len(entries), owed=(there, back),
        net=there - back, root=merkle_root(leaves(entries)).hex(),
    )  # fmt: skip


def text_of(statement: Statement) -> str:
    """The statement's canonical JSON."""
    return msgspec.json.encode(statement, order="deterministic").decode()


def sign(statement: Statement, brand: str, key: str) -> SignedStatement:
    """The statement as *brand* hands it over; without a *key* it is not signed."""
    text = text_of(statement)
    return SignedStatement(brand=brand, text=text, signature=agreement.sign(key, PURPOSE, text.encode()) if key else "")


def is_signed(signed: SignedStatement, keys: tuple[str, ...]) -> bool:
    """Whether the brand that it names, of public *keys*, signed it."""
    return agreement.verify(keys, PURPOSE, signed.text.encode(), signed.signature)


# --- when two statements differ --------------------------------------------------------------------------------------


class Proof(Struct, frozen=True, kw_only=True):
    """That an entry is in the tree of one side's statement: anybody can check it against the signed root."""

    entry: str
    index: int
    count: int
    path: tuple[str, ...]

    def leads_to(self) -> str:
        """The root it proves, as hexadecimal.  Raises ValueError if it proves nothing."""
        path = [bytes.fromhex(node) for node in self.path]
        return root_from_path(leaf_hash(self.entry.encode()), self.index, self.count, path).hex()


class Difference(Struct, frozen=True, kw_only=True):
    """One transfer of which two books say different things: what each says, with its proof."""

    transfer: str
    n: int
    ours: Proof | None
    theirs: Proof | None


def prove(entries: Sequence[Entry], wanted: Iterable[Entry]) -> dict[tuple[str, int], Proof]:
    """Proofs that the *wanted* entries are among *entries*, by transfer."""
    ordered = sorted(entries)
    hashes, places = leaves(ordered), {entry: place for place, entry in enumerate(ordered)}
    return {
        (entry.transfer, entry.n): Proof(
            entry=leaf(entry).decode(), index=places[entry], count=len(ordered),
            path=tuple(node.hex() for node in merkle_path(hashes, places[entry])),
        )
        for entry in wanted
    }  # fmt: skip


def differences(ours: Sequence[Entry], theirs: Sequence[Entry]) -> list[Difference]:
    """What two books do not say alike, with both proofs; nothing if they agree."""
    mine, yours = set(ours), set(theirs)
    here, there = prove(ours, sorted(mine - yours)), prove(theirs, sorted(yours - mine))
    return [
        Difference(transfer=place[0], n=place[1], ours=here.get(place), theirs=there.get(place))
        for place in sorted({*here, *there})
    ]


class Row(NamedTuple):
    """One line of a statement for a spreadsheet."""

    period: str
    transfer: str
    n: int
    kind: str
    source: str
    target: str
    amount: int
    gets: int
    owed: int
    agreement: str


def rows(period: str, entries: Iterable[Entry]) -> Iterator[Row]:
    """The entries as lines, in the order of transfers."""
    for entry in sorted(entries):
        yield Row(period, *entry)
