"""What members hear of, in words that come with the plugin; and what the house can say about its rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from tallystick import rulebook
from tallystick.ledger import parse_entry
from tallystick.testing import Stage, play

from .test_draws import WHEEL
from .test_stories import BOARDS, CALENDAR, QUEST, task

Opened = Callable[[str], Stage]
TITLED = task(goal='"2 * level"', levels="2", title='{ en = "Two visits", zh = "到店两次" }')


def told(stage: Stage) -> list[tuple[str, dict[str, Any]]]:
    rows = stage.rows("SELECT body FROM intent WHERE channel = 'notify' ORDER BY entry, place")
    found = [msgspec.json.decode(bytes(row[0])) for row in rows]
    return [(each["template"], each["facts"]) for each in found]


def test_members_hear_of_levels_badges_and_prizes_once_each(opened: Opened) -> None:
    stage = opened(TITLED + CALENDAR + QUEST + WHEEL)
    shop = '{"store": "%s", "lines": [{"sku": "s", "amount": 5000}]}'
    play(
        f"""
        2025-01-01  guest does gamification.draw_opened {{"draw": "wheel"}}
        2025-01-02  ada does gamification.checked_in
        2025-01-03  ada does gamification.checked_in
        2025-01-03  ada buys {shop % "north"}
        2025-01-03  ada buys {shop % "south"}
        """,
        stage=stage,
    )
    assert told(stage) == [
        ("gamification.task_done", {"task": "arrive", "level": 1, "levels": 1}),
        ("gamification.task_done", {"task": "Two visits", "level": 1, "levels": 2}),
        ("gamification.task_done", {"task": "shops", "level": 1, "levels": 1}),
        ("gamification.task_done", {"task": "tour", "level": 1, "levels": 1}),
        ("gamification.badge", {"badge": "explorer", "level": 1}),
    ]
    before = len(told(stage))
    won = 0
    for day in range(4, 12):
        stage.at(datetime(2025, 1, day, 12, tzinfo=UTC))
        gives = stage.send("gamification.drawn", {"draw": "wheel"}, member="ada").gives[0]
        won += gives["prize"] != "nothing"
    assert [template for template, _ in told(stage)[before:]] == ["gamification.prize"] * won


def test_the_house_reads_and_asks_the_rules_of_tasks_and_leaderboards(opened: Opened) -> None:
    stage = opened(task(goal="3", when='"purchase.total >= 2000"') + BOARDS)
    play("2025-01-02  ada buys 10.00 as A", stage=stage)
    generation = stage.house.registry.latest("shop")
    known = {each.rule for each in rulebook.rules_of(generation)}
    assert {"gamification.t", "gamification.board.spend", "gamification.board.visits"} <= known
    assert rulebook.written_at(generation, "gamification", "t") == ("tasks", 0)
    assert rulebook.written_at(generation, "gamification", "board.visits") == ("leaderboards", 1)
    assert rulebook.suspicions(generation) == []
    (page,) = rulebook.show_rule(generation, "gamification.t")
    assert "20.00 USD" in page.text
    entry = parse_entry(stage.records("ada")[-1].entry) or 0
    why = rulebook.whynot(stage.house, "shop", "gamification.t", entry=entry)
    assert not why.fires
    assert [(each.found, each.needed) for each in why.needed] == [(1_000, 2_000)]
