"""Not well while the gateway is not set up."""

from collections.abc import Mapping
from typing import Any

from tallystick.hookspecs import impl


class Gateway:
    def __init__(self, url: str) -> None:
        self.url = url

    @impl.health
    def health(self) -> Mapping[str, Any] | None:
        return {"ok": bool(self.url), "gateway": self.url or "not set up"}


assert Gateway("").health() == {"ok": False, "gateway": "not set up"}
