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
