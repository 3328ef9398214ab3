"""Many transfers at once end as each would have ended alone, whatever is cut."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from plugins.coalition.tests.conftest import Town, agree, flow
from tallystick.errors import TallyError
from tallystick.situation import Chance
from tallystick_coalition import convoy, exchange
from tallystick_coalition.convoy import Wish, send_many, take_many
from tallystick_coalition.exchange import Answer, Done, Message, Unreachable


class Killed(BaseException):
    """The process dies."""


class Road:
    """The way to a partner; what *fates* say of an action happens once: lost, unanswered, or the speaker dies."""

    def __init__(self, town: Town, brand: str, partner: str, **fates: str) -> None:
        self.name, self._way, self.fates = partner, town.way(brand, partner), fates
        self.said: list[str] = []

    def ask_many(self, messages: Sequence[Message]) -> list[Answer | None]:
        self.said += [message.action for message in messages]
        fate = self.fates.pop(messages[0].action, "")
        if fate == "lost":
            raise Unreachable
        if fate == "dies before":
            raise Killed
        answers = self._way.ask_many(messages)
        if fate == "unanswered":
            raise Unreachable
        if fate == "dies after":
            raise Killed
        if fate == "half":
            return [answer if place % 2 else None for place, answer in enumerate(answers)]
        return answers


def flows(grocer: str, fuel: str) -> list[Any]:
    return [
        flow("convert", grocer, fuel, rate="2/3", price="1/2", minimum=5, member_day=150),
        flow("redeem", grocer, fuel, rate="1", price="4/5", day_cap=900),
        flow("earn", fuel, grocer, rate="1/100", price="1"),
    ]


def people(town: Town, grocer: str, fuel: str) -> list[tuple[int, str]]:
    """Members with their codes: most are known at both brands, one only at the grocer, one nowhere, one is poor."""
    found = []
    for n in range(6):
        member = town.member(grocer, f"member-{n}")
        town.gives(grocer, member, 3 if n == 5 else 100)
        town.gives(grocer, member, 1 if n == 5 else 60)
        other = town.member(fuel, f"member-{n}") if n != 3 else 0
        found.append((member, town.link(grocer, fuel, member, other) if n != 4 else "a" * 24))
    return found


def drawn(seed: str, known: Sequence[tuple[int, str]], kinds: tuple[str, ...], count: int = 18) -> list[Wish]:
    """Wishes of all sorts, some of them twice, some of those with another amount."""
    chance = Chance(seed.encode(), "convoy")
    found: list[Wish] = []
    for n in range(count):
        kind: Any = kinds[chance.below(len(kinds))]
        member, alias = known[chance.below(len(known))]
        amount = (chance.below(6_000) if kind == "earn" else chance.below(70)) + 1
        mine: Any = {"member": member} if kind == "convert" else {"alias": alias}
        found.append(Wish(transfer=f"t-{n:08d}", kind=kind, amount=amount, **mine))
        if chance.below(8) == 0:
            again = found[chance.below(len(found))]
            found.append(
                Wish(
                    **{
                        **{f: getattr(again, f) for f in Wish.__struct_fields__},
                        "amount": again.amount + chance.below(2),
                    }
                )
            )
    return found


def alone(act: Callable[..., Done], books: Any, way: Any, wish: Wish) -> Any:
    try:
        if act is exchange.take:
            return act(books, way, transfer=wish.transfer, alias=wish.alias, points=wish.amount)
        return act(
            books, way, transfer=wish.transfer, kind=wish.kind, amount=wish.amount, member=wish.member, alias=wish.alias
        )
    except TallyError as refusal:
        return refusal.code


def books(town: Town, grocer: str, fuel: str, known: Sequence[tuple[int, str]]) -> list[Any]:
    """Everything a convoy may have changed, without the names that tell the two coalitions apart."""
    town.house.relay()
    said: list[Any] = []
    for brand, partner in ((grocer, fuel), (fuel, grocer)):
        said.append([tuple(row) for row in town.desk(brand).list_entries(partner, "2026-06")])
        said.append(town.desk(brand).rows(f"pair/{partner}"))
        said.append(town.rows("SELECT count(*) FROM coalition_waiting WHERE tenant = :t", t=brand)[0][0])
        said.append([tuple(row) for row in town.rows(
            "SELECT kind, count(*) FROM (SELECT substr(key, 1, 2) AS kind FROM own WHERE tenant = :t AND plugin = 'coalition') AS some GROUP BY kind ORDER BY kind",
            t=brand)])  # fmt: skip
        said.append(sorted(row[0] for row in town.rows(
            "SELECT value FROM counter WHERE tenant = :t AND name LIKE 'coalition.sent.%'", t=brand)))  # fmt: skip
    said.append([[left for left, *_ in town.lots(grocer, member)] for member, _ in known])
    said.append(sorted((left, end, issuer) for left, end, issuer in town.rows(
        "SELECT remaining, expires_at, issuer FROM lot WHERE tenant = :t AND remaining > 0", t=fuel)))  # fmt: skip
    return said


def named_alike(value: Any) -> str:
    return repr(value).replace("-b", "")


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_convoy_ends_as_its_transfers_would_have_ended_alone(make_town: Any, seed: str) -> None:
    town = make_town("fuel", "grocer", "fuel-b", "grocer-b", partners={
        "fuel": ["grocer"], "grocer": ["fuel"], "fuel-b": ["grocer-b"], "grocer-b": ["fuel-b"]})  # fmt: skip
    told: list[list[Any]] = []
    for grocer, fuel, many in (("grocer", "fuel", False), ("grocer-b", "fuel-b", True)):
        town.agree(agree(grocer, fuel, flows(grocer, fuel)))
        known = people(town, grocer, fuel)
        outcomes: list[Any] = []
        for source, target, kinds, act in (
            (grocer, fuel, ("convert",), exchange.send),
            (fuel, grocer, ("earn",), exchange.send),
            (fuel, grocer, ("redeem",), exchange.take),
        ):
            wishes = drawn(seed + kinds[0], known, kinds)
            wishes = [
                Wish(**{**{f: getattr(w, f) for f in Wish.__struct_fields__}, "transfer": f"{kinds[0]}-{w.transfer}"})
                for w in wishes
            ]
            desk, way = town.desk(source), town.way(source, target)
            if many:
                ended = (take_many if act is exchange.take else send_many)(desk, way, wishes)
                outcomes += [each.code if isinstance(each, TallyError) else each for each in ended]
            else:
                outcomes += [alone(act, desk, way, wish) for wish in wishes]
        told.append([outcomes, books(town, grocer, fuel, known)])
    assert len({repr(each) for each in told[0][0]}) > 10  # of all sorts
    assert named_alike(told[1]) == named_alike(told[0])
    town.proves()


def started(town: Town, count: int = 6) -> tuple[list[int], list[int], list[Wish], list[str]]:
    mine, theirs, codes = [], [], []
    for n in range(count):
        mine.append(town.member("grocer", f"m-{n}"))
        theirs.append(town.member("fuel", f"m-{n}"))
        town.gives("grocer", mine[-1], 300)
        codes.append(town.link("grocer", "fuel", mine[-1], theirs[-1]))
    return (
        mine,
        theirs,
        [Wish(transfer=f"t-{n:08d}", amount=300, member=member) for n, member in enumerate(mine)],
        codes,
    )


@pytest.mark.parametrize("fates", [
    {"commit": "half"},
    {"commit": "unanswered", "void": "unanswered"}, {"commit": "half", "void": "half"}, {"commit": "dies before"},
    {"commit": "dies after"}, {"commit": "lost", "void": "dies after"},
], ids=repr)  # fmt: skip
def test_conversions_of_a_convoy_exist_on_both_sides_or_on_neither_whatever_is_cut(
    town: Town, fates: dict[str, str]
) -> None:
    mine, theirs, wishes, _ = started(town)
    with contextlib.suppress(Killed):
        send_many(town.desk("grocer"), Road(town, "grocer", "fuel", **fates), wishes)
    town.house.relay()
    town.goes_by(minutes=2)
    town.works()
    for member, other, wish in zip(mine, theirs, wishes, strict=True):
        states = town.state("grocer", "fuel", wish.transfer), town.state("fuel", "grocer", wish.transfer)
        assert states in (("confirmed", "committed"), ("released", "voided"))
        arrived = states[0] == "confirmed"
        assert (town.usable("grocer", member), town.usable("fuel", other)) == ((0, 200) if arrived else (300, 0))
    assert town.rows("SELECT count(*) FROM coalition_waiting")[0][0] == 0
    town.proves()


@pytest.mark.parametrize("fates", [
    {"hold": "half"},
    {"hold": "unanswered", "release": "unanswered"}, {"confirm": "half"}, {"hold": "dies after"},
    {"confirm": "dies before"},
], ids=repr)  # fmt: skip
def test_payments_of_a_convoy_exist_on_both_sides_or_on_neither_whatever_is_cut(
    town: Town, fates: dict[str, str]
) -> None:
    mine, _, _, codes = started(town)
    wishes = [Wish(transfer=f"t-{n:08d}", kind="redeem", amount=300, alias=code) for n, code in enumerate(codes)]
    with contextlib.suppress(Killed):
        take_many(town.desk("fuel"), Road(town, "fuel", "grocer", **fates), wishes)
    town.house.relay()
    town.goes_by(minutes=2)
    town.works()
    for member, wish in zip(mine, wishes, strict=True):
        states = town.state("grocer", "fuel", wish.transfer), town.state("fuel", "grocer", wish.transfer)
        assert states in (("confirmed", "committed"), ("released", "voided"), ("unknown", "voided"))
        assert town.usable("grocer", member) == (0 if states[0] == "confirmed" else 300)
    town.proves()


@pytest.mark.parametrize("fate", ["dies before", "dies after"])
def test_a_convoy_said_again_after_a_crash_ends_what_it_began(town: Town, fate: str) -> None:
    mine, theirs, wishes, _ = started(town)
    with pytest.raises(Killed):
        send_many(town.desk("grocer"), Road(town, "grocer", "fuel", commit=fate), wishes)
    again = send_many(town.desk("grocer"), town.way("grocer", "fuel"), wishes)
    ended = {each.state for each in again if isinstance(each, Done)}
    assert ended == ({"released"} if fate == "dies before" else {"confirmed"})
    assert send_many(town.desk("grocer"), town.way("grocer", "fuel"), wishes)[0].state in ended  # type: ignore[union-attr]
    assert sum(town.usable("fuel", other) for other in theirs) == (0 if fate == "dies before" else 1_200)
    assert sum(town.usable("grocer", member) for member in mine) == (1_800 if fate == "dies before" else 0)


def test_each_phase_is_one_message_and_one_batch(town: Town) -> None:
    _, _, wishes, _ = started(town)
    before = town.rows("SELECT count(*) FROM batch")[0][0]
    road = Road(town, "grocer", "fuel")
    assert {each.state for each in send_many(town.desk("grocer"), road, wishes) if isinstance(each, Done)} == {
        "confirmed"
    }
    assert road.said == ["commit"] * len(wishes)
    assert town.rows("SELECT count(*) FROM batch")[0][0] - before == 3


def test_a_long_convoy_travels_in_parts(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoy, "MOST", 4)
    _, theirs, wishes, _ = started(town)
    assert [each.transfer for each in send_many(town.desk("grocer"), town.way("grocer", "fuel"), wishes) if isinstance(each, Done)] == [
        wish.transfer for wish in wishes
    ]  # fmt: skip
    assert sum(town.usable("fuel", other) for other in theirs) == 1_200
