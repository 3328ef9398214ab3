"""What the merchant's rules about tiers may name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from zoneinfo import ZoneInfo

from tallystick.events import MAX_AMOUNT, Line, Purchase
from tallystick.rules import INT, STRING, TIMESTAMP, Int, ListOf, Object, Places, Scope, object_type

from .settings import PURCHASE

#: Rules about lines look at the goods; never at shipping, fees, rewards or stored value.
PLACES: Final = Places(lines="goods", line="line")
_MONEY: Final = Int(0, MAX_AMOUNT)
_LINE: Final = Object("line", {**object_type(Line).fields, "net": _MONEY})
_PURCHASE: Final = Object(
    "purchase", {**object_type(Purchase).fields, "lines": ListOf(_LINE), "total": _MONEY, "items": INT}
)
_EVENT: Final = Object("event", {"kind": STRING, "at": TIMESTAMP, "source": STRING})
_MEMBER: Final = Object("member", {"enrolled_at": TIMESTAMP, "tags": ListOf(STRING, 64), "language": STRING})


def scope_of_event(kind: str, zone: ZoneInfo) -> Scope:
    """The names that `when`, `lines` and `value` of a metric may use about events of *kind*."""
    names = {"event": _EVENT, "member": _MEMBER}
    if kind == PURCHASE:
        names |= {"purchase": _PURCHASE, "goods": ListOf(_LINE)}  # type: ignore[dict-item]
    return Scope(names, zone=str(zone))


def scope_of_tier(metrics: Iterable[str], zone: ZoneInfo) -> Scope:
    """The names that `when` and `keep_when` of a tier may use."""
    return Scope(
        {"metric": Object("metric", dict.fromkeys(metrics, INT), keyed=True), "member": _MEMBER}, zone=str(zone)
    )
