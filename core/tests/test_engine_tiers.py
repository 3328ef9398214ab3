"""Who evaluates a tier sees the event, what it gained, and balances and counters as they stand after it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tallystick.effects import Count, Effect, SetTier
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.situation import Member, Needs, Situation

from .lab import Lab, Puppet

SPENT = ("lab.spent", "lifetime")


class Climber(Puppet):
    """Counts money and sets a tier by what the counter comes to."""

    def __init__(self) -> None:
        super().__init__()
        self.wants = Needs(counters=frozenset({SPENT}))
        self.seen: list[tuple[str, dict[str, int], int, str]] = []

    @hookimpl
    def earn(self, event: Event, situation: Situation) -> Sequence[Effect]:
        if event.kind != "purchase.completed":
            return []
        counted = Count(
            rule="lab.spent", counter="lab.spent", window="lifetime", amount=event.facts.total, by_share=True
        )
        return [*super().earn(event, situation), counted]

    @hookimpl
    def evaluate_tier(
        self, event: Event, member: Member, totals: Mapping[str, int], now: datetime, situation: Situation
    ) -> Sequence[Effect]:
        assert now == situation.now
        self.seen.append((event.kind, dict(totals), situation.counters[SPENT], member.tiers.get("club", "")))
        tier = "high" if totals["counter:lab.spent/lifetime"] >= 1_000 else "low"
        return [SetTier(rule="lab.club", ladder="club", tier=tier, reason="reached")]


def after(points: int, gained: int, spent: int) -> dict[str, Any]:
    return {"points": gained, "balance:points": points, "counter:lab.spent/lifetime": spent}


def test_a_tier_is_evaluated_by_what_the_event_left(database_url: str) -> None:
    climber = Climber()
    lab = Lab(database_url, puppet=climber)
    lab.enrol("ada")
    lab.buy("ada", 600, "A")
    lab.buy("ada", 400, "B")
    lab.refund("B", amount=100)
    assert climber.seen == [
        ("purchase.completed", after(6, 6, 600), 0, ""),
        ("purchase.completed", after(10, 4, 1_000), 600, "low"),
        ("purchase.refunded", after(9, -1, 900), 1_000, "high"),
    ]
    lab.db.dispose()
