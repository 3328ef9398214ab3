"""The writer: whatever waits is one batch, nobody's trouble is anybody else's, and stopping drops nothing."""

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from core.tests.lab import Lab
from tallystick import tables
from tallystick.engine import Outcome, Receipt
from tallystick.errors import Unavailable
from tallystick.events import Arrival
from tallystick.writer import MAX_QUEUE, Writer


@pytest.fixture
def lab(sqlite_url: str) -> Iterator[Lab]:
    lab = Lab(sqlite_url)
    lab.enrol("ann", "bob")
    yield lab
    lab.check()
    lab.db.dispose()


def test_what_arrives_during_a_commit_is_the_next_batch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, entered, go = Writer(lab.engine), threading.Event(), threading.Event()
    record, sizes = lab.engine.record, []

    def slowly(arrivals: list[Arrival]) -> list[Outcome]:
        sizes.append(len(arrivals))
        entered.set()
        go.wait()
        return record(arrivals)

    monkeypatch.setattr(lab.engine, "record", slowly)
    writer.start()
    first = writer.submit(lab.bought("ann", 100, "A0"))
    entered.wait()
    others = [writer.submit(lab.bought("ann", 100, f"A{n}")) for n in range(1, 51)]
    go.set()
    assert all(isinstance(future.result(), Receipt) for future in [first, *others])
    writer.stop()
    assert (sizes, lab.usable("ann")) == ([1, 50], 51)


def test_stopping_answers_all_that_was_accepted_and_refuses_the_rest(lab: Lab) -> None:
    writer = Writer(lab.engine)
    with pytest.raises(Unavailable):
        writer.submit(lab.bought("ann", 100, "early"))
    writer.start()
    futures = [writer.submit(lab.bought("ann", 100, f"A{n}")) for n in range(300)]
    writer.stop()
    assert all(isinstance(future.result(timeout=0), Receipt) for future in futures)
    assert lab.usable("ann") == 300
    with pytest.raises(Unavailable):
        writer.submit(lab.bought("ann", 100, "late"))


def test_a_caller_who_gives_up_or_fails_does_not_stop_the_house(lab: Lab) -> None:
    writer = Writer(lab.engine)
    writer.start()

    def fails(_: Outcome) -> None:
        raise RuntimeError("the client has gone")

    given_up = writer.submit(lab.bought("ann", 100, "A"))
    given_up.cancel()
    writer.hand_in([(lab.bought("ann", 100, "B"), fails)])
    assert isinstance(writer.submit(lab.bought("ann", 100, "C")).result(timeout=60), Receipt)
    writer.stop()
    assert lab.usable("ann") == 3


def test_a_mistake_of_ours_is_told_and_survived(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(lab.engine)
    with monkeypatch.context() as broken:
        broken.setattr(lab.engine, "record", lambda _: 1 // 0)
        writer.start()
        outcome = writer.submit(lab.bought("ann", 100, "A")).result(timeout=60)
        assert isinstance(outcome, Unavailable)
        assert "ZeroDivisionError" in str(outcome)
    assert isinstance(writer.submit(lab.bought("ann", 100, "A")).result(timeout=60), Receipt)
    writer.stop()


def test_a_full_queue_refuses_at_once_and_takes_nothing_by_halves(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, entered, go = Writer(lab.engine), threading.Event(), threading.Event()
    monkeypatch.setattr(
        lab.engine, "record", lambda arrivals: (entered.set(), go.wait(), [Unavailable() for _ in arrivals])[-1]
    )
    writer.start()
    one = lab.bought("ann", 100, "A")
    writer.submit(one)
    entered.wait()
    heard: list[Outcome] = []
    writer.hand_in([(one, heard.append)] * (MAX_QUEUE - 1))
    with pytest.raises(Unavailable):
        writer.hand_in([(one, heard.append)] * 2)
    assert writer.waiting == MAX_QUEUE - 1
    go.set()
    writer.stop()
    assert len(heard) == MAX_QUEUE - 1


def test_a_writer_whose_row_was_taken_over_writes_nothing_more_until_it_has_another(lab: Lab) -> None:
    lab.buy("ann", 100, "A")
    with lab.db.begin() as conn:
        conn.execute(sa.update(tables.writer).where(tables.writer.c.id == 1).values(epoch=2))
    (outcome,) = lab.try_all(lab.bought("ann", 100, "B"))
    assert isinstance(outcome, Unavailable)
    assert lab.engine.replaced
    lab.engine.lease = (1, 2)
    assert lab.buy("ann", 100, "B").entry == "1-2-0"


def test_work_with_the_engine_is_done_in_its_thread_between_two_batches(lab: Lab) -> None:
    """So history can be recorded, and points expire, beside a writer at work."""
    writer = Writer(lab.engine)
    with pytest.raises(Unavailable):
        writer.perform(lambda: 1)
    writer.start()
    seen: list[str] = []

    def history(n: int) -> list[Outcome]:
        seen.append(threading.current_thread().name)
        return lab.engine.record([lab.bought("ann", 100, f"H{n}")], history=True)

    futures = []
    for n in range(20):
        futures += [writer.submit(lab.bought("bob", 100, f"B{n}-{k}")) for k in range(5)]
        (outcome,) = writer.perform(lambda n=n: history(n))  # type: ignore[misc]
        assert isinstance(outcome, Receipt)
    with pytest.raises(ZeroDivisionError):
        writer.perform(lambda: 1 // 0)
    assert all(isinstance(future.result(), Receipt) for future in futures)
    writer.stop()
    assert set(seen) == {"tally-writer"}
    assert (lab.usable("ann"), lab.usable("bob")) == (20, 100)
