"""What tiers, gamification and risk cost a purchase together, and of what that is made.  CPU time, best of several rounds.

The same purchases are recorded in a house with points alone and in one with all three.  Then the hooks of the three are
called for such purchases, once by hand and once as the house calls them.  So it tells apart

- the plugins' own code: rules, signals, comparisons with the next threshold,
- the machinery: giving each plugin its view, calling it under guard and stop-watch, checking every effect that it proposes,
- the rest: reading and locking what they need, settling, and writing the counters and rows that they keep.

    python bench/three_plugins.py [rounds]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.plugins_cost import COUNTING, OTHER, SUMMING, TIERS, houses, in_turns, purchases
from tallystick.effects import Count
from tallystick.pipeline import Part, Pipeline, compile_pipeline
from tallystick.testing import Stage

MEMBERS = 2_000
THREE = ("tiers", "gamification", "risk")
HOUSES = {"points alone": "", "and all three": TIERS + OTHER + COUNTING + SUMMING + "[plugins.risk]\n"}


class Case(NamedTuple):
    """One purchase as the hooks are given it."""

    event: Any
    situation: Any
    own: Any
    proposals: tuple[Any, ...]
    totals: dict[str, int]


def cases(stage: Stage, pipeline: Pipeline) -> list[Case]:
    """Purchases of members who have bought before."""
    found = []
    plan = pipeline.plan("purchase.completed")
    assert plan.earn is not None
    for arrival in purchases(stage, MEMBERS, 99)[:200]:
        look = stage.house.engine.look(arrival)
        proposals, _ = plan.earn(look.event, look.situation, look.own)
        totals = {f"counter:{name}/{window}": n for (name, window), n in look.situation.counters.items()}
        for effect in proposals:
            if type(effect) is Count:
                key = f"counter:{effect.counter}/{effect.window}"
                totals[key] = totals.get(key, 0) + effect.amount
        found.append(Case(look.event, look.situation, look.own, tuple(proposals), totals))
    return found


def hooks_by_hand(parts: Sequence[Part]) -> Callable[[Case], Any]:
    """The hooks of the three, one after the other, with nothing in between."""
    tiers, tasks, risk = (next(part.plugin for part in parts if part.id == name) for name in THREE)

    def call(case: Case) -> None:
        event, situation, own, proposals, totals = case
        mine = own.get("tiers", situation)
        tiers.earn(event, mine)  # type: ignore[attr-defined]
        tasks.earn(event, own.get("gamification", situation))  # type: ignore[attr-defined]
        risk.review(event, own.get("risk", situation), proposals)  # type: ignore[attr-defined]
        tasks.react(event, own.get("gamification", situation), totals)  # type: ignore[attr-defined]
        tiers.evaluate_tier(event, situation.member, totals, mine)  # type: ignore[attr-defined]

    return call


def hooks_as_called(pipeline: Pipeline) -> Callable[[Case], Any]:
    """The same through the pipeline of a house that has only the three."""
    plan = pipeline.plan("purchase.completed")
    earn, review, react, evaluate = plan.earn, plan.review, plan.react, plan.evaluate_tier
    assert earn is not None and review is not None and react is not None and evaluate is not None

    def call(case: Case) -> None:
        event, situation, own, proposals, totals = case
        earn(event, situation, own)
        review(event, situation, proposals, own)
        react(event, situation, totals, own)
        evaluate(event, situation.member, totals, situation.now, situation, own)

    return call


def least(calls: Sequence[Callable[[Case], Any]], given: Sequence[Case], rounds: int) -> list[float]:
    """CPU microseconds per case of each of *calls*, taken in turn: of every ten cases the best round, added up.

    Ten cases take a fraction of a millisecond, in which a busy machine now and then leaves a program alone.
    """
    tens = [given[start : start + 10] for start in range(0, len(given), 10)]
    best = [[float("inf")] * len(tens) for _ in calls]
    for _ in range(rounds):
        for place, ten in enumerate(tens):
            for call, found in zip(calls, best, strict=True):
                began = time.process_time()
                for case in ten:
                    call(case)
                found[place] = min(found[place], time.process_time() - began)
    return [sum(found) / len(given) * 1e6 for found in best]


def main(rounds: int) -> None:
    with houses(HOUSES, MEMBERS) as stages:
        costs = in_turns(stages, MEMBERS, rounds, 4, timedelta(hours=1))
        whole = stages["and all three"].house.registry.latest("shop").pipeline
        given = cases(stages["and all three"], whole)
        parts = [part for part in whole.parts if part.id in THREE]
        alone = compile_pipeline(parts, whole.kinds, whole.programme)
        by_hand, called = least([hooks_by_hand(parts), hooks_as_called(alone)], given, 20 * rounds)
        first, all_three = costs.values()
        print(f"{rounds} rounds of 1,000 purchases, 3 lines each, {MEMBERS:,} members; CPU us per purchase\n")
        for what, took in (
            ("points alone", first),
            ("with tiers, gamification and risk", all_three),
            ("  of that the three plugins' own code", by_hand),
            ("  the machinery that calls and checks them", called - by_hand),
            ("  reading, settling and writing what they keep", all_three - first - called),
        ):
            print(f"{what:50}{took:8.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
