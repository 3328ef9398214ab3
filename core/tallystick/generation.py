"""One generation of a tenant's programme: checked settings, compiled plugins, and the kinds of events it knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache

import attrs

from .events import Event, EventKind
from .pipeline import Pipeline
from .situation import Programme

DEFAULT_LATENESS = timedelta(days=7)
_MICROSECOND = timedelta(microseconds=1)
_PLACE = re.compile(r"\{([a-z_.]+)\}")


@attrs.frozen(kw_only=True)
class Generation:
    """What judges a tenant's events from :attr:`since` on, until the next generation."""

    programme: Programme
    pipeline: Pipeline
    kinds: Mapping[str, EventKind]
    since: int  #: microseconds since 1970
    lateness: timedelta = DEFAULT_LATENESS
    source_lateness: Mapping[str, timedelta] = {}
    missing: tuple[str, ...] = ()  #: required plugins that are not available: the tenant is not served
    versions: Mapping[str, str] = attrs.field(init=False)
    ladders: bool = attrs.field(init=False)  #: whether anybody sets or looks at tiers
    _late: Mapping[str, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        parts = self.pipeline.parts
        object.__setattr__(self, "versions", {part.id: part.version for part in parts})
        late = {"": self.lateness, **self.source_lateness}
        object.__setattr__(self, "_late", {source: spell // _MICROSECOND for source, spell in late.items()})
        object.__setattr__(self, "ladders", any("SetTier" in part.grants for part in parts))

    @property
    def number(self) -> int:
        """The generation's number, as records name it."""
        return self.programme.generation

    def late(self, source: str) -> int:
        """How late events of *source* may come, in microseconds."""
        return self._late.get(source, self._late[""])


def fill(template: str, event: Event) -> str:
    """Fill a key template from an event: ``{member}``, ``{order}``, ``{facts.prize}``, ``{others.to}``.

    What the event does not have is filled with nothing.  A key of which all places are empty is nobody's: it is nothing
    itself, so that events without a device do not wait for each other at the row of no device.
    """
    if template == "{member}":
        return f"m:{event.member}"
    said, places = _parts(template)
    named = [place(event) for place in places]
    if named and not any(named):
        return ""
    if len(named) == 1:
        return f"{said[0]}{named[0]}{said[1]}"
    return "".join([piece for pair in zip(said, [*named, ""], strict=True) for piece in pair])


@lru_cache(maxsize=1_024)
def _parts(template: str) -> tuple[Sequence[str], Sequence[Callable[[Event], str]]]:
    """What stands around the places of a template, and what reads each place off an event."""
    found = _PLACE.split(template)
    return found[::2], tuple([_reader(path) for path in found[1::2]])


def _reader(path: str) -> Callable[[Event], str]:
    if path == "member":
        return lambda event: f"m:{event.member}"
    room, _, field = path.partition(".")
    if path == "order" or room == "facts":
        field = field or path

        def read(event: Event) -> str:
            found = getattr(event.facts, field, None)
            return "" if found is None else str(found)

        return read
    if room == "others":
        return lambda event: f"m:{event.others.get(field, 0)}"
    return lambda _: ""
