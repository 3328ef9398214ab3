"""Asks one plugin's pure hooks about many events, watched; run in a process of its own by :mod:`tallystick.certify`.

``python -m tallystick.probe TASK ID [PATH]`` prints one JSON document.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import Distribution
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from . import config, discovery, lane
from .answers import Check
from .breaker import Guard, Limits, ask
from .config import Tenant
from .discovery import Installed
from .document import Document
from .effects import Effect, Multiply
from .errors import EffectRefused, PluginBroken, TallyError
from .events import CORE_KINDS, Event, EventKind, Facts, Line, Purchase
from .schema import plain
from .situation import Balance, Chance, Member, Needs, Original, Situation
from .watchdog import Overrun, Watchdog, absorb, fired

#: The tenant everything is tried with; a file beside plugin.toml holds settings that make the plugin do something.
TENANT: Final = "certified"
EXAMPLE: Final = "example.toml"
#: CPU microseconds that one call of a pure hook may take on average.
BUDGET: Final = 1_000
_START: Final = datetime(2025, 1, 1, 12, tzinfo=UTC)
_FORBIDDEN: Final = (
    "open",
    "socket.",
    "subprocess.",
    "sqlite3.",
    "os.",
    "shutil.",
    "ctypes.dlopen",
    "urllib.",
    "http.",
)
_WRITES: Final = (
    "socket.connect",
    "socket.bind",
    "subprocess.",
    "sqlite3.connect",
    "os.system",
    "os.remove",
    "os.rename",
    "os.mkdir",
)


class Unknown(Facts, frozen=True):
    """Facts of a kind that no plugin can know yet."""

    what: str = ""


UNKNOWN: Final = EventKind(name="certify.unknown", facts=Unknown, summary={"en": "?"}, example={}, plugin="certify")


class Folder(Distribution):
    """A plugin's project folder as if its wheel were installed."""

    def __init__(self, project: Mapping[str, Any]) -> None:
        self._project = project

    def read_text(self, filename: str) -> str | None:
        """METADATA, as far as it is looked at."""
        name, version = self._project["name"], self._project["version"]
        return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        """Nothing is looked for."""
        return Path(path)


def project_of(path: Path) -> tuple[str, str, dict[str, Any]]:
    """The plugin's id, its package and ``[project]`` of the folder at *path*.  Raises PluginBroken if it holds no plugin."""
    file = path / "pyproject.toml"
    if not file.is_file():
        raise PluginBroken(f"there is no {file}: this folder holds no plugin; `tally new plugin NAME` writes one")
    project = plain(Document.read(file).data).get("project", {})
    entries = project.get("entry-points", {}).get(discovery.GROUP, {})
    if len(entries) != 1:
        raise PluginBroken(f"{file} names no plugin: expected one line in [project.entry-points.{discovery.GROUP}]")
    ((name, entry),) = entries.items()
    return name, entry, project


def find(name: str, path: Path | None = None) -> tuple[str, dict[str, Installed]]:
    """The plugin's id, and every installed plugin with it; a project folder at *path* comes before what is installed."""
    installed = discovery.discover()
    if path is None:
        return name, installed
    name, entry, project = project_of(path)
    sys.path.insert(0, str(path))
    installed[name] = Installed(name, entry, Folder(project))
    return name, installed


def settings_of(plugin: Installed) -> dict[str, Any]:
    """What the plugin is tried with: its ``example.toml``, or only defaults."""
    file = plugin.file.parent / EXAMPLE
    return dict(plain(Document.read(file).data)) if file.is_file() else {}


def set_up(name: str, installed: Mapping[str, Installed], **more: Any) -> Tenant:
    """A tenant that runs the plugin; raises AssertionError with every mistake."""
    plugins = {name: settings_of(installed[name])} | more.pop("plugins", {})
    said = {"zone": "America/New_York", "currency": "USD", "plugins": plugins, **more}
    tenant, mistakes, absent = config.check_tenant(TENANT, said, installed, origin="the certification")
    if tenant is None or absent:
        raise AssertionError(
            "; ".join(f"{'.'.join(map(str, each.path))}: {each.message}" for each in [*mistakes, *absent])
        )
    return tenant


# --- what is asked ---------------------------------------------------------------------------------------------------


