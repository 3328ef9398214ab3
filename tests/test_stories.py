"""Stories through the whole house, on both databases: what a member would see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallystick.errors import TallyError
from tallystick.testing import Stage, make_stage, play

BASE = """
[plugins.points]
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
lines = "line.department != 'FUEL'"
"""


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    """A stage on the database of this run."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(make_stage(settings, database_url, tmp_path))


def test_a_purchase_earns_and_its_return_takes_back_the_same(house: Callable[[str], Stage]) -> None:
    play(
        """
        2025-01-02  m-1 buys 123.45 as A            earns 123 points
        2025-01-02  m-1 buys 0.99                   earns nothing
        2025-01-02  m-1 buys 50.00 of FUEL as F     earns nothing
        2025-01-03  m-1 returns A                   loses 123 points
        2025-01-03  m-1 returns F                   loses nothing
        2025-01-03  m-1 has 0 points
        """,
        stage=house(BASE),
    )


def test_two_returns_of_sixty_percent_take_back_sixty_and_forty(house: Callable[[str], Stage]) -> None:
    """SEMANTICS B20: the sum of partial claw-backs never exceeds the earn."""
    play(
        """
        2025-01-02  m-1 buys 1000.00 as A           earns 1000 points
        2025-01-03  m-1 returns 600.00 of A         loses 600 points
        2025-01-04  m-1 returns 600.00 of A         loses 400 points
        2025-01-05  m-1 returns 600.00 of A         loses nothing
        2025-01-05  m-1 has 0 points
        """,
        stage=house(BASE),
    )


def test_a_refund_before_its_sale_is_parked_and_ends_the_same(house: Callable[[str], Stage]) -> None:
    stage = house(BASE)
    play(
        """
        2025-01-02  guest returns 50.00 of A        parked
        2025-01-02  m-1 buys 100.00 as A            earns 100 points
        2025-01-02  m-1 has 50 points
        2025-01-03  m-1 returns A                   loses 50 points
        2025-01-03  m-1 has 0 points
        """,
        stage=stage,
    )
    kinds = [(record.kind, record.status) for record in stage.records()]
    assert kinds.count(("purchase.refunded", "recorded")) == 2, "the parked refund was applied by an entry of its own"


def test_returning_a_line_that_never_earned_takes_nothing_back(house: Callable[[str], Stage]) -> None:
    stage = house(BASE)
    lines = [{"sku": "gas", "amount": 5000, "department": "FUEL"}, {"sku": "milk", "amount": 1000}]
    stage.enrol("m-1")
    stage.send("purchase.completed", {"order": "A", "currency": "USD", "lines": lines}, member="m-1")
    stage.send("purchase.refunded", {"order": "A", "lines": [{"line": 0, "amount": 5000}]})
    assert stage.usable("m-1") == 10
    stage.send("purchase.refunded", {"order": "A", "lines": [{"line": 1, "amount": 400}]})
    assert stage.usable("m-1") == 6
    stage.send("purchase.refunded", {"order": "A"})
    assert stage.usable("m-1") == 0


def test_a_known_id_with_the_same_facts_is_the_same_receipt(house: Callable[[str], Stage]) -> None:
    stage = house(BASE)
    stage.enrol("m-1")
    facts = {"order": "A", "currency": "USD", "lines": [{"sku": "x", "amount": 500}]}
    first = stage.send("purchase.completed", facts, member="m-1", id="same")
    again = stage.try_send("purchase.completed", facts, member="m-1", id="same", at=stage.now)
    assert not isinstance(again, TallyError) and again.repeated and again.record == first
    other = stage.try_send("purchase.completed", facts | {"order": "B"}, member="m-1", id="same")
    assert isinstance(other, TallyError) and other.code == "event_conflict"
    receipt = stage.try_send("purchase.completed", facts, member="m-1", id="another")
    assert isinstance(receipt, TallyError) and receipt.code == "order_conflict"
    assert stage.usable("m-1") == 5


