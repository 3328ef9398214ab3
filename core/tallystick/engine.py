"""The use cases on the event path: lock, read all, think, write all; one transaction per batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import sqlalchemy as sa

from . import database, vault
from .effects import Command, Emit, Notify
from .errors import (
    EventConflict,
    TallyError,
    TenantNotServed,
    TooLate,
    Unavailable,
    UnknownMember,
    UnknownTenant,
)
from .events import Arrival, Event, EventKind
from .generation import Generation, fill
from .intake import read_document
from .judge import EXPIRED_KIND, Judge, Judged, NoFacts
from .ledger import (
    DAY,
    MAX_BATCH,
    NEVER,
    Account,
    Record,
    canonical,
    chain_hash,
    entry_number,
    instant,
    leaf_hash,
    member_name,
    merkle_root,
    moment,
    parse_entry,
    parse_member,
    read_record,
)
from .pipeline import Plan
from .situation import Member
from .outbox import Committed
from .store import Cursor, Store
from .windows import grain_of, start_of
from .working import OrderEntry, Person, Working

#: Derived events stop here: a plugin that answers its own events would never end.
MAX_DEPTH = 8
#: How long one batch is tried again after deadlocks and lost connections, in seconds.
PATIENCE = 8.0

#: Kinds that look back at what an order did.
_BACK = frozenset({"purchase.refunded", "purchase.cancelled", "order.advanced", "order.claimed"})
_DECISIONS = frozenset({"entry.released", "entry.voided"})


class Receipt(NamedTuple):
    """The answer to an accepted event: the record, and whether it had been recorded before."""

    record: Record
    repeated: bool = False


Outcome = Receipt | TallyError


#: arrival, entry, what came of it, and whether the house itself made the event (then its id is claimed now)
Done = tuple[Arrival, int, Judged, bool]


class Generations(Protocol):
    """Where the engine gets the generation that judges: the house keeps compiled ones and reads new ones."""

    def current(self, tenant: str, number: int) -> Generation: ...
    def at(self, tenant: str, instant: int) -> Generation: ...
    def latest(self, tenant: str) -> Generation: ...


class Engine:
    """Records events for one writer.  Not safe for threads: one writer, one thread."""

    def __init__(
        self,
        db: sa.Engine,
        generations: Generations,
        secret: bytes,
        *,
        writer: int,
        epoch: int = 1,
        clock: Callable[[], int],
    ) -> None:
        self.db, self.generations, self.secret = db, generations, secret
        self.writer, self.epoch, self.clock = writer, epoch, clock
        self.store = Store(db.dialect.name)

    # -- record -----------------------------------------------------------------------------------------------------

    def record(self, arrivals: Sequence[Arrival], *, history: bool = False) -> list[Outcome]:
        """Record a batch of events in their order; one outcome each: a receipt, or the refusal by name.

        An event that fails never sinks its neighbours.  With *history* each event is received when it happened.
        What plugins emitted is recorded right behind, in batches of its own.
        """
        outcomes: list[Outcome] = []
        derived: list[Arrival] = []
        for start in range(0, len(arrivals), MAX_BATCH // 2):
            outcomes += self._once_each(arrivals[start : start + MAX_BATCH // 2], history, derived)
        while derived:
            following, derived = derived, []
            self._once_each(following, history, derived)
        return outcomes

    def _once_each(self, arrivals: Sequence[Arrival], history: bool, derived: list[Arrival]) -> list[Outcome]:
        """A batch names each event id once; repeats within it wait for the next."""
        first: dict[tuple[str, str, str], int] = {}
        later: list[int] = []
        for place, arrival in enumerate(arrivals):
            key = (arrival.tenant, arrival.source, arrival.id)
            if first.setdefault(key, place) != place:
                later.append(place)
        if not later:
            return self._patiently(arrivals, history, derived)
        waiting = set(later)
        now = [place for place in range(len(arrivals)) if place not in waiting]
        outcomes = dict(zip(now, self._patiently([arrivals[p] for p in now], history, derived), strict=True))
        outcomes |= dict(zip(later, self._once_each([arrivals[p] for p in later], history, derived), strict=True))
        return [outcomes[place] for place in range(len(arrivals))]

    def _patiently(self, arrivals: Sequence[Arrival], history: bool, derived: list[Arrival]) -> list[Outcome]:
        """Try again what may be tried again; split a batch that cannot be recorded whole, down to the culprit."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.005
        while True:
            more: list[Arrival] = []
            try:
                outcomes = self._batch(arrivals, history, more)
            except Exception as error:
                if database.retryable(error) and time.monotonic() < deadline:
                    time.sleep(pause)
                    pause = min(pause * 2, 0.5)
                    continue
                refusal = database.refusal(error)
                if refusal is not None:
                    return [refusal for _ in arrivals]
                if len(arrivals) > 1:
                    half = len(arrivals) // 2
                    return [
                        *self._patiently(arrivals[:half], history, derived),
                        *self._patiently(arrivals[half:], history, derived),
                    ]
                if isinstance(error, TallyError):
                    return [error]
                raise
            derived += more
            return outcomes

    def dry_run(self, arrival: Arrival) -> Receipt:
        """What would be: judged against a snapshot, with other chance; claims nothing, locks nothing, writes nothing."""
        with database.reading(self.db) as conn:
            store = Store(self.db.dialect.name, locking=False)
            cur = store.cursor(conn)
            found = store.share_generations(cur, [arrival.tenant])
            if arrival.tenant not in found:
                raise UnknownTenant(f"no tenant {arrival.tenant!r} here")
            received, entry = self.clock(), entry_number(0, 0, 0)
            judge = self._load(store, cur, [(arrival, entry, received)], found)[arrival.tenant]
            self._in_time(judge.generation, arrival, received)
            judge.chance = vault.new_key()
            return Receipt(judge.judge(arrival, entry, received).record)

    # -- one batch ----------------------------------------------------------------------------------------------------

    def _batch(self, arrivals: Sequence[Arrival], history: bool, derived: list[Arrival]) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(arrivals)
        with self.db.begin() as conn:
            cur = self.store.cursor(conn)
            now = self.clock()
            tenants = self.store.share_generations(cur, {arrival.tenant for arrival in arrivals})
            head = self.store.find_head(cur, self.writer)
            number, previous = (head[0] + 1, head[1]) if head else (1, b"\x00" * 32)
            first = entry_number(self.writer, number, 0)
            fresh = self._claim(cur, arrivals, first, tenants, outcomes)
            work = [
                (arrivals[place], first + place, instant(arrivals[place].at) if history else now)
                for place in range(len(arrivals))
                if place in fresh
            ]
            judges = self._load(self.store, cur, work, tenants)
            judged = self._judge(judges, work, first, len(arrivals), outcomes)
            self._repeats(cur, arrivals, fresh, outcomes)
            refused = [
                (a.tenant, a.source, a.id) for place, a in enumerate(arrivals) if place in fresh and isinstance(outcomes[place], TallyError)
            ]
            self.store.unclaim(cur, refused)
            if judged:
                self._append(cur, judges, judged, number, previous, now, derived)
        return outcomes  # type: ignore[return-value]

    def _claim(
        self,
        cur: Cursor,
        arrivals: Sequence[Arrival],
        first: int,
        tenants: Mapping[str, tuple[int, str]],
        outcomes: list[Outcome | None],
    ) -> set[int]:
        rows = []
        for place, arrival in enumerate(arrivals):
            if arrival.tenant not in tenants:
                outcomes[place] = UnknownTenant(f"no tenant {arrival.tenant!r} here")
            else:
                rows.append((arrival.tenant, arrival.source, arrival.id, first + place))
        return {entry - first for entry in self.store.claim(cur, rows)} if rows else set()

    def _judge(
        self,
        judges: Mapping[str, Judge],
        work: Sequence[tuple[Arrival, int, int]],
        first: int,
        used: int,
        outcomes: list[Outcome | None],
    ) -> list[Done]:
        """Event by event over the batch's working state; parked refunds follow their sale as entries of their own."""
        done: list[Done] = []
        for arrival, entry, received in work:
            place = entry - first
            if outcomes[place] is not None:
                continue
            judge = judges[arrival.tenant]
            try:
                self._in_time(judge.generation, arrival, received)
                judged = self._judge_one(judge, arrival, entry, received)
            except TallyError as refusal:
                outcomes[place] = refusal
                continue
            outcomes[place] = Receipt(judged.record)
            done.append((arrival, entry, judged, False))
            # a later event of this batch may take this one back, or release it
            judge.working.originals[entry] = (judged.record, judged.sealed)
            for parked in judged.again:
                if used >= MAX_BATCH:
                    raise Unavailable("too many parked refunds for one batch")
                done.append((parked, first + used, judge.judge(parked, first + used, received), True))
                used += 1
        return done

    def _judge_one(self, judge: Judge, arrival: Arrival, entry: int, received: int) -> Judged:
        """Judge by the generation in force when the event happened."""
        generation = judge.generation
        if not generation.since or instant(arrival.at) >= generation.since or arrival.kind == EXPIRED_KIND:
            return judge.judge(arrival, entry, received)
        then = self.generations.at(arrival.tenant, instant(arrival.at))
        if then.number == generation.number:
            return judge.judge(arrival, entry, received)
        return Judge(judge.working, then, self.secret).judge(arrival, entry, received)

    @staticmethod
    def _in_time(generation: Generation, arrival: Arrival, received: int) -> None:
        if generation.missing:
            raise TenantNotServed(f"required plugins are not available: {', '.join(generation.missing)}")
        late = generation.late(arrival.source)
        if received - instant(arrival.at) > late and not arrival.cause:
            raise TooLate(f"older than the {late // DAY} days this source may be late", pointer="/time")

    def _repeats(
        self,
        cur: Cursor,
        arrivals: Sequence[Arrival],
        fresh: Collection[int],
        outcomes: list[Outcome | None],
    ) -> None:
        """Known id, same facts: the same receipt.  Known id, other facts: a conflict."""
        for place, arrival in enumerate(arrivals):
            if place in fresh or outcomes[place] is not None:
                continue
            entry = self.store.find_claim(cur, arrival.tenant, arrival.source, arrival.id)
            found = self.store.load_records(cur, arrival.tenant, [entry]).get(entry) if entry is not None else None
            if found is None:
                raise Unavailable("the event is being recorded elsewhere")
            record = read_record(found[0])
            key: bytes | None = self.secret
            if record.member:
                rows = self.store.lock_members(cur, arrival.tenant, [parse_member(record.member) or 0])
                key = bytes(rows[0][3]) if rows and rows[0][3] is not None else None
            known = vault.open_facts(key, entry or 0, found[1] or b"")
            if known is None:
                outcomes[place] = UnknownMember("the member was forgotten", pointer="/member")
            elif known != arrival.canonical:
                outcomes[place] = EventConflict(
                    f"event {arrival.id} was already recorded with other facts", event_id=arrival.id, entry=record.entry
                )
            else:
                outcomes[place] = Receipt(record, repeated=True)

    # -- lock and load --------------------------------------------------------------------------------------------------

    def _load(
        self, store: Store, cur: Cursor, work: Sequence[tuple[Arrival, int, int]], tenants: Mapping[str, tuple[int, str]]
    ) -> dict[str, Judge]:
        """Lock every key that an event of the batch needs, in one order for everybody; only then read."""
        by_tenant: dict[str, list[tuple[Arrival, int, int]]] = {}
        for item in work:
            by_tenant.setdefault(item[0].tenant, []).append(item)
        judges = {}
        for tenant in sorted(by_tenant):
            generation = self.generations.current(tenant, tenants[tenant][0])
            working = Working(tenant)
            _Loader(store, cur, working, generation, self.secret, by_tenant[tenant]).load()
            judges[tenant] = Judge(working, generation, self.secret)
        return judges

    # -- append ---------------------------------------------------------------------------------------------------------

    def _append(
        self,
        cur: Cursor,
        judges: Mapping[str, Judge],
        judged: Sequence[Done],
        number: int,
        previous: bytes,
        now: int,
        derived: list[Arrival],
    ) -> None:
        records, transfers, beside, claims, intents, repairs, leaves = [], [], [], [], [], [], []
        for arrival, entry, one, extra in sorted(judged, key=lambda item: item[1]):
            record = one.record
            body = canonical(record)
            leaves.append(leaf_hash(body))
            number_of_member = int(record.member[2:]) if record.member else 0
            records.append((entry, record.tenant, number_of_member, record.received, body, one.sealed))
            for place, t in enumerate(record.transfers):
                transfers.append((entry, place, record.tenant, t.debit, t.credit, t.unit, t.amount, t.rule, t.lot, t.into))
            if extra:
                claims.append((record.tenant, record.source, record.id, entry))
            if len(one.page.touched) > len(record.balances):  # somebody else's, too
                others = {member for member, _ in one.page.touched if member != number_of_member}
                beside += [(record.tenant, member, entry) for member in others]
            if one.page.intents or one.page.emits:
                intents += self._intents(one, entry, number_of_member)
                derived += self._derived(one, arrival, entry, judges[record.tenant])
            for skipped in one.skipped:
                repairs.append((record.tenant, entry, skipped.plugin, skipped.hook, msgspec.json.encode(skipped), 0))
        store = self.store
        store.append_claims(cur, claims)
        store.append_records(cur, records)
        store.append_transfers(cur, transfers)
        store.append_entry_members(cur, beside)
        for tenant, judge in judges.items():
            self._append_state(cur, tenant, judge.working)
        store.append_intents(cur, intents)
        store.append_repairs(cur, repairs)
        root = merkle_root(leaves)
        count = len(leaves)
        store.append_batch(
            cur, (self.writer, number, self.epoch, now, count, root, previous, chain_hash(previous, root, self.writer, number, count))
        )

    def _append_state(self, cur: Cursor, tenant: str, working: Working) -> None:
        store = self.store
        fresh_balances, changed_balances = [], []
        lots: dict[tuple[int, int], tuple[Any, ...]] = {}
        changed_lots: dict[tuple[int, int], tuple[Any, ...]] = {}
        known = [(member, unit, lot) for member, unit, lot in working.lots.values()]
        for (member, unit), account in working.accounts.items():
            state = (account.posted, account.deficit)
            if account.was is None:
                if account.lots or state != (0, 0):
                    fresh_balances.append((tenant, member, unit, *state))
            elif account.was != state:
                changed_balances.append((*state, account.was[0], tenant, member, unit))
            known += [(member, unit, lot) for lot in account.lots.values()]
        for member, unit, lot in known:
            if lot.fresh:
                lots[lot.key] = (
                    tenant, member, unit, lot.entry, lot.part, lot.amount, lot.left, lot.usable_from, lot.expires_at,
                    int(lot.sliding), lot.waits, lot.issuer,
                )  # fmt: skip
            elif lot.changed:
                was = lot.was[0] if lot.was else 0
                changed_lots[lot.key] = (
                    lot.left, lot.usable_from, lot.expires_at, lot.waits, was, tenant, member, unit, lot.entry, lot.part,
                )  # fmt: skip
        if working.extended:
            store.extend_lots(cur, [(expires, now, tenant, m, u) for expires, now, m, u in working.extended])
        store.append_lots(cur, list(lots.values()))
        store.change_lots(cur, [changed_lots[key] for key in sorted(changed_lots)])
        store.put_balances(cur, fresh_balances, changed_balances)
        store.add_counters(cur, [(tenant, *key, amount) for key, amount in sorted(working.counted.items()) if amount])
        store.add_taken(cur, [(tenant, *key, amount) for key, amount in sorted(working.took.items())])
        fresh_orders, changed_orders = [], []
        for entries in working.orders.values():
            for row in entries:
                if row.fresh:
                    fresh_orders.append((tenant, row.order, row.entry, row.row[0], row.member, row.value, row.returned, row.row[2]))
                elif row.row != row.was:
                    changed_orders.append((*row.row, tenant, row.order, row.entry))
        store.append_order_entries(cur, fresh_orders)
        store.change_orders(cur, changed_orders)
        if working.stocked or working.stock_set:
            taken = {(tenant, key): amount for key, amount in working.stocked.items() if key not in working.stock_set and amount}
            store.change_stock(cur, taken, [(tenant, key, working.stock[key]) for key in sorted(working.stock_set)])
        if working.put:
            rows = [
                (tenant, plugin, key, name, member, msgspec.json.encode(value).decode())
                for (plugin, key, name), (member, value) in sorted(working.put.items())
                if value is not None
            ]
            gone = [(tenant, *key) for key, (_, value) in sorted(working.put.items()) if value is None]
            store.put_own(cur, rows, gone)

    @staticmethod
    def _intents(one: Judged, entry: int, member: int) -> list[tuple[Any, ...]]:
        page = one.page
        rows: list[tuple[Any, ...]] = []
        for effect in [*page.intents, *page.emits]:
            channel = {Notify: "notify", Command: "command", Emit: "event"}[type(effect)]
            to = getattr(effect, "to", 0) or member
            key = getattr(effect, "key", "") or f"{one.record.entry}/{len(rows)}"
            rows.append((entry, len(rows), one.record.tenant, to, channel, key, msgspec.json.encode(effect)))
        return rows

    @staticmethod
    def _derived(one: Judged, cause: Arrival, entry: int, judge: Judge) -> list[Arrival]:
        """Events that plugins emitted: their ids follow from the cause, so that they can never happen twice."""
        if cause.depth >= MAX_DEPTH:
            return []
        return [
            derive(one.record, emit, n, judge.kinds, cause.depth + 1, emit.member or one.page.event.member)
            for n, emit in enumerate(one.page.emits)
        ]

    def cut_off(self, batches: Sequence[Committed]) -> list[Arrival]:
        """Emitted events of *batches* that a crash cut off from their cause: still to be recorded."""
        missing: list[Arrival] = []
        with database.reading(self.db) as conn:
            cur = self.store.cursor(conn)
            for batch in batches:
                records = {parse_entry(record.entry): record for record in batch.records}
                n: dict[int, int] = {}
                for intent in batch.intents:
                    if intent.channel != "event":
                        continue
                    place = n[intent.entry] = n.get(intent.entry, -1) + 1
                    record, emit = records[intent.entry], msgspec.json.decode(intent.body, type=Emit)
                    depth = record.id.count("/") + 1
                    if depth <= MAX_DEPTH and self.store.find_claim(cur, record.tenant, record.source, derived_id(record, emit, place)) is None:
                        kinds = self.generations.latest(record.tenant).kinds
                        missing.append(derive(record, emit, place, kinds, depth, intent.member))
        return missing

    # -- expiry ---------------------------------------------------------------------------------------------------------

    def expire(self, tenant: str, *, now: int | None = None) -> int:
        """Sweep one range of members; how many had something due.  Call until it answers 0."""
        arrivals = self.due(tenant, self.clock() if now is None else now)
        self.record(arrivals, history=True)
        return len(arrivals)

    def due(self, tenant: str, at: int, *, limit: int = 1_000) -> list[Arrival]:
        """One sweep per member with lots due at *at*, for a range of members; empty when nothing is due.

        Each lot expires once whoever sweeps: the sweep is an event like any other, judged under the member's lock.
        """
        mark = "%s" if self.store.postgres else "?"
        with database.reading(self.db) as conn:
            cur = self.store.cursor(conn)
            cur.execute(
                f"SELECT DISTINCT member FROM lot WHERE tenant = {mark} AND expires_at <= {mark} AND expires_at < {NEVER} AND remaining > 0 LIMIT {mark}",  # noqa: S608
                (tenant, at, limit),
            )
            members = sorted(row[0] for row in cur.fetchall())
        return [
            Arrival(
                tenant=tenant, id=f"expire/{member}/{at}", source="tally", kind=EXPIRED_KIND, at=moment(at),
                member=member_name(member), facts=NoFacts(), canonical=b"{}", actor="tally",
            )
            for member in members
        ]  # fmt: skip


