"""``tally.toml``: everything a deployment is, checked at once, with the place of every mistake."""

from __future__ import annotations

import hashlib
import inspect
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import attrs
import msgspec

from . import discovery, inspection, schema, values
from .discovery import Installed
from .document import Document, Path, pointer
from .errors import InvalidConfig, PluginBroken, Problem, TenantNotServed, Unresolvable
from .hookspecs import is_hook
from .manifest import HOOKS, DeclaredMessage
from .resolve import Resolution, resolve
from .schema import Mistake
from .situation import Programme, Unit
from .values import Text

#: Variables that begin like this override the file: ``TALLY__HOUSE__PORT=8081``.
PREFIX: Final = "TALLY__"


class House(msgspec.Struct, frozen=True, kw_only=True):
    """What concerns the whole deployment."""

    database: str  #: SQLAlchemy URL; may hold a password
    data_dir: FilePath  #: where files of the house are kept
    log: Literal["text", "json"]
    log_level: Literal["debug", "info", "warning", "error"]
    host: str
    port: int
    workers: int  #: processes that answer HTTP
    language: str  #: of messages to operators
    secret: str | None  #: finds external ids and signs heads; made at `tally init`

    def __repr__(self) -> str:
        return f"House(data_dir={self.data_dir}, host={self.host!r}, port={self.port})"  # no log shall ever know the secrets


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A system that sends events."""

    name: str
    lateness: timedelta  #: how old its events may be


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin as one tenant has set it up."""

    plugin: str
    version: int  #: of the settings, not of the plugin
    document: Mapping[str, Any]  #: checked, plain JSON
    settings: Any  #: what the plugin's ``read`` made of it; the document itself if it has none


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings of a plugin may be checked and read against."""

    tenant: str
    zone: ZoneInfo
    currency: str
    minor_units: int
    language: str
    units: Mapping[str, Unit]
    plugins: tuple[str, ...]  #: all that run for this tenant, in order
    messages: Mapping[str, DeclaredMessage]  #: that these plugins may ask for, by their ids


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A merchant's programme as configured."""

    id: str
    name: Text
    zone: ZoneInfo
    currency: str
    language: str
    lateness: timedelta  #: of sources that declare none
    sources: Mapping[str, Source]
    required: tuple[str, ...]  #: without these the tenant is not served
    worker_lane: tuple[str, ...] = ()  #: plugins that run in a process of their own
    #: whether the house itself makes good what broken plugins kept back, once they work again
    repair: Literal["by_hand", "hourly"] = "by_hand"
    #: plugin -> unit -> what its rules may give of it in all, in the unit's smallest part
    budgets: Mapping[str, Mapping[str, int]] = {}
    units: Mapping[str, Unit]  #: its own and those of its plugins
    rates: Mapping[str, tuple[tuple[date, Fraction], ...]]
    birthday_29_february: Literal["02-28", "03-01"]
    plugins: Mapping[str, PluginSettings]  #: those that run, in order
    document: Mapping[str, Any]  #: plain JSON from which :func:`build_tenant` makes this tenant again
    hash: str  #: content hash of the document
    said: Mapping[str, Any] = {}  #: the table somebody wrote, plain JSON; :func:`check_tenant` takes it
    reasons: Mapping[str, str] = {}  #: why each plugin is on
    glue: tuple[str, ...] = ()
    left_out: Mapping[str, str] = {}  #: enabled, but cannot run, and why
    notes: tuple[str, ...] = ()  #: nothing wrong, but worth saying

    def programme(self, generation: int) -> Programme:
        """The programme as plugins see it in *generation*."""
        return Programme(
            tenant=self.id,
            generation=generation,
            hash=self.hash,
            zone=self.zone,
            currency=self.currency,
            units=self.units,
            language=self.language,
            birthday_29_february=self.birthday_29_february,
            rates=self.rates,
            off=tuple([each["id"] for each in self.document["plugins"] if each["id"] not in self.plugins]),
            declared={
                name: said
                for name, each in self.plugins.items()
                if isinstance(said := getattr(each.settings, "declared", None), Mapping)
            },
        )

    def lateness_of(self, source: str) -> timedelta:
        """How old an event of *source* may be."""
        known = self.sources.get(source)
        return self.lateness if known is None else known.lateness

    def assure_served(self) -> None:
        """Raise :class:`~tallystick.errors.TenantNotServed` if a plugin it requires does not run."""
        for name in self.required:
            if name not in self.plugins:
                why = self.left_out.get(name, f"{name} is not enabled")
                raise TenantNotServed(f"tenant {self.id} requires {name}: {why}", tenant=self.id, plugin=name)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A checked ``tally.toml``."""

    file: str
    house: House
    tenants: Mapping[str, Tenant]
    #: plugins that were asked for and cannot run; the house starts without them, `tally check` says no
    unavailable: tuple[Problem, ...] = ()


# --- reading -------------------------------------------------------------------------------------------------------


def load(
    path: FilePath, *, installed: Mapping[str, Installed] | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Read and check the file at *path*; the same as :func:`check` with its text.

    Raises :class:`~tallystick.errors.InvalidConfig` with every mistake.
    """
    try:
        document = Document.read(path)
    except Problem as problem:
        raise InvalidConfig([problem]) from None
    return check(document, installed=installed, environ=environ, folder=path.parent)


