"""Coalitions played from seeds: nothing is lost, doubled or made, whatever the net, the clocks and a cheat do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from plugins.coalition.tests.conftest import Town
from tallystick.commands import visit
from tallystick_coalition import commands, exchange, rules, simulate
from tallystick_coalition.exchange import Answer, Books, Message
from tallystick_coalition.hooks import Coalition

SEEDS = 200


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_whatever_happens_both_books_end_the_same(first: int) -> None:
    played = [simulate.play(seed) for seed in range(first, first + 25)]
    assert sum(one.lost for one in played) > 100
    assert sum(one.confirmed for one in played) > 100 and sum(one.released for one in played) > 50
    assert sum(one.forged for one in played) > 20 and sum(one.disputes for one in played) > 10


def test_the_same_seed_plays_the_same() -> None:
    assert simulate.play(7, brands=5, steps=80) == simulate.play(7, brands=5, steps=80)
    assert simulate.play(7).digest != simulate.play(8).digest


def test_the_command_plays_seeds(town: Town) -> None:
    document, lines = commands.simulate(visit(town.house, "grocer", "coalition", "coalition.simulate"), seed=3, seeds=2)  # type: ignore[arg-type]
    assert [one["seed"] for one in document] == [3, 4]
    assert lines[-1] == "2 seeds played; everything held that must"


def assumed_void(books: Books, message: Message) -> Answer:
    return Answer(state="voided")


def forgotten_end(self: Coalition, voided: Any, situation: Any) -> list[Any]:
    return [self._say("coalition.void", {"act": "voided", "partner": voided.partner, "transfer": voided.transfer})]


def unbounded(self: rules.Pair, flow: Any, owed: int, at: Any) -> rules.Pair:
    month = rules.month_of(at)
    held = {**self.held, month: self.held.get(month, 0) + 1}
    return msgspec.structs.replace(self, open=self.open + owed, held=held)


@pytest.mark.parametrize(
    "where, name, sabotage",
    [
        (exchange._ACTIONS, "void", assumed_void),
        (Coalition, "_void", forgotten_end),
        (rules.Pair, "holding", unbounded),
    ],
    ids=[
        "the target assumes it never committed",
        "the target forgets that it never will",
        "no caps",
    ],
)
def test_a_mistake_would_be_found(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, sabotage: Any) -> None:
    if isinstance(where, dict):
        monkeypatch.setitem(where, name, sabotage)
    else:
        monkeypatch.setattr(where, name, sabotage)
    with pytest.raises(simulate.Broken):
        [simulate.play(seed) for seed in range(40)]
