"""Half a year of a small chain with honest members, and twelve kinds of fraud planted among them.

Nothing here knows how fraud is looked for.  Every pattern draws its own numbers (how many, how much, how fast) from the
seed, and honest members do what looks alike: they forget an item and come back, share a telephone in the family, return
what does not fit, give points to each other, stock up, travel, and come back from a long holiday.

    python bench/fraud/generate.py SEED        # the events as JSON lines, on standard output
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

START = datetime(2025, 1, 6, tzinfo=UTC)
DAYS = 150
POINTS_PER_DOLLAR = 10
#: Where the stores are: degrees of latitude and longitude.
STORES = {
    "north": ("40.80", "-73.95"), "south": ("40.58", "-73.97"), "harbour": ("40.70", "-74.02"),
    "river": ("40.74", "-73.80"), "capital": ("38.90", "-77.03"), "lakes": ("41.88", "-87.63"),
}  # fmt: skip
NEAR = ("north", "south", "harbour", "river")
PATTERNS = (
    "own_card", "split_receipts", "redeem_and_return", "serial_returner", "fresh_spender", "sleeper", "cloned_card",
    "gift_ring", "referral_farm", "shared_device", "points_burst", "padded_sale",
)  # fmt: skip


class Planted(NamedTuple):
    """One planted case: who is behind it."""

    pattern: str
    culprits: frozenset[str]  #: members, and what else gives them away: ``cashier:...``, ``device:...``


class Town(NamedTuple):
    """What happened, in the order of time, and the truth about it."""

    events: list[dict[str, Any]]
    planted: list[Planted]
    honest: frozenset[str]


class Person:
    """A member with habits."""

    def __init__(self, name: str, chance: Random, joined: datetime) -> None:
        self.name, self.joined = name, joined
        self.home = chance.choice(NEAR)
        self.basket = chance.uniform(12, 70)
        self.spread = chance.uniform(0.25, 0.6)
        self.pace = chance.uniform(0.4, 2.2) / 7  # visits a day
        self.device = f"phone-{name}" if chance.random() < 0.6 else ""
        self.address = f"net-{name}"
        self.picky = chance.random() < 0.03
        self.points = 0


class Builder:
    """Writes down what happens."""

    def __init__(self, seed: int, members: int) -> None:
        self.chance = Random(seed)
        self.events: list[dict[str, Any]] = []
        self.planted: list[Planted] = []
        self.honest: set[str] = set()
        self.members = members
        self._count = 0

    # --- single events -----------------------------------------------------------------------------------------------

    def write(self, kind: str, at: datetime, member: str, **data: Any) -> None:
        self._count += 1
        event = {"id": f"x-{self._count}", "source": "town", "type": kind, "time": at.isoformat(), "data": data}
        if member:
            event["member"] = member
        self.events.append(event)

    def join(self, person: Person, by: str = "", device: str = "", address: str = "") -> None:
        self.write(
            "member.enrolled", person.joined, person.name, **({"invited_by": by, "channel": "app"} if by else {})
        )
        device = device or person.device
        if device:
            at = person.joined + timedelta(seconds=20)
            self.write("risk.observed", at, person.name, action="joined", device=device, address=address or person.address)  # fmt: skip

    def buy(self, person: Person | None, at: datetime, dollars: float, store: str, cashier: str = "") -> str:
        order, cents = f"o-{self._count + 1}", max(100, round(dollars * 100))
        lines, left = [], cents
        for place in range(self.chance.randint(1, 4)):
            part = left if place == 3 else max(1, round(left * self.chance.uniform(0.2, 0.8)))
            lines.append({"sku": f"s-{self.chance.randint(1, 400)}", "amount": part})
            left -= part
            if left <= 0:
                break
        if left > 0:
            lines.append({"sku": "s-0", "amount": left})
        cashier = cashier or f"{store}-{self.chance.choice(('1', '2', '3', '4', 'self'))}"
        self.write(
            "purchase.completed", at, person.name if person else "",
            order=order, currency="USD", lines=lines, store=store, cashier=cashier, device=f"till-{cashier}",
        )  # fmt: skip
        if person:
            person.points += cents * POINTS_PER_DOLLAR // 100
        return order

    def bring_back(self, person: Person, at: datetime, order: str, store: str, cents: int | None = None) -> None:
        data: dict[str, Any] = {"order": order, "store": store, "cashier": f"{store}-desk"}
        if cents is not None:
            data["amount"] = cents
        self.write("purchase.refunded", at, person.name, **data)

    def redeem(self, person: Person, at: datetime, points: int, store: str = "", device: str = "") -> None:
        points -= points % 100
        if points <= 0:
            return
        data: dict[str, Any] = {"points": points}
        if store:
            cashier = f"{store}-{self.chance.randint(1, 4)}"
            data |= {"store": store, "cashier": cashier}
        if device:
            data["device"] = device
        self.write("points.redeemed", at, person.name, **data)
        person.points -= points

    def give(self, person: Person, at: datetime, to: Person, points: int) -> None:
        self.write("points.gifted", at, person.name, to=to.name, points=points)
        person.points -= points
        to.points += points

    def login(self, person: Person, at: datetime, device: str = "", address: str = "") -> None:
        self.write(
            "risk.observed", at, person.name, action="login",
            device=device or person.device, address=address or person.address,
        )  # fmt: skip

    # --- habits ------------------------------------------------------------------------------------------------------

    def hour(self, day: int) -> datetime:
        return START + timedelta(days=day, hours=self.chance.uniform(13, 25), seconds=self.chance.randint(0, 59))

    def shop(self, person: Person, first: int, last: int, *, redeems: bool = True, returns: bool = True) -> None:
        """Live an ordinary life from day *first* to day *last*."""
        chance = self.chance
        for day in range(first, last):
            if person.device and chance.random() < 0.12:
                at = self.hour(day)
                for _ in range(chance.choice((0, 0, 0, 0, 0, 0, 0, 1, 1, 2))):
                    self.write("risk.observed", at, person.name, action="login_failed", device=person.device, address=person.address)  # fmt: skip
                    at += timedelta(seconds=chance.randint(4, 20))
                self.login(person, at)
            if chance.random() < person.pace:
                self._visit(person, self.hour(day), redeems=redeems, returns=returns)

    def _visit(self, person: Person, at: datetime, *, redeems: bool, returns: bool) -> None:
        chance = self.chance
        store = person.home if chance.random() < 0.9 else chance.choice(NEAR)
        dollars = max(1.5, chance.lognormvariate(0, person.spread) * person.basket)
        if chance.random() < 0.015:  # stocks up
            dollars *= chance.uniform(2, 4)
        if redeems and person.points >= 600 and chance.random() < 0.12:
            share = chance.choice((0.3, 0.5, 0.8, 1.0))
            self.redeem(person, at - timedelta(seconds=30), int(person.points * share), store, chance.choice(("", person.device)))  # fmt: skip
        order = self.buy(person, at, dollars, store)
        if chance.random() < 0.03:  # forgot something
            self.buy(person, at + timedelta(minutes=chance.uniform(3, 20)), chance.uniform(2, 9), store)
        elif chance.random() < 0.01:  # another store on the way home
            other = chance.choice([name for name in NEAR if name != store])
            self.buy(person, at + timedelta(minutes=chance.uniform(50, 150)), chance.uniform(4, 30), other)
        if returns and chance.random() < (0.12 if person.picky else 0.03):
            back = at + timedelta(days=chance.uniform(1, 15))
            whole = chance.random() < 0.5
            self.bring_back(person, back, order, store, None if whole else round(dollars * 30))

    def honest_town(self) -> None:
        chance = self.chance
        people = [Person(f"h-{n}", chance, START - timedelta(days=chance.randint(1, 700))) for n in range(self.members)]
        late = people[: self.members // 10]  # who joins while we look
        for person in people:
            self.honest.add(person.name)
        for person in people[self.members // 10 :]:
            self.join(person)
        for n in range(0, self.members // 12, 2):  # families with one telephone
            pair = people[self.members // 2 + n : self.members // 2 + n + 2]
            for person in pair:
                person.device, person.address = f"phone-{pair[0].name}", f"net-{pair[0].name}"
        inviters = people[self.members // 3 : self.members // 3 + 8]
        for place, person in enumerate(late):
            first = chance.randint(0, DAYS - 10)
            person.joined = self.hour(first)
            self.join(person, by=inviters[place % 8].name if chance.random() < 0.4 else "")
            self.shop(person, first + 1, DAYS)
        for person in people[self.members // 10 :]:
            if chance.random() < 0.06:  # a long holiday
                leaves = chance.randint(10, DAYS - 90)
                back = leaves + chance.randint(30, 75)
                self.shop(person, 0, leaves)
                self.shop(person, back, DAYS)
            else:
                self.shop(person, 0, DAYS)
        self._families(people)
        for day in range(DAYS):  # who has no card
            for _ in range(self.members // 25):
                self.buy(None, self.hour(day), chance.lognormvariate(3, 0.7), chance.choice(NEAR))

    def _families(self, people: list[Person]) -> None:
        chance = self.chance
        for n in range(0, self.members // 12, 2):  # in families points go to and fro
            one, two = people[self.members // 2 + n : self.members // 2 + n + 2]
            for _ in range(chance.randint(1, 3)):
                giver, taker = (one, two) if chance.random() < 0.6 else (two, one)
                if giver.points > 800:
                    self.give(giver, self.hour(chance.randint(DAYS - 40, DAYS - 1)), taker, 100 * chance.randint(1, 3))

    # --- what is planted ---------------------------------------------------------------------------------------------

    def someone(self, *, days: int = 0, redeems: bool = False) -> Person:
        """A member who lived like everybody else for the first *days*."""
        chance = self.chance
        person = Person(f"f-{self._count}", chance, START - timedelta(days=chance.randint(1, 500)))
        person.device, person.picky = person.device or f"phone-{person.name}", False
        self.join(person)
        if days:
            self.shop(person, 0, days, redeems=redeems, returns=False)
        return person

    def plant(self, pattern: str) -> None:
        culprits = getattr(self, f"_{pattern}")()
        self.planted.append(Planted(pattern, frozenset(culprits)))

    def _own_card(self) -> list[str]:
        chance, person = self.chance, self.someone()
        store = person.home
        cashier = f"{store}-{chance.randint(1, 4)}"
        first, days, a_day = chance.randint(20, 90), chance.randint(10, 30), chance.uniform(1.5, 4)
        for day in range(first, first + days):
            shift = self.hour(day)
            for _ in range(round(chance.gauss(a_day, 0.7))):
                shift += timedelta(minutes=chance.uniform(18, 80))
                self.buy(person, shift, chance.lognormvariate(3, 0.6), store, cashier)
        return [person.name, f"cashier:{cashier}"]

    def _split_receipts(self) -> list[str]:
        chance, person = self.chance, self.someone(days=40)
        for _ in range(chance.randint(2, 4)):
            at, parts = self.hour(chance.randint(50, DAYS - 5)), chance.randint(4, 7)
            whole, gap = chance.uniform(60, 220), chance.uniform(0.5, 2.5)
            cashier = f"{person.home}-{chance.choice('1234')}"
            for _ in range(parts):
                self.buy(person, at, whole / parts * chance.uniform(0.8, 1.2), person.home, cashier)
                at += timedelta(minutes=gap * chance.uniform(0.6, 1.4))
        return [person.name]

    def _redeem_and_return(self) -> list[str]:
        chance, person = self.chance, self.someone(days=30)
        for _ in range(chance.randint(2, 4)):
            at, dollars = self.hour(chance.randint(40, DAYS - 10)), person.basket * chance.uniform(2, 3)
            order = self.buy(person, at, dollars, person.home)
            at += timedelta(minutes=chance.uniform(4, 90))
            self.redeem(person, at, int(dollars * POINTS_PER_DOLLAR * chance.uniform(0.8, 1)), person.home)
            self.bring_back(person, at + timedelta(days=chance.uniform(0.3, 4)), order, person.home)
        return [person.name]

    def _serial_returner(self) -> list[str]:
        chance, person = self.chance, self.someone()
        share, first = chance.uniform(0.55, 0.9), chance.randint(10, 60)
        for day in sorted(chance.sample(range(first, first + 70), chance.randint(9, 16))):
            at = self.hour(day)
            order = self.buy(person, at, chance.uniform(30, 120), person.home)
            if chance.random() < share:
                self.bring_back(person, at + timedelta(days=chance.uniform(1, 12)), order, person.home)
        return [person.name]

    def _fresh_spender(self) -> list[str]:
        chance, names = self.chance, []
        for _ in range(chance.randint(3, 5)):
            person = Person(f"f-{self._count}", chance, self.hour(chance.randint(20, DAYS - 5)))
            person.device = f"phone-{person.name}"
            self.join(person)
            at = person.joined + timedelta(minutes=chance.uniform(2, 20))
            dollars = chance.uniform(60, 250)
            self.buy(person, at, dollars, person.home)
            at += timedelta(minutes=chance.uniform(2, 80))
            self.redeem(person, at, int(dollars * POINTS_PER_DOLLAR * 0.97), chance.choice((person.home, "")), person.device)  # fmt: skip
            names.append(person.name)
        return names

    def _sleeper(self) -> list[str]:
        chance = self.chance
        person = self.someone()
        person.pace = 2 / 7
        active = chance.randint(18, 30)
        self.shop(person, 0, active, redeems=False, returns=False)
        self.buy(person, self.hour(active), 60, person.home)
        at = self.hour(active + chance.randint(65, 110))
        self.login(person, at, f"phone-x{self._count}", f"net-x{self._count}")
        left, times = int(person.points * 0.95), chance.randint(1, 3)
        for _ in range(times):
            at += timedelta(minutes=chance.uniform(2, 15))
            self.redeem(person, at, left // times, chance.choice(NEAR), f"phone-x{self._count}")
        return [person.name]

    def _cloned_card(self) -> list[str]:
        chance, person = self.chance, self.someone(days=60)
        for _ in range(chance.randint(2, 4)):
            at = self.hour(chance.randint(65, DAYS - 3))
            self.buy(person, at, chance.uniform(10, 40), person.home)
            away = chance.choice(("capital", "lakes"))
            self.buy(person, at + timedelta(minutes=chance.uniform(5, 45)), chance.uniform(40, 90), away)
        return [person.name]

    def _gift_ring(self) -> list[str]:
        chance = self.chance
        ring = [self.someone(days=40) for _ in range(chance.randint(3, 6))]
        for person in ring:
            for day in (41, 43):
                self.buy(person, self.hour(day), 45, person.home)
        at = self.hour(chance.randint(50, DAYS - 30))
        for _ in range(chance.randint(1, 3)):
            amount = 100 * chance.randint(2, 4)
            for place, person in enumerate(ring):
                at += timedelta(hours=chance.uniform(0.1, 30))
                self.give(person, at, ring[(place + 1) % len(ring)], amount)
        return [person.name for person in ring]

    def _referral_farm(self) -> list[str]:
        chance, head = self.chance, self.someone(days=30)
        device, address = chance.choice((head.device, f"farm-{self._count}")), f"net-farm-{self._count}"
        at, names = self.hour(chance.randint(35, DAYS - 30)), [head.name]
        for _ in range(chance.randint(7, 15)):
            at += timedelta(hours=chance.uniform(0.2, 20))
            person = Person(f"f-{self._count}", chance, at)
            self.join(person, head.name, device, address)
            if chance.random() < 0.8:
                self.buy(person, at + timedelta(hours=chance.uniform(0.2, 30)), chance.uniform(1, 5), person.home)
            names.append(person.name)
        return names

    def _shared_device(self) -> list[str]:
        chance, device = self.chance, f"burner-{self._count}"
        people = [self.someone(days=70) for _ in range(chance.randint(5, 9))]
        at = self.hour(chance.randint(80, DAYS - 10))
        for person in people:
            at += timedelta(hours=chance.uniform(0.1, 5))
            self.redeem(person, at, max(300, int(person.points * chance.uniform(0.4, 0.7))), "", device)
        return [*[person.name for person in people], f"device:{device}"]

    def _points_burst(self) -> list[str]:
        chance, person = self.chance, self.someone()
        person.pace = 2 / 7
        self.shop(person, 0, 60, redeems=False, returns=False)
        for day in (61, 64, 67):
            self.buy(person, self.hour(day), 70, person.home)
        at, gap = self.hour(chance.randint(75, DAYS - 5)), chance.uniform(1, 5)
        for _ in range(chance.randint(6, 11)):
            self.redeem(person, at, 100 * chance.randint(1, 2), person.home)
            at += timedelta(minutes=gap * chance.uniform(0.5, 1.5))
        return [person.name]

    def _padded_sale(self) -> list[str]:
        chance, person = self.chance, self.someone()
        person.pace = 2 / 7
        self.shop(person, 0, 90, redeems=False, returns=False)
        cashier = f"{person.home}-{chance.randint(1, 4)}"
        for _ in range(chance.randint(1, 3)):
            at = self.hour(chance.randint(95, DAYS - 3))
            self.buy(person, at, person.basket * chance.uniform(12, 30), person.home, cashier)
        return [person.name]


def make_town(seed: int, *, members: int = 400, patterns: tuple[str, ...] = PATTERNS) -> Town:
    """A town by its seed: the same seed makes the same town."""
    builder = Builder(seed, members)
    builder.honest_town()
    for pattern in patterns:
        for _ in range(builder.chance.randint(3, 5)):
            builder.plant(pattern)
    plant: Callable[[dict[str, Any]], str] = lambda event: event["time"]  # noqa: E731
    events = sorted(builder.events, key=plant)
    return Town(events, builder.planted, frozenset(builder.honest))


def lines(town: Town) -> Iterator[str]:
    """Events as JSON lines."""
    return (json.dumps(event, separators=(",", ":")) for event in town.events)


if __name__ == "__main__":
    for line in lines(make_town(int(sys.argv[1]))):
        sys.stdout.write(line + "\n")
