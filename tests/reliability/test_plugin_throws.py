"""A plugin that fails again and again costs nobody else anything, and every entry says what is missing from it (I15, S07)."""

from collections.abc import Iterator
from typing import Any

import pytest

from core.tests.lab import KINDS, Lab, Puppet
from tallystick import receipts
from tallystick.effects import EFFECTS, Grant
from tallystick.generation import Generation
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, compile_pipeline

EVENTS = 300
GIVES = {"first": 5, "middle": 7, "last": 11}


class Trio(Lab):
    """Three plugins, of which the middle one fails at every third event."""

    def compile(self, number: int, since: int, puppet: Puppet | None = None) -> Generation:
        alone = super().compile(number, since, puppet)
        grants = {name: Bounds(units=("*",), kinds=tuple(KINDS)) for name in EFFECTS}
        parts = [Part(id=name, version="1.0", plugin=self.plugin(name), grants=grants) for name in GIVES]
        pipeline = compile_pipeline(parts, KINDS, alone.programme)
        return Generation(programme=alone.programme, pipeline=pipeline, kinds=KINDS, since=since)

    @staticmethod
    def plugin(name: str) -> Puppet:
        def earn(event: Any, _: Any) -> list[Grant]:
            if name == "middle" and event.kind == "purchase.completed" and int(event.facts.order) % 3 == 0:
                raise RuntimeError("not today")
            return [Grant(rule=f"{name}.base", unit="points", amount=GIVES[name])]

        puppet = Puppet()
        puppet.on("earn", earn)
        puppet.on("redeem", lambda event, _: [])
        return puppet


@pytest.fixture
def trio(database_url: str) -> Iterator[Trio]:
    lab = Trio(database_url)
    lab.enrol("ann")
    yield lab
    lab.check()
    lab.db.dispose()


def test_a_plugin_that_throws_costs_nobody_else_anything(trio: Trio) -> None:
    outcomes = []
    for start in range(0, EVENTS, 20):
        outcomes += trio.try_all(*[trio.bought("ann", 100, str(n)) for n in range(start, start + 20)])
    given = dict.fromkeys(GIVES, 0)
    missing = 0
    for n, outcome in enumerate(outcomes):
        record = outcome.record  # type: ignore[union-attr]
        for step in record.explanation:
            given[step.rule.partition(".")[0]] += step.amount
        warned = {warning.plugin for warning in receipts.receipt(record).warnings}
        assert warned == ({"middle"} if len(record.explanation) == 2 else set())
        assert n % 3 or warned, "it failed and nobody was told"
        missing += bool(warned)
    assert (given["first"], given["last"]) == (EVENTS * 5, EVENTS * 11)
    assert given["middle"] == (EVENTS - missing) * 7
    assert trio.usable("ann") == sum(given.values())
    health = {each.plugin: each.errors for each in trio.generation.pipeline.health() if each.hook == "earn"}
    assert health["middle"] >= 20
    assert (health["first"], health["last"]) == (0, 0)
