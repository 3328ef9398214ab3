"""The worker lane: the same plugin in a process of its own, where what it breaks is its own."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick import config, discovery, house, lane, people, tables
from tallystick.document import Document
from tallystick.effects import Count, Emit, Grant, Multiply
from tallystick.errors import LimitReached, PluginBroken, Refused, TallyError
from tallystick.intake import read_document
from tallystick.ledger import Record, moment
from tallystick.situation import Needs

MANIFEST = """\
id = "naughty"
api = ">=1,<2"
summary = "A plugin that does what an order tells it to."
factory = "tallystick_naughty.hooks:Naughty"
hooks = ["needs", "earn", "redeem", "react", "health"]
lane = "worker"
[interests]
redeem = ["naughty.asked"]
[effects]
Grant = { max_amount = 1000 }
Put = {}
Count = {}
[units.naughty]
[events."naughty.asked"]
facts = "tallystick_naughty.facts:Asked"
summary = "Something was asked for."
example = { order = "x" }
"""
FACTS = """\
from tallystick.events import Facts, Name
class Asked(Facts, frozen=True):
    order: Name
"""
HOOKS = """\
import os, re, signal, sys, time
from tallystick.effects import Grant, Put, Count
from tallystick.errors import LimitReached, Refused
from tallystick.hookspecs import hookimpl
from tallystick.situation import Needs

class TooNaughty(Refused):
    code = "naughty_too"

class Naughty:
    def __init__(self, settings, programme):
        self.unit = "naughty"
        self.zone = programme.zone
    @hookimpl
    def needs(self, kind):
        return Needs(own={"{member}": frozenset({"seen"})}, counters=frozenset({("naughty.n", "day")}))
    @hookimpl
    def earn(self, event, situation):
        if situation.member is None:
            return ()
        order = getattr(event.facts, "order", "")
        if "hang" in order:
            re.match(r"(a+)+$", "a" * 64 + "b")
        if "loop" in order:
            while True: pass
        if "sleep" in order:
            time.sleep(3600)
        if "work" in order:
            begun = time.process_time()
            while time.process_time() - begun < 0.6: pass
        if "exit" in order:
            os._exit(7)
        if "segv" in order:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "bye" in order:
            sys.exit(3)
        if "memory" in order:
            bytearray(4 * 1024 ** 3)
        if "print" in order:
            print("{}" * 10000, flush=True)
        if "raise" in order:
            raise ValueError("the secret of ann")
        if "type" in order:
            return {"Grant": 1}
        if "strange" in order:
            return [object()]
        if "enormous" in order:
            return "x" * 10_000_000
        seen = situation.own["{member}"].get("seen", 0) + 1
        amount = situation.chance.below(1000) if "chance" in order else 5000 if "much" in order else os.getpid() if "pid" in order else seen
        return [Grant(rule="naughty.seen", unit=self.unit, amount=amount), Put(rule="naughty.seen", name="seen", value=seen),
                Count(rule="naughty.seen", counter="naughty.n", window="day")]
    @hookimpl
    def redeem(self, event, situation):
        if "limit" in event.facts.order:
            raise LimitReached("three a day")
        if "own" in event.facts.order:
            raise TooNaughty("much too naughty")
        return ()
    @hookimpl
    def react(self, event, situation, outcome):
        if "totals" not in getattr(event.facts, "order", ""):
            return ()
        said = [outcome["naughty"], outcome["counter:naughty.n/day"], len(dict(outcome))]
        return [Put(rule="naughty.said", name="said", value=said)]
    @hookimpl
    def health(self):
        return {"ok": True}
