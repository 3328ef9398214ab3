"""Gains of more than ten thousand points are held until somebody has looked."""

from collections.abc import Sequence

from tallystick.effects import Effect, Grant, Verdict
from tallystick.events import Event
from tallystick.hookspecs import impl
from tallystick.situation import Situation
from tallystick.testing import make_event, make_situation


class Watch:
    @impl.review
    def review(self, event: Event, situation: Situation, proposals: Sequence[Effect]) -> list[Verdict]:
        if sum(each.amount for each in proposals if isinstance(each, Grant)) <= 10_000:
            return []
        return [
            Verdict(
                rule="watch.much", verdict="hold", reason="more than 10,000 at once", gentle="We are looking at it."
            )
        ]


much = [Grant(rule="points.base", unit="points", amount=10_001)]
held = Verdict(rule="watch.much", verdict="hold", reason="more than 10,000 at once", gentle="We are looking at it.")
assert Watch().review(make_event(), make_situation(), much) == [held]
assert Watch().review(make_event(), make_situation(), []) == []