def corpus(kinds: Mapping[str, EventKind]) -> list[Event]:
    """Purchases of all sorts, every kind's example, each for a member and for a guest, and a kind nobody knows."""
    found = []
    for n in range(40):
        lines = tuple(
            Line(
                sku=f"sku-{k}", amount=(n * 7919 + k * 104_729) % 100_000, quantity=1 + k, department=("", "FOOD", "FUEL")[k % 3],
                kind=("item", "item", "shipping", "reward")[(n + k) % 4],
            )
            for k in range(1 + n % 5)
        )  # fmt: skip
        bought = Purchase(order=f"R-{n}", currency="USD", lines=lines, store=("", "main")[n % 2])
        found.append(_event("purchase.completed", bought, n))
    for n, kind in enumerate([*kinds.values(), UNKNOWN]):
        facts = msgspec.convert(kind.example, kind.facts)
        others = {field: 2 for field in kind.members if getattr(facts, field, None)}
        found.append(_event(kind.name, facts, n, others=others))
        found.append(_event(kind.name, facts, n, member=0, others=others))
    return found


def _event(kind: str, facts: Facts, n: int, *, member: int = 1, others: Mapping[str, int] | None = None) -> Event:
    at = _START + timedelta(hours=37 * n)
    return Event(
        tenant=TENANT, id=f"e-{n}", source="certify", kind=kind, at=at, received=at, member=member, facts=facts,
        others=dict(others or {}),
    )  # fmt: skip


class Bench:
    """One plugin, made for one tenant, that can be asked."""

    def __init__(self, name: str, installed: Mapping[str, Installed], tenant: Tenant, *, apart: bool = False) -> None:
        self.name, self.manifest = name, installed[name].manifest
        self.programme = tenant.programme(1)
        self.kinds = {kind.name: kind for kind in CORE_KINDS}
        for each in tenant.plugins:
            self.kinds |= {kind.name: kind for kind in discovery.load_kinds(installed[each].manifest)}
        chosen = tenant.plugins[name]
        self.plugin: Any = (
            lane.make_apart(installed[name], chosen, config.context_of(tenant, installed), self.programme)
            if apart
            else config.make_plugin(installed[name], chosen, self.programme)
        )
        self.checks: dict[str, Check] = {}

    def calls(self) -> Iterator[tuple[str, Event, Situation, Callable[[], Any]]]:
        """(hook, event, situation, call) of everything it is asked about."""
        for event in corpus(self.kinds):
            for hook in ("earn", "redeem", "reverse", "review", "react", "evaluate_tier"):
                if hook in self.manifest.hooks and self._wants(hook, event.kind):
                    situation = self.situation(event)
                    yield hook, event, situation, self._call(hook, event, situation)

    def _wants(self, hook: str, kind: str) -> bool:
        if (hook == "reverse") is not (kind in ("purchase.refunded", "purchase.cancelled")):
            return False
        listed = self.manifest.interests.get(hook, ("*",))
        return any(each in ("*", kind) or (each.endswith(".*") and kind.startswith(each[:-1])) for each in listed)

    def _call(self, hook: str, event: Event, situation: Situation) -> Callable[[], Any]:
        if hook == "evaluate_tier" and situation.member is None:
            return lambda: ()
        known: dict[str, Any] = {
            "event": event, "situation": situation, "original": situation.original, "proposals": (), "outcome": {"points": 12},
            "member": situation.member, "totals": {"points": 12}, "now": event.received,
        }  # fmt: skip
        function = getattr(self.plugin, hook)
        given = {name: known[name] for name in inspect.signature(function).parameters if name in known}
        return lambda: function(**given)

    def situation(self, event: Event) -> Situation:
        """What the plugin said it needs for the event, with something in it."""
        asked = getattr(self.plugin, "needs", None)
        given = {"kind": event.kind} if asked is not None and inspect.signature(asked).parameters else {}
        needs = (asked(**given) if asked is not None and event.kind in self.kinds else None) or Needs()
        member = Member(number=1, status="active", enrolled_at=_START - timedelta(days=400)) if event.member else None
        original = Original(
            entry="1-1-0", kind="purchase.completed", at=event.at, facts=None, granted=((f"{self.name}.x", "points", 10),),
            value=1_000, returned_before=0, returned=500,
        )  # fmt: skip
        return Situation(
            now=event.received, programme=self.programme, member=member,
            balances=MappingProxyType({unit: Balance(posted=10_000, usable=10_000) for unit in needs.balances}),
            counters=MappingProxyType(dict.fromkeys(needs.counters, 0)),
            own=MappingProxyType({key: MappingProxyType({}) for key in needs.own}),
            stock=MappingProxyType(dict.fromkeys(needs.stock, 100)), chance=Chance(b"certify", event.id),
            original=original if event.kind in ("purchase.refunded", "purchase.cancelled") else None,
            others={2: Member(number=2, status="active", enrolled_at=_START)} if event.others else {}, entry="1-1-0",
        )  # fmt: skip

    def answers(self) -> list[Any]:
        """Every answer in order, as documents; a refusal is its code."""
        return [_document(asked(call)) for _, _, _, call in self.calls()]

    def judge(self, hook: str, answer: Any, event: Event) -> tuple[str, str] | None:
        """(check, what is wrong) about one answer, or None."""
        effects: Sequence[Any] = answer or ()
        for effect in effects:
            if not isinstance(effect, Effect):
                return "grants", f"{hook} answered with {type(effect).__name__}, which is no effect"
            if (where := _float_in(effect)) is not None:
                return "integers", f"{hook} proposed a float in {type(effect).__name__}.{where}"
            if isinstance(effect, Multiply):
                effect = msgspec.structs.replace(effect, factor=Decimal(1))  # a fraction travels as two integers  # noqa: PLW2901
            try:
                same = msgspec.json.decode(msgspec.json.encode(effect))
            except (msgspec.MsgspecError, TypeError) as error:
                return "round-trip", f"{hook}: {type(effect).__name__} does not survive JSON: {error}"
            if same != plain(msgspec.to_builtins(effect)) or _odd_key(msgspec.to_builtins(effect)):
                return "round-trip", f"{hook}: {type(effect).__name__} comes back otherwise from JSON"
        try:
            check = self.checks.setdefault(
                hook, Check(self.name, hook, self.manifest.effects, programme=self.programme, kinds=self.kinds)
            )
            if effects:
                check(answer, event)
        except EffectRefused as error:
            return "grants", f"{hook}: {error.message}"
        return None


