"""A period is closed between all brands of a house: every pair compares its books, and what agrees is netted over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import combinations
from typing import Literal

import msgspec
from msgspec import Struct

from tallystick.errors import TallyError
from tallystick.ledger import instant

from . import exchange, settle, store
from .desk import PLUGIN, Desk, Errand, Neighbour, compare, partner_of
from .errors import Mismatch
from .exchange import Answer, Message, Unreachable
from .jobs import settle_waiting
from .settle import Payment, SignedStatement, Statement


class PairResult(Struct, frozen=True, kw_only=True):
    """How a period stands between two brands."""

    brands: tuple[str, str]
    state: Literal["agreed", "disputed", "open"]  #: open: something still waits for an answer
    entries: int = 0
    owed: tuple[int, int] = (0, 0)  #: what the first owes the second, and the second the first
    root: str = ""
    signed: bool = False  #: both statements carry a signature that holds
    code: str = ""  #: why it is open or disputed


class Settlement(Struct, frozen=True, kw_only=True):
    """A settled period.  Amounts are minor units; pairs that do not agree are named, and nothing of them is netted."""

    period: str
    currency: str
    brands: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]  #: what the brand of the row owes the brand of the column
    positions: Mapping[str, int]  #: to receive (below 0: to pay); the sum is zero
    payments: tuple[Payment, ...]
    pairs: tuple[PairResult, ...]


def desks_of(errand: Errand) -> dict[str, Desk]:
    """The desks of all brands of this house, by brand."""
    house = errand.house
    found = {}
    for tenant, set_up in house.tenants().items():
        if PLUGIN in set_up.plugins:
            desk = Desk(house.errand(PLUGIN, tenant, "coalition.settle"))
            found[desk.brand] = desk
    return dict(sorted(found.items()))


def settle_period(desks: Mapping[str, Desk], period: str, currency: str) -> Settlement:
    """Close *period* between all pairs that have an agreement in *currency*, compare statements, and net what agrees.

    Done again it gives the same, as long as no book was changed.
    """
    for desk in desks.values():
        desk.errand.house.relay()
        settle_waiting(desk.errand, timedelta(0))
    pairs = _pairs(desks, currency)
    states = {(one.brand, two.brand): _close(one, two, period) for one, two in pairs}
    next(iter(desks.values())).errand.house.relay()  # what was recorded before the close is in the books now
    results = [
        PairResult(brands=(one.brand, two.brand), state="open", code=code)
        if (code := states[one.brand, two.brand])
        else _compare(one, two, period)
        for one, two in pairs
    ]
    return net(period, currency, tuple(desks), results)


def preview_period(desks: Mapping[str, Desk], period: str, currency: str) -> Settlement:
    """What a period comes to so far: both books of every pair are compared, and nothing is closed, signed or kept."""
    next(iter(desks.values())).errand.house.relay()
    results = []
    for one, two in _pairs(desks, currency):
        ours, theirs = one.draw_up(two.brand, period), two.draw_up(one.brand, period)
        results.append(
            PairResult(
                brands=(one.brand, two.brand), state="agreed" if ours == theirs else "disputed", entries=ours.entries,
                owed=ours.owed, root=ours.root, code="" if ours == theirs else Mismatch.code,
            )
        )  # fmt: skip
    return net(period, currency, tuple(desks), results)


def _pairs(desks: Mapping[str, Desk], currency: str) -> list[tuple[Desk, Desk]]:
    """Brands that have an agreement in this currency."""
    return [
        (desks[one], desks[two])
        for one, two in combinations(desks, 2)
        if (agreed := desks[one].agreement(two)) is not None and agreed.currency == currency
    ]


def net(period: str, currency: str, brands: Sequence[str], results: Sequence[PairResult]) -> Settlement:
    """What the pairs that agree come to over all brands."""
    owed: dict[tuple[str, str], int] = {}
    for pair in results:
        if pair.state == "agreed":
            one, two = pair.brands
            owed[one, two], owed[two, one] = pair.owed
    positions = dict.fromkeys(brands, 0) | settle.positions(owed)
    return Settlement(
        period=period, currency=currency, brands=tuple(brands),
        matrix=tuple(tuple(owed.get((row, column), 0) for column in brands) for row in brands),
        positions=positions, payments=tuple(settle.payments(positions)), pairs=tuple(results),
    )  # fmt: skip


def _close(one: Desk, two: Desk, period: str) -> str:
    """Close the period on both sides; why that cannot be done yet, or nothing."""
    try:
        way = partner_of(one, two.brand)
        exchange.close(one, two.brand, period)
        code = _ask(one, way, "close", period).code
    except Unreachable:
        return "unreachable"
    except TallyError as refusal:
        return refusal.code
    else:
        return code


def _compare(one: Desk, two: Desk, period: str) -> PairResult:
    """Each side draws up its own statement and compares it with the other's."""
    ours = _take(one, two.brand, period)
    theirs = _take(two, one.brand, period)
    agreed = ours.state == theirs.state == "agreed"
    return PairResult(
        brands=(one.brand, two.brand), state="agreed" if agreed else "disputed", entries=ours.statement.entries,
        owed=ours.statement.owed, root=ours.statement.root, signed=ours.signed and theirs.signed,
        code="" if agreed else Mismatch.code,
    )  # fmt: skip


class Taken(Struct, frozen=True, kw_only=True):
    """A partner's statement beside ours."""

    state: Literal["agreed", "disputed"]
    statement: Statement  #: ours
    signed: bool


def _take(desk: Desk, partner: str, period: str) -> Taken:
    """Take the partner's statement, compare it with our own books byte for byte, and write down both.

    Books that differ are proved entry by entry against the roots that both have signed.
    """
    way = partner_of(desk, partner)
    statement = desk.draw_up(partner, period)
    mine = desk.sign(statement)
    said = _ask(desk, way, "statement", period)
    given = msgspec.json.decode(said.body, type=SignedStatement)
    agreed = desk.agreement(partner)
    signed = agreed is not None and settle.is_signed(given, agreed.keys[partner])
    same = given.text == mine.text and (signed or not given.signature)
    dispute = (
        "" if same else compare(desk.list_entries(partner, period), _ask(desk, way, "entries", period).body, statement)
    )
    with desk.errand.house.db.begin() as conn:
        store.keep_statement(
            conn, desk.errand.tenant, partner, period, state="agreed" if same else "disputed",
            ours=msgspec.json.encode(mine).decode(), theirs=said.body, dispute=dispute, at=instant(desk.now),
        )  # fmt: skip
    return Taken(state="agreed" if same else "disputed", statement=statement, signed=signed and bool(mine.signature))


def _ask(desk: Desk, way: Neighbour, action: Literal["close", "statement", "entries"], period: str) -> Answer:
    return way.ask(Message(action=action, sender=desk.brand, at=desk.now, period=period))
