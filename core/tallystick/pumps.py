"""Points pumps: buying, spending and bringing back that leaves a member richer, found by trying, each with a story that shows it.

The programme is put into a house of its own on a file that is thrown away.  There a stranger buys baskets that its rules
like, spends or gives away what came of it, and brings everything back.  Who then owns nothing and has gained, has pumped.
The search is bounded: what it finds is certain, what it does not find is not proved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs
import msgspec

from . import people, queries
from .config import Config
from .discovery import Installed
from .errors import TallyError
from .generation import Generation
from .house import House, build_house, prepare
from .intake import read_document
from .ledger import instant
from .rulebook import Known, example, rules_of
from .rules import aloud

#: What is tried with each basket: buy, spend all, give all to a friend, bring back half or all of what is still there.
PATTERNS: Final = ("b a", "b h a", "b s a", "b g a", "b h s a", "b b a a", "b b s a a", "b s b a a")
#: Baskets tried at most.
MAX_BASKETS = 40
_PURCHASE: Final = "purchase.completed"
_REFUND: Final = "purchase.refunded"
_REDEEM, _GIFT = "points.redeemed", "points.gifted"
_MONDAY: Final = date(2025, 1, 6)


@attrs.frozen
class Pump:
    """A way to gain without buying."""

    rule: str  #: whose gain stayed, by its public name
    unit: str
    gained: int  #: smallest units, with nothing kept in return
    story: str  #: for :func:`tallystick.testing.stories.play`


@attrs.frozen
class Basket:
    """What is bought, and on which day."""

    day: date
    facts: Mapping[str, Any]


def search(config: Config, tenant: str, installed: Mapping[str, Installed]) -> list[Pump]:
    """The shortest pump found for each rule of *tenant*'s programme; writes to a file of its own only."""
    with TemporaryDirectory(prefix="tally-pumps-") as folder:
        url = f"sqlite:///{(Path(folder) / 'books.db').as_posix()}"
        house = msgspec.structs.replace(config.house, database=url, data_dir=Path(folder), secret="")
        alone = msgspec.structs.replace(config, house=house, tenants={tenant: config.tenants[tenant]})
        prepare(alone, installed=installed)
        clock = [instant(datetime(2020, 1, 1, tzinfo=UTC))]
        built = build_house(alone, installed=installed, clock=lambda: clock[0])
        try:
            return _search(built, tenant, clock)
        finally:
            built.close()


def _search(house: House, tenant: str, clock: list[int]) -> list[Pump]:
    generation = house.registry.latest(tenant)
    found: dict[str, Pump] = {}
    for basket in list(_baskets(generation))[:MAX_BASKETS]:
        for pattern in PATTERNS:
            if ("s" in pattern and _REDEEM not in generation.kinds) or (
                "g" in pattern and _GIFT not in generation.kinds
            ):
                continue
            attempt = _Attempt(house, tenant, clock, basket)
            pump = attempt.play(pattern.split())
            if pump is not None:
                found.setdefault(pump.rule, pump)
                break  # longer ways with the same basket show nothing new
    return list(found.values())


# --- baskets ----------------------------------------------------------------------------------------------------------------


def _baskets(generation: Generation) -> Iterator[Basket]:
    """A plain basket in three sizes, and one for every purchase rule: with what its comparisons ask for, on a day it likes."""
    currency = generation.programme.currency
    for amount in (10_000, 199, 99_999):
        yield Basket(_MONDAY, _facts(currency, amount, {}, {}))
    for known in rules_of(generation):
        if known.kind != _PURCHASE:
            continue
        liked = aloud.favour(known.rules, known.name)
        lines = aloud.favour(known.rules, known.name, part="lines")
        line = {path.removeprefix("line."): value for path, value in lines.items() if path.startswith("line.")}
        fields = {
            path.removeprefix("purchase."): value for path, value in liked.items() if path.startswith("purchase.")
        }
        amount = max(
            [10_000, *(value for value in (*liked.values(), *lines.values()) if type(value) is int and value < 1 << 40)]
        )
        basket = _facts(currency, amount, _known_fields(generation, fields), line)
        yield Basket(_day(generation, known, basket, liked), basket)


def _known_fields(generation: Generation, fields: Mapping[str, Any]) -> dict[str, Any]:
    facts = generation.kinds[_PURCHASE].facts
    return {name: value for name, value in fields.items() if name in facts.__struct_fields__ and name != "lines"}