def check(
    document: Document,
    *,
    installed: Mapping[str, Installed] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: FilePath | None = None,
) -> Config:
    """The configuration that *document* and the environment describe.

    Of *installed* plugins those that a tenant uses are imported, to check their settings; without *installed* nothing is
    known about plugins, and none runs.  Paths of secret files are relative to *folder*.

    Raises :class:`~tallystick.errors.InvalidConfig` with every mistake, each with file, line and column.
    """
    data, overridden = _override(document.data, environ or {})
    place = _Place(document, overridden)
    checked, mistakes = inspection.check(data, SCHEMA)
    problems = [place.problem(mistake) for mistake in mistakes]
    house, found = _house(dict(_tables(checked)).get("house", {}), folder or FilePath())
    problems += [place.problem(mistake, ("house",)) for mistake in found]
    tenants: dict[str, Tenant] = {}
    unavailable: list[Problem] = []
    for name, fields in _tables(checked.get("tenants")):
        tenant, found, absent = check_tenant(name, fields, installed or {}, origin=FilePath(document.file).name)
        problems += [place.problem(mistake, ("tenants", name)) for mistake in found]
        unavailable += [place.problem(mistake, ("tenants", name)) for mistake in absent]
        if tenant is not None:
            tenants[name] = tenant
    if problems or house is None:
        # some are found twice, once in the whole and once in the part
        each = {(problem.file, problem.line, problem.column, problem.reason): problem for problem in problems}
        raise InvalidConfig([problem for _, problem in sorted(each.items())])
    return Config(file=document.file, house=house, tenants=tenants, unavailable=tuple(unavailable))


def check_tenant(
    name: str, fields: Mapping[str, Any], installed: Mapping[str, Installed], *, origin: str = "tally.toml"
) -> tuple[Tenant | None, list[Mistake], list[Mistake]]:
    """Check one tenant's table, wherever it came from (*origin* is named in reasons).

    Returns the tenant unless something is wrong; what is wrong; and what was asked for and cannot run.
    """
    data, mistakes = inspection.check(fields, TENANT)
    if mistakes:
        data = _without_mistakes(fields, mistakes)
    plugins: Mapping[str, Mapping[str, Any]] = data["plugins"]
    enabled = {plugin: f"enabled in {origin}" for plugin, said in plugins.items() if said.get("enabled", True)}
    enabled = dict.fromkeys(data["required"], f"required in {origin}") | enabled
    disabled = plugins.keys() - enabled.keys()
    mistakes += [
        Mistake(("plugins", plugin, "enabled"), f'found false, but {plugin} is listed in "required"; expected true')
        for plugin, said in plugins.items()
        if plugin in data["required"] and not said.get("enabled", True)
    ]
    manifests, broken = discovery.manifests(_concerned(installed, enabled))
    while True:  # once more for each plugin whose code turns out to fail
        try:
            resolution = resolve(
                manifests,
                enabled,
                disabled=disabled,
                auto_install=data["auto_install"],
                broken={plugin: error.message for plugin, error in broken.items()},
                lenient=True,
            )
        except Unresolvable as error:
            return None, [*mistakes, *(Mistake(("plugins",), reason, on_key=True) for reason in error.reasons)], []
        try:
            document, found = _check_plugins(name, data, resolution, installed)
            tenant = None if mistakes or found else build_tenant(name, document, installed)
            if tenant is not None:
                found = _try_out(tenant, installed)
            break
        except PluginBroken as error:
            if error.details.get("plugin") not in resolution.order:
                raise  # not one that leaving out would help
            broken[error.details["plugin"]] = error
    mistakes += found
    if mistakes:
        tenant = None
    if tenant is not None:
        left_out = dict(resolution.left_out)
        tenant = msgspec.structs.replace(
            tenant, reasons=resolution.reasons, glue=resolution.glue, left_out=left_out, notes=resolution.notes,
            said=schema.plain(fields),
        )  # fmt: skip
    return tenant, mistakes, [_missing(name, why, data, installed) for name, why in resolution.left_out.items()]


