"""HTTP by one process or several: our own listening socket, one house per process, an end at which nothing is dropped.

Several processes share the socket and the database; each leases a writer's row and keeps a chain of its own.  The first
process only watches: it replaces whoever died, and passes on the word to stop.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import click

from .errors import InvalidRequest
from .terminal import say

if TYPE_CHECKING:
    import asyncio

    from .house import House

log = logging.getLogger("tallystick")

#: How long requests that wait for their commit are waited for at the end, in seconds; none waits longer than nine.
FAREWELL = 10
#: How long whoever is connected at the end, and has not said anything yet, is waited for, in seconds.
FIRST_WORD = 2.0
#: How long a process must have served to be replaced at once; one that dies sooner is given a pause, in seconds.
SETTLED, PAUSE = 5.0, 1.0
#: How often the first process looks after the others, in seconds.
PATROL = 0.1

#: After how many seconds in which nothing was heard of a process, or its writer was at one batch, it is taken for hung.
HUNG = 30.0
#: How much longer a process may take to open its house, in seconds.
OPENING = 90.0

_MOMENT = 0.05
_STOP = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; answers leave at once (TCP_NODELAY), for a till waits for each."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1_024)
    except OSError as error:
        raise InvalidRequest(
            f"cannot listen on {host}:{port}: {str(error.strerror).partition(' (while ')[0]}"
        ) from None
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def announce(listening: socket.socket) -> None:
    """Say where the house can be found."""
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(say("Serving on {url}; stop with Ctrl-C", url=url), err=True)


def run_server(built: House, listening: socket.socket) -> None:
    """Answer HTTP on *listening* until told to stop; whoever opened *built* closes it, which records what was accepted."""
    announce(listening)
    answer(built, listening)


def answer(built: House, listening: socket.socket, alive: Callable[[], None] = lambda: None) -> None:
    """Answer HTTP until SIGTERM or SIGINT: take no more, answer what was taken, and return.

    *alive* is called every second by the loop that answers, as long as the writer comes to the end of its batches, too.
    """
    import asyncio

    import uvicorn

    from . import web

    told: list[uvicorn.Server | None] = []  # a word that comes before uvicorn listens for it counts as well

    class Server(uvicorn.Server):
        async def on_tick(self, counter: int) -> bool:
            if counter % 10 == 0 and built.writer.busy < HUNG:
                alive()
            return await super().on_tick(counter)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # uvicorn would close whoever was let in a moment ago, with the request already on its way
            for each in (*self.servers, *(sockets or ())):
                each.close()
            for _ in range(int(FIRST_WORD / _MOMENT)):
                await asyncio.sleep(_MOMENT)
                if not any(getattr(each, "cycle", each) is None for each in self.server_state.connections):
                    break
            await super().shutdown(sockets)

    # uvicorn sends itself the signal once more when it has stopped: the house still has to be closed then
    def heard(_signal: int, _frame: FrameType | None) -> None:
        told.append(None)
        for server in told:
            if server is not None:
                server.should_exit = True

    before = {each: signal.signal(each, heard) for each in _STOP}
    try:
        settings = uvicorn.Config(
            web.build_app(built),
            log_level=built.config.house.log_level,
            access_log=False,
            ws=cast("type[asyncio.Protocol]", _socket),
            ws_per_message_deflate=False,  # a device's frame is smaller than what packing it costs
            server_header=False,
            date_header=False,
            proxy_headers=False,  # nothing here asks where a request came from
            timeout_graceful_shutdown=FAREWELL,
        )
        server = Server(settings)
        told.insert(0, server)
        if len(told) == 1:
            server.run(sockets=[listening])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _socket(**about: Any) -> asyncio.Protocol:
    """A device's connection: what it speaks is imported when the first one comes, and no start waits for it."""
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

    assert AutoWebSocketsProtocol is not None  # it comes with this distribution
    made: asyncio.Protocol = AutoWebSocketsProtocol(**about)
    return made


