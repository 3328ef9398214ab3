"""Every hook x every fault, through the real engine: the books are right, the others' results stand, the culprit is named."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.tests.lab import KINDS, Lab, Puppet
from tallystick import config, database, discovery, people, proofs
from tallystick.document import Document
from tallystick.effects import EFFECTS, Bonus, Count, Effect
from tallystick.errors import PluginBroken, PluginFailed, Refused, TallyError
from tallystick.generation import Generation
from tallystick.hookspecs import hookimpl
from tallystick.house import House, build_house, prepare
from tallystick.intake import read_document
from tallystick.ledger import Record
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, compile_pipeline
from tallystick.situation import Needs
from tallystick.watchdog import Watchdog
from tallystick.wellness import Rounds, Visit

ALL = ("*",)


def loop(**_: Any) -> Any:
    while True:
        pass


def boom(**_: Any) -> Any:
    raise ValueError("the secret of ann")


def bye(**_: Any) -> Any:
    sys.exit(3)


def change(**given: Any) -> Any:
    given["event"].member = 2


def mine(**more: Any) -> Count:
    return Count(**{"rule": "culprit.x", "counter": "c", "window": "day", **more})


#: fault -> what the hook does, and what it is called
FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (boom, "raised"),
    "hangs": (loop, "overran"),
    "wrong type": (lambda **_: {"Count": 1}, "refused"),
    "out of bounds": (lambda **_: [mine(amount=101)], "refused"),
    "too many": (lambda **_: [mine()] * 4, "refused"),
    "another's member": (lambda **_: [Bonus(rule="culprit.x", unit="points", amount=1, to=4711)], "refused"),
    "an undeclared unit": (lambda **_: [Bonus(rule="culprit.x", unit="gold", amount=1)], "refused"),
    "changes its input": (change, "raised"),
    "tries to end the process": (bye, "raised"),
}
HOOKS = ("needs", "earn", "redeem", "reverse", "review", "evaluate_tier", "react")


class Culprit:
    """A plugin of which one hook does what a fault says."""

    hook = ""
    fault: Callable[..., Any] = staticmethod(lambda **_: None)

    def _ask(self, hook: str, **given: Any) -> Any:
        return self.fault(**given) if hook == self.hook else []

    @hookimpl
    def needs(self) -> Any:
        if self.hook == "needs":
            return self.fault(event=_Frozen())
        return Needs()

    @hookimpl
    def earn(self, event: Any) -> Any:
        return self._ask("earn", event=event)

    @hookimpl
    def redeem(self, event: Any) -> Any:
        return self._ask("redeem", event=event)

    @hookimpl
    def reverse(self, event: Any) -> Any:
        return self._ask("reverse", event=event)

    @hookimpl
    def review(self, event: Any) -> Any:
        return self._ask("review", event=event)

    @hookimpl
    def evaluate_tier(self, event: Any) -> Any:
        return self._ask("evaluate_tier", event=event)

    @hookimpl
    def react(self, event: Any) -> Any:
        return self._ask("react", event=event)


class _Frozen:
    __slots__ = ()


class Town(Lab):
    """A laboratory where a culprit runs before the plugin that behaves."""

    culprit = Culprit()

    def compile(self, number: int, since: int, puppet: Puppet | None = None) -> Generation:
        made = super().compile(number, since, puppet)
        grants = {**dict.fromkeys(EFFECTS, Bounds()), "Count": Bounds(max_per_event=100, max_count=3)}
        bad = Part(
            id="culprit", version="6.6", plugin=self.culprit, grants=grants, interests={"redeem": ("lab.spent",)}
        )
        pipeline = compile_pipeline([bad, *made.pipeline.parts], KINDS, made.programme)
        return Generation(programme=made.programme, pipeline=pipeline, kinds=KINDS, since=since)

    def break_it(self, hook: str, fault: str) -> None:
        self.culprit = Culprit()
        self.culprit.hook, self.culprit.fault = hook, FAULTS[fault][0]
        self.recompile()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(f"sqlite:///{tmp_path_factory.mktemp('matrix') / 'tally.db'}")
    town.enrol("ann", "bob")
    with Watchdog():
        yield town
    town.db.dispose()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hook", HOOKS)
def test_the_books_are_right_the_others_stand_and_the_culprit_is_named(town: Town, hook: str, fault: str) -> None:
    town.break_it("", "raises")
    town.wait(days=1)
    town.gain("ann", 50)
    before = town.usable("ann")
    town.break_it(hook, fault)
    cause = "sat_out" if hook == "needs" else FAULTS[fault][1]
    order = f"{hook}/{fault}"

    sale = town.buy("ann", 10_000, order)
    assert step_of(sale, "lab.base") == 100
    back = town.refund(order, amount=5_000)
    assert step_of(back, "lab.base") == -50
    spent: Record | TallyError
    try:
        spent = town.spend("ann", 10)
    except (PluginFailed, Refused, TallyError) as error:
        spent = error
    held = isinstance(spent, Record) and spent.status == "held"

    if hook in ("redeem", "needs"):
        assert isinstance(spent, TallyError), "nothing is spent without whoever decides about it"
        assert spent.details["plugin"] == "culprit"
    elif hook == "review":
        assert held, "what takes is held for a person"
        town.void(spent.entry)  # type: ignore[union-attr]
    else:
        assert isinstance(spent, Record)
        assert spent.status == "recorded"
    taken = 0 if hook in ("redeem", "needs", "review") else 10
    assert town.usable("ann") == before + 50 - taken

    records = [sale, back, *([spent] if isinstance(spent, Record) else [])]
    skipped = [each for record in records for each in record.skipped]
    asked = hook if hook != "needs" else None
    if hook != "redeem":
        assert skipped
    assert {each["plugin"] for each in skipped} <= {"culprit"}
    assert {each["cause"] for each in skipped if asked in (None, each["hook"])} <= {cause}
    assert "secret" not in str(skipped)
    (health,) = [h for h in town.generation.pipeline.health() if (h.plugin, h.hook) == ("culprit", hook)]
    assert health.errors > 0
    assert health.last_error
    assert all(not h.errors for h in town.generation.pipeline.health() if h.plugin == "lab")
    town.check()
    with database.reading(town.db) as conn:
        assert proofs.verify(conn).findings == ()


def step_of(record: Record, rule: str) -> int:
    return sum(step.amount for step in record.explanation if step.rule == rule)


def test_after_the_matrix_the_house_serves_as_before(town: Town) -> None:
    town.break_it("", "raises")
    town.now = max(town.now, datetime(2026, 1, 1, tzinfo=UTC))
    before = town.usable("bob")
    town.buy("bob", 10_000, "last")
    assert town.usable("bob") == before + 100
    effects: list[Effect] = []
    assert effects == list(town.culprit.earn(None))


# --- what runs after the commit, by the clock and for the operator ----------------------------------------------------

AFTER = """\
id = "{id}"
api = ">=1,<2"
summary = "A plugin."
factory = "tallystick_{id}:Plugin"
hooks = ["committed", "export_member", "erase_member", "health"]
[jobs."{id}.daily"]
run = "tallystick_{id}:daily"
every = "PT1H"
"""
LEARNS = """\
from tallystick.hookspecs import hookimpl
FAULT, asked = None, []
def _ask(what):
    asked.append(what)
    if FAULT is not None:
        FAULT()
