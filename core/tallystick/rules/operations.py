"""What each operator and function of the language means: which types it takes, what it gives, and its value.

Two halves. The typing half answers with the operation's name and the type of its result, ranges included; it refuses with
`Mismatch`. The meaning half, `MEANING`, is the definition every rendering is held against.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tallystick.rules.types import (
    BOOL,
    DATE,
    DECIMAL_LIMIT,
    INT_MAX,
    INT_MIN,
    NULL,
    TIMESTAMP,
    Duration,
    Fixed,
    Int,
    ListOf,
    MapOf,
    Optional,
    String,
    Type,
    join,
    nullable,
    rescale,
    strip,
)


class Mismatch(Exception):
    """The operation does not take these types; the message is for the rule's author."""

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.details = details


Typing = tuple[str, Type]

# --- typing: ranges ------------------------------------------------------------------------------------------------


def _power(value: int) -> str:
    return f"10^{len(str(abs(value))) - 1}"


def whole(*bounds: int) -> Int:
    """The range that holds all *bounds*, refused beyond 64 bits."""
    low, high = min(bounds), max(bounds)
    if low < INT_MIN or high > INT_MAX:
        raise Mismatch(
            f"this can reach {_power(max(-low, high))}, more than 64 bits hold; bound what is multiplied or added, "
            "for example with min(..., 1000000)",
            hint="min(..., 1000000)",
        )
    return Int(low, high)


def fixed(scale: int, *bounds: int) -> Fixed:
    """The range of decimals that holds all *bounds*, refused beyond 38 digits."""
    low, high = min(bounds), max(bounds)
    if max(-low, high) > DECIMAL_LIMIT or scale > 30:
        raise Mismatch(
            "this decimal can need more than 38 digits; bound what is multiplied, or round it down with floor()"
        )
    return Fixed(low, high, scale)


def span(*bounds: int) -> Duration:
    """The range of durations that holds all *bounds*, in microseconds."""
    low, high = min(bounds), max(bounds)
    if low < INT_MIN or high > INT_MAX:
        raise Mismatch("this duration can be longer than 64 bits hold")
    return Duration(low, high)


def as_fixed(kind: Type) -> Fixed:
    """A number's range as decimals."""
    assert isinstance(kind, Int | Fixed)
    return kind if isinstance(kind, Fixed) else Fixed(kind.low, kind.high, 0)


def _aligned(left: Type, right: Type) -> tuple[Fixed, Fixed, int]:
    one, two = as_fixed(left), as_fixed(right)
    scale = max(one.scale, two.scale)
    return rescale(one, scale), rescale(two, scale), scale


def _products(left: Int | Fixed, right: Int | Fixed) -> tuple[int, int, int, int]:
    return left.low * right.low, left.low * right.high, left.high * right.low, left.high * right.high


def _divisor(kind: Int) -> None:
    if kind.low <= 0 <= kind.high:
        raise Mismatch(
            "the divisor can be 0; divide by a number that cannot, or test it first: `x > 0 && ... / x`",
            hint="x > 0 && ...",
        )


def quotient(a: int, b: int) -> int:
    """Division that cuts towards zero, as CEL, SQL and C have it: -7 / 2 is -3."""
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


def remainder(a: int, b: int) -> int:
    """What division leaves, with the sign of the dividend: -7 % 2 is -1."""
    return a - b * quotient(a, b)


def _divided(left: Int, right: Int) -> Int:
    _divisor(right)
    return whole(*(quotient(a, b) for a in (left.low, left.high) for b in (right.low, right.high)))


def _left_over(left: Int, right: Int) -> Int:
    _divisor(right)
    most = max(abs(right.low), abs(right.high)) - 1
    return Int(max(left.low, -most) if left.low < 0 else 0, min(left.high, most) if left.high > 0 else 0)


# --- typing: operators ---------------------------------------------------------------------------------------------

