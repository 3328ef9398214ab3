"""The how-to pages about points: every recipe is put into a house, and its story is played there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick.testing.stage import make_stage
from tallystick.testing.stories import play

GUIDES = Path(__file__).parents[3] / "docs" / "how-to"
PREFIX = "tenants.shop."


def recipes() -> list[object]:
    found = []
    for page in ("earn-points.md", "spend-points.md"):
        for part in (GUIDES / page).read_text().split("\n## ")[1:]:
            title = part.partition("\n")[0]
            (settings,) = re.findall(r"```toml\n(.*?)```", part, re.DOTALL)
            (story,) = re.findall(r"```text\n(.*?)```", part, re.DOTALL)
            found.append(pytest.param(settings.replace(PREFIX, ""), story, id=title))
    return found


@pytest.mark.parametrize("settings, story", recipes())
def test_every_recipe_does_what_its_story_says(settings: str, story: str, tmp_path: Path) -> None:
    with make_stage(settings, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(story, stage=stage)


def test_the_example_of_the_readme_comes_to_what_it_says(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (settings,) = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    with make_stage(settings.replace(PREFIX, ""), f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        (record,) = play("2025-01-07  ada buys 19.99  earns 38 points", stage=stage)
    assert [(step.rule, step.amount) for step in record.explanation] == [("points.base", 19), ("points.tuesday", 19)]
