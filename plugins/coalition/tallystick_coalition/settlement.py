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

from . import clearing, exchange, settle, store
from .desk import PLUGIN, Desk, Errand, compare, partner_of
from .errors import Mismatch, OutsideTerms
from .exchange import Answer, Message, Partner, Unreachable
from .jobs import settle_waiting
from .line import Line
from .settle import Entry, Payment, SignedStatement, Statement


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


def settle_period(desks: Mapping[str, Desk], period: str, currency: str, *, early: bool = False) -> Settlement:
    """Close *period* between all pairs that have an agreement in *currency*, compare statements, and net what agrees.

    A partner in another deployment settles for itself; here its statement is asked for and compared.  *early* closes a month
    that is not over.  Done again it gives the same, as long as no book was changed.
    """
    next(iter(desks.values())).errand.house.relay()
    for desk in desks.values():
        settle_waiting(desk.errand, timedelta(0))
    pairs = _pairs(desks, currency)
    states = clearing.close_pairs(pairs, period, early=early)
    far = [(desk, line, _close_line(desk, line, period, early=early)) for desk, line in _lines(desks, currency)]
    next(iter(desks.values())).errand.house.relay()  # what was recorded before the close is in the books now
    compared = clearing.compare_pairs([pair for pair in pairs if not states[pair[0].brand, pair[1].brand]], period)
    results = [
        PairResult(brands=brands, state="open", code=code) if code else _result(brands, compared[brands])
        for brands, code in states.items()
    ]
    results += [_compare_line(desk, line, period, code) for desk, line, code in far]
    return net(period, currency, _brands(desks, results), results)


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
    results += [
        _open(desk.draw_up(line.name, period), OutsideTerms.code) for desk, line in _lines(desks, currency)
    ]  # a partner elsewhere hands out no statement of a period that is not closed
    return net(period, currency, _brands(desks, results), results)


def _brands(desks: Mapping[str, Desk], results: Sequence[PairResult]) -> tuple[str, ...]:
    return tuple(sorted({*desks, *(brand for pair in results for brand in pair.brands)}))


def _lines(desks: Mapping[str, Desk], currency: str) -> list[tuple[Desk, Line]]:
    """Brands of this house, and their partners in other deployments with whom they have an agreement in this currency."""
    return [
        (desk, Line(desk.errand, partner))
        for desk in desks.values()
        for name, partner in sorted(desk.errand.plugin.settings.partners.items())
        if partner.url and (agreed := desk.agreement(name)) is not None and agreed.currency == currency
    ]


def _open(statement: Statement, code: str) -> PairResult:
    return PairResult(
        brands=statement.brands,
        state="open",
        entries=statement.entries,
        owed=statement.owed,
        root=statement.root,
        code=code,
    )


def _pairs(desks: Mapping[str, Desk], currency: str) -> list[tuple[Desk, Desk]]:
    """Brands that have an agreement in this currency."""
    agreed = {brand: clearing.agreements_of(desk, desks) for brand, desk in desks.items()}
    return [
        (desks[one], desks[two])
        for one, two in combinations(desks, 2)
        if (found := agreed[one].get(two)) is not None and found.currency == currency
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


def _close_line(desk: Desk, way: Partner, period: str, *, early: bool) -> str:
    """Close the period here and ask the partner to close it there; why that cannot be done yet, or nothing."""
    try:
        exchange.close(desk, way.name, period, early=early)
        code = _ask(desk, way, "close", period).code
    except Unreachable:
        return "unreachable"
    except TallyError as refusal:
        return refusal.code
    else:
        return code


def _result(brands: tuple[str, str], found: clearing.Compared) -> PairResult:
    """How a month stands between two brands of this house."""
    statement = found.statement
    return PairResult(
        brands=brands, state="agreed" if found.agreed else "disputed", entries=statement.entries, owed=statement.owed,
        root=statement.root, signed=found.signed, code="" if found.agreed else Mismatch.code,
    )  # fmt: skip


def _compare_line(desk: Desk, line: Line, period: str, code: str) -> PairResult:
    """The statement of a partner in another deployment compared with ours; the partner compares for itself."""
    statement = desk.draw_up(line.name, period)
    if code:
        return _open(statement, code)
    ours = desk.sign(statement)
    try:
        answer = _ask(desk, line, "statement", period)
        if answer.state == "refused":
            return _open(statement, answer.code)
        theirs = msgspec.json.decode(answer.body, type=SignedStatement)
    except Unreachable:
        return _open(statement, "unreachable")
    except msgspec.MsgspecError:
        return _open(statement, Mismatch.code)
    signed = _is_signed(desk, line.name, theirs)
    agreed = signed and ours.text == theirs.text
    try:
        _keep(desk, line.name, period, "agreed" if agreed else "disputed", ours, theirs)
    except Unreachable:
        return _open(statement, "unreachable")
    return PairResult(
        brands=statement.brands, state="agreed" if agreed else "disputed", entries=statement.entries, owed=statement.owed,
        root=statement.root, signed=signed and bool(ours.signature), code="" if agreed else Mismatch.code,
    )  # fmt: skip


def _is_signed(desk: Desk, partner: str, given: SignedStatement) -> bool:
    """Whether the partner signed it with a key that our agreement knows."""
    agreed = desk.agreement(partner)
    return agreed is not None and settle.is_signed(given, agreed.keys[partner])


def _keep(desk: Desk, partner: str, period: str, state: str, ours: SignedStatement, theirs: SignedStatement) -> None:
    dispute = ""
    if state == "disputed":
        said = _ask(desk, partner_of(desk, partner), "entries", period).body
        dispute = _differences(desk.list_entries(partner, period), said, msgspec.json.decode(ours.text, type=Statement))
    with desk.errand.house.db.begin() as conn:
        store.keep_statement(
            conn, desk.errand.tenant, partner, period, state=state, ours=msgspec.json.encode(ours).decode(),
            theirs=msgspec.json.encode(theirs).decode(), dispute=dispute, at=instant(desk.now),
        )  # fmt: skip


def _differences(ours: Sequence[Entry], said: str, mine: Statement) -> str:
    """What differs, with proofs; a partner whose entries are none differs in everything that we have."""
    try:
        return compare(ours, said, mine)
    except (msgspec.MsgspecError, ValueError):
        return compare(ours, "[]", mine)


def _ask(desk: Desk, way: Partner, action: Literal["close", "statement", "entries"], period: str) -> Answer:
    return way.ask(Message(action=action, sender=desk.brand, at=desk.now, period=period))
