"""The HTTP door: Starlette in front of :mod:`tallystick.api`.  Keys, limits, languages, problems, metrics; no rule lives here."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from . import assets, database, discovery, routes, structs
from .access import Principal, demand
from .api import BY_KIND, DOORS, Answer, Call, Door, admit_events, answer_events, ask_for_a_second, dry_run
from .engine import Outcome
from .errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PluginBroken,
    PluginFailed,
    RateLimited,
    TallyError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from .events import Arrival, EventKind
from .gathering import Gathering
from .house import House
from .intake import LIMITS, read_json, read_query
from .keys import Keyring
from .metrics import Metrics
from .problems import MEDIA_TYPE, Language, choose_language, problem_document, status_of
from .sockets import PublicSocket
from .writer import Writer

log = logging.getLogger("tallystick.web")

#: Bytes of a body that is not a delivery of events.
SMALL_BODY: Final = 64 * 1024
#: Bytes of a body at a door that needs no key.
PUBLIC_BODY: Final = 256 * 1024
#: Bodies above this are read in a thread, so that other requests need not wait for them.
LARGE_BODY: Final = 64 * 1024
#: How long a tenant's kinds of events and permissions are believed; the engine judges by the generation in force in any case.
KINDS_SECONDS: Final = 1.0

_EVENT_MEDIA: Final = {
    "application/json": (True, True),  # takes one event, takes an array
    "application/cloudevents+json": (True, False),
    "application/cloudevents-batch+json": (False, True),
}
_encode = msgspec.json.Encoder(order="deterministic").encode

_SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CLOSED: Final = (
    *_SECURITY,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    b"img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = (*_SECURITY, (b"content-security-policy", _POLICY), (b"cache-control", b"no-cache"))
#: Where a pass opens: no script runs there, what is sent goes back to us, and nobody else may frame it.
_OPEN: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-robots-tag", b"noindex"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_OPEN_PAGE: Final = (
    *_SECURITY,
    (b"x-robots-tag", b"noindex"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-store"),
)
_ASSET: Final = "rapidoc-9.3.8.js"
_DOCS: Final = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tallystick API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<script type="module" src="/docs/{_ASSET}"></script></head>
<body><rapi-doc spec-url="/openapi.json" load-fonts="false" show-header="false" render-style="read" theme="light"
 allow-spec-url-load="false" allow-spec-file-load="false" schema-style="table" persist-auth="false"></rapi-doc></body></html>
"""


