"""How a database is opened, and what its errors mean: SQLite for one machine, PostgreSQL by another URL."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from .errors import DatabaseDamaged, Unavailable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: How long anybody waits for a lock, a connection or a lost peer.  The longest answer a till accepts is ten seconds.
PATIENCE_SECONDS = 5
#: The write-ahead log is copied home by :func:`checkpoint` off the commit path; should nobody call it, SQLite does so by
#: itself at this many pages (64 MiB), so that the log cannot grow without end.
CHECKPOINT_PAGES = 16_384

_PRAGMAS = (
    "PRAGMA synchronous = FULL",  # NORMAL lost acknowledged commits in 196 of 200 power cuts, FULL in none
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {PATIENCE_SECONDS * 1000}",
    "PRAGMA secure_delete = ON",  # what is deleted is overwritten: an erased member's rows leave no bytes behind
    f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {CHECKPOINT_PAGES * 4096}",
    "PRAGMA cache_size = -32768",  # KiB
    "PRAGMA temp_store = MEMORY",  # sorting must not leave copies in temporary files
    "PRAGMA trusted_schema = OFF",
)

_READING, _READONLY = "tallystick_reading", "postgresql_readonly"
#: Connections of SQLite that cannot write, by the engine they stand beside.  They are never lent to who writes: whether a
#: connection may write cannot be changed without compiling every one of its statements anew.
_onlookers: Final[WeakKeyDictionary[sa.Engine, sa.Pool]] = WeakKeyDictionary()


def connect(url: str, *, pool_size: int = 8) -> sa.Engine:
    """Make an engine for ``sqlite:///FILE`` or ``postgresql://...``.  Nothing is opened before it is used.

    ``engine.begin()`` and :func:`writing` start a transaction that writes; :func:`reading` one that only looks.
    """
    parsed = sa.make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed, pool_size)
        case "postgresql" | "postgres":
            return _postgresql(parsed.set(drivername="postgresql+psycopg"), pool_size)
        case other:
            raise Unavailable(f"{other} is not a database this house knows; expected sqlite or postgresql")


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that sees one instant of the books, waits for no writer and cannot write."""
    apart = _onlookers.get(engine)
    with sa.Connection(engine, apart.connect()) if apart is not None else engine.connect() as conn:
        if engine.dialect.name == "sqlite":
            conn.execution_options(**{_READING: True})
        else:
            conn.execution_options(isolation_level="REPEATABLE READ", **{_READONLY: True})
        with conn.begin():
            yield conn


def only_looks(conn: sa.Connection) -> bool:
    """Whether *conn* comes from :func:`reading`: then there is nothing in it that others could not see."""
    options = conn.get_execution_options()
    return bool(options.get(_READING) or options.get(_READONLY))


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """As ``engine.begin()``, for the path of an event: the driver begins and commits, at a third of the processor time.

    What fails comes as the driver's own error.
    """
    with engine.connect() as conn:
        driver: Any = conn.connection.driver_connection
        try:
            if engine.dialect.name == "sqlite":
                _take_turn(conn, driver.execute)
            yield conn
            driver.commit()
        except BaseException:
            try:
                driver.rollback()
            except Exception:  # noqa: BLE001 - it is lost, and nobody is to be lent it again
                conn.invalidate()
            raise


def _sqlite(url: sa.URL, pool_size: int) -> sa.Engine:
    # enough compiled statements for the whole house: the default of 128 would be compiled again and again
    arguments: dict[str, Any] = {"cached_statements": 512, "timeout": PATIENCE_SECONDS}
    pool: dict[str, Any] = {}
    if url.database and url.database != ":memory:":
        pool = {"pool_size": pool_size, "pool_timeout": PATIENCE_SECONDS, "max_overflow": 0, "pool_use_lifo": True}
    engine = sa.create_engine(url, connect_args=arguments, pool_reset_on_return=None, **pool)
    event.listen(engine, "connect", _open_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "reset", _reset_sqlite)
    _let_go(engine)
    if pool:  # what is in memory has one connection
        apart = engine.pool.recreate()
        event.listen(apart, "connect", _only_look)
        _onlookers[engine] = apart
        event.listen(engine, "engine_disposed", _let_onlookers_go)
    return engine


