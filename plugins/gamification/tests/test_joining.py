"""Two members who turn out to be one person keep what both did, and part again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tallystick.commands import visit
from tallystick.testing import Stage, play
from tallystick_gamification import api
from tallystick_gamification.joining import join

from .test_stories import BOARDS, CALENDAR, QUEST, task

Opened = Callable[[str], Stage]


@pytest.mark.parametrize(
    "name, mine, theirs, found",
    [
        ("tasks", {"t": {"0": [2, []]}}, {"t": {"0": [1, []]}}, {"t": {"0": [2, []]}}),
        ("tasks", {"endless": {"0": [2, []]}}, {"endless": {"0": [1, []]}}, {"endless": {"0": [3, []]}}),
        ("tasks", {"t": {"9": [1, []]}}, {"s": {"0": [1, []]}}, {"s": {"0": [1, []]}, "t": {"9": [1, []]}}),
        ("task:t", {"done": {"5": 2}, "paid": {"0": [1, []]}}, {"done": {"5": 1, "6": 1}}, {"done": {"5": 3, "6": 1}, "paid": {"0": (1, [])}}),
        ("task:t", {"done": {"5": {"a": 1}}}, {"done": {"5": {"a": 1, "b": 1}}}, {"done": {"5": {"a": 2, "b": 1}}, "paid": {}}),
        ("badge:b", {"level": 3, "on": "x"}, {"level": 1, "on": "y"}, {"level": 3, "on": "x"}),
        ("badge:b", {"level": 1, "on": "x"}, {"level": 1, "on": "y"}, None),
        ("check_in", {"day": 9, "length": 2, "best": 7, "total": 9}, {"day": 8, "length": 5, "best": 5, "total": 5}, {"day": 9, "length": 2, "best": 7, "total": 14}),
        ("invited", 2, 3, 5),
        ("referral", {"by": 1, "paid": "d"}, {"by": 2}, {"by": 1, "paid": "d"}),
        ("referral", {"by": 1}, {"by": 2}, None),
        ("form:f", {"on": "x", "right": 1}, {"on": "y", "right": 0}, None),
    ],
)  # fmt: skip
def test_of_two_rows_one_remains(name: str, mine: Any, theirs: Any, found: Any) -> None:
    joined = dict(join({name: mine}, {name: theirs}, {"endless": True}))
    if name.startswith("task:"):
        joined[name]["paid"] = {period: tuple(paid) for period, paid in joined[name]["paid"].items()}
    assert joined == ({} if found is None else {name: found})


def view(stage: Stage, member: str) -> list[tuple[str, int, int]]:
    errand = visit(stage.house, "shop", "gamification", "t")
    return [(each.task, each.progress, each.level) for each in api.tasks_of(errand, stage.number(member))]


def test_progress_of_two_cards_adds_up_and_what_is_due_is_paid_with_the_next_event(opened: Opened) -> None:
    stage = opened(task(goal="3") + CALENDAR + QUEST)
    shop = '{"store": "%s", "lines": [{"sku": "s", "amount": 100}]}'
    play(
        f"""
        2025-01-02  ada does gamification.checked_in
        2025-01-03  ann does gamification.checked_in
        2025-01-03  ann does gamification.checked_in     refused gamification_already_checked_in
        2025-01-04  ada buys {shop % "north"} as A       earns 1 points
        2025-01-04  ann buys {shop % "south"} as B       earns 1 points
        2025-01-04  ann buys {shop % "south"} as C       earns 1 points
        """,
        stage=stage,
    )
    before = view(stage, "ann")
    merged = stage.send("member.merged", {"into": "ada"}, member="ann")
    assert view(stage, "ada") == [("t", 3, 1), ("arrive", 2, 1), ("shops", 2, 1), ("tour", 2, 1)]
    play(f"2025-01-05  ada buys {shop % 'north'} as D   earns 601 points, 1 tickets", stage=stage)
    play("2025-01-06  ada returns B   loses 1 points", stage=stage)
    assert view(stage, "ada")[0] == ("t", 3, 1)
    other = stage.send("member.unmerged", {"entry": merged.entry})
    assert other.status == "recorded"
    number = int(merged.member[2:])
    errand = visit(stage.house, "shop", "gamification", "t")
    assert [(each.task, each.progress, each.level) for each in api.tasks_of(errand, number)][1:] == before[1:]


def test_who_was_merged_is_on_no_list_and_comes_back_when_they_part(opened: Opened) -> None:
    stage = opened(BOARDS)
    shop = '{"store": "north", "lines": [{"sku": "s", "amount": %d}]}'
    play(
        f"""
        2025-01-02  ada buys {shop % 300} as A
        2025-01-02  ann buys {shop % 500} as B
        2025-01-02  bob buys {shop % 600} as C
        2025-01-02  ann does gamification.shown {{"hidden": true}}
        """,
        stage=stage,
    )
    errand = visit(stage.house, "shop", "gamification", "t")
    ada = stage.number("ada")

    def scores() -> tuple[list[int], api.store.Place | None]:
        stage.house.run_jobs()
        on = datetime(2025, 1, 10, tzinfo=UTC).date()
        top = [each.score for each in api.top(errand, "spend", scope="north", on=on)]
        return top, api.place(errand, "spend", ada, scope="north", on=on)

    assert scores()[0] == [600, 300]
    merged = stage.send("member.merged", {"into": "ada"}, member="ann")
    top, mine = scores()
    assert top == [600], "who hid is hidden still"
    assert mine is not None and (mine.rank, mine.score) == (1, 800)
    stage.send("member.unmerged", {"entry": merged.entry})
    assert scores()[1] == (2, ada, 300)
