"""Cerberus with the value types of this house: it finds every mistake in a document, and they are said so that one can act."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from cerberus import TypeDefinition, Validator, errors
from cerberus.errors import ValidationError
from cerberus.schema import DefinitionSchema

from .document import Path, dotted
from .schema import TYPES, Mistake, Schema, did_you_mean, expected, one_of, plain, read_as, show


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
    data: Mapping[str, Any], schema: Schema, *, units: Collection[str] | None = None
) -> tuple[dict[str, Any], list[Mistake]]:
    """What :func:`tallystick.inspection.check` says where the quick look has its doubts."""
    met = _met(schema)
    checker = Checker(met, units=units)
    checker.validate(plain(data), normalize=met.fills_in)
    mistakes = [*_mistakes(checker._errors), *_floats(data, ())]  # noqa: SLF001  # its public form has no codes
    seen: dict[Path, Mistake] = {}
    for mistake in mistakes:
        seen.setdefault(mistake.path, mistake)
    return plain(checker.document if checker.document is not None else data), list(seen.values())


class Checker(Validator):  # type: ignore[misc]  # Cerberus has no types
    """Cerberus, knowing the types of this house."""

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
                    read_as(name, value, self._config.get("units"))
                except ValueError as error:
                    hint = hint or (str(error) if str(error).startswith(";") else "")
                else:
                    return
        self._error(field, errors.BAD_TYPE, hint)
        self._drop_remaining_rules()

    def _error(self, *arguments: Any) -> None:
        super()._error(*arguments)
        if len(arguments) > 1 and not isinstance(arguments[1], str):
            definition = self.schema.get(arguments[0]) if isinstance(self.schema, Mapping) else None
            self.recent_error.known = tuple(self.schema)
            self.recent_error.definition = definition if isinstance(definition, Mapping) else {}


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
            yield Mistake(tuple(error.document_path), f"found {show(error.value)}; expected one of several forms")
        elif error.is_group_error:
            yield from _mistakes(error.child_errors)
        else:
            yield _mistake(error)


def _mistake(error: ValidationError) -> Mistake:
    path: Path = tuple(error.document_path)
    key = dotted(path[-1:])
    on_key = "keysrules" in error.schema_path
    found = f"found {'the key ' if on_key else ''}{show(error.value)}"
    definition: Mapping[str, Any] = getattr(error, "definition", {})
    if isinstance(error.value, float) and definition.get("type") == "exact":
        return next(_floats(error.value, path))
    if (
        isinstance(error.value, list)
        and error.value
        and definition.get("type") == "dict"
        and isinstance(error.value[0], dict)
    ):
        name = dotted(path)
        return Mistake(
            path, f"found an array of tables, [[{name}]]; expected a table for each name, as in [{name}.NAME]"
        )
    match error.code:
        case errors.CUSTOM.code:
            return Mistake(path, str(error.info[0]), on_key=on_key)
        case errors.REQUIRED_FIELD.code:
            return Mistake(path, f'"{key}" is missing; expected {expected(definition)}')
        case errors.UNKNOWN_FIELD.code:
            known = getattr(error, "known", ())
            hint = did_you_mean(str(path[-1]), map(str, known))
            # a long list hides the one word that matters
            wanted = "" if hint and len(known) > 8 else f"; expected {one_of(known)}"
            return Mistake(path, f'unknown key "{key}"{wanted}{hint}', on_key=True)
        case errors.UNALLOWED_VALUE.code:
            hint = did_you_mean(str(error.value), map(str, error.constraint))
            return Mistake(path, f"{found}; expected {one_of(error.constraint)}{hint}", on_key=on_key)
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
