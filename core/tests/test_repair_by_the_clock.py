"""A merchant may let the house make good by itself what broken plugins kept back; unless told so it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallystick import config, discovery, house, people
from tallystick.breaker import Limits
from tallystick.document import Document
from tallystick.intake import read_document
from tallystick.ledger import moment

MANIFEST = """\
id = "moody"
api = ">=1,<2"
summary = "A plugin with bad days."
factory = "tallystick_moody:Moody"
hooks = ["earn"]
[effects]
Grant = { max_amount = 1000 }
[units.moods]
"""
CODE = """\
from tallystick.effects import Grant
from tallystick.hookspecs import hookimpl

WELL = [True]

class Moody:
    @hookimpl
    def earn(self, event):
        if not WELL[0]:
            raise RuntimeError("a bad day")
        return [Grant(rule="moody.base", unit="moods", amount=5)]
"""
NOW = 1_795_256_100_000_000
SHOP = """\
[house]
database = "URL"
[tenants.shop]
zone = "UTC"
currency = "USD"
REPAIR
[tenants.shop.plugins.moody]
"""


class Shop:
    def __init__(self, url: str, repair: str) -> None:
        installed = {"moody": discovery.discover()["moody"]}
        text = SHOP.replace("URL", url).replace("REPAIR", repair)
        checked = config.check(Document(text), installed=installed)
        house.prepare(checked, installed=installed)
        self.count = 0
        self.house = house.build_house(checked, installed=installed, clock=lambda: NOW)
        with self.house.db.begin() as conn:
            people.enrol(conn, self.house.secret, "shop", NOW, external_ids=["ann"])

    @property
    def well(self) -> list[bool]:
        import tallystick_moody

        return tallystick_moody.WELL

    def buys(self, times: int = 1) -> None:
        for _ in range(times):
            self.count += 1
            document = {
                "id": f"e-{self.count}", "source": "till", "type": "purchase.completed", "time": moment(NOW).isoformat(),
                "member": "ann", "data": {"order": f"{self.count}", "currency": "USD", "lines": [{"sku": "A", "amount": 700}]},
            }  # fmt: skip
            kinds = self.house.kinds("shop")
            self.house.engine.record([read_document(document, tenant="shop", kinds=kinds, received=moment(NOW))])

    def hour(self) -> list[str]:
        return self.house.run_jobs(only="core.repair", force=True)

    @property
    def moods(self) -> int:
        with self.house.db.connect() as conn:
            return int(
                conn.exec_driver_sql("SELECT coalesce(sum(posted), 0) FROM balance WHERE unit = 'moods'").scalar()
            )


@pytest.fixture
def shop(site: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    site.install("moody", code=CODE, manifest=MANIFEST)
    found = Shop(f"sqlite:///{tmp_path}/t.db", request.param)
    yield found
    found.house.db.dispose()


@pytest.mark.parametrize("shop", ['repair = "hourly"'], indirect=True)
def test_within_the_hour_a_mended_plugin_gives_what_it_kept_back_once(shop: Shop) -> None:
    shop.buys()
    shop.well[0] = False
    shop.buys(3)
    assert shop.moods == 5
    assert shop.hour() == ["shop/core.repair"]
    assert shop.moods == 5, "it still fails"
    shop.well[0] = True
    for _ in range(2):
        shop.hour()
        assert shop.moods == 20


@pytest.mark.parametrize("shop", ['repair = "hourly"'], indirect=True)
def test_nothing_is_asked_again_as_long_as_a_plugin_is_switched_off(shop: Shop) -> None:
    shop.well[0] = False
    shop.buys(Limits().errors)
    (health,) = shop.house.registry.latest("shop").pipeline.health()
    assert health.state == "open"
    shop.well[0] = True
    shop.hour()
    assert shop.moods == 0
    shop.house.registry.latest("shop").pipeline.reset("moody")
    shop.hour()
    assert shop.moods == 5 * Limits().errors


@pytest.mark.parametrize("shop", ["", 'repair = "by_hand"'], indirect=True, ids=["unsaid", "by hand"])
def test_unless_the_merchant_says_so_somebody_has_to(shop: Shop) -> None:
    shop.well[0] = False
    shop.buys()
    shop.well[0] = True
    assert shop.hour() == []
    assert shop.moods == 0
    shop.house.repair("shop")
    assert shop.moods == 5
