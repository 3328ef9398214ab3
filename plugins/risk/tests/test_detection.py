"""A small town with planted fraud: what is found by name, and who is suspected wrongly."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bench.fraud import generate, measure
from tallystick.testing import make_stage


@pytest.mark.parametrize("seed", [3])
def test_eleven_of_twelve_patterns_are_found_by_name_and_hardly_anybody_is_suspected_wrongly(
    seed: int, tmp_path: Path
) -> None:
    town = generate.make_town(seed, members=24)
    start = datetime.fromisoformat(town.events[0]["time"]) - timedelta(days=1)
    with make_stage(measure.SETTINGS, f"sqlite:///{tmp_path / 'books.db'}", tmp_path, start=start) as stage:
        found = measure.measure(town, stage, timedelta(days=1))
    assert not found.refused, found.refused
    assert found.patterns >= 11, found.found
    assert found.alarmed <= 1, found.alarms
    assert found.honest_held * 200 <= found.honest_events


def test_the_same_seed_makes_the_same_town_and_another_seed_another() -> None:
    one, same, other = (generate.make_town(seed, members=12) for seed in (1, 1, 2))
    assert one == same
    assert one.events != other.events
    assert {planted.pattern for planted in one.planted} == set(generate.PATTERNS)
    assert not {planted.pattern for planted in one.planted for name in planted.culprits if name in one.honest}
