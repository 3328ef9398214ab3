"""What the risk plugin costs a purchase.  CPU time.

The same 1,000 purchases per round are recorded in a house with points alone and in one with the shipped policies and
watches (`bench/plugins_cost.py` does it for the other plugins); then only the plugin's own hook is called.

    python bench/risk.py [rounds]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.plugins_cost import BATCH, POINTS, purchases, quartile, record
from tallystick import people
from tallystick.situation import Situation
from tallystick.testing import Stage, make_event, make_member, make_stage
from tallystick_risk.hooks import MEMBER, Risk

HOUSES = {"points alone": "", "risk: shipped policies and watches": "[plugins.risk]\n"}
MEMBERS = 2_000


def joined(stage: Stage, members: int) -> None:
    """Members h0, h1, ... of a year ago."""
    at = stage.clock[0] - 365 * 86_400_000_000
    newcomers = [people.Newcomer(external_ids=(f"h{n}",), joined=at) for n in range(members)]
    with stage.house.db.begin() as conn:
        people.enrol_many(conn, stage.house.secret, stage.tenant, stage.clock[0], newcomers)


def purchase_cost(rounds: int) -> None:
    """CPU microseconds of a purchase in both houses."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        stages = {}
        for place, (house, settings) in enumerate(HOUSES.items()):
            folder = Path(name) / str(place)
            folder.mkdir()
            stages[house] = stack.enter_context(
                make_stage(POINTS + settings, f"sqlite:///{folder / 'books.db'}", folder)
            )
            joined(stages[house], MEMBERS)
        costs: dict[str, list[float]] = {house: [] for house in stages}
        for turn, (house, stage) in itertools.product(range(rounds + 2), stages.items()):
            stage.at(stage.now + timedelta(minutes=10))
            took = record(stage, purchases(stage, MEMBERS, turn))
            if turn >= 2:
                costs[house].append(took)
        alone = quartile(costs["points alone"])
        for house, found in costs.items():
            print(f"{house:40} {quartile(found):8.1f} {quartile(found) - alone:8.1f}")
        hook_cost(stages["risk: shipped policies and watches"])


def hook_cost(stage: Stage) -> None:
    """CPU microseconds of the plugin's own hook for one purchase, with what is remembered of an average member."""
    plugin: Risk = next(part.plugin for part in stage.house.registry.latest("shop").pipeline.parts if part.id == "risk")  # type: ignore[assignment]
    arrival = purchases(stage, MEMBERS, 99)[0]
    event = make_event(arrival.facts, at=stage.now)
    own: dict[str, Any] = {}
    situation = Situation(
        now=stage.now, programme=plugin.programme, member=make_member(), balances={}, counters={}, own=own, stock={},
        chance=None, entry="1-2-3",  # type: ignore[arg-type]
    )  # fmt: skip
    best = float("inf")
    for _ in range(20):
        own[MEMBER] = {}
        for _ in range(3):
            own[MEMBER] = {"seen": plugin.review(event, situation, ())[-1].value}  # type: ignore[attr-defined]
        began = time.process_time()
        for _ in range(2_000):
            plugin.review(event, situation, ())
        best = min(best, (time.process_time() - began) / 2_000 * 1e6)
    print(f"{'of that the hook itself':40} {'':8} {best:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=12)
    given = parser.parse_args()
    print(f"{given.rounds} rounds of {BATCH:,} purchases; CPU us per purchase\n{'':40} {'in all':>8} {'more':>8}")
    purchase_cost(given.rounds)


if __name__ == "__main__":
    main()
