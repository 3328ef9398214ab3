"""What the other tests rely on when they ask for a database."""

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, text


def test_a_database_is_empty_and_keeps_what_was_committed(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE stick (notches INTEGER)"))
        connection.execute(text("INSERT INTO stick VALUES (7)"))
    engine.dispose()
    again = create_engine(database_url)
    with again.connect() as connection:
        assert connection.scalar(text("SELECT notches FROM stick")) == 7
    again.dispose()


def test_two_databases_of_one_test_do_not_see_each_other(make_database: Callable[[], str]) -> None:
    engines = [create_engine(make_database()) for _ in range(2)]
    for engine in engines:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE stick (notches INTEGER)"))  # the second would fail on one database
        engine.dispose()


def test_a_missing_program_fails_in_ci(debian_tool: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install nothing"):
        debian_tool("a-program-that-nobody-has", "nothing")
