"""The documentation says what the code says, and the same in both languages."""

import re
import runpy
from pathlib import Path

import pytest

from tallystick.hookspecs import all_hooks

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = runpy.run_path(str(DOCS.parent / ".ci" / "reference.py"))["pages"]()
#: Pages for people who run or use the house. Reference and decisions are for developers and in English.
TRANSLATED = ("tutorial", "how-to")
PAGES = sorted(page.relative_to(DOCS) for folder in TRANSLATED for page in (DOCS / folder).glob("*.md"))


def shape(page: Path) -> list[str]:
    """The levels of the headings and what is to be typed, in order; comments may be in the page's language."""
    parts = re.finditer(r"^(#+) |^```\w*\n.*?^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [part[1] or re.sub(r"(^|\s+)#.*$", "", part[0], flags=re.MULTILINE) for part in parts]


@pytest.mark.parametrize("name", REFERENCE)
def test_a_reference_page_says_what_the_code_says(name: str) -> None:
    """``python .ci/reference.py`` writes them."""
    assert (DOCS / "reference" / name).read_text() == REFERENCE[name]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_chinese_page_has_the_same_steps(page: Path) -> None:
    assert shape(DOCS / "zh_CN" / page) == shape(DOCS / page)


def test_no_chinese_page_is_left_without_its_english_one() -> None:
    pages = [page.relative_to(DOCS / "zh_CN") for page in (DOCS / "zh_CN").rglob("*.md")]
    assert [page for page in pages if not (DOCS / page).exists()] == []


@pytest.mark.parametrize("hook", all_hooks())
def test_every_hook_has_an_example_that_runs(hook: str) -> None:
    names = runpy.run_path(str(DOCS / "reference" / "hooks" / f"{hook}.py"))
    assert any(hasattr(vars(each).get(hook), "tallystick_impl") for each in names.values() if isinstance(each, type))
