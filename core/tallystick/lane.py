"""The worker lane: a plugin's pure hooks in a process of their own, with limits on memory and time.

The plugin is the same, unchanged.  What it sees is copied to its process, what it proposes comes back as plain data and is
checked like any other answer.  What a batch of events will ask goes over in one message, for what is known before its first
event; an event that finds something else than was foreseen asks anew.  A process that hangs, ends or grows is killed and started anew beside the tills: until it
answers again the plugin is passed over by the policy of each hook.  It bounds what a plugin can break, not what it can
read: a process of the same user still sees files and network.

``python -m tallystick.lane FD`` is such a process.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import pickle  # noqa: TID251  from the house to its own process, never back
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs
import msgspec

from . import errors
from .breaker import Elsewhere, OutOfTime, describe
from .config import Context, PluginSettings, make_plugin, read_settings
from .discovery import Installed
from .effects import EFFECTS, Effect
from .errors import PluginBroken, Refused
from .hookspecs import PURE, hookimpl
from .later import module_path
from .manifest import HOOKS
from .situation import Chance, Needs, Programme
from .watchdog import elsewhere, starved

#: Bytes of memory that such a process may use beyond what it has when it starts.
MEMORY: Final = 512 * 1024 * 1024
#: CPU seconds of one call after which the process ends by itself, even if nobody waits for it any more.
CPU: Final = 1.0
#: CPU seconds that a hook may take there, and seconds it is waited for at most, not counting what it waits for a
#: processor.  Making a plugin imports it.
BUDGET, PATIENCE, MAKING = 0.1, 1.0, 20.0
#: Seconds after which whoever waits looks at the clocks.
LOOK: Final = 0.02
#: So many questions go over in one message.
FORESEEN: Final = 256
#: No answer is longer.
MAX_ANSWER: Final = 4 * 1024 * 1024

_HEAD = struct.Struct("<I")


class Told(Mapping[str, int]):
    """What an event came to, as `react` and `evaluate_tier` read it: more can be looked up than is gone through."""

    def __init__(self, listed: Mapping[str, int], known: Mapping[str, int]) -> None:
        self._listed, self._known = listed, known

    def __getitem__(self, name: str) -> int:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


# --- what goes over ---------------------------------------------------------------------------------------------------


def _same_chance(entry: str, seed: bytes, drawn: int) -> Chance:
    """Chance that draws on from where it is; of the house's secret only this entry's seed goes over."""
    chance = Chance(b"", entry)
    chance._seed, chance.drawn = seed, drawn  # noqa: SLF001  what it is made of
    return chance


def _frozen(found: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(found)


#: In a worker: the programmes of the plugins made so far, by the number of their making.
_programmes: dict[int, Programme] = {}


def _known_programme(number: int) -> Programme:
    return _programmes[number]


_TABLE: Final[dict[type, Callable[[Any], Any]]] = {
    MappingProxyType: lambda found: (_frozen, (dict(found),)),
    Chance: lambda chance: (_same_chance, (chance._entry, chance.seed, chance.drawn)),  # noqa: SLF001
}


def _pickled(message: Any, number: int = 0) -> bytes:
    out = io.BytesIO()
    pickler = pickle.Pickler(out, protocol=5)
    pickler.dispatch_table = {**_TABLE, Programme: lambda _: (_known_programme, (number,))} if number else _TABLE
    pickler.dump(message)
    return out.getvalue()


# --- what comes back: never pickled, for it comes from somebody who is not trusted -----------------------------------


def pack(value: Any) -> Any:
    """A plugin's answer as plain data; what has no place in an answer is named by its type."""
    kind: Any = type(value)
    if value is None or kind in (bool, str, float):
        return value
    if kind is int:
        return value if abs(value) < 1 << 62 else ["i", hex(value)] if value.bit_length() < 4_000 else ["?", "int"]
    if kind in (list, tuple, frozenset):
        return [{list: "l", tuple: "t", frozenset: "s"}[kind], [pack(each) for each in value]]
    if kind in (Decimal, Fraction):
        return [kind.__name__[0], str(value)]
    if kind in (datetime, date):
        return ["T" if kind is datetime else "d", value.isoformat()]
    if kind is Needs:
        return ["n", {name: pack(getattr(value, name)) for name in Needs.__struct_fields__}]
    name: str = kind.__name__
    if EFFECTS.get(name) is kind:
        return ["e", name, {field: pack(getattr(value, field)) for field in value.__struct_fields__}]
    if isinstance(value, Mapping):
        return ["m", [[pack(key), pack(each)] for key, each in value.items()]]
    if isinstance(value, msgspec.Struct) and not isinstance(value, Effect):
        return pack(msgspec.to_builtins(value))
    return ["?", kind.__name__[:64]]


