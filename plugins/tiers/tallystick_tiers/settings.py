"""What a merchant can set, and the frozen objects that the rules read."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final, Literal

import attrs

from tallystick import values
from tallystick.values import Period

PURCHASE: Final = "purchase.completed"
#: Windows in which the count begins anew: calendar periods, the year from enrolment on, and from one review to the next.
PERIODS: Final = ("month", "quarter", "half", "year", "anniversary", "review")
Measure = Literal["spend", "visits", "months", "gains", "counter"]


@attrs.frozen(kw_only=True)
class Metric:
    """Something that is counted of a member."""

    name: str
    measure: Measure = "spend"
    on: tuple[str, ...] = (PURCHASE,)  #: the kinds of events at which it is counted
    when: str = ""  #: which of these events, a text of the rule language
    lines: str = ""  #: of `spend`: which lines, a text of the rule language
    value: str = ""  #: of `visits`: what one counts for, a text of the rule language
    unit: str = ""  #: of `gains`: the unit of the ledger
    counter: str = ""  #: of `counter`: the counter of another plugin


@attrs.frozen(kw_only=True)
class Tier:
    """One step of a ladder."""

    name: str
    summary: values.Text
    at: int | None = None  #: reached from here on
    keep: int | None = None  #: kept from here on; `at` if absent
    when: str = ""  #: and only if this holds
    keep_when: str = ""  #: the same for keeping it; `when` if absent
    multiplier: Fraction | None = None  #: what its members gain is scaled by it
    bonus: int = 0  #: given when the tier is reached
    membership: Period | None = None  #: how long a paid membership lasts
    sku: str = ""  #: buying this article is buying a membership
    benefits: Mapping[str, Any] = {}

    @property
    def gives(self) -> dict[str, Any]:
        """The declared benefits, and the multiplier if there is one."""
        multiplier = {"multiplier": written(self.multiplier)} if self.multiplier is not None else {}
        return {**multiplier, **self.benefits}


def written(factor: Fraction) -> str:
    """A factor as people write it.

    >>> written(Fraction(5, 4)), written(Fraction(2)), written(Fraction(1, 3))
    ('1.25', '2', '1/3')
    """
    decimal = Decimal(factor.numerator) / factor.denominator
    return str(decimal) if Fraction(decimal) == factor else str(factor)


@attrs.frozen(kw_only=True)
class Ladder:
    """Tiers from the lowest to the highest, and how one moves between them."""

    name: str
    summary: values.Text
    metrics: tuple[Metric, ...]
    by: str  #: the metric that `at` and `keep` are about
    tiers: tuple[Tier, ...]
    window: str = "lifetime"
    review: Period | None = None  #: how often is looked, where the window does not say it
    upgrade: Literal["at_once", "at_review"] = "at_once"
    downgrade: Literal["never", "at_once", "at_review"] = "at_review"
    soft_landing: bool = False  #: one step down at a time
    valid: Literal["next_period", "period"] = "next_period"
    grace_days: int = 0
    returns: Literal["at_once", "policy"] = "at_once"
    includes_current: bool = False
    unit: str = "points"  #: what multipliers scale and bonuses give
    bonus_valid: Period | None = None  #: how long what a bonus gives can be used; None: for ever
    near: Fraction = Fraction(4, 5)  #: share of the next threshold at which members are told; 0: never
    warn_days: int = 30  #: how long before a review members hear that they may fall; 0: never

    @property
    def periodic(self) -> bool:
        """Whether the count begins anew with each period."""
        return self.window in PERIODS

    @property
    def rolling(self) -> bool:
        """Whether the count looks back over so many days."""
        return self.window not in PERIODS and self.window != "lifetime"


@attrs.frozen(kw_only=True)
class Settings:
    """The plugin as one merchant has set it up."""

    ladders: tuple[Ladder, ...] = ()

    @property
    def declared(self) -> Mapping[str, Any]:
        """What every plugin may read as ``programme.declared["tiers"]``: under ``benefits``, by ladder and tier, what each gives."""
        found = {
            ladder.name: MappingProxyType({tier.name: MappingProxyType(tier.gives) for tier in ladder.tiers})
            for ladder in self.ladders
        }
        return MappingProxyType({"benefits": MappingProxyType(found)})


def read(document: Mapping[str, Any]) -> Settings:
    """Make the frozen settings of a document that :data:`SCHEMA` and the check have accepted."""
    return Settings(ladders=tuple(_ladder(ladder) for ladder in document.get("ladders", ())))


def _ladder(fields: Mapping[str, Any]) -> Ladder:
    given = fields.get("metrics") or {"spend": {}}
    metrics = tuple(
        Metric(name=name, **{**metric, "on": tuple(metric.get("on", (PURCHASE,)))}) for name, metric in given.items()
    )
    more = {
        key: fields[key]
        for key in ("name", "window", "upgrade", "downgrade", "soft_landing", "valid", "grace_days", "includes_current", "unit", "warn_days")
        if key in fields
    }  # fmt: skip
    downgrade = fields.get("downgrade", "at_review")
    window = fields.get("window", "lifetime")
    review = values.period(fields["review"]) if "review" in fields else None
    if review is None and window not in PERIODS and window != "lifetime":
        review = values.period(window)  # what looks back over a year is looked at once a year
    return Ladder(
        **more,
        summary=values.text(fields.get("summary", fields["name"])),
        metrics=metrics,
        by=fields.get("by", metrics[0].name),
        tiers=tuple(_tier(tier, place) for place, tier in enumerate(fields["tiers"])),
        review=review,
        bonus_valid=values.period(fields["bonus_valid"]) if "bonus_valid" in fields else None,
        returns=fields.get("returns", "policy" if downgrade == "never" else "at_once"),
        near=values.exact(fields.get("near", "0.8")),
    )


def _tier(fields: Mapping[str, Any], place: int) -> Tier:
    more = {key: fields[key] for key in ("name", "at", "keep", "when", "keep_when", "bonus", "sku") if key in fields}
    if place == 0:
        more["at"] = 0
    return Tier(
        **more,
        summary=values.text(fields.get("summary", fields["name"])),
        multiplier=values.exact(fields["multiplier"]) if "multiplier" in fields else None,
        membership=values.period(fields["membership"]) if "membership" in fields else None,
        benefits=dict(fields.get("benefits", {})),
    )


# --- what may be written ---------------------------------------------------------------------------------------------


def _says(meaning: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    return {**rule, "meta": {**rule.get("meta", {}), "doc": meaning}}


def _table(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "dict", "schema": dict(fields)}


def _choice(*values_: str) -> dict[str, Any]:
    return {"type": "string", "allowed": list(values_)}


_COUNT: Final = {"type": "integer", "min": 0, "max": 10**12}
_FLAG: Final = {"type": "boolean"}
_RULE: Final = {"type": "rule"}
_ID: Final = {"type": "id", "required": True}
_WINDOW: Final = {
    "type": "string",
    "regex": f"({'|'.join(PERIODS)}|lifetime|P[1-9][0-9]{{0,3}}D)",
    "meta": {"expected": f"one of {', '.join(PERIODS)}, lifetime, or P<n>D for the last n days"},
}

_METRIC: Final = {
    "measure": _says(
        "`spend` (the default): money of the lines that count, after discounts; `visits`: events; `months`: months with such an "
        "event; `gains`: what is gained of a unit of the ledger; `counter`: a counter of another plugin.",
        _choice("spend", "visits", "months", "gains", "counter"),
    ),
    "on": _says(
        "The kinds of events at which it is counted. By default `purchase.completed`.",
        {"type": "list", "schema": {"type": "name"}, "minlength": 1, "maxlength": 32},
    ),
    "when": _says("Which of these events, in the rule language. By default all.", _RULE),
    "lines": _says("Of `spend`: which lines count, in the rule language. By default all goods.", _RULE),
    "value": _says("Of `visits`: what one event counts for, in the rule language. By default 1.", _RULE),
    "unit": _says("Of `gains`: the unit of the ledger, for example tier credit.", {"type": "unit"}),
    "counter": _says("Of `counter`: its name, such as `points.coffees`.", {"type": "name"}),
}
_BENEFITS: Final = {
    "type": "dict",
    "keysrules": {"type": "id"},
    "valuesrules": {"type": ["string", "integer", "boolean"]},
}
_TIER: Final = {
    "name": _says("The tier's name, as rules read it in `member.tiers`.", _ID),
    "summary": _says("What members call it.", {"type": "text"}),
    "at": _says(
        "Reached with that much of the metric `by` or more: money in minor units, all else as counted. The first tier is at 0.",
        _COUNT,
    ),
    "keep": _says("Kept with that much. By default what `at` says.", _COUNT),
    "when": _says("A condition on `metric.NAME` and `member` that must hold as well, or instead of `at`.", _RULE),
    "keep_when": _says("The condition for keeping the tier. By default `when`.", _RULE),
    "multiplier": _says("What members of the tier gain on purchases is scaled by it.", {"type": "exact"}),
    "bonus": _says("Given once when the tier is reached, in the smallest part of `unit`.", _COUNT),
    "membership": _says("The tier can be joined for that long, whatever was counted.", {"type": "period"}),
    "sku": _says("Buying this article is joining.", {"type": "string", "minlength": 1, "maxlength": 128}),
    "benefits": _says("What else its members have, for tills, apps and rules to read.", _BENEFITS),
}
_LADDER: Final = {
    "name": _says("The ladder's name, as rules read it in `member.tiers`.", _ID),
    "summary": _says("What members call it.", {"type": "text"}),
    "metrics": _says(
        "What is counted, by name. By default `spend`: all money spent on goods.",
        {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": _table(_METRIC), "minlength": 1, "maxlength": 16},
    ),
    "by": _says("The metric that `at` and `keep` are about. By default the first.", {"type": "id"}),
    "tiers": _says(
        "The tiers, from the lowest to the highest.",
        {"type": "list", "schema": _table(_TIER), "required": True, "minlength": 2, "maxlength": 32},
    ),
    "window": _says(
        "What counts: `lifetime` (the default), the current `month`, `quarter`, `half` or `year`, the year since the `anniversary` of "
        "joining, what came since the last `review`, or the last days, as `P365D`.",
        _WINDOW,
    ),
    "review": _says(
        "How often is looked whether a tier is kept, for windows that do not say it. By default the length of a window of days; of "
        "`lifetime` never.",
        {"type": "period"},
    ),
    "upgrade": _says("`at_once` (the default), or `at_review`.", _choice("at_once", "at_review")),
    "downgrade": _says(
        "`at_review` (the default): judged by what the period came to; `at_once`: when what counts no longer suffices; `never`.",
        _choice("never", "at_once", "at_review"),
    ),
    "soft_landing": _says("Whether one falls one step at a time.", _FLAG),
    "valid": _says(
        "How long a tier reached in a period holds: until the end of the `next_period` (the default) or of the `period`.",
        _choice("next_period", "period"),
    ),
    "grace_days": _says("So many days after a review the tier is still held, and can be saved.", {"type": "integer", "min": 0, "max": 366}),
    "returns": _says(
        "When what lifted a member is returned: fall back `at_once` (the default, unless `downgrade` is `never`), or by `policy`, as "
        "`downgrade` says.",
        _choice("at_once", "policy"),
    ),
    "includes_current": _says("Whether a purchase that reaches a tier is multiplied by that tier already.", _FLAG),
    "unit": _says("What multipliers scale and bonuses give. By default `points`.", {"type": "unit"}),
    "bonus_valid": _says("How long what a bonus gives can be used. By default for ever.", {"type": "period"}),
    "near": _says('Members hear how little is missing from that share of the next threshold on. By default "0.8"; "0": never.', {"type": "exact"}),
    "warn_days": _says(
        "So many days before a review members hear that they may fall. By default 30; 0: never.", {"type": "integer", "min": 0, "max": 366}
    ),
}  # fmt: skip

#: The Cerberus schema of the plugin's settings.
SCHEMA: Final[Mapping[str, Any]] = {
    "ladders": _says("The ladders.", {"type": "list", "schema": _table(_LADDER), "maxlength": 16}),
}
