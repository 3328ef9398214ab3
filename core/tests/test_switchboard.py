"""Plugins are switched while the house runs: what was answered holds for everybody, and survives a restart."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tallystick import config, database, discovery, house, switchboard, tables
from tallystick.document import Document
from tallystick.errors import InvalidConfig, NotFound, PluginBroken, TallyError, Unresolvable
from tallystick.intake import read_document
from tallystick.ledger import moment

MANIFEST = """\
id = "{id}"
api = ">=1,<2"
summary = "A plugin."
factory = "tallystick_{id}:Plugin"
hooks = ["earn", "health"]
{more}
[units.{id}]
[effects]
Grant = {{}}
[settings]
schema = "tallystick_{id}:SCHEMA"
"""
CODE = """\
from tallystick.effects import Grant
from tallystick.hookspecs import hookimpl

SCHEMA = {{
    "points": {{"type": "integer", "min": 1, "default": 1}},
    "ill": {{"type": "boolean", "default": False}},
    "fails": {{"type": "boolean", "default": False}},
}}

class Plugin:
    def __init__(self, settings):
        self.settings = settings
    @hookimpl
    def earn(self, event, situation):
        if self.settings["fails"]:
            raise RuntimeError("boom")
        if event.kind != "purchase.completed" or situation.member is None:
            return ()
        return [Grant(rule="{id}.purchase", unit="{id}", amount=self.settings["points"])]
    @hookimpl
    def health(self):
        return {{"ok": not self.settings["ill"]}}
