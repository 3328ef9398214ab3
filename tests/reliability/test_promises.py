"""Every promise and scenario has a test by name, and the page that says so is right."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "how-it-is-tested.md").read_text()
ROWS = dict(re.findall(r"^\| ([IS]\d+) \|[^|]+\|([^|]+)\|$", PAGE, re.MULTILINE))
#: What was promised; the others concern plugins and are told by theirs.
PROMISED = {f"I{n}" for n in (*range(1, 22), 23, 24, 25, 26, 28)} | {f"S{n:02}" for n in (*range(1, 9), 10, 11, 15)}


def test_the_page_names_every_promise() -> None:
    assert set(ROWS) == PROMISED


@pytest.mark.parametrize("promise", sorted(ROWS))
def test_what_the_page_names_is_a_test(promise: str) -> None:
    named = re.findall(r"`(\S+\.py)::(test_\w+)`", ROWS[promise])
    assert named
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"
