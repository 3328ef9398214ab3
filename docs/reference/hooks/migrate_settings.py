"""Version 1 said `points`; version 2 calls it `amount`."""

from collections.abc import Mapping
from typing import Any

from tallystick.hookspecs import impl


class Gifts:
    @impl.migrate_settings
    def migrate_settings(self, document: Mapping[str, Any], version: int) -> Mapping[str, Any] | None:
        if version >= 2:
            return document
        return {"amount": document["points"], **{key: value for key, value in document.items() if key != "points"}}


assert Gifts().migrate_settings({"points": 5, "per": 100}, 1) == {"amount": 5, "per": 100}
