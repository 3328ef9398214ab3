"""The how-to pages about kiosks and showrooms do what they say: their settings in a house, their commands as typed."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from plugins.vr_kiosk.tests.conftest import START, Shop
from tallystick import keys
from tallystick.cli import cli
from tallystick.ledger import instant
from tallystick.testing import make_stage
from tallystick_vr_kiosk import pairing, store
from tallystick_vr_kiosk.frames import check_key

GUIDES = Path(__file__).parents[3] / "docs" / "how-to"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"  # RFC 8032's first test vector


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", (GUIDES / page).read_text(), re.DOTALL)
    return [text.replace("tenants.shop.", "") for text in found]


class Typist:
    """Types what a page says, with the names of this house instead of the page's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.instead = folder, dict[str, str]()

    def type(self, line: str) -> Any:
        for said, here in self.instead.items():
            line = line.replace(said, here)
        words = [*shlex.split(line)[1:], "--json", "--config", str(self.folder / "tally.toml")]
        found = CliRunner().invoke(cli, words, env={"LANG": "C.UTF-8"}, catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)


def test_a_kiosk_is_put_in_a_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [settings] = blocks("kiosk.md", "toml")
    rule = '[[plugins.points.earn]]\nname = "base"\npoints = 1\nper = 100\n'
    settings = settings.replace("[plugins.points]\n", f"[plugins.points]\n{rule}")
    lines = "".join(blocks("kiosk.md", "sh")).splitlines()
    now = datetime.now(UTC)  # commands look at the real clock
    with make_stage(settings, f"sqlite:///{tmp_path / 'tally.db'}", tmp_path, start=now) as stage:
        shop = Shop(stage)
        stage.enrol("ann")
        shop.buys("ann", 500)
        shop.pin("ann", "4711")
        check_key(PUBLIC)
        with stage.house.db.begin() as conn:
            until = instant(stage.now) + 10**15
            store.add_pairing(
                conn, "shop", letters="BCDFGHJK", public_key=PUBLIC, version="", state="waiting", expires_at=until
            )
        typist = Typist(tmp_path)
        typist.instead["123456"] = pairing.number_of(PUBLIC)
        told: dict[str, Any] = {}
        for line in lines:
            if line.startswith("tally device sim"):
                [session] = blocks("kiosk.md", "json")
                Path("session.jsonl").write_text(session)
                typist.instead["CARD"] = told["card"]["code"]
            found = typist.type(line)
            told[line.split()[2]] = found
            if "approve" in line:
                typist.instead["k-0a1b2c3d"] = found["device"]
        assert told["page"]["url"].startswith("https://club.example.com/v1/vr_kiosk/kiosk/#")
        assert (told["grant"]["points"], told["list"][0]["name"], told["revoke"]["state"]) == (
            500,
            "Entrance",
            "revoked",
        )
        assert [(answer["status"], answer.get("code")) for answer in told["sim"]["answers"]] == [("done", None)] * 3
        assert stage.usable("ann") == 380
        assert Path("card.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("which", ["sample", "own"])
def test_a_showroom_opens(tmp_path: Path, which: str) -> None:
    sample, own = blocks("showroom.md", "toml")
    points = sample.split("[plugins.vr_kiosk]")[0]
    name, spots = ("sample", ("teapot", "vase", "armchair")) if which == "sample" else ("spring", ("teapot", "lamp"))
    settings = sample if which == "sample" else points + "[plugins.vr_kiosk]\n" + own
    with make_stage(settings, f"sqlite:///{tmp_path / 'tally.db'}", tmp_path, start=START) as stage:
        shop = Shop(stage)
        stage.enrol("ann")
        device = shop.pair()
        session = shop.identify(device, "ann")
        for spot in spots:
            facts = {"showroom": name, "spot": spot}
            device.say("event", {"session": session, "type": "vr_kiosk.touched", "facts": facts})
        assert stage.usable("ann") == 3 * len(spots) + 20
        if which == "sample":
            found = Typist(tmp_path).type("tally device page --room sample")
            assert "/v1/vr_kiosk/room/?name=sample#" in found["url"]


def test_the_doors_of_the_kiosk_are_for_those_who_may(tmp_path: Path) -> None:
    """Every route and role; a pass of another tenant or for another door opens nothing."""
    from starlette.testclient import TestClient

    from tallystick import discovery, passes
    from tallystick.manifest import ROLES
    from tallystick.web import build_app

    manifest = discovery.discover()["vr_kiosk"].manifest
    roles_of = {one.id: one.roles for one in manifest.permissions}
    bodies: dict[str, Any] = {
        "vr_kiosk.approve": {"letters": "BCDFGHJK", "number": "000000", "name": "x"},
        "vr_kiosk.change": {"state": "active"},
        "vr_kiosk.order": {"command": "lock"},
        "vr_kiosk.grant": {"points": 5, "seconds": 600},
        "vr_kiosk.set_pin": {"pin": "4711"},
    }
    settings = "[plugins.points]\n[plugins.vr_kiosk]\n"
    with make_stage(settings, f"sqlite:///{tmp_path / 'tally.db'}", tmp_path, start=START) as stage:
        shop = Shop(stage)
        stage.enrol("ann", "bob")
        device = shop.pair().pen.device
        with stage.house.db.begin() as conn:
            made = {
                role: keys.create(
                    conn, tenant="shop", role=role, name=role, now=stage.clock[0],
                    member=stage.number("ann") * (role == "member"),
                )[1]
                for role in ROLES
            }  # fmt: skip
        client = TestClient(build_app(stage.house))
        for route in manifest.routes:
            if route.public:
                continue
            for role in [None, *ROLES]:
                for member in ("ann", "bob"):
                    path = route.path.format(device=device, member=member)
                    body = {"json": bodies[route.id]} if route.id in bodies else {}
                    headers = {"authorization": f"Bearer {made[role]}"} if role else {}
                    status = client.request(route.methods[0], path, headers=headers, **body).status_code
                    if role is None:
                        expected = {401}
                    elif role not in roles_of[route.permission]:
                        expected = {403}
                    elif role == "member" and member == "bob" and "{member}" in route.path:
                        expected = {404}
                    else:  # the letters are wrong, or tried too often
                        expected = {409, 422, 429, 403} if route.id == "vr_kiosk.approve" else {200}
                    assert status in expected, (route.id, role, member, status)
        secret = stage.house.secret
        for door, tenant in (("vr_kiosk.pair", "elsewhere"), ("vr_kiosk.line", "shop")):
            word = passes.issue(secret, passes.Pass(door, tenant, ("page",)))
            assert client.post(f"/v1/vr_kiosk/{word}/pair", content=b"{}").status_code == 404
        word = stage.house.pass_for("shop", "vr_kiosk.pair", "page")
        for text in (
            b"",
            b"[]",
            b'{"public_key": "00"}',
            b'{"public_key": "' + b"0" * 64 + b'", "letters": "BCDFGHJK"}',
        ):
            assert client.post(f"/v1/vr_kiosk/{word}/pair", content=text).status_code in (400, 409, 422)
