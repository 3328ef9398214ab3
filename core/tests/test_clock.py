"""The house's time never goes back, whatever the system's clock does."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.tests.lab import TENANT, Lab
from tallystick import queries
from tallystick.clock import GENTLY, SteadyClock
from tallystick.ledger import DAY, instant

HOUR = 3_600_000_000


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol("ann", "bob")
    yield lab
    lab.check()
    lab.db.dispose()


def test_who_asks_meanwhile_from_another_thread_is_no_step_back() -> None:
    told, others = [DAY * 20_000], list[int]()

    def tell() -> int:
        at = told[0]
        if others:
            told[0] += others.pop()
            clock()
        return at

    clock = SteadyClock(tell)
    others.append(HOUR)
    clock()
    assert clock() == told[0]


@given(steps=st.lists(st.integers(-6 * HOUR, 40 * HOUR), max_size=30))
def test_it_never_goes_back_and_never_stands_still_while_time_goes_on(steps: list[int]) -> None:
    told = [DAY * 20_000]
    clock = SteadyClock(lambda: told[0])
    last, ahead = clock(), 0
    for step in steps:
        ahead = max(0, clock() - told[0])
        if ahead - min(0, step) > GENTLY:
            return  # too many steps back: somebody has put a mistake right
        told[0] += step
        now = clock()
        assert now >= told[0]
        assert now > last if step > 1 else now >= last
        last = now


def test_after_a_step_back_it_goes_at_half_the_speed_until_it_is_caught_up() -> None:
    told = [DAY * 20_000]
    clock = SteadyClock(lambda: told[0])
    start = clock()
    told[0] -= HOUR
    assert clock() == start
    seen = []
    for _ in range(4):
        told[0] += HOUR // 2
        seen.append((clock() - start) / HOUR)
    assert seen == [0.25, 0.5, 0.75, 1.0]
    told[0] += HOUR
    assert clock() == told[0]


def test_a_step_back_of_more_than_a_day_is_a_mistake_put_right() -> None:
    told = [DAY * 20_000]
    clock = SteadyClock(lambda: told[0])
    clock()
    told[0] -= 365 * DAY
    assert clock() == told[0]
    clock.saw(told[0] + 364 * DAY)
    assert clock() == told[0]


def test_points_granted_before_the_clock_went_back_can_be_spent_after_it(lab: Lab) -> None:
    lab.gain("ann", 100)
    lab.wait(hours=-1)
    lab.spend("ann", 60)
    with lab.db.connect() as conn:
        found = queries.balances(conn, TENANT, lab.names["ann"], lab.engine.clock())["points"]
    assert (found.usable, found.pending) == (40, 0)
    lab.wait(minutes=30)
    lab.spend("ann", 40)
    received = [record.received for record in lab.records()]
    assert received == sorted(received)


def test_points_granted_by_a_process_whose_clock_is_ahead_can_be_spent_at_another(lab: Lab) -> None:
    ahead = lab.writer(2)
    lab.now += timedelta(seconds=20)
    (outcome,) = ahead.record([lab.arrival("lab.did", "ann", amount=10)])
    assert not isinstance(outcome, Exception)
    lab.now -= timedelta(seconds=20)
    behind = lab.writer(3)  # it never saw the other's time but in what it wrote
    (outcome,) = behind.record([lab.arrival("lab.spent", "ann", amount=10)])
    assert not isinstance(outcome, Exception), outcome
    assert instant(lab.now) < behind.clock()
