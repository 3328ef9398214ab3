"""Settings that change while events arrive: what is switched off grants nothing any more, not even to the late (I16, S08)."""

from datetime import timedelta
from pathlib import Path

import pytest

from tallystick import config, discovery, house
from tallystick.document import Document
from tallystick.ledger import instant
from tallystick.receipts import receipt
from tallystick.testing import make_stage

POINTS = '[plugins.points]\n[[plugins.points.earn]]\nname = "base"\npoints = {points}\nper = 100\n'


def change(stage, folder: Path, url: str, settings: str) -> None:  # type: ignore[no-untyped-def]
    """Put other settings in force at the stage's time, as another process would."""
    head = f'[house]\ndatabase = "{url}"\n[tenants.shop]\nname = "Shop"\nzone = "America/New_York"\ncurrency = "USD"\n'
    file = folder / "changed.toml"
    file.write_text(head + settings.replace("[plugins", "[tenants.shop.plugins"))
    checked = config.check(Document.read(file), installed=discovery.discover(), folder=folder)
    assert not checked.unavailable
    house.sync_tenants(stage.house.db, checked, discovery.discover(), stage.clock[0])


@pytest.mark.parametrize("late", [timedelta(0), timedelta(days=1)])
def test_a_plugin_that_was_switched_off_grants_nothing_to_the_late_either(
    database_url: str, tmp_path: Path, late: timedelta
) -> None:
    with make_stage(POINTS.format(points=1), database_url, tmp_path) as stage:
        stage.enrol("ann")

        def facts(order: str) -> dict[str, object]:
            return {"order": order, "currency": "USD", "lines": [{"sku": "x", "amount": 5_000}]}

        stage.send("purchase.completed", facts("A"), member="ann")
        assert stage.usable("ann") == 50
        stage.at(stage.now + timedelta(hours=1))
        change(stage, tmp_path, database_url, "")
        stage.at(stage.now + timedelta(hours=1))
        record = stage.send("purchase.completed", facts("B"), member="ann", at=stage.now - late)
        assert record.transfers == ()
        assert record.off == (("points",) if late else ())
        assert receipt(record).off == record.off
        assert stage.usable("ann") == 50
        stage.send("purchase.refunded", {"order": "A"})
        assert stage.usable("ann") == 0, "what it gave is taken back by the core alone"


def test_a_late_event_earns_by_the_numbers_of_then(database_url: str, tmp_path: Path) -> None:
    with make_stage(POINTS.format(points=1), database_url, tmp_path) as stage:
        stage.enrol("ann")
        then = stage.now
        bought = {"order": "first", "currency": "USD", "lines": [{"sku": "x", "amount": 100}]}
        stage.send(
            "purchase.completed", bought, member="ann"
        )  # until something is recorded, new settings judge the past, too
        stage.at(then + timedelta(hours=5))
        change(stage, tmp_path, database_url, POINTS.format(points=3))
        for order, at, points in (("A", then, 50), ("B", then + timedelta(hours=5), 150)):
            facts = {"order": order, "currency": "USD", "lines": [{"sku": "x", "amount": 5_000}]}
            record = stage.send("purchase.completed", facts, member="ann", at=at)
            assert sum(step.amount for step in record.explanation) == points
        assert instant(then) < stage.clock[0]
