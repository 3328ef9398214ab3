"""A town for the tests of the doors: two merchants with one small plugin, a key for every role, a few members."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx2
from starlette.testclient import TestClient

from tallystick import config, discovery, keys, people
from tallystick.document import Document
from tallystick.house import House, build_house, prepare
from tallystick.ledger import instant, member_name, moment
from tallystick.manifest import ROLES
from tallystick.web import build_app

MANIFEST = """\
id = "acorns"
api = ">=1,<2"
summary = { en = "An acorn for every dollar.", zh = "每消费一元得一颗橡果。" }
factory = "tallystick_acorns:Acorns"
hooks = ["needs", "earn", "redeem"]
[interests]
redeem = ["acorns.*"]
[units.acorns]
[effects]
Grant = {}
Spend = {}
[events."acorns.spent"]
facts = "tallystick_acorns:Spent"
summary = { en = "Acorns were spent." }
example = { acorns = 3 }
permission = "acorns.spend"
[permissions."acorns.spend"]
summary = "Spend a member's acorns"
roles = ["owner", "cashier", "partner"]
"""
CODE = """\
from typing import Annotated
from msgspec import Meta
from tallystick.effects import Grant, Spend
from tallystick.events import Facts, Purchase
from tallystick.hookspecs import hookimpl
from tallystick.rules import Int, Object, RuleText, Scope, compile_rules, object_type
from tallystick.situation import Needs
SCOPE = Scope({"purchase": Object("purchase", {**object_type(Purchase).fields, "total": Int(0, 1 << 40)})})
class Spent(Facts):
    acorns: Annotated[int, Meta(ge=1, le=1_000_000)]
class Acorns:
    def __init__(self, settings, programme):
        self.rules = compile_rules([RuleText("purchase", when="purchase.total >= 100", value="purchase.total / 100")], SCOPE)
    def rules_about(self, kind):
        return self.rules if kind == "purchase.completed" else None
    def facts_about(self, event, situation):
        return {"purchase": event.facts}
    @hookimpl
    def needs(self, kind):
        return Needs(balances=frozenset({"acorns"})) if kind == "acorns.spent" else None
    @hookimpl
    def earn(self, event, situation):
        if event.kind != "purchase.completed" or situation.member is None:
            return ()
        return [Grant(rule="acorns.purchase", unit="acorns", amount=event.facts.total // 100, data={"cents": event.facts.total})]
    @hookimpl
    def redeem(self, event, situation):
        if event.kind != "acorns.spent":
            return ()
        return [Spend(rule="acorns.spend", unit="acorns", amount=event.facts.acorns, gives={"hat": 1})]
"""
SETTINGS = """\
[house]
database = "{url}"
[tenants.oak]
zone = "UTC"
currency = "USD"
[tenants.oak.plugins.acorns]
[tenants.elm]
zone = "UTC"
currency = "USD"
[tenants.elm.plugins.acorns]
"""
NOW = "2026-11-21T10:15:00Z"
START = 1_795_256_100_000_000


@attrs.define
class Town:
    """The house of the town, and whoever comes to its doors."""

    house: House
    client: TestClient
    clock: list[int]
    keys: dict[tuple[str, str], str]  #: (tenant, role) -> key
    members: dict[str, str]  #: external id -> number, as the API names it
    count: int = 0

    def ask(self, method: str, path: str, *, key: str | None = "oak/owner", **more: Any) -> httpx2.Response:
        """Send a request with the key of ``tenant/role``, or without one."""
        headers = dict(more.pop("headers", {}))
        if key is not None:
            tenant, _, role = key.partition("/")
            headers["authorization"] = f"Bearer {self.keys[tenant, role]}"
        return self.client.request(method, path, headers=headers, **more)

    def event(self, kind: str = "purchase.completed", /, **changes: Any) -> dict[str, Any]:
        """A good event, fresh unless it is given an id."""
        self.count += 1
        data: dict[str, Any] = {
            "purchase.completed": {
                "order": f"R-{self.count}",
                "currency": "USD",
                "lines": [{"sku": "NUT", "amount": 1234}],
            },
            "acorns.spent": {"acorns": 1},
            "member.merged": {"into": "ann"},
        }.get(kind, {})
        document = {
            "id": f"e-{self.count}",
            "source": "till",
            "type": kind,
            "time": NOW,
            "member": "ann",
            "data": data,
            **changes,
        }
        return {name: value for name, value in document.items() if value is not None}

    def send(self, document: Any, *, key: str | None = "oak/owner", **more: Any) -> httpx2.Response:
        """Send events."""
        return self.ask("POST", "/v1/events", key=key, json=document, **more)


def lay_down_plugin(site: Path) -> None:
    """What the wheel of the small plugin would install."""
    info, package = site / "tallystick_acorns-1.5.dist-info", site / "tallystick_acorns"
    info.mkdir(parents=True)
    package.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tallystick-acorns\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[tallystick.plugins]\nacorns = tallystick_acorns:plugin.toml\n")
    (package / "__init__.py").write_text(CODE)
    (package / "plugin.toml").write_text(MANIFEST)


@contextmanager
def build_town(folder: Path, url: str, **more: Any) -> Iterator[Town]:
    """The town on a real database."""
    site = folder / "site"
    lay_down_plugin(site)
    sys.path.insert(0, str(site))
    try:
        installed = {"acorns": discovery.discover()["acorns"]}
        checked = config.check(Document(SETTINGS.format(url=url), "tally.toml"), installed=installed)
        prepare(checked, installed=installed)
        clock = [START]
        with build_house(checked, installed=installed, clock=lambda: clock[0]) as house:
            members, made = {}, {}
            with house.db.begin() as conn:
                for tenant, names in (("oak", ("ann", "bob")), ("elm", ("ann", "eve"))):
                    for name in names:
                        number = people.enrol(conn, house.secret, tenant, START, external_ids=[name])
                        members[f"{tenant}/{name}"] = member_name(number)
                    for role in ROLES:
                        own = int(members[f"{tenant}/ann"][2:]) if role == "member" else 0
                        made[tenant, role] = keys.create(
                            conn, tenant=tenant, role=role, name=role, now=START, member=own
                        )[1]
            assert moment(START).isoformat() == NOW.replace("Z", "+00:00")
            assert instant(moment(START)) == START
            with TestClient(build_app(house, **more)) as client:
                yield Town(house, client, clock, made, members)
    finally:
        sys.path.remove(str(site))
        sys.modules.pop("tallystick_acorns", None)
