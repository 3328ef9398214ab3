"""A new plugin passes as it comes; each mutant of it fails exactly the check that is there for its mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.certify import CHECKS, LEVELS, certify
from tallystick.errors import InvalidRequest
from tallystick.scaffold import PARTS, new_plugin


@pytest.fixture(autouse=True)
def path_as_before() -> Iterator[None]:
    before, modules = [*sys.path], {*sys.modules}
    yield
    sys.path[:] = before
    for name in {*sys.modules} - modules:
        if name.startswith("tallystick_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    "parts", [(), ("tables",), ("routes",), ("page",), ("jobs",), ("tables", "page"), PARTS], ids=",".join
)
def test_a_new_plugin_passes_its_tests_and_bronze_as_it_comes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    folder = tmp_path / "tallystick-stars"
    new_plugin("stars", folder, parts)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = certify("stars", folder, up_to="bronze")
    assert (found.level, found.failed) == ("bronze", ())


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
def test_a_new_plugin_is_gold_on_both_databases(tmp_path: Path, make_database: Callable[[], str]) -> None:
    url = make_database()
    new_plugin("moons", tmp_path / "moons", PARTS)
    found = certify("moons", tmp_path / "moons", postgresql=url, up_to="gold")
    assert [each for each in found.findings if each.state == "failed"] == []
    assert found.level == "gold"


def test_a_plugin_that_asks_for_the_worker_lane_is_certified_through_it(tmp_path: Path) -> None:
    new_plugin("comets", tmp_path / "comets")
    plate = tmp_path / "comets" / "tallystick_comets" / "plugin.toml"
    plate.write_text(plate.read_text().replace('hooks = ["earn"]', 'hooks = ["earn"]\nlane = "worker"'))
    found = certify("comets", tmp_path / "comets", up_to="silver")
    assert (found.level, found.failed) == ("silver", ())
    hooks = plate.parent / "hooks.py"
    hooks.write_text(hooks.read_text().replace(START, "        import os\n        os._exit(9)\n" + START))
    found = certify("comets", tmp_path / "comets", up_to="silver")
    assert found.level == "none"


def test_without_postgresql_nothing_is_gold(tmp_path: Path) -> None:
    new_plugin("suns", tmp_path / "suns")
    assert certify("suns", tmp_path / "suns", up_to="gold").level == "silver"


@pytest.mark.parametrize("name", ["Stars", "1star", "s", "a b", "../x", "record", "members"])
def test_a_name_that_is_no_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        new_plugin(name, tmp_path / "x")


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="exists already"):
        new_plugin("stars", tmp_path)


# --- mutants ---------------------------------------------------------------------------------------------------------

START = "        if situation.member is None or not isinstance"
GIVE = "        return (grant,) if grant is not None else ()\n"
#: check -> (file in the package, what stands there, what the mutant has instead)
MUTANTS: dict[str, tuple[str, str, str]] = {
    "manifest": ("plugin.toml", ".hooks:M", ".hooks:NoSuchClassM"),
    "imports": ("__init__.py", "\n", "\nimport threading, time\n\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"),
    "tolerance": ("hooks.py", START, "        assert event.kind in ('purchase.completed', 'member.enrolled')\n" + START),
    "mutation": (
        "hooks.py", START, "        import msgspec\n        msgspec.structs.force_setattr(event, 'source', 'elsewhere')\n" + START,
    ),
    "integers": ("rules.py", "times * settings.amount", "times * settings.amount * 1.0"),
    "round-trip": ("rules.py", '"paid": purchase.items', "7: purchase.items"),
    "grants": ("plugin.toml", "max_amount = 1000000", "max_amount = 1"),
    "determinism": ("rules.py", '"paid": purchase.items', '"paid": hash("paid")'),
    "purity": ("hooks.py", START, "        open('/dev/null').close()\n" + START),
    "budget": ("hooks.py", START, "        sum(range(300_000))\n" + START),
    "isolation": (
        "hooks.py", "        self.settings = settings\n", "        global shared\n        shared = self.settings = settings\n",
    ),
    "lane": (
        "rules.py", '"paid": purchase.items', '"paid": int("tallystick.certify" in __import__("sys").modules)',
    ),
    "life-cycle": (
        "hooks.py", GIVE, GIVE + "\n    @impl.health\n    def health(self) -> dict[str, object]:\n        return {'ok': False}\n",
    ),
    "translations": ("plugin.toml", 'summary = { en = "Members', 'summary = { fr = "Etoiles", en = "Members'),
    "docs": ("settings.py", '"meta": {"doc": "For how much', '"meta": {"said": "For how much'),
}  # fmt: skip


@pytest.mark.parametrize("check", MUTANTS)
def test_a_mutant_fails_exactly_the_check_made_for_it(tmp_path: Path, check: str) -> None:
    name = f"m_{check.replace('-', '_')}"
    new_plugin(name, tmp_path / name)
    package = tmp_path / name / f"tallystick_{name}"
    file, old, new = MUTANTS[check]
    text = (package / file).read_text()
    assert old in text
    text = text.replace(old, new, 1)
    if check == "translations":
        text = text.replace(', zh = "会员消费可获得', ', de = "Mitglieder')
    if check == "isolation":
        text = text.replace("rules.for_purchase(event.facts, self.settings)", "rules.for_purchase(event.facts, shared)")
    if check == "life-cycle":
        plate = package / "plugin.toml"
        plate.write_text(plate.read_text().replace('hooks = ["earn"]', 'hooks = ["earn", "health"]'))
    (package / file).write_text(text)
    found = certify(name, tmp_path / name, up_to=CHECKS[check][0])
    assert found.failed == (check,), [each for each in found.findings if each.state == "failed"]
    assert found.level == LEVELS[LEVELS.index(CHECKS[check][0]) - 1] or CHECKS[check][0] == "gold"
    assert os.fspath(tmp_path) not in next(each.detail for each in found.findings if each.check == check)


@pytest.mark.parametrize(
    "check, file, new, says",
    [
        ("manifest", "hooks.py", "    @impl.react\n    def react(self, event, situation, outcome):\n        return ()\n\n", 'implements react; expected "react" in the hooks'),
        ("manifest", "hooks.py", "    @hookimpl\n    def ern(self, event):\n        return ()\n\n", 'there is no hook ern; did you mean "earn"?'),
        ("tolerance", "rules.py", "    raise SystemExit(3)\n", "earn fails at purchase.completed of a member: SystemExit(3)"),
        ("tolerance", "rules.py", "    __import__('os')._exit(3)\n", "exit status 3"),
        ("budget", "rules.py", "    while True:\n        pass\n", "earn at purchase.completed was ended after 50 ms"),
    ],
    ids=["a hook that is not listed", "no hook", "wants to end the process", "ends the process", "never ends"],
)  # fmt: skip
def test_whoever_misbehaves_badly_is_told_once_and_soon(
    tmp_path: Path, check: str, file: str, new: str, says: str
) -> None:
    new_plugin("ruin", tmp_path / "ruin")
    package = tmp_path / "ruin" / "tallystick_ruin"
    stands = "    @impl.earn\n" if file == "hooks.py" else "    times = "
    text = (package / file).read_text()
    assert stands in text
    text = text.replace(stands, new + stands, 1).replace("import impl", "import hookimpl, impl")
    (package / file).write_text(text)
    found = certify("ruin", tmp_path / "ruin", up_to="bronze")
    assert found.failed == (check,), [each for each in found.findings if each.state == "failed"]
    assert says in next(each.detail for each in found.findings if each.check == check)


def test_a_neighbour_that_is_broken_by_itself_is_not_held_against_anybody(tmp_path: Path, site: Any) -> None:
    site.install(
        "weed",
        manifest='id = "weed"\napi = ">=1"\nsummary = "x"\nfactory = "tallystick_weed:Weed"\nhooks = ["earn"]\n',
        code="class Weed:\n    def earn(self, event):\n        raise ValueError\n",
    )
    new_plugin("rose", tmp_path / "rose")
    found = certify("rose", tmp_path / "rose", up_to="silver")
    assert (found.level, found.failed) == ("silver", ())
