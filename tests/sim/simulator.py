"""``python -m tests.sim --seed N``: one seeded process in which everything that can go wrong does; same seed, same trace.

Two writers, many clients and the sweeper take turns as the seeded scheduler says.  Time is virtual.  The storage fails
before a commit, after it, or without saying which; processes die between two steps and come back; the plugin raises;
the clock jumps; some events are held and decided later.  Clients send again what was not answered.  At the end the faults stop, everything is sent once more,
and the books must be what a model of what was answered says.
"""

import argparse
import hashlib
import logging
import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.tests.lab import START, Lab, Puppet
from tallystick import database, proofs, vault
from tallystick import engine as engine_room
from tallystick.effects import Grant, Verdict
from tallystick.engine import Engine, Outcome, Receipt
from tallystick.errors import TallyError
from tallystick.events import Arrival
from tallystick.ledger import canonical

MEMBERS = tuple(f"m{n}" for n in range(6))
#: How an event may be refused; the first two are sent again.
AGAIN = {"unavailable", "unknown_order"}
REFUSALS = {*AGAIN, "insufficient_balance", "order_conflict", "refused", "too_late", "already_decided"}


class Crash(BaseException):
    """The process is gone: nothing above the storage may handle it."""


class Undone(Exception):
    """The transaction goes back."""


class Storage:
    """The database as the house sees it, failing as the seed says: what SQLAlchemy calls an engine, and no more."""

    def __init__(self, db: sa.Engine, chance: random.Random, trace: "Trace") -> None:
        self.db, self.chance, self.trace = db, chance, trace
        self.dialect, self.url = db.dialect, db.url
        self.rate = 0.0

    def connect(self) -> sa.Connection:
        return self.db.connect()

    def begin(self) -> AbstractContextManager[sa.Connection]:
        return self._failing(self.db.begin())

    def writing(self) -> AbstractContextManager[sa.Connection]:
        return self._failing(WRITING(self.db))

    @contextmanager
    def _failing(self, transaction: AbstractContextManager[sa.Connection]) -> Iterator[sa.Connection]:
        fault = (
            self.chance.choice(["before", "after", "crash before", "crash after"])
            if self.chance.random() < self.rate
            else ""
        )
        with suppress(Undone), transaction as conn:
            yield conn
            if fault:
                self.trace.say("fault", fault)
            if fault.endswith("before"):
                raise Undone
        if fault.startswith("crash"):
            raise Crash
        if fault:  # nobody knows whether the commit arrived
            lost = sa.exc.OperationalError("COMMIT", {}, Exception("the connection was lost"))
            lost.connection_invalidated = True
            raise lost


WRITING = database.writing


def writing(db: "sa.Engine | Storage") -> AbstractContextManager[sa.Connection]:
    return db.writing() if isinstance(db, Storage) else WRITING(db)


class Trace:
    """Everything that happened, as one hash."""

    def __init__(self, aloud: bool) -> None:
        self.hash, self.aloud, self.lines = hashlib.sha256(), aloud, 0

    def say(self, *words: object) -> None:
        line = " ".join(map(str, words))
        self.lines += 1
        self.hash.update(line.encode() + b"\n")
        if self.aloud:
            print(line)  # noqa: T201 - asked for


