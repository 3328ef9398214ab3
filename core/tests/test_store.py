"""The statements of the event path, alike on both databases: locks, conditional debits, upserts."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tests.lab import TENANT, Lab
from tallystick.errors import Insufficient, OutOfStock
from tallystick.store import Store, array_text


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol("ann", "bob")
    lab.gain("ann", 100)
    yield lab
    lab.db.dispose()


@pytest.fixture
def store(lab: Lab) -> Store:
    return Store(lab.db.dialect.name)


def test_a_lot_that_changed_underneath_is_not_debited(lab: Lab, store: Store) -> None:
    ((entry, part, usable, expires),) = lab.rows("SELECT entry, part, usable_from, expires_at FROM lot")
    with pytest.raises(Insufficient), lab.db.begin() as conn:
        store.change_lots(
            store.cursor(conn), [(40, usable, expires, "", 99, TENANT, lab.names["ann"], "points", entry, part)]
        )
    assert lab.lots("ann") == [100]
    with lab.db.begin() as conn:
        store.change_lots(
            store.cursor(conn), [(40, usable, expires, "", 100, TENANT, lab.names["ann"], "points", entry, part)]
        )
    assert lab.lots("ann") == [40]


def test_a_balance_that_changed_underneath_is_not_posted(lab: Lab, store: Store) -> None:
    with pytest.raises(Insufficient), lab.db.begin() as conn:
        store.put_balances(store.cursor(conn), [], [(40, 0, 99, TENANT, lab.names["ann"], "points")])
    assert lab.posted("ann") == 100


def test_stock_is_taken_only_if_it_is_there_and_put_back_wherever(lab: Lab, store: Store) -> None:
    lab.fill("cup", 2)
    with pytest.raises(OutOfStock), lab.db.begin() as conn:
        store.change_stock(store.cursor(conn), {(TENANT, "cup"): -3}, [])
    with lab.db.begin() as conn:
        store.change_stock(store.cursor(conn), {(TENANT, "cup"): -2, (TENANT, "plate"): 5}, [(TENANT, "spoon", 7)])
    assert [lab.stock(key) for key in ("cup", "plate", "spoon")] == [0, 5, 7]


def test_counters_and_what_was_taken_add_up(lab: Lab, store: Store) -> None:
    for _ in range(2):
        with lab.db.begin() as conn:
            cur = store.cursor(conn)
            store.add_counters(
                cur, [(TENANT, lab.names["ann"], "n", "day", 5, 3), (TENANT, 0, "pot", "lifetime", 0, 9)]
            )
            store.add_taken(cur, [(TENANT, 1, 2, 4)])
    assert (lab.counter("n", "ann"), lab.counter("pot")) == (6, 18)
    with lab.db.begin() as conn:
        assert store.load_taken(store.cursor(conn), TENANT, [1, 77]) == {(1, 2): 8}


def test_ids_are_claimed_once_in_whatever_order_they_come(lab: Lab, store: Store) -> None:
    rows = [(TENANT, "pos", name, number) for number, name in enumerate(["z", "a", "m"])]
    with lab.db.begin() as conn:
        assert store.claim(store.cursor(conn), rows) == {0, 1, 2}
    with lab.db.begin() as conn:
        cur = store.cursor(conn)
        assert store.claim(cur, [(TENANT, "pos", "a", 8), (TENANT, "pos", "b", 9), (TENANT, "web", "a", 10)]) == {9, 10}
        assert (store.find_claim(cur, TENANT, "pos", "a"), store.find_claim(cur, TENANT, "pos", "zz")) == (1, None)
        store.unclaim(cur, [(TENANT, "pos", "a")])
        assert store.find_claim(cur, TENANT, "pos", "a") is None


@pytest.mark.parametrize("tenant", [TENANT, "somebody"])
def test_every_reading_sees_its_own_tenant_alone(lab: Lab, store: Store, tenant: str) -> None:
    mine = tenant == TENANT
    lab.buy("ann", 1_000, "A")
    number = lab.names["ann"]
    entries = [row[0] for row in lab.rows("SELECT entry FROM record")]
    with lab.db.begin() as conn:
        cur = store.cursor(conn)
        found = [
            store.load_records(cur, tenant, entries), store.load_order_entries(cur, tenant, ["A"]), store.lock_members(cur, tenant, [number]),
            store.load_balances(cur, tenant, [number]), store.load_lots(cur, tenant, [number]), store.load_lots_of(cur, tenant, [number], entries),
            store.share_generations(cur, [tenant]),
        ]  # fmt: skip
    assert [bool(one) for one in found] == [mine] * len(found)


def test_own_rows_are_written_replaced_and_deleted(lab: Lab, store: Store) -> None:
    row = (TENANT, "lab", "m:1", "name", 1)
    for value in ("1", '{"a":2}'):
        with lab.db.begin() as conn:
            store.put_own(store.cursor(conn), [(*row, value)], [])
    assert lab.own("m:1") == {"name": {"a": 2}}
    with lab.db.begin() as conn:
        store.put_own(store.cursor(conn), [], [row[:4]])
    assert lab.own("m:1") == {}


def test_locks_are_taken_on_what_is_not_there_yet(lab: Lab, store: Store) -> None:
    with lab.db.begin() as conn:
        cur = store.cursor(conn)
        store.lock_orders(cur, TENANT, {"new", "other"})
        store.lock_shared_counters(cur, TENANT, {"pot"})
        store.lock_own(cur, TENANT, {("lab", "prize")})
        assert store.lock_stock(cur, TENANT, {"nothing"}) == {}
    assert lab.own("prize") == {}
    assert lab.counter("pot") == 0


def test_of_counters_the_windows_that_are_asked_for_are_read_and_what_is_counted_for_ever(
    lab: Lab, store: Store
) -> None:
    past, now, unasked = ("month", 31), ("month", 59), ("day", 60)
    with lab.db.begin() as conn:
        cur = store.cursor(conn)
        kept = (past, now, unasked, ("lifetime", 0))
        store.add_counters(cur, [(TENANT, 7, "n", grain, start, 1) for grain, start in kept])
        found = store.load_counters(cur, TENANT, [7], {("n", "month"): 59, ("n", "lifetime"): 0})
    assert {(grain, start) for _, _, grain, start, _ in found} == {now, ("lifetime", 0)}


def test_nothing_asked_is_nothing_answered(lab: Lab, store: Store) -> None:
    with lab.db.begin() as conn:
        cur = store.cursor(conn)
        assert store.load_records(cur, TENANT, []) == {}
        assert store.load_counters(cur, TENANT, [], {("n", "day"): 0}) == []
        store.append_transfers(cur, [])
        store.change_lots(cur, [])


_TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.sampled_from(["", "NULL", "null", "{}", "a,b", '"', "\\", '\\"', "\n", "\\x00", " ", "中文", "{a}", "'", "%s"]),
)
_VALUES = {
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "text": _TEXTS,
    "bytea": st.binary(max_size=40),
}


@pytest.mark.parametrize("kind", _VALUES)
def test_what_is_written_as_an_array_is_read_as_it_was(postgresql: psycopg.Connection, kind: str) -> None:
    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.none() | _VALUES[kind], max_size=6))
    def ask(values: list[Any]) -> None:
        (found,) = postgresql.execute(f"SELECT %s::{kind}[]", (array_text(kind, values),)).fetchone() or ()
        assert found == values

    ask()
