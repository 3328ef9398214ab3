"""Switching plugins at the doors: over HTTP with a permission of its own, and by `tally plugins`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tallystick.cli import cli
from tests.town import Town, build_town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with build_town(tmp_path, f"sqlite:///{tmp_path / 'tally.db'}") as town:
        yield town


def gained(town: Town) -> int:
    answer = town.send(town.event())
    assert answer.status_code == 200
    return int(answer.json().get("units", {}).get("acorns", {}).get("gained", 0))


def state(town: Town, tenant: str = "oak") -> str:
    (plugin,) = town.ask("GET", "/v1/plugins", key=f"{tenant}/owner").json()
    return str(plugin["state"])


def test_off_and_on_again_over_http(town: Town) -> None:
    assert gained(town) == 12
    answer = town.ask("POST", "/v1/plugins/acorns/disable")
    assert answer.status_code == 200
    assert answer.json() == {"generation": 2, "plugins": [], "changes": ["oak: acorns is gone"], "tried": 1}
    assert (gained(town), state(town), state(town, "elm")) == (0, "available", "enabled")
    assert town.ask("POST", "/v1/plugins/acorns/enable").json()["generation"] == 3
    assert (gained(town), state(town)) == (12, "enabled")


@pytest.mark.parametrize("role", ["cashier", "member", "device", "integrator", "partner"])
def test_switching_needs_its_own_permission(town: Town, role: str) -> None:
    for method, path in (("POST", "enable"), ("POST", "disable"), ("PUT", "settings")):
        body = {"json": {"settings": {}}} if method == "PUT" else {}
        answer = town.ask(method, f"/v1/plugins/acorns/{path}", key=f"oak/{role}", **body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert state(town) == "enabled"


def test_a_plugin_nobody_installed_is_not_found(town: Town) -> None:
    answer = town.ask("POST", "/v1/plugins/acrons/enable")
    assert (answer.status_code, answer.json()["detail"]) == (
        404, "no plugin 'acrons' is installed; did you mean acorns?",
    )  # fmt: skip


def test_what_is_wrong_with_settings_is_told_with_its_place(town: Town) -> None:
    answer = town.ask("PUT", "/v1/plugins/acorns/settings", json={"settings": {"colour": "red"}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_config")
    assert answer.json()["pointer"] == "/settings/colour"
    assert gained(town) == 12


# --- tally plugins ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_LANG", "en")
    runner = CliRunner()
    assert runner.invoke(cli, ["init"]).exit_code == 0
    return runner


def run(shop: CliRunner, *words: str, status: int = 0) -> Result:
    result = shop.invoke(cli, words)
    assert result.exit_code == status, result.output
    return result


def test_a_plugin_is_switched_off_and_on_at_the_command_line(shop: CliRunner) -> None:
    said = json.loads(run(shop, "plugins", "disable", "points", "--json").stdout)
    assert (said["generation"], said["plugins"], said["changes"]) == (2, [], ["shop: points is gone"])
    assert json.loads(run(shop, "plugins", "--json").stdout)["tenants"]["shop"]["runs"] == {}
    assert "trust" in run(shop, "plugins", "enable", "points").stderr
    assert json.loads(run(shop, "plugins", "--json").stdout)["tenants"]["shop"]["runs"] == {
        "points": "enabled in tally.toml"
    }


def test_settings_are_shown_and_changed(shop: CliRunner, tmp_path: Path) -> None:
    run(shop, "plugins", "config", "points", "--set", "expiry.policy=rolling", "--set", 'expiry.after="P30D"')
    found = json.loads(run(shop, "plugins", "config", "points", "--json").stdout)
    assert (found["expiry"], [rule["name"] for rule in found["earn"]]) == (
        {"policy": "rolling", "after": "P30D"},
        ["base"],
    )
    (tmp_path / "points.toml").write_text('[[earn]]\nname = "triple"\npoints = 3\nper = 100\n')
    run(shop, "plugins", "config", "points", "--file", "points.toml")
    found = json.loads(run(shop, "plugins", "config", "points", "--json").stdout)
    assert [rule["name"] for rule in found["earn"]] == ["triple"]


def test_wrong_settings_are_refused_by_name(shop: CliRunner) -> None:
    said = run(shop, "plugins", "config", "points", "--set", "earn=3", status=1).stderr
    assert said == "tally: invalid_config: plugins.points.earn: found 3; expected an array\n"


def test_the_lock_says_what_would_run_otherwise(shop: CliRunner, tmp_path: Path) -> None:
    assert run(shop, "plugins", "lock").stdout == "plugins.lock is new.\n"
    assert run(shop, "plugins", "lock", "--check").stdout == "Nothing runs otherwise than plugins.lock says.\n"
    kept = (tmp_path / "plugins.lock").read_text()
    run(shop, "plugins", "disable", "points")
    assert "points" not in (tmp_path / "plugins.lock").read_text(), "a change writes it anew"
    (tmp_path / "plugins.lock").write_text(kept)
    said = run(shop, "plugins", "lock", "--check", status=1).stderr
    assert said == "tally: lock_outdated: shop: points is gone\n"


@pytest.mark.parametrize(
    "wrong, says",
    [
        ("<<<<<<< HEAD\n", "plugins.lock:1:1: not TOML"),
        ('api = "1.0"\ntenants = 3\n', "plugins.lock:2:11: found 3; expected a table"),
        ("", 'plugins.lock:1:1: "api" is missing'),
    ],
)
def test_a_lock_that_cannot_be_read_is_never_up_to_date_and_is_written_anew(
    shop: CliRunner, tmp_path: Path, wrong: str, says: str
) -> None:
    (tmp_path / "plugins.lock").write_text(wrong)
    said = run(shop, "plugins", "lock", "--check", status=1).stderr
    assert said.startswith("tally: lock_outdated: plugins.lock could not be read, so nobody knows what ran: ")
    assert says in said
    assert says in run(shop, "plugins", "lock").stdout
    assert run(shop, "plugins", "lock", "--check").stdout == "Nothing runs otherwise than plugins.lock says.\n"


def test_a_change_tells_what_else_runs_otherwise_since_the_lock_was_written(shop: CliRunner, tmp_path: Path) -> None:
    run(shop, "plugins", "lock")
    lock = tmp_path / "plugins.lock"
    lock.write_text(re.sub(r'(\[plugins.points\]\nversion = )"[^"]*"', r'\1"0.0.1"', lock.read_text()))
    said = run(
        shop, "plugins", "config", "points", "--set", "expiry.policy=rolling", "--set", "expiry.after=P30D"
    ).stdout
    assert re.search(r"^  points 0\.0\.1 becomes [0-9.]+$", said, re.MULTILINE)
    assert run(shop, "plugins", "lock", "--check").stdout == "Nothing runs otherwise than plugins.lock says.\n"


# --- tally new -------------------------------------------------------------------------------------------------------


def test_a_plugin_is_begun_at_the_command_line(shop: CliRunner, tmp_path: Path) -> None:
    said = json.loads(run(shop, "new", "plugin", "big_stars", "--with", "jobs,routes", "--json").stdout)
    assert said["folder"] == "tallystick-big-stars"
    assert {Path(file).name for file in said["files"]} >= {"plugin.toml", "jobs.py", "routes.py", "test_big_stars.py"}
    assert all((tmp_path / file).is_file() for file in said["files"])
    assert "invalid_request" in run(shop, "new", "plugin", "moons", "--with", "magic", status=1).stderr
