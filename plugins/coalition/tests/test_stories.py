"""What members and merchants see: points cross over, on both sides or on neither."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from plugins.coalition.tests.conftest import FLOWS, Town, agree, flow, signed
from tallystick.errors import Insufficient, MemberInactive, TallyError
from tallystick.ledger import instant
from tallystick_coalition import exchange, jobs
from tallystick_coalition.errors import (
    AliasTaken,
    ExposureReached,
    Mismatch,
    NotAgreed,
    NotPossible,
    OutsideTerms,
    TransferClosed,
)
from tallystick_coalition.exchange import Answer, Message, Unreachable, receive

T1, T2 = "t-00000001", "t-00000002"


class Bad:
    """The way to a partner on which some messages, or the answers to them, are lost."""

    def __init__(
        self, town: Town, brand: str, partner: str, *, lost: tuple[str, ...] = (), unanswered: tuple[str, ...] = ()
    ) -> None:
        self.name, self._way, self._lost, self._unanswered = partner, town.way(brand, partner), lost, unanswered
        self.said: list[Message] = []

    def ask(self, message: Message) -> Answer:
        self.said.append(message)
        if message.action in self._lost:
            raise Unreachable
        answer = self._way.ask(message)
        if message.action in self._unanswered:
            raise Unreachable
        return answer


# -- what goes well -----------------------------------------------------------------------------------------------------


def test_converted_points_arrive_and_say_whose_they_are(town: Town) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 100)
    town.link("grocer", "fuel", ann, ann_too)
    (before,) = town.lots("grocer", ann)
    done = town.convert("grocer", "fuel", ann, 100)
    assert (done.state, done.gets, done.owed) == ("confirmed", 66, 50)
    assert town.usable("grocer", ann) == 0
    assert town.lots("fuel", ann_too) == [(66, before[1], "grocer 3/4 fuel-grocer/1")]  # expiry is the lot's own
    assert (town.state("grocer", "fuel"), town.state("fuel", "grocer")) == ("confirmed", "committed")
    town.proves()


def test_a_member_pays_at_the_partner_with_points(town: Town) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 500)
    alias = town.link("grocer", "fuel", ann)
    done = town.pay("fuel", "grocer", alias, 300, order="P-1")
    assert (done.state, done.gets, done.owed) == ("committed", 300, 240)
    assert town.usable("grocer", ann) == 200
    assert town.state("grocer", "fuel") == "confirmed"
    (gave,) = [record.gives[0] for record in _records(town, "fuel") if record.gives]
    assert gave == {"currency": "USD", "discount": 300, "partner": "grocer", "points": 300, "status": "applied"}


def test_a_purchase_at_one_brand_earns_points_of_the_other(town: Town) -> None:
    ann = town.member("grocer", "ann")
    alias = town.link("grocer", "fuel", ann)
    done = exchange.send(
        town.desk("fuel"), town.way("fuel", "grocer"), transfer=T1, kind="earn", amount=5_099, alias=alias
    )
    assert (done.state, done.gets, done.owed) == ("confirmed", 50, 50)
    assert [(left, issuer) for left, _, issuer in town.lots("grocer", ann)] == [(50, "fuel 1 fuel-grocer/1")]


def test_provenance_goes_along_with_gifts_and_further_conversions(make_town: Any) -> None:
    town = make_town("fuel", "grocer", "wine")
    town.agree(agree("grocer", "fuel", [flow("convert", "grocer", "fuel", rate="1/2")]))
    town.agree(agree("fuel", "wine", [flow("convert", "fuel", "wine", rate="1/2")]))
    ann, ann_too, bob, bob_too = (
        town.member(*who) for who in (("grocer", "a"), ("fuel", "a"), ("fuel", "b"), ("wine", "b"))
    )
    town.gives("grocer", ann, 100)
    town.link("grocer", "fuel", ann, ann_too)
    town.convert("grocer", "fuel", ann, 100)
    town.send("fuel", "points.gifted", {"to": f"m-{bob:012d}", "points": 50}, member=ann_too)
    town.link("fuel", "wine", bob, bob_too)
    town.convert("fuel", "wine", bob, 50)
    assert [(left, issuer) for left, _, issuer in town.lots("wine", bob_too)] == [(25, "grocer 2 fuel-grocer/1")]


def test_what_is_told_of_the_parts_is_what_the_ledger_took(town: Town) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    for _ in range(3):
        town.gives("grocer", ann, 40)
        town.goes_by(days=2)
    town.link("grocer", "fuel", ann, ann_too)
    town.convert("grocer", "fuel", ann, 90)
    (held,) = [record for record in _records(town, "grocer") if record.kind == "coalition.held"]
    took = [transfer.amount for transfer in held.transfers]
    told = [part["amount"] for step in held.explanation for part in (step.data or {}).get("parts", ())]
    assert took == told == [40, 40, 10]
    assert {transfer.credit for transfer in held.transfers} == {"coalition/fuel"}
    ends = [end for _, end, _ in town.lots("fuel", ann_too)]
    assert ends == sorted(ends) and len(set(ends)) == 3
    assert sum(left for left, *_ in town.lots("fuel", ann_too)) == 60


# -- what comes back ----------------------------------------------------------------------------------------------------


def test_a_returned_order_gives_the_same_lots_back_in_its_share(town: Town) -> None:
    ann, driver = town.member("grocer", "ann"), town.member("fuel", "driver")
    for _ in range(2):
        town.gives("grocer", ann, 200)
        town.goes_by(days=1)
    alias = town.link("grocer", "fuel", ann)
    before = town.lots("grocer", ann)
    bought = {"order": "P-1", "currency": "USD", "lines": [{"sku": "diesel", "amount": 4_000}]}
    town.send("fuel", "purchase.completed", bought, member=driver)
    town.pay("fuel", "grocer", alias, 300, order="P-1", member=driver)
    town.send("fuel", "purchase.refunded", {"order": "P-1", "amount": 1_000}, member=driver)
    town.works()
    town.works()
    assert [left for left, *_ in town.lots("grocer", ann)] == [
        175
    ]  # a quarter of 300 came back, into the lot used last
    town.send("fuel", "purchase.refunded", {"order": "P-1"}, member=driver)
    town.works()
    town.works()
    assert town.lots("grocer", ann) == before
    assert [_sums(town, *who) for who in (("grocer", "fuel"), ("fuel", "grocer"))] == [(0, 0), (0, 0)]
    assert town.pair("grocer", "fuel")["open"] == 0
    town.proves()


def test_points_that_a_returned_purchase_had_earned_at_the_partner_go_back(town: Town) -> None:
    ann = town.member("grocer", "ann")
    alias = town.link("grocer", "fuel", ann)
    exchange.send(town.desk("fuel"), town.way("fuel", "grocer"), transfer=T1, kind="earn", amount=10_000, alias=alias)
    exchange.give_back(town.desk("grocer"), town.way("grocer", "fuel"), transfer=T1, total=2_500)
    assert town.usable("grocer", ann) == 75
    town.house.relay()
    assert _sums(town, "grocer", "fuel") == _sums(town, "fuel", "grocer") == (75, 75)


def test_nothing_comes_back_twice_or_more_than_went(town: Town) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    town.pay("fuel", "grocer", alias, 300)
    desk, way = town.desk("fuel"), town.way("fuel", "grocer")
    exchange.give_back(desk, way, transfer=T1, total=100)
    exchange.give_back(desk, way, transfer=T1, total=100)
    for total in (50, 301):
        with pytest.raises(Mismatch):
            exchange.give_back(desk, way, transfer=T1, total=total)
    assert town.usable("grocer", ann) == 100
    back = Message(action="return", sender="fuel", at=town.now, transfer=T1, total=301, period="2026-06")
    assert receive(town.desk("grocer"), back).state == "refused"


# -- what is cut, repeated, reordered -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["hold", "confirm", "release"])
@pytest.mark.parametrize("how", ["lost", "unanswered"])
def test_a_payment_exists_on_both_sides_or_on_neither_whatever_is_cut(town: Town, lost: str, how: str) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    before = town.lots("grocer", ann)
    way = Bad(town, "fuel", "grocer", **{how: (lost,)})
    try:
        done = exchange.take(town.desk("fuel"), way, transfer=T1, alias=alias, points=300)
        assert done.state == "committed"
    except Unreachable:
        assert lost == "hold"
    town.house.relay()
    town.goes_by(minutes=2)
    town.works()
    if lost == "hold":
        assert town.lots("grocer", ann) == before
        assert (town.state("fuel", "grocer"), town.state("grocer", "fuel")) == ("voided", "released")
    else:
        assert town.lots("grocer", ann) == []
        assert (town.state("fuel", "grocer"), town.state("grocer", "fuel")) == ("committed", "confirmed")
    town.works()
    assert _sums(town, "grocer", "fuel") == _sums(town, "fuel", "grocer")
    town.proves()


@pytest.mark.parametrize("cut", [(), ("void",)])
@pytest.mark.parametrize("how", ["lost", "unanswered"])
def test_a_conversion_exists_on_both_sides_or_on_neither_whatever_is_cut(
    town: Town, cut: tuple[str, ...], how: str
) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 300)
    town.link("grocer", "fuel", ann, ann_too)
    way = Bad(town, "grocer", "fuel", **{how: ("commit", *cut)})
    done = exchange.send(town.desk("grocer"), way, transfer=T1, kind="convert", amount=300, member=ann)
    if cut:
        assert (done.state, town.state("grocer", "fuel")) == ("held", "held")
    town.house.relay()
    town.goes_by(minutes=2)
    town.works()
    arrived = how == "unanswered"
    assert town.usable("grocer", ann) == (0 if arrived else 300)
    assert town.usable("fuel", ann_too) == (200 if arrived else 0)
    assert town.state("grocer", "fuel") == ("confirmed" if arrived else "released")
    town.proves()


def test_every_message_said_again_has_the_same_answer_and_changes_nothing(town: Town) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann, ann_too)
    way = Bad(town, "fuel", "grocer")
    exchange.take(town.desk("fuel"), way, transfer=T1, alias=alias, points=100)
    there = Bad(town, "grocer", "fuel")
    exchange.send(town.desk("grocer"), there, transfer=T2, kind="convert", amount=100, member=ann)
    exchange.give_back(town.desk("fuel"), way, transfer=T1, total=10)
    books = (
        town.lots("grocer", ann),
        town.lots("fuel", ann_too),
        town.pair("grocer", "fuel"),
        town.pair("fuel", "grocer"),
    )
    for _ in range(2):
        for bad, brand in ((way, "grocer"), (there, "fuel")):
            first = [receive(town.desk(brand), message) for message in bad.said]
            assert {answer.state for answer in first} <= {"held", "confirmed", "committed", "returned"}
    assert books == (
        town.lots("grocer", ann),
        town.lots("fuel", ann_too),
        town.pair("grocer", "fuel"),
        town.pair("fuel", "grocer"),
    )


def test_a_release_that_overtakes_its_hold_ends_it_before_it_begins(town: Town) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    common: dict[str, Any] = {"sender": "fuel", "at": town.now, "transfer": T1}
    assert receive(town.desk("grocer"), Message(action="release", **common)).state == "released"
    hold = Message(action="hold", kind="redeem", alias=alias, amount=100, version=1, **common)
    assert receive(town.desk("grocer"), hold) == Answer(state="refused", code="coalition_transfer_closed")
    assert town.usable("grocer", ann) == 300


def test_what_the_target_gave_up_never_arrives(town: Town) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 300)
    town.link("grocer", "fuel", ann, ann_too)
    way = Bad(town, "grocer", "fuel", lost=("commit",))
    assert (
        exchange.send(town.desk("grocer"), way, transfer=T1, kind="convert", amount=300, member=ann).state == "released"
    )
    late = way.said[0]
    assert receive(town.desk("fuel"), late).code == "coalition_transfer_closed"
    assert (town.usable("grocer", ann), town.usable("fuel", ann_too)) == (300, 0)


@pytest.mark.parametrize("period", ["2026-05", "2026-08"])
def test_a_partner_cannot_name_any_month_it_likes(town: Town, period: str) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    common: dict[str, Any] = {"sender": "fuel", "at": town.now, "transfer": T1}
    receive(town.desk("grocer"), Message(action="hold", kind="redeem", alias=alias, amount=100, version=1, **common))
    answer = receive(town.desk("grocer"), Message(action="confirm", owed=80, period=period, **common))
    assert answer == Answer(state="refused", code="coalition_mismatch")


def test_returns_are_taken_in_their_order_and_after_the_commit(town: Town) -> None:
    """Neither the confirmation nor the first return was heard."""
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    way = Bad(town, "fuel", "grocer", lost=("confirm", "return"))
    exchange.take(town.desk("fuel"), way, transfer=T1, alias=alias, points=300)
    exchange.give_back(town.desk("fuel"), way, transfer=T1, total=100)
    second = Message(action="return", sender="fuel", at=town.now, transfer=T1, total=150, before=100, period="2026-06")
    assert receive(town.desk("grocer"), second).state == "refused"
    exchange.give_back(town.desk("fuel"), town.way("fuel", "grocer"), transfer=T1, total=150)
    assert town.usable("grocer", ann) == 0
    town.house.relay()
    town.works()
    town.works()
    assert town.usable("grocer", ann) == 150
    books = [town.desk(one).list_entries(two, "2026-06") for one, two in (("grocer", "fuel"), ("fuel", "grocer"))]
    assert books[0] == books[1] and len(books[0]) == 3


def test_the_same_transfer_with_another_amount_is_no_repetition(town: Town) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    hold = Message(
        action="hold", sender="fuel", at=town.now, transfer=T1, kind="redeem", alias=alias, amount=100, version=1
    )
    assert receive(town.desk("grocer"), hold).state == "held"
    other = Message(
        action="hold", sender="fuel", at=town.now, transfer=T1, kind="redeem", alias=alias, amount=200, version=1
    )
    assert receive(town.desk("grocer"), other) == Answer(state="refused", code="coalition_mismatch")
    assert town.usable("grocer", ann) == 200


def test_the_target_refuses_and_the_points_come_back(town: Town) -> None:
    """The member is not linked at the target: nothing is told of why."""
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    town.link("grocer", "fuel", ann)
    before = town.lots("grocer", ann)
    done = town.convert("grocer", "fuel", ann, 300)
    assert (done.state, done.code) == ("released", "coalition_not_possible")
    assert town.lots("grocer", ann) == before
    assert town.pair("grocer", "fuel")["open"] == 0


# -- what is refused ----------------------------------------------------------------------------------------------------


def test_a_stranger_a_stale_code_and_an_empty_account_sound_the_same(town: Town) -> None:
    ann, bob, eve = (town.member("grocer", name) for name in ("ann", "bob", "eve"))
    town.gives("grocer", ann, 10)
    town.gives("grocer", bob, 1_000)
    town.gives("grocer", eve, 1_000)
    poor, gone, forgotten = (town.link("grocer", "fuel", who) for who in (ann, bob, eve))
    town.desk("grocer").link("fuel", bob, given=False)
    town.house.erase("grocer", eve)
    nobody = "a" * 24
    answers = [
        receive(
            town.desk("grocer"),
            Message(action="hold", sender="fuel", at=town.now, transfer=f"t-0000010{n}", kind="redeem", alias=alias, amount=500, version=1),
        )
        for n, alias in enumerate((poor, gone, forgotten, nobody))
    ]  # fmt: skip
    assert answers == [Answer(state="refused", code="coalition_not_possible")] * 4


def test_whoever_takes_consent_back_is_not_known_from_then_on(town: Town) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann, ann_too)
    town.desk("grocer").link("fuel", ann, given=False)
    for attempt in (
        lambda: town.pay("fuel", "grocer", alias, 100),
        lambda: town.convert("grocer", "fuel", ann, 100, transfer=T2),
    ):
        with pytest.raises(NotPossible):
            attempt()
    assert town.usable("grocer", ann) == 300
    town.goes_by(seconds=1)
    town.desk("grocer").link("fuel", ann)  # and may think again
    assert town.pay("fuel", "grocer", alias, 100, transfer="t-00000003").state == "committed"


def test_a_code_belongs_to_one_member_and_partners_cannot_compare_codes(make_town: Any) -> None:
    town = make_town("fuel", "grocer", "wine")
    ann, bob = town.member("grocer", "ann"), town.member("grocer", "bob")
    codes = {town.link("grocer", partner, who) for partner in ("fuel", "wine") for who in (ann, bob)}
    assert len(codes) == 4
    with pytest.raises(AliasTaken):
        town.desk("grocer").link("fuel", bob, town.desk("grocer").alias("fuel", ann))


@pytest.mark.parametrize(
    "terms, amounts, refusal",
    [
        ({"open_cap": 100}, (100, 30), ExposureReached),
        ({"day_cap": 100}, (100, 30), ExposureReached),
        ({"member_day": 150}, (100, 60), ExposureReached),
        ({"minimum": 50}, (49,), OutsideTerms),
        ({"maximum": 50}, (51,), OutsideTerms),
        ({"rate": "1/100"}, (99,), OutsideTerms),
        ({"until": "2026-06-10T12:00:00Z"}, (100,), OutsideTerms),
        ({"since": "2026-06-10T12:00:01Z"}, (100,), OutsideTerms),
        ({"tags": ["staff"]}, (100,), NotPossible),
    ],
)
def test_the_agreement_sets_the_bounds(
    make_town: Any, terms: dict[str, Any], amounts: tuple[int, ...], refusal: type[TallyError]
) -> None:
    town = make_town("grocer", "fuel")
    town.agree(agree("grocer", "fuel", [flow("convert", "grocer", "fuel", **{"price": "1", **terms})]))
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 1_000)
    town.link("grocer", "fuel", ann, ann_too)
    *fine, last = amounts
    for n, amount in enumerate(fine):
        assert town.convert("grocer", "fuel", ann, amount, transfer=f"t-0000010{n}").state == "confirmed"
    before = town.usable("grocer", ann)
    with pytest.raises(refusal):
        town.convert("grocer", "fuel", ann, last)
    assert town.usable("grocer", ann) == before


def test_limits_are_free_again_when_points_come_back_the_day_is_over_or_it_was_paid(make_town: Any) -> None:
    town = make_town("grocer", "fuel")
    town.agree(agree("grocer", "fuel", [flow("convert", "grocer", "fuel", price="1", open_cap=250, day_cap=100)]))
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 1_000)
    town.link("grocer", "fuel", ann)
    assert town.convert("grocer", "fuel", ann, 100, transfer="t-00000101").state == "released"  # not linked there yet
    town.desk("fuel").link("grocer", ann_too, town.desk("grocer").alias("fuel", ann))
    assert town.convert("grocer", "fuel", ann, 100, transfer="t-00000102").state == "confirmed"
    town.goes_by(days=1)
    assert town.convert("grocer", "fuel", ann, 100, transfer="t-00000103").state == "confirmed"
    town.goes_by(days=31)
    with pytest.raises(ExposureReached):
        town.convert("grocer", "fuel", ann, 100, transfer="t-00000104")
    town.send("grocer", "coalition.closed", {"partner": "fuel", "period": "2026-06"})
    town.send("grocer", "coalition.paid", {"partner": "fuel", "period": "2026-06", "amount": 200})
    assert town.convert("grocer", "fuel", ann, 100, transfer="t-00000105").state == "confirmed"


def test_converted_points_live_no_longer_than_the_agreement_says(make_town: Any) -> None:
    town = make_town("grocer", "fuel")
    town.agree(agree("grocer", "fuel", [flow("convert", "grocer", "fuel", valid_days=30)]))
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 100)
    town.link("grocer", "fuel", ann, ann_too)
    town.convert("grocer", "fuel", ann, 100)
    ((_, end, _),) = town.lots("fuel", ann_too)
    assert end == instant(town.now) + 30 * 86_400_000_000


def test_what_came_over_counts_for_tiers_only_where_it_is_agreed(make_town: Any) -> None:
    town = make_town("grocer", "fuel", "wine")
    town.agree(agree("grocer", "fuel", [flow("convert", "grocer", "fuel", tier_credit=True)]))
    town.agree(agree("grocer", "wine", [flow("convert", "grocer", "wine")]))
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 200)
    for n, partner in enumerate(("fuel", "wine")):
        town.link("grocer", partner, ann, town.member(partner, "ann"))
        town.convert("grocer", partner, ann, 100, transfer=f"t-0000010{n}")
    counted = town.rows("SELECT tenant, value FROM counter WHERE name = 'coalition.credit' AND grain = 'year'")
    assert [tuple(row) for row in counted] == [("fuel", 100)]


# -- agreements ---------------------------------------------------------------------------------------------------------


def test_an_agreement_needs_both_signatures(make_town: Any) -> None:
    town = make_town("grocer", "fuel")
    document = signed(agree("grocer", "fuel", FLOWS), "grocer")
    with pytest.raises(NotAgreed):
        town.send("grocer", "coalition.agreed", {"partner": "fuel", **document})


def test_versions_follow_each_other_and_the_one_in_force_rules(town: Town) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 300)
    town.link("grocer", "fuel", ann, ann_too)
    better = agree(
        "grocer",
        "fuel",
        [flow("convert", "grocer", "fuel", rate="1")],
        version=2,
        since=datetime(2026, 6, 11, tzinfo=UTC),
    )
    with pytest.raises(NotAgreed):
        town.agree(agree("grocer", "fuel", FLOWS, version=3))
    town.agree(better)
    assert town.convert("grocer", "fuel", ann, 30, transfer="t-00000101").gets == 20
    town.goes_by(days=1)
    assert town.convert("grocer", "fuel", ann, 30, transfer="t-00000102").gets == 30
    old = Message(action="commit", sender="grocer", at=town.now, transfer=T1, kind="convert", alias=town.desk("grocer").alias("fuel", ann),
                  amount=30, version=1)  # fmt: skip
    assert receive(town.desk("fuel"), old).code == "coalition_outside_terms"


def test_a_partner_must_know_us_as_we_know_it(make_town: Any) -> None:
    town = make_town("grocer", "fuel", partners={"fuel": []})
    with pytest.raises(NotPossible):
        town.way("grocer", "fuel")


def test_a_message_out_of_time_is_not_heard(town: Town) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    hold = Message(
        action="hold", sender="fuel", at=town.now, transfer=T1, kind="redeem", alias=alias, amount=100, version=1
    )
    town.goes_by(seconds=301)
    assert receive(town.desk("grocer"), hold).state == "refused"


# -- people -------------------------------------------------------------------------------------------------------------


def test_a_forgotten_member_leads_nowhere_and_the_brands_still_agree(town: Town) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    town.pay("fuel", "grocer", alias, 100)
    town.house.relay()
    exported = town.house.export("grocer", ann)
    assert [each["amount"] for each in exported["members"][0]["plugins"]["coalition"]["transfers"]] == [100]
    town.house.erase("grocer", ann)
    assert town.desk("grocer").rows(f"alias/fuel/{alias}") == {}
    assert town.rows("SELECT count(*) FROM coalition_entry WHERE member = :m", m=ann)[0][0] == 0
    assert _sums(town, "grocer", "fuel") == _sums(town, "fuel", "grocer") == (80, 100)


def test_a_transfer_of_a_member_forgotten_meanwhile_comes_to_an_end(town: Town) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 300)
    town.link("grocer", "fuel", ann, ann_too)
    way = Bad(town, "grocer", "fuel", lost=("commit", "void"))
    assert exchange.send(town.desk("grocer"), way, transfer=T1, kind="convert", amount=300, member=ann).state == "held"
    town.house.erase("grocer", ann)
    town.house.relay()
    town.goes_by(minutes=2)
    town.works()
    assert town.state("grocer", "fuel") == "released"
    assert town.pair("grocer", "fuel")["open"] == 0


@pytest.mark.parametrize("how", ["lost", "unanswered"])
def test_a_transfer_of_a_member_blocked_meanwhile_comes_to_an_end(town: Town, how: str) -> None:
    """What was set aside comes back into the same lots, where it waits for the member as everything else does."""
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 300)
    town.link("grocer", "fuel", ann, ann_too)
    before = town.lots("grocer", ann)
    way = Bad(town, "grocer", "fuel", **{"lost": ("void",), how: ("void", "commit")})
    assert exchange.send(town.desk("grocer"), way, transfer=T1, kind="convert", amount=300, member=ann).state == "held"
    town.block("grocer", ann)
    town.block("fuel", ann_too)
    town.house.relay()
    town.goes_by(minutes=2)
    town.works()
    arrived = how == "unanswered"
    assert town.state("grocer", "fuel") == ("confirmed" if arrived else "released")
    assert town.lots("grocer", ann) == ([] if arrived else before)
    with pytest.raises(MemberInactive):
        town.convert("grocer", "fuel", ann, 100, transfer=T2)
    town.proves()


def test_an_order_returned_by_a_blocked_member_gives_the_points_back(town: Town) -> None:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, 300)
    alias = town.link("grocer", "fuel", ann)
    before = town.lots("grocer", ann)
    town.pay("fuel", "grocer", alias, 300)
    town.block("grocer", ann)
    exchange.give_back(town.desk("fuel"), town.way("fuel", "grocer"), transfer=T1, total=300)
    assert town.lots("grocer", ann) == before
    town.house.relay()
    assert _sums(town, "grocer", "fuel") == _sums(town, "fuel", "grocer") == (0, 0)


def test_too_little_is_refused_at_the_source_by_its_own_name(town: Town) -> None:
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 10)
    town.link("grocer", "fuel", ann, ann_too)
    with pytest.raises(Insufficient):
        town.convert("grocer", "fuel", ann, 11)
    assert jobs.ask(town.desk("grocer").errand) == 0


def test_a_transfer_that_was_given_up_cannot_be_used_again(town: Town) -> None:
    ann = town.member("grocer", "ann")
    alias = town.link("grocer", "fuel", ann)
    with pytest.raises(NotPossible):
        town.pay("fuel", "grocer", alias, 100)
    town.gives("grocer", ann, 300)
    with pytest.raises(TransferClosed):
        town.pay("fuel", "grocer", alias, 100)
    assert town.usable("grocer", ann) == 300


def _records(town: Town, brand: str) -> list[Any]:
    from tallystick.ledger import read_record

    return [
        read_record(bytes(row[0]))
        for row in town.rows("SELECT body FROM record WHERE tenant = :t ORDER BY entry", t=brand)
    ]


def _sums(town: Town, brand: str, partner: str) -> tuple[int, int]:
    """(owed as told by the brand's books, sum of what was given)."""
    ((owed, gets),) = town.rows(
        "SELECT coalesce(sum(owed), 0), coalesce(sum(gets), 0) FROM coalition_entry WHERE tenant = :t AND partner = :p",
        t=brand,
        p=partner,
    )
    return int(owed), int(gets)
