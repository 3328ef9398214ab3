"""A till without a house: the plugin's proposals for one event, weighed by the core's own `settle`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tallystick.effects import Effect
from tallystick.events import Enrolled, Event, Line, Purchase
from tallystick.settle import Settlement, cap_key, settle
from tallystick.situation import Balance, Birthday, Chance, Member, Original, Programme, Situation, Unit
from tallystick_points.hooks import Points
from tallystick_points.checks import check
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
        assert check(document, self.programme) == []  # a programme has a zone and units, which is all a check asks for
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

    def event(self, kind: str, facts: Any, *, at: datetime = NOON, others: Mapping[str, int] | None = None, guest: bool = False) -> Event:
        return Event(
            tenant="shop", id="e-1", source="till", kind=kind, at=at, received=at, member=0 if guest else 1, facts=facts, others=others or {}
        )

    def effects(self, facts: Any, *, kind: str = "purchase.completed", guest: bool = False, **more: Any) -> list[Effect]:
        event = self.event(kind, facts, guest=guest, **more)
        situation = self.situation(guest=guest, now=event.at)
        return [*self.plugin.earn(event, situation), *self.plugin.redeem(event, situation)]

    def settled(self, facts: Any, **more: Any) -> Settlement:
        found = settle(self.effects(facts, **more), self.programme.units, {("cap:" + k[0], k[1]): v for k, v in self.counters.items()}, {})
        for cap, amount in found.caps:
            name, window = cap_key(cap)
            key = (name.removeprefix("cap:"), window)
            self.counters[key] = self.counters.get(key, 0) + amount
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
        return self.settled(Enrolled(**more), kind="member.enrolled", others={"invited_by": 2} if more.get("invited_by") else {})

    def born(self, month: int, day: int) -> None:
        self.member = Member(number=1, status="active", enrolled_at=self.member.enrolled_at, birthday=Birthday(month, day))


@pytest.fixture
def till() -> Callable[..., Till]:
    return Till
