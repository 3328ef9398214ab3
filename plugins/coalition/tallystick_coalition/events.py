"""What can happen between brands.  The source's points leave (or its shop earns); the source pays the target."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from tallystick.events import Facts

from .agreement import Brand, Kind

Id = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{8,64}$", max_length=64)]
Alias = Annotated[str, Meta(pattern="^[a-z2-7]{16,64}$", max_length=64)]
Period = Annotated[str, Meta(pattern="^[0-9]{4}-(0[1-9]|1[0-2])$", max_length=7)]
Amount = Annotated[int, Meta(ge=1, le=10**12)]
Owed = Annotated[int, Meta(ge=0, le=10**12)]
Version = Annotated[int, Meta(ge=1, le=10**6)]
Text = Annotated[str, Meta(max_length=128)]


class Agreed(Facts, frozen=True):
    """Both brands have signed an agreement, or its next version."""

    partner: Brand
    text: Annotated[str, Meta(max_length=12_000)]
    signatures: Mapping[str, Annotated[str, Meta(max_length=88)]]


class Consented(Facts, frozen=True):
    """The member agrees to be known to a partner by a code, or takes that back; from then on nothing is shared."""

    partner: Brand
    alias: Alias
    given: bool = True


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Points that left from lots of one kind."""

    amount: Amount
    expires: Annotated[datetime, Meta(tz=True)] | None = None
    issuer: Annotated[str, Meta(max_length=200)] = ""


class Held(Facts, frozen=True):
    """The source sets points aside for a transfer (or, for `earn`, room under the limits)."""

    partner: Brand
    transfer: Id
    kind: Kind
    amount: Amount  #: points, or for `earn` minor units
    version: Version  #: of the agreement


class Committed(Facts, frozen=True):
    """The target has given the member what the transfer comes to.  From now on it cannot be released."""

    partner: Brand
    transfer: Id
    kind: Kind
    amount: Amount
    version: Version
    parts: Annotated[tuple[Part, ...], Meta(max_length=200)] = ()
    order: Text = ""  #: of the target, for `redeem`: a refund of that order gives the points back


class Voided(Facts, frozen=True):
    """The target will never commit this transfer."""

    partner: Brand
    transfer: Id


class Confirmed(Facts, frozen=True):
    """The source learned that the target has committed, and in which period it counts."""

    partner: Brand
    transfer: Id
    period: Period
    owed: Owed


class Released(Facts, frozen=True):
    """The source learned that the target never will commit: the same lots come back."""

    partner: Brand
    transfer: Id
    reason: Text = ""


class Returned(Facts, frozen=True):
    """A part of a committed transfer comes back; *total* is what has come back of it in all."""

    partner: Brand
    transfer: Id
    total: Amount
    #: in which it counts; left open by the target, whose books decide
    period: Annotated[str, Meta(pattern="^([0-9]{4}-(0[1-9]|1[0-2]))?$", max_length=7)] = ""


class Closed(Facts, frozen=True):
    """A period is closed with a partner: whatever comes after belongs to a later one."""

    partner: Brand
    period: Period
    early: bool = False  #: before the month is over: until then nothing more leaves for the partner


class Paid(Facts, frozen=True):
    """What was owed to a partner for a period was paid; so much of its limit is free again."""

    partner: Brand
    period: Period
    amount: Amount
