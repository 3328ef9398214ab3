"""A lamp is told its colour; other devices are left to others."""

import asyncio
from collections.abc import Mapping
from typing import Any

from tallystick.hookspecs import impl


class Lamps:
    def __init__(self) -> None:
        self.colour = "off"

    @impl.command
    async def command(self, command: Mapping[str, Any], device: Mapping[str, Any]) -> bool | None:
        if command["command"] != "light":
            return None
        self.colour = command["facts"]["colour"]
        return True


lamps = Lamps()
assert asyncio.run(lamps.command({"command": "light", "facts": {"colour": "green"}}, {"id": "d-1"})) is True
assert lamps.colour == "green"
