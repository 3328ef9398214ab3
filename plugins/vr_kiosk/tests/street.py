"""A house on a port, a browser in front of it, and what a person does there."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from plugins.vr_kiosk.tests.conftest import SETTINGS, Shop
from tallystick.testing import make_stage
from tallystick.web import build_app
from tallystick_vr_kiosk import care

FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--enable-unsafe-swiftshader",
]  # fmt: skip
PORTRAIT, LANDSCAPE = {"width": 720, "height": 1280}, {"width": 1280, "height": 720}
#: Finding both arrivals earns a badge; both products are rewards; an opening lasts from an hour ago until in an hour.
MORE = """
[plugins.gamification.badges.scout]
title = { en = "Scout", zh = "寻宝者" }
[[plugins.gamification.tasks]]
name = "scout"
on = "vr_kiosk.task_done"
title = "Find all that is new"
goal = 1
rewards = [{ badge = "scout" }]
"""


def settings(now: datetime, idle: int, folder: Path) -> str:
    """A kiosk and two showrooms, as of now; *idle* seconds after the last touch a session ends."""
    own = f'pin_above = 100\nidle = {idle}\nsample = true\nmodels = "{folder / "models"}"'
    found = SETTINGS.replace("pin_above = 100", own)
    for product, reward in (("teapot", "coffee"), ("lamp", "mug")):
        found = found.replace(f'model = "{product}"', f'model = "{product}"\nreward = "{reward}"')
    since, until = (f"{now + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (-1, 1))
    found = found.replace('title = "Spring"', 'title = "Spring"\nguide = "Welcome!"')
    return found.replace("2025-06-15T15:00:00Z", since).replace("2025-06-15T17:00:00Z", until) + MORE


class Served:
    """The house on one port, which can be cut off and come back."""

    def __init__(self, app: Any) -> None:
        self._app = app
        # bound and never listening: while the house is away the port is nobody else's
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.port = self._kept.getsockname()[1]
        self.up()

    def up(self) -> None:
        config = uvicorn.Config(
            self._app, host="127.0.0.1", port=self.port, log_level="error", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the house cannot be served"
            time.sleep(0.02)

    def down(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive(), "the house does not end"

    def close(self) -> None:
        self.down()
        self._kept.close()


class Street:
    """A served house with a clock that runs, and a browser's page in front of it."""

    def __init__(self, shop: Shop, served: Served, browser: Any) -> None:
        self.shop, self.served, self.browser = shop, served, browser
        self.url = f"http://127.0.0.1:{served.port}"
        self.asked: set[str] = set()
        self.problems: list[str] = []
        self.opened: list[Any] = []
        self.page: Any = None

    def walk_up(self, *, locale: str = "en-US", **more: Any) -> Any:
        """Another browser in front of the house, without anything of the one before; its page."""
        options = {"viewport": {"width": 900, "height": 1200}, "reduced_motion": "reduce", **more}
        context = self.browser.new_context(locale=locale, **options)
        self.opened.append(context)
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)  # machines may be busy
        self.page.on("request", lambda request: self.asked.add(request.url.split("/")[2]))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        return self.page

    def address(self, where: str = "kiosk/") -> str:
        return f"{self.url}/v1/vr_kiosk/{where}#{self.shop.house.pass_for('shop', 'vr_kiosk.pair', 'page')}"

    def approve(self, place: str = "") -> str:
        """Approve the letters that the page shows."""
        letters = self.page.inner_text(".letters")
        number = self.page.inner_text(".number").split()[-1]
        return str(care.approve(self.shop.errand, letters, number, name="Entrance", place=place, who="test").id)

    def pair(self, where: str = "kiosk/", *, place: str = "") -> str:
        self.page.goto(self.address(where))
        device = self.approve(place)
        self.page.wait_for_selector(".touch, dialog form")
        return device

    def scan(self, member: str) -> None:
        """A scanner types the code of the member's phone, faster than any hand."""
        self.page.evaluate(TYPE, [*self.shop.code(member), "Enter"])

    def identify(self, member: str) -> None:
        self.page.click(".touch")
        self.page.wait_for_selector(".tiles")
        self.scan(member)
        self.page.wait_for_selector(".purse")

    def kept(self) -> str:
        """All that the browser keeps between two pages, as text: storages, databases and the bodies of caches."""
        return str(self.page.evaluate(KEPT))

    def keeps(self, *words: str) -> list[str]:
        """Which of *words* begin a word that the browser keeps; within a signature any letters may stand together."""
        kept = self.kept()
        return [word for word in words if re.search(rf"(?<![\w+/-]){re.escape(word)}", kept)]

    def has_told_all(self) -> bool:
        """Whether no frame waits any more."""
        return not self.keeps("wire")

    def leave(self) -> None:
        for context in self.opened:
            context.close()


TYPE = (
    """(keys) => keys.forEach((key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })))"""
)
KEPT = """async () => {
  const found = [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie];
  for (const { name } of await indexedDB.databases()) {
    const db = await new Promise((done) => { const asked = indexedDB.open(name); asked.onsuccess = () => done(asked.result); });
    for (const store of db.objectStoreNames)
      found.push(JSON.stringify(await new Promise((done) => { const asked = db.transaction(store).objectStore(store).getAll(); asked.onsuccess = () => done(asked.result); })));
    db.close();
  }
  for (const name of await caches.keys())
    for (const request of await (await caches.open(name)).keys()) found.push(request.url);
  return found.join("\\n");
}"""


@contextmanager
def passing(clock: list[int]) -> Iterator[None]:
    """The house's clock is the world's."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.02):
            clock[0] = time.time_ns() // 1_000

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def opened_browser(path: str, *more: str) -> Iterator[Any]:
    """Debian's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *more])
        try:
            yield found
        finally:
            found.close()


@contextmanager
def opened_street(browser: Any, folder: Path, *, more: str = "", idle: int = 300) -> Iterator[Street]:
    """A house, served; Ann is invited everywhere and has 135 points.  At the end nothing was asked of anybody else."""
    url, now = f"sqlite:///{folder / 'tally.db'}", datetime.now(UTC)
    with make_stage(settings(now, idle, folder) + more, url, folder, start=now) as stage, passing(stage.clock):
        shop = Shop(stage)
        stage.enrol("ann", tags=("vip",))
        shop.buys("ann", 135)
        served = Served(build_app(shop.house))
        street = Street(shop, served, browser)
        try:
            yield street
        finally:
            street.leave()
            served.close()
    assert street.asked <= {f"127.0.0.1:{served.port}"}
    assert street.problems == []
