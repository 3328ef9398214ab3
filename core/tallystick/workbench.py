"""`tally plugins`: what is installed, what each tenant runs, and switching it while the house runs."""

from __future__ import annotations

import contextlib
import time
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from . import discovery, schema
from .document import Document, as_toml
from .errors import InvalidConfig, InvalidRequest, LockOutdated, NotFound, Problem
from .later import later
from .terminal import Desk, Group, command, language, option, say, tenant_of, tenant_option

if TYPE_CHECKING:
    from . import certify as certification
    from . import database, house, queries, rehearsal, removal, resolve, scaffold, switchboard
    from .config import Tenant
    from .resolve import Lock
    from .switchboard import Change
else:
    certification, database, house, queries = later("certify", "database", "house", "queries")
    rehearsal, removal, resolve, scaffold = later("rehearsal", "removal", "resolve", "scaffold")
    (switchboard,) = later("switchboard")

#: Beside tally.toml: who runs in which order, for version control.
LOCK = "plugins.lock"
#: What can be asked of `tally certify`, as its own module has them after "none".
LEVELS = ("bronze", "silver", "gold", "platinum")
#: Who changed it, as the audit names it.
ACTOR = "command"


def in_force(desk: Desk) -> Mapping[str, Tenant]:
    """The tenants as they are set up now; as tally.toml says where there is no database yet."""
    found = desk.config()
    engine = database.connect(found.house.database)
    try:
        return found.tenants if database.missing_file(engine) else house.look(engine, found, desk.installed())
    finally:
        engine.dispose()


@click.group(cls=Group, name="workbench")
def workbench() -> None:
    """The commands of this module, which `tally` takes over."""


@command(workbench, "plugins", cls=Group, invoke_without_command=True)
@option("--tenant", help="Only this tenant.")
def plugins(desk: Desk, tenant: str | None) -> None:
    """List installed plugins and what each tenant runs."""
    if click.get_current_context().invoked_subcommand is not None:
        return
    installed = desk.installed()
    good, bad = discovery.manifests(installed)
    tenants = in_force(desk) if desk.path.exists() else {}
    if tenant is not None:
        tenants = {tenant: tenants[tenant_of(desk.config(), tenant)]}
    rows = [
        {
            "id": name,
            "version": each.version,
            "distribution": each.distribution,
            "summary": good[name].summary.in_language(language()) if name in good else "",
            "broken": bad[name].message if name in bad else None,
            "tenants": [tenant.id for tenant in tenants.values() if name in tenant.plugins],
        }
        for name, each in installed.items()
    ]
    running = {
        tenant.id: {
            "runs": {name: tenant.reasons.get(name, "") for name in tenant.plugins},
            "left_out": dict(tenant.left_out),
        }
        for tenant in tenants.values()
    }
    owing = owed(desk) if tenants else []
    lines = [f"{row['id']} {row['version']}  {row['broken'] or row['summary']}" for row in rows]
    for name, each in running.items():
        lines.append(say("tenant {tenant}", tenant=name))
        lines += [f"  {plugin}: {why}" for plugin, why in each["runs"].items()]
        lines += [f"  {plugin} -: {why}" for plugin, why in each["left_out"].items()]
    lines += [
        say("{tenant}: {plugin} failed in {hook}; {entries:entry waits|entries wait} for `tally repair`", **each)
        for each in owing
    ]
    desk.answer({"plugins": rows, "tenants": running, "failed": owing}, *lines)


def owed(desk: Desk) -> list[dict[str, Any]]:
    """Who failed in which hook, and how many entries wait to be made good."""
    engine = database.connect(desk.config().house.database)
    try:
        if database.missing_file(engine):
            return []
        with database.reading(engine) as conn:
            return queries.owed(conn)
    finally:
        engine.dispose()


switches: Any = plugins  # a group, too


