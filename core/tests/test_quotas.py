"""What a manifest bounds for an event or a day, and what a merchant grants in all, holds across hooks and writers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from core.tests.lab import KINDS, TENANT, Lab, Puppet, proven
from tallystick.effects import EFFECTS, Bonus, Cap, Effect, Grant, Multiply, Spend
from tallystick.engine import Receipt
from tallystick.errors import PluginFailed
from tallystick.generation import Generation
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, compile_pipeline


class Bounded(Lab):
    """A laboratory whose plugin has bounds and a budget."""

    grants: Mapping[str, Bounds] = {}
    budget: Mapping[str, int] = {}

    def compile(self, number: int, since: int, puppet: Puppet | None = None) -> Generation:
        made = super().compile(number, since, puppet)
        (part,) = made.pipeline.parts
        grants = {**{name: Bounds(units=("*",), kinds=tuple(KINDS)) for name in EFFECTS}, **self.grants}
        bounded = Part(
            id="lab", version="1.0", plugin=part.plugin, grants=grants, interests=part.interests, budget=self.budget
        )
        pipeline = compile_pipeline([bounded], KINDS, made.programme)
        return Generation(programme=made.programme, pipeline=pipeline, kinds=KINDS, since=since)

    def bound(self, budget: Mapping[str, int] | None = None, **grants: Bounds) -> None:
        self.grants, self.budget = grants, budget or {}
        self.recompile()


@pytest.fixture
def lab(database_url: str) -> Iterator[Bounded]:
    with proven(Bounded(database_url)) as lab:
        yield lab


ALL = ("*",)


def reacts(amount: int) -> Any:
    return lambda *_: [Bonus(rule="lab.more", unit="points", amount=amount)]


def test_what_is_bounded_per_event_is_bounded_over_all_hooks(lab: Bounded) -> None:
    lab.bound(Bonus=Bounds(units=ALL, max_per_event=100), Grant=Bounds(units=ALL, max_per_event=100))
    lab.puppet.on("earn", lambda *_: [Bonus(rule="lab.b", unit="points", amount=60)])
    lab.puppet.on("react", reacts(41))
    record = lab.buy("ann", 10_000, "A")
    assert [(s["hook"], s["cause"]) for s in record.skipped] == [("react", "refused")]
    assert "Bonus effects of 101 in one event; the manifest grants 100" in record.skipped[0]["error"]
    assert lab.usable("ann") == 60
    lab.puppet.on("react", reacts(40))
    assert lab.buy("ann", 10_000, "B").skipped == ()
    assert lab.usable("ann") == 160


def test_so_is_their_number(lab: Bounded) -> None:
    lab.bound(Bonus=Bounds(units=ALL, max_count=1))
    lab.puppet.on("earn", lambda *_: [Bonus(rule="lab.b", unit="points", amount=6)])
    lab.puppet.on("react", reacts(4))
    assert [s["hook"] for s in lab.buy("ann", 10_000, "A").skipped] == ["react"]
    assert lab.usable("ann") == 6


def test_a_day_is_bounded_over_events_for_each_member(lab: Bounded) -> None:
    lab.bound(Grant=Bounds(units=ALL, max_per_member_day=150))
    assert lab.buy("ann", 10_000, "A").skipped == ()
    record = lab.buy("ann", 5_100, "B")
    assert "Grant effects of 151 on one day; the manifest grants 150" in record.skipped[0]["error"]
    assert lab.buy("ann", 5_000, "C").skipped == ()
    assert lab.buy("bob", 15_000, "D").skipped == ()
    assert (lab.usable("ann"), lab.usable("bob")) == (150, 150)
    lab.wait(days=1)
    assert lab.buy("ann", 15_000, "E").skipped == ()
    lab.refund("E")
    assert lab.buy("ann", 100, "F").skipped != (), "what was given was given"


def test_spending_beyond_a_bound_is_refused(lab: Bounded) -> None:
    lab.bound(Spend=Bounds(units=ALL, max_per_member_day=50))
    lab.gain("ann", 100)
    lab.spend("ann", 50)
    with pytest.raises(PluginFailed, match="Spend effects of 51 on one day"):
        lab.spend("ann", 1)
    assert lab.usable("ann") == 50


def test_a_day_is_bounded_over_writers(lab: Bounded) -> None:
    lab.bound(Grant=Bounds(units=ALL, max_per_member_day=300))
    crowd(lab, lambda n: lab.bought("ann", 1_000, f"o{n}"))
    assert lab.usable("ann") == 300


def test_a_budget_is_spent_to_the_last_point_and_no_further_by_whoever_writes(lab: Bounded) -> None:
    lab.bound(budget={"points": 333})
    crowd(lab, lambda n: lab.bought("ann" if n % 2 else "bob", 1_000, f"o{n}"))
    assert lab.usable("ann") + lab.usable("bob") == 333


def crowd(lab: Bounded, arrival: Any) -> None:
    """Sixty purchases by two writers at once."""
    arrivals = [arrival(n) for n in range(60)]
    writers = [lab.writer(2), lab.writer(3)]

    def work(place: int) -> None:
        for each in arrivals[place::2]:
            (outcome,) = writers[place].record([each])
            assert isinstance(outcome, Receipt), outcome

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_budget_cuts_gains_of_all_hooks_says_so_and_gets_back_what_comes_back(lab: Bounded) -> None:
    def earn(*_: Any) -> list[Effect]:
        return [Grant(rule="lab.base", unit="points", amount=100), Multiply(rule="lab.twice", unit="points", factor=2)]

    lab.bound(budget={"points": 230})
    lab.puppet.on("earn", earn)
    lab.puppet.on("react", reacts(50))
    record = lab.buy("ann", 10_000, "A")
    assert [(s.rule, s.amount, s.wanted, s.by) for s in record.explanation] == [
        ("lab.base", 100, None, ""), ("lab.twice", 100, None, ""), ("lab.more", 30, 50, "lab.budget"),
    ]  # fmt: skip
    assert lab.usable("ann") == 230
    lab.buy("ann", 10_000, "B")
    assert lab.usable("ann") == 230
    lab.puppet.on("react", lambda *_: [])
    lab.refund("A", amount=5_000)
    lab.puppet.on("earn", lambda *_: [Grant(rule="lab.base", unit="points", amount=1_000)])
    lab.buy("bob", 10_000, "C")
    assert lab.usable("bob") == 115


def test_other_units_and_caps_of_the_plugin_stay_as_they_are(lab: Bounded) -> None:
    lab.bound(budget={"stars": 1})
    lab.puppet.on(
        "earn",
        lambda *_: [Grant(rule="lab.base", unit="points", amount=100), Cap(rule="lab.cap", unit="points", limit=70)],
    )
    assert lab.buy("ann", 10_000, "A").explanation[0].by == "lab.cap"
    assert lab.usable("ann") == 70


def test_what_was_kept_back_by_a_failure_draws_on_the_budget_of_now(lab: Bounded) -> None:
    def boom(*_: Any) -> list[Effect]:
        raise RuntimeError

    lab.bound(budget={"points": 130})
    lab.puppet.on("earn", boom)
    lab.buy("ann", 10_000, "A")
    lab.puppet.scripts.pop("earn")
    lab.buy("bob", 10_000, "B")
    for arrival in lab.engine.owing(TENANT):
        lab.send(arrival)
    assert (lab.usable("ann"), lab.usable("bob")) == (30, 100)


def test_spends_are_no_gains(lab: Bounded) -> None:
    lab.bound(budget={"points": 100})
    lab.gain("ann", 100)
    lab.puppet.on("redeem", lambda *_: [Spend(rule="lab.spend", unit="points", amount=40)])
    lab.spend("ann", 40)
    assert lab.usable("ann") == 60