def test_repeats_within_one_batch_are_answered_like_repeats(house: Callable[[str], Stage]) -> None:
    stage = house(BASE)
    stage.enrol("m-1")
    facts = {"order": "A", "currency": "USD", "lines": [{"sku": "x", "amount": 500}]}
    arrivals = [stage.arrival("purchase.completed", facts, member="m-1", id="same") for _ in range(5)]
    outcomes = stage.house.engine.record(arrivals)
    assert [getattr(outcome, "repeated", None) for outcome in outcomes] == [False, True, True, True, True]
    assert stage.usable("m-1") == 5


def test_a_refused_event_leaves_its_neighbours_and_no_trace(house: Callable[[str], Stage]) -> None:
    stage = house(BASE)
    stage.enrol("m-1")

    def buy(order: str, member: str) -> object:
        facts = {"order": order, "currency": "USD", "lines": [{"sku": "x", "amount": 500}]}
        return stage.arrival("purchase.completed", facts, member=member, id=order)

    outcomes = stage.house.engine.record([buy("A", "m-1"), buy("B", "nobody"), buy("C", "m-1")])  # type: ignore[list-item]
    assert [getattr(outcome, "code", "recorded") for outcome in outcomes] == ["recorded", "unknown_member", "recorded"]
    assert stage.rows("SELECT count(*) FROM claim")[0][0] == 2
    stage.enrol("nobody")
    assert stage.send(
        "purchase.completed",
        buy("B", "nobody").facts and {"order": "B", "currency": "USD", "lines": [{"sku": "x", "amount": 500}]},
        member="nobody",
        id="B",
    )  # type: ignore[attr-defined]


def test_a_guest_order_earns_once_it_is_linked_and_only_once(house: Callable[[str], Stage]) -> None:
    """SEMANTICS A17."""
    stage = house(BASE)
    play(
        """
        2025-01-02  guest buys 80.00 as G           earns nothing
        2025-01-03  m-1 does order.claimed {"order": "G"}   earns 80 points
        2025-01-04  m-1 does order.claimed {"order": "G"}   earns nothing
        2025-01-04  m-2 does order.claimed {"order": "G"}   refused order_conflict
        2025-01-05  guest returns 40.00 of G        loses 40 points
        2025-01-05  m-1 has 40 points
        """,
        stage=stage,
    )


def test_a_dry_run_shows_what_would_be_and_leaves_nothing(house: Callable[[str], Stage]) -> None:
    stage = house(BASE)
    stage.enrol("m-1")
    facts = {"order": "A", "currency": "USD", "lines": [{"sku": "x", "amount": 500}]}
    arrival = stage.arrival("purchase.completed", facts, member="m-1", id="dry")
    receipt = stage.house.dry_run(arrival)
    assert receipt.record.balances == {"points": 5}
    for table in ("claim", "record", "transfer", "lot", "balance", "batch"):
        assert stage.rows(f"SELECT count(*) FROM {table}")[0][0] == 0, table
    assert stage.house.engine.record([arrival])[0].record.balances == {"points": 5}  # type: ignore[union-attr]


def test_a_sale_and_its_return_may_come_in_one_batch(house: Callable[[str], Stage]) -> None:
    stage = house(BASE)
    stage.enrol("m-1")
    bought = stage.arrival(
        "purchase.completed", {"order": "A", "currency": "USD", "lines": [{"sku": "x", "amount": 10000}]}, member="m-1"
    )
    back = stage.arrival("purchase.refunded", {"order": "A", "amount": 2500})
    for batch in ([bought, back],):
        assert all(not isinstance(outcome, TallyError) for outcome in stage.house.engine.record(batch))
    assert stage.usable("m-1") == 75


def test_late_events_are_taken_within_a_week_and_refused_after(house: Callable[[str], Stage]) -> None:
    from datetime import timedelta

    stage = house(BASE)
    stage.enrol("m-1")
    facts = {"order": "A", "currency": "USD", "lines": [{"sku": "x", "amount": 500}]}
    late = stage.try_send("purchase.completed", facts, member="m-1", at=stage.now - timedelta(days=8))
    assert isinstance(late, TallyError) and late.code == "too_late"
    assert stage.send("purchase.completed", facts, member="m-1", at=stage.now - timedelta(days=6)).balances == {
        "points": 5
    }
