"""The how-to page and the README: every recipe is put into a house, its story is played there, its commands are typed."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from tallystick.cli import cli
from tallystick.testing import Stage, make_stage, play

ROOT = Path(__file__).parents[3]
PAGES = ("docs/how-to/stop-refund-abuse.md", "docs/zh_CN/how-to/stop-refund-abuse.md")
PREFIX = "tenants.shop."


def blocks(part: str, language: str) -> list[str]:
    return [text.replace(PREFIX, "") for text in re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)]


def parts(page: str) -> list[str]:
    return (ROOT / page).read_text().split("\n## ")[1:]


def recipes() -> list[object]:
    found = []
    for page in PAGES:
        for part in parts(page):
            settings, stories = blocks(part, "toml"), blocks(part, "text")
            assert len(settings) == len(stories)
            found += [
                pytest.param(toml, story, id=part.partition("\n")[0])
                for toml, story in zip(settings, stories, strict=True)
            ]
    return found


def tell(story: str, stage: Stage) -> None:
    """Play a story; between its paragraphs the watches look and holds end."""
    for paragraph in story.split("\n\n"):
        for name in ("core.nothing", "risk.watch", "risk.timeouts", "core.nothing"):
            stage.house.run_jobs(force=True, only=name)
        play(paragraph, stage=stage)


@pytest.mark.parametrize("settings, story", recipes())
def test_every_recipe_does_what_its_story_says(settings: str, story: str, tmp_path: Path) -> None:
    with make_stage(settings, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        tell(story, stage)
        if "half_came_back" in settings:
            stage.at(stage.now + timedelta(days=1))
            stage.house.run_jobs(force=True)
            assert stage.records()[-1].kind == "entry.released"
        if "monitor" in settings:
            stage.house.run_jobs(force=True)
            assert stage.rows("SELECT policy, times, monitor FROM risk_case") == [("points_burst", 2, 1)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_can_be_typed(page: str, tmp_path: Path) -> None:
    *_, policy, decide = parts(page)
    (settings,), (story,), (commands,) = blocks(policy, "toml"), blocks(policy, "text"), blocks(decide, "sh")
    said = {}
    with make_stage(settings, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        tell(story.partition("\n\n")[0], stage)
        stage.house.run_jobs(force=True)
        for line in commands.splitlines():
            words = [*shlex.split(line)[1:], "--config", str(tmp_path / "tally.toml")]
            found = CliRunner().invoke(cli, words, env={"LANG": "C.UTF-8"})
            assert found.exit_code == 0, f"{line}\n{found.output}\n{found.exception!r}"
            said[" ".join(words[1:2])] = found.output
        assert stage.usable("ada") == 300
        assert stage.records()[-1].kind == "risk.restored"
        (spent, _) = [record for record in stage.records() if record.kind == "points.redeemed"]
        for words in (
            ["rule", "list"],
            ["lint"],
            ["whynot", "--member", "ada", "--rule", "risk.half_came_back", "--event", spent.entry],
        ):
            found = CliRunner().invoke(cli, [*words, "--config", str(tmp_path / "tally.toml")], env={"LANG": "C.UTF-8"})
            assert found.exit_code == 0, f"{found.output}\n{found.exception!r}"
            said[words[0]] = found.output
    assert "half_came_back" in said["cases"] and "returned_percent 66" in said["show"]
    assert "redeem restricted until 2030-01-01" in said["member"]
    assert "decided" in said["report"]
    assert "risk.half_came_back" in said["rule"]
    assert "risk.half_came_back" in said["whynot"]


def test_the_example_of_the_readme_holds_a_big_gift(tmp_path: Path) -> None:
    (settings,) = blocks((Path(__file__).parents[1] / "README.md").read_text(), "toml")
    with make_stage(settings, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(
            "2025-01-02  ada buys 10.00   earns 10000 points\n2025-01-09  ada gives 5000 points to bob   spends 5000 points\n"
            "2025-01-09  ada gives 1 points to bob   held",
            stage=stage,
        )
