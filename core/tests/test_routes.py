"""Routes and pages of plugins: a matrix made from the manifest, for whoever may come, and what a bad endpoint does."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from typing import Any

import attrs
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from core.tests.conftest import house_of
from tallystick import discovery, keys, passes, people, routes, switchboard
from tallystick.errors import NotFound, PluginBroken
from tallystick.ledger import member_name
from tallystick.manifest import ROLES
from tallystick.web import PUBLIC_BODY, SMALL_BODY, build_app

MANIFEST = """\
id = "nuts"
api = ">=1,<2"
summary = "Nuts in a hollow tree."
factory = "tallystick_nuts.tree:Tree"
hooks = ["earn"]
[routes."nuts.hidden"]
path = "/v1/nuts/hidden"
endpoint = "tallystick_nuts.routes:hidden"
permission = "nuts.read"
summary = "How many nuts are hidden"
[routes."nuts.hide"]
path = "/v1/nuts/members/{member}/hide"
endpoint = "tallystick_nuts.routes:hide"
permission = "nuts.write"
methods = ["POST", "PUT"]
[routes."nuts.bare"]
path = "/v1/nuts/bare"
endpoint = "tallystick_nuts.routes:bare"
permission = "members.read"
methods = ["DELETE"]
[routes."nuts.gate"]
path = "/v1/nuts/gate/{pass}"
endpoint = "tallystick_nuts.routes:gate"
methods = ["GET", "POST"]
public = true
rate = 2
[pages."nuts.tree"]
path = "/v1/nuts/tree"
endpoint = "tallystick_nuts.routes:tree"
permission = "nuts.read"
title = "The tree"
[permissions."nuts.read"]
summary = "See nuts"
roles = ["owner", "integrator", "member"]
[permissions."nuts.write"]
summary = "Hide nuts"
roles = ["owner", "member"]
"""
ROUTES = """\
from msgspec import Struct
class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    at_least: int = 0
class Hidden(Struct, frozen=True):
    tenant: str
    nuts: int
class Nuts(Struct, frozen=True, forbid_unknown_fields=True):
    nuts: int
def hidden(request, query: Asked) -> Hidden:
    '''Count them.'''
    return Hidden(request.tenant, query.at_least)
def hide(request, body: Nuts) -> dict[str, int]:
    if body.nuts == 13:
        raise ZeroDivisionError
    if body.nuts == 14:
        raise SystemExit(0)
    return {"member": request.member, "nuts": body.nuts * request.plugin.branches}
def bare(request):
    return None
def tree(request) -> str:
    return f"<h1>{request.tenant}</h1>"
def gate(knock):
    if knock.method == "GET":
        return f"<p>{knock.tenant} {' '.join(knock.words)} {knock.query.get('q', '')}</p>"
    if "x-mark" in knock.headers:
        return "text/plain", knock.path.encode(), {"X-Mark": knock.headers["x-mark"] + "!"}
    return "text/plain", knock.body[:9] + str(knock.plugin.branches).encode()
def lost(request, colour: str):
    return colour
def odd(request) -> complex:
    return 1j
"""
TREE = """\
class Tree:
    branches = 2
    def earn(self, event, situation):
        return ()
