"""What members and tills see of tiers over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from tallystick import keys
from tallystick.testing import Stage, make_stage, play
from tallystick.web import build_app

from .test_guides import SETTINGS


def ask(stage: Stage, path: str, role: str = "cashier", member: str = "", language: str = "en") -> Any:
    with stage.house.db.begin() as conn:
        number = stage.number(member) if member else 0
        _, key = keys.create(conn, tenant="shop", role=role, name=role, now=stage.clock[0], member=number)
    with TestClient(build_app(stage.house)) as client:
        answer = client.get(path, headers={"Authorization": f"Bearer {key}", "Accept-Language": language})
    return answer.json() if answer.status_code == 200 else answer.status_code


def test_a_member_sees_benefits_now_and_next_and_when_at_this_pace(tmp_path: Path) -> None:
    with make_stage(SETTINGS, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        stage.enrol("bob")
        play("2025-01-30  ada buys 750.00", stage=stage)
        (club,) = ask(stage, "/v1/tiers/members/ada", "member", "ada")
        assert (club["tier"], club["benefits"]) == ("silver", {"multiplier": "1.25", "free_shipping": True})
        assert (club["review"], club["falls_to"]) == ("2026-01-01", "")
        assert club["next"] == {
            "tier": "gold", "at": 150_000, "missing": 75_000, "on": "2025-03-01", "adds": {"multiplier": "1.5", "discount": "0.05"}
        }  # fmt: skip
        assert ask(stage, "/v1/tiers/members/bob", "cashier") == []
        assert ask(stage, "/v1/tiers/members/bob", "member", "ada") == 404


def test_the_ladders_are_shown_in_the_language_asked_for(tmp_path: Path) -> None:
    named = SETTINGS.replace('name = "gold"', 'name = "gold"\nsummary = { en = "Gold", zh = "金卡" }')
    with make_stage(named, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        (club,) = ask(stage, "/v1/tiers/ladders", language="zh")
        assert [(tier["title"], tier["at"]) for tier in club["tiers"]] == [
            ("base", 0), ("silver", 50_000), ("金卡", 150_000), ("platinum", 300_000),
        ]  # fmt: skip