"""
NOW = 1_795_256_100_000_000
SETTINGS = """\
[house]
database = "URL"
[tenants.shop]
zone = "Asia/Shanghai"
currency = "USD"
[tenants.shop.plugins.points]
[[tenants.shop.plugins.points.earn]]
name = "base"
points = 1
per = 100
[tenants.shop.plugins.naughty]
"""


class Shop:
    def __init__(self, url: str, settings: str = SETTINGS) -> None:
        self.installed = {n: p for n, p in discovery.discover().items() if n in ("points", "naughty")}
        self.now, self.count = NOW, 0
        checked = config.check(Document(settings.replace("URL", url)), installed=self.installed)
        house.prepare(checked, installed=self.installed)
        self.house = house.build_house(checked, installed=self.installed, clock=lambda: self.now)
        with self.house.db.begin() as conn:
            people.enrol(conn, self.house.secret, "shop", NOW, external_ids=["ann"])

    def says(self, kind: str, **data: Any) -> Record:
        self.count += 1
        self.now += 1_000_000
        document = {
            "id": f"e-{self.count}", "source": "till", "type": kind, "time": moment(self.now).isoformat(), "member": "ann",
            "data": data,
        }  # fmt: skip
        kinds = self.house.kinds("shop")
        (found,) = self.house.engine.record(
            [read_document(document, tenant="shop", kinds=kinds, received=moment(self.now))]
        )
        if isinstance(found, TallyError):
            raise found
        return found.record

    def buys(self, order: str = "", cents: int = 700) -> Record:
        order = f"{self.count} {order}"
        return self.says(
            "purchase.completed", order=order, currency="USD", lines=[{"sku": "A", "amount": cents}]
        )  # fmt: skip

    def at_once(self, *events: tuple[str, str, dict[str, Any]]) -> list[Any]:
        """One batch of (member, kind, data): the record of each, or the refusal."""
        self.now += 1_000_000
        kinds, arrivals = self.house.kinds("shop"), []
        for member, kind, data in events:
            self.count += 1
            document = {
                "id": f"e-{self.count}", "source": "till", "type": kind, "time": moment(self.now).isoformat(), "member": member,
                "data": data,
            }  # fmt: skip
            arrivals.append(read_document(document, tenant="shop", kinds=kinds, received=moment(self.now)))
        return [getattr(each, "record", each) for each in self.house.engine.record(arrivals)]

    @property
    def apart(self) -> lane.Apart:
        (found,) = [p.plugin for p in self.house.registry.latest("shop").pipeline.parts if p.id == "naughty"]
        assert isinstance(found, lane.Apart)
        return found

    def until_it_answers(self) -> None:
        """A process that was killed is started beside; everybody else goes on meanwhile."""
        beside = self.apart.worker._starting
        if beside is not None:
            beside.join(60)
        assert gained(self.buys(), "naughty"), "the process did not come back"


def gained(record: Record, unit: str) -> int:
    return sum(step.amount for step in record.explanation if step.unit == unit)


@pytest.fixture
def naughty(site: Any) -> None:
    folder = site.install("naughty", code="", manifest=MANIFEST)
    (folder / "hooks.py").write_text(HOOKS)
    (folder / "facts.py").write_text(FACTS)


@pytest.fixture
def shop(naughty: None, sqlite_url: str) -> Iterator[Shop]:
    found = Shop(sqlite_url)
    with found.house.watchdog:
        yield found
    found.house.db.dispose()


def test_it_runs_in_another_process_which_ends_with_the_last_who_needs_it(shop: Shop) -> None:
    worker = shop.apart.worker
    assert (worker.started, worker.pid != os.getpid()) == (1, True)
    assert gained(shop.buys(), "naughty") == 1
    assert gained(shop.buys(), "naughty") == 2
    assert shop.apart.health() == {"ok": True}, "what is no pure hook is asked here"
    pid = worker.pid
    worker.forget(shop.apart._making.number)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "order, cause, error",
    [
        ("hang", "overran", "ran longer"),
        ("loop", "overran", "ran longer"),
        ("sleep", "overran", "ran longer"),
        ("exit", "raised", "its process has ended (exit status 7)"),
        ("bye", "raised", "its process has ended (exit status 3)"),
        ("segv", "raised", "its process has ended (SIGSEGV)"),
        ("memory", "raised", "MemoryError"),
        ("raise", "raised", "ValueError in tallystick_naughty.hooks:"),
        ("type", "refused", "dict"),
        ("strange", "refused", "object"),
        ("much", "refused", "from 0 to 1000"),
        ("enormous", "raised", "bytes"),
    ],
)
def test_what_it_breaks_is_its_own(shop: Shop, order: str, cause: str, error: str) -> None:
    assert gained(shop.buys(), "naughty") == 1
    record = shop.buys(order)
    assert gained(record, "points") == 7, "everybody else goes on"
    assert {skipped["plugin"] for skipped in record.skipped} == {"naughty"}
    skipped = record.skipped[0]
    assert (skipped["plugin"], skipped["hook"], skipped["cause"]) == ("naughty", "earn", cause)
    assert error in skipped["error"]
    assert "secret" not in skipped["error"]
    shop.until_it_answers()
    (health,) = [
        h for h in shop.house.registry.latest("shop").pipeline.health() if (h.plugin, h.hook) == ("naughty", "earn")
    ]
    assert health.errors >= 1


def test_patience_is_not_lost_on_who_only_lacks_a_processor(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "PATIENCE", 0.2)
    monkeypatch.setattr(lane, "BUDGET", 10.0)
    assert gained(shop.buys("work"), "naughty") == 1
    assert shop.buys("sleep").skipped[0]["cause"] == "overran"


def test_what_a_dead_process_kept_back_is_repaired(shop: Shop) -> None:
    shop.buys("exit")
    shop.until_it_answers()
    # an order that kills whoever judges it stays, and nobody else's does
    done = shop.house.repair("shop")
    assert [each.entry for each in done.waiting] == [
        row.entry for row in done.waiting if "its process has ended" in row.why
    ]
    assert len(done.waiting) == 1


def test_refusals_pass_by_their_code(shop: Shop) -> None:
    with pytest.raises(LimitReached, match="three a day"):
        shop.says("naughty.asked", order="limit")
    with pytest.raises(Refused, match="much too naughty") as refused:
        shop.says("naughty.asked", order="own")
    assert refused.value.code == "naughty_too"


def test_what_follows_is_read_there_as_here(shop: Shop) -> None:
    shop.buys("totals")
    with shop.house.db.connect() as conn:
        (value,) = conn.scalars(sa.select(tables.own.c.value).where(tables.own.c.name == "said"))
    assert value == "[1,1,2]"


def test_chance_is_drawn_there_as_here(naughty: None, site: Any, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a secret that is long enough for everybody")
    manifest = site.folder / "tallystick_naughty" / "plugin.toml"
    drawn = []
    for name in ("worker", "house"):
        manifest.write_text(MANIFEST.replace("worker", name))
        text = SETTINGS.replace("[house]", f'[house]\nsecret_file = "{tmp_path / "s"}"')
        found = Shop(f"sqlite:///{tmp_path / name}.db", text)
        record = found.buys("chance")
        drawn.append((gained(record, "naughty"), record.seed))
        found.house.db.dispose()
    assert drawn[0][1]
    assert drawn[0] == drawn[1]


def test_what_cannot_be_made_is_broken_by_name(naughty: None, site: Any, sqlite_url: str) -> None:
    (site.folder / "tallystick_naughty" / "hooks.py").write_text(
        HOOKS.replace('self.unit = "naughty"', f"import os; os.getpid() != {os.getpid()} and os._exit(9)")
    )
    with pytest.raises(PluginBroken, match=r"naughty could not be made apart: its process has ended \(exit status 9\)"):
        Shop(sqlite_url).house.kinds("shop")


def test_points_come_out_equal_on_both_lanes(tmp_path: Path) -> None:
    said = SETTINGS.replace("[tenants.shop.plugins.naughty]\n", "") + (
        '[[tenants.shop.plugins.points.earn]]\nname = "twice"\nkind = "multiply"\nfactor = "1.5"\nwhen = "purchase.total >= 1000"\n'
        '[[tenants.shop.plugins.points.earn]]\nname = "most"\nkind = "cap"\nlimit = 120\nwindow = "day"\n'
        "[tenants.shop.plugins.points.redeem]\npoints = 1\ngives = 1\n"
        '[tenants.shop.plugins.points.expiry]\npolicy = "rolling"\nafter = "P30D"\n'
    )
    found: dict[str, list[Any]] = {}
    for name, text in (("here", said), ("apart", said.replace('zone = "A', 'worker_lane = ["points"]\nzone = "A'))):
        shop = Shop(f"sqlite:///{tmp_path / name}.db", text)
        (part,) = shop.house.registry.latest("shop").pipeline.parts
        assert isinstance(part.plugin, lane.Apart) is (name == "apart")
        chance, story = random.Random(5), found.setdefault(name, [])
        for step in range(60):
            try:
                if chance.random() < 0.7:
                    record = shop.buys(cents=chance.randrange(5_000))
                elif chance.random() < 0.5:
                    record = shop.says("points.redeemed", points=chance.randrange(1, 60))
                else:
                    record = shop.says("purchase.refunded", order=f"{step - 1} ", amount=chance.randrange(900))
                counted = [each[1:] for each in record.counts]
                story.append((record.explanation, record.balances, counted, record.gives))
            except TallyError as error:
                story.append((error.code, error.message))
            shop.now += chance.randrange(10**11)
        shop.house.db.dispose()
    assert found["here"] == found["apart"]
    assert len({str(each) for each in found["here"]}) > 30


def bought(member: str, order: str, cents: int = 700) -> tuple[str, str, dict[str, Any]]:
    return member, "purchase.completed", {"order": order, "currency": "USD", "lines": [{"sku": "A", "amount": cents}]}


def crowd(shop: Shop, size: int) -> list[str]:
    names = [f"c-{n}" for n in range(size)]
    with shop.house.db.begin() as conn:
        for name in names:
            people.enrol(conn, shop.house.secret, "shop", NOW, external_ids=[name])
    return names


def test_a_batch_takes_one_round_trip_for_all_its_events(shop: Shop) -> None:
    """`earn` of a hundred events is one message; `react`, which sees what each came to, is one each."""
    names = crowd(shop, 100)
    shop.at_once(*[bought(name, f"first {name}") for name in names[:2]])  # the plan is made, needs are known
    worker = shop.apart.worker
    before = worker.trips
    records = shop.at_once(*[bought(name, name) for name in names])
    assert [gained(record, "naughty") for record in records] == [2, 2] + [1] * 98
    assert worker.trips - before == 1 + len(names)


def test_an_event_that_finds_something_else_than_was_foreseen_asks_anew(shop: Shop) -> None:
    records = shop.at_once(*[bought("ann", f"order {n}") for n in range(20)])
    assert [gained(record, "naughty") for record in records] == [*range(1, 21)]


@pytest.mark.parametrize("order", ["hang", "exit", "enormous"])
def test_one_event_of_a_batch_that_breaks_the_process_leaves_those_before_it_alone(shop: Shop, order: str) -> None:
    names = crowd(shop, 9)
    shop.at_once(bought(names[0], "first"))
    records = shop.at_once(*[bought(name, f"{name} {order if n == 4 else ''}") for n, name in enumerate(names)])
    assert [gained(record, "points") for record in records] == [7] * 9, "everybody else goes on"
    assert [gained(record, "naughty") for record in records[:4]] == [2, 1, 1, 1]
    skipped = [each["error"] for record in records for each in record.skipped if each["hook"] == "earn"]
    assert "being started" not in skipped[0]
    assert {each["plugin"] for record in records for each in record.skipped} == {"naughty"}
    assert all(not gained(record, "naughty") for record in records[4:5])
    shop.until_it_answers()
    assert not shop.house.repair("shop", dry_run=True).nothing


STEPS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["c-0", "c-1", "c-2"]), st.sampled_from(["", "", "", "raise", "much", "chance", "totals", "type", "back", "limit"]), st.integers(0, 3_000)),
        min_size=1, max_size=6,
    ),
    min_size=1, max_size=3,  # fewer failures than open a breaker
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_stands_in_a_batch_comes_out_equal_on_both_lanes(
    both_lanes: tuple[Shop, Shop], steps: list[list[tuple[str, str, int]]]
) -> None:
    """Foreseen or not: the same question has the same answer, and what changed meanwhile is asked again."""
    told: list[list[Any]] = []
    for shop in both_lanes:
        story: list[Any] = []
        told.append(story)
        shop.house.registry.latest("shop").pipeline.reset("naughty")
        for step in steps:
            batch = []
            for member, what, cents in step:
                order = f"{shop.count} {len(batch)} {what}"
                if what == "back" and batch:
                    batch.append((member, "purchase.refunded", {"order": batch[-1][2]["order"], "amount": cents // 2}))
                elif what == "limit":
                    batch.append((member, "naughty.asked", {"order": order}))
                else:
                    batch.append(bought(member, order, cents))
            for record in shop.at_once(*batch):
                if isinstance(record, TallyError):
                    story.append((record.code, record.message))
                    continue
                skipped = [(each["plugin"], each["hook"], each["cause"]) for each in record.skipped]
                story.append(
                    (
                        record.explanation,
                        record.balances,
                        [each[1:] for each in record.counts],
                        record.seed,
                        record.status,
                        skipped,
                    )
                )
    assert told[0] == told[1]


@pytest.fixture
def both_lanes(naughty: None, site: Any, tmp_path: Path) -> Iterator[tuple[Shop, Shop]]:
    (tmp_path / "s").write_text("a secret that is long enough for everybody")
    manifest, shops = site.folder / "tallystick_naughty" / "plugin.toml", []
    for name in ("worker", "house"):
        manifest.write_text(MANIFEST.replace("worker", name))
        shop = Shop(
            f"sqlite:///{tmp_path / name}.db",
            SETTINGS.replace("[house]", f'[house]\nsecret_file = "{tmp_path / "s"}"'),
        )
        shop.house.kinds("shop")
        crowd(shop, 3)
        shops.append(shop)
    assert isinstance(shops[0].apart, lane.Apart)
    yield shops[0], shops[1]
    for shop in shops:
        shop.house.db.dispose()


class Bag:
    pass


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 1 << 61, 1 << 62, -(1 << 90), 1.5, "text", [], [1, [2]], (1, (2,)), frozenset({1, "a"}), Decimal("1.10"),
        Fraction(1, 3), datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC), date(2025, 1, 2), {"a": {1: (2,)}},
        Grant(rule="a.b", unit="u", amount=3, lines=((0, 5),), expires_at=datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=1)),
        Multiply(rule="a.b", unit="u", factor=Fraction(3, 2), lines=frozenset({1})),
        [Count(rule="a.b", counter="c", window="day"), Emit(rule="a.b", kind="k", facts={"x": [1]})],
        Needs(own={"k": frozenset({"n"})}, counters=frozenset({("c", "day")})),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_answers_come_back_as_they_were(value: Any) -> None:
    back = lane.unpack(lane.pack(value))
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize("value", [object(), Bag(), Bag, {1, 2}, b"x", lambda: 1, 1 << 5_000], ids=range(7))
def test_what_has_no_place_in_an_answer_does_not_come_through(value: Any) -> None:
    back = lane.unpack(lane.pack(value))
    assert isinstance(back, lane._Strange)


@pytest.mark.parametrize(
    "said",
    [["x", 1], ["e", "os", {}], ["e", "Grant", {"amount": 1}], ["D", "x"], [], ["i", []], ["T", "never"]],
    ids=range(7),
)
def test_what_was_not_packed_here_is_refused(said: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, IndexError, ArithmeticError)):
        lane.unpack(said)
