"""Tasks and leaderboards beyond the plain case: other recurrences, badges with levels, money of elsewhere, held purchases, tiers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tallystick import config, discovery
from tallystick.commands import visit
from tallystick.document import Document
from tallystick.house import build_house
from tallystick.testing import Stage, play
from tallystick_gamification import api

from .test_stories import BOARDS, task

Opened = Callable[[str], Stage]


def progress(stage: Stage, member: str = "ada") -> list[tuple[str, int, int]]:
    errand = visit(stage.house, "shop", "gamification", "t")
    return [(view.task, view.progress, view.level) for view in api.tasks_of(errand, stage.number(member))]


@pytest.mark.parametrize(
    "repeat, days",
    [
        ("day", ["2025-01-02", "2025-01-03"]),
        ("week", ["2025-01-05", "2025-01-06"]),
        ("quarter", ["2025-03-31", "2025-04-01"]),
        ("half", ["2025-06-30", "2025-07-01"]),
        ("year", ["2025-12-31", "2026-01-01"]),
    ],
)
def test_a_task_begins_anew_with_its_period_and_pays_once_in_each(opened: Opened, repeat: str, days: list[str]) -> None:
    stage = opened(task(goal="2", repeat=f'"{repeat}"'))
    for day in days:
        story = [f"{day} 17:00  ada buys 1.00 as {day}/{n}   earns {101 if n == 1 else 1} points" for n in range(3)]
        play("\n".join(story), stage=stage)
    assert progress(stage) == [("t", 3, 1)]


def test_a_badge_climbs_with_its_task_and_a_reward_may_be_for_one_level_alone(opened: Opened) -> None:
    stage = opened(
        "[plugins.gamification.badges.walker]\nlevels = 3\n"
        + task(goal='"2 * level"', levels="3").replace(
            "amount = 100 }", 'amount = 100, level = 3 }, { badge = "walker" }, { coupon = "TEA", level = 2 }'
        )
    )
    play(
        "\n".join(f"2025-01-02  ada buys 1.00 as R{n}   earns {101 if n == 5 else 1} points" for n in range(7)),
        stage=stage,
    )
    errand = visit(stage.house, "shop", "gamification", "t")
    assert api.badges_of(errand, stage.number("ada")) == {"walker": 3}
    told = [record for record in stage.records("ada") if record.kind == "gamification.rewarded"]
    assert len(told) == 4  # three levels of the badge, and the coupon of the second
    assert progress(stage) == [("t", 7, 3)]


def test_a_task_may_read_what_was_gained_and_a_reward_may_be_given_for_another_plugins_event(opened: Opened) -> None:
    stage = opened(
        task(measure='"sum"', value='"gained.points"', goal="150")
        + '[[plugins.gamification.tasks]]\nname = "spender"\non = "points.redeemed"\ngoal = 1\nrewards = [{ unit = "tickets", amount = 3 }]\n'
        + "[plugins.points.redeem]\npoints = 100\ngives = 100\n"
    )
    play(
        """
        2025-01-02  ada buys 100.00 as A   earns 100 points
        2025-01-02  ada buys 60.00 as B    earns 160 points
        2025-01-03  ada does points.redeemed {"points": 100}   earns -100 points, 3 tickets
        """,
        stage=stage,
    )


def test_money_of_elsewhere_counts_at_its_rate_for_tasks_and_leaderboards(opened: Opened) -> None:
    rates = '[rates]\nEUR = { 2025-01-01 = "1.1" }\n'
    stage = opened(rates + task(measure='"sum"', goal="5000") + BOARDS.replace('scope = "purchase.store"\n', ""))
    lines = [{"sku": "s", "amount": 1_000}]
    stage.enrol("ada")
    stage.at(datetime(2025, 1, 10, 12, tzinfo=UTC))
    stage.send("purchase.completed", {"order": "E", "currency": "EUR", "lines": lines}, member="ada")
    assert progress(stage) == [("t", 1_100, 0)]
    stage.house.run_jobs()
    errand = visit(stage.house, "shop", "gamification", "t")
    assert [view.score for view in api.top(errand, "spend")] == [1_100]


def test_what_a_task_gives_of_tier_credit_lifts_at_once(opened: Opened) -> None:
    stage = opened(
        task(goal="2").replace('unit = "points", amount = 100', 'unit = "credit", amount = 50')
        + '[units.credit]\n[[plugins.tiers.ladders]]\nname = "club"\nmetrics.credit = { measure = "gains", unit = "credit" }\n'
        + 'tiers = [{ name = "base" }, { name = "gold", at = 50 }]\n'
    )
    play("2025-01-02  ada buys 1.00 as A\n2025-01-02  ada buys 1.00 as B", stage=stage)
    number = stage.number("ada")
    rows = stage.rows("SELECT value FROM own WHERE plugin = 'core' AND member = :m AND name = 'tier:club'", m=number)
    assert '"tier":"gold"' in rows[0][0].replace(" ", "")


def test_switched_off_it_keeps_everything_and_switched_on_it_goes_on(opened: Opened, tmp_path: Path) -> None:
    stage = opened(task(goal="3"))
    play("2025-01-02  ada buys 1.00 as A\n2025-01-02  ada buys 1.00 as B", stage=stage)
    text = (tmp_path / "tally.toml").read_text()

    def reopen(text: str) -> None:
        file, installed = tmp_path / "tally.toml", discovery.discover()
        file.write_text(text)
        stage.house.close()
        found = config.check(Document.read(file), installed=installed, folder=tmp_path)
        stage.house = build_house(found, installed=installed, clock=lambda: stage.clock[0])

    reopen(text.partition("[[tenants.shop.plugins.gamification")[0])
    play("2025-01-03  ada buys 1.00 as C   earns 1 points\n2025-01-03  ada returns B   loses 1 points", stage=stage)
    reopen(text)
    assert progress(stage) == [("t", 1, 0)]
    play(
        "2025-01-04  ada buys 1.00 as D   earns 1 points\n2025-01-04  ada buys 1.00 as E   earns 101 points",
        stage=stage,
    )
