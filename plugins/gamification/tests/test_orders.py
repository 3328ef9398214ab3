"""The order in which the house hears of things changes nothing about where tasks end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from tallystick.commands import visit
from tallystick.testing import Stage, play
from tallystick_gamification import api

Opened = Callable[[str], Stage]
TASKS = """
[[plugins.gamification.tasks]]
name = "visits"
goal = "2 * level"
levels = 5
repeat = "week"
refund = "reward"
rewards = [{ unit = "points", amount = 100 }]
[[plugins.gamification.tasks]]
name = "spend"
measure = "sum"
goal = 5000
repeat = "completion"
refund = "reward"
rewards = [{ unit = "points", amount = 1000 }]
"""
MONDAY = datetime(2025, 1, 6, 17, tzinfo=UTC)


def sale(order: str, day: int, cents: int) -> tuple[str, dict[str, object], datetime]:
    lines = [{"sku": "s", "amount": cents}]
    return "purchase.completed", {"order": order, "currency": "USD", "lines": lines}, MONDAY + timedelta(days=day)


def back(order: str, day: int, cents: int | None = None) -> tuple[str, dict[str, object], datetime]:
    return "purchase.refunded", {"order": order} | ({"amount": cents} if cents else {}), MONDAY + timedelta(days=day)


EVENTS = [sale("A", 0, 4000), sale("B", 1, 2000), back("A", 2), sale("C", 2, 4000), back("C", 3, 1000)]


@pytest.mark.parametrize("order", [*permutations(range(5))][::17])
def test_late_early_and_mixed_events_come_to_the_same_end(
    order: tuple[int, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tallystick.testing import make_stage

    folder = tmp_path_factory.mktemp("books")
    settings = "[plugins.points]\n" + TASKS
    with make_stage(settings, f"sqlite:///{folder / 'books.db'}", folder) as stage:
        stage.enrol("ada")
        stage.at(MONDAY + timedelta(days=4))
        for place in order:
            kind, data, at = EVENTS[place]
            stage.send(kind, data, member="ada", at=at)
        views = api.tasks_of(visit(stage.house, "shop", "gamification", "t"), stage.number("ada"))
        assert [(view.task, view.progress, view.level) for view in views] == [("visits", 2, 1), ("spend", 5000, 1)]
        assert stage.usable("ada") == 1100


def test_a_guests_purchase_counts_once_it_is_somebodys(opened: Opened) -> None:
    stage = opened(TASKS)
    play(
        """
        2025-01-06  guest buys 30.00 as G
        2025-01-06  ada buys 30.00 as A            earns 30 points
        2025-01-07  ada does order.claimed {"order": "G"}   earns 1130 points
        2025-01-07  ada does order.claimed {"order": "G"}   earns nothing
        """,
        stage=stage,
    )


def test_the_same_event_again_adds_nothing(opened: Opened) -> None:
    stage = opened(TASKS)
    stage.enrol("ada")
    for _ in range(2):
        for n in range(2):
            lines = {"order": f"R{n}", "currency": "USD", "lines": [{"sku": "s", "amount": 100}]}
            stage.send("purchase.completed", lines, member="ada", id=f"e{n}", at=stage.now)
    assert stage.usable("ada") == 102
