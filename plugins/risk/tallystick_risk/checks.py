"""Mistakes in a merchant's policies that a schema cannot see, rules included; each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from tallystick.errands import Context
from tallystick.errors import InvalidRule
from tallystick.events import CORE_KINDS
from tallystick.rules import RuleText, check_rules

from .policies import texts_of
from .scope import PLACES, scope_of_policy, scope_of_watch
from .settings import LIMITS, OBSERVED, POLICIES, WATCHES, read

Path = tuple[str | int, ...]
Said = tuple[Path, str | InvalidRule]
_CORE = frozenset(kind.name for kind in CORE_KINDS)
_SHIPPED = frozenset(fields["name"] for fields in (*POLICIES, *WATCHES))
#: What came back has come back, and what people decided is decided: nobody is asked about it.
_UNASKED = frozenset(
    ("purchase.refunded", "purchase.cancelled", "order.advanced", "entry.released", "entry.voided", "member.merged", "member.unmerged")
)  # fmt: skip


def check(document: Mapping[str, Any], context: Context) -> list[Said]:
    """What is wrong with a document that fits the schema: where, and what was expected.  Rules come last, if all else is right."""
    return list(_check(document, context)) or list(_check_rules(document, context))


def _check(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    for room in ("policies", "watches"):
        names: set[str] = set()
        for place, fields in enumerate(document.get(room, ())):
            if fields["name"] in names:
                yield (room, place, "name"), f'found "{fields["name"]}" twice; expected a name of its own'
            names.add(fields["name"])
            for at, kind in enumerate(fields.get("on", ())):
                yield from _check_kind((room, place, "on", at), kind, context)
    for place, policy in enumerate(document.get("policies", ())):
        for key in ("after", "end"):
            if key in policy and policy.get("verdict") == "deny":
                yield ("policies", place, key), f'"{key}" says nothing with verdict = "deny": nothing waits'
    for name, kinds in document.get("capabilities", {}).items():
        for place, kind in enumerate(kinds):
            yield from _check_kind(("capabilities", name, place), kind, context)
    yield from _check_names(document)
    yield from _check_stores(document)


def _check_names(document: Mapping[str, Any]) -> Iterator[Said]:
    """What is switched off or set must be there."""
    for place, name in enumerate(document.get("without", ())):
        if name not in _SHIPPED:
            yield ("without", place), f'found "{name}"; expected a shipped policy or watch{_hint(name, _SHIPPED)}'
    used = {fields["when"] for room in ("policies", "watches") for fields in document.get(room, ())}
    for name in document.get("limits", {}):
        if name not in LIMITS and not any(f"limit.{name}" in when for when in used):
            yield ("limits", name), f'nothing names "limit.{name}"{_hint(name, LIMITS)}'


def _check_stores(document: Mapping[str, Any]) -> Iterator[Said]:
    for name, place in document.get("stores", {}).items():
        for key, most in (("latitude", 90), ("longitude", 180)):
            if abs(float(place[key])) > most:
                yield ("stores", name, key), f"found {place[key]}; expected from -{most} to {most} degrees"


def _check_kind(path: Path, kind: str, context: Context) -> Iterator[Said]:
    if kind in _UNASKED or (kind.startswith("risk.") and kind != OBSERVED):
        yield path, f'found "{kind}"; expected a kind of event that can be held'
    elif kind not in _CORE and kind.partition(".")[0] not in {*context.plugins, "points", "risk"}:
        yield path, f'found "{kind}"; expected a kind of event that this tenant knows{_hint(kind, _CORE)}'


def _hint(word: str, known: Any) -> str:
    close = get_close_matches(word, known, 1)
    return f'; did you mean "{close[0]}"?' if close else ""


def _check_rules(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    """Every rule text, parsed and type-checked as it will be compiled."""
    settings = read(document)
    places = {fields["name"]: place for place, fields in enumerate(document.get("policies", ()))}
    seen: set[str] = set()
    for kind in dict.fromkeys(kind for policy in settings.policies for kind in policy.on):
        mine = [policy for policy in settings.policies if kind in policy.on and policy.name in places]
        for problem in check_rules(texts_of(mine), scope_of_policy(kind, settings.limits, context.zone), places=PLACES):
            name = problem.details["rule"]
            if name not in seen:
                seen.add(name)
                yield ("policies", places[name], "when"), problem
    for place, watch in enumerate(document.get("watches", ())):
        scope = scope_of_watch(watch["subject"], settings.limits, context.zone)
        for problem in check_rules([RuleText(watch["name"], when=watch["when"])], scope):
            yield ("watches", place, "when"), problem
