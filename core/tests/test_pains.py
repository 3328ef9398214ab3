"""Twenty pains that authors and integrators of plugins report of other systems, and that nobody shall have here.

One test each, named after the pain; `docs/explanation/twenty-pains.md` says where each was reported and what we do.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from tallystick import config, database, discovery, doctor, house, migrate, people, proofs, switchboard
from tallystick.cli import cli
from tallystick.config import Config
from tallystick.document import Document
from tallystick.effects import Effect, Grant, Multiply
from tallystick.errors import InvalidManifest, PluginBroken, PluginFailed, TallyError, TenantNotServed
from tallystick.events import CORE_KINDS
from tallystick.hookspecs import hookimpl
from tallystick.intake import read_document
from tallystick.ledger import Record, moment
from tallystick.manifest import API_VERSION, Bounds, Manifest, from_document
from tallystick.pipeline import Part, Pipeline, compile_pipeline
from tallystick.resolve import diff_locks, lock, resolve
from tallystick.settle import settle
from tallystick.situation import Chance, Programme, Situation, Unit
from tallystick.testing import make_event, make_purchase
from tallystick.watchdog import Watchdog

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "twenty-pains.md"
NOW = 1_795_256_100_000_000


def test_every_pain_on_the_page_has_its_test_and_every_test_its_pain() -> None:
    named = re.findall(r"`test_pains\.py::(\w+)`", PAGE.read_text())
    here = [name for name in globals() if name.startswith("test_pain_")]
    assert sorted(named) == sorted(here)
    assert [int(name[10:12]) for name in here] == [*range(1, 21)]


# --- what the tests are made of --------------------------------------------------------------------------------------

PLATE = 'id = "{id}"\napi = ">=1,<2"\nsummary = "A plugin."\n'
GIVES = PLATE + 'factory = "tallystick_{id}:Plugin"\nhooks = ["earn"]\n[effects]\nGrant = {}\n[units.{id}]\n'
#: A plugin that grants one of its own unit for each purchase.
GIVING = """\
from tallystick.effects import Grant
from tallystick.hookspecs import hookimpl

class Plugin:
    @hookimpl
    def earn(self, event, situation):
        if event.kind != "purchase.completed" or situation.member is None:
            return ()
        return [Grant(rule="{id}.purchase", unit="{id}", amount=1)]
