"""Random lives of a small shop: whatever is bought, returned, redeemed and given in whatever order, the books prove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.errors import Refused, TallyError

from .conftest import Shop

SHOP = """
[expiry]
policy = "rolling"
after = "P2M"
end_of = "month"

[redeem]
points = 10
gives = 10
limits = [{ window = "P7D", points = 5000 }]

[gift]
limits = [{ window = "month", times = 3 }]

[adjust]
approve_above = 1000

[[earn]]
name = "base"
points = 1
per = 100

[[earn]]
name = "coffee"
points = 3
per = 200
lines = 'line.category == "COFFEE"'
pending = { days = 10 }

[[earn]]
name = "double"
kind = "multiply"
factor = "2"
when = "today.weekday >= 6"

[[earn]]
name = "monthly"
kind = "cap"
limit = 2000
window = "month"

[[earn]]
name = "bands"
over = "month"
bands = [{ from = 0, points = 0, per = 1 }, { from = 100000, points = 1, per = 1000 }]
"""
MEMBERS = ("ada", "ben")

members = st.sampled_from(MEMBERS)
steps = st.one_of(
    st.tuples(st.just("buys"), members, st.lists(st.integers(0, 50_000), min_size=1, max_size=3), st.booleans()),
    st.tuples(st.just("returns"), st.integers(0, 5), st.none() | st.integers(1, 60_000)),
    st.tuples(st.just("returns line"), st.integers(0, 5), st.integers(0, 2), st.integers(1, 60_000)),
    st.tuples(st.just("redeems"), members, st.integers(1, 3000), st.integers(0, 5)),
    st.tuples(st.just("gives"), members, st.integers(1, 500)),
    st.tuples(st.just("adjusts"), members, st.integers(-300, 300).filter(bool)),
    st.tuples(st.just("waits"), st.integers(1, 45)),
    st.tuples(st.just("sweeps")),
)


class Life:
    """Plays steps in a shop; what may be refused may be refused, and nothing else goes wrong."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.orders: list[str] = []
        shop.joins(*MEMBERS)

    def play(self, step: tuple[Any, ...]) -> None:
        verb, *rest = step
        try:
            getattr(self, verb.replace(" ", "_"))(*rest)
        except Refused:
            pass
        except TallyError as error:
            if error.code not in ("invalid_event", "unknown_order"):
                raise

    def buys(self, member: str, amounts: list[int], coffee: bool) -> None:
        order = f"order-{len(self.orders)}"
        lines = [{"sku": "S", "amount": amount, "category": "COFFEE" if coffee else ""} for amount in amounts]
        assert self.shop.buys(member, lines=lines, order=order) >= 0
        self.orders.append(order)

    def order(self, back: int) -> str:
        return self.orders[-1 - back] if back < len(self.orders) else f"future-{back}"

    def returns(self, back: int, amount: int | None) -> None:
        self.shop.returns(self.order(back), **({} if amount is None else {"amount": amount}))

    def returns_line(self, back: int, line: int, amount: int) -> None:
        self.shop.returns(self.order(back), lines=[{"line": line, "amount": amount}])

    def redeems(self, member: str, points: int, back: int) -> None:
        gives = self.shop.redeems(member, points, order=self.order(back) if back else "")
        assert gives["discount"] == gives["points"] <= points

    def gives(self, member: str, points: int) -> None:
        self.shop.says("points.gifted", member, to=MEMBERS[1 - MEMBERS.index(member)], points=points)

    def adjusts(self, member: str, points: int) -> None:
        self.shop.adjusts(member, points)

    def waits(self, days: int) -> None:
        self.shop.wait(days=days)

    def sweeps(self) -> None:
        self.shop.sweeps()


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: tmp_path_factory.mktemp("life") / "books.db"


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(steps, min_size=5, max_size=30))
def test_the_books_prove_after_any_life(fresh: Callable[[], Path], played: list[tuple[Any, ...]]) -> None:
    shop = Shop(f"sqlite:///{fresh()}", SHOP)
    life = Life(shop)
    for step in played:
        life.play(step)
    shop.assert_in_order()
    # all goods come back: nobody keeps a point that an order gave
    for order in life.orders:
        shop.returns(order)
    for number in range(6):
        life.play(("returns", number, None))
    shop.assert_in_order()
    shop.house.db.dispose()


def test_s06_buying_and_returning_fifty_times_ends_where_it_began(fresh: Callable[[], Path]) -> None:
    """A member with a birthday, a welcome, caps and bands: fifty rounds of buy, collect, return leave nothing behind."""
    more = (
        SHOP
        + '[[earn]]\nname = "birthday"\nkind = "multiply"\nfactor = "2"\nwhen = "birthday_today"\n'
        + '[[earn]]\nname = "flat"\nkind = "bonus"\npoints = 25\nwhen = "counter.orders < 5"\n[counters.orders]\nwindow = "lifetime"\n'
    )
    shop = Shop(f"sqlite:///{fresh()}", more)
    shop.joins("ada", birthday="1990-01-01")
    first = shop.buys("ada", 20_000, 90_000, order="first")
    assert first == 2000, "capped in the month"
    assert shop.returns("first") == -first
    for number in range(50):
        order = f"order-{number}"
        assert shop.buys("ada", 20_000, 90_000, order=order) == first
        half = shop.returns(order, amount=55_000)
        assert half + shop.returns(order) == -first
    assert (shop.usable("ada"), shop.posted("ada"), shop.lots("ada")) == (0, 0, [])
    shop.assert_in_order()
    shop.house.db.dispose()
