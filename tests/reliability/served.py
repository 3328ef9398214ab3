"""Houses that really serve, tills that remember every answer they got, and what the books must then say."""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from tallystick import database, discovery, proofs, tables
from tallystick.cli import establish
from tallystick.ledger import Record, read_record

ROOT = Path(__file__).parents[2]
#: What is tested here is tested there: a planted copy of the core comes first.
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', ROOT)}:{ROOT}:{ROOT / 'core'}"}
PROGRAMME = """
[house]
database = "{url}"
secret_file = "tally.secret"
log_level = "warning"
[tenants.shop]
name = "Shop"
zone = "Europe/Berlin"
currency = "EUR"
[tenants.shop.plugins.points]
[[tenants.shop.plugins.points.earn]]
name = "base"
points = 1
per = 100
[tenants.shop.plugins.points.redeem]
points = 1
gives = 1
[[tenants.shop.plugins.points.rewards]]
name = "cup"
cost = 1000
"""


class Nursery:
    """Starts servers in a fraction of a second each."""

    def __init__(self, **environ: str) -> None:
        command = [sys.executable, "-m", "tests.reliability.nursery"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT | environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.asking = threading.Lock()

    def ask(self, *command: str | int) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.asking:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


class Server:
    """One `tally serve` with all its processes."""

    def __init__(self, nursery: Nursery, folder: Path, *, workers: int) -> None:
        self.nursery = nursery
        log = folder / f"serve-{time.monotonic_ns()}.log"
        self.pid = nursery.ask("start", str(folder), str(log), "serve", "--port", "0", "--workers", str(workers))
        wait_until(lambda: log.exists() and re.search(r"http://127.0.0.1:\d+\b", log.read_text()) is not None, log)
        found = re.search(r"http://127.0.0.1:(\d+)\b", log.read_text())
        assert found is not None
        self.port, self.log = int(found[1]), log

    def kill(self) -> None:
        """Nobody gets to say a word."""
        os.killpg(self.pid, signal.SIGKILL)
        assert self.nursery.ask("await", self.pid) == -signal.SIGKILL

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        self.nursery.ask("await", self.pid)


def wait_until(holds: Callable[[], bool], log: Path | None = None, *, within: float = 120) -> None:
    """Raises AssertionError, with what the log says, if it does not hold *within* so many seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, log.read_text() if log is not None and log.exists() else "it never came"
        time.sleep(0.01)


class Shop:
    """A folder with a house in it, and a database with members who have points."""

    def __init__(self, folder: Path, url: str, members: Sequence[str], *, more: str = "") -> None:
        self.folder, self.url, self.members = folder, url, members
        text = PROGRAMME.format(url=url) + more
        self.key = establish(folder / "tally.toml", text, discovery.discover())
        self.headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}

    def join(self, port: int, at: datetime | None = None) -> None:
        """The members join, and each buys something for 1,000 points."""
        for name in self.members:
            self.post(port, "/v1/members", {"external_ids": [name]})
            self.post(port, "/v1/events", event("purchase.completed", f"first-{name}", name, at, lines=100_000))

    def ask(self, port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request(method, path, body, self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def post(self, port: int, path: str, document: object) -> bytes:
        status, said = self.ask(port, "POST", path, json.dumps(document).encode())
        assert status in (200, 201, 202), said
        return said

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        db = database.connect(self.url)
        try:
            with database.reading(db) as conn:
                yield conn
        finally:
            db.dispose()

    def records(self, source: str = "till") -> list[Record]:
        """What tills sent, or everybody, as it was recorded; the books prove."""
        with self.reading() as conn:
            assert proofs.verify(conn).findings == ()
            found = [read_record(bytes(body)) for body in conn.scalars(sa.select(tables.record.c.body))]
        return [record for record in found if source in ("", record.source)]

    def writers(self) -> list[tuple[int, int]]:
        """(number, epoch) of every writer's row."""
        with self.reading() as conn:
            rows = tables.writer
            return [(row.id, row.epoch) for row in conn.execute(sa.select(rows.c.id, rows.c.epoch).order_by(rows.c.id))]


def event(
    kind: str, name: str, member: str, at: datetime | None = None, *, lines: int = 0, **data: object
) -> dict[str, object]:
    if lines:
        data |= {"order": name, "currency": "EUR", "lines": [{"sku": "cup", "amount": lines}]}
    time = (at or datetime.now(UTC)).isoformat()
    return {"id": name, "source": "till", "type": kind, "time": time, "member": member, "data": data}


class Till:
    """Sends sales, spends and returns; remembers what was answered, and sends again what was not, in that order."""

    def __init__(self, shop: Shop, number: int, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.shop, self.number, self.chance, self.now = shop, number, random.Random(number), now
        self.waiting: deque[tuple[str, bytes]] = deque()
        self.answered: dict[str, tuple[bytes, int, bytes]] = {}  #: id -> what was sent, the status and what was said
        self.refused: set[str] = set()
        self.orders: list[str] = []
        self.errors: list[str] = []
        self.n = 0

    def new(self) -> tuple[str, bytes]:
        self.n += 1
        name, member = f"{self.number}-{self.n}", self.chance.choice(self.shop.members)
        match self.chance.randrange(6):
            case 0 | 1 | 2:
                self.orders.append(name)
                kind, more = "purchase.completed", {"lines": self.chance.randrange(1, 5_000)}
            case 3 | 4:
                kind, more = "points.redeemed", {"points": self.chance.randrange(1, 60), "order": f"to-{name}"}
            case _:
                order = self.orders.pop() if self.orders else f"{self.number}-none"
                kind, member, more = "purchase.refunded", "", {"order": order}
        document = event(kind, name, member, self.now(), **more)  # type: ignore[arg-type]
        return name, json.dumps(document).encode()

    def work(self, port: int, stop: threading.Event) -> None:
        """Until told to stop, or until nobody listens any more."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while not stop.is_set():
                if not self.waiting:
                    again = self.answered and self.chance.random() < 0.1
                    name = self.chance.choice([*self.answered][-50:]) if again else ""
                    self.waiting.append((name, self.answered[name][0]) if name else self.new())
                try:
                    connection.request("POST", "/v1/events", self.waiting[0][1], self.shop.headers)
                    answer = connection.getresponse()
                    status, said = answer.status, answer.read()
                except (OSError, http.client.HTTPException):
                    return
                self.heard(status, said)

    def heard(self, status: int, said: bytes) -> None:
        if status in (429, 503):
            time.sleep(0.02)
            return
        name, body = self.waiting.popleft()
        if status in (200, 202):
            if self.answered.setdefault(name, (body, status, said)) != (body, status, said):
                self.errors.append(f"{name} was answered in two ways")
        elif status in {422, 409}:
            self.refused.add(name)
            if name in self.answered:
                self.errors.append(f"{name} was recorded and then refused: {said!r}")
        else:
            self.errors.append(f"{name}: {status} {said!r}")


@contextlib.contextmanager
def at_work(tills: Sequence[Till], port: int) -> Iterator[None]:
    """All tills send as long as this lasts."""
    stop = threading.Event()
    threads = [threading.Thread(target=till.work, args=(port, stop)) for till in tills]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(180)
            assert not thread.is_alive(), "a till waits for ever"


def drain(tills: Sequence[Till], port: int) -> None:
    """Send what is still unanswered, until everything is answered."""
    for till in tills:
        deadline = time.monotonic() + 120
        while till.waiting:
            assert time.monotonic() < deadline, f"{till.waiting[0]} is never answered"
            till.heard(*till.shop.ask(port, "POST", "/v1/events", till.waiting[0][1]))


def settled(shop: Shop, tills: Sequence[Till]) -> int:
    """What every till was told is in the books, once, as it was told, and nothing else is; how many events that are."""
    errors = [error for till in tills for error in till.errors]
    assert not errors, "\n".join(errors[:5])
    answered = {name: json.loads(said) for till in tills for name, (_, _, said) in till.answered.items()}
    records = [record for record in shop.records() if not record.id.startswith("first-")]
    entries = {record.id: record.entry for record in records if "/" not in record.id}
    assert len(entries) == len([record for record in records if "/" not in record.id]), "an event was recorded twice"
    gone, untold = answered.keys() - entries.keys(), entries.keys() - answered.keys()
    assert not gone, f"acknowledged and gone: {sorted(gone)[:5]}"
    assert not untold, f"recorded, and nobody was told: {sorted(untold)[:5]}"
    assert {name: said["entry"] for name, said in answered.items()} == entries, "told otherwise than recorded"
    return len(entries)


def spelled(shop: Shop, document: object) -> bytes:
    """A request with an event as it goes over the wire."""
    body = json.dumps(document).encode()
    head = f"POST /v1/events HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer {shop.key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def all_at_once(port: int, requests: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Send every request but for its last byte, then all last bytes together; the answers in order."""
    doors = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in requests]
    for door, request in zip(doors, requests, strict=True):
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        door.sendall(request[:-1])
    time.sleep(0.05)
    for door, request in zip(doors, requests, strict=True):
        door.sendall(request[-1:])
    answers = []
    for door in doors:
        with contextlib.closing(door):
            answer = http.client.HTTPResponse(door)
            answer.begin()
            answers.append((answer.status, answer.read()))
    return answers
