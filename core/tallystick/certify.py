"""`tally certify`: how far a plugin can be trusted, computed from checks and never from claims.

Each check belongs to a level; a plugin has the highest level below which every check is passed.  What a plugin does in
its hooks is looked at in processes of their own (:mod:`tallystick.probe`), the rest in a real house on a real database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import msgspec

from . import checker, config, discovery, house, people, proofs, switchboard
from .config import Config
from .discovery import Installed
from .document import Document
from .errors import PluginBroken, TallyError
from .events import CORE_KINDS
from .intake import read_document
from .ledger import moment
from .manifest import Manifest
from .probe import TENANT, Bench, asked, corpus, find, project_of, set_up, settings_of
from .watchdog import Watchdog

Level = Literal["none", "bronze", "silver", "gold", "platinum"]
LEVELS: Final[tuple[Level, ...]] = ("none", "bronze", "silver", "gold", "platinum")
#: Seeds of Python's hashes under which a plugin must answer the same.
SEEDS: Final = ("0", "1", "4242")
_START: Final = 1_740_000_000_000_000

#: Every check with its level and what it asks.
CHECKS: Final[Mapping[str, tuple[Level, str]]] = {
    "manifest": ("bronze", "plugin.toml is in order and everything it names can be imported"),
    "imports": ("bronze", "importing it writes nothing, opens no connection, starts nothing"),
    "tolerance": ("bronze", "no hook fails, at kinds nobody knows and guests either"),
    "mutation": ("bronze", "nothing a hook is shown is changed"),
    "integers": ("bronze", "no float anywhere in what is proposed"),
    "round-trip": ("bronze", "what is proposed survives JSON"),
    "grants": ("bronze", "nothing is proposed that the manifest does not grant"),
    "determinism": ("bronze", "the same question has the same answer, in every process"),
    "purity": ("bronze", "pure hooks touch no file, network, process or database"),
    "budget": ("bronze", "a call takes no longer than its budget"),
    "isolation": ("silver", "what one tenant set up changes nothing for another"),
    "neighbours": ("silver", "other plugins answer the same beside it"),
    "lane": ("silver", "in a process of its own it answers the same"),
    "life-cycle": ("silver", "it is switched off and on in a real house on SQLite, and the books prove"),
    "postgresql": ("gold", "the same on PostgreSQL"),
    "personal": ("gold", "personal data it keeps is exported and erased"),
    "translations": ("gold", "whatever people read exists in English and Chinese"),
    "docs": ("gold", "a README, and every setting says what it means"),
    "tests": ("platinum", "its own tests pass"),
    "types": ("platinum", "mypy --strict finds nothing"),
}


@attrs.frozen
class Finding:
    """What came of one check."""

    check: str
    state: Literal["passed", "failed", "not run"]
    detail: str = ""


@attrs.frozen
class Certificate:
    """What a plugin reached, and why not more."""

    plugin: str
    version: str
    level: Level
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks it failed."""
        return tuple(each.check for each in self.findings if each.state == "failed")


def id_of(path: Path) -> str:
    """The id of the plugin whose project folder is at *path*."""
    return project_of(path)[0]


class Failed(Exception):
    """A check was not passed."""


class NotRun(Exception):
    """A check could not be asked here."""


def certify(
    name: str, path: Path | None = None, *, postgresql: str | None = None, up_to: Level = "platinum"
) -> Certificate:
    """Certify the installed plugin *name*, or the one whose project folder is at *path*.

    *postgresql* is the URL of an empty database; without it nothing above silver is reached.  Checks of levels above
    *up_to* are not run.
    """
    _, installed = find(name, path)
    if name not in installed:
        raise PluginBroken(f"no plugin {name!r} is installed", plugin=name)
    desk = _Desk(name, installed, path, postgresql)
    findings: list[Finding] = []
    for check, (level, _) in CHECKS.items():
        if LEVELS.index(level) > LEVELS.index(up_to):
            findings.append(Finding(check, "not run", f"only what belongs to {up_to} was asked"))
        elif findings and findings[0].state == "failed":
            findings.append(Finding(check, "not run", "the manifest comes first"))
        elif desk.lost:
            findings.append(Finding(check, "not run", "its hooks ended or hung the process that asked them"))
        else:
            with Watchdog():
                findings.append(_run(desk, check))
    return Certificate(name, installed[name].version, _level(findings), tuple(findings))


