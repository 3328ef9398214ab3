"""What a merchant can set, how it is checked, and the frozen objects that the rules read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from fractions import Fraction
from typing import Any, Final, Literal

import attrs

from tallystick import values
from tallystick.values import Period

Kind = Literal["grant", "multiply", "bonus", "cap"]
PURCHASE: Final = "purchase.completed"


@attrs.frozen(kw_only=True)
class Basis:
    """Which money earns.  See :mod:`tallystick_points.basis`."""

    discounts: Literal["net", "gross"] = "net"  #: whether promotional discounts reduce it
    tax: Literal["included", "excluded"] = "included"
    shipping: Literal["excluded", "included"] = "excluded"  #: lines of kind shipping and fee
    points: Literal["net", "gross", "none"] = "net"  #: paid with points: reduces it, does not, or the order earns nothing


@attrs.frozen(kw_only=True)
class Expiry:
    """How long a lot lives, in days of the programme's zone."""

    policy: Literal["never", "rolling", "period_end", "fixed", "activity"] = "never"
    after: Period | None = None
    end_of: Literal["", "month", "quarter", "half", "year"] = ""
    on: date | tuple[int, int] | None = None  #: the last good day, or (month, day) of every year


@attrs.frozen(kw_only=True)
class Pending:
    """When a lot becomes usable: at once, some days later, or when its order reaches a state."""

    days: int = 0
    state: str = ""


@attrs.frozen(kw_only=True)
class Window:
    """From when until when a rule holds: days are both included, instants are [from, to)."""

    since: date | datetime | None = None
    until: date | datetime | None = None

    def holds(self, at: datetime, day: date) -> bool:
        """Whether it holds at the instant *at*, which falls on the local *day*."""
        since, until = self.since, self.until
        if since is not None and (at < since if isinstance(since, datetime) else day < since):
            return False
        return until is None or (at < until if isinstance(until, datetime) else day <= until)


@attrs.frozen(kw_only=True)
class Band:
    """From *start* minor units on, *points* for every *per* minor units."""

    start: int
    points: int
    per: int


@attrs.frozen(kw_only=True)
class Earn:
    """One ``[[earn]]`` table."""

    name: str
    kind: Kind = "grant"
    on: str = PURCHASE  #: the kind of event it is about
    unit: str = "points"
    when: str = ""  #: condition, a text of the rule language
    lines: str = ""  #: condition on each line
    each: Literal["order", "line"] = "order"  #: whether the amount is worked out (and rounded down) once or line by line
    points: int | None = None
    per: int | None = None  #: minor units; None: the points are flat
    value: str = ""  #: amount as a text of the rule language
    bands: tuple[Band, ...] = ()
    over: str = ""  #: the window over which bands add up; empty: one order
    factor: Fraction | None = None
    compound: bool = False
    of: tuple[str, ...] = ()  #: rules that a factor scales or a cap limits; empty: all of the unit
    limit: int | None = None
    window: str = "event"
    whole: bool = False
    group: str = ""
    priority: int = 0
    exclusive: bool = False
    stop: bool = False
    to: str = ""  #: field of the facts that names another member
    reversible: bool = True
    valid: Window = Window()
    expiry: Expiry | None = None
    pending: Pending | None = None
    order: int = 0  #: its place in the list

    @property
    def rule(self) -> str:
        """Its public name on receipts and in audits."""
        return f"points.{self.name}"


@attrs.frozen(kw_only=True)
class Counter:
    """A number per member that rules may name as ``counter.<name>``."""

    name: str
    window: str
    on: str = PURCHASE
    when: str = ""
    value: str = "1"
    of: str = ""  #: read this counter of another plugin instead of keeping an own one

    @property
    def key(self) -> tuple[str, str]:
        """(counter, window) as the core keeps it."""
        return (self.of or f"points.{self.name}", self.window)


@attrs.frozen(kw_only=True)
class Limit:
    """How often, or for how many points, a member may do something in a window."""

    window: str
    points: int | None = None
    times: int | None = None


