"""Apps and tills over HTTP, and what certification says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from plugins.coalition.tests.conftest import Town
from tallystick import keys
from tallystick.certify import certify
from tallystick.web import build_app

T1 = "t-00000001"
Door = Callable[..., TestClient]


@pytest.fixture
def door(town: Town) -> Iterator[Door]:
    """Call it with a brand (and a role, and a member) for a client with a key of theirs."""
    town.house.open()
    app = build_app(town.house)
    clients: list[TestClient] = []

    def make(brand: str, role: str = "owner", member: int = 0) -> TestClient:
        with town.house.db.begin() as conn:
            _, secret = keys.create(conn, tenant=brand, role=role, name="test", now=town.clock[0], member=member)
        client = TestClient(app, headers={"authorization": f"Bearer {secret}"})
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


def test_a_member_links_converts_and_pays_over_http(town: Town, door: Door) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 500)
    app, pump, till = door("grocer", "member", ann), door("fuel", "member", ann_too), door("fuel", "cashier")
    alias = app.post("/v1/coalition/members/ann/links", json={"partner": "fuel"}).json()["alias"]
    assert pump.post("/v1/coalition/members/ann/links", json={"partner": "grocer", "alias": alias}).status_code == 200
    convert = {"transfer": T1, "partner": "fuel", "points": 100}
    done = app.post("/v1/coalition/members/ann/conversions", json=convert).json()
    assert done == {"transfer": T1, "state": "confirmed", "gets": 66, "owed": 50}
    assert app.post("/v1/coalition/members/ann/conversions", json=convert).json() == done
    pay = {"transfer": "t-00000002", "partner": "grocer", "alias": alias, "points": 200, "order": "P-1"}
    assert till.post("/v1/coalition/payments", json=pay).json()["gets"] == 200
    earn = {"transfer": "t-00000003", "partner": "grocer", "alias": alias, "amount": 1_000}
    assert till.post("/v1/coalition/earnings", json=earn).json()["gets"] == 10
    town.house.relay()
    found = door("grocer").get("/v1/coalition/statement", params={"partner": "fuel", "period": "2026-06"}).json()
    theirs = door("fuel").get("/v1/coalition/statement", params={"partner": "grocer", "period": "2026-06"}).json()
    assert found["text"] == theirs["text"] and found["entries"] == theirs["entries"] and len(found["entries"]) == 3
    assert found["signature"] != theirs["signature"]
    page = {"partner": "fuel", "period": "2026-06"}
    assert door("grocer").get("/v1/coalition/statement.html", params=page).status_code == 404  # not settled yet


@pytest.mark.parametrize(
    "change, code",
    [
        ({"alias": "a" * 24}, "coalition_not_possible"),
        ({"points": 501}, "coalition_not_possible"),
        ({"partner": "wine"}, "coalition_not_possible"),
        ({"points": 0}, "invalid_request"),
        ({"transfer": "short"}, "invalid_request"),
    ],
)
def test_what_cannot_be_paid_changes_nothing(town: Town, door: Door, change: dict[str, object], code: str) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 500)
    alias = town.link("grocer", "fuel", ann)
    pay = {"transfer": T1, "partner": "grocer", "alias": alias, "points": 100, **change}
    answer = door("fuel", "cashier").post("/v1/coalition/payments", json=pay)
    assert answer.json()["code"] == code
    assert town.usable("grocer", ann) == 500


def test_a_member_cannot_pay_for_themselves_at_the_till_or_read_statements(town: Town, door: Door) -> None:
    member = door("fuel", "member", town.member("fuel", "ann"))
    pay = {"transfer": T1, "partner": "grocer", "alias": "a" * 24, "points": 100}
    assert member.post("/v1/coalition/payments", json=pay).status_code == 403
    assert member.get("/v1/coalition/statement", params={"partner": "grocer", "period": "2026-06"}).status_code == 403


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
def test_the_plugin_is_gold(make_database: Callable[[], str]) -> None:
    found = certify("coalition", postgresql=make_database(), up_to="gold")
    assert [each for each in found.findings if each.state == "failed"] == []
    assert found.level == "gold"
