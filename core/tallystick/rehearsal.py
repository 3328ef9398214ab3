"""`tally dev`: what a plugin's folder proposes for recorded events, asked again whenever a file is saved.

Each time the plugin is imported anew in a process of its own, so nothing of the version before is left.
``python -m tallystick.rehearsal FOLDER CONFIG TENANT EVENTS`` prints one JSON document.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
from msgspec.structs import fields

from . import config, database, discovery, house, migrate, switchboard
from .certify import id_of
from .discovery import Installed
from .effects import Effect
from .errors import InvalidConfig, TallyError
from .generation import Generation
from .hookspecs import PURE
from .ledger import Record, moment
from .probe import Bench, find, set_up, settings_of
from .terminal import Desk, tenant_of

#: How long one rehearsal may take, in seconds.
PATIENCE: Final = 60
#: What is decided about earlier entries cannot be asked again by itself.
_ABOUT_OTHERS: Final = (
    "purchase.refunded",
    "purchase.cancelled",
    "order.",
    "entry.",
    "member.merged",
    "member.unmerged",
)
#: Folders in which nothing is looked for.
_NOT_OURS: Final = frozenset({"__pycache__", "dist", "build", "node_modules"})


@attrs.frozen(kw_only=True)
class Asked:
    """One event, and what the plugin made of it."""

    entry: str  #: of the journal; a number where the events are made up
    kind: str
    at: str
    proposed: tuple[str, ...]  #: a line per effect: hook, effect, rule and fields
    came_to: str = ""  #: what the member gained by all plugins together, or the refusal

    @property
    def heading(self) -> str:
        """The event, in one line."""
        return f"{self.entry}  {self.kind}  {self.at}".rstrip()


@attrs.frozen(kw_only=True)
class Mistake:
    """Why the plugin could not be asked, or failed when it was: what, and where in the folder."""

    what: str
    where: str = ""  #: file:line
    line: str = ""  #: what stands there
    when: str = ""  #: hook and event


@attrs.frozen(kw_only=True)
class Rehearsal:
    """What one state of the folder came to."""

    plugin: str
    recorded: bool  #: the events are the tenant's own; else made-up ones
    asked: tuple[Asked, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


# --- before and after ------------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of the project with its time and size: it changes when somebody saves."""
    found = {}
    for where, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each not in _NOT_OURS and not each.startswith(".")]
        for name in files:
            if not name.startswith(".") and not name.endswith(("~", ".pyc")):
                path = Path(where, name)
                try:
                    about = path.stat()
                except OSError:
                    continue  # it was there a moment ago
                found[path.relative_to(folder).as_posix()] = (about.st_mtime_ns, about.st_size)
    return found


def differences(before: Rehearsal, after: Rehearsal) -> list[list[str]]:
    """What the plugin makes of events otherwise than before, some lines for each; ``-`` is gone and ``+`` is new."""
    was = {each.entry: each for each in before.asked}
    found = []
    for now in after.asked:
        then = was.get(now.entry, now)
        if (then.proposed, then.came_to) != (now.proposed, now.came_to):
            gone = [f"    - {each}" for each in _without(then.proposed, now.proposed)]
            new = [f"    + {each}" for each in _without(now.proposed, then.proposed)]
            came_to = [] if then.came_to == now.came_to else [f"    = {now.came_to}, and was {then.came_to}"]
            found.append([f"  {now.heading}", *gone, *new, *came_to])
    return found


def _without(lines: Sequence[str], others: Sequence[str]) -> list[str]:
    left = [*others]
    return [each for each in lines if each not in left or left.remove(each)]  # type: ignore[func-returns-value]


def told(mistake: Mistake) -> list[str]:
    """A mistake, for people: what is wrong, and the line in which it is."""
    place = f"{mistake.where}: " if mistake.where else ""
    lines = [f"  {place}{mistake.what}" + (f"  ({mistake.when})" if mistake.when else "")]
    return [*lines, f"    {mistake.line}"] if mistake.line else lines


def rehearse(folder: Path, settings: Path, tenant: str | None, events: int) -> Rehearsal:
    """Ask the plugin in *folder* about the tenant's last *events*, in a fresh process; about made-up ones without a house."""
    words = [sys.executable, "-m", "tallystick.rehearsal", str(folder), str(settings), tenant or "", str(events)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return _failed(Mistake(what=f"it did not answer within {PATIENCE} seconds"))
    try:
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Rehearsal)
    except (IndexError, msgspec.MsgspecError):
        said = done.stderr.strip().splitlines()
        return _failed(Mistake(what=said[-1] if said else f"it ended the process with status {done.returncode}"))


