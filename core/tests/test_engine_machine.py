"""A state machine against a small model: whatever members do, in whatever order, the books are what the model says."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.tests.lab import Lab, Puppet, verdict
from tallystick.errors import Insufficient, TallyError

MEMBERS = ("ann", "bob", "eve")
WHO = st.sampled_from(MEMBERS)
CENTS = st.integers(0, 30_000)


class Person:
    """What the model knows of a member: lots as [left, expiry day or None], and a deficit.  Sixty lines of arithmetic."""

    def __init__(self) -> None:
        self.lots: list[list] = []  # type: ignore[type-arg]
        self.owed = 0

    @property
    def posted(self) -> int:
        return sum(lot[0] for lot in self.lots) - self.owed

    def usable(self, day: int) -> int:
        return sum(lot[0] for lot in self.lots if lot[1] is None or lot[1] > day) - self.owed

    def gain(self, amount: int, expires: int | None) -> list:  # type: ignore[type-arg]
        absorbed = min(self.owed, amount)
        self.owed -= absorbed
        lot = [amount - absorbed, expires]
        self.lots.append(lot)
        return lot

    def expire(self, day: int) -> None:
        for lot in self.lots:
            if lot[1] is not None and lot[1] <= day:
                lot[0] = 0

    def take(self, amount: int, day: int, own: list | None = None) -> list:  # type: ignore[type-arg]
        self.expire(day)
        parts = []
        for lot in sorted(self.lots, key=lambda lot: (lot is not own, lot[1] is None, lot[1] or 0)):
            part = min(lot[0], amount)
            lot[0] -= part
            amount -= part
            if part:
                parts.append((lot, part))
        self.owed += amount
        return parts

    def put_back(self, parts: list, day: int) -> None:  # type: ignore[type-arg]
        for lot, part in parts:
            absorbed = min(self.owed, part)
            self.owed -= absorbed
            lot[0] += part - absorbed
        self.expire(day)


class Shop(RuleBasedStateMachine):
    make_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab(self.make_url(), puppet=Puppet())
        self.lab.enrol(*MEMBERS)
        self.people = {name: Person() for name in MEMBERS}
        self.sales: dict[str, dict] = {}  # type: ignore[type-arg]
        self.held: list[tuple] = []  # type: ignore[type-arg]
        self.sent: list = []  # type: ignore[type-arg]
        self.day = 0
        self.count = 0

    def teardown(self) -> None:
        self.lab.check()
        self.lab.db.dispose()

    def send(self, arrival):  # type: ignore[no-untyped-def]
        record = self.lab.send(arrival)
        self.sent.append(arrival)
        return record

    def name(self) -> str:
        self.count += 1
        return f"R{self.count}"

    @initialize()
    def start(self) -> None:
        self.lab.gain("ann", 50)
        self.people["ann"].gain(50, None)

    @rule(who=WHO, cents=CENTS)
    def buys(self, who: str, cents: int) -> None:
        order = self.name()
        self.send(self.lab.bought(who, cents, order))
        lot = self.people[who].gain(cents // 100, None) if cents >= 100 else None
        self.sales[order] = {
            "who": who,
            "value": cents,
            "back": 0,
            "points": cents // 100,
            "taken": 0,
            "lot": lot,
            "spent": [],
            "given": 0,
        }

    @rule(cents=CENTS)
    def guest_buys(self, cents: int) -> None:
        order = self.name()
        self.send(self.lab.bought("", cents, order))
        self.sales[order] = {
            "who": "",
            "value": cents,
            "back": 0,
            "points": 0,
            "taken": 0,
            "lot": None,
            "spent": [],
            "given": 0,
        }

    @rule(who=WHO, amount=st.integers(1, 300), days=st.integers(0, 5))
    def gains(self, who: str, amount: int, days: int) -> None:
        self.send(self.lab.arrival("lab.did", who, amount=amount, days=days))
        self.people[who].gain(amount, self.day + days if days else None)

    @rule(who=WHO, amount=st.integers(1, 400), data=st.data())
    def spends(self, who: str, amount: int, data: st.DataObject) -> None:
        mine = sorted(order for order, sale in self.sales.items() if sale["who"])
        order = data.draw(st.sampled_from(["", *mine]))
        arrival = self.lab.arrival("lab.spent", who, amount=amount, order=order)
        if amount > self.people[who].usable(self.day):
            with pytest.raises(Insufficient):
                self.lab.send(arrival)
            return
        self.send(arrival)
        parts = self.people[who].take(amount, self.day)
        if order:
            self.sales[order]["spent"].append([who, amount, parts, 0])

    @rule(who=WHO, to=WHO, amount=st.integers(1, 200))
    def gives(self, who: str, to: str, amount: int) -> None:
        arrival = self.lab.arrival("lab.given", who, amount=amount, to=to)
        if to == who or amount > self.people[who].usable(self.day):
            with pytest.raises(TallyError):
                self.lab.send(arrival)
            return
        self.send(arrival)
        for lot, part in self.people[who].take(amount, self.day):
            self.people[to].gain(part, lot[1])

    @precondition(lambda self: self.sales)
    @rule(data=st.data(), cents=st.none() | CENTS)
    def returns(self, data: st.DataObject, cents: int | None) -> None:
        order = data.draw(st.sampled_from(sorted(self.sales)))
        self.send(self.lab.returned(order, amount=cents) if cents is not None else self.lab.returned(order))
        sale = self.sales[order]
        sale["back"] = sale["value"] if cents is None else min(sale["value"], sale["back"] + cents)

        def share(whole):
            return whole if sale["back"] >= sale["value"] else whole * sale["back"] // sale["value"]

        if sale["who"]:
            amount = share(sale["points"]) - sale["taken"]
            sale["taken"] += amount
            if amount:
                self.people[sale["who"]].take(amount, self.day, sale["lot"])
        for spend in sale["spent"]:
            who, amount, parts, before = spend
            now = share(amount)
            if now == before:
                continue
            skip, left, back = before, now - before, []
            for lot, part in reversed(parts):
                skipped = min(skip, part)
                skip -= skipped
                piece = min(left, part - skipped)
                left -= piece
                if piece:
                    back.append((lot, piece))
            spend[3] = now
            self.people[who].put_back(back, self.day)

    @precondition(lambda self: any(not sale["who"] for sale in self.sales.values()))
    @rule(data=st.data(), who=WHO)
    def claims(self, data: st.DataObject, who: str) -> None:
        order = data.draw(st.sampled_from(sorted(order for order, sale in self.sales.items() if not sale["who"])))
        self.send(self.lab.arrival("order.claimed", who, order=order))
        sale = self.sales[order]
        sale["who"], sale["points"] = who, sale["value"] // 100
        if sale["points"]:
            sale["lot"] = self.people[who].gain(sale["points"], None)
        back = sale["value"] and sale["points"] * sale["back"] // sale["value"]
        sale["taken"] = back
        if back:
            self.people[who].take(back, self.day, sale["lot"])

    @rule(who=WHO, amount=st.integers(1, 200), spend=st.booleans())
    def is_held(self, who: str, amount: int, spend: bool) -> None:
        if spend and amount > self.people[who].usable(self.day):
            return
        self.lab.puppet.on("review", verdict("hold"))
        record = self.lab.do("lab.spent" if spend else "lab.did", who, amount=amount)
        self.lab.puppet.scripts.pop("review")
        if spend:
            self.held.append((record.entry, who, "spend", self.people[who].take(amount, self.day)))
        elif not self.people[who].owed:  # the model does not tell apart what a held gain absorbed
            self.held.append((record.entry, who, "gain", amount))
        else:
            self.lab.release(record.entry)
            self.people[who].gain(amount, None)

    @precondition(lambda self: self.held)
    @rule(release=st.booleans(), data=st.data())
    def is_decided(self, release: bool, data: st.DataObject) -> None:
        entry, who, what, detail = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        (self.lab.release if release else self.lab.void)(entry)
        if what == "gain" and release:
            self.people[who].gain(detail, None)
        elif what == "spend" and not release:
            self.people[who].put_back(detail, self.day)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), copies=st.integers(1, 3))
    def is_sent_again(self, data: st.DataObject, copies: int) -> None:
        """I4: twice is once, however late and however often."""
        arrival = data.draw(st.sampled_from(self.sent))
        assert all(outcome.repeated for outcome in self.lab.engine.record([arrival] * copies))  # type: ignore[union-attr]

    @rule(days=st.integers(0, 3), sweep=st.booleans())
    def time_passes(self, days: int, sweep: bool) -> None:
        self.day += days
        self.lab.wait(days=days)
        if sweep:
            self.lab.sweep()
            for person in self.people.values():
                person.expire(self.day)

    @invariant()
    def everybody_can_spend_what_the_model_says(self) -> None:
        waiting = {name: sum(h[3] for h in self.held if h[1] == name and h[2] == "gain") for name in MEMBERS}
        for name, person in self.people.items():
            assert self.lab.usable(name) == person.usable(self.day), name
            assert self.lab.posted(name) == person.posted + waiting[name], name


def test_the_books_are_what_a_small_model_says(
    make_database: Callable[[], str], request: pytest.FixtureRequest
) -> None:
    """I1, I2, I3, I4, I19, I20."""
    server = "postgresql" in request.node.name

    class OnThisDatabase(Shop):
        make_url = staticmethod(make_database)

    chosen = settings(
        max_examples=3 if server else 10,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
        database=None,
        derandomize=True,  # the same lives in every run; shrinking is for a person
    )
    run_state_machine_as_test(OnThisDatabase, settings=chosen)  # type: ignore[no-untyped-call]
