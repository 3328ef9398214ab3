"""Several writers on one database at once: what must happen once happens once, and nobody waits for ever (I4, I9, S01, S02)."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations
from typing import Any

import pytest
import sqlalchemy as sa

from core.tests.lab import Lab
from tallystick import engine
from tallystick.effects import Cap, Count, Grant, Take
from tallystick.engine import Engine, Outcome, Receipt
from tallystick.errors import Insufficient, TallyError
from tallystick.events import Arrival
from tallystick.ledger import Record
from tallystick.situation import Needs

WRITERS = 4


@pytest.fixture
def lab(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    # what comes of it counts here; on a machine that is busy with other things each turn of the others may take long
    monkeypatch.setattr(engine, "PATIENCE", 120.0)
    lab = Lab(database_url)
    lab.enrol(*[f"m{n}" for n in range(8)])
    yield lab
    lab.check()
    lab.db.dispose()


def at_once(lab: Lab, shares: Sequence[Sequence[Sequence[Arrival]]]) -> list[Outcome]:
    """Each share is a row of batches for one writer; all writers begin together.  All outcomes, in no order."""
    outcomes: list[Outcome] = []
    errors: list[BaseException] = []
    start = threading.Barrier(len(shares))

    def write(writer: Engine, batches: Sequence[Sequence[Arrival]]) -> None:
        start.wait()
        try:
            for batch in batches:
                outcomes.extend(writer.record(batch))
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=write, args=(lab.writer(n + 1), batches)) for n, batches in enumerate(shares)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive(), "a writer waits for ever"
    assert errors == []
    return outcomes


def fresh(outcomes: Sequence[Outcome]) -> list[Record]:
    return [outcome.record for outcome in outcomes if isinstance(outcome, Receipt) and not outcome.repeated]


def codes(outcomes: Sequence[Outcome]) -> dict[str, int]:
    found: dict[str, int] = {}
    for outcome in outcomes:
        code = outcome.code if isinstance(outcome, TallyError) else "repeated" if outcome.repeated else "recorded"
        found[code] = found.get(code, 0) + 1
    return found


def test_the_same_event_fifty_times_is_one_event_and_one_answer(lab: Lab) -> None:
    """S02."""
    one = lab.bought("m0", 10_000, "A", id="same")
    outcomes = at_once(lab, [[[one]] * 13, [[one]] * 12, [[one, one]] * 6, [[one]] * 13])
    assert codes(outcomes) == {"recorded": 1, "repeated": 49}
    assert len({outcome.record.entry for outcome in outcomes}) == 1  # type: ignore[union-attr]
    assert lab.usable("m0") == 100


def test_the_same_id_with_other_facts_is_one_event_and_conflicts(lab: Lab) -> None:
    """S03."""
    shares = [[[lab.bought("m0", 100 * (n + 1), f"A{n}-{e}", id=f"e{e}")] for e in range(10)] for n in range(WRITERS)]
    assert codes(at_once(lab, shares)) == {"recorded": 10, "event_conflict": 30}


def test_the_last_points_are_spent_once_however_many_tills_ask(lab: Lab) -> None:
    """S01: eight members with 100 points, twenty tills each."""
    members = [f"m{n}" for n in range(8)]
    for name in members:
        lab.gain(name, 100)
    chance = random.Random(1)
    asked = [[lab.arrival("lab.spent", name, amount=100)] for name in members for _ in range(20)]
    chance.shuffle(asked)
    outcomes = at_once(lab, [asked[n::WRITERS] for n in range(WRITERS)])
    assert codes(outcomes) == {"recorded": 8, "insufficient_balance": 152}
    assert all(outcome.details["usable"] == 0 for outcome in outcomes if isinstance(outcome, Insufficient))
    assert [lab.usable(name) for name in members] == [0] * 8


def test_an_order_earns_once_whoever_reports_it(lab: Lab) -> None:
    shares = [[[lab.bought("m0", 1_000, f"A{n}")] for n in range(15)] for _ in range(WRITERS)]
    assert codes(at_once(lab, shares)) == {"recorded": 15, "order_conflict": 45}
    assert lab.usable("m0") == 150


def test_an_order_returned_at_many_desks_comes_back_once(lab: Lab) -> None:
    lab.buy("m0", 10_000, "A")
    shares = [[[lab.returned("A", amount=700)] for _ in range(5)] for _ in range(WRITERS)]
    assert codes(at_once(lab, shares)) == {"recorded": 20}
    assert lab.posted("m0") == 0


def test_a_budget_gives_exactly_what_it_has(lab: Lab) -> None:
    lab.puppet.wants = Needs(counters=frozenset({("cap:pot", "budget"), ("cap:own", "day")}))
    lab.recompile()
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=30),
            Cap(rule="lab.pot", unit="points", limit=1_000, per="budget", key="pot"),
            Cap(rule="lab.own", unit="points", limit=200, per="day", key="own"),
        ],
    )
    shares = [[[lab.bought(f"m{e % 8}", 100, f"A{n}-{e}")] for e in range(20)] for n in range(WRITERS)]
    outcomes = at_once(lab, shares)
    assert codes(outcomes) == {"recorded": 80}
    given = [lab.usable(f"m{n}") for n in range(8)]
    assert (sum(given), lab.counter("cap:pot")) == (1_000, 1_000)
    assert max(given) <= 200


def test_a_stock_is_never_below_zero_and_never_left_over(lab: Lab) -> None:
    lab.fill("lab:cup", 33)
    lab.puppet.wants = Needs(stock=frozenset({"lab:cup"}))
    lab.recompile()
    lab.puppet.on(
        "earn",
        lambda event, _: [Take(rule="lab.cup", key="lab:cup"), Count(rule="lab.cup", counter="lab.cups", window="day")],
    )
    shares = [[[lab.arrival("lab.did", f"m{(n + e) % 8}") for e in range(4)] for _ in range(5)] for n in range(WRITERS)]
    assert codes(at_once(lab, shares)) == {"recorded": 33, "out_of_stock": 47}
    assert (lab.stock("lab:cup"), sum(lab.counter("lab.cups", f"m{n}") for n in range(8))) == (0, 33)


def test_random_batches_of_all_kinds_never_lock_each_other_out(lab: Lab) -> None:
    """Gifts, refunds and repeats name members and orders in every order; whatever happens, everybody is answered."""
    chance = random.Random(7)
    for n in range(8):
        lab.gain(f"m{n}", 500)
        lab.buy(f"m{n}", 50_000, f"old{n}")
    counter = iter(range(10_000))

    def one() -> Arrival:
        who, to, n = chance.choice(range(8)), chance.choice(range(8)), next(counter)
        return chance.choice([
            lambda: lab.bought(f"m{who}", chance.randrange(20_000), f"new{chance.randrange(40)}", id=f"n{n}"),
            lambda: lab.arrival("lab.spent", f"m{who}", amount=chance.randrange(1, 80), order=f"old{to}", id=f"n{n}"),
            lambda: lab.arrival("lab.given", f"m{who}", amount=chance.randrange(1, 80), to=f"m{to}", id=f"n{n}"),
            lambda: lab.returned(f"old{to}", amount=chance.randrange(5_000), id=f"n{n}"),
            lambda: lab.returned(f"new{chance.randrange(40)}", id=f"n{n}"),
            lambda: lab.arrival("lab.did", f"m{who}", amount=5, id=f"r{chance.randrange(30)}"),
        ])()  # fmt: skip

    outcomes = at_once(lab, [[[one() for _ in range(12)] for _ in range(10)] for _ in range(WRITERS)])
    found = codes(outcomes)
    assert set(found) <= {
        "recorded",
        "repeated",
        "insufficient_balance",
        "order_conflict",
        "event_conflict",
        "refused",
    }, found
    assert found["recorded"] > 150
    lab.check()


def test_each_writers_chain_is_whole_after_a_crowd(lab: Lab) -> None:
    at_once(lab, [[[lab.bought(f"m{e % 8}", 100, f"A{n}-{e}")] for e in range(10)] for n in range(WRITERS)])
    for writer in range(1, WRITERS + 1):
        rows = lab.rows("SELECT number, previous, chain FROM batch WHERE writer = :w ORDER BY number", w=writer)
        assert [row[0] for row in rows] == list(range(1, 11))
        assert all(bytes(later[1]) == bytes(earlier[2]) for earlier, later in pairwise(rows))


# -- what PostgreSQL says no to, and what is done again ----------------------------------------------------------------


@pytest.fixture
def server_lab(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    if lab.db.dialect.name != "postgresql":
        pytest.skip("deadlocks and lost sessions are PostgreSQL's: a SQLite writer has the file to itself")
    return lab


def test_a_deadlock_is_tried_again(server_lab: Lab) -> None:
    """40P01 for real: an operator's session holds the member and wants the order that the engine holds."""
    lab = server_lab
    lab.gain("m0", 1)
    lab.rows("SELECT 1")
    held, done = threading.Event(), threading.Event()

    def operator() -> None:
        with lab.db.begin() as conn:
            conn.execute(sa.text("SELECT 1 FROM member WHERE number = :n FOR UPDATE"), {"n": lab.names["m0"]})
            held.set()
            time.sleep(0.3)  # the engine has its order by now, and waits for the member
            conn.execute(sa.text("SET LOCAL deadlock_timeout = '30s'"))  # so that the engine's session is the victim
            conn.execute(sa.text("INSERT INTO order_key (tenant, order_id) VALUES ('lab', 'A')"))
        done.set()

    thread = threading.Thread(target=operator)
    thread.start()
    held.wait()
    record = lab.buy("m0", 10_000, "A")
    thread.join()
    assert done.is_set()
    assert (record.status, lab.usable("m0")) == ("recorded", 101)


