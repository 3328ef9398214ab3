"""What apps see and do over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tallystick import keys
from tallystick.testing import Stage, make_stage, play
from tallystick.web import build_app

from .test_draws import WHEEL
from .test_stories import BOARDS, CALENDAR, FORMS, REFERRAL, task

SETTINGS = f"""[plugins.points]
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
{task(goal="2")}
[plugins.gamification.badges.explorer]
title = {{ en = "Explorer", zh = "探索者" }}
{CALENDAR}{FORMS}{REFERRAL}{BOARDS}{WHEEL}
"""


class App:
    """A member's app, or a key of another role, on a house."""

    def __init__(self, stage: Stage, client: TestClient) -> None:
        self.stage, self._client, self._keys = stage, client, dict[tuple[str, str], str]()

    def __call__(self, method: str, path: str, body: Any = None, *, role: str = "member", member: str = "ada") -> Any:
        found = self._keys.get((role, member))
        if found is None:
            with self.stage.house.db.begin() as conn:
                number = self.stage.number(member) if role == "member" else 0
                now = self.stage.clock[0]
                _, found = keys.create(conn, tenant="shop", role=role, name=f"{role}-{member}", now=now, member=number)
            self._keys[role, member] = found
        answer = self._client.request(method, path, json=body, headers={"Authorization": f"Bearer {found}"})
        return answer.json() if answer.status_code == 200 else (answer.status_code, answer.json().get("code"))


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with make_stage(SETTINGS, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        stage.enrol("ada", "bob")
        stage.at(datetime(2025, 3, 3, 12, tzinfo=UTC))
        with TestClient(build_app(stage.house)) as client:
            yield App(stage, client)


ME = "/v1/gamification/members/ada"


def test_a_member_sees_tasks_streak_badges_draws_and_forms(app: App) -> None:
    play("2025-03-03  ada buys 100.00 as A   earns 100 points", stage=app.stage)
    app.stage.send("gamification.draw_opened", {"draw": "wheel"})
    seen = app("GET", ME)
    assert seen["tasks"] == [
        {"task": "t", "title": {}, "progress": 1, "goal": 2, "level": 0, "levels": 1, "begun": True}
    ]
    assert seen["tasks"] == app("GET", f"{ME}/tasks")
    assert seen["check_in"] == {"length": 0, "best": 0, "total": 0, "today": False, "day": 1, "days": 3}
    badge = {"badge": "explorer", "title": {"en": "Explorer", "zh": "探索者"}, "level": 0, "levels": 1}
    assert seen["badges"] == app("GET", f"{ME}/badges") == [badge]
    assert [(draw["style"], draw["open"], draw["chances"]) for draw in seen["draws"]] == [("wheel", True, 3)]
    assert [(form["form"], form["answered"]) for form in seen["forms"]] == [("tea", False), ("favourite", False)]
    assert app("GET", ME, member="bob") == (404, "unknown_member")


def test_a_check_in_is_done_once_however_often_it_is_sent(app: App) -> None:
    first = app("POST", f"{ME}/check-in", {"id": "tap-1"})
    assert first["gained"] == {"points": 5}
    app.stage.at(datetime(2025, 3, 3, 12, 1, tzinfo=UTC))
    assert app("POST", f"{ME}/check-in", {"id": "tap-1"}) == first
    assert app("POST", f"{ME}/check-in", {"id": "tap-2"}) == (422, "gamification_already_checked_in")
    assert app("GET", ME)["check_in"] == {"length": 1, "best": 1, "total": 1, "today": True, "day": 1, "days": 3}
    assert app("POST", f"{ME}/check-in", {"id": "tap-3"}, member="bob") == (404, "unknown_member")
    assert app("POST", f"{ME}/check-in", {"id": "x", "points": 5}) == (400, "invalid_request")


def test_a_draw_is_turned_and_proved_without_telling_who_drew(app: App) -> None:
    play("2025-03-03  ada buys 100.00 as A   earns 100 points", stage=app.stage)
    assert app("POST", f"{ME}/draws/wheel", {"id": "1"})[1] == "gamification_draw_not_open"
    app.stage.send("gamification.draw_opened", {"draw": "wheel"})
    turned = app("POST", f"{ME}/draws/wheel", {"id": "2", "salt": "seven"})
    assert turned["gives"][0]["draw"] == "wheel"
    assert app("POST", f"{ME}/draws/wheel", {"id": "2", "salt": "seven"}) == turned
    assert "seed" not in app("GET", "/v1/gamification/draws/wheel/proof")
    app.stage.send("gamification.draw_closed", {"draw": "wheel"})
    app.stage.house.run_jobs()
    (drawn,) = app("GET", "/v1/gamification/draws/wheel/proof")["draws"]
    assert (drawn["entry"], drawn["salt"], "member" in drawn) == (turned["entry"], "seven", False)


def test_answers_boards_and_the_code_for_friends(app: App) -> None:
    play('2025-03-03  ada buys {"store": "north", "lines": [{"sku": "s", "amount": 700}]} as A', stage=app.stage)
    app.stage.house.run_jobs()
    voted = app("POST", f"{ME}/forms/favourite", {"id": "1", "answers": {"tea": "oolong"}})
    assert voted["gained"] == {"points": 3}
    assert (
        app("POST", f"{ME}/forms/favourite", {"id": "2", "answers": {"tea": "oolong"}})[1]
        == "gamification_already_answered"
    )
    assert app("POST", f"{ME}/forms/nothing", {"id": "3", "answers": {}})[1] == "gamification_not_offered"
    (line,) = app("GET", "/v1/gamification/boards/spend?scope=north")
    assert (line["rank"], line["score"], "ada" in line["name"]) == (1, 700, False)
    assert app("GET", f"{ME}/boards/spend?scope=north") == {"rank": 1, "score": 700}
    assert app("GET", f"{ME}/boards/spend?scope=south") == {"rank": 0, "score": 0}
    code = app("GET", f"{ME}/referral")["code"]
    play(
        f'2025-03-04  eve does member.enrolled {{"invited_by": "{code}"}}\n2025-03-05  eve buys 20.00', stage=app.stage
    )
    friend = app("GET", "/v1/gamification/members/eve/referral", member="eve")
    assert (friend["by"], friend["due"]) == (code, "2025-03-19")


@pytest.mark.parametrize("role, status", [("cashier", 200), ("device", 200), ("partner", 403)])
def test_who_may_check_in_for_a_member(app: App, role: str, status: int) -> None:
    found = app("POST", f"{ME}/check-in", {"id": "1"}, role=role)
    assert (found[0] if isinstance(found, tuple) else 200) == status
