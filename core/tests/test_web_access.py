"""S09, strangers at every door: every route, every role, own and others' objects, own and other tenants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2
import pytest

from tallystick.api import DOORS
from tallystick.manifest import ROLES
from tallystick.web import GUARDED, PUBLIC
from tests.town import Town, build_town

STAFF = "owner admin cashier integrator"
#: What each role may do, written down a second time: who changes the code must come here and mean it.
MAY: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/events"): f"{STAFF} device",
    ("POST", "/v1/members"): STAFF,
    ("GET", "/v1/members/{member}"): f"{STAFF} device member",
    ("GET", "/v1/members/{member}/balances"): f"{STAFF} device member",
    ("GET", "/v1/members/{member}/lots"): f"{STAFF} device member",
    ("GET", "/v1/members/{member}/entries"): f"{STAFF} member",
    ("POST", "/v1/members/{member}/link"): STAFF,
    ("POST", "/v1/members/{member}/claim"): STAFF,
    ("POST", "/v1/members/{member}/merge"): "owner admin",
    ("POST", "/v1/members/{member}/unmerge"): "owner admin",
    ("GET", "/v1/entries/{entry}/explanation"): f"{STAFF} member",
    ("GET", "/v1/rules/{rule}/whynot"): f"{STAFF} member",
    ("POST", "/v1/rules/{rule}/whynot"): f"{STAFF} member",
    ("GET", "/v1/plugins"): "owner admin integrator",
    ("POST", "/v1/repairs"): "owner admin",
    ("POST", "/v1/plugins/{plugin}/enable"): "owner admin",
    ("POST", "/v1/plugins/{plugin}/disable"): "owner admin",
    ("PUT", "/v1/plugins/{plugin}/settings"): "owner admin",
    ("GET", "/metrics"): "owner admin",
    **{("GET", path): "anybody" for path in sorted(PUBLIC)},
}
#: Bodies for doors that take one, given the object.
BODIES: Mapping[tuple[str, str], Callable[[Town, str], Any]] = {
    ("POST", "/v1/events"): lambda town, member: town.event(member=member),
    ("POST", "/v1/members"): lambda _town, _member: {"external_ids": [f"new-{next(_numbers)}"]},
    ("POST", "/v1/members/{member}/link"): lambda _town, _member: {"external_id": f"card-{next(_numbers)}"},
    ("POST", "/v1/members/{member}/claim"): lambda town, _: {"order": _guest_order(town)},
    ("POST", "/v1/members/{member}/merge"): lambda town, _: {"into": _newcomer(town)},
    ("POST", "/v1/members/{member}/unmerge"): lambda town, member: {"entry": _merge(town, member)},
    ("PUT", "/v1/plugins/{plugin}/settings"): lambda _town, _member: {"settings": {}},
    ("POST", "/v1/rules/{rule}/whynot"): lambda town, member: {"member": member, "data": town.event()["data"]},
}
#: Parameters of doors that name their object there.
QUERIES: Mapping[tuple[str, str], Callable[[str, str], Mapping[str, str]]] = {
    ("GET", "/v1/rules/{rule}/whynot"): lambda member, entry: {"member": member, "entry": entry},
}
_numbers = iter(range(1_000_000))
#: The objects a stranger may name.
OBJECTS = ("own", "another's", "another tenant's", "missing")


def _guest_order(town: Town) -> str:
    document = town.event(member=None)
    assert town.send(document).status_code == 200
    return str(document["data"]["order"])


def _newcomer(town: Town) -> str:
    answer = town.ask("POST", "/v1/members", json={"external_ids": [f"new-{next(_numbers)}"]})
    return str(answer.json()["member"]["member"])


def _merge(town: Town, member: str) -> str:
    """The entry of a merge into *member*, or of somebody else's where that cannot be."""
    owner = next(
        (
            tenant
            for tenant in ("oak", "elm")
            if member in {number for name, number in town.members.items() if name.startswith(tenant)}
        ),
        "oak",
    )
    key = f"{owner}/owner"
    source = town.ask("POST", "/v1/members", key=key, json={"external_ids": [f"new-{next(_numbers)}"]}).json()[
        "member"
    ]["member"]
    into = member if member in town.members.values() else _newcomer(town)
    answer = town.ask("POST", f"/v1/members/{source}/merge", key=key, json={"into": into})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["entry"])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with build_town(folder, f"sqlite:///{folder / 'tally.db'}") as town:
        yield town


