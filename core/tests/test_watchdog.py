"""What counts as a plugin's own time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import pytest

from tallystick.watchdog import Overrun, Watchdog, absorb, watch

BUDGET = 0.05


class Guard:
    def __init__(self) -> None:
        self.overruns = 0

    def overran(self) -> None:
        self.overruns += 1


def call(guard: Guard, plugin: Callable[[], object]) -> int:
    """Call *plugin* as the pipeline does; how often the watchdog ended it."""
    try:
        plugin()
        absorb()
    except Overrun:
        absorb()
    return guard.overruns


watch(call.__code__)


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    """One that looks only when it is told to."""
    with Watchdog(budget=BUDGET, period=3600) as watchdog:
        yield watchdog


def spend(seconds: float, doing: Callable[[], object]) -> None:
    begun = time.thread_time()
    while time.thread_time() - begun < seconds:
        doing()


@pytest.mark.parametrize("doing, ended", [(gc.collect, 0), (lambda: None, 1)], ids=["collecting garbage", "looping"])
def test_a_plugin_answers_for_its_own_time_alone(watchdog: Watchdog, doing: Callable[[], object], ended: int) -> None:
    heap = [[number] for number in range(100_000)]

    def plugin() -> None:
        watchdog.look(0)
        spend(2 * BUDGET, doing)
        watchdog.look(0)

    assert call(Guard(), plugin) == ended
    assert heap
