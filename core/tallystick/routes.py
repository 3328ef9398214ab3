"""Routes and pages that plugins bring: declared in manifests, imported only when a tenant that runs the plugin asks.

An endpoint is a plain function.  Its first argument is the :class:`Request`; it may ask for ``query`` and ``body``, each
annotated with a msgspec Struct that refuses unknown fields.  A route's endpoint returns a document, a page's returns HTML.
Key, permission, tenant, member, size and form of what comes are dealt with before it is called.

A route that says ``public = true`` asks for no key: the ``{pass}`` in its path, which the house has signed, says which
tenant it is for and what it is about (:mod:`tallystick.passes`).  Its endpoint gets a :class:`Knock` and nothing else,
and returns HTML, or the media type and the bytes of something else, and headers if the answer needs some.  One that
says ``grouped = true`` takes all knocks together that came while it answered the last ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, get_type_hints

import attrs
import msgspec

from . import api, database, discovery, passes, people
from .access import Principal, demand
from .engine import Outcome
from .errors import NotFound, PluginBroken, PluginFailed, TallyError, UnknownMember
from .events import EventKind
from .generation import Generation
from .house import House
from .intake import read_document
from .ledger import moment
from .manifest import Manifest
from .problems import Language
from .values import Text

_NONE: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Brought:
    """One method of one route or page, as a manifest declares it."""

    plugin: str
    id: str  #: its name in the manifest
    method: str
    path: str
    permission: str
    endpoint: str  #: ``module:function``
    summary: Text
    page: bool = False
    public: bool = False  #: opened by a pass in the path instead of a key
    grouped: bool = False  #: whether the endpoint takes many knocks at once
    rate: int = 5  #: of a public one: requests a second with the same pass
    #: the plugin's own permissions, with the roles that have them
    permissions: Mapping[str, frozenset[str]] = {}

    @property
    def name(self) -> str:
        """The operation's id in the OpenAPI document."""
        return f"{self.method.lower()}_{self.id.replace('.', '_')}"


@attrs.frozen(kw_only=True)
class Endpoint:
    """A plugin's function, and what it takes and gives."""

    call: Callable[..., Any]
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    gives: Any = Any


@attrs.frozen(kw_only=True)
class Request:
    """What an endpoint gets: who asks, for which tenant, and the plugin as the tenant has set it up."""

    house: House
    principal: Principal
    plugin: Any  #: the plugin's object, made with its settings
    kinds: Mapping[str, EventKind]
    language: Language
    path: Mapping[str, str]
    now: datetime
    member: int = 0  #: the member whom ``{member}`` in the path names, found and allowed; 0 if it names none

    @property
    def tenant(self) -> str:
        """Whose books this is about; nothing of another tenant may be read or written."""
        return self.principal.tenant

    def find(self, reference: str) -> int:
        """The number of the member whom an external id or ``m-`` and digits names.

        Raises UnknownMember; for a key of the role `member` everybody else is unknown.
        """
        with self.house.reading() as conn:
            number = people.load(conn, self.house.secret, self.tenant, reference).number
            if self.principal.role == "member" and not people.is_same(conn, self.tenant, number, self.principal.member):
                raise UnknownMember
        return number

    def record(self, documents: Iterable[Mapping[str, Any]]) -> list[Outcome]:
        """Send events through the door, as any client would; one outcome each."""
        return self.house.record(
            [
                read_document(one, tenant=self.tenant, kinds=self.kinds, received=self.now, actor=self.principal.actor)
                for one in documents
            ]
        )


class Came(NamedTuple):
    """What somebody brings to a public door."""

    found: passes.Pass
    language: Language
    query: Mapping[str, str]
    media: str
    body: bytes
    method: str
    path: str = ""
    headers: Mapping[str, str] = _NONE


@attrs.frozen(kw_only=True)
class Knock:
    """What comes to a public route: whoever has the link may send it; what the link is about, the house has signed."""

    house: House
    tenant: str
    plugin: Any  #: the plugin's object, made with its settings
    words: tuple[str, ...]  #: what the pass was issued for
    method: str
    query: Mapping[str, str]
    media: str  #: what the body says it is
    body: bytes
    language: Language
    now: datetime
    path: str = ""  #: as it was asked for, with the pass in it
    headers: Mapping[str, str] = {}  #: by their names in small letters: what a signature covers


class Said(NamedTuple):
    """What a public door answers."""

    media: str
    body: bytes
    headers: Mapping[str, str] = {}