class Shop(Puppet):
    """Earns as the laboratory does, and fails now and then, the same way for the same event."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.failing = seed, True
        self.on("earn", self._earn)
        self.on("review", self._review)

    def _review(self, event: Any, _: Any) -> list[Verdict]:
        held = event.id.startswith("n") and hashlib.sha256(f"{self.seed}/{event.id}".encode()).digest()[1] < 24
        return [Verdict(rule="lab.risk", verdict="hold", reason="a hunch")] if held else []

    def _earn(self, event: Any, _: Any) -> list[Grant]:
        draw = hashlib.sha256(f"{self.seed}/{event.id}".encode()).digest()[0]
        if self.failing and draw < 16:
            raise RuntimeError("the plugin is broken today")
        if event.kind == "purchase.completed":
            return [Grant(rule="lab.base", unit="points", amount=event.facts.total // 100)]
        return [
            Grant(
                rule="lab.gain",
                unit="points",
                amount=event.facts.amount,
                expires_at=event.received + timedelta(days=event.facts.days or 400),
            )
        ]


class Simulation:
    """One seeded life."""

    def __init__(self, seed: int, steps: int, folder: Path, aloud: bool) -> None:
        self.chance, self.trace, self.steps = random.Random(seed), Trace(aloud), steps
        self.shop = Shop(seed)
        self.lab = Lab(f"sqlite:///{folder}/sim.db", puppet=self.shop)
        with self.lab.db.begin() as conn:  # member numbers and keys are drawn by the operating system: here by the seed
            for n, name in enumerate(MEMBERS):
                self._enrol(conn, name, n + 1)
        self.storage = Storage(self.lab.db, self.chance, self.trace)
        self.engines = [self._process(1), self._process(2)]
        self.waiting: list[Arrival] = []
        self.sent: dict[str, Arrival] = {}
        self.answers: dict[str, bytes] = {}
        self.held: list[str] = []  #: entries that wait, or waited, for a decision
        self.n = 0

    def _enrol(self, conn: sa.Connection, name: str, number: int) -> None:
        from core.tests.lab import SECRET, TENANT
        from tallystick import tables

        key = hashlib.sha256(f"{number}".encode()).digest()
        row = {
            "tenant": TENANT,
            "number": number,
            "status": "active",
            "enrolled_at": 0,
            "secret": key,
            "tags": "[]",
            "merged_into": 0,
            "language": "",
        }
        conn.execute(sa.insert(tables.member).values(row))
        conn.execute(
            sa.insert(tables.alias).values(
                tenant=TENANT, fingerprint=vault.fingerprint(SECRET, TENANT, name), member=number
            )
        )
        self.lab.names[name] = number

    def _process(self, number: int) -> Engine:
        """A process starts: it knows nothing but what is stored."""
        made = self.lab.writer(number)
        made.db = self.storage  # type: ignore[assignment]
        return made

    def new_event(self) -> Arrival:
        self.n += 1
        n, chance, lab = self.n, self.chance, self.lab
        who, to = chance.choice(MEMBERS), chance.choice(MEMBERS)
        kind = chance.randrange(11)
        if kind == 10 and self.held:
            what, entry = chance.choice(["entry.released", "entry.voided"]), chance.choice(self.held)
            made = lab.arrival(what, "", entry=entry, reason="looked at", id=f"n{n}")
        elif kind < 4:
            made = lab.bought(chance.choice([who, who, ""]), chance.randrange(20_000), f"R{n}", id=f"n{n}")
        elif kind < 5:
            made = lab.arrival("lab.did", who, amount=chance.randrange(1, 90), days=chance.randrange(4), id=f"n{n}")
        elif kind < 7:
            made = lab.arrival(
                "lab.spent",
                who,
                amount=chance.randrange(1, 150),
                order=chance.choice(["", f"R{chance.randrange(1, n + 1)}"]),
                id=f"n{n}",
            )
        elif kind < 8:
            made = lab.arrival("lab.given", who, amount=chance.randrange(1, 60), to=to, id=f"n{n}")
        elif kind < 9:
            more = {"amount": chance.randrange(9_000)} if chance.random() < 0.7 else {}
            made = lab.returned(f"R{chance.randrange(1, n + 3)}", id=f"n{n}", **more)
        else:
            made = lab.arrival("order.claimed", who, order=f"R{chance.randrange(1, n + 1)}", id=f"n{n}")
        self.sent[made.id] = made
        return made

    def record(self, place: int, batch: Sequence[Arrival]) -> None:
        try:
            outcomes = self.engines[place].record(batch)
        except Crash:
            self.trace.say("process", place, "died; another begins")
            self.engines[place] = self._process(place + 1)
            self.waiting += batch
            return
        for arrival, outcome in zip(batch, outcomes, strict=True):
            self.answered(arrival, outcome)

    def answered(self, arrival: Arrival, outcome: Outcome) -> None:
        if isinstance(outcome, Receipt):
            body = canonical(outcome.record)
            if self.answers.setdefault(arrival.id, body) != body:
                raise AssertionError(f"{arrival.id} was answered in two ways")
            if outcome.record.status == "held" and outcome.record.entry not in self.held:
                self.held.append(outcome.record.entry)
            self.trace.say(
                arrival.id, outcome.record.entry, outcome.record.status, hashlib.sha256(body).hexdigest()[:16]
            )
            return
        self.trace.say(arrival.id, outcome.code)
        if arrival.id in self.answers:
            raise AssertionError(f"{arrival.id} was recorded, and is now {outcome.code}")
        if outcome.code not in REFUSALS:
            raise AssertionError(f"{arrival.id}: {outcome.code}: {outcome}")
        if outcome.code in AGAIN:
            self.waiting.append(arrival)

    def step(self) -> None:
        chance = self.chance
        self.storage.rate = 0.08
        what = chance.randrange(20)
        place = chance.randrange(2)
        if what < 11:
            self.record(place, [self.new_event() for _ in range(chance.choice([1, 1, 2, 5]))])
        elif what < 15 and self.waiting:
            again = [self.waiting.pop(chance.randrange(len(self.waiting))) for _ in range(min(3, len(self.waiting)))]
            self.record(place, again)
        elif what < 17 and self.sent:
            self.record(place, [self.sent[name] for name in chance.sample(sorted(self.sent), min(2, len(self.sent)))])
        elif what < 18:
            length = chance.choice([60, 3_600, 86_400, -3_600, 40 * 86_400])
            self.lab.now = max(START, self.lab.now + timedelta(seconds=length))
            self.trace.say("now", self.lab.now.isoformat())
        elif what < 19:
            self.sweep(place)
        else:
            self.trace.say("process", place, "is killed")
            self.engines[place] = self._process(place + 1)

    def sweep(self, place: int) -> None:
        from core.tests.lab import TENANT
        from tallystick.ledger import instant

        try:
            at = instant(self.lab.now)
            for piece in self.engines[place].due(TENANT, at):
                self.trace.say("sweep", at, self.engines[place].sweep(TENANT, piece, at))
        except Crash:
            self.engines[place] = self._process(place + 1)

    def run(self) -> str:
        """Live, let the faults stop, let everything drain, and prove the books; the trace's hash."""
        for number in range(self.steps):
            self.step()
            if number % 50 == 49:
                self.lab.check()
        self.storage.rate = 0.0
        self.engines = [self._process(1), self._process(2)]
        for turn in range(20):
            if not self.waiting:
                break
            waiting, self.waiting = self.waiting, []
            self.record(turn % 2, waiting)
            self.waiting = [one for one in self.waiting if one.kind != "order.claimed"]  # of an order that never came
        if self.waiting:
            raise AssertionError(f"{len(self.waiting)} events never came to an end: {self.waiting[0]}")
        for name in sorted(self.answers):  # twice is once, for ever
            (outcome,) = self.engines[0].record([self.sent[name]])
            if isinstance(outcome, TallyError) or canonical(outcome.record) != self.answers[name]:
                raise AssertionError(f"{name} is answered differently now")
        self.lab.check()
        with self.lab.db.begin() as conn:
            report = proofs.verify(conn)
        if report.findings:
            raise AssertionError(report.findings)
        recorded = {record.id for record in self.lab.records() if record.id.startswith("n") and "/" not in record.id}
        if recorded != set(self.answers):
            raise AssertionError(f"answered and recorded differ: {sorted(recorded ^ set(self.answers))[:5]}")
        for record in self.lab.records():
            self.trace.say(record.entry, hashlib.sha256(canonical(record)).hexdigest())
        self.lab.db.dispose()
        return self.trace.hash.hexdigest()


def simulate(seed: int, steps: int = 200, *, aloud: bool = False) -> str:
    """The hash of the trace of one seeded life; raises AssertionError, with the seed, where a promise is broken."""
    log = logging.getLogger("tallystick")
    loudness = log.level
    log.setLevel(logging.CRITICAL)
    patience, engine_room.time = engine_room.time, _Time  # type: ignore[attr-defined]
    database.writing = writing
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Simulation(seed, steps, Path(folder), aloud).run()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, {steps} steps: {error}") from error
    finally:
        engine_room.time = patience  # type: ignore[attr-defined]
        database.writing = WRITING
        log.setLevel(loudness)


class _Time:
    """Waiting costs nothing here, and a deadline is a number of tries."""

    tries = 0

    @classmethod
    def monotonic(cls) -> float:
        cls.tries += 1
        return cls.tries / 100

    @staticmethod
    def sleep(_: float) -> None:
        """Nobody waits."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds from --seed on")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    given = parser.parse_args(argv)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    for seed in range(given.seed, given.seed + given.seeds):
        print(f"seed {seed} commit {commit} trace {simulate(seed, given.steps, aloud=given.trace)}", flush=True)  # noqa: T201
