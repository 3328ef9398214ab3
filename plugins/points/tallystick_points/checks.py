"""Mistakes in a merchant's settings that a schema cannot see, rules included; each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from tallystick import values
from tallystick.errors import InvalidRule
from tallystick.rules import check_rules

from .earning import texts_of
from .scope import PLACES, scope_for
from .settings import PURCHASE, edge, good_until, read
from .spending import REDEEMED, reward_texts

Path = tuple[str | int, ...]
Said = tuple[Path, str | InvalidRule]


class Context(Protocol):
    """What the settings are checked against: the tenant's zone and the units it has."""

    zone: ZoneInfo
    units: Mapping[str, Any]


def check(document: Mapping[str, Any], context: Context) -> list[Said]:
    """What is wrong with a document that fits the schema: where, and what was expected.  Rules come last, if all else is right."""
    return list(_check(document)) or list(_check_rules(document, context))


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
        yield from _check_earn(path, rule, known)
    if "redeem" in document:
        redeem = document["redeem"]
        if values.exact(redeem.get("share", 1)) > 1 or values.exact(redeem.get("share", 1)) <= 0:
            yield ("redeem", "share"), f"found {redeem['share']!r}; expected a part of the order, above 0 and at most 1"
        if redeem.get("step", redeem["points"]) * redeem["gives"] % redeem["points"]:
            yield ("redeem", "step"), f"found {redeem['step']}; expected a step that is worth whole minor units"
        yield from _check_limits(("redeem",), redeem)
    rewards: set[str] = set()
    for place, reward in enumerate(document.get("rewards", ())):
        if reward["name"] in rewards:
            yield ("rewards", place, "name"), f'found "{reward["name"]}" twice; expected a name of its own'
        rewards.add(reward["name"])
        yield from _check_limits(("rewards", place), reward)
        yield from _check_window(("rewards", place), reward)
    yield from _check_limits(("gift",), document.get("gift", {}))


def _check_rules(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    """Every rule text, parsed and type-checked as it will be compiled."""
    settings = read(document)
    earn = {rule.name: place for place, rule in enumerate(settings.earn)}
    rewards = {reward.name: place for place, reward in enumerate(settings.rewards)}
    for kind in dict.fromkeys(rule.on for rule in (*settings.earn, *settings.counters)):
        for problem in check_rules(texts_of(kind, settings), scope_for(kind, settings, context.units, context.zone), places=PLACES):
            name, part = problem.details["rule"], problem.details["part"]
            if name.startswith("counter."):
                yield ("counters", name.removeprefix("counter."), part), problem
                continue
            written = document["earn"][earn[name]]
            # what a line-by-line rule is worth is compiled as the basis of each line
            key = part if part in written else "value" if "value" in written else None
            yield ("earn", earn[name], key) if key else ("earn", earn[name]), problem
    for problem in check_rules(reward_texts(settings), scope_for(REDEEMED, settings, context.units, context.zone), places=PLACES):
        yield ("rewards", rewards[problem.details["rule"]], problem.details["part"]), problem


def _check_earn(path: Path, rule: Mapping[str, Any], known: set[str]) -> Iterator[Said]:
    kind = rule.get("kind", "grant")
    amounts = [key for key in ("points", "value", "bands") if key in rule]
    if kind in ("grant", "bonus"):
        if len(amounts) != 1:
            found = " and ".join(amounts) or "none of them"
            yield path, f'a rule of kind "{kind}" says how much: found {found}; expected one of "points", "value", "bands"'
        wrong = [key for key in ("factor", "compound", "of", "limit", "window", "whole") if key in rule]
    elif kind == "multiply":
        if "factor" not in rule:
            yield path, '"factor" is missing; expected an exact number in quotes such as "1.5" or "1/3"'
        elif values.exact(rule["factor"]) < 0:
            yield (*path, "factor"), f"found {rule['factor']!r}; expected at least 0"
        wrong = [key for key in (*amounts, "per", "over", "limit", "window", "whole", "to", "each") if key in rule]
    else:
        if "limit" not in rule:
            yield path, '"limit" is missing; expected a whole number of the smallest unit'
        wrong = [key for key in (*amounts, "per", "over", "factor", "compound", "lines", "to", "each") if key in rule]
    for key in wrong:
        yield (*path, key), f'"{key}" does not go together with kind = "{kind}"'
    if "per" in rule and "points" not in rule:
        yield (*path, "per"), '"per" needs "points" beside it'
    if kind == "bonus":
        for key in ("group", "priority", "exclusive", "stop"):
            if key in rule:
                yield (*path, key), f'"{key}" does not go together with kind = "bonus": a bonus always stands'
    if rule.get("on", PURCHASE) != PURCHASE:
        for key in ("lines", "per", "bands", "each"):
            if key in rule:
                yield (*path, key), f'"{key}" needs on = "{PURCHASE}": only purchases have lines and amounts'
    for place, name in enumerate(rule.get("of", ())):
        if "." not in name and name not in known:
            yield (*path, "of", place), f'found "{name}"; expected the name of an earn rule'
    yield from _check_bands((*path, "bands"), rule.get("bands", ()))
    if "over" in rule and "bands" not in rule:
        yield (*path, "over"), '"over" needs "bands" beside it'
    yield from _check_window(path, rule)
    yield from _check_expiry((*path, "expiry"), rule.get("expiry", {}), activity=False)
    if {"days", "state"} <= set(rule.get("pending", {})):
        yield (*path, "pending"), 'found "days" and "state"; expected one of them'


def _check_bands(path: Path, bands: Any) -> Iterator[Said]:
    starts = [band["from"] for band in bands]
    if starts and starts[0] != 0:
        yield (*path, 0, "from"), f"found {starts[0]}; expected the first band to begin at 0"
    for place in range(1, len(starts)):
        if starts[place] <= starts[place - 1]:
            yield (*path, place, "from"), f"found {starts[place]}; expected more than {starts[place - 1]} of the band before"


def _check_expiry(path: Path, fields: Mapping[str, Any], *, activity: bool) -> Iterator[Said]:
    policy = fields.get("policy", "never")
    wanted = {"never": (), "rolling": ("after",), "period_end": ("end_of",), "fixed": ("on",), "activity": ("after",)}[policy]
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
                yield (*path, "after"), '"after" goes together with a day of every year such as "12-31", not with one date'
        except ValueError:
            yield (*path, "on"), f'found "{fields["on"]}"; expected a date such as "2026-12-31", or "12-31" for every year'


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


