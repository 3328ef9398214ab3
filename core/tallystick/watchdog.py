"""Ends a plugin's Python loop that runs over its budget, and never anything else.

There is no cost on the hot path: a thread looks at the running frames a few times per second.  What it cannot end is a
block inside C code (a backtracking pattern, a long sleep): that needs a process of its own (``lane = "worker"``).
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = [ctypes.c_ulong, ctypes.py_object]


class Overrun(BaseException):
    """A hook ran longer than its budget.  Not an Exception, so that a plugin's ``except Exception`` does not hide it."""


#: Threads that an :class:`Overrun` was sent to and that have not yet said :func:`absorb`.  Watched code tests its truth
#: after each plugin's answer: a shot may arrive late, and must not arrive in the core's own work.
fired: Final[set[int]] = set()
#: Threads that wait for a plugin in another process, which is ended from there.
elsewhere: Final[set[int]] = set()
_lock: Final = threading.Lock()
_looking: Final = threading.RLock()
#: Code that calls plugins, by its identity (code compares by contents, slowly): line -> name of the local that holds the
#: running plugin's guard; None: any line, ``guard``.
_watched: Final[dict[int, tuple[weakref.ref[CodeType], Mapping[int, str] | None]]] = {}


def watch(code: CodeType, lines: Mapping[int, str] | None = None) -> None:
    """Make the *lines* of *code* known as places where a plugin runs.

    From each of them, every way on must lead through ``if fired: absorb()`` inside a ``try`` that catches Overrun.
    """
    key = id(code)
    _watched[key] = (weakref.ref(code, lambda _: _watched.pop(key, None)), lines)


def absorb() -> None:
    """Take the shot sent to this thread, if it has not arrived yet; afterwards none is under way."""
    if fired:
        thread = threading.get_ident()
        with _lock:
            if thread in fired:
                _receive(thread)
                fired.discard(thread)


def _receive(thread: int) -> None:
    # A shot that was taken back with a null pointer would leave CPython 3.11 looking for it for ever, and hang the process
    # as soon as somebody profiles or debugs it.  So one more is sent, in place of what is under way, and let arrive here.
    try:
        _set_async_exc(thread, Overrun)
        while True:
            pass
    except Overrun:
        return


class _Unmoved:
    """What is said of errors that nobody can catch, except of an Overrun: Python drops what arrives in a destructor.

    The next look sends another one, so that there is nothing to tell.
    """

    def __init__(self, further: Callable[[sys.UnraisableHookArgs], object]) -> None:
        self._further = further

    def __call__(self, said: sys.UnraisableHookArgs) -> None:
        if said.exc_type is not Overrun:
            self._further(said)


