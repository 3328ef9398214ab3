"""A plugin's name plate (``plugin.toml``): what it is, needs, may propose and brings along, read without importing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from . import inspection, schema, values
from .document import Document
from .effects import EFFECTS
from .errors import InvalidManifest, Problem
from .schema import Mistake
from .values import Period, Text

#: The version of the contract with plugins: hooks, effects, events, manifest.  Not the version of the product.
API_VERSION: Final = Version("1.0")
#: Plugins of an earlier layer come before those of a later one, unless they say otherwise about each other.
LAYERS: Final = ("kernel", "data", "domain", "engagement", "channel", "glue")
#: The hooks a plugin may implement; :mod:`tallystick.hookspecs` says what each means.
HOOKS: Final = (
    "needs", "earn", "redeem", "reverse", "review", "evaluate_tier", "react", "join", "notify", "decode", "command", "committed",
    "export_member", "erase_member", "health", "migrate_settings",
)  # fmt: skip
#: Names of the house's own: in the database, in permissions, kinds of events and addresses.  No plugin and no table is called so.
RESERVED: Final = frozenset({
    "alias", "api_key", "audit", "balance", "batch", "claim", "consumer", "core", "counter", "entries", "entry", "entry_member", "events",
    "holds", "house", "intent", "job", "keys", "lot", "member", "member_change", "members", "metrics", "order", "order_entry", "order_key",
    "own", "person", "plugins", "profiles", "programme", "purchase", "record", "repair", "repairs", "rules", "stock", "taken", "tally",
    "tallystick", "tenant", "transfer", "writer",
})  # fmt: skip
ROLES: Final = ("owner", "admin", "cashier", "member", "device", "integrator", "partner")
PURPOSES: Final = ("service", "reminder", "marketing")

T = TypeVar("T")
_NO_TEXT: Final = Text({})


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How far a plugin may go with one effect; None means as far as the core's own bounds."""

    units: tuple[str, ...] = ()  #: units it may touch, ``*`` for any; empty: those the manifest declares
    max_amount: int | None = None  #: largest amount of one effect, in the unit's smallest part
    max_per_event: int | None = None  #: largest sum of amounts in one event
    max_count: int | None = None  #: largest number of such effects in one event
    max_per_member_day: int | None = None  #: largest sum (or number, where there is no amount) per member and local day
    max_factor: Fraction | None = None  #: largest factor of a Multiply
    kinds: tuple[str, ...] = ()  #: kinds of events it may emit


class DeclaredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of event the plugin brings."""

    name: str
    facts: str  #: ``module:Class``
    summary: Text
    example: Mapping[str, Any] | str  #: the facts themselves, or a JSON file beside plugin.toml
    members: tuple[str, ...] = ()
    guest: bool = False
    permission: str = "events.write"
    blocked: bool = False


class DeclaredSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the plugin's settings are described and read."""

    schema: str  #: ``module:SCHEMA``, for Cerberus
    read: str | None = None  #: ``module:read``, makes a frozen object of a checked document
    check: str | None = None  #: ``module:check``, finds mistakes that a schema cannot express
    version: int = 1
    migrate: str | None = None  #: ``module:migrate``, brings a document of an older version to the present one


class DeclaredUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A unit of the ledger that exists when the plugin is enabled."""

    name: str
    decimals: int = 0
    summary: Text = _NO_TEXT


class DeclaredCounter(msgspec.Struct, frozen=True, kw_only=True):
    """A number per member that the core keeps for the plugin."""

    id: str
    windows: tuple[str, ...] = ()
    summary: Text = _NO_TEXT


class DeclaredRoute(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP endpoint below ``/v1/<plugin>``; see :mod:`tallystick.routes`."""

    id: str
    path: str
    endpoint: str  #: ``module:function``
    permission: str = ""  #: what a key must be allowed to do; empty for a public one
    methods: tuple[str, ...] = ("GET",)
    summary: Text = _NO_TEXT
    public: bool = False  #: opened without a key, by the ``{pass}`` in its path that the house has signed
    rate: int = 5  #: of a public one: requests a second with the same pass
    grouped: bool = False  #: of a public one: whether the endpoint takes many knocks at once


class DeclaredCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command of ``tally``: ``points.adjust`` is called as ``tally points adjust``."""

    id: str
    run: str  #: ``module:function``, see :mod:`tallystick.commands`
    summary: Text = _NO_TEXT
    report: bool = False  #: whether what it says, called without arguments, is a section of ``tally report``


class DeclaredJob(msgspec.Struct, frozen=True, kw_only=True):
    """Work by the clock: every so often, or daily at a local time of the programme's zone."""

    id: str
    run: str  #: ``module:function``
    every: str | None = None  #: a duration
    daily: str | None = None  #: a time of day
    history: bool = False  #: whether it runs at the end of each day of an imported history, too
    summary: Text = _NO_TEXT


class DeclaredPermission(msgspec.Struct, frozen=True, kw_only=True):
    """Something a key must be allowed to do; ``roles`` have it from the start."""

    id: str
    summary: Text
    roles: tuple[str, ...] = ()


class DeclaredPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the console; see :mod:`tallystick.routes`."""

    id: str
    path: str
    endpoint: str  #: ``module:function``
    permission: str
    title: Text = _NO_TEXT


class DeclaredAssets(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of files in the plugin's package that anybody may read: pages, scripts, pictures; nothing of any tenant."""

    id: str
    path: str
    folder: str  #: below the folder of plugin.toml


class DeclaredDemo(msgspec.Struct, frozen=True, kw_only=True):
    """What ``tally demo`` shows of the plugin if asked: ``vr_kiosk.kiosk`` with ``tally demo --kiosk``."""

    id: str
    settings: str  #: a file of tables that the demo's tally.toml gets, below the folder of plugin.toml
    run: str  #: ``module:function``, as a command's; called when the year was played
    summary: Text = _NO_TEXT


class DeclaredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message the plugin's effects may ask for (reminders and the like), with the words that members read."""

    id: str
    summary: Text
    purpose: str = "service"
    facts: tuple[str, ...] = ()  #: what the words may name
    subject: Text = _NO_TEXT  #: one line, as a template
    text: Text = _NO_TEXT  #: the message, as a template
    example: Mapping[str, Any] = {}  #: a value for each of the facts


class DeclaredFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A pure function that rules may call."""

    name: str
    run: str  #: ``module:function``
    takes: tuple[str, ...] = ()  #: types of the rule language
    gives: str = "int"
    summary: Text = _NO_TEXT


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin as its ``plugin.toml`` describes it.  Everything importable is a string until somebody enables the plugin."""

    id: str
    version: Version
    api: SpecifierSet  #: versions of :data:`API_VERSION` it works with
    summary: Text
    tested: Version | None = None  #: the newest API version its authors tried
    layer: str = "domain"
    depends: Mapping[str, SpecifierSet] = {}  #: plugin or provided name -> versions
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    provides: Mapping[str, Version | None] = {}
    exclusive: tuple[str, ...] = ()  #: roles that only one enabled plugin may have
    conflicts: Mapping[str, str] = {}  #: plugin -> why the two cannot run together
    auto_install: tuple[str, ...] = ()  #: glue: on when all of these are on
    factory: str | None = None  #: ``module:Class``, made once per tenant with its settings; hooks are its methods
    hooks: tuple[str, ...] = ()
    lane: str = "house"  #: where its pure hooks run: in the house, or in a worker process of their own
    #: hook -> kinds of events it wants to see (``purchase.*``); a hook that is not listed sees them all
    interests: Mapping[str, tuple[str, ...]] = {}
    effects: Mapping[str, Bounds] = {}
    events: tuple[DeclaredEvent, ...] = ()
    settings: DeclaredSettings | None = None
    units: tuple[DeclaredUnit, ...] = ()
    counters: tuple[DeclaredCounter, ...] = ()
    tables: tuple[str, ...] = ()
    metadata: str | None = None  #: ``module:METADATA``, the SQLAlchemy MetaData that holds the tables
    migrations: str | None = None  #: package of Alembic revisions
    routes: tuple[DeclaredRoute, ...] = ()
    commands: tuple[DeclaredCommand, ...] = ()
    command_group: str = ""  #: as what ``tally`` knows the plugin's commands, if not by its id
    jobs: tuple[DeclaredJob, ...] = ()
    permissions: tuple[DeclaredPermission, ...] = ()
    pages: tuple[DeclaredPage, ...] = ()
    assets: tuple[DeclaredAssets, ...] = ()
    demos: tuple[DeclaredDemo, ...] = ()
    messages: tuple[DeclaredMessage, ...] = ()
    functions: tuple[DeclaredFunction, ...] = ()
    metrics: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()  #: ``table.column`` that name a person; covered by export_member and erase_member
    retain: Period | None = None
    on_uninstall: str = "keep"
    root: FilePath | None = None  #: the folder of plugin.toml, when it was read from a file

    @property
    def layer_index(self) -> int:
        """Place of the layer among :data:`LAYERS`."""
        return LAYERS.index(self.layer)