@pytest.fixture(scope="module")
def objects(town: Town) -> dict[str, tuple[str, str]]:
    """(member, entry) by whose it is."""
    owners = {"own": ("oak", "ann"), "another's": ("oak", "bob"), "another tenant's": ("elm", "eve")}
    found = {"missing": ("m-000000000001", "1-999999-0")}
    for whose, (tenant, name) in owners.items():
        entry = town.send(town.event(member=name), key=f"{tenant}/owner").json()["entry"]
        found[whose] = (town.members[f"{tenant}/{name}"], entry)
    return found


def knock(town: Town, door: tuple[str, str], key: str | None, thing: tuple[str, str]) -> httpx2.Response:
    method, path = door
    member, entry = thing
    body = BODIES[door](town, member) if door in BODIES else None
    more = {"params": QUERIES[door](member, entry)} if door in QUERIES else {"json": body} if body else {}
    # of plugins one that nobody has: who may ask is told so, and the town goes on as it was
    path = path.format(member=member, entry=entry, rule="acorns.purchase", plugin="pine-cones")
    return town.ask(method, path, key=key, **more)


def names_an_object(door: tuple[str, str]) -> bool:
    return "{" in door[1] or door[1] == "/v1/events"


def test_the_table_knows_every_route(town: Town) -> None:
    routes = {(method, route.path) for route in town.client.app.routes for method in route.methods if method != "HEAD"}  # type: ignore[attr-defined]
    assert set(MAY) == routes
    assert {(door.method, door.path) for door in (*DOORS, *GUARDED)} == {door for door in MAY if MAY[door] != "anybody"}


@pytest.mark.parametrize("whose", OBJECTS)
@pytest.mark.parametrize("role", [None, *ROLES])
@pytest.mark.parametrize("door", MAY, ids=" ".join)
def test_only_declared_cells_succeed(
    town: Town, objects: dict[str, tuple[str, str]], door: tuple[str, str], role: str | None, whose: str
) -> None:
    answer = knock(town, door, f"oak/{role}" if role else None, objects[whose])
    if MAY[door] == "anybody":
        expected = {200}
    elif role is None:
        expected = {401}
    elif role not in MAY[door].split():
        expected = {403}
    elif "{plugin}" in door[1] or (
        names_an_object(door)
        and (whose in {"another tenant's", "missing"} or (role == "member" and whose == "another's"))
    ):
        expected = {404}
    else:
        expected = {200, 201}
    assert answer.status_code in expected, answer.text


@pytest.mark.parametrize("role", [role for role in ROLES if role != "partner"])
@pytest.mark.parametrize("door", [door for door in MAY if names_an_object(door)], ids=" ".join)
def test_anothers_object_looks_like_a_missing_one(
    town: Town, objects: dict[str, tuple[str, str]], door: tuple[str, str], role: str
) -> None:
    """Status, body and headers are those of a thing that never was."""
    seen = []
    for whose in ("missing", "another tenant's", *(["another's"] if role == "member" else [])):
        answer = knock(town, door, f"oak/{role}", objects[whose])
        text = answer.text
        for place, name in enumerate(objects[whose]):
            text = text.replace(name, f"<{place}>")
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        seen.append((answer.status_code, text, headers))
    assert all(one == seen[0] for one in seen)
    assert 400 <= seen[0][0] < 500


@pytest.mark.parametrize("role", ROLES)
def test_each_kind_of_event_asks_for_its_own_permission(town: Town, role: str) -> None:
    kinds = {
        "purchase.completed": f"{STAFF} device",
        "acorns.spent": "owner cashier partner",
        "member.enrolled": STAFF,
        "member.merged": "owner admin",
    }
    for kind, roles in kinds.items():
        alone = town.send(town.event(kind), key=f"oak/{role}")
        (among,) = town.send([town.event(kind)], key=f"oak/{role}").json()
        assert (alone.status_code != 403) is (among["status"] != 403) is (role in roles.split()), (kind, alone.text)


def test_a_tenants_members_and_ids_are_its_own(town: Town) -> None:
    """S03: the same external id, event id and order in two tenants have nothing to do with each other."""
    document = town.event(id="shared", source="shared")
    answers = {tenant: town.send(document, key=f"{tenant}/owner") for tenant in ("oak", "elm")}
    assert [answer.status_code for answer in answers.values()] == [200, 200]
    assert answers["oak"].json()["member"] != answers["elm"].json()["member"]
    assert town.members["oak/ann"] not in answers["elm"].text


def test_a_member_is_told_nothing_of_others(town: Town, objects: dict[str, tuple[str, str]]) -> None:
    said = town.ask("GET", f"/v1/entries/{objects['own'][1]}/explanation", key="oak/member").json()
    assert set(said) <= {"receipt", "steps", "related", "order", "value"}
    assert "actor" in town.ask("GET", f"/v1/entries/{objects['own'][1]}/explanation").json()