def _let_go(engine: sa.Engine) -> sa.Engine:
    """What comes back after *engine* was disposed of is closed: a pool that nobody has any more would keep it open."""

    def came(_connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entry.info["pool"] = engine.pool

    def returns(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        if connection is not None and entry.info.get("pool") is not engine.pool:
            connection.close()

    event.listen(engine, "connect", came)
    event.listen(engine, "checkin", returns)
    return engine


def _open_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # The driver would begin a transaction at the first write only, and none before DDL: we begin them ourselves.
    connection.isolation_level = None
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode not in {"wal", "memory"}:
        raise Unavailable(f"the SQLite file cannot have a write-ahead log here (journal mode {mode})")
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _only_look(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.execute("PRAGMA query_only = ON")


def _let_onlookers_go(engine: sa.Engine) -> None:
    apart = _onlookers[engine]
    apart.dispose()
    _onlookers[engine] = apart.recreate()


def _begin_sqlite(conn: sa.Connection) -> None:
    driver = conn.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    if conn.get_execution_options().get(_READING):
        conn.exec_driver_sql("BEGIN")
    elif not driver.in_transaction:  # who is in :func:`writing` may have SQLAlchemy write, too
        _take_turn(conn, conn.exec_driver_sql)


def _take_turn(conn: sa.Connection, execute: Callable[[str], object]) -> None:
    # IMMEDIATE takes the write lock before the first read.  A transaction that reads first and writes later finds its
    # snapshot outdated and fails at once (SQLITE_BUSY_SNAPSHOT), however long it would have waited.
    with _next_to_write(conn):
        execute("BEGIN IMMEDIATE")


def _place(engine: sa.Engine) -> _Place | None:
    """A connection's own place in line, where there can be one."""
    path = database_file(engine)
    if path is None or fcntl is None:
        return None
    try:
        return _Place(path)
    except OSError:
        return None


class _Place:
    """One connection's file of who is next.  Closed with the last who knows it, and then it holds nobody up."""

    def __init__(self, books: Path) -> None:
        self.books, self._was = books.absolute(), _identity(books)
        self.file = os.open(books.with_name(f"{books.name}-next"), os.O_CREAT | os.O_RDWR, 0o600)

    def check(self) -> None:
        """Raises Unavailable if what this connection has open is no longer what others would open."""
        if _identity(self.books) != self._was:
            raise Unavailable(
                f"{self.books} was moved away or replaced: put it back, or start the house again", retry_after=60
            )

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be opened
            os.close(self.file)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _next_to_write(conn: sa.Connection) -> Iterator[None]:
    """Wait until nobody else is waiting for the write lock.

    SQLite lets the waiting sleep, a tenth of a second at last, and gives the lock to whoever happens to ask while it is
    free: to the one who just had it.  So only one at a time asks, and who wants the lock again waits behind him.  The
    kernel lets go of the place when a process dies.  Where there is no such place (Windows, a folder that cannot be
    written), and where its holder hangs, everybody asks as if there were none.
    """
    info = conn.connection.info
    try:
        place = info["place"]
    except KeyError:
        place = info["place"] = _place(conn.engine)
    if place is None:
        yield
        return
    place.check()  # or what is recorded now would be gone with the last process that has the old file open
    deadline = time.monotonic() + PATIENCE_SECONDS / 2
    held = True
    while True:
        try:
            fcntl.flock(place.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            held = time.monotonic() < deadline
            if not held:
                break
            time.sleep(0.001)
    try:
        yield
    finally:
        if held:
            fcntl.flock(place.file, fcntl.LOCK_UN)


def _reset_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _state: Any) -> None:
    assert isinstance(connection, sqlite3.Connection)
    if connection.in_transaction:
        connection.rollback()


def _postgresql(url: sa.URL, pool_size: int) -> sa.Engine:
    milliseconds = PATIENCE_SECONDS * 1000
    settings = {
        "statement_timeout": 2 * milliseconds,
        "lock_timeout": milliseconds,
        # a node that froze in the middle of a transaction must not keep the others' rows locked
        "idle_in_transaction_session_timeout": 2 * milliseconds,
        "timezone": "UTC",
    }
    given = url.query.get("options", "")
    options = [*(given if isinstance(given, tuple) else (given,)), *(f"-c {k}={v}" for k, v in settings.items())]
    arguments = {
        "connect_timeout": PATIENCE_SECONDS,
        "application_name": "tallystick",
        "client_encoding": "UTF8",
        # the driver throws away all that a connection has prepared with each ROLLBACK, and the store's with it
        "prepare_threshold": None,
        "options": " ".join(options).strip(),
        # a peer that vanished without a word is noticed in seconds and not after the system's two hours
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": milliseconds,
    }
    engine = sa.create_engine(
        url.difference_update_query(["options"]),
        connect_args=arguments,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=PATIENCE_SECONDS,
        pool_recycle=1800,
        pool_use_lifo=True,  # the last one used is the likeliest to be alive; the others may go idle
    )
    return _let_go(engine)


def insert_new(conn: sa.Connection, table: sa.Table, **values: Any) -> None:
    """Insert a row unless somebody else just did."""
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # a fifth of all imports: only who uses it waits for it

        insert: Any = postgresql.insert
    else:
        insert = sqlite.insert
    conn.execute(insert(table).values(**values).on_conflict_do_nothing())


def checkpoint(engine: sa.Engine, *, truncate: bool = False) -> bool:
    """Copy SQLite's write-ahead log home; True if all of it went.  Waits for nobody unless it shall *truncate*.

    Truncating also leaves the log empty: after an erasure nothing of the old pages remains in it.  PostgreSQL does this
    by itself, so there it is always True.
    """
    if engine.dialect.name != "sqlite":
        return True
    with engine.connect() as conn:
        driver = conn.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        mode = "TRUNCATE" if truncate else "PASSIVE"
        busy, pages, copied = driver.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return bool(not busy and pages == copied)


def database_file(engine: sa.Engine) -> Path | None:
    """The SQLite file behind *engine*; None for a server or a database in memory."""
    name = engine.url.database
    return Path(name) if engine.dialect.name == "sqlite" and name and name != ":memory:" else None


def missing_file(engine: sa.Engine) -> Path | None:
    """The SQLite file behind *engine* if it is not there: SQLite makes an empty one even for whoever only looks."""
    file = database_file(engine)
    return file if file is not None and not file.exists() else None


def keep_to_oneself(file: Path) -> None:
    """Make an empty *file* that only its owner may read and write; one that is there stays as it is.

    SQLite gives its log and its shared memory the rights that the file has.
    """
    with suppress(OSError):  # there already, or not to be made here: whoever opens it hears why
        os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))


# --- what errors mean ----------------------------------------------------------------------------------------------

#: Deadlock, serialization failure, lock not obtained in time: the transaction is gone, and may be run again.
_AGAIN = {"40001", "40P01", "55P03"}
#: The connection or the server went away (class 08, shutdown, crash, starting up, too many connections).
_GONE = {"57P01", "57P02", "57P03", "57P05", "53300", "25P03"}
#: Out of disk, memory or time; an I/O error; a read-only server after a failover.
_EXHAUSTED = {"53000", "53100", "53200", "57014", "58030", "25006"}
_SQLITE_AGAIN = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_EXHAUSTED = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
_SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
#: What an operator has to look at, by SQLite's code: the reason for programs, and the sentence.
_SQLITE_REASONS = {
    sqlite3.SQLITE_FULL: ("disk_full", "the disk is full: nothing was stored"),
    sqlite3.SQLITE_READONLY: (
        "read_only",
        "the database may not be written: look at the rights of its file and folder",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot_open",
        "the database file cannot be opened: look at `database` in the configuration and at the rights of file and folder",
    ),
}
_SQLITE_COLLIDED = frozenset({sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE})


def retryable(error: BaseException) -> bool:
    """Whether the same transaction may succeed when it is simply run again: deadlock, conflict, busy, lost connection.

    After a lost connection nobody knows whether the commit arrived: what is run again must recognise what it did.
    """
    if isinstance(error, sa.exc.DBAPIError):
        if error.connection_invalidated:
            return True
        cause: BaseException | None = error.orig
    else:
        cause = error
    if isinstance(cause, sqlite3.Error):
        return _sqlite_code(cause) in _SQLITE_AGAIN
    state = _sqlstate(cause)
    return state is not None and (state in _AGAIN or state in _GONE or state[:2] == "08" or state == "")


def collided(error: BaseException) -> bool:
    """Whether two wrote the same row for the first time: the second time it is there."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return getattr(cause, "sqlite_errorcode", 0) in _SQLITE_COLLIDED or _sqlstate(cause) == "23505"


def refusal(error: BaseException) -> Unavailable | None:
    """The house's own word for *error* if the database cannot serve right now (busy, gone, full); None for a mistake."""
    if retryable(error):
        return Unavailable("the database is busy or was lost; the request may be sent again")
    if isinstance(error, sa.exc.TimeoutError):
        return Unavailable("no database connection became free in time")
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        if (code := _sqlite_code(cause)) in _SQLITE_DAMAGED:
            return DatabaseDamaged(retry_after=60)
        if code in _SQLITE_REASONS:
            reason, sentence = _SQLITE_REASONS[code]
            return Unavailable(sentence, retry_after=5, reason=reason)
        exhausted = code in _SQLITE_EXHAUSTED
    else:
        exhausted = _sqlstate(cause) in _EXHAUSTED
    return Unavailable("the database cannot store anything right now", retry_after=5) if exhausted else None


def server_said(error: BaseException) -> str:
    """Why a server let nobody in (a wrong password, a pooler's no), for whoever runs the house; else empty."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if _sqlstate(cause) != "":
        return ""
    return " ".join(str(cause).split())


def _sqlite_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the upper bits tell variants apart


def _sqlstate(error: BaseException | None) -> str | None:
    """The SQLSTATE of a psycopg error, empty where the server could not even answer; None for anything else."""
    if error is None or not type(error).__module__.startswith("psycopg"):
        return None
    state: str | None = getattr(error, "sqlstate", None)
    if state is None:
        return "" if any(base.__name__ == "OperationalError" for base in type(error).__mro__) else "unknown"
    return state
