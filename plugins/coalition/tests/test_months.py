"""Months end: books are compared, many brands settle together, what comes later belongs to a later month."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from plugins.coalition.tests.conftest import Town, agree, flow, key_of, signed
from tallystick.commands import visit
from tallystick_coalition import agreement as agreements
from tallystick_coalition import commands, exchange
from tallystick_coalition.errors import Mismatch, NotAgreed, OutsideTerms
from tallystick_coalition.exchange import Message, receive
from tallystick_coalition.settle import Payment, SignedStatement, Statement, is_signed
from tallystick_coalition.settlement import Settlement, desks_of, settle_period

JUNE, JULY = "2026-06", "2026-07"


def settle(town: Town, period: str = JUNE) -> Settlement:
    return settle_period(desks_of(town.desk(town.brands[0]).errand), period, "USD")


def shopper(town: Town, points: int = 1_000) -> tuple[int, str]:
    ann = town.member("grocer", "ann")
    town.gives("grocer", ann, points)
    return ann, town.link("grocer", "fuel", ann)


def test_a_month_settles_and_both_books_say_the_same(town: Town) -> None:
    _, alias = shopper(town)
    for n in range(3):
        town.pay("fuel", "grocer", alias, 100, transfer=f"t-0000010{n}", order=f"P-{n}")
    exchange.send(
        town.desk("fuel"), town.way("fuel", "grocer"), transfer="t-00000200", kind="earn", amount=5_000, alias=alias
    )
    town.goes_by(days=25)
    done = settle(town)
    (pair,) = done.pairs
    assert (pair.state, pair.entries, pair.owed, pair.signed) == ("agreed", 4, (50, 240), True)
    assert done.matrix == ((0, 50), (240, 0))
    assert done.positions == {"fuel": 190, "grocer": -190}
    assert done.payments == (Payment("grocer", "fuel", 190),)
    kept = [town.desk(one).find(two, JUNE) for one, two in (("grocer", "fuel"), ("fuel", "grocer"))]
    texts = {msgspec.json.decode(row.ours, type=SignedStatement).text for row in kept}
    assert len(texts) == 1  # byte for byte
    assert settle(town) == done


def test_a_month_that_is_not_over_or_waits_for_an_answer_is_not_closed(town: Town) -> None:
    ann, _ = shopper(town)
    assert [pair.state for pair in settle(town).pairs] == ["open"]

    class Silent:
        name = "fuel"

        def ask(self, message: Message) -> Any:  # noqa: ARG002
            raise exchange.Unreachable

    held = exchange.send(town.desk("grocer"), Silent(), transfer="t-00000001", kind="convert", amount=100, member=ann)
    assert held.state == "held"
    town.goes_by(days=25)
    with pytest.raises(Mismatch):
        exchange.close(town.desk("grocer"), "fuel", JUNE)
    town.house.relay()
    assert [pair.state for pair in settle(town).pairs] == ["agreed"]  # it asks first
    assert town.state("grocer", "fuel") == "released"


def test_what_comes_back_after_the_close_belongs_to_the_next_month(town: Town) -> None:
    ann, alias = shopper(town)
    town.pay("fuel", "grocer", alias, 100)
    town.goes_by(days=25)
    june = settle(town)
    exchange.give_back(town.desk("fuel"), town.way("fuel", "grocer"), transfer="t-00000001", total=50)
    town.goes_by(days=31)
    july = settle(town, JULY)
    assert [pair.owed for pair in (*june.pairs, *july.pairs)] == [(0, 80), (0, -40)]
    assert july.payments == (Payment("fuel", "grocer", 40),)
    assert settle(town) == june
    assert town.usable("grocer", ann) == 950


def test_a_closed_month_takes_nothing_more_from_a_clock_that_is_wrong(town: Town) -> None:
    _, alias = shopper(town)
    town.goes_by(days=25)
    settle(town)
    town.goes_by(days=-20)  # a clock set back into June
    with pytest.raises(OutsideTerms):
        town.pay("fuel", "grocer", alias, 100)
    late = Message(
        action="commit",
        sender="fuel",
        at=town.now,
        transfer="t-00000009",
        kind="earn",
        alias=alias,
        amount=1_000,
        version=1,
    )
    answer = receive(town.desk("grocer"), late)
    assert (answer.state, answer.period) == ("committed", JULY)


def test_an_agreement_that_only_one_side_has_put_in_force_leaves_the_month_open(make_town: Callable[..., Town]) -> None:
    town = make_town("fuel", "grocer", "wine")
    town.agree(agree("fuel", "wine", [flow("convert", "fuel", "wine")]))
    document = signed(agree("fuel", "grocer", [flow("convert", "fuel", "grocer")]))
    town.send("fuel", "coalition.agreed", {"partner": "grocer", **document})
    town.goes_by(days=25)
    assert [(pair.brands, pair.state, pair.code) for pair in settle(town).pairs] == [
        (("fuel", "grocer"), "open", "coalition_outside_terms"),
        (("fuel", "wine"), "agreed", ""),
    ]


def test_many_brands_settle_together(make_town: Callable[..., Town]) -> None:
    town = make_town("a", "b", "c", "d")
    people: dict[tuple[str, str], str] = {}
    for one, two in (("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")):
        town.agree(agree(one, two, [flow("redeem", one, two, price="1"), flow("redeem", two, one, price="1")]))
    for brand in town.brands:
        member = town.member(brand, "m")
        town.gives(brand, member, 10_000)
        people |= {(brand, other): town.link(brand, other, member) for other in town.brands if other != brand}
    for n, (source, target, points) in enumerate(
        [("a", "b", 100), ("b", "c", 100), ("c", "a", 100), ("c", "d", 70), ("b", "a", 30)]
    ):
        town.pay(target, source, people[source, target], points, transfer=f"t-0000010{n}")
    town.goes_by(days=25)
    done = settle(town)
    assert {pair.state for pair in done.pairs} == {"agreed"} and len(done.pairs) == 4
    assert done.positions == {"a": 30, "b": -30, "c": -70, "d": 70}
    assert done.payments == (Payment("c", "d", 70), Payment("b", "a", 30))


def test_books_that_differ_end_in_a_dispute_with_both_proofs_and_nothing_is_netted(town: Town) -> None:
    _, alias = shopper(town)
    for n in range(5):
        town.pay("fuel", "grocer", alias, 100, transfer=f"t-0000010{n}")
    town.goes_by(days=25)
    town.house.relay()
    with town.house.db.begin() as conn:  # the filling station claims more than was agreed
        conn.exec_driver_sql("UPDATE coalition_entry SET owed = 800 WHERE tenant = 'fuel' AND transfer = 't-00000102'")
    before = town.rows("SELECT sum(remaining) FROM lot")[0][0]
    done = settle(town)
    (pair,) = done.pairs
    assert (pair.state, pair.code, done.payments) == ("disputed", "coalition_mismatch", ())
    row = town.desk("grocer").find("fuel", JUNE)
    dispute = msgspec.json.decode(row.dispute)
    (difference,) = dispute["differences"]
    assert difference["transfer"] == "t-00000102"
    ours, theirs = (msgspec.json.decode(text, type=SignedStatement) for text in (row.ours, row.theirs))
    assert msgspec.json.decode(theirs.text, type=Statement).root == dispute["theirs"] != dispute["ours"]
    keys = town.desk("grocer").agreement("fuel").keys  # type: ignore[union-attr]
    assert is_signed(ours, keys["grocer"]) and is_signed(theirs, keys["fuel"])
    assert town.rows("SELECT sum(remaining) FROM lot")[0][0] == before


def test_the_books_can_be_made_again_from_the_journal(town: Town) -> None:
    _, alias = shopper(town)
    town.pay("fuel", "grocer", alias, 100)
    exchange.give_back(town.desk("fuel"), town.way("fuel", "grocer"), transfer="t-00000001", total=10)
    town.house.relay()
    before = town.rows("SELECT * FROM coalition_entry ORDER BY tenant, transfer, n")
    with town.house.db.begin() as conn:
        conn.exec_driver_sql("DELETE FROM coalition_entry")
        conn.exec_driver_sql("DELETE FROM consumer WHERE name = 'coalition.committed'")
    town.house.relay()
    assert town.rows("SELECT * FROM coalition_entry ORDER BY tenant, transfer, n") == before and len(before) == 4


# -- commands -----------------------------------------------------------------------------------------------------------


def called(town: Town, brand: str, command: Any, *given: Any, **more: Any) -> tuple[Any, list[str]]:
    return command(visit(town.house, brand, "coalition", "coalition.command"), *given, **more)  # type: ignore[no-any-return]


TERMS = """
partner = "fuel"
since = 2026-01-01T00:00:00Z

