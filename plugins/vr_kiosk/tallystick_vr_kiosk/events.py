"""What can happen at a kiosk and in a showroom."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from tallystick.events import MAX_AMOUNT, Facts, Name, Text

Instant = Annotated[datetime, Meta(tz=True)]
Points = Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]


class Redeemed(Facts, frozen=True):
    """The member took a reward at a device."""

    device: Name
    reward: Name
    grant: Text = ""  #: the allowance it is paid from, if it happened while the house could not be asked
    at: Instant | None = None  #: by the device's clock, if so


class Allowed(Facts, frozen=True):
    """A device may give rewards for so many points without asking, until the allowance ends."""

    device: Name
    grant: Name
    points: Points
    until: Instant


class AllowanceEnded(Facts, frozen=True):
    """What is left of an allowance cannot be given any more."""

    device: Name
    grant: Name


class Stocked(Facts, frozen=True):
    """Pieces of a reward were put into the kiosk, or counted."""

    reward: Name
    pieces: Annotated[int, Meta(ge=0, le=10**9)]
    counted: bool = False  #: whether this is all there is, not what is added


class Touched(Facts, frozen=True):
    """The member looked at something in a showroom, touched it or tried it."""

    showroom: Name
    room: Name
    spot: Name
    action: Literal["looked", "touched", "tried"] = "touched"
    product: Text = ""
    labels: Annotated[tuple[Text, ...], Meta(max_length=16)] = ()


class Attended(Facts, frozen=True):
    """The member was there while something happened in a showroom."""

    showroom: Name
    happening: Name


class Wished(Facts, frozen=True):
    """The member put a product on the wish list."""

    showroom: Name
    product: Name


class TaskDone(Facts, frozen=True):
    """The member found all that a task of a showroom asks for."""

    showroom: Name
    task: Name
