"""A shop with messages, a receiver of HTTP and a mail server, all real and on loopback."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from core.tests.conftest import Site, site
from tallystick import config, discovery, house, people
from tallystick.document import Document
from tallystick.ledger import instant
from tallystick.testing import Stage, make_stage
from tallystick_notify import sending, store

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: A private key for web push, as `openssl` or the page on it makes one.
VAPID = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
POINTS = """\
[plugins.points]
expiry.policy = "rolling"
expiry.after = "P30D"
remind.days = 7
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
"""
START = datetime(2025, 6, 15, 16, tzinfo=UTC)  # noon in New York


class Shop:
    """A stage whose jobs run when the test says so."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def goes_by(self, **length: float) -> None:
        """Let time pass."""
        self.stage.at(self.stage.now + timedelta(**length))

    def works(self) -> None:
        """Take over what was committed, then deliver until nothing is under way."""
        self.stage.house.run_jobs(force=True, only="core.nothing")
        self.stage.house.run_jobs(force=True, only="notify.deliver")
        sending.wait_for_all()

    def joins(self, name: str, *, language: str = "", **profile: Any) -> int:
        """Somebody joins and says where to be reached."""
        stage = self.stage
        with stage.house.db.begin() as conn:
            number = people.enrol(
                conn, stage.house.secret, "shop", stage.clock[0],
                external_ids=[name], profile=people.Profile(**profile), language=language,
            )  # fmt: skip
        stage._known.add(name)
        return number

    def reminds(self, member: str = "ann") -> None:
        """A member has points that expire soon, and the house says so."""
        self.stage.enrol(member)
        self.stage.send(
            "purchase.completed",
            {
                "order": f"R-{member}-{self.stage.clock[0]}",
                "currency": "USD",
                "lines": [{"sku": "S", "amount": 120000}],
            },
            member=member,
        )
        self.stage.at(self.stage.now + timedelta(days=25))
        self.stage.house.run_jobs(force=True, only="points.remind")
        self.works()

    def tells(
        self, number: int, template: str = "notify.held", purpose: str = "service", key: str = "1", **facts: Any
    ) -> str:
        """A message for a member, as if a plugin had asked for it; its id."""
        now, id = self.stage.clock[0], store.message_id(number, template, key)
        row = {
            "tenant": "shop", "id": id, "member": number, "template": template, "purpose": purpose,
            "facts": json.dumps({"entry": "1-1-0", "order": "R-1", **facts}), "entry": 0, "due_at": now, "expires_at": 0,
            "created_at": now,
        }  # fmt: skip
        with self.stage.house.db.begin() as conn:
            store.keep_messages(conn, [row])
        return id

    def deliveries(self) -> list[tuple[str, str, str]]:
        """(channel, state, reason) of every delivery."""
        return [
            tuple(row)
            for row in self.stage.rows("SELECT channel, state, reason FROM notify_delivery ORDER BY channel, message")
        ]


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    yield from _shops(database_url, tmp_path)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables and nothing in them: to copy it takes less time than to make it."""
    file = tmp_path_factory.mktemp("migrated") / "tally.db"
    text = f'[house]\ndatabase = "sqlite:///{file}"\n[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n'
    text += "".join(f"[tenants.shop.plugins.{name}]\n" for name in ("points", "tiers", "gamification", "notify"))
    installed = discovery.discover()
    house.prepare(config.check(Document(text), installed=installed), installed=installed)
    return file


@pytest.fixture
def small_shop(migrated: Path, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    shutil.copy(migrated, tmp_path / "shop.db")
    yield from _shops(f"sqlite:///{tmp_path / 'shop.db'}", tmp_path)


def _shops(url: str, folder: Path) -> Iterator[Callable[..., Shop]]:
    opened: list[Any] = []

    def open_shop(notify: str, **more: Any) -> Shop:
        found = make_stage(POINTS + "[plugins.notify]\n" + notify, url, folder, **{"start": START, **more})
        opened.append(found)
        return Shop(found.__enter__())

    yield open_shop
    sending.wait_for_all()
    for found in opened:
        found.__exit__(None, None, None)


class Receiver(ThreadingHTTPServer):
    """Receives what is posted; answers with the next of *answers* (status, or status and body), then with *usual*."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.asked: list[str] = []
        self.answers: list[int | tuple[int, bytes]] = []
        self.usual: int | tuple[int, bytes] | Callable[[str, bytes], tuple[int, bytes]] = 204
        self.hold = threading.Event()
        self.hold.set()
        self.arrived = threading.Event()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.base}/hook"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        server.arrived.set()
        server.hold.wait(20)
        server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        server.asked.append(self.path)
        answer = server.answers.pop(0) if server.answers else server.usual
        if callable(answer):
            answer = answer(self.path, body)
        status, said = answer if isinstance(answer, tuple) else (answer, b"")
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/elsewhere")
        if status != 204:
            self.send_header("content-length", str(len(said)))
        with contextlib.suppress(ConnectionError):  # whoever asked did not wait
            self.end_headers()
            self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    server = Receiver()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Post:
    """A mail server: what it took, and what it says to the next recipients."""

    def __init__(self) -> None:
        self.letters: list[bytes] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.refuses: list[str] | str = ""
        self.port = free_port()
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802  aiosmtpd's name
        said = self.refuses.pop(0) if isinstance(self.refuses, list) and self.refuses else self.refuses
        if said:
            return str(said)
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        self.letters.append(envelope.content)
        self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        return "250 kept"

    def stop(self) -> None:
        if self.controller.server is not None:
            self.controller.stop()

    def channel(self, more: str = "") -> str:
        """Settings of a channel that sends here."""
        return (
            'public = "https://club.shop.example"\n'
            f'[plugins.notify.channels.letters]\nkind = "mail"\nhost = "127.0.0.1"\nport = {self.port}\n'
            f'tls = false\nsender = "Shop <club@shop.example>"\n{more}'
        )


@pytest.fixture
def post() -> Iterator[Post]:
    server = Post()
    server.controller.start()
    yield server
    server.stop()


def hook(url: str, *, private: bool = True) -> str:
    """Settings of a channel that posts to *url*."""
    allow = 'allow_private = ["127.0.0.1"]\n' if private else ""
    return f'[plugins.notify.channels.crm]\nkind = "webhook"\nurl = "{url}"\nsecrets = [{{ env = "HOOK_SECRET" }}]\n{allow}'


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


__all__ = [
    "POINTS",
    "SECRET",
    "START",
    "VAPID",
    "Post",
    "Receiver",
    "Shop",
    "Site",
    "free_port",
    "hook",
    "instant",
    "lines",
    "site",
]
