"""What the merchant's rules may name, and what must be loaded for the names they use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from tallystick.events import MAX_AMOUNT, Enrolled, Line, OrderAdvanced, Purchase
from tallystick.rules import (
    BOOL,
    DATE,
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
    String,
    Type,
    object_type,
)
from tallystick.situation import Member, Needs, Programme

from .events import Adjusted, Gifted, Redeemed
from .settings import PURCHASE, Counter, Settings

_MONEY = Int(0, MAX_AMOUNT)
#: Rules about lines look at the lines that earn.
PLACES = Places(lines="earning", line="line")

LINE = Object("line", {**object_type(Line).fields, "net": _MONEY})
_PURCHASE = object_type(Purchase)
PURCHASE_TYPE = Object(
    "purchase",
    {**_PURCHASE.fields, "lines": ListOf(LINE), "total": _MONEY, "items": INT, "paid_with_points": _MONEY},
)
EVENT = Object("event", {"kind": STRING, "at": TIMESTAMP, "source": STRING})
MEMBER = Object(
    "member",
    {
        "status": String(("active", "blocked", "merged", "erased")),
        "enrolled_at": TIMESTAMP,
        "tags": ListOf(STRING, 64),
        "tiers": MapOf(STRING),
        "birthday": Optional(Object("birthday", {"month": Int(1, 12), "day": Int(1, 31)})),
        "language": STRING,
    },
)
BALANCE = Object("holding", {"usable": INT, "posted": INT, "pending": INT, "due": INT})
PROGRAMME = Object("programme", {"currency": STRING, "language": STRING})
#: Facts of the kinds known here, under the name ``facts``; of other plugins' kinds rules see the event alone.
FACTS = {
    "member.enrolled": object_type(Enrolled),
    "order.advanced": object_type(OrderAdvanced),
    "points.redeemed": object_type(Redeemed),
    "points.gifted": object_type(Gifted),
    "points.adjusted": object_type(Adjusted),
}


def scope_for(kind: str, settings: Settings, units: Iterable[str], zone: ZoneInfo) -> Scope:
    """The names rules about events of *kind* may use: on purchases ``purchase`` and ``line``, otherwise ``facts``.

    ``benefit`` is what plugins declare that the member's tiers give.
    ``birthday_today`` knows on which day the programme keeps a 29 February in common years.
    ``eligible`` is what the whole order counts for, and ``earning`` are the lines that earn at all; inside the value of a rule
    about lines, ``basis`` is what those lines count for.
    """
    names: dict[str, Type] = {
        "event": EVENT,
        "member": MEMBER,
        "balance": Object("balance", dict.fromkeys(sorted({*units, settings.unit}), BALANCE), keyed=True),
        "counter": Object("counter", {counter.name: INT for counter in settings.counters}, keyed=True),
        "programme": PROGRAMME,
        "now": TIMESTAMP,
        "today": DATE,
        "birthday_today": BOOL,
        "benefit": MapOf(STRING),
    }
    if kind == PURCHASE:
        names["purchase"] = PURCHASE_TYPE
        names["eligible"] = _MONEY
        names["earning"] = ListOf(LINE)
    elif kind in FACTS:
        names["facts"] = FACTS[kind]
    return Scope(names, zone=str(zone))


def needs_of(names: Iterable[str], counters: Iterable[Counter]) -> Needs:
    """What must be loaded so that rules can look at *names* (dotted paths as ``rules.names`` gives them)."""
    by_name = {counter.name: counter.key for counter in counters}
    balances: set[str] = set()
    keys: set[tuple[str, str]] = set()
    profile = False
    for path in names:
        match path.split("."):
            case ["balance", unit, *_]:
                balances.add(unit)
            case ["counter", name, *_]:
                keys.add(by_name[name])
            case ["member", "birthday" | "language", *_] | ["birthday_today"]:
                profile = True
    return Needs(balances=frozenset(balances), counters=frozenset(keys), profile=profile)


def benefits(programme: Programme, member: Member | None) -> dict[str, str]:
    """What plugins declare under ``benefits`` for the tiers that *member* holds, as text; the first who says so counts."""
    found: dict[str, str] = {}
    if member is None or not member.tiers:
        return found
    for said in programme.declared.values():
        for ladder, tiers in said.get("benefits", _NOTHING).items():
            for name, value in tiers.get(member.tiers.get(ladder, ""), _NOTHING).items():
                found.setdefault(name, str(value).lower() if type(value) is bool else str(value))
    return found


_NOTHING: Mapping[str, Any] = {}