"""
KINDS = {kind.name: kind for kind in CORE_KINDS}
PROGRAMME = Programme(
    tenant="shop", generation=1, hash="", zone=ZoneInfo("UTC"), currency="USD", units={"points": Unit(name="points")}
)
EVENT = make_event(make_purchase("10.00"))
SITUATION = Situation(
    now=EVENT.received, programme=PROGRAMME, member=None, balances={}, counters={}, own={}, stock={}, chance=Chance(b"", "1-1-0")
)  # fmt: skip


def plate(name: str, text: str = "", **words: str) -> Manifest:
    head = {"id": name, "api": ">=1,<2", "summary": name, "version": "1.0", **words}
    return from_document(Document("".join(f'{key} = "{value}"\n' for key, value in head.items()) + text))


def of(*plates: Manifest) -> dict[str, Manifest]:
    return {each.id: each for each in plates}


def part(name: str, **hooks: Callable[..., Any]) -> Part:
    plugin = type(name, (), {hook: hookimpl(function) for hook, function in hooks.items()})()
    grants = {effect: Bounds(units=("*",)) for effect in ("Grant", "Multiply", "Verdict")}
    return Part(id=name, version="1.0", plugin=plugin, grants=grants)


def put_together(*parts: Part, compiled: bool | None = None) -> Pipeline:
    return compile_pipeline(parts, KINDS, PROGRAMME, compiled=compiled)


def grant(rule: str, amount: int = 1) -> Grant:
    return Grant(rule=rule, unit="points", amount=amount)


class Town:
    """A house with several tenants and the plugins of a test."""

    def __init__(self, url: str, tenants: str, plugins: set[str]) -> None:
        self.count, self.now = 0, NOW
        self.installed = {name: found for name, found in discovery.discover().items() if name in plugins}
        self.config: Config = config.check(
            Document(f'[house]\ndatabase = "{url}"\n{tenants}'), installed=self.installed
        )
        house.prepare(self.config, installed=self.installed)
        self.house = house.build_house(self.config, installed=self.installed, clock=lambda: self.now)

    def buys(self, tenant: str = "shop", *, at: int = 0) -> Record:
        """What one purchase of a new member comes to, now or *at* an earlier instant; a refusal is raised."""
        self.count += 1
        self.now += 1_000_000
        with self.house.db.begin() as conn:
            people.enrol(conn, self.house.secret, tenant, NOW, external_ids=[f"c-{self.count}"])
        document = {
            "id": f"e-{self.count}", "source": "till", "type": "purchase.completed", "time": moment(at or self.now).isoformat(),
            "member": f"c-{self.count}",
            "data": {"order": f"R-{self.count}", "currency": "USD", "lines": [{"sku": "A", "amount": 100}]},
        }  # fmt: skip
        kinds = self.house.kinds(tenant)
        arrival = read_document(document, tenant=tenant, kinds=kinds, received=moment(self.now))
        (outcome,) = self.house.engine.record([arrival])
        if isinstance(outcome, TallyError):
            raise outcome
        return outcome.record

    def gained(self, tenant: str = "shop", *, at: int = 0) -> dict[str, int]:
        return {step.unit: step.amount for step in self.buys(tenant, at=at).explanation if step.unit}


def tenant(name: str, *plugins: str, more: str = "") -> str:
    tables = "".join(f"[tenants.{name}.plugins.{plugin}]\n" for plugin in plugins)
    return f'[tenants.{name}]\nzone = "UTC"\ncurrency = "USD"\n{more}{tables}'


@pytest.fixture
def town(sqlite_url: str, site: Any) -> Iterator[Callable[..., Town]]:
    opened: list[Town] = []
    plugins: set[str] = set()

    def make(text: str, **code: str) -> Town:
        """A house set up by *text* with plugins of these names; their code is given unless it is only granting."""
        for name, source in code.items():
            plugins.add(name)
            site.install(name, code=(source or GIVING).replace("{id}", name), manifest=GIVES)
        opened.append(Town(sqlite_url, text, plugins))
        return opened[-1]

    yield make
    for each in opened:
        each.house.db.dispose()


# --- order -----------------------------------------------------------------------------------------------------------


def test_pain_01_order_depends_on_what_was_installed_first() -> None:
    plates = [
        plate("risk", '[order]\nbefore = ["points"]\n'),
        plate("points"),
        plate("gifts", '[order]\nafter = ["points"]\n'),
    ]
    orders = {resolve(of(*each), dict.fromkeys([p.id for p in each], "on")).order for each in permutations(plates)}
    assert orders == {("risk", "points", "gifts")}


def test_pain_02_order_flips_silently_with_a_release() -> None:
    old = of(plate("points"), plate("risk", '[order]\nbefore = ["points"]\n'))
    new = of(plate("points", version="1.1"), plate("risk"))
    on = {"points": "on", "risk": "on"}
    changes = diff_locks(lock({"shop": resolve(old, on)}, old), lock({"shop": resolve(new, on)}, new))
    assert changes == ("points 1.0 becomes 1.1", "shop: points now runs before risk, and ran after it")


# --- what is broken --------------------------------------------------------------------------------------------------


def test_pain_03_one_broken_plugin_stops_the_program(town: Callable[..., Town]) -> None:
    found = town(tenant("shop", "elm", "fir"), elm="", fir="raise RuntimeError('oh')")
    assert found.gained() == {"elm": 1}
    assert "RuntimeError" in str(found.config.unavailable[0])


def test_pain_04_a_broken_plugin_is_skipped_silently_and_data_goes_wrong(town: Callable[..., Town]) -> None:
    text = tenant("shop", "elm", "fir", more='required = ["fir"]\n')
    found = town(text, elm="", fir="raise RuntimeError('oh')")
    with pytest.raises(TenantNotServed, match="fir"):
        found.buys()


@pytest.mark.parametrize("version, runs", [("1.0", True), ("1.9", True), ("2.0", False)])
def test_pain_05_every_release_of_the_product_breaks_plugins(version: str, runs: bool) -> None:
    """A plugin names a range of the hook API, which changes rarely, and never a version of the product."""
    from packaging.version import Version

    found = resolve(of(plate("elm")), {"elm": "on"}, Version(version), lenient=True)
    assert (found.order == ("elm",)) is runs
    with pytest.raises(InvalidManifest, match="max_version"):
        plate("elm", max_version="0.1")
    assert API_VERSION.major == 1


# --- one environment for all -----------------------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as found:
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        found.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        found.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        found.writestr(f"{info}/RECORD", "")


def test_pain_06_a_plugins_pin_downgrades_a_library_of_the_house(tmp_path: Path, site: Any) -> None:
    """Held by constraints, such a plugin is not installed; and where it was, the doctor names it."""
    wheel(tmp_path, "tallystick_elm", "1.0", "attrs<20")
    wheel(tmp_path, "attrs", "19.3.0")
    (tmp_path / "pins.txt").write_text("attrs==26.1.0\n")
    words = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--dry-run",
        "--offline",
        "--no-index",
        "--find-links",
        str(tmp_path),
    ]
    words += ["-p", sys.executable, "-c", str(tmp_path / "pins.txt"), "tallystick-elm"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "attrs<20" in done.stderr and "attrs==26.1.0" in done.stderr

    site.install("elm")
    info = next(site.folder.glob("*.dist-info")) / "METADATA"
    info.write_text(info.read_text() + "Requires-Dist: attrs<20\n")
    found = doctor._dependencies(discovery.discover())
    assert not found.ok
    assert found.detail.startswith("tallystick-elm needs attrs <20, and ")


# --- calls -----------------------------------------------------------------------------------------------------------


def test_pain_07_a_slow_plugin_holds_up_all_and_nobody_knows_which() -> None:
    def for_ever(self: object) -> list[Effect]:
        while True:
            pass

    pipeline = put_together(part("slow", earn=for_ever), part("quick", earn=lambda self: [grant("quick.x")]))
    earn = pipeline.plan("purchase.completed").earn
    assert earn is not None
    with Watchdog():
        effects, skipped = earn(EVENT, SITUATION)
    assert [effect.rule for effect in effects] == ["quick.x"]
    assert [(each.plugin, each.cause) for each in skipped] == [("slow", "overran")]
    assert [each.plugin for each in pipeline.health() if each.overruns] == ["slow"]


def test_pain_08_whether_a_failure_lets_through_or_stops_is_an_accident() -> None:
    """It belongs to the hook: gains go on without the plugin, spending is refused, review holds what takes."""

    def fails(self: object) -> Any:
        raise RuntimeError

    plan = put_together(part("bad", earn=fails, redeem=fails, review=fails)).plan("purchase.completed")
    assert plan.earn is not None and plan.redeem is not None and plan.review is not None
    assert plan.earn(EVENT, SITUATION)[0] == []
    with pytest.raises(PluginFailed):
        plan.redeem(EVENT, SITUATION)
    ((verdict,), _) = plan.review(EVENT, SITUATION, ())
    assert verdict.verdict == "hold"
    with pytest.raises(InvalidManifest, match="on_failure"):
        plate("bad", on_failure="open")


def test_pain_09_an_async_hook_is_never_awaited() -> None:
    async def late(self: object) -> list[Effect]:
        return []

    with pytest.raises(PluginBroken, match="earn"):
        put_together(part("late", earn=late))
    with pytest.raises(PluginBroken, match="notify"):
        put_together(part("late", notify=lambda self, message: True))


def test_pain_10_calling_hooks_costs_more_than_what_they_do() -> None:
    """Compiled, a hook costs one call of ours per implementation besides its own; through pluggy it is many."""
    parts = [part(f"p{n}", earn=lambda self, event: None) for n in range(5)]

    def calls(compiled: bool) -> int:
        earn = put_together(*parts, compiled=compiled).plan("purchase.completed").earn
        assert earn is not None
        earn(EVENT, SITUATION)
        seen = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal seen
            seen += event == "call"

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            earn(EVENT, SITUATION)
        finally:
            sys.setprofile(before)
        return seen - 5  # the plugins' own

    assert calls(compiled=True) <= 5 + 2
    assert calls(compiled=False) > 2 * calls(compiled=True)


def test_pain_11_a_wrong_signature_shows_only_when_the_hook_is_called() -> None:
    """It is refused when the plugin is put together; at the author's desk mypy says so before (test_typed_hooks.py)."""
    with pytest.raises(PluginBroken, match="evnt"):
        put_together(part("typo", earn=lambda self, evnt: []))


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_pain_12_taking_a_plugin_out_drops_data_or_leaves_wreckage(town: Callable[..., Town], site: Any) -> None:
    """Off, and then its files gone: what it gave stays, the books prove, the others go on."""
    text = tenant("shop", "elm", "fir")
    found = town(text, elm="", fir="")
    assert found.gained() == {"elm": 1, "fir": 1}
    switchboard.disable(found.house, "shop", "fir", actor="test")
    assert found.gained() == {"elm": 1}
    found.house.db.dispose()
    for file in site.folder.glob("tallystick_fir*/plugin.toml"):
        file.unlink()
    again = town(text)
    again.count, again.now = 10, found.now
    assert again.gained() == {"elm": 1}
    assert again.gained(at=NOW + 1_000_000) == {"elm": 1}, "of the time when both ran"
    with database.reading(again.house.db) as conn:
        kept = conn.execute(sa.text("SELECT SUM(posted) FROM balance WHERE unit = 'fir' AND member > 0")).scalar_one()
        assert kept == 1
        assert proofs.verify(conn).findings == ()


