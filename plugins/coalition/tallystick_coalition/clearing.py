"""A month between brands of one house, all pairs at once: closed in a batch, read from the books once, kept in one transaction.

Each side still draws up its own statement from its own books and signs it, and both are compared byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tallystick.errors import EventConflict, TallyError
from tallystick.ledger import instant

from . import agreement as agreements
from . import settle, store
from .agreement import Agreement
from .convoy import Note
from .desk import Desk, compare
from .errors import Mismatch, NotPossible, OutsideTerms, TransferClosed
from .settle import SignedStatement, Statement

Pair = tuple[Desk, Desk]
#: A brand and the partner it looks at.
Side = tuple[str, str]


class Compared(NamedTuple):
    """How a month stands between two brands of a house."""

    statement: Statement  #: the first one's
    agreed: bool
    signed: bool  #: both statements carry a signature that holds


class _Book(NamedTuple):
    """What one brand says of a month with a partner."""

    statement: Statement
    signed: SignedStatement
    keys: tuple[str, ...]  #: of the partner, as this brand knows them


def agreements_of(desk: Desk, partners: Iterable[str]) -> dict[str, Agreement]:
    """The latest agreement with each of *partners* with whom there is one."""
    found = desk.rows_many([f"agreements/{partner}" for partner in partners])
    latest = {key.partition("/")[2]: rows[max(rows, key=int)]["text"] for key, rows in found.items()}
    return {partner: agreements.read(text) for partner, text in latest.items()}


def close_pairs(pairs: Sequence[Pair], period: str, *, early: bool = False) -> dict[Side, str]:
    """Close *period* on both sides of each pair; why that cannot be done yet, or nothing, by the brands of the pair."""
    said: dict[Side, str] = {}
    if pairs:
        pairs[0][0].errand.house.relay()  # returns of which partners have not heard yet are in the books now
    for desk, partners in _around(pairs):
        rows = desk.rows_many([f"{what}/{partner}" for partner in partners for what in ("pair", "agreements")])
        with desk.errand.house.reading() as conn:
            untold = store.list_untold(conn, desk.errand.tenant, period)
        notes = []
        for partner in partners:
            if partner not in desk.errand.plugin.settings.partners:
                said[desk.brand, partner] = NotPossible.code
                continue
            if not rows.get(f"agreements/{partner}"):
                said[desk.brand, partner] = OutsideTerms.code
                continue
            if rows.get(f"pair/{partner}", {}).get("state", {}).get("closed", "") >= period:
                continue
            if partner in untold:
                said[desk.brand, partner] = Mismatch.code  # returns of that time were not told yet
                continue
            data = {"partner": partner, "period": period, **({"early": True} if early else {})}
            notes.append(Note("coalition.closed", f"{partner}/closed/{period}", desk.now, 0, data))
        for note, told in zip(notes, desk.record_many(notes), strict=True):
            if isinstance(told, TallyError):
                if not isinstance(told, EventConflict | TransferClosed):  # somebody else closed it a moment ago
                    said[desk.brand, note.data["partner"]] = told.code
            elif isinstance(told, Exception):
                said[desk.brand, note.data["partner"]] = "unreachable"
    return {
        (one.brand, two.brand): said.get((one.brand, two.brand)) or said.get((two.brand, one.brand), "")
        for one, two in pairs
    }


def compare_pairs(pairs: Sequence[Pair], period: str) -> dict[Side, Compared]:
    """Draw up, sign, compare and keep the statements of pairs that have closed *period*, by the brands of the pair."""
    books: dict[Side, _Book] = {}
    for desk, partners in _around(pairs):
        key = desk.key() if desk.errand.plugin.settings.key else ""
        agreed = agreements_of(desk, partners)
        with desk.errand.house.reading() as conn:
            found_here = store.read_entries(conn, desk.errand.tenant, partners, period)
            for partner in partners:
                agreement, entries = agreed[partner], found_here.get(partner, ())
                drawn = settle.draw_up(agreement.brands, period, agreement.currency, entries)
                signed = settle.sign(drawn, desk.brand, key)
                books[desk.brand, partner] = _Book(drawn, signed, tuple(agreement.keys[partner]))
    found: dict[Side, Compared] = {}
    for one, two in pairs:
        mine, theirs = books[one.brand, two.brand], books[two.brand, one.brand]
        holds = [settle.is_signed(theirs.signed, mine.keys), settle.is_signed(mine.signed, theirs.keys)]
        agreed_on = mine.signed.text == theirs.signed.text and all(
            held or not said.signature for held, said in zip(holds, (theirs.signed, mine.signed), strict=True)
        )
        found[one.brand, two.brand] = Compared(mine.statement, agreed_on, all(holds))
    _keep(pairs, period, books, found)
    return found


def _around(pairs: Sequence[Pair]) -> list[tuple[Desk, list[str]]]:
    """Each desk with the partners it has among *pairs*."""
    desks: dict[str, Desk] = {}
    partners: dict[str, list[str]] = {}
    for pair in pairs:
        for desk, other in (pair, pair[::-1]):
            desks[desk.brand] = desk
            partners.setdefault(desk.brand, []).append(other.brand)
    return [(desk, partners[brand]) for brand, desk in desks.items()]


def _keep(pairs: Sequence[Pair], period: str, books: Mapping[Side, _Book], found: Mapping[Side, Compared]) -> None:
    """Both sides write down both statements; where they differ, with the proofs of each side's entries."""
    if not pairs:
        return
    house: Any = pairs[0][0].errand.house
    kept = []
    for one, two in pairs:
        agreed = found[one.brand, two.brand].agreed
        for desk, other in ((one, two), (two, one)):
            mine, theirs = books[desk.brand, other.brand], books[other.brand, desk.brand]
            entries = "" if agreed else other.entries(desk.brand, period)
            kept.append(
                {
                    "tenant": desk.errand.tenant, "partner": other.brand, "period": period,
                    "state": "agreed" if agreed else "disputed",
                    "ours": msgspec.json.encode(mine.signed).decode(), "theirs": msgspec.json.encode(theirs.signed).decode(),
                    "dispute": "" if agreed else compare(desk.list_entries(other.brand, period), entries, mine.statement),
                    "at": instant(desk.now),
                }
            )  # fmt: skip
    with house.db.begin() as conn:
        store.keep_statements(conn, kept)
