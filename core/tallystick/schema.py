"""Cerberus with the value types of this house, and mistakes a person can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, datetime, time
from functools import cached_property
from typing import Any, Final

import attrs
from cerberus import TypeDefinition, Validator, errors
from cerberus.errors import ValidationError
from cerberus.schema import DefinitionSchema
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from . import values
from .document import Document, Path, dotted, pointer
from .errors import Problem

#: A Cerberus schema; the types of :data:`TYPES` may be used beside Cerberus's own.
Schema = Mapping[str, Any]

ID: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
NAME: Final = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")
_OBJECT: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_PACKAGE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


@attrs.frozen
class Type:
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


@attrs.frozen
class Mistake:
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


def prepare(schema: Schema) -> Schema:
    """The same *schema*, itself checked: what `tally certify` and the tests do with every schema there is.

    Raises :class:`cerberus.SchemaError` if it is not a schema.
    """
    return Prepared(Checker(schema).schema.schema)


class Prepared(dict[str, Any]):
    """A schema that is not looked at again."""

    @cached_property
    def fills_in(self) -> bool:
        """Whether it changes documents: sets defaults, renames or converts; finding that none is wanted takes a third of a check."""
        return _names_one_of(self, _NORMALIZING)


_NORMALIZING: Final = frozenset({"default", "default_setter", "coerce", "rename", "rename_handler", "purge_unknown"})


def _names_one_of(definition: Any, rules: Collection[str]) -> bool:
    if isinstance(definition, Mapping):
        return any(key in rules or _names_one_of(value, rules) for key, value in definition.items())
    return isinstance(definition, list | tuple) and any(_names_one_of(each, rules) for each in definition)


#: Schemas that were met, by their identity, so that none is spelled out twice.
_MET: Final[dict[int, tuple[Schema, Prepared]]] = {}


def _met(schema: Schema) -> Prepared:
    """*schema* with its abbreviations spelled out; to check it costs ten times what checking a document does."""
    if isinstance(schema, Prepared):
        return schema
    known = _MET.get(id(schema))
    if known is None:
        while len(_MET) >= 256:
            _MET.pop(next(iter(_MET)))
        known = _MET[id(schema)] = (schema, Prepared(DefinitionSchema.expand(dict(schema))))
    return known[1]


def check(
    data: Mapping[str, Any],
    schema: Schema,
    *,
    units: Collection[str] | None = None,
) -> tuple[dict[str, Any], list[Mistake]]:
    """Check *data* against *schema*: the data with defaults filled in, and every mistake in it.

    The schema itself is taken for good (:func:`prepare` looks at it).
    Units must be among *units*, where these are known.
    Dates and times count as their ISO strings, so that the result is plain JSON.
    """
    met = _met(schema)
    checker = Checker(met, units=units)
    checker.validate(plain(data), normalize=met.fills_in)
    mistakes = [*_mistakes(checker._errors), *_floats(data, ())]  # noqa: SLF001  # its public form has no codes
    seen: dict[Path, Mistake] = {}
    for mistake in mistakes:
        seen.setdefault(mistake.path, mistake)
    return plain(checker.document if checker.document is not None else data), list(seen.values())


class Checker(Validator):  # type: ignore[misc]  # Cerberus has no types
    """Cerberus, knowing :data:`TYPES`."""

    types_mapping = {
        **Validator.types_mapping,
        "integer": TypeDefinition("integer", (int,), (bool,)),  # to Python, and so to Cerberus, true is a number
        **{name: TypeDefinition(name, kind.python, kind.exclude) for name, kind in TYPES.items()},
    }

    @property
    def schema(self) -> Any:
        """The schema documents are checked against."""
        return self._schema

    @schema.setter
    def schema(self, schema: Schema | None) -> None:
        if isinstance(schema, Prepared):
            self._schema: Any = schema  # Cerberus would check the schema again for every document
        else:
            Validator.schema.fset(self, schema)

    def _validate_type(self, data_type: str | list[str], field: str, value: Any) -> None:
        """
        {'type': ['string', 'list'],
         'check_with': 'type'}
        """
        hint = ""
        for name in [data_type] if isinstance(data_type, str) else data_type:
            definition = self.types_mapping[name]
            if isinstance(value, definition.included_types) and not isinstance(value, definition.excluded_types):
                try:
                    self._read(name, value)
                except ValueError as error:
                    hint = hint or (str(error) if str(error).startswith(";") else "")
                else:
                    return
        self._error(field, errors.BAD_TYPE, hint)
        self._drop_remaining_rules()

    def _read(self, name: str, value: Any) -> None:
        if name in TYPES and (read := TYPES[name].read) is not None:
            read(value)
        units = self._config.get("units")
        if name == "unit" and units is not None and value not in units:
            raise ValueError(f"; declared are {', '.join(sorted(units)) or 'none'}{_did_you_mean(value, units)}")

    def _error(self, *arguments: Any) -> None:
        super()._error(*arguments)
        if len(arguments) > 1 and not isinstance(arguments[1], str):
            definition = self.schema.get(arguments[0]) if isinstance(self.schema, Mapping) else None
            self.recent_error.known = tuple(self.schema)
            self.recent_error.definition = definition if isinstance(definition, Mapping) else {}


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


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = nearest(word, known)
    return f'; did you mean "{close}"?' if close is not None else ""


def _floats(value: Any, path: Path) -> Iterator[Mistake]:
    if isinstance(value, float):
        yield Mistake(path, f'found {value!r}, a float, which is not exact; expected it in quotes: "{value!r}"')
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _floats(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _floats(item, (*path, index))


def _mistakes(found: Iterable[ValidationError]) -> Iterator[Mistake]:
    for error in found:
        if error.is_logic_error:
            yield Mistake(tuple(error.document_path), f"found {_show(error.value)}; expected one of several forms")
        elif error.is_group_error:
            yield from _mistakes(error.child_errors)
        else:
            yield _mistake(error)


def _mistake(error: ValidationError) -> Mistake:
    path: Path = tuple(error.document_path)
    key = dotted(path[-1:])
    on_key = "keysrules" in error.schema_path
    found = f"found {'the key ' if on_key else ''}{_show(error.value)}"
    definition: Mapping[str, Any] = getattr(error, "definition", {})
    if isinstance(error.value, float) and definition.get("type") == "exact":
        return next(_floats(error.value, path))
    match error.code:
        case errors.CUSTOM.code:
            return Mistake(path, str(error.info[0]), on_key=on_key)
        case errors.REQUIRED_FIELD.code:
            return Mistake(path, f'"{key}" is missing; expected {expected(definition)}')
        case errors.UNKNOWN_FIELD.code:
            known = getattr(error, "known", ())
            hint = _did_you_mean(str(path[-1]), map(str, known))
            # a long list hides the one word that matters
            wanted = "" if hint and len(known) > 8 else f"; expected {_one_of(known)}"
            return Mistake(path, f'unknown key "{key}"{wanted}{hint}', on_key=True)
        case errors.UNALLOWED_VALUE.code:
            hint = _did_you_mean(str(error.value), map(str, error.constraint))
            return Mistake(path, f"{found}; expected {_one_of(error.constraint)}{hint}", on_key=on_key)
        case errors.EXCLUDES_FIELD.code:
            return Mistake(path, f'"{key}" does not go together with {error.info[0]}', on_key=True)
        case errors.DEPENDENCIES_FIELD.code:
            return Mistake(path, f'"{key}" needs "{error.info[0]}" beside it', on_key=True)
        case code if code in _LIMITS:
            return Mistake(path, f"{found}; expected {_LIMITS[code]} {error.constraint}", on_key=on_key)
        case code if code in _WRONG:
            hint = error.info[0] if code == errors.BAD_TYPE.code and error.info else ""
            return Mistake(path, f"{found}; expected {expected(definition)}{hint}", on_key=on_key)
        case code:
            said = errors.BasicErrorHandler.messages.get(code, "is not allowed")
            return Mistake(
                path, f"{found}; {said.format(*error.info, constraint=error.constraint, field=key, value='')}"
            )


_LIMITS: Final[Mapping[int, str]] = {
    errors.MIN_VALUE.code: "at least",
    errors.MAX_VALUE.code: "at most",
    errors.MIN_LENGTH.code: "a length of at least",
    errors.MAX_LENGTH.code: "a length of at most",
    errors.UNALLOWED_VALUES.code: "only values of",
}
_WRONG: Final = frozenset(
    definition.code
    for definition in (
        errors.BAD_TYPE,
        errors.BAD_TYPE_FOR_SCHEMA,
        errors.NOT_NULLABLE,
        errors.EMPTY_NOT_ALLOWED,
        errors.REGEX_MISMATCH,
    )
)


def expected(definition: Mapping[str, Any]) -> str:
    """What a schema's entry asks for, in words."""
    if "expected" in definition.get("meta", {}):
        return str(definition["meta"]["expected"])
    if "allowed" in definition:
        return _one_of(definition["allowed"])
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


def _one_of(words: Iterable[Any]) -> str:
    shown = [_show(word) for word in words]
    return shown[0] if len(shown) == 1 else "one of " + ", ".join(shown) if shown else "nothing here"


def _show(value: Any) -> str:
    match value:
        case True | False:
            return str(value).lower()
        case str():
            shown = value if len(value) <= 60 else value[:57] + "..."
            return '"' + shown.replace("\n", "\\n") + '"'
        case Mapping():
            return "a table" if value else "an empty table"
        case list() | tuple():
            return "[" + ", ".join(map(_show, value)) + "]" if len(value) <= 4 else f"an array of {len(value)}"
        case date() | time():
            return value.isoformat()
        case None:
            return "nothing"
        case _:
            return str(value)
