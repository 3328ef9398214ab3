"""What a batch promises: neighbours, repeats, derived events, revocations, stock, expiry, members who changed."""

from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
import sqlalchemy as sa

from core.tests.lab import SECRET, TENANT, Lab, Puppet
from tallystick import outbox, people, proofs, tables
from tallystick.effects import Bonus, Emit, Extend, Grant, Put, Restock, Restore, Revoke, SetTier, Spend, Take
from tallystick.errors import EventConflict, MemberInactive, OutOfStock, Refused, TallyError, Unavailable, UnknownMember
from tallystick.ledger import instant
from tallystick.page import Page
from tallystick.situation import Needs


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol("ann", "bob")
    yield lab
    lab.check()
    lab.db.dispose()


# -- repeats and neighbours -------------------------------------------------------------------------------------------


def test_two_thousand_copies_in_one_batch_are_one_event(lab: Lab) -> None:
    one = lab.bought("ann", 1_000, "A", id="same")
    outcomes = lab.engine.record([one] * 2_000)
    assert [outcome.repeated for outcome in outcomes] == [False] + [True] * 1_999  # type: ignore[union-attr]
    assert len({outcome.record.entry for outcome in outcomes}) == 1  # type: ignore[union-attr]
    assert (lab.usable("ann"), len(lab.rows("SELECT 1 FROM batch"))) == (10, 1)


def test_other_facts_under_a_known_id_are_a_conflict_in_the_same_batch_too(lab: Lab) -> None:
    first, other = lab.bought("ann", 1_000, "A", id="same"), lab.bought("ann", 9_000, "A", id="same")
    outcomes = lab.engine.record([first, other, first])
    assert [getattr(outcome, "code", "recorded") for outcome in outcomes] == ["recorded", "event_conflict", "recorded"]
    assert isinstance(lab.engine.record([other])[0], EventConflict)


def test_a_refused_id_is_free_for_the_next_in_the_same_batch(lab: Lab) -> None:
    wrong, right = lab.bought("nobody", 1_000, "A", id="same"), lab.bought("ann", 1_000, "A", id="same")
    outcomes = lab.engine.record([wrong, right, wrong])
    assert [getattr(outcome, "code", "recorded") for outcome in outcomes] == [
        "unknown_member",
        "recorded",
        "unknown_member",
    ]


def test_a_refused_id_is_free_for_whoever_comes_later(lab: Lab) -> None:
    """Also when the batches in between have used up the entry that the refused one would have had."""
    lab.engine.record([lab.bought("nobody", 1_000, "A", id="same"), lab.bought("ann", 500, "B", id="other")])
    lab.buy("ann", 500, "C")
    [outcome] = lab.engine.record([lab.bought("ann", 1_000, "A", id="same")])
    assert getattr(outcome, "code", "recorded") == "recorded"


def test_a_mistake_of_ours_about_one_event_leaves_its_neighbours(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = Page.grant

    def fails(page, postings):  # type: ignore[no-untyped-def]
        if page.event.id == "poison":
            raise ZeroDivisionError
        grant(page, postings)

    monkeypatch.setattr(Page, "grant", fails)
    arrivals = [lab.bought("ann", 100, f"A{n}", id="poison" if n == 5 else f"e{n}") for n in range(16)]
    outcomes = lab.engine.record(arrivals)
    assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [n == 5 for n in range(16)]
    assert lab.usable("ann") == 15


def test_what_fails_within_an_event_leaves_no_trace_of_it(lab: Lab) -> None:
    """Gains, own rows and counters of the refused event are undone although its neighbours stand."""
    lab.fill("lab:cup", 1)
    lab.puppet.wants = Needs(stock=frozenset({"lab:cup"}), balances=frozenset({"points"}))
    lab.recompile()
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=10),
            Put(rule="lab.note", name=event.facts.order, value=1),
            Take(rule="lab.cup", key="lab:cup"),
        ],
    )
    outcomes = lab.engine.record([lab.bought("ann", 100, order) for order in "ABC"])
    assert [getattr(outcome, "code", "recorded") for outcome in outcomes] == [
        "recorded",
        "out_of_stock",
        "out_of_stock",
    ]
    assert (lab.usable("ann"), lab.own(f"m:{lab.names['ann']}"), lab.stock("lab:cup")) == (10, {"A": 1}, 0)
    assert len(lab.rows("SELECT 1 FROM claim")) == 1


