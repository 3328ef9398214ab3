"""What the risk plugin costs a purchase.  CPU time.

The same 1,000 purchases per round are recorded in a house with points alone and in one with the shipped policies and
watches (`bench/plugins_cost.py` does it for the other plugins); then only the plugin's own hook is called.

    python bench/risk.py [rounds]
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.plugins_cost import BATCH, houses, in_turns, purchases
from tallystick.situation import Situation
from tallystick.testing import Stage, make_event, make_member
from tallystick_risk.hooks import MEMBER, Risk

HOUSES = {"points alone": "", "risk: shipped policies and watches": "[plugins.risk]\n"}
MEMBERS = 2_000


def purchase_cost(rounds: int) -> None:
    """CPU microseconds of a purchase in both houses."""
    with houses(HOUSES, MEMBERS) as stages:
        costs = in_turns(stages, MEMBERS, rounds, 2, timedelta(minutes=10))
        alone = costs["points alone"]
        for house, took in costs.items():
            print(f"{house:40} {took:8.1f} {took - alone:8.1f}")
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
