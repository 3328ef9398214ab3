"""The workspace is of one piece: both locks hold the same pins, and every plugin is named wherever it has to be."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis.internal.conjecture import providers

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
PIN = re.compile(r"^(\S+==[^\\\n]+?) *\\?$", re.MULTILINE)


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


ROOT_PROJECT = read(ROOT / "pyproject.toml")


def test_pip_and_uv_install_the_same_versions() -> None:
    """``python .ci/lock.py`` writes both."""
    pinned = [
        pin
        for name in ("requirements.lock", "requirements-demo.lock")
        for pin in PIN.findall((ROOT / name).read_text())
    ]
    assert sorted(pinned) == sorted(ROOT_PROJECT["tool"]["uv"]["constraint-dependencies"])


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-demo.lock"])
def test_a_lock_holds_hashes_and_no_addresses(name: str) -> None:
    lock = (ROOT / name).read_text()
    assert "://" not in lock
    for requirement in re.split(r"\n(?=\S)", lock.rstrip()):
        assert requirement.startswith("#") or "--hash=sha256:" in requirement


def test_what_the_demo_does_not_use_is_not_locked() -> None:
    locks = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-demo.lock").read_text()
    assert not re.search(r"^(pandas|pyarrow)\b", locks, re.MULTILINE)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_plugin_is_named_wherever_it_has_to_be(plugin: Path) -> None:
    project = read(plugin / "pyproject.toml")
    package = f"tallystick_{plugin.name}"
    distribution = f"tallystick-{plugin.name.replace('_', '-')}"
    assert project["project"]["name"] == distribution
    assert project["project"]["entry-points"]["tallystick.plugins"] == {plugin.name: f"{package}:plugin.toml"}
    assert project["tool"]["uv"]["build-backend"] == {"module-name": package, "module-root": ""}
    assert (plugin / package / "py.typed").exists()
    assert (plugin / "LICENSE").read_text() == (ROOT / "LICENSE").read_text(), "a link: it goes into the wheel"
    assert distribution in ROOT_PROJECT["project"]["dependencies"], "the batteries"
    assert ROOT_PROJECT["tool"]["uv"]["sources"][distribution] == {"workspace": True}
    linter = ROOT_PROJECT["tool"]["importlinter"]
    assert package in linter["root_packages"]
    assert not [
        contract["id"]
        for contract in linter["contracts"]
        if contract["type"] == "forbidden" and package not in contract["source_modules"] + contract["forbidden_modules"]
    ], "the contracts that leave it out"


def test_ci_runs_the_tests_as_a_newcomer_does() -> None:
    for page in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md"):
        command = re.search(r"^python3 -m pip install .* pytest.*$", (ROOT / page).read_text(), re.MULTILINE)
        assert command, page
        assert f"    {command[0]}\n" in (ROOT / ".ci" / "run").read_text(), page


def test_all_distributions_have_one_version_and_one_build_back_end() -> None:
    projects = [read(path) for path in (ROOT / "pyproject.toml", ROOT / "core" / "pyproject.toml")]
    projects += [read(plugin / "pyproject.toml") for plugin in PLUGINS]
    assert len({project["project"]["version"] for project in projects}) == 1
    assert len({str(project["build-system"]) for project in projects}) == 1


def test_every_room_of_the_core_is_on_the_map() -> None:
    core = ROOT / "core" / "tallystick"
    rooms = {each.stem for each in core.iterdir() if each.suffix == ".py" or (each / "__init__.py").is_file()}
    named = {word.rstrip("/") for word in re.findall(r"`([\w/]+)`", (ROOT / "ARCHITECTURE.md").read_text())}
    assert sorted(rooms - named - {"__init__"}) == []


def test_contributing_begins_a_plugin_with_the_command() -> None:
    assert "tally new plugin" in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_who_only_looks_waits_for_nobody_who_writes(plugin: Path) -> None:
    """On SQLite every transaction takes the lock for writing, except ``house.reading()``."""
    sources = plugin.glob(f"tallystick_{plugin.name}/**/*.py")
    assert not [source.name for source in sources if re.search(r"\bdb\.connect\(\)", source.read_text())]


def test_examples_do_not_depend_on_what_else_is_loaded(pytestconfig: pytest.Config) -> None:
    """Hypothesis draws from the constants of loaded modules, unless it shall be steady."""
    wanders = pytestconfig.getoption("--hypothesis-profile") is not None
    assert bool(len(providers._get_local_constants())) == wanders
