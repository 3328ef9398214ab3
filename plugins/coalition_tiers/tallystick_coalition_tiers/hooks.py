"""The doorman of partner spend: what the coalition counted of an event is counted on ladders too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tallystick.effects import Count, Effect, Emit
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.situation import Needs, Programme, Situation

from .settings import Settings

#: What the coalition counts of purchases at partners, under agreements that say `tier_credit`, in minor units.
SPEND: Final = ("coalition.spend", "lifetime")
COMMITTED: Final = "coalition.committed"
RULE: Final = "coalition_tiers.spend"


class PartnerSpend:
    """The glue as one merchant has set it up."""

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.settings, self.programme = settings, programme

    @hookimpl
    def needs(self, kind: str) -> Needs | None:
        """What the coalition has counted so far."""
        return Needs(counters=frozenset((SPEND,))) if kind == COMMITTED and self.settings.ladders else None

    @hookimpl
    def react(self, event: Event, situation: Situation, outcome: Mapping[str, int]) -> Sequence[Effect]:
        """What a purchase at a partner added counts on the ladders, which are looked at at once, as if somebody had reviewed them."""
        if not self.settings.ladders:
            return ()
        added = outcome["counter:{}/{}".format(*SPEND)] - situation.counters.get(SPEND, 0)
        if added <= 0:
            return ()
        counts = [
            Count(rule=RULE, counter=ladder.counter, window=ladder.window, amount=added)
            for ladder in self.settings.ladders
        ]
        day = self.programme.local_date(event.at)
        return [*counts, Emit(rule=RULE, kind="tiers.reviewed", facts={"day": day.isoformat()})]
