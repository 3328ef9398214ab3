"""Documents of settings are held against their schema: a quick look, and Cerberus where that has its doubts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date, time
from typing import Any, Final

from .schema import TYPES, Mistake, Schema, Type, read_as


def check(
    data: Mapping[str, Any],
    schema: Schema,
    *,
    units: Collection[str] | None = None,
) -> tuple[dict[str, Any], list[Mistake]]:
    """Check *data* against *schema*: the data with defaults filled in, and every mistake in it.

    The schema itself is taken for good (:func:`~tallystick.checker.prepare` looks at it).
    Units must be among *units*, where these are known.
    Dates and times count as their ISO strings, so that the result is plain JSON.
    """
    try:
        return _table(data, schema, units), []
    except _Doubt:
        from . import checker  # Cerberus: thirty times as long, and nobody waits for it whose documents are in order

        return checker.check(data, schema, units=units)


class _Doubt(Exception):
    """Something may be wrong in a document, or its schema asks for what is not looked at here: Cerberus has the word."""


#: What is looked at here, as Cerberus does it.
_RULES: Final = frozenset({
    "allow_unknown", "allowed", "default", "empty", "excludes", "keysrules", "max", "maxlength", "meta", "min", "minlength",
    "regex", "required", "schema", "type", "valuesrules",
})  # fmt: skip
#: Cerberus's own types.
_OWN: Final[Mapping[str, Type]] = {
    "string": Type((str,), ""),
    "integer": Type((int,), ""),
    "boolean": Type((bool,), "", exclude=()),
    "dict": Type((dict,), ""),
    "list": Type((list, tuple), ""),
}


def _table(
    said: Any, fields: Mapping[str, Any], units: Collection[str] | None, *, unknown: bool = False
) -> dict[str, Any]:
    """*said* as plain JSON with defaults filled in, if it is in order; with *unknown* other fields may stand there, too."""
    if not isinstance(said, dict):
        raise _Doubt
    made = {}
    for key, value in said.items():
        if (definition := fields.get(key)) is not None:
            made[key] = _value(value, definition, units)
        elif unknown and isinstance(key, str):
            made[key] = _anything(value)
        else:
            raise _Doubt
    for key, definition in fields.items():
        if key not in made:
            if "default" in definition:
                made[key] = _value(definition["default"], definition, units)
            elif definition.get("required"):
                raise _Doubt
    for key in made:
        if "excludes" in (definition := fields.get(key, {})):
            others = definition["excludes"]
            if not made.keys().isdisjoint([others] if isinstance(others, str) else others):
                raise _Doubt
    return made


def _value(value: Any, rules: Any, units: Collection[str] | None) -> Any:
    """One value that *rules* are about, as plain JSON, if it is in order."""
    if isinstance(value, date | time):
        value = value.isoformat()
    if not isinstance(rules, dict) or not rules.keys() <= _RULES or not _is_one(value, rules.get("type", ()), units):
        raise _Doubt
    if "allowed" in rules and not _is_allowed(value, rules["allowed"]):
        raise _Doubt
    if isinstance(value, int):
        if value < rules.get("min", value) or value > rules.get("max", value):
            raise _Doubt
        return value
    if "min" in rules or "max" in rules:
        raise _Doubt
    size = len(value)
    if not rules.get("minlength", 0) <= size <= rules.get("maxlength", size) or not (size or rules.get("empty", True)):
        raise _Doubt
    if isinstance(value, str):
        if "regex" in rules and re.fullmatch(rules["regex"], value) is None:
            raise _Doubt
        return value
    within = rules.get("schema")
    if isinstance(value, dict):
        return _dict(value, rules, within, units)
    if not isinstance(value, list | tuple):
        raise _Doubt
    return [_anything(each) if within is None else _value(each, within, units) for each in value]


def _dict(value: dict[Any, Any], rules: dict[str, Any], fields: Any, units: Collection[str] | None) -> dict[str, Any]:
    keys, values_, unknown = rules.get("keysrules"), rules.get("valuesrules"), rules.get("allow_unknown", False)
    if not isinstance(unknown, bool) or (fields is not None and (values_ is not None or not isinstance(fields, dict))):
        raise _Doubt
    for key in value:
        if not isinstance(key, str) or (keys is not None and _value(key, keys, units) != key):
            raise _Doubt
    if fields is not None:
        return _table(value, fields, units, unknown=unknown)
    return {key: _anything(each) if values_ is None else _value(each, values_, units) for key, each in value.items()}


def _is_one(value: Any, kinds: str | list[str], units: Collection[str] | None) -> bool:
    """Whether *value* is of one of these types."""
    for name in (kinds,) if isinstance(kinds, str) else kinds:
        kind = TYPES.get(name) or _OWN.get(name)
        if kind is None:
            raise _Doubt
        if isinstance(value, kind.python) and not isinstance(value, kind.exclude):
            try:
                read_as(name, value, units)
            except ValueError:
                continue
            return True
    return False


def _is_allowed(value: Any, allowed: Collection[Any]) -> bool:
    if isinstance(value, dict):
        raise _Doubt
    return all(each in allowed for each in value) if isinstance(value, list | tuple) else value in allowed


def _anything(value: Any) -> Any:
    """What no rule is about: as plain JSON, without floats."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(key): _anything(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_anything(each) for each in value]
    if isinstance(value, date | time):
        return value.isoformat()
    raise _Doubt