def brought(manifests: Iterable[Manifest]) -> Iterator[Brought]:
    """Every route and page that plugins declare; nothing of them is imported."""
    for declared in manifests:
        permissions = {one.id: frozenset(one.roles) for one in declared.permissions}
        for route in declared.routes:
            for method in route.methods:
                yield Brought(
                    plugin=declared.id, id=route.id, method=method, path=route.path, permission=route.permission,
                    endpoint=route.endpoint, summary=route.summary, permissions=permissions,
                    public=route.public, grouped=route.grouped, rate=route.rate,
                )  # fmt: skip
        for page in declared.pages:
            yield Brought(
                plugin=declared.id, id=page.id, method="GET", path=page.path, permission=page.permission,
                endpoint=page.endpoint, summary=page.title, page=True, permissions=permissions,
            )  # fmt: skip


def admit(house: House, door: Brought, principal: Principal, permissions: Mapping[str, frozenset[str]]) -> Endpoint:
    """The endpoint for this key.

    Raises NotFound where the key's tenant does not run the plugin, Forbidden, or PluginBroken if it cannot be imported.
    """
    if door.plugin not in house.tenants()[principal.tenant].plugins:
        raise NotFound("there is no such route")
    demand(principal, door.permission, {**permissions, **door.permissions})
    return load(door)


def recognise(house: House, door: Brought, text: str) -> passes.Pass:
    """What the pass *text* says.  Raises NotFound, always the same, if it does not open this door or nobody runs the plugin."""
    (found,) = recognise_all(house, door, [text])
    if isinstance(found, NotFound):
        raise found
    return found


def recognise_all(house: House, door: Brought, texts: Sequence[str]) -> list[passes.Pass | NotFound]:
    """What many passes say, or the refusal of each; the house is asked once who runs the plugin."""
    tenants, found = house.tenants(), list[passes.Pass | NotFound]()
    for text in texts:
        try:
            read = passes.read(house.secret, text, door.id)
        except NotFound as refusal:
            found.append(refusal)
            continue
        tenant = tenants.get(read.tenant)
        runs = tenant is not None and door.plugin in tenant.plugins
        found.append(read if runs else NotFound("this link opens nothing"))
    return found


@cache
def _loaded(reference: str, plugin: str) -> Endpoint:
    function = discovery.load(reference, plugin=plugin)
    try:
        hints = get_type_hints(function)
        _, *parameters = inspect.signature(function).parameters
    except (TypeError, ValueError, NameError) as error:
        raise PluginBroken(f'plugin "{plugin}": {reference} is no endpoint: {error}', plugin=plugin) from None
    for name in parameters:
        kind = hints.get(name)
        known = name in ("query", "body") and isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        if not known or not kind.__struct_config__.forbid_unknown_fields:  # type: ignore[union-attr]
            why = f'"{name}" must be "query" or "body", a Struct with forbid_unknown_fields'
            raise PluginBroken(f'plugin "{plugin}": {reference} is no endpoint: {why}', plugin=plugin)
    kinds = [hints[name] for name in (*parameters, "return") if name in hints]
    try:
        for kind in kinds:
            msgspec.json.schema(kind)
    except TypeError as error:  # one such door would spoil the document for all
        why = f"what it takes and gives cannot be described: {error}"
        raise PluginBroken(f'plugin "{plugin}": {reference} is no endpoint: {why}', plugin=plugin) from None
    return Endpoint(call=function, query=hints.get("query"), body=hints.get("body"), gives=hints.get("return", Any))


def load(door: Brought) -> Endpoint:
    """Import the door's endpoint, once.  Raises PluginBroken."""
    found = _loaded(door.endpoint, door.plugin)
    if door.method in ("GET", "DELETE") and found.body is not None:
        why = f"{door.endpoint} takes a body, but {door.method} has none"
        raise PluginBroken(f'plugin "{door.plugin}": {why}', plugin=door.plugin)
    if door.public and (found.body is not None or found.query is not None):
        why = f"{door.endpoint} is public and takes nothing but the knock"
        raise PluginBroken(f'plugin "{door.plugin}": {why}', plugin=door.plugin)
    return found


