"""Of two members who are one person the longer streak counts."""

from collections.abc import Mapping
from typing import Any

from tallystick.effects import Put
from tallystick.events import Event
from tallystick.hookspecs import impl
from tallystick.testing import make_event


class Streaks:
    @impl.join
    def join(self, event: Event, source: Mapping[str, Any], into: Mapping[str, Any]) -> list[Put]:
        longest = max(source.get("streak", 0), into.get("streak", 0))
        return [Put(rule="streaks.join", name="streak", value=longest)]


kept = Put(rule="streaks.join", name="streak", value=9)
assert Streaks().join(make_event(), {"streak": 9}, {"streak": 4}) == [kept]
