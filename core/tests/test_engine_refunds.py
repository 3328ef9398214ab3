"""What comes back: sales, lines, points that paid for an order, guests, early refunds; earning and reversing is nothing."""

from collections.abc import Iterator

import pytest

from core.tests.lab import Lab, Puppet, verdict
from tallystick import database, proofs
from tallystick.effects import Bonus, Cap, Count, Grant, Keep, Put, Spend, Take
from tallystick.errors import InvalidEvent, TallyError
from tallystick.situation import Needs


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol("ann", "bob")
    yield lab
    lab.check()
    lab.db.dispose()


def test_a_rule_that_gave_two_members_the_same_takes_it_back_from_both(lab: Lab) -> None:
    lab.puppet.on("earn", lambda event, _: [])
    lab.gain("ann", 1)

    def earn(event, _):  # type: ignore[no-untyped-def]
        both = (
            Bonus(rule="lab.friend", unit="points", amount=10),
            Bonus(rule="lab.friend", unit="points", amount=10, to=event.others["to"]),
        )
        return both if event.kind == "lab.did" else []

    lab.puppet.on("earn", earn)
    record = lab.do("lab.did", "ann", to="bob")
    assert {step.member for step in record.explanation} == {"", f"m-{lab.names['bob']:012d}"}


@pytest.mark.parametrize("returns", [1, 2, 3])
def test_a_free_order_is_returned_once_however_often_it_is_sent_back(lab: Lab, returns: int) -> None:
    count = Count(rule="lab.visit", counter="lab.visits", window="month")
    share = Count(rule="lab.visit", counter="lab.money", window="month", amount=5, by_share=True)
    lab.puppet.on("earn", lambda event, _: [count, share, Bonus(rule="lab.free", unit="points", amount=5)])
    lab.buy("ann", 0, "A")
    lab.buy("ann", 0, "B")
    for _ in range(returns):
        lab.refund("A")
    assert (lab.counter("lab.visits", "ann"), lab.counter("lab.money", "ann"), lab.usable("ann")) == (1, 5, 5)


def test_a_points_payment_inside_the_sale_itself_comes_back_with_it(lab: Lab) -> None:
    lab.gain("ann", 100, days=30)
    lab.puppet.on("earn", lambda event, _: [])
    lab.puppet.on("redeem", lambda event, _: [Spend(rule="lab.pay", unit="points", amount=80, order=event.facts.order)])
    lab.spend("ann", 80, order="A")
    lab.buy("ann", 10_000, "A")
    assert lab.lots("ann") == [20]
    lab.refund("A", amount=2_500)
    assert lab.lots("ann") == [40]
    lab.refund("A")
    assert lab.lots("ann") == [100]


def test_points_come_back_to_the_latest_expiring_lot_first(lab: Lab) -> None:
    """SEMANTICS B25."""
    lab.gain("ann", 50, days=10)
    lab.gain("ann", 50, days=20)
    lab.puppet.on("earn", lambda event, _: [])
    lab.spend("ann", 80, order="A")
    lab.buy("ann", 8_000, "A")
    lab.refund("A", amount=2_000)
    assert lab.lots("ann") == [40]
    lab.refund("A", amount=2_000)
    assert lab.lots("ann") == [10, 50]
    lab.refund("A")
    assert lab.lots("ann") == [50, 50]


def test_points_go_back_although_the_lot_was_opened_beside_somebody_elses(lab: Lab) -> None:
    """Ann's lot and Bob's were opened by one entry; Bob has nothing to do with the refund."""

    def earn(event, _):  # type: ignore[no-untyped-def]
        if event.kind != "lab.did":
            return []
        return [
            Bonus(rule="lab.joined", unit="points", amount=50),
            Bonus(rule="lab.invited", unit="points", amount=20, to=event.others["to"]),
        ]

    lab.puppet.on("earn", earn)
    lab.do("lab.did", "ann", to="bob")
    lab.spend("ann", 50, order="A")
    lab.buy("ann", 1_000, "A")
    lab.refund("A")
    assert (lab.usable("ann"), lab.usable("bob")) == (50, 20)


