"""`tally serve` as a process of its own: several workers, one dying, all told to stop in the middle of the work."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa

from tallystick import database, proofs, tables

TALLY = [sys.executable, "-c", "from tallystick.__main__ import main; main()"]


class Served:
    """A house that serves, and what was said to it."""

    def __init__(self, folder: Path, url: str, workers: int, program: Sequence[str] = TALLY) -> None:
        self.folder, self.url = folder, url
        self.environ = {**os.environ, "TALLY__HOUSE__DATABASE": url}
        self.key = json.loads(self.tally("init", "--json"))["key"]
        self.tally("member", "add", "ann")
        words = ["serve", "--port", "0", "--workers", str(workers)]
        self.process = subprocess.Popen(
            [*program, *words], cwd=folder, env=self.environ, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"http://127.0.0.1:(\d+)", line):
                self.port = int(found[1])
                break
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.reader.start()
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.unanswered: set[str] = set()

    def tally(self, *words: str) -> str:
        said = subprocess.run(
            [*TALLY, *words], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=True
        )
        return said.stdout

    def ask(self, body: bytes | None = None, path: str = "/readyz") -> int:
        """Status of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        try:
            connection.request("POST" if body else "GET", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def buy(self, name: str) -> None:
        data = {"order": name, "currency": "USD", "lines": [{"sku": "cup", "amount": 100}]}
        event = {
            "id": name, "source": "till", "type": "purchase.completed", "time": datetime.now(UTC).isoformat(), "member": "ann", "data": data,
        }  # fmt: skip
        try:
            status = self.ask(json.dumps(event).encode(), "/v1/events")
        except (OSError, http.client.HTTPException):
            self.unanswered.add(name)
        else:
            (self.accepted if status in (200, 201, 202) else self.refused).add(name)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline, "it does not come to that"
            time.sleep(0.05)

    def ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask() == 200
        return False

    def children(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def recorded(self) -> set[str]:
        db = database.connect(self.url)
        try:
            with database.reading(db) as conn:
                assert proofs.verify(conn).ok
                return set(conn.scalars(sa.select(tables.claim.c.id).where(tables.claim.c.source == "till")))
        finally:
            db.dispose()

    def writers_at_work(self) -> int:
        db = database.connect(self.url)
        try:
            with database.reading(db) as conn:
                return conn.scalar(sa.select(sa.func.count()).where(tables.writer.c.holder != "")) or 0
        finally:
            db.dispose()


@pytest.fixture
def serve(tmp_path: Path, database_url: str) -> Iterator[Callable[[int], Served]]:
    running: list[Served] = []

    def start(workers: int, program: Sequence[str] = TALLY) -> Served:
        served = Served(tmp_path, database_url, workers, program)
        running.append(served)
        served.wait_until(lambda: served.ready() and served.writers_at_work() == workers)
        return served

    yield start
    for served in running:
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(60)  # a busy machine stops slowly
        served.reader.join()
        served.process.stderr.close()


def load(served: Served, tills: int, stop: threading.Event) -> list[threading.Thread]:
    def till(number: int) -> None:
        n = 0
        while not stop.is_set():
            served.buy(f"{number}-{n}")
            n += 1

    threads = [threading.Thread(target=till, args=(number,)) for number in range(tills)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize("workers", [1, 2])
def test_told_to_stop_in_the_middle_it_drops_nothing_it_took(serve: Callable[[int], Served], workers: int) -> None:
    served, stop = serve(workers), threading.Event()
    threads = load(served, 6, stop)
    served.wait_until(lambda: len(served.accepted) > 60)
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) in (0, -signal.SIGTERM)
    stop.set()
    for thread in threads:
        thread.join()
    recorded = served.recorded()
    assert served.accepted <= recorded
    assert recorded <= served.accepted | served.unanswered  # who was refused may send it again
    assert len(recorded - served.accepted) <= 6  # an answer on a connection that was just closing
    assert served.writers_at_work() == 0  # the leases were given back


def test_a_worker_that_dies_is_replaced_and_loses_nothing(serve: Callable[[int], Served]) -> None:
    served, stop = serve(2), threading.Event()
    before = served.children()
    threads = load(served, 4, stop)
    served.wait_until(lambda: len(served.accepted) > 20)
    os.kill(min(before), signal.SIGKILL)
    served.wait_until(lambda: len(served.children() - before) == 1)
    after = len(served.accepted)
    served.wait_until(lambda: len(served.accepted) > after + 20)
    stop.set()
    for thread in threads:
        thread.join()
    assert served.accepted <= served.recorded()
    assert not served.refused


def test_all_are_renewed_one_after_the_other(serve: Callable[[int], Served]) -> None:
    served = serve(2)
    before = served.children()
    served.process.send_signal(signal.SIGHUP)
    served.wait_until(lambda: len(served.children()) == 2 and not served.children() & before)
    served.wait_until(served.ready)
    served.buy("afterwards")
    assert served.accepted == {"afterwards"}


def test_nobody_is_renewed_before_the_last_who_was_serves_again(serve: Callable[..., Served]) -> None:
    """Or for as long as a house takes to open nobody would answer."""
    waiting = (
        "import os, time, tallystick.house as house; first, build = os.getpid(), house.build_house\n"
        "def slowly(*given, **more):\n"
        "    while os.getpid() != first and os.path.exists('shut'): time.sleep(0.05)\n"
        "    return build(*given, **more)\n"
        f"house.build_house = slowly; {TALLY[-1]}"
    )
    served = serve(2, [*TALLY[:-1], waiting])
    before, shut = served.children(), served.folder / "shut"
    shut.touch()
    served.process.send_signal(signal.SIGHUP)
    served.wait_until(lambda: len(served.children() - before) == 1 and len(served.children()) == 2)
    time.sleep(1)  # it would have been told by now
    assert len(served.children() & before) == 1
    served.buy("meanwhile")
    shut.unlink()
    served.wait_until(lambda: len(served.children()) == 2 and not served.children() & before)
    served.wait_until(served.ready)
    assert served.accepted == {"meanwhile"}


def test_who_was_let_in_just_before_the_end_is_answered(serve: Callable[[int], Served]) -> None:
    served = serve(1)

    def let_in() -> bool:
        local = client.getsockname()
        return any(each.raddr == local for each in psutil.Process(served.process.pid).net_connections("tcp"))

    def closed() -> bool:
        try:
            socket.create_connection(("127.0.0.1", served.port), timeout=60).close()
        except ConnectionRefusedError:
            return True
        return False

    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as client:
        served.wait_until(let_in)
        served.process.send_signal(signal.SIGTERM)
        served.wait_until(closed)
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: house\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_worker_that_hangs_is_killed_and_replaced(serve: Callable[..., Served]) -> None:
    impatient = f"from tallystick import server; server.HUNG, server.OPENING = 8.0, 20.0; {TALLY[-1]}"
    served = serve(2, [*TALLY[:-1], impatient])
    first, second = served.children()
    os.kill(first, signal.SIGSTOP)  # it answers nothing, and it does not die
    served.wait_until(lambda: first not in served.children() and len(served.children()) == 2)
    assert second in served.children(), "nobody else is touched"
    served.wait_until(served.ready)
    served.buy("after")
    served.wait_until(lambda: served.ask() == 200)
    assert served.accepted == {"after"}
