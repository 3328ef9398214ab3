"""Takes what has queued up, records it as one batch, one commit: no timer, no fixed size.

Whatever arrives while a commit runs is the next batch, so the batch grows with the load by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from .engine import Engine, Outcome
from .errors import Unavailable
from .events import Arrival
from .ledger import MAX_BATCH

log = logging.getLogger("tallystick")

#: Events that may wait; the next one is refused with Retry-After instead of waiting for ever.
MAX_QUEUE = 20_000
#: Told at once when a batch is done: the whole batch with its outcomes, in the writer's thread.
Done = Callable[[Outcome], None]
T = TypeVar("T")


class Writer:
    """One thread that owns one engine.  Start it with :meth:`start`, end it with :meth:`stop`."""

    def __init__(self, engine: Engine, *, on_batch: Callable[[], None] | None = None) -> None:
        self.engine = engine
        self._on_batch = on_batch
        self._queue: deque[tuple[Arrival, Done]] = deque()
        self._work: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._busy_since = 0.0
        self.batches = 0
        self.events = 0

    def start(self) -> None:
        """Begin to take events."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="tally-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Record what was accepted, refuse what comes later, and end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def running(self) -> bool:
        """Whether it takes events."""
        return self._thread is not None and not self._stopping

    @property
    def busy(self) -> float:
        """Since how many seconds it has been at the batch, or the piece of work, under way; 0 if there is none."""
        since = self._busy_since
        return time.monotonic() - since if since else 0.0

    @property
    def waiting(self) -> int:
        """Events in the queue."""
        return len(self._queue)

    def hand_in(self, items: Sequence[tuple[Arrival, Done]]) -> None:
        """Queue events; each callback is called once, in the writer's thread, after the commit.

        Raises Unavailable if the house is stopping or too much is waiting; then none of *items* is queued.
        """
        with self._wake:
            if self._stopping or self._thread is None:
                raise Unavailable("the house is closing")
            if len(self._queue) + len(items) > MAX_QUEUE:
                raise Unavailable("too many events are waiting", retry_after=1)
            self._queue.extend(items)
            self._wake.notify()

    def submit(self, arrival: Arrival) -> Future[Outcome]:
        """Queue one event; the future's result is the outcome: a receipt or a refusal, never an exception of its own."""
        return self.submit_all([arrival])[0]

    def submit_all(self, arrivals: Sequence[Arrival]) -> list[Future[Outcome]]:
        """Queue events as :meth:`submit` does, so that those of one call are recorded together."""
        futures: list[Future[Outcome]] = [Future() for _ in arrivals]
        for future in futures:
            future.set_running_or_notify_cancel()  # what was handed in will be recorded: nobody can call it back
        for start in range(0, len(arrivals), MAX_BATCH // 2):
            part = slice(start, start + MAX_BATCH // 2)
            self.hand_in([(a, f.set_result) for a, f in zip(arrivals[part], futures[part], strict=True)])
        return futures

    def perform(self, work: Callable[[], T]) -> T:
        """Do *work* between two batches, in the thread that owns the engine; what it returns or raises.

        Raises Unavailable if the house is stopping.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def do() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - whoever asked hears of it
                future.set_exception(error)

        with self._wake:
            if self._stopping or self._thread is None:
                raise Unavailable("the house is closing")
            self._work.append(do)
            self._wake.notify()
        return future.result()

    def _run(self) -> None:
        queue = self._queue
        while True:
            self._busy_since = 0.0
            with self._wake:
                while not queue and not self._work and not self._stopping:
                    self._wake.wait()
                if not queue and not self._work:
                    return
                work = self._work.popleft() if self._work else None
            self._busy_since = time.monotonic()
            if work is not None:  # one piece of it, then the events that came meanwhile
                work()
            if not queue:
                continue
            with self._wake:
                taken = [queue.popleft() for _ in range(min(len(queue), MAX_BATCH // 2))]
            outcomes = self._record([arrival for arrival, _ in taken])
            self.batches += 1
            self.events += len(taken)
            for (_, done), outcome in zip(taken, outcomes, strict=True):
                self._tell(done, outcome)
            if self._on_batch is not None:
                self._tell(lambda _: self._on_batch and self._on_batch(), outcomes[0])

    @staticmethod
    def _tell(done: Callable[[Outcome], object], outcome: Outcome) -> None:
        try:
            done(outcome)
        except Exception:  # whoever asked has gone; what was recorded stays recorded, and the others want to know
            log.exception("nobody could be told that an event was recorded")

    def _record(self, arrivals: Sequence[Arrival]) -> Sequence[Outcome]:
        try:
            return self.engine.record(arrivals)
        except Exception as error:  # noqa: BLE001 - the writer must outlive a bug: the callers hear of it, by type only
            return [Unavailable(f"the event could not be recorded ({type(error).__name__})") for _ in arrivals]
