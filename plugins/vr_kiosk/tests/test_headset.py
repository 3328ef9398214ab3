"""The showroom with a headset on: the emulated one of IWER, a real WebXR session, controllers that point and pull."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from plugins.vr_kiosk.tests.street import Street, wait_until
from tallystick_gamification.store import badges_held

pytest.importorskip("playwright.sync_api")
IWER = gzip.decompress((Path(__file__).parent / "vendored" / "iwer-2.5.0.js.gz").read_bytes()).decode()
WEARING = """
  window.headset = new IWER.XRDevice(IWER.metaQuest3, { stereoEnabled: false });
  headset.installRuntime({ forceInstall: true });
  headset.position.set(0, 1.6, 0);
"""
#: Hold the right controller a metre in front of a thing and turn it until its ray meets the thing.
POINT = """async (selector) => {
  const frame = () => new Promise((done) => setTimeout(done, 60));
  const thing = document.querySelector(selector), hand = document.querySelector("#right-hand"), held = headset.controllers.right;
  let hit = false;
  for (let n = 0; n < 60 && !hit; n++) {
    await frame();
    const ray = hand.components.raycaster;
    if (!thing.object3D || !hand.object3D.visible || !ray) continue;
    const solid = thing.getObject3D("mesh") ?? thing.querySelector(".hot").getObject3D("mesh");
    const target = new THREE.Box3().setFromObject(solid).getCenter(new THREE.Vector3());
    const rig = document.querySelector("#rig").object3D.position, eyes = document.querySelector("a-scene").camera.getWorldPosition(new THREE.Vector3());
    const back = eyes.sub(target).setY(0.2).normalize().multiplyScalar(0.8);
    held.position.set(target.x + back.x - rig.x, target.y + back.y - rig.y, target.z + back.z - rig.z);
    await frame();
    ray.refreshObjects();
    const { origin, direction } = ray.raycaster.ray;
    const turn = new THREE.Quaternion().setFromUnitVectors(direction.clone().normalize(), target.clone().sub(origin).normalize());
    const now = new THREE.Quaternion(held.quaternion.x, held.quaternion.y, held.quaternion.z, held.quaternion.w).premultiply(turn);
    held.quaternion.set(now.x, now.y, now.z, now.w);
    await frame();
    const met = ray.intersectedEls[0];
    hit = Boolean(met) && (met === thing || thing.contains(met));
  }
  return hit;
}"""
PULL = """async () => {
  for (const value of [1, 0]) {
    headset.controllers.right.updateButtonValue("trigger", value);
    await new Promise((done) => setTimeout(done, 250));
  }
}"""


class Visitor:
    """Somebody with a headset on, in a showroom."""

    def __init__(self, street: Street, member: str, showroom: str) -> None:
        self.street = street
        self.page: Any = street.walk_up(viewport={"width": 240, "height": 160})  # drawn by software here
        self.page.add_init_script(IWER + WEARING)
        street.page = self.page
        street.pair(f"room/?name={showroom}")
        self.page.fill("dialog input", street.shop.code(member))
        self.page.click("dialog button")
        self.page.wait_for_selector("body[data-ready]", timeout=60_000)
        self.page.wait_for_selector("#vr:not([hidden])")
        self.page.evaluate("() => document.querySelector('#vr').click()")
        self.page.wait_for_function("() => document.querySelector('a-scene').is('vr-mode') && headset.activeSession")

    def selects(self, thing: str) -> None:
        """Point at a thing and pull the trigger."""
        self.page.wait_for_selector(thing, state="attached")
        assert self.page.evaluate(POINT, thing), f"{thing} cannot be pointed at"
        self.page.evaluate(PULL)

    def reads(self, text: str) -> None:
        """The page and the board say the same; the board is made from the page's words."""
        self.page.wait_for_function(
            "(text) => document.querySelector('#board') && document.querySelector('#panel').innerText.includes(text)",
            arg=text, timeout=30_000,
        )  # fmt: skip


def kinds(street: Street) -> list[str]:
    return [record.kind for record in street.shop.stage.records("ann")]


def test_a_product_is_selected_wished_for_and_taken_in_the_headset(street: Street) -> None:
    stage = street.shop.stage
    stage.send("vr_kiosk.stocked", {"reward": "mug", "pieces": 3}, member="")
    street.shop.buys("ann", 300)
    street.shop.pin("ann", "4711")
    visitor = Visitor(street, "ann", "spring")
    visitor.selects("#spot-teapot")
    visitor.reads("Teapot")
    wait_until(lambda: "vr_kiosk.touched" in kinds(street))
    touched = next(record for record in stage.records("ann") if record.kind == "vr_kiosk.touched")
    assert touched.source.startswith("vr_kiosk/k-") and stage.usable("ann") == 438

    visitor.selects("#act-wish")
    visitor.reads("On your wish list")
    assert stage.rows("SELECT product FROM vr_kiosk_wish") == [("teapot",)]

    visitor.selects("#act-redeem")
    visitor.reads("Take Coffee for 50 points?")
    visitor.selects("#act-take")
    visitor.reads("It is yours: Coffee.")
    assert stage.usable("ann") == 388
    visitor.selects("#act-close")

    visitor.selects("#spot-lamp")  # the second arrival: the task is done, which gives points and a badge
    visitor.reads("Done: Find two new arrivals")
    wait_until(lambda: stage.usable("ann") == 388 + 3 + 20)
    with street.shop.house.db.connect() as conn:
        assert badges_held(conn, "shop") == {"scout": 1}

    visitor.selects("#act-redeem")  # above the limit: the PIN, on keys that hang in the room
    for digit in "4711":
        visitor.selects(f"#act-key-{digit}")
    visitor.selects("#act-take")
    visitor.reads("It is yours: Mug.")
    assert stage.usable("ann") == 211
    assert kinds(street).count("vr_kiosk.redeemed") == 2


def test_an_invited_guest_attends_and_asks_the_guide(street: Street) -> None:
    visitor = Visitor(street, "ann", "spring")
    visitor.selects("#poster-opening")
    visitor.selects("#act-attend")
    visitor.reads("Glad that you came!")
    assert "vr_kiosk.attended" in kinds(street)
    visitor.selects("#act-close")
    visitor.selects("#guide")
    visitor.reads("Welcome!")