def _facts(currency: str, amount: int, fields: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    return {"currency": currency, **fields, "lines": [{"sku": "item", **line, "amount": amount}]}


def _day(generation: Generation, known: Known, facts: Mapping[str, Any], liked: Mapping[str, Any]) -> date:
    """The first day, of a week and of those the rule names, on which the rule fires for the basket; else a Monday."""
    event, situation = example(generation, _PURCHASE)
    named = [
        value.date() if isinstance(value, datetime) else value for value in liked.values() if isinstance(value, date)
    ]
    try:
        bought = msgspec.convert({**facts, "order": "R"}, generation.kinds[_PURCHASE].facts)
    except msgspec.ValidationError:
        return _MONDAY
    for day in [*(_MONDAY + timedelta(days=n) for n in range(7)), *named]:
        at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        then = msgspec.structs.replace(event, at=at, received=at, facts=bought)
        values = known.offers.facts_about(then, msgspec.structs.replace(situation, now=at))
        if known.rules.judge(known.rules.named(known.name), values) is not None:
            return day
    return _MONDAY


# --- one attempt ------------------------------------------------------------------------------------------------------------


class _Attempt:
    """A stranger and a friend, and what they do, written down as a story."""

    _count = 0

    def __init__(self, house: House, tenant: str, clock: list[int], basket: Basket) -> None:
        _Attempt._count += 1
        self.house, self.tenant, self.clock, self.basket = house, tenant, clock, basket
        self.names = (f"stranger-{self._count}", f"friend-{self._count}")
        self.minute = 0
        self.story: list[str] = []
        self.orders: dict[str, int] = {}  #: what can still be brought back of each order
        self.by_rule: dict[tuple[str, str], int] = {}
        self.spent: dict[str, int] = {}
        self._move()
        with house.db.begin() as conn:
            self.numbers = [
                people.enrol(conn, house.secret, tenant, clock[0], external_ids=[name]) for name in self.names
            ]

    def play(self, steps: Sequence[str]) -> Pump | None:
        """Do as the pattern says; the pump if that left something."""
        for step in steps:
            done = getattr(self, f"_{_VERBS[step]}")()
            if not done:
                return None
        if any(self.orders.values()):
            return None  # something is still there
        held = self._held()
        units = held.keys() | self.spent.keys()
        gains = {unit: held.get(unit, 0) + self.spent.get(unit, 0) for unit in units}
        unit, gained = max(gains.items(), key=lambda item: item[1], default=("", 0))
        rules = {rule: amount for (rule, of), amount in self.by_rule.items() if of == unit}
        if gained <= 0 or not rules:
            return None
        self._write(f"{self.names[0]} has {self._held(one=True).get(unit, 0)} {unit} posted")
        story = "\n".join(self.story).replace(f"-{self._count}", "")
        return Pump(max(rules, key=lambda rule: rules[rule]), unit, gained, story + "\n")

    def _buy(self) -> bool:
        order = f"P-{len(self.orders) + 1}"
        amount = self.basket.facts["lines"][0]["amount"]
        self._write(f"{self.names[0]} buys {json.dumps(self.basket.facts, default=str)} as {order}")
        self.orders[order] = amount
        return self._send(_PURCHASE, {**self.basket.facts, "order": self._own(order)})

    def _spend(self) -> bool:
        usable = self._usable()
        self._write(f"{self.names[0]} redeems {usable} points")
        before = sum(self.spent.values())
        # a programme that spends in steps may spend less, or nothing
        return usable > 0 and self._send(_REDEEM, {"points": usable}) and sum(self.spent.values()) > before

    def _give(self) -> bool:
        usable = self._usable()
        self._write(f"{self.names[0]} gives {usable} points to {self.names[1]}")
        return usable > 0 and self._send(_GIFT, {"points": usable, "to": self.names[1]})

    def _halve(self) -> bool:
        order, left = next((order, left) for order, left in self.orders.items() if left)
        return self._bring_back(order, left // 2)

    def _return(self) -> bool:
        order, left = next((order, left) for order, left in self.orders.items() if left)
        return self._bring_back(order, left)

    def _bring_back(self, order: str, amount: int) -> bool:
        self.orders[order] -= amount
        whole = not self.orders[order] and amount == self.basket.facts["lines"][0]["amount"]
        self._write(f"{self.names[0]} returns {'' if whole else f'{amount / 100:.2f} of '}{order}")
        return self._send(_REFUND, {"order": self._own(order), **({} if whole else {"amount": amount})})

    # -- the house ----------------------------------------------------------------------------------------------------------

    def _own(self, order: str) -> str:
        return f"{order}/{self._count}"

    def _write(self, what: str) -> None:
        self._move()
        at = datetime.combine(self.basket.day, datetime.min.time(), UTC) + timedelta(hours=12, minutes=self.minute)
        self.story.append(f"{at:%Y-%m-%d %H:%M}  {what}")

    def _move(self) -> None:
        self.minute += 1
        at = datetime.combine(self.basket.day, datetime.min.time(), UTC) + timedelta(hours=12, minutes=self.minute)
        self.clock[0] = instant(at)

    def _send(self, kind: str, data: Mapping[str, Any]) -> bool:
        at = datetime.combine(self.basket.day, datetime.min.time(), UTC) + timedelta(hours=12, minutes=self.minute)
        document = {
            "id": f"{self._count}/{self.minute}", "source": "tallystick/pumps", "type": kind, "time": at.isoformat(),
            "member": self.names[0], "data": data,
        }  # fmt: skip
        try:
            arrival = read_document(
                document, tenant=self.tenant, kinds=self.house.kinds(self.tenant), received=at, actor="lint"
            )
        except TallyError:
            return False
        (outcome,) = self.house.engine.record([arrival])
        if isinstance(outcome, TallyError):
            return False
        for step in outcome.record.explanation:
            if step.effect in ("spend", "give_back"):
                self.spent[step.unit] = self.spent.get(step.unit, 0) - step.amount
            elif step.unit and step.effect != "move":
                key = step.rule, step.unit
                self.by_rule[key] = self.by_rule.get(key, 0) + step.amount
        return outcome.record.status == "recorded"

    def _usable(self) -> int:
        with self.house.reading() as conn:
            found = queries.balances(conn, self.tenant, self.numbers[0], self.house.clock()).get("points")
        return found.usable if found is not None else 0

    def _held(self, *, one: bool = False) -> dict[str, int]:
        """What was posted to the stranger, and to the friend, per unit."""
        held: dict[str, int] = {}
        with self.house.reading() as conn:
            for number in self.numbers[: 1 if one else 2]:
                for unit, balance in queries.balances(conn, self.tenant, number, self.clock[0]).items():
                    held[unit] = held.get(unit, 0) + balance.posted
        return held


_VERBS: Final = {"b": "buy", "s": "spend", "g": "give", "h": "halve", "a": "return"}
