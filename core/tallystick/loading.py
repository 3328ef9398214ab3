"""Locks and reads what the events of one batch need: nothing read earlier decides anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date
from typing import Any

import msgspec

from . import deferring, vault
from .events import Arrival, Event
from .generation import Generation, fill
from .judge import Judge
from .ledger import Account, entry_name, moment, parse_entry, parse_member, read_record
from .mending import REPAIRED_KIND, Mending
from .pipeline import Plan
from .repairing import seen_then
from .situation import Member, Needs
from .store import Cursor, Store
from .windows import grain_of, start_of
from .working import OrderEntry, Person

#: An event, the entry it will have, and when it was received (microseconds since 1970).
Work = Sequence[tuple[Arrival, int, int]]

#: Kinds that look back at what an order did.
_BACK = frozenset({"purchase.refunded", "purchase.cancelled", "order.advanced", "order.claimed"})
_DECISIONS = frozenset({"entry.released", "entry.voided"})
#: Kinds that can only add: their members' lots are not read unless a rule asks for balances.
_EARNS = frozenset({"purchase.completed", "member.enrolled"})
_ABOUT_ENTRIES = _DECISIONS | {"member.unmerged", REPAIRED_KIND}
_MERGES = frozenset({"member.merged", "member.unmerged"})


class _Wants:
    """What the plans of one batch ask for: counters, stock, own rows, profiles."""

    def __init__(self) -> None:
        self.profile = False
        self.counters: dict[tuple[str, str], int] = {}  #: (counter, grain) -> the first bucket that a window needs
        self.shared_counters: set[str] = set()
        self.stock: set[str] = set()
        self.own: set[int] = set()  #: members all of whose rows are read
        self.shared_own: set[tuple[str, str]] = set()  #: (plugin, key) of rows that are nobody's own

    def count(self, needs: Needs, day: date) -> None:
        """Counters as they stand around *day*."""
        for name, window in needs.counters:
            bucket, start = (name, grain_of(window)), start_of(window, day)
            self.counters[bucket] = min(start, self.counters.get(bucket, start))
            if window == "budget":
                self.shared_counters.add(name)

    def fill(self, plan: Plan, event: Event) -> None:
        """Stock and own rows, their key templates filled from *event*."""
        self.stock |= {key for template in plan.needs.stock if (key := fill(template, event))}
        for plugin, templates in plan.own.items():
            for template in templates:
                key = fill(template, event)
                if key:
                    self.add_own(plugin, key)

    def add_own(self, plugin: str, key: str) -> None:
        """The rows that *plugin* keeps under *key*."""
        if key.startswith("m:") and key[2:].isdigit():
            self.own.add(int(key[2:]))
        else:
            self.shared_own.add((plugin, key))


class Loader:
    """Locks and reads what the events of one tenant in one batch need.  The order of locks is the same everywhere:
    claims, orders, members, shared counters, shared rows, stock.
    """

    def __init__(self, store: Store, cur: Cursor, judge: Judge, work: Work) -> None:
        self.store, self.cur, self.judge, self.work = store, cur, judge, work
        self.working, self.generation, self.secret = judge.working, judge.generation, judge.secret
        self.tenant = judge.working.tenant
        self.whole: set[int] = set()  #: members whose lots are needed
        self.members: set[int] = set()
        self.entries: set[int] = set()
        self.lot_entries: set[int] = set()  #: entries whose lots are needed even if nothing is left in them
        self.looking_back: set[str] = set()  #: orders of which something is taken back or linked

    def load(self) -> None:
        """Fill the working state."""
        self._orders()
        self._people()
        self._keys()

    def _orders(self) -> None:
        orders = set()
        for arrival, _, _ in self.work:
            if arrival.kind in _ABOUT_ENTRIES:
                number = parse_entry(arrival.facts.entry)  # type: ignore[attr-defined]
                if number is not None:
                    orders.add(f"entry/{entry_name(number)}")
                    self.entries.add(number)
            else:
                order = getattr(arrival.facts, "order", "")
                if order:
                    orders.add(order)
        if not orders:
            return
        store, cur, working = self.store, self.cur, self.working
        if self.entries:  # what is decided about an order's entry waits for whoever takes that order back
            records = store.load_records(cur, self.tenant, sorted(self.entries)).values()
            orders |= {order for body, _ in records if (order := read_record(body).order)}
        mended = self._mended()
        orders |= mended
        store.lock_orders(cur, self.tenant, orders)
        self.looking_back = {arrival.facts.order for arrival, _, _ in self.work if arrival.kind in _BACK}  # type: ignore[attr-defined]
        self.looking_back |= mended
        self._order_entries(orders)
        if self.entries:
            self._originals(self.entries)
            held = [f"entry/{r.entry}" for r, _ in working.originals.values() if r.status in ("held", "step_up")]
            if held:  # their orders are locked: nobody decides about them meanwhile
                self._order_entries({name for name in held if name not in working.orders})

    def _mended(self) -> set[str]:
        """Orders of entries that are to be made good; whose gains these were, and what was decided, is noted."""
        mended = [arrival.facts for arrival, _, _ in self.work if isinstance(arrival.facts, Mending)]
        if not mended:
            return set()
        orders = set()
        entries = {number for facts in mended if (number := parse_entry(facts.entry)) is not None}
        while entries:
            found = self.store.load_records(self.cur, self.tenant, sorted(entries)).values()
            records = [read_record(body) for body, _ in found]
            self.entries |= entries
            orders |= {record.order for record in records if record.order}
            # a decision follows from what was decided: that is what plugins saw
            entries = {parse_entry((record.more or {}).get("decides", "")) or 0 for record in records} - {0}
        for facts in mended:
            self.members |= set(facts.kept.others.values())
            self.whole |= set(facts.kept.others.values())
        return orders

    def _order_entries(self, orders: Collection[str]) -> None:
        working = self.working
        for order, entry, role, member, value, returned, lines in self.store.load_order_entries(
            self.cur, self.tenant, orders
        ):
            row = OrderEntry(order, entry, role, member, value, returned, lines, fresh=False)
            working.orders.setdefault(order, []).append(row)
            if role == "parked":
                self.looking_back.add(order)
        for order in self.looking_back.intersection(orders):  # what paid for it may have come before what waits for it
            self.entries |= {row.entry for row in working.orders.get(order, ())}

    def _originals(self, entries: Iterable[int]) -> None:
        found = self.store.load_records(self.cur, self.tenant, sorted(entries))
        for entry, (body, facts) in found.items():
            record = read_record(body)
            self.working.originals[entry] = (record, facts)
            if record.member:
                self.members.add(int(record.member[2:]))
            for transfer in record.transfers:
                for name in (transfer.lot, transfer.into):
                    if name:
                        self.lot_entries.add(parse_entry(name.rpartition(".")[0]) or 0)
            waiting: Sequence[str] = (record.more or {}).get("to", ())
            for holder in {*waiting, *[t.debit for t in record.transfers], *[t.credit for t in record.transfers]}:
                number = parse_member(holder)
                if number is not None:
                    self.members.add(number)
                    self.whole.add(number)

    def _people(self) -> None:
        store, cur, working, tenant = self.store, self.cur, self.working, self.tenant
        references: set[str] = set()
        for arrival, _, _ in self.work:
            if arrival.member:
                references.add(arrival.member)
            kind = self.generation.kinds.get(arrival.kind)
            if kind is not None and kind.members:
                references |= {value for field in kind.members if (value := getattr(arrival.facts, field, None))}
        numbers = {reference: number for reference in references if (number := parse_member(reference)) is not None}
        named = {
            vault.fingerprint(self.secret, tenant, reference): reference
            for reference in references
            if reference not in numbers
        }
        if named:
            numbers |= {named[found]: number for found, number in store.find_members(cur, tenant, list(named)).items()}
        wanted = {*numbers.values(), *self.members}
        merged: dict[int, int] = {}
        while wanted:
            rows = store.lock_members(cur, tenant, wanted)
            wanted = set()
            for number, status, enrolled_at, secret, tags, merged_into, language in rows:
                view = Member(
                    number,
                    status,
                    moment(enrolled_at),
                    tuple(msgspec.json.decode(tags)) if tags != "[]" else (),
                    None,
                    {},
                    language,
                )
                working.people[number] = Person(number, bytes(secret) if secret is not None else None, view)
                if merged_into:
                    merged[number] = merged_into
                    if merged_into not in working.people:
                        wanted.add(merged_into)
        for reference, number in numbers.items():
            into = number
            while into in merged:
                into = merged[into]
            working.references[reference] = into
        working.merged = merged
        self.members |= set(working.references.values())
        joined = {*merged, *merged.values()}  # what comes to one goes on to the other
        self.members |= joined
        self.whole |= joined

    def _keys(self) -> None:
        wants = self._wants()
        store, cur, working, tenant = self.store, self.cur, self.working, self.tenant
        members = sorted(self.members)
        merging = any(arrival.kind in _MERGES for arrival, _, _ in self.work)
        if merging:
            self.whole |= self.members
        self._put_off(wants)
        store.lock_shared_counters(cur, tenant, wants.shared_counters)
        store.lock_own(cur, tenant, wants.shared_own)
        if working.originals:  # read behind the locks of all who hold something of them
            working.taken.update(store.load_taken(cur, tenant, sorted(working.originals)))
        self._accounts(members)
        if wants.profile:
            working.profiles = store.load_profiles(cur, tenant, members)
        counters: Iterable[tuple[Any, ...]] = ()
        if merging:
            counters = store.load_all_counters(cur, tenant, members)
        elif wants.counters:
            owners = [0, *members] if wants.shared_counters else members
            counters = store.load_counters(cur, tenant, owners, wants.counters)
        for member, name, grain, start, value in counters:
            working.counters[member, name, grain, start] = value
        if self.generation.ladders or merging:
            wants.own |= self.members
        for plugin, key, name, value in store.load_own(cur, tenant, wants.own - {0}, wants.shared_own):  # 0: a guest
            if name:
                working.own.setdefault((plugin, key), {})[name] = msgspec.json.decode(value)
        if wants.stock or self.entries:
            wants.stock |= {key for record, _ in working.originals.values() for key, _, _ in record.takes}
            working.stock = store.lock_stock(cur, tenant, wants.stock)

    def _put_off(self, wants: _Wants) -> None:
        """Rows that held entries which are decided about were to write."""
        for record, _ in self.working.originals.values() if self.entries else ():
            for plugin, key, _ in deferring.rows_of(record, parse_member(record.member) or 0):
                wants.add_own(plugin, key)

    def _accounts(self, members: Collection[int]) -> None:
        store, cur, working, tenant = self.store, self.cur, self.working, self.tenant
        for member, unit, posted, deficit in store.load_balances(cur, tenant, members):
            account = working.accounts[member, unit] = Account(member, unit, posted, deficit, stored=True)
            account.complete = member in self.whole
        if self.whole:
            working.fill_lots(store.load_lots(cur, tenant, sorted(self.whole)), whole=True)
            if self.lot_entries:  # of the same entry may be lots of somebody who is not locked: not ours to touch
                lots = store.load_lots_of(cur, tenant, sorted(working.people), sorted(self.lot_entries))
                working.fill_lots(lots, whole=True)
                self._expired()

    def _expired(self) -> None:
        """What expired of the lots of which something may be taken back: nobody had that."""
        now = max(received for _, _, received in self.work)
        for record, _ in self.working.originals.values():
            for given in record.lots:
                found = self.working.lot(given.lot)
                if found is not None and found[2].expires_at <= now:
                    self.working.expired[given.lot] = self.store.load_expired(
                        self.cur, self.tenant, found[0], given.lot, found[2].expires_at
                    )

    def _wants(self) -> _Wants:
        """What all plans of the batch ask for together; whose lots are needed is noted on the way."""
        wants = _Wants()
        plans: dict[tuple[int, str], Plan | None] = {}
        plain: dict[tuple[int, str], bool] = {}  # whether only rows of the event's own member are asked for
        counted: set[tuple[int, str, date]] = set()
        for generation, kind, arrival, event in [*self._first_hand(), *self._second_hand()]:
            key = (generation.number, kind)
            if key not in plans:
                # the house's own kinds are nobody's business
                plans[key] = generation.pipeline.plan(kind) if kind in generation.kinds else None
            plan = plans[key]
            if plan is None:
                self._whole(arrival)
                continue
            if self._takes(plan, kind, arrival):
                self._whole(arrival)
                if event is not None:
                    self.whole |= {event.member} & self.members
            needs = plan.needs
            wants.profile = wants.profile or needs.profile
            if needs.counters:
                day = generation.programme.local_date(arrival.at if event is None else event.at)
                if (*key, day) not in counted:
                    counted.add((*key, day))
                    wants.count(needs, day)
            if needs.stock or plan.own:
                if key not in plain:
                    plain[key] = not needs.stock and all(set(keys) == {"{member}"} for keys in plan.own.values())
                if plain[key] and event is None:
                    wants.own.add(self.working.references.get(arrival.member, 0))
                else:
                    wants.fill(plan, event or self._event(arrival))
        return wants

    def _takes(self, plan: Plan, kind: str, arrival: Arrival) -> bool:
        """Whether an event may take from lots, so that they must be known."""
        return (
            kind not in _EARNS
            or bool(plan.needs.balances)
            or plan.redeem is not None
            or (bool(self.looking_back) and getattr(arrival.facts, "order", "") in self.looking_back)
        )

    def _first_hand(self) -> Iterator[tuple[Generation, str, Arrival, Event | None]]:
        """What each event of the batch asks for, with the generation that judges it."""
        older = self.judge.older
        for arrival, entry, _ in self.work:
            yield older.get(entry, self.generation) if older else self.generation, arrival.kind, arrival, None

    def _second_hand(self) -> Iterator[tuple[Generation, str, Arrival, Event | None]]:
        """What events ask for that look back at others: refunds at the buyer, decisions and claims at what they bring about."""
        if not self.looking_back and not self.entries:
            return
        working, older = self.working, self.judge.older
        sold = {a.facts.order: a for a, _, _ in self.work if a.kind == "purchase.completed"}  # type: ignore[attr-defined]
        for arrival, entry, _ in self.work:
            generation = older.get(entry, self.generation)
            if arrival.kind in _ABOUT_ENTRIES:
                event = self._looked_at(arrival)
                if event is not None and event.kind in generation.kinds:
                    yield generation, event.kind, arrival, event
                continue
            order = getattr(arrival.facts, "order", "")
            if order not in self.looking_back:
                continue
            rows = working.order(order, "sale")
            buyer = rows[-1].member if rows else working.references.get(sold[order].member, 0) if order in sold else 0
            if arrival.kind == "order.claimed":
                found = working.originals.get(rows[-1].entry) if rows else None
                event = (
                    self.judge.looked_at(*found)
                    if found is not None
                    else self._event(sold[order])
                    if order in sold
                    else None
                )
                buyer = working.references.get(arrival.member, 0)
                if event is not None:
                    yield generation, event.kind, arrival, msgspec.structs.replace(event, member=buyer)
            elif arrival.kind == "purchase.completed":
                for row in working.order(order, "parked"):
                    event = self.judge.looked_at(*working.originals[row.entry])
                    if event is not None:
                        member = working.references.get(arrival.member, 0)
                        yield self.generation, event.kind, arrival, msgspec.structs.replace(event, member=member)
            elif buyer:
                yield generation, arrival.kind, arrival, msgspec.structs.replace(self._event(arrival), member=buyer)

    def _looked_at(self, arrival: Arrival) -> Event | None:
        """The event that a decision or a repair is about, as plugins saw it."""
        if isinstance(arrival.facts, Mending):
            then = seen_then(self.judge, arrival.facts)
            return then[1] if then is not None else None
        found = self.working.originals.get(parse_entry(arrival.facts.entry) or 0)  # type: ignore[attr-defined]
        return self.judge.looked_at(*found) if found is not None and arrival.kind in _DECISIONS else None

    def _whole(self, arrival: Arrival) -> None:
        number = self.working.references.get(arrival.member)
        if number is not None:
            self.whole.add(number)

    def _event(self, arrival: Arrival) -> Event:
        kind = self.generation.kinds.get(arrival.kind)
        references = self.working.references
        others = {
            field: references.get(getattr(arrival.facts, field, None) or "", 0)
            for field in (kind.members if kind is not None else ())
        }
        return Event(
            tenant=arrival.tenant, id=arrival.id, source=arrival.source, kind=arrival.kind, at=arrival.at, received=arrival.at,
            member=references.get(arrival.member, 0), facts=arrival.facts, others=others,
        )  # fmt: skip