@command(switches, "enable")
@click.argument("plugin")
@tenant_option
def enable(desk: Desk, plugin: str, tenant: str | None) -> None:
    """Let a plugin run for a tenant, at once and in every process.

    It is tried on recorded purchases first; if anything is wrong, what ran before goes on.
    """
    if plugin in desk.installed():
        click.echo(say("Plugins run inside the house: install only code you trust."), err=True)
        click.echo(
            say("Hooks of one you trust less can run in a process of their own: worker_lane in tally.toml."), err=True
        )
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        _tell(desk, switchboard.enable(built, chosen, plugin, actor=ACTOR), [*built.tenants().values()])


@command(switches, "disable")
@click.argument("plugin")
@tenant_option
def disable(desk: Desk, plugin: str, tenant: str | None) -> None:
    """Let a plugin run no more for a tenant; its settings and all it gave stay."""
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        _tell(desk, switchboard.disable(built, chosen, plugin, actor=ACTOR), [*built.tenants().values()])


@command(switches, "config")
@click.argument("plugin")
@tenant_option
@option("--set", "changes", multiple=True, help="KEY=VALUE, with the value as TOML writes it; repeatable.")
@option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file with all settings of the plugin.",
)
def configure(desk: Desk, plugin: str, tenant: str | None, changes: tuple[str, ...], file: Path | None) -> None:
    """Show the settings of a plugin, or change them at once and in every process."""
    if not changes and file is None:
        found = in_force(desk)[tenant_of(desk.config(), tenant)]
        if plugin not in desk.installed():
            raise NotFound(f"no plugin {plugin!r} is installed")
        runs = found.plugins.get(plugin)
        said = runs.document if runs is not None else switchboard.settings_of(found, plugin)
        desk.answer(said, *(f"{key} = {as_toml(value)}" for key, value in said.items()))
        return
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        settings = dict(switchboard.settings_of(built.tenants()[chosen], plugin))
        if file is not None:
            settings = schema.plain(Document.read(file).data)
        for change in changes:
            _set(settings, change)
        _tell(desk, switchboard.configure(built, chosen, plugin, settings, actor=ACTOR), [*built.tenants().values()])


def _set(settings: dict[str, Any], change: str) -> None:
    """Put one ``expiry.after=P30D`` into *settings*."""
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise InvalidRequest(f'found "{change}"; expected KEY=VALUE')
    try:
        value = schema.plain(tomllib.loads(f"value = {text}\n")["value"])
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = path.strip().split(".")
    table = settings
    for part in parents:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InvalidRequest(f'"{part}" in "{path}" is no table')
    table[last] = value


@command(switches, "uninstall")
@click.argument("plugin")
@option("--keep", is_flag=True, help="Switch it off for every tenant; everything it keeps stays.")
@option(
    "--export", "to", type=click.Path(dir_okay=False, path_type=Path), help="Also write what it keeps to this file."
)
@option(
    "--purge", "by", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also take out what it keeps; FILE is its export. Refused while somebody holds something by it.",
)  # fmt: skip
def uninstall(desk: Desk, plugin: str, keep: bool, to: Path | None, by: Path | None) -> None:
    """Let a plugin run for nobody any more, before its wheel is taken away.

    What it gave stays in the journal.
    """
    if sum((keep, to is not None, by is not None)) != 1:
        raise InvalidRequest(say("say one of --keep, --export FILE and --purge FILE"))
    with desk.house() as built:
        lines = by.read_text(encoding="utf-8").splitlines(keepends=True) if by is not None else None
        gone = switchboard.uninstall(built, plugin, purge=lines, actor=ACTOR)
        written = 0
        if to is not None:
            with built.reading() as conn, to.open("w", encoding="utf-8") as file:
                for line in removal.export(conn, built.installed[plugin].manifest):
                    file.write(line)
                    written += 1
    document = {"plugin": plugin, "exported": max(0, written - 2), "purged": gone}
    desk.answer(
        document,
        say("{plugin} runs for nobody.", plugin=plugin),
        *([say("{file}: {rows:row|rows}", file=to, rows=written - 2)] if to is not None else []),
        *(f"  {name} -{rows}" for name, rows in gone.items()),
    )


