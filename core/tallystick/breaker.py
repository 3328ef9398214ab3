"""The guard around one plugin's hook: what a failure means, when the plugin is switched off, and how it is measured."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal

import attrs
from msgspec import Struct

from .effects import Effect, Move, Spend, Verdict
from .errors import EffectRefused, PluginFailed, Refused, TallyError, Unavailable
from .events import Event
from .watchdog import Overrun, absorb, watch

#: raised: an exception; refused: an answer the core does not take; overran: out of time; open: switched off by the
#: breaker; sat_out: its needs could not be known; declined: it said itself, by a refusal with a code, that it cannot
#: judge this event now, which is no failure of the plugin
Cause = Literal["raised", "refused", "overran", "open", "sat_out", "declined"]
State = Literal["closed", "open", "half_open"]


class Skipped(Struct, frozen=True, kw_only=True):
    """A plugin that was passed over in one hook of one event; kept with the record, so that it can be repaired."""

    plugin: str
    version: str
    hook: str
    cause: Cause
    error: str  #: what went wrong and where in the plugin; no values, so nothing personal
    code: str = ""  #: the public code of a refusal that the plugin raised by name


@attrs.frozen(kw_only=True)
class Limits:
    """When a failing plugin is switched off, and when it is tried again."""

    errors: int = 20  #: so many errors ...
    window: float = 60.0  #: ... within so many seconds ...
    share: float = 0.3  #: ... that are at least this share of the calls meanwhile: open
    wait: float = 5.0  #: seconds until the first probe; doubled by every probe that fails
    longest: float = 300.0  #: the longest wait
    probes: int = 3  #: good answers in a row that close it again


@attrs.frozen(kw_only=True)
class Health:
    """How one hook of one plugin fares."""

    plugin: str
    version: str
    hook: str
    state: State
    calls: int  #: counted per event, those passed over included
    errors: int
    overruns: int  #: times the watchdog had to end it
    skipped: int  #: times it was passed over, by errors or while switched off
    sampled: int  #: calls that were timed
    nanoseconds: int  #: spent in the timed calls
    last_error: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is in service."""
        return self.state == "closed"


def sum_up(found: Iterable[Health]) -> list[Health]:
    """How each hook of each plugin fares in all tenants together; its state is the worst of them."""
    all_of: dict[tuple[str, str, str], list[Health]] = {}
    for each in found:
        all_of.setdefault((each.plugin, each.hook, each.version), []).append(each)
    states: tuple[State, ...] = ("open", "half_open", "closed")
    return [
        attrs.evolve(
            some[0],
            state=min([each.state for each in some], key=states.index),
            **{name: sum([getattr(each, name) for each in some]) for name in _NUMBERS},
            last_error=next((each.last_error for each in some if each.last_error), ""),
        )
        for _, some in sorted(all_of.items())
    ]


_NUMBERS = ("calls", "errors", "overruns", "skipped", "sampled", "nanoseconds")


class Tick:
    """Counts the calls of one compiled hook."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class SwitchedOff(Exception):
    """The breaker is open."""


class Elsewhere(Exception):
    """A plugin failed in a process of its own; the message says what `describe` would, or what became of the process."""


class OutOfTime(Elsewhere):
    """It ran longer than its budget there, and was ended."""


class SatOut(Exception):
    """The plugin's needs for this kind of event are not known."""


