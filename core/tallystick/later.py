"""Modules that are imported when something of them is first used: who asks for help does not wait for a database.

And where a process that this one starts finds the same ones.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


class Later:
    """Stands for a module of the core that is not imported yet.

    Commands import so what only some of them need.  Beside it the same import stands under TYPE_CHECKING, for people,
    for types and for the contracts between floors.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(f".{self._name}", __package__), name)


def later(*names: str) -> tuple[Later, ...]:
    """A stand-in for each module named."""
    return tuple([Later(name) for name in names])


def module_path() -> str:
    """PYTHONPATH for a process that is to import what this one can."""
    return os.pathsep.join(filter(None, sys.path))