@command(switches, "import")
@click.argument("plugin")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def put_back(desk: Desk, plugin: str, file: Path) -> None:
    """Put back what a plugin kept, from its export; it is enabled and its tables are empty."""
    with desk.house() as built:
        rows = switchboard.put_back(built, plugin, file.read_text(encoding="utf-8").splitlines(keepends=True))
    desk.answer({"plugin": plugin, "rows": rows}, say("{file}: {rows:row|rows}", file=file, rows=rows))


@command(switches, "lock")
@option("--check", "only_check", is_flag=True, help="Write nothing; refuse if something would run otherwise.")
def lock(desk: Desk, only_check: bool) -> None:
    """Write plugins.lock: who runs in which order; say what changed since it was last written."""
    now = switchboard.lock_of([*in_force(desk).values()], desk.installed())
    changes = _changes(desk, now)
    if only_check and changes:
        raise LockOutdated("; ".join(changes))
    if not only_check:
        (desk.path.parent / LOCK).write_text(resolve.render_lock(now), encoding="utf-8")
    desk.answer({"changes": changes}, *(changes or [say("Nothing runs otherwise than {file} says.", file=LOCK)]))


def _changes(desk: Desk, now: Lock) -> tuple[str, ...]:
    file = desk.path.parent / LOCK
    if not file.exists():
        return (say("{file} is new.", file=LOCK),)
    try:
        return resolve.diff_locks(resolve.read_lock(Document.read(file, LOCK)), now)
    except (Problem, InvalidConfig) as error:  # a merge has left its marks in it, say
        return (say("{file} could not be read, so nobody knows what ran: {why}", file=LOCK, why=error.message),)


def _tell(desk: Desk, change: Change, tenants: list[Tenant]) -> None:
    """Say what is in force, and keep plugins.lock up to date where there is one."""
    file = desk.path.parent / LOCK
    more: tuple[str, ...] = ()
    if file.exists():
        now = switchboard.lock_of(tenants, desk.installed())
        more = tuple(each for each in _changes(desk, now) if each not in change.changes)  # an upgrade before, say
        file.write_text(resolve.render_lock(now), encoding="utf-8")
    desk.answer(
        attrs.asdict(change),
        say(
            "{tenant}: generation {generation} is in force, tried on {tried:purchase|purchases}",
            tenant=change.tenant,
            generation=change.generation,
            tried=change.tried,
        ),
        *(f"  {each}" for each in (*change.changes, *more)),
    )


# --- for who writes plugins ------------------------------------------------------------------------------------------


@workbench.group(cls=Group, name="new")
def new() -> None:
    """Begin something."""


@command(new, "plugin")
@click.argument("name")
@option("--with", "parts", default="", help="What else it brings: tables, jobs, routes, page; separated by commas.")
@option("--folder", type=click.Path(path_type=Path), help="Where to; by default a folder of the plugin's name.")
def new_plugin(desk: Desk, name: str, parts: str, folder: Path | None) -> None:
    """Write a plugin that works, is tested and certified as it comes, to be changed from there."""
    into = folder or Path(f"tallystick-{name.replace('_', '-')}")
    chosen = [each for each in parts.split(",") if each]
    files = scaffold.new_plugin(name, into, chosen)
    sends = {"routes", "page"} & {*chosen} and find_spec("httpx2") is None
    desk.answer(
        {"folder": str(into), "files": [str(file) for file in files]},
        *(f"  {file}" for file in files),
        *([say("Its tests send requests: pip install httpx2")] if sends else ()),
        say("Test it: cd {folder} && python -m pytest", folder=into),
        say("Certify it: tally certify {folder}", folder=into),
    )


