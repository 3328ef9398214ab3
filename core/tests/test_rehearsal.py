"""Whoever writes a plugin sees on every save what it proposes otherwise, and where it is wrong."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallystick import rehearsal
from tallystick.rehearsal import Asked, Rehearsal, differences, rehearse
from tallystick.scaffold import new_plugin
from tallystick.testing import make_stage, play

SHOP = """
[plugins.points]
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new_plugin("comets", tmp_path / "comets")
    return tmp_path / "comets"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house in which three things happened and were paid for by points; the plugin is not enabled there."""
    tmp_path = tmp_path_factory.mktemp("house")
    with make_stage(SHOP, f"sqlite:///{tmp_path}/house.db", tmp_path) as stage:
        play(
            """
            2025-01-02  m-1 buys 12.34 as R-1   earns 12 points
            2025-01-03  m-1 buys 0.50           earns nothing
            2025-01-04  m-1 returns R-1         loses 12 points
            """,
            stage=stage,
        )
    return tmp_path / "tally.toml"


def edit(folder: Path, old: str, new: str, file: str = "rules.py") -> None:
    path = folder / "tallystick_comets" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


TWICE = ("times * settings.amount", "2 * times * settings.amount")


def test_a_plugin_that_is_enabled_nowhere_is_asked_about_what_was_recorded(folder: Path, settings: Path) -> None:
    before = rehearse(folder, settings, None, 50)
    assert (before.recorded, before.mistakes) == (True, ())
    first, second = before.asked
    assert first.proposed == ('earn Grant comets.purchase: unit comets, amount 24, data {"paid": 1234}',)
    assert (first.came_to, second.proposed, second.came_to) == ("+24 comets, +12 points", (), "nothing")
    edit(folder, *TWICE)
    assert differences(before, rehearse(folder, settings, None, 50)) == [
        [
            f"  {first.heading}",
            '    - earn Grant comets.purchase: unit comets, amount 24, data {"paid": 1234}',
            '    + earn Grant comets.purchase: unit comets, amount 48, data {"paid": 1234}',
            "    = +48 comets, +12 points, and was +24 comets, +12 points",
        ]
    ]


def test_only_the_last_events_are_asked_about(folder: Path, settings: Path) -> None:
    (only,) = rehearse(folder, settings, None, 1).asked
    assert only.at == "2025-01-03 12:00"


def test_nothing_is_written_by_it(folder: Path, settings: Path) -> None:
    with sqlite3.connect(settings.with_name("house.db")) as books:
        before = [*books.iterdump()]
        rehearse(folder, settings, None, 50)
        assert [*books.iterdump()] == before
    books.close()


def test_without_a_house_the_events_are_made_up(folder: Path, tmp_path: Path) -> None:
    found = rehearse(folder, tmp_path / "none.toml", None, 50)
    assert (found.recorded, found.mistakes) == (False, ())
    assert any(each.proposed for each in found.asked)


@pytest.mark.parametrize("house", [True, False], ids=["recorded", "made-up"])
@pytest.mark.parametrize(
    "file, old, new, what, where",
    [
        ("rules.py", "times * settings.amount", "tims * settings.amount", "NameError: name 'tims' is not defined", "tallystick_comets/rules.py:16"),
        ("rules.py", "def for_purchase", "dff for_purchase", "SyntaxError: invalid syntax", "tallystick_comets/rules.py:11"),
        ("settings.py", "import attrs", "import atrs", "ModuleNotFoundError: No module named 'atrs'", "tallystick_comets/settings.py:8"),
        ("plugin.toml", "factory", "factori", 'unknown key "factori"; did you mean "factory"?', ""),
        ("example.toml", "per = 100", "pr = 100", 'unknown key "pr"', ""),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(
    folder: Path, settings: Path, tmp_path: Path, file: str, old: str, new: str, what: str, where: str, house: bool
) -> None:
    edit(folder, old, new, file)
    (mistake,) = rehearse(folder, settings if house else tmp_path / "none.toml", None, 50).mistakes
    assert what in mistake.what
    assert mistake.where == where


def test_a_plugin_that_ends_the_process_is_told_of(folder: Path, tmp_path: Path) -> None:
    edit(folder, "times = ", "__import__('os')._exit(3)\n    times = ")
    (mistake,) = rehearse(folder, tmp_path / "none.toml", None, 50).mistakes
    assert mistake.what == "it ended the process with status 3"


def test_the_same_effect_twice_is_not_the_same_as_once() -> None:
    def found(*proposed: str) -> Rehearsal:
        return Rehearsal(plugin="x", recorded=True, asked=(Asked(entry="1", kind="k", at="", proposed=proposed),))

    assert differences(found("a", "a"), found("a")) == [["  1  k", "    - a"]]
    assert differences(found("a"), found("a")) == []


def test_a_save_counts_and_a_compiled_file_does_not(folder: Path) -> None:
    before = rehearsal.snapshot(folder)
    (folder / "tallystick_comets" / "__pycache__").mkdir()
    (folder / "tallystick_comets" / "__pycache__" / "rules.cpython-311.pyc").write_bytes(b"x")
    assert rehearsal.snapshot(folder) == before
    edit(folder, *TWICE)
    now = rehearsal.snapshot(folder)
    assert {name for name in now if now[name] != before[name]} == {"tallystick_comets/rules.py"}


@pytest.fixture
def watcher(folder: Path, settings: Path) -> Iterator[Callable[[str], list[str]]]:
    """`tally dev` as it runs beside an editor: call it for the lines up to one that begins so."""
    words = ["-c", "from tallystick.__main__ import main; main()", "dev", str(folder), "--config", str(settings)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout is not None
    lines = iter(running.stdout)

    def until(beginning: str) -> list[str]:
        found = []
        for line in lines:
            found.append(line.rstrip())
            if found[-1].strip().startswith(beginning):
                return found
        raise AssertionError(found)

    yield until
    running.send_signal(signal.SIGINT)
    assert running.wait() == 0
    running.stdout.close()


def test_every_save_is_answered_until_somebody_ends_it(watcher: Callable[[str], list[str]], folder: Path) -> None:
    assert "  2 recorded events, 1 proposal" in watcher("Watching")
    edit(folder, *TWICE)
    said = watcher("1 other event as before")
    assert said[0] == "saved tallystick_comets/rules.py"
    assert '    + earn Grant comets.purchase: unit comets, amount 48, data {"paid": 1234}' in said
    edit(folder, "2 * times", "2 * tims")
    assert watcher("return Grant")[-2].startswith("  tallystick_comets/rules.py:16: NameError")
    edit(folder, "2 * tims", "3 * times")
    said = watcher("1 other event as before")
    assert '    - earn Grant comets.purchase: unit comets, amount 48, data {"paid": 1234}' in said
    assert '    + earn Grant comets.purchase: unit comets, amount 72, data {"paid": 1234}' in said


def test_once_answers_as_one_document(folder: Path, settings: Path) -> None:
    words = ["-c", "from tallystick.__main__ import main; main()", "dev", str(folder), "--once", "--json", "--config"]
    done = subprocess.run([sys.executable, *words, str(settings)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [len(each["proposed"]) for each in found["asked"]] == [1, 0]
