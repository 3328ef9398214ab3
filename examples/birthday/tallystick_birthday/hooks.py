"""A gift for whoever buys something on their birthday."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from tallystick.effects import Bonus, Cap, Effect
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.situation import Needs, Situation

#: For Cerberus; `meta.doc` is what the reference and the console show.
SCHEMA: Final[Mapping[str, Any]] = {
    "points": {
        "type": "integer", "min": 1, "max": 100_000, "default": 100,
        "meta": {"doc": "How many points a member gets."},
    },
}  # fmt: skip
GIFT: Final = "birthday.gift"


@attrs.frozen(kw_only=True)
class Settings:
    """The plugin as one merchant has set it up."""

    points: int

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Settings:
        """Make the settings of a checked document."""
        return cls(points=document["points"])


class Birthday:
    """One gift a year, on the first purchase of the birthday, in the programme's own time zone."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @hookimpl
    def needs(self) -> Needs:
        """The day and month of birth, and what was given this year already."""
        return Needs(profile=True, counters=frozenset({(f"cap:{GIFT}", "year")}))

    @hookimpl
    def earn(self, event: Event, situation: Situation) -> Sequence[Effect]:
        """Propose the gift, and that there be no second one this year."""
        member, programme = situation.member, situation.programme
        today = programme.local_date(event.at)
        if member is None or member.birthday is None or programme.birthday(member.birthday, today.year) != today:
            return ()
        points = self.settings.points
        return (
            Bonus(rule=GIFT, unit="points", amount=points, reversible=False),
            Cap(rule=GIFT, unit="points", limit=points, per="year", rules=frozenset({GIFT}), whole=True),
        )
