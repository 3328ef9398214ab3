"""What an expression may name: facts with their types, functions with their price, and the zone of its clock."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from tallystick.rules.operations import FUNCTIONS, METHODS
from tallystick.rules.types import Type

_MACROS = frozenset(("all", "exists", "exists_one", "filter", "map"))


@dataclass(frozen=True, slots=True)
class Function:
    """A function that a plugin adds to the language: ``name(arguments)``.

    *call* must be pure and total: for arguments of the declared types it returns a value of the declared type (a number inside
    its range) and raises nothing. *cost* says how many plain operations one call is worth.
    """

    name: str
    parameters: tuple[Type, ...]
    result: Type
    call: Callable[..., Any]
    cost: int = 10

    def __post_init__(self) -> None:
        _check_name(self.name, "function")
        if self.name in FUNCTIONS | METHODS | _MACROS:
            raise ValueError(f"the language already has a function {self.name}")
        if self.cost < 1:
            raise ValueError(f"function {self.name}: the cost is at least 1")


class Scope:
    """The facts a rule may name, by name and type.

    A name whose type is `Optional` (``purchase`` of an event that may be none) must be guarded like every nullable value;
    `compile_rules` guards it by itself: a rule that names such a fact is not asked where the fact is null.
    *zone* is the IANA zone of ``getHours()``, ``date()`` and the like where the rule names none.
    """

    __slots__ = ("functions", "names", "zone")

    def __init__(self, names: Mapping[str, Type], functions: Iterable[Function] = (), zone: str = "UTC") -> None:
        for name in names:
            _check_name(name, "fact")
        self.names: Mapping[str, Type] = dict(names)
        self.functions: Mapping[str, Function] = {each.name: each for each in functions}
        self.zone = zone
        ZoneInfo(zone)

    def but(self, **names: Type) -> Scope:
        """The same scope with some names added or retyped."""
        return Scope({**self.names, **names}, self.functions.values(), self.zone)


def _check_name(name: str, what: str) -> None:
    if not (name.isascii() and name.isidentifier()) or name.startswith("_") or keyword.iskeyword(name):
        raise ValueError(
            f"{name!r} cannot be the name of a {what}: plain ASCII letters, no underscore first, no keyword"
        )