def derived_id(cause: Record, emit: Emit, n: int) -> str:
    """The id of the *n*-th event that *cause* led to."""
    return f"{cause.id}/{emit.rule}/{n}"


def derive(cause: Record, emit: Emit, n: int, kinds: Mapping[str, EventKind], depth: int, member: int) -> Arrival:
    """An emitted event, through the same door as any other."""
    document: dict[str, Any] = {
        "id": derived_id(cause, emit, n),
        "source": cause.source,
        "type": emit.kind,
        "time": moment(cause.at).isoformat(),
        "data": msgspec.to_builtins(emit.facts),
    }
    if member:
        document["member"] = member_name(member)
    arrival = read_document(document, tenant=cause.tenant, kinds=kinds, received=moment(cause.received), actor=emit.rule)
    arrival.cause, arrival.depth = parse_entry(cause.entry) or 0, depth
    return arrival


class _Loader:
    """Locks and reads what the events of one tenant in one batch need.  The order of locks is the same everywhere:
    claims, orders, members, shared counters, shared rows, stock."""

    def __init__(
        self,
        store: Store,
        cur: Cursor,
        working: Working,
        generation: Generation,
        secret: bytes,
        work: Sequence[tuple[Arrival, int, int]],
    ) -> None:
        self.store, self.cur, self.working, self.generation = store, cur, working, generation
        self.secret, self.work = secret, work
        self.tenant = working.tenant
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
            if arrival.kind in _DECISIONS:
                entry = arrival.facts.entry  # type: ignore[attr-defined]
                orders.add(f"entry/{entry}")
                self.entries.add(parse_entry(entry) or 0)
            else:
                order = getattr(arrival.facts, "order", "")
                if order:
                    orders.add(order)
        if not orders:
            return
        store, cur, working = self.store, self.cur, self.working
        store.lock_orders(cur, self.tenant, orders)
        self.looking_back = {arrival.facts.order for arrival, _, _ in self.work if arrival.kind in _BACK}  # type: ignore[attr-defined]
        for order, entry, role, member, value, returned, lines in store.load_order_entries(cur, self.tenant, orders):
            working.orders.setdefault(order, []).append(OrderEntry(order, entry, role, member, value, returned, lines, fresh=False))
            if order in self.looking_back or role == "parked":
                self.looking_back.add(order)
                self.entries.add(entry)
        if self.entries:
            self._originals(self.entries)

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
                for holder in (transfer.debit, transfer.credit):
                    number = parse_member(holder)
                    if number is not None:
                        self.members.add(number)
                        self.whole.add(number)
        self.working.taken.update(self.store.load_taken(self.cur, self.tenant, sorted(found)))

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
        named = {vault.fingerprint(self.secret, tenant, reference): reference for reference in references if reference not in numbers}
        if named:
            numbers |= {named[found]: number for found, number in store.find_members(cur, tenant, list(named)).items()}
        wanted = {*numbers.values(), *self.members}
        merged: dict[int, int] = {}
        while wanted:
            rows = store.lock_members(cur, tenant, wanted)
            wanted = set()
            for number, status, enrolled_at, secret, tags, merged_into, language in rows:
                view = Member(number, status, moment(enrolled_at), tuple(msgspec.json.decode(tags)) if tags != "[]" else (), None, {}, language)
                working.people[number] = Person(number, bytes(secret) if secret is not None else None, view)
                if merged_into:
                    merged[number] = merged_into
                    if merged_into not in working.people:
                        wanted.add(merged_into)
        for reference, number in numbers.items():
            while number in merged:
                number = merged[number]
            working.references[reference] = number
        self.members |= set(working.references.values())

    def _keys(self) -> None:
        store, cur, working, tenant = self.store, self.cur, self.working, self.tenant
        pipeline = self.generation.pipeline
        profile = False
        counters: set[str] = set()
        shared_counters: set[str] = set()
        stock: set[str] = set()
        own: set[str] = set()
        shared_own: set[tuple[str, str]] = set()
        since = 1 << 40
        plans: dict[str, Plan | None] = {}
        for arrival, _, _ in self.work:
            kind = arrival.kind
            if kind not in plans:
                # the house's own kinds are nobody's business
                plans[kind] = pipeline.plan(kind) if kind in self.generation.kinds else None
            plan = plans[kind]
            if plan is None:
                self._whole(arrival)
                continue
            wants = plan.needs
            profile = profile or wants.profile
            if (
                kind not in _EARNS
                or wants.balances
                or plan.redeem is not None
                or (self.looking_back and getattr(arrival.facts, "order", "") in self.looking_back)
            ):
                self._whole(arrival)
            if wants.counters:
                day = self.generation.programme.local_date(arrival.at)
                for name, window in wants.counters:
                    (shared_counters if window == "budget" else counters).add(name)
                    if grain_of(window) == "day":
                        since = min(since, start_of(window, day))
            if wants.stock or plan.own:
                event = self._event(arrival)
                plugins = [*plan.own]
                stock |= {fill(template, event) for template in wants.stock}
                for plugin in plugins:
                    for template in plan.own[plugin]:
                        key = fill(template, event)
                        own.add(key)
                        if not key.startswith("m:"):
                            shared_own.add((plugin, key))
        members = sorted(self.members)
        store.lock_shared_counters(cur, tenant, shared_counters)
        store.lock_own(cur, tenant, shared_own)
        for member, unit, posted, deficit in store.load_balances(cur, tenant, members):
            account = working.accounts[member, unit] = Account(member, unit, posted, deficit, stored=True)
            account.complete = member in self.whole
        if self.whole:
            working.fill_lots(store.load_lots(cur, tenant, sorted(self.whole)), whole=True)
            if self.lot_entries:
                working.fill_lots(store.load_lots_of(cur, tenant, sorted(self.lot_entries)), whole=True)
        if profile:
            working.profiles = store.load_profiles(cur, tenant, members)
        names = counters | shared_counters
        if names:
            for member, name, grain, start, value in store.load_counters(cur, tenant, [0, *members], names, since):
                working.counters[member, name, grain, start] = value
        if self.generation.ladders:
            own |= {f"m:{member}" for member in members}
        if own:
            for plugin, key, name, value in store.load_own(cur, tenant, own):
                if name:
                    working.own.setdefault((plugin, key), {})[name] = msgspec.json.decode(value)
        if stock or self.entries:
            stock |= {key for record, _ in working.originals.values() for key, _, _ in record.takes}
            working.stock = store.lock_stock(cur, tenant, stock)

    def _whole(self, arrival: Arrival) -> None:
        number = self.working.references.get(arrival.member)
        if number is not None:
            self.whole.add(number)

    def _event(self, arrival: Arrival) -> Event:
        kind = self.generation.kinds.get(arrival.kind)
        references = self.working.references
        others = {
            field: references.get(getattr(arrival.facts, field, None) or "", 0) for field in (kind.members if kind is not None else ())
        }
        return Event(
            tenant=arrival.tenant, id=arrival.id, source=arrival.source, kind=arrival.kind, at=arrival.at, received=arrival.at,
            member=references.get(arrival.member, 0), facts=arrival.facts, others=others,
        )  # fmt: skip


#: Kinds that can only add: their members' lots are not read unless a rule asks for balances.
_EARNS = frozenset({"purchase.completed", "member.enrolled"})