_ORDERED = (Int, Fixed, String, Duration)
_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def binary(sign: str, left: Type, right: Type) -> Typing:
    """The operation that *sign* is for these types."""
    if sign in ("==", "!="):
        return _equality(sign, left, right)
    if sign == "in":
        return _membership(left, right)
    if sign in _COMPARISONS:
        same = _comparable(left, right) and (isinstance(left, _ORDERED) or left in (TIMESTAMP, DATE))
        if not same:
            raise _no_operator(sign, left, right)
        return _COMPARISONS[sign], BOOL
    return _arithmetic(sign, left, right)


def _arithmetic(sign: str, left: Type, right: Type) -> Typing:  # noqa: C901 - a table of overloads
    match sign, left, right:
        case "+", Int(), Int():
            return "int.add", whole(left.low + right.low, left.high + right.high)
        case "-", Int(), Int():
            return "int.sub", whole(left.low - right.high, left.high - right.low)
        case "*", Int(), Int():
            return "int.mul", whole(*_products(left, right))
        case "/", Int(), Int():
            return "int.div", _divided(left, right)
        case "%", Int(), Int():
            return "int.mod", _left_over(left, right)
        case "+", (Int() | Fixed()), (Int() | Fixed()):
            one, two, scale = _aligned(left, right)
            return "dec.add", fixed(scale, one.low + two.low, one.high + two.high)
        case "-", (Int() | Fixed()), (Int() | Fixed()):
            one, two, scale = _aligned(left, right)
            return "dec.sub", fixed(scale, one.low - two.high, one.high - two.low)
        case "*", (Int() | Fixed()), (Int() | Fixed()):
            one, two = as_fixed(left), as_fixed(right)
            return "dec.mul", fixed(one.scale + two.scale, *_products(one, two))
        case (("/" | "%"), (Int() | Fixed()), (Int() | Fixed())):
            raise Mismatch(
                "decimals are not divided, because most quotients have no exact decimal; divide whole numbers, "
                'or multiply by the inverse: decimal("0.05") instead of / 20'
            )
        case "+", String(), String():
            return "str.add", String()
        case "+", Duration(), Duration():
            return "span.add", span(left.low + right.low, left.high + right.high)
        case "-", Duration(), Duration():
            return "span.sub", span(left.low - right.high, left.high - right.low)
    if sign == "+" and {left, right} >= {TIMESTAMP} and Duration in (type(left), type(right)):
        return ("time.add" if left == TIMESTAMP else "time.radd"), TIMESTAMP
    if sign == "-" and left == TIMESTAMP and isinstance(right, Duration):
        return "time.sub", TIMESTAMP
    if sign == "-" and left == right == TIMESTAMP:
        return "time.diff", Duration()
    if sign == "-" and left == right == DATE:
        return "date.diff", Int(-3_652_059, 3_652_059)
    raise _no_operator(sign, left, right)


def _no_operator(sign: str, left: Type, right: Type) -> Mismatch:
    return Mismatch(f"`{sign}` does not take {left} and {right}", found=f"{left} and {right}")


def _scalar(kind: Type) -> bool:
    return isinstance(kind, _ORDERED) or kind in (BOOL, TIMESTAMP, DATE, NULL)


def _comparable(left: Type, right: Type) -> bool:
    return _scalar(left) and _scalar(right) and join(left, right) is not None


def _equality(sign: str, left: Type, right: Type) -> Typing:
    if NULL in (left, right):
        other = left if right == NULL else right
        if not nullable(other):
            raise Mismatch(f"this {other} is never null", expected="a value that may be null", found=str(other))
        return ("absent" if sign == "==" else "present"), BOOL
    one, two = strip(left), strip(right)
    if not (_comparable(one, two)):
        raise Mismatch(f"`{sign}` does not compare {one} with {two}", found=f"{one} and {two}")
    if isinstance(one, String) and isinstance(two, String):
        known = max(one.choices, two.choices, key=len)
        # Two constants may differ as they like; a fact that has a list of values is compared with one of them.
        if len(known) > 1 and one.choices and two.choices and not set(one.choices) & set(two.choices):
            raise Mismatch(f"these are never equal; possible here: {', '.join(sorted(known)[:12])}", known=known)
    return ("eq" if sign == "==" else "ne"), BOOL


