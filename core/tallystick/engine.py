"""The use cases on the event path: lock, read all, think, write all; one transaction per batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec
import sqlalchemy as sa

from . import database, people, queries, vault
from .clock import SteadyClock
from .effects import Emit
from .errors import (
    EventConflict,
    TallyError,
    TenantNotServed,
    TooEarly,
    TooLate,
    Unavailable,
    UnknownEntry,
    UnknownMember,
    UnknownTenant,
)
from .events import Arrival, Event, EventKind
from .generation import Generation
from .intake import HOUSE, read_document
from .judge import Judge, Judged, NoFacts
from .ledger import (
    DAY,
    EPOCH,
    MAX_BATCH,
    Record,
    entry_name,
    entry_number,
    instant,
    member_name,
    moment,
    parse_entry,
    parse_member,
    read_record,
)
from .loading import Loader
from .mending import REPAIRED_KIND, Mending, read_kept
from .outbox import Committed
from .posting import Done, link, post
from .repairing import Repairer
from .rewind import rewind
from .situation import Situation
from .store import Cursor, Store
from .sweep import Piece, TooMuch, pieces, sweep
from .working import NotRead, Working

#: Derived events stop here: a plugin that answers its own events would never end.
MAX_DEPTH = 8
#: How long one batch is tried again after deadlocks and lost connections, in seconds.
PATIENCE = 4.0


class Receipt(NamedTuple):
    """The answer to an accepted event: the record, and whether it had been recorded before."""

    record: Record
    repeated: bool = False


Outcome = Receipt | TallyError
log = logging.getLogger("tallystick")


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
        self.lease = writer, epoch  #: taken over whole, between two batches
        self.clock = clock if isinstance(clock, SteadyClock) else SteadyClock(clock)
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
        if len({(arrival.tenant, arrival.source, arrival.id) for arrival in arrivals}) == len(arrivals):
            return self._patiently(arrivals, history, derived)
        outcomes: list[Outcome | None] = [None] * len(arrivals)
        waiting: Sequence[int] = range(len(arrivals))
        while waiting:
            first: dict[tuple[str, str, str], int] = {}
            later = [
                p for p in waiting if first.setdefault((arrivals[p].tenant, arrivals[p].source, arrivals[p].id), p) != p
            ]
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
                if database.collided(error) and tries < 2:
                    tries += 1
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

    def known(self, arrival: Arrival) -> Receipt | None:
        """The receipt under which *arrival* is known already; None if it is not.

        Raises EventConflict where other facts are recorded under its id, as recording it would.
        """
        with database.reading(self.db) as conn:
            cur = self.looks.cursor(conn)
            if self.looks.find_claim(cur, arrival.tenant, arrival.source, arrival.id) is None:
                return None
            outcomes: list[Outcome | None] = [None]
            self._repeats(cur, [arrival], (), outcomes)
        (outcome,) = outcomes
        if isinstance(outcome, TallyError):
            raise outcome
        return outcome

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
            arrival = Arrival(
                tenant, record.id, record.source, record.kind, moment(record.at), record.member, NoFacts(), b""
            )
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
        with database.writing(self.db) as conn:
            cur = self.store.cursor(conn)
            tenants = self.store.share_generations(cur, {arrival.tenant for arrival in arrivals})
            lease = self.lease
            number, previous, now = self._turn(cur)
            first = entry_number(lease[0], number, 0)
            fresh = self._claim(cur, arrivals, first, tenants, outcomes)
            work = [
                (arrivals[place], first + place, instant(arrivals[place].at) if history else now)
                for place in range(len(arrivals))
                if place in fresh
            ]
            judges = self._load(self.store, cur, work, tenants)
            judged = self._judge(cur, judges, work, first, len(arrivals), None if history else now, outcomes)
            self._repeats(cur, arrivals, fresh, outcomes)
            refused = [
                (a.tenant, a.source, a.id) for a, entry, _ in work if type(outcomes[entry - first]) is not Receipt
            ]
            self.store.unclaim(cur, refused)
            if judged:
                states = {tenant: judge.working for tenant, judge in judges.items()}
                with self.store.together(cur):
                    post(self.store, cur, states, judged, lease=lease, number=number, previous=previous, now=now)
                for arrival, entry, one, _ in judged:
                    if one.page.emits:
                        derived += self._derived(one, arrival, judges[arrival.tenant])
                    if one.page.joined is not None or one.page.parted:
                        self._merge_people(conn, one, entry, now)
        return outcomes  # type: ignore[return-value]

    def _turn(self, cur: Cursor) -> tuple[int, bytes, int]:
        """The batch that comes next: its number, the chain before it, and the time.  Raises Unavailable if another has the row."""
        writer, epoch = self.lease
        head, leased, newest = self.store.find_turn(cur, writer)
        if leased not in (None, epoch):
            self.replaced = True
            raise Unavailable("another process took over; this one is about to start anew")
        number, previous = (head[0] + 1, head[1]) if head else (1, b"\x00" * 32)
        self.clock.saw(newest)
        return number, previous, self.clock()

    @staticmethod
    def _merge_people(conn: sa.Connection, one: Judged, entry: int, now: int) -> None:
        """Merged members answer as the other from this commit on."""
        if one.page.joined is not None:
            source, into = one.page.joined
            people.merge(conn, one.record.tenant, source, into, entry, now)
        else:
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
        now: int | None,
        outcomes: list[Outcome | None],
    ) -> list[Done]:
        """Event by event over the batch's working state; parked refunds follow their sale as entries of their own.

        *now* None: history is played, and everything comes when it happens.
        """
        done: list[Done] = []
        served: dict[tuple[str, str], datetime] = {}  # per tenant and source, from when on events are in time
        places = used
        if len(work) > 1:
            for tenant, judge in judges.items():
                if judge.pipeline.apart:
                    judge.foresee([each for each in work if each[0].tenant == tenant])
        for arrival, entry, received in work:
            place = entry - first
            judge = judges[arrival.tenant]
            source = (arrival.tenant, arrival.source)
            since = served.get(source)
            try:
                if since is None or arrival.at < since or arrival.early:
                    self._in_time(judge.generation, arrival, received)
                    served[source] = EPOCH if now is None else moment(now - judge.generation.late(arrival.source))
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
        if used > places:
            done.sort(key=lambda each: each[1])
        return done

    def _judge_again(
        self, cur: Cursor, judge: Judge, arrival: Arrival, entry: int, received: int, store: Store | None = None
    ) -> Judged:
        """Judge; what a rule revokes or puts back is read when it says so, and the event judged once more.  Its member is locked."""
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
        used = {parse_entry(t.lot.rpartition(".")[0]) or 0 for t in record.transfers if t.lot}  # emptied since, perhaps
        lots = self.store.load_lots_of(cur, working.tenant, sorted(working.people), sorted({entry, *used}))
        working.fill_lots(lots, whole=True)
        for account in working.accounts_of(member):
            account.complete = True

    def _judge_one(self, judge: Judge, arrival: Arrival, entry: int, received: int) -> Judged:
        """Judge by the generation in force when the event happened."""
        then = judge.older.get(entry) if judge.older else None
        if arrival.kind == REPAIRED_KIND:
            repairer = Repairer(judge.working, then or judge.generation, self.secret)
            return repairer.judge(arrival, entry, received)
        if then is None:
            return judge.judge(arrival, entry, received)
        older = Judge(judge.working, then, self.secret)
        older.chance = judge.chance
        return older.judge(arrival, entry, received)

    def _older(self, work: Sequence[tuple[Arrival, int, int]], generation: Generation) -> dict[int, Generation]:
        """By entry, the generation of then, for events that happened before the one in force."""
        found: dict[int, Generation] = {}
        if not generation.since:
            return found
        since = moment(generation.since)
        for arrival, entry, _ in work:
            at = moment(arrival.facts.at) if isinstance(arrival.facts, Mending) else arrival.at
            if at < since:
                then = self.generations.at(arrival.tenant, instant(at))
                if then.number != generation.number:
                    found[entry] = then
        return found

    @staticmethod
    def _in_time(generation: Generation, arrival: Arrival, received: int) -> None:
        if generation.missing:
            raise TenantNotServed(f"required plugins are not available: {', '.join(generation.missing)}")
        if arrival.early:
            raise TooEarly(
                f"{arrival.at:%Y-%m-%dT%H:%M:%SZ} is more than five minutes ahead of the house's clock", pointer="/time"
            )
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
        self,
        store: Store,
        cur: Cursor,
        work: Sequence[tuple[Arrival, int, int]],
        tenants: Mapping[str, tuple[int, str]],
    ) -> dict[str, Judge]:
        """Lock every key that an event of the batch needs, in one order for everybody; only then read."""
        by_tenant: dict[str, list[tuple[Arrival, int, int]]] = {}
        for item in work:
            by_tenant.setdefault(item[0].tenant, []).append(item)
        judges = {}
        for tenant in sorted(by_tenant):
            generation = self.generations.current(tenant, tenants[tenant][0])
            judge = judges[tenant] = Judge(Working(tenant), generation, self.secret)
            judge.working.epoch = self.lease[1]
            judge.older = self._older(by_tenant[tenant], generation)
            Loader(store, cur, judge, by_tenant[tenant]).load()
        return judges

    # -- what follows ----------------------------------------------------------------------------------------------

    @staticmethod
    def _derived(one: Judged, cause: Arrival, judge: Judge) -> list[Arrival]:
        """Events that plugins emitted: their ids follow from the cause, so that they can never happen twice."""
        found = []
        for n, emit in enumerate(one.page.emits if cause.depth < MAX_DEPTH else ()):
            try:
                found.append(
                    derive(one.record, emit, n, judge.kinds, cause.depth + 1, emit.member or one.page.event.member)
                )
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
                    if (
                        depth <= MAX_DEPTH
                        and self.store.find_claim(cur, record.tenant, record.source, derived_id(record, emit, place))
                        is None
                    ):
                        kinds = self.generations.latest(record.tenant).kinds
                        try:
                            missing.append(derive(record, emit, place, kinds, depth, intent.member))
                        except TallyError as refusal:
                            log.warning("%s emitted by %s of entry %s: %s", emit.kind, emit.rule, record.entry, refusal)
        return missing

    # -- what broken plugins kept back ------------------------------------------------------------------------------

    def owing(self, tenant: str, *, after: int = 0, limit: int = 500) -> list[Arrival]:
        """One repair per entry in which a plugin was passed over, for a range of entries; empty when nothing is left."""
        mark = "%s" if self.store.postgres else "?"
        with database.reading(self.db) as conn:
            cur = self.store.cursor(conn)
            cur.execute(
                f"SELECT entry, situation FROM repair WHERE tenant = {mark} AND repaired = 0 AND entry > {mark} ORDER BY entry LIMIT {mark}",  # noqa: S608
                (tenant, after, limit),
            )
            waiting = [(entry, bytes(sealed)) for entry, sealed in cur.fetchall()]
            records = self.store.load_records(cur, tenant, [entry for entry, _ in waiting])
            found = {entry: read_record(records[entry][0]) for entry, _ in waiting}
            numbers = {number for record in found.values() if (number := parse_member(record.member)) is not None}
            keys = {row[0]: row[3] for row in self.looks.lock_members(cur, tenant, numbers)}
        arrivals = []
        for entry, sealed in waiting:
            record = found[entry]
            member = parse_member(record.member)
            key = self.secret if member is None else keys.get(member)
            opened = vault.open_sealed(bytes(key), sealed, record.entry.encode()) if key is not None else None
            if opened is None:
                continue  # whoever it was about was forgotten
            facts = Mending(entry=record.entry, at=record.at, kept=read_kept(opened))
            arrivals.append(
                Arrival(
                    tenant=tenant, id=f"repair/{record.entry}", source="tally", kind=REPAIRED_KIND, at=moment(self.clock()),
                    member=record.member, facts=facts, canonical=msgspec.json.encode({"data": {"entry": record.entry}}),
                    actor="tally",
                )
            )  # fmt: skip
        return arrivals

    def settled(self, tenant: str, entries: Collection[int]) -> None:
        """Of these entries nothing is owed any more."""
        with self.db.begin() as conn:
            self.store.mark_repaired(self.store.cursor(conn), [(-1, tenant, entry) for entry in entries])

    # -- expiry ---------------------------------------------------------------------------------------------------------

    def expire(self, tenant: str, *, now: int | None = None, history: bool = False) -> int:
        """Sweep everything that is due; from how many members something expired."""
        at = self.clock() if now is None else now
        return sum(self.sweep(tenant, piece, at, history=history) for piece in self.due(tenant, at))

    def due(self, tenant: str, at: int) -> list[Piece]:
        """The members in pieces, each with about as much due at *at* as one transaction sweeps; none if nothing is due."""
        with database.reading(self.db) as conn:
            return pieces(self.looks, self.looks.cursor(conn), tenant, at)

    def sweep(self, tenant: str, piece: Piece, at: int, *, history: bool = False) -> int:
        """Expire what is due at *at* of the members in *piece*, as one batch; how many had something.

        Each lot expires once whoever sweeps and however often: what is due is read under the members' locks.  With *history*
        it expires when it was due, otherwise now.
        """
        deadline, pause = time.monotonic() + PATIENCE, 0.005
        while True:
            try:
                return self._sweep(tenant, piece, at, history)
            except TooMuch:
                return sum(self.sweep(tenant, half, at, history=history) for half in piece.halves())
            except Exception as error:
                if not database.retryable(error) or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 0.5)

    def _sweep(self, tenant: str, piece: Piece, at: int, history: bool) -> int:
        store = self.store
        with self.db.begin() as conn:
            cur = store.cursor(conn)
            terms = store.share_generations(cur, [tenant])
            if tenant not in terms:
                raise UnknownTenant(f"no tenant {tenant!r} here")
            number, previous, now = self._turn(cur)
            first = entry_number(self.writer, number, 0)
            # the clock may have been set back since somebody asked what is due
            at = at if history else min(at, now)
            done = sweep(
                store, cur, tenant, piece, at, received=at if history else now, first=first, terms=terms[tenant]
            )
            if done.pages:
                claims = [(tenant, record.source, record.id, entry) for entry, record, _ in done.pages]
                rows = [(entry, tenant, 0, record.received, body, None) for entry, record, body in done.pages]
                store.append_claims(cur, claims)
                store.append_records(cur, rows)
                link(store, cur, [body for *_, body in done.pages], self.lease, number, previous, now)
            return done.members


def _conflict(arrival: Arrival, record: Record) -> EventConflict:
    return EventConflict(
        f"event {arrival.id} was already recorded with other facts", event_id=arrival.id, entry=record.entry
    )


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
    arrival = read_document(
        document,
        tenant=cause.tenant,
        kinds=kinds,
        received=moment(cause.received),
        actor=cause.source if cause.source == HOUSE else emit.rule,
    )
    arrival.cause, arrival.depth = parse_entry(cause.entry) or 0, depth
    return arrival
