"""What risk hears beside purchases and points, and what it says itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from tallystick.events import Facts, Name, Text

Action = Literal["login", "login_failed", "joined", "device_added", "password_changed", "address_changed"]
Until = Annotated[datetime, Meta(tz=True, description="until then")]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]
Names = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=32)]


class Observed(Facts, frozen=True):
    """An app or till saw somebody: a login, one that failed, a new device.

    Send fingerprints that you keep no other meaning for, not the address itself.
    """

    action: Action
    device: Text = ""  #: a fingerprint of the device
    address: Text = ""  #: a fingerprint of the network or delivery address
    store: Text = ""


class Flagged(Facts, frozen=True):
    """Something was found after the commit; what the member takes until then is looked at."""

    watch: Name  #: which watch found it
    until: Until
    reason: Reason


class Restricted(Facts, frozen=True):
    """Staff take a capability from a member for a time."""

    capabilities: Names
    until: Until
    reason: Reason
    by: Name  #: who does it: a staff number or login, not a name


class Restored(Facts, frozen=True):
    """Staff give a member back what was restricted; what watches found about the member is forgotten."""

    reason: Reason
    by: Name