def _membership(left: Type, right: Type) -> Typing:
    match right:
        case ListOf(element=element):
            if not _comparable(strip(left), strip(element)):
                raise Mismatch(f"a list of {element} does not contain a {strip(left)}", found=str(left))
            return "in", BOOL
        case MapOf():
            if not isinstance(left, String):
                raise Mismatch(f"the keys of a map are strings, not {left}", expected="string", found=str(left))
            return "in.map", BOOL
        case Optional():
            raise Mismatch("this list may be null; guard it with != null &&")
    raise Mismatch(f"`in` needs a list or a map on its right, found {right}", expected="list", found=str(right))


def negation(kind: Type) -> Typing:
    """The operation that ``-`` before a value is."""
    match kind:
        case Int(low=low, high=high):
            return "int.neg", whole(-low, -high)
        case Fixed(low=low, high=high, scale=scale):
            return "dec.neg", fixed(scale, -low, -high)
        case Duration(low=low, high=high):
            return "span.neg", span(-low, -high)
    raise Mismatch(f"`-` needs a number, found {kind}", expected="int", found=str(kind))


# --- typing: functions ---------------------------------------------------------------------------------------------

TEXT_LIMIT = 1_000_000
_TIME_PARTS = {
    "getFullYear": (1, 9999),
    "getMonth": (0, 11),
    "getDate": (1, 31),
    "getDayOfMonth": (0, 30),
    "getDayOfWeek": (0, 6),
    "getDayOfYear": (0, 365),
    "getHours": (0, 23),
    "getMinutes": (0, 59),
    "getSeconds": (0, 59),
    "getMilliseconds": (0, 999),
}
_SPAN_PARTS = {"getHours": 3_600_000_000, "getMinutes": 60_000_000, "getSeconds": 1_000_000}
_DATE_PARTS = {"year": (1, 9999), "month": (1, 12), "day": (1, 31), "weekday": (1, 7)}

#: Functions that take their zone as a last, constant argument; the scope's zone is filled in where it is missing.
ZONED = frozenset(_TIME_PARTS)
METHODS = frozenset(
    (*_TIME_PARTS, "startsWith", "endsWith", "contains", "size", "orValue", "sum", "lowerAscii", "upperAscii")
)
FUNCTIONS = frozenset("size sum min max abs floor ceil round decimal date timestamp duration has".split())


def date_part(name: str) -> Typing | None:
    """The operation that reads a field of a date, if it has that field."""
    return (f"date.{name}", Int(*_DATE_PARTS[name])) if name in _DATE_PARTS else None


DATE_FIELDS = tuple(_DATE_PARTS)


def method(name: str, target: Type, arguments: Sequence[Type]) -> Typing:
    """The operation that ``target.name(arguments)`` is; a zone has already been taken off the arguments."""
    match name, target, arguments:
        case (("startsWith" | "endsWith" | "contains"), String(), [String()]):
            return name, BOOL
        case (("lowerAscii" | "upperAscii"), String(), []):
            return name, String()
        case "size", _, []:
            return function("size", [target])
        case "sum", _, []:
            return function("sum", [target])
        case "orValue", _, [alternative]:
            if not isinstance(target, Optional):
                raise Mismatch(f"this {target} is never null, so .orValue() has nothing to replace")
            both = join(target.inner, alternative)
            if both is None or nullable(both):
                raise Mismatch(f"the value in place of null must be {target.inner}, found {alternative}")
            return "orValue", both
        case _, Duration(low=low, high=high), [] if name in _SPAN_PARTS:
            unit = _SPAN_PARTS[name]
            return f"span.{name}", Int(quotient(low, unit), quotient(high, unit))
        case _, _, [] if name in _TIME_PARTS and target == TIMESTAMP:
            return name, Int(*_TIME_PARTS[name])
    taken = f" and ({', '.join(map(str, arguments[:6]))})" if arguments else ""
    raise Mismatch(f".{name}() does not take {target}{taken}", found=str(target))