[[flows]]
kind = "redeem"
source = "grocer"
target = "fuel"
rate = "1"
price = "4/5"
"""


def test_an_agreement_is_proposed_signed_and_put_in_force(make_town: Callable[..., Town], tmp_path: Path) -> None:
    town = make_town("grocer", "fuel")
    terms, file = tmp_path / "terms.toml", str(tmp_path / "agreement.json")
    terms.write_text(TERMS)
    proposed, _ = called(town, "grocer", commands.propose, str(terms), file)
    with pytest.raises(NotAgreed):
        called(town, "grocer", commands.agree, file)
    signed, lines = called(town, "fuel", commands.sign, file)
    assert proposed["hash"] == signed["hash"] and "redeem from grocer to fuel: rate 1, price 4/5" in lines[1]
    for brand in ("grocer", "fuel"):
        called(town, brand, commands.agree, file)
    _, alias = shopper(town)
    told, lines = called(town, "fuel", commands.pay, "grocer", alias, 100, order="P-1", transfer="t-00000001")
    assert told["state"] == "committed" and lines == ["100 given for 100 points; grocer owes 0.80 USD"]
    again, _ = called(town, "fuel", commands.pay, "grocer", alias, 100, order="P-1", transfer="t-00000001")
    assert again == told


def test_a_statement_is_shown_and_written_and_what_was_paid_is_noted_once(town: Town, tmp_path: Path) -> None:
    ann, alias = shopper(town)
    called(town, "fuel", commands.pay, "grocer", alias, 100, transfer="t-00000001")
    town.member("fuel", "ann")
    town.desk("fuel").link("grocer", town.desk("fuel").errand.member("ann"), alias)  # type: ignore[attr-defined]
    told, _ = called(town, "grocer", commands.convert, "ann", "fuel", 100)
    assert told["state"] == "confirmed"
    called(town, "fuel", commands.earn, "grocer", alias, 1_000)
    town.goes_by(days=25)
    done, lines = called(town, "grocer", commands.settle_month)
    assert done["period"] == JUNE and lines[-1] == "grocer pays fuel 1.20 USD"
    document, lines = called(town, "grocer", commands.statement, "fuel")
    assert document["state"] == "agreed" and len(document["entries"]) == 3
    journal = {row[0] for row in town.rows("SELECT DISTINCT entry FROM coalition_entry WHERE tenant = 'grocer'")}
    assert {entry["entry"] for entry in document["entries"]} == journal
    for name in ("a.json", "a.csv", "a.html"):
        called(town, "grocer", commands.statement, "fuel", into=str(tmp_path / name))
    assert len(list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))) == 4
    assert msgspec.json.decode((tmp_path / "a.json").read_bytes()) == msgspec.json.decode(msgspec.json.encode(document))
    open_before = town.pair("grocer", "fuel")["open"]
    assert called(town, "grocer", commands.paid)[0]["pairs"] == 2
    town.goes_by(seconds=1)
    assert called(town, "grocer", commands.paid)[0]["pairs"] == 0
    assert town.pair("grocer", "fuel")["open"] == open_before - 130 == 0
    assert town.usable("grocer", ann) == 810


def test_a_month_that_is_not_over_can_be_looked_at(town: Town) -> None:
    _, alias = shopper(town)
    town.pay("fuel", "grocer", alias, 100)
    done, lines = called(town, "grocer", commands.settle_month, period=JUNE, preview=True)
    assert (done["pairs"][0]["state"], done["positions"]) == ("agreed", {"fuel": 80, "grocer": -80})
    assert lines[-1] == "grocer pays fuel 0.80 USD"
    assert town.pair("grocer", "fuel").get("closed", "") == "" and town.desk("grocer").find("fuel", JUNE) is None


def test_a_key_is_made_and_kept_nowhere_else(town: Town, tmp_path: Path) -> None:
    shown, _ = called(town, "grocer", commands.key)
    assert agreements.public_key(shown["private"]) == shown["public"]
    into = tmp_path / "brand.key"
    told, _ = called(town, "grocer", commands.key, into=str(into))
    assert "private" not in told and agreements.public_key(into.read_text()) == told["public"]
    assert into.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("period", ["2026-13", "june", "2026-6"])
def test_a_month_is_written_as_a_month(town: Town, period: str) -> None:
    with pytest.raises(OutsideTerms):
        called(town, "grocer", commands.settle_month, period=period)


def test_keys_are_replaced_by_an_agreement_that_the_old_ones_sign(town: Town) -> None:
    fresh = {
        brand: (agreements.public_key(key_of(brand)), agreements.public_key(key_of(brand, 1)))
        for brand in ("fuel", "grocer")
    }
    terms = [flow("redeem", "grocer", "fuel")]
    town.agree(agree("grocer", "fuel", terms, version=2, keys=fresh))
    only_new = {brand: keys[1:] for brand, keys in fresh.items()}
    third = agree("grocer", "fuel", terms, version=3, keys=only_new)
    town.agree(third, number=1)
    fourth = agree("grocer", "fuel", terms, version=4, keys=only_new)
    with pytest.raises(NotAgreed):
        town.agree(fourth)  # signed with keys that are no more
