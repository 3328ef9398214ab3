"""Which plugins run together, in which one order, and why; pure, and the same whatever order it is told things in."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

import attrs
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from . import inspection
from .document import Document
from .errors import InvalidConfig, Unresolvable
from .manifest import API_VERSION, Manifest


@attrs.frozen(kw_only=True)
class Resolution:
    """A set of plugins that can run together."""

    order: tuple[str, ...]  #: the plugins in the order in which everything is done with them
    reasons: Mapping[str, str]  #: why each is on: ``tiers`` -> "needed by coalition, which is enabled in tally.toml"
    versions: Mapping[str, Version]
    glue: tuple[str, ...] = ()  #: those that installed themselves, because all they join is on
    left_out: Mapping[str, str] = attrs.field(factory=dict)  #: enabled, but cannot run, and why
    notes: tuple[str, ...] = ()  #: nothing wrong, but worth saying


def resolve(
    manifests: Mapping[str, Manifest],
    enabled: Mapping[str, str],
    api_version: Version = API_VERSION,
    *,
    disabled: Collection[str] = (),
    auto_install: bool = True,
    broken: Mapping[str, str] | None = None,
    lenient: bool = False,
) -> Resolution:
    """Resolve what *enabled* asks for (plugin -> reason, such as "enabled in tally.toml") among installed *manifests*.

    What an enabled plugin depends on is enabled too, unless it is in *disabled*; glue enables itself, unless it is in
    *disabled* or *auto_install* is off.  *broken* says why further plugins are installed but of no use.

    Raises :class:`~tallystick.errors.Unresolvable` with every reason.  With *lenient*, plugins that are missing, broken or
    of the wrong API version are left out instead, together with those that need them; contradictions (conflicts, two of
    an exclusive role, cycles) are always refused, for nobody can say which side was meant.
    """
    chosen = _Choice(manifests, api_version, disabled, broken or {})
    chosen.enable_all(enabled, glue=auto_install)
    left_out = dict(chosen.refused | chosen.dragged)
    while lenient and (chosen.refused or chosen.dragged):
        # without those that cannot run, some may be needed no more, and some glue may not fit: begin again
        chosen = _Choice(manifests, api_version, {*disabled, *left_out}, broken or {})
        chosen.enable_all({name: why for name, why in enabled.items() if name not in left_out}, glue=auto_install)
        left_out |= chosen.refused | chosen.dragged
    problems = [*chosen.refused.values(), *chosen.contradictions()]
    order, cycle = chosen.order()
    if cycle:
        problems.append(cycle)
    if problems:
        raise Unresolvable(problems)
    return Resolution(
        order=order,
        reasons={name: chosen.reasons[name] for name in order},
        versions={name: manifests[name].version for name in order},
        glue=tuple(name for name in order if name in chosen.glue),
        left_out={name: why for name, why in sorted(left_out.items()) if name in enabled},
        notes=tuple(chosen.notes()),
    )


class _Choice:
    """The plugins that are on so far, each with its reason."""

    def __init__(
        self, manifests: Mapping[str, Manifest], api: Version, disabled: Collection[str], broken: Mapping[str, str]
    ) -> None:
        self.manifests = manifests
        self.api = api
        self.disabled = disabled
        self.broken = broken
        self.reasons: dict[str, str] = {}
        self.glue: set[str] = set()
        self.refused: dict[str, str] = {}  # plugin -> why it cannot run
        self.dragged: dict[str, str] = {}  # plugin -> why it cannot run either, for it needs one that cannot

    def enable_all(self, enabled: Mapping[str, str], *, glue: bool) -> None:
        """Turn on what is *enabled*, what that needs and the glue that fits; find out which of them cannot run."""
        self.enable(*((name, enabled[name]) for name in sorted(enabled)))
        if glue:
            self._enable_glue()
        for name in sorted(self.reasons):
            self._check_depends(name)
        spreading = True
        while spreading:
            spreading = False
            for name in sorted(self.reasons.keys() - self.refused.keys() - self.dragged.keys()):
                for needed in sorted(self.manifests[name].depends):
                    why = self.refused.get(needed) or self.dragged.get(needed)
                    if why is not None:
                        self.dragged.setdefault(name, f"{name} needs {needed}; {why}")
                        spreading = True

    @property
    def running(self) -> set[str]:
        """The plugins that are on and can run."""
        return self.reasons.keys() - self.refused.keys() - self.dragged.keys()

    def enable(self, *wanted: tuple[str, str]) -> None:
        """Turn on what is *wanted*, each for its reason, and what that needs; the shortest reason counts."""
        waiting = list(wanted)
        while waiting:
            name, reason = waiting.pop(0)
            if name in self.reasons or name in self.refused:
                continue
            found = self.manifests.get(name)
            if name in self.broken:
                self.refused[name] = f"{name} is broken: {self.broken[name]}; it is {reason}"
            elif found is None:
                self.refused[name] = f"{name} is not installed; it is {reason}"
            elif not found.api.contains(self.api, prereleases=True):
                asked = f'{name} {found.version} needs hook API "{found.api}", and this is {self.api}'
                self.refused[name] = f"{asked}; it is {reason}"
            else:
                self.reasons[name] = reason
                waiting += [
                    (needed, f"needed by {name}, which is {reason}")
                    for needed in sorted(found.depends)
                    if needed not in self.disabled and (needed in self.manifests or not self.providers(needed))
                ]

    def providers(self, needed: str) -> list[str]:
        """The plugins, on or not, that provide the name *needed*."""
        return sorted(name for name, found in self.manifests.items() if needed in found.provides)

    def _enable_glue(self) -> None:
        waiting = [found for _, found in sorted(self.manifests.items()) if found.auto_install]
        changed = True
        while changed:
            changed = False
            for found in waiting:
                if (
                    found.id not in self.reasons
                    and self.reasons.keys() >= set(found.auto_install)
                    and self._fits(found)
                ):
                    self.glue.add(found.id)
                    self.enable((found.id, f"glue between {_and(found.auto_install)}, which are on"))
                    changed = True

    def _fits(self, glue: Manifest) -> bool:
        # glue that cannot run is no mistake of whoever enabled the plugins it would have joined
        if glue.id in self.broken or glue.id in self.disabled or not glue.api.contains(self.api, prereleases=True):
            return False
        return all(self._has(needed, versions) for needed, versions in glue.depends.items()) and not self._clash(glue)

    def _has(self, needed: str, versions: SpecifierSet) -> bool:
        if needed in self.manifests:
            return self._in_range(needed, versions) and needed not in self.disabled
        return any(
            provider in self.reasons and self._provides(provider, needed, versions)
            for provider in self.providers(needed)
        )

    def _clash(self, glue: Manifest) -> str:
        """With which plugin that is on *glue* cannot run; empty if with all of them.  Nobody asked for it, so it yields."""
        for name in sorted(self.reasons):
            other = self.manifests[name]
            if name in glue.conflicts or glue.id in other.conflicts or {*glue.exclusive} & {*other.exclusive}:
                return name
        return ""

    def _in_range(self, needed: str, versions: SpecifierSet) -> bool:
        return versions.contains(self.manifests[needed].version, prereleases=True)

    def _check_depends(self, name: str) -> None:
        found = self.manifests[name]
        for needed, versions in sorted(found.depends.items()):
            if needed in self.manifests:
                if needed in self.disabled and needed not in self.reasons:
                    why = f"{name} needs {needed}, which is switched off"
                elif not self._in_range(needed, versions):
                    has = self.manifests[needed].version
                    why = f'{name} {found.version} needs {needed} "{versions}", and {has} is installed'
                else:
                    continue
            elif providers := self.providers(needed):
                on = [provider for provider in providers if provider in self.reasons]
                if any(self._provides(provider, needed, versions) for provider in on):
                    continue
                asked = f'"{needed}" "{versions}"' if str(versions) else f'"{needed}"'
                hint = f"{_and(on)} provides another version" if on else f"{_and(providers)} would, if enabled"
                why = f"{name} needs {asked}, which nothing provides: {hint}"
            else:
                continue  # refused by name already
            self.refused.setdefault(name, f"{why}; {name} is {self.reasons[name]}")

    def _provides(self, provider: str, needed: str, versions: SpecifierSet) -> bool:
        version = self.manifests[provider].provides[needed] or self.manifests[provider].version
        return versions.contains(version, prereleases=True)

    def contradictions(self) -> list[str]:
        """Pairs that cannot run together, each with both reasons."""
        said = []
        roles: dict[str, list[str]] = {}
        for name in sorted(self.running):
            found = self.manifests[name]
            for other, why in sorted(found.conflicts.items()):
                if other in self.reasons:
                    said.append(f"{name} and {other} cannot run together: {why}; {self._because(name, other)}")
            for role in found.exclusive:
                roles.setdefault(role, []).append(name)
        for role, names in sorted(roles.items()):
            if len(names) > 1:
                said.append(f'only one plugin may be "{role}", and {_and(names)} both are; {self._because(*names)}')
        return said

    def _because(self, *names: str) -> str:
        return "; ".join(f"{name} is {self.reasons[name]}" for name in names)

    def order(self) -> tuple[tuple[str, ...], str | None]:
        """The one order, or what is left of it and the circle that prevents it.

        Kahn's algorithm with a heap on (layer, id): nothing but names, layers and declared edges decides.
        """
        before = self._edges()
        after: dict[str, list[str]] = {name: [] for name in before}
        for name, earlier in before.items():
            for each in earlier:
                after[each].append(name)
        missing = {name: len(earlier) for name, earlier in before.items()}
        ready = [(self.manifests[name].layer_index, name) for name, count in missing.items() if count == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            _, name = heapq.heappop(ready)
            order.append(name)
            for later in after[name]:
                missing[later] -= 1
                if missing[later] == 0:
                    heapq.heappush(ready, (self.manifests[later].layer_index, later))
        if len(order) == len(before):
            return tuple(order), None
        return tuple(order), self._circle({name: before[name] for name in before.keys() - set(order)})

    def _edges(self) -> dict[str, set[str]]:
        names = self.running
        before: dict[str, set[str]] = {name: set() for name in names}  # plugin -> those that come before it
        for name in names:
            found = self.manifests[name]
            before[name].update(names.intersection([*found.depends, *found.after, *found.auto_install]))
            for needed in found.depends:
                if needed not in self.manifests:
                    before[name].update(names.intersection(self.providers(needed)))
            for later in found.before:
                if later in names:
                    before[later].add(name)
        for name in names:
            before[name].discard(name)
        return before

    def _circle(self, before: Mapping[str, Collection[str]]) -> str:
        # each of them waits for another of them, so walking back must come round
        walk = [min(before)]
        while True:
            earlier = min(each for each in before[walk[-1]] if each in before)
            if earlier in walk:
                circle = walk[walk.index(earlier) :][::-1]
                break
            walk.append(earlier)
        start = circle.index(min(circle))
        circle = [*circle[start:], *circle[:start], circle[start]]
        steps = [self._edge(one, two) for one, two in pairwise(circle)]
        return f"a circle: {' -> '.join(circle)} ({'; '.join(steps)})"

    def _edge(self, earlier: str, later: str) -> str:
        found = self.manifests[later]
        if earlier in found.depends or set(self.manifests[earlier].provides) & set(found.depends):
            return f"{later} depends on {earlier}"
        if earlier in found.after:
            return f"{later} wants to come after {earlier}"
        if later in self.manifests[earlier].before:
            return f"{earlier} wants to come before {later}"
        return f"{later} joins {earlier}"

    def notes(self) -> Iterable[str]:
        """Plugins that were not tried with this version of the API, and glue that keeps away from what is on."""
        for name in sorted(self.running):
            tested = self.manifests[name].tested
            if tested is not None and tested < self.api:
                yield f"{name} was tested with hook API {tested}, and this is {self.api}"
        for name, glue in sorted(self.manifests.items()):
            joins = glue.auto_install and self.reasons.keys() >= {*glue.auto_install}
            if joins and name not in self.reasons.keys() | self.disabled and (other := self._clash(glue)):
                yield f"{name} does not join {_and(glue.auto_install)}, for it cannot run with {other}"


def _and(names: Iterable[str]) -> str:
    listed = list(names)
    return " and ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else "".join(listed)


# --- plugins.lock --------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class LockedPlugin:
    """What the lock keeps of a plugin."""

    version: str
    hooks: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Lock:
    """The content of ``plugins.lock``: an upgrade that would run things in another order shows here first."""

    api: str
    plugins: Mapping[str, LockedPlugin]
    tenants: Mapping[str, tuple[str, ...]]  #: plugins of each tenant, in order


def lock(resolutions: Mapping[str, Resolution], manifests: Mapping[str, Manifest]) -> Lock:
    """The lock of what each tenant's *resolutions* (by tenant) came to."""
    used = sorted({name for resolution in resolutions.values() for name in resolution.order})
    return Lock(
        api=str(API_VERSION),
        plugins={
            name: LockedPlugin(version=str(manifests[name].version), hooks=manifests[name].hooks) for name in used
        },
        tenants={tenant: resolution.order for tenant, resolution in sorted(resolutions.items())},
    )


