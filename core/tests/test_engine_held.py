"""Held events: what waits for a decision, and what releasing or voiding it does, once."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from core.tests.lab import TENANT, Lab, verdict
from tallystick import proofs
from tallystick.effects import Bonus, Count, Emit, Grant, Put, SetTier, Spend, Take
from tallystick.engine import Receipt
from tallystick.errors import AlreadyDecided, Denied, InvalidEvent, Refused, UnknownEntry
from tallystick.events import CORE_KINDS
from tallystick.situation import Needs


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol("ann", "bob")
    yield lab
    lab.check()
    lab.db.dispose()


def hold(lab: Lab) -> None:
    lab.puppet.on("review", verdict("hold"))


def allow(lab: Lab) -> None:
    lab.puppet.on("review", verdict("allow"))


def test_a_held_gain_is_no_balance_to_spend_until_it_is_released(lab: Lab) -> None:
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    assert (held.status, lab.usable("ann"), lab.posted("ann")) == ("held", 0, 100)
    lab.release(held.entry)
    assert lab.usable("ann") == 100


def test_a_voided_gain_leaves_nothing_behind(lab: Lab) -> None:
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    lab.void(held.entry)
    assert (lab.usable("ann"), lab.posted("ann")) == (0, 0)


@pytest.mark.parametrize("spelling", ["1-1-0", "01-1-0", "1-001-00"])
def test_an_entry_is_decided_once_however_it_is_spelled(lab: Lab, spelling: str) -> None:
    """Leading zeros named the same entry under another lock: it could be released twice."""
    lab.gain("ann", 100)  # entry 1-1-0 of the points to be spent comes first
    hold(lab)
    held = lab.spend("ann", 60)
    assert held.entry == "1-2-0"
    lab.void(held.entry)
    with pytest.raises(AlreadyDecided):
        lab.void(spelling.replace("1-1-0", "1-2-0").replace("01-1-0", "01-2-0").replace("1-001-00", "1-002-00"))
    assert lab.usable("ann") == 100


def test_what_was_never_held_cannot_be_released(lab: Lab) -> None:
    entry = lab.gain("ann", 10).entry
    for name in (entry, "1-77-0", "nonsense"):
        with pytest.raises(UnknownEntry):
            lab.release(name)


def test_a_decision_names_an_entry_and_no_member_or_the_right_one(lab: Lab) -> None:
    hold(lab)
    first, second = lab.buy("ann", 1_000, "A"), lab.buy("ann", 2_000, "B")
    with pytest.raises(InvalidEvent, match="another member"):
        lab.send(lab.arrival("entry.released", "bob", entry=first.entry, reason="checked"))
    lab.send(lab.arrival("entry.released", "ann", entry=first.entry, reason="checked"))
    lab.release(second.entry)
    assert lab.usable("ann") == 30
    assert all(kind.guest for kind in CORE_KINDS if kind.name in ("entry.released", "entry.voided")), (
        "so the door lets it in"
    )


def test_a_held_spend_is_out_of_reach_and_comes_back_when_voided(lab: Lab) -> None:
    lab.gain("ann", 100)
    hold(lab)
    held = lab.spend("ann", 60)
    assert lab.usable("ann") == 40
    assert lab.accounts()["held"] == 60
    lab.void(held.entry)
    assert lab.usable("ann") == 100
    assert "held" not in lab.accounts()


def test_a_released_spend_reaches_the_account_it_was_meant_for(lab: Lab) -> None:
    lab.gain("ann", 100)
    lab.puppet.on(
        "redeem", lambda _event, _: [Spend(rule="lab.convert", unit="points", amount=60, account="converted")]
    )
    hold(lab)
    held = lab.spend("ann", 60)
    lab.release(held.entry)
    accounts = lab.accounts()
    assert accounts.get("converted") == 60, accounts


def test_a_released_gift_reaches_its_receiver_with_the_terms_of_the_lots(lab: Lab) -> None:
    lab.gain("ann", 100, days=10)
    lab.gain("bob", 5)
    hold(lab)
    held = lab.give("ann", "bob", 60)
    assert (lab.usable("ann"), lab.usable("bob")) == (40, 5)
    lab.release(held.entry)
    assert (lab.usable("ann"), lab.usable("bob")) == (40, 65)
    lab.wait(days=11)
    assert lab.usable("bob") == 5


def test_a_voided_gift_goes_back_to_the_giver(lab: Lab) -> None:
    lab.gain("ann", 100)
    hold(lab)
    lab.void(lab.give("ann", "bob", 60).entry)
    assert (lab.usable("ann"), lab.usable("bob")) == (100, 0)


def test_released_points_still_wait_for_what_they_waited_for_before(lab: Lab) -> None:
    lab.puppet.on(
        "earn", lambda event, _: [Grant(rule="lab.base", unit="points", amount=100, usable_state="delivered")]
    )
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    lab.release(held.entry)
    assert lab.usable("ann") == 0
    lab.do("order.advanced", "ann", order="A", state="delivered")
    assert lab.usable("ann") == 100


def test_a_state_reached_while_held_is_remembered(lab: Lab) -> None:
    lab.puppet.on(
        "earn", lambda event, _: [Grant(rule="lab.base", unit="points", amount=100, usable_state="delivered")]
    )
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    lab.do("order.advanced", "ann", order="A", state="delivered")
    assert lab.usable("ann") == 0
    lab.release(held.entry)
    assert lab.usable("ann") == 100


@pytest.mark.parametrize("first", ["released", "delivered"])
def test_what_is_made_anew_waits_for_what_it_waited_for(lab: Lab, first: str) -> None:
    lab.puppet.on(
        "earn", lambda event, _: [Grant(rule="lab.base", unit="points", amount=100, usable_state="delivered")]
    )
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    steps = {
        "released": lambda: lab.release(held.entry),
        "delivered": lambda: lab.do("order.advanced", "ann", order="A", state="delivered"),
    }
    for step in (first, *steps.keys() - {first}):
        rebuilt(lab)
        steps[step]()
        rebuilt(lab)
    assert lab.usable("ann") == 100


def rebuilt(lab: Lab) -> None:
    """From the journal comes what was kept."""
    kept = lab.rows("SELECT * FROM lot ORDER BY entry, part")
    with lab.db.begin() as conn:
        proofs.rebuild(conn, TENANT)
    assert lab.rows("SELECT * FROM lot ORDER BY entry, part") == kept


def test_released_points_are_usable_from_the_day_the_rule_said(lab: Lab) -> None:
    later = lab.now + timedelta(days=14)
    lab.puppet.on("earn", lambda event, _: [Grant(rule="lab.base", unit="points", amount=100, usable_from=later)])
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    lab.release(held.entry)
    assert lab.usable("ann") == 0
    lab.wait(days=14)
    assert lab.usable("ann") == 100


def test_reactions_wait_for_the_release_and_see_the_counters_of_their_own_event(lab: Lab) -> None:
    counter = frozenset({("lab.visits", "lifetime")})
    lab.puppet.wants_for["purchase.completed"] = Needs(counters=counter, own={"{member}": frozenset({"visits"})})
    seen = []

    def react(event, situation):  # type: ignore[no-untyped-def]
        seen.append((event.kind, situation.counters[("lab.visits", "lifetime")], dict(situation.own["{member}"])))
        count = Count(rule="lab.visit", counter="lab.visits", window="lifetime")
        return [
            Bonus(rule="lab.milestone", unit="points", amount=7),
            count,
            Put(rule="lab.visit", name="visits", value=1),
        ]

    lab.puppet.on("react", react)
    lab.buy("ann", 10_000, "A")
    hold(lab)
    held = lab.buy("ann", 10_000, "B")
    assert len(seen) == 1, "a held event has no consequences yet"
    lab.puppet.on("review", lambda event, _: verdict("hold")(event, _) if event.kind == "purchase.completed" else [])
    lab.release(held.entry)
    assert seen == [("purchase.completed", 0, {}), ("purchase.completed", 1, {"visits": 1})]
    assert lab.usable("ann") == 214
    assert lab.counter("lab.visits", "ann") == 2


def test_what_a_held_event_deferred_happens_at_its_release_and_never_if_it_is_voided(lab: Lab) -> None:
    def earn(event, _):  # type: ignore[no-untyped-def]
        if event.kind != "lab.did":
            return []
        return [
            Put(rule="lab.note", name="met", value={"deep": [1, "zwei"]}),
            Emit(rule="lab.next", kind="lab.derived", facts={"what": "x"}),
        ]

    lab.puppet.on("earn", earn)
    hold(lab)
    number = lab.names["ann"]
    first, second = lab.do("lab.did", "ann"), lab.do("lab.did", "ann")
    assert lab.own(f"m:{number}") == {}
    lab.void(second.entry)
    assert lab.own(f"m:{number}") == {}
    assert not [r for r in lab.records() if r.kind == "lab.derived"]
    allow(lab)
    lab.release(first.entry)
    assert lab.own(f"m:{number}") == {"met": {"deep": [1, "zwei"]}}
    assert len([r for r in lab.records() if r.kind == "lab.derived"]) == 1


def test_a_reviewer_remembers_what_it_held_at_once_and_no_decision_turns_that_back(lab: Lab) -> None:
    """What it noted of the first held event would be written over at the release, and the third be unknown to it."""
    lab.puppet.wants = Needs(own={"{member}": frozenset({"seen"})})

    def review(event, situation):  # type: ignore[no-untyped-def]
        seen = situation.own["{member}"].get("seen", 0) + 1
        return [
            *verdict("hold" if seen < 3 else "allow")(event, situation),
            Put(rule="lab.risk", name="seen", value=seen),
        ]

    lab.puppet.on("review", review)
    key = f"m:{lab.names['ann']}"
    first, second = lab.do("lab.did", "ann", amount=5), lab.do("lab.did", "ann", amount=5)
    assert (first.status, second.status, lab.own(key)) == ("held", "held", {"seen": 2})
    assert lab.do("lab.did", "ann", amount=5).status == "recorded"
    lab.release(first.entry)
    lab.void(second.entry)
    assert lab.own(key) == {"seen": 3}


def test_events_without_a_device_share_no_row(lab: Lab) -> None:
    """All events without one would wait for each other at the row of no device."""
    lab.puppet.wants = Needs(own={"device/{facts.what}": frozenset({"seen"})})
    shown = []

    def review(event, situation):  # type: ignore[no-untyped-def]
        shown.append(dict(situation.own["device/{facts.what}"]))
        value = {"of": event.id}
        return [Put(rule="lab.risk", key=f"device/{event.facts.what}", name="seen", value=value)]

    lab.puppet.on("review", review)
    for id, what in (("a", ""), ("b", "phone"), ("c", ""), ("d", "phone")):
        lab.send(lab.arrival("lab.did", "ann", id=id, what=what))
    assert shown == [{}, {}, {}, {"seen": {"of": "b"}}]
    assert lab.rows("SELECT key FROM own WHERE key LIKE 'device/%' AND name = '' AND key <> 'device/phone'") == []


def test_voiding_gives_counters_and_stock_back_once(lab: Lab) -> None:
    lab.fill("lab:cup", 3)
    lab.puppet.wants = Needs(stock=frozenset({"lab:cup"}), counters=frozenset({("lab.cups", "day")}))
    lab.recompile()
    lab.puppet.on(
        "earn",
        lambda event, _: [Take(rule="lab.cup", key="lab:cup"), Count(rule="lab.cup", counter="lab.cups", window="day")],
    )
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    assert (lab.stock("lab:cup"), lab.counter("lab.cups", "ann")) == (2, 1)
    lab.void(held.entry)
    assert (lab.stock("lab:cup"), lab.counter("lab.cups", "ann")) == (3, 0)
    lab.refund("A")
    assert (lab.stock("lab:cup"), lab.counter("lab.cups", "ann")) == (3, 0)


def test_a_sale_returned_while_held_and_then_voided_is_taken_back_once(lab: Lab) -> None:
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=100),
            Count(rule="lab.spent", counter="lab.money", window="month", amount=10_000, by_share=True),
        ] if event.kind == "purchase.completed" else [],
    )  # fmt: skip
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    lab.refund("A", amount=4_000)
    assert (lab.posted("ann"), lab.counter("lab.money", "ann")) == (60, 6_000)
    lab.void(held.entry)
    assert (lab.posted("ann"), lab.counter("lab.money", "ann")) == (0, 0)
    lab.refund("A")
    assert (lab.posted("ann"), lab.counter("lab.money", "ann")) == (0, 0)


def test_a_sale_returned_while_held_and_then_released_keeps_its_rest(lab: Lab) -> None:
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    lab.refund("A", amount=4_000)
    lab.release(held.entry)
    assert lab.usable("ann") == 60
    lab.refund("A")
    assert lab.usable("ann") == 0


def test_nothing_follows_from_a_released_sale_that_was_returned_meanwhile(lab: Lab) -> None:
    lab.puppet.on(
        "react",
        lambda event, _: (
            [Bonus(rule="lab.milestone", unit="points", amount=7)] if event.kind == "purchase.completed" else []
        ),
    )
    hold(lab)
    held = lab.buy("ann", 10_000, "A")
    lab.refund("A")
    lab.release(held.entry)
    assert lab.posted("ann") == 0


@pytest.mark.parametrize("decision", ["released", "voided"])
def test_points_paid_for_an_order_come_back_once_whatever_was_decided(lab: Lab, decision: str) -> None:
    lab.gain("ann", 100)
    lab.puppet.on("review", lambda event, _: verdict("hold")(event, _) if event.kind == "lab.spent" else [])
    held = lab.spend("ann", 60, order="A")
    lab.puppet.on("earn", lambda event, _: [])
    lab.buy("ann", 10_000, "A")
    lab.do(f"entry.{decision}", "", entry=held.entry, reason="looked at")
    lab.refund("A")
    assert lab.usable("ann") == 100
    lab.check()


@pytest.mark.parametrize("decision", ["released", "voided"])
def test_points_given_back_before_the_decision_are_not_given_back_again(lab: Lab, decision: str) -> None:
    lab.gain("ann", 100)
    lab.puppet.on("review", lambda event, _: verdict("hold")(event, _) if event.kind == "lab.spent" else [])
    held = lab.spend("ann", 60, order="A")
    lab.puppet.on("earn", lambda event, _: [])
    lab.buy("ann", 10_000, "A")
    lab.refund("A", amount=5_000)
    assert lab.usable("ann") == 70
    lab.do(f"entry.{decision}", "", entry=held.entry, reason="looked at")
    assert lab.usable("ann") == (100 if decision == "voided" else 70)
    lab.check()
    lab.refund("A")
    assert lab.usable("ann") == 100


def test_voiding_takes_only_what_the_held_lot_still_has(lab: Lab) -> None:
    """It expired while it was held; nobody could have spent it, so nothing else is touched."""
    hold(lab)
    held = lab.gain("ann", 100, days=5)
    allow(lab)
    lab.gain("ann", 30)
    lab.wait(days=6)
    lab.sweep()
    lab.void(held.entry)
    assert lab.posted("ann") == 30


def test_voiding_opens_again_the_deficit_that_the_held_gain_had_absorbed(lab: Lab) -> None:
    lab.buy("ann", 10_000, "A")
    lab.spend("ann", 100)
    lab.refund("A")
    assert lab.posted("ann") == -100
    hold(lab)
    held = lab.gain("ann", 150)
    assert lab.posted("ann") == 50
    lab.void(held.entry)
    assert lab.posted("ann") == -100


def test_a_gain_of_two_members_by_one_rule_is_voided_at_both(lab: Lab) -> None:
    def earn(event, _):  # type: ignore[no-untyped-def]
        if event.kind != "lab.did":
            return []
        return [
            Bonus(rule="lab.friend", unit="points", amount=10),
            Bonus(rule="lab.friend", unit="points", amount=10, to=event.others["to"]),
        ]

    lab.puppet.on("earn", earn)
    hold(lab)
    held = lab.do("lab.did", "ann", to="bob")
    assert (lab.posted("ann"), lab.posted("bob")) == (10, 10)
    lab.void(held.entry)
    assert (lab.posted("ann"), lab.posted("bob")) == (0, 0)


def test_what_a_reviewer_denies_of_the_consequences_does_not_sink_the_cause(lab: Lab) -> None:
    lab.puppet.on("react", lambda event, _: [Bonus(rule="lab.milestone", unit="points", amount=7)])

    calls = []

    def review(event, situation):  # type: ignore[no-untyped-def]
        calls.append(event.kind)
        return verdict("deny" if len(calls) == 2 else "allow")(event, situation)

    lab.puppet.on("review", review)
    record = lab.buy("ann", 10_000, "A")
    assert (record.status, lab.usable("ann")) == ("recorded", 100)
    assert any(reason["verdict"] == "deny" for reason in record.reasons)


def test_a_denied_event_is_refused_and_writes_nothing(lab: Lab) -> None:
    lab.puppet.on("review", verdict("deny"))
    with pytest.raises(Denied, match="not now"):
        lab.buy("ann", 10_000, "A")
    assert lab.records() == []


# --- rows that changed while an event was held -----------------------------------------------------------------------


def steps_of(lab: Lab) -> None:
    """Each step is kept with the member: how often, and which came last."""
    lab.puppet.wants = Needs(own={"{member}": frozenset({"steps"})})

    def earn(event, situation):  # type: ignore[no-untyped-def]
        if event.kind != "lab.did":
            return []
        steps = situation.own["{member}"].get("steps", [])
        return [Put(rule="lab.step", name="steps", value=[*steps, event.facts.what])]

    lab.puppet.on("earn", earn)
    lab.recompile()


def test_what_was_kept_meanwhile_is_not_written_over_by_a_release(lab: Lab) -> None:
    steps_of(lab)
    key = f"m:{lab.names['ann']}"
    lab.do("lab.did", "ann", what="first")
    hold(lab)
    held, other = lab.do("lab.did", "ann", what="held"), lab.do("lab.did", "ann", what="other")
    allow(lab)
    lab.do("lab.did", "ann", what="second")
    lab.release(held.entry)
    assert lab.own(key) == {"steps": ["first", "second", "held"]}, "the plugin is asked again, and sees what there is"
    lab.release(other.entry)
    assert lab.own(key) == {"steps": ["first", "second", "held", "other"]}


def test_a_row_that_is_still_the_same_is_written_as_it_was_put_off(lab: Lab) -> None:
    steps_of(lab)
    hold(lab)
    held = lab.do("lab.did", "ann", what="held")
    allow(lab)
    lab.puppet.on("earn", lambda event, _: [Put(rule="lab.step", name="steps", value=["asked again"])])
    lab.release(held.entry)
    assert lab.own(f"m:{lab.names['ann']}") == {"steps": ["held"]}


def test_who_is_asked_again_gives_nothing_a_second_time(lab: Lab) -> None:
    steps_of(lab)
    kept = lab.puppet.scripts["earn"]
    lab.puppet.on(
        "earn",
        lambda event, situation: [
            *kept(event, situation),
            Count(rule="lab.visit", counter="lab.visits", window="lifetime"),
            Grant(rule="lab.base", unit="points", amount=5),
        ] if event.kind == "lab.did" else [],
    )  # fmt: skip
    hold(lab)
    held = lab.do("lab.did", "ann", what="held")
    allow(lab)
    lab.do("lab.did", "ann", what="second")
    lab.release(held.entry)
    assert lab.own(f"m:{lab.names['ann']}") == {"steps": ["second", "held"]}
    assert (lab.usable("ann"), lab.counter("lab.visits", "ann")) == (10, 2)


def test_a_plugin_that_says_no_when_it_is_asked_again_keeps_what_it_has_and_the_entry_says_so(lab: Lab) -> None:
    """One step a day: the held one is released after another one was taken."""
    lab.puppet.wants = Needs(own={"{member}": frozenset({"day"})})

    def redeem(event, situation):  # type: ignore[no-untyped-def]
        if situation.own["{member}"].get("day"):
            raise Refused("one a day")
        return [Put(rule="lab.day", name="day", value=event.facts.what or "held")]

    lab.puppet.on("redeem", redeem)
    lab.recompile()
    hold(lab)
    held = lab.spend("ann", 0)
    allow(lab)
    lab.send(lab.arrival("lab.spent", "ann", what="taken"))
    released = lab.release(held.entry)
    assert lab.own(f"m:{lab.names['ann']}") == {"day": "taken"}
    assert [(step.rule, step.effect, step.note) for step in released.explanation] == [("lab.day", "outrun", "refused")]


def test_what_would_be_refused_by_now_is_undone_at_the_release_and_nothing_of_it_is_given_or_taken(lab: Lab) -> None:
    """One a day, for 60 points and with 5 to gain: the held one is released after another one was done."""
    lab.gain("ann", 200)
    lab.puppet.wants = Needs(own={"{member}": frozenset({"day"})}, counters=frozenset({("lab.times", "lifetime")}))

    def redeem(event, situation):  # type: ignore[no-untyped-def]
        if situation.own["{member}"].get("day"):
            raise Refused("one a day")
        return [
            Put(rule="lab.day", name="day", value=event.id),
            Spend(rule="lab.convert", unit="points", amount=60, account="converted", gives={"coupon": "C"}),
            Grant(rule="lab.base", unit="points", amount=5),
            Count(rule="lab.times", counter="lab.times", window="lifetime"),
        ]

    lab.puppet.on("redeem", redeem)
    lab.recompile()
    hold(lab)
    held, twin = [lab.send(lab.arrival("lab.spent", "ann")) for _ in range(2)]
    assert (lab.usable("ann"), lab.counter("lab.times", "ann")) == (80, 2)
    allow(lab)
    assert lab.release(held.entry).gives == ({"coupon": "C"},)
    released = lab.release(twin.entry)
    assert [(step.rule, step.note) for step in released.explanation if step.effect == "outrun"] == [
        ("lab.day", "refused")
    ]
    assert released.gives == ()
    assert (lab.usable("ann"), lab.counter("lab.times", "ann")) == (200 - 60 + 5, 1)
    assert "held" not in lab.accounts()
    assert lab.own(f"m:{lab.names['ann']}") == {"day": held.id}
    with pytest.raises(AlreadyDecided):
        lab.void(twin.entry)


def test_shared_rows_and_rows_that_went_are_told_apart_as_well(lab: Lab) -> None:
    lab.puppet.wants = Needs(own={"device/{facts.what}": frozenset({"seen"})})

    def earn(event, situation):  # type: ignore[no-untyped-def]
        if event.kind != "lab.did":
            return []
        seen = situation.own["device/{facts.what}"].get("seen", 0)
        value = None if event.facts.amount else seen + 1
        return [Put(rule="lab.seen", key=f"device/{event.facts.what}", name="seen", value=value)]

    lab.puppet.on("earn", earn)
    lab.recompile()
    lab.do("lab.did", "ann", what="till")
    hold(lab)
    held = lab.do("lab.did", "ann", what="till")
    allow(lab)
    lab.do("lab.did", "bob", what="till", amount=1)
    lab.release(held.entry)
    assert lab.own("device/till") == {"seen": 1}


def test_a_row_that_was_written_without_being_read_is_written_at_the_release(lab: Lab) -> None:
    lab.puppet.on(
        "earn", lambda event, _: [Put(rule="lab.name", name="called", value=event.facts.what)] if event.kind == "lab.did" else []
    )  # fmt: skip
    hold(lab)
    held = lab.do("lab.did", "ann", what="Annie")
    allow(lab)
    lab.do("lab.did", "ann", what="Nan")
    lab.release(held.entry)
    assert lab.own(f"m:{lab.names['ann']}") == {"called": "Annie"}


def test_a_tier_that_was_set_meanwhile_is_not_turned_back(lab: Lab) -> None:
    """The ladder is asked again and sees the tier that is held now."""

    def earn(event, situation):  # type: ignore[no-untyped-def]
        if event.kind != "lab.did":
            return []
        rank = int(situation.member.tiers.get("club", "0"))
        return [SetTier(rule="lab.club", ladder="club", tier=str(max(rank, event.facts.amount)), reason="asked")]

    lab.puppet.on("earn", earn)
    hold(lab)
    held = lab.do("lab.did", "ann", amount=1)
    allow(lab)
    lab.do("lab.did", "ann", amount=2)
    lab.release(held.entry)
    assert lab.own(f"m:{lab.names['ann']}")["tier:club"]["tier"] == "2"


def test_another_writers_release_in_the_same_instant_is_played_after_what_it_releases(lab: Lab) -> None:
    """By the clock neither was first, and the writer that released has the lower number."""
    lab.puppet.on("review", verdict("hold"))
    (held,) = lab.writer(2).record([lab.bought("ann", 5_000, "A")])
    assert isinstance(held, Receipt)
    lab.puppet.scripts.pop("review")
    lab.release(held.record.entry)
    assert lab.usable("ann") == 50
    lab.check()
