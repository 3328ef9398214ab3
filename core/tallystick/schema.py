"""Schemas of settings: the value types of this house, what a mistake is, and how mistakes are worded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time
from typing import Any, Final

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from . import values
from .document import Document, Path, pointer
from .errors import Problem

#: A schema of Cerberus; the types of :data:`TYPES` may be used beside Cerberus's own.
Schema = Mapping[str, Any]

ID: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
NAME: Final = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")
_OBJECT: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_PACKAGE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


class Type(msgspec.Struct, frozen=True):
    """A type of value a schema may ask for."""

    python: tuple[type, ...]
    expected: str  #: completes "expected ..."
    #: Returns normally if the value will do, and raises ValueError otherwise; the message may say more.
    read: Callable[[Any], object] | None = None
    exclude: tuple[type, ...] = (bool,)


def _full(pattern: re.Pattern[str]) -> Callable[[str], object]:
    def read(value: str) -> None:
        if pattern.fullmatch(value) is None:
            raise ValueError

    return read


def _specifier(value: str) -> SpecifierSet:
    try:
        return SpecifierSet(value)
    except InvalidSpecifier:
        raise ValueError from None


def _version(value: str) -> Version:
    try:
        return Version(value)
    except InvalidVersion:
        raise ValueError from None


def _date(value: str | date) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value


def _instant(value: str | datetime) -> datetime:
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    if instant.tzinfo is None:
        raise ValueError("it says no offset from UTC")
    return instant


def _time(value: str | time) -> time:
    return time.fromisoformat(value) if isinstance(value, str) else value


def _text(value: str | Mapping[str, Any]) -> None:
    for language, sentence in ({"en": value} if isinstance(value, str) else value).items():
        if _LANGUAGE.fullmatch(language) is None or not isinstance(sentence, str):
            raise ValueError


def _currency(value: str) -> None:
    if value not in values.CURRENCIES:
        raise ValueError(f'; did you mean "{value.upper()}"?' if value.upper() in values.CURRENCIES else "")


def _secret(value: Mapping[str, str]) -> None:
    if len(value) != 1 or next(iter(value)) not in ("file", "env") or not isinstance(next(iter(value.values())), str):
        raise ValueError


#: The types of this house, beside Cerberus's own.
TYPES: Final[Mapping[str, Type]] = {
    "amount": Type((int,), "a whole number of the smallest unit (cents, points)"),
    "exact": Type((int, str), 'an exact number in quotes such as "1.5" or "1/3"', values.exact),
    "period": Type((str,), 'a calendar period such as "P12M", "30d", "12mo" or "1y"', values.period),
    "duration": Type((str,), 'a duration such as "7d", "36h", "15min" or "PT90S"', values.duration),
    "zone": Type((str,), 'an IANA time zone such as "Asia/Shanghai"', values.zone),
    "currency": Type((str,), 'an ISO 4217 currency such as "EUR"', _currency),
    "language": Type((str,), 'a language such as "en" or "zh"', _full(_LANGUAGE)),
    "text": Type((str, Mapping), 'a string or a table of languages such as { en = "...", zh = "..." }', _text),
    "day": Type((str, date), "a date such as 2025-12-31", _date, exclude=(datetime,)),
    "instant": Type((str, datetime), "a date and time with offset such as 2025-12-31T18:00:00+08:00", _instant),
    "clock": Type((str, time), "a time of day such as 18:30:00", _time),
    "id": Type((str,), "an id of small letters, digits and _, beginning with a letter", _full(ID)),
    "name": Type((str,), 'a name of small letters such as "points.redeemed"', _full(NAME)),
    "object": Type((str,), '"module:object"', _full(_OBJECT)),
    "package": Type((str,), 'a package such as "tallystick_points.migrations"', _full(_PACKAGE)),
    "versions": Type((str,), 'a version range (PEP 440) such as ">=1,<2"', _specifier),
    "version": Type((str,), 'a version (PEP 440) such as "1.2.0"', _version),
    "unit": Type((str,), "the name of a declared unit", _full(ID)),
    "rule": Type((str,), "a text of the rule language"),
    "secret": Type((Mapping,), '{ file = "path" } or { env = "NAME" }: secrets are never written here', _secret),
}

#: How Cerberus's own types are called in messages.
_PLAIN: Final[Mapping[str, str]] = {
    "string": "a string",
    "integer": "a whole number",
    "boolean": "true or false",
    "dict": "a table",
    "list": "an array",
    "date": "a date such as 2025-12-31",
    "datetime": "a date and time",
}


class Mistake(msgspec.Struct, frozen=True):
    """One thing wrong in a document: where, what was found, what was expected."""

    path: Path
    message: str
    on_key: bool = False  #: the key itself is wrong or in the way, not its value
    inside: tuple[int, int] | None = None  #: line and column within the string that the value is

    def problem(self, document: Document | None, at: Path = ()) -> Problem:
        """The mistake with its place in *document*, of which the checked part stands at *at*."""
        path = at + self.path
        if document is None:
            return Problem(self.message, pointer=pointer(path))
        try:
            text = document.value(path)
        except (LookupError, TypeError):
            text = None
        if self.inside is None or not isinstance(text, str):
            return document.problem(path, self.message, key=self.on_key)
        lines = text.split("\n")
        offset = sum(len(line) + 1 for line in lines[: self.inside[0] - 1]) + self.inside[1] - 1
        line, column = document.place_in(path, offset)
        return Problem(self.message, file=document.file, line=line, column=column, pointer=pointer(path))


def read_as(kind: str, value: Any, units: Collection[str] | None) -> None:
    """Raise ValueError if *value*, which is of the Python type that *kind* asks for, will not do as one."""
    if kind in TYPES and (read := TYPES[kind].read) is not None:
        read(value)
    if kind == "unit" and units is not None and value not in units:
        raise ValueError(f"; declared are {', '.join(sorted(units)) or 'none'}{did_you_mean(value, units)}")


def plain(value: Any) -> Any:
    """*value* as plain JSON: dates and times become ISO strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, date | time):
        return value.isoformat()
    return value


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that looks most like *word*, if any does."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, 0.7)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a *word* that looks like one of those *known*; empty if it looks like none."""
    close = nearest(word, known)
    return f'; did you mean "{close}"?' if close is not None else ""


