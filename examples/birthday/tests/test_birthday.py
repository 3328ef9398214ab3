"""What the plugin promises a member."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tallystick.people import Profile
from tallystick.situation import Birthday
from tallystick.testing import Stage, make_event, make_member, make_plugin

#: How the shop of the stories below is set up.
SHOP = """
zone = "Asia/Shanghai"
[plugins.points]
[plugins.birthday]
points = 500
"""


@pytest.mark.parametrize(
    "born, at, gained",
    [
        (Birthday(5, 17), "2025-05-17T12:00", 100),
        (Birthday(5, 17), "2025-05-16T15:59", 0),
        (Birthday(5, 17), "2025-05-16T16:00", 100),  # midnight in Shanghai
        (Birthday(2, 29), "2024-02-29T04:00", 100),
        (Birthday(2, 29), "2025-02-28T04:00", 100),
        (None, "2025-05-17T12:00", 0),
    ],
)
def test_the_day_is_the_one_of_the_programme(born: Birthday | None, at: str, gained: int) -> None:
    plugin = make_plugin("birthday", zone="Asia/Shanghai", plugins={"points": {}})
    event = make_event(at=datetime.fromisoformat(at).replace(tzinfo=UTC))
    proposed = plugin.ask("earn", event, plugin.situation(member=make_member(birthday=born)))
    assert sum(getattr(effect, "amount", 0) for effect in proposed) == gained


def test_there_is_one_gift_a_year(story: Callable[[str], Any], tenant: Stage) -> None:
    tenant.enrol("m-1", profile=Profile(birthday="1990-05-17"))
    story("""
        2025-05-16 10:00  m-1 buys 10.00           earns nothing
        2025-05-17 10:00  m-1 buys 10.00 as R-1    earns 500 points
        2025-05-17 11:00  m-1 buys 10.00           earns nothing
        2025-05-18 10:00  m-1 returns R-1
        2025-05-18 10:00  m-1 has 500 points
        2026-05-17 10:00  m-1 buys 10.00           earns 500 points
    """)
