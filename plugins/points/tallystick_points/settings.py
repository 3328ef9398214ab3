"""What a merchant can set, how it is checked, and the frozen objects that the rules read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from fractions import Fraction
from typing import Any, Final, Literal

import msgspec

from tallystick import values
from tallystick.values import Period

Kind = Literal["grant", "multiply", "bonus", "cap"]
PURCHASE: Final = "purchase.completed"


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """Which money earns.  See :mod:`tallystick_points.basis`."""

    discounts: Literal["net", "gross"] = "net"  #: whether promotional discounts reduce it
    tax: Literal["included", "excluded"] = "included"
    shipping: Literal["excluded", "included"] = "excluded"  #: lines of kind shipping and fee
    points: Literal["net", "gross", "none"] = (
        "net"  #: paid with points: reduces it, does not, or the order earns nothing
    )


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    """How long a lot lives, in days of the programme's zone."""

    policy: Literal["never", "rolling", "period_end", "fixed", "activity"] = "never"
    after: Period | None = None
    end_of: Literal["", "month", "quarter", "half", "year"] = ""
    on: date | tuple[int, int] | None = None  #: the last good day, or (month, day) of every year


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """When a lot becomes usable: at once, some days later, or when its order reaches a state."""

    days: int = 0
    state: str = ""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """From when until when a rule holds: days are both included, instants are [from, to)."""

    since: date | datetime | None = None
    until: date | datetime | None = None

    def holds(self, at: datetime, day: date) -> bool:
        """Whether it holds at the instant *at*, which falls on the local *day*."""
        since, until = self.since, self.until
        if since is not None and (at < since if isinstance(since, datetime) else day < since):
            return False
        return until is None or (at < until if isinstance(until, datetime) else day <= until)


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """From *start* minor units on, *points* for every *per* minor units."""

    start: int
    points: int
    per: int