def render_lock(locked: Lock) -> str:
    """*locked* as the text of ``plugins.lock``; equal locks give equal texts."""
    lines = [
        "# The plugins of this deployment and the order in which they run; written by tally, kept in version control.",
        f'api = "{locked.api}"',
    ]
    for name, plugin in locked.plugins.items():
        lines += ["", f"[plugins.{name}]", f'version = "{plugin.version}"', f"hooks = {_toml_list(plugin.hooks)}"]
    for tenant, order in locked.tenants.items():
        lines += ["", f"[tenants.{tenant}]", f"order = {_toml_list(order)}"]
    return "\n".join(lines) + "\n"


def read_lock(document: Document) -> Lock:
    """The lock that :func:`render_lock` wrote; raises :class:`~tallystick.errors.InvalidConfig` if somebody else did."""
    data, mistakes = inspection.check(document.data, _LOCK_SCHEMA)
    if mistakes:
        raise InvalidConfig([mistake.problem(document) for mistake in mistakes])
    return Lock(
        api=data["api"],
        plugins={
            name: LockedPlugin(version=plugin["version"], hooks=tuple(plugin["hooks"]))
            for name, plugin in data.get("plugins", {}).items()
        },
        tenants={tenant: tuple(kept["order"]) for tenant, kept in data.get("tenants", {}).items()},
    )


