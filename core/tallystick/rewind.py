"""A member's state taken back to what it was before one entry: for questions about the past."""

from __future__ import annotations

from collections.abc import Iterable

from .history import play
from .ledger import Lot, Record, member_name, parse_entry
from .working import Working


def rewind(working: Working, member: int, earlier: Iterable[Record], later: Iterable[Record]) -> None:
    """Let *working* hold *member*'s accounts, counters and tiers as they were after *earlier* and before *later*.

    Both are in the order in which they were received.  What a whole programme shares (budgets, shelves), profiles, tags and
    own rows of plugins are not in a member's records: they stay as they are.
    """
    earlier = list(earlier)
    for account in [account for (number, _), account in working.accounts.items() if number == member]:
        account.posted = account.deficit = 0
        account.lots.clear()
    for unit, past in play(member_name(member), earlier).items():
        account = working.account(member, unit)
        account.posted, account.deficit = past.posted, past.deficit
        for name, lot in past.lots.items():
            entry, _, part = name.rpartition(".")
            given = lot.given
            key = (parse_entry(entry) or 0, int(part))
            account.lots[key] = Lot(
                *key, given.amount, lot.left, lot.usable_from, lot.expires_at, given.sliding, lot.waits, given.issuer
            )
    for record in later:
        for owner, counter, grain, first, amount, _ in record.counts:
            if owner == member and (owner, counter, grain, first) in working.counters:
                working.counters[owner, counter, grain, first] -= amount
    tiers = {
        f"tier:{step.data['ladder']}": {"tier": step.data["tier"]}
        for record in earlier
        for step in record.explanation
        if step.effect == "tier" and step.data is not None and record.member == member_name(member)
    }
    own = working.own.get(("core", f"m:{member}"), {})
    working.own["core", f"m:{member}"] = {
        **{name: row for name, row in own.items() if not name.startswith("tier:")},
        **tiers,
    }