@attrs.frozen(kw_only=True)
class Redeem:
    """Paying with points."""

    points: int = 100
    gives: int = 100  #: minor units for that many points
    step: int = 100  #: points are spent in multiples of it
    minimum: int = 0
    maximum: int | None = None
    share: Fraction = Fraction(1)  #: the part of an order that points may pay
    limits: tuple[Limit, ...] = ()


@attrs.frozen(kw_only=True)
class Reward:
    """Something of the catalogue."""

    name: str
    cost: int
    stock: bool = False  #: whether pieces are counted; put them on the shelf with `points.restocked`
    when: str = ""
    limits: tuple[Limit, ...] = ()
    valid: Window = Window()
    gives: Mapping[str, Any] = {}


@attrs.frozen(kw_only=True)
class Gift:
    """Giving points to another member."""

    minimum: int = 1
    maximum: int | None = None
    limits: tuple[Limit, ...] = ()


@attrs.frozen(kw_only=True)
class Settings:
    """The plugin as one merchant has set it up."""

    unit: str = "points"
    basis: Basis = Basis()
    expiry: Expiry = Expiry()
    activity: tuple[str, ...] = (PURCHASE, "points.redeemed")
    pending: Pending = Pending()
    earn: tuple[Earn, ...] = ()
    groups: Mapping[str, str] = {}
    counters: tuple[Counter, ...] = ()
    redeem: Redeem | None = None
    rewards: tuple[Reward, ...] = ()
    gift: Gift | None = None
    approve_above: int | None = None  #: larger adjustments need a second person
    keep_after: Period | None = None  #: orders returned later than this keep their points
    remind_days: int = 30  #: how long before the expiry a member is reminded; 0: never


def read(document: Mapping[str, Any]) -> Settings:
    """Make the frozen settings of a document that :data:`SCHEMA` and :func:`check` have accepted."""
    unit = document.get("unit", "points")
    expiry = _expiry(document.get("expiry", {}))
    return Settings(
        unit=unit,
        basis=Basis(**document.get("basis", {})),
        expiry=expiry,
        activity=tuple(document.get("expiry", {}).get("activity", Settings().activity)),
        pending=Pending(**document.get("pending", {})),
        earn=tuple(_earn(rule, place, unit) for place, rule in enumerate(document.get("earn", ()))),
        groups=dict(document.get("groups", {})),
        counters=tuple(Counter(name=name, **fields) for name, fields in document.get("counters", {}).items()),
        redeem=_redeem(document["redeem"]) if "redeem" in document else None,
        rewards=tuple(_reward(reward) for reward in document.get("rewards", ())),
        gift=_gift(document["gift"]) if "gift" in document else None,
        approve_above=document.get("adjust", {}).get("approve_above"),
        keep_after=_period(document.get("refund", {}).get("keep_after")),
        remind_days=document.get("remind", {}).get("days", 30),
    )


def _earn(rule: Mapping[str, Any], place: int, unit: str) -> Earn:
    fields = {key: value for key, value in rule.items() if key not in ("from", "until", "summary")}
    fields["unit"] = rule.get("unit", unit)
    fields["bands"] = tuple(
        Band(start=band["from"], points=band["points"], per=band["per"]) for band in rule.get("bands", ())
    )
    fields["of"] = tuple(f"points.{name}" if "." not in name else name for name in rule.get("of", ()))
    fields["valid"] = _window(rule)
    if "factor" in rule:
        fields["factor"] = values.exact(rule["factor"])
    if "expiry" in rule:
        fields["expiry"] = _expiry(rule["expiry"])
    if "pending" in rule:
        fields["pending"] = Pending(**rule["pending"])
    return Earn(**fields, order=place)


def _expiry(fields: Mapping[str, Any]) -> Expiry:
    return Expiry(
        policy=fields.get("policy", "never"),
        after=_period(fields.get("after")),
        end_of=fields.get("end_of", ""),
        on=good_until(fields["on"]) if "on" in fields else None,
    )


