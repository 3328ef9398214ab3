"""Who gains a hundred points at once is told so."""

from collections.abc import Mapping

from tallystick.effects import Notify
from tallystick.events import Event
from tallystick.hookspecs import impl
from tallystick.situation import Situation
from tallystick.testing import make_event, make_situation


class Gifts:
    @impl.react
    def react(self, event: Event, situation: Situation, outcome: Mapping[str, int]) -> list[Notify]:
        gained = outcome.get("points", 0)
        if gained < 100:
            return []
        return [Notify(rule="gifts.hundred", template="gifts.hundred", key=event.id, facts={"points": gained})]


told = Notify(rule="gifts.hundred", template="gifts.hundred", key="e-1", facts={"points": 120})
assert Gifts().react(make_event(id="e-1"), make_situation(), {"points": 120}) == [told]