# -- derived events ---------------------------------------------------------------------------------------------------


def emits(lab: Lab, **more: object) -> None:
    def earn(event, _):  # type: ignore[no-untyped-def]
        if event.kind == "lab.did":
            return [Emit(rule="lab.next", kind="lab.derived", facts={"what": "first"}, **more)]
        return [Grant(rule="lab.gain", unit="points", amount=3)] if event.kind == "lab.derived" else []

    lab.puppet.on("earn", earn)


def test_an_emitted_event_is_recorded_behind_its_cause_and_names_it(lab: Lab) -> None:
    emits(lab)
    cause = lab.do("lab.did", "ann")
    derived = lab.records()[-1]
    assert (derived.kind, derived.cause, derived.depth, lab.usable("ann")) == ("lab.derived", cause.entry, 1, 3)


@pytest.mark.parametrize("id", ["x" * 128, "a/b/c/d/e/f/g/h/i/j", "点" * 128])
def test_an_emitted_event_survives_whatever_id_its_cause_has(lab: Lab, id: str) -> None:
    emits(lab)
    lab.send(lab.arrival("lab.did", "ann", id=id))
    assert lab.usable("ann") == 3


@pytest.mark.parametrize("id", ["plain", "a/b/c/d/e/f/g/h/i/j"])
def test_an_emitted_event_that_a_crash_cut_off_is_found_and_goes_to_the_same_member(lab: Lab, id: str) -> None:
    def earn(event, _):  # type: ignore[no-untyped-def]
        if event.kind == "lab.did":
            return [Emit(rule="lab.next", kind="lab.derived", facts={}, member=event.others["to"])]
        return [Grant(rule="lab.gain", unit="points", amount=3)] if event.kind == "lab.derived" else []

    lab.puppet.on("earn", earn)
    lab.engine._batch([lab.arrival("lab.did", "ann", to="bob", id=id)], False, [])  # the process dies here
    assert lab.usable("bob") == 0
    batches = outbox.unseen(lab.db, "core.events")
    assert [type(outcome).__name__ for outcome in lab.engine.record(lab.engine.cut_off(batches))] == ["Receipt"]
    assert (lab.usable("ann"), lab.usable("bob")) == (0, 3)
    assert lab.engine.cut_off(batches) == []


def test_events_that_answer_themselves_end_at_the_eighth(lab: Lab) -> None:
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Emit(rule="lab.next", kind="lab.derived", facts={}),
            Grant(rule="lab.gain", unit="points", amount=1),
        ],
    )
    lab.do("lab.did", "ann")
    assert max(record.depth for record in lab.records()) == 8
    assert lab.usable("ann") == 9
    batches = outbox.unseen(lab.db, "core.events")
    assert lab.engine.cut_off(batches) == []


def test_a_refused_consequence_leaves_its_cause(lab: Lab) -> None:
    lab.puppet.wants = Needs(stock=frozenset({"lab:cup"}))
    lab.recompile()

    def earn(event, _):  # type: ignore[no-untyped-def]
        return (
            [Emit(rule="lab.next", kind="lab.derived", facts={})]
            if event.kind == "lab.did"
            else [Take(rule="lab.cup", key="lab:cup")]
        )

    lab.puppet.on("earn", earn)
    assert lab.do("lab.did", "ann").status == "recorded"
    assert [record.kind for record in lab.records()] == ["lab.did"]


# -- revoking ---------------------------------------------------------------------------------------------------------


