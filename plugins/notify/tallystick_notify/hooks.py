"""The plugin: it takes intents over from what was committed; everything else happens by the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.hookspecs import hookimpl
from tallystick.situation import Programme

from . import store as rows
from .settings import Settings


class Notify:
    """Messages of one tenant."""

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.settings = settings
        self.programme = programme

    @hookimpl
    def committed(self, batch: Sequence[Any], store: Any) -> None:
        """Write down the messages that are due; said again, they are the same."""
        rows.keep_intents(
            store,
            self.programme.tenant,
            ((one.at, intent) for one in batch for intent in one.intents if intent.channel == "notify"),
        )
        rows.keep_decisions(store, self.programme.tenant, ((one.at, record) for one in batch for record in one.records))

    @hookimpl
    def export_member(self, member: int, store: Any) -> Mapping[str, Any]:
        """Messages and consents."""
        return rows.everything(store, self.programme.tenant, member)

    @hookimpl
    def erase_member(self, member: int, store: Any) -> bool:
        """Forget messages and consents."""
        rows.forget(store, self.programme.tenant, member)
        return True
