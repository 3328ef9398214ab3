"""Draws in a whole house, on both databases: committed, drawn, revealed, recomputed; stock under parallel draws."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

import tallystick_gamification
from tallystick import discovery
from tallystick.commands import visit
from tallystick.errors import TallyError
from tallystick.house import build_house, keep_writer
from tallystick.testing import Stage, play
from tallystick_gamification import api, draws

Opened = Callable[[str], Stage]
VERIFY = Path(tallystick_gamification.__file__).parent / "verify.py"

WHEEL = """
[[plugins.gamification.draws]]
name = "wheel"
cost = { unit = "points", amount = 10 }
limits = [{ window = "day", times = 3 }]
instead = "nothing"
prizes = [
    { name = "mug", weight = 1, stock = true, gives = { sku = "MUG" } },
    { name = "ten", weight = 1, reward = { unit = "points", amount = 10 } },
    { name = "nothing", weight = 2 },
]
"""


def shut(stage: Stage) -> None:
    stage.send("gamification.draw_closed", {"draw": "wheel"})
    stage.house.run_jobs()


def verify(proof: object, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "proof.json"
    file.write_text(json.dumps(proof))
    return subprocess.run([sys.executable, "-I", VERIFY, file], capture_output=True, text=True, check=False)


def test_a_round_is_committed_drawn_revealed_and_recomputed_by_a_stranger(opened: Opened, tmp_path: Path) -> None:
    stage = opened(WHEEL)
    errand = visit(stage.house, "shop", "gamification", "t")
    play("2025-01-02  ada buys 300.00   earns 300 points", stage=stage)
    opening = stage.send("gamification.draw_opened", {"draw": "wheel"})
    before = api.proof(errand, "wheel")
    assert before["commitment"] == opening.seed and before["open"] and "seed" not in before and "draws" not in before
    given = []
    for day in (3, 4, 5):
        stage.at(datetime(2025, 1, day, 12, tzinfo=UTC))
        for n in range(3):
            record = stage.send("gamification.drawn", {"draw": "wheel", "salt": f"mine-{n}"}, member="ada")
            given.append(record.gives[0]["prize"])
    shut(stage)
    proof = api.proof(errand, "wheel")
    assert proof["commitment"] == opening.seed
    assert Counter(one["prize"] for one in proof["draws"]) == Counter(given)
    assert verify(proof, tmp_path).returncode == 0

    lying = json.loads(json.dumps(proof))
    lying["draws"][0]["drawn"] = "mug" if lying["draws"][0]["drawn"] != "mug" else "ten"
    assert proof["draws"][0]["entry"] in verify(lying, tmp_path).stderr
    assert "not the one that was committed" in verify({**proof, "seed": "00" * 32}, tmp_path).stderr


def test_the_script_has_thirty_lines() -> None:
    assert len(VERIFY.read_text().splitlines()) <= 30


def test_who_cannot_pay_or_has_drawn_enough_or_comes_late_draws_nothing(opened: Opened) -> None:
    stage = opened(WHEEL)
    play("2025-01-02  ada buys 300.00   earns 300 points\n2025-01-02  bob buys 9.99   earns 9 points", stage=stage)
    play(
        """
        2025-01-02  ada does gamification.drawn {"draw": "wheel"}           refused gamification_draw_not_open
        2025-01-02  ada does gamification.drawn {"draw": "well"}            refused gamification_not_offered
        2025-01-02  guest does gamification.draw_opened {"draw": "wheel"}
        2025-01-02  guest does gamification.draw_opened {"draw": "wheel"}   refused gamification_draw_open
        2025-01-02  bob does gamification.drawn {"draw": "wheel"}           refused insufficient_balance
        2025-01-02  ada does gamification.drawn {"draw": "wheel"}
        2025-01-02  ada does gamification.drawn {"draw": "wheel"}
        2025-01-02  ada does gamification.drawn {"draw": "wheel"}
        2025-01-02  ada does gamification.drawn {"draw": "wheel"}           refused gamification_limit_reached
        2025-01-03  ada does gamification.drawn {"draw": "wheel"}
        2025-01-03  guest does gamification.draw_closed {"draw": "wheel"}
        2025-01-03  guest does gamification.draw_closed {"draw": "wheel"}   refused gamification_draw_not_open
        2025-01-03  ada does gamification.drawn {"draw": "wheel"}           refused gamification_draw_not_open
        2025-01-03  guest does gamification.draw_opened {"draw": "wheel"}
        """,
        stage=stage,
    )
    errand = visit(stage.house, "shop", "gamification", "t")
    assert api.proof(errand, "wheel")["round"] == 2
    assert api.proof(errand, "wheel", 1)["open"] is False
    assert api.proof(errand, "wheel", 1)["commitment"] != api.proof(errand, "wheel", 2)["commitment"]


def test_a_rehearsal_tells_nothing_about_the_draw_that_follows(opened: Opened) -> None:
    """Whoever could try salts until one wins would win: the entry of a rehearsal is no entry of the journal."""
    stage = opened(WHEEL.replace('cost = { unit = "points", amount = 10 }', "").replace("times = 3", "times = 1"))
    stage.enrol("ada")
    stage.send("gamification.draw_opened", {"draw": "wheel"})
    tried = stage.house.dry_run(stage.arrival("gamification.drawn", {"draw": "wheel", "salt": "x"}, member="ada"))
    assert tried.record.entry == "0-0-0"
    record = stage.send("gamification.drawn", {"draw": "wheel", "salt": "x"}, member="ada")
    assert record.entry != tried.record.entry


def test_parallel_draws_never_give_more_prizes_than_there_are(opened: Opened) -> None:
    stage = opened(
        WHEEL.replace("times = 3", "times = 100").replace('name = "mug", weight = 1', 'name = "mug", weight = 20')
    )
    members = [f"m{n}" for n in range(8)]
    play("\n".join(f"2025-01-02  {name} buys 100.00   earns 100 points" for name in members), stage=stage)
    stage.send("gamification.draw_opened", {"draw": "wheel"})
    stage.send("gamification.stocked", {"draw": "wheel", "prize": "mug", "pieces": 5})
    # the stage's clock has moved by years: without its lease the second process would take over the first one's row
    assert keep_writer(stage.house.db, *stage.house.engine.lease, stage.clock[0])
    second = build_house(stage.house.config, installed=discovery.discover(), clock=lambda: stage.clock[0])
    arrivals = [
        [stage.arrival("gamification.drawn", {"draw": "wheel"}, member=name) for name in members for _ in range(3)]
        for _ in range(2)
    ]

    def all_of(house: object, mine: list[object]) -> list[object]:
        return [outcome for n in range(0, len(mine), 4) for outcome in house.engine.record(mine[n : n + 4])]  # type: ignore[attr-defined]

    try:
        with ThreadPoolExecutor(2) as threads:
            outcomes = [one for found in threads.map(all_of, (stage.house, second), arrivals) for one in found]
    finally:
        second.db.dispose()
    assert not [one for one in outcomes if isinstance(one, TallyError)]
    prizes = Counter(one.record.gives[0]["prize"] for one in outcomes)  # type: ignore[attr-defined]
    assert prizes["mug"] == 5
    assert stage.rows("SELECT remaining FROM stock") == [(0,)]
    shut(stage)
    proof = api.proof(visit(stage.house, "shop", "gamification", "t"), "wheel")
    assert len(proof["draws"]) == len(outcomes)
    drawn = Counter(one["drawn"] for one in proof["draws"])
    assert drawn["mug"] > 5  # the others were out of stock: they got what is named instead
    for one in proof["draws"]:
        place = draws.draw(bytes.fromhex(proof["seed"]), one["entry"], one["salt"], proof["table"])
        assert proof["table"][place][0] == one["drawn"]


def test_prizes_that_change_within_a_round_are_not_drawn(opened: Opened) -> None:
    stage = opened(WHEEL)
    play("2025-01-02  ada buys 100.00   earns 100 points", stage=stage)
    stage.send("gamification.draw_opened", {"draw": "wheel"})
    plugin = visit(stage.house, "shop", "gamification", "t").plugin
    draw = plugin.settings.draws["wheel"]
    plugin.settings.draws["wheel"] = type(draw)(name="wheel", prizes=draw.prizes[1:])
    with pytest.raises(TallyError) as refusal:
        stage.send("gamification.drawn", {"draw": "wheel"}, member="ada")
    assert refusal.value.code == "gamification_draw_changed"


def test_tickets_are_chances(opened: Opened) -> None:
    settings = WHEEL.replace('unit = "points", amount = 10 }\nlimits', 'unit = "tickets", amount = 2 }\nlimits')
    task = '[[plugins.gamification.tasks]]\nname = "t"\ngoal = 1\nrepeat = "completion"\nrewards = [{ unit = "tickets", amount = 2 }]\n'
    stage = opened(settings + task)
    play(
        """
        2025-01-02  guest does gamification.draw_opened {"draw": "wheel"}
        2025-01-02  ada buys 1.00   earns 1 points, 2 tickets
        2025-01-02  ada does gamification.drawn {"draw": "wheel"}
        2025-01-02  ada does gamification.drawn {"draw": "wheel"}   refused insufficient_balance
        """,
        stage=stage,
    )
    assert draws.chances(stage.usable("ada", "tickets"), 2) == 0


@pytest.mark.parametrize("style, cells", [("wheel", 3), ("nine_grid", 8), ("scratch", 2)])
def test_a_wheel_a_nine_grid_and_a_scratch_card_are_drawn_and_proved_alike(
    opened: Opened, tmp_path: Path, style: str, cells: int
) -> None:
    prizes = ", ".join(f'{{ name = "p{n}", weight = {n + 1}, gives = {{ sku = "P{n}" }} }}' for n in range(cells))
    stage = opened(f'[[plugins.gamification.draws]]\nname = "wheel"\nstyle = "{style}"\nprizes = [{prizes}]\n')
    errand = visit(stage.house, "shop", "gamification", "t")
    stage.send("gamification.draw_opened", {"draw": "wheel"})
    stage.enrol("ada")
    won = [stage.send("gamification.drawn", {"draw": "wheel"}, member="ada") for _ in range(4)]
    assert all(record.gives[0]["sku"].startswith("P") for record in won)
    (view,) = api.draws_of(errand)
    assert [prize.prize for prize in view.prizes] == [f"p{n}" for n in range(cells)], "in the order of the cells"
    shut(stage)
    proof = api.proof(errand, "wheel")
    assert len(proof["draws"]) == 4 and verify(proof, tmp_path).returncode == 0