def test_a_rule_takes_back_what_it_gave_in_an_earlier_entry_and_never_more(lab: Lab) -> None:
    def earn(event, situation):  # type: ignore[no-untyped-def]
        if event.facts.what == "give":
            return [
                Bonus(rule="lab.milestone", unit="points", amount=50),
                Put(rule="lab.milestone", name="entry", value=situation.entry),
            ]
        if event.facts.what == "take":
            return [
                Revoke(
                    rule="lab.undo",
                    entry=situation.own["{member}"]["entry"],
                    of_rule="lab.milestone",
                    amount=event.facts.amount or None,
                )
            ]
        return [Bonus(rule="lab.other", unit="points", amount=7)]

    lab.puppet.wants = Needs(own={"{member}": frozenset({"entry"})})
    lab.recompile()
    lab.puppet.on("earn", earn)
    lab.do("lab.did", "ann")
    lab.do("lab.did", "ann", what="give")
    assert lab.usable("ann") == 57
    lab.do("lab.did", "ann", what="take", amount=20)
    assert lab.usable("ann") == 37
    lab.do("lab.did", "ann", what="take")
    lab.do("lab.did", "ann", what="take")
    assert lab.usable("ann") == 7


def test_a_rule_revokes_in_the_batch_in_which_it_gave(lab: Lab) -> None:
    def earn(event, situation):  # type: ignore[no-untyped-def]
        if event.facts.what == "give":
            return [
                Bonus(rule="lab.milestone", unit="points", amount=50),
                Put(rule="lab.milestone", name="entry", value=situation.entry),
            ]
        return [Revoke(rule="lab.undo", entry=situation.own["{member}"]["entry"], of_rule="lab.milestone")]

    lab.puppet.wants = Needs(own={"{member}": frozenset({"entry"})})
    lab.recompile()
    lab.puppet.on("earn", earn)
    lab.engine.record([lab.arrival("lab.did", "ann", what=what) for what in ("give", "take", "take")])
    assert lab.posted("ann") == 0


@pytest.mark.parametrize("entry", ["1-999-0", "nonsense", "1-1-0"])
def test_what_is_not_ours_cannot_be_revoked(lab: Lab, entry: str) -> None:
    """1-1-0 is Bob's."""
    lab.gain("bob", 50)
    lab.puppet.on("earn", lambda event, _: [Revoke(rule="lab.undo", entry=entry, of_rule="lab.gain")])
    (outcome,) = lab.try_all(lab.arrival("lab.did", "ann"))
    assert getattr(outcome, "code", "recorded") in {"effect_refused", "recorded"}
    assert (lab.posted("ann"), lab.posted("bob")) == (0, 50)


# -- putting back what was spent --------------------------------------------------------------------------------------


def spend_and_restore(lab: Lab) -> None:
    """`lab.spent` takes into an account of its own; `lab.did` puts back of what the member spent last."""
    lab.puppet.wants = Needs(balances=frozenset({"points"}), own={"{member}": frozenset({"entry"})})
    lab.recompile()

    def redeem(event, situation):  # type: ignore[no-untyped-def]
        if event.kind != "lab.spent":
            return []
        return [
            Spend(rule="lab.lend", unit="points", amount=event.facts.amount, account="lent"),
            Put(rule="lab.lend", name="entry", value=situation.entry),
        ]

    def earn(event, situation):  # type: ignore[no-untyped-def]
        if event.kind != "lab.did":
            return []
        entry = event.facts.what or situation.own["{member}"]["entry"]
        return [Restore(rule="lab.back", entry=entry, of_rule="lab.lend", amount=event.facts.amount or None)]

    lab.puppet.on("redeem", redeem)
    lab.puppet.on("earn", earn)