def asked(call: Callable[[], Any]) -> Any:
    """What *call* answers; the code of its refusal, or that the watchdog ended it."""
    try:
        return _timely(call)
    except TallyError as refusal:
        return refusal.code
    except Overrun:
        absorb()
        return "overrun"


_GUARD: Final = Guard("", "", "", Limits(), time.monotonic)


def _timely(call: Callable[[], Any]) -> Any:
    """What *call* answers; ended by the watchdog, where there is one, if it takes too long."""
    return ask(_GUARD, call, _as_it_is, None, ())


def _as_it_is(answer: Any, _: Event | None) -> Any:
    if fired:
        absorb()
    return answer


def _document(answer: Any) -> Any:
    if isinstance(answer, str) or answer is None:
        return answer
    return [[type(effect).__name__, repr(effect)] for effect in answer]


def _float_in(effect: Any) -> str | None:
    for name in effect.__struct_fields__:
        if _has_float(getattr(effect, name)):
            return str(name)
    return None


def _odd_key(value: Any) -> bool:
    """Whether some key is no text, and so comes back as another from JSON."""
    if isinstance(value, Mapping):
        return any(type(key) is not str or _odd_key(each) for key, each in value.items())
    return isinstance(value, list | tuple) and any(_odd_key(each) for each in value)


def _has_float(value: Any) -> bool:
    if isinstance(value, float):
        return True
    if isinstance(value, Mapping):
        return any(_has_float(each) for each in value.values())
    return isinstance(value, list | tuple) and any(_has_float(each) for each in value)


# --- tasks -----------------------------------------------------------------------------------------------------------


def probe_import(name: str, path: Path | None) -> dict[str, Any]:
    """What importing everything the plugin names does besides."""
    name, installed = find(name, path)
    manifest = installed[name].manifest
    seen: list[str] = []
    threads = threading.active_count()
    with _listening(seen, _is_side_effect):
        for reference in _references(manifest):
            discovery.load(reference, plugin=name)
    if threading.active_count() > threads:
        seen.append("started a thread")
    return {"import": seen[:5]}


