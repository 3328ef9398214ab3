"""build_house(): the only place that chooses and connects."""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import attrs
import msgspec
import sqlalchemy as sa

from . import config as configuration
from . import database, discovery, lane, migrate, outbox, passes, people, structs, tables, values, vault
from .breaker import Health, SwitchedOff, sum_up
from .clock import SteadyClock
from .config import Config, Tenant
from .discovery import Installed
from .engine import Engine, Outcome, Receipt
from .errors import DatabaseNotReady, NothingOwed, PluginFailed, TallyError, Unavailable, UnknownTenant
from .events import CORE_KINDS, Arrival, EventKind
from .generation import Generation
from .hookspecs import PURE
from .intake import read_document
from .jobs import Interrupted, Job, Turn, run_due
from .ledger import Record, instant, moment, parse_entry
from .mending import Mending
from .pipeline import Part, compile_pipeline
from .store import Store
from .watchdog import Watchdog
from .wellness import Rounds
from .writer import Writer

log = logging.getLogger("tallystick")

T = TypeVar("T")
#: How long a writer's row is leased, and how often the lease is renewed, in seconds.
LEASE, RENEW = 60, 20
#: In the year 2105; the nonce of sealed facts begins with the epoch, and other nonces begin with 0xff.
LAST_EPOCH = 0xFE_FF_FF_FF


def now() -> int:
    """The house's clock: microseconds since 1970."""
    return time.time_ns() // 1_000


class Registry:
    """The tenants' generations: compiled once, read again when another process made a newer one."""

    def __init__(self, db: sa.Engine, installed: Mapping[str, Installed]) -> None:
        self._db, self._installed = db, installed
        self._current: dict[str, Generation] = {}
        self._older: dict[tuple[str, int, int], Generation] = {}
        self._lock = threading.Lock()

    def current(self, tenant: str, number: int) -> Generation:
        """The generation *number* of *tenant*, which is the one in force."""
        found = self._current.get(tenant)
        if found is None or found.number != number:
            with self._lock:
                found = self._compile(tenant, number)
                self._current[tenant] = found
        return found

    def at(self, tenant: str, instant: int) -> Generation:
        """The generation that was in force at *instant*; the first one for anything before it."""
        rows = tables.programme
        query = sa.select(rows.c.generation).where(rows.c.tenant == tenant)
        with database.reading(self._db) as conn:
            number = conn.scalar(query.where(rows.c.since <= instant).order_by(rows.c.generation.desc()).limit(1))
            if number is None:
                number = conn.scalar(query.order_by(rows.c.generation).limit(1))
        if number is None:
            raise UnknownTenant(f"no tenant {tenant!r} here")
        current = self.latest(tenant)
        if current.number == number:
            return current
        key = (tenant, int(number), current.number)
        if key not in self._older:
            self._older[key] = self._compile(tenant, number, enabled={part.id for part in current.pipeline.parts})
        return self._older[key]

    def latest(self, tenant: str) -> Generation:
        """The generation in force now."""
        with database.reading(self._db) as conn:
            number = conn.scalar(sa.select(tables.tenant.c.generation).where(tables.tenant.c.id == tenant))
        if number is None:
            raise UnknownTenant(f"no tenant {tenant!r} here")
        return self.current(tenant, number)

    def health(self) -> list[Health]:
        """How every hook fared in this process, in all tenants together."""
        generations = [*self._current.values(), *self._older.values()]
        return sum_up([each for generation in generations for each in generation.pipeline.health()])

    def _compile(self, tenant: str, number: int, *, enabled: Collection[str] | None = None) -> Generation:
        """Generation *number*; of an older one only what is *enabled* today runs."""
        rows = tables.programme
        with database.reading(self._db) as conn:
            row = conn.execute(
                sa.select(rows.c.document, rows.c.since).where(rows.c.tenant == tenant, rows.c.generation == number)
            ).one()
        built = configuration.build_tenant(tenant, msgspec.json.decode(row.document), self._installed, enabled=enabled)
        if enabled is not None:
            built = msgspec.structs.replace(
                built, required=(),
                rates=self._current[tenant].programme.rates,  # each has its own day: what is known today was so then
            )  # fmt: skip
        return build_generation(built, number, row.since, self._installed)