def test_what_a_rule_spent_comes_back_into_its_lots_and_never_more(lab: Lab) -> None:
    lab.gain("ann", 30, days=10)
    lab.gain("ann", 30, days=20)
    before = lab.lots("ann")
    spend_and_restore(lab)
    lab.do("lab.spent", "ann", amount=40)
    assert lab.lots("ann") == [20]
    lab.do("lab.did", "ann", amount=15)
    assert lab.lots("ann") == [5, 30]  # what was used last comes back first
    lab.do("lab.did", "ann")
    lab.do("lab.did", "ann")
    assert lab.lots("ann") == before
    lent = [t for record in lab.records() for t in record.transfers if "lent" in (t.debit, t.credit)]
    assert sum(t.amount if t.credit == "lent" else -t.amount for t in lent) == 0


@pytest.mark.parametrize("entry", ["1-999-0", "nonsense", "1-1-0"])
def test_what_others_spent_comes_back_to_nobody(lab: Lab, entry: str) -> None:
    """1-1-0 is Bob's."""
    lab.gain("bob", 50)
    spend_and_restore(lab)
    (outcome,) = lab.try_all(lab.arrival("lab.did", "ann", what=entry))
    assert getattr(outcome, "code", "recorded") == "effect_refused"
    assert (lab.posted("ann"), lab.posted("bob")) == (0, 50)


def test_a_guest_can_be_answered(lab: Lab) -> None:
    answer = Spend(rule="lab.answer", unit="points", amount=0, gives={"discount": 5})
    lab.puppet.on("redeem", lambda event, _: [answer] if event.kind == "lab.told" else [])
    assert lab.do("lab.told", "").gives == ({"discount": 5},)


# -- stock, tiers -----------------------------------------------------------------------------------------------------


def test_putting_back_what_was_not_read_adds_to_what_is_there(lab: Lab) -> None:
    lab.fill("lab:cup", 100)
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Restock(rule="lab.cup", key="lab:cup", amount=5),
            Restock(rule="lab.cup", key="lab:new", amount=2),
        ],
    )
    lab.do("lab.did", "ann")
    assert (lab.stock("lab:cup"), lab.stock("lab:new")) == (105, 2)


def test_a_stock_is_its_plugins_however_alike_the_names_are(lab: Lab) -> None:
    lab.puppet.on("earn", lambda event, _: [Restock(rule="lab.cup", key="laboratory", amount=5)])
    lab.do("lab.did", "ann")
    assert lab.stock("lab:laboratory") == 5


def test_a_stock_is_set_and_taken_from_in_one_batch(lab: Lab) -> None:
    lab.puppet.wants = Needs(stock=frozenset({"lab:cup"}))
    lab.recompile()

    def earn(event, _):  # type: ignore[no-untyped-def]
        if event.facts.what == "fill":
            return [Restock(rule="lab.cup", key="lab:cup", amount=2, absolute=True)]
        return [Take(rule="lab.cup", key="lab:cup")]

    lab.puppet.on("earn", earn)
    outcomes = lab.engine.record(
        [lab.arrival("lab.did", "ann", what=what) for what in ("fill", "take", "take", "take")]
    )
    assert isinstance(outcomes[-1], OutOfStock)
    assert lab.stock("lab:cup") == 0


def test_shelves_follow_from_the_journal_however_they_changed(lab: Lab) -> None:
    said = {
        "count": lambda: [Restock(rule="lab.cup", key="cup", amount=9, absolute=True)],
        "add": lambda: [Restock(rule="lab.cup", key="cup", amount=4)],
        "take": lambda: [Take(rule="lab.cup", key="cup", amount=2)],
    }
    lab.puppet.wants = Needs(stock=frozenset({"lab:cup"}))
    lab.recompile()
    lab.puppet.on("earn", lambda event, _: said[event.facts.what]())
    for what in ("add", "count", "take", "count", "take", "add"):
        lab.do("lab.did", "ann", what=what)
    assert lab.stock("lab:cup") == 11
    with lab.db.begin() as conn:
        assert proofs.verify(conn).ok
        conn.execute(tables.stock.update().values(remaining=12))
        assert [finding.code for finding in proofs.verify(conn).findings] == ["stock"]
        assert proofs.rebuild(conn, TENANT).stock == 1
        assert proofs.verify(conn).ok
    assert lab.stock("lab:cup") == 11


