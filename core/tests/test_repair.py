"""What a broken plugin kept from a member is given later: as of then, once, and never the other way round."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from core.tests.lab import TENANT, Lab, Puppet, proven, verdict
from tallystick import database, proofs
from tallystick.effects import Bonus, Cap, Count, Effect, Grant, Keep, Multiply, Notify, Put, SetTier
from tallystick.engine import Receipt
from tallystick.errors import LimitReached, NothingOwed, NotRepaired, TallyError
from tallystick.ledger import Record
from tallystick.situation import Needs


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    with proven(Lab(database_url)) as lab:
        yield lab


def broken(lab: Lab, hook: str = "earn") -> None:
    def boom(_event: Any, _situation: Any) -> list[Effect]:
        raise RuntimeError("broken")

    lab.puppet.on(hook, boom)


def mended(lab: Lab, hook: str = "earn") -> None:
    lab.puppet.scripts.pop(hook, None)


def repair(lab: Lab) -> list[Record]:
    """Repair everything; the entries that made good.  Raises the first refusal that is not `nothing_owed`."""
    given: list[Record] = []
    for arrival in lab.engine.owing(TENANT):
        (outcome,) = lab.engine.record([arrival])
        if isinstance(outcome, Receipt):
            given.append(outcome.record)
        elif not isinstance(outcome, NothingOwed):
            raise outcome
    return given


def test_what_was_kept_back_is_given_once(lab: Lab) -> None:
    broken(lab)
    sale = lab.buy("ann", 10_000, "A")
    assert sale.skipped[0]["cause"] == "raised"
    assert lab.usable("ann") == 0
    mended(lab)
    (made,) = repair(lab)
    assert (made.kind, made.cause, made.member) == ("event.repaired", sale.entry, sale.member)
    assert [(step.rule, step.amount, step.note) for step in made.explanation] == [("lab.base", 100, "repaired")]
    assert lab.usable("ann") == 100
    assert repair(lab) == []
    assert lab.usable("ann") == 100


def test_a_dry_run_says_what_would_be_given_and_writes_nothing(lab: Lab) -> None:
    broken(lab)
    lab.buy("ann", 10_000, "A")
    mended(lab)
    (arrival,) = lab.engine.owing(TENANT)
    record = lab.engine.dry_run(arrival).record
    assert [step.amount for step in record.explanation] == [100]
    assert (lab.usable("ann"), len(lab.records()), len(lab.engine.owing(TENANT))) == (0, 1, 1)


def test_two_who_repair_at_once_give_once(lab: Lab) -> None:
    broken(lab)
    lab.buy("ann", 10_000, "A")
    mended(lab)
    mine = lab.engine.owing(TENANT)
    (theirs,) = lab.writer(2).record(lab.engine.owing(TENANT))
    (again,) = lab.engine.record(mine)
    assert isinstance(theirs, Receipt)
    assert isinstance(again, Receipt)
    assert (again.repeated, again.record) == (True, theirs.record)
    assert lab.usable("ann") == 100


def test_who_still_fails_is_waited_for(lab: Lab) -> None:
    broken(lab)
    lab.buy("ann", 10_000, "A")
    for _ in range(2):
        with pytest.raises(NotRepaired, match="lab still fails in earn: RuntimeError"):
            repair(lab)
    assert len(lab.records()) == 1
    mended(lab)
    repair(lab)
    assert lab.usable("ann") == 100


def test_of_what_gives_nothing_nothing_is_owed(lab: Lab) -> None:
    broken(lab)
    lab.buy("ann", 99, "A")
    mended(lab)
    (arrival,) = lab.engine.owing(TENANT)
    (outcome,) = lab.engine.record([arrival])
    assert isinstance(outcome, NothingOwed)
    assert len(lab.records()) == 1


@pytest.mark.parametrize("before, after", [(0, 10_000), (10_000, 0), (3_333, 6_667), (5_000, 5_000), (1, 2)])
def test_returns_take_the_repaired_points_back_whenever_they_come(lab: Lab, before: int, after: int) -> None:
    broken(lab)
    lab.buy("ann", 10_000, "A")
    if before:
        lab.refund("A", amount=before)
    mended(lab)
    repair(lab)
    assert lab.posted("ann") == 100 - 100 * before // 10_000
    if after:
        lab.refund("A", amount=after)
    assert lab.posted("ann") == 100 - 100 * (before + after) // 10_000


def test_a_line_that_came_back_takes_its_own_share(lab: Lab) -> None:
    def earn(event: Any, _: Any) -> list[Effect]:
        return [Grant(rule="lab.wine", unit="points", amount=30, lines=((1, 3_000),))]

    broken(lab)
    lines = [{"sku": "bread", "amount": 1_000}, {"sku": "wine", "amount": 3_000}]
    lab.buy("ann", 0, "A", lines=lines)
    lab.puppet.on("earn", earn)
    repair(lab)
    lab.refund("A", lines=[{"line": 0, "amount": 1_000}])
    assert lab.usable("ann") == 30
    lab.refund("A", lines=[{"line": 1, "amount": 1_000}])
    assert lab.usable("ann") == 20


def test_the_clock_counters_and_tiers_of_then_are_seen_and_the_chance_is_the_same(lab: Lab) -> None:
    seen: list[Any] = []

    def earn(event: Any, situation: Any) -> list[Effect]:
        seen.append(
            (situation.now, event.received, situation.balances["points"].usable, situation.member.tiers, situation.chance.below(10**9))
        )  # fmt: skip
        if len(seen) == 1:
            raise RuntimeError
        return []

    lab.puppet.on("react", lambda event, _: [SetTier(rule="lab.tier", ladder="l", tier="gold", reason="x")])
    lab.gain("ann", 7)
    lab.puppet.on("earn", earn)
    lab.puppet.on("react", lambda event, _: [])
    lab.buy("ann", 10_000, "A")
    lab.wait(days=3)
    lab.puppet.scripts.pop("earn")
    lab.puppet.on("react", lambda event, _: [SetTier(rule="lab.tier", ladder="l", tier="none", reason="x")])
    lab.gain("ann", 5)
    lab.puppet.on("earn", earn)
    lab.puppet.on("react", lambda event, _: [])
    assert repair(lab) == []
    assert seen[0] == seen[1]
    assert seen[0][2:4] == (7, {"l": "gold"})


def first_of_the_month(event: Any, situation: Any) -> list[Effect]:
    first = not situation.counters["lab.visits", "month"]
    return [
        Count(rule="lab.visit", counter="lab.visits", window="month"),
        Grant(rule="lab.first", unit="points", amount=50 if first else 1),
    ]


def test_to_a_plugin_that_failed_the_event_comes_late_so_what_it_gives_once_is_given_once(lab: Lab) -> None:
    lab.puppet.wants = Needs(counters=frozenset({("lab.visits", "month")}))
    lab.recompile()
    broken(lab)
    lab.buy("ann", 100, "A")
    lab.puppet.on("earn", first_of_the_month)
    lab.buy("ann", 100, "B")
    assert lab.usable("ann") == 50
    repair(lab)
    assert (lab.usable("ann"), lab.counter("lab.visits", "ann")) == (51, 2)
    lab.refund("A")
    assert lab.counter("lab.visits", "ann") == 1


def test_limits_are_charged_when_it_is_repaired(lab: Lab) -> None:
    def earn(event: Any, _: Any) -> list[Effect]:
        return [
            Grant(rule="lab.base", unit="points", amount=80),
            Cap(rule="lab.cap", unit="points", limit=100, per="month"),
        ]

    lab.puppet.wants = Needs(counters=frozenset({("cap:lab.cap", "month")}))
    lab.recompile()
    broken(lab)
    lab.buy("ann", 100, "A")
    lab.puppet.on("earn", earn)
    lab.buy("ann", 100, "B")
    repair(lab)
    assert lab.usable("ann") == 100
    lab.buy("ann", 100, "C")
    assert lab.usable("ann") == 100


def test_a_reaction_that_failed_is_made_good_with_what_it_keeps_and_says(lab: Lab) -> None:
    lab.puppet.wants = Needs(own={"{member}": frozenset({"visits"})})
    lab.recompile()

    def react(event: Any, situation: Any) -> list[Effect]:
        visits = situation.own["{member}"].get("visits", 0) + 1
        out: list[Effect] = [Put(rule="lab.visit", name="visits", value=visits)]
        if visits == 3:
            out += [
                Bonus(rule="lab.third", unit="points", amount=500),
                Notify(rule="lab.third", template="lab.third", facts={"visits": visits}),
            ]
        return out

    lab.puppet.on("react", react)
    lab.buy("ann", 100, "A")
    broken(lab, "react")
    lab.buy("ann", 100, "B")
    lab.puppet.on("react", react)
    lab.buy("ann", 100, "C")
    assert (lab.usable("ann"), lab.own(f"m:{lab.names['ann']}")["visits"]) == (3, 2)
    repair(lab)
    assert (lab.usable("ann"), lab.own(f"m:{lab.names['ann']}")["visits"]) == (503, 3)
    assert lab.rows("SELECT count(*) FROM intent WHERE channel = 'notify'") == [(1,)]
    lab.buy("ann", 100, "D")
    assert lab.usable("ann") == 504


def test_what_a_return_should_have_left_is_given_again_on_the_terms_it_had(lab: Lab) -> None:
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=100, expires_at=event.received + timedelta(days=30))
        ],
    )
    lab.buy("ann", 10_000, "A")
    broken(lab, "reverse")
    lab.refund("A", amount=5_000)
    assert lab.usable("ann") == 50
    lab.puppet.on("reverse", lambda *_: [Keep(rule="lab.keep", of_rule="lab.base", unit="points", amount=20)])
    repair(lab)
    assert lab.usable("ann") == 70
    lab.puppet.on("reverse", lambda *_: [])
    lab.refund("A")
    assert lab.usable("ann") == 20
    lab.wait(days=31)
    assert lab.usable("ann") == 0


@pytest.mark.parametrize("decision, left", [("release", 100), ("void", 0)])
def test_a_held_entry_is_made_good_after_its_release_and_never_when_it_was_voided(
    lab: Lab, decision: str, left: int
) -> None:
    broken(lab)
    lab.puppet.on("review", verdict("hold"))
    held = lab.buy("ann", 10_000, "A")
    mended(lab)
    with pytest.raises(NotRepaired, match="it waits for a decision"):
        repair(lab)
    lab.puppet.on("review", verdict("allow"))
    (lab.release if decision == "release" else lab.void)(held.entry)
    repair(lab)
    assert lab.usable("ann") == left


def test_a_reaction_that_failed_at_a_release_is_made_good(lab: Lab) -> None:
    lab.puppet.on("review", verdict("hold"))
    held = lab.buy("ann", 10_000, "A")
    lab.puppet.on("review", verdict("allow"))
    broken(lab, "react")
    lab.release(held.entry)
    seen = []

    def react(event: Any, situation: Any) -> list[Effect]:
        seen.append((event.kind, event.facts.order))
        return [Bonus(rule="lab.more", unit="points", amount=9)]

    lab.puppet.on("react", react)
    repair(lab)
    assert (seen, lab.usable("ann")) == ([("purchase.completed", "A")], 109)


@pytest.mark.parametrize("when", ["before", "after"])
def test_repaired_points_wait_for_the_same_state_of_their_order(lab: Lab, when: str) -> None:
    broken(lab)
    lab.buy("ann", 10_000, "A")
    if when == "before":
        lab.do("order.advanced", "ann", order="A", state="delivered")
    lab.puppet.on("earn", lambda *_: [Grant(rule="lab.base", unit="points", amount=100, usable_state="delivered")])
    repair(lab)
    if when == "after":
        assert lab.usable("ann") == 0
        lab.puppet.on("earn", lambda *_: [])
        lab.do("order.advanced", "ann", order="A", state="delivered")
    assert lab.usable("ann") == 100


def test_a_guest_order_that_was_claimed_while_a_plugin_failed_is_made_good(lab: Lab) -> None:
    lab.buy("", 10_000, "A")
    broken(lab)
    lab.do("order.claimed", "ann", order="A")
    mended(lab)
    repair(lab)
    assert lab.usable("ann") == 100
    lab.refund("A")
    assert lab.usable("ann") == 0


def test_what_others_should_have_got_they_get(lab: Lab) -> None:
    def earn(event: Any, _: Any) -> list[Effect]:
        return [Bonus(rule="lab.invited", unit="points", amount=10, to=event.others["invited_by"])]

    broken(lab)
    lab.do("member.enrolled", "ann", invited_by="bob")
    lab.puppet.on("earn", earn)
    repair(lab)
    assert (lab.usable("ann"), lab.usable("bob")) == (0, 10)


def test_what_a_merged_member_should_have_got_the_other_gets(lab: Lab) -> None:
    broken(lab)
    lab.buy("ann", 10_000, "A")
    mended(lab)
    lab.do("member.merged", "ann", into="bob")
    repair(lab)
    assert lab.usable("bob") == 100


def test_whoever_was_forgotten_is_owed_nothing(lab: Lab) -> None:
    from tallystick import people
    from tallystick.ledger import instant

    broken(lab)
    lab.buy("ann", 10_000, "A")
    mended(lab)
    arrivals = lab.engine.owing(TENANT)
    with lab.db.begin() as conn:
        people.erase(conn, TENANT, lab.names["ann"], instant(lab.now))
    assert lab.engine.owing(TENANT) == []
    (outcome,) = lab.engine.record(arrivals)
    assert isinstance(outcome, NothingOwed)


def test_what_is_made_good_can_be_made_anew_from_the_journal(lab: Lab) -> None:
    broken(lab)
    lab.buy("ann", 10_000, "A")
    lab.refund("A", amount=1_000)
    mended(lab)
    repair(lab)
    lab.refund("A", amount=1_000)

    def books() -> list[Any]:
        names = ("balance", "lot", "counter", "claim", "taken", "order_entry", "entry_member")
        return [sorted(map(tuple, lab.rows(f"SELECT * FROM {name}"))) for name in names]

    before = books()
    with lab.db.begin() as conn:
        proofs.rebuild(conn, TENANT)
    assert books() == before


class Two(Lab):
    """A laboratory with a second plugin, `more`, that comes and goes."""

    def __init__(self, url: str) -> None:
        self.second = Puppet()
        self.second.wants = Needs()
        self.second.on("earn", lambda *_: [])
        self.enabled = True
        super().__init__(url)

    def compile(self, number: int, since: int, puppet: Puppet | None = None) -> Any:
        import attrs

        from core.tests.lab import KINDS
        from tallystick.effects import EFFECTS
        from tallystick.generation import Generation
        from tallystick.manifest import Bounds
        from tallystick.pipeline import Part, compile_pipeline

        made = super().compile(number, since, puppet)
        if not self.enabled:
            return made
        grants = {name: Bounds(units=("*",), kinds=tuple(KINDS)) for name in EFFECTS}
        interests = {"redeem": ("more.none",)}
        part = Part(id="more", version="2.0", plugin=self.second, grants=grants, interests=interests)
        pipeline = compile_pipeline([*made.pipeline.parts, part], KINDS, made.programme)
        assert attrs.has(Generation)
        return Generation(programme=made.programme, pipeline=pipeline, kinds=KINDS, since=since)


@pytest.fixture
def two(database_url: str) -> Iterator[Two]:
    lab = Two(database_url)
    lab.enrol("ann", "bob")
    yield lab
    lab.check()
    with database.reading(lab.db) as conn:
        assert proofs.verify(conn).findings == ()
    lab.db.dispose()


def fails_once(lab: Two, hook: str, script: Any, *, event: Any = None) -> list[Record]:
    """A sale while `more` fails, then the same with *script* in its place, repaired."""

    def boom(*_: Any) -> list[Effect]:
        raise RuntimeError

    lab.second.on(hook, boom)
    lab.buy("ann", 10_000, "A")
    lab.second.on(hook, script)
    return repair(lab)


def test_a_multiplier_that_was_missing_multiplies_later(two: Two) -> None:
    (made,) = fails_once(two, "earn", lambda *_: [Multiply(rule="more.twice", unit="points", factor=2)])
    assert [(s.rule, s.effect, s.version, s.amount) for s in made.explanation] == [
        ("more.twice", "multiply", "2.0", 100)
    ]
    assert two.usable("ann") == 200
    two.second.on("earn", lambda *_: [])
    two.refund("A", amount=5_000)
    assert two.usable("ann") == 100
    two.refund("A")
    assert two.usable("ann") == 0


def test_a_limit_that_was_missing_takes_nothing_later(two: Two) -> None:
    assert fails_once(two, "earn", lambda *_: [Cap(rule="more.cap", unit="points", limit=10)]) == []
    assert two.usable("ann") == 100


def test_where_one_rule_would_have_displaced_another_only_the_rest_is_given(two: Two) -> None:
    script = lambda *_: [Grant(rule="more.best", unit="points", amount=130, exclusive=True)]  # noqa: E731
    (made,) = fails_once(two, "earn", script)
    assert [(s.rule, s.amount) for s in made.explanation] == [("more.best", 30)]
    assert two.usable("ann") == 130


def test_what_those_who_did_not_fail_keep_and_say_happens_once(two: Two) -> None:
    two.puppet.wants = Needs(own={"{member}": frozenset({"n"})}, counters=frozenset({("lab.n", "day")}))
    two.puppet.on(
        "earn",
        lambda event, situation: [
            Grant(rule="lab.base", unit="points", amount=100 if not situation.own["{member}"] else 1),
            Put(rule="lab.base", name="n", value=situation.own["{member}"].get("n", 0) + 1),
            Count(rule="lab.base", counter="lab.n", window="day"),
            Notify(rule="lab.base", template="lab.x", facts={}),
        ],
    )
    two.recompile()
    fails_once(two, "earn", lambda *_: [Bonus(rule="more.x", unit="points", amount=5)])
    assert two.usable("ann") == 105
    assert (two.own(f"m:{two.names['ann']}"), two.counter("lab.n", "ann")) == ({"n": 1}, 1)
    assert two.rows("SELECT count(*) FROM intent") == [(1,)]


def test_a_plugin_that_is_off_is_waited_for_and_what_another_gave_then_is_not_counted_against_it(two: Two) -> None:
    broken(two)
    two.second.on("earn", lambda *_: [Bonus(rule="more.x", unit="points", amount=70)])
    two.buy("ann", 10_000, "A")
    mended(two)
    two.enabled = False
    two.recompile()
    repair(two)
    assert two.usable("ann") == 170


def test_who_failed_and_is_off_now_is_waited_for(two: Two) -> None:
    def boom(*_: Any) -> list[Effect]:
        raise RuntimeError

    two.second.on("earn", boom)
    two.buy("ann", 10_000, "A")
    two.enabled = False
    two.recompile()
    with pytest.raises(NotRepaired, match="more is not enabled"):
        repair(two)
    two.enabled = True
    two.recompile()
    two.second.on("earn", lambda *_: [Bonus(rule="more.x", unit="points", amount=7)])
    repair(two)
    assert two.usable("ann") == 107


@pytest.mark.parametrize("refusal", [LimitReached("not today"), TallyError("no")])
def test_a_refusal_by_name_says_its_code_and_does_not_wear_the_breaker_out(lab: Lab, refusal: TallyError) -> None:
    def earn(*_: Any) -> Sequence[Effect]:
        raise refusal

    lab.puppet.on("earn", earn)
    sale = lab.buy("ann", 10_000, "A")
    declined = isinstance(refusal, LimitReached)
    assert sale.skipped[0]["cause"] == ("declined" if declined else "raised")
    (health,) = [each for each in lab.generation.pipeline.health() if each.hook == "earn"]
    assert (health.errors, health.skipped) == (0 if declined else 1, 1)
    skipped: Mapping[str, str] = sale.skipped[0]
    assert refusal.code in (skipped["error"], skipped.get("code"))


@pytest.mark.parametrize("seed", range(6))
def test_failing_and_making_good_ends_where_never_failing_does(lab: Lab, seed: int) -> None:
    """Ann lives where the plugin fails now and then, bob where it never does; nobody spends, so both must end equal."""
    chance = random.Random(seed)
    fails = [False]

    def earn(event: Any, situation: Any) -> list[Effect]:
        if fails[0] and event.member == lab.names["ann"]:
            raise RuntimeError
        out: list[Effect] = [Grant(rule="lab.base", unit="points", amount=event.facts.total // 100)]
        if event.facts.total > 5_000:
            out.append(Multiply(rule="lab.big", unit="points", factor=3))
        return [*out, Count(rule="lab.visit", counter="lab.visits", window="lifetime", by_share=True)]

    lab.puppet.on("earn", earn)
    orders: list[int] = []
    for step in range(25):
        fails[0] = chance.random() < 0.5
        match chance.randrange(4):
            case 0 | 1:
                cents = chance.randrange(10_000)
                for who in ("ann", "bob"):
                    lab.buy(who, cents, f"{who}{step}")
                orders.append(step)
            case 2 if orders:
                order, share = chance.choice(orders), chance.randrange(1, 4_000)
                for who in ("ann", "bob"):
                    lab.refund(f"{who}{order}", amount=share)
            case 3 if chance.random() < 0.5:
                fails[0] = False
                repair(lab)
        lab.wait(hours=7)
    fails[0] = False
    repair(lab)
    assert lab.posted("ann") == lab.posted("bob")
    assert lab.counter("lab.visits", "ann") == lab.counter("lab.visits", "bob")
    for order in orders:
        for who in ("ann", "bob"):
            lab.refund(f"{who}{order}")
    assert lab.posted("ann") == lab.posted("bob") == 0
