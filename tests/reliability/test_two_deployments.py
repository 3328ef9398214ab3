"""Two brands with deployments of their own, one on SQLite and one on PostgreSQL: lines are cut, messages come twice and late,
either is killed; and every transfer is on both sides or on neither, once.
"""

import base64
import contextlib
import http.client
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa

from tallystick import database, discovery, passes, proofs, vault
from tallystick.cli import establish
from tallystick_coalition import agreement as agreements
from tallystick_coalition.line import private_key
from tests.reliability.served import Nursery, Server

#: How often a server is killed; in between, both are at work for about a second.
KILLS = int(os.environ.get("TALLY_PARTNERS_KILLED", "4"))
BRANDS = ("fuel", "grocer")
MEMBERS = ("ann", "bob", "eve")
GIVEN = 1_000_000


def other(brand: str) -> str:
    return BRANDS[1 - BRANDS.index(brand)]


class Net:
    """Stands before a server: loses messages and answers, hands messages on twice, and keeps some to say them again later."""

    def __init__(self, seed: int) -> None:
        self.door = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port, self.to, self.bad, self.dice = self.door.getsockname()[1], 0, True, random.Random(seed)
        self.fates = {"lost": 0, "answer lost": 0, "twice": 0, "again": 0, "passed": 0}
        self.heard: list[bytes] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self.door.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            line.settimeout(10)
            asked = self._read(line)
            roll = self.dice.random() if self.bad else 1.0
            fate = (
                "lost"
                if roll < 0.06
                else "answer lost"
                if roll < 0.12
                else "twice"
                if roll < 0.2
                else "again"
                if roll < 0.28
                else "passed"
            )
            self.fates[fate] += 1
            if fate == "lost":
                return
            said = self.say(asked)
            if b" 200 OK" in said[:20]:  # it was heard, whatever else happens
                self.heard.append(asked)
                if fate == "twice":
                    assert b" 200 OK" not in self.say(asked)[:20], "the same message was heard twice"
                if fate == "again":
                    assert b" 200 OK" not in self.say(self.dice.choice(self.heard))[:20], (
                        "an old message was heard again"
                    )
            if fate != "answer lost":
                line.sendall(said)

    def say(self, asked: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.to), timeout=10) as line:
            line.sendall(asked)
            return b"".join(iter(lambda: line.recv(65_536), b""))

    def _more(self, line: socket.socket) -> bytes:
        if not (more := line.recv(65_536)):
            raise OSError("whoever spoke died")
        return more

    def _read(self, line: socket.socket) -> bytes:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += self._more(line)
        head, _, body = asked.partition(b"\r\n\r\n")
        length = int(
            next(each for each in head.lower().split(b"\r\n") if each.startswith(b"content-length:")).split(b":")[1]
        )
        while len(body) < length:
            body += self._more(line)
        return head + b"\r\n\r\n" + body


