"""Whoever wants to be forgotten is; saying it twice changes nothing."""

from typing import Any

from tallystick.hookspecs import impl


class Wishes:
    def __init__(self) -> None:
        self.wishes = {7: "a mug"}  # a real plugin deletes from its own tables, with `store`

    @impl.erase_member
    def erase_member(self, member: int, store: Any) -> bool | None:
        self.wishes.pop(member, None)
        return True


wishes = Wishes()
assert wishes.erase_member(7, store=None) and wishes.erase_member(7, store=None)
assert wishes.wishes == {}
