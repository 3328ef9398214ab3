"""The routes: who may ask what, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from tallystick import discovery, keys
from tallystick.manifest import ROLES
from tallystick.testing import make_stage
from tallystick.web import build_app

from .conftest import POINTS, START, Shop

MANIFEST = discovery.discover()["risk"].manifest
ROLES_OF = {one.id: one.roles for one in MANIFEST.permissions}
UNTIL = "2030-01-01T00:00:00Z"
BODIES: dict[str, Any] = {
    "risk.add_note": {"text": "called", "by": "eve"},
    "risk.assign": {"to": "eve"},
    "risk.decide": {"decision": "release", "by": "eve"},
    "risk.restrict": {"until": UNTIL, "why": "cloned", "by": "eve"},
    "risk.restore": {"why": "new card", "by": "eve"},
    "risk.passed": {"method": "pin"},
}


class Door:
    def __init__(self, shop: Shop, client: TestClient, made: dict[str, str]) -> None:
        self.shop, self.client, self.keys = shop, client, made

    def ask(self, method: str, path: str, role: str | None = "owner", **more: Any) -> Any:
        headers = {"authorization": f"Bearer {self.keys[role]}"} if role else {}
        return self.client.request(method, f"/v1/risk/{path}", headers=headers, **more)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("shop")
    settings = POINTS + "[plugins.risk.limits]\nredemptions_hour = 2\n"
    with make_stage(settings, f"sqlite:///{folder / 'tally.db'}", folder, start=START) as stage:
        shop = Shop(stage)
        shop.joins("ann", "bob")
        shop.buys("ann")
        with stage.house.db.begin() as conn:
            made = {
                role: keys.create(
                    conn, tenant="shop", role=role, name=role, now=stage.clock[0],
                    member=stage.number("ann") * (role == "member"),
                )[1]
                for role in ROLES
            }  # fmt: skip
        with TestClient(build_app(stage.house)) as client:
            yield Door(shop, client, made)


@pytest.mark.parametrize("role", [*ROLES, None])
@pytest.mark.parametrize("route", MANIFEST.routes, ids=lambda route: str(route.id))
def test_only_who_is_declared_gets_in(door: Door, route: Any, role: str | None) -> None:
    path = route.path.removeprefix("/v1/risk/").format(case="999", member="ann", entry="1-9-9")
    answer = door.ask(route.methods[0], path, role, json=BODIES.get(route.id))
    if role is None:
        assert answer.status_code == 401
    elif role in ROLES_OF[route.permission]:
        assert answer.status_code in (200, 404, 409, 422), answer.text
        assert answer.status_code == 200 or answer.json()["code"] in ("risk_unknown_case", "risk_no_challenge")
    else:
        assert answer.status_code in (403, 404) and "code" in answer.json()


def test_a_case_is_read_noted_assigned_and_decided(door: Door) -> None:
    shop = door.shop
    shop.goes_by(days=1)
    shop.spends("ann")
    held = shop.spends("ann")
    shop.works()
    (case,) = door.ask("GET", "cases?policy=points_burst").json()
    assert (case["about"], case["times"], case["status"]) == ("member", 1, "open")
    (pending,) = door.ask("GET", "members/ann", "member").json()["pending"]
    assert (pending["entry"], pending["challenge"]) == (held.entry, False)
    assert door.ask("GET", "members/bob", "member").status_code == 404
    here = f"cases/{case['case']}"
    assert (
        door.ask("POST", f"{here}/notes", json={"text": "called", "by": "eve"}).json()["notes"][0]["text"] == "called"
    )
    assert door.ask("POST", f"{here}/assigned", json={"to": "max"}).json()["assigned"] == "max"
    done = door.ask("POST", f"{here}/decision", json={"decision": "restrict", "by": "eve", "until": UNTIL, "capabilities": ["gift"]})  # fmt: skip
    assert (done.json()["decision"], done.json()["entries"][0]["status"]) == ("restrict", "voided")
    assert door.ask("GET", "members/ann", "member").json() == {"restricted": {"gift": "2030-01-01T00:00:00+00:00"}, "pending": []}  # fmt: skip
    again = door.ask("POST", f"{here}/decision", json={"decision": "void", "by": "eve"})
    assert again.json()["code"] == "risk_case_decided"
    assert door.ask("POST", "members/ann/restoration", json={"why": "done", "by": "eve"}).json()["restricted"] == {}
    bad = door.ask("POST", "members/ann/restrictions", json={"why": "x", "by": "eve", "until": UNTIL, "capabilities": ["fly"]})  # fmt: skip
    assert bad.json()["code"] == "risk_unknown_capability"


def test_a_till_reports_that_a_challenge_was_passed(door: Door) -> None:
    shop = door.shop
    shop.joins("cleo")
    shop.seen("cleo", "login", device="phone")
    shop.buys("cleo")
    shop.goes_by(days=60)
    asked = shop.spends("cleo", device="stolen")
    assert asked.status == "step_up"
    shop.works()
    passed = door.ask("POST", f"entries/{asked.entry}/passed", "integrator", json={"method": "pin"})
    assert passed.json() == {"entry": asked.entry, "status": "released"}
    again = door.ask("POST", f"entries/{asked.entry}/passed", "integrator", json={"method": "pin"})
    assert again.json()["code"] == "risk_no_challenge"
    assert shop.stage.usable("cleo") == 900


@pytest.mark.parametrize("number", ["x", "1.5", "9" * 40, "%C2%B2"])
def test_a_case_has_a_number(door: Door, number: str) -> None:
    assert door.ask("GET", f"cases/{number}").status_code in (400, 422)
