"""Whoever asks what is kept of them is told."""

from collections.abc import Mapping
from typing import Any

from tallystick.hookspecs import impl


class Wishes:
    def __init__(self) -> None:
        self.wishes = {7: "a mug"}  # a real plugin reads its own tables, with `store`

    @impl.export_member
    def export_member(self, member: int, store: Any) -> Mapping[str, Any] | None:
        return {"wish": self.wishes[member]} if member in self.wishes else None


assert Wishes().export_member(7, store=None) == {"wish": "a mug"}
assert Wishes().export_member(8, store=None) is None
