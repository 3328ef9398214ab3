"""How a database is opened and let go of."""

from __future__ import annotations

from typing import Any

from tallystick.database import connect


def _is_closed(connection: Any) -> bool:
    try:
        connection.execute("SELECT 1").close()
    except Exception:  # noqa: BLE001  each driver has its own word for it
        return True
    return False


def test_a_connection_that_comes_back_after_the_house_let_go_is_closed(database_url: str) -> None:
    """A thread that was slower than the stop of the house leaves no session open in the database."""
    db = connect(database_url)
    conn = db.connect()
    raw = conn.connection.dbapi_connection
    db.dispose()
    conn.close()
    assert _is_closed(raw)
    with db.connect() as again:
        kept = again.connection.dbapi_connection
    assert not _is_closed(kept)
    db.dispose()
    assert _is_closed(kept)
