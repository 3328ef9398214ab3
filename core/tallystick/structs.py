"""How structs are read is worked out before threads read them.

msgspec 0.22 works out how a Struct is read when the first one is, and shows it to other threads half done: two threads
that read their first one of a class at the same moment bring the process down.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from weakref import WeakSet

import msgspec

_known: Final[WeakSet[type[msgspec.Struct]]] = WeakSet()


def learn() -> None:
    """Work out how every Struct of the process is read.  Call it before threads begin that read any."""
    for struct in set(_all(msgspec.Struct)) - set(_known):
        _known.add(struct)
        with suppress(Exception):  # what cannot be read is read by nobody
            msgspec.json.Decoder(struct)


def learn_more() -> None:
    """The same for what was imported since, if there may be threads already."""
    if _known:
        learn()


def _all(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for struct in base.__subclasses__():
        if not struct.__module__.startswith("msgspec."):  # msgspec's own descriptions of types: nobody reads them
            yield struct
        yield from _all(struct)
