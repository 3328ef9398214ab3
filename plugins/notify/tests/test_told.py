"""What happens in the shop reaches the member's inbox, in the member's language: a story for each message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from plugins.notify.tests.conftest import Shop, Site
from tallystick import keys
from tallystick.web import build_app

SETTINGS = """\
[plugins.notify.channels.app]
kind = "inbox"
[[plugins.tiers.ladders]]
name = "club"
window = "year"
[[plugins.tiers.ladders.tiers]]
name = "base"
[[plugins.tiers.ladders.tiers]]
name = "silver"
at = 50000
[[plugins.gamification.tasks]]
name = "visits"
title = { en = "Two visits", zh = "光临两次" }
goal = 2
rewards = [{ unit = "points", amount = 10 }]
[plugins.watch]
"""
WATCH = """\
id = "watch"
api = ">=1,<2"
summary = "Looks twice at large sales."
factory = "tallystick_watch.hooks:Watch"
hooks = ["review"]
[effects]
Verdict = {}
"""
WATCH_CODE = """\
from tallystick.effects import Verdict
from tallystick.events import Purchase
from tallystick.hookspecs import hookimpl
class Watch:
    @hookimpl
    def review(self, event):
        large = isinstance(event.facts, Purchase) and event.facts.total >= 900000
        return [Verdict(rule="watch.large", verdict="hold", reason="large")] if large else []
"""


@pytest.fixture(params=["en", "zh"])
def club(request: pytest.FixtureRequest, small_shop: Callable[..., Shop], site: Site) -> Club:
    folder = site.install("watch", code="", manifest=WATCH)
    (folder / "hooks.py").write_text(WATCH_CODE)
    found = small_shop(SETTINGS, start=datetime(2025, 1, 2, 17, tzinfo=UTC))
    found.joins("ann", language=request.param)
    return Club(found, request.param)


class Club:
    """A shop with everything that has something to say, and a member who speaks *language*."""

    def __init__(self, shop: Shop, language: str) -> None:
        self.shop, self.language = shop, language

    def buys(self, order: str, cents: int) -> Any:
        lines = [{"sku": "S", "amount": cents}]
        return self.shop.stage.send(
            "purchase.completed", {"order": order, "currency": "USD", "lines": lines}, member="ann"
        )

    def runs(self, job: str) -> None:
        self.shop.stage.house.run_jobs(force=True, only=job)

    def inbox(self) -> dict[str, list[tuple[str, str]]]:
        """Template -> (subject, text), the newest first, as the member's app reads it."""
        self.shop.works()
        stage = self.shop.stage
        with stage.house.db.begin() as conn:
            key = keys.create(conn, tenant="shop", role="owner", name="app", now=stage.clock[0])[1]
        with TestClient(build_app(stage.house)) as client:
            headers = {"authorization": f"Bearer {key}"}
            found: dict[str, list[tuple[str, str]]] = {}
            for item in client.get("/v1/notify/members/ann/inbox", headers=headers).json():
                found.setdefault(item["template"], []).append((item["subject"], item["text"]))
        return found

    def said(self, **words: str) -> str:
        return words[self.language]


def test_a_year_of_a_member_who_hears_of_everything(club: Club) -> None:
    """Near an upgrade, reached, a task completed, points that expire, a tier about to be lost."""
    club.buys("A-1", 42_000)
    (near,) = club.inbox()["tiers.near"]
    assert near[1] == club.said(en="Only 8,000 more to reach silver.", zh="再累积 8,000 即可升级为 silver。")
    club.shop.goes_by(days=1)
    club.buys("A-2", 8_000)
    found = club.inbox()
    ((_, reached),) = found["tiers.reached"]
    assert reached == club.said(
        en="You are silver from January 3, 2025 on.", zh="自2025年1月3日起，您的等级为 silver。"
    )
    ((_, done),) = found["gamification.task_done"]
    assert club.said(en="Well done", zh="恭喜") in done
    club.shop.goes_by(days=26)
    club.runs("points.remind")
    ((_, expiring),) = club.inbox()["points.expiring"]
    assert club.said(en="of your points expire soon", zh="积分即将过期") in expiring
    club.shop.stage.at(datetime(2026, 12, 5, 17, tzinfo=UTC))
    club.runs("tiers.warn")
    ((_, risk),) = club.inbox()["tiers.at_risk"]
    assert risk == club.said(
        en="50,000 more before January 1, 2027 keep you silver.",
        zh="在2027年1月1日之前再累积 50,000，即可保留 silver 等级。",
    )


def test_what_is_held_is_told_and_what_became_of_it_too(club: Club) -> None:
    first, second = (club.buys(order, 950_000) for order in ("B-1", "B-2"))
    held = club.inbox()["notify.held"]
    assert {subject for subject, _ in held} == {
        club.said(en=f"We are looking at {order}", zh=f"{order} 正在核对") for order in ("B-1", "B-2")
    }
    club.shop.stage.send("entry.released", {"entry": first.entry, "reason": "looked at"})
    club.shop.stage.send("entry.voided", {"entry": second.entry, "reason": "looked at"})
    found = club.inbox()
    ((released, _),), ((voided, _),) = found["notify.released"], found["notify.voided"]
    assert released == club.said(en="B-1 is fine", zh="B-1 已通过核对")
    assert voided == club.said(en="B-2 does not count", zh="B-2 未通过核对")