def build_app(house: House, *, rate: float | None = None, burst: int = 100) -> Starlette:
    """The application for *house*, which is open; whoever opened it closes it.

    With *rate*, each key may send so many requests per second, and *burst* at once after a pause.
    """
    structs.learn()
    desk = Desk(house, rate=rate, burst=burst)
    app = Starlette(
        routes=[
            *(Route(door.path, OwnEndpoint(desk, door), methods=[door.method]) for door in DOORS),
            *(
                Route(door.path, (PublicEndpoint if door.public else PluginEndpoint)(desk, door), methods=[door.method])
                if door.method != "WEBSOCKET"
                else WebSocketRoute(door.path, PublicSocket(desk, door))
                for door in desk.brought_doors()
            ),
            *(Route(f"{shelf.path}/{{file:path}}", shelf.answer, methods=["GET"]) for shelf in desk.shelves()),
            Route("/healthz", desk.healthz, methods=["GET"]),
            Route("/readyz", desk.readyz, methods=["GET"]),
            Route("/metrics", OwnEndpoint(desk, METRICS), methods=["GET"]),
            Route("/openapi.json", desk.openapi, methods=["GET"]),
            Route("/docs", desk.docs, methods=["GET"]),
            Route(f"/docs/{_ASSET}", desk.asset, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_exception, Exception: _crash},
    )
    app.router.redirect_slashes = False  # a path is what it is
    app.state.desk = desk
    return app


#: Doors that anybody may use without a key; they say nothing of any tenant.
PUBLIC: Final = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs", f"/docs/{_ASSET}"})
#: Doors outside /v1 that ask for a key, with the permission.
METRICS: Final = Door(
    method="GET",
    path="/metrics",
    permission="metrics.read",
    answer=None,
    summary="Counters of this process",
    answers={},
)
GUARDED: Final = (METRICS,)


class Visit:
    """One request, as cheap to look at as it gets."""

    __slots__ = ("headers", "method", "path", "place", "query", "receive")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query: bytes = scope["query_string"]
        self.place: str = scope["path"]
        self.path: Mapping[str, str] = scope["path_params"]
        self.receive = receive

    def header(self, name: bytes) -> str:
        """A header's text, empty if it did not come."""
        return self.headers.get(name, b"").decode("latin-1")

    def texts(self) -> dict[str, str]:
        """All headers."""
        return {name.decode("latin-1"): text.decode("latin-1") for name, text in self.headers.items()}


class Endpoint:
    """One door as an ASGI application: who is it, may they, and what came of it.  Every answer and refusal passes here."""

    def __init__(self, desk: Desk, path: str) -> None:
        self.desk, self._path = desk, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        desk, visit = self.desk, Visit(scope, receive)
        language = choose_language(visit.header(b"accept-language"))
        status = 500
        try:
            try:
                response = await self.welcome(visit, language)
            except TallyError as error:
                if isinstance(error, PluginFailed):
                    log.exception("%s %s failed", visit.method, self._path)
                response = _problem(error, language)
            except ClientDisconnect:
                response = _raw(400, b"", b"text/plain")
            except Exception as error:
                if (refusal := database.refusal(error)) is None:
                    raise
                response = _problem(refusal, language)
            status = response.status_code
            await response(scope, receive, send)
        finally:
            desk.metrics.answered(visit.method, self._path, status, time.perf_counter() - started)

    async def welcome(self, visit: Visit, language: Language) -> Response:
        """Ask for a key, then answer."""
        desk = self.desk
        principal = await desk.who(visit)
        permissions = desk.known(principal.tenant)
        if permissions is None:
            permissions = await run_in_threadpool(desk.brought, principal.tenant)
        return await self.answer(visit, principal, permissions, language)

    async def answer(
        self, visit: Visit, principal: Principal, permissions: Mapping[str, frozenset[str]], language: Language
    ) -> Response:
        """Answer whoever holds a valid key, or refuse."""
        raise NotImplementedError


class OwnEndpoint(Endpoint):
    """One of the core's doors."""

    def __init__(self, desk: Desk, door: Door) -> None:
        super().__init__(desk, door.path)
        self.door = door
        self._take = desk.deliver if door.permission == BY_KIND else desk.expose if door is METRICS else desk.ask

    async def answer(
        self, visit: Visit, principal: Principal, permissions: Mapping[str, frozenset[str]], language: Language
    ) -> Response:
        """By the table of doors."""
        if self.door.permission != BY_KIND:
            demand(principal, self.door.permission, permissions)
        return await self._take(self.door, visit, principal, permissions, language)


class PluginEndpoint(Endpoint):
    """One door that a plugin brought.  For a tenant that does not run the plugin it does not exist."""

    def __init__(self, desk: Desk, door: routes.Brought) -> None:
        super().__init__(desk, door.path)
        self.door = door

    async def answer(
        self, visit: Visit, principal: Principal, permissions: Mapping[str, frozenset[str]], language: Language
    ) -> Response:
        """By the plugin's manifest; its function is called in a thread."""
        house, door = self.desk.house, self.door
        endpoint = await run_in_threadpool(routes.admit, house, door, principal, permissions)
        query, body = _query(visit, endpoint.query), None
        if endpoint.body is not None:
            _media(visit, {"application/json": (True, False)})
            body = read_json(await _body(visit, SMALL_BODY), endpoint.body)
        found = await run_in_threadpool(
            routes.answer, house, door, endpoint, principal, language, visit.path, query, body
        )
        if door.page:
            return _raw(200, found, b"text/html; charset=utf-8", _PAGE)
        return _raw(200, found, b"application/json")


class PublicEndpoint(Endpoint):
    """One door of a plugin that a pass opens instead of a key.  A pass that is not ours is refused before anything else."""

    def __init__(self, desk: Desk, door: routes.Brought) -> None:
        super().__init__(desk, door.path)
        self.door = door

    async def welcome(self, visit: Visit, language: Language) -> Response:
        """By the pass, at the rate the manifest allows; the plugin's function is called in a thread."""
        house, door = self.desk.house, self.door
        found = await run_in_threadpool(routes.recognise, house, door, visit.path["pass"])
        self.desk.limit(f"{door.id} {visit.path['pass']}", float(door.rate), float(door.rate * 4))
        body = await _body(visit, PUBLIC_BODY) if visit.method not in ("GET", "HEAD") else b""
        came = routes.Came(
            found, language, dict(QueryParams(visit.query)), visit.header(b"content-type"), body, visit.method, visit.place,
            visit.texts(),
        )  # fmt: skip
        said = await self.desk.answer_knock(door, visit.path["pass"], came)
        headers = _OPEN_PAGE if said.media.startswith("text/html") else _OPEN
        more = tuple((name.lower().encode(), text.encode("latin-1")) for name, text in said.headers.items())
        return _raw(200, said.body, said.media.encode(), (*headers, *more))


class Desk:
    """What the endpoints share: the house, who was seen a moment ago, and what is counted."""

    def __init__(self, house: House, *, rate: float | None = None, burst: int = 100) -> None:
        self.house = house
        self.keyring = Keyring(house.db, clock=house.clock, monotonic=time.monotonic)
        self.metrics = Metrics()
        self._rate, self._burst = rate, float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}
        self._kinds: dict[str, tuple[float, Mapping[str, EventKind]]] = {}
        self._permissions: dict[str, tuple[float, Mapping[str, frozenset[str]]]] = {}
        self._waiting: Waiting | None = None
        self._gatherings: dict[str, Gathering[routes.Came]] = {}  # by the doors' ids
        self._openapi: tuple[Any, bytes] | None = None
        self._script: bytes | None = None

    def brought_doors(self) -> list[routes.Brought]:
        """Doors of all installed plugins: one that is switched on later needs no restart."""
        manifests, _ = discovery.manifests(self.house.installed)
        return list(routes.brought(manifests.values()))

    def shelves(self) -> list[assets.Shelf]:
        """Folders of all installed plugins that anybody may read."""
        return assets.shelves(discovery.manifests(self.house.installed)[0])

    # -- doors that ask for a key -----------------------------------------------------------------------------------

    async def who(self, visit: Visit) -> Principal:
        """Whose key came with the request; raises Unauthorized or RateLimited."""
        scheme, _, text = visit.header(b"authorization").partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise Unauthorized
        principal = self.keyring.remembered(text)
        if principal is None:
            principal = await run_in_threadpool(self.keyring.authenticate, text)
        if principal.tenant not in self.house.config.tenants:
            raise Unauthorized
        if self._rate is not None:
            self.limit(principal.key, self._rate, self._burst)
        return principal

    async def answer_knock(self, door: routes.Brought, text: str, came: routes.Came) -> routes.Said:
        """Answer what came with the pass *text*, alone or with whatever else came while the last were answered."""
        if not door.grouped:
            return await run_in_threadpool(routes.answer_knock, self.house, door, came)
        gathering = self._gatherings.get(door.id)
        if gathering is None:
            gathering = Gathering(partial(routes.answer_knocks, self.house, door))
            self._gatherings[door.id] = gathering
        said: routes.Said = await gathering.answer(text, came)
        return said

    def limit(self, whose: str, rate: float, burst: float) -> None:
        """A bucket per key or pass: *rate* drops a second run in, *burst* is full.  Raises RateLimited."""
        now = time.monotonic()
        level, since = self._buckets.get(whose, (burst, now))
        level = min(burst, level + (now - since) * rate)
        if level < 1:
            raise RateLimited(retry_after=max(1, round((1 - level) / rate)))
        if len(self._buckets) > 10_000:
            self._buckets.clear()
        self._buckets[whose] = (level - 1, now)

    def known(self, tenant: str) -> Mapping[str, frozenset[str]] | None:
        """What :meth:`brought` found a moment ago."""
        found = self._permissions.get(tenant)
        return found[1] if found is not None and time.monotonic() < found[0] else None

    def brought(self, tenant: str) -> Mapping[str, frozenset[str]]:
        """Permissions of the plugins that the tenant runs now, with the roles that have them."""
        plugins = [self.house.installed[name].manifest for name in self.house.tenants()[tenant].plugins]
        found = {one.id: frozenset(one.roles) for plugin in plugins for one in plugin.permissions}
        self._permissions[tenant] = (time.monotonic() + KINDS_SECONDS, found)
        return found

    async def ask(
        self,
        door: Door,
        visit: Visit,
        principal: Principal,
        permissions: Mapping[str, frozenset[str]],
        language: Language,
    ) -> Response:
        """Doors that answer from the books, or change them once: in a thread."""
        query = _query(visit, door.query)
        body = None
        if door.body is not None:
            _media(visit, {"application/json": (True, False)})
            body = read_json(await _body(visit, SMALL_BODY), door.body)
        call = Call(self.house, principal, permissions, language, visit.path, query, body)
        assert door.answer is not None
        return _answer(await run_in_threadpool(door.answer, call))

    async def expose(self, _door: Door, _visit: Visit, *_who: Any) -> Response:
        """Counters of this process in Prometheus' text format."""
        return _raw(
            200,
            self.metrics.exposition(self.house.writer, self.house.registry.health()).encode(),
            b"text/plain; version=0.0.4; charset=utf-8",
        )

    async def deliver(
        self,
        door: Door,
        visit: Visit,
        principal: Principal,
        permissions: Mapping[str, frozenset[str]],
        language: Language,
    ) -> Response:
        """Events: read, handed to the writer, answered after the commit."""
        takes_one, takes_many = _media(visit, _EVENT_MEDIA)
        query = _query(visit, door.query)
        body = await _body(visit, LIMITS.body)
        call = Call(self.house, principal, permissions, language, visit.path, query, body)
        kinds = await self._kinds_of(principal.tenant)
        if len(body) > LARGE_BODY:
            items, single = await run_in_threadpool(admit_events, call, kinds)
        else:
            items, single = admit_events(call, kinds)
        if not (takes_one if single else takes_many):
            raise UnsupportedMedia(
                "one event is application/cloudevents+json, an array is application/cloudevents-batch+json"
            )
        if query.dry_run:
            outcomes = await run_in_threadpool(dry_run, self.house, items)
        else:
            outcomes = await self._waiting_room().record(self.house.writer, items)
            self.metrics.recorded(outcomes)
        ask_for_a_second(call, items, outcomes)
        if len(outcomes) > 10:
            return await run_in_threadpool(
                lambda: _answer(answer_events(outcomes, single, language, dry=query.dry_run))
            )
        return _answer(answer_events(outcomes, single, language, dry=query.dry_run))

    def _waiting_room(self) -> Waiting:
        loop = asyncio.get_running_loop()
        if self._waiting is None or self._waiting.loop is not loop:
            self._waiting = Waiting(loop)
        return self._waiting

    async def _kinds_of(self, tenant: str) -> Mapping[str, EventKind]:
        known = self._kinds.get(tenant)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        kinds = await run_in_threadpool(self.house.kinds, tenant)
        self._kinds[tenant] = (time.monotonic() + KINDS_SECONDS, kinds)
        return kinds

    # -- doors that say nothing of any tenant -----------------------------------------------------------------------

    async def healthz(self, _request: Request) -> Response:
        """The process is alive."""
        return _raw(200, b'{"status":"alive"}', b"application/json")

    async def readyz(self, _request: Request) -> Response:
        """Whether events can be recorded now; names plugins that are broken or missing."""
        ready = await run_in_threadpool(self._readiness)
        return _raw(200 if ready["status"] == "ready" else 503, _encode(ready), b"application/json")

    def _readiness(self) -> dict[str, Any]:
        house = self.house
        checks = {"database": "ok", "writer": "ok" if house.writer.running else "stopped"}
        if database.missing_file(house.db):  # asking would make an empty one
            checks["database"] = "gone"
        else:
            try:
                with house.reading() as conn:
                    conn.exec_driver_sql("SELECT 1")
            except Exception as error:  # noqa: BLE001  whatever it is, the answer is that the database cannot be asked
                checks["database"] = type(error).__name__
        tenants = [*(house.tenants() if checks["database"] == "ok" else house.config.tenants).values()]
        broken = {name for tenant in tenants for name in tenant.left_out}
        for name, installed in house.installed.items():
            try:
                _ = installed.manifest
            except PluginBroken:
                broken.add(name)
        unwell = [
            {"plugin": name, "hook": "health", "state": "unwell", "errors": 1}
            for name in (house.unwell() if checks["database"] == "ok" else ())
        ]
        refused = [t.id for t in tenants if any(name not in t.plugins for name in t.required)]
        good = all(state == "ok" for state in checks.values()) and len(refused) < max(1, len(tenants))
        return {
            "status": "ready" if good else "not ready",
            "checks": checks,
            "plugins": {"broken": sorted(broken), "failing": [*self._failing(), *unwell]},
            "tenants": {"served": len(tenants) - len(refused), "refused": len(refused)},
        }

    def _failing(self) -> list[dict[str, Any]]:
        """Hooks that failed since this process began, and whether their breaker lets them be asked."""
        return [
            {"plugin": each.plugin, "hook": each.hook, "state": each.state, "errors": each.errors}
            for each in self.house.registry.health()
            if each.errors
        ]

    async def openapi(self, _request: Request) -> Response:
        """The OpenAPI document."""
        return _raw(200, await run_in_threadpool(self._document), b"application/json", _PAGE)

    def _document(self) -> bytes:
        """Made anew when what runs has changed."""
        from .openapi import openapi_document  # few ever ask for it, and every start would wait for it

        running = {tenant.id: tuple(tenant.plugins) for tenant in self.house.tenants().values()}
        if self._openapi is None or self._openapi[0] != running:
            document = openapi_document(self._all_kinds(), routes.doors(self.house))
            self._openapi = running, _encode(document)
        return self._openapi[1]

    def _all_kinds(self) -> dict[str, EventKind]:
        kinds: dict[str, EventKind] = {}
        for tenant in self.house.config.tenants:
            kinds.update(self.house.kinds(tenant))
        return kinds

    async def docs(self, _request: Request) -> Response:
        """The reference in a browser."""
        return _raw(200, _DOCS.encode(), b"text/html; charset=utf-8", _PAGE)

    async def asset(self, request: Request) -> Response:
        """The script of the reference page, kept with the house."""
        if self._script is None:
            file = resources.files(__package__).joinpath("static", f"{_ASSET}.gz")
            self._script = await run_in_threadpool(file.read_bytes)
        headers = (
            *_SECURITY,
            (b"cache-control", b"public, max-age=31536000, immutable"),
            (b"vary", b"accept-encoding"),
        )
        if "gzip" in request.headers.get("accept-encoding", ""):
            return _raw(200, self._script, b"text/javascript", (*headers, (b"content-encoding", b"gzip")))
        return _raw(200, await run_in_threadpool(gzip.decompress, self._script), b"text/javascript", headers)