def _run(desk: _Desk, check: str) -> Finding:
    try:
        getattr(desk, check.replace("-", "_"))()
    except NotRun as why:
        return Finding(check, "not run", str(why))
    except Failed as why:
        return Finding(check, "failed", str(why))
    except (TallyError, AssertionError) as why:
        return Finding(check, "failed", str(why))
    except Exception as why:  # noqa: BLE001  a stranger's code may raise anything anywhere
        return Finding(check, "failed", f"{type(why).__name__}: {why}")
    return Finding(check, "passed")


def _level(findings: Sequence[Finding]) -> Level:
    reached: Level = "none"
    for level in LEVELS[1:]:
        if any(each.state != "passed" for each in findings if CHECKS[each.check][0] == level):
            break
        reached = level
    return reached


class _Desk:
    """The checks of one plugin, a method each: it returns, or raises Failed or NotRun."""

    def __init__(
        self, name: str, installed: Mapping[str, Installed], path: Path | None, postgresql: str | None
    ) -> None:
        self.name, self.installed, self.path, self._postgresql = name, installed, path, postgresql
        self._probed: list[dict[str, Any]] = []
        self.lost = False  #: whether nothing more can be asked

    @property
    def _plate(self) -> Manifest:
        return self.installed[self.name].manifest

    # --- bronze ------------------------------------------------------------------------------------------------------

    def manifest(self) -> None:
        tenant = set_up(self.name, self.installed)
        plate = self._plate
        if plate.settings is not None:
            checker.prepare(discovery.load(plate.settings.schema, plugin=self.name))
        named = [
            *(job.run for job in plate.jobs),
            *(each.run for each in plate.commands),
            *(each.run for each in plate.demos),
        ]
        for reference in (*named, *(each.endpoint for each in plate.routes), *(page.endpoint for page in plate.pages)):
            discovery.load(reference, plugin=self.name)
        house.build_generation(tenant, 1, 0, self.installed)

    def imports(self) -> None:
        for seen in self._said(self._start("import", SEEDS[0]))["import"]:
            raise Failed(f"importing it does {seen}")

    def tolerance(self) -> None:
        self._no_objection("tolerance")

    def mutation(self) -> None:
        self._no_objection("mutation")

    def integers(self) -> None:
        self._no_objection("integers")

    def round_trip(self) -> None:
        self._no_objection("round-trip")

    def grants(self) -> None:
        self._no_objection("grants")

    def determinism(self) -> None:
        self._no_objection("determinism")
        if len({found["digest"] for found in self._found()}) > 1:
            raise Failed("it answers otherwise in another process: by the order of a set, by the clock, or by chance")

    def purity(self) -> None:
        self._no_objection("purity")

    def budget(self) -> None:
        self._no_objection("budget")

    def _no_objection(self, check: str) -> None:
        found = self._found()[0]["wrong"]
        if check in found:
            raise Failed(found[check])

    def _found(self) -> list[dict[str, Any]]:
        """What each process said: the first about everything, the others, with other hashes, only their answers."""
        if not self._probed:
            first, *others = SEEDS
            self._probed = [self._said(self._start("hooks", first))]
            if self._probed[0]["digest"]:  # it answers at all
                running = [self._start("again", seed) for seed in others]
                self._probed += [self._said(each) for each in running]
        return self._probed

    def _start(self, task: str, seed: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tallystick.probe", task, self.name]
        words += [str(self.path.resolve())] if self.path else []
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603

    def _said(self, running: subprocess.Popen[str]) -> dict[str, Any]:
        with running:
            try:
                said, wrong = running.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                running.kill()
                self.lost = True
                raise Failed("it did not answer within a minute") from None
        if running.returncode:
            self.lost = True
            raise Failed(wrong.strip().splitlines()[-1][:500] if wrong.strip() else f"exit status {running.returncode}")
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    # --- silver ------------------------------------------------------------------------------------------------------

    def isolation(self) -> None:
        alone = Bench(self.name, self.installed, set_up(self.name, self.installed)).answers()
        one = Bench(self.name, self.installed, set_up(self.name, self.installed))
        # a tenant of another currency, zone and, where there are settings, with defaults only
        other_tenant = set_up(self.name, self.installed, zone="Asia/Shanghai", currency="JPY", plugins={self.name: {}})
        other = Bench(self.name, self.installed, other_tenant)
        other_alone = other.answers()
        both = [*zip_longest(one.calls(), other.calls())]
        for mine, theirs in both:
            for call in (mine, theirs):
                if call is not None:
                    asked(call[3])
        if one.answers() != alone or other.answers() != other_alone:
            raise Failed("it answers otherwise once another tenant was served")

    def neighbours(self) -> None:
        for other in sorted(self.installed):
            if other == self.name or not self.installed[other].distribution.startswith("tallystick-"):
                continue
            try:
                apart = _alone(self.installed[other], self.installed)
            except Exception:  # noqa: BLE001, S112  it is broken by itself, which is nobody else's fault
                continue
            try:
                beside = set_up(self.name, self.installed, plugins={other: settings_of(self.installed[other])})
            except (AssertionError, TallyError):
                continue  # the two cannot run together, and say so
            Bench(self.name, self.installed, beside).answers()
            if Bench(other, self.installed, set_up(other, self.installed)).answers() != apart:
                raise Failed(f"{other} answers otherwise since {self.name} is there")

    def lane(self) -> None:
        tenant = set_up(self.name, self.installed)
        here = Bench(self.name, self.installed, tenant).answers()
        apart = Bench(self.name, self.installed, tenant, apart=True)
        if apart.plugin is not None and apart.answers() != here:
            raise Failed(
                "it answers otherwise in a process of its own: by what else is loaded, or with types of its own"
            )

    def life_cycle(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._live(f"sqlite:///{folder}/tally.db")

    def postgresql(self) -> None:
        if self._postgresql is None:
            raise NotRun("say with --postgresql which empty database to use")
        self._live(self._postgresql)

    def _live(self, url: str) -> None:
        """Events, off, events, on, events; nothing is refused for a reason of the plugin's, and the books add up."""
        now = [_START]
        built = self._open(url, now)
        try:
            with built.db.begin() as conn:
                for n in (1, 2):
                    people.enrol(conn, built.secret, TENANT, _START, external_ids=[f"c-{n}"])
            for turn in range(3):
                if turn == 1:
                    switchboard.disable(built, TENANT, self.name, actor="certify")
                if turn == 2:
                    switchboard.enable(built, TENANT, self.name, actor="certify")
                runs = self.name in built.in_force(TENANT).tenant.plugins
                for document in self._documents(turn):
                    now[0] += 1_000_000
                    kinds = built.kinds(TENANT)
                    if document["type"] not in kinds:
                        continue
                    document["time"] = moment(now[0]).isoformat()
                    arrival = read_document(
                        document, tenant=TENANT, kinds=kinds, received=moment(now[0]), actor="certify"
                    )
                    (outcome,) = built.engine.record([arrival])
                    if isinstance(outcome, TallyError):
                        if outcome.code in ("plugin_failed", "unavailable", "effect_refused"):
                            raise Failed(f"{document['type']}: {outcome}")
                    elif outcome.record.skipped:
                        raise Failed(f"{document['type']}: {outcome.record.skipped[0]['error']}")
                    elif not runs and any(
                        step.rule.startswith(f"{self.name}.") and step.amount > 0 for step in outcome.record.explanation
                    ):
                        raise Failed("it gives something although it is switched off")
            built.expire(TENANT, now=now[0])
            with built.reading() as conn:
                found = proofs.verify(conn).findings
            if found:
                raise Failed(f"the books do not prove: {found[0].message}")
        finally:
            built.db.dispose()

    def _open(self, url: str, now: list[int]) -> house.House:
        text = f'[house]\ndatabase = "{url}"\n[tenants.{TENANT}]\nzone = "America/New_York"\ncurrency = "USD"\n'
        checked: Config = config.check(Document(text), installed=self.installed)
        tenant = set_up(self.name, self.installed)
        checked = msgspec.structs.replace(checked, tenants={TENANT: tenant})
        house.prepare(checked, installed=self.installed)
        return house.build_house(checked, installed=self.installed, clock=lambda: now[0])

    def _documents(self, turn: int) -> Iterator[dict[str, Any]]:
        kinds = {kind.name: kind for kind in (*CORE_KINDS, *discovery.load_kinds(self._plate))}
        for n, event in enumerate(corpus(kinds)):
            if event.kind.startswith(("certify.", "member.", "entry.")):
                continue
            data = msgspec.json.decode(msgspec.json.encode(event.facts))
            if "order" in data and event.kind == "purchase.completed":
                data["order"] = f"{turn}/{n}"
            for field in kinds[event.kind].members:
                if data.get(field):
                    data[field] = "c-2"
            document = {"id": f"{turn}/{n}", "source": "certify", "type": event.kind, "data": data}
            if event.member:
                document["member"] = "c-1"
            elif not kinds[event.kind].guest:
                continue
            yield document

    # --- gold --------------------------------------------------------------------------------------------------------

    def personal(self) -> None:
        missing = [hook for hook in ("export_member", "erase_member") if hook not in self._plate.hooks]
        if self._plate.personal and missing:
            raise Failed(f"{', '.join(self._plate.personal)} name a person, and {' and '.join(missing)} is missing")

    def translations(self) -> None:
        plate = self._plate
        said = {"summary": plate.summary}
        for room in (
            "events",
            "units",
            "permissions",
            "counters",
            "jobs",
            "commands",
            "demos",
            "routes",
            "messages",
            "functions",
        ):
            for each in getattr(plate, room):
                said[f"{room}.{getattr(each, 'id', None) or each.name}"] = each.summary
        for message in plate.messages:
            said |= {f"messages.{message.id}.subject": message.subject, f"messages.{message.id}.text": message.text}
        for where, text in said.items():
            if text.languages and not {"en", "zh"} <= text.languages.keys():
                raise Failed(f"{where} is not said in English and in Chinese")

    def docs(self) -> None:
        if self.path is not None and not (self.path / "README.md").is_file():
            raise Failed("there is no README.md")
        if self._plate.settings is not None:
            for where, definition in _keys(discovery.load(self._plate.settings.schema, plugin=self.name)):
                if not definition.get("meta", {}).get("doc"):
                    raise Failed(f"the setting {where} does not say what it means: give it meta = {{'doc': ...}}")

    # --- platinum ----------------------------------------------------------------------------------------------------

    def tests(self) -> None:
        if self.path is None:
            raise NotRun("say where the project is: its tests are not installed")
        self._pass([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"])

    def types(self) -> None:
        if self.path is None:
            raise NotRun("say where the project is: its sources are checked there")
        package = self.installed[self.name].file.parent
        if not (package / "py.typed").is_file():
            raise Failed("there is no py.typed in the package")
        self._pass([sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, package.name])

    def _pass(self, words: list[str]) -> None:
        assert self.path is not None
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.path.resolve()), *sys.path])}
        done = subprocess.run(  # noqa: S603
            words, cwd=self.path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()
            raise Failed(said[-1][:500] if said else f"exit status {done.returncode}")


#: What plugins answer by themselves, by distribution and version: the same for everybody who is certified beside them.
_APART: Final[dict[tuple[str, str], list[Any]]] = {}


def _alone(other: Installed, installed: Mapping[str, Installed]) -> list[Any]:
    key = (other.id, f"{other.file} {other.version}")
    if key not in _APART:
        _APART[key] = Bench(other.id, installed, set_up(other.id, installed)).answers()
    return _APART[key]


def _keys(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every key of a settings schema with its definition."""
    for key, definition in schema.items():
        if isinstance(definition, Mapping):
            yield f"{path}{key}", definition
