"""A shop with kiosks: real devices in Python, a real house, each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick import database, proofs
from tallystick.testing import Stage, make_stage
from tallystick_vr_kiosk import care, codes, store
from tallystick_vr_kiosk.commands import sim_device
from tallystick_vr_kiosk.sim import Device

START = datetime(2025, 6, 15, 16, tzinfo=UTC)
SETTINGS = """\
[plugins.points]
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
[[plugins.points.earn]]
name = "touch"
on = "vr_kiosk.touched"
points = 3
[[plugins.points.earn]]
name = "found"
on = "vr_kiosk.task_done"
points = 20
[plugins.gamification.check_in]
days = [{ rewards = [{ unit = "points", amount = 5 }] }]
[plugins.vr_kiosk]
pin_above = 100
offline_events = 5
sends = ["gamification.checked_in"]
check_in = "gamification.checked_in"
[plugins.vr_kiosk.rewards.coffee]
title = { en = "Coffee", zh = "咖啡" }
points = 50
[plugins.vr_kiosk.rewards.mug]
title = "Mug"
points = 200
stock = true
[plugins.vr_kiosk.showrooms.spring]
title = "Spring"
[plugins.vr_kiosk.showrooms.spring.rooms.hall]
title = "Hall"
width = 80
depth = 60
[plugins.vr_kiosk.showrooms.spring.products.teapot]
title = "Teapot"
room = "hall"
place = [0, 8, 0]
model = "teapot"
labels = ["new"]
[plugins.vr_kiosk.showrooms.spring.products.lamp]
title = "Lamp"
room = "hall"
place = [20, 0, 0]
model = "lamp"
labels = ["new"]
[plugins.vr_kiosk.showrooms.spring.tasks.arrivals]
title = "Find two new arrivals"
label = "new"
count = 2
[plugins.vr_kiosk.showrooms.spring.happenings.opening]
title = "Opening"
room = "hall"
since = 2025-06-15T15:00:00Z
until = 2025-06-15T17:00:00Z
guests = ["vip"]
"""


class Shop:
    """A stage and its devices."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.house = stage, stage.house
        self.cut = False  #: no network between devices and house

    @property
    def errand(self) -> Any:
        return self.house.errand("vr_kiosk", "shop", "test")

    def pair(self, name: str = "Kiosk", place: str = "") -> Device:
        device = sim_device(self.errand, name, Ed25519PrivateKey.generate(), place)
        line = device.line

        def through_the_net(body: bytes) -> bytes:
            if self.cut:
                raise ConnectionError
            return line(body)

        device.line = through_the_net
        return device

    def goes_by(self, **length: float) -> None:
        self.stage.at(self.stage.now + timedelta(**length))

    def buys(self, member: str, points: int) -> None:
        order = f"R-{member}-{self.stage.clock[0]}-{points}"
        lines = [{"sku": "S", "amount": points * 100}]
        self.stage.send("purchase.completed", {"order": order, "currency": "USD", "lines": lines}, member=member)

    def code(self, member: str, *, seconds: int = 0) -> str:
        """What the member's phone shows."""
        with self.house.db.begin() as conn:
            alias = store.alias_of(conn, "shop", self.stage.number(member), "phone", self.stage.clock[0])
        secret = codes.secret_of(self.house.secret, "shop", alias)
        return codes.make_code(secret, alias, codes.step_of(self.stage.clock[0] // 1_000_000 + seconds))

    def pin(self, member: str, text: str) -> None:
        with self.house.db.begin() as conn:
            store.set_pin(conn, "shop", self.stage.number(member), text, self.stage.clock[0])

    def identify(self, device: Device, member: str, **more: Any) -> str:
        answer = device.say("identify", {"code": self.code(member)}, **more)
        assert answer is None or answer["status"] == "done", answer
        return f"op-{device.pen.counter}"

    def alarms(self) -> list[str]:
        with self.house.db.connect() as conn:
            return sorted(row.code for row in store.list_alarms(conn, "shop"))

    def grant(self, device: Device, points: int, **length: float) -> str:
        until = self.stage.now + timedelta(**(length or {"hours": 8}))
        return care.give(self.errand, device.pen.device, points, until).grant


@pytest.fixture
def opened(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Call it for a shop; afterwards its books prove."""
    with ExitStack() as stack:
        shops: list[Shop] = []

        def open_shop(settings: str = SETTINGS) -> Shop:
            shops.append(Shop(stack.enter_context(make_stage(settings, database_url, tmp_path, start=START))))
            return shops[-1]

        yield open_shop
        for shop in shops:
            with database.reading(shop.house.db) as conn:
                assert proofs.verify(conn).findings == ()


@pytest.fixture
def shop(opened: Callable[..., Shop]) -> Shop:
    found = opened()
    found.stage.enrol("ann", "bob")
    return found


@pytest.fixture(scope="module")
def browser(debian_tool: Callable[[str, str], str]) -> Iterator[Any]:
    from plugins.vr_kiosk.tests.street import opened_browser

    with opened_browser(debian_tool("chromium", "chromium")) as found:
        yield found


@pytest.fixture
def street(browser: Any, tmp_path: Path) -> Iterator[Any]:
    from plugins.vr_kiosk.tests.street import opened_street

    with opened_street(browser, tmp_path) as found:
        found.walk_up()
        yield found