class Watch:
    """The process that serves nothing itself: as many as wanted do, and each that dies or hangs is replaced."""

    def __init__(self, workers: int, serve: Callable[[Callable[[], None]], None]) -> None:
        """*serve* runs in each process of its own and returns when it was told to stop.

        It is given what it has to call at least every :data:`HUNG` seconds: of whom nothing is heard is killed.
        """
        self.workers, self.serve = workers, serve
        self.running: dict[int, float] = {}  #: process id -> since when, in seconds of the monotonic clock
        self.stopping = False
        self._renewing: list[int] = []
        self._leaving = 0  #: who is being renewed
        # one number for each worker: when it was last heard of, in seconds of the monotonic clock all processes share
        self._heard = mmap.mmap(-1, 8 * workers)
        self._places: dict[int, int] = {}

    def run(self) -> None:
        """Start all, and keep them running until SIGTERM or SIGINT; SIGHUP renews them one after the other."""
        before = {each: signal.signal(each, self._stop) for each in _STOP}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._renew)
        try:
            for _ in range(self.workers):
                self._start()
            while self.running:
                if not self._await_one():
                    self._renew_next()
                    self._end_hung()
                    time.sleep(PATROL)
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _start(self) -> None:
        place = min({*range(self.workers)} - {*self._places.values()})
        self._hear(place, OPENING)
        # no word may come between the fork and the note of it: the child would never hear it
        signals = {*_STOP, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        child = os.fork()
        if child:
            self.running[child], self._places[child] = time.monotonic(), place
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            if self.stopping:  # the word came just before
                _tell(child, signal.SIGTERM)
            return
        status = 1
        try:
            for each in signals:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            self.serve(lambda: self._hear(place))
            status = 0
        except BaseException:
            log.exception("a worker could not go on")
        finally:
            os._exit(status)  # what the watching process had opened is not the worker's to close

    def _hear(self, place: int, more: float = 0.0) -> None:
        struct.pack_into("d", self._heard, 8 * place, time.monotonic() + more)

    def _end_hung(self) -> None:
        now = time.monotonic()
        for child, place in self._places.items():
            (heard,) = struct.unpack_from("d", self._heard, 8 * place)
            silent = now - heard
            if silent > HUNG:
                log.error("nothing was heard of worker %s for %.0f seconds: it is killed", child, silent)
                _tell(child, signal.SIGKILL)

    def _await_one(self) -> bool:
        """See to a process that has ended; False if none has."""
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            self.running.clear()
            return True
        if not child:
            return False
        since = self.running.pop(child, 0.0)
        self._places.pop(child, None)
        if self.stopping:
            return True
        if status:
            log.warning("worker %s ended (status %s); another one is started", child, os.waitstatus_to_exitcode(status))
            if time.monotonic() - since < SETTLED:
                time.sleep(PAUSE)
        if not self.stopping:  # the word may have come during the pause
            self._start()
        return True

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
        for child in [*self.running]:
            _tell(child, signal.SIGTERM)

    def _renew(self, _signal: int, _frame: FrameType | None) -> None:
        self._renewing = [*self.running]

    def _renew_next(self) -> None:
        """Tell the next one to stop once all others serve, and whoever came for the last one, too."""
        if not self._renewing or self._leaving in self.running or any(map(self._opens, self._places.values())):
            return
        child = self._renewing.pop()
        if child in self.running:
            self._leaving = child
            _tell(child, signal.SIGTERM)

    def _opens(self, place: int) -> bool:
        """Whether the process there has not served yet."""
        (heard,) = struct.unpack_from("d", self._heard, 8 * place)
        return bool(heard > time.monotonic())


def _tell(child: int, word: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, word)


def serve_with(workers: int, listening: socket.socket, open_house: Callable[[], AbstractContextManager[House]]) -> None:
    """Serve in *workers* processes; one of them is this process itself if only one is wanted."""
    if workers == 1:
        with open_house() as built:
            run_server(built, listening)
        return
    if not hasattr(os, "fork"):
        raise InvalidRequest("several workers need a system that can fork")
    with open_house():
        pass  # whatever is wrong with the configuration or the database is said once, here

    def serve(alive: Callable[[], None]) -> None:
        with open_house() as built:
            answer(built, listening, alive)

    announce(listening)
    Watch(workers, serve).run()