@command(workbench, "dev")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@tenant_option
@option("--events", default=50, show_default=True, help="How many recorded events it is asked about.")
@option("--once", is_flag=True, help="Say what it proposes now, and end.")
def dev(desk: Desk, folder: Path, tenant: str | None, events: int, once: bool) -> None:
    """Reload a plugin's project on every save and show what it proposes otherwise for the tenant's last events.

    Nothing is written.  Where there is no tally.toml, it is asked about made-up events.
    """
    certification.id_of(folder)  # a folder that holds no plugin is told at once
    seen = rehearsal.snapshot(folder)
    last = found = rehearsal.rehearse(folder, desk.path, tenant, events)
    if once:
        lines = [line for each in found.asked for line in _proposed(each)]
        desk.answer(attrs.asdict(found), *lines, *_summary(found))
        return
    for line in [*_summary(found), say("Watching {folder}; Ctrl-C ends it.", folder=folder)]:
        click.echo(line)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(0.2)
            now = rehearsal.snapshot(folder)
            if now == seen:
                continue
            saved = sorted(name for name in {*seen, *now} if seen.get(name) != now.get(name))
            seen, found = now, rehearsal.rehearse(folder, desk.path, tenant, events)
            changed = [] if found.mistakes else rehearsal.differences(last, found)
            click.echo(say("saved {files}", files=", ".join(saved)))
            for line in [*(line for each in changed for line in each), *_summary(found, len(changed))]:
                click.echo(line)
            if not found.mistakes:  # what worked is what the next save is held against
                last = found


def _proposed(asked: rehearsal.Asked) -> list[str]:
    return [
        f"  {asked.heading}",
        *(f"    {each}" for each in asked.proposed),
        *([f"    = {asked.came_to}"] if asked.came_to else []),
    ]


def _summary(found: rehearsal.Rehearsal, changed: int = 0) -> list[str]:
    if found.mistakes:
        return [line for each in found.mistakes for line in rehearsal.told(each)]
    if not found.asked:
        return ["  " + say("No event is recorded yet: nothing to ask about.")]
    if changed:
        return ["  " + say("{n:other event|other events} as before", n=len(found.asked) - changed)]
    text = (
        "{n:recorded event|recorded events}, {effects:proposal|proposals}"
        if found.recorded
        else "{n:made-up event|made-up events}, {effects:proposal|proposals}"
    )
    effects = sum(len(each.proposed) for each in found.asked)
    return ["  " + say(text, n=len(found.asked), effects=effects)]


@command(workbench, "certify")
@click.argument("plugin")
@option("--postgresql", help="The URL of an empty PostgreSQL database, for gold.")
@option("--level", type=click.Choice(LEVELS), default="platinum", help="Ask no more than this level does.")
@option("--at-least", type=click.Choice(LEVELS), help="Refuse with exit status 1 below this level.")
def certify(desk: Desk, plugin: str, postgresql: str | None, level: certification.Level, at_least: str | None) -> None:
    """Compute a plugin's level, bronze to platinum, from checks; PLUGIN is an installed one's id or a project's folder."""
    folder = Path(plugin)
    meant = (folder / "pyproject.toml").is_file() or (folder.is_dir() and plugin not in desk.installed())
    path = folder if meant else None
    name = certification.id_of(path) if path is not None else plugin
    found = certification.certify(name, path, postgresql=postgresql, up_to=level)
    marks = {"passed": "ok  ", "failed": "NO  ", "not run": "-   "}
    desk.answer(
        attrs.asdict(found),
        *(
            f"{marks[each.state]}{certification.CHECKS[each.check][0]:9} {each.check:13} "
            f"{each.detail or certification.CHECKS[each.check][1]}"
            for each in found.findings
        ),
        f"{found.plugin} {found.version}: {found.level}",
    )
    if at_least is not None and certification.LEVELS.index(found.level) < certification.LEVELS.index(at_least):
        click.get_current_context().exit(1)
