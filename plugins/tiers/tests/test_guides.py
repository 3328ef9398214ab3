"""The page "Set up four tiers with soft landing": its settings are put into a house, its stories and commands are played."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tallystick.cli import cli
from tallystick.testing import make_stage, play

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "tiers.md").read_text()
SETTINGS = "\n".join(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)).replace("tenants.shop.", "")
STORIES = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("story", STORIES, ids=range(len(STORIES)))
def test_every_story_comes_out_as_told(story: str, tmp_path: Path) -> None:
    with make_stage(SETTINGS, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(story, stage=stage)


def test_the_commands_answer(tmp_path: Path) -> None:
    with make_stage(SETTINGS, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(STORIES[0], stage=stage)
    said = {}
    for line in COMMANDS.splitlines():
        _, *words = line.split()
        found = CliRunner().invoke(cli, [*words, "--config", str(tmp_path / "tally.toml")], env={"LANG": "C.UTF-8"})
        assert found.exit_code == 0, found.output
        said[words[1]] = found.output
    assert "as of 2027-01-01" in said["review"]
    assert "free_shipping = True" in said["show"] and "lounge = True" in said["show"]
    assert said["history"].splitlines()[-1].split()[1:5] == ["club:", "silver", "->", "gold"]


def test_commands_speak_chinese_and_json(tmp_path: Path) -> None:
    with make_stage(SETTINGS, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(STORIES[0], stage=stage)
    config = ["--config", str(tmp_path / "tally.toml")]
    chinese = CliRunner().invoke(cli, ["tiers", "forecast", "ada", *config], env={"LANG": "zh_CN.UTF-8"})
    assert "下一等级：" in chinese.output
    document = CliRunner().invoke(cli, ["tiers", "show", "ada", "--json", *config], env={"LANG": "C.UTF-8"})
    assert '"tier": "gold"' in document.output
    late = CliRunner().invoke(cli, ["tiers", "review", "--as-of", "2020-01-01", *config], env={"LANG": "C.UTF-8"})
    assert late.exit_code == 1 and "tiers_bad_review_day" in late.output
