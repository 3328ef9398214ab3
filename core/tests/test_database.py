"""How a database is opened and let go of."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from core.tests.books import Books
from tallystick.database import connect, reading


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