def test_days_of_grace_do_not_revive_what_was_due_in_the_same_lot(make_database) -> None:  # type: ignore[no-untyped-def]
    lab = Lab(make_database(), grace_days=7)
    lab.enrol("ann")
    lab.gain("ann", 100, days=10)
    lab.puppet.on("earn", lambda event, _: [])
    lab.spend("ann", 30, order="A")
    lab.buy("ann", 1_000, "A")
    lab.wait(days=11)
    lab.refund("A")
    assert lab.usable("ann") == 30, "seventy had expired"
    lab.check()
    lab.db.dispose()


def test_an_early_refund_that_fits_no_line_does_not_keep_the_sale_out(lab: Lab) -> None:
    lab.refund("A", lines=[{"line": 7, "amount": 100}])
    lab.refund("A", amount=5_000)
    record = lab.buy("ann", 10_000, "A")
    assert (record.status, lab.usable("ann")) == ("recorded", 50)
    assert not lab.rows("SELECT 1 FROM order_entry WHERE role = 'parked'")


def test_an_early_refund_of_another_members_order_takes_nothing(lab: Lab) -> None:
    lab.refund("A", "bob")
    lab.buy("ann", 10_000, "A")
    assert lab.usable("ann") == 100, "in order it would have been refused"


def test_early_refunds_of_one_order_are_bounded(lab: Lab) -> None:
    outcomes = lab.try_all(*[lab.returned("A", amount=1) for _ in range(150)])
    assert {getattr(outcome, "code", "parked") for outcome in outcomes} == {"parked", "order_conflict"}
    assert lab.buy("ann", 10_000, "A").status == "recorded"


def test_a_guest_order_that_was_partly_returned_earns_for_the_rest(lab: Lab) -> None:
    lab.buy("", 10_000, "A")
    lab.refund("A", amount=4_000)
    lab.do("order.claimed", "ann", order="A")
    assert lab.usable("ann") == 60
    lab.refund("A")
    assert lab.usable("ann") == 0


def test_a_claimed_guest_order_counts_against_caps_like_any_other(lab: Lab) -> None:
    key = ("cap:lab.day", "day")
    lab.puppet.wants_for["purchase.completed"] = Needs(counters=frozenset({key}))
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=100),
            Cap(rule="lab.day", unit="points", limit=150, per="day"),
        ],
    )
    lab.buy("ann", 10_000, "A")
    lab.buy("", 10_000, "G")
    lab.do("order.claimed", "ann", order="G")
    assert lab.usable("ann") == 150


def test_a_refund_without_a_member_shows_the_plugin_its_rows_of_the_buyer(lab: Lab) -> None:
    lab.puppet.wants = Needs(own={"{member}": frozenset({"stamps"})}, counters=frozenset({("lab.n", "lifetime")}))
    lab.recompile()
    stamps = lambda situation: situation.own["{member}"].get("stamps", 0)  # noqa: E731
    lab.puppet.on("earn", lambda _, s: [Put(rule="lab.stamp", name="stamps", value=stamps(s) + 1)])
    lab.puppet.on("reverse", lambda _, s: [Put(rule="lab.stamp", name="stamps", value=stamps(s) - 1)])
    for order in "ABC":
        lab.buy("ann", 1_000, order)
    lab.refund("B")
    assert lab.own(f"m:{lab.names['ann']}") == {"stamps": 2}


