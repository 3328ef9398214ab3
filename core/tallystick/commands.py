"""Commands that plugins bring: ``tally <plugin> <command>``, listed from manifests, imported when they are called.

A command is a plain function.  Its first argument is the :class:`~tallystick.house.Errand`; its other parameters are the command line: one
without a default is an argument, any other an option (a bool a flag); ``Annotated[date | None, {"en": ..., "zh": ...}]`` says what
it is for.  It may ask for ``language``.  It returns a document for programs and lines for people.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import attrs
import click

from . import discovery
from .errors import InvalidRequest
from .manifest import DeclaredCommand, DeclaredDemo, Manifest
from .terminal import Command, Desk, Group, Option, Root, command, language, option, say, tenant_of, tenant_option

if TYPE_CHECKING:
    from .house import Errand, House


def visit(built: House, tenant: str, plugin: str, name: str) -> Errand:
    """What a command of *plugin* gets: the plugin as *tenant* has set it up, now.

    Raises InvalidRequest if the tenant does not run it.
    """
    if all(part.id != plugin for part in built.registry.latest(tenant).pipeline.parts):
        raise InvalidRequest(say("{tenant} does not run {plugin}", tenant=tenant, plugin=plugin))
    return built.errand(plugin, tenant, name)


def bringing(section: str) -> Mapping[str, Manifest]:
    """The manifests of installed plugins that may have this *section*; to read one takes ten times a look at its text."""
    installed = discovery.discover()
    return discovery.manifests({name: each for name, each in installed.items() if each.mentions(section)})[0]


@attrs.frozen
class Section:
    """What a plugin adds to the report of a programme."""

    plugin: str
    title: str
    document: Any
    lines: list[str]


def sections(built: House, tenant: str) -> list[Section]:
    """What the plugins of a tenant add to its report: the commands that their manifests mark so, called without arguments."""
    found = []
    for name in built.tenants()[tenant].plugins:
        for declared in built.installed[name].manifest.commands:
            if declared.report:
                function = discovery.load(declared.run, plugin=name)
                given = {"language": language()} if "language" in inspect.signature(function).parameters else {}
                document, lines = function(visit(built, tenant, name, declared.id), **given)
                found.append(Section(name, declared.summary.in_language(language()), document, lines))
    return found


@attrs.frozen
class Show:
    """What a plugin brings for ``tally demo``: ``--kiosk`` of the declared ``vr_kiosk.kiosk``."""

    plugin: str
    declared: DeclaredDemo
    tables: str  #: what the demo's tally.toml gets
    title: str  #: the first line of them, by which they are found again

    @property
    def name(self) -> str:
        """As which option and as what of the answer it is known."""
        return self.declared.id.partition(".")[2]

    def open(self, built: House, tenant: str, url: str, limit: int | None = None) -> tuple[Any, list[str]]:
        """Call the plugin's function when the year was played, or its first *limit* baskets; *url* is where the demo is or
        will be served.
        """
        function = discovery.load(self.declared.run, plugin=self.plugin)
        given = {"language": language(), "url": url, "limit": limit}
        wanted = inspect.signature(function).parameters
        found: tuple[Any, list[str]] = function(
            visit(built, tenant, self.plugin, self.declared.id),
            **{name: value for name, value in given.items() if name in wanted},
        )
        return found


def shows() -> list[Show]:
    """What the installed plugins bring for ``tally demo``, by name; of two of one name, the first plugin's."""
    found: dict[str, Show] = {}
    for plugin, manifest in sorted(bringing("demos").items()):
        for declared in manifest.demos:
            if manifest.root is not None:
                tables = (manifest.root / declared.settings).read_text("utf-8")
                show = Show(plugin, declared, tables, tables.partition("\n")[0])
                found.setdefault(show.name, show)
    return sorted(found.values(), key=lambda show: show.name)


