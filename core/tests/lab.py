"""A laboratory: the real engine on a real database, with one plugin that proposes exactly what a test tells it to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa

from tallystick import database, migrate, people, proofs, tables
from tallystick.effects import EFFECTS, Effect, Grant, Keep, Move, Revoke, Spend, Verdict
from tallystick.engine import Engine, Outcome
from tallystick.errors import TallyError
from tallystick.events import CORE_KINDS, Arrival, Event, EventKind, Facts
from tallystick.generation import Generation
from tallystick.hookspecs import hookimpl
from tallystick.ledger import HELD, ISSUED, NEVER, Record, instant, read_record
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, compile_pipeline
from tallystick.situation import Needs, Programme, Situation, Unit

TENANT = "lab"
SECRET = b"l" * 32
START = datetime(2025, 1, 1, 12, tzinfo=UTC)

Script = Callable[[Event, Situation], Sequence[Effect]]


class Did(Facts):
    """Something happened that only this laboratory knows."""

    what: str = ""
    amount: int = 0
    unit: str = "points"
    order: str = ""
    to: str | None = None
    days: int = 0  #: until what it gives expires; 0: never


def _kind(name: str, **more: Any) -> EventKind:
    return EventKind(name=name, facts=Did, summary={"en": name}, example={}, plugin="lab", members=("to",), **more)


KINDS = {
    kind.name: kind
    for kind in (
        *CORE_KINDS,
        _kind("lab.did"),
        _kind("lab.spent"),
        _kind("lab.given"),
        _kind("lab.derived", guest=True),
        _kind("lab.told", guest=True),
    )
}


class Puppet:
    """Every hook answers with what the test has put under its name; without that, one point per whole unit of money.

    ``needs`` is what the plugin declares, for every kind.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.wants = Needs(balances=frozenset({"points"}))
        self.wants_for: dict[str, Needs] = {}

    def on(self, hook: str, script: Script) -> None:
        self.scripts[hook] = script

    @hookimpl
    def needs(self, kind: str) -> Needs:
        return self.wants_for.get(kind, self.wants)

    @hookimpl
    def earn(self, event: Event, situation: Situation) -> Sequence[Effect]:
        if "earn" in self.scripts:
            return self.scripts["earn"](event, situation)
        match event.kind:
            case "purchase.completed":
                return [Grant(rule="lab.base", unit="points", amount=event.facts.total // 100)]
            case "lab.did" if event.facts.amount:
                expires = event.received + timedelta(days=event.facts.days) if event.facts.days else None
                return [Grant(rule="lab.gain", unit=event.facts.unit, amount=event.facts.amount, expires_at=expires)]
        return []

    @hookimpl
    def redeem(self, event: Event, situation: Situation) -> Sequence[Effect]:
        if "redeem" in self.scripts:
            return self.scripts["redeem"](event, situation)
        facts = event.facts
        if event.kind == "lab.given":
            return [Move(rule="lab.gift", unit=facts.unit, amount=facts.amount, to=event.others["to"])]
        return [Spend(rule="lab.spend", unit=facts.unit, amount=facts.amount, order=facts.order)]

    @hookimpl
    def reverse(self, event: Event, situation: Situation) -> Sequence[Effect]:
        script = self.scripts.get("reverse")
        return script(event, situation) if script else []

    @hookimpl
    def review(self, event: Event, situation: Situation) -> Sequence[Effect]:
        script = self.scripts.get("review")
        return script(event, situation) if script else []

    @hookimpl
    def react(self, event: Event, situation: Situation) -> Sequence[Effect]:
        script = self.scripts.get("react")
        return script(event, situation) if script else []


def verdict(word: str) -> Script:
    """A reviewer that says the same of every event a plugin brought and of every sale."""

    def review(event: Event, _: Situation) -> list[Effect]:
        return [Verdict(rule="lab.risk", verdict=word, reason="a test", gentle="not now")]  # type: ignore[arg-type]

    return review


class Lab:
    """A tenant with its engine; the clock stands where the test puts it."""

    def __init__(
        self,
        url: str,
        *,
        puppet: Puppet | None = None,
        units: Mapping[str, Mapping[str, Any]] | None = None,
        fresh: bool = True,
        **unit: Any,
    ) -> None:
        self.db = database.connect(url)
        self.url = url
        self.now = START
        self.puppet = puppet or Puppet()
        self.names: dict[str, int] = {}
        self._events = 0
        declared = {"points": unit, **(units or {})}
        self.units = {name: Unit(name=name, **terms) for name, terms in declared.items()}
        self.older: dict[int, Generation] = {}
        self.generation = self.compile(1, 0)
        if fresh:
            migrate.upgrade(self.db, [migrate.CORE])
            with self.db.begin() as conn:
                row = {"id": TENANT, "name": "The laboratory", "created_at": 0, "generation": 1, "programme": "h1"}
                conn.execute(sa.insert(tables.tenant).values(row))
        self.engine = self.writer(1)

    def compile(self, number: int, since: int, puppet: Puppet | None = None) -> Generation:
        programme = Programme(
            tenant=TENANT, generation=number, hash=f"h{number}", zone=ZoneInfo("UTC"), currency="EUR", units=self.units
        )
        grants = {name: Bounds(units=("*",), kinds=tuple(KINDS)) for name in EFFECTS}
        interests = {"redeem": ("lab.spent", "lab.given", "lab.told")}
        part = Part(id="lab", version="1.0", plugin=puppet or self.puppet, grants=grants, interests=interests)
        return Generation(
            programme=programme, pipeline=compile_pipeline([part], KINDS, programme), kinds=KINDS, since=since
        )

    def change_settings(self, puppet: Puppet) -> None:
        """From now on *puppet* decides; what happened before is judged by the old one."""
        self.older[self.generation.since] = self.generation
        self.generation = self.compile(self.generation.number + 1, instant(self.now), puppet)
        with self.db.begin() as conn:
            conn.execute(sa.update(tables.tenant).values(generation=self.generation.number))

    def recompile(self) -> None:
        """Needs are asked once per generation: after changing them, ask again."""
        self.generation = self.compile(self.generation.number, self.generation.since)

    # what the engine asks of a registry
    def current(self, _tenant: str, _number: int) -> Generation:
        return self.generation

    def latest(self, _tenant: str) -> Generation:
        return self.generation

    def at(self, _tenant: str, when: int) -> Generation:
        if when >= self.generation.since:
            return self.generation
        return self.older[max(since for since in self.older if since <= when)]

    def writer(self, number: int) -> Engine:
        with self.db.begin() as conn:
            if conn.execute(sa.select(tables.writer).where(tables.writer.c.id == number)).first() is None:
                row = {"id": number, "epoch": 1, "leased_until": 0, "holder": "test"}
                conn.execute(sa.insert(tables.writer).values(row))
        return Engine(self.db, self, SECRET, writer=number, clock=lambda: instant(self.now))

    # -- acting -----------------------------------------------------------------------------------------------------

    def enrol(self, *names: str) -> None:
        with self.db.begin() as conn:
            for name in names:
                self.names[name] = people.enrol(conn, SECRET, TENANT, instant(self.now), external_ids=[name])

    def arrival(self, kind: str, member: str, *, id: str = "", at: datetime | None = None, **data: Any) -> Arrival:
        self._events += 1
        facts = msgspec.convert(data, KINDS[kind].facts)
        document = {"data": data, "member": member, "type": kind}
        return Arrival(
            tenant=TENANT, id=id or f"e{self._events}", source="test", kind=kind, at=at or self.now, member=member,
            facts=facts, canonical=msgspec.json.encode(document, order="deterministic"),
        )  # fmt: skip

    def bought(self, member: str, cents: int, order: str, **more: Any) -> Arrival:
        lines = more.pop("lines", None) or [{"sku": "thing", "amount": cents}]
        return self.arrival("purchase.completed", member, order=order, currency="EUR", lines=lines, **more)

    def returned(self, order: str, member: str = "", **more: Any) -> Arrival:
        return self.arrival("purchase.refunded", member, order=order, **more)

    def try_all(self, *arrivals: Arrival, engine: Engine | None = None) -> list[Outcome]:
        return (engine or self.engine).record(arrivals)

    def send(self, arrival: Arrival, *, engine: Engine | None = None) -> Record:
        (outcome,) = self.try_all(arrival, engine=engine)
        if isinstance(outcome, TallyError):
            raise outcome
        return outcome.record

    def buy(self, member: str, cents: int, order: str, **more: Any) -> Record:
        return self.send(self.bought(member, cents, order, **more))

    def refund(self, order: str, member: str = "", **more: Any) -> Record:
        return self.send(self.returned(order, member, **more))

    def do(self, kind: str, member: str, **data: Any) -> Record:
        return self.send(self.arrival(kind, member, **data))

    def gain(self, member: str, amount: int, **more: Any) -> Record:
        return self.do("lab.did", member, amount=amount, **more)

    def spend(self, member: str, amount: int, **more: Any) -> Record:
        return self.do("lab.spent", member, amount=amount, **more)

    def give(self, member: str, to: str, amount: int) -> Record:
        return self.do("lab.given", member, amount=amount, to=to)

    def release(self, entry: str, **more: Any) -> Record:
        return self.send(self.arrival("entry.released", "", entry=entry, reason="checked", **more))

    def void(self, entry: str, **more: Any) -> Record:
        return self.send(self.arrival("entry.voided", "", entry=entry, reason="stolen", **more))

    def sweep(self) -> int:
        """Expire what is due now; from how many members something did."""
        return self.engine.expire(TENANT)

    def wait(self, **length: float) -> None:
        self.now += timedelta(**length)

    # -- looking ----------------------------------------------------------------------------------------------------

    def rows(self, sql: str, **values: Any) -> list[Any]:
        with database.reading(self.db) as conn:
            return list(conn.execute(sa.text(sql), values))

    def usable(self, member: str, unit: str = "points") -> int:
        now, number = instant(self.now), self.names[member]
        (left,) = self.rows(
            "SELECT coalesce(sum(remaining), 0) FROM lot WHERE member = :m AND unit = :u AND usable_from <= :now AND expires_at > :now",
            m=number, u=unit, now=now,
        )  # fmt: skip
        owed = self.rows("SELECT deficit FROM balance WHERE member = :m AND unit = :u", m=number, u=unit)
        return int(left[0]) - sum(row[0] for row in owed)

    def posted(self, member: str, unit: str = "points") -> int:
        rows = self.rows("SELECT posted FROM balance WHERE member = :m AND unit = :u", m=self.names[member], u=unit)
        return int(rows[0][0]) if rows else 0

    def lots(self, member: str, unit: str = "points") -> list[int]:
        """What is left in each lot that has something left, in the order of spending."""
        rows = self.rows(
            "SELECT remaining FROM lot WHERE member = :m AND unit = :u AND remaining > 0 ORDER BY expires_at, usable_from, entry, part",
            m=self.names[member], u=unit,
        )  # fmt: skip
        return [row[0] for row in rows]

    def counter(self, name: str, member: str = "") -> int:
        """A counter over all its windows."""
        rows = self.rows(
            "SELECT coalesce(sum(value), 0) FROM counter WHERE name = :n AND member = :m",
            n=name,
            m=self.names.get(member, 0),
        )
        return int(rows[0][0])

    def own(self, key: str) -> dict[str, Any]:
        rows = self.rows("SELECT name, value FROM own WHERE key = :k AND name <> ''", k=key)
        return {name: msgspec.json.decode(value) for name, value in rows}

    def stock(self, key: str) -> int | None:
        rows = self.rows("SELECT remaining FROM stock WHERE key = :k", k=key)
        return rows[0][0] if rows else None

    def fill(self, key: str, amount: int) -> None:
        with self.db.begin() as conn:
            conn.execute(sa.insert(tables.stock).values(tenant=TENANT, key=key, remaining=amount))

    def records(self) -> list[Record]:
        return [read_record(bytes(row[0])) for row in self.rows("SELECT body FROM record ORDER BY entry")]

    def accounts(self, unit: str = "points") -> dict[str, int]:
        """Every account's balance as the journal's transfers have it; what is zero is left out."""
        found: dict[str, int] = {}
        for debit, credit, amount in self.rows("SELECT debit, credit, amount FROM transfer WHERE unit = :u", u=unit):
            found[debit] = found.get(debit, 0) - amount
            found[credit] = found.get(credit, 0) + amount
        return {account: amount for account, amount in found.items() if amount}

    def check(self) -> None:
        """I1 to I3: sums are zero, balances equal lots equal journal, nothing is below zero that must not be."""
        check_books(self)


L = TypeVar("L", bound=Lab)


@contextmanager
def proven(lab: L) -> Iterator[L]:
    """*lab* with Ann and Bob in it; afterwards its books are right and prove themselves."""
    lab.enrol("ann", "bob")
    yield lab
    lab.check()
    with database.reading(lab.db) as conn:
        assert proofs.verify(conn).findings == ()
    lab.db.dispose()


def check_books(lab: Lab) -> None:
    """I1: sums are zero.  I2: stored balance = lots - deficit = replay.  I3: nothing but members and issuing ever owes."""
    for unit in {row[0] for row in lab.rows("SELECT DISTINCT unit FROM transfer")}:
        accounts = lab.accounts(unit)
        assert sum(accounts.values()) == 0, unit
        stored = {
            f"m-{m:012d}": p for m, p in lab.rows("SELECT member, posted FROM balance WHERE unit = :u", u=unit) if p
        }
        assert {name: amount for name, amount in accounts.items() if name.startswith("m-")} == stored, unit
        assert accounts.get(HELD, 0) >= 0, "more left the hold than was put there"
        for name, amount in accounts.items():
            assert amount >= 0 or name == ISSUED or name.startswith("m-"), (name, amount)
        left = {
            f"m-{m:012d}": s
            for m, s in lab.rows("SELECT member, sum(remaining) FROM lot WHERE unit = :u GROUP BY member", u=unit)
        }
        owed = {f"m-{m:012d}": d for m, d in lab.rows("SELECT member, deficit FROM balance WHERE unit = :u", u=unit)}
        for name in {*stored, *left, *owed}:
            assert stored.get(name, 0) == left.get(name, 0) - owed.get(name, 0), (name, unit)
    for amount, remaining in lab.rows("SELECT amount, remaining FROM lot"):
        assert 0 <= remaining <= amount, "a lot holds more than it was given"
    assert not lab.rows("SELECT 1 FROM counter WHERE value < 0"), "a counter is below zero"
    assert not lab.rows("SELECT 1 FROM stock WHERE remaining < 0")
    rebuilt = replay_lots(lab)
    stored_lots = {
        f"{e >> 51}-{(e >> 12) & 0x7FFFFFFFFF}-{e & 0xFFF}.{p}": r
        for e, p, r in lab.rows("SELECT entry, part, remaining FROM lot")
    }
    assert rebuilt == stored_lots


def replay_lots(lab: Lab) -> dict[str, int]:
    """I2: what is left in every lot, from the journal alone."""
    left: dict[str, int] = {}
    for record in lab.records():
        for given in record.lots:
            left[given.lot] = left.get(given.lot, 0) + given.left
        opened = {given.lot for given in record.lots}
        for transfer in record.transfers:
            if transfer.lot and transfer.debit.startswith("m-"):  # what leaves the hold left its lot before
                left[transfer.lot] = left.get(transfer.lot, 0) - transfer.amount
            if transfer.into and transfer.into not in opened:
                left[transfer.into] = left.get(transfer.into, 0) + transfer.amount
    return left


__all__ = ["NEVER", "SECRET", "START", "TENANT", "Keep", "Lab", "Puppet", "Revoke", "check_books", "verdict"]