def read(path: FilePath, *, version: str | None = None, file: str | None = None) -> Manifest:
    """Read the ``plugin.toml`` at *path*; *version* is the distribution's, used when the file says none.

    Raises :class:`~tallystick.errors.InvalidManifest` with every mistake and its place.
    """
    try:
        document = Document.read(path, file)
    except Problem as problem:
        raise InvalidManifest([problem]) from None
    return msgspec.structs.replace(from_document(document, version=version), root=path.parent)


def from_document(document: Document, *, version: str | None = None) -> Manifest:
    """The manifest a TOML *document* describes; see :func:`read`."""
    data, mistakes = inspection.check(document.data, SCHEMA)
    mistakes += [
        mistake
        for mistake in _crosscheck(document.data, version)
        if not any(mistake.path[: len(other.path)] == other.path for other in mistakes)
    ]
    if mistakes:
        problems = [mistake.problem(document) for mistake in mistakes]
        raise InvalidManifest(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return _build(data, version)


def _build(data: dict[str, Any], version: str | None) -> Manifest:
    order, personal = data.get("order", {}), data.get("data", {})
    return Manifest(
        id=data["id"],
        version=Version(data.get("version") or version or "0"),
        api=SpecifierSet(data["api"]),
        summary=values.text(data["summary"]),
        tested=Version(data["tested"]) if "tested" in data else None,
        layer=data.get("layer", "glue" if "auto_install" in data else "domain"),
        depends={name: SpecifierSet(versions) for name, versions in data.get("depends", {}).items()},
        after=tuple(order.get("after", ())),
        before=tuple(order.get("before", ())),
        provides={
            name: Version(number) if number else None
            for name, _, number in (provided.partition("@") for provided in data.get("provides", ()))
        },
        exclusive=tuple(data.get("exclusive", ())),
        conflicts=data.get("conflicts", {}),
        auto_install=tuple(data.get("auto_install", ())),
        factory=data.get("factory"),
        hooks=tuple(data.get("hooks", ())),
        lane=data.get("lane", "house"),
        interests={hook: tuple(kinds) for hook, kinds in data.get("interests", {}).items()},
        effects={name: _declared(Bounds, bounds) for name, bounds in data.get("effects", {}).items()},
        events=_named(DeclaredEvent, data.get("events", {}), "name"),
        settings=_declared(DeclaredSettings, data["settings"]) if "settings" in data else None,
        units=_named(DeclaredUnit, data.get("units", {}), "name"),
        counters=_named(DeclaredCounter, data.get("counters", {}), "id"),
        tables=tuple(data.get("tables", ())),
        metadata=data.get("metadata"),
        migrations=data.get("migrations"),
        routes=_named(DeclaredRoute, data.get("routes", {}), "id"),
        commands=_named(DeclaredCommand, data.get("commands", {}), "id"),
        command_group=data.get("command_group", ""),
        jobs=_named(DeclaredJob, data.get("jobs", {}), "id"),
        permissions=_named(DeclaredPermission, data.get("permissions", {}), "id"),
        pages=_named(DeclaredPage, data.get("pages", {}), "id"),
        assets=_named(DeclaredAssets, data.get("assets", {}), "id"),
        demos=_named(DeclaredDemo, data.get("demos", {}), "id"),
        messages=_named(DeclaredMessage, data.get("messages", {}), "id"),
        functions=_named(DeclaredFunction, data.get("functions", {}), "name"),
        metrics=tuple(data.get("metrics", ())),
        personal=tuple(personal.get("personal", ())),
        retain=values.period(personal["retain"]) if "retain" in personal else None,
        on_uninstall=personal.get("on_uninstall", "keep"),
    )


def _named(kind: type[T], table: Mapping[str, Mapping[str, Any]], name: str) -> tuple[T, ...]:
    return tuple(_declared(kind, {name: key, **declared}) for key, declared in table.items())


def _declared(kind: type[T], fields: Mapping[str, Any]) -> T:
    """Make a *kind* of checked *fields*: lists become tuples, texts and factors their own types."""
    made: dict[str, Any] = {}
    for name, value in fields.items():
        if name in ("summary", "title", "subject", "text"):
            made[name] = values.text(value)
        elif name == "max_factor":
            made[name] = values.exact(value)
        else:
            made[name] = tuple(value) if isinstance(value, list) else value
    return kind(**made)


# --- what may stand in plugin.toml ---------------------------------------------------------------------------------


def _list(type_: str, **rules: Any) -> dict[str, Any]:
    return {"type": "list", "schema": {"type": type_, **rules}}


def _table(fields: Mapping[str, Any], keys: str = "name") -> dict[str, Any]:
    return {"type": "dict", "keysrules": {"type": keys}, "valuesrules": {"type": "dict", "schema": dict(fields)}}


_TEXT: Final = {"type": "text"}
_POSITIVE: Final = {"type": "integer", "min": 1}
_BOUNDS: Final = {
    "units": {
        "type": "list",
        "schema": {"type": "string", "regex": r"\*|[a-z][a-z0-9_]*", "meta": {"expected": 'a unit or "*"'}},
    },
    "max_amount": _POSITIVE,
    "max_per_event": _POSITIVE,
    "max_count": _POSITIVE,
    "max_per_member_day": _POSITIVE,
    "max_factor": {"type": "exact"},
    "kinds": _list("name"),
}
_PATH: Final = {
    "type": "string",
    "required": True,
    "regex": r"(/([A-Za-z0-9_.-]+|\{[a-z_]+\}))+",
    "meta": {"expected": 'a path such as "/v1/birthday/members/{member}"'},
}
_PROVIDED: Final = {
    "type": "string",
    "regex": r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(@\d+(\.\d+)*)?",
    "meta": {"expected": 'a name such as "tier.ladder" or "tier.ladder@1"'},
}

#: The Cerberus schema of ``plugin.toml``.
SCHEMA: Final[schema.Schema] = {
    "id": {"type": "id", "required": True},
    "version": {"type": "version"},
    "api": {"type": "versions", "required": True},
    "tested": {"type": "version"},
    "summary": {"type": "text", "required": True},
    "layer": {"type": "string", "allowed": list(LAYERS)},
    "depends": {"type": "dict", "keysrules": {"type": "name"}, "valuesrules": {"type": "versions"}},
    "order": {"type": "dict", "schema": {"after": _list("id"), "before": _list("id")}},
    "provides": {"type": "list", "schema": _PROVIDED},
    "exclusive": _list("name"),
    "conflicts": {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": "string", "empty": False}},
    "auto_install": {
        **_list("id"),
        "empty": False,
        "meta": {"expected": "an array of plugin ids, all of which must be on"},
    },
    "factory": {"type": "object"},
    "hooks": _list("string", allowed=list(HOOKS)),
    "lane": {"type": "string", "allowed": ["house", "worker"]},
    "interests": {
        "type": "dict",
        "keysrules": {"type": "string", "allowed": list(HOOKS)},
        "valuesrules": _list(
            "string",
            regex=r"\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?",
            meta={"expected": 'a kind of event, "purchase.*" or "*"'},
        ),
    },
    "effects": {
        "type": "dict",
        "keysrules": {"type": "string", "allowed": list(EFFECTS)},
        "valuesrules": {"type": "dict", "schema": _BOUNDS},
    },
    "events": _table(
        {
            "facts": {"type": "object", "required": True},
            "summary": {"type": "text", "required": True},
            "example": {
                "type": ["dict", "string"],
                "required": True,
                "meta": {"expected": "a table of facts, or a JSON file beside plugin.toml"},
            },
            "members": _list("id"),
            "guest": {"type": "boolean"},
            "permission": {"type": "name"},
            "blocked": {"type": "boolean"},
        }
    ),
    "settings": {
        "type": "dict",
        "schema": {
            "schema": {"type": "object", "required": True},
            "read": {"type": "object"},
            "check": {"type": "object"},
            "version": _POSITIVE,
            "migrate": {"type": "object"},
        },
    },
    "units": _table({"decimals": {"type": "integer", "min": 0, "max": 8}, "summary": _TEXT}, keys="id"),
    "counters": _table({"windows": _list("string"), "summary": _TEXT}),
    "tables": _list("id"),
    "metadata": {"type": "object"},
    "migrations": {"type": "package"},
    "routes": _table(
        {
            "path": _PATH,
            "endpoint": {"type": "object", "required": True},
            "permission": {"type": "name"},
            "methods": _list("string", allowed=["GET", "POST", "PUT", "PATCH", "DELETE", "WEBSOCKET"]),
            "summary": _TEXT,
            "public": {"type": "boolean"},
            "rate": {"type": "integer", "min": 1, "max": 1000},
            "grouped": {"type": "boolean"},
        }
    ),
    "commands": _table({"run": {"type": "object", "required": True}, "summary": _TEXT, "report": {"type": "boolean"}}),
    "command_group": {"type": "id"},
    "jobs": _table(
        {
            "run": {"type": "object", "required": True},
            "every": {"type": "duration"},
            "daily": {"type": "clock"},
            "history": {"type": "boolean"},
            "summary": _TEXT,
        }
    ),
    "permissions": _table(
        {"summary": {"type": "text", "required": True}, "roles": _list("string", allowed=list(ROLES))}
    ),
    "pages": _table(
        {
            "path": _PATH,
            "endpoint": {"type": "object", "required": True},
            "permission": {"type": "name", "required": True},
            "title": _TEXT,
        }
    ),
    "assets": _table({"path": _PATH, "folder": {"type": "string", "required": True, "regex": "[a-z0-9_/]{1,100}"}}),
    "demos": _table(
        {
            "settings": {"type": "string", "required": True, "regex": r"[a-z0-9_/]{1,100}\.toml"},
            "run": {"type": "object", "required": True},
            "summary": _TEXT,
        }
    ),
    "messages": _table(
        {
            "summary": {"type": "text", "required": True},
            "purpose": {"type": "string", "allowed": list(PURPOSES)},
            "facts": _list("id"),
            "subject": _TEXT,
            "text": _TEXT,
            "example": {"type": "dict"},
        }
    ),
    "functions": _table(
        {
            "run": {"type": "object", "required": True},
            "takes": _list("string"),
            "gives": {"type": "string"},
            "summary": _TEXT,
        },
        keys="id",
    ),
    "metrics": _list("id"),
    "data": {
        "type": "dict",
        "schema": {
            "personal": _list("name"),
            "retain": {"type": "period"},
            "on_uninstall": {"type": "string", "allowed": ["keep", "export"]},
        },
    },
}


_TAKEN: Final = "expected another name, for the house itself uses this one"


def _crosscheck(data: Mapping[str, Any], version: str | None) -> Iterator[Mistake]:
    """What a schema cannot say: names begin with the plugin's id, and parts of the manifest fit each other."""
    if "version" not in data and version is None:
        yield Mistake((), '"version" is missing; expected one, for there is no installed distribution to take it from')
    plugin = data.get("id")
    if plugin in RESERVED:
        yield Mistake(("id",), f'found "{plugin}"; {_TAKEN}')
    elif isinstance(plugin, str) and schema.ID.fullmatch(plugin) is not None:
        yield from _foreign_names(data, plugin)
    yield from _unfinished(data)


def _foreign_names(data: Mapping[str, Any], plugin: str) -> Iterator[Mistake]:
    rooms = ("events", "counters", "routes", "commands", "jobs", "permissions", "pages", "assets", "demos", "messages")
    for section in rooms:
        for name in _mapping(data.get(section)):
            if not name.startswith(f"{plugin}.") and (section, name) != ("commands", plugin):
                yield Mistake(
                    (section, name), f'found "{name}"; expected a name that begins with "{plugin}."', on_key=True
                )
    for section in ("tables", "metrics"):
        for index, name in enumerate(_sequence(data.get(section))):
            if name != plugin and not str(name).startswith(f"{plugin}_"):
                yield Mistake((section, index), f'found "{name}"; expected a name that begins with "{plugin}_"')
            elif section == "tables" and (name in RESERVED or name == f"{plugin}_schema_version"):
                yield Mistake((section, index), f'found "{name}"; {_TAKEN}')
    for section, name, route in _endpoints(data):
        path = route.get("path")
        if isinstance(path, str) and not f"{path}/".startswith(f"/v1/{plugin}/"):
            yield Mistake((section, name, "path"), f'found "{path}"; expected a path that begins with "/v1/{plugin}/"')
        yield from _unguarded(section, name, route)
        permission = route.get("permission")
        if str(permission).startswith(f"{plugin}.") and permission not in _mapping(data.get("permissions")):
            message = f'found "{permission}"; expected it to be declared in [permissions]'
            yield Mistake((section, name, "permission"), message)
    yield from _selfish(data, plugin)


def _selfish(data: Mapping[str, Any], plugin: str) -> Iterator[Mistake]:
    """Where a plugin speaks of others it does not mean itself."""
    for section in ("depends", "conflicts"):
        if plugin in _mapping(data.get(section)):
            yield Mistake((section, plugin), f'"{plugin}" names itself', on_key=True)
    order = _mapping(data.get("order"))
    for path, names in (
        (("auto_install",), data.get("auto_install")), (("order", "after"), order.get("after")), (("order", "before"), order.get("before")),
    ):  # fmt: skip
        if plugin in _sequence(names):
            yield Mistake((*path, _sequence(names).index(plugin)), f'"{plugin}" names itself')


def _unguarded(section: str, name: str, route: Mapping[str, Any]) -> Iterator[Mistake]:
    """A door is opened by a key with a permission or by a pass in its path, never by neither."""
    if section != "routes":
        return
    public, path = route.get("public") is True, str(route.get("path"))
    if "WEBSOCKET" in _sequence(route.get("methods")) and not public:
        yield Mistake(
            (section, name, "methods"), "a browser's socket brings no key; expected a route that says public = true"
        )
    if public and ("permission" in route or "{pass}" not in path):
        message = 'a public route has "{pass}" in its path and no "permission"'
        yield Mistake((section, name, "public"), message)
    if not public and "permission" not in route:
        yield Mistake((section, name), '"permission" is missing; expected what a key must be allowed to do')
    if not public and ("{pass}" in path or "rate" in route or "grouped" in route):
        yield Mistake((section, name), '"{pass}", "rate" and "grouped" are for a route that says public = true')


def _unfinished(data: Mapping[str, Any]) -> Iterator[Mistake]:
    for name, job in _mapping(data.get("jobs")).items():
        if isinstance(job, Mapping) and ("every" in job) is ("daily" in job):
            said = "two times" if "every" in job else "no time"
            yield Mistake(("jobs", name), f'job "{name}" says {said}; expected "every" or "daily"')
        every = _mapping(job).get("every")
        if isinstance(every, str) and not _lasts(every):
            yield Mistake(("jobs", name, "every"), f'found "{every}"; expected a duration longer than 0')
    if data.get("hooks") and "factory" not in data:
        message = 'hooks need "factory" beside them; expected the class that implements them, as "module:Class"'
        yield Mistake(("hooks",), message, on_key=True)
    for hook in _mapping(data.get("interests")):
        if hook in HOOKS and hook not in _sequence(data.get("hooks")):
            yield Mistake(
                ("interests", hook), f'found "{hook}"; expected a hook that is listed in "hooks"', on_key=True
            )
    if data.get("layer", "glue") != "glue" and "auto_install" in data:
        message = 'only plugins of layer "glue" install themselves; expected layer = "glue" or no "auto_install"'
        yield Mistake(("auto_install",), message, on_key=True)
    tables = _sequence(data.get("tables"))
    if tables and "metadata" not in data:
        message = 'tables need "metadata" beside them; expected the MetaData that holds them, as "module:METADATA"'
        yield Mistake(("tables",), message, on_key=True)
    for index, column in enumerate(_sequence(_mapping(data.get("data")).get("personal"))):
        if str(column).partition(".")[0] not in tables:
            message = f'found "{column}"; expected "table.column" of a table listed in "tables"'
            yield Mistake(("data", "personal", index), message)


def _lasts(duration: str) -> bool:
    try:
        return values.duration(duration) > timedelta()
    except ValueError:
        return True  # the schema says what is wrong about it


def _endpoints(data: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for section in ("routes", "pages", "assets"):
        for name, route in _mapping(data.get(section)).items():
            yield section, name, _mapping(route)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