"""
NOW = 1_795_256_100_000_000


class Shop:
    """A shop with the plugins bricks and, on top of it, tower; time stands still."""

    def __init__(self, url: str, settings: str) -> None:
        self.url, self.settings, self.count = url, settings, 0
        self.now = NOW
        self.installed = {name: found for name, found in discovery.discover().items() if name in ("bricks", "tower")}
        self.houses: list[house.House] = []
        self.open()

    def open(self) -> house.House:
        """The house as it starts now, with the settings of now."""
        checked = config.check(Document(self.settings.replace("URL", self.url)), installed=self.installed)
        house.prepare(checked, installed=self.installed)
        self.house = house.build_house(checked, installed=self.installed, clock=lambda: self.now)
        self.houses.append(self.house)
        return self.house

    def buys(self, at: house.House | None = None) -> dict[str, int]:
        """A purchase: points by rule."""
        self.count += 1
        self.now += 1_000_000
        opened = at or self.house
        document = {
            "id": f"e-{self.count}", "source": "till", "type": "purchase.completed", "time": moment(self.now).isoformat(),
            "member": "ann", "data": {"order": f"R-{self.count}", "currency": "USD", "lines": [{"sku": "A", "amount": 100}]},
        }  # fmt: skip
        kinds = opened.kinds("shop")
        (found,) = opened.engine.record(
            [read_document(document, tenant="shop", kinds=kinds, received=moment(self.now))]
        )
        if isinstance(found, TallyError):
            raise found
        return {step.rule: step.amount for step in found.record.explanation}

    def returns(self, order: str) -> dict[str, int]:
        self.count += 1
        self.now += 1_000_000
        document = {
            "id": f"e-{self.count}", "source": "till", "type": "purchase.refunded", "time": moment(self.now).isoformat(),
            "member": "ann", "data": {"order": order},
        }  # fmt: skip
        kinds = self.house.kinds("shop")
        (found,) = self.house.engine.record(
            [read_document(document, tenant="shop", kinds=kinds, received=moment(self.now))]
        )
        if isinstance(found, TallyError):
            raise found
        return {step.rule: step.amount for step in found.record.explanation}

    def enable(self, plugin: str) -> switchboard.Change:
        self.now += 1_000_000
        return switchboard.enable(self.house, "shop", plugin, actor="test")

    def disable(self, plugin: str) -> switchboard.Change:
        self.now += 1_000_000
        return switchboard.disable(self.house, "shop", plugin, actor="test")

    def configure(self, plugin: str, **settings: Any) -> switchboard.Change:
        self.now += 1_000_000
        return switchboard.configure(self.house, "shop", plugin, settings, actor="test")


SETTINGS = """\
[house]
database = "URL"
[tenants.shop]
zone = "UTC"
currency = "USD"
[tenants.shop.plugins.bricks]
points = 3
"""


@pytest.fixture
def open_shop(database_url: str, site: Any) -> Iterator[Callable[..., Shop]]:
    for name, more in (("bricks", ""), ("tower", 'depends = { bricks = ">=1" }')):
        site.install(name, code=CODE.format(id=name), manifest=MANIFEST.format(id=name, more=more))
    shops: list[Shop] = []

    def make(settings: str = SETTINGS) -> Shop:
        from tallystick import people

        shops.append(Shop(database_url, settings))
        with shops[-1].house.db.begin() as conn:
            people.enrol(conn, shops[-1].house.secret, "shop", NOW, external_ids=["ann"])
        return shops[-1]

    yield make
    for shop in shops:
        for each in shop.houses:
            each.db.dispose()


@pytest.fixture
def shop(open_shop: Callable[..., Shop]) -> Shop:
    return open_shop()


def test_a_plugin_runs_from_the_answer_on_and_no_longer_than_to_the_next(shop: Shop) -> None:
    assert shop.buys() == {"bricks.purchase": 3}
    change = shop.enable("tower")
    assert (change.generation, change.plugins, change.tried) == (2, ("bricks", "tower"), 1)
    assert change.changes == ("shop: tower is new, after bricks",)
    assert shop.buys() == {"bricks.purchase": 3, "tower.purchase": 1}
    assert shop.configure("tower", points=7).generation == 3
    assert shop.buys() == {"bricks.purchase": 3, "tower.purchase": 7}
    assert shop.disable("tower").plugins == ("bricks",)
    assert shop.buys() == {"bricks.purchase": 3}
    assert shop.enable("tower").generation == 5
    assert shop.buys() == {"bricks.purchase": 3, "tower.purchase": 7}, "it comes back with the settings it had"


def test_another_process_sees_a_change_with_its_next_event(shop: Shop) -> None:
    other = shop.open()
    shop.house = shop.houses[0]
    shop.enable("tower")
    assert shop.buys(other) == {"bricks.purchase": 3, "tower.purchase": 1}
    assert "tower" in other.tenants()["shop"].plugins
    shop.disable("tower")
    assert shop.buys(other) == {"bricks.purchase": 3}


def test_a_live_change_survives_a_restart_with_the_same_file(shop: Shop) -> None:
    shop.enable("tower")
    shop.configure("bricks", points=5)
    shop.open()
    assert shop.house.tenants()["shop"].reasons["tower"] == "enabled in the house"
    assert shop.buys() == {"bricks.purchase": 5, "tower.purchase": 1}


def test_a_file_that_was_changed_is_a_new_generation(shop: Shop) -> None:
    shop.enable("tower")
    shop.settings = SETTINGS.replace("points = 3", "points = 4")
    shop.open()
    assert shop.buys() == {"bricks.purchase": 4}
    assert shop.house.in_force("shop").generation == 3


def test_a_file_applied_twice_changes_nothing(shop: Shop) -> None:
    shop.open()
    assert shop.house.in_force("shop").generation == 1


def test_what_is_not_installed_is_named(shop: Shop) -> None:
    with pytest.raises(NotFound, match=r"did you mean tower\?"):
        shop.enable("towr")


def test_what_another_plugin_needs_stays(shop: Shop) -> None:
    shop.enable("tower")
    with pytest.raises(Unresolvable, match="tower needs bricks, which is switched off"):
        shop.disable("bricks")
    assert shop.buys() == {"bricks.purchase": 3, "tower.purchase": 1}


def test_settings_that_do_not_fit_change_nothing(shop: Shop) -> None:
    with pytest.raises(InvalidConfig) as refused:
        shop.configure("bricks", points=0, colour="red")
    assert {problem.pointer for problem in refused.value.problems} == {
        "/plugins/bricks/points",
        "/plugins/bricks/colour",
    }
    assert shop.buys() == {"bricks.purchase": 3}
    assert shop.house.in_force("shop").generation == 1


def test_a_plugin_that_says_it_is_ill_is_not_put_in_force(shop: Shop) -> None:
    with pytest.raises(PluginBroken, match="bricks says that it is not well"):
        shop.configure("bricks", ill=True)
    assert shop.house.in_force("shop").generation == 1


def test_a_plugin_that_fails_on_recorded_purchases_is_not_put_in_force(shop: Shop) -> None:
    shop.buys()
    with pytest.raises(PluginBroken, match=r"bricks 1\.5 fails in earn: RuntimeError"):
        shop.configure("bricks", fails=True)
    assert shop.buys() == {"bricks.purchase": 3}
    with database.reading(shop.house.db) as conn:
        assert conn.scalar(sa.select(sa.func.count()).select_from(tables.audit)) == 0


def test_changing_nothing_makes_no_generation(shop: Shop) -> None:
    assert shop.enable("bricks").generation == 1
    assert shop.configure("bricks", points=3).generation == 1


def test_settings_of_a_plugin_that_is_off_are_kept_for_later(shop: Shop) -> None:
    shop.configure("tower", points=9)
    assert shop.buys() == {"bricks.purchase": 3}
    shop.enable("tower")
    assert shop.buys() == {"bricks.purchase": 3, "tower.purchase": 9}


def test_every_change_is_in_the_audit(shop: Shop) -> None:
    shop.enable("tower")
    shop.configure("tower", points=2)
    shop.disable("tower")
    rows = tables.audit
    with database.reading(shop.house.db) as conn:
        found = conn.execute(sa.select(rows).order_by(rows.c.at)).all()
    assert [(row.actor, row.action) for row in found] == [
        ("test", "plugin.enabled"),
        ("test", "plugin.configured"),
        ("test", "plugin.disabled"),
    ]
    assert [msgspec.json.decode(row.body)["generation"] for row in found] == [2, 3, 4]


def test_what_a_plugin_gave_is_taken_back_although_it_is_off(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.buys()
    shop.disable("bricks")
    assert shop.returns("R-1") == {"bricks.purchase": -3}


def test_a_plugin_that_is_not_enabled_is_not_imported(shop: Shop) -> None:
    assert "tallystick_tower" not in sys.modules
    shop.enable("tower")
    assert "tallystick_tower" in sys.modules


def test_the_lock_names_what_runs_in_which_order(shop: Shop, tmp_path: Path) -> None:
    shop.enable("tower")
    lock = switchboard.lock_of([*shop.house.tenants().values()], shop.installed)
    assert lock.tenants == {"shop": ("bricks", "tower")}
    assert {name: plugin.version for name, plugin in lock.plugins.items()} == {"bricks": "1.5", "tower": "1.5"}