def test_an_early_refund_shows_the_plugin_its_rows_too(lab: Lab) -> None:
    lab.puppet.wants_for["purchase.refunded"] = Needs(
        own={"{member}": frozenset({"stamps"}), "{order}": frozenset({"seen"})}
    )
    lab.puppet.on(
        "earn", lambda event, _: [Put(rule="lab.stamp", name="stamps", value=4)] if event.kind == "lab.did" else []
    )
    lab.do("lab.did", "ann")
    seen = []
    lab.puppet.on("reverse", lambda _, s: seen.append(dict(s.own["{member}"])) or [])
    lab.refund("A")
    lab.buy("ann", 1_000, "A")
    assert seen == [{"stamps": 4}]


def test_keeping_lowers_the_take_back_once_and_never_flips_it(lab: Lab) -> None:
    """SEMANTICS B23."""
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=150),
            Grant(rule="lab.base", unit="points", amount=50),
        ],
    )
    for number, (kept, left) in enumerate([(9_999, 200), (-50, 0), (60, 60)]):
        keep = Keep(rule="lab.keep", of_rule="lab.base", unit="points", amount=max(kept, 0))
        lab.puppet.on("reverse", lambda event, _, keep=keep: [keep])
        lab.buy("ann", 10_000, f"A{number}")
        before = lab.usable("ann")
        lab.refund(f"A{number}")
        assert lab.usable("ann") - (before - 200) == left


def test_two_keeps_of_one_rule_add_up(lab: Lab) -> None:
    keep = Keep(rule="lab.keep", of_rule="lab.base", unit="points", amount=20)
    lab.puppet.on("reverse", lambda event, _: [keep, keep])
    lab.buy("ann", 10_000, "A")
    lab.refund("A")
    assert lab.usable("ann") == 40


def test_earning_and_returning_is_nothing(lab: Lab) -> None:
    """I20: points, counters, caps, budgets, stock."""
    lab.fill("lab:cup", 5)
    caps = frozenset({("cap:lab.day", "day"), ("cap:pot", "budget"), ("lab.money", "P30D"), ("lab.visits", "month")})
    lab.puppet.wants_for["purchase.completed"] = Needs(counters=caps, stock=frozenset({"lab:cup"}))
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=event.facts.total // 100),
            Bonus(rule="lab.extra", unit="points", amount=30),
            Cap(rule="lab.day", unit="points", limit=100, per="day"),
            Cap(rule="lab.pot", unit="points", limit=1_000, per="budget", key="pot"),
            Count(rule="lab.money", counter="lab.money", window="P30D", amount=event.facts.total, by_share=True),
            Count(rule="lab.visit", counter="lab.visits", window="month"),
            Take(rule="lab.cup", key="lab:cup"),
        ],
    )  # fmt: skip
    state = lambda: (  # noqa: E731
        lab.posted("ann"), lab.stock("lab:cup"), lab.counter("cap:lab.day", "ann"), lab.counter("cap:pot"),
        lab.counter("lab.money", "ann"), lab.counter("lab.visits", "ann"),
    )  # fmt: skip
    lab.buy("ann", 1_234, "before")
    was = state()
    for number, parts in enumerate([(100,), (1, 2, 97), (33, 33, 33, 33), (60, 60)]):
        lab.buy("ann", 10_000, f"A{number}")
        for part in parts:
            lab.refund(f"A{number}", amount=part * 100)
        assert state() == was, parts


def test_what_a_budget_let_through_is_counted_for_everybody(lab: Lab) -> None:
    lab.puppet.wants = Needs(counters=frozenset({("cap:pot", "budget"), ("lab.all", "budget")}))
    lab.recompile()
    lab.puppet.on(
        "earn",
        lambda event, situation: [
            Grant(rule="lab.base", unit="points", amount=60),
            Cap(rule="lab.pot", unit="points", limit=100, per="budget", key="pot"),
            Count(rule="lab.all", counter="lab.all", window="budget"),
        ],
    )
    first, second = lab.buy("ann", 100, "A"), lab.buy("bob", 100, "B")
    assert (first.balances, second.balances) == ({"points": 60}, {"points": 40})
    assert (lab.counter("lab.all"), lab.counter("lab.all", "ann")) == (2, 0)