def build_generation(tenant: Tenant, number: int, since: int, installed: Mapping[str, Installed]) -> Generation:
    """Compile a checked tenant: make its plugins with their settings, collect the kinds they bring."""
    programme = tenant.programme(number)
    kinds: dict[str, EventKind] = {kind.name: kind for kind in CORE_KINDS}
    parts = []
    for name, chosen in tenant.plugins.items():
        manifest = installed[name].manifest
        for kind in discovery.load_kinds(manifest):
            kinds[kind.name] = kind
        if manifest.lane == "worker" or name in tenant.worker_lane:
            context = configuration.context_of(tenant, installed)
            plugin: Any = lane.make_apart(installed[name], chosen, context, programme)
        else:
            plugin = configuration.make_plugin(installed[name], chosen, programme)
        if plugin is not None:
            parts.append(
                Part(
                    id=name,
                    version=str(manifest.version),
                    plugin=plugin,
                    interests=manifest.interests,
                    hooks=manifest.hooks,
                    grants=manifest.effects,
                    budget=tenant.budgets.get(name, {}),
                )
            )
    missing = tuple(name for name in tenant.required if name not in tenant.plugins)
    return Generation(
        programme=programme,
        pipeline=compile_pipeline(parts, kinds, programme),
        kinds=kinds,
        since=since,
        lateness=tenant.lateness,
        source_lateness={name: source.lateness for name, source in tenant.sources.items()},
        missing=missing,
    )


@attrs.frozen
class Errand:
    """What a plugin's job gets: itself as the tenant has set it up, the time, and the door everybody uses."""

    house: House
    turn: Turn
    plugin: Any  #: the plugin's object, made with its settings
    generation: Generation

    @property
    def tenant(self) -> str:
        """The tenant it is run for."""
        return self.turn.job.tenant

    @property
    def now(self) -> datetime:
        """When the job is run."""
        return self.turn.now

    def member(self, reference: str) -> int:
        """The number of the member whom an external id or ``m-`` and digits names.  Raises UnknownMember."""
        with self.house.reading() as conn:
            return people.load(conn, self.house.secret, self.tenant, reference).number

    def record(self, documents: Iterable[Mapping[str, Any]]) -> list[Outcome]:
        """Send events through the door, as any client would; one outcome each."""
        kinds, actor = self.generation.kinds, self.turn.job.name
        return self.house.record(
            [read_document(one, tenant=self.tenant, kinds=kinds, received=self.now, actor=actor) for one in documents],
            history=self.turn.history,
        )


@attrs.frozen(kw_only=True)
class NotYet:
    """An entry that cannot be made good yet."""

    entry: str
    plugin: str
    hook: str
    cause: str  #: what had happened to the plugin then; see :data:`tallystick.breaker.Cause`
    error: str
    code: str  #: why not yet, for programs
    why: str  #: the same for people


@attrs.frozen(kw_only=True)
class Repaired:
    """What a repair came to."""

    given: tuple[Record, ...]  #: the entries that make good, or would
    nothing: int  #: of so many nothing was owed
    waiting: tuple[NotYet, ...]


class InForce(NamedTuple):
    """A tenant as it is set up in one generation."""

    generation: int
    tenant: Tenant


