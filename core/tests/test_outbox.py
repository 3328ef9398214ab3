"""Consumers see every batch at least once, in order, whoever reads and whatever fails."""

import threading
from collections.abc import Iterator, Sequence

import pytest
import sqlalchemy as sa

from core.tests.lab import TENANT, Lab
from tallystick import outbox
from tallystick.effects import Notify
from tallystick.outbox import Committed


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol("ann")
    lab.puppet.on("react", lambda event, _: [Notify(rule="lab.tell", template="thanks", facts={})])
    yield lab
    lab.db.dispose()


def test_a_consumer_sees_all_batches_of_all_writers_in_order_and_once(lab: Lab) -> None:
    second = lab.writer(2)
    for number in range(12):
        lab.send(lab.bought("ann", 100, f"A{number}"), engine=second if number % 3 else None)
    seen: list[Committed] = []
    while outbox.relay(lab.db, "test", lambda _, batches: seen.extend(batches), limit=5):
        pass
    assert [(batch.writer, batch.number) for batch in sorted(seen, key=lambda b: (b.writer, b.number))] == [
        *[(1, n) for n in range(1, 5)], *[(2, n) for n in range(1, 9)],
    ]  # fmt: skip
    for writer in (1, 2):
        numbers = [batch.number for batch in seen if batch.writer == writer]
        assert numbers == sorted(numbers)
    assert all(len(batch.records) == len(batch.intents) == 1 for batch in seen)
    with lab.db.connect() as conn:
        assert outbox.behind(conn, "test") == 0


def test_a_consumer_that_was_away_takes_few_entries_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an import leaves them: batches of many entries.  One batch is taken whole, however many it has."""
    monkeypatch.setattr(outbox, "MAX_ENTRIES", 5)
    for batch, size in enumerate([3, 2, 1, 9, 4, 1]):
        lab.engine.record([lab.bought("ann", 100, f"A{batch}-{number}") for number in range(size)])
    turns: list[list[int]] = []
    while outbox.relay(lab.db, "test", lambda _, batches: turns.append([len(batch.records) for batch in batches])):
        pass
    assert turns == [[3, 2], [1, 9], [4, 1]]


def test_what_a_consumer_could_not_take_comes_again_and_what_it_wrote_is_gone(lab: Lab) -> None:
    lab.buy("ann", 100, "A")

    def fails(conn: sa.Connection, batches: Sequence[Committed]) -> None:
        conn.execute(
            sa.text("INSERT INTO audit (id, tenant, at, actor, action, body) VALUES ('x', 'lab', 0, '', '', '')")
        )
        raise RuntimeError

    with pytest.raises(RuntimeError):
        outbox.relay(lab.db, "test", fails)
    assert lab.rows("SELECT 1 FROM audit") == []
    seen: list[Committed] = []
    assert not outbox.relay(lab.db, "test", lambda _, batches: seen.extend(batches))  # that was all
    assert len(seen) == 1


def test_two_relays_of_one_consumer_hand_out_each_batch_once(lab: Lab) -> None:
    for number in range(20):
        lab.buy("ann", 100, f"A{number}")
    seen: list[int] = []
    start = threading.Barrier(4)

    def read() -> None:
        start.wait()
        while outbox.relay(lab.db, "test", lambda _, batches: seen.extend(batch.number for batch in batches), limit=3):
            pass

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == list(range(1, 21))


def test_a_consumer_sees_its_tenants_alone(lab: Lab) -> None:
    lab.buy("ann", 100, "A")
    seen: list[Committed] = []
    outbox.relay(lab.db, "other", lambda _, batches: seen.extend(batches), tenants=["somebody"])
    outbox.relay(lab.db, "mine", lambda _, batches: seen.extend(batches), tenants=[TENANT])
    assert [len(batch.records) for batch in seen] == [0, 1]
