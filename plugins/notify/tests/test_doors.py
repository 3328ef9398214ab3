"""The routes and commands of the plugin: every role, own and others' members, own and other tenants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from plugins.notify.tests.conftest import POINTS, START, Shop
from tallystick import commands, discovery, keys
from tallystick.ledger import member_name
from tallystick.manifest import ROLES
from tallystick.testing import make_stage
from tallystick.web import build_app
from tallystick_notify import commands as own
from tallystick_notify.jobs import token

SETTINGS = POINTS + '[plugins.notify]\n[plugins.notify.channels.app]\nkind = "inbox"\n'
MANIFEST = discovery.discover()["notify"].manifest
ROLES_OF = {one.id: one.roles for one in MANIFEST.permissions}
BODIES: dict[str, Any] = {
    "notify.read_messages": {"ids": ["msg_1"]},
    "notify.say": {"purpose": "marketing", "given": True, "wording": "v3"},
    "notify.unsubscribe": {"token": "1.marketing.app.x"},
}


class Door:
    def __init__(self, shop: Shop, client: TestClient, made: dict[str, str]) -> None:
        self.shop, self.client, self.keys = shop, client, made

    def ask(self, method: str, path: str, role: str | None = "owner", **more: Any) -> Any:
        headers = {"authorization": f"Bearer {self.keys[role]}"} if role else {}
        return self.client.request(method, f"/v1/notify/{path}", headers=headers, **more)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("shop")
    with make_stage(SETTINGS, f"sqlite:///{folder / 'tally.db'}", folder, start=START) as stage:
        shop = Shop(stage)
        stage.enrol("bob")
        shop.reminds("ann")
        with stage.house.db.begin() as conn:
            made = {
                role: keys.create(
                    conn,
                    tenant="shop",
                    role=role,
                    name=role,
                    now=stage.clock[0],
                    member=stage.number("ann") * (role == "member"),
                )[1]
                for role in ROLES
            }
        yield Door(shop, TestClient(build_app(stage.house)), made)


@pytest.mark.parametrize("whose", ["ann", "bob", "nobody"])
@pytest.mark.parametrize("role", [None, *ROLES])
@pytest.mark.parametrize("route", MANIFEST.routes, ids=lambda route: route.id)
def test_only_declared_cells_succeed(door: Door, route: Any, role: str | None, whose: str) -> None:
    path = route.path.removeprefix("/v1/notify/").format(member=whose)
    body = {"json": BODIES[route.id]} if route.id in BODIES else {}
    status = door.ask(route.methods[0], path, role, **body).status_code
    if role is None:
        expected = 401
    elif role not in ROLES_OF[route.permission]:
        expected = 403
    elif route.id == "notify.unsubscribe" or whose == "nobody" or (role == "member" and whose != "ann"):
        expected = 404
    else:
        expected = 200
    assert status == expected


def test_the_inbox_has_the_message_until_it_is_read_and_after(door: Door) -> None:
    (item,) = door.ask("GET", "members/ann/inbox", "member").json()
    assert (item["template"], item["read"]) == ("points.expiring", False)
    assert item["text"].startswith("1,200 of your points expire soon")
    assert [door.ask("POST", "members/ann/read", "member", json={"ids": [item["id"]]}).json() for _ in range(2)] == [
        {"read": 1}, {"read": 0},
    ]  # fmt: skip
    assert door.ask("GET", "members/ann/inbox", "member").json()[0]["read"] is True
    assert door.ask("GET", "members/bob/inbox").json() == []


def test_consent_is_taken_back_as_easily_as_it_is_given_and_the_history_stays(door: Door) -> None:
    before = len(door.ask("GET", "members/bob/consents").json())
    for given in (True, False):
        assert door.ask("POST", "members/bob/consents", json={"purpose": "reminder", "given": given}).status_code == 200
    said = door.ask("GET", "members/bob/consents").json()[before:]
    assert [one["given"] for one in said if one["purpose"] == "reminder"] == [True, False]


def test_the_token_of_a_mail_takes_consent_back_and_a_forged_one_does_not(door: Door) -> None:
    stage = door.shop.stage
    number = stage.number("bob")
    good = token(stage.house.secret, "shop", number, "reminder", "letters")
    elsewhere = token(stage.house.secret, "other", number, "reminder", "letters")
    for bad in (elsewhere, good[:-1], good.replace("reminder", "service"), "", "x", "é.a.b.c", "9" * 30):
        assert door.ask("POST", "unsubscribe", json={"token": bad}).status_code == 404
    assert door.ask("POST", "unsubscribe", json={"token": good}).status_code == 200
    last = door.ask("GET", "members/bob/consents").json()
    assert {"purpose": "reminder", "channel": "letters", "given": False}.items() <= last[-1].items()


def test_the_report_the_preview_and_replay(door: Door) -> None:
    house = door.shop.stage.house
    visit = commands.visit(house, "shop", "notify", "notify.report")
    document, lines = own.report(visit)
    assert document == [{"template": "points.expiring", "channel": "app", "state": "sent", "reason": "", "number": 1}]
    assert "points.expiring" in lines[0]
    shown, _ = own.preview(visit, "points.expiring", member=member_name(door.shop.stage.number("ann")), language="zh")
    assert (shown["language"], shown["facts"]["points"]) == ("en", 1200)
    assert own.preview(visit, "tiers.near", language="zh")[0]["subject"] == "即将升级为 gold"
    assert own.replay(visit)[0] == {"replayed": 0}
    assert json.dumps(document)


def test_the_routes_are_in_the_openapi_document(door: Door) -> None:
    paths = door.client.get("/openapi.json").json()["paths"]
    assert {route.path for route in MANIFEST.routes} <= set(paths)
