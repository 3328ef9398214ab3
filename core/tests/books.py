"""Real books for tests: the real engine on a real database, with one small shop of a plugin."""

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa

from tallystick import database, migrate, people, tables
from tallystick.effects import Bonus, Cap, Count, Effect, Extend, Grant, Move, Put, Spend
from tallystick.engine import Engine, Receipt
from tallystick.errors import Refused, TallyError
from tallystick.events import CORE_KINDS, Arrival, Event, EventKind, Facts
from tallystick.generation import Generation
from tallystick.hookspecs import hookimpl
from tallystick.ledger import instant
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, compile_pipeline
from tallystick.situation import Needs, Programme, Unit

TENANT = "corner-shop"
SECRET = b"s" * 32
START = datetime(2025, 1, 1, tzinfo=UTC)


class Spent(Facts):
    amount: int
    order: str = ""


class Given(Facts):
    to: str
    amount: int


class Topped(Facts):
    """A plain credit, with terms."""

    amount: int
    days: int = 0  #: until it expires; 0: never
    pending: int = 0  #: days until it can be used
    sliding: bool = False


class Extended(Facts):
    days: int


class Shop:
    """One point per whole unit of currency, for 30 days; ten more for whoever invited somebody."""

    @hookimpl
    def needs(self) -> Needs:
        return Needs(
            balances=frozenset({"points"}), counters=frozenset({("shop.visits", "month"), ("cap:shop.cap", "month")})
        )

    @hookimpl
    def earn(self, event: Event) -> list[Effect]:
        at = event.received
        match event.kind:
            case "purchase.completed":
                points = event.facts.total // 100
                visit = Count(rule="shop.visit", counter="shop.visits", window="month")
                mark = Put(rule="shop.visit", name="last", value=event.at.isoformat())
                cap = Cap(rule="shop.cap", unit="points", limit=100_000, per="month")
                expires = at + timedelta(days=30)
                return [Grant(rule="shop.purchase", unit="points", amount=points, expires_at=expires), visit, mark, cap]
            case "shop.topped":
                return [
                    Grant(
                        rule="shop.top_up",
                        unit="points",
                        amount=event.facts.amount,
                        expires_at=at + timedelta(days=event.facts.days) if event.facts.days else None,
                        usable_from=at + timedelta(days=event.facts.pending) if event.facts.pending else None,
                        sliding=event.facts.sliding,
                    )
                ]
            case "member.enrolled" if event.others:
                return [Bonus(rule="shop.invited", unit="points", amount=10, to=event.others["invited_by"])]
            case "shop.extended":
                return [Extend(rule="shop.extend", unit="points", expires_at=at + timedelta(days=event.facts.days))]
        return []

    @hookimpl
    def redeem(self, event: Event) -> list[Effect]:
        match event.kind:
            case "shop.spent":
                return [Spend(rule="shop.spend", unit="points", amount=event.facts.amount, order=event.facts.order)]
            case "shop.given":
                return [Move(rule="shop.gift", unit="points", amount=event.facts.amount, to=event.others["to"])]
        return []


def _kind(name: str, facts: type[Facts], **more: Any) -> EventKind:
    return EventKind(name=name, facts=facts, summary={"en": name}, example={}, plugin="shop", **more)


KINDS = {
    kind.name: kind
    for kind in (
        *CORE_KINDS,
        _kind("shop.spent", Spent),
        _kind("shop.given", Given, members=("to",)),
        _kind("shop.topped", Topped),
        _kind("shop.extended", Extended),
    )
}


