"""What the house gives to whoever works for a tenant, and the addresses that open to whom we send them."""

from __future__ import annotations

import hashlib
import hmac
from typing import TypeAlias

from tallystick import errands

from .hooks import Notify

Errand: TypeAlias = errands.Work[Notify]


def link(errand: Errand, door: str, *words: str) -> str:
    """Where a public door of ours is, as the world sees it; it opens for *words* alone."""
    opened = errand.house.pass_for(errand.tenant, door, *words)
    return f"{errand.plugin.settings.public}/v1/notify/{door.partition('.')[2]}/{opened}"


def print_of(secret: bytes, tenant: str, address: str) -> str:
    """By which an address that mail came back from is known again, and by nobody else."""
    return hmac.new(secret, f"notify/address/{tenant}/{address.casefold()}".encode(), hashlib.sha256).hexdigest()[:32]


def proof(secret: bytes, tenant: str, channel: str, id: str) -> str:
    """What stands beside a message's id in its mail, so that nobody else can say that it came back."""
    return hmac.new(secret, f"notify/bounce/{tenant}/{channel}/{id}".encode(), hashlib.sha256).hexdigest()[:20]
