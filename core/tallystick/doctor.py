"""Whether everything a deployment needs is in order: what an operator would look at first, looked at for them."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Mapping
from importlib import metadata

import attrs
from packaging.requirements import Requirement

from . import database, discovery, migrate
from .config import Config
from .discovery import Installed
from .errors import TallyError
from .house import look, migration_parts

#: A house with less room than this may not get through the day.
ROOM = 512 * 1024 * 1024
#: The distribution of the core.
CORE = "tallystick-core"
#: SQLite below this has no STRICT tables.
SQLITE = (3, 37, 0)


@attrs.frozen
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


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
        return Finding(what, ok=False, detail=error.message)
    except Exception as error:  # noqa: BLE001  a doctor who faints is no help
        refusal = database.refusal(error)
        detail = refusal.message if refusal is not None else f"{type(error).__name__}: {error}"
        return Finding(what, ok=False, detail=detail)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", ok=sys.version_info >= (3, 11), detail=found)


def _plugins(config: Config, installed: Mapping[str, Installed]) -> Finding:
    _, broken = discovery.manifests(installed)
    troubles = [error.message for error in broken.values()] + [str(problem) for problem in config.unavailable]
    return Finding("plugins", ok=not troubles, detail="; ".join(troubles) or ", ".join(installed) or "none")


def _dependencies(installed: Mapping[str, Installed]) -> Finding:
    """Whether everybody has what they ask for: installing one plugin may have replaced what another one needs."""
    troubles = []
    for name in sorted({CORE, *(each.distribution for each in installed.values())}):
        for said in metadata.requires(name) or ():
            wanted = Requirement(said)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            try:
                there = metadata.version(wanted.name)
            except metadata.PackageNotFoundError:
                troubles.append(f"{name} needs {wanted.name}, which is not installed")
                continue
            if not wanted.specifier.contains(there, prereleases=True):
                troubles.append(f"{name} needs {wanted.name} {wanted.specifier}, and {there} is installed")
    return Finding("dependencies", ok=not troubles, detail="; ".join(troubles) or "nobody lacks anything")


def _database(config: Config) -> Finding:
    engine = database.connect(config.house.database)
    try:
        if (file := database.missing_file(engine)) is not None:
            return Finding("database", ok=False, detail=f"there are no books in {file}")
        with database.reading(engine) as conn:
            if engine.dialect.name == "sqlite":
                synchronous = conn.exec_driver_sql("PRAGMA synchronous").scalar()
                sound = conn.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                detail = f"SQLite {sqlite3.sqlite_version}, synchronous {synchronous}, {sound}"
                return Finding(
                    "database",
                    ok=sqlite3.sqlite_version_info >= SQLITE and synchronous == 2 and sound == "ok",
                    detail=detail,
                )
            version = conn.exec_driver_sql("SHOW server_version").scalar()
            synchronous = conn.exec_driver_sql("SHOW synchronous_commit").scalar()
            return Finding(
                "database", ok=synchronous != "off", detail=f"PostgreSQL {version}, synchronous_commit {synchronous}"
            )
    finally:
        engine.dispose()


def _migrations(config: Config, installed: Mapping[str, Installed]) -> Finding:
    engine = database.connect(config.house.database)
    try:
        found = migrate.status(engine, migration_parts(look(engine, config, installed).values(), installed))
    finally:
        engine.dispose()
    troubles = [f"{each.part}: {each.trouble}" for each in found if each.trouble]
    if any(each.pending and not each.problem for each in found):
        troubles.append("run `tally db upgrade`")
    return Finding(
        "migrations",
        ok=not troubles,
        detail="; ".join(troubles) or ", ".join(f"{each.part} {each.current}" for each in found),
    )


def _room(config: Config) -> Finding:
    free = shutil.disk_usage(config.house.data_dir).free
    return Finding("disk", ok=free > ROOM, detail=f"{free // (1024 * 1024):,} MiB free in {config.house.data_dir}")


def _secret(config: Config) -> Finding:
    open_to_others = [
        path.name
        for path in config.house.data_dir.glob("*.secret")
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    detail = (
        f"readable by others: {', '.join(open_to_others)}; run `chmod 600`"
        if open_to_others
        else "for the owner's eyes only"
    )
    return Finding("secrets", ok=not open_to_others, detail=detail)