def daily(errand):
    _ask("job")
class Plugin:
    @hookimpl
    def committed(self, batch):
        _ask("committed")
    @hookimpl
    def export_member(self, member):
        _ask("export_member")
        return {"kept": member}
    @hookimpl
    def erase_member(self, member):
        _ask("erase_member")
        return True
    @hookimpl
    def health(self):
        _ask("health")
        return {"ok": True}
"""
SHOP = """\
[house]
database = "{url}"
data_dir = "{folder}"
[tenants.shop]
zone = "UTC"
currency = "USD"
[tenants.shop.plugins.ash]
[tenants.shop.plugins.birch]
"""


HAPPENED = datetime(2026, 1, 5, 10, tzinfo=UTC)


def kill(**_: Any) -> Any:
    raise BaseException("not even an Exception")  # noqa: TRY002


@pytest.fixture
def grove(sqlite_url: str, tmp_path: Path, site: Any) -> Iterator[House]:
    """A house with the plugins ash, which a test breaks, and birch, which comes after it."""
    for name in ("ash", "birch"):
        site.install(name, code=LEARNS, manifest=AFTER)
    installed = {name: found for name, found in discovery.discover().items() if name in ("ash", "birch")}
    text = SHOP.format(url=sqlite_url, folder=tmp_path.as_posix())
    checked = config.check(Document(text), installed=installed)
    prepare(checked, installed=installed)
    with build_house(checked, installed=installed, alone=True) as house:
        with house.db.begin() as conn:
            people.enrol(conn, house.secret, "shop", house.clock(), external_ids=["ann"])
        house.record(
            [read_document(PURCHASE, tenant="shop", kinds=house.kinds("shop"), received=HAPPENED)], history=True
        )
        yield house


PURCHASE = {
    "id": "1", "source": "till", "type": "purchase.completed", "time": "2026-01-05T10:00:00Z", "member": "ann",
    "data": {"order": "R-1", "currency": "USD", "lines": [{"sku": "TEA", "amount": 100}]},
}  # fmt: skip
OUTSIDE = {"raises": boom, "tries to end the process": bye, "is no Exception": kill}


def failing(house: House) -> dict[tuple[str, str], str]:
    return {(each.plugin, each.hook): each.last_error for each in house.registry.health() if each.errors}


@pytest.mark.parametrize("fault", OUTSIDE)
def test_whoever_fails_after_the_commit_keeps_nobody_else_from_learning(grove: House, fault: str) -> None:
    ash, birch = sys.modules["tallystick_ash"], sys.modules["tallystick_birch"]
    ash.FAULT = OUTSIDE[fault]  # type: ignore[attr-defined]
    with pytest.raises(PluginFailed, match="ash failed in committed"):
        grove.relay()
    assert birch.asked == ["committed"]
    assert list(failing(grove)) == [("ash", "committed")]
    assert "secret" not in failing(grove)["ash", "committed"]
    ash.FAULT = None  # type: ignore[attr-defined]
    grove.relay()
    assert ash.asked == ["committed", "committed"], "what it could not take comes again"
    assert birch.asked == ["committed"]


def test_whoever_goes_on_failing_after_the_commit_is_asked_less_and_less(grove: House) -> None:
    ash = sys.modules["tallystick_ash"]
    ash.FAULT = boom  # type: ignore[attr-defined]
    for _ in range(30):
        with contextlib.suppress(PluginFailed):
            grove.relay()
    assert len(ash.asked) == 20
    assert [each.state for each in grove.registry.health() if each.plugin == "ash"] == ["open"]


@pytest.mark.parametrize("fault", OUTSIDE)
def test_a_job_that_fails_keeps_no_other_waiting_and_is_named(grove: House, fault: str) -> None:
    ash, birch = sys.modules["tallystick_ash"], sys.modules["tallystick_birch"]
    ash.FAULT = OUTSIDE[fault]  # type: ignore[attr-defined]
    with pytest.raises(PluginFailed, match="ash failed in"):
        grove.run_jobs(force=True)
    assert sorted(birch.asked) == ["committed", "job"]
    assert ("ash", "ash.daily") in failing(grove)


def test_a_job_that_cannot_be_imported_keeps_no_other_waiting(grove: House) -> None:
    del sys.modules["tallystick_ash"].daily
    with pytest.raises(PluginBroken, match="cannot import tallystick_ash:daily"):
        grove.run_jobs(force=True)
    assert "job" in sys.modules["tallystick_birch"].asked


@pytest.mark.parametrize("fault", OUTSIDE)
def test_an_erasure_is_done_and_says_who_has_not_forgotten(grove: House, fault: str) -> None:
    with grove.reading() as conn:
        number = people.load(conn, grove.secret, "shop", "ann").number
    sys.modules["tallystick_ash"].FAULT = OUTSIDE[fault]  # type: ignore[attr-defined]
    with pytest.raises(PluginFailed, match="ash failed in export_member"):
        grove.export("shop", number)
    receipt = grove.erase("shop", number)
    assert receipt.plugins == {"ash": False, "birch": True}
    assert not receipt.complete
    sys.modules["tallystick_ash"].FAULT = None  # type: ignore[attr-defined]
    assert grove.erase("shop", number).complete


@pytest.mark.parametrize("fault", OUTSIDE)
def test_whoever_cannot_say_how_it_is_is_not_well(grove: House, fault: str) -> None:
    assert grove.unwell() == []
    sys.modules["tallystick_ash"].FAULT = OUTSIDE[fault]  # type: ignore[attr-defined]
    assert grove.unwell() == [], "asked once in a while, however often somebody wants to know"
    grove._rounds = Rounds()  # as after that while
    assert grove.unwell() == ["ash"]


def test_whoever_hangs_when_asked_how_it_is_keeps_nobody_waiting_and_is_not_asked_again() -> None:
    let_go, asked = threading.Event(), []

    def hang() -> None:
        asked.append(1)
        let_go.wait()

    rounds = Rounds(every=0, patience=0)
    assert rounds.unwell({"ash": hang}) == {"ash": "does not say how it is within 0 seconds"}
    assert rounds.unwell({"ash": hang}) == {"ash": "does not say how it is within 0 seconds"}
    assert asked == [1]
    let_go.set()


@pytest.mark.parametrize(
    "said, why",
    [
        (None, ""),
        ({}, ""),
        ({"ok": True, "queue": 3}, ""),
        ({"ok": False, "queue": 3}, "says that it is not well: {'ok': False, 'queue': 3}"),
        ("fine", 'answers str in health; expected None or a mapping such as {"ok": true}'),
        (True, 'answers bool in health; expected None or a mapping such as {"ok": true}'),
    ],
)
def test_what_a_plugin_says_of_itself(said: Any, why: str) -> None:
    assert Visit(lambda: said).why() == why
