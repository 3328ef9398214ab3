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

SETTINGS = POINTS + '[plugins.notify]\n[plugins.notify.channels.app]\nkind = "inbox"\n'
MANIFEST = discovery.discover()["notify"].manifest
ROLES_OF = {one.id: one.roles for one in MANIFEST.permissions}
BODIES: dict[str, Any] = {
    "notify.read_messages": {"ids": ["msg_1"]},
    "notify.say": {"purpose": "marketing", "given": True, "wording": "v3"},
    "notify.browser": {
        "subscription": {"endpoint": "https://push.example/1", "keys": {"p256dh": "B" * 87, "auth": "A" * 22}}
    },
}
ROUTES = [route for route in MANIFEST.routes if not route.public]


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
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.id)
def test_only_declared_cells_succeed(door: Door, route: Any, role: str | None, whose: str) -> None:
    path = route.path.removeprefix("/v1/notify/").format(member=whose)
    body = {"json": BODIES[route.id]} if route.id in BODIES else {}
    status = door.ask(route.methods[0], path, role, **body).status_code
    if role is None:
        expected = 401
    elif role not in ROLES_OF[route.permission]:
        expected = 403
    elif whose == "nobody" or (role == "member" and whose != "ann"):
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


def unsubscribe(door: Door, name: str, purpose: str, channel: str, message: str = "msg_1") -> str:
    stage = door.shop.stage
    stage.enrol(name)
    opened = stage.house.pass_for("shop", "notify.unsubscribe", str(stage.number(name)), purpose, channel, message)
    return f"unsubscribe/{opened}"


def test_looking_at_the_page_changes_nothing_and_one_click_withdraws(door: Door) -> None:
    path, before = unsubscribe(door, "eve", "reminder", "letters"), door.ask("GET", "members/eve/consents").json()
    for _ in range(2):  # as a scanner of mails does
        page = door.ask("GET", path, None)
        assert page.status_code == 200 and "Do you no longer want reminders?" in page.text
    assert door.ask("GET", "members/eve/consents").json() == before
    click = {"content": "List-Unsubscribe=One-Click", "headers": {"content-type": "application/x-www-form-urlencoded"}}
    for _ in range(2):
        assert "You will get no more reminders" in door.client.post(f"/v1/notify/{path}", **click).text
    (said,) = door.ask("GET", "members/eve/consents").json()[len(before) :]
    assert {"purpose": "reminder", "channel": "letters", "given": False, "via": "one-click"}.items() <= said.items()
    chinese = door.client.get(f"/v1/notify/{path}", headers={"accept-language": "zh-CN"}).text
    assert "您将不再收到提醒" in chinese and 'lang="zh-CN"' in chinese


def test_a_link_that_is_not_ours_withdraws_nothing(door: Door) -> None:
    path, before = unsubscribe(door, "eve", "service", "letters"), door.ask("GET", "members/eve/consents").json()
    stage = door.shop.stage
    elsewhere = stage.house.pass_for("other", "notify.unsubscribe", "1", "service", "letters", "msg_1")
    for bad in (
        path[:-1],
        path + "A",
        "unsubscribe/x",
        f"unsubscribe/{elsewhere}",
        path.replace("unsubscribe", "seen"),
    ):
        assert door.ask("POST", bad, None).status_code == 404
        assert door.ask("GET", bad).status_code == 404
    assert door.ask("GET", "members/eve/consents").json() == before


def test_consent_to_marketing_names_the_text_that_was_agreed_to(door: Door) -> None:
    said = {"purpose": "marketing", "given": True}
    refused = door.ask("POST", "members/ann/consents", json=said)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert (
        door.ask("POST", "members/ann/consents", json={**said, "wording": "2025-06"}).json()[-1]["wording"] == "2025-06"
    )
    assert door.ask("POST", "members/ann/consents", json={"purpose": "marketing", "given": False}).status_code == 200


def test_preferences_tell_what_may_come_over_which_channel_and_since_when(door: Door) -> None:
    door.shop.stage.enrol("fay")
    for given in (True, False):
        said = {"purpose": "marketing", "given": given, "channel": "app", "wording": "v7" * given}
        door.ask("POST", "members/fay/consents", json=said)
        found = door.ask("GET", "members/fay/preferences").json()["preferences"]
        (one,) = [each for each in found if (each["purpose"], each["channel"]) == ("marketing", "app")]
        assert (one["allowed"], one["kind"]) == (given, "inbox") and one["since"]
    (never,) = [each for each in found if each["purpose"] == "service"]
    assert (never["allowed"], never["since"]) == (True, None)


def test_the_report_the_preview_and_replay(door: Door) -> None:
    house = door.shop.stage.house
    visit = commands.visit(house, "shop", "notify", "notify.report")
    document, lines = own.report(visit)
    (row,) = document
    assert (row["template"], row["channel"], row["sent"], row["skipped"]) == ("points.expiring", "app", 1, 0)
    assert row["day"] == "2025-07-10"
    assert "1 sent" in lines[0] and "已发送" in own.report(visit, language="zh")[1][0]
    shown, _ = own.preview(visit, "points.expiring", member=member_name(door.shop.stage.number("ann")), language="zh")
    assert (shown["language"], shown["facts"]["points"]) == ("en", 1200)
    assert own.preview(visit, "notify.held", language="zh")[0]["subject"] == "R-1001 正在核对"
    assert own.replay(visit)[0] == {"replayed": 0}
    assert json.dumps(document)


def test_the_routes_are_in_the_openapi_document(door: Door) -> None:
    paths = door.client.get("/openapi.json").json()["paths"]
    assert {route.path for route in MANIFEST.routes} <= set(paths)