def test_a_shelf_that_nobody_asked_for_is_read_before_it_is_counted(lab: Lab) -> None:
    lab.fill("lab:cup", 3)
    lab.puppet.on("earn", lambda event, _: [Restock(rule="lab.cup", key="cup", amount=10, absolute=True)])
    assert lab.do("lab.did", "ann").restocks == (("lab:cup", 7),)
    assert lab.stock("lab:cup") == 10


def test_a_tier_set_by_one_event_is_held_by_the_next_of_the_batch(lab: Lab) -> None:
    seen = []

    def earn(event, situation):  # type: ignore[no-untyped-def]
        seen.append(dict(situation.member.tiers))
        return [SetTier(rule="lab.tier", ladder="main", tier="gold", reason="enough")]

    lab.puppet.on("earn", earn)
    lab.engine.record([lab.arrival("lab.did", "ann"), lab.arrival("lab.did", "ann"), lab.arrival("lab.did", "bob")])
    assert seen == [{}, {"main": "gold"}, {}]


# -- expiry -----------------------------------------------------------------------------------------------------------


def test_each_lot_expires_once_and_a_sweep_ends(lab: Lab) -> None:
    lab.gain("ann", 100, days=10)
    lab.gain("ann", 50, days=20)
    lab.wait(days=11)
    assert (lab.sweep(), lab.sweep(), lab.posted("ann")) == (1, 0, 50)
    lab.wait(days=10)
    assert (lab.sweep(), lab.sweep(), lab.posted("ann")) == (1, 0, 0)
    assert lab.accounts()["expired"] == 150


def test_what_falls_due_at_the_very_instant_of_a_sweep_is_swept_by_the_next(lab: Lab) -> None:
    lab.gain("ann", 100, days=10)
    lab.wait(days=10)
    lab.sweep()
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.late", unit="points", amount=5, expires_at=event.received - timedelta(days=1))
        ],
    )
    lab.do("lab.did", "ann")
    assert lab.usable("ann") == 0
    lab.sweep()
    assert lab.posted("ann") == 0


@pytest.mark.parametrize("fate", ["blocked", "erased", "merged"])
def test_lots_of_members_who_are_no_longer_active_expire_too(lab: Lab, fate: str) -> None:
    lab.gain("ann", 100, days=10)
    lab.gain("bob", 10, days=10)
    with lab.db.begin() as conn:
        values = (
            {"status": fate}
            | ({"secret": None} if fate == "erased" else {})
            | ({"merged_into": lab.names["bob"]} if fate == "merged" else {})
        )
        conn.execute(sa.update(tables.member).where(tables.member.c.number == lab.names["ann"]).values(**values))
    lab.wait(days=11)
    lab.sweep()
    assert (lab.posted("ann"), lab.posted("bob")) == (0, 0)


def test_an_extension_moves_living_lots_alone(lab: Lab) -> None:
    lab.puppet.on(
        "earn",
        lambda event, _: (
            [Extend(rule="lab.extend", unit="points", expires_at=event.received + timedelta(days=30))]
            if event.facts.what
            else [
                Grant(
                    rule="lab.gain",
                    unit="points",
                    amount=10,
                    sliding=True,
                    expires_at=event.received + timedelta(days=event.facts.days),
                )
            ]
        ),
    )
    lab.do("lab.did", "ann", days=5)
    lab.do("lab.did", "ann", days=10)
    lab.wait(days=6)
    lab.do("lab.did", "ann", what="extend")
    lab.wait(days=29)
    assert lab.usable("ann") == 10
    lab.sweep()
    assert lab.posted("ann") == 10


# -- who --------------------------------------------------------------------------------------------------------------


def change(lab: Lab, name: str, **values: object) -> None:
    with lab.db.begin() as conn:
        conn.execute(sa.update(tables.member).where(tables.member.c.number == lab.names[name]).values(**values))