def function(name: str, arguments: Sequence[Type]) -> Typing:
    """The operation that ``name(arguments)`` is."""
    match name, arguments:
        case "size", [String()]:
            return "size", Int(0, TEXT_LIMIT)
        case "size", [ListOf(most=most)]:
            return "size", Int(0, most)
        case "size", [MapOf()]:
            return "size", Int(0, TEXT_LIMIT)
        case "sum", [ListOf(element=(Int() | Duration()) as element, most=most)]:
            return total(element, most)
        case "abs", [Int(low=low, high=high)]:
            return "int.abs", whole(0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high)))
        case "abs", [Fixed(low=low, high=high, scale=scale)]:
            return "dec.abs", Fixed(
                0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high)), scale
            )
        case (("floor" | "ceil" | "round"), [Fixed(low=low, high=high, scale=scale)]):
            unit = 10**scale
            return name, whole(low // unit, -(-high // unit))
        case (("floor" | "ceil" | "round"), [Int()]):
            raise Mismatch(f"{name}() rounds decimals; this is already a whole number")
        case "decimal", [Int(low=low, high=high)]:
            return "decimal", Fixed(low, high, 0)
        case (("min" | "max"), [_, _, *_]):
            return _extreme(name, arguments)
    shown = ", ".join(map(str, arguments[:6])) + (", ..." if len(arguments) > 6 else "")
    raise Mismatch(f"{name}() does not take ({shown})", found=shown)


def total(element: Type, most: int) -> Typing:
    """The sum of at most *most* values."""
    match element:
        case Int(low=low, high=high):
            return "sum", whole(min(0, low * most), max(0, high * most))
        case Fixed(low=low, high=high, scale=scale):
            return "sum", fixed(scale, min(0, low * most), max(0, high * most))
        case Duration(low=low, high=high):
            return "sum", span(min(0, low * most), max(0, high * most))
    raise Mismatch(f"a sum needs numbers or durations, found {element}", expected="int", found=str(element))


def _extreme(name: str, arguments: Sequence[Type]) -> Typing:
    kind = arguments[0]
    for other in arguments[1:]:
        both = join(kind, other)
        if both is None or nullable(both):
            raise Mismatch(f"{name}() compares values of one type, found {kind} and {other}")
        kind = both
    pick: Callable[..., int] = min if name == "min" else max
    if all(isinstance(each, Int) for each in arguments):
        return name, Int(pick(each.low for each in arguments), pick(each.high for each in arguments))  # type: ignore[union-attr]
    if all(isinstance(each, Int | Fixed) for each in arguments):
        assert isinstance(kind, Fixed)
        sides = [rescale(as_fixed(each), kind.scale) for each in arguments]
        return f"dec.{name}", Fixed(pick(each.low for each in sides), pick(each.high for each in sides), kind.scale)
    if all(isinstance(each, Duration) for each in arguments):
        return name, Duration(pick(each.low for each in arguments), pick(each.high for each in arguments))  # type: ignore[union-attr]
    if kind in (TIMESTAMP, DATE):
        return name, kind
    raise Mismatch(f"{name}() does not take {kind}", found=str(kind))


# --- meaning -------------------------------------------------------------------------------------------------------

#: Decimals are never rounded on the way: far more digits than the checker lets through.
EXACT = Context(prec=120)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def shift(moment: datetime, by: timedelta) -> datetime:
    """The instant *by* later; time ends with the years 1 and 9999, so beyond them it is their first or last microsecond."""
    try:
        return moment + by
    except OverflowError:
        return _LAST if by > timedelta(0) else _FIRST


def local(moment: datetime, zone: ZoneInfo) -> datetime:
    """The wall clock in *zone*; at the two ends of time, where none exists, that of UTC."""
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment


def rounded(value: Decimal) -> int:
    """To the nearest whole number, halves away from zero."""
    return int(value.to_integral_value(ROUND_HALF_UP))


def cut(value: Decimal, scale: int) -> Decimal:
    """A decimal fact as rules see it: digits beyond the declared ones are cut off."""
    return Decimal(int(value.scaleb(scale, EXACT))).scaleb(-scale, EXACT)


def _ascii(table: Mapping[int, int]) -> Callable[[str], str]:
    return lambda text: text.translate(table)


_LOWER = {each: each + 32 for each in range(ord("A"), ord("Z") + 1)}
_UPPER = {each + 32: each for each in _LOWER}

#: Parts of a wall-clock time, numbered as CEL numbers them (months and days of the month from 0, Sunday is 0).
TIME_PARTS: Mapping[str, Callable[[datetime], int]] = {
    "getFullYear": lambda t: t.year,
    "getMonth": lambda t: t.month - 1,
    "getDate": lambda t: t.day,
    "getDayOfMonth": lambda t: t.day - 1,
    "getDayOfWeek": lambda t: t.isoweekday() % 7,
    "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
    "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute,
    "getSeconds": lambda t: t.second,
    "getMilliseconds": lambda t: t.microsecond // 1000,
}


def _part(name: str) -> Callable[[datetime, ZoneInfo], int]:
    read = TIME_PARTS[name]
    return lambda moment, zone: read(local(moment, zone))


def _span_part(name: str) -> Callable[[timedelta], int]:
    unit = _SPAN_PARTS[name]
    return lambda length: quotient(length // _MICROSECOND, unit)


def _sum(items: Sequence[Any]) -> Any:
    return sum(items[1:], items[0]) if items else 0


MEANING: Mapping[str, Callable[..., Any]] = {
    "not": operator.not_,
    "present": lambda value: value is not None,
    "absent": lambda value: value is None,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "in": lambda value, items: value in items,
    "in.map": lambda key, entries: entries.get(key) is not None,
    "int.add": operator.add,
    "int.sub": operator.sub,
    "int.mul": operator.mul,
    "int.div": quotient,
    "int.mod": remainder,
    "int.neg": operator.neg,
    "int.abs": abs,
    "dec.add": EXACT.add,
    "dec.sub": EXACT.subtract,
    "dec.mul": EXACT.multiply,
    "dec.neg": EXACT.minus,
    "dec.abs": EXACT.abs,
    "dec.min": lambda *values: min(map(Decimal, values)),
    "dec.max": lambda *values: max(map(Decimal, values)),
    "decimal": Decimal,
    "floor": lambda value: int(value.to_integral_value(ROUND_FLOOR)),
    "ceil": lambda value: int(value.to_integral_value(ROUND_CEILING)),
    "round": rounded,
    "min": min,
    "max": max,
    "sum": _sum,
    "size": len,
    "str.add": operator.add,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": lambda text, part: part in text,
    "lowerAscii": _ascii(_LOWER),
    "upperAscii": _ascii(_UPPER),
    "orValue": lambda value, alternative: alternative if value is None else value,
    "span.add": operator.add,
    "span.sub": operator.sub,
    "span.neg": operator.neg,
    "time.add": shift,
    "time.radd": lambda by, moment: shift(moment, by),
    "time.sub": lambda moment, by: shift(moment, -by),
    "time.diff": operator.sub,
    "date.diff": lambda a, b: (a - b).days,
    "date.of": lambda moment, zone: local(moment, zone).date(),
    "date.year": lambda day: day.year,
    "date.month": lambda day: day.month,
    "date.day": lambda day: day.day,
    "date.weekday": lambda day: day.isoweekday(),
    **{f"span.{name}": _span_part(name) for name in _SPAN_PARTS},
    **{name: _part(name) for name in _TIME_PARTS},
}