"""
SETTINGS = """\
[house]
database = "{url}"
[tenants.oak]
zone = "UTC"
currency = "USD"
[tenants.oak.plugins.nuts]
[tenants.elm]
zone = "UTC"
currency = "USD"
[tenants.elm.plugins.nuts]
[tenants.ash]
zone = "UTC"
currency = "USD"
"""
NOW = 1_795_256_100_000_000


class Wood:
    """Two tenants that run the plugin and one that does not, with a key for every role."""

    def __init__(self, client: TestClient, house: Any, made: dict[str, str], members: dict[str, str]) -> None:
        self.client, self.house, self.keys, self.members = client, house, made, members

    def ask(self, method: str, path: str, key: str | None = "oak/owner", **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.keys[key]}"} if key else {}
        return self.client.request(method, path, headers=headers | more.pop("headers", {}), **more)


@pytest.fixture(scope="module")
def wood(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wood]:
    folder = tmp_path_factory.mktemp("wood")
    with house_of(folder, "nuts", MANIFEST, {"routes": ROUTES, "tree": TREE}, SETTINGS, lambda: NOW) as house:
        made, members = {}, {}
        with house.db.begin() as conn:
            for tenant in house.config.tenants:
                for name in ("ann", "bob"):
                    number = people.enrol(conn, house.secret, tenant, NOW, external_ids=[name])
                    members[f"{tenant}/{name}"] = member_name(number)
                for role in ROLES:
                    own = int(members[f"{tenant}/ann"][2:]) if role == "member" else 0
                    key = keys.create(conn, tenant=tenant, role=role, name=role, now=NOW, member=own)
                    made[f"{tenant}/{role}"] = key[1]
        assert "tallystick_nuts.routes" not in sys.modules
        with TestClient(build_app(house)) as client:
            assert "tallystick_nuts.routes" not in sys.modules
            yield Wood(client, house, made, members)


#: Every door of the manifest with the roles that have its permission.
DOORS = {
    ("GET", "/v1/nuts/hidden"): "owner integrator member",
    ("POST", "/v1/nuts/members/{member}/hide"): "owner member",
    ("PUT", "/v1/nuts/members/{member}/hide"): "owner member",
    ("DELETE", "/v1/nuts/bare"): "owner admin cashier integrator device member",
    ("GET", "/v1/nuts/tree"): "owner integrator member",
}
PUBLIC = {("GET", "/v1/nuts/gate/{pass}"), ("POST", "/v1/nuts/gate/{pass}")}
WHOSE = {"own": "oak/ann", "another's": "oak/bob", "another tenant's": "elm/bob"}


def test_every_door_of_the_manifest_is_a_route(wood: Wood) -> None:
    app: Any = wood.client.app
    found = {(method, route.path) for route in app.routes for method in route.methods if method != "HEAD"}
    assert {door for door in found if door[1].startswith("/v1/nuts/")} == {*DOORS, *PUBLIC}
    declared = [*routes.brought([discovery.discover()["nuts"].manifest])]
    assert {(one.method, one.path) for one in declared if not one.public} == set(DOORS)
    assert {(one.method, one.path) for one in declared if one.public} == PUBLIC


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("role", [None, *ROLES])
@pytest.mark.parametrize("tenant", ["oak", "ash"])
@pytest.mark.parametrize("door", DOORS, ids=" ".join)
def test_only_declared_cells_succeed(
    wood: Wood, door: tuple[str, str], tenant: str, role: str | None, whose: str
) -> None:
    method, path = door
    body = {"json": {"nuts": 3}} if "hide" in path else {}
    path = path.format(member=wood.members[WHOSE[whose]])
    answer = wood.ask(method, path, f"{tenant}/{role}" if role else None, **body)
    if role is None:
        expected = 401
    elif tenant == "ash":
        expected = 404
    elif role not in DOORS[door].split():
        expected = 403
    elif "{member}" in door[1] and (whose == "another tenant's" or (role == "member" and whose == "another's")):
        expected = 404
    else:
        expected = 200
    assert answer.status_code == expected, answer.text


def test_an_endpoint_is_given_the_tenant_the_member_and_the_plugin(wood: Wood) -> None:
    assert wood.ask("GET", "/v1/nuts/hidden?at_least=4", "elm/owner").json() == {"tenant": "elm", "nuts": 4}
    answer = wood.ask("POST", "/v1/nuts/members/bob/hide", json={"nuts": 3}).json()
    assert answer == {"member": int(wood.members["oak/bob"][2:]), "nuts": 6}


def test_a_page_is_html_that_may_load_nothing_from_elsewhere(wood: Wood) -> None:
    answer = wood.ask("GET", "/v1/nuts/tree")
    assert (answer.text, answer.headers["content-type"]) == ("<h1>oak</h1>", "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path, more, code",
    [
        ("/v1/nuts/members/ann/hide", {"content": b"x" * (SMALL_BODY + 1)}, "too_large"),
        ("/v1/nuts/members/ann/hide", {"json": {"nuts": 1, "shells": 2}}, "invalid_request"),
        ("/v1/nuts/members/ann/hide?more=1", {"json": {"nuts": 1}}, "invalid_request"),
        (
            "/v1/nuts/members/ann/hide",
            {"content": b"nuts=1", "headers": {"content-type": "text/plain"}},
            "unsupported_media",
        ),
        ("/v1/nuts/members/ann/hide", {"json": {"nuts": 13}}, "plugin_failed"),
        ("/v1/nuts/members/ann/hide", {"json": {"nuts": 14}}, "plugin_failed"),
        ("/v1/nuts/members/nobody/hide", {"json": {"nuts": 1}}, "unknown_member"),
        ("/v1/nuts/hole", {"json": {}}, "not_found"),
    ],
)
def test_what_is_wrong_is_refused_by_name(wood: Wood, path: str, more: dict[str, Any], code: str) -> None:
    headers = {"authorization": f"Bearer {wood.keys['oak/owner']}", "content-type": "application/json"}
    answer = wood.client.post(path, **{**more, "headers": headers | more.get("headers", {})})
    assert answer.json()["code"] == code, answer.text
    assert "ZeroDivisionError" not in answer.text


def test_the_document_knows_them_while_somebody_runs_the_plugin(wood: Wood) -> None:
    paths = wood.ask("GET", "/openapi.json", None).json()["paths"]
    assert {(method.upper(), path) for path in paths for method in paths[path] if "/nuts/" in path} == {*DOORS, *PUBLIC}
    assert paths["/v1/nuts/gate/{pass}"]["get"]["security"] == []
    asked = paths["/v1/nuts/hidden"]["get"]
    assert asked["operationId"] == "get_nuts_hidden"
    assert [part["name"] for part in asked["parameters"]] == ["at_least"]
    assert "text/html" in paths["/v1/nuts/tree"]["get"]["responses"]["200"]["content"]


def test_a_public_door_opens_to_its_own_pass_and_to_nothing_else(wood: Wood) -> None:
    good = wood.house.pass_for("elm", "nuts.gate", "ann", "walnut")
    found = wood.ask("GET", f"/v1/nuts/gate/{good}?q=x", None)
    assert (found.status_code, found.text) == (200, "<p>elm ann walnut x</p>")
    assert "form-action 'self'" in found.headers["content-security-policy"]
    said = wood.ask("POST", f"/v1/nuts/gate/{good}", None, content=b"List-Unsubscribe=One-Click")
    assert (said.content, said.headers["content-type"]) == (b"List-Unsu2", "text/plain")
    marked = wood.ask("POST", f"/v1/nuts/gate/{good}", None, headers={"X-Mark": "mine"})
    assert (marked.text, marked.headers["x-mark"]) == (f"/v1/nuts/gate/{good}", "mine!")
    forged = [
        "", "x", good[:-1], good + "A", good.swapcase(), "=" * 40, "A" * 700, "%00", "é",
        wood.house.pass_for("ash", "nuts.gate", "ann"),  # does not run the plugin
        wood.house.pass_for("fir", "nuts.gate", "ann"),  # no such tenant
        wood.house.pass_for("elm", "nuts.other", "ann"),
        passes.issue(b"another house" * 3, passes.Pass("nuts.gate", "elm", ("ann", "walnut"))),
    ]  # fmt: skip
    for text in forged:
        assert wood.ask("GET", f"/v1/nuts/gate/{text}", None).status_code == 404, text
        assert wood.ask("GET", f"/v1/nuts/gate/{text}").status_code == 404, "a key does not help"


@given(st.binary(max_size=60), st.integers(0, 600), st.integers(0, 5))
def test_a_pass_that_was_changed_anywhere_opens_nothing(tail: bytes, place: int, step: int) -> None:
    text = passes.issue(b"k" * 32, passes.Pass("nuts.gate", "elm", ("ann",)))
    assert passes.read(b"k" * 32, text, "nuts.gate").words == ("ann",)
    place %= len(text) + 1  # often the last letter, of which some bits mean nothing
    place = min(place, len(text) - 1)
    alphabet = "ABab-_"
    changed = text[:place] + alphabet[step] + text[place + 1 :]
    for bad in ({changed} - {text}) | {text + base64.urlsafe_b64encode(tail).decode() + "x"}:
        with pytest.raises(NotFound):
            passes.read(b"k" * 32, bad, "nuts.gate")


def test_a_public_door_is_rate_bounded_and_takes_no_large_body(wood: Wood) -> None:
    good = wood.house.pass_for("oak", "nuts.gate", "bob")
    large = wood.ask("POST", f"/v1/nuts/gate/{good}", None, content=b"x" * (PUBLIC_BODY + 1))
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    answers = [wood.ask("GET", f"/v1/nuts/gate/{good}", None) for _ in range(60)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and refused[0].json()["code"] == "rate_limited" and int(refused[0].headers["retry-after"]) >= 1
    other = wood.house.pass_for("oak", "nuts.gate", "ann")
    assert wood.ask("GET", f"/v1/nuts/gate/{other}", None).status_code == 200, "another's link goes on"


def test_switched_off_it_is_gone_at_once_and_switched_on_it_is_back_without_a_restart(wood: Wood) -> None:
    assert wood.ask("GET", "/v1/nuts/hidden", "elm/owner").status_code == 200
    switchboard.disable(wood.house, "elm", "nuts", actor="test")
    assert wood.ask("GET", "/v1/nuts/hidden", "elm/owner").status_code == 404
    switchboard.enable(wood.house, "elm", "nuts", actor="test")
    assert wood.ask("GET", "/v1/nuts/hidden", "elm/owner").status_code == 200


@pytest.mark.parametrize(
    "reference", ["tallystick_nuts.routes:lost", "tallystick_nuts.routes:odd", "tallystick_nuts.routes:absent"]
)
def test_what_is_no_endpoint_is_a_broken_plugin(wood: Wood, reference: str) -> None:
    (door, *_) = routes.brought([discovery.discover()["nuts"].manifest])
    with pytest.raises(PluginBroken, match='plugin "nuts"'):
        routes.load(attrs.evolve(door, endpoint=reference))