_YEARLY: Final = re.compile(r"(\d\d)-(\d\d)")


def good_until(text: str) -> date | tuple[int, int]:
    """A last good day as written in settings: one date, or a day of every year."""
    yearly = _YEARLY.fullmatch(text)
    return (int(yearly[1]), int(yearly[2])) if yearly else date.fromisoformat(text)


def _period(text: str | None) -> Period | None:
    return None if text is None else values.period(text)


def _window(fields: Mapping[str, Any]) -> Window:
    return Window(since=edge(fields.get("from")), until=edge(fields.get("until")))


def edge(text: str | None) -> date | datetime | None:
    """A day, an instant, or nothing, as written in settings."""
    if text is None:
        return None
    return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)


def _limits(fields: Mapping[str, Any]) -> tuple[Limit, ...]:
    return tuple(Limit(**limit) for limit in fields.get("limits", ()))


def _redeem(fields: Mapping[str, Any]) -> Redeem:
    return Redeem(
        points=fields["points"],
        gives=fields["gives"],
        step=fields.get("step", fields["points"]),
        minimum=fields.get("minimum", 0),
        maximum=fields.get("maximum"),
        share=values.exact(fields.get("share", 1)),
        limits=_limits(fields),
    )


def _reward(fields: Mapping[str, Any]) -> Reward:
    return Reward(
        name=fields["name"],
        cost=fields["cost"],
        stock=fields.get("stock", False),
        when=fields.get("when", ""),
        limits=_limits(fields),
        valid=_window(fields),
        gives=dict(fields.get("gives", {})),
    )


def _gift(fields: Mapping[str, Any]) -> Gift:
    return Gift(minimum=fields.get("minimum", 1), maximum=fields.get("maximum"), limits=_limits(fields))


# --- what a schema can say ---------------------------------------------------------------------------------------

_WINDOW: Final = {
    "type": "string",
    "regex": r"day|week|month|quarter|half|year|lifetime|P[1-9]\d{0,3}D",
    "meta": {"expected": '"day", "week", "month", "quarter", "half", "year", "lifetime" or days such as "P30D"'},
}
_CAP_WINDOW: Final = {
    "type": "string",
    "regex": r"event|budget|" + _WINDOW["regex"],  # type: ignore[operator]
    "meta": {"expected": 'a window such as "event", "day", "month", "P30D", "lifetime", or "budget" for all members together'},
}
_POSITIVE: Final = {"type": "integer", "min": 1, "max": 10**12}
_COUNT: Final = {"type": "integer", "min": 0, "max": 10**12}
_EDGE: Final = {"type": ["day", "instant"], "meta": {"expected": "a date, or a date and time with offset"}}
_EXPIRY: Final = {
    "policy": {"type": "string", "allowed": ["never", "rolling", "period_end", "fixed", "activity"]},
    "after": {"type": "period"},
    "end_of": {"type": "string", "allowed": ["month", "quarter", "half", "year"]},
    "on": {"type": ["string", "day"], "meta": {"expected": 'the last good day, "2026-12-31" or "12-31" for every year'}},
}
_PENDING: Final = {
    "days": {"type": "integer", "min": 0, "max": 3_650},
    "state": {"type": "string", "minlength": 1, "maxlength": 64},
}
_LIMITS: Final = {
    "type": "list",
    "maxlength": 8,
    "schema": {"type": "dict", "schema": {"window": {**_WINDOW, "required": True}, "points": _COUNT, "times": _COUNT}},
}


