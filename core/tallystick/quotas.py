"""What a manifest bounds for a whole event or day, whichever hooks it comes from; and what a merchant grants in all.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from .breaker import Skipped
from .effects import AMOUNTS, Bonus, Cap, Effect, Grant, Move, Multiply, Spend
from .errors import PluginFailed
from .manifest import Bounds
from .settle import plugin_of

#: plugin -> effect -> bounds that hold beyond one answer
Quotas = Mapping[str, Mapping[str, Bounds]]
#: plugin -> unit -> what it may give in all
Budgets = Mapping[str, Mapping[str, int]]


class _Part(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def grants(self) -> Mapping[str, Bounds]: ...


def quotas_of(parts: Iterable[_Part]) -> Quotas:
    """The bounds that must be added up over all hooks of an event, or over a day."""
    found = {}
    for part in parts:
        mine = {
            name: bounds
            for name, bounds in part.grants.items()
            if (bounds.max_per_event, bounds.max_count, bounds.max_per_member_day) != (None, None, None)
        }
        if mine:
            found[part.id] = mine
    return found


def counter_of(plugin: str, effect: str) -> str:
    """The counter of what a plugin gave a member on a day by one kind of effect."""
    return f"quota:{plugin}.{effect}"


def budget_counter(plugin: str, unit: str) -> tuple[str, str]:
    """The counter of what a plugin's rules gave of a unit, and its window."""
    return f"cap:budget:{plugin}/{unit}", "budget"


def counters_of(quotas: Quotas, budgets: Budgets) -> frozenset[tuple[str, str]]:
    """What must be known of every event."""
    daily = {
        (counter_of(plugin, effect), "day")
        for plugin, effects in quotas.items()
        for effect, bounds in effects.items()
        if bounds.max_per_member_day is not None
    }
    return frozenset(daily | {budget_counter(plugin, unit) for plugin, units in budgets.items() for unit in units})


def budget_caps(proposals: Sequence[Effect], budgets: Budgets) -> list[Cap]:
    """What is left of each budget cuts the gains that draw on it."""
    rules: dict[tuple[str, str], set[str]] = {}
    for effect in proposals:
        if isinstance(effect, Grant | Bonus | Multiply) and effect.unit in budgets.get(plugin_of(effect.rule), ()):
            rules.setdefault((plugin_of(effect.rule), effect.unit), set()).add(effect.rule)
    return [
        Cap(
            rule=f"{plugin}.budget", unit=unit, limit=budgets[plugin][unit], per="budget", key=f"budget:{plugin}/{unit}",
            rules=frozenset(named),
        )
        for (plugin, unit), named in sorted(rules.items())
    ]  # fmt: skip


@attrs.define
class Tally:
    """What plugins have proposed in one event so far, as far as it is bounded."""

    quotas: Quotas
    versions: Mapping[str, str]
    _sums: dict[tuple[str, str], tuple[int, int]] = attrs.field(factory=dict)  #: amount and number by plugin and effect
    #: (member, counter) -> what this event adds to it
    today: dict[tuple[int, str], int] = attrs.field(factory=dict)

    def admit(
        self, hook: str, effects: Sequence[Effect], member: int, used: Mapping[tuple[int, str], int]
    ) -> tuple[list[Effect], list[Skipped]]:
        """The effects of plugins that stay within their bounds, and the plugins that do not: each answer whole or not at all.

        *used* says what was given that day before.  Raises PluginFailed where what is refused would have taken something.
        """
        mine: dict[str, list[Effect]] = {}
        for effect in effects:
            plugin = plugin_of(effect.rule)
            if plugin in self.quotas:
                mine.setdefault(plugin, []).append(effect)
        skipped = []
        for plugin, proposed in mine.items():
            why = self._take(plugin, proposed, member, used)
            if why and any(isinstance(effect, Spend | Move) for effect in proposed):
                raise PluginFailed(
                    f"{plugin} failed, so the event is refused: {why}", plugin=plugin, hook=hook, cause="refused"
                )
            if why:
                skipped.append(
                    Skipped(plugin=plugin, version=self.versions[plugin], hook=hook, cause="refused", error=why)
                )
        out = {each.plugin for each in skipped}
        return [effect for effect in effects if plugin_of(effect.rule) not in out], skipped

    def _take(self, plugin: str, proposed: Sequence[Effect], member: int, used: Mapping[tuple[int, str], int]) -> str:
        """Add what is proposed to what was; or why it is too much, and then nothing is added."""
        sums, today = dict(self._sums), dict(self.today)
        for effect in proposed:
            name = type(effect).__name__
            bounds = self.quotas[plugin].get(name)
            if bounds is None:
                continue
            amount = getattr(effect, "amount", 0) if name in AMOUNTS else 0
            total, number = sums.get((plugin, name), (0, 0))
            total, number = sums[plugin, name] = total + amount, number + 1
            if bounds.max_per_event is not None and total > bounds.max_per_event:
                return f"{name} effects of {total} in one event; the manifest grants {bounds.max_per_event}"
            if bounds.max_count is not None and number > bounds.max_count:
                return f"{number} {name} effects in one event; the manifest grants {bounds.max_count}"
            if bounds.max_per_member_day is not None:
                key = (getattr(effect, "to", 0) or member, counter_of(plugin, name))
                today[key] = today.get(key, 0) + (amount if name in AMOUNTS else 1)
                if used.get(key, 0) + today[key] > bounds.max_per_member_day:
                    given = used.get(key, 0) + today[key]
                    return f"{name} effects of {given} on one day; the manifest grants {bounds.max_per_member_day}"
        self._sums, self.today = sums, today
        return ""


def used_of(counted: Any, quotas: Quotas, members: Iterable[int], day: Any) -> dict[tuple[int, str], int]:
    """What was given on *day* before, by member and counter; *counted* is the batch's state."""
    names = [name for name, window in counters_of(quotas, {}) if window == "day"]
    return {(member, name): counted.count(member, name, "day", day) for member in members for name in names}
