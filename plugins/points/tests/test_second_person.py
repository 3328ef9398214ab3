"""Above the limit an adjustment takes two keys: the first asks, the second sends what the refusal said."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick import keys

SHOP = """\
zone = "UTC"
currency = "USD"
[plugins.points.adjust]
approve_above = 1000
"""


@pytest.fixture
def second(tenant: Any) -> str:
    with tenant.house.db.begin() as conn:
        return keys.create(conn, tenant=tenant.tenant, role="admin", name="eve", now=tenant.clock[0])[1]


def adjustment(tenant: Any, **data: Any) -> dict[str, Any]:
    return {
        "id": "adjust-1", "source": "desk", "type": "points.adjusted", "time": tenant.now.isoformat(), "member": "m-1",
        "data": {"points": 5_000, "reason": "lost parcel", "by": "staff-1", **data},
    }  # fmt: skip


def send(client: Any, event: dict[str, Any], key: str = "") -> Any:
    return client.post("/v1/events", json=event, headers={"authorization": f"Bearer {key}"} if key else {})


def asked(client: Any, tenant: Any) -> str:
    refused = send(client, adjustment(tenant))
    assert refused.json()["code"] == "approval_needed"
    return str(refused.json()["details"]["approved_by"])


def test_a_second_key_approves_what_the_first_one_asked_for(client: Any, tenant: Any, member: str, second: str) -> None:
    approval = asked(client, tenant)
    assert tenant.usable(member) == 0
    answer = send(client, adjustment(tenant, approved_by=approval), second)
    assert answer.status_code == 200, answer.text
    assert tenant.usable(member) == 5_000
    again = send(client, adjustment(tenant, approved_by=approval), second)
    assert (again.status_code, again.json()["entry"]) == (200, answer.json()["entry"])
    assert tenant.usable(member) == 5_000


def test_the_key_that_asked_is_no_second_person(client: Any, tenant: Any, member: str) -> None:
    answer = send(client, adjustment(tenant, approved_by=asked(client, tenant)))
    assert (answer.status_code, answer.json()["pointer"]) == (403, "/data/approved_by")
    assert tenant.usable(member) == 0


@pytest.mark.parametrize(
    "change",
    [{"points": 9_000}, {"reason": "because"}, {"by": "staff-2"}, {"points": -5_000}],
    ids=lambda each: next(iter(each)),
)
def test_what_was_approved_is_what_was_asked_for(
    client: Any, tenant: Any, member: str, second: str, change: dict[str, Any]
) -> None:
    answer = send(client, adjustment(tenant, approved_by=asked(client, tenant), **change), second)
    assert (answer.status_code, answer.json()["pointer"]) == (403, "/data/approved_by")
    other = {**adjustment(tenant, approved_by=asked(client, tenant)), "id": "adjust-2"}
    assert send(client, other, second).status_code == 403, "another event is another question"
    assert tenant.usable(member) == 0


@pytest.mark.parametrize("said", ["staff-2", "key:0123456789abcdef", "0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAA", "é."])
def test_a_name_is_no_second_person(client: Any, tenant: Any, member: str, second: str, said: str) -> None:
    """Whoever sends an event could write any name; only a key shows that somebody else agrees."""
    for key in ("", second):
        answer = send(client, adjustment(tenant, approved_by=said), key)
        assert (answer.status_code, answer.json()["pointer"]) == (403, "/data/approved_by")
    assert tenant.usable(member) == 0
