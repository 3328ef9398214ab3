"""Every plugin of this repository is certified gold, the example from outside the workspace included."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallystick.certify import certify, id_of

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(file.parent for folder in ("plugins", "examples") for file in (ROOT / folder).glob("*/pyproject.toml"))


@pytest.fixture
def path_as_before() -> Iterator[None]:
    before = [*sys.path]
    yield
    sys.path[:] = before


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_of_this_repository_is_gold(
    folder: Path, make_database: Callable[[], str], path_as_before: None
) -> None:
    found = certify(id_of(folder), folder, postgresql=make_database(), up_to="gold")
    assert [each for each in found.findings if each.state == "failed"] == []
    assert found.level == "gold"
