"""Schedules: once per tenant however many processes, and what a killed job did is not done again."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from time import monotonic as time_passed
from zoneinfo import ZoneInfo

import pytest

from core.tests.lab import START, TENANT, Lab
from tallystick import jobs
from tallystick.jobs import LEASE, Job, Turn, run_due
from tallystick.ledger import instant

NOW = instant(START)
HOUR = 3_600_000_000


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    yield lab
    lab.db.dispose()


def job(run, name: str = "lab.work", **more) -> Job:  # type: ignore[no-untyped-def]
    return Job(tenant=TENANT, name=name, run=run, **({"every": timedelta(hours=1)} | more))


def test_a_job_runs_when_it_is_due_and_not_before(lab: Lab) -> None:
    ran: list[datetime] = []
    work = job(lambda turn: ran.append(turn.now))
    for minutes in (0, 1, 59, 60, 61, 119, 120):
        run_due(lab.db, [work], NOW + minutes * 60_000_000, "me")
    assert [when - START for when in ran] == [timedelta(minutes=m) for m in (0, 60, 120)]


def test_a_daily_job_waits_for_its_first_turn(lab: Lab) -> None:
    ran: list[datetime] = []
    work = job(lambda turn: ran.append(turn.now), every=None, daily=time(3), zone=ZoneInfo("America/New_York"))
    for hours in range(48):
        run_due(lab.db, [work], NOW + hours * HOUR, "me")
    assert ran == [datetime(2025, 1, 2, 8, tzinfo=UTC), datetime(2025, 1, 3, 8, tzinfo=UTC)]


@pytest.mark.parametrize(
    "zone, start, days",
    [("America/New_York", datetime(2025, 3, 7, tzinfo=UTC), 5), ("America/New_York", datetime(2025, 10, 31, tzinfo=UTC), 5)],
)  # fmt: skip
def test_a_night_with_a_change_of_clocks_is_one_night(lab: Lab, zone: str, start: datetime, days: int) -> None:
    ran: list[datetime] = []
    work = job(
        lambda turn: ran.append(turn.now.astimezone(ZoneInfo(zone))), every=None, daily=time(2, 30), zone=ZoneInfo(zone)
    )
    for minutes in range(0, days * 24 * 60, 15):
        run_due(lab.db, [work], instant(start) + minutes * 60_000_000, "me")
    assert len({when.date() for when in ran}) == len(ran) == days


def test_eight_processes_run_it_once(lab: Lab) -> None:
    ran, start = [], threading.Barrier(8)
    work = job(lambda turn: ran.append(turn.now))

    def one(number: int) -> None:
        start.wait()
        run_due(lab.db, [work], NOW, f"process {number}")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 1


def test_a_killed_job_goes_on_where_it_was_once_its_lease_has_ended(lab: Lab) -> None:
    seen: list[str] = []

    def work(turn: Turn) -> None:
        seen.append(turn.progress)
        turn.reached("half way")
        if len(seen) == 1:
            raise KeyboardInterrupt  # as good as a kill: nothing after it runs

    with pytest.raises(KeyboardInterrupt):
        run_due(lab.db, [job(work)], NOW, "me")
    assert run_due(lab.db, [job(work)], NOW + LEASE - 1, "you") == []
    # it had said something shortly after it began, which counts from then
    assert run_due(lab.db, [job(work)], NOW + 2 * LEASE - 1, "you") == [f"{TENANT}/lab.work"]
    assert seen == ["", "half way"]


def test_a_killed_job_is_nobody_elses_while_its_lease_lasts(lab: Lab) -> None:
    def killed(turn: Turn) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_due(lab.db, [job(killed)], NOW, "me")
    assert run_due(lab.db, [job(lambda turn: None)], NOW + LEASE - 1, "you") == []
    assert run_due(lab.db, [job(lambda turn: None)], NOW + LEASE, "you") == [f"{TENANT}/lab.work"]


def test_a_job_that_fails_lets_the_others_run_and_says_so(lab: Lab) -> None:
    ran: list[str] = []
    bad, good = job(lambda turn: 1 // 0, "lab.bad"), job(lambda turn: ran.append("good"), "lab.good")
    with pytest.raises(ZeroDivisionError):
        run_due(lab.db, [bad, good], NOW, "me")
    assert ran == ["good"]


def test_whoever_took_too_long_has_nothing_to_say_any_more(lab: Lab) -> None:
    def slow(turn: Turn) -> None:
        other = job(lambda turn: turn.reached("the other's"))
        jobs._Lease(lab.db, other, NOW + LEASE, "other", lambda: False).take(force=True)  # it was taken for dead
        turn.reached("mine")
        raise AssertionError("it goes on as if nothing had happened")

    assert run_due(lab.db, [job(slow)], NOW, "me") == []
    ((holder, leased, progress),) = lab.rows("SELECT holder, leased_until, progress FROM job")
    assert (holder.partition("/")[0], leased, progress) == ("other", NOW + 2 * LEASE, "")


def test_a_job_at_work_keeps_its_lease_however_long_it_says_nothing(lab: Lab) -> None:
    def slow(turn: Turn) -> None:
        before = time_passed()
        while lab.rows("SELECT leased_until FROM job") == [(NOW + short,)]:  # until it was renewed by itself
            assert time_passed() - before < 60
        ((until,),) = lab.rows("SELECT leased_until FROM job")
        assert run_due(lab.db, [job(slow, lease=short)], until - 1, "you") == []

    short = 600_000
    assert run_due(lab.db, [job(slow, lease=short)], NOW, "me") == [f"{TENANT}/lab.work"]


def test_a_process_that_closes_leaves_its_job_to_the_next_at_once(lab: Lab) -> None:
    closing = [False]

    def work(turn: Turn) -> None:
        closing[0] = not turn.progress
        turn.reached(f"{turn.progress}x")

    assert run_due(lab.db, [job(work)], NOW, "me", closing=lambda: closing[0]) == []
    assert lab.rows("SELECT leased_until, progress FROM job") == [(0, "x")]
    assert run_due(lab.db, [job(work)], NOW, "me", closing=lambda: True) == [], "and begins nothing more"
    assert run_due(lab.db, [job(work)], NOW + 1, "you") == [f"{TENANT}/lab.work"]


def test_a_job_of_a_killed_process_is_taken_over_within_a_minute() -> None:
    assert LEASE + 1_000_000 < 60_000_000


def test_a_clock_that_is_set_back_a_little_runs_nothing_twice(lab: Lab) -> None:
    ran: list[datetime] = []
    work = job(lambda turn: ran.append(turn.now))
    for minutes in (0, 60, 30, 59, 90, 119, 121):
        run_due(lab.db, [work], NOW + minutes * 60_000_000, "me")
    assert [when - START for when in ran] == [timedelta(minutes=m) for m in (0, 60, 121)]


@pytest.mark.parametrize("terms", [{"every": timedelta(hours=1)}, {"every": None, "daily": time(3)}])
def test_a_clock_that_was_a_year_ahead_for_a_moment_stops_no_job(lab: Lab, terms: dict[str, object]) -> None:
    """I17: what was due "in a year and an hour" is due soon once the clock is right again; a lease of then keeps nobody out."""
    ran: list[datetime] = []
    work, year = job(lambda turn: ran.append(turn.now), **terms), 365 * 24 * HOUR
    dying = job(lambda turn: 1 / 0, "lab.dying", **terms)
    for now in (NOW, NOW + year, NOW + year + 25 * HOUR):
        with contextlib.suppress(ZeroDivisionError):
            run_due(lab.db, [work, dying], now, "me")
    ran.clear()
    dying = job(lambda turn: ran.append(turn.now), "lab.dying", **terms)
    for hours in range(1, 51):
        run_due(lab.db, [work, dying], NOW + hours * HOUR, "another")
    assert len(ran) >= 4
    assert max(ran) < START + timedelta(hours=51)
