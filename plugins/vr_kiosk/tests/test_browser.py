"""The pages as a person meets them, in a real browser: pairing, identifying, redeeming, losing the network, the showroom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from plugins.vr_kiosk.tests.conftest import SETTINGS, Shop
from tallystick.testing import make_stage
from tallystick.web import build_app
from tallystick_vr_kiosk import care

sync_api = pytest.importorskip("playwright.sync_api")
FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--enable-unsafe-swiftshader",
]  # fmt: skip


class Served:
    """The house on one port, which can be cut off and come back."""

    def __init__(self, app: Any) -> None:
        self._app, self.port = app, 0
        self.up()

    def up(self) -> None:
        config = uvicorn.Config(
            self._app, host="127.0.0.1", port=self.port, log_level="error", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def down(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


class Street:
    """A served house with a clock that runs, and a browser in front of it."""

    def __init__(self, shop: Shop, served: Served, page: Any) -> None:
        self.shop, self.served, self.page = shop, served, page
        self.url = f"http://127.0.0.1:{served.port}"
        self.asked: set[str] = set()
        self.problems: list[str] = []
        page.on("request", lambda request: self.asked.add(request.url.split("/")[2]))
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def pair(self, where: str = "kiosk/") -> str:
        word = self.shop.house.pass_for("shop", "vr_kiosk.pair", "page")
        self.page.goto(f"{self.url}/v1/vr_kiosk/{where}#{word}")
        letters = self.page.inner_text(".letters")
        number = self.page.inner_text(".number").split()[-1]
        device = care.approve(self.shop.errand, letters, number, name="Entrance", who="test").id
        self.page.wait_for_selector(".touch")
        return str(device)

    def identify(self, member: str) -> None:
        self.page.click(".touch")
        self.page.wait_for_selector("text=Scan your code")
        self.page.keyboard.type(self.shop.code(member))
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector(".purse")


@pytest.fixture
def browser(debian_tool: Callable[[str, str], str]) -> Iterator[Any]:
    path = debian_tool("chromium", "chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def passing(clock: list[int]) -> Iterator[None]:
    """The house's clock is the world's."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.02):
            clock[0] = time.time_ns() // 1_000

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture
def street(browser: Any, tmp_path: Path) -> Iterator[Street]:
    settings = SETTINGS.replace("pin_above = 100", "pin_above = 100\nsample = true")
    url = f"sqlite:///{tmp_path / 'tally.db'}"
    with make_stage(settings, url, tmp_path, start=datetime.now(UTC)) as stage, passing(stage.clock):
        shop = Shop(stage)
        stage.enrol("ann")
        shop.buys("ann", 135)
        served = Served(build_app(shop.house))
        context = browser.new_context(viewport={"width": 900, "height": 1200}, locale="en-US", reduced_motion="reduce")
        found = Street(shop, served, context.new_page())
        yield found
        context.close()
        served.down()
    assert found.asked == {f"127.0.0.1:{served.port}"}  # nothing was asked of anybody else
    assert found.problems == []


def test_a_member_takes_a_coffee(street: Street) -> None:
    street.pair()
    street.identify("ann")
    page = street.page
    assert page.inner_text(".amount") == "135"
    page.click("text=Rewards")
    page.click('button[aria-label="Take it: Coffee"]')
    page.click("dialog button.main")
    page.wait_for_selector(".slip")
    assert "85" in page.inner_text(".slip .total")
    assert street.shop.stage.usable("ann") == 85
    page.click("#language")
    assert page.inner_text("h1") == "兑换成功！"
    page.click("text=继续")
    page.click("text=结束")
    assert page.evaluate("() => [sessionStorage.length, document.body.innerText.includes('85')]") == [0, False]


def test_the_network_goes_and_comes_back(street: Street) -> None:
    """What is done without network waits in the device, even over a restart of the page, and counts afterwards."""
    device = street.pair()
    street.identify("ann")
    page = street.page
    street.served.down()
    page.wait_for_selector("#network:not(:empty)")
    page.click("text=Check in")
    page.wait_for_selector("text=It counts as soon as the network is back.")
    assert [record.kind for record in street.shop.stage.records("ann")] == ["purchase.completed"]
    street.served.up()
    page.wait_for_selector("#network:empty", state="attached", timeout=30_000)
    wait_until(lambda: street.shop.stage.usable("ann") == 140)  # checking in gives five
    [row] = street.shop.stage.rows("SELECT id, state FROM vr_kiosk_device")
    assert row == (device, "active")
    page.reload()
    page.wait_for_selector(".touch")  # keys and numbers outlive the page


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_page_may_be_used_by_everybody(street: Street) -> None:
    """Every control has a name, every text a contrast of 4.5 to 1, and everything is reached by keyboard."""
    street.pair()
    street.identify("ann")
    page = street.page
    page.click("text=Rewards")
    nameless = "() => [...document.querySelectorAll('button, input')].filter((one) => !(one.ariaLabel || one.innerText.trim() || one.labels?.length)).length"
    assert page.evaluate(nameless) == 0
    assert page.evaluate(CONTRAST) == []
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.tagName") == "BUTTON"
    assert page.get_attribute("html", "lang") == "en"


CONTRAST = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).slice(0, 3).map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const under = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/rgba\\(.*, 0\\)|transparent/.test(colour)) return colour;
    }
    return "rgb(251, 247, 238)";
  };
  return [...document.querySelectorAll("main *")].filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())).map((node) => {
    const [a, b] = [light(getComputedStyle(node).color), light(under(node))].sort((x, y) => y - x);
    return [node.textContent.trim().slice(0, 30), (a + 0.05) / (b + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
}"""


def test_a_visitor_walks_through_the_showroom(street: Street) -> None:
    street.pair()
    street.identify("ann")
    page = street.page
    page.set_viewport_size({"width": 320, "height": 200})  # drawn by software here
    session = page.evaluate("() => sessionStorage.getItem('session')")
    assert session is None  # only who walks in carries it
    page.get_by_role("button", name="Showroom").click()
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    for spot in ("teapot", "vase", "armchair"):
        page.evaluate(f"document.querySelector('#spot-{spot}').emit('click')")
    page.wait_for_selector("#tasks li.done", timeout=90_000)
    wait_until(lambda: "vr_kiosk.task_done" in [record.kind for record in street.shop.stage.records("ann")])
    kinds = [record.kind for record in street.shop.stage.records("ann")]
    assert kinds.count("vr_kiosk.touched") == 3
