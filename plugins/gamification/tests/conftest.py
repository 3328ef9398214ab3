"""A house in which members play, on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tallystick import database, proofs
from tallystick.testing import Stage, make_stage

POINTS = """
[plugins.points]
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
"""


@pytest.fixture
def opened(database_url: str, tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    """Call it with the plugin's tables for a house; afterwards its books prove."""
    with ExitStack() as stack:
        stages: list[Stage] = []

        def open_stage(settings: str) -> Stage:
            stages.append(stack.enter_context(make_stage(POINTS + settings, database_url, tmp_path)))
            return stages[-1]

        yield open_stage
        for stage in stages:
            with database.reading(stage.house.db) as conn:
                assert proofs.verify(conn).findings == ()
