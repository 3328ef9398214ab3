"""A visit as people make it: a code held before the camera, a reward, a lost network, a receipt; and nothing left behind."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import segno
import zxingcpp
from PIL import Image

from plugins.vr_kiosk.tests.street import Street, opened_browser, opened_street, wait_until

pytest.importorskip("playwright.sync_api")


def film(text: str, file: Path) -> None:
    """A phone held before a camera: one grey picture with the code, as raw video."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="png", scale=7, border=4)
    picture = Image.new("L", (640, 480), 150)
    code = Image.open(out).convert("L")
    picture.paste(code, ((640 - code.width) // 2, (480 - code.height) // 2))
    assert zxingcpp.read_barcodes(picture)[0].text == text
    frame = b"FRAME\n" + picture.tobytes() + bytes([128]) * (320 * 240 * 2)
    file.write_bytes(b"YUV4MPEG2 W640 H480 F10:1 Ip A1:1 C420jpeg\n" + frame * 2)


def test_a_day_at_the_kiosk(tmp_path: Path, debian_tool: Callable[[str, str], str]) -> None:
    """Ann holds her phone before the camera and takes a mug with her PIN; the network goes; Bob, with a printed card,
    checks in and cannot use his PIN; the network comes back, Bob's visit counts; Ann's receipt goes to the printer.
    """
    path, video = debian_tool("chromium", "chromium"), tmp_path / "camera.y4m"
    with (
        opened_browser(path, f"--use-file-for-fake-video-capture={video}") as browser,
        opened_street(browser, tmp_path) as street,
    ):
        shop, stage = street.shop, street.shop.stage
        stage.enrol("bob")
        shop.buys("ann", 300)
        shop.pin("ann", "4711")
        shop.pin("bob", "1234")
        stage.send("vr_kiosk.stocked", {"reward": "mug", "pieces": 3}, member="")
        page = street.walk_up()
        device = street.pair()
        page.click(".touch")
        code = shop.code("ann")
        film(code, video)
        page.click(".tile >> nth=0")  # scan
        page.wait_for_selector(".purse", timeout=60_000)
        assert page.inner_text(".amount") == "435"

        page.click("text=Rewards")
        assert "3 left" in page.inner_text(".reward >> nth=1")
        page.click('button[aria-label="Take it: Mug"]')
        for digit in "4711":
            page.click(f".pad >> text='{digit}'")
        page.click("dialog button.main")
        page.wait_for_selector(".slip")
        assert stage.usable("ann") == 235
        page.evaluate("() => { window.print = () => { window.printed = true; }; }")
        page.click("text=Print")
        page.wait_for_selector("text=There is no receipt printer here.")
        assert page.evaluate("() => window.printed")
        page.emulate_media(media="print")
        assert page.is_visible(".slip") and not page.is_visible("text=Print") and not page.is_visible("#bar")
        page.emulate_media(media="screen")
        page.click("text=Close")
        page.click("text=Continue")
        page.click("text=Finish")

        card = card_of(street, "bob")
        street.served.down()
        page.wait_for_selector("#network:not(:empty)")
        page.click(".touch")
        page.click(".tile >> nth=2")
        page.fill("input >> nth=0", "bob")
        page.fill("input >> nth=1", "1234")
        page.click("button.main")
        assert page.inner_text(".error") == "Without network please scan or type a code."
        page.click("text=Back")
        page.click(".tile >> nth=1")
        page.fill("input", card)
        page.click("button.main")
        page.wait_for_selector(".purse")
        assert page.inner_text(".amount") == "—"
        page.click("text=Check in")
        page.wait_for_selector("text=It counts as soon as the network is back.")
        page.click("text=Close")
        page.click("text=Finish")
        assert street.keeps("1234") == []  # a PIN waits nowhere
        assert stage.records("bob") == []

        street.served.up()
        page.wait_for_selector("#network:empty", state="attached")
        wait_until(lambda: stage.usable("bob") == 5)
        assert stage.rows("SELECT id, state FROM vr_kiosk_device") == [(device, "active")]
        wait_until(lambda: street.keeps("TS1", "wire") == [])


def card_of(street: Street, member: str) -> str:
    """The code of a member's printed card."""
    from tallystick_vr_kiosk import codes, store

    stage = street.shop.stage
    with street.shop.house.db.begin() as conn:
        alias = store.make_alias(conn, "shop", stage.number(member), "card", stage.clock[0])
    return codes.make_card(codes.secret_of(street.shop.house.secret, "shop", alias), alias)


@pytest.mark.parametrize("where", ["kiosk", "showroom"])
def test_a_visit_ends_after_half_a_minute_and_nothing_of_it_stays(browser: object, tmp_path: Path, where: str) -> None:
    with opened_street(browser, tmp_path, idle=30) as street:
        street.shop.pin("ann", "4711")
        page = street.walk_up(viewport={"width": 320, "height": 240})
        page.clock.install()
        street.pair()
        traces = ("ann", "4711", "135", "usable", "session", "visit", str(street.shop.stage.number("ann")))
        empty = street.keeps(*traces)
        page.click(".touch")
        page.click(".tile >> nth=2")
        page.fill("input >> nth=0", "ann")
        page.fill("input >> nth=1", "4711")
        page.click("button.main")
        page.wait_for_selector(".purse")
        if where == "showroom":
            page.evaluate("() => [...document.querySelectorAll('.tile')].at(-1).click()")
            page.wait_for_selector("body[data-ready]", timeout=60_000)
            assert street.keeps("visit")
        page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=5))  # from here on only the test lets time go by
        page.keyboard.press("Shift")
        page.clock.fast_forward(21_000)
        page.wait_for_selector("text=Are you still there?")
        page.click("dialog button.main")
        page.wait_for_selector("dialog", state="hidden")
        page.clock.fast_forward(15_000)
        assert page.locator("#purse, .purse").first.is_visible()  # somebody was there
        page.clock.fast_forward(16_000)
        page.wait_for_selector(".attract")
        assert page.evaluate("() => document.querySelectorAll('.purse, .slip, input').length") == 0
        wait_until(street.has_told_all)  # that it has ended as well
        assert set(street.keeps(*traces)) <= set(empty)
        wait_until(lambda: street.shop.stage.rows("SELECT count(*) FROM vr_kiosk_session") == [(0,)])