def diff_locks(old: Lock, new: Lock) -> tuple[str, ...]:
    """What changes from *old* to *new*, a sentence each; none if nothing does."""
    said = [f"hook API {old.api} becomes {new.api}"] if old.api != new.api else []
    for name in sorted(old.plugins.keys() & new.plugins.keys()):
        before, after = old.plugins[name], new.plugins[name]
        if before.version != after.version:
            said.append(f"{name} {before.version} becomes {after.version}")
        said += [f"{name} now answers {hook}" for hook in after.hooks if hook not in before.hooks]
        said += [f"{name} answers {hook} no more" for hook in before.hooks if hook not in after.hooks]
    for tenant in sorted(old.tenants.keys() | new.tenants.keys()):
        was, now = old.tenants.get(tenant, ()), new.tenants.get(tenant, ())
        said += [f"{tenant}: {name} is new{_neighbour(name, now)}" for name in now if name not in was]
        said += [f"{tenant}: {name} is gone" for name in was if name not in now]
        said += [f"{tenant}: {one} now runs before {two}, and ran after it" for one, two in _swapped(was, now)]
    return tuple(said)


def _neighbour(name: str, order: tuple[str, ...]) -> str:
    place = order.index(name)
    return f", after {order[place - 1]}" if place else ", first of all"


def _swapped(was: tuple[str, ...], now: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    kept = [name for name in now if name in was]
    return [
        (one, two) for place, one in enumerate(kept) for two in kept[place + 1 :] if was.index(one) > was.index(two)
    ]


def _toml_list(words: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


_NAMES = {"type": "list", "schema": {"type": "string"}, "required": True}
_LOCK_SCHEMA = {
    "api": {"type": "version", "required": True},
    "plugins": {
        "type": "dict",
        "keysrules": {"type": "id"},
        "valuesrules": {"type": "dict", "schema": {"version": {"type": "version", "required": True}, "hooks": _NAMES}},
    },
    "tenants": {
        "type": "dict",
        "keysrules": {"type": "id"},
        "valuesrules": {"type": "dict", "schema": {"order": _NAMES}},
    },
}
