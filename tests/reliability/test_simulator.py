"""Twenty seeded lives, twice: no promise is broken, and the same seed gives the same trace byte for byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.simulator import simulate

SEEDS, STEPS = int(os.environ.get("TALLY_SEEDS", "20")), 70
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def elsewhere() -> dict[int, str]:
    """The same seeds in another process, with other hashes of strings."""
    command = [sys.executable, "-m", "tests.sim", "--seed", "1", "--seeds", str(SEEDS), "--steps", str(STEPS)]
    environment = os.environ | {
        "PYTHONPATH": f"{os.environ.get('PYTHONPATH', ROOT)}:{ROOT}:{ROOT / 'core'}",
        "PYTHONHASHSEED": "4711",
    }
    lines = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return {int(words[1]): words[-1] for words in map(str.split, lines)}


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_a_seeded_life_keeps_every_promise_and_is_the_same_twice(seed: int, elsewhere: dict[int, str]) -> None:
    assert simulate(seed, STEPS) == elsewhere[seed]
