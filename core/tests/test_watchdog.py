"""What counts as a plugin's own time."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
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


def test_a_collection_that_has_not_ended_yet_is_not_the_plugins_time_either(watchdog: Watchdog) -> None:
    """Callbacks of weak references are Python, and the watchdog may run meanwhile; an Overrun that arrived there would be lost."""

    class Node:
        pass

    def mourn(_: object) -> None:
        spend(2 * BUDGET, lambda: None)
        watchdog.look(0)

    def plugin() -> None:
        node = Node()
        node.itself = node  # type: ignore[attr-defined]
        mourning.append(weakref.ref(node, mourn))
        watchdog.look(0)
        del node
        gc.collect()
        watchdog.look(0)

    mourning: list[object] = []
    assert call(Guard(), plugin) == 0


def test_what_arrives_in_a_destructor_is_sent_again_and_nothing_is_said_of_it(watchdog: Watchdog) -> None:
    """Python drops it there with a word on stderr, which pytest takes for an error of the test."""

    class Last:
        def __del__(self) -> None:
            watchdog.look(0)
            done.append("mourned")

    def plugin() -> None:
        last = Last()
        watchdog.look(0)
        spend(2 * BUDGET, lambda: None)
        del last
        done.append("went on")
        watchdog.look(0)
        done.append("went on for ever")

    done: list[str] = []
    assert (call(Guard(), plugin), done) == (1, ["went on"])


def test_who_gets_no_processor_does_not_wait(watchdog: Watchdog) -> None:
    def plugin() -> None:
        for _ in range(3):
            watchdog.look(3600)  # whoever looks runs

    assert call(Guard(), plugin) == 0


def test_a_loop_that_mostly_sleeps_is_ended(watchdog: Watchdog) -> None:
    guard = Guard()

    def look() -> None:
        while not guard.overruns:
            watchdog.look(3600)

    def plugin() -> None:
        while True:
            time.sleep(0.001)

    looking = threading.Thread(target=look)
    looking.start()
    assert call(guard, plugin) == 1
    looking.join()


def test_of_two_watchdogs_none_switches_the_collector_on_while_the_other_looks() -> None:
    entered, seen = threading.Event(), []

    class First(Watchdog):
        def _look(self, passed: float) -> None:
            second.start()
            entered.wait(passed)

    class Second(Watchdog):
        def _look(self, passed: float) -> None:
            entered.set()
            first.join(passed)
            seen.append(gc.isenabled())

    first = threading.Thread(target=lambda: First().look(0.1))
    second = threading.Thread(target=lambda: Second().look(60))
    first.start()
    first.join()
    second.join()
    assert (seen, gc.isenabled()) == ([False], True)


LOOKING = """
import gc, sys, threading, time
from tallystick.watchdog import Watchdog

class Looking(Watchdog):
    def _look(self, passed):
        looking.append(threading.get_ident())
        super()._look(passed)
        looking.clear()

def hear(*_):  # whoever listens to the collector is Python, and Python may let other threads run
    if threading.get_ident() in looking: meanwhile.append(1)
    for _ in range(200): pass

def even(number, *more):
    kept = [(number, more)]
    return kept if number <= 0 else odd(number - 1, *([0] * (number % 5)))

def odd(number, *more):
    a = b = c = d = (number,)
    return [a, b, c, d] if number <= 0 else [each for each in even(number - 2, *more)]

def work():
    while not over: even(40), odd(13, 1, 2, 3)

over, looking, meanwhile = False, [], []
gc.set_threshold(11)
gc.callbacks.append(hear)
sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for thread in threads: thread.start()
watchdog, ends = Looking(), time.monotonic() + 2
while time.monotonic() < ends: watchdog.look(0)
over = True
for thread in threads: thread.join()
print("alive", len(meanwhile))
"""


def test_a_collection_while_it_looks_does_not_bring_the_process_down() -> None:
    done = subprocess.run([sys.executable, "-c", LOOKING], check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "alive 0\n"), done.stderr
