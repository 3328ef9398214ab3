"""Tiers, gamification and risk beside each other: any of them is switched off and on, and the others do not notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallystick import switchboard
from tallystick.testing import Stage, make_stage, play

SETTINGS = """
[plugins.points]
redeem = { points = 100, gives = 100 }
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
[[plugins.tiers.ladders]]
name = "club"
metrics.visits = { measure = "visits" }
tiers = [{ name = "new" }, { name = "regular", at = 3 }]
[[plugins.gamification.tasks]]
name = "three"
goal = 3
rewards = [{ unit = "points", amount = 7 }]
[plugins.risk]
without = ["fresh_spender", "split_receipts", "padded_sale"]
limits = { redemptions_hour = 3 }
"""
THREE = ("tiers", "gamification", "risk")


@pytest.fixture
def stage(database_url: str, tmp_path: Path) -> Iterator[Stage]:
    with make_stage(SETTINGS, database_url, tmp_path) as found:
        yield found


def seen(stage: Stage) -> dict[str, Any]:
    """What each of the three has of ada: a tier, levels that were paid, what was remembered of redemptions."""
    key = f"m:{stage.number('ada')}"
    rows = {(plugin, name): msgspec.json.decode(value) for plugin, name, value in stage.rows("SELECT plugin, name, value FROM own WHERE key = :k", k=key)}  # fmt: skip
    remembered = msgspec.json.decode(rows.get(("risk", "seen"), "[]"))
    return {
        "tiers": rows.get(("core", "tier:club"), {}).get("tier", ""),
        "gamification": sum(levels for levels, _ in rows.get(("gamification", "tasks"), {}).get("three", {}).values()),
        "risk": sum(event[1] == "spend" for event in (remembered[9] if remembered else ())),
    }


def spend(stage: Stage) -> str:
    return str(stage.send("points.redeemed", {"points": 100}, member="ada").status)


@pytest.mark.parametrize("off", THREE)
def test_one_is_switched_off_and_on_and_its_history_and_the_others_stay(stage: Stage, off: str) -> None:
    play(
        """
        2025-01-02  ada buys 1000.00 as A   earns 1000 points
        2025-01-02  ada buys 1.00 as B      earns 1 points
        """,
        stage=stage,
    )
    assert spend(stage) == "recorded"
    before = seen(stage)
    assert before == {"tiers": "new", "gamification": 0, "risk": 1}

    switchboard.disable(stage.house, "shop", off, actor="test")
    play("2025-01-02  ada buys 1.00 as C", stage=stage)
    assert spend(stage) == "recorded"
    reached = {"tiers": "regular", "gamification": 1, "risk": 2}
    assert seen(stage) == {**reached, off: before[off]}

    switchboard.enable(stage.house, "shop", off, actor="test")
    play("2025-01-02  ada buys 1.00 as D\n2025-01-02  ada buys 1.00 as E", stage=stage)
    # who was off counts on from where it was: two visits and two more, one redemption and this one
    assert spend(stage) == ("held" if off != "risk" else "recorded")
    assert seen(stage) == {**reached, "risk": 3 if off != "risk" else 2}
