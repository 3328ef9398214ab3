"""The HTTP door: Starlette in front of :mod:`tallystick.api`.  Keys, limits, languages, problems, metrics; no rule lives here."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from . import database
from .access import Principal, demand
from .api import BY_KIND, DOORS, Answer, Call, Door, admit_events, answer_events, dry_run
from .engine import Outcome
from .errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PluginBroken,
    RateLimited,
    TallyError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from .events import EventKind
from .house import House
from .intake import LIMITS, read_json
from .keys import Keyring
from .openapi import openapi_document
from .problems import MEDIA_TYPE, Language, choose_language, problem_document, status_of

log = logging.getLogger("tallystick.web")

#: Bytes of a body that is not a delivery of events.
SMALL_BODY: Final = 64 * 1024
#: Bodies above this are read in a thread, so that other requests need not wait for them.
LARGE_BODY: Final = 64 * 1024
#: How long a tenant's kinds of events are believed; the engine judges by the generation in force in any case.
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
_ASSET: Final = "rapidoc-9.3.8.js"
_DOCS: Final = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tallystick API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script type="module" src="/docs/{_ASSET}"></script></head>
<body><rapi-doc spec-url="/openapi.json" load-fonts="false" show-header="false" render-style="read" theme="light"
 allow-spec-url-load="false" allow-spec-file-load="false" schema-style="table" persist-auth="false"></rapi-doc></body></html>
"""


