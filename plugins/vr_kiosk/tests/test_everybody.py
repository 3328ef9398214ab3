"""The pages are for everybody: axe-core finds nothing critical or serious on any screen, in either language, however the
screen stands; every control has a name and is reached by keyboard.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.vr_kiosk.tests.street import LANDSCAPE, PORTRAIT, Street, opened_street
from tallystick_vr_kiosk import care

axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")
LANGUAGES = {"en": "en-US", "zh": "zh-CN"}


class Inspector:
    """Looks at a page as it stands, upright and lying, and writes down what hinders anybody."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._axe = axe_playwright.Axe()

    def look(self, page: Any, screen: str) -> None:
        for size in (PORTRAIT, LANDSCAPE):
            page.set_viewport_size(size)
            said = self._axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
            for one in said:
                if one["impact"] in ("critical", "serious"):
                    where = "; ".join(
                        f"{node['html'][:120]} {node['any'][0]['message'] if node['any'] else ''}"
                        for node in one["nodes"]
                    )
                    self.found.append(f"{screen} {size['width']}x{size['height']}: {one['id']}: {where}")
            if nameless := page.evaluate(NAMELESS):
                self.found.append(f"{screen}: no name: {nameless}")


NAMELESS = """() => [...document.querySelectorAll('button, input')]
  .filter((one) => one.checkVisibility() && !(one.ariaLabel || one.innerText.trim() || one.labels?.length)).map((one) => one.outerHTML)"""


@pytest.fixture
def avenue(browser: Any, tmp_path: Path) -> Iterator[Street]:
    """A house for every test: a member's code is good for one scan in half a minute."""
    with opened_street(browser, tmp_path) as found:
        found.shop.pin("ann", "4711")
        found.shop.buys("ann", 900)
        found.shop.stage.send("vr_kiosk.stocked", {"reward": "mug", "pieces": 9}, member="")
        yield found


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_hinders_anybody_at_the_kiosk(avenue: Street, language: str) -> None:
    page, inspector = avenue.walk_up(locale=LANGUAGES[language]), Inspector()
    page.clock.install()
    page.goto(avenue.address())
    page.wait_for_selector(".letters")
    inspector.look(page, "pairing")
    device = avenue.approve()
    page.wait_for_selector(".touch")
    assert page.get_attribute("html", "lang") == language
    inspector.look(page, "attract")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.tagName") == "BUTTON"
    page.click(".touch")
    tiles = page.locator(".tile")
    inspector.look(page, "identify")
    for number, screen in enumerate(("scan", "type", "phone")):
        tiles.nth(number).click()
        page.wait_for_selector(".camera, form")
        inspector.look(page, screen)
        page.click(".head button")
    tiles.nth(1).click()
    page.fill("input", "TS1.nobody")
    page.click("button.main")
    page.wait_for_selector(".error:not(:empty)")
    inspector.look(page, "a wrong code")
    page.click(".head button")
    tiles.nth(2).click()
    page.fill("input >> nth=0", "ann")
    page.fill("input >> nth=1", "4711")
    page.click("button.main")
    page.wait_for_selector(".purse")
    inspector.look(page, "home")
    page.click(".tile >> nth=1")
    page.wait_for_selector("dialog[open] h2")
    inspector.look(page, "checked in")
    page.click("dialog button")
    page.click(".tile >> nth=0")
    page.wait_for_selector(".reward")
    inspector.look(page, "rewards")
    page.click(".reward button >> nth=1")
    page.wait_for_selector("dialog[open] form")
    inspector.look(page, "confirm")
    page.click("dialog button.main")
    page.wait_for_selector(".slip")
    inspector.look(page, "receipt")
    page.click(".row button.main")
    page.click(".head button")
    page.click(".touch")
    avenue.scan("ann")
    page.wait_for_selector(".purse")
    page.click(".tile >> nth=0")
    page.click(".reward button >> nth=1")
    page.wait_for_selector("dialog[open] .pad")
    inspector.look(page, "confirm with the PIN")
    page.click("dialog button.plain")
    page.click(".head button")
    avenue.served.down()
    page.wait_for_selector("#network:not(:empty)")
    inspector.look(page, "no network")
    avenue.served.up()
    page.wait_for_selector("#network:empty", state="attached")
    page.click(".head button")
    care.tell(avenue.shop.errand, device, "lock", {})
    page.clock.fast_forward(11_000)  # the next sign of life
    page.wait_for_selector(".locked")
    inspector.look(page, "locked")
    care.change_state(avenue.shop.errand, device, "revoked")
    page.clock.fast_forward(11_000)
    page.wait_for_selector(".locked button")
    inspector.look(page, "set aside")
    assert inspector.found == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_hinders_anybody_in_the_showroom(avenue: Street, language: str) -> None:
    page, inspector = avenue.walk_up(locale=LANGUAGES[language]), Inspector()
    page.goto(avenue.address("room/?name=sample"))
    page.wait_for_selector(".letters")
    inspector.look(page, "pairing")
    page.set_viewport_size({"width": 160, "height": 100})  # drawn by software here, until the drawing is stopped
    avenue.approve()
    page.wait_for_selector("dialog form", state="attached", timeout=60_000)
    page.wait_for_function("() => document.querySelector('a-scene')?.hasLoaded", timeout=60_000)
    page.evaluate("() => document.querySelector('a-scene').renderer.setAnimationLoop(null)")
    inspector.look(page, "identify")
    page.fill("input", avenue.shop.code("ann"))
    page.click("dialog button")
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    assert page.get_attribute("html", "lang") == language
    page.click("#list")
    page.click("#things button >> nth=0")
    page.wait_for_selector("#panel:not([hidden])")
    inspector.look(page, "a thing")
    page.click("#doors button >> nth=1")
    inspector.look(page, "the guide")
    assert inspector.found == []