def answer(
    house: House, door: Brought, endpoint: Endpoint, principal: Principal, language: Language,
    path: Mapping[str, str], query: Any, body: Any,
) -> bytes:  # fmt: skip
    """Call the endpoint; what it returns, as HTML or JSON.  Raises its refusals, and PluginFailed for anything else that goes wrong in it."""
    generation = house.registry.latest(principal.tenant)
    request = Request(
        house=house, principal=principal, plugin=_plugin(generation, door), kinds=generation.kinds,
        language=language, path=path, now=moment(house.clock()),
    )  # fmt: skip
    if "member" in path:
        request = attrs.evolve(request, member=request.find(path["member"]))
    given = {name: value for name, value in (("query", query), ("body", body)) if getattr(endpoint, name) is not None}
    found = _call(door, endpoint, request, **given)
    return str(found).encode() if door.page else msgspec.json.encode(found, order="deterministic")


def answer_knock(house: House, door: Brought, came: Came) -> Said:
    """Call a public door's endpoint; what it returns.  Raises as :func:`answer` does."""
    plugin = _plugin(house.registry.latest(came.found.tenant), door)
    return _said(_call(door, load(door), _knock(house, plugin, came, moment(house.clock()))))


def answer_knocks(house: House, door: Brought, came: Sequence[Came]) -> list[Said | TallyError | Future[Said]]:
    """Call a public door's endpoint that takes many, once for each tenant; what each is answered, perhaps later.

    Raises as :func:`answer` does.
    """
    endpoint, now = load(door), moment(house.clock())
    found: list[Any] = [None] * len(came)
    tenants: dict[str, list[int]] = {}
    for place, one in enumerate(came):
        tenants.setdefault(one.found.tenant, []).append(place)
    for tenant, places in tenants.items():
        plugin = _plugin(house.registry.latest(tenant), door)
        answers = _call(door, endpoint, [_knock(house, plugin, came[place], now) for place in places])
        for place, answer in zip(places, answers, strict=True):
            match answer:
                case TallyError():
                    found[place] = answer
                case Future():
                    found[place] = _said_later(door, answer)
                case _:
                    found[place] = _said(answer)
    return found


def _knock(house: House, plugin: Any, came: Came, now: datetime) -> Knock:
    return Knock(
        house=house, tenant=came.found.tenant, plugin=plugin, words=came.found.words, method=came.method, query=came.query,
        media=came.media, body=came.body, language=came.language, now=now, path=came.path, headers=came.headers,
    )  # fmt: skip


def _said(answer: Any) -> Said:
    return Said("text/html; charset=utf-8", answer.encode()) if isinstance(answer, str) else Said(*answer)


def _said_later(door: Brought, answer: Future[Any]) -> Future[Said]:
    later: Future[Said] = Future()

    def done(answer: Future[Any]) -> None:
        try:
            later.set_result(_said(_named(door, answer.result)))
        except Exception as error:  # noqa: BLE001  whoever asked hears of it
            later.set_exception(error)

    answer.add_done_callback(done)
    return later


def _plugin(generation: Generation, door: Brought) -> Any:
    return next((part.plugin for part in generation.pipeline.parts if part.id == door.plugin), None)


def _call(door: Brought, endpoint: Endpoint, what: Request | Knock | Sequence[Knock], **given: Any) -> Any:
    return _named(door, lambda: endpoint.call(what, **given))


def _named(door: Brought, call: Callable[[], Any]) -> Any:
    """What *call* returns or refuses; whatever else goes wrong in it is the plugin's failure."""
    try:
        return call()
    except (TallyError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, too, which would end the process for everybody
        if (refusal := database.refusal(error)) is not None:
            raise refusal from error
        raise PluginFailed(f'plugin "{door.plugin}" failed at {door.method} {door.path}', plugin=door.plugin) from error


def doors(house: House) -> list[api.Door]:
    """The doors of plugins that some tenant runs now, for the OpenAPI document; what cannot be imported is left out."""
    running = {name for tenant in house.tenants().values() for name in tenant.plugins}
    found = []
    for door in brought(house.installed[name].manifest for name in sorted(running)):
        if door.method == "WEBSOCKET":  # no part of OpenAPI
            continue
        try:
            endpoint = load(door)
        except PluginBroken:
            continue
        found.append(
            api.Door(
                method=door.method, path=door.path, permission=door.permission, answer=None, operation=door.name,
                summary=door.summary.in_language("en") or door.id, text=inspect.getdoc(endpoint.call) or "",
                query=endpoint.query, body=endpoint.body, answers={200: str if door.page or door.public else endpoint.gives},
                member="{member}" in door.path,
            )
        )  # fmt: skip
    return found
