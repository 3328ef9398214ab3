"""Drawing prizes.  Pure: a seed, an entry and a salt give one number, and the number one prize."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Table = Sequence[tuple[str, int]]


class Round(NamedTuple):
    """A round of a draw as its own row holds it: the seed that was made when it opened, and the prizes it opened with."""

    number: int
    seed: str  #: hexadecimal; known to nobody outside while the round is open
    table: tuple[tuple[str, int], ...]
    open: bool

    @property
    def commitment(self) -> str:
        """What the house says beforehand: the SHA-256 of the seed."""
        return commitment(bytes.fromhex(self.seed))


def commitment(seed: bytes) -> str:
    """The SHA-256 of a seed, in hexadecimal."""
    return hashlib.sha256(seed).hexdigest()


def read_round(row: Mapping[str, Any] | None) -> Round | None:
    """The round of a row; None if there was none yet."""
    if not row:
        return None
    return Round(row["number"], row["seed"], tuple((name, weight) for name, weight in row["table"]), row["open"])


def written(round_: Round) -> dict[str, Any]:
    """As it is kept."""
    return {
        "number": round_.number,
        "seed": round_.seed,
        "table": [list(cell) for cell in round_.table],
        "open": round_.open,
    }


def number_of(seed: bytes, entry: str, salt: str, bound: int) -> int:
    """An unbiased number in [0, *bound*): HMAC-SHA256 of entry, salt and try under the seed, by rejection."""
    limit = (1 << 256) - (1 << 256) % bound
    attempt = 0
    while True:
        digest = hmac.digest(seed, f"{entry}/{salt}/{attempt}".encode(), "sha256")
        number = int.from_bytes(digest, "big")
        if number < limit:
            return number % bound
        attempt += 1


def prize_at(number: int, table: Table) -> int:
    """The place of the prize at *number* on a wheel with the given weights.

    >>> [prize_at(number, [("a", 1), ("none", 0), ("b", 2)]) for number in range(3)]
    [0, 2, 2]
    """
    for place, (_, weight) in enumerate(table):
        if number < weight:
            return place
        number -= weight
    raise ValueError("the number lies beyond the wheel")


def draw(seed: bytes, entry: str, salt: str, table: Table) -> int:
    """The place of the prize that an entry wins."""
    return prize_at(number_of(seed, entry, salt, sum(weight for _, weight in table)), table)


def chances(usable: int, cost: int, left: int | None = None) -> int | None:
    """How often a member can draw: what is usable pays for so many, limits leave so many.  None: without end.

    >>> chances(250, 100), chances(250, 100, 1), chances(99, 100), chances(0, 0), chances(-20, 100)
    (2, 1, 0, None, 0)
    """
    paid = max(0, usable) // cost if cost else None
    if paid is None or left is None:
        return left if paid is None else paid
    return min(paid, left)