class Earn(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[earn]]`` table."""

    name: str
    kind: Kind = "grant"
    on: str = PURCHASE  #: the kind of event it is about
    unit: str = "points"
    when: str = ""  #: condition, a text of the rule language
    lines: str = ""  #: condition on each line
    each: Literal["order", "line"] = (
        "order"  #: whether the amount is worked out (and rounded down) once or line by line
    )
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


class Counter(msgspec.Struct, frozen=True, kw_only=True):
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


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """How often, or for how many points, a member may do something in a window."""

    window: str
    points: int | None = None
    times: int | None = None


class Redeem(msgspec.Struct, frozen=True, kw_only=True):
    """Paying with points."""

    points: int = 100
    gives: int = 100  #: minor units for that many points
    step: int = 100  #: points are spent in multiples of it
    minimum: int = 0
    maximum: int | None = None
    share: Fraction = Fraction(1)  #: the part of an order that points may pay
    limits: tuple[Limit, ...] = ()


class Reward(msgspec.Struct, frozen=True, kw_only=True):
    """Something of the catalogue."""

    name: str
    cost: int
    stock: bool = False  #: whether pieces are counted; put them on the shelf with `points.restocked`
    when: str = ""
    limits: tuple[Limit, ...] = ()
    valid: Window = Window()
    gives: Mapping[str, Any] = {}


class Gift(msgspec.Struct, frozen=True, kw_only=True):
    """Giving points to another member."""

    minimum: int = 1
    maximum: int | None = None
    limits: tuple[Limit, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
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


def _says(doc: str, rules: Mapping[str, Any], expected: str = "") -> dict[str, Any]:
    """A key of the schema with what it means, for the reference and for forms."""
    meta = {**rules.get("meta", {}), "doc": doc}
    return {**rules, "meta": {**meta, "expected": expected} if expected else meta}


def _list(items: Mapping[str, Any], **rules: Any) -> dict[str, Any]:
    return {"type": "list", "schema": dict(items), **rules}


def _table(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "dict", "schema": dict(fields)}


def _choice(*allowed: str) -> dict[str, Any]:
    return {"type": "string", "allowed": list(allowed)}


_WINDOWS: Final = r"day|week|month|quarter|half|year|lifetime|P[1-9]\d{0,3}D"
_WINDOW: Final = {
    "type": "string",
    "regex": _WINDOWS,
    "meta": {"expected": '"day", "week", "month", "quarter", "half", "year", "lifetime" or days such as "P30D"'},
}
_CAP_WINDOW: Final = {
    "type": "string",
    "regex": f"event|budget|{_WINDOWS}",
    "meta": {"expected": 'a window such as "event", "day", "month", "P30D" or "lifetime", or "budget"'},
}
_POSITIVE: Final = {"type": "integer", "min": 1, "max": 10**12}
_COUNT: Final = {"type": "integer", "min": 0, "max": 10**12}
_NAME: Final = {"type": "id", "required": True}
_FLAG: Final = {"type": "boolean"}
_RULE: Final = {"type": "rule"}
_EDGE: Final = {"type": ["day", "instant"], "meta": {"expected": "a date, or a date and time with offset"}}
_FROM: Final = _says("From when on it holds: a date is included, an instant as well.", _EDGE)
_UNTIL: Final = _says("Until when it holds: a date is included, an instant is not.", _EDGE)
_ON: Final = {"type": ["string", "day"], "meta": {"expected": 'a date such as "2026-12-31", or "12-31" for every year'}}
_EXPIRY: Final = {
    "policy": _says(
        "`never` (the default); `rolling`: after a length of time; `period_end`: at the end of a month, quarter, half or year; "
        "`fixed`: on a day; `activity`: after a length of time in which the member did nothing.",
        _choice("never", "rolling", "period_end", "fixed", "activity"),
    ),
    "after": _says(
        "How long points live, in calendar days or months; months end on the last day where a day is missing.",
        {"type": "period"},
    ),
    "end_of": _says("Points live until the end of that period.", _choice("month", "quarter", "half", "year")),
    "on": _says("The last day on which points can be used.", _ON),
}
_PENDING: Final = {
    "days": _says(
        "Points become usable so many days after they were earned, at midnight.",
        {"type": "integer", "min": 0, "max": 3_650},
    ),
    "state": _says(
        "Points become usable when `order.advanced` says that the order reached this state; with `days` not before these are over.",
        {"type": "string", "minlength": 1, "maxlength": 64},
    ),
}
_LIMITS: Final = _says(
    "What each member may in a window of local days.",
    _list(
        _table(
            {
                "window": _says("The window.", {**_WINDOW, "required": True}),
                "points": _says("So many points.", _COUNT),
                "times": _says("So many times; of a reward, so many pieces.", _COUNT),
            }
        ),
        maxlength=8,
    ),
)
_BANDS: Final = _list(
    _table(
        {
            "from": _says(
                "Where the band begins, in minor units; the first begins at 0.", {**_COUNT, "required": True}
            ),
            "points": _says("Points for every `per` minor units within the band.", {**_COUNT, "required": True}),
            "per": _says("Minor units.", {**_POSITIVE, "required": True}),
        }
    ),
    minlength=1,
    maxlength=32,
)
_EARN: Final = {
    "name": _says("The rule's name: receipts and explanations show `points.<name>`.", _NAME),
    "summary": _says("What the rule is for, in words.", {"type": "text"}),
    "kind": _says(
        "`grant` (the default): points that multipliers scale; `bonus`: flat points that nothing scales; `multiply`: scales grants; "
        "`cap`: limits gains.",
        _choice("grant", "multiply", "bonus", "cap"),
    ),
    "on": _says("The kind of event the rule is about. By default `purchase.completed`.", {"type": "name"}),
    "unit": _says("What is granted. By default the programme's unit.", {"type": "unit"}),
    "when": _says("A condition in the rule language. By default the rule always applies.", _RULE),
    "lines": _says(
        "A condition on each `line`: only these lines count, and the rule fires only if there are any.", _RULE
    ),
    "each": _says(
        "`order` (the default): one amount, rounded down once; `line`: one amount for each line.",
        _choice("order", "line"),
    ),
    "points": _says(
        "How many points, in the unit's smallest part: for every `per` of money, or once if there is no `per`.", _COUNT
    ),
    "per": _says("Minor units (cents) of the programme's currency.", _POSITIVE),
    "value": _says(
        "The amount as an expression of the rule language; `eligible` is what the order counts for, `basis` what the lines do, "
        "`line` the line if `each` is `line`.",
        _RULE,
    ),
    "bands": _says("Progressive bands: each part of the money earns by the band it falls into.", _BANDS),
    "over": _says(
        "The window over which a member's money climbs the bands. By default every order begins at 0.", _WINDOW
    ),
    "factor": _says("What a `multiply` scales by. Gains add up: 2 and 3 make 4; 0 wins.", {"type": "exact"}),
    "compound": _says("Multiply with other compound factors instead of adding gains.", _FLAG),
    "of": _says(
        "The rules that are scaled or capped. By default all of the unit.", _list({"type": "name"}, minlength=1)
    ),
    "limit": _says("What a `cap` lets through.", _COUNT),
    "window": _says(
        'The window of a cap: "event" (the default), a window per member, or "budget" for all members together.',
        _CAP_WINDOW,
    ),
    "whole": _says("Whether a gain that does not fit under the cap is refused whole instead of cut.", _FLAG),
    "group": _says("The group in which `exclusive` and `stop` count.", {"type": "id"}),
    "priority": _says(
        "Among exclusive rules of a group the highest priority wins.",
        {"type": "integer", "min": -1_000_000, "max": 1_000_000},
    ),
    "exclusive": _says("Displace the other rules of the group.", _FLAG),
    "stop": _says("If this rule fires, later rules of the group do not count.", _FLAG),
    "to": _says(
        "A field of the event that names another member, who gets the points: `invited_by` of `member.enrolled`.",
        {"type": "id"},
    ),
    "reversible": _says("Whether a return takes the points back. By default it does.", _FLAG),
    "from": _FROM,
    "until": _UNTIL,
    "expiry": _says("Another expiry than the programme's.", _table(_EXPIRY)),
    "pending": _says("Another wait than the programme's.", _table(_PENDING)),
}
_COUNTER: Final = {
    "window": _says("The window in which it counts, in local days.", {**_WINDOW, "required": True}),
    "on": _says("The kind of event it counts. By default `purchase.completed`.", {"type": "name"}),
    "when": _says("Which of these events.", _RULE),
    "value": _says(
        "How much each adds. By default 1; anything else is taken for money, of which a return subtracts its share.",
        _RULE,
    ),
    "of": _says("Read this counter of another plugin instead.", {"type": "name", "excludes": ["value", "when", "on"]}),
}
_GIVEN: Final = {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": ["string", "integer", "boolean"]}}
_REWARD: Final = {
    "name": _says("The reward's name in `points.redeemed`.", _NAME),
    "summary": _says("What it is, in words.", {"type": "text"}),
    "cost": _says("Points for one piece.", {**_POSITIVE, "required": True}),
    "stock": _says(
        "Whether pieces are counted. `points.restocked` puts them on the shelf; without any there are none.", _FLAG
    ),
    "when": _says("A condition in the rule language, about the member.", _RULE),
    "limits": _LIMITS,
    "from": _FROM,
    "until": _UNTIL,
    "gives": _says("What the till is told beside name and quantity.", _GIVEN),
}

#: The Cerberus schema of the plugin's settings.
SCHEMA: Final[Mapping[str, Any]] = {
    "unit": _says("The unit of the ledger that is earned and spent. By default `points`.", {"type": "unit"}),
    "basis": _says(
        "Which money earns.",
        _table(
            {
                "discounts": _says(
                    "Whether promotional discounts reduce it: `net` (the default) or `gross`. A discount on the whole order does not "
                    "touch rules about lines.",
                    _choice("net", "gross"),
                ),
                "tax": _says(
                    "Whether the tax in the prices counts: `included` (the default) or `excluded`.",
                    _choice("included", "excluded"),
                ),
                "shipping": _says(
                    "Whether lines of kind shipping and fee count: `excluded` (the default) or `included`.",
                    _choice("excluded", "included"),
                ),
                "points": _says(
                    "What was paid with points: `net` (the default) does not earn again, `gross` does, `none`: such an order earns nothing.",
                    _choice("net", "gross", "none"),
                ),
            }
        ),
    ),
    "expiry": _says(
        "How long points live, in days of the programme's zone.",
        _table(
            {
                **_EXPIRY,
                "activity": _says(
                    "The kinds of events that are activity. By default `purchase.completed` and `points.redeemed`.",
                    _list({"type": "name"}),
                ),
            }
        ),
    ),
    "pending": _says("When points become usable. By default at once.", _table(_PENDING)),
    "earn": _says("The earn rules.", _list(_table(_EARN), maxlength=2_000)),
    "groups": _says(
        "Groups of which only the `best` rule counts, for each member; of others `all` do.",
        {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": _choice("best", "all")},
    ),
    "counters": _says(
        "Numbers per member that rules may name as `counter.NAME`.",
        {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": _table(_COUNTER)},
    ),
    "redeem": _says(
        "Paying with points. Without it the programme does not take points as payment.",
        _table(
            {
                "points": _says("So many points ...", {**_POSITIVE, "required": True}),
                "gives": _says(
                    "... are worth so many minor units of the programme's currency.", {**_POSITIVE, "required": True}
                ),
                "step": _says("Points are spent in multiples of it. By default those of `points`.", _POSITIVE),
                "minimum": _says("Fewer than that are not spent at all.", _COUNT),
                "maximum": _says("More than that are not spent at once.", _POSITIVE),
                "share": _says(
                    'The part of an order that points may pay, such as "0.5". By default all of it.', {"type": "exact"}
                ),
                "limits": _LIMITS,
            }
        ),
    ),
    "rewards": _says("The catalogue.", _list(_table(_REWARD), maxlength=1_000)),
    "gift": _says(
        "Giving points to another member. Without it members cannot.",
        _table(
            {
                "minimum": _says("The smallest gift. By default 1.", _POSITIVE),
                "maximum": _says("The largest gift.", _POSITIVE),
                "limits": _LIMITS,
            }
        ),
    ),
    "adjust": _says(
        "Giving and taking by hand.",
        _table({"approve_above": _says("Larger adjustments need a second person, in `approved_by`.", _COUNT)}),
    ),
    "refund": _says(
        "What comes back.",
        _table({"keep_after": _says("Orders returned later than this keep their points.", {"type": "period"})}),
    ),
    "remind": _says(
        "Reminders of points that expire.",
        _table(
            {"days": _says("How many days before. By default 30; 0: never.", {"type": "integer", "min": 0, "max": 365})}
        ),
    ),
}
