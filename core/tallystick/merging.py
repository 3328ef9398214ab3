"""Two members who turn out to be one person: everything of one goes over to the other, lot by lot, and can part again.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from .effects import Effect, Emit, Notify, Put, SetTier
from .errors import NotFound
from .events import Event
from .ledger import Account, Record, Step, Transfer, member_name, parse_member
from .page import Page
from .situation import Unit

RULE = "core.merge"
#: What a plugin makes of its own rows of two members: (plugin, event, rows of the one who goes, of the one who remains).
Join = Callable[[str, Event, Mapping[str, Any], Mapping[str, Any]], Sequence[Effect]]


def merge(page: Page, source: int, into: int, join: Join) -> Mapping[str, Any]:
    """Move *source*'s lots, deficits, counters and own rows to *into*; what must be remembered to part them again.

    Every lot keeps its expiry and provenance.  Of own rows (tiers, badges, vouchers) those are copied whose name the other
    does not have, unless their plugin says otherwise; the source keeps its own.  Lots that wait for something stay until it
    happens, then follow.
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
    joined, failed = _join(page, source, into, {(plugin, name) for plugin, name in copied}, join)
    copied = [each for each in copied if each not in [[plugin, name] for plugin, name, *_ in joined]]
    working.set(working.merged, source, into)
    merged: dict[str, Any] = {"source": member_name(source), "into": member_name(into), "own": copied}
    return merged | ({"joined": joined} if joined else {}) | ({"failed": failed} if failed else {})


def _join(
    page: Page, source: int, into: int, copied: set[tuple[str, str]], join: Join
) -> tuple[list[list[Any]], list[str]]:
    """Ask each plugin for its own rows: [plugin, name, what *into* had, what it has now], and the plugins that failed."""
    working, event, joined, failed = page.working, page.event, [], []
    page.event = remains = replace(event, member=into)
    theirs = {plugin: rows for (plugin, key), rows in sorted(working.own.items()) if key == f"m:{source}" and rows}
    for plugin, rows in theirs.items():
        now = working.own.get((plugin, f"m:{into}"), {})
        had = {name: value for name, value in now.items() if (plugin, name) not in copied}
        try:
            effects = join(plugin, remains, rows, had)
        except Exception:  # noqa: BLE001  a stranger's code may raise anything; what was copied stands
            failed.append(plugin)
            continue
        named = [(plugin, each.name) for each in effects if isinstance(each, Put) and each.key == "{member}"]
        tiers = [each for each in effects if isinstance(each, SetTier)]
        named += [("core", f"tier:{each.ladder}") for each in tiers]
        before = {
            (owner, name): None if (owner, name) in copied else working.own.get((owner, f"m:{into}"), {}).get(name)
            for owner, name in named
        }
        page.follow(
            [each for each in effects if isinstance(each, Put)], tiers, (),
            [replace(each, to=into) for each in effects if isinstance(each, Notify)],
            [replace(each, member=into) for each in effects if isinstance(each, Emit)],
        )  # fmt: skip
        for (owner, name), was in before.items():
            joined.append([owner, name, was, working.own.get((owner, f"m:{into}"), {}).get(name)])
    page.event = event
    return joined, failed


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
    for plugin, name, was, then in merged.get("joined", ()):
        if working.own.get((plugin, f"m:{into}"), {}).get(name) == then:  # what changed meanwhile stays as it is
            working.put_own(plugin, f"m:{into}", name, into, was)
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
