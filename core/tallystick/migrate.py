"""Bringing a database to the present version: the core's steps, then each plugin's, every one in its own transaction.

Each part (the core, a plugin) has its own version table and its own line of Alembic revisions, so a plugin that is
removed, broken or foreign never stands in the way of another.  The environment is here and nowhere else: a package of
revisions holds files ``v0001_what_it_does.py`` with ``revision = "0001"``, and no ``env.py``.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import sqlalchemy as sa

from .database import database_file, missing_file, reading, refusal
from .errors import DatabaseNotReady, DatabaseTooNew, PluginBroken

if TYPE_CHECKING:  # Alembic takes as long to import as half of the house: only who migrates waits for it
    from alembic.migration import MigrationContext
    from alembic.script import Script

_FILE = re.compile(r"v(\d{4})_\w+\.py")
#: Any number will do as long as nobody else locks it: "tally" in ASCII.
_ADVISORY_LOCK = 0x74616C6C79


@attrs.frozen
class Part:
    """Something with tables of its own: the core or a plugin."""

    id: str
    package: str  #: the package of its revisions

    @property
    def version_table(self) -> str:
        """Where the database remembers how far this part has come."""
        return f"{self.id}_schema_version"


CORE = Part("core", "tallystick.migrations")


@attrs.frozen(kw_only=True)
class Status:
    """How far one part has come in one database."""

    part: str
    current: str | None  #: the last revision that ran; None if none did
    pending: tuple[str, ...]  #: revisions still to run, in order
    too_new: bool = False  #: *current* is unknown to the installed version
    problem: str = ""  #: why the part's revisions cannot be read or run

    @property
    def trouble(self) -> str:
        """What keeps the house from serving; empty if nothing does."""
        newer = f"{self.current} is of a newer version than is installed" if self.too_new else ""
        return self.problem or newer or ", ".join(f"+{revision}" for revision in self.pending)


def status(engine: sa.Engine, parts: Sequence[Part]) -> list[Status]:
    """How far each part has come.  Imports no revision; costs one SELECT per part and one for the list of tables."""
    if missing_file(engine):
        return [_status(None, part, set()) for part in parts]
    with reading(engine) as conn:
        tables = set(sa.inspect(conn).get_table_names())
        return [_status(conn, part, tables) for part in parts]


def check(engine: sa.Engine, parts: Sequence[Part]) -> None:
    """Raise unless the database is exactly as new as what is installed.  For every start: it only looks.

    Raises :class:`DatabaseTooNew` or :class:`DatabaseNotReady`.  A plugin whose revisions cannot be read is left to
    whoever loads it.
    """
    found = status(engine, parts)
    _refuse_newer(found)
    if found[0].current is None and found[0].part == CORE.id:
        place = database_file(engine) or engine.url.render_as_string()
        raise DatabaseNotReady(
            f"there are no books in {place}; `tally db upgrade` makes new ones, `tally restore FILE` those of a backup"
        )
    behind = [f"{each.part} ({', '.join(each.pending)})" for each in found if each.pending and not each.problem]
    if behind:
        raise DatabaseNotReady(f"migrations have not run yet: {'; '.join(behind)}; run `tally db upgrade`")


def upgrade(engine: sa.Engine, parts: Sequence[Part]) -> list[Status]:
    """Run what is pending, part by part in the given (the resolver's) order, and return how far each has come.

    Every revision is one transaction under one lock for all processes, and writes its number in it: an interrupted
    upgrade is continued by running it again, two at a time do each step once.  If any part is too new, nothing runs.
    A plugin's failing revision leaves that plugin where it was, told in ``problem``; the core's is raised.
    In a new database the core's tables are made at once, as they are after its last revision.
    """
    found = status(engine, parts)
    _refuse_newer(found)
    problems: dict[str, str] = {}
    for part, each in zip(parts, found, strict=True):
        if not (each.pending or each.problem):
            continue
        try:
            if part == CORE and each.current is None:
                _make_core(engine)
                continue
            while _step(engine, part):
                pass
        except Exception as error:  # a plugin's revision may raise anything
            if part.id == CORE.id or refusal(error):
                raise
            problems[part.id] = str(error) or repr(error)
    return [attrs.evolve(each, problem=problems.get(each.part, each.problem)) for each in status(engine, parts)]


def plan(engine: sa.Engine, parts: Sequence[Part]) -> str:
    """The SQL that :func:`upgrade` would run now, for reading; nothing is changed.

    A revision that looks at the data before it decides shows only what it does in every case.
    """
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    found = status(engine, parts)
    _refuse_newer(found)
    out = io.StringIO()
    for part, each in zip(parts, found, strict=True):
        if not each.pending:
            continue
        opts = {"as_sql": True, "output_buffer": out, "version_table": part.version_table}
        context = MigrationContext.configure(dialect_name=engine.dialect.name, opts=opts)
        for script in _scripts(part):
            if script.revision in each.pending:
                out.write(f"-- {part.id} {script.revision}: {script.doc}\n\n")
                with Operations.context(context):
                    try:
                        script.module.upgrade()
                    except Exception:  # noqa: BLE001  a step that finds no rows to look at fails as it likes
                        out.write("-- what it does next depends on the data\n\n")
    return out.getvalue()


def revision(conn: sa.Connection, part: Part) -> str | None:
    """The last revision of *part* that ran; None if none did."""
    return _current(conn, part) if sa.inspect(conn).has_table(part.version_table) else None


def forget(conn: sa.Connection, part: Part) -> None:
    """Its tables are gone: the next upgrade begins with its first revision."""
    _version_table(part).drop(conn, checkfirst=True)


def differences(engine: sa.Engine, metadata: sa.MetaData) -> list[str]:
    """What the database has otherwise than *metadata* says, a line each.  Tables that *metadata* does not name are others'."""
    from alembic.autogenerate import compare_metadata

    partial_on_both(metadata)
    with reading(engine) as conn:
        found = compare_metadata(_comparing(conn, metadata), metadata)
    return [str(difference) for difference in found]


def draft(engine: sa.Engine, metadata: sa.MetaData) -> str:
    """The body of ``upgrade()`` for a new revision that brings the database to *metadata*, for an author to go over."""
    from alembic.autogenerate import produce_migrations, render_python_code

    partial_on_both(metadata)
    with reading(engine) as conn:
        context = _comparing(conn, metadata)
        script = produce_migrations(context, metadata)
        assert script.upgrade_ops is not None
        return render_python_code(script.upgrade_ops)


def partial_on_both(metadata: sa.MetaData) -> None:
    """Let an index that is partial on SQLite (``sqlite_where``) be so on PostgreSQL, too.

    Tables say it once: to say it of PostgreSQL imports that dialect, for which nobody waits who keeps the books in a file.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            if (where := index.dialect_kwargs.get("sqlite_where")) is not None:
                index.dialect_kwargs["postgresql_where"] = where


# --- one part -------------------------------------------------------------------------------------------------------


def _known(part: Part) -> list[str]:
    """The part's revisions, oldest first, from the names of its files: a start imports none of them."""
    return sorted(match[1] for file in _folder(part).iterdir() if (match := _FILE.fullmatch(file.name)))


def _folder(part: Part) -> Path:
    try:
        spec = importlib.util.find_spec(part.package)
    except Exception as error:  # this runs the package above it: another's code, any error
        raise _broken(part, f"{part.package} cannot be imported: {error}") from error
    for folder in (spec.submodule_search_locations if spec else None) or ():
        return Path(folder)
    raise _broken(part, f"there is no package {part.package}")


def _scripts(part: Part) -> list[Script]:
    """The part's revisions, oldest first, imported and checked to be one line."""
    from alembic.script import ScriptDirectory

    folder = _folder(part)
    try:
        directory = ScriptDirectory(str(folder), version_locations=[str(folder)])
        scripts = [*directory.walk_revisions()][::-1]
    except Exception as error:  # another's code may raise anything
        raise _broken(part, f"its revisions cannot be read: {error}") from error
    if [script.revision for script in scripts] != _known(part):
        raise _broken(part, "its revisions must be one line, each named by its file: v0001_..., v0002_...")
    return scripts


def _broken(part: Part, why: str) -> PluginBroken:
    return PluginBroken(f"migrations of {part.id}: {why}", plugin=part.id)


def _status(conn: sa.Connection | None, part: Part, tables: set[str]) -> Status:
    current = _current(conn, part) if conn is not None and part.version_table in tables else None
    try:
        known = _known(part)
    except PluginBroken as error:
        if part.id == CORE.id:
            raise
        return Status(part=part.id, current=current, pending=(), problem=str(error))
    pending = tuple(revision for revision in known if current is None or revision > current)
    return Status(part=part.id, current=current, pending=pending, too_new=current is not None and current not in known)


def _refuse_newer(found: Sequence[Status]) -> None:
    newer = [f"{each.part} is at {each.current}" for each in found if each.too_new]
    if newer:
        raise DatabaseTooNew(
            f"the database was written by a newer version ({'; '.join(newer)}) and is left untouched; install that version"
        )


def _version_table(part: Part) -> sa.Table:
    # as Alembic's own, so that its command line can be pointed at it in an emergency
    return sa.Table(part.version_table, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


def _current(conn: sa.Connection, part: Part) -> str | None:
    return conn.scalar(sa.select(_version_table(part).c.version_num))


def _make_core(engine: sa.Engine) -> None:
    """The core's tables in a database that has none of them: no Alembic, which takes as long to import as half of the house.

    A test on both databases holds the tables and the revisions to the same result.
    """
    from . import tables

    version = _version_table(CORE)
    if engine.dialect.name == "postgresql":
        partial_on_both(tables.metadata)
    with _alone(engine) as conn:
        version.create(conn, checkfirst=True)
        if _current(conn, CORE) is None:  # read under the lock: another process may just have made them
            tables.metadata.create_all(conn, checkfirst=False)
            conn.execute(sa.insert(version), {"version_num": _known(CORE)[-1]})


def _step(engine: sa.Engine, part: Part) -> bool:
    """Run the next pending revision of *part*; False if there is none."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    scripts = _scripts(part)
    version = _version_table(part)
    with _alone(engine) as conn:
        version.create(conn, checkfirst=True)
        current = _current(conn, part)  # read under the lock: another process may just have done the step
        pending = [script for script in scripts if current is None or script.revision > current]
        _refuse_newer([_status(conn, part, {part.version_table})])
        if not pending:
            return False
        script = pending[0]
        context = MigrationContext.configure(conn, opts={"version_table": part.version_table})
        with Operations.context(context):
            script.module.upgrade()
        conn.execute(sa.delete(version))
        conn.execute(sa.insert(version), {"version_num": script.revision})
    return len(pending) > 1


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that no other migration and, on SQLite, no other writer runs beside; DDL in it is undone together."""
    with engine.connect() as conn:
        if engine.dialect.name != "sqlite":
            with conn.begin():
                # a step may take as long as it takes, but never makes the tills queue behind a lock it cannot get
                conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
                conn.exec_driver_sql("SET LOCAL lock_timeout = 0")
                conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
                conn.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
                yield conn
            return
        driver: Any = conn.connection.driver_connection
        # A table that is changed on SQLite is copied and dropped: with foreign keys on, that would empty the tables that
        # point at it.  The switch has no effect inside a transaction, so it stands here; what was written is checked.
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with conn.begin():
                yield conn
                dangling = conn.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                if dangling:
                    raise sa.exc.DataError(
                        "PRAGMA foreign_key_check", None, ValueError(f"rows without parent: {dangling[:5]}")
                    )
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


def _comparing(conn: sa.Connection, metadata: sa.MetaData) -> MigrationContext:
    from alembic.migration import MigrationContext

    def is_ours(name: str | None, kind: str, _parents: Any) -> bool:
        return kind != "table" or name in metadata.tables

    opts = {"include_name": is_ours, "compare_server_default": True}
    return MigrationContext.configure(conn, opts=opts)
