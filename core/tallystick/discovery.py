"""The plugins that are installed here, found through their entry points and not imported."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import msgspec

from . import manifest, structs
from .errors import InvalidManifest, PluginBroken
from .events import EventKind, Facts
from .intake import check_facts
from .manifest import Manifest

GROUP = "tallystick.plugins"
_VERSION = re.compile(r"^Version: *(\S+)", re.MULTILINE)


class Installed:
    """One installed plugin.  Looking at it imports nothing of it; only :meth:`load` does."""

    def __init__(self, name: str, entry: str, distribution: Distribution) -> None:
        self._entry = entry
        self._distribution = distribution
        self.id = name
        #: other distributions that claim the same id
        self.rivals: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Installed {self.id} from {self.distribution}>"

    @property
    def distribution(self) -> str:
        """Name of the distribution that brought it."""
        return self._distribution.name

    @cached_property
    def version(self) -> str:
        """Version of that distribution."""
        # dist.version parses the whole METADATA, README included, with the mail parser: ten times the time
        found = _VERSION.search(self._distribution.read_text("METADATA") or "")
        return found[1] if found else self._distribution.version

    @cached_property
    def file(self) -> Path:
        """Where its plugin.toml is; raises :class:`~tallystick.errors.PluginBroken` if there is none."""
        package, _, name = self._entry.partition(":")
        if "." in package or not name.strip():
            raise self.broken(f'entry point is "{self._entry}"; expected "top_level_package:plugin.toml"')
        try:
            spec = importlib.util.find_spec(package.strip())  # of a top-level package: locates, executes nothing
        except (ImportError, ValueError) as error:
            raise self.broken(f"package {package} cannot be found: {error}") from None
        for folder in (spec.submodule_search_locations if spec is not None else None) or ():
            if (path := Path(folder, name.strip())).is_file():
                return path
        raise self.broken(f"its package {package} has no {name}: its files are missing")

    @cached_property
    def manifest(self) -> Manifest:
        """Its name plate; raises :class:`~tallystick.errors.PluginBroken` if that cannot be had."""
        if self.rivals:
            raise self.broken(f"several distributions bring it: {', '.join(self.rivals)}; uninstall all but one")
        try:
            found = manifest.read(self.file, version=self.version, file=f"{self.file.parent.name}/{self.file.name}")
        except InvalidManifest as error:
            raise PluginBroken(f'plugin "{self.id}": {error}', plugin=self.id, problems=error.problems) from error
        if found.id != self.id:
            raise self.broken(f'its entry point is called "{self.id}" but its plugin.toml says id = "{found.id}"')
        return found

    def anew(self) -> Installed:
        """The same, not looked at yet: what another process is sent."""
        return Installed(self.id, self._entry, self._distribution)

    @property
    def is_glue(self) -> bool:
        """Whether it may install itself."""
        return self.mentions("auto_install")

    def mentions(self, word: str) -> bool:
        """Whether its plugin.toml has that *word* in it: a first look, a hundred times cheaper than reading the manifest."""
        return word in self._text

    @cached_property
    def _text(self) -> str:
        try:
            return self.file.read_text(encoding="utf-8", errors="replace")
        except (OSError, PluginBroken):
            return ""

    def broken(self, why: str) -> PluginBroken:
        """The refusal to run this plugin, saying why."""
        return PluginBroken(f'plugin "{self.id}" ({self.distribution}): {why}', plugin=self.id)


def discover() -> dict[str, Installed]:
    """Every installed plugin by id, sorted; broken ones too, which say so when their manifest is asked for."""
    found: dict[str, Installed] = {}
    for distribution in distributions():
        for name, entry in _entries(distribution.read_text("entry_points.txt") or ""):
            plugin = Installed(name, entry, distribution)
            first = found.setdefault(name, plugin)
            # of one distribution found twice along the path, the first is the one that Python imports
            if first is not plugin and first.distribution != plugin.distribution:
                first.rivals = (*(first.rivals or (first.distribution,)), plugin.distribution)
    return dict(sorted(found.items()))


def _entries(text: str) -> Iterator[tuple[str, str]]:
    # importlib.metadata.entry_points() would parse every entry point of every distribution: three times the time
    section = text.partition(f"[{GROUP}]")[2].partition("\n[")[0]
    for line in section.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith(("#", "[")):
            yield name.strip(), value.strip()


def manifests(plugins: Mapping[str, Installed]) -> tuple[dict[str, Manifest], dict[str, PluginBroken]]:
    """The manifests that can be read, and why the others cannot."""
    good: dict[str, Manifest] = {}
    bad: dict[str, PluginBroken] = {}
    for name, plugin in plugins.items():
        try:
            good[name] = plugin.manifest
        except PluginBroken as error:
            bad[name] = error
    return good, bad


def load(reference: str, *, plugin: str) -> Any:
    """Import what ``module:object`` names.

    Raises :class:`~tallystick.errors.PluginBroken`, naming *plugin*, whatever goes wrong inside its code.
    """
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        structs.learn_more()
        for part in name.split("."):
            found = getattr(found, part)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's module may raise anything; the core must boot
        why = f"{type(error).__name__}: {error}"
        raise PluginBroken(f'plugin "{plugin}": cannot import {reference}: {why}', plugin=plugin) from error
    return found


def load_kinds(declared: Manifest) -> tuple[EventKind, ...]:
    """The kinds of events a plugin brings, with their facts classes imported.

    Raises :class:`~tallystick.errors.PluginBroken` if one is not a subclass of Facts, if the door cannot promise exactness
    for it (see :func:`~tallystick.intake.check_facts`) or if its example does not fit it.
    """
    kinds = []
    for event in declared.events:
        facts = load(event.facts, plugin=declared.id)
        if not (isinstance(facts, type) and issubclass(facts, Facts)):
            raise PluginBroken(f'plugin "{declared.id}": {event.facts} is not a subclass of Facts', plugin=declared.id)
        if objections := check_facts(facts):
            why = f'plugin "{declared.id}": {event.facts} is not exact: {"; ".join(objections)}'
            raise PluginBroken(why, plugin=declared.id)
        example = event.example
        try:
            if isinstance(example, str):
                folder = declared.root or Path()
                example = msgspec.json.decode((folder / example).read_bytes(), type=dict[str, Any])
            msgspec.convert(example, facts)
        except (OSError, msgspec.MsgspecError) as error:
            why = f'plugin "{declared.id}": the example of {event.name} does not fit its facts: {error}'
            raise PluginBroken(why, plugin=declared.id) from None
        kinds.append(
            EventKind(
                name=event.name,
                facts=facts,
                summary=event.summary.languages,
                example=example,
                plugin=declared.id,
                members=event.members,
                guest=event.guest,
                permission=event.permission,
                blocked=event.blocked,
            )
        )
    return tuple(kinds)
