"""The how-to page and the README: every recipe is put into a house, and its story is played there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick.testing import make_stage, play

ROOT = Path(__file__).parents[3]
PAGES = ("docs/how-to/check-in-calendar.md", "docs/zh_CN/how-to/check-in-calendar.md")
PREFIX = "tenants.shop."


def recipes() -> list[object]:
    found = []
    for page in PAGES:
        for part in (ROOT / page).read_text().split("\n## ")[1:]:
            settings = re.findall(r"```toml\n(.*?)```", part, re.DOTALL)
            stories = re.findall(r"```text\n(.*?)```", part, re.DOTALL)
            assert len(settings) == len(stories)
            found += [
                pytest.param(toml.replace(PREFIX, ""), story, id=part.partition("\n")[0])
                for toml, story in zip(settings, stories, strict=True)
            ]
    return found


@pytest.mark.parametrize("settings, story", recipes())
def test_every_recipe_does_what_its_story_says(settings: str, story: str, tmp_path: Path) -> None:
    with make_stage(settings, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(story, stage=stage)


def test_thirty_days_in_a_row_are_a_badge_and_begin_anew(tmp_path: Path) -> None:
    part = (ROOT / PAGES[0]).read_text().split("\n## ")[1]
    (settings,) = re.findall(r"```toml\n(.*?)```", part, re.DOTALL)
    days = [f"2025-{month:02}-{day:02}" for month, last in ((3, 31), (4, 10)) for day in range(1, last + 1)]
    story = "\n".join(f"{day}  ada does gamification.checked_in" for day in days[:31])
    with make_stage(settings.replace(PREFIX, ""), f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(story, stage=stage)
        assert stage.usable("ada") == 6 * 5 + 30 + 50 + 80 + 200 + 5
        assert stage.rows("SELECT count(*) FROM own WHERE name = 'badge:month'") == [(1,)]


def test_the_example_of_the_readme_gives_fifty_points_for_three_purchases(tmp_path: Path) -> None:
    (settings,) = re.findall(r"```toml\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
    with make_stage(settings.replace(PREFIX, ""), f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(
            "2025-01-02  ada buys 1.00\n2025-01-02  ada buys 1.00\n2025-01-02  ada buys 1.00   earns 50 points",
            stage=stage,
        )