def test_a_blocked_member_earns_nothing_spends_nothing_and_still_gives_back(lab: Lab) -> None:
    lab.buy("ann", 10_000, "A")
    change(lab, "ann", status="blocked")
    assert lab.buy("ann", 10_000, "B").transfers == ()
    with pytest.raises(MemberInactive):
        lab.spend("ann", 10)
    lab.refund("A", amount=5_000)
    assert lab.posted("ann") == 50


def test_an_erased_member_is_unknown_and_the_order_still_comes_back(lab: Lab) -> None:
    lab.buy("ann", 10_000, "A")
    with lab.db.begin() as conn:
        people.erase(conn, TENANT, lab.names["ann"], instant(lab.now))
    with pytest.raises(UnknownMember):
        lab.buy("ann", 10_000, "B")
    lab.refund("A")
    assert lab.posted("ann") == 0


def test_events_of_a_merged_member_are_those_of_whom_it_became(lab: Lab) -> None:
    change(lab, "ann", status="merged", merged_into=lab.names["bob"])
    lab.buy("ann", 10_000, "A")
    assert lab.usable("bob") == 100


def test_what_a_merged_member_bought_comes_back_from_whom_it_became(lab: Lab) -> None:
    lab.buy("ann", 10_000, "A")
    lab.give("ann", "bob", 100)  # as a merge hands everything over
    change(lab, "ann", status="merged", merged_into=lab.names["bob"])
    lab.refund("A", amount=4_000)
    assert (lab.posted("ann"), lab.posted("bob")) == (0, 60)


def test_points_of_a_merged_member_come_back_to_whom_it_became(lab: Lab) -> None:
    lab.gain("ann", 100, days=30)
    lab.puppet.on("earn", lambda event, _: [])
    lab.spend("ann", 100, order="A")
    lab.buy("ann", 10_000, "A")
    change(lab, "ann", status="merged", merged_into=lab.names["bob"])
    lab.refund("A")
    assert (lab.usable("ann"), lab.usable("bob")) == (0, 100)
    lab.wait(days=31)
    assert lab.usable("bob") == 0, "with their own expiry"


def test_nobody_gives_to_oneself(lab: Lab) -> None:
    lab.gain("ann", 100)
    with pytest.raises(Refused):
        lab.give("ann", "ann", 10)


# -- which settings ---------------------------------------------------------------------------------------------------


def test_a_dry_run_of_a_late_event_is_judged_by_the_settings_of_then(lab: Lab) -> None:
    then = lab.now
    lab.wait(days=1)
    new = Puppet()
    new.on("earn", lambda event, _: [Grant(rule="lab.base", unit="points", amount=1)])
    lab.change_settings(new)
    arrival = lab.bought("ann", 10_000, "A", at=then)
    assert lab.engine.dry_run(arrival).record.generation == 1
    assert lab.rows("SELECT 1 FROM claim") == []


def test_own_rows_survive_as_they_were_said(lab: Lab) -> None:
    value = {"list": [1, 2, {"deep": None}], "text": "点", "big": 2**53 + 1}
    lab.puppet.on("earn", lambda event, _: [Put(rule="lab.note", name="n", value=value)])
    lab.do("lab.did", "ann")
    assert lab.own(f"m:{lab.names['ann']}") == {"n": value}
    lab.puppet.on("earn", lambda event, _: [Put(rule="lab.note", name="n", value=None)])
    lab.do("lab.did", "ann")
    assert lab.own(f"m:{lab.names['ann']}") == {}


def test_every_record_reads_back_as_it_was_answered(lab: Lab) -> None:
    answered = [lab.buy("ann", 1_000 * n, f"A{n}") for n in range(1, 4)] + [lab.refund("A2"), lab.gain("bob", 3)]
    assert msgspec.json.encode(lab.records()) == msgspec.json.encode(answered)
    assert all(not isinstance(record, TallyError) for record in answered)
    assert SECRET not in b"".join(bytes(row[0]) for row in lab.rows("SELECT body FROM record"))
