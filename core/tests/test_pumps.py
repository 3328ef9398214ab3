"""Planted pumps are found, each with a story that plays; honest programmes have none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tallystick import config, discovery, pumps
from tallystick.cli import cli
from tallystick.document import Document
from tallystick.testing.stage import make_stage
from tallystick.testing.stories import play

HEAD = """
zone = "America/New_York"
currency = "USD"
[plugins.points]
"""
BASE = """
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
"""
REDEEM = """
[plugins.points.redeem]
points = 100
gives = 100
"""
#: Settings, the rule that leaks, and whether the story has to spend.
PLANTED = [
    pytest.param(
        HEAD + BASE + '[[plugins.points.earn]]\nname = "app"\nkind = "bonus"\npoints = 30\nreversible = false\n'
        "when = \"purchase.channel == 'app' && date(event.at).weekday == 3\"\n",
        "points.app",
        False,
        id="a bonus that stays, in the app on Wednesdays",
    ),
    pytest.param(
        HEAD.replace("[plugins", '[units.points]\nshortfall = "within_balance"\n[plugins') + BASE + REDEEM,
        "points.base",
        True,
        id="what was spent is not taken back",
    ),
    pytest.param(
        HEAD + '[[plugins.points.earn]]\nname = "dear"\npoints = 5\nper = 100\nreversible = false\n'
        "when = \"purchase.total >= 50000\"\nlines = \"line.category in ['COFFEE', 'TEA']\"\n",
        "points.dear",
        False,
        id="only above an amount, of some kinds of goods",
    ),
]
HONEST = [
    pytest.param(HEAD + BASE, id="one point for a dollar"),
    pytest.param(HEAD + BASE + REDEEM, id="with redemption"),
    pytest.param(
        HEAD + BASE + REDEEM + "[plugins.points.gift]\n"
        '[[plugins.points.earn]]\nname = "first"\nkind = "bonus"\nwhen = "counter.visits == 0"\npoints = 50\n'
        '[plugins.points.counters.visits]\nwindow = "lifetime"\n',
        id="with gifts, and a bonus on the first visit",
    ),
]


def search(settings: str, folder: Path) -> list[pumps.Pump]:
    text = settings.replace("[plugins", "[tenants.shop.plugins").replace("[units", "[tenants.shop.units")
    file = folder / "lint.toml"
    file.write_text(f'[house]\ndatabase = "sqlite:///never.db"\n[tenants.shop]\nname = "Shop"\n{text}')
    installed = discovery.discover()
    return pumps.search(config.check(Document.read(file), installed=installed, folder=folder), "shop", installed)


@pytest.mark.parametrize("settings, rule, spends", PLANTED)
def test_a_planted_pump_is_found_and_its_story_plays(settings: str, rule: str, spends: bool, tmp_path: Path) -> None:
    (pump,) = search(settings, tmp_path)
    assert (pump.rule, pump.gained > 0, "redeems" in pump.story) == (rule, True, spends)
    with make_stage(settings, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(pump.story, stage=stage)  # its last line says what is left
        spent = -sum(step.amount for record in stage.records() for step in record.explanation if step.effect == "spend")
        assert stage.posted("stranger") + spent == pump.gained
    assert not (tmp_path / "never.db").exists()


@pytest.mark.parametrize("settings", HONEST)
def test_an_honest_programme_has_none(settings: str, tmp_path: Path) -> None:
    assert search(settings, tmp_path) == []


def test_the_programme_of_tally_init_has_none_and_lint_shows_a_pump_with_its_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["init"]).exit_code == 0
    assert CliRunner().invoke(cli, ["lint", "--json"]).exit_code == 0
    file = tmp_path / "tally.toml"
    file.write_text(file.read_text() + "reversible = false\n")
    result = CliRunner().invoke(cli, ["lint", "--json"])
    (found,) = json.loads(result.stdout)
    assert (result.exit_code, found["code"], found["severity"], found["rule"]) == (
        1,
        "points_pump",
        "error",
        "points.base",
    )
    assert found["line"] > 0
    assert found["story"].splitlines()[-1].endswith("posted")
