"""A hundred points buy a mug; whoever asks for anything else is told no by a name."""

from tallystick.effects import Spend
from tallystick.errors import Refused
from tallystick.events import Event, Facts
from tallystick.hookspecs import impl
from tallystick.situation import Situation
from tallystick.testing import make_event, make_situation


class Taken(Facts, frozen=True):
    """A member takes a gift; plugin.toml names this class under [events]."""

    gift: str


class NoSuchGift(Refused):
    """The shop does not give that away."""

    code = "no_such_gift"


class Gifts:
    @impl.redeem
    def redeem(self, event: Event, situation: Situation) -> list[Spend]:
        if event.facts.gift != "mug":
            raise NoSuchGift
        return [Spend(rule="gifts.mug", unit="points", amount=100, gives={"gift": "mug"})]


taken = make_event(Taken(gift="mug"), "gifts.taken")
paid = Spend(rule="gifts.mug", unit="points", amount=100, gives={"gift": "mug"})
assert Gifts().redeem(taken, make_situation()) == [paid]