def expected(definition: Mapping[str, Any]) -> str:
    """What a schema's entry asks for, in words."""
    if "expected" in definition.get("meta", {}):
        return str(definition["meta"]["expected"])
    if "allowed" in definition:
        return one_of(definition["allowed"])
    if "regex" in definition:
        return f"something like {definition['regex']}"
    kinds = definition.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    words = [TYPES[kind].expected if kind in TYPES else _PLAIN.get(kind, kind) for kind in kinds]
    bounds = [
        f"{word} {definition[rule]}" for rule, word in (("min", "at least"), ("max", "at most")) if rule in definition
    ]
    return ", ".join([" or ".join(words) or "a value", *bounds])


def takes_text(definition: Mapping[str, Any]) -> bool:
    """Whether a schema's entry asks for a string (or would take one)."""
    kind = definition.get("type")
    return kind == "string" or (isinstance(kind, str) and kind in TYPES and str in TYPES[kind].python)


def one_of(words: Iterable[Any]) -> str:
    """What may stand there, in words."""
    shown = [show(word) for word in words]
    return shown[0] if len(shown) == 1 else "one of " + ", ".join(shown) if shown else "nothing here"


def show(value: Any) -> str:
    """What stands there, as it is quoted in a message."""
    match value:
        case True | False:
            return str(value).lower()
        case str():
            shown = value if len(value) <= 60 else value[:57] + "..."
            return '"' + shown.replace("\n", "\\n") + '"'
        case Mapping():
            return "a table" if value else "an empty table"
        case list() | tuple():
            return "[" + ", ".join(map(show, value)) + "]" if len(value) <= 4 else f"an array of {len(value)}"
        case date() | time():
            return value.isoformat()
        case None:
            return "nothing"
        case _:
            return str(value)
