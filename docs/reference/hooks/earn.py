"""A point for every full unit of money."""

from tallystick.effects import Grant
from tallystick.events import Event, Purchase
from tallystick.hookspecs import impl
from tallystick.situation import Situation
from tallystick.testing import make_event, make_purchase, make_situation


class Gifts:
    @impl.earn
    def earn(self, event: Event, situation: Situation) -> list[Grant]:
        if not isinstance(event.facts, Purchase):
            return []
        return [Grant(rule="gifts.base", unit="points", amount=event.facts.items // 100)]


gained = Grant(rule="gifts.base", unit="points", amount=12)
assert Gifts().earn(make_event(make_purchase("12.34")), make_situation()) == [gained]
