"""What tiers and gamification cost a plain purchase: CPU time per event, each house beside the same one without the plugin.

Every house is a SQLite file of its own.  In each round all of them record the same 1,000 purchases as one batch, one house
after the other; a plugin's cost is what the house's cheapest rounds (the lower quartile) take more than those of the house
with points alone.  Other programs on the machine disturb caches and clocks: run it on an idle machine.

    python bench/plugins_cost.py [rounds] [members]
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tallystick import people
from tallystick.engine import Receipt
from tallystick.testing import Stage, make_stage

BATCH = 1_000
POINTS = """
[plugins.points]
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
lines = "line.department != 'FUEL'"
"""
TIERS = """
[[plugins.tiers.ladders]]
name = "spend"
metrics.spend.lines = "line.department != 'FUEL'"
tiers = [{ name = "base" }, { name = "silver", at = 50000 }, { name = "gold", at = 150000 }, { name = "platinum", at = 300000 }]
"""
TASK = """
[[plugins.gamification.tasks]]
name = "{name}"
goal = {goal}
{more}
rewards = [{{ unit = "tickets", amount = 1 }}]
"""
OTHER = TASK.format(name="fridge", goal=3, more="when = \"purchase.store == 'the-other-one'\"")
COUNTING = TASK.format(name="regular", goal=100, more='repeat = "month"')
SUMMING = TASK.format(name="big", goal=10_000_000, more='measure = "sum"')
BOARD = """
[[plugins.gamification.leaderboards]]
name = "spend"
value = "purchase.total"
"""
#: What is measured: settings beside points, by name.
HOUSES: Mapping[str, str] = {
    "points alone": "",
    "tiers: a ladder by what was spent": TIERS,
    "gamification: a task this purchase is no part of": OTHER,
    "gamification: a task that counts purchases by the month": COUNTING,
    "gamification: three tasks": OTHER + COUNTING + SUMMING,
    "gamification: a leaderboard by what was spent": BOARD,
    "both: a ladder, and a task this purchase is no part of": TIERS + OTHER,
    "both: a ladder, three tasks": TIERS + OTHER + COUNTING + SUMMING,
}


def purchases(stage: Stage, members: int, turn: int) -> list[Any]:
    """One batch of purchases nobody has sent yet; the same for every house."""
    draw = random.Random(turn)
    found = []
    for n in range(BATCH):
        lines = [
            {"sku": str(draw.randrange(10**6)), "amount": draw.randrange(1, 2_000), "department": draw.choice(["GROCERY", "DRUG", "MEAT", "FUEL"])}
            for _ in range(3)
        ]  # fmt: skip
        data = {"order": f"R{turn}-{n}", "currency": "USD", "store": "main-street", "lines": lines}
        found.append(stage.arrival("purchase.completed", data, member=f"h{draw.randrange(members)}"))
    return found


def record(stage: Stage, arrivals: list[Any]) -> float:
    """CPU microseconds per event."""
    began = time.process_time()
    outcomes = stage.house.engine.record(arrivals)
    took = time.process_time() - began
    assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes[0]
    return took / BATCH * 1e6


def quartile(took: list[float]) -> float:
    """The lower quartile: what the machine takes if nobody disturbs it much."""
    return statistics.quantiles(took, n=4)[0]


@contextmanager
def houses(settings: Mapping[str, str], members: int) -> Iterator[dict[str, Stage]]:
    """By name, a house with points and these settings, on a file of its own, with members h0, h1, ... of a year ago."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        stages: dict[str, Stage] = {}
        for place, (house, more) in enumerate(settings.items()):
            folder = Path(name) / str(place)
            folder.mkdir()
            stage = stack.enter_context(make_stage(POINTS + more, f"sqlite:///{folder / 'books.db'}", folder))
            joined = stage.clock[0] - 365 * 86_400_000_000
            newcomers = [people.Newcomer(external_ids=(f"h{n}",), joined=joined) for n in range(members)]
            with stage.house.db.begin() as conn:
                people.enrol_many(conn, stage.house.secret, stage.tenant, stage.clock[0], newcomers)
            stages[house] = stage
        yield stages


def in_turns(
    stages: Mapping[str, Stage], members: int, rounds: int, warming: int, between: timedelta
) -> dict[str, float]:
    """CPU microseconds per purchase of each house; in the *warming* rounds most members are new to its plugins."""
    costs: dict[str, list[float]] = {house: [] for house in stages}
    gc.collect()
    gc.freeze()
    gc.disable()
    for turn in range(warming + rounds):
        for house, stage in stages.items():
            stage.at(stage.now + between)
            took = record(stage, purchases(stage, members, turn))
            if turn >= warming:
                costs[house].append(took)
        gc.collect()
    return {house: quartile(took) for house, took in costs.items()}


def main(rounds: int, members: int) -> None:
    with houses(HOUSES, members) as stages:
        costs = in_turns(stages, members, rounds, 2, timedelta(minutes=10))
    alone = costs["points alone"]
    print(f"{rounds} rounds of {BATCH:,} purchases, 3 lines each, {members:,} members; CPU us per purchase\n")
    print(f"{'':58}{'in all':>8}{'more':>8}")
    for house, took in costs.items():
        print(f"{house:58}{took:8.1f}{took - alone:8.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15, int(sys.argv[2]) if len(sys.argv) > 2 else 500)
