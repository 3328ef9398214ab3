"""Two ways to try the plugin: a till without a house (proposals and `settle` alone), and a shop in the real house."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy as sa

from tallystick import config as configuration
from tallystick import database, discovery, people, proofs, queries, tables
from tallystick.document import Document
from tallystick.effects import Effect
from tallystick.errors import TallyError
from tallystick.events import Enrolled, Event, Line, Purchase
from tallystick.house import House, build_house, prepare
from tallystick.intake import read_event
from tallystick.ledger import Record, instant, moment
from tallystick.settle import Settlement, cap_key, settle
from tallystick.situation import Balance, Birthday, Chance, Member, Original, Programme, Situation, Unit
from tallystick_points.checks import check
from tallystick_points.hooks import Points
from tallystick_points.settings import read

NOON = datetime(2025, 6, 15, 4, tzinfo=UTC)  # a Sunday, noon in Shanghai


class Till:
    """One merchant's settings, one member, and what the member gains."""

    def __init__(
        self,
        toml: str,
        *,
        units: tuple[Unit, ...] = (Unit(name="points", plugin="points"),),
        zone: str = "Asia/Shanghai",
        rates: Mapping[str, tuple[tuple[date, Fraction], ...]] | None = None,
    ) -> None:
        document = tomllib.loads(toml)
        self.settings = read(document)
        self.programme = Programme(
            tenant="shop", generation=1, hash="0", zone=ZoneInfo(zone), currency="USD", units={unit.name: unit for unit in units},
            rates=rates or {},
        )  # fmt: skip
        assert (
            check(document, SimpleNamespace(zone=self.programme.zone, units=self.programme.units, plugins=("points",)))
            == []
        )
        self.plugin = Points(self.settings, self.programme)
        self.counters: dict[tuple[str, str], int] = {}
        self.balance = Balance()
        self.member = Member(number=1, status="active", enrolled_at=datetime(2024, 1, 1, tzinfo=UTC))
        self.others: dict[int, Member] = {}

    def situation(self, *, original: Original | None = None, guest: bool = False, now: datetime = NOON) -> Situation:
        return Situation(
            now=now, programme=self.programme, member=None if guest else self.member, balances={"points": self.balance},
            counters=self.counters, own={}, stock={}, chance=Chance(b"secret", "1-1-0"), original=original, others=self.others,
        )  # fmt: skip

    def event(
        self,
        kind: str,
        facts: Any,
        *,
        at: datetime = NOON,
        others: Mapping[str, int] | None = None,
        guest: bool = False,
    ) -> Event:
        return Event(
            tenant="shop",
            id="e-1",
            source="till",
            kind=kind,
            at=at,
            received=at,
            member=0 if guest else 1,
            facts=facts,
            others=others or {},
        )

    def effects(
        self, facts: Any, *, kind: str = "purchase.completed", guest: bool = False, **more: Any
    ) -> list[Effect]:
        event = self.event(kind, facts, guest=guest, **more)
        situation = self.situation(guest=guest, now=event.at)
        return [*self.plugin.earn(event, situation), *self.plugin.redeem(event, situation)]

    def settled(self, facts: Any, **more: Any) -> Settlement:
        needs = self.plugin.needs(more.get("kind", "purchase.completed"))
        used = {**dict.fromkeys(needs.counters if needs is not None else (), 0), **self.counters}
        found = settle(self.effects(facts, **more), self.programme.units, used, {})
        for cap, amount in found.caps:
            self.counters[cap_key(cap)] = self.counters.get(cap_key(cap), 0) + amount
        for count in found.counts:
            key = (count.counter, count.window)
            self.counters[key] = self.counters.get(key, 0) + count.amount
        return found

    def gains(self, facts: Any, **more: Any) -> int:
        """Points the member gains in all."""
        return sum(posting.amount for posting in self.settled(facts, **more).postings if posting.gain.to == 0)

    def buys(self, *lines: Line, currency: str = "USD", at: datetime = NOON, guest: bool = False, **more: Any) -> int:
        """Points for a purchase of *lines*."""
        return self.gains(Purchase(order="R-1", currency=currency, lines=lines, **more), at=at, guest=guest)

    def joins(self, **more: Any) -> Settlement:
        return self.settled(
            Enrolled(**more), kind="member.enrolled", others={"invited_by": 2} if more.get("invited_by") else {}
        )

    def born(self, month: int, day: int) -> None:
        self.member = Member(
            number=1, status="active", enrolled_at=self.member.enrolled_at, birthday=Birthday(month, day)
        )


@pytest.fixture
def till() -> Callable[..., Till]:
    return Till


# --- the real house --------------------------------------------------------------------------------------------------

OPENING = datetime(2025, 1, 1, 4, tzinfo=UTC)  # noon in Shanghai


