"""Without network: earning goes on up to a limit, and spending never exceeds what was allowed beforehand."""

from __future__ import annotations

import random

import pytest

from plugins.vr_kiosk.tests.conftest import Shop
from tallystick.errors import InvalidRequest
from tallystick_vr_kiosk.commands import grant
from tallystick_vr_kiosk.errors import DeviceRefused


def test_what_happened_offline_counts_when_the_network_is_back(shop: Shop) -> None:
    kiosk = shop.pair()
    code = shop.code("ann")
    shop.cut = True
    kiosk.say("identify", {"code": code}, operation="here", offline=True)
    kiosk.say("event", {"session": "here", "type": "gamification.checked_in", "facts": {}}, offline=True)
    shop.goes_by(hours=3)
    shop.cut = False
    kiosk.sync()
    assert [one["status"] for one in kiosk.answers] == ["done", "done"]
    [record] = [one for one in shop.stage.records("ann") if one.kind == "gamification.checked_in"]
    assert record.at == record.received - 3 * 3600 * 1_000_000


def test_a_code_that_was_stale_offline_is_stale_at_the_sync(shop: Shop) -> None:
    kiosk = shop.pair()
    code = shop.code("ann")
    shop.goes_by(seconds=95)
    kiosk.say("identify", {"code": code}, offline=True)
    kiosk.sync()
    assert kiosk.answers[-1]["code"] == "vr_kiosk_code_refused"


def test_a_device_sends_so_many_events_of_the_time_offline_and_no_more(shop: Shop) -> None:
    kiosk = shop.pair()
    kiosk.say("identify", {"code": shop.code("ann")}, operation="here", offline=True)
    for _ in range(8):
        facts = {"showroom": "spring", "spot": "lamp"}
        kiosk.say("event", {"session": "here", "type": "vr_kiosk.touched", "facts": facts}, offline=True)
    kiosk.sync()
    assert [one.get("code", "") for one in kiosk.answers[1:]] == [""] * 5 + ["vr_kiosk_offline_limit"] * 3
    assert shop.stage.usable("ann") == 5 * 3


def test_a_reward_given_offline_is_paid_by_the_member_as_far_as_it_goes(shop: Shop) -> None:
    shop.buys("ann", 80)
    kiosk = shop.pair()
    name = shop.grant(kiosk, 500)
    kiosk.say("identify", {"code": shop.code("ann")}, operation="here", offline=True)
    for _ in range(2):
        kiosk.say("redeem", {"session": "here", "reward": "coffee", "grant": name}, offline=True)
    kiosk.sync()
    assert [one["status"] for one in kiosk.answers] == ["done"] * 3
    assert shop.stage.usable("ann") == 0
    last = [one for one in shop.stage.records("ann") if one.kind == "vr_kiosk.redeemed"][-1]
    assert last.explanation[0].data is not None and last.explanation[0].data["short"] == 20
    [(left,)] = shop.stage.rows("SELECT remaining FROM stock WHERE key LIKE 'vr_kiosk:allowance/%'")
    assert left == 400


@pytest.mark.parametrize("how", ["none", "ended", "anothers"])
def test_a_device_that_gives_without_an_allowance_is_set_aside(shop: Shop, how: str) -> None:
    shop.buys("ann", 100)
    kiosk, other = shop.pair("one"), shop.pair("two")
    name = {"none": "", "ended": shop.grant(kiosk, 500, minutes=1), "anothers": shop.grant(other, 500)}[how]
    shop.goes_by(minutes=2)
    kiosk.say("identify", {"code": shop.code("ann")}, operation="here", offline=True)
    kiosk.say("redeem", {"session": "here", "reward": "coffee", "grant": name}, offline=True)
    kiosk.sync()
    assert kiosk.answers[-1]["code"] == "vr_kiosk_allowance_spent"
    assert (shop.alarms(), shop.stage.usable("ann")) == (["vr_kiosk_allowance_spent"], 100)
    with pytest.raises(DeviceRefused):
        kiosk.say("beat", {})


@pytest.mark.parametrize("seed", range(4))
def test_partitioned_devices_never_give_more_than_their_allowances(shop: Shop, seed: int) -> None:
    """Five devices that lie about what is left, and whose frames come late, repeated and out of order."""
    chance = random.Random(seed)
    for member in ("ann", "bob"):
        shop.buys(member, 2_000)
    devices = [shop.pair(f"kiosk {n}") for n in range(5)]
    allowed = {}
    for device in devices:
        allowed[device.pen.device] = chance.choice((60, 120, 260))
        name = shop.grant(device, allowed[device.pen.device])
        shop.goes_by(seconds=61)
        device.say("identify", {"code": shop.code(chance.choice(("ann", "bob")))}, operation="here", offline=True)
        for n in range(chance.randrange(1, 9)):
            data = {"session": "here", "reward": "coffee", "grant": name}
            device.say("redeem", data, operation=f"give {n}", offline=True)
            if chance.random() < 0.3:  # the same operation once more, under another number
                device.say("redeem", data, operation=f"give {n}", offline=True)
    for _ in range(40):
        device = chance.choice(devices)
        frame = chance.choice(device.history)
        try:
            device.line(frame)
        except DeviceRefused:
            continue
    for device in devices:
        try:
            device.sync()
        except DeviceRefused:
            continue
    given: dict[str, int] = {}
    for member in ("ann", "bob"):
        for record in shop.stage.records(member):
            if record.kind == "vr_kiosk.redeemed":
                device_id = record.source.partition("/")[2]
                given[device_id] = given.get(device_id, 0) + 50
    assert given and all(points <= allowed[device_id] for device_id, points in given.items())


def test_an_allowance_ends_a_day_after_its_time(shop: Shop) -> None:
    kiosk = shop.pair()
    shop.grant(kiosk, 500, hours=8)
    for hours, left in ((9, 500), (24, 0)):
        shop.goes_by(hours=hours)
        shop.house.run_jobs(force=True, only="vr_kiosk.allowances")
        assert shop.stage.rows("SELECT remaining FROM stock WHERE key LIKE 'vr_kiosk:allowance/%'") == [(left,)]


@pytest.mark.parametrize("points, ttl", [(0, "8h"), (5, "8 hours"), (5, "30d"), (5, "1s"), (10**10, "8h")])
def test_an_allowance_has_bounds(shop: Shop, points: int, ttl: str) -> None:
    kiosk = shop.pair()
    with pytest.raises(InvalidRequest):
        grant(shop.errand, kiosk.pen.device, max=points, ttl=ttl)
