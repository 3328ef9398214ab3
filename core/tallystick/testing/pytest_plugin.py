"""The pytest plugin: ``pytest_plugins = ["tallystick.testing.pytest_plugin"]`` gives a stage per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .stage import Stage, make_stage


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Stage]]:
    """Call it with a tenant's TOML for a whole house on SQLite (on both databases where ``database_url`` is at hand)."""
    with ExitStack() as stack:

        def make(settings: str, url: str | None = None) -> Stage:
            return stack.enter_context(make_stage(settings, url or f"sqlite:///{tmp_path}/house.db", tmp_path))

        yield make
