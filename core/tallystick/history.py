"""A member's accounts played again from records: what every lot and balance was after the last one played.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from .ledger import LotGiven, Record


@attrs.define
class PastLot:
    """One lot as the records so far make it."""

    given: LotGiven
    left: int
    usable_from: int
    expires_at: int
    waits: str

    @classmethod
    def opened(cls, given: LotGiven) -> PastLot:
        """As it was opened."""
        return cls(given, given.left, given.usable_from, given.expires_at, given.waits)


@attrs.define
class PastAccount:
    """One unit of one member as the records so far make it."""

    posted: int = 0
    deficit: int = 0
    lots: dict[str, PastLot] = attrs.field(factory=dict)

    def usable(self, at: int) -> int:
        """What could be spent at the instant *at*."""
        return sum([lot.left for lot in self.lots.values() if lot.usable_from <= at < lot.expires_at]) - self.deficit

    def pending(self, at: int) -> int:
        """What was granted and could not be used yet."""
        return sum([lot.left for lot in self.lots.values() if lot.usable_from > at and lot.expires_at > at])

    def due(self, at: int) -> int:
        """What had expired and was not swept."""
        return sum([lot.left for lot in self.lots.values() if lot.expires_at <= at])


def play(holder: str, records: Iterable[Record]) -> dict[str, PastAccount]:
    """The accounts of *holder* by unit after *records*, which come in the order in which they were received.

    By the clock of whoever received it: where two clocks disagreed, what takes from a lot waits for what opened it.

    >>> play("m-000000000001", [])
    {}
    """
    accounts: dict[str, PastAccount] = {}
    early: list[Record] = []
    for record in records:
        early.append(record)
        while (now := next((each for each in early if _follows(accounts, holder, each)), None)) is not None:
            early.remove(now)
            _post(accounts, holder, now)
            _change_terms(accounts, now)
    return accounts


def _follows(accounts: Mapping[str, PastAccount], holder: str, record: Record) -> bool:
    """Whether all lots of *holder* that *record* takes from, adds to or releases are there."""
    named = {
        (transfer.unit, lot)
        for transfer in record.transfers
        for side, lot in ((transfer.debit, transfer.lot), (transfer.credit, transfer.into))
        if lot and side == holder
    }
    for step in record.explanation:
        if step.effect in {"usable", "awaits"} and step.data is not None and step.data["member"] == holder:
            named.add((step.unit, step.data["lot"]))
    named -= {(given.unit, given.lot) for given in record.lots}
    return all(unit in accounts and lot in accounts[unit].lots for unit, lot in named)


def _post(accounts: dict[str, PastAccount], holder: str, record: Record) -> None:
    fresh = set()
    for given in record.lots:
        if given.member == holder:
            account = accounts.setdefault(given.unit, PastAccount())
            account.lots[given.lot] = PastLot.opened(given)
            account.deficit -= given.amount - given.left  # what a deficit absorbed
            fresh.add(given.lot)
    for transfer in record.transfers:
        if transfer.credit == holder:
            account = accounts.setdefault(transfer.unit, PastAccount())
            account.posted += transfer.amount
            if not transfer.into:
                account.deficit -= transfer.amount
            elif transfer.into not in fresh:
                account.lots[transfer.into].left += transfer.amount
        if transfer.debit == holder:
            account = accounts.setdefault(transfer.unit, PastAccount())
            account.posted -= transfer.amount
            if transfer.lot:
                account.lots[transfer.lot].left -= transfer.amount
            else:
                account.deficit += transfer.amount


def _change_terms(accounts: dict[str, PastAccount], record: Record) -> None:
    """When lots can be used and when they expire, as releases, grace and extensions changed it."""
    for step in record.explanation:
        if step.data is None or step.unit not in accounts or step.effect not in {"usable", "awaits", "grace", "extend"}:
            continue
        lots = accounts[step.unit].lots
        if step.effect == "extend":
            until = step.data["expires_at"]
            for lot in lots.values():
                if lot.given.sliding and lot.left and record.received < lot.expires_at < until:
                    lot.expires_at = until
            continue
        lot_of = lots.get(step.data["lot"])
        if lot_of is None:  # another member's, in the same entry
            continue
        if step.effect == "usable":
            lot_of.usable_from, lot_of.waits = step.data["usable_from"], ""
        elif step.effect == "awaits":
            lot_of.waits = step.data["waits"]
        else:
            lot_of.expires_at = step.data["expires_at"]
