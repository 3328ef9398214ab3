"""Gold for whoever has a thousand points after the event."""

from collections.abc import Mapping
from datetime import datetime

from tallystick.effects import SetTier
from tallystick.events import Event
from tallystick.hookspecs import impl
from tallystick.situation import Member, Situation
from tallystick.testing import make_event, make_member, make_situation


class Ladder:
    @impl.evaluate_tier
    def evaluate_tier(
        self, event: Event, member: Member, totals: Mapping[str, int], now: datetime, situation: Situation
    ) -> list[SetTier]:
        if totals.get("balance:points", 0) < 1_000 or member.tiers.get("club") == "gold":
            return []
        return [SetTier(rule="ladder.gold", ladder="club", tier="gold", reason="a thousand points")]


event = make_event()
gold = SetTier(rule="ladder.gold", ladder="club", tier="gold", reason="a thousand points")
totals = {"balance:points": 1_000}
assert Ladder().evaluate_tier(event, make_member(), totals, event.received, make_situation()) == [gold]
