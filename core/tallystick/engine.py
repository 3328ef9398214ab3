"""The use cases on the event path: lock, read all, think, write all; one transaction per batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import sqlalchemy as sa

from . import database, people, queries, vault
from .effects import Command, Emit, Notify
from .errors import (
    EventConflict,
    TallyError,
    TenantNotServed,
    TooLate,
    Unavailable,
    UnknownEntry,
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
    entry_name,
    entry_number,
    instant,
    leaf_hash,
    member_name,
    merkle_root,
    moment,
    others_moved,
    parse_entry,
    parse_member,
    read_record,
)
from .outbox import Committed
from .pipeline import Plan
from .rewind import rewind
from .situation import Member, Situation
from .store import Cursor, Store
from .windows import grain_of, start_of
from .working import NotRead, OrderEntry, Person, Working

#: Derived events stop here: a plugin that answers its own events would never end.
MAX_DEPTH = 8
#: How long one batch is tried again after deadlocks and lost connections, in seconds.
PATIENCE = 4.0

#: Kinds that look back at what an order did.
_BACK = frozenset({"purchase.refunded", "purchase.cancelled", "order.advanced", "order.claimed"})
_DECISIONS = frozenset({"entry.released", "entry.voided"})


class Receipt(NamedTuple):
    """The answer to an accepted event: the record, and whether it had been recorded before."""

    record: Record
    repeated: bool = False


Outcome = Receipt | TallyError
log = logging.getLogger("tallystick")


#: arrival, entry, what came of it, and whether the house itself made the event (then its id is claimed now)
Done = tuple[Arrival, int, Judged, bool]


class Look(NamedTuple):
    """One event as plugins see it."""

    generation: Generation
    event: Event
    situation: Situation
    own: Mapping[str, Situation]  #: by plugin, for those that asked for own rows

    def situation_of(self, plugin: str) -> Situation:
        """What *plugin* may look at."""
        return self.own.get(plugin, self.situation)


class LookBack(NamedTuple):
    """A recorded event as plugins saw it; nothing but the record if its member or its kind was forgotten since."""

    record: Record
    look: Look | None


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
        self.lease, self.clock = (writer, epoch), clock  #: taken over whole, between two batches
        self.replaced = False  #: somebody else holds the writer's row: the house takes another
        self.store = Store(db.dialect.name)
        self.looks = Store(db.dialect.name, locking=False)

    @property
    def writer(self) -> int:
        """The writer's number."""
        return self.lease[0]

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
            for start in range(0, len(following), MAX_BATCH // 2):
                self._once_each(following[start : start + MAX_BATCH // 2], history, derived)
        return outcomes

    def _once_each(self, arrivals: Sequence[Arrival], history: bool, derived: list[Arrival]) -> list[Outcome]:
        """A batch names each event id once; repeats within it are answered by what came of the first."""
        outcomes: list[Outcome | None] = [None] * len(arrivals)
        waiting: Sequence[int] = range(len(arrivals))
        while waiting:
            first: dict[tuple[str, str, str], int] = {}
            later = [p for p in waiting if first.setdefault((arrivals[p].tenant, arrivals[p].source, arrivals[p].id), p) != p]
            now = list(first.values())
            for place, outcome in zip(now, self._patiently([arrivals[p] for p in now], history, derived), strict=True):
                outcomes[place] = outcome
            waiting = []
            for place in later:
                arrival = arrivals[place]
                original = first[arrival.tenant, arrival.source, arrival.id]
                known, same = outcomes[original], arrivals[original].canonical == arrival.canonical
                if isinstance(known, Receipt):
                    outcomes[place] = known._replace(repeated=True) if same else _conflict(arrival, known.record)
                elif same:
                    outcomes[place] = known
                else:
                    waiting.append(place)
        return outcomes  # type: ignore[return-value]

    def _patiently(self, arrivals: Sequence[Arrival], history: bool, derived: list[Arrival]) -> list[Outcome]:
        """Try again what may be tried again; split a batch that cannot be recorded whole, down to the culprit."""
        deadline = time.monotonic() + PATIENCE
        pause, tries = 0.005, 0
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
                if isinstance(error, sa.exc.IntegrityError) and tries < 2:
                    tries += 1  # two wrote the same row for the first time: the second time it is there
                    continue
                if self.replaced:
                    return [Unavailable("another process took over; this one is about to start anew") for _ in arrivals]
                if len(arrivals) > 1:
                    half = len(arrivals) // 2
                    return [
                        *self._patiently(arrivals[:half], history, derived),
                        *self._patiently(arrivals[half:], history, derived),
                    ]
                if isinstance(error, TallyError):
                    return [error]
                # a mistake of ours: its neighbours stand, and whoever sent it hears of it by name
                log.exception("event %s of %s could not be recorded", arrivals[0].id, arrivals[0].source)
                return [Unavailable(f"the event could not be recorded ({type(error).__name__})")]
            derived += more
            return outcomes

    def dry_run(self, arrival: Arrival) -> Receipt:
        """What would be: judged against a snapshot, with other chance; claims nothing, locks nothing, writes nothing."""
        with database.reading(self.db) as conn:
            store = self.looks
            cur = store.cursor(conn)
            found = store.share_generations(cur, [arrival.tenant])
            if arrival.tenant not in found:
                raise UnknownTenant(f"no tenant {arrival.tenant!r} here")
            received, entry = self.clock(), entry_number(0, 0, 0)
            judge = self._load(store, cur, [(arrival, entry, received)], found)[arrival.tenant]
            self._in_time(judge.generation, arrival, received)
            judge.chance = vault.new_key()
            return Receipt(self._judge_again(cur, judge, arrival, entry, received, store).record)

    def look(self, arrival: Arrival) -> Look:
        """What plugins would see of *arrival* if it came now.  Raises UnknownTenant, and UnknownMember for a member nobody knows."""
        with database.reading(self.db) as conn:
            judge, received, entry = self._onlooker(conn, arrival)
            return Look(judge.generation, *judge.look(arrival, entry, received))

    def look_back(self, tenant: str, number: int) -> LookBack:
        """What plugins saw of the event of entry *number*: balances, counters and tiers are played back to what they were.

        Profile, tags, own rows of plugins, budgets and shelves are as they are now.  Raises UnknownEntry.
        """
        with database.reading(self.db) as conn:
            found = self.looks.load_records(self.looks.cursor(conn), tenant, [number])
            if number not in found:
                raise UnknownEntry(f"there is no entry {entry_name(number)}")
            record, sealed = read_record(found[number][0]), found[number][1]
            member = parse_member(record.member) or 0
            # who it was comes first: the facts open with the member's own key, and say what else must be read
            arrival = Arrival(tenant, record.id, record.source, record.kind, moment(record.at), record.member, NoFacts(), b"")
            judge, _, _ = self._onlooker(conn, arrival, number, record.received)
            told = judge.reopen(record, sealed) if record.kind in judge.kinds else None
            if told is None:
                return LookBack(record, None)
            judge, received, entry = self._onlooker(conn, told, number, record.received)
            records = list(queries.records_of(conn, tenant, member)) if member else []
            place = next((place for place, each in enumerate(records) if each.entry == record.entry), len(records))
            rewind(judge.working, member, records[:place], records[place:])
            return LookBack(record, Look(judge.generation, *judge.look(told, entry, received)))

    def _onlooker(
        self, conn: sa.Connection, arrival: Arrival, entry: int = 0, received: int = 0
    ) -> tuple[Judge, int, int]:
        """A judge who has read what *arrival* needs from a snapshot, and locked nothing; received time and entry it is to take."""
        store = self.looks
        cur = store.cursor(conn)
        found = store.share_generations(cur, [arrival.tenant])
        if arrival.tenant not in found:
            raise UnknownTenant(f"no tenant {arrival.tenant!r} here")
        received, entry = received or self.clock(), entry or entry_number(0, 0, 0)
        judge = self._load(store, cur, [(arrival, entry, received)], found)[arrival.tenant]
        then = judge.older.get(entry)
        return (judge if then is None else Judge(judge.working, then, self.secret)), received, entry

    # -- one batch ----------------------------------------------------------------------------------------------------

    def _batch(self, arrivals: Sequence[Arrival], history: bool, derived: list[Arrival]) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(arrivals)
        with self.db.begin() as conn:
            cur = self.store.cursor(conn)
            now = self.clock()
            tenants = self.store.share_generations(cur, {arrival.tenant for arrival in arrivals})
            lease = writer, epoch = self.lease
            head = self.store.find_head(cur, writer)
            if self.store.find_epoch(cur, writer) not in (None, epoch):
                self.replaced = True
                raise Unavailable("another process took over; this one is about to start anew")
            number, previous = (head[0] + 1, head[1]) if head else (1, b"\x00" * 32)
            first = entry_number(writer, number, 0)
            fresh = self._claim(cur, arrivals, first, tenants, outcomes)
            work = [
                (arrivals[place], first + place, instant(arrivals[place].at) if history else now)
                for place in range(len(arrivals))
                if place in fresh
            ]
            judges = self._load(self.store, cur, work, tenants)
            judged = self._judge(cur, judges, work, first, len(arrivals), outcomes)
            self._repeats(cur, arrivals, fresh, outcomes)
            refused = [
                (a.tenant, a.source, a.id) for place, a in enumerate(arrivals) if place in fresh and isinstance(outcomes[place], TallyError)
            ]
            self.store.unclaim(cur, refused)
            if judged:
                self._append(cur, judges, judged, lease, number, previous, now, derived)
                self._merge_people(conn, judged, now)
        return outcomes  # type: ignore[return-value]

    @staticmethod
    def _merge_people(conn: sa.Connection, judged: Sequence[tuple[Any, ...]], now: int) -> None:
        """Merged members answer as the other from this commit on."""
        for _, entry, one, *_ in judged:
            if one.page.joined is not None:
                source, into = one.page.joined
                people.merge(conn, one.record.tenant, source, into, entry, now)
            elif one.page.parted:
                people.unmerge(conn, one.record.tenant, one.page.parted, entry, now)

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
        cur: Cursor,
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
                judged = self._judge_again(cur, judge, arrival, entry, received)
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
                try:
                    applied = judge.judge(parked, first + used, received)
                except TallyError as refusal:
                    applied = judge.not_applied(parked, first + used, received, refusal)
                done.append((parked, first + used, applied, True))
                used += 1
        return done

    def _judge_again(
        self, cur: Cursor, judge: Judge, arrival: Arrival, entry: int, received: int, store: Store | None = None
    ) -> Judged:
        """Judge; what a rule revokes is read when it says so, and the event judged once more.  Its member is locked."""
        while True:
            try:
                return self._judge_one(judge, arrival, entry, received)
            except NotRead as missing:
                if missing.stock:
                    found = (store or self.store).lock_stock(cur, judge.working.tenant, [missing.stock])
                    judge.working.stock[missing.stock] = found.get(missing.stock, 0)
                    continue
                self._look_back(cur, judge.working, missing.entry)

    def _look_back(self, cur: Cursor, working: Working, entry: int) -> None:
        working.sought.add(entry)
        found = self.store.load_records(cur, working.tenant, [entry]).get(entry)
        record = read_record(found[0]) if found is not None else None
        member = parse_member(record.member) if record is not None else None
        if found is None or record is None or member not in working.people:
            return  # nobody of this batch has part in it
        working.originals[entry] = (record, found[1])
        working.taken.update(self.store.load_taken(cur, working.tenant, [entry]))
        working.fill_lots(self.store.load_lots(cur, working.tenant, [member]), whole=True)
        working.fill_lots(self.store.load_lots_of(cur, working.tenant, [entry]), whole=True)
        for account in working.accounts_of(member):
            account.complete = True

    def _judge_one(self, judge: Judge, arrival: Arrival, entry: int, received: int) -> Judged:
        """Judge by the generation in force when the event happened."""
        then = judge.older.get(entry)
        if then is None:
            return judge.judge(arrival, entry, received)
        older = Judge(judge.working, then, self.secret)
        older.chance = judge.chance
        return older.judge(arrival, entry, received)

    def _older(self, work: Sequence[tuple[Arrival, int, int]], generation: Generation) -> dict[int, Generation]:
        """By entry, the generation of then, for events that happened before the one in force."""
        found = {}
        for arrival, entry, _ in work:
            if generation.since and instant(arrival.at) < generation.since and arrival.kind != EXPIRED_KIND:
                then = self.generations.at(arrival.tenant, instant(arrival.at))
                if then.number != generation.number:
                    found[entry] = then
        return found

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
                rows = self.looks.lock_members(cur, arrival.tenant, [parse_member(record.member) or 0])
                key = bytes(rows[0][3]) if rows and rows[0][3] is not None else None
            known = vault.open_facts(key, entry or 0, found[1] or b"")
            if known is None:
                outcomes[place] = UnknownMember("the member was forgotten", pointer="/member")
            elif known != arrival.canonical:
                outcomes[place] = _conflict(arrival, record)
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
            judge = judges[tenant] = Judge(Working(tenant), generation, self.secret)
            judge.older = self._older(by_tenant[tenant], generation)
            _Loader(store, cur, judge, by_tenant[tenant]).load()
        return judges

    # -- append ---------------------------------------------------------------------------------------------------------

    def _append(
        self,
        cur: Cursor,
        judges: Mapping[str, Judge],
        judged: Sequence[Done],
        lease: tuple[int, int],
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
                beside += [(record.tenant, parse_member(name) or 0, entry) for name in others_moved(record)]
            if one.page.intents or one.page.emits:
                intents += self._intents(one, entry, number_of_member)
                derived += self._derived(one, arrival, judges[record.tenant])
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
        count, (writer, epoch) = len(leaves), lease
        store.append_batch(
            cur, (writer, number, epoch, now, count, root, previous, chain_hash(previous, root, writer, number, count))
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
            to = getattr(effect, "to", 0) or getattr(effect, "member", 0) or member
            key = getattr(effect, "key", "") or f"{one.record.entry}/{len(rows)}"
            rows.append((entry, len(rows), one.record.tenant, to, channel, key, msgspec.json.encode(effect)))
        return rows

    @staticmethod
    def _derived(one: Judged, cause: Arrival, judge: Judge) -> list[Arrival]:
        """Events that plugins emitted: their ids follow from the cause, so that they can never happen twice."""
        found = []
        for n, emit in enumerate(one.page.emits if cause.depth < MAX_DEPTH else ()):
            try:
                found.append(derive(one.record, emit, n, judge.kinds, cause.depth + 1, emit.member or one.page.event.member))
            except TallyError as refusal:  # what a plugin made up wrongly does not sink what really happened
                log.warning("%s emitted by %s of entry %s: %s", emit.kind, emit.rule, one.record.entry, refusal)
        return found

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
                    depth = record.depth + 1
                    if depth <= MAX_DEPTH and self.store.find_claim(cur, record.tenant, record.source, derived_id(record, emit, place)) is None:
                        kinds = self.generations.latest(record.tenant).kinds
                        try:
                            missing.append(derive(record, emit, place, kinds, depth, intent.member))
                        except TallyError as refusal:
                            log.warning("%s emitted by %s of entry %s: %s", emit.kind, emit.rule, record.entry, refusal)
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
                f"SELECT member, max(entry) FROM lot WHERE tenant = {mark} AND expires_at <= {mark} AND expires_at < {NEVER} AND remaining > 0 AND substr(waits, 1, 4) <> 'held' GROUP BY member ORDER BY member LIMIT {mark}",  # noqa: S608
                (tenant, at, limit),
            )
            members = list(cur.fetchall())
        return [
            Arrival(
                tenant=tenant, id=f"expire/{member}/{at}/{entry_name(newest)}", source="tally", kind=EXPIRED_KIND, at=moment(at),
                member=member_name(member), facts=NoFacts(), canonical=b"{}", actor="tally",
            )
            for member, newest in members
        ]  # fmt: skip


def _conflict(arrival: Arrival, record: Record) -> EventConflict:
    return EventConflict(f"event {arrival.id} was already recorded with other facts", event_id=arrival.id, entry=record.entry)


def derived_id(cause: Record, emit: Emit, n: int) -> str:
    """The id of the *n*-th event that *cause* led to."""
    return f"{cause.entry}/{emit.rule[:80]}/{n}"


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
    claims, orders, members, shared counters, shared rows, stock.
    """

    def __init__(self, store: Store, cur: Cursor, judge: Judge, work: Sequence[tuple[Arrival, int, int]]) -> None:
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
            if arrival.kind in _DECISIONS or arrival.kind == "member.unmerged":
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
        store.lock_orders(cur, self.tenant, orders)
        self.looking_back = {arrival.facts.order for arrival, _, _ in self.work if arrival.kind in _BACK}  # type: ignore[attr-defined]
        self._order_entries(orders)
        if self.entries:
            self._originals(self.entries)
            held = [f"entry/{r.entry}" for r, _ in working.originals.values() if r.status in ("held", "step_up")]
            if held:  # their orders are locked: nobody decides about them meanwhile
                self._order_entries({name for name in held if name not in working.orders})

    def _order_entries(self, orders: Collection[str]) -> None:
        working = self.working
        for order, entry, role, member, value, returned, lines in self.store.load_order_entries(self.cur, self.tenant, orders):
            row = OrderEntry(order, entry, role, member, value, returned, lines, fresh=False)
            working.orders.setdefault(order, []).append(row)
            if order in self.looking_back or role == "parked":
                self.looking_back.add(order)
                self.entries.add(entry)

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
                if arrival.kind == EXPIRED_KIND:  # of this very member, whatever became of it
                    self.members.add(parse_member(arrival.member) or 0)
                    self.whole.add(parse_member(arrival.member) or 0)
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
        working.merged = merged
        self.members |= set(working.references.values())
        joined = {*merged, *merged.values()}  # what comes to one goes on to the other
        self.members |= joined
        self.whole |= joined

    def _keys(self) -> None:
        store, cur, working, tenant = self.store, self.cur, self.working, self.tenant
        profile = False
        counters: set[str] = set()
        shared_counters: set[str] = set()
        stock: set[str] = set()
        own: set[str] = set()
        shared_own: set[tuple[str, str]] = set()
        since = 1 << 40
        plans: dict[tuple[int, str], Plan | None] = {}
        for generation, kind, arrival, event in [*self._first_hand(), *self._second_hand()]:
            key = (generation.number, kind)
            if key not in plans:
                # the house's own kinds are nobody's business
                plans[key] = generation.pipeline.plan(kind) if kind in generation.kinds else None
            plan = plans[key]
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
                if event is not None:
                    self.whole |= {event.member} & {*self.members}
            if wants.counters:
                day = generation.programme.local_date(arrival.at if event is None else event.at)
                for name, window in wants.counters:
                    (shared_counters if window == "budget" else counters).add(name)
                    if grain_of(window) == "day":
                        since = min(since, start_of(window, day))
            if wants.stock or plan.own:
                event = event or self._event(arrival)
                stock |= {fill(template, event) for template in wants.stock}
                for plugin, templates in plan.own.items():
                    for template in templates:
                        filled = fill(template, event)
                        own.add(filled)
                        if not filled.startswith("m:"):
                            shared_own.add((plugin, filled))
        members = sorted(self.members)
        if any(arrival.kind in _MERGES for arrival, _, _ in self.work):
            self.whole |= self.members
        store.lock_shared_counters(cur, tenant, shared_counters)
        store.lock_own(cur, tenant, shared_own)
        if working.originals:  # read behind the locks of all who hold something of them
            working.taken.update(store.load_taken(cur, tenant, sorted(working.originals)))
        for member, unit, posted, deficit in store.load_balances(cur, tenant, members):
            account = working.accounts[member, unit] = Account(member, unit, posted, deficit, stored=True)
            account.complete = member in self.whole
        if self.whole:
            working.fill_lots(store.load_lots(cur, tenant, sorted(self.whole)), whole=True)
            if self.lot_entries:
                working.fill_lots(store.load_lots_of(cur, tenant, sorted(self.lot_entries)), whole=True)
        if profile:
            working.profiles = store.load_profiles(cur, tenant, members)
        if any(arrival.kind in _MERGES for arrival, _, _ in self.work):
            own |= {f"m:{member}" for member in members}
            for member, name, grain, start, value in store.load_all_counters(cur, tenant, members):
                working.counters[member, name, grain, start] = value
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
            if arrival.kind in _DECISIONS:
                found = working.originals.get(parse_entry(arrival.facts.entry) or 0)  # type: ignore[attr-defined]
                event = self.judge.looked_at(*found) if found is not None else None
                if event is not None:
                    yield generation, event.kind, arrival, event
                continue
            order = getattr(arrival.facts, "order", "")
            if order not in self.looking_back:
                continue
            rows = working.order(order, "sale")
            buyer = rows[-1].member if rows else working.references.get(sold[order].member, 0) if order in sold else 0
            if arrival.kind == "order.claimed":
                found = working.originals.get(rows[-1].entry) if rows else None
                event = self.judge.looked_at(*found) if found is not None else self._event(sold[order]) if order in sold else None
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
_MERGES = frozenset({"member.merged", "member.unmerged"})
