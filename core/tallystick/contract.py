"""The contract with plugins as data: hooks, effects, events and manifest keys; and what a change of it means to authors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import fields

from . import hookspecs, manifest
from .effects import EFFECTS
from .events import CORE_KINDS

#: What a difference asks of the API's version.
Weight = Literal["major", "minor"]
ROOMS: Final = ("hooks", "effects", "events", "facts", "manifest")

Contract = Mapping[str, Any]


def describe() -> dict[str, Any]:
    """The contract of this version, as plain JSON in one order."""
    facts: dict[str, Any] = {}
    events = {}
    for kind in CORE_KINDS:
        parts = msgspec.json.schema(kind.facts)["$defs"]
        facts |= {name: _fields_of(part) for name, part in parts.items()}
        events[kind.name] = {"facts": kind.facts.__name__, "members": list(kind.members), "guest": kind.guest}
    return {
        "api": str(manifest.API_VERSION),
        "hooks": {name: _hook(name) for name in hookspecs.all_hooks()},
        "effects": {name: _effect(effect) for name, effect in sorted(EFFECTS.items())},
        "events": dict(sorted(events.items())),
        "facts": dict(sorted(facts.items())),
        "manifest": dict(sorted(_keys(manifest.SCHEMA))),
    }


def _hook(name: str) -> dict[str, Any]:
    function = getattr(hookspecs.Hooks, name)
    return {
        "takes": [each for each in inspect.signature(function).parameters if each != "self"],
        "async": inspect.iscoroutinefunction(function),
        "pure": name in hookspecs.PURE,
        "on_failure": hookspecs.ON_FAILURE[name],
    }


def _effect(effect: type[msgspec.Struct]) -> dict[str, Any]:
    return {each.name: {"type": _word(each.type), "required": each.required} for each in fields(effect)}


def _word(kind: Any) -> str:
    said = kind.__name__ if isinstance(kind, type) and not getattr(kind, "__args__", None) else str(kind)
    return said.replace("typing.", "").replace("collections.abc.", "").replace("tallystick.effects.", "")


def _fields_of(part: Mapping[str, Any]) -> dict[str, Any]:
    required = part.get("required", ())
    return {
        name: {"type": _type_of(field), "required": name in required}
        for name, field in part.get("properties", {}).items()
    }


def _type_of(field: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in field.items() if key not in ("default", "description", "title")}
    return msgspec.json.encode(kept, order="deterministic").decode()


def _keys(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, definition in schema.items():
        place = f"{path}{key}"
        yield place, {"type": str(definition.get("type", "any")), "required": bool(definition.get("required", False))}
        inner = definition.get("schema")
        if definition.get("type") == "dict" and isinstance(inner, Mapping):
            yield from _keys(inner, f"{place}.")
        values = definition.get("valuesrules", {})
        if values.get("type") == "dict" and isinstance(values.get("schema"), Mapping):
            yield from _keys(values["schema"], f"{place}.*.")


def compare(old: Contract, new: Contract) -> list[tuple[Weight, str]]:
    """Every difference from *old* to *new* with what it asks for: what breaks an author's plugin asks for an API major.

    A new parameter of a hook breaks nobody, since implementations name the ones they use; a new field breaks somebody only
    if it is required.
    """
    found: list[tuple[Weight, str]] = []
    for room in ROOMS:
        was, now = old[room], new[room]
        found += [("major", f"{room}: {name} is gone") for name in was if name not in now]
        found += [_added(room, name, now[name]) for name in now if name not in was]
        for name in was:
            if name in now and was[name] != now[name]:
                found += _changes(room, name, was[name], now[name])
    return found


def _added(room: str, name: str, said: Any) -> tuple[Weight, str]:
    # at the top level a required key of plugin.toml breaks every plugin there is; inside a new table it breaks none
    breaks = room == "manifest" and said["required"] and "." not in name
    return ("major" if breaks else "minor", f"{room}: {name} is new" + (" and required" if breaks else ""))


def _changes(room: str, name: str, was: Any, now: Any) -> Iterator[tuple[Weight, str]]:
    if room in ("effects", "facts"):
        for field in {**was, **now}:
            if field not in now:
                yield "major", f"{room}: {name}.{field} is gone"
            elif field not in was:
                needed = now[field]["required"]
                yield (
                    "major" if needed else "minor",
                    f"{room}: {name}.{field} is new" + (" and required" if needed else ""),
                )
            elif was[field] != now[field]:
                eased = was[field] == {**now[field], "required": True}
                yield "minor" if eased else "major", f"{room}: {name}.{field} {_differs(was[field], now[field])}"
    elif room == "hooks":
        lost = [each for each in was["takes"] if each not in now["takes"]]
        yield from (("major", f"hooks: {name} is not given {each} any more") for each in lost)
        yield from (("minor", f"hooks: {name} is given {each}") for each in now["takes"] if each not in was["takes"])
        for key in ("async", "pure", "on_failure"):
            if was[key] != now[key]:
                yield "major", f"hooks: {name} has {key} {now[key]}, and had {was[key]}"
    else:
        eased = was == {**now, "required": True}
        yield "minor" if eased else "major", f"{room}: {name} {_differs(was, now)}"


def _differs(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return "; ".join(f"has {key} {now[key]}, and had {was[key]}" for key in now if was.get(key) != now[key])


def refusal(old: Contract, new: Contract) -> str | None:
    """Why *new* must not follow *old*: it breaks plugins under the same API major; None if it may."""
    breaking = [said for weight, said in compare(old, new) if weight == "major"]
    if not breaking or old["api"].partition(".")[0] != new["api"].partition(".")[0]:
        return None
    return f"hook API {new['api']} breaks plugins written for {old['api']}: " + "; ".join(breaking)
