"""What plugin authors test with: fixtures that come by themselves, makers, strategies, golden effects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from tallystick.effects import Grant
from tallystick.events import CORE_KINDS, Event
from tallystick.fixtures import Device
from tallystick.testing import GoldenDiffers, StoryFailed, make_event, make_member, make_plugin, make_purchase, play
from tallystick.testing.golden import compare
from tallystick.testing.strategies import events

SHOP = """
[plugins.points]
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
"""


def test_a_story_is_played_in_the_shop_of_the_module(story, tenant):
    story("""
        2025-01-02  m-1 buys 12.34   earns 12 points
        2025-01-03  m-1 has 12 points
    """)
    assert [record.kind for record in tenant.records("m-1")] == ["purchase.completed"]


def test_time_passes_when_the_test_says_so(clock, tenant):
    before = clock.now
    clock.wait(days=30)
    assert (clock.now - before).days == 30
    assert tenant.house.clock() == tenant.clock[0]


def test_a_member_is_there(member, tenant, house):
    tenant.send(
        "purchase.completed", {"order": "A", "currency": "USD", "lines": [{"sku": "a", "amount": 500}]}, member=member
    )
    assert tenant.usable(member) == 5
    assert house.tenants()["shop"].plugins.keys() == {"points"}


def test_a_line_of_a_story_reads_as_the_pages_write_it(story):
    story("2025-01-03 m-1 buys 123.45  earns 123 points")
    with pytest.raises(StoryFailed, match="but it came to"):
        story("2025-01-03 m-1 buys 123.45 as R-9  earns 246 points")


@pytest.mark.parametrize("currency, amount, points", [("JPY", "500", 5), ("KWD", "1.500", 15), ("EUR", "5.00", 5)])
def test_money_is_the_shops_own(stage, currency, amount, points):
    shop = stage(f'currency = "{currency}"\n{SHOP}')
    play(f"2025-01-03 m-1 buys {amount}  earns {points} points", stage=shop)


SCANNER = """\
from tallystick.effects import Command
from tallystick.hookspecs import impl

class Scanner:
    @impl.decode
    def decode(self, frame, device):
        sku, _, cents = frame.decode().partition(" ")
        if not cents:
            return None
        data = {"order": sku, "currency": "USD", "lines": [{"sku": sku, "amount": int(cents)}]}
        return [{"type": "purchase.completed", "data": data}]

    @impl.react
    def react(self, event, situation, outcome):
        return [Command(rule="scanner.light", device="device-1", command="light", facts={"colour": "green"})]
"""
SCANS = """\
id = "scanner"
api = ">=1,<2"
summary = "A scanner."
factory = "tallystick_scanner:Scanner"
hooks = ["decode", "react"]
[effects]
Command = {}
"""


@pytest.fixture
def scanner(site):
    site.install("scanner", code=SCANNER, manifest=SCANS)


def test_a_device_speaks_through_the_plugin_that_understands_it(scanner, stage, request):
    shop = stage("[plugins.points]\n[[plugins.points.earn]]\nname='base'\npoints=1\nper=100\n[plugins.scanner]")
    shop.enrol("m-1")
    found = Device(shop, "device-1")
    (outcome,) = found.sends(b"TEA 1234", member="m-1")
    assert (outcome.record.kind, shop.usable("m-1")) == ("purchase.completed", 12)
    assert found.told() == [("light", {"colour": "green"})]
    with pytest.raises(AssertionError, match="no plugin understands"):
        found.sends(b"?")


def test_a_shop_has_a_device(device):
    assert device.told() == []


def test_what_leaves_the_house_is_seen(outbox, story):
    story("2025-01-02  m-1 buys 1.00")
    assert outbox() == []


def test_the_shop_is_asked_over_http(client, member):
    answer = client.get(f"/v1/members/{member}")
    assert (answer.status_code, answer.json()["status"]) == (200, "active")


@pytest.mark.parametrize("amounts, points", [(("0.99",), 0), (("1.00",), 1), (("1.50", "1.50"), 3)])
def test_a_pure_hook_is_tried_without_a_database(amounts, points):
    maker = make_plugin("points", {"earn": [{"name": "base", "points": 1, "per": 100}]})
    assert maker.earns(make_event(make_purchase(*amounts))).get("points", 0) == points


def test_wrong_settings_are_told_by_their_place():
    with pytest.raises(AssertionError, match=r"plugins\.points\.earn: found 3"):
        make_plugin("points", {"earn": 3})


def test_a_member_is_as_the_test_says():
    assert make_member(7, tags=("vip",)).tags == ("vip",)


MAKER = make_plugin("points", {"earn": [{"name": "base", "points": 1, "per": 100}]})


@settings(max_examples=50, deadline=None)
@given(events({kind.name: kind for kind in CORE_KINDS}))
def test_events_of_every_kind_can_be_asked_about(event: Event):
    assert all(type(effect.rule) is str for effect in MAKER.ask("earn", event))


def test_golden_effects_are_read_by_somebody_before_they_count(tmp_path: Path):
    effects = [Grant(rule="points.base", unit="points", amount=1)]
    file = tmp_path / "golden" / "a.json"
    with pytest.raises(GoldenDiffers, match="not there yet"):
        compare(effects, file)
    compare(effects, file, update=True)
    compare(effects, file)
    with pytest.raises(GoldenDiffers):
        compare([Grant(rule="points.base", unit="points", amount=2)], file)


def test_golden_effects_of_the_points_plugin(golden):
    golden(MAKER.ask("earn", make_event(make_purchase("12.34"))))


def test_the_plugin_itself_imports_no_house():
    code = (
        "import sys, tallystick.fixtures; "
        "print([name for name in sys.modules if name in ('sqlalchemy', 'starlette', 'tallystick.house')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