class Place:
    """One brand's deployment, and what apps and tills sent to it."""

    def __init__(self, brand: str, folder: Path, url: str, nursery: Nursery) -> None:
        self.brand, self.folder, self.url, self.nursery = brand, folder, url, nursery
        self.net = Net(BRANDS.index(brand))
        self.secret = vault.derive(f"the secret of {brand}".encode())
        self.key, self.server = "", None
        self.undecided: dict[str, tuple[str, dict[str, object]]] = {}
        self.errors: list[str] = []
        self.decided = 0  #: transfers of which it was told how they ended

    @property
    def tenant(self) -> str:
        return self.brand

    @property
    def house(self) -> "Place":
        return self

    def settle_down(self, partner: "Place") -> None:
        opened = passes.issue(partner.secret, passes.Pass("coalition.hear", partner.brand, (self.brand,)))
        known = agreements.fingerprint(agreements.public_key(private_key(partner, self.brand, 1)))  # type: ignore[arg-type]
        (self.folder / "secret").write_text(f"the secret of {self.brand}")
        (self.folder / "key").write_text(private_of(self.brand))
        text = (
            f'[house]\ndatabase = "{self.url}"\nsecret_file = "secret"\nlog_level = "error"\n'
            f'[tenants.{self.brand}]\nzone = "UTC"\ncurrency = "USD"\n[tenants.{self.brand}.plugins.points]\n[tenants.{self.brand}.plugins.points.gift]\n'
            f'[tenants.{self.brand}.plugins.coalition]\nkey = {{ file = "key" }}\n'
            f"[tenants.{self.brand}.plugins.coalition.partners.{partner.brand}]\n"
            f'url = "http://127.0.0.1:{partner.net.port}/v1/coalition/partners/{opened}"\nfingerprints = ["{known}"]\n'
        )
        self.key = establish(self.folder / "tally.toml", text, discovery.discover())

    def serve(self) -> None:
        self.server = Server(self.nursery, self.folder, workers=1)
        self.net.to = self.server.port

    def ask(self, path: str, document: object) -> tuple[int, dict[str, object]]:
        assert self.server is not None
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)) as line:
            headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
            line.request("POST", path, json.dumps(document), headers)
            said = line.getresponse()
            return said.status, json.loads(said.read())

    def event(self, kind: str, id: str, data: Mapping[str, object], member: str = "") -> None:
        document = {"id": id, "source": "desk", "type": kind, "time": datetime.now(UTC).isoformat(), "data": data}
        status, said = self.ask("/v1/events", {**document, "member": member} if member else document)
        assert status == 200, said

    def work(self, stop: threading.Event, number: int, codes: Mapping[str, str]) -> None:
        """Transfers, most of them new, some said again."""
        dice, n = random.Random(f"{self.brand}/{number}"), 0
        while not stop.is_set():
            name = dice.choice(MEMBERS)
            if self.undecided and dice.random() < 0.3:
                path, document = dice.choice(list(self.undecided.values()))
            else:
                n += 1
                document = {"transfer": f"{self.brand}-{number}-{time.time_ns()}", "partner": other(self.brand)}
                if self.brand == "grocer":
                    path, document["points"] = f"/v1/coalition/members/{name}/conversions", dice.randrange(10, 300)
                elif dice.randrange(2):
                    path, document["amount"], document["alias"] = (
                        "/v1/coalition/earnings",
                        dice.randrange(500, 9_000),
                        codes[name],
                    )
                else:
                    path, document["points"], document["alias"] = (
                        "/v1/coalition/payments",
                        dice.randrange(10, 300),
                        codes[name],
                    )
            transfer = str(document["transfer"])
            self.undecided[transfer] = path, document
            try:
                status, said = self.ask(path, document)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.05)
                continue
            ended = status == 200 and said["state"] != "held"
            # a transfer that was given up cannot be used again; one that is said twice at the same moment may be refused
            if ended or (status == 422 and said["code"] in ("coalition_transfer_closed", "coalition_mismatch")):
                self.undecided.pop(transfer, None)
                self.decided += 1
            elif status not in (200, 429, 503):
                self.errors.append(f"{status} {said}")

    def runs(self, *words: str) -> str:
        """A command of `tally` in this place."""
        log = self.folder / f"{words[1]}-{time.monotonic_ns()}.log"
        pid = self.nursery.ask("start", str(self.folder), str(log), *words)
        assert self.nursery.ask("await", pid) == 0, log.read_text()
        return log.read_text()

    def entries(self) -> list[tuple[object, ...]]:
        """What the books say of the partner; and they prove."""
        db = database.connect(self.url)
        try:
            with database.reading(db) as conn:
                assert proofs.verify(conn).findings == ()
                names = "period, transfer, n, kind, source, target, amount, gets, owed, agreement"
                return [
                    tuple(row)
                    for row in conn.execute(sa.text(f"SELECT {names} FROM coalition_entry ORDER BY transfer, n"))
                ]
        finally:
            db.dispose()

    def points(self) -> int:
        db = database.connect(self.url)
        try:
            with database.reading(db) as conn:
                return int(conn.scalar(sa.text("SELECT coalesce(sum(remaining), 0) FROM lot")) or 0)
        finally:
            db.dispose()


def private_of(brand: str) -> str:
    return base64.b64encode(sha256(brand.encode()).digest()).decode()


def agreement() -> dict[str, object]:
    flows = [
        {"kind": "convert", "source": "grocer", "target": "fuel", "rate": "2/3", "price": "1/2"},
        {"kind": "earn", "source": "fuel", "target": "grocer", "rate": "1/100", "price": "1"},
        {"kind": "redeem", "source": "grocer", "target": "fuel", "rate": "1", "price": "4/5"},
    ]
    keys = {brand: [agreements.public_key(private_of(brand))] for brand in BRANDS}
    document = {
        "format": agreements.FORMAT, "name": "fuel-grocer", "version": 1, "brands": BRANDS, "keys": keys, "currency": "USD",
        "since": "2026-01-01T00:00:00Z", "flows": flows,
    }  # fmt: skip
    import msgspec

    text = agreements.canonical(msgspec.convert(document, type=agreements.Agreement))
    agreements.read(text)
    signatures = {brand: agreements.sign(private_of(brand), agreements.PURPOSE, text.encode()) for brand in BRANDS}
    return {"text": text, "signatures": signatures}


