"""Whoever brings a whole order back keeps one point for the trouble."""

from datetime import UTC, datetime

from tallystick.effects import Keep
from tallystick.events import Event, Refund
from tallystick.hookspecs import impl
from tallystick.situation import Original, Situation
from tallystick.testing import make_event, make_situation


class Gifts:
    @impl.reverse
    def reverse(self, event: Event, original: Original, situation: Situation) -> list[Keep]:
        gained = sum(amount for _, unit, amount in original.granted if unit == "points")
        if not original.complete or not gained:
            return []
        return [Keep(rule="gifts.trouble", of_rule="points.base", unit="points", amount=1)]


bought = Original(
    entry="1-1-0", kind="purchase.completed", at=datetime(2025, 1, 1, tzinfo=UTC), facts=None,
    granted=(("points.base", "points", 12),), value=1234, returned_before=0, returned=1234,
)  # fmt: skip
back = make_event(Refund(order="R-1"), "purchase.refunded")
kept = Keep(rule="gifts.trouble", of_rule="points.base", unit="points", amount=1)
assert Gifts().reverse(back, bought, make_situation()) == [kept]
