"""The types of the rule language: what a fact may be, and how large it may get.

Whole numbers carry the range they can take, so the checker can prove that no sum leaves 64 bits and nothing is ever divided
by zero. A rule that passes the checker therefore has a value for every fact inside its declared range, in every rendering.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

#: The largest magnitude of a whole-number fact whose declaration says nothing else (ten thousand million units of cents).
FACT_LIMIT = 10**12
#: Every whole number a rule computes lies between these two; the checker proves it.
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
#: Every decimal a rule computes has at most 38 digits; the checker proves it.
DECIMAL_LIMIT = 10**38 - 1
#: Digits after the point of a decimal fact whose declaration says nothing else.
DECIMAL_SCALE = 6
#: Items of a list whose declaration says nothing else; the checker multiplies costs and sums by it.
LIST_LIMIT = 1_000

_DAY = 86_400_000_000
#: Microseconds between the first and the last instant that exist (years 1 and 9999).
_ALL_TIME = 3_652_059 * _DAY


class Int(msgspec.Struct, frozen=True):
    """A whole number between *low* and *high*, both included: cents, points, counts."""

    low: int = -FACT_LIMIT
    high: int = FACT_LIMIT

    def __str__(self) -> str:
        return "int"


class Fixed(msgspec.Struct, frozen=True):
    """An exact decimal with *scale* digits after the point; *low* and *high* count its last digit (1.25 is 125 at scale 2)."""

    low: int = -(10 ** (6 + DECIMAL_SCALE))
    high: int = 10 ** (6 + DECIMAL_SCALE)
    scale: int = DECIMAL_SCALE

    def __str__(self) -> str:
        return "decimal"


class String(msgspec.Struct, frozen=True):
    """A text; *choices* lists the only values it can take, if they are known."""

    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "string"


class Duration(msgspec.Struct, frozen=True):
    """A length of time between *low* and *high* microseconds."""

    low: int = -_ALL_TIME
    high: int = _ALL_TIME

    def __str__(self) -> str:
        return "duration"


class Simple(msgspec.Struct, frozen=True):
    """A type without parameters: bool, timestamp, date, null."""

    name: str

    def __str__(self) -> str:
        return self.name


class ListOf(msgspec.Struct, frozen=True):
    """At most *most* items of one type."""

    element: Type
    most: int = LIST_LIMIT

    def __str__(self) -> str:
        return f"list({self.element})"


class MapOf(msgspec.Struct, frozen=True):
    """Values of one type by a text; a key that is not there reads as null."""

    value: Type

    def __str__(self) -> str:
        return f"map(string, {self.value})"


class Optional(msgspec.Struct, frozen=True):
    """A value or null. It must be guarded before it is used as a value."""

    inner: Type

    def __str__(self) -> str:
        return f"{self.inner} or null"


@dataclass(frozen=True, slots=True)
class Object:
    """Named fields. At run time an object with these attributes, or with *keyed* a mapping with these keys."""

    name: str
    fields: Mapping[str, Type] = field(hash=False)
    keyed: bool = False

    def __str__(self) -> str:
        return self.name


Type = Int | Fixed | String | Duration | Simple | ListOf | MapOf | Optional | Object

INT = Int()
#: A whole number that is never negative.
COUNT = Int(0, FACT_LIMIT)
DECIMAL = Fixed()
STRING = String()
DURATION = Duration()
BOOL = Simple("bool")
TIMESTAMP = Simple("timestamp")
DATE = Simple("date")
NULL = Simple("null")

_PLAIN: Mapping[object, Type] = {
    bool: BOOL,
    int: INT,
    str: STRING,
    Decimal: DECIMAL,
    datetime: TIMESTAMP,
    date: DATE,
    timedelta: DURATION,
    type(None): NULL,
}


def object_type(struct: type[msgspec.Struct], *, name: str = "") -> Object:
    """The type of a Struct class, from its annotations.

    ``Annotated[int, msgspec.Meta(ge=0, le=100)]`` gives the range; ``max_length`` bounds a list. A field whose annotation the
    language has no type for (a set, Any, a recursive Struct) is left out: rules cannot name it.
    """
    return _object(struct, name or struct.__name__.lower(), ())


def annotated_type(annotation: object) -> Type | None:
    """The type of one annotation, or None if the language has none for it."""
    return _annotated(annotation, (), ())


def strip(kind: Type) -> Type:
    """The type without null."""
    return kind.inner if isinstance(kind, Optional) else kind


def nullable(kind: Type) -> bool:
    """Whether a value of this type may be null."""
    return isinstance(kind, Optional) or kind == NULL


def join(left: Type, right: Type) -> Type | None:
    """The smallest type that holds the values of both, or None if no type does."""
    if left == right:
        return left
    if NULL in (left, right):
        other = right if left == NULL else left
        return other if isinstance(other, Optional) else Optional(other)
    if isinstance(left, Optional) or isinstance(right, Optional):
        inner = join(strip(left), strip(right))
        return None if inner is None else Optional(inner)
    match left, right:
        case Int(), Int():
            return Int(min(left.low, right.low), max(left.high, right.high))
        case Duration(), Duration():
            return Duration(min(left.low, right.low), max(left.high, right.high))
        case ((Int() | Fixed()), (Int() | Fixed())):
            one, two = _as_fixed(left), _as_fixed(right)
            scale = max(one.scale, two.scale)
            one, two = rescale(one, scale), rescale(two, scale)
            return Fixed(min(one.low, two.low), max(one.high, two.high), scale)
        case String(), String():
            both = left.choices and right.choices
            return String(tuple(dict.fromkeys(left.choices + right.choices))) if both else STRING
        case ListOf(), ListOf():
            element = join(left.element, right.element)
            return None if element is None else ListOf(element, max(left.most, right.most))
        case _:
            return None


def _as_fixed(kind: Int | Fixed) -> Fixed:
    return kind if isinstance(kind, Fixed) else Fixed(kind.low, kind.high, 0)


def rescale(kind: Fixed, scale: int) -> Fixed:
    """The same decimals written with more digits after the point."""
    factor = 10 ** (scale - kind.scale)
    return Fixed(kind.low * factor, kind.high * factor, scale)


def _object(struct: type[msgspec.Struct], name: str, inside: tuple[type, ...]) -> Object:
    hints = typing.get_type_hints(struct, include_extras=True)
    fields = {
        each: found
        for each in struct.__struct_fields__
        if (found := _annotated(hints[each], (), (*inside, struct))) is not None
    }
    return Object(name, fields)


def _annotated(annotation: object, metas: tuple[object, ...], inside: tuple[type, ...]) -> Type | None:
    if annotation in (int, Decimal):
        return _ranged(annotation is Decimal, metas)
    plain = _PLAIN.get(annotation)
    if plain is not None:
        return plain
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return String(tuple(each.value for each in annotation))
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return None if annotation in inside else _object(annotation, annotation.__name__.lower(), inside)
    if isinstance(annotation, typing.NewType):
        return _annotated(annotation.__supertype__, metas, inside)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _annotated(arguments[0], (*metas, *arguments[1:]), inside)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, metas, inside)
    if origin is typing.Literal:
        return String(arguments) if all(isinstance(each, str) for each in arguments) else None
    if origin in (tuple, list) and arguments:
        element = _annotated(arguments[0], (), inside)
        if element is None or isinstance(strip(element), Fixed) or (origin is tuple and arguments[1:] != (...,)):
            return None
        lengths = [most for meta in metas if (most := getattr(meta, "max_length", None)) is not None]
        return ListOf(element, min([LIST_LIMIT, *lengths]))
    if origin in (dict, Mapping) and arguments[0] is str:
        value = _annotated(arguments[1], (), inside)
        return None if value is None else MapOf(value)
    return None


def _union(arguments: tuple[object, ...], metas: tuple[object, ...], inside: tuple[type, ...]) -> Type | None:
    rest = [each for each in arguments if each is not type(None)]
    if len(rest) != 1:
        return None
    inner = _annotated(rest[0], metas, inside)
    return inner if inner is None or len(rest) == len(arguments) else Optional(strip(inner))


def _ranged(exact: bool, metas: tuple[object, ...]) -> Type:
    """Declared bounds narrow a range and may widen it, up to 64 bits."""
    low, high = (-(10**6), 10**6) if exact else (-FACT_LIMIT, FACT_LIMIT)
    for meta in metas:
        if not isinstance(meta, msgspec.Meta):
            continue
        low = int(meta.ge) if meta.ge is not None else int(meta.gt) + (not exact) if meta.gt is not None else low
        high = int(meta.le) if meta.le is not None else int(meta.lt) - (not exact) if meta.lt is not None else high
    if exact:
        return Fixed(low * 10**DECIMAL_SCALE, high * 10**DECIMAL_SCALE)
    return Int(max(low, INT_MIN), min(high, INT_MAX))