def _failed(mistake: Mistake, plugin: str = "") -> Rehearsal:
    return Rehearsal(plugin=plugin, recorded=False, mistakes=(mistake,))


# --- in the process of its own ---------------------------------------------------------------------------------------


class _Notes:
    """What the plugin answered and raised while one event was judged; the house sees all of it unchanged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proposed: list[str] = []
        self.mistakes: list[Mistake] = []

    def listen(self, plugin: object) -> None:
        """Hear what the hooks of *plugin* say."""
        for hook in PURE:
            heard = getattr(type(plugin), hook, None)
            if heard is not None and hook != "needs":
                setattr(type(plugin), hook, self._heard(hook, heard))

    def _heard(self, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # with the mark of a hook, and the signature that says which arguments it wants
        def run(*given: Any, **named: Any) -> Any:
            try:
                answer = function(*given, **named)
                self.proposed += [_line(hook, each) for each in answer or () if isinstance(each, Effect)]
            except TallyError:
                raise
            except Exception as error:
                self.mistakes.append(mistake_of(error, self.folder, when=hook))
                raise
            return answer

        return run


def _line(hook: str, effect: Effect) -> str:
    """An effect in one line, without what stands at its default."""
    said = msgspec.to_builtins(effect)
    told = [each.name for each in fields(effect) if each.name != "rule" and said[each.name] != _default(each)]
    shown = ", ".join([f"{name} {_short(said[name])}" for name in told])
    return f"{hook} {type(effect).__name__} {effect.rule}: {shown}".removesuffix(": ")


def _default(field: Any) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def mistake_of(error: BaseException, folder: Path, *, when: str = "") -> Mistake:
    """What *error* says, and the last line of the project in *folder* that it went through."""
    cause: BaseException | None = error
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    assert cause is not None
    where, line = "", ""
    if isinstance(cause, SyntaxError) and cause.filename:
        where, line = f"{_relative(cause.filename, folder)}:{cause.lineno}", (cause.text or "").strip()
    else:
        for frame in traceback.extract_tb(cause.__traceback__):
            if Path(frame.filename).is_relative_to(folder):
                where, line = f"{_relative(frame.filename, folder)}:{frame.lineno}", frame.line or ""
    what = cause.msg if isinstance(cause, SyntaxError) else str(cause)
    what = str(error) if isinstance(cause, TallyError) else f"{type(cause).__name__}: {what}"
    return Mistake(what=what, where=where, line=line.strip(), when=when)


def _relative(file: str, folder: Path) -> str:
    path = Path(file)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else file


@attrs.frozen
class _Books:
    """What was recorded, for reading."""

    db: Any
    secret: bytes


def ask(folder: Path, settings: Path, tenant: str | None, events: int) -> Rehearsal:
    """Import the plugin and ask it; only for a process that ends afterwards."""
    name = id_of(folder)
    try:
        _, installed = find(name, folder)
        notes = _Notes(folder)
        plate = installed[name].manifest
        for reference in (plate.factory, plate.settings and plate.settings.schema):
            if reference:  # here a mistake still has its place
                discovery.load(reference, plugin=name)
        if not settings.exists():
            return _made_up(name, installed, notes)
        return _recorded(name, installed, notes, Desk(settings, True, installed), tenant, events)
    except InvalidConfig as error:
        return attrs.evolve(
            _failed(Mistake(what=""), name), mistakes=tuple([Mistake(what=str(each)) for each in error.problems])
        )
    except Exception as error:  # noqa: BLE001  a stranger's code may raise anything anywhere
        return _failed(mistake_of(error, folder), name)


def _recorded(
    name: str, installed: Mapping[str, Installed], notes: _Notes, desk: Desk, tenant: str | None, events: int
) -> Rehearsal:
    checked = desk.config()
    db = database.connect(checked.house.database)
    try:
        if database.missing_file(db):
            return _made_up(name, installed, notes)
        migrate.check(db, [migrate.CORE])
        books = _Books(db, house.house_secret(db, checked))  # no writer: whoever serves these books goes on
        before = house.look(db, checked, installed)[tenant_of(checked, tenant)]
        said: dict[str, Any] = {**before.said, "plugins": {**before.said.get("plugins", {})}}
        here = said["plugins"].get(name)
        said["plugins"][name] = (
            settings_of(installed[name])
            if here is None
            else {key: value for key, value in here.items() if key != "enabled"}
        )
        chosen, mistakes, absent = config.check_tenant(before.id, said, installed, origin="tally dev")
        if chosen is None or absent:
            lines = [f"{'.'.join(map(str, each.path))}: {each.message}" for each in [*mistakes, *absent]]
            return Rehearsal(plugin=name, recorded=True, mistakes=tuple([Mistake(what=line) for line in lines]))
        if name in chosen.left_out:
            return Rehearsal(plugin=name, recorded=True, mistakes=(Mistake(what=str(chosen.left_out[name])),))
        generation = house.build_generation(chosen, 0, 0, installed)
        for part in generation.pipeline.parts:
            if part.id == name:
                notes.listen(part.plugin)
        kinds = [kind for kind in generation.kinds if not kind.startswith(_ABOUT_OTHERS)]
        found = switchboard.recorded_events(books, generation, events, kinds=kinds)
        asked = [_ask_one(books, generation, notes, *each) for each in reversed(found)]
    finally:
        db.dispose()
    return Rehearsal(plugin=name, recorded=True, asked=tuple(asked), mistakes=tuple(_each_once(notes.mistakes)))


def _ask_one(books: _Books, generation: Generation, notes: _Notes, record: Record, arrival: Any) -> Asked:
    notes.proposed, known = [], len(notes.mistakes)
    try:
        came_to = _came_to(switchboard.judge_again(books, generation, record, arrival))
    except TallyError as refusal:
        came_to = f"refused {refusal.code}"
    notes.mistakes[known:] = [
        attrs.evolve(each, when=f"{each.when} of {record.kind} {record.entry}") for each in notes.mistakes[known:]
    ]
    at = moment(record.at).strftime("%Y-%m-%d %H:%M")
    return Asked(entry=record.entry, kind=record.kind, at=at, proposed=tuple(notes.proposed), came_to=came_to)


def _came_to(record: Record) -> str:
    gained: dict[str, int] = {}
    for step in record.explanation:
        if step.unit and not step.member:
            gained[step.unit] = gained.get(step.unit, 0) + step.amount
    said = ", ".join(f"{amount:+d} {unit}" for unit, amount in sorted(gained.items()) if amount)
    skipped = [f"{each['plugin']} failed in {each['hook']}: {each['error']}" for each in record.skipped]
    return "; ".join([said or "nothing", *([record.status] if record.status != "recorded" else []), *skipped])


def _made_up(name: str, installed: Mapping[str, Installed], notes: _Notes) -> Rehearsal:
    bench = Bench(name, installed, set_up(name, installed))
    notes.listen(bench.plugin)
    asked = []
    for n, (hook, event, _, call) in enumerate(bench.calls(), 1):
        notes.proposed, came_to, known = [], "", len(notes.mistakes)
        try:
            call()
        except TallyError as refusal:
            came_to = f"refused {refusal.code}"
        except Exception:  # noqa: BLE001  noted already
            notes.mistakes[known:] = [
                attrs.evolve(each, when=f"{hook} of {event.kind}") for each in notes.mistakes[known:]
            ]
        who = "" if event.member else "guest"
        asked.append(Asked(entry=str(n), kind=event.kind, at=who, proposed=tuple(notes.proposed), came_to=came_to))
    return Rehearsal(plugin=name, recorded=False, asked=tuple(asked), mistakes=tuple(_each_once(notes.mistakes)))


def _each_once(mistakes: Sequence[Mistake]) -> Iterator[Mistake]:
    """The first mistake of each place."""
    seen = set()
    for each in mistakes:
        if (each.where, each.what) not in seen:
            seen.add((each.where, each.what))
            yield each


def main(folder: str, settings: str, tenant: str, events: str) -> None:
    """Print what came of it."""
    sys.dont_write_bytecode = True  # two saves within a second leave no stale bytecode
    found = ask(Path(folder).resolve(), Path(settings), tenant or None, int(events))
    sys.stdout.write("\n" + json.dumps(attrs.asdict(found), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
