"""Messages over a channel of one's own; another's channel is none of our business."""

import asyncio
from collections.abc import Mapping
from typing import Any

from tallystick.hookspecs import impl


class Pigeons:
    def __init__(self) -> None:
        self.sent: dict[str, str] = {}

    @impl.notify
    async def notify(self, message: Mapping[str, Any]) -> bool | None:
        if message["channel"] != "pigeon":
            return None
        self.sent[message["key"]] = message["text"]  # said again, it is the same message
        return True


pigeons = Pigeons()
assert asyncio.run(pigeons.notify({"channel": "pigeon", "key": "k-1", "text": "Hello"})) is True
assert asyncio.run(pigeons.notify({"channel": "sms", "key": "k-2", "text": "Hello"})) is None
assert pigeons.sent == {"k-1": "Hello"}