class Waiting:
    """Deliveries of one event loop that wait for their commit.  It is woken once for all that one batch completed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._done: deque[asyncio.Future[None]] = deque()
        self._called = False
        #: in the order in which they came, with when to give up: one timer looks after all of them
        self._line: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._watched = False

    async def record(self, writer: Writer, items: list[Arrival | TallyError]) -> list[Outcome]:
        """Hand the events in together and wait for all of them; the writer's thread fills the outcomes in."""
        outcomes: list[Any] = list(items)
        places = [place for place, item in enumerate(items) if not isinstance(item, TallyError)]
        if not places:
            return outcomes
        recorded: asyncio.Future[None] = self.loop.create_future()
        left = len(places)

        def done_at(place: int) -> Callable[[Outcome], None]:
            def done(outcome: Outcome) -> None:
                nonlocal left
                outcomes[place] = outcome
                left -= 1
                if not left:
                    self._post(recorded)

            return done

        writer.hand_in([(outcomes[place], done_at(place)) for place in places])
        self._line.append((self.loop.time() + PATIENCE_SECONDS, recorded))
        if not self._watched:
            self._watch()
        await recorded
        return outcomes

    def _post(self, recorded: asyncio.Future[None]) -> None:
        """In the writer's thread: a delivery is complete."""
        self._done.append(recorded)
        if not self._called:
            self._called = True
            try:
                self.loop.call_soon_threadsafe(self._collect)
            except RuntimeError:  # the loop is closed: nobody waits any more, and the writer goes on
                self._called = False

    def _collect(self) -> None:
        self._called = False  # before looking: what is posted from now on calls again
        while self._done:
            recorded = self._done.popleft()
            if not recorded.done():
                recorded.set_result(None)

    def _watch(self) -> None:
        """Let go of those that waited too long; look again in a second while anybody waits."""
        now, line = self.loop.time(), self._line
        while line and (line[0][1].done() or line[0][0] <= now):
            _, recorded = line.popleft()
            if not recorded.done():
                recorded.set_exception(
                    Unavailable("the commit takes too long; send the same request again to learn what came of it")
                )
        self._watched = bool(line)
        if line:
            self.loop.call_later(1.0, self._watch)


