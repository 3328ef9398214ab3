"""Commands of plugins: a plain function becomes a command line."""

import json
from datetime import date
from typing import Annotated, Any

import click
import pytest
from click.testing import CliRunner

from tallystick.cli import cli
from tallystick.commands import make_command
from tallystick.discovery import discover, manifests
from tallystick.manifest import DeclaredCommand
from tallystick.terminal import Group, Root

DECLARED = DeclaredCommand(id="points.rehearse", run="here:rehearse")


def rehearse(
    visit: Any,
    member: str,
    *,
    day: Annotated[date | None, {"en": "The day.", "zh": "日期。"}] = None,
    dry_run: bool = False,
    language: str = "en",
) -> tuple[Any, list[str]]:
    """Say what was heard."""
    heard = {"tenant": visit.tenant, "member": member, "day": day and day.isoformat(), "dry_run": dry_run}
    return heard | {"rules": len(visit.plugin.settings.earn)}, [f"{language}: {heard}"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert CliRunner().invoke(cli, ["init"]).exit_code == 0
    root = Root("tally")
    group = Group("points")
    root.add_command(group)
    make_command(group, "points", "rehearse", DECLARED, rehearse)
    return lambda *args: CliRunner().invoke(root, ["points", "rehearse", *args])


def test_parameters_are_arguments_options_and_flags_and_the_plugin_comes_as_the_tenant_has_set_it_up(run):
    found = run("ada", "--day", "2026-01-31", "--dry-run", "--json")
    assert json.loads(found.stdout) == {
        "tenant": "shop",
        "member": "ada",
        "day": "2026-01-31",
        "dry_run": True,
        "rules": 1,
    }


def test_lines_are_for_people_in_their_language(run, monkeypatch):
    assert run("ada").stdout.startswith("en: {'tenant': 'shop'")
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert run("ada").stdout.startswith("zh: ")
    assert "--day DATE     The day." in run("--help").stdout


def test_a_date_that_is_none_is_refused_where_it_was_typed(run):
    found = run("ada", "--day", "31.1.2026")
    assert found.exit_code == 2 and "--day" in found.stderr


def test_a_tenant_without_the_plugin_hears_so(run, tmp_path):
    file = tmp_path / "tally.toml"
    text = file.read_text()
    file.write_text(
        text[: text.index("[tenants.shop.plugins.points]")] + "[tenants.shop.plugins.points]\nenabled = false\n"
    )
    assert "invalid_request" in run("ada").stderr


def test_every_command_in_a_manifest_is_a_command_of_tally():
    found, _ = manifests(discover())
    for name, manifest in found.items():
        for declared in manifest.commands:
            context = click.Context(cli)
            group = cli.get_command(context, manifest.command_group or name)
            assert isinstance(group, Group) and group.get_command(context, declared.id.partition(".")[2]) is not None
