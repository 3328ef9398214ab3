"""Finds what JSON decoders let pass in silence: repeated keys, minus zero, fractions, NUL characters, too deep nesting.

Slow (20 us for a receipt of three lines) and exact.  The door asks it only when it cannot rule these out more cheaply.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

Reason = Literal[
    "duplicate_key", "fraction", "not_a_number", "minus_zero", "too_big", "nul", "surrogate", "too_deep", "malformed"
]

#: What is wrong, as a sentence.
SENTENCES: Mapping[Reason, str] = {
    "duplicate_key": "the key stands here more than once",
    "fraction": "numbers are whole here: no decimal point and no exponent",
    "not_a_number": "NaN and Infinity are not JSON",
    "minus_zero": "minus zero is not a number here; write 0",
    "too_big": "the number does not fit in 64 bits",
    "nul": "text may not hold the NUL character",
    "surrogate": "text holds half of a character (a lone UTF-16 surrogate)",
    "too_deep": "objects and arrays are nested too deeply",
    "malformed": "this is not JSON",
}


class Flaw(Struct, frozen=True):
    """What is wrong, and where (an RFC 6901 JSON Pointer)."""

    reason: Reason
    pointer: str = ""

    @property
    def sentence(self) -> str:
        """The reason in words."""
        return SENTENCES[self.reason]


def pointer(*path: str | int) -> str:
    """The RFC 6901 JSON Pointer of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def find_flaw(body: bytes, *, depth: int) -> Flaw | None:
    """The first flaw of a JSON text in its own order, or None; *depth* is how many objects and arrays may be nested."""
    try:
        value = _DECODER.decode(body.decode())
    except RecursionError:
        return Flaw("too_deep")
    except ValueError:  # neither UTF-8 nor JSON
        return Flaw("malformed")
    return next(_flaws(value, (), depth), None)


class _Bad(Struct, frozen=True):
    """Stands in the tree where something was not to be."""

    reason: Reason


class _Twice(Struct, frozen=True):
    value: Any


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, value in pairs:
            found[key] = _Twice(value) if key in seen else value
            seen.add(key)
    return found


def _integer(digits: str) -> int | _Bad:
    if len(digits) > 20:  # also keeps int() from being asked for a million digits
        return _Bad("too_big")
    number = int(digits)
    if number == 0 and digits[0] == "-":
        return _Bad("minus_zero")
    return number if -(1 << 63) <= number < 1 << 63 else _Bad("too_big")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=lambda _: _Bad("fraction"),
    parse_constant=lambda _: _Bad("not_a_number"),
)


def _flaws(value: Any, path: tuple[str | int, ...], depth: int) -> Iterator[Flaw]:
    match value:
        case str():
            yield from _text_flaws(value, path)
        case _Bad():
            yield Flaw(value.reason, pointer(*path))
        case _Twice():
            yield Flaw("duplicate_key", pointer(*path))
        case dict() | list() if depth == 0:
            yield Flaw("too_deep", pointer(*path))
        case dict():
            for key, item in value.items():
                yield from _text_flaws(key, path)
                yield from _flaws(item, (*path, key), depth - 1)
        case list():
            for index, item in enumerate(value):
                yield from _flaws(item, (*path, index), depth - 1)
        case _:
            pass


def _text_flaws(text: str, path: tuple[str | int, ...]) -> Iterator[Flaw]:
    if "\x00" in text:
        yield Flaw("nul", pointer(*path))
    try:
        text.encode()
    except UnicodeEncodeError:
        yield Flaw("surrogate", pointer(*path))