def _without_mistakes(fields: Mapping[str, Any], mistakes: Iterable[Mistake]) -> dict[str, Any]:
    """What is left of a tenant's table when what is wrong in it is taken out: enough to look for mistakes further in."""
    wrong = {mistake.path[:2] if mistake.path[:1] == ("plugins",) else mistake.path[:1] for mistake in mistakes}
    kept = {key: value for key, value in fields.items() if (key,) not in wrong}
    if isinstance(plugins := kept.get("plugins"), Mapping):
        kept["plugins"] = {name: said for name, said in plugins.items() if ("plugins", name) not in wrong}
    return inspection.check({"zone": "UTC", "currency": "USD", **kept}, TENANT)[0]


def _missing(plugin: str, why: str, data: Mapping[str, Any], installed: Mapping[str, Installed]) -> Mistake:
    close = schema.nearest(plugin, installed) if plugin not in installed else None
    hint = f'; did you mean "{close}"?' if close is not None else ""
    return Mistake(("plugins", plugin) if plugin in data["plugins"] else ("required",), why + hint, on_key=True)


def build_tenant(
    name: str,
    document: Mapping[str, Any],
    installed: Mapping[str, Installed],
    *,
    enabled: Collection[str] | None = None,
) -> Tenant:
    """Make a tenant of a *document* that was checked once (:attr:`Tenant.document`), perhaps by an older version.

    Settings of an older version are migrated by their plugin; plugins that are not among *installed* are left out, and with
    *enabled* all others, of which only the name plate is looked at: one that is off and broken stops nobody.
    Raises :class:`~tallystick.errors.PluginBroken` if a plugin's own code fails.
    """
    good, _ = discovery.manifests(
        {each["id"]: installed[each["id"]] for each in document["plugins"] if each["id"] in installed}
    )
    known = [
        each for each in document["plugins"] if each["id"] in (installed if enabled is None else {*good, *enabled})
    ]
    context = _context(name, document, tuple(each["id"] for each in known), installed)
    plugins = {
        each["id"]: read_settings(installed[each["id"]], each["settings"], each["version"], context)
        for each in known
        if enabled is None or each["id"] in enabled
    }
    lateness = timedelta(days=document["lateness_days"])
    return Tenant(
        id=name,
        name=values.text(document.get("name", name)),
        zone=context.zone,
        currency=document["currency"],
        language=document["language"],
        lateness=lateness,
        sources={
            source: Source(name=source, lateness=timedelta(days=said.get("lateness_days", document["lateness_days"])))
            for source, said in document["sources"].items()
        },
        required=tuple(document["required"]),
        worker_lane=tuple(document.get("worker_lane", ())),
        repair=document.get("repair", "by_hand"),
        budgets=document.get("budgets", {}),
        units=context.units,
        rates={currency: _rates(currency, document) for currency in document["rates"]},
        birthday_29_february=document["birthday_29_february"],
        plugins=plugins,
        document=document,
        hash=programme_hash(document),
    )


def context_of(tenant: Tenant, installed: Mapping[str, Installed]) -> Context:
    """What the settings of the tenant's plugins are read against."""
    return _context(tenant.id, tenant.document, tuple(tenant.plugins), installed)


