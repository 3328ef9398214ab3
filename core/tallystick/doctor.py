"""Whether everything a deployment needs is in order: what an operator would look at first, looked at for them."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import attrs
from packaging.requirements import Requirement

from . import database, discovery, migrate
from .config import Config
from .discovery import Installed
from .errors import InvalidConfig, TallyError
from .house import look, migration_parts

#: A house with less room than this may not get through the day.
ROOM = 512 * 1024 * 1024
#: The distribution of the core.
CORE = "tallystick-core"
#: SQLite below this has no STRICT tables.
SQLITE = (3, 37, 0)


@attrs.frozen
class Said:
    """A sentence and the words that stand in its braces, so that it can be said in any language."""

    text: str
    words: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return self.text.format(**self.words) if self.words else self.text


@attrs.frozen
class Finding:
    """One thing that was looked at, and what is to be said about it."""

    what: str
    ok: bool
    said: Sequence[Said | TallyError]

    @property
    def detail(self) -> str:
        """All of it in English."""
        return "; ".join(each.message if isinstance(each, TallyError) else str(each) for each in self.said)


def examine(config: Config, installed: Mapping[str, Installed]) -> list[Finding]:
    """Look at everything; what cannot be looked at is a finding, too."""
    looks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "plugins": lambda: _plugins(config, installed),
        "dependencies": lambda: _dependencies(installed),
        "database": lambda: _database(config),
        "migrations": lambda: _migrations(config, installed),
        "disk": lambda: _room(config),
        "secrets": lambda: _secret(config),
    }
    return [_look(what, look) for what, look in looks.items()]


def _look(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except TallyError as error:
        return Finding(what, ok=False, said=[error])
    except Exception as error:  # noqa: BLE001  a doctor who faints is no help
        refusal = database.refusal(error)
        words = database.server_said(error)
        return Finding(
            what,
            ok=False,
            said=[refusal or Said(f"{type(error).__name__}: {error}"), *([Said(words)] if words else [])],
        )


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", ok=sys.version_info >= (3, 11), said=[Said(found)])


def _plugins(config: Config, installed: Mapping[str, Installed]) -> Finding:
    _, broken = discovery.manifests(installed)
    troubles: list[Said | TallyError] = [*broken.values()]
    if config.unavailable:
        troubles.append(InvalidConfig(config.unavailable))
    return Finding("plugins", ok=not troubles, said=troubles or [Said(", ".join(installed) or "none")])


def _dependencies(installed: Mapping[str, Installed]) -> Finding:
    """Whether everybody has what they ask for: installing one plugin may have replaced what another one needs."""
    troubles: list[Said | TallyError] = []
    for name in sorted({CORE, *(each.distribution for each in installed.values())}):
        for said in metadata.requires(name) or ():
            wanted = Requirement(said)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            try:
                there = metadata.version(wanted.name)
            except metadata.PackageNotFoundError:
                troubles.append(
                    Said("{name} needs {other}, which is not installed", {"name": name, "other": wanted.name})
                )
                continue
            if not wanted.specifier.contains(there, prereleases=True):
                words = {"name": name, "other": f"{wanted.name} {wanted.specifier}", "there": there}
                troubles.append(Said("{name} needs {other}, and {there} is installed", words))
    return Finding("dependencies", ok=not troubles, said=troubles or [Said("nobody lacks anything")])


def _database(config: Config) -> Finding:
    engine = database.connect(config.house.database)
    try:
        if (file := database.missing_file(engine)) is not None:
            return Finding("database", ok=False, said=[Said("there are no books in {file}", {"file": file})])
        with database.reading(engine) as conn:
            if engine.dialect.name == "sqlite":
                synchronous = conn.exec_driver_sql("PRAGMA synchronous").scalar()
                sound = conn.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                detail = f"SQLite {sqlite3.sqlite_version}, synchronous {synchronous}, {sound}"
                return Finding(
                    "database",
                    ok=sqlite3.sqlite_version_info >= SQLITE and synchronous == 2 and sound == "ok",
                    said=[Said(detail)],
                )
            version = conn.exec_driver_sql("SHOW server_version").scalar()
            synchronous = conn.exec_driver_sql("SHOW synchronous_commit").scalar()
            detail = f"PostgreSQL {version}, synchronous_commit {synchronous}"
            return Finding("database", ok=synchronous != "off", said=[Said(detail)])
    finally:
        engine.dispose()


def _migrations(config: Config, installed: Mapping[str, Installed]) -> Finding:
    engine = database.connect(config.house.database)
    try:
        found = migrate.status(engine, migration_parts(look(engine, config, installed).values(), installed))
    finally:
        engine.dispose()
    troubles = [Said(f"{each.part}: {each.trouble}") for each in found if each.trouble]
    if any(each.pending and not each.problem for each in found):
        troubles.append(Said("run `tally db upgrade`"))
    there = Said(", ".join(f"{each.part} {each.current}" for each in found))
    return Finding("migrations", ok=not troubles, said=troubles or [there])


def _room(config: Config) -> Finding:
    free = shutil.disk_usage(config.house.data_dir).free
    words = {"free": free // (1024 * 1024), "folder": config.house.data_dir}
    return Finding("disk", ok=free > ROOM, said=[Said("{free:,} MiB free in {folder}", words)])


def _secret(config: Config) -> Finding:
    open_to_others = [
        path.name
        for path in config.house.data_dir.glob("*.secret")
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    if open_to_others:
        words = {"files": ", ".join(open_to_others)}
        return Finding("secrets", ok=False, said=[Said("readable by others: {files}; run `chmod 600`", words)])
    return Finding("secrets", ok=True, said=[Said("for the owner's eyes only")])
