"""Repair at the doors: `tally repair`, and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tallystick.cli import cli
from tests.town import Town, build_town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with build_town(tmp_path, f"sqlite:///{tmp_path / 'tally.db'}") as town:
        yield town


def boom(*_: Any, **__: Any) -> Any:
    raise RuntimeError


def test_what_a_broken_plugin_kept_is_given_over_http(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("tallystick_acorns.Grant", boom)
        sale = town.send(town.event()).json()
        waiting = town.ask("POST", "/v1/repairs").json()["waiting"]
        assert [(one["entry"], one["plugin"], one["cause"], one["code"]) for one in waiting] == [
            (sale["entry"], "acorns", "raised", "not_repaired")
        ]
    would = town.ask("POST", "/v1/repairs?dry_run=true").json()
    assert [(one["entry"], one["cause"], one["units"]["acorns"]["gained"]) for one in would["repaired"]] == [
        ("dry-run", sale["entry"], 12)
    ]
    done = town.ask("POST", "/v1/repairs").json()
    assert [(one["type"], one["cause"]) for one in done["repaired"]] == [("event.repaired", sale["entry"])]
    assert done["repaired"][0]["explanation"][0]["text"] == (
        "acorns.purchase gave 12 acorns (given later, for a plugin had failed)"
    )
    assert town.ask("POST", "/v1/repairs").json() == {"repaired": [], "nothing_owed": 0, "waiting": []}
    assert town.ask("GET", "/v1/members/ann/balances").json()["balances"]["acorns"]["usable"] == 12


@pytest.mark.parametrize("role", ["cashier", "member", "device", "integrator", "partner"])
def test_repairing_needs_its_own_permission(town: Town, role: str) -> None:
    answer = town.ask("POST", "/v1/repairs", key=f"oak/{role}")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_nobody_sends_a_repair_or_speaks_in_the_name_of_the_house(town: Town) -> None:
    answer = town.send(town.event("event.repaired", data={"entry": "1-1-0"}))
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_kind")


def test_an_order_without_a_rate_is_made_good_at_the_command_line(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_LANG", "en")
    monkeypatch.setenv("TALLY__HOUSE__DATABASE", database_url)

    def run(*words: str) -> Result:
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output
        return result

    run("init")
    run("member", "add", "ann")
    data = {"order": "R-1", "currency": "JPY", "lines": [{"sku": "tea", "amount": 100_000}]}
    at = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    event = {"id": "e1", "source": "till", "type": "purchase.completed", "time": at, "member": "ann", "data": data}
    (tmp_path / "events.jsonl").write_text(json.dumps(event) + "\n")
    run("import", "events.jsonl")
    said = run("repair").stdout.splitlines()
    assert said[0].endswith("points earn: points_unknown_rate; points still fails in earn: points_unknown_rate")
    assert said[1] == "0 made good, 0 owed nothing, 1 wait."
    assert "shop: points failed in earn; 1 entry waits for `tally repair`" in run("plugins").stdout
    config = tmp_path / "tally.toml"
    config.write_text(config.read_text() + '\n[tenants.shop.rates.JPY]\n"2025-01-01" = "0.0065"\n')
    assert "+650 points  (points)" in run("repair", "--dry-run").stdout
    done = json.loads(run("repair", "--json").stdout)
    assert [(one["plugins"], one["gained"]) for one in done["repaired"]] == [(["points"], {"points": 650})]
    assert run("repair").stdout == "0 made good, 0 owed nothing, 0 wait.\n"
    run("verify")


def test_who_fails_is_named_wherever_an_operator_looks(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert town.ask("GET", "/readyz").json()["plugins"]["failing"] == []
    monkeypatch.setattr("tallystick_acorns.Grant", boom)
    town.send(town.event())
    (found,) = town.ask("GET", "/readyz").json()["plugins"]["failing"]
    assert (found["plugin"], found["hook"], found["state"], found["errors"]) == ("acorns", "earn", "closed", 1)
    lines = town.ask("GET", "/metrics").text.splitlines()
    labels = 'plugin="acorns",version="1.5",hook="earn"'
    assert f"tallystick_plugin_errors_total{{{labels}}} 1" in lines
    assert f"tallystick_plugin_switched_off{{{labels}}} 0" in lines
    for _ in range(30):
        town.send(town.event())
    assert town.ask("GET", "/readyz").json()["plugins"]["failing"][0]["state"] == "open"
    assert f"tallystick_plugin_switched_off{{{labels}}} 1" in town.ask("GET", "/metrics").text.splitlines()


@pytest.mark.parametrize("changes", [{"source": "tally"}, {"source": "tally", "id": "repair/1-1-0"}])
def test_nobody_takes_the_houses_own_ids(town: Town, changes: dict[str, str]) -> None:
    answer = town.send(town.event(**changes))
    assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (422, "invalid_event", "/source")


def test_no_key_speaks_in_the_name_of_another(town: Town) -> None:
    held = town.event("entry.voided", member=None, data={"entry": "1-1-0", "reason": "x", "by": "key:somebody"})
    answer = town.send(held)
    assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (403, "forbidden", "/data/by")


def test_a_plugin_that_is_asked_about_every_purchase_before_it_is_warned_of(
    tmp_path: Path, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = (
        'id = "greedy"\napi = ">=1,<2"\nsummary = "x"\nfactory = "tallystick_greedy:Greedy"\nhooks = ["redeem"]\n'
    )
    code = "from tallystick.hookspecs import hookimpl\nclass Greedy:\n    @hookimpl\n    def redeem(self, event): return ()\n"
    site.install("greedy", code=code, manifest=manifest)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_LANG", "en")
    (tmp_path / "tally.toml").write_text(
        '[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n[tenants.shop.plugins.greedy]\n'
    )
    result = CliRunner().invoke(cli, ["check"])
    assert result.exit_code == 0, result.output
    assert "greedy decides about spending and names no kinds" in result.stderr
    (tmp_path / "tally.toml").write_text(
        '[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n[tenants.shop.plugins.points]\n'
    )
    assert CliRunner().invoke(cli, ["check"]).stderr == ""
