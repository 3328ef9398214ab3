"""What the house gives to whoever works for a tenant, and the addresses that open to whom we send them."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Any, Protocol

from .hooks import Notify


class Errand(Protocol):
    """What the house gives a job."""

    @property
    def plugin(self) -> Notify: ...
    @property
    def house(self) -> Any: ...
    @property
    def generation(self) -> Any: ...
    @property
    def tenant(self) -> str: ...
    @property
    def now(self) -> datetime: ...


def link(errand: Errand, door: str, *words: str) -> str:
    """Where a public door of ours is, as the world sees it; it opens for *words* alone."""
    opened = errand.house.pass_for(errand.tenant, door, *words)
    return f"{errand.plugin.settings.public}/v1/notify/{door.partition('.')[2]}/{opened}"


def proof(secret: bytes, tenant: str, channel: str, id: str) -> str:
    """What stands beside a message's id in its mail, so that nobody else can say that it came back."""
    return hmac.new(secret, f"notify/bounce/{tenant}/{channel}/{id}".encode(), hashlib.sha256).hexdigest()[:20]
