"""Mistakes in a merchant's ladders that a schema cannot see, rules included; each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tallystick import values
from tallystick.errands import Context
from tallystick.errors import InvalidRule
from tallystick.rules import RuleText, check_rules

from .measure import texts_of
from .scope import PLACES, scope_of_event, scope_of_tier
from .settings import PERIODS, PURCHASE, read

Path = tuple[str | int, ...]
Said = tuple[Path, str | InvalidRule]
#: What a metric may name, by what it measures.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "spend": ("when", "lines"),
    "visits": ("when", "value"),
    "months": ("when",),
    "gains": ("unit",),
    "counter": ("counter",),
}


def check(document: Mapping[str, Any], context: Context) -> list[Said]:
    """What is wrong with a document that fits the schema: where, and what was expected.  Rules come last, if all else is right."""
    return list(_check(document, context)) or list(_check_rules(document, context))


def _check(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    names: set[str] = set()
    for place, ladder in enumerate(document.get("ladders", ())):
        path: Path = ("ladders", place)
        if ladder["name"] in names:
            yield (*path, "name"), f'found "{ladder["name"]}" twice; expected a name of its own'
        names.add(ladder["name"])
        metrics = ladder.get("metrics") or {"spend": {}}
        for name, metric in metrics.items():
            yield from _check_metric((*path, "metrics", name), metric, ladder, context)
        if "by" in ladder and ladder["by"] not in metrics:
            yield (*path, "by"), f'found "{ladder["by"]}"; expected one of the metrics: {", ".join(metrics)}'
        yield from _check_time(path, ladder)
        yield from _check_tiers(path, ladder, context)


def _check_metric(path: Path, metric: Mapping[str, Any], ladder: Mapping[str, Any], context: Context) -> Iterator[Said]:
    measure = metric.get("measure", "spend")
    for key in metric:
        if key not in ("measure", "on", *_FIELDS[measure]):
            yield (*path, key), f'"{key}" does not go together with measure = "{measure}"'
    if measure == "spend" and metric.get("on", [PURCHASE]) != [PURCHASE]:
        yield (*path, "on"), f'measure = "spend" needs on = ["{PURCHASE}"]: only purchases have lines and amounts'
    for place, kind in enumerate(metric.get("on", ())):
        if kind.startswith("tiers."):
            yield (*path, "on", place), f'found "{kind}"; expected a kind of event that tiers do not bring about'
    if measure == "gains" and "unit" not in metric:
        yield path, 'measure = "gains" needs "unit" beside it'
    if measure == "counter":
        counter = metric.get("counter", "")
        plugin = counter.partition(".")[0]
        if not counter:
            yield path, 'measure = "counter" needs "counter" beside it'
        elif "." not in counter or plugin == "tiers" or plugin not in context.plugins:
            known = ", ".join(sorted(name for name in context.plugins if name != "tiers")) or "none"
            yield (
                (*path, "counter"),
                f'found "{counter}"; expected the counter of another plugin that is enabled ({known}), such as "points.visits"',
            )
        if ladder.get("window", "lifetime") not in (*PERIODS, "lifetime") and counter:
            yield (
                (*path, "measure"),
                'a counter of another plugin has no days to look back over; expected another "window"',
            )


def _check_time(path: Path, ladder: Mapping[str, Any]) -> Iterator[Said]:
    window = ladder.get("window", "lifetime")
    if "review" in ladder and window in PERIODS and window != "review":
        yield (*path, "review"), f'"review" does not go together with window = "{window}", whose end is the review'
    if window == "review" and "review" not in ladder:
        yield path, 'window = "review" needs "review" beside it, such as "P6M"'
    if window == "lifetime" and "review" not in ladder:
        for key in ("upgrade", "downgrade"):
            if ladder.get(key) == "at_review":
                yield (*path, key), f'{key} = "at_review" needs "review" beside it: a lifetime has no end'
    if "valid" in ladder and window not in PERIODS:
        yield (*path, "valid"), f'"valid" needs a window of periods, and not window = "{window}"'
    if ladder.get("grace_days", 0) and ladder.get("downgrade", "at_review") != "at_review":
        yield (*path, "grace_days"), '"grace_days" need downgrade = "at_review"'
    if not 0 <= values.exact(ladder.get("near", "0.8")) < 1:
        yield (*path, "near"), f"found {ladder['near']!r}; expected a share of the threshold, from 0 and below 1"


def _check_tiers(path: Path, ladder: Mapping[str, Any], context: Context) -> Iterator[Said]:
    names: set[str] = set()
    last, last_name = 0, ladder["tiers"][0]["name"]
    for place, tier in enumerate(ladder["tiers"]):
        here: Path = (*path, "tiers", place)
        if tier["name"] in names:
            yield (*here, "name"), f'found "{tier["name"]}" twice; expected a name of its own'
        names.add(tier["name"])
        yield from _check_gives(here, tier, ladder.get("unit", "points"), context)
        if place == 0:
            yield from _check_lowest(here, tier)
            continue
        if "at" not in tier and "when" not in tier and "membership" not in tier:
            yield here, f'nobody can reach "{tier["name"]}": expected one of "at", "when", "membership"'
        if "at" in tier and tier["at"] <= last:
            yield (*here, "at"), f'found {tier["at"]}; expected more than {last} of "{last_name}"'
        if tier.get("keep", 0) > tier.get("at", 0):
            yield (
                (*here, "keep"),
                f"found {tier['keep']}; expected at most {tier.get('at', 0)}, where the tier is reached",
            )
        if "keep_when" in tier and "when" not in tier and "at" not in tier:
            yield (*here, "keep_when"), '"keep_when" needs "when" or "at" beside it'
        last, last_name = max(last, tier.get("at", 0)), tier["name"] if "at" in tier else last_name


def _check_gives(path: Path, tier: Mapping[str, Any], unit: str, context: Context) -> Iterator[Said]:
    if "sku" in tier and "membership" not in tier:
        yield (*path, "sku"), '"sku" needs "membership" beside it, which says for how long'
    if "multiplier" in tier and values.exact(tier["multiplier"]) < 0:
        yield (*path, "multiplier"), f"found {tier['multiplier']!r}; expected at least 0"
    for key in ("bonus", "multiplier"):
        if tier.get(key) and unit not in context.units:
            yield (*path, key), f'the unit "{unit}" is not declared; say "unit" for the ladder'


def _check_lowest(path: Path, tier: Mapping[str, Any]) -> Iterator[Said]:
    for key in ("keep", "when", "keep_when", "membership", "sku", "bonus"):
        if key in tier:
            yield (*path, key), f'"{key}" says nothing about the lowest tier, which is everybody\'s'
    if tier.get("at"):
        yield (*path, "at"), f"found {tier['at']}; expected 0: whoever is below would have no tier"


def _check_rules(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    """Every rule text, parsed and type-checked as it will be compiled."""
    for place, ladder in enumerate(read(document).ladders):
        seen: set[tuple[str, str]] = set()
        for kind in dict.fromkeys(kind for metric in ladder.metrics for kind in metric.on):
            for problem in check_rules(texts_of(ladder, kind), scope_of_event(kind, context.zone), places=PLACES):
                metric, part = problem.details["rule"], problem.details["part"]
                if (metric, part) not in seen:
                    seen.add((metric, part))
                    yield ("ladders", place, "metrics", metric, part), problem
        scope = scope_of_tier([metric.name for metric in ladder.metrics], context.zone)
        for step, tier in enumerate(ladder.tiers):
            for part in ("when", "keep_when"):
                if text := getattr(tier, part):
                    for problem in check_rules([RuleText(tier.name, when=text)], scope, places=PLACES):
                        yield ("ladders", place, "tiers", step, part), problem
