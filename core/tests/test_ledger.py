"""Lots, claw-backs, Merkle trees: pure arithmetic in tables, and what must hold for every number."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import Insufficient, LimitReached
from tallystick.ledger import (
    MAX_BALANCE,
    MAX_BATCH,
    NEVER,
    Account,
    Lot,
    Transfer,
    chain_hash,
    entry_name,
    entry_number,
    instant,
    leaf_hash,
    member_name,
    merkle_path,
    merkle_root,
    moment,
    parse_entry,
    parse_member,
    returned_share,
    root_from_path,
    taken_by_now,
    zero_sum,
)
from tallystick.situation import Unit
from tallystick.windows import grain_of, rolling_days, start_of

JAN, FEB, MAR = 100, 200, 300  # instants; the numbers of a small calendar


def account(*lots: tuple[int, int, int], deficit: int = 0) -> Account:
    """Lots as (amount, usable from, expires at), opened in this order."""
    found = Account(7, "points", deficit=deficit, posted=-deficit)
    for entry, (amount, usable, expires) in enumerate(lots, 1):
        found.credit(Lot(entry, 0, amount, amount, usable, expires))
    return found


def left(found: Account) -> list[int]:
    return [lot.left for lot in found.lots.values()]


@pytest.mark.parametrize(
    "lots, amount, expected",
    [
        ([(50, 0, JAN), (50, 0, FEB)], 70, [0, 30]),  # SEMANTICS C29
        ([(100, 0, NEVER), (100, 0, FEB)], 100, [100, 0]),
        ([(50, 0, FEB), (50, 0, JAN)], 70, [30, 0]),
        ([(50, 10, FEB), (50, 5, FEB)], 20, [50, 30]),  # ties by time
        ([(50, 0, FEB), (50, 0, FEB)], 20, [30, 50]),  # then by id
        ([(50, 0, JAN)], 50, [0]),
        ([(50, 99, MAR), (50, 0, MAR)], 30, [50, 20]),  # not usable yet
        ([(50, 0, 20), (50, 0, MAR)], 30, [50, 20]),  # due, not swept yet
    ],
)  # fmt: skip
def test_the_earliest_expiry_is_spent_first(lots: list[tuple[int, int, int]], amount: int, expected: list[int]) -> None:
    found = account(*lots)
    posted = found.posted
    assert sum(part for _, part in found.spend(amount, 50)) == amount
    assert (left(found), found.posted) == (expected, posted - amount)


@pytest.mark.parametrize(
    "lots, usable", [([], 0), ([(50, 99, MAR)], 0), ([(50, 0, 50)], 0), ([(50, 0, 51), (30, 50, MAR)], 80)]
)
def test_what_is_pending_or_due_cannot_be_spent(lots: list[tuple[int, int, int]], usable: int) -> None:
    found = account(*lots)
    assert found.usable(50) == usable
    with pytest.raises(Insufficient) as refusal:
        found.spend(usable + 1, 50)
    assert refusal.value.details["usable"] == usable
    assert left(found) == [amount for amount, _, _ in lots]


def test_what_is_held_neither_expires_nor_can_be_spent() -> None:
    found = account()
    lot = found.credit(Lot(1, 0, 50, 50, NEVER, JAN, waits="held"))
    assert (found.expire(FEB), found.usable(FEB), lot.left) == ([], 0, 50)
    assert found.take_back(50, FEB, Unit(name="points"), [lot.key]) == ([(lot, 50)], 0)


@pytest.mark.parametrize("now, swept", [(99, 0), (100, 50), (199, 50), (200, 80), (10**9, 80)])
def test_each_lot_expires_once_at_its_instant(now: int, swept: int) -> None:
    """SEMANTICS C31."""
    found = account((50, 0, JAN), (30, 0, FEB), (20, 0, NEVER))
    assert sum(amount for _, amount in found.expire(now)) == swept
    assert found.expire(now) == []
    assert found.posted == 100 - swept


@pytest.mark.parametrize(
    "deficit, amount, opened, deficit_after", [(0, 100, 100, 0), (30, 100, 70, 0), (100, 100, 0, 0), (130, 100, 0, 30)]
)
def test_a_deficit_is_absorbed_by_the_next_gain(deficit: int, amount: int, opened: int, deficit_after: int) -> None:
    """SEMANTICS C30."""
    found = account((amount, 0, NEVER), deficit=deficit)
    assert (left(found), found.deficit, found.posted) == ([opened], deficit_after, amount - deficit)


@pytest.mark.parametrize(
    "shortfall, limit, taken, deficit",
    [
        ("negative", None, 80, 20), ("negative", 5, 80, 5), ("negative", 0, 80, 0),
        ("within_balance", None, 80, 0), ("pending_only", None, 30, 0),
    ],
)  # fmt: skip
def test_what_is_missing_follows_the_units_policy(shortfall: str, limit: int | None, taken: int, deficit: int) -> None:
    """SEMANTICS B21."""
    found = account((50, 0, NEVER), (30, 99, NEVER))
    parts, opened = found.take_back(100, 50, Unit(name="points", shortfall=shortfall, shortfall_limit=limit))  # type: ignore[arg-type]
    assert (sum(amount for _, amount in parts), opened, found.deficit) == (taken, deficit, deficit)
    assert found.posted == 80 - taken - deficit


def test_taking_back_begins_with_the_lots_it_was_given_in_then_pending_then_usable() -> None:
    """SEMANTICS B28."""
    found = account((10, 0, JAN), (10, 99, NEVER), (10, 0, NEVER))
    own = list(found.lots.values())[2]
    found.take_back(15, 50, Unit(name="points"), [own.key])
    assert left(found) == [10, 5, 0]


def test_no_balance_leaves_the_range_of_the_ledger() -> None:
    found = account((MAX_BALANCE, 0, NEVER))
    with pytest.raises(LimitReached):
        found.credit(Lot(9, 0, 1, 1, 0))


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 90), st.integers(1, 120)), max_size=6),
    st.lists(st.tuples(st.sampled_from(["spend", "expire", "take_back", "credit"]), st.integers(1, 300), st.integers(0, 100)), max_size=12),
    st.sampled_from(["negative", "within_balance", "pending_only"]),
)  # fmt: skip
def test_posted_is_lots_less_deficit_whatever_happens(lots, steps, shortfall) -> None:  # type: ignore[no-untyped-def]
    found, unit = account(*lots), Unit(name="points", shortfall=shortfall)
    for number, (what, amount, now) in enumerate(steps, 100):
        match what:
            case "spend":
                if amount <= found.usable(now):
                    found.spend(amount, now)
            case "expire":
                found.expire(now)
            case "take_back":
                found.take_back(amount, now, unit)
            case "credit":
                found.credit(Lot(number, 0, amount, amount, now, now + 10))
        assert found.posted == sum(left(found)) - found.deficit
        assert min([found.deficit, *left(found)]) >= 0


# -- taking back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "granted, value, returns, taken",
    [
        (1000, 200, [100], [500]),  # SEMANTICS B19
        (1000, 100, [60, 60], [600, 400]),  # B20
        (10, 3, [1, 1, 1], [3, 3, 4]),
        (100, 0, [0], [100]),
        (0, 100, [50], [0]),
        (1000, 200, [200, 200], [1000, 0]),
    ],
)
def test_take_backs_in_numbers(granted: int, value: int, returns: list[int], taken: list[int]) -> None:
    found, before, returned = [], 0, 0
    for back in returns:
        returned = min(value, returned + back)
        now = taken_by_now(granted, value, returned)
        found.append(now - before)
        before = now
    assert found == taken


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.lists(st.integers(0, 10**12), max_size=8))
def test_parts_of_a_take_back_add_up_exactly_and_never_to_more(granted: int, value: int, returns: list[int]) -> None:
    """I20: cumulatively exact, never below what was taken before, all when all is back."""
    before = returned = 0
    for back in returns:
        returned = min(value, returned + back)
        now = taken_by_now(granted, value, returned)
        assert before <= now <= granted
        before = now
    assert taken_by_now(granted, value, value) == granted


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=6), st.data())
def test_the_share_of_returned_lines_grows_to_the_whole(lines: list[tuple[int, int]], data: st.DataObject) -> None:
    weights = [(index, weight) for index, (weight, _) in enumerate(lines)]
    values = [value for _, value in lines]
    returned: dict[int, int] = {}
    before = Fraction(0)
    for index in data.draw(st.permutations(range(len(lines)))):
        returned[index] = data.draw(st.integers(0, values[index]))
        now = returned_share(weights, values, returned)
        assert before <= now <= 1
        returned[index] = values[index]
        before = returned_share(weights, values, returned)
        assert now <= before
    assert before == (1 if any(weight for _, weight in weights) else 0)


# -- names ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 4095), st.integers(0, 2**39 - 1), st.integers(0, MAX_BATCH - 1))
def test_an_entrys_name_and_number_are_one(writer: int, batch: int, place: int) -> None:
    number = entry_number(writer, batch, place)
    assert number < 1 << 63
    assert parse_entry(entry_name(number)) == number
    assert entry_name(number) == f"{writer}-{batch}-{place}"


@pytest.mark.parametrize(
    "name", ["", "1-2", "1-2-3-4", "a-1-1", "4096-1-1", f"1-{1 << 39}-1", "1-1-4096", "-1-1-1", "1-1-١", "1- 1-1"]
)
def test_what_is_no_entry_is_none(name: str) -> None:
    assert parse_entry(name) is None


@given(st.integers(1, 10**12 - 1))
def test_a_members_name_and_number_are_one(number: int) -> None:
    assert parse_member(member_name(number)) == number


@pytest.mark.parametrize("name", ["", "m-1", "m-00000000000a", "M-000000000001", "m-0000000000001", "m-٠٠٠٠٠٠٠٠٠٠٠١"])
def test_what_is_no_member_is_none(name: str) -> None:
    assert parse_member(name) is None


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 - the zone comes next
def test_instants_are_exact_to_the_microsecond(when: datetime) -> None:
    aware = when.replace(tzinfo=UTC)
    assert moment(instant(aware)) == aware


def test_transfers_are_zero_sums() -> None:
    assert zero_sum([Transfer("issued", "m-1", "points", 1, "p.x")])
    assert not zero_sum([Transfer("m-1", "m-1", "points", 1, "p.x")])
    assert not zero_sum([Transfer("issued", "m-1", "points", 0, "p.x")])


# -- trees ------------------------------------------------------------------------------------------------------------


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + recursive_root(leaves[:k]) + recursive_root(leaves[k:])).digest()


@pytest.mark.parametrize("count", [*range(40), 63, 64, 65, 255, 256, 257])
def test_the_root_is_that_of_the_standard_and_every_path_leads_to_it(count: int) -> None:
    leaves = [leaf_hash(bytes([n % 256, n // 256])) for n in range(count)]
    root = merkle_root(leaves)
    assert root == recursive_root(leaves)
    for index in range(0, count, max(1, count // 9)):
        path = merkle_path(leaves, index)
        assert root_from_path(leaves[index], index, count, path) == root
        if path:
            assert root_from_path(leaves[index], index, count, [bytes(32), *path[1:]]) != root
            with pytest.raises(ValueError, match="short"):
                root_from_path(leaves[index], index, count, path[:-1])
        with pytest.raises(ValueError, match="long"):
            root_from_path(leaves[index], index, count, [*path, bytes(32)])
        with pytest.raises(ValueError, match="no such leaf"):
            root_from_path(leaves[index], count, count, path)


def test_a_leaf_is_no_node_and_order_matters() -> None:
    assert leaf_hash(b"x") == hashlib.sha256(b"\x00x").digest()
    one, two = leaf_hash(b"1"), leaf_hash(b"2")
    assert merkle_root([one, two]) != merkle_root([two, one])


def test_a_link_covers_everything_it_names() -> None:
    parts = (bytes(32), b"r" * 32, 1, 2, 3)
    others = [
        (b"p" * 32, *parts[1:]),
        (parts[0], bytes(32), 1, 2, 3),
        (*parts[:2], 9, 2, 3),
        (*parts[:3], 9, 3),
        (*parts[:4], 9),
    ]
    assert len({chain_hash(*one) for one in [parts, *others]}) == 6  # type: ignore[arg-type]


# -- windows ----------------------------------------------------------------------------------------------------------

DAYS = st.dates(date(1971, 1, 1), date(2100, 12, 31))


@pytest.mark.parametrize(
    "window, day, start",
    [
        ("day", date(2024, 2, 29), date(2024, 2, 29)), ("week", date(2024, 12, 31), date(2024, 12, 30)),
        ("week", date(2025, 1, 5), date(2024, 12, 30)), ("month", date(2024, 2, 29), date(2024, 2, 1)),
        ("quarter", date(2024, 3, 31), date(2024, 1, 1)), ("quarter", date(2024, 4, 1), date(2024, 4, 1)),
        ("half", date(2024, 6, 30), date(2024, 1, 1)), ("half", date(2024, 7, 1), date(2024, 7, 1)),
        ("year", date(2024, 12, 31), date(2024, 1, 1)), ("lifetime", date(2024, 12, 31), date(1970, 1, 1)),
        ("budget", date(2024, 12, 31), date(1970, 1, 1)), ("P1D", date(2024, 3, 1), date(2024, 3, 1)),
        ("P30D", date(2024, 3, 1), date(2024, 2, 1)), ("P365D", date(2024, 12, 31), date(2024, 1, 2)),
    ],
)  # fmt: skip
def test_windows_begin_on_these_days(window: str, day: date, start: date) -> None:
    assert start_of(window, day) == (start - date(1970, 1, 1)).days


@given(DAYS, st.sampled_from(["day", "week", "month", "quarter", "half", "year"]))
def test_a_windows_days_all_begin_on_the_same(day: date, window: str) -> None:
    start = date(1970, 1, 1) + timedelta(days=start_of(window, day))
    assert start <= day
    assert start_of(window, start) == start_of(window, day)
    before = start - timedelta(days=1)
    assert start_of(window, before) < start_of(window, day)


@pytest.mark.parametrize("window", ["", "P0D", "P-1D", "P1", "P1W", "P99999D", "fortnight", "P1D\n"])
def test_what_is_no_window_is_refused(window: str) -> None:
    with pytest.raises(ValueError, match="is no window"):
        start_of(window, date(2024, 1, 1))


@given(st.integers(1, 9999))
def test_rolling_windows_add_up_days(days: int) -> None:
    assert (rolling_days(f"P{days}D"), grain_of(f"P{days}D"), grain_of("day"), grain_of("week")) == (
        days,
        "day",
        "day",
        "week",
    )
