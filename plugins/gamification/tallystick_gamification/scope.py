"""What the merchant's rules may name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from zoneinfo import ZoneInfo

from tallystick.events import MAX_AMOUNT, Enrolled, Line, OrderAdvanced, Purchase
from tallystick.rules import DATE, INT, STRING, TIMESTAMP, Int, ListOf, MapOf, Object, Places, Scope, Type, object_type

from .events import CheckedIn, Drawn, Referred, Rewarded
from .settings import PURCHASE

#: Rules about lines look at the goods; never at shipping, fees, rewards or stored value.
PLACES: Final = Places(lines="goods", line="line")
_MONEY: Final = Int(0, MAX_AMOUNT)
_LINE: Final = Object("line", {**object_type(Line).fields, "net": _MONEY})
_PURCHASE: Final = Object(
    "purchase", {**object_type(Purchase).fields, "lines": ListOf(_LINE), "total": _MONEY, "items": INT}
)
_EVENT: Final = Object("event", {"kind": STRING, "at": TIMESTAMP, "source": STRING})
_MEMBER: Final = Object(
    "member", {"enrolled_at": TIMESTAMP, "tags": ListOf(STRING, 64), "tiers": MapOf(STRING), "language": STRING}
)
#: Facts of the kinds known here, under the name ``facts``; of other plugins' kinds rules see the event alone.
_FACTS: Final = {
    "member.enrolled": object_type(Enrolled),
    "order.advanced": object_type(OrderAdvanced),
    "gamification.checked_in": object_type(CheckedIn),
    "gamification.drawn": object_type(Drawn),
    "gamification.referred": object_type(Referred),
    "gamification.rewarded": object_type(Rewarded),
}


def has_facts(kind: str) -> bool:
    """Whether rules about events of *kind* may name ``facts``."""
    return kind in _FACTS


def scope_of_event(kind: str, units: Iterable[str], zone: ZoneInfo) -> Scope:
    """The names that rules about events of *kind* may use; ``gained`` is what the member gained by the event, by unit."""
    names: dict[str, Type] = {
        "event": _EVENT,
        "member": _MEMBER,
        "gained": Object("gained", dict.fromkeys(sorted(units), INT), keyed=True),
        "today": DATE,
    }
    if kind == PURCHASE:
        names |= {"purchase": _PURCHASE, "goods": ListOf(_LINE)}
    elif kind in _FACTS:
        names["facts"] = _FACTS[kind]
    return Scope(names, zone=str(zone))


def scope_of_member(zone: ZoneInfo) -> Scope:
    """The names that rules about members may use."""
    return Scope({"member": _MEMBER, "today": DATE}, zone=str(zone))


def scope_of_level() -> Scope:
    """The names that the formula of a goal may use."""
    return Scope({"level": Int(1, 10_000)}, zone="UTC")