class _Strange:
    """Something of another type than any answer may hold."""


_UNPACK: Final[Mapping[str, Callable[[Any], Any]]] = {
    "i": lambda text: int(text, 16),
    "l": lambda found: [unpack(each) for each in found],
    "t": lambda found: tuple([unpack(each) for each in found]),
    "s": lambda found: frozenset([unpack(each) for each in found]),
    "D": Decimal,
    "F": Fraction,
    "T": datetime.fromisoformat,
    "d": date.fromisoformat,
    "m": lambda found: {unpack(key): unpack(each) for key, each in found},
    "n": lambda found: Needs(**{name: unpack(value) for name, value in found.items()}),
    "?": lambda name: type(name, (_Strange,), {})(),
}


def unpack(packed: Any) -> Any:
    """What :func:`pack` made plain.  Raises ValueError or TypeError for anything else."""
    if type(packed) is not list:
        return packed
    if packed[0] == "e":
        return EFFECTS[packed[1]](**{name: unpack(value) for name, value in packed[2].items()})
    return _UNPACK[packed[0]](packed[1])


# --- the house's side -------------------------------------------------------------------------------------------------


class Worker:
    """One plugin's process, shared by all tenants that run the plugin apart."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        self.started = 0  #: how often
        self._lock = threading.RLock()  # a making that is thrown away may be forgotten in the middle of anything
        self._recipes: dict[int, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._starting: threading.Thread | None = None
        self._numbers = 0
        self.trips = 0  #: messages that asked it something
        self._read_ahead = b""
        self._foreseen: dict[int, dict[bytes, dict[str, Any] | Elsewhere]] = {}

    @property
    def pid(self) -> int:
        """The process's number; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def make(self, installed: Installed, chosen: PluginSettings, context: Context, programme: Programme) -> _Making:
        """Make the plugin for one tenant there.  Raises PluginBroken."""
        with self._lock:
            self._numbers += 1
            number = self._numbers
            recipe = (number, installed.anew(), chosen.document, chosen.version, context, programme)
            self._recipes[number] = _pickled(("make", *recipe))
            try:
                if self._process is None:
                    self._start()
                said = self._make(number)
            except (Elsewhere, OSError) as error:
                self._kill()
                raise PluginBroken(f"{self.plugin} could not be made apart: {error}", plugin=self.plugin) from None
            if "error" in said:
                del self._recipes[number]
                raise PluginBroken(f"{self.plugin} could not be made apart: {said['error']}", plugin=self.plugin)
        return _Making(self, number, {hook: tuple(names) for hook, names in said["hooks"].items()})

    def forget(self, number: int) -> None:
        """Nobody needs this making any more; with the last one the process ends."""
        with self._lock:
            self._recipes.pop(number, None)
            self._foreseen.pop(number, None)
            if not self._recipes:
                self._kill()

    def foresee(self, number: int, asked: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Ask many hooks at once; :meth:`call` finds the answers, if it is asked exactly the same.

        Hooks are pure: to the same question there is one answer.  Whoever hangs or dies keeps only the rest from being foreseen.
        """
        known = self._foreseen[number] = {}
        if self._process is None or not self._lock.acquire(blocking=False):
            return
        thread = threading.get_ident()
        elsewhere.add(thread)
        try:
            for start in range(0, len(asked), FORESEEN):
                some = [
                    _pickled(("call", number, hook, given), number) for hook, given in asked[start : start + FORESEEN]
                ]
                self._send(_pickled(("all", number, some)))
                for one in some:
                    try:
                        known[one] = self._receive(PATIENCE, BUDGET)
                    except Elsewhere as error:
                        known[one] = error
                        raise
        except Elsewhere:
            self._kill()
            self._start_beside()
        except BaseException:  # whatever the process would say now nobody waits for
            self._kill()
            self._start_beside()
            raise
        finally:
            elsewhere.discard(thread)
            self._lock.release()

    def call(self, number: int, hook: str, given: Sequence[Any]) -> Any:
        """Ask a hook.  Raises what the plugin raised, Elsewhere if its process is not there, OutOfTime if it hangs."""
        asked = _pickled(("call", number, hook, given), number)
        foreseen = self._foreseen.get(number)
        said = foreseen.pop(asked, None) if foreseen else None
        if said is None:
            said = self._call(asked)
        elif isinstance(said, Elsewhere):
            raise said
        return self._answer(said, given)

    def _call(self, asked: bytes) -> dict[str, Any]:
        if not self._lock.acquire(timeout=PATIENCE):
            raise Elsewhere("its process is busy")
        thread = threading.get_ident()
        elsewhere.add(thread)
        try:
            if self._process is None:
                self._start_beside()
                raise Elsewhere("its process is being started")
            try:
                self._send(asked)
                return self._receive(PATIENCE, BUDGET)
            except BaseException:  # whatever the process would say now is about another event
                self._kill()
                self._start_beside()
                raise
        finally:
            elsewhere.discard(thread)
            self._lock.release()

    def _answer(self, said: Mapping[str, Any], given: Sequence[Any]) -> Any:
        for value in given:  # chance goes on where the plugin left it
            chance = getattr(value, "chance", None)
            if type(chance) is Chance:
                chance.drawn = max(chance.drawn, int(said.get("drawn", 0)))
        if "refused" in said:
            raise _refusal(str(said["refused"]), str(said["message"]))
        if "error" in said:
            raise Elsewhere(str(said["error"])[:500])
        try:
            return unpack(said["answer"])
        except (ValueError, TypeError, KeyError, IndexError, ArithmeticError, RecursionError):
            raise Elsewhere("its answer cannot be read") from None

    # -- the process --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        environ = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "PYTHONHASHSEED") if name in os.environ}
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter
            [sys.executable, "-c", "from tallystick.lane import main; main()", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], env={**environ, "PYTHONPATH": module_path()},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        self._socket, self._read_ahead = ours, b""
        self.started += 1

    def _make(self, number: int) -> dict[str, Any]:
        self._send(self._recipes[number])
        return self._receive(MAKING, MAKING)

    def _start_beside(self) -> None:
        """Start anew in a thread: nobody at a till waits for that."""
        if self._starting is None or not self._starting.is_alive():
            self._starting = threading.Thread(target=self._restart, name=f"tally-lane-{self.plugin}", daemon=True)
            self._starting.start()

    def _restart(self) -> None:
        with self._lock:
            if self._process is not None or not self._recipes:
                return
            try:
                self._start()
                for number in [*self._recipes]:
                    self._make(number)
            except (Elsewhere, OSError):
                self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if process is not None:
            process.kill()
            process.wait()

    def _send(self, text: bytes) -> None:
        assert self._socket is not None
        self.trips += 1
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.sendall(_HEAD.pack(len(text)) + text)
        except TimeoutError:
            raise OutOfTime("it does not read") from None
        except OSError:
            raise Elsewhere("its process has ended") from None

    def _receive(self, patience: float, budget: float) -> dict[str, Any]:
        clock = _cpu_clock(self.pid)
        spent, waited, looked = clock() + budget, 0.0, time.monotonic()

        def late() -> bool:
            nonlocal waited, looked
            before, looked = looked, time.monotonic()
            if not (spent > budget and starved(self.pid)):  # who has a clock is bounded by it while it runs
                waited += min(looked - before, 2 * LOOK)
            return waited > patience or clock() > spent

        (size,) = _HEAD.unpack(self._read(_HEAD.size, late))
        if size > MAX_ANSWER:
            raise Elsewhere(f"its answer has {size} bytes")
        said = msgspec.json.decode(self._read(size, late))
        if type(said) is not dict:
            raise Elsewhere("its answer cannot be read")
        return said

    def _read(self, size: int, late: Callable[[], bool]) -> bytes:
        assert self._socket is not None
        self._socket.settimeout(LOOK)  # in short turns, to look at the clocks
        while len(self._read_ahead) < size:
            piece = b""
            try:
                piece = self._socket.recv(1 << 20)
            except TimeoutError:
                if late():
                    raise OutOfTime("ran longer than its budget") from None
                continue
            except ConnectionError:
                pass
            if not piece:
                assert self._process is not None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(1.0)
                raise Elsewhere(f"its process has ended ({_ending(self._process.returncode)})")
            self._read_ahead += piece
        found, self._read_ahead = self._read_ahead[:size], self._read_ahead[size:]
        return found


def _cpu_clock(process: int) -> Callable[[], float]:
    """A clock of the CPU seconds of another process, where the system has one."""
    clock = ((~process) << 3) | 2  # as clock_getcpuclockid(3) makes it
    try:
        time.clock_gettime(clock)
    except OSError:
        return lambda: 0.0
    return lambda: time.clock_gettime(clock)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit status {code}"


def _refusal(code: str, message: str) -> Refused:
    """The refusal of that code: the core's own class where there is one."""
    known = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Refused)]
    for each in known:
        if each.code == code:
            return each(message)
    made: Refused = type("RefusedApart", (Refused,), {"code": code})(message)
    return made


