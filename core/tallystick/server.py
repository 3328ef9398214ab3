"""HTTP by one process or several: our own listening socket, one house per process, an end at which nothing is dropped.

Several processes share the socket and the database; each leases a writer's row and keeps a chain of its own.  The first
process only watches: it replaces whoever died, and passes on the word to stop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType

import click

from .errors import InvalidRequest
from .house import House
from .terminal import say

log = logging.getLogger("tallystick")

#: How long requests that wait for their commit are waited for at the end, in seconds; none waits longer than nine.
FAREWELL = 10
#: How long a process must have served to be replaced at once; one that dies sooner is given a pause, in seconds.
SETTLED, PAUSE = 5.0, 1.0

_STOP = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; answers leave at once (TCP_NODELAY), for a till waits for each."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1_024)
    except OSError as error:
        raise InvalidRequest(f"cannot listen on {host}:{port}: {error.strerror}") from None
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


def answer(built: House, listening: socket.socket) -> None:
    """Answer HTTP until SIGTERM or SIGINT: take no more, answer what was taken, and return."""
    import uvicorn

    from . import web

    told: list[uvicorn.Server | None] = []  # a word that comes before uvicorn listens for it counts as well

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
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=FAREWELL,
        )
        server = uvicorn.Server(settings)
        told.insert(0, server)
        if len(told) == 1:
            server.run(sockets=[listening])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Watch:
    """The process that serves nothing itself: as many as wanted do, and each that dies is replaced."""

    def __init__(self, workers: int, serve: Callable[[], None]) -> None:
        """*serve* runs in each process of its own and returns when it was told to stop."""
        self.workers, self.serve = workers, serve
        self.running: dict[int, float] = {}  #: process id -> since when, in seconds of the monotonic clock
        self.stopping = False
        self._renewing: list[int] = []

    def run(self) -> None:
        """Start all, and keep them running until SIGTERM or SIGINT; SIGHUP renews them one after the other."""
        before = {each: signal.signal(each, self._stop) for each in _STOP}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._renew)
        try:
            for _ in range(self.workers):
                self._start()
            while self.running:
                self._await_one()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _start(self) -> None:
        # no word may come between the fork and the note of it: the child would never hear it
        signals = {*_STOP, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        child = os.fork()
        if child:
            self.running[child] = time.monotonic()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            if self.stopping:  # the word came just before
                _tell(child, signal.SIGTERM)
            return
        status = 1
        try:
            for each in signals:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            self.serve()
            status = 0
        except BaseException:
            log.exception("a worker could not go on")
        finally:
            os._exit(status)  # what the watching process had opened is not the worker's to close

    def _await_one(self) -> None:
        try:
            child, status = os.wait()
        except ChildProcessError:
            self.running.clear()
            return
        since = self.running.pop(child, 0.0)
        if self.stopping:
            return
        if status:
            log.warning("worker %s ended (status %s); another one is started", child, os.waitstatus_to_exitcode(status))
            if time.monotonic() - since < SETTLED:
                time.sleep(PAUSE)
        if not self.stopping:  # the word may have come during the pause
            self._start()
            self._renew_next()

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
        for child in [*self.running]:
            _tell(child, signal.SIGTERM)

    def _renew(self, _signal: int, _frame: FrameType | None) -> None:
        self._renewing = [*self.running]
        self._renew_next()

    def _renew_next(self) -> None:
        while self._renewing:
            child = self._renewing.pop()
            if child in self.running:
                _tell(child, signal.SIGTERM)
                return


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

    def serve() -> None:
        with open_house() as built:
            answer(built, listening)

    announce(listening)
    Watch(workers, serve).run()