#: How long a request waits for its commit.  Whether it was recorded is then unknown, and sending it again is safe.
PATIENCE_SECONDS: Final = 9.0


# --- requests -------------------------------------------------------------------------------------------------------


class _NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For doors without parameters."""


def _query(visit: Visit, kind: type[msgspec.Struct] | None) -> Any:
    items = QueryParams(visit.query).multi_items() if visit.query else []
    names = [name for name, _ in items]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f'the parameter "{name}" stands there more than once', parameter=name)
    return read_query(dict(items), kind or _NoQuery)


def _media(visit: Visit, known: Mapping[str, tuple[bool, bool]]) -> tuple[bool, bool]:
    said = visit.header(b"content-type")
    if (found := known.get(said)) is None:
        kind, _, parameters = said.partition(";")
        found = known.get(kind.strip().lower())
        if found is None:
            raise UnsupportedMedia(f"expected {' or '.join(known)}")
        if (charset := parameters.strip().lower()) and charset not in {"charset=utf-8", 'charset="utf-8"'}:
            raise UnsupportedMedia("JSON is UTF-8 here")
    if visit.header(b"content-encoding").lower() not in {"", "identity"}:
        raise UnsupportedMedia("bodies are not compressed here")
    return found


async def _body(visit: Visit, limit: int) -> bytes:
    """The body, given up as soon as it is larger than *limit*."""
    length = visit.headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes", limit=limit)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await visit.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes", limit=limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


# --- responses ------------------------------------------------------------------------------------------------------


def _raw(status: int, body: bytes, media: bytes, headers: tuple[tuple[bytes, bytes], ...] = _CLOSED) -> Response:
    response = Response.__new__(Response)  # its constructor would encode every header anew
    response.status_code, response.body, response.background = status, body, None
    response.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", media), *headers]
    return response


def _answer(answer: Answer) -> Response:
    return _raw(answer.status, _encode(answer.body), b"application/json")


def _problem(error: TallyError, language: Language) -> Response:
    headers = [*_CLOSED, (b"content-language", language.encode()), (b"vary", b"accept-language")]
    retry_after = getattr(error, "retry_after", None) or error.details.get("retry_after")
    if retry_after:
        headers.append((b"retry-after", str(retry_after).encode()))
    status = status_of(error)
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="tallystick"'))
    return _raw(status, _encode(problem_document(error, language)), MEDIA_TYPE.encode(), tuple(headers))


async def _http_exception(request: Request, error: Exception) -> Response:
    """What the router refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    refusal: TallyError = MethodNotAllowed() if error.status_code == 405 else NotFound("there is no such route")
    response = _problem(refusal, choose_language(request.headers.get("accept-language", "")))
    response.raw_headers += [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    return response


async def _crash(request: Request, error: Exception) -> Response:
    """A mistake of ours.  The log has it; the answer says no more than that."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    refusal = TallyError("something went wrong in the house; it was written to the log")
    return _problem(refusal, choose_language(request.headers.get("accept-language", "")))
