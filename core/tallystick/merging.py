"""Two members who turn out to be one person: everything of one goes over to the other, lot by lot, and can part again.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import NotFound
from .ledger import Account, Record, Step, Transfer, member_name, parse_member
from .page import Page
from .situation import Unit

RULE = "core.merge"


def merge(page: Page, source: int, into: int) -> Mapping[str, Any]:
    """Move *source*'s lots, deficits, counters and own rows to *into*; what must be remembered to part them again.

    Every lot keeps its expiry and provenance.  Of own rows (tiers, badges, vouchers) only those are copied whose name the
    other does not have; the source keeps its own.  Lots that wait for something stay until it happens, then follow.
    """
    working = page.working
    for account in working.accounts_of(source):
        pour(page, account, into)
    for (member, name, grain, start), value in sorted(working.counters.items()):
        if member == source and value:
            working.add((into, name, grain, start), value)
            page.counts = (*page.counts, (into, name, grain, start, value, ""))
    copied = []
    for plugin, key in sorted(working.own):
        if key != f"m:{source}":
            continue
        has = working.own.get((plugin, f"m:{into}"), {})
        for name, value in sorted(working.own[plugin, key].items()):
            if name not in has:
                working.put_own(plugin, f"m:{into}", name, into, value)
                copied.append([plugin, name])
    working.set(working.merged, source, into)
    return {"source": member_name(source), "into": member_name(into), "own": copied}


def pour(page: Page, account: Account, into: int) -> None:
    """Move all of *account* to the same unit of *into*: lots that wait for nothing, and the deficit."""
    working, unit = page.working, account.unit
    working.touch(account)
    target = working.touch(working.account(into, unit))
    page.expire(account)
    page.expire(target)
    parts = account.empty()
    moved = sum([amount for _, amount in parts])
    if parts:
        page.touched.add((account.member, unit))
        page.hand_over(account, parts, into, RULE)
    owed = account.deficit
    if owed:
        _pay(page, account, target, owed)
    if moved or owed:
        page.steps.append(
            Step(
                rule=RULE, effect="merge", unit=unit, amount=owed - moved if page.event.member == account.member else 0
            )
        )


def _pay(page: Page, account: Account, target: Account, owed: int) -> None:
    """*target* makes good what *account* owes, from its lots or by owing it itself."""
    unit = account.unit
    parts, opened = target.take_back(owed, page.now, Unit(name=unit, shortfall="negative"))
    for lot, amount in parts:
        page.transfers.append(Transfer(target.name, account.name, unit, amount, RULE, lot.name))
    if opened:
        page.transfers.append(Transfer(target.name, account.name, unit, opened, RULE))
    account.absorb(owed)
    page.touched |= {(target.member, unit), (account.member, unit)}


def follow(page: Page) -> None:
    """What an entry brought to members that are merged goes on to those they were merged into."""
    working = page.working
    for member, unit in sorted(page.touched):
        into = working.who(member)
        if into != member:
            account = working.account(member, unit)
            if account.deficit or any(lot.left and not lot.waits for lot in account.lots.values()):
                pour(page, account, into)


def part(page: Page, record: Record) -> tuple[int, int]:
    """Undo a merge as far as it can be: what is left of the lots goes back, counters and own rows are parted.

    What was spent meanwhile stays spent; an own row that changed meanwhile goes back as it is now.
    Returns (source, into).  Raises :class:`NotFound` if the two are not merged by that entry any more.
    """
    working = page.working
    merged: Mapping[str, Any] = (record.more or {}).get("merged", {})
    source, into = parse_member(merged.get("source", "")) or 0, parse_member(merged.get("into", "")) or 0
    if not source or working.merged.get(source) != into:
        raise NotFound("these two are not merged by that entry", pointer="/data/entry")
    working.set(working.merged, source, 0)
    del working.merged[source]
    _give_debts_back(page, record, source, into)
    for given in record.lots:
        found = working.lot(given.lot)
        if found is None or not found[2].left or found[0] != into:
            continue
        account = working.touch(working.account(into, given.unit))
        page.expire(account)
        if found[2].left:
            page.touched.add((into, given.unit))
            page.hand_over(account, account.empty([(found[2], found[2].left)]), source, RULE)
            page.steps.append(Step(rule=RULE, effect="part", unit=given.unit))
    page.uncount([(member, name, grain, start, amount) for member, name, grain, start, amount, _ in record.counts])
    for plugin, name in merged.get("own", ()):
        now = working.own.get((plugin, f"m:{into}"), {}).get(name)
        working.put_own(plugin, f"m:{source}", name, source, now)
        if now is not None:
            working.put_own(plugin, f"m:{into}", name, into, None)
    return source, into


def _give_debts_back(page: Page, record: Record, source: int, into: int) -> None:
    working = page.working
    # what was owed first, or what goes back into lots would be absorbed by it
    for transfer in sorted(record.transfers, key=lambda each: each.lot != ""):
        if transfer.debit != member_name(into) or transfer.credit != member_name(source):
            continue
        debtor = working.touch(working.account(source, transfer.unit))
        target = working.touch(working.account(into, transfer.unit))
        amount = transfer.amount if transfer.lot else min(transfer.amount, target.deficit)
        if not amount:
            continue
        debtor.absorb(-amount)
        page.touched |= {(source, transfer.unit), (into, transfer.unit)}
        if transfer.lot:
            page.give_back([(transfer.lot, amount)], transfer.unit, RULE, debit=debtor.name)
        else:
            target.absorb(amount)
            page.transfers.append(Transfer(debtor.name, target.name, transfer.unit, amount, RULE))
