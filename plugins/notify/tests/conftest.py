"""A shop with messages, a receiver of webhooks and a mail server, all real and on loopback."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tallystick.ledger import instant
from tallystick.testing import Stage, make_stage
from tallystick_notify import jobs

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
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
        jobs.wait_for_all()

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

    def deliveries(self) -> list[tuple[str, str, str]]:
        """(channel, state, reason) of every delivery."""
        return [
            tuple(row)
            for row in self.stage.rows("SELECT channel, state, reason FROM notify_delivery ORDER BY channel, message")
        ]


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Iterator[Callable[[str], Shop]]:
    opened: list[Any] = []

    def open_shop(notify: str) -> Shop:
        found = make_stage(POINTS + "[plugins.notify]\n" + notify, database_url, tmp_path, start=START)
        opened.append(found)
        return Shop(found.__enter__())

    yield open_shop
    jobs.wait_for_all()
    for found in opened:
        found.__exit__(None, None, None)


class Receiver(ThreadingHTTPServer):
    """Receives webhooks; answers with the next of *answers*, then with 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        self.arrived = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        server.arrived.set()
        server.hold.wait(20)
        server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status = server.answers.pop(0) if server.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setitem(os.environ, "HOOK_SECRET", SECRET)
    server = Receiver()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()


class _Mail(socketserver.StreamRequestHandler):
    """As much SMTP as a client needs."""

    def handle(self) -> None:
        server: Any = self.server
        say = lambda text: self.wfile.write(text.encode() + b"\r\n")  # noqa: E731
        say("220 post")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                say("354 go on")
                body = b"".join(iter(self.rfile.readline, b".\r\n"))
                server.letters.append(body)
                say("250 kept")
            elif verb == b"RCPT" and server.refuses:
                say(server.refuses)
            elif verb == b"QUIT":
                say("221 bye")
                return
            else:
                say("250 fine")


class Post(socketserver.ThreadingTCPServer):
    """A mail server."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Mail)
        self.letters: list[bytes] = []
        self.refuses = ""

    @property
    def channel(self) -> str:
        """Settings of a channel that sends here."""
        return (
            f'[plugins.notify.channels.letters]\nkind = "mail"\nhost = "127.0.0.1"\nport = {self.server_address[1]}\n'
            'tls = false\nsender = "Shop <club@shop.example>"\nunsubscribe = "https://shop.example/u?t={token}"\n'
        )


@pytest.fixture
def post() -> Iterator[Post]:
    server = Post()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def hook(url: str, *, private: bool = True) -> str:
    """Settings of a channel that posts to *url*."""
    allow = 'allow_private = ["127.0.0.1"]\n' if private else ""
    return f'[plugins.notify.channels.crm]\nkind = "webhook"\nurl = "{url}"\nsecrets = [{{ env = "HOOK_SECRET" }}]\n{allow}'


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


__all__ = ["POINTS", "SECRET", "START", "Post", "Receiver", "Shop", "hook", "instant", "lines"]