def _references(manifest: Any) -> list[str]:
    found = [manifest.factory, manifest.metadata, *(event.facts for event in manifest.events)]
    if manifest.settings is not None:
        found += [manifest.settings.schema, manifest.settings.read, manifest.settings.check, manifest.settings.migrate]
    return [each for each in found if each]


def _is_side_effect(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        return any(letter in (mode or "") for letter in "wax+") or bool(isinstance(flags, int) and flags & 0o3)
    return event.startswith(_WRITES)


@contextmanager
def _listening(seen: list[str], forbidden: Callable[[str, tuple[Any, ...]], bool]) -> Iterator[None]:
    """Note what audit hooks are told meanwhile.  Such a hook can never be taken out, so it belongs in a process of its own."""
    on = True
    own = threading.get_ident()

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if on and threading.get_ident() == own and forbidden(event, arguments):
            seen.append(f"{event} {str(arguments[0])[:80] if arguments else ''}".strip())

    sys.addaudithook(hear)
    try:
        yield
    finally:
        on = False


def probe_hooks(name: str, path: Path | None) -> dict[str, Any]:
    """Everything about the answers of pure hooks: what each check found first, and a digest of all answers."""
    name, installed = find(name, path)
    bench = Bench(name, installed, set_up(name, installed))
    wrong: dict[str, str] = {}
    for hook, event, situation, call in bench.calls():
        before = _view(event, situation)
        try:
            answer = _timely(call)
        except TallyError:
            continue
        except Overrun:
            absorb()
            wrong.setdefault("budget", f"{hook} at {event.kind} was ended after 50 ms")
            break  # what loops once loops again
        except BaseException as error:  # noqa: BLE001  a stranger's hook may raise anything
            wrong.setdefault(
                "tolerance", f"{hook} fails at {event.kind} of {'a member' if event.member else 'a guest'}: {error!r}"
            )
            continue
        if _view(event, situation) != before:
            wrong.setdefault("mutation", f"{hook} changed what it was shown of {event.kind}")
            continue
        found = bench.judge(hook, answer, event)
        if found is not None:
            wrong.setdefault(*found)
    if {"tolerance", "mutation", "budget"} & wrong.keys():
        return {"wrong": wrong, "digest": ""}
    first, second = bench.answers(), bench.answers()
    if first != second:
        wrong["determinism"] = "asked twice, it answers otherwise"
    seen: list[str] = []
    with _listening(seen, lambda event, _: event.startswith(_FORBIDDEN)):
        calls = [*bench.calls()]
        seen.clear()  # needs and the making of situations are not what is looked at
        for _, _, _, call in calls:
            asked(call)
    if seen:
        wrong["purity"] = f"a pure hook does {seen[0]}"
    wrong |= _spend(bench) if not seen else {}
    return {"wrong": wrong, "digest": _digest(first)}


def _view(event: Event, situation: Situation) -> str:
    """What a hook is shown, as text."""
    shown = situation.member, situation.balances, situation.counters, situation.own, situation.stock, situation.others
    return repr((event, shown, situation.now, situation.original, situation.entry))


def _spend(bench: Bench) -> dict[str, str]:
    """Whether the hooks keep to their budget: the best of three rounds, in CPU time of this thread."""
    calls = [call for _, _, _, call in bench.calls()]
    best = min(_round(calls) for _ in range(3))
    each = best // max(1, len(calls)) // 1_000
    return {"budget": f"{each} microseconds a call, and {BUDGET} are allowed"} if each > BUDGET else {}


def _round(calls: Sequence[Callable[[], Any]]) -> int:
    started = time.thread_time_ns()
    for call in calls:
        asked(call)
    return time.thread_time_ns() - started


def probe_again(name: str, path: Path | None) -> dict[str, Any]:
    """Only the digest of all answers, to be compared with another process's."""
    name, installed = find(name, path)
    return {"digest": _digest(Bench(name, installed, set_up(name, installed)).answers())}


def _digest(answers: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(answers).encode()).hexdigest()


def main(task: str, name: str, path: str = "") -> None:
    """Run one task and print what came of it."""
    sys.dont_write_bytecode = True
    run = {"import": probe_import, "hooks": probe_hooks, "again": probe_again}[task]
    with Watchdog():
        found = run(name, Path(path) if path else None)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
