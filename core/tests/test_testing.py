"""What plugin authors test with: fixtures that come by themselves, makers, strategies, golden effects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from tallystick.effects import Grant
from tallystick.events import CORE_KINDS, Event
from tallystick.testing import GoldenDiffers, make_event, make_member, make_plugin, make_purchase
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