def make_plugin(plugin: Installed, settings: PluginSettings, programme: Programme) -> Any | None:
    """The plugin's own object for one tenant, whose methods are its hooks; None if it has no hooks.

    Its factory gets ``settings`` and ``programme``, as far as it names them.
    Raises :class:`~tallystick.errors.PluginBroken` if it cannot be imported, fails, or lacks a hook that its manifest lists.
    """
    declared = plugin.manifest
    if declared.factory is None:
        return None
    factory = discovery.load(declared.factory, plugin=plugin.id)
    try:
        made = _call(factory, settings=settings.settings, programme=programme)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = f"{declared.factory} failed with {type(error).__name__}: {error}"
        raise plugin.broken(why) from error
    for hook in declared.hooks:
        if not callable(getattr(made, hook, None)):
            raise plugin.broken(f"its plugin.toml lists the hook {hook}, which {declared.factory} does not implement")
    for hook in HOOKS:
        if hook not in declared.hooks and is_hook(getattr(made, hook, None)):
            raise plugin.broken(
                f'{declared.factory} implements {hook}; expected "{hook}" in the hooks of its plugin.toml'
            )
    return made


def programme_hash(document: Mapping[str, Any]) -> str:
    """SHA-256 of a plain document's canonical JSON, in hex: equal settings have equal hashes, wherever they were written."""
    return hashlib.sha256(msgspec.json.encode(document, order="deterministic")).hexdigest()


def read_secret(said: Mapping[str, str], folder: FilePath, environ: Mapping[str, str]) -> str:
    """The secret that a setting of type ``secret`` points to; raises :class:`~tallystick.errors.Problem` if it is not there."""
    if "env" in said:
        if said["env"] not in environ:
            raise Problem(f"the variable {said['env']} is not set")
        return environ[said["env"]]
    return _read_file(folder / said["file"])


# --- the house -----------------------------------------------------------------------------------------------------


def _house(fields: Mapping[str, Any], folder: FilePath) -> tuple[House | None, list[Mistake]]:
    mistakes = []
    secrets: dict[str, str] = {}
    for key in ("database", "secret"):
        if isinstance(file := fields.get(f"{key}_file"), str):
            try:
                secrets[key] = _read_file(folder / file)
            except Problem as problem:
                mistakes.append(Mistake((f"{key}_file",), problem.reason))
    known = {*House.__struct_fields__}
    try:
        made = {key: value for key, value in fields.items() if key in known} | secrets
        made.setdefault("secret", None)
        made.setdefault("database", f"sqlite:///{(folder / made['data_dir'] / 'tally.db').as_posix()}")
        made["data_dir"] = folder / made["data_dir"]
        return House(**made), mistakes
    except (KeyError, TypeError):
        return None, mistakes  # the schema has said why


def _read_file(path: FilePath) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Problem(f'found "{path}", which cannot be read ({why}); expected a file that holds the secret') from None


# --- the environment -----------------------------------------------------------------------------------------------


def _override(data: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[Path, str]]:
    """*data* with what the environment says, and which variable said what."""
    changed: dict[str, Any] = schema.plain(data)
    overridden: dict[Path, str] = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        path: list[str] = []
        table: Any = changed
        *parents, last = variable.removeprefix(PREFIX).lower().split("__")
        for part in parents:
            path.append(_spelled(part, table))
            table = table.setdefault(path[-1], {})
            if not isinstance(table, dict):
                break
        else:
            path.append(_spelled(last, table))
            table[path[-1]] = _environment_value(environ[variable], table.get(path[-1]), tuple(path))
            # a secret's file and the secret itself are two ways to say one thing; the environment wins
            table.pop(last.removesuffix("_file") if last.endswith("_file") else f"{last}_file", None)
        overridden[tuple(path)] = variable
    return changed, overridden


def _spelled(part: str, table: Mapping[str, Any]) -> str:
    """The key that *part* of a variable's name means: variables know no hyphens and no case."""
    return next((key for key in table if key.lower().replace("-", "_") == part), part)


def _environment_value(text: str, present: Any, path: Path) -> Any:
    """A variable's text as the type that is wanted there: strings as they are, all else as TOML writes it."""
    known = HOUSE if path[:1] == ("house",) else TENANT if len(path) == 3 else {}
    if schema.takes_text(known.get(str(path[-1]), {})) or isinstance(present, str):
        return text
    try:
        return schema.plain(tomllib.loads(f"value = {text}\n")["value"])
    except tomllib.TOMLDecodeError:
        return text