@pytest.mark.parametrize("times", [1, 3])
def test_a_session_that_is_cut_in_the_middle_of_a_batch_is_taken_up_again(server_lab: Lab, times: int) -> None:
    lab = server_lab
    left = [times]

    def earn(event: Any, _: Any) -> list[Grant]:
        if left[0]:
            left[0] -= 1
            with lab.db.connect() as other:
                other.execute(sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND state = 'idle in transaction'"
                ))  # fmt: skip
        return [Grant(rule="lab.base", unit="points", amount=7)]

    lab.puppet.on("earn", earn)
    assert lab.buy("m0", 100, "A").status == "recorded"
    assert lab.usable("m0") == 7
    assert len(lab.rows("SELECT 1 FROM batch")) == 1


# -- the order in which things arrive ----------------------------------------------------------------------------------


def test_a_sale_its_refunds_and_their_duplicates_end_the_same_in_any_order(lab: Lab) -> None:
    """I18 for the class DESIGN names: every permutation, with every event sent twice, alone and in one batch."""
    lab.puppet.wants = Needs(counters=frozenset({("lab.money", "month")}))
    lab.recompile()
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=event.facts.total // 100),
            Count(rule="lab.money", counter="lab.money", window="month", amount=event.facts.total, by_share=True),
        ],
    )
    ends: dict[tuple[int, int, int], int] = {}
    for turn, (order, together) in enumerate(
        (order, together) for order in permutations(range(4)) for together in (False, True)
    ):
        name = f"p{turn}"
        lab.enrol(name)
        events = [
            lab.bought(name, 10_000, f"O{turn}", id=f"sale{turn}"),
            lab.returned(f"O{turn}", amount=3_333, id=f"one{turn}"),
            lab.returned(f"O{turn}", amount=1_111, id=f"two{turn}"),
            lab.bought(name, 10_000, f"O{turn}", id=f"sale{turn}"),
        ]
        row = [events[n] for n in order]
        row += row[::-1]
        for batch in [row] if together else [[event] for event in row]:
            assert not [outcome for outcome in lab.engine.record(batch) if isinstance(outcome, TallyError)]
        end = (lab.posted(name), lab.usable(name), lab.counter("lab.money", name))
        ends[end] = ends.get(end, 0) + 1
    assert ends == {(56, 56, 5_556): 48}


def test_counting_tasks_end_the_same_in_any_order(lab: Lab) -> None:
    """I18, the second class: what counts or sums."""
    lab.puppet.wants = Needs(counters=frozenset({("lab.visits", "lifetime"), ("lab.sum", "lifetime")}))
    lab.recompile()
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Count(rule="lab.visit", counter="lab.visits", window="lifetime"),
            Count(rule="lab.sum", counter="lab.sum", window="lifetime", amount=event.facts.amount),
        ],
    )
    ends = set()
    for turn, order in enumerate(permutations([1, 20, 300, 4_000])):
        lab.enrol(f"c{turn}")
        for amount in order:
            lab.do("lab.did", f"c{turn}", amount=amount)
        ends.add((lab.counter("lab.visits", f"c{turn}"), lab.counter("lab.sum", f"c{turn}")))
    assert ends == {(4, 4_321)}
