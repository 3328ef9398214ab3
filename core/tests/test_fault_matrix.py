"""Every hook x every fault, through the real engine: the books are right, the others' results stand, the culprit is named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from core.tests.lab import KINDS, Lab, Puppet
from tallystick import database, proofs
from tallystick.effects import EFFECTS, Bonus, Count, Effect
from tallystick.errors import PluginFailed, Refused, TallyError
from tallystick.generation import Generation
from tallystick.hookspecs import hookimpl
from tallystick.ledger import Record
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, compile_pipeline
from tallystick.situation import Needs
from tallystick.watchdog import Watchdog

ALL = ("*",)


def loop(**_: Any) -> Any:
    while True:
        pass


def boom(**_: Any) -> Any:
    raise ValueError("the secret of ann")


def bye(**_: Any) -> Any:
    sys.exit(3)


def change(**given: Any) -> Any:
    given["event"].member = 2


def mine(**more: Any) -> Count:
    return Count(**{"rule": "culprit.x", "counter": "c", "window": "day", **more})


#: fault -> what the hook does, and what it is called
FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (boom, "raised"),
    "hangs": (loop, "overran"),
    "wrong type": (lambda **_: {"Count": 1}, "refused"),
    "out of bounds": (lambda **_: [mine(amount=101)], "refused"),
    "too many": (lambda **_: [mine()] * 4, "refused"),
    "another's member": (lambda **_: [Bonus(rule="culprit.x", unit="points", amount=1, to=4711)], "refused"),
    "an undeclared unit": (lambda **_: [Bonus(rule="culprit.x", unit="gold", amount=1)], "refused"),
    "changes its input": (change, "raised"),
    "tries to end the process": (bye, "raised"),
}
HOOKS = ("needs", "earn", "redeem", "reverse", "review", "evaluate_tier", "react")


class Culprit:
    """A plugin of which one hook does what a fault says."""

    hook = ""
    fault: Callable[..., Any] = staticmethod(lambda **_: None)

    def _ask(self, hook: str, **given: Any) -> Any:
        return self.fault(**given) if hook == self.hook else []

    @hookimpl
    def needs(self) -> Any:
        if self.hook == "needs":
            return self.fault(event=_Frozen())
        return Needs()

    @hookimpl
    def earn(self, event: Any) -> Any:
        return self._ask("earn", event=event)

    @hookimpl
    def redeem(self, event: Any) -> Any:
        return self._ask("redeem", event=event)

    @hookimpl
    def reverse(self, event: Any) -> Any:
        return self._ask("reverse", event=event)

    @hookimpl
    def review(self, event: Any) -> Any:
        return self._ask("review", event=event)

    @hookimpl
    def evaluate_tier(self, event: Any) -> Any:
        return self._ask("evaluate_tier", event=event)

    @hookimpl
    def react(self, event: Any) -> Any:
        return self._ask("react", event=event)


class _Frozen:
    __slots__ = ()


class Town(Lab):
    """A laboratory where a culprit runs before the plugin that behaves."""

    culprit = Culprit()

    def compile(self, number: int, since: int, puppet: Puppet | None = None) -> Generation:
        made = super().compile(number, since, puppet)
        grants = {**dict.fromkeys(EFFECTS, Bounds()), "Count": Bounds(max_per_event=100, max_count=3)}
        bad = Part(
            id="culprit", version="6.6", plugin=self.culprit, grants=grants, interests={"redeem": ("lab.spent",)}
        )
        pipeline = compile_pipeline([bad, *made.pipeline.parts], KINDS, made.programme)
        return Generation(programme=made.programme, pipeline=pipeline, kinds=KINDS, since=since)

    def break_it(self, hook: str, fault: str) -> None:
        self.culprit = Culprit()
        self.culprit.hook, self.culprit.fault = hook, FAULTS[fault][0]
        self.recompile()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(f"sqlite:///{tmp_path_factory.mktemp('matrix') / 'tally.db'}")
    town.enrol("ann", "bob")
    with Watchdog():
        yield town
    town.db.dispose()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hook", HOOKS)
def test_the_books_are_right_the_others_stand_and_the_culprit_is_named(town: Town, hook: str, fault: str) -> None:
    town.break_it("", "raises")
    town.wait(days=1)
    town.gain("ann", 50)
    before = town.usable("ann")
    town.break_it(hook, fault)
    cause = "sat_out" if hook == "needs" else FAULTS[fault][1]
    order = f"{hook}/{fault}"

    sale = town.buy("ann", 10_000, order)
    assert step_of(sale, "lab.base") == 100
    back = town.refund(order, amount=5_000)
    assert step_of(back, "lab.base") == -50
    spent: Record | TallyError
    try:
        spent = town.spend("ann", 10)
    except (PluginFailed, Refused, TallyError) as error:
        spent = error
    held = isinstance(spent, Record) and spent.status == "held"

    if hook in ("redeem", "needs"):
        assert isinstance(spent, TallyError), "nothing is spent without whoever decides about it"
        assert spent.details["plugin"] == "culprit"
    elif hook == "review":
        assert held, "what takes is held for a person"
        town.void(spent.entry)  # type: ignore[union-attr]
    else:
        assert isinstance(spent, Record)
        assert spent.status == "recorded"
    taken = 0 if hook in ("redeem", "needs", "review") else 10
    assert town.usable("ann") == before + 50 - taken

    records = [sale, back, *([spent] if isinstance(spent, Record) else [])]
    skipped = [each for record in records for each in record.skipped]
    asked = hook if hook != "needs" else None
    if hook != "redeem":
        assert skipped
    assert {each["plugin"] for each in skipped} <= {"culprit"}
    assert {each["cause"] for each in skipped if asked in (None, each["hook"])} <= {cause}
    assert "secret" not in str(skipped)
    (health,) = [h for h in town.generation.pipeline.health() if (h.plugin, h.hook) == ("culprit", hook)]
    assert health.errors > 0
    assert health.last_error
    assert all(not h.errors for h in town.generation.pipeline.health() if h.plugin == "lab")
    town.check()
    with database.reading(town.db) as conn:
        assert proofs.verify(conn).findings == ()


def step_of(record: Record, rule: str) -> int:
    return sum(step.amount for step in record.explanation if step.rule == rule)


def test_after_the_matrix_the_house_serves_as_before(town: Town) -> None:
    town.break_it("", "raises")
    town.now = max(town.now, datetime(2026, 1, 1, tzinfo=UTC))
    before = town.usable("bob")
    town.buy("bob", 10_000, "last")
    assert town.usable("bob") == before + 100
    effects: list[Effect] = []
    assert effects == list(town.culprit.earn(None))
