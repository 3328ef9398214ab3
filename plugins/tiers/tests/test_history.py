"""A history that is imported is reviewed as its years end, as it would have been."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tallystick.importing import Importer
from tallystick.ledger import instant, moment
from tallystick.mapping import Item

from .conftest import Shop
from .test_stories import CLUB


def purchase(name: str, at: str, cents: int) -> Item:
    data = {"order": name, "currency": "USD", "lines": [{"sku": "tea", "amount": cents}]}
    event = {"id": name, "source": "old", "type": "purchase.completed", "time": at, "member": "ada", "data": data}
    return Item(1, instant(datetime.fromisoformat(at)), json.dumps(event).encode(), None)


def test_tiers_are_reviewed_at_the_midnight_at_which_a_period_of_history_ended(shop: Callable[..., Shop]) -> None:
    club = shop(CLUB)
    club.on("2025-06-01")
    house, tenant = club.stage.house, club.stage.tenant
    items = [purchase("a", "2023-12-15T15:00:00+00:00", 160_000), purchase("b", "2025-01-10T15:00:00+00:00", 1_000)]
    told = Importer(house, tenant, history=True, enrol=True, actor="test").run(items)
    assert (told.recorded, told.refused) == (2, 0)
    zone = ZoneInfo("America/New_York")
    reviewed = [
        (f"{moment(record.received).astimezone(zone):%Y-%m-%d %H:%M}", step.data["tier"])
        for record in club.stage.records()
        if record.kind == "tiers.reviewed"
        for step in record.explanation
        if step.effect == "tier" and step.data is not None
    ]
    # gold was kept for the year after; then nothing more was bought, and one falls a step at a time
    assert reviewed == [("2025-01-01 00:00", "silver")]
    assert all(record.received <= instant(datetime(2025, 1, 10, 16, tzinfo=UTC)) for record in club.stage.records())
    entries = len(club.stage.records())
    again = Importer(house, tenant, history=True, enrol=True, actor="test").run(items)
    assert (again.repeated, len(club.stage.records())) == (2, entries), "played again it changes nothing"
