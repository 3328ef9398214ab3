"""Memory, signals and rings: pure, as tables and properties."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick_risk.memory import (
    DAY,
    DEVICES,
    HOUR,
    MOST,
    NOTHING,
    SPAN,
    Memory,
    Seen,
    Touch,
    join,
    read_memory,
    read_touches,
    remember,
    touched,
    written,
)
from tallystick_risk.rings import LONGEST, Gift, graph, ring_through
from tallystick_risk.signals import SIGNALS, Moment, distance

NOW = 1_750_000_000
WHATS = st.sampled_from(["buy", "spend", "give", "login", "fail", "joined", "back"])
SEEN = st.builds(
    Seen, at=st.integers(NOW - 9 * DAY, NOW), what=WHATS, store=st.sampled_from(["", "a", "b"]),
    device=st.sampled_from(["", "x", "y", "z"]), points=st.integers(-500, 500), cents=st.integers(0, 10**6),
)  # fmt: skip


def known(*seen: Seen) -> Memory:
    memory = Memory()
    for one in seen:
        memory = remember(memory, one)
    return memory


def moment(memory: Memory = NOTHING, **more: object) -> Moment:
    fields = {
        "at": NOW,
        "when": datetime.fromtimestamp(NOW, UTC),
        "what": "spend",
        "member": 1,
        "enrolled": NOW - 400 * DAY,
    }
    return Moment(**{**fields, "memory": memory, **more})  # type: ignore[arg-type]


def signal(name: str, memory: Memory = NOTHING, **more: object) -> int:
    return SIGNALS[name].measure(moment(memory, **more))


@given(st.lists(SEEN, max_size=120))
def test_a_memory_is_bounded_survives_writing_and_counts_what_was_bought(events: list[Seen]) -> None:
    memory = known(*events)
    assert read_memory(written(memory)) == memory
    assert len(memory.events) <= MOST and len(memory.devices) <= DEVICES
    bought = [one for one in events if one.what == "buy"]
    assert (memory.bought, memory.sold) == (len(bought), sum(one.cents for one in bought))
    assert memory.usual >= 0
    active = [one.at for one in events if one.what not in ("fail", "back")]
    assert memory.last == max(active, default=0)


@given(st.lists(SEEN, max_size=40))
def test_nothing_of_the_last_days_is_forgotten_below_the_bound(events: list[Seen]) -> None:
    memory = known(*events)
    recent = [one for one in events if one.at > max(memory.last, events[-1].at) - SPAN] if events else []
    missing = [one for one in recent if one not in memory.events]
    # of events that came out of order, only what had already been too old when something newer came may be gone
    assert all(one.at <= memory.last - SPAN or any(other.at - SPAN >= one.at for other in events) for one in missing)


def test_two_members_who_are_one_are_remembered_as_one() -> None:
    one = known(Seen(NOW - 20 * DAY, "buy", cents=1_000), Seen(NOW - 50, "login", device="x"))
    other = known(Seen(NOW - 90, "login", device="x"), Seen(NOW - 30, "buy", cents=3_000))
    both = join(one, other)
    assert (both.last, both.bought, both.usual, both.sold) == (NOW - 30, 2, 2_000, 4_000)
    assert [device.since for device in both.devices] == [NOW - 90]
    assert [seen.at for seen in both.events] == [NOW - 90, NOW - 50, NOW - 30]
    assert join(Memory(), one) == join(one, Memory()) == one


def test_a_flood_of_logins_makes_nobody_forget_what_was_spent() -> None:
    memory = known(
        *[Seen(NOW - 900 + n, "spend", points=-1) for n in range(5)], *[Seen(NOW - 800 + n, "fail") for n in range(200)]
    )
    assert sum(one.what == "spend" for one in memory.events) == 5
    assert signal("redemptions_hour", memory) == 6


def test_an_outlier_moves_the_usual_amount_a_little() -> None:
    usual = known(*[Seen(NOW - 100 + n, "buy", cents=1_000) for n in range(20)])
    assert usual.usual == 1_000
    assert remember(usual, Seen(NOW, "buy", cents=10**9)).usual == 1_000 + 9_000 // 8


@pytest.mark.parametrize(
    "name, seen, more, expected",
    [
        ("redemptions_hour", [Seen(NOW - HOUR, "spend")], {}, 1),
        ("redemptions_hour", [Seen(NOW - HOUR + 1, "spend")], {}, 2),
        ("redemptions_hour", [Seen(NOW - 9, "spend"), Seen(NOW + 9, "spend")], {}, 2),
        ("redemptions_day", [Seen(NOW - 5, "buy")], {"what": "buy"}, 0),
        ("purchases_hour", [Seen(NOW - 5, "buy")], {"what": "buy"}, 2),
        ("purchases_day", [Seen(NOW - DAY + 1, "buy")], {"what": "buy"}, 2),
        ("events_hour", [Seen(NOW - 5, "fail")], {}, 2),
        ("events_day", [Seen(NOW - 5 * HOUR, "fail")], {}, 2),
        ("gifts_day", [Seen(NOW - 5, "give")], {"what": "give"}, 2),
        ("points_taken", [], {"taken": 7}, 7),
        ("points_given", [], {"given": 7}, 7),
        ("points_taken_day", [Seen(NOW - 5, "spend", points=-30), Seen(NOW - 5, "buy", points=50)], {"taken": 7}, 37),
        ("points_given_day", [Seen(NOW - 5, "spend", points=-30), Seen(NOW - 5, "buy", points=50)], {"given": 7}, 57),
        ("failed_logins_hour", [Seen(NOW - 5, "fail")] * 3, {}, 3),
        ("failed_logins_hour", [Seen(NOW - 5, "fail")] * 3, {"what": "fail"}, 4),
        ("receipts", [Seen(NOW - 899, "buy", "a"), Seen(NOW - 5, "buy", "b")], {"what": "buy", "store": "a"}, 2),
        ("receipts", [Seen(NOW - 900, "buy", "a")], {"what": "buy", "store": "a"}, 1),
        ("receipts", [Seen(NOW - 5, "buy", "a")], {"what": "spend", "store": "a"}, 0),
        ("idle_days", [], {}, 0),
        ("idle_days", [Seen(NOW - 60 * DAY, "buy")], {}, 60),
        ("idle_days", [Seen(NOW - 60 * DAY, "buy"), Seen(NOW - 100, "login")], {}, 59),
        ("idle_days", [Seen(NOW - 60 * DAY, "buy"), Seen(NOW - 3 * DAY, "login")], {}, 3),
        ("idle_days", [Seen(NOW - 60 * DAY, "buy"), Seen(NOW - 100, "fail")], {}, 60),
        ("idle_days", [Seen(NOW + 60, "buy")], {}, 0),
        ("new_device", [], {"device": "x"}, 0),
        ("new_device", [Seen(NOW - 60 * DAY, "buy")], {"device": "x"}, 1),
        ("new_device", [Seen(NOW - 60 * DAY, "login", device="x")], {"device": "x"}, 0),
        (
            "new_device",
            [Seen(NOW - 60 * DAY, "login", device="x"), Seen(NOW - 9, "login", device="y")],
            {"device": "y"},
            1,
        ),
        (
            "new_device",
            [Seen(NOW - 60 * DAY, "login", device="x"), Seen(NOW - 8 * DAY, "login", device="y")],
            {"device": "y"},
            0,
        ),
        ("new_device", [Seen(NOW - 60 * DAY, "buy")], {"device": ""}, 0),
        ("devices_day", [Seen(NOW - 5, "login", device="x"), Seen(NOW - 5, "buy", device="till")], {"device": "y"}, 2),
        ("amount", [], {"cents": 7}, 7),
        ("amount_percent", [Seen(NOW - 5, "buy", cents=1_000)] * 5, {"what": "buy", "cents": 2_500}, 250),
        ("amount_percent", [Seen(NOW - 5, "buy", cents=1_000)] * 4, {"what": "buy", "cents": 2_500}, 0),
        ("returned_percent", [Seen(NOW - 5, "buy", cents=1_000)], {}, 0),
        ("age_hours", [], {"enrolled": NOW - 3 * HOUR - 1}, 3),
        ("age_days", [], {"enrolled": NOW + 5}, 0),
        ("hour", [], {"zone": ZoneInfo("Asia/Shanghai")}, 23),
        ("flags", [], {"flags": 2}, 2),
        ("travel_km", [Seen(NOW - HOUR, "buy", "a")], {"store": "b", "places": {("a", "b"): 300}}, 300),
        ("travel_kmh", [Seen(NOW - HOUR // 2, "buy", "a")], {"store": "b", "places": {("a", "b"): 300}}, 600),
        ("travel_kmh", [Seen(NOW - 1, "buy", "a")], {"store": "b", "places": {("a", "b"): 1}}, 60),
        ("travel_kmh", [Seen(NOW - 60, "buy", "a")], {"store": "a", "places": {("a", "b"): 1}}, 0),
        ("travel_kmh", [Seen(NOW - 60, "buy", "a")], {"store": "unknown", "places": {("a", "b"): 1}}, 0),
        ("device_members_day", [], {"devices": (Touch(NOW - 5, 2, "spend"), Touch(NOW - DAY, 3, "spend"))}, 2),
        ("device_members_day", [], {"member": 0, "devices": ()}, 0),
        ("device_redemptions_hour", [], {"devices": (Touch(NOW - 5, 2, "spend"), Touch(NOW - 5, 2, "give"))}, 2),
        ("cashier_redemptions_hour", [], {"cashiers": (Touch(NOW - HOUR, 2, "spend"),)}, 1),
        ("address_members_day", [], {"addresses": (Touch(NOW - 5, 1, "login"), Touch(NOW - 5, 4, "fail"))}, 2),
        ("address_failed_logins_hour", [], {"what": "fail", "addresses": (Touch(NOW - 5, 4, "fail"),)}, 2),
    ],
)
def test_a_signal_says(name: str, seen: list[Seen], more: dict[str, object], expected: int) -> None:
    assert signal(name, known(*seen), **more) == expected


def test_every_signal_is_in_the_table_above() -> None:
    marks = test_a_signal_says.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert SIGNALS.keys() - {row[0] for row in marks} == {"returns"}
    memory = remember(known(Seen(NOW - 5, "buy", cents=1_000)), Seen(NOW, "back", cents=400), returned=400)
    assert (signal("returns", memory), signal("returned_percent", memory)) == (1, 40)


@given(st.lists(SEEN, max_size=30), st.integers(NOW - DAY, NOW + DAY), st.sampled_from(sorted(SIGNALS)))
def test_no_signal_is_below_zero_or_fails(events: list[Seen], at: int, name: str) -> None:
    assert signal(name, known(*events), at=at, store="a", device="x", places={("b", "a"): 5}) >= 0


def test_touches_of_a_day_are_kept() -> None:
    kept = touched((Touch(NOW - DAY, 1, "spend"), Touch(NOW - 5, 2, "spend")), Touch(NOW, 3, "spend"))
    assert [one.member for one in kept] == [2, 3]
    assert read_touches(written(kept)) == kept
    many = tuple(Touch(NOW, n, "spend") for n in range(500))
    assert len(touched(many, Touch(NOW, 1, "spend"))) == 2 * MOST


@pytest.mark.parametrize(
    "one, other, kilometres",
    [
        (("40.80", "-73.95"), ("40.80", "-73.95"), 0),
        (("40.80", "-73.95"), ("41.88", "-87.63"), 1147),
        (("0", "179"), ("0", "-179"), 222),
    ],
)
def test_distances(one: tuple[str, str], other: tuple[str, str], kilometres: int) -> None:
    assert distance(one, other) == distance(other, one) == kilometres


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda gift: gift[0] != gift[1]), max_size=30))
def test_a_ring_is_a_way_of_gifts_back_to_where_it_started_and_the_shortest_there_is(
    gifts: list[tuple[int, int]],
) -> None:
    given_ = graph([Gift(giver, taker, 1) for giver, taker in gifts])
    for giver, taker in gifts:
        ring = ring_through(giver, taker, given_)
        steps = reach(taker, giver, given_)
        assert (len(ring) == steps + 1) if steps < LONGEST else not ring
        assert all(two in given_[one] for one, two in zip(ring, (*ring[1:], giver), strict=False) if ring)
        assert len(set(ring)) == len(ring)


def reach(start: int, goal: int, given_: dict[int, set[int]]) -> int:
    """Steps from start to goal; a large number if there is no way."""
    seen, edge, steps = {start}, {start}, 0
    while edge:
        if goal in edge:
            return steps
        edge = {other for one in edge for other in given_.get(one, ())} - seen
        seen |= edge
        steps += 1
    return 10**6
