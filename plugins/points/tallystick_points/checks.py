"""Mistakes in a merchant's settings that a schema cannot see, rules included; each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any

from tallystick import values
from tallystick.errands import Context
from tallystick.errors import InvalidRule
from tallystick.events import CORE_KINDS
from tallystick.rules import check_rules

from .earning import kinds_of, texts_of
from .scope import PLACES, scope_for
from .settings import PURCHASE, Settings, edge, good_until, read
from .spending import REDEEMED, reward_texts
from .terms import ever_usable

Path = tuple[str | int, ...]
Said = tuple[Path, str | InvalidRule]


#: Rules and counters of the plugin itself; a merchant's would be taken for them.
OWN_RULES = frozenset(("activity", "adjust", "gift", "redeem", "refund", "remind", "restock", "reward"))
OWN_COUNTERS = frozenset(("gifted", "gifted_times", "redeemed", "redeemed_times"))
OWN_KINDS = frozenset(("points.redeemed", "points.gifted", "points.adjusted", "points.restocked", "points.expiring"))
CORE = frozenset(kind.name for kind in CORE_KINDS)


def check(document: Mapping[str, Any], context: Context) -> list[Said]:
    """What is wrong with a document that fits the schema: where, and what was expected.  Rules come last, if all else is right."""
    found = [*_check(document), *_check_kinds(document, context)]
    return found or [*_check_waits(read(document)), *_check_rules(document, context)]


def _check(document: Mapping[str, Any]) -> Iterator[Said]:
    yield from _check_expiry(("expiry",), document.get("expiry", {}), activity=True)
    names: set[str] = set()
    rules = document.get("earn", ())
    known = {rule["name"] for rule in rules}
    for place, rule in enumerate(rules):
        path: Path = ("earn", place)
        if rule["name"] in names:
            yield (*path, "name"), f'found "{rule["name"]}" twice; expected a name of its own'
        names.add(rule["name"])
        if rule["name"] in OWN_RULES:
            yield (
                (*path, "name"),
                f'found "{rule["name"]}"; expected another name: the plugin has a rule of its own under this one',
            )
        yield from _check_earn(path, rule, known)
    if "redeem" in document:
        redeem = document["redeem"]
        if values.exact(redeem.get("share", 1)) > 1 or values.exact(redeem.get("share", 1)) <= 0:
            yield ("redeem", "share"), f"found {redeem['share']!r}; expected a part of the order, above 0 and at most 1"
        if redeem.get("step", redeem["points"]) * redeem["gives"] % redeem["points"]:
            yield ("redeem", "step"), f"found {redeem['step']}; expected a step that is worth whole minor units"
        yield from _check_limits(("redeem",), redeem)
    for name in document.get("counters", {}):
        if name in OWN_COUNTERS:
            yield (
                ("counters", name),
                f'found "{name}"; expected another name: the plugin has a counter of its own under this one',
            )
    rewards: set[str] = set()
    for place, reward in enumerate(document.get("rewards", ())):
        if reward["name"] in rewards:
            yield ("rewards", place, "name"), f'found "{reward["name"]}" twice; expected a name of its own'
        rewards.add(reward["name"])
        yield from _check_limits(("rewards", place), reward)
        yield from _check_window(("rewards", place), reward)
    yield from _check_limits(("gift",), document.get("gift", {}))


def _check_kinds(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    """A rule about a kind of event that nobody can send would never fire."""
    rules = [(("earn", place), rule) for place, rule in enumerate(document.get("earn", ()))]
    counters = [(("counters", name), counter) for name, counter in document.get("counters", {}).items()]
    for path, fields in [*rules, *counters]:
        kind = fields.get("on", PURCHASE)
        plugin = kind.partition(".")[0]
        if kind in CORE or kind in OWN_KINDS or (plugin in context.plugins and plugin != "points"):
            continue
        close = get_close_matches(kind, CORE | OWN_KINDS, 1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        yield (*path, "on"), f'found "{kind}"; expected a kind of event that this tenant knows{hint}'


def _check_waits(settings: Settings) -> Iterator[Said]:
    """Points that wait longer than they live would never be anybody's."""
    said = "found a wait that is longer than the points live; expected points that can be used one day"
    if not ever_usable(settings.expiry, settings.pending):
        yield ("pending",), said
    for rule in settings.earn:
        if (rule.expiry or rule.pending) and not ever_usable(
            rule.expiry or settings.expiry, rule.pending or settings.pending
        ):
            yield ("earn", rule.order, "pending" if rule.pending else "expiry"), said


