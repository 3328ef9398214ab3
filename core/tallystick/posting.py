"""Writes one batch: records, transfers, lots, balances, counters, orders, intents, and the link of the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import astuple as fields_of

from .effects import Command, Emit, Notify
from .events import Arrival
from .judge import Judged
from .ledger import Lot, canonical, chain_hash, leaf_hash, merkle_root, others_moved, parse_member
from .mending import repairable
from .store import Cursor, Row, Store
from .working import Working

#: arrival, entry, what came of it, and whether the house itself made the event (then its id is claimed now)
Done = tuple[Arrival, int, Judged, bool]


def post(
    store: Store,
    cur: Cursor,
    states: Mapping[str, Working],
    judged: Sequence[Done],
    *,
    lease: tuple[int, int],
    number: int,
    previous: bytes,
    now: int,
) -> None:
    """Append what was *judged*, in the order of entries, and the *states* it left, as batch *number* of the leased writer."""
    records, transfers, beside, claims, intents, bodies = [], [], [], [], [], []
    repairs: list[Row] = []
    repaired: list[Row] = []
    for _, entry, one, extra in judged:
        record, page, tenant = one.record, one.page, one.record.tenant
        body = canonical(record)
        bodies.append(body)
        member = int(record.member[2:]) if record.member else 0
        records.append((entry, tenant, member, record.received, body, one.sealed))
        for place, transfer in enumerate(record.transfers):
            transfers.append((entry, place, tenant, *fields_of(transfer)))
        if extra:
            claims.append((record.tenant, record.source, record.id, entry))
        if len(page.touched) > len(record.balances):  # somebody else's, too
            beside += [(record.tenant, parse_member(name) or 0, entry) for name in others_moved(record)]
        if page.intents or page.emits:
            intents += _intents(one, entry, member)
        if page.kept:
            first = repairable(one.skipped)[0]
            repairs.append((record.tenant, entry, first.plugin, first.hook, page.kept, 0))
        if page.repairs:
            repaired.append((entry, record.tenant, page.repairs))
    store.append_claims(cur, claims)
    store.append_records(cur, records)
    store.append_transfers(cur, transfers)
    store.append_entry_members(cur, beside)
    for tenant, working in states.items():
        _post_accounts(store, cur, tenant, working)
        _post_orders(store, cur, tenant, working)
        _post_rest(store, cur, tenant, working)
    store.append_intents(cur, intents)
    store.append_repairs(cur, repairs)
    store.mark_repaired(cur, repaired)
    link(store, cur, bodies, lease, number, previous, now)


def link(
    store: Store, cur: Cursor, bodies: Sequence[bytes], lease: tuple[int, int], number: int, previous: bytes, now: int
) -> None:
    """Append the batch's row: the Merkle root over *bodies*, in the order of their entries, and the link of the chain."""
    root = merkle_root([leaf_hash(body) for body in bodies])
    count, (writer, epoch) = len(bodies), lease
    chain = chain_hash(previous, root, writer, number, count)
    store.append_batch(cur, (writer, number, epoch, now, count, root, previous, chain))


def _post_accounts(store: Store, cur: Cursor, tenant: str, working: Working) -> None:
    fresh: list[Row] = []
    changed: list[Row] = []
    for (member, unit), account in working.accounts.items():
        state = (account.posted, account.deficit)
        if account.was is None:
            if account.lots or state != (0, 0):
                fresh.append((tenant, member, unit, *state))
        elif account.was != state:
            changed.append((*state, account.was[0], tenant, member, unit))
    if working.extended:
        store.extend_lots(cur, [(expires, now, tenant, m, u) for expires, now, m, u in working.extended])
    store.append_lots(
        cur,
        [
            (tenant, m, u, lot.entry, lot.part, lot.amount, lot.left, lot.usable_from, lot.expires_at, int(lot.sliding),
             lot.waits, lot.issuer)
            for m, u, lot in working.opened
        ],
    )  # fmt: skip
    if len(working.lots) > len(working.opened):
        _change_lots(store, cur, tenant, working)
    store.put_balances(cur, fresh, changed)


def _change_lots(store: Store, cur: Cursor, tenant: str, working: Working) -> None:
    lots: dict[tuple[int, int], tuple[int, str, Lot]] = {lot.key: (m, u, lot) for m, u, lot in working.lots.values()}
    for (member, unit), account in working.accounts.items():
        for key, lot in account.lots.items():
            lots[key] = (member, unit, lot)
    store.change_lots(
        cur,
        [
            (lot.left, lot.usable_from, lot.expires_at, lot.waits, lot.was[0] if lot.was else 0, tenant, m, u, lot.entry,
             lot.part)
            for _, (m, u, lot) in sorted(lots.items())
            if not lot.fresh and lot.changed
        ],
    )  # fmt: skip


def _post_orders(store: Store, cur: Cursor, tenant: str, working: Working) -> None:
    fresh, changed = [], []
    for entries in working.orders.values():
        for row in entries:
            state = row.row
            if row.fresh:
                fresh.append((tenant, row.order, row.entry, state[0], row.member, row.value, *state[1:]))
            elif state != row.was:
                changed.append((*state, tenant, row.order, row.entry))
    store.append_order_entries(cur, fresh)
    store.change_orders(cur, changed)


def _post_rest(store: Store, cur: Cursor, tenant: str, working: Working) -> None:
    store.add_counters(cur, [(tenant, *key, amount) for key, amount in sorted(working.counted.items()) if amount])
    store.add_taken(cur, [(tenant, *key, amount) for key, amount in sorted(working.took.items())])
    if working.stocked or working.stock_set:
        taken = {(tenant, key): n for key, n in working.stocked.items() if key not in working.stock_set and n}
        store.change_stock(cur, taken, [(tenant, key, working.stock[key]) for key in sorted(working.stock_set)])
    if working.put:
        put = sorted(working.put.items())
        rows = [
            (tenant, plugin, key, name, member, msgspec.json.encode(value).decode())
            for (plugin, key, name), (member, value) in put
            if value is not None
        ]
        store.put_own(cur, rows, [(tenant, *key) for key, (_, value) in put if value is None])


def _intents(one: Judged, entry: int, member: int) -> list[Row]:
    rows: list[Row] = []
    for effect in [*one.page.intents, *one.page.emits]:
        channel = {Notify: "notify", Command: "command", Emit: "event"}[type(effect)]
        to = getattr(effect, "to", 0) or getattr(effect, "member", 0) or member
        key = getattr(effect, "key", "") or f"{one.record.entry}/{len(rows)}"
        rows.append((entry, len(rows), one.record.tenant, to, channel, key, msgspec.json.encode(effect)))
    return rows