class _Place(msgspec.Struct, frozen=True):
    """Where a mistake was written: in the file, or in a variable."""

    document: Document
    overridden: Mapping[Path, str]

    def problem(self, mistake: Mistake, at: Path = ()) -> Problem:
        path = at + mistake.path
        for length in range(len(path), 0, -1):
            if variable := self.overridden.get(path[:length]):
                return Problem(mistake.message, file=variable, line=1, column=1, pointer=pointer(path))
        return mistake.problem(self.document, at)


# --- plugins -------------------------------------------------------------------------------------------------------


def _concerned(installed: Mapping[str, Installed], enabled: Iterable[str]) -> dict[str, Installed]:
    """The plugins whose manifests matter: what is enabled, what that needs, and glue."""
    found: dict[str, Installed] = {}
    waiting = [*enabled, *(name for name, plugin in installed.items() if plugin.is_glue)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in installed:
            # it may be something that another plugin provides
            waiting += [other for other, plugin in installed.items() if other not in found and plugin.mentions(name)]
            continue
        found[name] = installed[name]
        try:
            waiting += installed[name].manifest.depends
        except PluginBroken:
            continue
    return found


def _check_plugins(
    tenant: str, data: Mapping[str, Any], resolution: Resolution, installed: Mapping[str, Installed]
) -> tuple[dict[str, Any], list[Mistake]]:
    """Check the settings of all plugins of a *resolution*: the tenant's whole document, and the mistakes."""
    mistakes: list[Mistake] = []
    chosen = []
    context = _context(tenant, data, resolution.order, installed)
    for name in resolution.order:
        said = {key: value for key, value in data["plugins"].get(name, {}).items() if key != "enabled"}
        settings, found = check_settings(installed[name], said, context)
        declared = installed[name].manifest.settings
        chosen.append({"id": name, "version": declared.version if declared is not None else 0, "settings": settings})
        mistakes += [
            msgspec.structs.replace(mistake, path=("plugins", name, *mistake.path))
            if name in data["plugins"]
            else Mistake(("plugins",), f"{name} ({resolution.reasons[name]}): {mistake.message}", on_key=True)
            for mistake in found
        ]
    return {**data, "plugins": chosen}, mistakes


def _try_out(tenant: Tenant, installed: Mapping[str, Installed]) -> list[Mistake]:
    """Make every plugin once: whatever it finds wrong only then is found now, and not when the house is to serve."""
    mistakes = []
    for name, chosen in tenant.plugins.items():
        discovery.load_kinds(installed[name].manifest)
        try:
            make_plugin(installed[name], chosen, tenant.programme(0))
        except PluginBroken as error:
            # a rule that does not compile is the merchant's mistake; all else is the plugin's
            if not isinstance(error.__cause__, Problem):
                raise
            mistakes.append(Mistake(("plugins", name), f"{name}: {error.__cause__.reason}", on_key=True))
    return mistakes


def check_settings(
    plugin: Installed, document: Mapping[str, Any], context: Context
) -> tuple[dict[str, Any], list[Mistake]]:
    """Check one plugin's settings: the document with defaults, and every mistake in it.

    Raises :class:`~tallystick.errors.PluginBroken` if the plugin cannot be imported or its own check fails.
    """
    declared = plugin.manifest.settings
    if declared is None:
        found = [
            Mistake((key,), f'unknown key "{key}"; expected nothing here, for {plugin.id} has no settings', on_key=True)
            for key in document
        ]
        return {}, found
    try:
        checked, mistakes = inspection.check(
            document, discovery.load(declared.schema, plugin=plugin.id), units=context.units
        )
        if mistakes or declared.check is None:
            return checked, mistakes
        function = discovery.load(declared.check, plugin=plugin.id)
        return checked, [_told(path, said) for path, said in _call(function, document=checked, context=context)]
    except (PluginBroken, KeyboardInterrupt):
        raise
    except BaseException as error:
        why = f"checking its settings failed with {type(error).__name__}: {error}"
        raise plugin.broken(why) from error


def _told(path: Path, said: str | Problem) -> Mistake:
    if isinstance(said, Problem):
        return Mistake(tuple(path), said.reason, inside=(said.line or 1, said.column or 1))
    return Mistake(tuple(path), said)


def read_settings(plugin: Installed, document: Mapping[str, Any], version: int, context: Context) -> PluginSettings:
    """The settings that a checked *document* of *version* describes.  Raises PluginBroken if the plugin's own code fails."""
    declared = plugin.manifest.settings
    if declared is None:
        return PluginSettings(plugin=plugin.id, version=0, document=document, settings=document)
    try:
        if version < declared.version and declared.migrate is not None:
            function = discovery.load(declared.migrate, plugin=plugin.id)
            document = _call(function, document=document, version=version, context=context)
        settings: Any = document
        if declared.read is not None:
            settings = _call(discovery.load(declared.read, plugin=plugin.id), document=document, context=context)
    except (PluginBroken, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise plugin.broken(f"reading its settings failed with {type(error).__name__}: {error}") from error
    return PluginSettings(plugin=plugin.id, version=declared.version, document=document, settings=settings)


def _call(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a plugin's *function* with those of the *arguments* that it names, as hooks are called."""
    wanted = inspect.signature(function).parameters
    return function(**{name: value for name, value in arguments.items() if name in wanted})


def _context(
    tenant: str, fields: Mapping[str, Any], order: tuple[str, ...], installed: Mapping[str, Installed]
) -> Context:
    units: dict[str, Unit] = {}
    for plugin in order:
        for declared in installed[plugin].manifest.units:
            units[declared.name] = Unit(name=declared.name, decimals=declared.decimals, plugin=plugin)
    for name, said in fields["units"].items():
        chosen = {key: value for key, value in said.items() if key != "summary"}
        units[name] = attrs.evolve(units.get(name, Unit(name=name)), **chosen)
    return Context(
        tenant=tenant,
        zone=values.zone(fields["zone"]),
        currency=fields["currency"],
        minor_units=values.CURRENCIES[fields["currency"]],
        language=fields["language"],
        units=units,
        plugins=order,
        messages={one.id: one for plugin in order for one in installed[plugin].manifest.messages},
    )


def _rates(currency: str, fields: Mapping[str, Any]) -> tuple[tuple[date, Fraction], ...]:
    """Rates per smallest unit, of rates per whole unit: 1 JPY = 0.0065 USD is 0.65 cents for a yen."""
    shift = values.CURRENCIES[fields["currency"]] - values.CURRENCIES[currency]
    scale = Fraction(10) ** shift
    said: Mapping[str, str] = fields["rates"][currency]
    return tuple((date.fromisoformat(day), values.exact(rate) * scale) for day, rate in sorted(said.items()))


def _tables(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    return (
        [(name, each) for name, each in value.items() if isinstance(each, Mapping)]
        if isinstance(value, Mapping)
        else []
    )


# --- what may stand in tally.toml ----------------------------------------------------------------------------------


def _said(doc: str, expected: str | None = None, **rules: Any) -> dict[str, Any]:
    """An entry of a schema with the sentence that the reference has for it."""
    return {**rules, "meta": {"doc": doc} if expected is None else {"doc": doc, "expected": expected}}


#: The Cerberus schema of ``[house]``.
HOUSE: Final[Mapping[str, Any]] = {
    "database": _said(
        "Where the books are kept: a SQLite file or a PostgreSQL server. By default `tally.db` in `data_dir`.",
        'a database URL such as "sqlite:///tally.db" or "postgresql://user@host/tally"',
        type="string",
        regex=r"(sqlite|postgresql)(\+[a-z]+)?://.*",
        excludes="database_file",
    ),
    "database_file": _said(
        "Instead of `database`: a file with the URL in it, for URLs with a password.",
        "the path of a file that holds the URL",
        type="string",
        excludes="database",
    ),
    "data_dir": _said(
        "Where the house keeps its files. Relative paths begin where tally.toml is.",
        "a folder",
        type="string",
        default=".",
    ),
    "log": _said(
        "How log lines are written: for people or for programs.",
        type="string",
        allowed=["text", "json"],
        default="text",
    ),
    "log_level": _said(
        "What is logged: this and everything graver.",
        type="string",
        allowed=["debug", "info", "warning", "error"],
        default="info",
    ),
    "host": _said("Where `tally serve` listens.", "an address to listen on", type="string", default="127.0.0.1"),
    "port": _said("The port it listens on.", type="integer", min=1, max=65_535, default=8_080),
    "workers": _said("How many processes answer HTTP.", type="integer", min=1, max=256, default=1),
    "language": _said("The language of messages to operators.", type="language", default="en"),
    "secret_file": _said(
        "A file with the house's secret, by which external ids are found again and members' keys are kept. "
        "`tally init` makes it. Keep it apart from the database and its backups.",
        "the path of a file that holds the house's secret",
        type="string",
    ),
}

_DAYS: Final[Mapping[str, Any]] = {"type": "integer", "min": 0, "max": 36_500}

#: The Cerberus schema of ``[tenants.<id>.units.<unit>]``.
UNIT: Final[Mapping[str, Any]] = {
    "decimals": _said(
        "Digits shown after the point; amounts are always whole numbers of the smallest part.",
        type="integer",
        min=0,
        max=8,
    ),
    "rounding": _said(
        "How the total of one event in this unit is rounded, once. By default `floor`.",
        type="string",
        allowed=["floor", "half_up", "half_even", "ceil"],
    ),
    "shortfall": _said(
        "What happens when a refund takes back more than is left: the balance goes below zero and later gains fill it "
        "(`negative`, the default), only what is left is taken (`within_balance`), or only what was still pending "
        "(`pending_only`).",
        type="string",
        allowed=["negative", "within_balance", "pending_only"],
    ),
    "shortfall_limit": _said("How far below zero `negative` may go. By default without limit.", type="integer", min=0),
    "grace_days": _said(
        "How many days points given back stay usable if their lot has expired meanwhile. By default 0.", **_DAYS
    ),
    "summary": _said("What it is, for people.", type="text"),
}

#: The Cerberus schema of ``[tenants.<id>]``.
TENANT: Final[Mapping[str, Any]] = {
    "name": _said("The merchant's name, for people. By default the id.", type="text"),
    "zone": _said("The time zone in which days, windows and expiry are counted.", type="zone", required=True),
    "currency": _said(
        "The programme's currency. Amounts are whole numbers of its smallest unit.", type="currency", required=True
    ),
    "language": _said("The language members are addressed in if they chose none.", type="language", default="en"),
    "lateness_days": _said("How old an event may be when it arrives.", **_DAYS, default=7),
    "sources": _said(
        "Systems that send events, if one of them may be later or must be earlier than others.",
        type="dict",
        default={},
        valuesrules={
            "type": "dict",
            "schema": {
                "lateness_days": _said("As `lateness_days` of the tenant, for this source.", **_DAYS),
                "summary": _said("What it is, for people.", type="text"),
            },
        },
    ),
    "required": _said(
        "Plugins without which this tenant is not served at all. Any other plugin that cannot run is left out and named.",
        type="list",
        schema={"type": "id"},
        default=[],
    ),
    "worker_lane": _said(
        "Plugins whose pure hooks run in a process of their own, with limits on memory and time, whether or not they ask "
        "for it.",
        type="list",
        schema={"type": "id"},
    ),
    "repair": _said(
        'What a broken plugin kept back is made good by `tally repair`; with `"hourly"` by the house itself as well, every hour in '
        "which no plugin of the tenant is switched off.",
        type="string",
        allowed=["by_hand", "hourly"],
    ),
    "budgets": _said(
        "What the rules of a plugin may give of a unit, to all members together, in its smallest part: "
        "`budgets.gamification.points = 1_000_000`. What would go beyond is cut; what comes back of it is given back.",
        type="dict",
        keysrules={"type": "id"},
        valuesrules={"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": "integer", "min": 0}},
    ),
    "auto_install": _said("Whether glue between enabled plugins enables itself.", type="boolean", default=True),
    "birthday_29_february": _said(
        "When those born on 29 February have their birthday in common years.",
        type="string",
        allowed=["02-28", "03-01"],
        default="02-28",
    ),
    "rates": _said(
        "What one whole unit of a foreign currency is worth in the programme's, from a day on: "
        '`rates.JPY = { 2025-01-01 = "0.0065" }`. Before the first day the currency is refused.',
        type="dict",
        default={},
        keysrules={"type": "currency"},
        valuesrules={"type": "dict", "keysrules": {"type": "day"}, "valuesrules": {"type": "exact"}},
    ),
    "units": _said(
        "What the ledger counts. Plugins bring units of their own; a table here adds one or changes one of theirs.",
        type="dict",
        default={},
        keysrules={"type": "id"},
        valuesrules={"type": "dict", "schema": dict(UNIT)},
    ),
    "plugins": _said(
        "The plugins of this tenant, a table each. Beside `enabled` it holds the settings of the plugin itself.",
        type="dict",
        default={},
        keysrules={"type": "id"},
        valuesrules={
            "type": "dict",
            "allow_unknown": True,
            "schema": {
                "enabled": _said(
                    "A table alone enables its plugin; false keeps the settings and switches it off.", type="boolean"
                ),
            },
        },
    ),
}

_TENANT_ID: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")

#: The Cerberus schema of ``tally.toml``.
SCHEMA: Final[schema.Schema] = {
    "house": {"type": "dict", "schema": dict(HOUSE), "default": {}},
    "tenants": {
        "type": "dict",
        "default": {},
        "keysrules": {
            "type": "string",
            "regex": _TENANT_ID.pattern,
            "meta": {"expected": "an id of small letters, digits, _ and -, beginning with a letter"},
        },
        "valuesrules": {"type": "dict"},  # each is checked by itself, see TENANT
    },
}


# --- a first tally.toml --------------------------------------------------------------------------------------------

_STARTER: Final = """\
# Everything about this deployment. `tally check` says what is wrong in it, and where.
# 本部署的全部配置。运行 `tally check` 可检查错误及其位置。

[house]
# Where the books are kept: a file, or a PostgreSQL server ("postgresql://user@host/tally").
# 账本存放位置：本地文件，或 PostgreSQL 服务器。
database = "sqlite:///{database}"
# Secrets stand in files of their own. 机密信息单独存放在文件中。
secret_file = "{secret_file}"
host = "127.0.0.1"
port = 8080
log = "text"

# One table per merchant. 每个商户一张表。
[tenants.{tenant}]
name = {name}
# Days, windows and expiry are counted in this time zone. 日期、时间窗口与过期均按此时区计算。
zone = "{zone}"
# ISO 4217; amounts are whole cents (or whatever the currency's smallest unit is).
# 货币代码（ISO 4217）；金额一律为最小货币单位的整数，例如分。
currency = "{currency}"
language = "{language}"
# How many days old an event may be when it arrives. 事件到达时最多可以迟到多少天。
lateness_days = 7

[tenants.{tenant}.units.points]
# Rounding of the total of one event, and what happens if more is taken back than is left.
# 每个事件合计后的取整方式；以及退款需扣回的积分超过余额时的处理方式。
rounding = "floor"
shortfall = "negative"

# A plugin is on when it has a table here, unless the table says `enabled = false`.
# 插件在此有一张表即为启用，除非写明 `enabled = false`。
[tenants.{tenant}.plugins.points]

# One point for every {unit_text} spent. 每消费 {unit_text} 得 1 积分。
[[tenants.{tenant}.plugins.points.earn]]
name = "base"
points = 1
per = {per}
"""


def render_default(
    tenant: str,
    *,
    name: str | None = None,
    zone: str = "UTC",
    currency: str = "USD",
    language: str = "en",
    database: str = "tally.db",
    secret_file: str = "tally.secret",  # noqa: S107  # the name of a file
) -> str:
    """The text of a first ``tally.toml`` for one *tenant*, with comments in English and Chinese.

    Raises ValueError for a tenant id, zone or currency that would not pass :func:`check`.
    """
    if _TENANT_ID.fullmatch(tenant) is None:
        raise ValueError(f'"{tenant}" is not an id of small letters, digits, _ and -, beginning with a letter')
    if currency not in values.CURRENCIES:
        raise ValueError(f'"{currency}" is not an ISO 4217 currency')
    values.zone(zone)
    per = 10 ** values.CURRENCIES[currency]
    quoted = (
        '"'
        + "".join(f"\\u{ord(each):04x}" if each in '"\\' or ord(each) < 32 else each for each in name or tenant)
        + '"'
    )
    return _STARTER.format(
        tenant=tenant,
        name=quoted,
        zone=zone,
        currency=currency,
        language=language,
        database=database,
        secret_file=secret_file,
        per=per,
        unit_text=f"1 {currency}",
    )
