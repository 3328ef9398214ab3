"""A copy of the whole database at one instant, made while the house works, and put back into an empty one.

SQLite's own backup copies the file page by page and keeps nobody from writing.  From PostgreSQL every table is copied in
one snapshot into a zip file; it goes back into a database of the same version.  Nothing else of the server is needed.
"""

from __future__ import annotations

import os
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from . import tables
from .database import database_file, keep_to_oneself, missing_file, reading
from .errors import DatabaseNotReady, InvalidRequest

_ABOUT = "about.json"
_FORMAT = "tallystick-backup/1"
#: Who held them when the copy was made does not know these books.
_LEASED_BY_NOBODY = "UPDATE writer SET leased_until = 0, holder = ''"


#: What reading a file of zipped tables may come to if it is not as it was written.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup from PostgreSQL holds."""

    format: str
    versions: dict[str, list[str]]  #: version table -> migrations that have run
    tables: dict[str, list[str]]  #: table -> columns, in the order of the copy


def write(db: sa.Engine, file: Path) -> int:
    """Copy the database behind *db* to *file*, which must not exist; its size in bytes.  It is complete or not there."""
    if file.exists():
        raise InvalidRequest(f"{file} exists already; nothing was copied")
    if not file.absolute().parent.is_dir():
        raise InvalidRequest(f"{file.absolute().parent} is no folder: nothing was copied")
    _refuse_nothing(db)
    fresh = file.with_name(f".{file.name}.part")
    fresh.unlink(missing_ok=True)
    keep_to_oneself(fresh)
    try:
        if db.dialect.name == "sqlite":
            _copy_file(database_file(db), fresh)
        else:
            _copy_tables(db, fresh)
        _settle(fresh)
        os.link(fresh, file)  # never over a file that came meanwhile
        _settle(file.parent)
    finally:
        fresh.unlink(missing_ok=True)
    return file.stat().st_size


def _refuse_nothing(db: sa.Engine) -> None:
    """A copy of nothing would be found out when it is needed.  Raises DatabaseNotReady."""
    if missing_file(db) is None:
        with reading(db) as conn:
            if sa.inspect(conn).has_table(tables.batch.name):
                return
    books = database_file(db) or db.url.render_as_string()
    raise DatabaseNotReady(f"there are no books in {books}: nothing was copied")


def _settle(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- SQLite ----------------------------------------------------------------------------------------------------------


def _copy_file(source: Path | None, target: Path) -> None:
    if source is None:
        raise InvalidRequest("a database in memory cannot be copied")
    with closing(sqlite3.connect(source)) as books, closing(sqlite3.connect(target)) as copy:
        # all pages in one step see one instant; writers go on in the write-ahead log meanwhile
        books.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = DELETE")


def _put_file_back(file: Path, target: Path) -> None:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as copy:
        try:
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            copy.execute("SELECT 1 FROM batch LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise InvalidRequest(f"{file} is no backup of a house: {error}") from None
        if verdict != "ok":
            raise InvalidRequest(f"{file} is damaged: {verdict}")
        fresh = target.with_name(f".{target.name}.part")
        keep_to_oneself(fresh)
        with closing(sqlite3.connect(fresh)) as books:
            copy.backup(books, pages=-1)
            books.execute(_LEASED_BY_NOBODY)
            books.commit()
    for name in (target, *(target.with_name(f"{target.name}{suffix}") for suffix in ("-wal", "-shm"))):
        name.unlink(missing_ok=True)
    _settle(fresh)
    fresh.replace(target)
    _settle(target.parent)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def _copy_tables(db: sa.Engine, file: Path) -> None:
    with (
        reading(db) as conn,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        _unhurried(conn) as cur,
    ):
        about = _about(cur)
        archive.writestr(_ABOUT, msgspec.json.encode(about))
        for table, columns in about.tables.items():
            with (
                archive.open(f"{table}.copy", "w", force_zip64=True) as out,
                cur.copy(
                    f"COPY {_quoted(table)} ({', '.join(map(_quoted, columns))}) TO STDOUT (FORMAT binary)"
                ) as rows,
            ):
                for data in rows:
                    out.write(data)


def _put_tables_back(db: sa.Engine, file: Path) -> None:
    try:
        archive = zipfile.ZipFile(file)
        about = msgspec.json.decode(archive.read(_ABOUT), type=About)
    except (*_DAMAGED, msgspec.MsgspecError) as error:
        raise InvalidRequest(f"{file} is no backup of a house: {error}") from None
    with archive, db.begin() as conn, _unhurried(conn) as cur:
        here = _about(cur)
        if about.format != _FORMAT or about.versions != here.versions or about.tables != here.tables:
            raise InvalidRequest(
                "the backup was made by another version of the house or with other plugins: restore it with those, then upgrade"
            )
        cur.execute(f"TRUNCATE {', '.join(map(_quoted, about.tables))}")
        for table, columns in about.tables.items():
            into = f"COPY {_quoted(table)} ({', '.join(map(_quoted, columns))}) FROM STDIN (FORMAT binary)"
            try:
                with archive.open(f"{table}.copy") as rows, cur.copy(into) as copy:
                    while data := rows.read(1 << 20):
                        copy.write(data)
            except _DAMAGED as error:
                raise InvalidRequest(f"{file} is damaged: {error}") from None
        cur.execute(_LEASED_BY_NOBODY)


@contextmanager
def _unhurried(conn: sa.Connection) -> Iterator[Any]:
    """A cursor whose statements may take as long as a large table needs."""
    conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
    conn.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cur:
        yield cur


def _about(cur: Any) -> About:
    cur.execute(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND a.attnum > 0"
        " AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY c.relname, a.attnum"
    )
    found: dict[str, list[str]] = {}
    for table, column in cur.fetchall():
        found.setdefault(table, []).append(column)
    versions = {}
    for table in [table for table, columns in found.items() if columns == ["version_num"]]:
        cur.execute(f"SELECT version_num FROM {_quoted(table)} ORDER BY 1")  # noqa: S608
        versions[table] = [row[0] for row in cur.fetchall()]
        del found[table]
    return About(format=_FORMAT, versions=versions, tables=found)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --- back ------------------------------------------------------------------------------------------------------------


def is_empty(db: sa.Engine) -> bool:
    """Whether no house has ever recorded anything there."""
    if missing_file(db):
        return True
    with reading(db) as conn:
        names = {"batch", "member"} & {*sa.inspect(conn).get_table_names()}
        return not any(conn.execute(sa.select(tables.metadata.tables[name]).limit(1)).first() for name in names)


def is_served(db: sa.Engine, now: int) -> bool:
    """Whether some house has these books open, empty as they are: what it recorded next would be lost, or among what is put back."""
    if missing_file(db):
        return False
    with reading(db) as conn:
        rows = tables.writer
        return sa.inspect(conn).has_table(rows.name) and bool(
            conn.scalar(sa.select(sa.func.count()).where(rows.c.leased_until > now))
        )


def put_back(db: sa.Engine, file: Path) -> None:
    """Fill the database behind *db* from *file*.  On PostgreSQL the tables are there already, empty; see :func:`is_empty`."""
    if db.dialect.name == "sqlite":
        target = database_file(db)
        if target is None:
            raise InvalidRequest("a database in memory cannot be restored")
        target.parent.mkdir(parents=True, exist_ok=True)
        db.dispose()
        try:
            _put_file_back(file, target)
        finally:
            with suppress(FileNotFoundError):
                target.with_name(f".{target.name}.part").unlink()
        return
    _put_tables_back(db, file)
