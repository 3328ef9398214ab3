"""The pages as a person meets them, in a real browser: pairing, identifying, redeeming, losing the network, the showroom."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from plugins.vr_kiosk.tests.street import Street, opened_street, wait_until

pytest.importorskip("playwright.sync_api")


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
    page.wait_for_selector("#network:empty", state="attached")
    wait_until(lambda: street.shop.stage.usable("ann") == 140)  # checking in gives five
    [row] = street.shop.stage.rows("SELECT id, state FROM vr_kiosk_device")
    assert row == (device, "active")
    page.reload()
    page.wait_for_selector(".touch")  # keys and numbers outlive the page


def test_a_visitor_walks_through_the_showroom(street: Street) -> None:
    """What a member found on an earlier visit, here or elsewhere, is found."""
    before = street.shop.pair("Another")
    street.shop.pin("ann", "4711")
    before.say("identify", {"phone": "ann", "pin": "4711"}, operation="earlier")
    facts = {"showroom": "sample", "spot": "vase"}
    before.say("event", {"session": "earlier", "type": "vr_kiosk.touched", "facts": facts})
    street.pair()
    street.identify("ann")
    page = street.page
    page.set_viewport_size({"width": 320, "height": 200})  # drawn by software here
    session = page.evaluate("() => sessionStorage.getItem('session')")
    assert session is None  # only who walks in carries it
    page.get_by_role("button", name="Showroom").click()
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    assert page.inner_text("#tasks li").endswith("1/3")
    for spot in ("teapot", "armchair"):
        page.evaluate(f"document.querySelector('#spot-{spot}').emit('click')")
    page.wait_for_selector("#tasks li.done", timeout=90_000)
    wait_until(lambda: "vr_kiosk.task_done" in [record.kind for record in street.shop.stage.records("ann")])
    kinds = [record.kind for record in street.shop.stage.records("ann")]
    assert kinds.count("vr_kiosk.touched") == 3


def test_a_receipt_comes_out_of_the_printer_beside_the_kiosk(street: Street) -> None:
    """By the browser while there is no printer or it does not answer, and that is said; by the printer once it is there."""
    shop, page, paper = street.shop, street.page, list[bytes]()
    page.clock.install()
    page.add_init_script("window.printed = 0; window.print = () => { window.printed += 1; };")
    street.pair(place="Main street")
    street.identify("ann")
    page.click("text=Rewards")
    page.click('button[aria-label="Take it: Coffee"]')
    page.click("dialog button.main")
    page.wait_for_selector(".slip")

    page.click("text=Print")
    page.wait_for_selector("text=There is no receipt printer here.")
    assert page.evaluate("() => window.printed") == 1
    page.click("text=Close")

    printer = shop.pair("Main desk", "Main street")
    printer.printer = paper.append
    printer.say("beat", {})
    page.click("text=Print")
    page.wait_for_selector("text=Your receipt is being printed: Main desk")
    printer.say("beat", {})
    page.clock.fast_forward(2_000)
    page.wait_for_selector("text=Please take your receipt: Main desk")
    assert len(paper) == 1 and b"Coffee\n" in paper[0]
    page.click("text=Close")

    page.click("text=Print")  # switched off in this moment
    page.wait_for_selector("text=Your receipt is being printed: Main desk")
    page.clock.fast_forward(20_000)
    page.wait_for_selector("text=The receipt printer does not answer.")
    assert (page.evaluate("() => window.printed"), len(paper)) == (2, 1)
    assert shop.alarms() == ["command_given_up"]


def glb() -> bytes:
    """The smallest model of a merchant's own: one triangle, a metre tall, as binary glTF."""
    corners = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
    view: dict[str, Any] = {"buffer": 0, "byteLength": len(corners)}
    document = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}], "buffers": [{"byteLength": len(corners)}],
        "bufferViews": [view],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0]}
        ],
    }  # fmt: skip
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(corners), 0x004E4942) + corners
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


OWN = """
[plugins.vr_kiosk.showrooms.spring.products.sail]
title = "Sail"
room = "hall"
place = [-20, 0, 0]
model = "boats/sail.glb"
[plugins.vr_kiosk.showrooms.spring.happenings.closing]
title = "Closing"
room = "hall"
since = {since}
until = {until}
"""


def test_a_merchants_own_model_stands_in_the_room_and_no_other_file_comes_out(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "models" / "boats").mkdir(parents=True)
    (tmp_path / "models" / "boats" / "sail.glb").write_bytes(glb())
    (tmp_path / "secret.glb").write_bytes(glb())
    since, until = (f"{datetime.now(UTC) + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (1, 2))
    with opened_street(browser, tmp_path, more=OWN.format(since=since, until=until)) as street:
        street.shop.stage.enrol("bob")
        page = street.walk_up(viewport={"width": 240, "height": 160})
        models: list[str] = []
        page.on("request", lambda request: models.append(request.url) if "file=" in request.url else None)
        street.pair("room/?name=spring")
        page.fill("dialog input", street.shop.code("bob"))
        page.click("dialog button")
        page.wait_for_selector("#spot-sail [data-loaded]", state="attached", timeout=60_000)
        meshes = "() => document.querySelector('#spot-sail [data-loaded]').getObject3D('mesh').children.length"
        assert page.evaluate(meshes) == 1
        for name in ("../secret.glb", "boats/../../secret.glb", "/etc/passwd", "boats/none.glb", "boats"):
            asked = "async ([url, name]) => (await fetch(url.replace(/file=.*/, 'file=' + encodeURIComponent(name)))).status"
            assert page.evaluate(asked, [models[0], name]) == 404, name
        press = (
            "(text) => [...document.querySelectorAll('button')].find((one) => one.textContent.includes(text)).click()"
        )
        page.evaluate(press, "Sail")
        wait_until(lambda: "vr_kiosk.touched" in [record.kind for record in street.shop.stage.records("bob")])
        # an event that begins later only says when; one for guests is for guests
        page.evaluate(press, "Closing")
        page.wait_for_function("() => document.querySelector('#panel').innerText.includes('from ')")
        assert "I am here" not in page.inner_text("#panel")
        page.evaluate(press, "Opening")
        page.evaluate(press, "I am here")
        page.wait_for_function("() => document.querySelector('#panel').innerText.includes('invited guests')")
