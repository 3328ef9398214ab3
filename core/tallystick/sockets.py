"""Sockets of public routes: each message that comes is a knock like a request's, and gets one answer, in order.

A socket knows nothing that the pass in its path does not say.  How large, how fast, how many and how long idle is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final, Protocol

import msgspec
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from . import database, passes, routes
from .errors import PluginFailed, RateLimited, TallyError, TooLarge
from .gathering import Gathering
from .house import House
from .problems import choose_language, problem_document

log = logging.getLogger("tallystick.web")

#: Bytes of one message.
MESSAGE: Final = 64 * 1024
#: Seconds without a message after which a socket is closed.
IDLE: Final = 90.0
#: Sockets of one process, and of one pass.
MOST: Final = 2_000
MOST_OF_ONE: Final = 8
#: Hellos that are looked at together: when all devices come at once, those that talk already must not wait for all of them.
HELLOS: Final = 8
#: Close codes of RFC 6455, and ours for "this link opens nothing".
_POLICY, _LARGE, _AGAIN, _NOTHING = 1008, 1009, 1013, 4404
_encode = msgspec.json.Encoder(order="deterministic").encode


class Desk(Protocol):
    """What a socket needs of the desk at the door."""

    @property
    def house(self) -> House: ...
    def limit(self, whose: str, rate: float, burst: float) -> None: ...
    async def answer_knock(self, door: routes.Brought, text: str, came: routes.Came) -> routes.Said: ...


class PublicSocket:
    """A public route that says WEBSOCKET."""

    def __init__(self, desk: Desk, door: routes.Brought) -> None:
        self.desk, self.door = desk, door
        self._open: dict[str, int] = {}
        self._hellos: Gathering[str] = Gathering(partial(routes.recognise_all, desk.house, door), HELLOS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket until it is closed."""
        socket = WebSocket(scope, receive, send)
        text = socket.path_params["pass"]
        if not _same_origin(socket) or sum(self._open.values()) >= MOST or self._open.get(text, 0) >= MOST_OF_ONE:
            await socket.close(_POLICY)
            return
        try:
            found = await self._hellos.answer(text, text)
        except TallyError:
            await socket.close(_NOTHING)
            return
        self._open[text] = self._open.get(text, 0) + 1
        try:
            await socket.accept()
            await self._converse(socket, text, found)
        except WebSocketDisconnect:
            pass
        finally:
            self._open[text] -= 1
            if not self._open[text]:
                del self._open[text]

    async def _converse(self, socket: WebSocket, text: str, found: passes.Pass) -> None:
        language = choose_language(socket.headers.get("accept-language", ""))
        query = dict(QueryParams(socket.scope["query_string"]))
        rate = float(self.door.rate)
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    message = await socket.receive()
            except TimeoutError:
                await socket.close(1000)
                return
            if message["type"] == "websocket.disconnect":
                return
            body = message["text"].encode() if message.get("text") is not None else message.get("bytes") or b""
            try:
                if len(body) > MESSAGE:
                    raise TooLarge(f"a message has at most {MESSAGE} bytes", limit=MESSAGE)
                self.desk.limit(f"{self.door.id} {text}", rate, rate * 4)
                came = routes.Came(found, language, query, "application/json", body, "WEBSOCKET")
                said = (await self.desk.answer_knock(self.door, text, came)).body
            except TooLarge:
                await socket.close(_LARGE)
                return
            except RateLimited:
                await socket.close(_AGAIN)
                return
            except TallyError as error:
                if isinstance(error, PluginFailed):
                    log.exception("socket %s failed", self.door.path)
                said = _encode(problem_document(error, language))
            except Exception as error:
                if (refusal := database.refusal(error)) is None:
                    raise
                said = _encode(problem_document(refusal, language))
            await socket.send_text(said.decode())


def _same_origin(socket: WebSocket) -> bool:
    """A browser says where the page came from; a page of somebody else has no business here."""
    origin = socket.headers.get("origin")
    return origin is None or origin.partition("://")[2] == socket.headers.get("host", "")