# --- together --------------------------------------------------------------------------------------------------------


def test_pain_13_two_plugins_change_the_same_thing_and_the_last_one_wins() -> None:
    """There is nothing to override: all propose, and what it comes to does not depend on who spoke first."""

    def double(self: object) -> list[Effect]:
        return [Multiply(rule="twice.x", unit="points", factor=2)]

    def three(self: object) -> list[Effect]:
        return [Multiply(rule="thrice.x", unit="points", factor=3)]

    parts = (
        part("base", earn=lambda self: [grant("base.x", 10)]),
        part("twice", earn=double),
        part("thrice", earn=three),
    )
    found = set()
    for order in permutations(parts):
        earn = put_together(*order).plan("purchase.completed").earn
        assert earn is not None
        settled = settle(earn(EVENT, SITUATION)[0], PROGRAMME.units, {}, {})
        found.add(sum(posting.amount for posting in settled.postings))
    assert found == {40}  # gains add up: x2 and x3 give x4


REVISION = '''"""A step."""
import sqlalchemy as sa
from alembic import op
revision = "0001"
down_revision = None
branch_labels = ("main",)
def upgrade():
    op.create_table("{name}_item", sa.Column("id", sa.Text, primary_key=True))
'''


def test_pain_14_migrations_of_several_plugins_get_in_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    """Equal revisions and labels do not meet, a broken one stops nobody, and a plugin that is gone is not missed."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pain_elm", "pain_fir", "pain_ash"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        text = REVISION.format(name=name) if name != "pain_ash" else "raise RuntimeError('oh')"
        (tmp_path / name / "v0001_step.py").write_text(text)
    db = database.connect(sqlite_url)
    parts = [migrate.CORE, *(migrate.Part(name, name) for name in ("pain_ash", "pain_elm", "pain_fir"))]
    found = {each.part: (each.current, each.problem) for each in migrate.upgrade(db, parts)}
    assert found["pain_elm"] == found["pain_fir"] == ("0001", "")
    assert "oh" in found["pain_ash"][1]
    migrate.check(db, [migrate.CORE, parts[2]])  # the one that is gone stays behind without harm
    assert [each.problem for each in migrate.upgrade(db, [migrate.CORE, parts[2]])] == ["", ""]
    db.dispose()


# --- names and places ------------------------------------------------------------------------------------------------


def test_pain_15_editable_installs_break_packages_that_share_a_namespace(
    site: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Every plugin is a top-level package: one from a folder and one from a wheel are found side by side."""
    site.install("elm", code="x = 1")
    site.install("fir", code="x = 2", source=tmp_path / "work")
    monkeypatch.syspath_prepend(str(tmp_path / "work"))  # as its .pth does
    found = discovery.discover()
    assert (found["elm"].file.parent.parent, found["fir"].file.parent.parent) == (site.folder, tmp_path / "work")
    assert [discovery.load(f"tallystick_{name}:x", plugin=name) for name in ("elm", "fir")] == [1, 2]