@attrs.define
class House:
    """Everything connected.  Doors hold one; nothing below knows it."""

    config: Config
    installed: Mapping[str, Installed]
    db: sa.Engine
    secret: bytes
    registry: Registry
    engine: Engine
    writer: Writer
    clock: SteadyClock = attrs.field(factory=lambda: SteadyClock(now))
    _in_force: dict[str, InForce] = attrs.field(factory=dict)
    watchdog: Watchdog = attrs.field(factory=Watchdog)  #: ends loops in plugins
    _rounds: Rounds = attrs.field(factory=Rounds)
    forgotten: int = 0  #: erasures that had to be done again when the house was built
    _works: bool = True  #: whether this process runs jobs
    #: for a command: events come from the caller's thread alone, and nothing runs by the clock meanwhile
    _alone: bool = False
    _closing: threading.Event = attrs.field(factory=threading.Event)
    _threads: list[threading.Thread] = attrs.field(factory=list)

    def kinds(self, tenant: str) -> Mapping[str, EventKind]:
        """The kinds of events that *tenant* knows now."""
        return self.registry.latest(tenant).kinds

    def tenants(self) -> dict[str, Tenant]:
        """The tenants as they are set up now: by tally.toml, or by whoever changed them since, in whatever process."""
        rows = tables.tenant
        with database.reading(self.db) as conn:
            for name, number in conn.execute(sa.select(rows.c.id, rows.c.generation)).all():
                known = self._in_force.get(name)
                if known is not None and known.generation != number:
                    self._in_force[name] = InForce(number, read_tenant(conn, name, number, self.installed))
        return {name: found.tenant for name, found in self._in_force.items()}

    def in_force(self, tenant: str) -> InForce:
        """The tenant as :meth:`tenants` finds it now, with the number of its generation."""
        self.tenants()
        return self._in_force[tenant]

    def dry_run(self, arrival: Arrival) -> Receipt:
        """What would be; see :meth:`Engine.dry_run`.  An event that is known already would be answered as it was then."""
        return self.engine.known(arrival) or self.engine.dry_run(arrival)

    def record(self, arrivals: Sequence[Arrival], *, history: bool = False) -> list[Outcome]:
        """One outcome per event.  An engine has one thread: while the writer runs, everything goes through it."""
        if history or not self.writer.running:
            return self.perform(lambda: self.engine.record(arrivals, history=history))
        return [future.result() for future in self.writer.submit_all(arrivals)]

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection to look with: it waits for nobody who writes, and nobody waits for it."""
        return database.reading(self.db)

    def pass_for(self, tenant: str, door: str, *words: str) -> str:
        """What opens a plugin's public route *door* without a key, for *words*: the ``{pass}`` of its path."""
        return passes.issue(self.secret, passes.Pass(door, tenant, words))

    # -- being forgotten ------------------------------------------------------------------------------------------------

    def erase(self, tenant: str, number: int) -> people.Receipt:
        """Forget a member, in every enabled plugin too, and note it where a restored backup does not reach."""
        with self.db.begin() as conn:
            receipt = people.erase(conn, tenant, number, self.clock(), plugins=self._forgetting(tenant, conn))
        self.config.house.data_dir.mkdir(parents=True, exist_ok=True)
        with erasures_file(self.config).open("ab") as file:
            file.write(msgspec.json.encode(receipt.erasure) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        people.scrub(self.db)
        return receipt

    def forget_again(self) -> int:
        """Forget whom a restored backup remembers; how many erasures had to be done anew.  Done before a house serves."""
        try:
            lines = erasures_file(self.config).read_bytes().splitlines()
        except FileNotFoundError:
            return 0
        wanted = [msgspec.json.decode(line, type=people.Erasure) for line in lines if line.strip()]
        with database.reading(self.db) as conn:
            done = {erasure.id for erasure in people.erasures(conn)}
        missing = [erasure for erasure in wanted if erasure.id not in done]
        if missing:
            with self.db.begin() as conn:
                people.replay_erasures(conn, missing, lambda tenant: self._forgetting(tenant, conn))
            people.scrub(self.db)
            log.warning("%s erasures that a restored backup did not know were done again", len(missing))
        return len(missing)

    def _forgetting(self, tenant: str, conn: sa.Connection) -> list[people.Forgetting]:
        if tenant not in self._in_force:
            return []  # nobody serves it any more: what the core keeps is forgotten all the same
        generation = self.registry.latest(tenant)

        def forget(plugin: str, hook: Callable[..., bool | None], number: int) -> bool | None:
            try:
                with conn.begin_nested():  # half of what it forgot comes back, and what the core forgot stays forgotten
                    return self._ask(generation, plugin, "erase_member", lambda: hook(member=number, store=conn))
            except PluginFailed:
                log.exception("%s has not forgotten a member of %s: erase the member again", plugin, tenant)
                return False

        return [
            (plugin, functools.partial(forget, plugin, hook))
            for plugin, hook in generation.pipeline.implementations("erase_member")
        ]

    def export(self, tenant: str, number: int) -> dict[str, Any]:
        """Everything the house and every enabled plugin keep of a member, as one document for the person."""
        with database.reading(self.db) as conn:
            if tenant not in self._in_force:
                return people.export(conn, tenant, number, ())
            generation = self.registry.latest(tenant)

            def tell(plugin: str, hook: Callable[..., Any], number: int) -> Any:
                return self._ask(generation, plugin, "export_member", lambda: hook(member=number, store=conn))

            telling: list[people.Telling] = [
                (plugin, functools.partial(tell, plugin, hook))
                for plugin, hook in generation.pipeline.implementations("export_member")
            ]
            return people.export(conn, tenant, number, telling)

    def jobs(self) -> list[Job]:
        """What runs by the clock: the core's own work and the jobs that enabled plugins declare."""
        found: list[Job] = []
        for tenant in self.tenants().values():
            zone = tenant.zone
            found.append(
                Job(tenant=tenant.id, name="core.expire", run=self._expire, every=timedelta(hours=1), zone=zone)
            )
            if tenant.repair == "hourly":
                found.append(
                    Job(tenant=tenant.id, name="core.repair", run=self._repair, every=timedelta(hours=1), zone=zone)
                )
            for name in tenant.plugins:
                manifest = self.installed[name].manifest
                for job in manifest.jobs:
                    run = functools.partial(self._run_job, name, job.run)
                    found.append(
                        Job(
                            tenant=tenant.id, name=job.id, zone=zone, run=run,
                            every=values.duration(job.every) if job.every else None,
                            daily=time_of_day.fromisoformat(job.daily) if job.daily else None, history=job.history,
                        )
                    )  # fmt: skip
        return found

    def _run_job(self, plugin: str, run: str, turn: Turn) -> None:
        errand = self._errand(plugin, turn)
        work = discovery.load(run, plugin=plugin)  # only now: one that cannot be imported keeps no other job waiting
        self._ask(errand.generation, plugin, turn.job.name, lambda: work(errand), through=(Interrupted,))

    def _ask(
        self, generation: Generation, plugin: str, hook: str, call: Callable[[], T],
        *, through: tuple[type[BaseException], ...] = (), anyway: bool = True,
    ) -> T:  # fmt: skip
        """*call* a plugin off the event path; its failures are its own, and are seen in `/readyz` and `/metrics`.

        Raises PluginFailed and, unless it is asked *anyway*, SwitchedOff while its breaker is open.
        """

        def asked() -> T:
            try:
                return call()
            except Exception as error:
                if (refusal := database.refusal(error)) is not None:  # no fault of the plugin
                    raise refusal from error
                raise

        guard = generation.pipeline.guard(plugin, str(self.installed[plugin].manifest.version), hook)
        found: T = guard.work(asked, through=through, anyway=anyway)
        return found

    def unwell(self) -> list[str]:
        """Plugins that say they are not well, or do not say how they are, for some tenant; asked at most every ten seconds."""
        asked: dict[tuple[str, str, int], Callable[[], Any]] = {}
        for tenant in self.tenants():
            generation = self.registry.latest(tenant)
            for plugin, health in generation.pipeline.implementations("health"):
                asked[plugin, tenant, generation.number] = health
        return sorted({plugin for plugin, _, _ in self._rounds.unwell(asked)})

    def run_jobs(self, *, force: bool = False, only: str = "") -> list[str]:
        """Run what is due (with *force* everything, or only the job named); names of what ran."""
        jobs = [job for job in self.jobs() if not only or job.name == only]
        try:
            return run_due(
                self.db,
                jobs,
                self.clock(),
                f"{socket.gethostname()}/{os.getpid()}",
                force=force,
                closing=self._closing.is_set,
            )
        finally:
            self.relay()  # a job that fails keeps nobody from learning what was committed

    def _expire(self, turn: Turn) -> None:
        at = instant(turn.now)
        for piece in self.engine.due(turn.job.tenant, at):
            self.perform(lambda piece=piece: self.engine.sweep(turn.job.tenant, piece, at))  # type: ignore[misc]
            turn.reached("")  # what is swept is due no more: there is nothing to remember

    def _repair(self, turn: Turn) -> None:
        """As long as a plugin is switched off here, asking it again would only keep it so."""
        tenant = turn.job.tenant
        if all(each.ok for each in self.registry.latest(tenant).pipeline.health() if each.hook in PURE):
            self.repair(tenant)

    def expire(self, tenant: str, *, now: int | None = None, history: bool = False) -> int:
        """Sweep everything that is due, piece by piece; from how many members something expired."""
        at, swept = self.clock() if now is None else now, 0
        for piece in self.engine.due(tenant, at):
            swept += self.perform(lambda piece=piece: self.engine.sweep(tenant, piece, at, history=history))  # type: ignore[misc]
        return swept

    def perform(self, work: Callable[[], T]) -> T:
        """Do *work* with the engine, which has one thread: the writer's while it runs, otherwise the caller's."""
        return self.writer.perform(work) if self.writer.running else work()

    def repair(self, tenant: str, *, dry_run: bool = False) -> Repaired:
        """Make good what broken plugins kept from members: each event is judged again as of then and its gain posted.

        Run again, it does what is left.  Nothing is ever taken.  With *dry_run* it says what it would give.
        """
        given: list[Record] = []
        waiting: list[NotYet] = []
        nothing, after = 0, 0
        while arrivals := self.engine.owing(tenant, after=after):
            outcomes: Sequence[Outcome] = self._would_be(arrivals) if dry_run else self.record(arrivals)
            settled = []
            for arrival, outcome in zip(arrivals, outcomes, strict=True):
                facts: Mending = arrival.facts  # type: ignore[assignment]
                after = parse_entry(facts.entry) or 0
                if isinstance(outcome, Receipt):
                    given.append(outcome.record)
                elif isinstance(outcome, NothingOwed):
                    settled.append(after)
                else:
                    first = facts.kept.skipped[0]
                    waiting.append(
                        NotYet(
                            entry=facts.entry, plugin=first.plugin, hook=first.hook, cause=first.cause, error=first.error,
                            code=outcome.code, why=outcome.message,
                        )
                    )  # fmt: skip
            nothing += len(settled)
            if settled and not dry_run:
                self.engine.settled(tenant, settled)
        return Repaired(given=tuple(given), nothing=nothing, waiting=tuple(waiting))

    def _would_be(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for arrival in arrivals:
            try:
                outcomes.append(self.engine.dry_run(arrival))
            except TallyError as error:
                outcomes.append(error)
        return outcomes

    def errand(self, plugin: str, tenant: str, name: str) -> Errand:
        """*plugin* at work for *tenant*, now and under *name*: for what is neither a job's turn nor a request.

        Raises UnknownTenant.
        """
        turn = Turn(Job(tenant=tenant, name=name, run=lambda _: None), moment(self.clock()), "", lambda _: None)
        return self._errand(plugin, turn)

    def _errand(self, plugin: str, turn: Turn) -> Errand:
        tenant = turn.job.tenant
        generation = self.registry.latest(tenant)
        part = next((part for part in generation.pipeline.parts if part.id == plugin), None)
        return Errand(house=self, turn=turn, plugin=part.plugin if part is not None else None, generation=generation)

    def relay(self) -> None:
        """Bring consumers up to date: events a crash cut off from their cause, and plugins that keep projections.

        A plugin that fails learns the same again later and keeps no other from learning; the first failure is raised at the end.
        """
        # fewer than it takes at most are all there were: what came meanwhile is the next turn's, or no turn would end
        while batches := outbox.unseen(self.db, "core.events", channel="event"):
            if any(isinstance(outcome, Unavailable) for outcome in self.record(self.engine.cut_off(batches))):
                break  # they come again
            outbox.advance(self.db, "core.events", batches)
            if len(batches) < outbox.MAX_BATCHES:
                break
        first: PluginFailed | None = None
        for plugin, tenants in self._projecting().items():
            hook = self.installed[plugin].manifest
            name, take = f"{hook.id}.committed", self._committed(plugin, tenants)
            try:
                while outbox.relay(self.db, name, take, tenants=tenants):
                    pass
            except SwitchedOff:
                continue  # it is tried again when its breaker lets it
            except PluginFailed as error:
                first = first or error
        if first is not None:
            raise first

    def _projecting(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for tenant in self.tenants().values():
            for name in tenant.plugins:
                if "committed" in self.installed[name].manifest.hooks:
                    found.setdefault(name, []).append(tenant.id)
        return found

    def _committed(self, plugin: str, tenants: Sequence[str]) -> outbox.Take:
        hooks = [
            (tenant, generation, hook)
            for tenant in tenants
            for generation in (self.registry.latest(tenant),)
            for name, hook in generation.pipeline.implementations("committed")
            if name == plugin
        ]

        def take(conn: sa.Connection, batches: Sequence[outbox.Committed]) -> None:
            for tenant, generation, hook in hooks:
                mine = [
                    msgspec.structs.replace(
                        batch,
                        records=tuple(r for r in batch.records if r.tenant == tenant),
                        intents=tuple(i for i in batch.intents if i.tenant == tenant),
                    )
                    for batch in batches
                ]
                told = [batch for batch in mine if batch.records]
                learn = functools.partial(hook, batch=told, store=conn)
                self._ask(generation, plugin, "committed", learn, anyway=False)

        return take

    def open(self) -> House:
        """Begin to take events; the lease of the writer's row is kept from now on."""
        structs.learn()
        self.watchdog.start()
        if not self._alone:
            self.writer.start()
        self._threads = [threading.Thread(target=self._keep, name="tally-lease", daemon=True)]
        if self._works and not self._alone:
            self._threads.append(threading.Thread(target=self._work, name="tally-jobs", daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Record what was accepted, give the writer's row back, and let go of the database."""
        self._closing.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()  # it may be at work in the database that is let go of below
        self.writer.stop()
        self.watchdog.stop()
        try:
            release_writer(self.db, *self.engine.lease)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, Unavailable) as error:
            log.warning("the writer's row could not be given back; its lease ends by itself: %s", error)
        finally:
            self.db.dispose()

    def __enter__(self) -> House:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self) -> None:
        turn = 0
        while not self._closing.wait(1.0):
            turn += 1
            try:
                at = self.clock()
                if self.engine.replaced or (turn % RENEW == 0 and not keep_writer(self.db, *self.engine.lease, at)):
                    log.warning("the lease of writer %s was lost; another one is taken", self.engine.lease[0])
                    self.engine.lease, self.engine.replaced = lease_writer(self.db, at), False
                database.checkpoint(self.db)
            except sa.exc.DBAPIError as error:  # busy, or away for a while: in a second it is tried again
                log.warning("the lease of the writer could not be kept yet: %s", error.orig)
            except Unavailable as error:
                log.warning("the lease of the writer could not be kept yet: %s", error)
            except Exception:
                log.exception("the lease of the writer could not be kept")

    def _work(self) -> None:
        while not self._closing.wait(1.0):
            try:
                self.run_jobs()
            except sa.exc.DBAPIError as error:  # what could not be done now is due again in a second
                log.warning("work by the clock has to wait for the database: %s", error.orig)
            except Unavailable as error:
                log.warning("work by the clock has to wait for the database: %s", error)
            except BaseException:  # the till must not notice; and a plugin does not end this thread
                log.exception("work by the clock failed")


def build_house(
    config: Config,
    *,
    installed: Mapping[str, Installed] | None = None,
    clock: Callable[[], int] = now,
    alone: bool = False,
) -> House:
    """Connect a checked configuration with its database.  The database must be migrated; see :func:`prepare`.

    *alone* is for a command that ends when its own work is done: it records in its own thread and runs no jobs.

    Raises DatabaseNotReady, DatabaseTooNew, and PluginBroken if a plugin fails while it is made.
    """
    installed = discovery.discover() if installed is None else installed
    db = database.connect(config.house.database)
    try:
        return _connect(db, config, installed, clock, alone=alone)
    except BaseException:
        db.dispose()  # nobody else has it
        raise


def _connect(
    db: sa.Engine, config: Config, installed: Mapping[str, Installed], clock: Callable[[], int], *, alone: bool
) -> House:
    steady = SteadyClock(clock)
    migrate.check(db, migration_parts(look(db, config, installed).values(), installed))
    secret = house_secret(db, config)
    steady.saw(newest_batch(db))
    in_force = sync_tenants(db, config, installed, steady())
    registry = Registry(db, installed)
    writer, epoch = lease_writer(db, steady())
    engine = Engine(db, registry, secret, writer=writer, epoch=epoch, clock=steady)
    built = House(
        config=config, installed=installed, db=db, secret=secret, registry=registry, engine=engine, writer=Writer(engine), clock=steady,
        in_force=in_force, alone=alone,
    )  # fmt: skip
    built.forgotten = built.forget_again()
    return built


def erasures_file(config: Config) -> Path:
    """Where it is kept who asked to be forgotten, by number: outside the database, and to be kept apart from its backups."""
    return config.house.data_dir / "erasures.jsonl"


def prepare(config: Config, *, installed: Mapping[str, Installed] | None = None) -> None:
    """Bring the database of *config* to this version: create it, or run what migrations it lacks."""
    installed = discovery.discover() if installed is None else installed
    db = database.connect(config.house.database)
    try:
        if (file := database.database_file(db)) is not None:
            database.keep_to_oneself(file)
        migrate.upgrade(db, migration_parts(look(db, config, installed).values(), installed))
    finally:
        db.dispose()


def migration_parts(tenants: Iterable[Tenant], installed: Mapping[str, Installed]) -> list[migrate.Part]:
    """Who keeps tables here: the core first, then every plugin some tenant runs, in the tenants' order."""
    parts = [migrate.CORE]
    seen = set()
    for tenant in tenants:
        for name in tenant.plugins:
            manifest = installed[name].manifest
            if manifest.migrations and name not in seen:
                seen.add(name)
                parts.append(migrate.Part(name, manifest.migrations))
    return parts


def house_secret(db: sa.Engine, config: Config) -> bytes:
    """The secret that keys look-ups: from the configuration if it has one, else made once and kept in the database."""
    with db.begin() as conn:
        row = conn.execute(sa.select(tables.house.c.secret)).first()
        if row is None:
            secret = config.house.secret.encode() if config.house.secret else vault.new_key()
            conn.execute(tables.house.insert().values(id=1, created_at=now(), secret=_kept(secret, config)))
            return vault.derive(secret)
        if config.house.secret:
            if bytes(row.secret) != _kept(config.house.secret.encode(), config):
                raise DatabaseNotReady("the house's secret is not the one this database was made with")
            return vault.derive(config.house.secret.encode())
        return vault.derive(bytes(row.secret))


def _kept(secret: bytes, config: Config) -> bytes:
    # a secret that lives in a file is never written into the database: only a print of it, to notice a wrong one
    return vault.print_of(secret) if config.house.secret else secret


def sync_tenants(
    db: sa.Engine, config: Config, installed: Mapping[str, Installed], at: int, actor: str = "tally.toml"
) -> dict[str, InForce]:
    """Make the tenants of *config* known, and return what is in force.

    A tenant's table that changed since it was last applied becomes a new generation under the exclusive lock.  One that
    did not change leaves alone what somebody changed live.
    """
    found = {}
    rows = tables.tenant
    with db.begin() as conn:
        for written in config.tenants.values():
            query = sa.select(rows.c.generation, rows.c.programme, rows.c.applied).where(rows.c.id == written.id)
            row = conn.execute(query.with_for_update()).first()
            digest, number, tenant = configuration.programme_hash(written.said), 0, written
            if row is None:
                conn.execute(
                    rows.insert().values(id=tenant.id, name=str(tenant.name), created_at=at, generation=0, programme="")
                )
            else:
                number = row.generation
                if row.applied == digest:
                    tenant = read_tenant(conn, tenant.id, number, installed, tenant)
            if row is None or row.programme != tenant.hash:
                number += 1
                write_generation(conn, tenant, installed, number, at, actor)
            if row is None or row.applied != digest:
                conn.execute(rows.update().where(rows.c.id == tenant.id).values(applied=digest))
            found[tenant.id] = InForce(number, tenant)
    return found


def read_tenant(
    conn: sa.Connection, name: str, number: int, installed: Mapping[str, Installed], known: Tenant | None = None
) -> Tenant:
    """The tenant as generation *number* has it; *known* itself if that is what was asked for."""
    rows = tables.programme
    row = conn.execute(
        sa.select(rows.c.said, rows.c.document).where(rows.c.tenant == name, rows.c.generation == number)
    ).one()
    said = msgspec.json.decode(row.said)
    if known is not None and known.said == said:
        return known
    tenant, _, _ = configuration.check_tenant(name, said, installed, origin="the house")
    # what an upgrade made wrong is told by `tally check`; until then what was right goes on
    return tenant or configuration.build_tenant(name, msgspec.json.decode(row.document), installed)


def look(db: sa.Engine, config: Config, installed: Mapping[str, Installed]) -> dict[str, Tenant]:
    """The tenants of *config* as they would be set up if the house started now; nothing is changed."""
    found = dict(config.tenants)
    (core,) = migrate.status(db, [migrate.CORE])
    if core.pending or core.too_new:
        return found
    rows = tables.tenant
    with database.reading(db) as conn:
        for row in conn.execute(sa.select(rows.c.id, rows.c.generation, rows.c.applied)).all():
            written = config.tenants.get(row.id)
            if written is not None and row.applied == configuration.programme_hash(written.said):
                found[row.id] = read_tenant(conn, row.id, row.generation, installed, written)
    return found


def write_generation(
    conn: sa.Connection, tenant: Tenant, installed: Mapping[str, Installed], number: int, at: int, actor: str
) -> None:
    """Put generation *number* in force.  The caller holds the tenant's row exclusively."""
    conn.execute(
        tables.programme.insert().values(
            tenant=tenant.id,
            generation=number,
            hash=tenant.hash,
            document=msgspec.json.encode(tenant.document, order="deterministic").decode(),
            plugins=msgspec.json.encode(
                {name: str(installed[name].manifest.version) for name in tenant.plugins}
            ).decode(),
            # as long as nothing was ever recorded, the settings also judge what happened before them: an import of the past
            since=at if _has_records(conn, tenant.id) else 0,
            actor=actor,
            said=msgspec.json.encode(tenant.said, order="deterministic").decode(),
        )
    )
    conn.execute(
        tables.tenant.update().where(tables.tenant.c.id == tenant.id).values(generation=number, programme=tenant.hash)
    )


def _has_records(conn: sa.Connection, tenant: str) -> bool:
    rows = tables.record
    return conn.scalar(sa.select(rows.c.entry).where(rows.c.tenant == tenant).limit(1)) is not None


# --- the writer's row ------------------------------------------------------------------------------------------------


def newest_batch(db: sa.Engine) -> int:
    """When the last batch of all writers was written; 0 if none was."""
    store = Store(db.dialect.name, locking=False)
    with database.reading(db) as conn:
        return store.find_turn(store.cursor(conn), 0)[2]


def lease_writer(db: sa.Engine, at: int) -> tuple[int, int]:
    """Lease a writer's row nobody holds, or open a new one: (writer, epoch).

    An epoch is the second in which the lease began, or one more than the last: none comes again, not even in a database
    that was restored from a backup, where the numbers of entries do.
    """
    rows = tables.writer
    second = min(at // 1_000_000, LAST_EPOCH)
    until = at + LEASE * 1_000_000
    holder = f"{socket.gethostname()}/{os.getpid()}"
    with db.begin() as conn:
        free = conn.execute(
            sa.select(rows.c.id, rows.c.epoch)
            .where(rows.c.leased_until < at)
            .order_by(rows.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if free is not None:
            conn.execute(
                rows.update()
                .where(rows.c.id == free.id)
                .values(epoch=max(second, free.epoch + 1), leased_until=until, holder=holder)
            )
            return free.id, max(second, free.epoch + 1)
        if db.dialect.name == "postgresql":
            conn.exec_driver_sql("LOCK TABLE writer IN EXCLUSIVE MODE")
        last: Any = conn.scalar(sa.select(sa.func.max(rows.c.id)))
        writer = (last or 0) + 1
        conn.execute(rows.insert().values(id=writer, epoch=second, leased_until=until, holder=holder))
        return writer, second


def keep_writer(db: sa.Engine, writer: int, epoch: int, at: int) -> bool:
    """Renew the lease; False if somebody else holds the row now."""
    rows = tables.writer
    with db.begin() as conn:
        done = conn.execute(
            rows.update().where(rows.c.id == writer, rows.c.epoch == epoch).values(leased_until=at + LEASE * 1_000_000)
        )
        return done.rowcount == 1


def release_writer(db: sa.Engine, writer: int, epoch: int) -> None:
    """Give the row back: the next process continues its chain."""
    rows = tables.writer
    with db.begin() as conn:
        conn.execute(rows.update().where(rows.c.id == writer, rows.c.epoch == epoch).values(leased_until=0, holder=""))