_RULE: Final = {"type": "rule"}
_EARN: Final = {
    "name": {"type": "id", "required": True},
    "summary": {"type": "text"},
    "kind": {"type": "string", "allowed": ["grant", "multiply", "bonus", "cap"]},
    "on": {"type": "name"},
    "unit": {"type": "unit"},
    "when": _RULE,
    "lines": _RULE,
    "each": {"type": "string", "allowed": ["order", "line"]},
    "points": _COUNT,
    "per": _POSITIVE,
    "value": _RULE,
    "bands": {
        "type": "list",
        "minlength": 1,
        "maxlength": 32,
        "schema": {
            "type": "dict",
            "schema": {
                "from": {**_COUNT, "required": True},
                "points": {**_COUNT, "required": True},
                "per": {**_POSITIVE, "required": True},
            },
        },
    },
    "over": _WINDOW,
    "factor": {"type": "exact"},
    "compound": {"type": "boolean"},
    "of": {"type": "list", "minlength": 1, "schema": {"type": "name"}},
    "limit": _COUNT,
    "window": _CAP_WINDOW,
    "whole": {"type": "boolean"},
    "group": {"type": "id"},
    "priority": {"type": "integer", "min": -1_000_000, "max": 1_000_000},
    "exclusive": {"type": "boolean"},
    "stop": {"type": "boolean"},
    "to": {"type": "id"},
    "reversible": {"type": "boolean"},
    "from": _EDGE,
    "until": _EDGE,
    "expiry": {"type": "dict", "schema": _EXPIRY},
    "pending": {"type": "dict", "schema": _PENDING},
}

#: The Cerberus schema of ``[plugins.points]``.
SCHEMA: Final[Mapping[str, Any]] = {
    "unit": {"type": "unit", "meta": {"doc": "the ledger unit the rules grant"}},
    "basis": {
        "type": "dict",
        "schema": {
            "discounts": {"type": "string", "allowed": ["net", "gross"]},
            "tax": {"type": "string", "allowed": ["included", "excluded"]},
            "shipping": {"type": "string", "allowed": ["excluded", "included"]},
            "points": {"type": "string", "allowed": ["net", "gross", "none"]},
        },
    },
    "expiry": {"type": "dict", "schema": {**_EXPIRY, "activity": {"type": "list", "schema": {"type": "name"}}}},
    "pending": {"type": "dict", "schema": _PENDING},
    "earn": {"type": "list", "maxlength": 2_000, "schema": {"type": "dict", "schema": _EARN}},
    "groups": {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": "string", "allowed": ["best", "all"]}},
    "counters": {
        "type": "dict",
        "keysrules": {"type": "id"},
        "valuesrules": {
            "type": "dict",
            "schema": {
                "window": {**_WINDOW, "required": True},
                "on": {"type": "name"},
                "when": _RULE,
                "value": _RULE,
                "of": {"type": "name", "excludes": ["value", "when", "on"]},
            },
        },
    },
    "redeem": {
        "type": "dict",
        "schema": {
            "points": {**_POSITIVE, "required": True},
            "gives": {**_POSITIVE, "required": True},
            "step": _POSITIVE,
            "minimum": _COUNT,
            "maximum": _POSITIVE,
            "share": {"type": "exact"},
            "limits": _LIMITS,
        },
    },
    "rewards": {
        "type": "list",
        "maxlength": 1_000,
        "schema": {
            "type": "dict",
            "schema": {
                "name": {"type": "id", "required": True},
                "summary": {"type": "text"},
                "cost": {**_POSITIVE, "required": True},
                "stock": {"type": "boolean"},
                "when": _RULE,
                "limits": _LIMITS,
                "from": _EDGE,
                "until": _EDGE,
                "gives": {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": ["string", "integer", "boolean"]}},
            },
        },
    },
    "gift": {"type": "dict", "schema": {"minimum": _POSITIVE, "maximum": _POSITIVE, "limits": _LIMITS}},
    "adjust": {"type": "dict", "schema": {"approve_above": _COUNT}},
    "refund": {"type": "dict", "schema": {"keep_after": {"type": "period"}}},
    "remind": {"type": "dict", "schema": {"days": {"type": "integer", "min": 0, "max": 365}}},
}