class Watchdog:
    """Looks after the plugins of this process; one thread is enough for all tenants.

    *budget* is CPU seconds of the calling thread, so that a busy machine convicts nobody; *patience* is seconds of
    waiting for a loop that mostly sleeps.  Time in which the watchdog itself did not run is not counted, nor is time in
    which the plugin could run but got no processor, nor is what the collector of garbage took: it goes through the whole
    house's heap, in the middle of whichever plugin comes by.
    """

    def __init__(self, *, budget: float = 0.05, patience: float = 0.2, period: float = 0.02) -> None:
        self._budget, self._patience, self._period = budget, patience, period
        self._seen: dict[int, _Sighting] = {}
        self._collecting: dict[int, float] = {}  # thread -> its CPU seconds when its collection began
        self._collected: dict[int, float] = {}  # thread -> CPU seconds of its collections
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Watchdog:
        """Begin to watch; returns itself."""
        if self._thread is None or not self._thread.is_alive():
            self._stop.clear()
            if self._collect not in gc.callbacks:  # a forked worker starts anew with what it was forked with
                gc.callbacks.append(self._collect)
            if not isinstance(sys.unraisablehook, _Unmoved):
                sys.unraisablehook = _Unmoved(sys.unraisablehook)
            self._thread = threading.Thread(target=self._run, name="tallystick-watchdog", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            gc.callbacks.remove(self._collect)
        self._seen.clear()

    def __enter__(self) -> Watchdog:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        thread, now = threading.get_ident(), time.thread_time()
        if phase == "start":
            self._collecting[thread] = now
        else:
            self._collected[thread] = self._collected.get(thread, 0.0) + now - self._collecting.get(thread, now)
            self._collecting.pop(thread, None)  # last, as the watchdog may look between any two steps

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(self._period):
            now = time.monotonic()
            # a process that was stopped or starved for a while has not given its plugins that while
            self.look(min(now - before, 2 * self._period))
            before = now

    def _cpu_clock(self, tid: int, thread: int) -> Callable[[], float] | None:
        """A clock of the CPU seconds that *thread* spent on its own work, where the system has one."""
        # As pthread_getcpuclockid(3) makes it, which must not be asked about a thread that may just have ended.
        clock = ((~tid) << 3) | 6
        try:
            time.clock_gettime(clock)
        except (AttributeError, OSError):
            return None

        def own() -> float:
            return self._collecting.get(thread) or time.clock_gettime(clock)

        return lambda: own() - self._collected.get(thread, 0.0)

    def look(self, passed: float) -> None:
        """Look at all threads once, *passed* seconds after the last time."""
        # CPython 3.11 reads the frames of running threads through bare pointers.  A collection in the middle may call
        # Python, which lets such a thread run on and leave the frame: a crash, or a deadlock (python/cpython#106883).
        with _looking:  # or another house's watchdog would switch the collector on again meanwhile
            collecting = gc.isenabled()
            gc.disable()
            try:
                self._look(passed)
            finally:
                if collecting:
                    gc.enable()

    def _look(self, passed: float) -> None:
        seen: dict[int, _Sighting] = {}
        for thread, top in sys._current_frames().items():  # noqa: SLF001  the documented way
            place = _find(top)
            if place is None or thread in elsewhere:
                continue
            last = self._seen.get(thread)
            if last is None or last.place != place:
                tid = next((each.native_id for each in threading.enumerate() if each.ident == thread), None) or 0
                seen[thread] = _Sighting(place, tid, self._cpu_clock(tid, thread) if tid else None)
                continue
            if thread in self._collecting:  # not its time; and what arrived in a finalizer now would be swallowed there
                seen[thread] = last
                continue
            if not starved(last.tid):
                last.waited += passed
            seen[thread] = last
            if last.used() >= self._budget or last.waited >= self._patience:
                _shoot(thread, place)
        self._seen = seen


#: the frame that calls a plugin, the call's line in it, and the plugin's guard
_Place = tuple[FrameType, int, Any]


class _Sighting:
    __slots__ = ("_clock", "_start", "place", "tid", "waited")

    def __init__(self, place: _Place, tid: int, clock: Callable[[], float] | None) -> None:
        self.place, self.tid, self.waited = place, tid, 0.0
        self._clock = clock
        self._start = clock() if clock else 0.0

    def used(self) -> float:
        """CPU seconds since the first sighting; where that cannot be known, seconds waited."""
        try:
            return self._clock() - self._start if self._clock else self.waited
        except OSError:  # the thread has just ended
            return 0.0


def starved(number: int) -> bool:
    """Whether a thread or process could run, but has no processor or only just got one; False where the system does not tell."""
    try:
        state = Path(f"/proc/{number}/stat").read_bytes()
    except OSError:
        return False
    return state.rpartition(b") ")[2][:1] == b"R"


def _find(frame: FrameType | None) -> _Place | None:
    """The outermost plugin call on the stack of *frame*."""
    found = None
    while frame is not None:
        watched = _watched.get(id(frame.f_code))
        if watched is not None:
            lines, line = watched[1], frame.f_lineno
            name = "guard" if lines is None else lines.get(line)
            if name is not None:
                found = (frame, -1 if lines is None else line, frame.f_locals.get(name))
        frame = frame.f_back
    return found


def _shoot(thread: int, place: _Place) -> None:
    """Send an Overrun to *thread*, if it is still at *place*."""
    with _lock:
        # From here on the thread cannot leave the place without seeing `fired` and waiting for the lock in `absorb`.
        known = thread in fired
        fired.add(thread)
        if _find(sys._current_frames().get(thread)) == place:  # noqa: SLF001
            if not known:  # one that was swallowed is sent again, and is the same one
                place[2].overran()
            _set_async_exc(thread, Overrun)
        elif not known:
            fired.discard(thread)
