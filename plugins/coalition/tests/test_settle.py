"""Who owes whom: matrices, positions, payments, statements and proofs, as pure functions."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.coalition.tests.conftest import key_of
from tallystick_coalition import agreement, settle
from tallystick_coalition.pages import money, to_csv, to_html
from tallystick_coalition.settle import Entry, Payment

BRANDS = ["fuel", "grocer", "hotel", "mall", "wine"]
owed = st.dictionaries(
    st.tuples(st.sampled_from(BRANDS), st.sampled_from(BRANDS)).filter(lambda pair: pair[0] != pair[1]),
    st.integers(min_value=-(10**9), max_value=10**12),
)
#: Entries of two brands, made of small numbers: drawing every field would take longer than the tests.
entries = st.lists(
    st.tuples(st.integers(0, 1_000), st.integers(-(10**6), 10**6)), unique_by=lambda drawn: drawn[0], max_size=24
).map(
    lambda drawn: [
        Entry(
            f"t-{number // 2:08d}", number % 2, "redeem", *(("fuel", "grocer") if owed % 2 else ("grocer", "fuel")), number + 1, number, owed,
            "fuel-grocer/1",
        )
        for number, owed in drawn
    ]
)  # fmt: skip


def entry(transfer: str = "t-00000001", owed: int = 80, **more: Any) -> Entry:
    fields = {
        "n": 0, "kind": "redeem", "source": "grocer", "target": "fuel", "amount": 100, "gets": 100, "agreement": "fuel-grocer/1",
    }  # fmt: skip
    return Entry(transfer=transfer, owed=owed, **{**fields, **more})


@given(owed)
def test_positions_sum_to_zero_and_payments_settle_them_all(owed: dict[tuple[str, str], int]) -> None:
    net = settle.positions(owed)
    made = settle.payments(net)
    assert sum(net.values()) == 0
    assert len(made) <= max(0, len(net) - 1)
    assert all(payment.amount > 0 for payment in made)
    left = dict(net)
    for payment in made:
        left[payment.source] += payment.amount
        left[payment.target] -= payment.amount
    assert set(left.values()) <= {0}


@given(owed, st.randoms(use_true_random=False))
def test_payments_do_not_depend_on_the_order_in_which_brands_are_named(
    owed: dict[tuple[str, str], int], chance: random.Random
) -> None:
    shuffled = list(owed.items())
    chance.shuffle(shuffled)
    assert settle.payments(settle.positions(owed)) == settle.payments(settle.positions(dict(shuffled)))


@pytest.mark.parametrize(
    "net, payments",
    [
        ({}, []),
        ({"a": 0, "b": 0}, []),
        ({"a": -5, "b": 5}, [Payment("a", "b", 5)]),
        ({"a": -5, "b": -5, "c": 10}, [Payment("a", "c", 5), Payment("b", "c", 5)]),
        ({"a": -7, "b": 4, "c": 3}, [Payment("a", "b", 4), Payment("a", "c", 3)]),
        ({"a": -4, "b": -3, "c": 5, "d": 2}, [Payment("a", "c", 4), Payment("b", "d", 2), Payment("b", "c", 1)]),
    ],
)
def test_the_largest_debt_goes_to_the_largest_claim(net: dict[str, int], payments: list[Payment]) -> None:
    assert settle.payments(net) == payments


def test_positions_that_do_not_sum_to_zero_are_nobodys() -> None:
    with pytest.raises(ValueError, match="sum to zero"):
        settle.payments({"a": 1})


@given(entries, st.randoms(use_true_random=False))
def test_both_sides_draw_up_the_same_statement_byte_for_byte(entries: list[Entry], chance: random.Random) -> None:
    theirs = list(entries)
    chance.shuffle(theirs)
    ours = settle.draw_up(("fuel", "grocer"), "2026-06", "USD", entries)
    assert settle.text_of(ours) == settle.text_of(settle.draw_up(("grocer", "fuel"), "2026-06", "USD", theirs))
    assert settle.differences(entries, theirs) == []
    assert ours.net == ours.owed[0] - ours.owed[1] and ours.entries == len(entries)


@given(entries, st.data())
def test_a_single_difference_is_found_and_proved_against_both_roots(entries: list[Entry], data: st.DataObject) -> None:
    ours = [entry("t-99999999"), *entries]
    place = data.draw(st.integers(0, len(ours) - 1))
    theirs = [each if n != place else each._replace(owed=each.owed + 1) for n, each in enumerate(ours)]
    (found,) = settle.differences(ours, theirs)
    assert found.transfer == ours[place].transfer
    for side, proof in ((ours, found.ours), (theirs, found.theirs)):
        assert proof is not None
        assert proof.leads_to() == settle.draw_up(("fuel", "grocer"), "2026-06", "USD", side).root


def test_an_entry_that_only_one_side_has_is_proved_by_that_side_alone() -> None:
    (found,) = settle.differences([entry()], [])
    assert (found.theirs, found.ours is not None) == (None, True)


def test_a_proof_of_something_else_leads_elsewhere() -> None:
    some = [entry(f"t-0000000{n}") for n in range(5)]
    proof = settle.prove(some, some)[some[2].transfer, 0]
    root = settle.draw_up(("fuel", "grocer"), "2026-06", "USD", some).root
    assert proof.leads_to() == root
    assert msgspec.structs.replace(proof, entry=proof.entry.replace("80", "81")).leads_to() != root


def test_statements_are_between_two() -> None:
    with pytest.raises(ValueError, match="others"):
        settle.draw_up(("fuel", "grocer"), "2026-06", "USD", [entry(source="wine")])


def test_a_signature_holds_for_its_text_its_key_and_its_purpose() -> None:
    statement = settle.draw_up(("fuel", "grocer"), "2026-06", "USD", [entry()])
    signed = settle.sign(statement, "grocer", key_of("grocer"))
    mine, other = ((agreement.public_key(key_of(brand)),) for brand in ("grocer", "fuel"))
    assert settle.is_signed(signed, mine)
    assert not settle.is_signed(signed, other)
    assert not settle.is_signed(msgspec.structs.replace(signed, text=signed.text + " "), mine)
    elsewhere = agreement.sign(key_of("grocer"), agreement.PURPOSE, signed.text.encode())
    assert not settle.is_signed(msgspec.structs.replace(signed, signature=elsewhere), mine)
    assert settle.sign(statement, "grocer", "").signature == ""
    assert not settle.is_signed(settle.sign(statement, "grocer", ""), mine)


def test_a_statement_is_read_by_spreadsheets_and_people() -> None:
    some = [entry(owed=1_205), entry(n=50, owed=-602, amount=-50, gets=-50)]
    drawn = settle.draw_up(("fuel", "grocer"), "2026-06", "USD", some)
    head, first, second = to_csv("2026-06", some).splitlines()
    assert head == "period,transfer,n,kind,source,target,amount,gets,owed,agreement"
    assert first == "2026-06,t-00000001,0,redeem,grocer,fuel,100,100,1205,fuel-grocer/1"
    assert second.startswith("2026-06,t-00000001,50,redeem")
    page = to_html(drawn, some, "agreed", 2)
    assert "grocer owes fuel: 6.03 USD" in page and drawn.root in page and "Both books agree" in page
    assert "双方账目一致" in to_html(drawn, some, "agreed", 2, "zh")
    assert 'name="viewport"' in page, "a telephone shows it at a size that can be read"
    assert "<script" not in to_html(drawn, [entry("<script>")], "agreed", 2)


@pytest.mark.parametrize(
    "amount, decimals, text", [(5, 2, "0.05 X"), (-1205, 2, "-12.05 X"), (7, 0, "7 X"), (1, 3, "0.001 X")]
)
def test_money_is_written_with_its_decimals(amount: int, decimals: int, text: str) -> None:
    assert money(amount, decimals, "X") == text