@attrs.frozen
class _Making:
    """A plugin made for one tenant in its process."""

    worker: Worker
    number: int
    hooks: Mapping[str, tuple[str, ...]]  #: pure hook -> the arguments it names


_workers: Final[weakref.WeakValueDictionary[str, Worker]] = weakref.WeakValueDictionary()
_classes: Final[dict[str, type[Apart]]] = {}
_lock: Final = threading.Lock()


class Apart:
    """Stands for a plugin whose pure hooks run in another process; everything else of it is made here when it is asked for."""

    def __init__(self, making: _Making, here: Callable[[], Any]) -> None:
        self._making, self._make_here, self._here = making, here, None
        weakref.finalize(self, making.worker.forget, making.number)

    @property
    def worker(self) -> Worker:
        """The process."""
        return self._making.worker

    def foresee(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Let it answer for a whole batch at once: (hook, everything the hook may name) of each question."""
        hooks = self._making.hooks
        self._making.worker.foresee(
            self._making.number,
            [(hook, tuple([given[name] for name in hooks[hook]])) for hook, given in asked if hook in hooks],
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in HOOKS:  # the hooks it has are methods
            raise AttributeError(name)
        return getattr(self._local(), name)

    def _local(self) -> Any:
        """The plugin here, for what is not a pure hook."""
        if self._here is None:
            self._here = self._make_here()
        return self._here


def make_apart(installed: Installed, chosen: PluginSettings, context: Context, programme: Programme) -> Apart | None:
    """The plugin for one tenant, as :func:`~tallystick.config.make_plugin` makes it, with its pure hooks in another process.

    Raises PluginBroken.
    """
    declared = installed.manifest
    if declared.factory is None:
        return None
    with _lock:
        place = str(installed.file)
        worker = _workers.get(place)
        if worker is None:
            worker = _workers[place] = Worker(installed.id)
    making = worker.make(installed, chosen, context, programme)
    others = [hook for hook in declared.hooks if hook not in PURE]
    make_here = partial(make_plugin, installed, chosen, programme)
    here = make_here() if others else None
    signatures = {hook: (_names(here, hook), inspect.iscoroutinefunction(getattr(here, hook))) for hook in others}
    key = repr((installed.id, making.hooks, signatures))
    cls = _classes.get(key)
    if cls is None:
        cls = _classes[key] = _class(making.hooks, signatures)
    found: Apart = cls(making, make_here)
    return found


def _class(hooks: Mapping[str, Sequence[str]], others: Mapping[str, tuple[Sequence[str], bool]]) -> type[Apart]:
    """A class with these hooks, which take just the arguments that the plugin's own take."""
    scope: dict[str, Any] = {"hookimpl": hookimpl}
    lines = ["def methods():"]
    for hook, names in hooks.items():
        given = "".join([f"{name}, " for name in names])
        lines += [
            "    @hookimpl",
            f"    def {hook}(self, {given}):",
            f"        return self._making.worker.call(self._making.number, {hook!r}, ({given}))",
        ]
    for hook, (names, waits) in others.items():
        given = "".join([f"{name}, " for name in names])
        lines += [
            "    @hookimpl",
            f"    {'async ' if waits else ''}def {hook}(self, {given}):",
            f"        return {'await ' if waits else ''}self._local().{hook}({given})",
        ]
    lines.append("    return locals()")
    exec("\n".join(lines), scope)  # noqa: S102  names of our own hooks and of their arguments
    return type("Apart", (Apart,), scope["methods"]())


# --- the other side ---------------------------------------------------------------------------------------------------


def main() -> None:
    """Serve one plugin until the house hangs up."""
    _limit()
    link = socket.socket(fileno=int(sys.argv[1]))
    made: dict[int, Any] = {}
    while (text := _frame(link)) is not None:
        op, number, *rest = pickle.loads(text)  # noqa: S301  from the house, whom this process trusts
        if op == "all":  # each answer leaves before the next question is looked at, which may be this process's last
            for asked in rest[0]:
                _, _, *words = pickle.loads(asked)  # noqa: S301
                _say(link, CPU, partial(_call_here, made[number], *words))
        elif op == "call":
            _say(link, CPU, partial(_call_here, made[number], *rest))
        else:
            _say(link, MAKING, partial(_make_here, made, number, *rest))


def _say(link: socket.socket, seconds: float, work: Callable[[], dict[str, Any]]) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    said = work()
    signal.setitimer(signal.ITIMER_PROF, 0)
    answer = msgspec.json.encode(said)
    link.sendall(_HEAD.pack(len(answer)) + answer)


def _limit() -> None:
    import resource

    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the house's business
    sys.dont_write_bytecode = True


def _frame(link: socket.socket) -> bytes | None:
    found = b""
    size = _HEAD.size
    while len(found) < size:
        piece = link.recv(size - len(found))
        if not piece:
            return None
        found += piece
        if size == _HEAD.size and len(found) == size:
            size += _HEAD.unpack(found)[0]
    return found[_HEAD.size :]


def _make_here(
    made: dict[int, Any],
    number: int,
    installed: Installed,
    document: Any,
    version: int,
    context: Context,
    programme: Programme,
) -> dict[str, Any]:
    try:
        made[number] = make_plugin(installed, read_settings(installed, document, version, context), programme)
        _programmes[number] = programme
        hooks = [hook for hook in PURE if hook in installed.manifest.hooks]
        return {"hooks": {hook: _names(made[number], hook) for hook in hooks}}
    except Exception as error:  # noqa: BLE001  whatever it is, the house says it
        return {"error": str(error) or type(error).__name__}


def _names(plugin: object, hook: str) -> list[str]:
    return list(inspect.signature(getattr(plugin, hook)).parameters)


def _call_here(plugin: Any, hook: str, given: Sequence[Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    try:
        answer = getattr(plugin, hook)(*given)
        said["answer"] = pack(answer)
    except Refused as error:
        said |= {"refused": error.code, "message": error.message}
    except SystemExit:  # as it wishes, without delay
        os._exit(3)
    except MemoryError as error:
        said["error"] = f"MemoryError: more than {MEMORY // (1 << 20)} MiB{_where(error)}"
    except Exception as error:  # noqa: BLE001  whatever a plugin raises stays with the plugin
        said["error"] = describe(error)
    for value in given:
        chance = getattr(value, "chance", None)
        if type(chance) is Chance:
            said["drawn"] = chance.drawn
    return said


def _where(error: BaseException) -> str:
    return describe(error).removeprefix(type(error).__name__)
