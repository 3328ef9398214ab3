"""What members spend at partners counts on ladders where the agreement says so, and comes off again with a return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from plugins.coalition.tests.conftest import START, Town, agree, configuration, flow
from tallystick import config, discovery, house
from tallystick.document import Document
from tallystick.errors import Denied, TallyError
from tallystick.ledger import instant
from tallystick.testing import make_plugin
from tallystick_coalition import exchange
from tallystick_coalition.exchange import Message, receive
from tallystick_coalition_tiers.settings import check

LADDER = """
[tenants.grocer.plugins.tiers]
[[tenants.grocer.plugins.tiers.ladders]]
name = "club"
tiers = [{ name = "base" }, { name = "gold", at = 10000 }]
"""
GLUE = """
[[tenants.grocer.plugins.coalition_tiers.ladders]]
name = "club"
"""
RISK = """
[tenants.grocer.plugins.risk]
[[tenants.grocer.plugins.risk.policies]]
name = "big_at_the_pump"
on = ["coalition.held"]
when = "facts.partner == 'fuel' && facts.amount > 500"
verdict = "deny"
reason = { en = "Much leaves for the pump at once.", zh = "一次性向加油站转出大量积分。" }
"""


@pytest.fixture
def open_town(tmp_path: Path) -> Iterator[Callable[..., Town]]:
    """Call it with further tables of settings, and with whether the agreement counts for tiers."""
    with ExitStack() as stack:

        def make(more: str, *, tier_credit: bool = True) -> Town:
            brands = ("grocer", "fuel")
            file = configuration(tmp_path, f"sqlite:///{tmp_path / 'tally.db'}", brands, {})
            file.write_text(file.read_text() + more)
            installed = discovery.discover()
            checked = config.check(Document.read(file), installed=installed, folder=tmp_path)
            house.prepare(checked, installed=installed)
            clock = [instant(START - timedelta(days=3650))]
            built = house.build_house(checked, installed=installed, clock=lambda: clock[0])
            clock[0] = instant(START)
            stack.callback(built.close)
            town = Town(built, clock, brands)
            earn = flow("earn", "fuel", "grocer", rate="1/100", price="1", tier_credit=tier_credit)
            town.agree(agree("grocer", "fuel", [earn, flow("redeem", "grocer", "fuel")]))
            return town

        yield make


def linked(town: Town) -> tuple[int, str]:
    ann = town.member("grocer", "ann")
    town.send("grocer", "member.enrolled", {"channel": "app"}, member=ann)
    return ann, town.link("grocer", "fuel", ann)


def spends(town: Town, alias: str, cents: int, transfer: str = "t-00000001") -> Any:
    return exchange.send(
        town.desk("fuel"), town.way("fuel", "grocer"), transfer=transfer, kind="earn", amount=cents, alias=alias
    )


def tier(town: Town, member: int) -> str:
    rows = town.rows(
        "SELECT value FROM own WHERE tenant = 'grocer' AND plugin = 'core' AND key = :k AND name = 'tier:club'",
        k=f"m:{member}",
    )
    import msgspec

    return str(msgspec.json.decode(rows[0][0])["tier"]) if rows else ""


def spend(town: Town) -> int:
    rows = town.rows("SELECT value FROM counter WHERE tenant = 'grocer' AND name = 'tiers.club.spend' AND member > 0")
    return sum(row[0] for row in rows)


def test_it_is_on_where_both_are_on_and_nowhere_else(open_town: Callable[..., Town]) -> None:
    tenants = open_town(LADDER).house.tenants()
    assert [name for name, tenant in tenants.items() if "coalition_tiers" in tenant.plugins] == ["grocer"]


def test_partner_spend_lifts_the_member_together_with_what_was_bought_here(open_town: Callable[..., Town]) -> None:
    town = open_town(LADDER + GLUE)
    ann, alias = linked(town)
    bought = {"order": "R-1", "currency": "USD", "lines": [{"sku": "tea", "amount": 6_000}]}
    town.send("grocer", "purchase.completed", bought, member=ann)
    assert (tier(town, ann), spend(town)) == ("base", 6_000)
    assert spends(town, alias, 3_999).state == "confirmed"
    assert (tier(town, ann), spend(town)) == ("base", 9_999)
    spends(town, alias, 3_999)  # said again
    assert spends(town, alias, 100, "t-00000002").state == "confirmed"
    assert (tier(town, ann), spend(town)) == ("gold", 10_099)
    town.proves()


@pytest.mark.parametrize(
    "more, tier_credit", [(LADDER + GLUE, False), (LADDER, True)], ids=["not agreed", "no ladder named"]
)
def test_it_counts_only_where_it_is_agreed_and_set_up(
    open_town: Callable[..., Town], more: str, tier_credit: bool
) -> None:
    town = open_town(more, tier_credit=tier_credit)
    ann, alias = linked(town)
    assert spends(town, alias, 20_000).state == "confirmed"
    assert (tier(town, ann), spend(town)) == ("base", 0)
    assert town.usable("grocer", ann) == 200


def test_what_is_returned_at_the_partner_is_set_off_against_what_is_spent_there_next(
    open_town: Callable[..., Town],
) -> None:
    town = open_town(LADDER + GLUE)
    ann, alias = linked(town)
    spends(town, alias, 8_000)
    for total in (2_000, 8_000):
        exchange.give_back(town.desk("grocer"), town.way("grocer", "fuel"), transfer="t-00000001", total=total)
    assert spend(town) == 8_000  # what was counted stays
    spends(town, alias, 7_000, "t-00000002")
    assert spend(town) == 8_000
    spends(town, alias, 2_500, "t-00000003")
    assert spend(town) == 9_500  # as much as was bought and kept
    assert town.usable("grocer", ann) == 95
    town.proves()


def test_points_that_came_over_by_paying_are_no_purchase(open_town: Callable[..., Town]) -> None:
    town = open_town(LADDER + GLUE)
    ann, alias = linked(town)
    town.gives("grocer", ann, 500)
    town.pay("fuel", "grocer", alias, 500)
    assert spend(town) == 0


def test_risk_sees_with_which_partner(open_town: Callable[..., Town]) -> None:
    """The partner hears nothing but that it is not possible; nothing is left behind on either side."""
    town = open_town(RISK)
    ann, alias = linked(town)
    town.gives("grocer", ann, 2_000)
    assert town.pay("fuel", "grocer", alias, 500).state == "committed"
    with pytest.raises(TallyError) as refused:
        town.pay("fuel", "grocer", alias, 501, transfer="t-00000002")
    assert refused.value.code == "coalition_not_possible"
    assert town.usable("grocer", ann) == 1_500
    hold = Message(
        action="hold",
        sender="fuel",
        at=town.now,
        transfer="t-00000003",
        kind="redeem",
        alias=alias,
        amount=501,
        version=1,
    )
    assert receive(town.desk("grocer"), hold).code == "coalition_not_possible"
    held = {"partner": "fuel", "transfer": "t-00000004", "kind": "redeem", "amount": 501, "version": 1}
    with pytest.raises(Denied):
        town.send("grocer", "coalition.held", held, member=ann)


def test_a_ladder_is_named_once() -> None:
    assert len(list(check({"ladders": [{"name": "club"}, {"name": "club", "metric": "spend"}]}))) == 1
    assert list(check({"ladders": [{"name": "club"}, {"name": "club", "metric": "fuel"}]})) == []


def test_it_asks_for_nothing_as_long_as_no_ladder_is_named() -> None:
    plugin = make_plugin("coalition_tiers", plugins={"points": {}, "coalition": {}, "tiers": {}})
    assert plugin.plugin.needs("coalition.committed") is None
