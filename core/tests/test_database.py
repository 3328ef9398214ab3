"""How a database is opened and let go of."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.tests.books import Books
from tallystick import database
from tallystick.database import connect, database_file, reading
from tallystick.store import Store


def _is_closed(connection: Any) -> bool:
    try:
        connection.execute("SELECT 1").close()
    except Exception:  # noqa: BLE001  each driver has its own word for it
        return True
    return False


@pytest.mark.parametrize("opened", [sa.Engine.connect, reading], ids=["to write", "to look"])
def test_a_connection_that_comes_back_after_the_house_let_go_is_closed(
    database_url: str, opened: Callable[[sa.Engine], AbstractContextManager[sa.Connection]]
) -> None:
    """A thread that was slower than the stop of the house leaves no session open in the database."""
    db = connect(database_url)
    with opened(db) as conn:
        raw = conn.connection.dbapi_connection
        db.dispose()
    assert _is_closed(raw)
    with opened(db) as again:
        kept = again.connection.dbapi_connection
    assert not _is_closed(kept)
    db.dispose()
    assert _is_closed(kept)


def test_who_only_looks_cannot_write(database_url: str) -> None:
    db = connect(database_url)
    with db.begin() as conn:
        conn.execute(sa.text("CREATE TABLE shelf (n INTEGER)"))
    with pytest.raises(sa.exc.DBAPIError), reading(db) as conn:
        conn.execute(sa.text("INSERT INTO shelf VALUES (1)"))
    with db.begin() as conn:
        conn.execute(sa.text("INSERT INTO shelf VALUES (2)"))
    db.dispose()
    with pytest.raises(sa.exc.DBAPIError), reading(db) as conn:
        conn.execute(sa.text("INSERT INTO shelf VALUES (3)"))
    with reading(db) as conn:
        assert conn.execute(sa.text("SELECT n FROM shelf")).scalars().all() == [2]
    db.dispose()


def test_a_batch_compiles_no_statement_anew(sqlite_url: str) -> None:
    """Not even when somebody looked in between: compiling them took half of the time of a lone purchase."""
    books = Books(sqlite_url)
    books.enrol("ann")
    compiled: list[int] = []

    def hear(action: int, *_: object) -> int:
        compiled.append(action)
        return sqlite3.SQLITE_OK

    with books.db.connect() as conn:
        driver = conn.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_authorizer(hear)
    for _ in range(3):  # the first purchase of a member, of a day, and the one after
        books.buy("ann", 500)
    assert compiled
    for _ in range(3):
        with reading(books.db) as conn:
            conn.execute(sa.text("SELECT count(*) FROM record")).scalar_one()
        compiled.clear()
        books.buy("ann", 500)
        assert set(compiled) <= {sqlite3.SQLITE_TRANSACTION}
    books.db.dispose()


def test_two_who_write_the_same_row_for_the_first_time_have_collided(database_url: str) -> None:
    """The store's statements raise the driver's own errors, past SQLAlchemy."""
    db = connect(database_url)
    store = Store(db.dialect.name)
    with db.begin() as conn:
        conn.execute(sa.text("CREATE TABLE shelf (n INTEGER PRIMARY KEY, left_over INTEGER NOT NULL)"))
        store.cursor(conn).execute("INSERT INTO shelf VALUES (1, 1)")
    for said, collision in (("(1, 2)", True), ("(2, NULL)", False), ("('x', 1)", False)):
        with pytest.raises(Exception) as raised, db.begin() as conn:  # noqa: PT011 - each driver has its own
            store.cursor(conn).execute(f"INSERT INTO shelf VALUES {said}")
        assert database.collided(raised.value) is collision, raised.value
        with pytest.raises(sa.exc.DBAPIError) as wrapped, db.begin() as conn:
            conn.execute(sa.text(f"INSERT INTO shelf VALUES {said}"))
        assert database.collided(wrapped.value) is collision, wrapped.value
    db.dispose()


def test_books_named_by_a_relative_path_are_the_same_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    db = database.connect("sqlite:///tally.db")
    (tmp_path / "elsewhere").mkdir()
    with db.begin() as conn:
        conn.execute(sa.text("CREATE TABLE shelf (n INTEGER)"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    with db.begin() as conn:
        conn.execute(sa.text("INSERT INTO shelf VALUES (1)"))
    db.dispose()
    assert not [*(tmp_path / "elsewhere").iterdir()]


WRITES_ONCE = """
import sys
import sqlalchemy as sa
from tallystick.database import connect
with connect(sys.argv[1]).begin() as conn:
    conn.execute(sa.text("INSERT INTO shelf VALUES (2)"))
"""


def _is_held(place: Path) -> bool:
    fcntl = pytest.importorskip("fcntl")
    if not place.exists():
        return False
    with place.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@contextmanager
def _another_waits_while_we_write(db: sa.Engine) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The other process, which asks for the write lock that we have until this ends, and the place where it waits."""
    file = database_file(db)
    assert file is not None
    place = file.with_name(f"{file.name}-next")
    with db.begin() as conn:
        conn.execute(sa.text("CREATE TABLE shelf (n INTEGER)"))
    with db.begin() as conn:
        conn.execute(sa.text("INSERT INTO shelf VALUES (1)"))
        other = subprocess.Popen([sys.executable, "-c", WRITES_ONCE, db.url.render_as_string()])
        patience = time.monotonic() + 60
        while not _is_held(place) and other.poll() is None and time.monotonic() < patience:
            time.sleep(0.01)
        yield other, place


def test_a_process_that_writes_without_pause_lets_the_others_have_their_turn(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite gives its lock to whoever asks at the right moment: who just had it always does, who sleeps never."""
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 120)  # however slow the other is
    db = connect(sqlite_url)
    with _another_waits_while_we_write(db) as (other, _):
        pass
    with db.begin() as conn:  # at once again: the other comes first
        assert conn.execute(sa.text("SELECT n FROM shelf ORDER BY n")).scalars().all() == [1, 2]
    assert other.wait(60) == 0
    db.dispose()


def test_a_process_that_dies_while_it_waits_to_write_holds_nobody_up(sqlite_url: str) -> None:
    db = connect(sqlite_url)
    with _another_waits_while_we_write(db) as (other, place):
        assert _is_held(place)
        other.kill()
        other.wait(60)
        assert not _is_held(place)
    with db.begin() as conn:
        assert conn.execute(sa.text("SELECT n FROM shelf")).scalars().all() == [1]
    db.dispose()


def test_where_nobody_can_wait_in_line_everybody_asks_at_once(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no such lock, and some folders cannot be written."""
    monkeypatch.setattr(database, "fcntl", None)
    db = connect(sqlite_url)
    with db.begin() as conn:
        conn.execute(sa.text("CREATE TABLE shelf (n INTEGER)"))
    file = database_file(db)
    assert file is not None
    assert not file.with_name(f"{file.name}-next").exists()
    db.dispose()
