"""Benefits are declarations: rules, hooks of other plugins, HTTP and the command line read them where the member stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.testing import Stage, make_member, make_stage, play
from tallystick_tiers.api import benefits

SETTINGS = """
[plugins.points]
redeem = { points = 100, gives = 100 }
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
[[plugins.points.earn]]
name = "club"
kind = "bonus"
points = 50
when = "benefit['lounge'] == 'true' && benefit['level'] == '2'"
[[plugins.points.earn]]
name = "nobody"
kind = "bonus"
points = 1000
when = "benefit['yacht'] != null"
[[plugins.points.rewards]]
name = "sauna"
cost = 10
when = "benefit['lounge'] == 'true'"
[[plugins.tiers.ladders]]
name = "spend"
[[plugins.tiers.ladders.tiers]]
name = "base"
benefits = { newsletter = true }
[[plugins.tiers.ladders.tiers]]
name = "gold"
at = 50000
multiplier = "1.5"
benefits = { newsletter = true, lounge = true, level = 2, discount = "0.05" }
[[plugins.tiers.ladders]]
name = "visits"
metrics.visits = { measure = "visits" }
[[plugins.tiers.ladders.tiers]]
name = "guest"
benefits = { lounge = false, parking = true }
[[plugins.tiers.ladders.tiers]]
name = "regular"
at = 1000
"""


@pytest.fixture
def stage(database_url: str, tmp_path: Path) -> Iterator[Stage]:
    with make_stage(SETTINGS, database_url, tmp_path) as found:
        yield found


def test_rules_of_points_read_what_the_tier_held_before_the_purchase_gives(stage: Stage) -> None:
    play(
        """
        2025-01-02  ada buys 500.00 as A   earns 500 points
        2025-01-03  ada buys 10.00 as B    earns 65 points
        2025-01-03  bob buys 10.00 as C    earns 10 points
        """,
        stage=stage,
    )


def test_a_reward_is_offered_to_those_whose_tier_gives_it(stage: Stage) -> None:
    play("2025-01-02  ada buys 500.00 as A\n2025-01-02  bob buys 100.00 as B", stage=stage)
    assert stage.send("points.redeemed", {"reward": "sauna"}, member="ada").status == "recorded"
    with pytest.raises(Exception, match="does not meet the condition"):
        stage.send("points.redeemed", {"reward": "sauna"}, member="bob")


def test_hooks_of_other_plugins_read_them_from_the_programme(stage: Stage) -> None:
    programme = stage.house.registry.latest("shop").programme
    gold = {"multiplier": "1.5", "newsletter": True, "lounge": True, "level": 2, "discount": "0.05"}
    assert programme.declared["tiers"]["benefits"]["spend"]["gold"] == gold
    both = make_member(tiers={"spend": "gold", "visits": "guest"})
    assert benefits(programme, both) == {**gold, "parking": True}, "of two ladders the first one counts"
    assert benefits(programme, make_member(tiers={"visits": "regular", "gone": "gold"})) == {}
    assert benefits(programme, None) == {}
    with pytest.raises(TypeError):
        programme.declared["tiers"]["benefits"]["spend"]["gold"]["lounge"] = False