class Shop:
    """A shop with its real books on a real database; time stands still until somebody waits."""

    def __init__(self, url: str, points: str = "", tenant: str = "") -> None:
        body = (
            points.replace("[[", "\0")
            .replace("\n[", "\n[tenants.shop.plugins.points.")
            .replace("\0", "[[tenants.shop.plugins.points.")
        )
        text = (
            f'[house]\ndatabase = "{url}"\n[tenants.shop]\nzone = "Asia/Shanghai"\ncurrency = "USD"\n{tenant}\n'
            f"[tenants.shop.plugins.points]\n{body}\n"
        )
        self.now = OPENING
        installed = discovery.discover()
        self.config = configuration.check(Document(text), installed=installed)
        prepare(self.config, installed=installed)
        self.house = self.another_house()
        self._events = 0

    def another_house(self) -> House:
        """A further process of the same shop: a writer of its own on the same database."""
        return build_house(self.config, installed=discovery.discover(), clock=lambda: instant(self.now))

    def joins(self, *names: str, **profile: Any) -> None:
        """Members join, each known by a name."""
        with self.house.db.begin() as conn:
            for name in names:
                people.enrol(
                    conn,
                    self.house.secret,
                    "shop",
                    instant(self.now),
                    external_ids=(name,),
                    profile=people.Profile(**profile),
                )

    def wait(self, **length: float) -> None:
        self.now += timedelta(**length)

    def until(self, year: int, month: int, day: int, hour: int = 12) -> None:
        """Wait until that hour of that day in Shanghai."""
        self.now = datetime(year, month, day, hour, tzinfo=ZoneInfo("Asia/Shanghai")).astimezone(UTC)

    def arrival(
        self, kind: str, member: str, data: Mapping[str, Any], *, event_id: str = "", at: datetime | None = None
    ) -> Any:
        self._events += 1
        body = {
            "id": event_id or f"e{self._events}",
            "source": "till",
            "type": kind,
            "time": (at or self.now).isoformat(),
            "data": data,
        }
        if member:
            body["member"] = member
        return read_event(msgspec.json.encode(body), tenant="shop", kinds=self.house.kinds("shop"), received=self.now)

    def says(self, kind: str, member: str, *, event_id: str = "", at: datetime | None = None, **data: Any) -> Record:
        """One event through the door into the books; raises its refusal."""
        (outcome,) = self.house.engine.record([self.arrival(kind, member, data, event_id=event_id, at=at)])
        if isinstance(outcome, TallyError):
            raise outcome
        return outcome.record

    def buys(
        self,
        member: str,
        *amounts: int,
        order: str = "",
        lines: Any = None,
        currency: str = "USD",
        event_id: str = "",
        at: Any = None,
        **more: Any,
    ) -> int:
        """A purchase; what the member gained by it."""
        lines = lines or [{"sku": "S", "amount": amount} for amount in amounts]
        data = {"order": order or f"R-{self._events}", "currency": currency, "lines": lines, **more}
        return gained(self.says("purchase.completed", member, event_id=event_id, at=at, **data))

    def returns(self, order: str, member: str = "", *, event_id: str = "", **what: Any) -> int:
        """Goods of an order come back; what the member gained (lost, below 0) by it."""
        return gained(self.says("purchase.refunded", member, order=order, event_id=event_id, **what))

    def redeems(self, member: str, points: int, **more: Any) -> Mapping[str, Any]:
        """Pay with points; what the member gets."""
        (gives,) = self.says("points.redeemed", member, points=points, **more).gives
        return gives

    def adjusts(self, member: str, points: int) -> int:
        return gained(self.says("points.adjusted", member, points=points, reason="test", by="staff-1"))

    def lots(self, member: str, unit: str = "points") -> list[tuple[int, date | None]]:
        """(left, first day on which it is gone) of every lot with something left, in the order in which they are spent."""
        rows = self._rows(tables.lot, member, unit)
        found = sorted(
            (row.expires_at, row.usable_from, row.entry, row.part, row.remaining) for row in rows if row.remaining
        )
        zone = ZoneInfo("Asia/Shanghai")
        return [
            (left, None if expires > 1 << 60 else moment(expires).astimezone(zone).date())
            for expires, _, _, _, left in found
        ]

    def usable(self, member: str, unit: str = "points", *, at: datetime | None = None) -> int:
        """What can be spent now, or could be at a past instant."""
        with database.reading(self.house.db) as conn:
            number = people.load(conn, self.house.secret, "shop", member).number
            if at is None:
                found = queries.balances(conn, "shop", number, instant(self.now))
            else:
                found = queries.balances_at(conn, "shop", number, instant(at))
        return found[unit].usable if unit in found else 0

    def assert_in_order(self) -> None:
        """The books prove, and what the house keeps of every member is what the journal, read from its beginning, comes to."""
        now = instant(self.now)
        with database.reading(self.house.db) as conn:
            assert proofs.verify(conn).findings == ()
            for number in conn.scalars(sa.select(tables.member.c.number)):
                assert queries.balances(conn, "shop", number, now) == queries.balances_at(conn, "shop", number, now)

    def posted(self, member: str, unit: str = "points") -> int:
        return sum(row.posted for row in self._rows(tables.balance, member, unit))

    def entries(self) -> int:
        """How many pages the journal has."""
        with database.reading(self.house.db) as conn:
            return conn.scalar(sa.select(sa.func.count()).select_from(tables.record)) or 0

    def sweeps(self) -> int:
        return self.house.expire("shop")

    def _rows(self, table: sa.Table, member: str, unit: str) -> list[Any]:
        with database.reading(self.house.db) as conn:
            number = people.load(conn, self.house.secret, "shop", member).number
            return list(
                conn.execute(
                    sa.select(table).where(table.c.tenant == "shop", table.c.member == number, table.c.unit == unit)
                )
            )


def gained(record: Record, unit: str = "points") -> int:
    """What the event's own member gained in all; below 0: lost."""
    return sum(step.amount for step in record.explanation if step.unit == unit)


@pytest.fixture
def shop(database_url: str) -> Iterator[Callable[..., Shop]]:
    """Each call opens a shop; a test uses one."""
    opened: list[Shop] = []

    def open_shop(points: str = "", tenant: str = "") -> Shop:
        found = Shop(database_url, points, tenant)
        opened.append(found)
        return found

    yield open_shop
    for found in opened:
        found.assert_in_order()
        found.house.db.dispose()