def _check_rules(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    """Every rule text, parsed and type-checked as it will be compiled."""
    settings = read(document)
    earn = {rule.name: place for place, rule in enumerate(settings.earn)}
    rewards = {reward.name: place for place, reward in enumerate(settings.rewards)}
    for kind in kinds_of(settings):
        for problem in check_rules(
            texts_of(kind, settings), scope_for(kind, settings, context.units, context.zone), places=PLACES
        ):
            name, part = problem.details["rule"], problem.details["part"]
            if name.startswith("counter."):
                yield ("counters", name.removeprefix("counter."), part), problem
                continue
            written = document["earn"][earn[name]]
            # what a line-by-line rule is worth is compiled as the basis of each line
            key = part if part in written else "value" if "value" in written else None
            yield ("earn", earn[name], key) if key else ("earn", earn[name]), problem
    for problem in check_rules(
        reward_texts(settings), scope_for(REDEEMED, settings, context.units, context.zone), places=PLACES
    ):
        yield ("rewards", rewards[problem.details["rule"]], problem.details["part"]), problem


def _check_earn(path: Path, rule: Mapping[str, Any], known: set[str]) -> Iterator[Said]:
    yield from _check_amount(path, rule)
    yield from _check_company(path, rule)
    for place, name in enumerate(rule.get("of", ())):
        if "." not in name and name not in known:
            yield (*path, "of", place), f'found "{name}"; expected the name of an earn rule'
    yield from _check_bands((*path, "bands"), rule.get("bands", ()))
    yield from _check_window(path, rule)
    yield from _check_expiry((*path, "expiry"), rule.get("expiry", {}), activity=False)
    if {"days", "state"} <= set(rule.get("pending", {})):
        yield (*path, "pending"), 'found "days" and "state"; expected one of them'


def _check_amount(path: Path, rule: Mapping[str, Any]) -> Iterator[Said]:
    kind = rule.get("kind", "grant")
    amounts = [key for key in ("points", "value", "bands") if key in rule]
    if kind in ("grant", "bonus") and len(amounts) != 1:
        found = " and ".join(amounts) or "none of them"
        yield path, f'a rule of kind "{kind}" says how much: found {found}; expected one of "points", "value", "bands"'
    elif kind == "multiply" and "factor" not in rule:
        yield path, '"factor" is missing; expected an exact number in quotes such as "1.5" or "1/3"'
    elif kind == "multiply" and values.exact(rule["factor"]) < 0:
        yield (*path, "factor"), f"found {rule['factor']!r}; expected at least 0"
    elif kind == "cap" and "limit" not in rule:
        yield path, '"limit" is missing; expected a whole number of the smallest unit'


def _check_company(path: Path, rule: Mapping[str, Any]) -> Iterator[Said]:
    """Keys that do not go together."""
    kind = rule.get("kind", "grant")
    for key in _STRANGERS[kind]:
        if key in rule:
            yield (*path, key), f'"{key}" does not go together with kind = "{kind}"{_BECAUSE.get((kind, key), "")}'
    if rule.get("on", PURCHASE) != PURCHASE:
        for key in ("lines", "per", "bands", "each"):
            if key in rule:
                yield (*path, key), f'"{key}" needs on = "{PURCHASE}": only purchases have lines and amounts'
    for key, needed in (("per", "points"), ("over", "bands")):
        if key in rule and needed not in rule:
            yield (*path, key), f'"{key}" needs "{needed}" beside it'


_AMOUNT = ("points", "value", "bands", "per", "over", "each", "to", "expiry", "pending", "reversible")
_PLACE = ("group", "priority", "exclusive", "stop")
_FACTOR = ("factor", "compound")
_CAP = ("limit", "window", "whole")
#: Keys that say nothing in a rule of a kind.
_STRANGERS: Mapping[str, tuple[str, ...]] = {
    "grant": (*_FACTOR, *_CAP, "of"),
    "bonus": (*_FACTOR, *_CAP, "of", *_PLACE),
    "multiply": (*_AMOUNT, *_CAP, *_PLACE),
    "cap": (*_AMOUNT, *_FACTOR, *_PLACE, "lines"),
}
_BECAUSE = {("bonus", key): ": a bonus always stands" for key in _PLACE}


def _check_bands(path: Path, bands: Any) -> Iterator[Said]:
    starts = [band["from"] for band in bands]
    if starts and starts[0] != 0:
        yield (*path, 0, "from"), f"found {starts[0]}; expected the first band to begin at 0"
    for place in range(1, len(starts)):
        if starts[place] <= starts[place - 1]:
            yield (
                (*path, place, "from"),
                f"found {starts[place]}; expected more than {starts[place - 1]} of the band before",
            )


def _check_expiry(path: Path, fields: Mapping[str, Any], *, activity: bool) -> Iterator[Said]:
    policy = fields.get("policy", "never")
    wanted = {"never": (), "rolling": ("after",), "period_end": ("end_of",), "fixed": ("on",), "activity": ("after",)}[
        policy
    ]
    allowed = {
        "never": (), "rolling": ("after", "end_of"), "period_end": ("after", "end_of"), "fixed": ("after", "on"),
        "activity": ("after", "activity"),
    }[policy]  # fmt: skip
    for key in wanted:
        if key not in fields:
            yield path, f'policy = "{policy}" needs "{key}" beside it'
    for key in fields:
        if key != "policy" and key not in allowed:
            yield (*path, key), f'"{key}" does not go together with policy = "{policy}"'
    if policy == "activity" and not activity:
        yield (*path, "policy"), 'found "activity"; expected it in [expiry] of the whole programme, not of one rule'
    if "on" in fields:
        try:
            on = good_until(fields["on"])
            if isinstance(on, tuple):
                date(2000, *on)
            elif "after" in fields:
                yield (
                    (*path, "after"),
                    '"after" goes together with a day of every year such as "12-31", not with one date',
                )
        except ValueError:
            yield (
                (*path, "on"),
                f'found "{fields["on"]}"; expected a date such as "2026-12-31", or "12-31" for every year',
            )


def _check_window(path: Path, fields: Mapping[str, Any]) -> Iterator[Said]:
    edges: dict[str, date | datetime] = {}
    for key in ("from", "until"):
        if key not in fields:
            continue
        try:
            found = edge(fields[key])
        except ValueError:
            found = None
        if found is None or (isinstance(found, datetime) and found.tzinfo is None):
            yield (*path, key), f'found "{fields[key]}"; expected a date, or a date and time with offset'
        else:
            edges[key] = found
    if len(edges) == 2:
        since, until = edges["from"], edges["until"]
        if isinstance(since, datetime) != isinstance(until, datetime):
            yield (*path, "until"), "found a date beside an instant; expected two dates or two instants"
        elif until < since or (until == since and isinstance(until, datetime)):
            yield (*path, "until"), f'found "{fields["until"]}"; expected it after "{fields["from"]}"'


def _check_limits(path: Path, fields: Mapping[str, Any]) -> Iterator[Said]:
    for place, limit in enumerate(fields.get("limits", ())):
        if "points" not in limit and "times" not in limit:
            yield (*path, "limits", place), 'a limit says how much: expected "points", "times" or both'