class Books:
    """A shop with its engine; the clock stands where the last event put it."""

    def __init__(self, url: str, **unit: Any) -> None:
        self.db = database.connect(url)
        migrate.upgrade(self.db, [migrate.CORE])
        self.now = START
        self.events = 0
        programme = Programme(
            tenant=TENANT,
            generation=1,
            hash="h1",
            zone=ZoneInfo("UTC"),
            currency="EUR",
            units={"points": Unit(name="points", **unit)},
        )
        grants = {name: Bounds(units=("*",)) for name in _EFFECTS}
        part = Part(id="shop", version="1.0", plugin=Shop(), grants=grants, interests={"redeem": ("shop.*",)})
        pipeline = compile_pipeline([part], KINDS, programme)
        self.generation = Generation(programme=programme, pipeline=pipeline, kinds=KINDS, since=0)
        with self.db.begin() as conn:
            conn.execute(
                sa.insert(tables.tenant).values(
                    id=TENANT, name="The corner shop", created_at=0, generation=1, programme="h1"
                )
            )
        self.engine = self.writer(1)

    def writer(self, number: int) -> Engine:
        return Engine(self.db, self, SECRET, writer=number, clock=lambda: instant(self.now))

    def current(self, _tenant: str, _number: int) -> Generation:
        return self.generation

    def at(self, _tenant: str, _instant: int) -> Generation:
        return self.generation

    def enrol(self, *names: str, **more: Any) -> int:
        with self.db.begin() as conn:
            return people.enrol(conn, SECRET, TENANT, instant(self.now), external_ids=names, **more)

    def arrival(self, kind: str, member: str, data: Mapping[str, Any], **more: Any) -> Arrival:
        self.events += 1
        facts = msgspec.convert(data, KINDS[kind].facts)
        canonical = msgspec.json.encode({"type": kind, "member": member, "data": data}, order="deterministic")
        return Arrival(
            tenant=TENANT, id=more.pop("id", f"e{self.events}"), source="test", kind=kind, at=self.now, member=member, facts=facts,
            canonical=canonical, **more,
        )  # fmt: skip

    def record(self, kind: str, member: str, *, engine: Engine | None = None, **data: Any) -> Receipt:
        (outcome,) = (engine or self.engine).record([self.arrival(kind, member, data)])
        if isinstance(outcome, TallyError):
            raise outcome
        return outcome

    def buy(self, member: str, cents: int, order: str = "", **more: Any) -> Receipt:
        order = order or f"order-{self.events}"
        lines = [{"sku": "thing", "amount": cents}]
        return self.record("purchase.completed", member, order=order, currency="EUR", lines=lines, **more)

    def refund(self, member: str, order: str, **more: Any) -> Receipt:
        return self.record("purchase.refunded", member, order=order, **more)

    def top_up(self, member: str, amount: int, **terms: Any) -> Receipt:
        return self.record("shop.topped", member, amount=amount, **terms)

    def spend(self, member: str, amount: int) -> Receipt:
        return self.record("shop.spent", member, amount=amount)

    def give(self, member: str, to: str, amount: int) -> Receipt:
        return self.record("shop.given", member, to=to, amount=amount)

    def wait(self, **length: float) -> None:
        self.now += timedelta(**length)

    def wander(self, seed: int, steps: int, after: Callable[[], object] = lambda: None) -> None:
        """Days in the life of ann and bob: everything that can happen to a lot, by two writers, in no particular order."""
        chance = random.Random(seed)
        orders: list[tuple[str, str]] = []
        writers = [self.engine, self.writer(2)]
        for step in range(steps):
            who, other = chance.sample(["ann", "bob"], 2)
            self.engine = chance.choice(writers)
            with contextlib.suppress(Refused):
                match chance.randrange(10):
                    case 0 | 1:
                        orders.append((who, f"o{step}"))
                        self.buy(who, chance.randrange(20_000), f"o{step}")
                    case 2:
                        self.top_up(
                            who, chance.randrange(1, 90), days=chance.randrange(12), pending=chance.randrange(9)
                        )
                    case 3:
                        self.top_up(who, chance.randrange(1, 90), days=chance.randrange(1, 20), sliding=True)
                    case 4:
                        self.spend(who, chance.randrange(1, 150))
                    case 5:
                        self.give(who, other, chance.randrange(1, 100))
                    case 6 if orders:
                        self.refund(*orders.pop(chance.randrange(len(orders))))
                    case 7:
                        self.record("shop.extended", who, days=chance.randrange(1, 20))
                    case 8 if chance.random() < 0.3:
                        self.engine.expire(TENANT)
                    case 9:
                        self.record("member.enrolled", who, invited_by=other)
            after()
            self.wait(hours=chance.randrange(1, 40))

    def rows(self, table: sa.Table) -> Sequence[Any]:
        with database.reading(self.db) as conn:
            return conn.execute(sa.select(table)).all()


_EFFECTS = ("Grant", "Bonus", "Spend", "Move", "Count", "Cap", "Put", "Extend")
