"""What policies and watches may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from zoneinfo import ZoneInfo

from tallystick.events import MAX_AMOUNT, Enrolled, Line, OrderAdvanced, Purchase
from tallystick.rules import (
    INT,
    STRING,
    TIMESTAMP,
    Int,
    ListOf,
    MapOf,
    Object,
    Optional,
    Places,
    Scope,
    Type,
    object_type,
)

from .events import Observed
from .settings import ADJUSTED, GIFTED, OBSERVED, PURCHASE, REDEEMED
from .signals import FOUND, SIGNALS

#: Policies about lines look at the goods; never at shipping, fees, rewards or stored value.
PLACES: Final = Places(lines="goods", line="line")
_MONEY: Final = Int(0, MAX_AMOUNT)
_LINE: Final = Object("line", {**object_type(Line).fields, "net": _MONEY})
_PURCHASE: Final = Object(
    "purchase", {**object_type(Purchase).fields, "lines": ListOf(_LINE), "total": _MONEY, "items": INT}
)
_EVENT: Final = Object("event", {"kind": STRING, "at": TIMESTAMP, "source": STRING})
_MEMBER: Final = Object(
    "member",
    {
        "status": STRING,
        "enrolled_at": TIMESTAMP,
        "tags": ListOf(STRING, 64),
        "tiers": MapOf(STRING),
        "language": STRING,
    },
)
#: Facts of the kinds known here, under the name ``facts``; of other plugins' kinds policies see the event alone.
_FACTS: Final[Mapping[str, Object]] = {
    "member.enrolled": object_type(Enrolled),
    "order.advanced": object_type(OrderAdvanced),
    OBSERVED: object_type(Observed),
    REDEEMED: Object(
        "facts",
        {"points": Optional(_MONEY), "reward": STRING, "order": STRING, "store": STRING, "cashier": STRING, "device": STRING},
    ),
    GIFTED: Object("facts", {"points": _MONEY, "to": STRING, "device": STRING}),
    # what goes to a partner of the coalition: with whom, how, and how much
    "coalition.held": Object("facts", {"partner": STRING, "kind": STRING, "amount": _MONEY}),
    "coalition.committed": Object("facts", {"partner": STRING, "kind": STRING, "amount": _MONEY, "order": STRING}),
    ADJUSTED: Object("facts", {"points": INT, "reason": STRING, "by": STRING, "approved_by": STRING}),
}  # fmt: skip


def has_facts(kind: str) -> bool:
    """Whether policies on *kind* may name ``facts``."""
    return kind in _FACTS


def scope_of_policy(kind: str, limits: Mapping[str, int], zone: ZoneInfo) -> Scope:
    """The names that policies on events of *kind* may use."""
    names: dict[str, Type] = {
        "event": _EVENT,
        "member": _MEMBER,
        "signal": Object("signal", dict.fromkeys(SIGNALS, INT), keyed=True),
        "limit": Object("limit", dict.fromkeys(limits, _MONEY), keyed=True),
    }
    if kind == PURCHASE:
        names |= {"purchase": _PURCHASE, "goods": ListOf(_LINE)}
    elif kind in _FACTS:
        names["facts"] = _FACTS[kind]
    return Scope(names, zone=str(zone))


def scope_of_watch(subject: str, limits: Mapping[str, int], zone: ZoneInfo) -> Scope:
    """The names that watches on a *subject* may use."""
    return Scope(
        {
            "signal": Object("signal", dict.fromkeys(FOUND[subject], INT), keyed=True),
            "limit": Object("limit", dict.fromkeys(limits, _MONEY), keyed=True),
        },
        zone=str(zone),
    )