def build_app(house: House, *, rate: float | None = None, burst: int = 100) -> Starlette:
    """The application for *house*, which is open; whoever opened it closes it.

    With *rate*, each key may send so many requests per second, and *burst* at once after a pause.
    """
    desk = Desk(house, rate=rate, burst=burst)
    app = Starlette(
        routes=[
            *(Route(door.path, desk.endpoint(door), methods=[door.method]) for door in DOORS),
            Route("/healthz", desk.healthz, methods=["GET"]),
            Route("/readyz", desk.readyz, methods=["GET"]),
            Route("/metrics", desk.metrics, methods=["GET"]),
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
GUARDED: Final[Mapping[str, str]] = {"/metrics": "metrics.read"}


class Desk:
    """What the endpoints share: the house, who was seen a moment ago, and what is counted."""

    def __init__(self, house: House, *, rate: float | None = None, burst: int = 100) -> None:
        self.house = house
        self.keyring = Keyring(house.db, clock=house.clock, monotonic=time.monotonic)
        self._rate, self._burst = rate, float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}
        self._kinds: dict[str, tuple[float, Mapping[str, EventKind]]] = {}
        self._permissions: dict[str, Mapping[str, frozenset[str]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._mail: deque[asyncio.Future[None]] = deque()
        self._called = False
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._openapi: bytes | None = None
        self._script: bytes | None = None

    # -- doors that ask for a key -----------------------------------------------------------------------------------

    def endpoint(self, door: Door) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of one door."""
        take = self._deliver if door.permission == BY_KIND else self._ask

        async def endpoint(request: Request) -> Response:
            return await self._guarded(request, door.path, door.permission, lambda *who: take(door, request, *who))

        return endpoint

    async def _guarded(
        self,
        request: Request,
        path: str,
        permission: str,
        take: Callable[[Principal, Mapping[str, frozenset[str]], Language], Awaitable[Response]],
    ) -> Response:
        """Who is it, may they, and what came of it: every answer and refusal passes here."""
        started = time.perf_counter()
        language = choose_language(request.headers.get("accept-language", ""))
        try:
            principal = await self._who(request)
            self._limit(principal)
            permissions = self._brought(principal.tenant)
            if permission != BY_KIND:
                demand(principal, permission, permissions)
            response = await take(principal, permissions, language)
        except TallyError as error:
            response = _problem(error, language)
        except ClientDisconnect:
            response = _raw(400, b"", b"text/plain")
        except Exception as error:
            if (refusal := database.refusal(error)) is None:
                self._requests[request.method, path, 500] += 1
                raise
            response = _problem(refusal, language)
        self._requests[request.method, path, response.status_code] += 1
        self._seconds[path] += time.perf_counter() - started  # type: ignore[assignment]  # a Counter adds floats as well
        return response

    async def _who(self, request: Request) -> Principal:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise Unauthorized
        principal = self.keyring.remembered(text)
        if principal is None:
            principal = await run_in_threadpool(self.keyring.authenticate, text)
        if principal.tenant not in self.house.config.tenants:
            raise Unauthorized
        return principal

    def _limit(self, principal: Principal) -> None:
        """A bucket per key: *rate* drops a second run in, *burst* is full."""
        if self._rate is None:
            return
        now = time.monotonic()
        level, since = self._buckets.get(principal.key, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        if level < 1:
            raise RateLimited(retry_after=max(1, round((1 - level) / self._rate)))
        if len(self._buckets) > 10_000:
            self._buckets.clear()
        self._buckets[principal.key] = (level - 1, now)

    def _brought(self, tenant: str) -> Mapping[str, frozenset[str]]:
        """Permissions of the tenant's plugins, with the roles that have them."""
        found = self._permissions.get(tenant)
        if found is None:
            plugins = [self.house.installed[name].manifest for name in self.house.config.tenants[tenant].plugins]
            found = {one.id: frozenset(one.roles) for plugin in plugins for one in plugin.permissions}
            self._permissions[tenant] = found
        return found

    async def _ask(
        self,
        door: Door,
        request: Request,
        principal: Principal,
        permissions: Mapping[str, frozenset[str]],
        language: Language,
    ) -> Response:
        """Doors that answer from the books, or change them once: in a thread."""
        query = _query(request, door.query)
        body = None
        if door.body is not None:
            _media(request, {"application/json": (True, False)})
            body = read_json(await _body(request, SMALL_BODY), door.body)
        call = Call(self.house, principal, permissions, language, request.path_params, query, body)
        assert door.answer is not None
        answer = await run_in_threadpool(door.answer, call)
        return _answer(answer)

    async def _deliver(
        self,
        door: Door,
        request: Request,
        principal: Principal,
        permissions: Mapping[str, frozenset[str]],
        language: Language,
    ) -> Response:
        """Events: read, handed to the writer, answered after the commit."""
        takes_one, takes_many = _media(request, _EVENT_MEDIA)
        query = _query(request, door.query)
        body = await _body(request, LIMITS.body)
        call = Call(self.house, principal, permissions, language, {}, query, body)
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
            outcomes = await self._record(items)
            self._events.update(_word(outcome) for outcome in outcomes)
        if len(outcomes) > 10:
            return await run_in_threadpool(
                lambda: _answer(answer_events(outcomes, single, language, dry=query.dry_run))
            )
        return _answer(answer_events(outcomes, single, language, dry=query.dry_run))

    async def _kinds_of(self, tenant: str) -> Mapping[str, EventKind]:
        known = self._kinds.get(tenant)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        kinds = await run_in_threadpool(self.house.kinds, tenant)
        self._kinds[tenant] = (time.monotonic() + KINDS_SECONDS, kinds)
        return kinds

    async def _record(self, items: list[Any]) -> list[Outcome]:
        """Hand the events in together and wait for all of them.

        The writer's thread fills the outcomes in; the loop is woken once for all deliveries of a batch.
        """
        outcomes: list[Any] = list(items)
        places = [place for place, item in enumerate(items) if not isinstance(item, TallyError)]
        if not places:
            return outcomes
        loop = asyncio.get_running_loop()
        if self._loop is None or self._loop.is_closed():
            self._loop = loop
            self._mail.clear()
        recorded: asyncio.Future[None] = loop.create_future()
        left = len(places)

        def done_at(place: int) -> Callable[[Outcome], None]:
            def done(outcome: Outcome) -> None:
                nonlocal left
                outcomes[place] = outcome
                left -= 1
                if not left:
                    self._post(recorded, loop)

            return done

        self.house.writer.hand_in([(items[place], done_at(place)) for place in places])
        patience = loop.call_later(PATIENCE_SECONDS, _give_up, recorded)
        try:
            await recorded
        finally:
            patience.cancel()
        return outcomes

    def _post(self, recorded: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> None:
        """In the writer's thread: a delivery is complete."""
        try:
            if loop is not self._loop:
                loop.call_soon_threadsafe(_wake, recorded)
                return
            self._mail.append(recorded)
            if not self._called:
                self._called = True
                loop.call_soon_threadsafe(self._collect)
        except RuntimeError:  # the loop is closed: nobody waits any more, and the writer goes on
            self._called = False

    def _collect(self) -> None:
        self._called = False  # before looking: what is posted from now on calls again
        while self._mail:
            _wake(self._mail.popleft())

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
        try:
            with database.reading(house.db) as conn:
                conn.exec_driver_sql("SELECT 1")
        except Exception as error:  # noqa: BLE001  whatever it is, the answer is that the database cannot be asked
            checks["database"] = type(error).__name__
        broken = {name for tenant in house.config.tenants.values() for name in tenant.left_out}
        for name, installed in house.installed.items():
            try:
                _ = installed.manifest
            except PluginBroken:
                broken.add(name)
        refused = [t.id for t in house.config.tenants.values() if any(name not in t.plugins for name in t.required)]
        good = all(state == "ok" for state in checks.values()) and len(refused) < max(1, len(house.config.tenants))
        return {
            "status": "ready" if good else "not ready",
            "checks": checks,
            "plugins": {"broken": sorted(broken)},
            "tenants": {"served": len(house.config.tenants) - len(refused), "refused": len(refused)},
        }

    async def openapi(self, _request: Request) -> Response:
        """The OpenAPI document."""
        if self._openapi is None:
            self._openapi = await run_in_threadpool(lambda: _encode(openapi_document(self._all_kinds())))
        return _raw(200, self._openapi, b"application/json", _PAGE)

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

    # -- numbers ----------------------------------------------------------------------------------------------------

    async def metrics(self, request: Request) -> Response:
        """Counters of this process in Prometheus' text format."""

        async def take(*_who: Any) -> Response:
            return _raw(200, self._exposition().encode(), b"text/plain; version=0.0.4; charset=utf-8")

        return await self._guarded(request, "/metrics", GUARDED["/metrics"], take)

    def _exposition(self) -> str:
        writer = self.house.writer
        series: list[tuple[str, str, str, list[tuple[str, float]]]] = [
            (
                "tallystick_http_requests_total", "counter", "Requests answered.",
                [(f'method="{method}",route="{path}",status="{status}"', n) for (method, path, status), n in sorted(self._requests.items())],
            ),
            (
                "tallystick_http_seconds_total", "counter", "Seconds spent on answering.",
                [(f'route="{path}"', seconds) for path, seconds in sorted(self._seconds.items())],
            ),
            (
                "tallystick_events_total", "counter", "Events that came in over HTTP, by what came of them.",
                [(f'outcome="{word}"', n) for word, n in sorted(self._events.items())],
            ),
            ("tallystick_writer_events_total", "counter", "Events the writer took.", [("", writer.events)]),
            ("tallystick_writer_batches_total", "counter", "Batches committed.", [("", writer.batches)]),
            ("tallystick_writer_waiting", "gauge", "Events that wait for the next batch.", [("", writer.waiting)]),
        ]  # fmt: skip
        lines: list[str] = []
        for name, kind, text, values in series:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{{{labels}}} {value:g}" if labels else f"{name} {value:g}" for labels, value in values]
        return "\n".join(lines) + "\n"


#: How long a request waits for its commit.  Whether it was recorded is then unknown, and sending it again is safe.
PATIENCE_SECONDS: Final = 9.0


def _wake(recorded: asyncio.Future[None]) -> None:
    if not recorded.done():
        recorded.set_result(None)


def _give_up(recorded: asyncio.Future[None]) -> None:
    if not recorded.done():
        recorded.set_exception(
            Unavailable("the commit takes too long; send the same request again to learn what came of it")
        )


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, TallyError):
        return outcome.code
    return "repeated" if outcome.repeated else outcome.record.status


# --- requests -------------------------------------------------------------------------------------------------------


class _NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For doors without parameters."""


def _query(request: Request, kind: type[msgspec.Struct] | None) -> Any:
    if not request.scope["query_string"]:
        return (kind or _NoQuery)()
    items = request.query_params.multi_items()
    names = [name for name, _ in items]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f'the parameter "{name}" stands there more than once', parameter=name)
    try:
        return msgspec.convert(dict(items), type=kind or _NoQuery, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"in the query: {error}") from None


def _media(request: Request, known: Mapping[str, tuple[bool, bool]]) -> tuple[bool, bool]:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    found = known.get(kind.strip().lower())
    if found is None:
        raise UnsupportedMedia(f"expected {' or '.join(known)}")
    if (charset := parameters.strip().lower()) and charset not in {"charset=utf-8", 'charset="utf-8"'}:
        raise UnsupportedMedia("JSON is UTF-8 here")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("bodies are not compressed here")
    return found


async def _body(request: Request, limit: int) -> bytes:
    """The body, given up as soon as it is larger than *limit*."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes", limit=limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes", limit=limit)
        chunks.append(chunk)
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
