"""The pages as a person meets them, in a real browser: pairing, identifying, redeeming, losing the network, the showroom."""

from __future__ import annotations

import pytest

from plugins.vr_kiosk.tests.street import Street, wait_until

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
    page.wait_for_selector("#network:empty", state="attached", timeout=30_000)
    wait_until(lambda: street.shop.stage.usable("ann") == 140)  # checking in gives five
    [row] = street.shop.stage.rows("SELECT id, state FROM vr_kiosk_device")
    assert row == (device, "active")
    page.reload()
    page.wait_for_selector(".touch")  # keys and numbers outlive the page


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