def test_caps_of_two_windows_under_one_name_are_each_counted_once(lab: Lab) -> None:
    key = frozenset({("cap:k", "day"), ("cap:k", "P30D"), ("cap:k", "month")})
    lab.puppet.wants = Needs(counters=key)
    lab.recompile()
    lab.puppet.on(
        "earn",
        lambda event, situation: [
            Grant(rule="lab.base", unit="points", amount=40),
            *[Cap(rule="lab.cap", unit="points", limit=limit, per=per, key="k") for per, limit in (("day", 100), ("P30D", 100), ("month", 1_000))],
        ],
    )  # fmt: skip
    for order in "ABC":
        lab.buy("ann", 100, order)
    assert lab.usable("ann") == 100


def test_two_counts_of_one_rule_both_count(lab: Lab) -> None:
    lab.puppet.on(
        "earn", lambda event, _: [Count(rule="lab.n", counter="lab.n", window="day", amount=n) for n in (1, 5)]
    )
    lab.buy("ann", 100, "A")
    assert lab.counter("lab.n", "ann") == 6


def test_a_cap_whose_counter_was_never_asked_for_is_refused_by_name(lab: Lab) -> None:
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=1),
            Cap(rule="lab.x", unit="points", limit=1, per="day"),
        ],
    )
    (outcome,) = lab.try_all(lab.bought("ann", 100, "A"))
    assert isinstance(outcome, TallyError)
    assert outcome.code == "effect_refused"


def test_late_events_are_judged_by_the_settings_of_then_with_the_counters_these_ask_for(lab: Lab) -> None:
    old, new = lab.puppet, Puppet()
    old.wants = Needs(counters=frozenset({("cap:lab.day", "day")}))
    lab.recompile()
    old.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=80),
            Cap(rule="lab.day", unit="points", limit=100, per="day"),
        ],
    )
    then = lab.now
    lab.buy("ann", 100, "A")
    lab.wait(days=2)
    lab.change_settings(new)
    late = lab.buy("ann", 100, "B", at=then)
    assert (late.generation, lab.usable("ann")) == (1, 100)
    assert lab.buy("ann", 500, "C").generation == 2


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("who", ["", "ann"])
def test_an_order_that_only_took_points_gives_them_back_when_it_is_cancelled(lab: Lab, who: str, held: bool) -> None:
    lab.gain("ann", 100)
    if held:
        lab.puppet.on("review", lambda event, _: verdict("hold")(event, _) if event.kind == "lab.spent" else [])
    lab.spend("ann", 70, order="A")
    first = lab.send(lab.arrival("purchase.cancelled", who, order="A"))
    assert (first.status, first.member, lab.usable("ann")) == ("recorded", f"m-{lab.names['ann']:012d}", 100)
    again = lab.send(lab.arrival("purchase.cancelled", who, order="A"))
    assert (again.transfers, lab.usable("ann")) == ((), 100)
    lab.check()
    with database.reading(lab.db) as conn:
        assert proofs.verify(conn).findings == ()


def test_a_sale_that_comes_after_its_cancellation_earns_and_gives_back_nothing(lab: Lab) -> None:
    lab.gain("ann", 100)
    lab.spend("ann", 70, order="A")
    lab.send(lab.arrival("purchase.cancelled", "", order="A"))
    lab.buy("ann", 10_000, "A")
    assert (lab.usable("ann"), lab.posted("ann")) == (100, 100)
    with database.reading(lab.db) as conn:
        assert proofs.verify(conn).findings == ()


def test_an_order_that_somebody_else_paid_for_is_not_theirs_to_cancel(lab: Lab) -> None:
    lab.gain("ann", 100)
    lab.spend("ann", 70, order="A")
    with pytest.raises(InvalidEvent):
        lab.send(lab.arrival("purchase.cancelled", "bob", order="A"))
    assert lab.usable("ann") == 30
