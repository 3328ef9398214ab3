"""Agreements are data: exact rates, rounding for whom it is said, and mistakes that are found before anybody signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.coalition.tests.conftest import FLOWS, Town, agree, flow, key_of, signed
from tallystick.situation import LotView
from tallystick_coalition import agreement, exchange, rules, settings
from tallystick_coalition.agreement import Signed
from tallystick_coalition.errors import Mismatch, NotAgreed, OutsideTerms
from tallystick_coalition.events import Part
from tallystick_coalition.rules import Pair, Provenance

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
GOOD = agree("fuel", "grocer", FLOWS)


@pytest.mark.parametrize(
    "terms, amount, gets, owed",
    [
        ({"kind": "convert", "rate": "2/3", "price": "1/2"}, 100, 66, 50),
        ({"kind": "convert", "rate": "2/3", "price": "1/2", "rounds_for": "member"}, 100, 67, 50),
        ({"kind": "redeem", "rate": "1", "price": "4/5"}, 99, 99, 79),
        ({"kind": "redeem", "rate": "1", "price": "4/5", "price_for": "target"}, 99, 99, 80),
        ({"kind": "earn", "rate": "1/100", "price": "1/2"}, 5_099, 50, 25),
        ({"kind": "earn", "rate": "1/100", "price": "1/2", "rounds_for": "member"}, 5_099, 51, 25),
        ({"kind": "redeem", "rate": "3", "price": "0"}, 7, 21, 0),
    ],
)
def test_rates_are_exact_and_rounded_once_for_whom_it_is_said(
    terms: dict[str, Any], amount: int, gets: int, owed: int
) -> None:
    made = flow(source="a", target="b", **terms)
    assert (made.gets(amount), made.owed(amount)) == (gets, owed)


@pytest.mark.parametrize(
    "change, mistake",
    [
        ({"brands": ("grocer", "fuel")}, "alphabetical"),
        ({"brands": ("fuel", "fuel")}, "alphabetical"),
        ({"keys": {"fuel": (agreement.public_key(key_of("fuel")),)}}, "both brands"),
        ({"keys": {"fuel": ("A" * 44,), "grocer": (agreement.public_key(key_of("grocer")),)}}, "32 bytes"),
        ({"keys": dict.fromkeys(("fuel", "grocer"), (agreement.public_key(key_of("fuel")),))}, "in common"),
        ({"until": GOOD.since}, "ends before"),
        ({"flows": (flow("convert", "grocer", "wine"),)}, "the two brands"),
        ({"flows": (flow("convert", "grocer", "fuel", rate="2/4"),)}, "lowest terms"),
        ({"flows": (flow("convert", "grocer", "fuel", rate="0"),)}, "gives nothing"),
        ({"flows": (flow("convert", "grocer", "fuel", price="1/0"),)}, "no number"),
        ({"flows": (flow("convert", "grocer", "fuel", rate="1000001"),)}, "above"),
        ({"flows": (flow("convert", "grocer", "fuel", minimum=9, maximum=8),)}, "above maximum"),
        ({"flows": (FLOWS[0], FLOWS[0])}, "same thing"),
        ({"flows": (flow("convert", "grocer", "fuel", since=NOON, until=NOON),)}, "ends before"),
        ({"flows": (flow("convert", "grocer", "fuel", rate="2"), flow("convert", "fuel", "grocer", rate="2/3"))}, "become more"),
        ({"flows": (flow("convert", "fuel", "grocer", rate="2"), flow("convert", "grocer", "fuel", rate="1/2", rounds_for="member"))}, "become more"),
    ],
)  # fmt: skip
def test_mistakes_are_named(change: dict[str, Any], mistake: str) -> None:
    text = agreement.canonical(msgspec.structs.replace(GOOD, **change))
    with pytest.raises(NotAgreed, match=mistake):
        agreement.read(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"format":"other"}',
        agreement.canonical(GOOD) + " ",
        agreement.canonical(GOOD).replace('Z"', '"'),
    ],
)
def test_what_is_not_in_canonical_form_is_no_agreement(text: str) -> None:
    with pytest.raises(NotAgreed):
        agreement.read(text)


def test_the_same_terms_may_follow_each_other_in_time() -> None:
    before, after = (
        flow("convert", "grocer", "fuel", until=NOON),
        flow("convert", "grocer", "fuel", since=NOON, rate="1/2"),
    )
    made = agreement.read(agreement.canonical(msgspec.structs.replace(GOOD, flows=(before, after))))
    assert made.flow("convert", "grocer", "fuel", NOON - timedelta(seconds=1)).rate == "1"
    assert made.flow("convert", "grocer", "fuel", NOON).rate == "1/2"
    with pytest.raises(OutsideTerms):
        made.flow("convert", "fuel", "grocer", NOON)


@pytest.mark.parametrize("who", ["fuel", "grocer"])
def test_a_signature_of_the_other_or_for_another_text_is_none(who: str) -> None:
    document = signed(GOOD)
    other = signed(agree("fuel", "grocer", FLOWS[:1]))
    document["signatures"] = {**document["signatures"], who: other["signatures"][who]}
    with pytest.raises(NotAgreed, match=f"{who} has not signed"):
        agreement.accept(msgspec.convert(document, type=Signed), "fuel", "grocer", None)


def test_a_fingerprint_can_be_read_aloud() -> None:
    words = agreement.fingerprint(agreement.public_key(key_of("fuel"))).split(" ")
    assert [len(word) for word in words] == [4] * 8


# -- parts and pairs ----------------------------------------------------------------------------------------------------

parts = st.lists(st.integers(1, 500), min_size=1, max_size=8).map(
    lambda amounts: tuple(Part(amount=each, issuer="grocer 1/2 fuel-grocer/1") for each in amounts)
)


@given(parts, st.sampled_from(["1/3", "2/3", "1", "7/2"]))
def test_converted_parts_come_to_exactly_what_the_rate_gives(parts: tuple[Part, ...], rate: str) -> None:
    made, amount = flow("convert", "grocer", "fuel", rate=rate), sum(part.amount for part in parts)
    assert sum(one.amount for one in rules.arriving(parts, amount, made, NOON)) == made.gets(amount)


@pytest.mark.parametrize(
    "parts, amount",
    [
        ((Part(amount=5, issuer="a 1 b/1"),), 6),
        ((Part(amount=5, issuer="a 1 b/1", expires=NOON),), 5),
        ((Part(amount=5, issuer="somebody"),), 5),
    ],
)
def test_parts_that_do_not_fit_do_not_arrive(parts: tuple[Part, ...], amount: int) -> None:
    with pytest.raises(Mismatch):
        rules.arriving(parts, amount, flow("convert", "grocer", "fuel"), NOON)


def test_lots_leave_as_a_spend_takes_them_and_keep_whose_they_are() -> None:
    def lot(name: str, left: int, days: int | None, issuer: str = "", since: int = -1) -> LotView:
        return LotView(
            name, left, NOON + timedelta(days=since), None if days is None else NOON + timedelta(days=days), issuer
        )

    lots = [
        lot("never", 9, None),
        lot("late", 9, 20, "wine 1/3 a/1"),
        lot("due", 9, 0),
        lot("pending", 9, 5, since=1),
        lot("soon", 4, 10),
    ]
    own = Provenance("grocer", agreement.exact("1/2"), "fuel-grocer/1")
    found = rules.leaving(lots, 15, NOON, own)
    assert [(part.amount, part.issuer) for part in found] == [(4, str(own)), (9, "wine 1/3 a/1"), (2, str(own))]


@given(st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=12))
def test_a_pair_never_owes_more_than_its_cap_and_frees_what_is_released(steps: list[tuple[int, bool]]) -> None:
    made, pair, owed = flow("convert", "grocer", "fuel", open_cap=200), Pair(), 0
    for amount, released in steps:
        try:
            pair = pair.holding(made, amount, NOON)
        except rules.ExposureReached:
            assert owed + amount > 200
            continue
        pair = pair.decided(amount, NOON, released=released)
        owed += 0 if released else amount
        assert pair.open == owed <= 200 and pair.held == {}


@pytest.mark.parametrize(
    "document, path",
    [
        ({"partners": {"shop": {"tenant": "other"}}}, ("partners", "shop")),
        ({"partners": {"fuel": {"tenant": "shop"}}}, ("partners", "fuel", "tenant")),
        ({"unit_cost": "-1"}, ("unit_cost",)),
    ],
)
def test_settings_that_make_no_sense_are_named_by_their_place(document: dict[str, Any], path: tuple[str, ...]) -> None:
    ((found, _),) = settings.check(document, SimpleNamespace(tenant="shop"))
    assert found == path


# -- both databases -----------------------------------------------------------------------------------------------------


def test_both_databases_keep_the_same_books(database_url: str, make_town: Any) -> None:
    town: Town = make_town("grocer", "fuel")
    town.agree(agree("grocer", "fuel", FLOWS))
    ann, ann_too = town.member("grocer", "ann"), town.member("fuel", "ann")
    town.gives("grocer", ann, 500)
    alias = town.link("grocer", "fuel", ann, ann_too)
    town.convert("grocer", "fuel", ann, 100)
    town.pay("fuel", "grocer", alias, 200, transfer="t-00000002")
    exchange.give_back(town.desk("fuel"), town.way("fuel", "grocer"), transfer="t-00000002", total=50)
    town.house.relay()
    town.works()
    assert (town.usable("grocer", ann), town.usable("fuel", ann_too)) == (250, 66)
    books = [town.desk(one).draw_up(two, "2026-06") for one, two in (("grocer", "fuel"), ("fuel", "grocer"))]
    assert books[0] == books[1] and books[0].owed == (0, 170)
    town.proves()