@pytest.fixture
def places(tmp_path: Path, make_database: Callable[[], str]) -> Iterator[dict[str, Place]]:
    nursery = Nursery()
    try:
        urls = {"fuel": f"sqlite:///{tmp_path / 'fuel.db'}", "grocer": make_database()}
        made = {}
        for brand in BRANDS:
            (tmp_path / brand).mkdir()
            made[brand] = Place(brand, tmp_path / brand, urls[brand], nursery)
        for place in made.values():
            place.settle_down(made[other(place.brand)])
            place.serve()
        yield made
        for place in made.values():
            if place.server is not None:
                place.server.kill()
    finally:
        nursery.close()


@contextlib.contextmanager
def at_work(places: Mapping[str, Place], codes: Mapping[str, str]) -> Iterator[None]:
    stop = threading.Event()
    threads = [
        threading.Thread(target=place.work, args=(stop, number, codes))
        for place in places.values()
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(180)
            assert not thread.is_alive(), "somebody waits for ever"


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
def test_what_is_cut_repeated_and_killed_is_on_both_sides_or_on_neither(places: dict[str, Place]) -> None:
    codes = {}
    for brand in ("grocer", "fuel"):
        place, partner = places[brand], other(brand)
        place.event("coalition.agreed", "agreed", {"partner": partner, **agreement()})
        for name in MEMBERS:
            assert place.ask("/v1/members", {"external_ids": [name]})[0] in (200, 201)
            link = {"partner": partner, **({"alias": codes[name]} if name in codes else {})}
            status, said = place.ask(f"/v1/coalition/members/{name}/links", link)
            assert status == 200, said
            codes[name] = str(said["alias"])
            if brand == "grocer":
                place.event("points.adjusted", f"gift-{name}", {"points": GIVEN, "reason": "test", "by": "staff"}, name)
    dice = random.Random(7)
    with at_work(places, codes):
        for number in range(KILLS):
            before = sum(place.decided for place in places.values())
            deadline = time.monotonic() + 180
            while sum(place.decided for place in places.values()) < before + 6:
                assert time.monotonic() < deadline, "nothing comes to an end"
                time.sleep(0.01)
            time.sleep(dice.random() / 5)
            place = places[BRANDS[number % 2]]
            assert place.server is not None
            place.server.kill()
            place.serve()
        time.sleep(1)
    for place in places.values():
        place.net.bad = False
    month = f"{datetime.now(UTC):%Y-%m}"
    deadline = time.monotonic() + 400
    while True:
        said = [
            json.loads(places[brand].runs("coalition", "settle", "--period", month, "--early", "--json"))
            for brand in ("grocer", "fuel", "grocer")
        ]
        if all(pair["state"] != "open" for one in said[1:] for pair in one["pairs"]):
            break
        assert time.monotonic() < deadline, said
        time.sleep(1)
    assert [pair["state"] for one in said[1:] for pair in one["pairs"]] == ["agreed", "agreed"], said
    books = {brand: place.entries() for brand, place in places.items()}
    assert books["fuel"] == books["grocer"]
    entries = books["grocer"]
    assert len(entries) >= 10 and len({(entry[1], entry[2]) for entry in entries}) == len(entries)
    gone = sum(int(str(entry[6])) for entry in entries if entry[3] != "earn")
    came = {kind: sum(int(str(entry[7])) for entry in entries if entry[3] == kind) for kind in ("convert", "earn")}
    assert places["grocer"].points() == GIVEN * len(MEMBERS) - gone + came["earn"], "points were lost or made"
    assert places["fuel"].points() == came["convert"]
    fates = {fate: sum(place.net.fates[fate] for place in places.values()) for fate in places["fuel"].net.fates}
    assert fates["lost"] + fates["answer lost"] and fates["twice"] + fates["again"], fates
    assert [error for place in places.values() for error in place.errors] == []
    print(f"{len(entries)} transfers, {fates}")  # noqa: T201 - the long form's figures