class WithShows(Command):
    """A command with an option for each of the plugins' shows; it is given those that were asked for."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own, then a flag for each."""
        own = super().get_params(ctx)
        if "tallystick.shows" not in ctx.meta:
            ctx.meta["tallystick.shows"] = shows()
        taken = {name for parameter in own for name in parameter.opts}
        flags: list[click.Parameter] = [
            Option([f"--{show.name}"], is_flag=True, help=show.declared.summary.in_language(language()))
            for show in ctx.meta["tallystick.shows"]
            if f"--{show.name}" not in taken
        ]
        return [*own[:-1], *flags, own[-1]]  # --help stays the last

    def invoke(self, ctx: click.Context) -> Any:
        """Hand over what was asked for as ``shows``."""
        asked = {show.name: ctx.params.pop(show.name.replace("-", "_"), False) for show in ctx.meta["tallystick.shows"]}
        ctx.params["shows"] = [show for show in ctx.meta["tallystick.shows"] if asked[show.name]]
        return super().invoke(ctx)


class Day(click.ParamType[date]):
    """A date such as 2026-01-01."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read what was typed."""
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(say("{value} is no date such as 2026-01-01", value=repr(value)), param, ctx)


_TYPES: Mapping[type, Any] = {str: str, int: int, date: Day()}


class PluginGroup(Group):
    """The commands of one plugin."""

    def __init__(self, manifest: Manifest) -> None:
        summary = manifest.summary.in_language(language())
        super().__init__(group_of(manifest), help=summary, short_help=summary)
        self._declared = {each.id.partition(".")[2]: each for each in manifest.commands}
        self._plugin = manifest.id

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """By name."""
        return sorted(self._declared)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """The command, made of the plugin's function."""
        declared = self._declared.get(cmd_name)
        if declared is not None and cmd_name not in self.commands:
            function = discovery.load(declared.run, plugin=self._plugin)
            made = make_command(self, self._plugin, cmd_name, declared, function)
            made.help = declared.summary.in_language(language()) or inspect.cleandoc(function.__doc__ or "")
        return self.commands.get(cmd_name)


class WithPlugins(Root):
    """All commands, those of the installed plugins included."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our own, then those of plugins that bring any."""
        return [*super().list_commands(ctx), *sorted(self._manifests(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command of ours by its name, or the group of a plugin."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        manifest = self._manifests(ctx).get(cmd_name)
        return PluginGroup(manifest) if manifest is not None else None

    def _manifests(self, ctx: click.Context) -> dict[str, Manifest]:
        if "tallystick.commands" not in ctx.meta:
            ctx.meta["tallystick.commands"] = bringing("commands")
        found: Mapping[str, Manifest] = ctx.meta["tallystick.commands"]
        mine = {group_of(manifest): manifest for manifest in reversed([*found.values()]) if manifest.commands}
        return {name: manifest for name, manifest in mine.items() if name not in self.commands}


def group_of(manifest: Manifest) -> str:
    """As what ``tally`` knows the plugin's commands: ``tally device pair`` of the plugin vr_kiosk."""
    return manifest.command_group or manifest.id


def make_command(
    group: Group, plugin: str, name: str, declared: DeclaredCommand, function: Callable[..., tuple[Any, list[str]]]
) -> Command:
    """The command line that a function's parameters describe."""
    _, *parameters = inspect.signature(function).parameters.values()
    hints, extras = get_type_hints(function), get_type_hints(function, include_extras=True)

    def run(desk: Desk, tenant: str | None, **given: Any) -> None:
        if "language" in hints:
            given["language"] = language()
        with desk.house() as built:
            found = visit(built, tenant_of(built.config, tenant), plugin, declared.id)
            document, lines = function(found, **given)
        desk.answer(document, *lines)

    run.__doc__ = function.__doc__
    for parameter in reversed(parameters):
        if parameter.name == "language":
            continue
        told: Any = next(iter(getattr(extras[parameter.name], "__metadata__", ())), {})
        help_ = told.get(language(), told.get("en")) if isinstance(told, Mapping) else told
        kind = next(
            (each for each in (hints[parameter.name], *get_args(hints[parameter.name])) if each in (*_TYPES, bool)), str
        )
        if parameter.default is inspect.Parameter.empty:
            run = click.argument(parameter.name, type=_TYPES[kind])(run)
        elif kind is bool:
            run = option(f"--{parameter.name.replace('_', '-')}", is_flag=True, help=help_)(run)
        else:
            run = option(
                f"--{parameter.name.replace('_', '-')}", type=_TYPES[kind], default=parameter.default, help=help_
            )(run)
    made = command(group, name)(tenant_option(run))
    assert isinstance(made, Command)
    return made
