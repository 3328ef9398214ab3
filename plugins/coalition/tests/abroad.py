"""Two brands that run deployments of their own, each with its own database and secret, and really talk over loopback."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from plugins.coalition.tests.conftest import FLOWS, START, Town, agree, key_of, signed
from tallystick import config, discovery, house, passes, switchboard, vault
from tallystick.document import Document
from tallystick.ledger import instant
from tallystick.web import build_app
from tallystick_coalition import agreement as agreements
from tallystick_coalition import signing
from tallystick_coalition.agreement import Agreement
from tallystick_coalition.exchange import Answer, Message
from tallystick_coalition.line import private_key

BRANDS = ("fuel", "grocer")


def other(brand: str) -> str:
    return BRANDS[1 - BRANDS.index(brand)]


class Abroad:
    """Fuel and grocer, far from each other."""

    def __init__(self, folder: Path, urls: Mapping[str, str], stack: ExitStack) -> None:
        self.clock = [instant(START - timedelta(days=3650))]
        self.towns: dict[str, Town] = {}
        self.numbers: dict[str, int] = {}  #: of the member who was linked last, at each brand
        self._serving: dict[str, tuple[uvicorn.Server, threading.Thread, socket.socket]] = {}
        self.folder, self.urls, self._stack = folder, urls, stack
        self.doors: dict[str, socket.socket] = {}
        for brand in BRANDS:
            self.move(brand)
        self.prints: dict[str, list[str]] = {}
        for brand in BRANDS:
            (folder / brand).mkdir()
            (folder / brand / "secret").write_text(f"the secret of {brand}, which nobody else knows")
        for brand in BRANDS:
            self.prints[brand] = [self.print_of(other(brand))]
            self.towns[brand] = self._build(brand)
        self.clock[0] = instant(START)
        for brand in BRANDS:
            self.serve(brand)

    def move(self, brand: str) -> None:
        """The brand can be reached at another address from now on."""
        self.doors[brand] = socket.create_server(("127.0.0.1", 0))
        self._stack.callback(self.doors[brand].close)

    def secret(self, brand: str) -> bytes:
        return vault.derive(f"the secret of {brand}, which nobody else knows".encode())

    def private(self, brand: str, number: int = 1) -> str:
        """The key by which *brand* speaks to the other."""
        return private_key(_Of(brand, self.secret(brand)), other(brand), number)  # type: ignore[arg-type]

    def print_of(self, brand: str, number: int = 1) -> str:
        return agreements.fingerprint(agreements.public_key(self.private(brand, number)))

    def path(self, brand: str, partner: str = "") -> str:
        """Where *brand* hears a partner."""
        opened = passes.Pass("coalition.hear", brand, (partner or other(brand),))
        return f"/v1/coalition/partners/{passes.issue(self.secret(brand), opened)}"

    def settings(self, brand: str) -> str:
        partner = other(brand)
        url = f"http://127.0.0.1:{self.doors[partner].getsockname()[1]}{self.path(partner)}"
        return (
            f'[house]\ndatabase = "{self.urls[brand]}"\nsecret_file = "secret"\n'
            f'[tenants.{brand}]\nzone = "America/New_York"\ncurrency = "USD"\n'
            f'[tenants.{brand}.plugins.points]\nexpiry = {{ policy = "rolling", after = "P12M" }}\n[tenants.{brand}.plugins.points.gift]\n'
            f'[tenants.{brand}.plugins.coalition]\nkey = {{ file = "key" }}\nunit_cost = "1/2"\n'
            f'[tenants.{brand}.plugins.coalition.partners.{partner}]\nurl = "{url}"\n'
            f"fingerprints = {msgspec.json.encode(self.prints[brand]).decode()}\n"
        )

    def _build(self, brand: str) -> Town:
        folder = self.folder / brand
        (folder / "key").write_text(key_of(brand))
        file = folder / "tally.toml"
        file.write_text(self.settings(brand))
        installed = discovery.discover()
        checked = config.check(Document.read(file), installed=installed, folder=folder)
        assert not checked.unavailable, checked.unavailable
        house.prepare(checked, installed=installed)
        built = house.build_house(checked, installed=installed, clock=lambda: self.clock[0])
        built.open()
        self._stack.callback(built.close)
        return Town(built, self.clock, (brand,))

    def configure(self, brand: str, **partner: Any) -> None:
        """Other settings of the brand's partner, while it serves."""
        town = self.towns[brand]
        said = dict(switchboard.settings_of(town.house.tenants()[brand], "coalition"))
        partners = {name: {**table, **partner} for name, table in said["partners"].items()}
        switchboard.configure(town.house, brand, "coalition", {**said, "partners": partners}, actor="test")

    def serve(self, brand: str) -> None:
        server = uvicorn.Server(uvicorn.Config(build_app(self.towns[brand].house), log_level="error", lifespan="off"))
        door = self.doors[brand].dup()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        self._serving[brand] = server, thread, door
        self._stack.callback(self.hang_up, brand)

    def hang_up(self, brand: str) -> None:
        """The brand answers nobody any more."""
        server, thread, door = self._serving[brand]
        server.should_exit = True
        thread.join(120)
        door.close()
        assert not thread.is_alive()

    def agree(self, agreement: Agreement) -> None:
        for brand, town in self.towns.items():
            town.send(brand, "coalition.agreed", {"partner": other(brand), **signed(agreement)})

    def link(self, name: str, *brands: str, first: str = "grocer") -> str:
        """Somebody who joined *brands* agrees to be known between them; the code."""
        alias = ""
        for brand in sorted(brands, key=lambda each: each != first):
            town = self.towns[brand]
            self.numbers[brand] = town.member(brand, name)
            alias = town.desk(brand).link(other(brand), self.numbers[brand], alias)
        return alias

    def say(self, speaker: str, message: Message, **changed: Any) -> tuple[int, dict[str, str], bytes]:
        """Post a message as *speaker* would, or with something *changed*; what is answered."""
        body, headers, path = self.written(speaker, message, **changed)
        return self.post(other(speaker), path, body, headers)

    def written(
        self,
        speaker: str,
        message: Message,
        *,
        at: int = 0,
        private: str = "",
        path: str = "",
        nonce: str = "",
        body: bytes = b"",
    ) -> tuple[bytes, dict[str, str], str]:
        self.clock[0] += 1  # every message has a later number
        private = private or self.private(speaker)
        path = path or self.path(other(speaker))
        body = body or msgspec.json.encode(message)
        stamp = signing.Stamp(agreements.public_key(private), at or self.clock[0], nonce or f"{self.clock[0]:022d}")
        return body, signing.sign_request(private, path, body, stamp), path

    def post(
        self, brand: str, path: str, body: bytes, headers: Mapping[str, str], method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        line = http.client.HTTPConnection("127.0.0.1", self.doors[brand].getsockname()[1], timeout=60)
        try:
            line.request(method, path, body, dict(headers))
            said = line.getresponse()
            return said.status, {name.lower(): text for name, text in said.getheaders()}, said.read()
        finally:
            line.close()

    def answer(self, speaker: str, message: Message) -> Answer:
        """What the other answers, whose signature holds."""
        body, headers, path = self.written(speaker, message)
        status, got, said = self.post(other(speaker), path, body, headers)
        signing.check_answer(self.prints[speaker], status, got, said, headers["signature"])
        return msgspec.json.decode(said, type=Answer)


class _Of:
    """As much of an errand as a key is made of."""

    def __init__(self, tenant: str, secret: bytes) -> None:
        self.tenant, self.house, self.secret = tenant, self, secret


@contextmanager
def abroad(folder: Path, urls: Sequence[str]) -> Iterator[Abroad]:
    with ExitStack() as stack:
        made = Abroad(folder, dict(zip(BRANDS, urls, strict=True)), stack)
        made.agree(agree("grocer", "fuel", FLOWS))
        yield made