@pytest.mark.parametrize("entry", ["tallystick.plugins.elm:plugin.toml", "tallystick.elm:plugin.toml"])
def test_pain_16_providers_live_in_the_namespace_of_the_host(site: Any, entry: str) -> None:
    site.install("elm", entry=entry)
    with pytest.raises(PluginBroken, match=r'expected "top_level_package:plugin.toml"'):
        _ = discovery.discover()["elm"].manifest


def test_pain_17_looking_for_plugins_slows_every_start(site: Any) -> None:
    """A hundred installed plugins: no manifest is read and nothing is imported before somebody asks for one."""
    for n in range(100):
        site.install(f"many_{n}")
    found = {name: each for name, each in discovery.discover().items() if name.startswith("many_")}
    assert len(found) == 100
    assert [each for each in found.values() if {"manifest", "file", "version", "_text"} & vars(each).keys()] == []
    assert [name for name in sys.modules if name.startswith("tallystick_many_")] == []


# --- tenants ---------------------------------------------------------------------------------------------------------


def test_pain_18_a_plugin_is_on_for_everybody_or_nobody_and_after_a_restart(town: Callable[..., Town]) -> None:
    found = town(tenant("shop", "elm") + tenant("cafe", "elm", "fir"), elm="", fir="")
    assert (found.gained("shop"), found.gained("cafe")) == ({"elm": 1}, {"elm": 1, "fir": 1})
    switchboard.enable(found.house, "shop", "fir", actor="test")
    switchboard.disable(found.house, "cafe", "fir", actor="test")
    assert (found.gained("shop"), found.gained("cafe")) == ({"elm": 1, "fir": 1}, {"elm": 1})


def test_pain_19_several_versions_of_one_thing_are_there_at_once(site: Any) -> None:
    """Two distributions that bring one plugin are both refused by name: nobody runs by chance."""
    site.install("elm", dist="tallystick_elm")
    site.install("elm", dist="better_elm", version="2.0")
    with pytest.raises(PluginBroken, match=r"several distributions bring it: .*uninstall all but one") as caught:
        _ = discovery.discover()["elm"].manifest
    assert "tallystick-elm" in str(caught.value) and "better-elm" in str(caught.value)


GREEDY = GIVING.replace('unit="{id}"', 'unit="points"')


def test_pain_20_a_sandbox_is_promised_and_the_code_is_trusted(
    town: Callable[..., Town], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said that code in the house is trusted; what is bounded is what gets into the books."""
    found = town(tenant("shop", "elm", "points_kept"), elm=GREEDY, points_kept="")
    record = found.buys()
    assert {step.unit for step in record.explanation if step.unit} == {"points_kept"}
    assert [each["plugin"] for each in record.skipped] == ["elm"]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_LANG", "en")
    assert CliRunner().invoke(cli, ["init"]).exit_code == 0
    assert "install only code you trust" in CliRunner().invoke(cli, ["plugins", "enable", "points"]).stderr
