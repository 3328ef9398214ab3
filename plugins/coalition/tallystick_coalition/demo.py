"""`tally demo --coalition`: the demo's chain is two brands, a grocer and the pumps at its doors, and their books settle.

What the data calls FUEL is bought at the second brand.  Every household that comes to the pump agrees to be known there.
At the pump it pays with all hundreds of points it has at the grocer, and at the grocer with all hundreds it has at the pump;
so everything follows from the data, and playing it again gives the same.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import msgspec
from msgspec import Struct

from tallystick import demo, people
from tallystick.ledger import instant, moment
from tallystick.values import CURRENCIES

from . import agreement as agreements
from . import store
from .convoy import Note, Wish, take_many
from .desk import PLUGIN, Desk, Errand, Neighbour
from .exchange import Done
from .pages import money
from .rules import following, month_of
from .settlement import Settlement, desks_of, settle_period

GROCER: Final = "grocer"
FUEL: Final = "fuel"
#: Points that pay one dollar at either brand; whole hundreds are spent.
STEP: Final = 100
SOURCE: Final = "complete-journey"
#: What the brands agreed on: a point pays a cent at the other brand, which is paid most of it.
FLOWS: Final = (
    agreements.Flow(kind="redeem", source=GROCER, target=FUEL, rate="1", price="4/5"),
    agreements.Flow(kind="redeem", source=FUEL, target=GROCER, rate="1", price="9/10"),
)
_WORDS: Final = {
    "en": {
        "visits": "{households} households came to the pump {visits} times, for {cents}, and agreed to be known there",
        "agreement": "Agreement {label}, signed by both: one point pays one cent at the other brand", "terms": "  {source} pays {target} {price} of a cent for each",
        "paid": "Paid at {target} with points of {source}: {times} times, {points} points, {cents} off", "refused": "{n} payments were refused",
        "head": "month", "owes": "{source} owes", "net": "settled by", "pays": "{source} pays {amount}", "even": "nothing to pay",
        "agreed": "both books agree", "disputed": "the books differ", "open": "not closed",
        "position": "Net position of {brand} in all", "proof": "Proof: the last statement has root {root}, which both brands computed from their own books and signed",
    },
    "zh": {
        "visits": "{households} 户家庭在加油站消费 {visits} 次，共 {cents}，并同意由加油站以联盟码识别",
        "agreement": "协议 {label} 已由双方签署：1 积分在对方抵 1 分", "terms": "  {source} 每积分付给 {target} {price} 分",
        "paid": "在 {target} 用 {source} 的积分付款 {times} 次，共 {points} 积分，抵扣 {cents}", "refused": "{n} 笔付款被拒绝",
        "head": "账期", "owes": "{source} 应付", "net": "结算", "pays": "{source} 付 {amount}", "even": "无需付款",
        "agreed": "双方账目一致", "disputed": "账目不符", "open": "未关闭",
        "position": "{brand} 全期净额", "proof": "证明：末期对账单的根为 {root}，由双方各自依本方账目算出并签署",
    },
}  # fmt: skip


class Basket(NamedTuple):
    """One visit of the data."""

    at: datetime
    id: str
    household: str
    cents: int  #: for goods of the grocer
    fuel: int  #: for what came out of the pump


class Paid(Struct, kw_only=True):
    """What was paid at one brand with the points of the other."""

    source: str
    target: str
    times: int = 0
    points: int = 0
    cents: int = 0  #: off, for members
    refused: int = 0


class Shown(Struct, frozen=True, kw_only=True):
    """What the show came to."""

    agreement: str
    households: int  #: linked at both brands
    visits: int  #: purchases at the pump
    cents: int
    paid: Sequence[Paid]
    positions: Mapping[str, int]  #: over all months, minor units to receive (below 0: to pay)
    months: Sequence[Settlement]


def show(visit: Errand, *, limit: int | None = None, language: str = "en") -> tuple[Any, list[str]]:
    """Play the second brand over the baskets of the demo, settle every month, and say who owes whom."""
    town = _Town(visit)
    label = town.agrees()
    baskets = list(_baskets(limit))
    town.joins(baskets)
    for _, some in groupby(baskets, key=lambda basket: basket.at.date()):
        town.passes(list(some))
    months = [
        settle_period(desks_of(visit), month, visit.plugin.programme.currency)
        for month in _months(month_of(baskets[0].at), month_of(baskets[-1].at))
    ]
    positions = Counter[str]({GROCER: 0, FUEL: 0})
    for month in months:
        positions.update(month.positions)
    shown = Shown(
        agreement=label, households=len(town.known), visits=town.visits, cents=town.cents, paid=[*town.paid.values()],
        positions=positions, months=months,
    )  # fmt: skip
    return msgspec.to_builtins(shown), _lines(shown, language)


class _Town:
    """Both brands on the days of the data."""

    def __init__(self, visit: Errand) -> None:
        self.house = visit.house
        self.visits = self.cents = 0
        self.paid = {brand: Paid(source=brand, target=_other(brand)) for brand in (GROCER, FUEL)}
        self.known: dict[str, tuple[int, int]] = {}  #: by household: its member at the grocer, and at the pump
        self.codes: dict[str, str] = {}  #: of those who are linked: by which code both brands know them
        self.spent: Counter[tuple[str, str]] = Counter()  #: by brand whose points they were, and household
        self._had: dict[str, list[tuple[int, int]]] = {}

    def desk(self, brand: str, at: datetime | None = None) -> Desk:
        """A brand's desk, now or on a day of the data."""
        errand: Any = self.house.errand(PLUGIN, brand, "coalition.demo")
        if at is not None:
            errand = attrs.evolve(errand, turn=attrs.evolve(errand.turn, now=at, history=True))
        return Desk(errand)

    def agrees(self) -> str:
        """Both have a key, and have signed; the agreement that is in force."""
        desks = [self.desk(brand) for brand in (FUEL, GROCER)]
        known = desks[0].agreement(GROCER)
        if known is not None:
            return known.label
        for desk in desks:
            _make_key(Path(self.house.config.file).parent / f"{desk.brand}.key")
        agreed = agreements.Agreement(
            format="tallystick-agreement/1", name=f"{FUEL}-{GROCER}", version=1, brands=(FUEL, GROCER), currency="USD",
            keys={desk.brand: (agreements.public_key(desk.key()),) for desk in desks},
            since=datetime(2017, 1, 1, tzinfo=UTC), flows=FLOWS,
        )  # fmt: skip
        text = agreements.canonical(agreed)
        signatures = {desk.brand: agreements.sign(desk.key(), agreements.PURPOSE, text.encode()) for desk in desks}
        for desk in desks:
            data = {"partner": _other(desk.brand), "text": text, "signatures": signatures}
            desk.record("coalition.agreed", f"{agreed.label}/demo", desk.now, 0, data)
        return agreed.label

    def joins(self, baskets: Sequence[Basket]) -> None:
        """Every household that comes to the pump is a member there from its first visit on."""
        first: dict[str, datetime] = {}
        for basket in baskets:
            if basket.fuel:
                first.setdefault(basket.household, basket.at)
        secret = self.house.secret
        with self.house.db.begin() as conn:
            known = people.find(conn, secret, FUEL, list(first))
            new = [
                people.Newcomer(external_ids=(household,), joined=instant(at))
                for household, at in first.items()
                if household not in known
            ]
            people.enrol_many(conn, secret, FUEL, self.house.clock(), new)
            here, there = (people.find(conn, secret, brand, list(first)) for brand in (GROCER, FUEL))
        self.known = {household: (here[household].number, there[household].number) for household in first}
        self._had = _lots(self.house, GROCER, {number: name for name, (number, _) in self.known.items()})

    def passes(self, baskets: Sequence[Basket]) -> None:
        """One day: purchases at the pump, new links, and what is paid at either brand with points of the other."""
        evening = baskets[-1].at
        fuelled = [basket for basket in baskets if basket.fuel]
        self._link({basket.household for basket in fuelled} - self.codes.keys(), evening)
        self._buy(fuelled)
        self._pay(FUEL, GROCER, [(basket, basket.fuel) for basket in fuelled], evening)
        self._pay(GROCER, FUEL, [(b, b.cents) for b in baskets if b.household in self.codes], evening)

    def _link(self, households: Iterable[str], at: datetime) -> None:
        desks = {brand: self.desk(brand, at) for brand in (GROCER, FUEL)}
        notes: dict[str, list[Note]] = {GROCER: [], FUEL: []}
        for household in sorted(households, key=int):
            alias = desks[GROCER].alias(FUEL, self.known[household][0])
            for brand, member in zip((GROCER, FUEL), self.known[household], strict=True):
                data = {"partner": _other(brand), "alias": alias, "given": True}
                notes[brand].append(Note("coalition.consented", f"demo/{household}", at, member, data))
            self.codes[household] = alias
        for brand, some in notes.items():
            _all_right(desks[brand].record_many(some))

    def _buy(self, baskets: Sequence[Basket]) -> None:
        if not baskets:
            return
        for basket in baskets:
            self.visits += 1
            self.cents += basket.fuel
            self._has(FUEL, basket.household, basket.at, basket.fuel // 100)
        errand = self.desk(FUEL, baskets[-1].at).errand
        documents = [
            {
                "id": basket.id, "source": SOURCE, "type": "purchase.completed", "time": basket.at.isoformat(),
                "member": basket.household,
                "data": {
                    "order": basket.id, "currency": "USD",
                    "lines": [{"sku": "fuel", "amount": basket.fuel, "department": "FUEL"}],
                },
            }
            for basket in baskets
        ]  # fmt: skip
        _all_right(errand.record(documents))

    def _has(self, brand: str, household: str, at: datetime, points: int) -> None:
        self._had.setdefault(f"{brand}/{household}", []).append((instant(at), points))

    def _pay(self, target: str, source: str, visits: Iterable[tuple[Basket, int]], at: datetime) -> None:
        """At *target*, with points of *source*: all hundreds that were there before the visit, up to the price."""
        desk, paid = self.desk(target, at), self.paid[source]
        wishes = []
        for basket, price in visits:
            had = self._had.get(f"{source}/{basket.household}", ())
            left = sum(n for since, n in had if since < instant(basket.at)) - self.spent[source, basket.household]
            points = min(left, price) // STEP * STEP
            if points > 0:
                self.spent[source, basket.household] += points
                here, there = self.known[basket.household]
                member = there if target == FUEL else here
                wishes.append(
                    Wish(
                        transfer=f"{target}-{basket.id}", kind="redeem", alias=self.codes[basket.household], amount=points,
                        order=basket.id, member=member,
                    )
                )  # fmt: skip
        for wish, done in zip(wishes, take_many(desk, Neighbour(source, self.desk(source, at)), wishes), strict=True):
            if isinstance(done, Done):
                paid.times += 1
                paid.points += wish.amount
                paid.cents += done.gets
            else:
                paid.refused += 1


def _lots(house: Any, brand: str, households: Mapping[int, str]) -> dict[str, list[tuple[int, int]]]:
    """What households were given at *brand* and when, by brand and household."""
    found: dict[str, list[tuple[int, int]]] = {}
    with house.reading() as conn:
        for member, since, amount in store.list_given(conn, brand, "points"):
            if member in households:
                found.setdefault(f"{brand}/{households[member]}", []).append((since, amount))
    return found


def _baskets(limit: int | None) -> Iterator[Basket]:
    """The visits of the data in their order."""
    import polars as pl

    folder = demo.data_folder()
    rows = pl.scan_parquet(folder / "transactions.parquet")
    if limit is not None:
        first = rows.select(pl.col("basket_id").unique(maintain_order=True)).head(limit)
        rows = rows.join(first, on="basket_id", how="semi")
    products = pl.scan_parquet(folder / "products.parquet").select("product_id", "department")
    cents = (pl.col("sales_value") * 100).round().cast(pl.Int64)
    fuel = pl.col("department").fill_null("") == "FUEL"
    visits = (
        rows.join(products, on="product_id", how="left")
        .group_by("basket_id", "household_id")
        .agg(
            pl.col("transaction_timestamp").min().dt.epoch("us").alias("at"),
            cents.filter(~fuel).sum().alias("cents"), cents.filter(fuel).sum().alias("fuel"),
        )
        .sort("at", "basket_id")
    )  # fmt: skip
    for row in visits.collect().iter_rows(named=True):
        yield Basket(moment(row["at"]), str(row["basket_id"]), str(row["household_id"]), row["cents"], row["fuel"])


def _months(first: str, last: str) -> Iterator[str]:
    while first <= last:
        yield first
        first = following(first)


def _other(brand: str) -> str:
    return FUEL if brand == GROCER else GROCER


def _make_key(file: Path) -> None:
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(agreements.new_key(secrets.token_bytes(32)) + "\n", encoding="utf-8")


def _all_right(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


# --- for people --------------------------------------------------------------------------------------------------------


def _lines(shown: Shown, language: str) -> list[str]:
    words, decimals = _WORDS[language], CURRENCIES["USD"]

    def dollars(amount: int) -> str:
        return money(amount, decimals, "USD")

    lines = [
        words["visits"].format(households=f"{shown.households:,}", visits=f"{shown.visits:,}", cents=dollars(shown.cents)),
        words["agreement"].format(label=shown.agreement),
        *[words["terms"].format(source=flow.source, target=flow.target, price=flow.price) for flow in FLOWS],
    ]  # fmt: skip
    for paid in shown.paid:
        told = {"source": paid.source, "target": paid.target}
        lines.append(
            words["paid"].format(**told, times=f"{paid.times:,}", points=f"{paid.points:,}", cents=dollars(paid.cents))
        )
        lines += [words["refused"].format(n=paid.refused)] if paid.refused else []
    lines += [
        "",
        f"{words['head']:<8}"
        + "".join(f"{words['owes'].format(source=brand):>18}" for brand in (GROCER, FUEL))
        + f"   {words['net']}",
    ]
    for month in shown.months:
        rows = dict(zip(month.brands, month.matrix, strict=True))
        owed = [dollars(sum(rows.get(brand, ()))) for brand in (GROCER, FUEL)]
        pays = [words["pays"].format(source=each.source, amount=dollars(each.amount)) for each in month.payments]
        state = month.pairs[0].state if month.pairs else "open"
        lines.append(
            f"{month.period:<8}"
            + "".join(f"{each:>18}" for each in owed)
            + f"   {', '.join(pays) or words['even']}; {words[state]}"
        )
    lines += [
        "",
        *[f"{words['position'].format(brand=brand)}: {dollars(amount)}" for brand, amount in shown.positions.items()],
    ]
    roots = [pair.root for month in shown.months for pair in month.pairs if pair.state == "agreed"]
    return [*lines, words["proof"].format(root=roots[-1])] if roots else lines