class Guard:
    """Stands around one hook of one plugin of one tenant.

    While all is well the compiled pipeline reads only ``shut``.
    """

    __slots__ = (
        "_calls_at", "_clock", "_good", "_limits", "_recent", "_state", "_until", "_wait", "errors", "hook", "last_error",
        "nanoseconds", "overruns", "plugin", "sampled", "shut", "skipped", "ticks", "version",
    )  # fmt: skip

    def __init__(self, plugin: str, version: str, hook: str, limits: Limits, clock: Callable[[], float]) -> None:
        self.plugin, self.version, self.hook = plugin, version, hook
        self._limits, self._clock = limits, clock
        self.ticks: list[Tick] = []
        self.errors = self.overruns = self.skipped = self.sampled = self.nanoseconds = 0
        self.last_error = ""
        self.reset()

    # --- state -------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Put the plugin back into service at once."""
        self._state: State = "closed"
        self._wait, self._until, self._good = self._limits.wait, 0.0, 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=self._limits.errors)
        self.shut = False

    @property
    def calls(self) -> int:
        """How often the hook came to this plugin."""
        return sum([tick.n for tick in self.ticks])

    def health(self) -> Health:
        """A snapshot for `/readyz`, `/metrics` and the command line."""
        return Health(
            plugin=self.plugin, version=self.version, hook=self.hook, state=self._state, calls=self.calls, errors=self.errors,
            overruns=self.overruns, skipped=self.skipped, sampled=self.sampled, nanoseconds=self.nanoseconds,
            last_error=self.last_error,
        )  # fmt: skip

    def overran(self) -> None:
        """The watchdog ends the running call."""
        self.overruns += 1

    def attempt(
        self,
        function: Callable[..., Any],
        check: Callable[[Any, Event | None], Any],
        event: Event | None,
        given: Sequence[Any],
    ) -> Any:
        """Call a plugin that is switched off, if it is time to try; raises :class:`SwitchedOff` if not."""
        self._knock()
        answer = ask(self, function, check, event, given)
        self._went_well()
        return answer

    def work(
        self, call: Callable[[], Any], *, through: tuple[type[BaseException], ...] = (), anyway: bool = False
    ) -> Any:
        """*call* the plugin where it may take its time: after the commit, by the clock, for the operator.

        Raises :class:`SwitchedOff` while it is not time to try again, unless it is to be asked *anyway*.  Whatever else the
        plugin raises is counted and raised as :class:`~tallystick.errors.PluginFailed`; a refusal by name is none of its
        failures, nor is what may come *through*.
        """
        if not self.ticks:
            self.ticks.append(Tick())
        self.ticks[0].n += 1
        if self.shut and not anyway:
            self._knock()
        try:
            answer = call()
        except (KeyboardInterrupt, TallyError):
            raise
        except BaseException as error:  # SystemExit, too: a plugin does not end the house
            if isinstance(error, through):
                raise
            kept = error.__traceback__
            _, text = self._count(error)
            failed = PluginFailed(f"{self.plugin} failed in {self.hook}: {text}", plugin=self.plugin, hook=self.hook)
            raise failed from error.with_traceback(kept)
        if self.shut:
            self._went_well()
        return answer

    def _knock(self) -> None:
        if self._state == "open":
            if self._clock() < self._until:
                raise SwitchedOff
            self._state, self._good = "half_open", 0

    def _went_well(self) -> None:
        self._good += 1
        if self._good >= self._limits.probes:
            self.reset()

    def _count(self, error: BaseException) -> tuple[Cause, str]:
        """Count a failure, open if there were too many; returns what to say of it."""
        if isinstance(error, SwitchedOff):
            return "open", f"switched off after {self.errors} errors; the last: {self.last_error}"
        if isinstance(error, SatOut):
            return "sat_out", str(error)
        if isinstance(error, Refused):
            error.__traceback__ = None
            return "declined", error.code
        cause: Cause = "raised"
        if isinstance(error, Overrun):
            cause, text = "overran", "ran longer than its budget"
        elif isinstance(error, EffectRefused):
            cause, text = "refused", error.message
        elif isinstance(error, OutOfTime):
            cause, text = "overran", "ran longer than its budget"
            self.overruns += 1
        elif isinstance(error, Elsewhere):
            text = str(error)
        else:
            text = describe(error)
        error.__traceback__ = None  # it holds the frames, and with them what the event was about
        self.errors += 1
        self.last_error = text
        now = self._clock()
        if self._state == "half_open":
            self._wait = min(self._wait * 2, self._limits.longest)
            self._open(now)
        else:
            calls = self.calls
            self._recent.append((now, calls))
            since, before = self._recent[0]
            if (
                len(self._recent) >= self._limits.errors
                and now - since <= self._limits.window
                and len(self._recent) >= self._limits.share * (calls - before + 1)
            ):
                self._open(now)
        return cause, text

    def _open(self, now: float) -> None:
        self._state, self._until = "open", now + self._wait
        self._recent.clear()
        self.shut = True

    # --- what a failure means ----------------------------------------------------------------------------------------

    def skip(self, skipped: tuple[Skipped, ...], error: BaseException) -> tuple[Skipped, ...]:
        """Pass the plugin over: *skipped* and one more."""
        cause, text = self._count(error)
        if not skipped or skipped[-1].plugin != self.plugin:  # an Overrun may arrive while the failure it ends is noted
            self.skipped += 1
            code = error.code if isinstance(error, TallyError) and cause in ("raised", "declined") else ""
            skipped += (
                Skipped(plugin=self.plugin, version=self.version, hook=self.hook, cause=cause, error=text, code=code),
            )
        absorb()
        return skipped

    def doubt(
        self,
        skipped: tuple[Skipped, ...],
        error: BaseException,
        out: list[Effect],
        proposals: Sequence[Effect],
        takes: bool,
    ) -> tuple[Skipped, ...]:
        """A reviewer failed: hold what takes from a member, let earning through with a mark for staff."""
        noted = self.skip(skipped, error)
        if len(noted) > len(skipped):
            hold = takes or any(isinstance(effect, Spend | Move) for effect in proposals)
            out.append(
                Verdict(
                    rule=f"{self.plugin}.failed",
                    verdict="hold" if hold else "allow",
                    reason=f"{self.plugin} could not review this: {noted[-1].error}",
                )
            )
        return noted

    def refusal(self, error: BaseException) -> Exception:
        """What to raise when a plugin that decides about spending fails."""
        cause, text = self._count(error)
        self.skipped += 1
        absorb()
        if cause == "sat_out":
            return Unavailable(f"{self.plugin} cannot judge this event now: {text}", retry_after=5, plugin=self.plugin)
        return PluginFailed(
            f"{self.plugin} failed, so the event is refused: {text}", plugin=self.plugin, hook=self.hook, cause=cause
        )


def ask(
    guard: Guard,  # noqa: ARG001  the watchdog reads it from the frame
    function: Callable[..., Any],
    check: Callable[[Any, Event | None], Any],
    event: Event | None,
    given: Sequence[Any],
) -> Any:
    """Call a plugin and check its answer, in sight of the watchdog."""
    answer = function(*given)
    return check(answer, event) if answer else None


watch(ask.__code__)


def timed(
    guard: Guard,
    function: Callable[..., Any],
    check: Callable[[Any, Event | None], Any],
    event: Event | None,
    given: Sequence[Any],
) -> Any:
    """As :func:`ask`, or as the breaker has it, with a stop-watch."""
    started = time.perf_counter_ns()
    try:
        if guard.shut:
            return guard.attempt(function, check, event, given)
        return ask(guard, function, check, event, given)
    finally:
        guard.nanoseconds += time.perf_counter_ns() - started
        guard.sampled += 1


def describe(error: BaseException) -> str:
    """Kind and place of an error, without its message: that may quote what a member said."""
    where, trace = "", error.__traceback__
    place: TracebackType | None = trace
    while place is not None:
        module = place.tb_frame.f_globals.get("__name__", "?")
        where = f" in {module}:{place.tb_lineno}"
        place = place.tb_next
    return f"{type(error).__name__}{where}"
