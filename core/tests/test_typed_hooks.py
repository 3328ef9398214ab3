"""A wrong signature is found at the author's desk: by mypy and by pyright, before anything runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tallystick.hookspecs import all_hooks, impl

HEAD = """\
from collections.abc import Mapping, Sequence
from typing import Any
from tallystick.effects import Effect, Grant
from tallystick.events import Event
from tallystick.hookspecs import impl
from tallystick.situation import Needs, Situation
"""
GOOD = """
class Good:
    @impl.needs
    def needs(self, kind: str) -> Needs:
        return Needs()

    @impl.earn
    def earn(self, event: Event, situation: Situation) -> list[Grant]:
        return []

    @impl.react
    def react(self, event: Event, situation: Situation, outcome: Mapping[str, int]) -> Sequence[Effect]:
        return ()

    @impl.notify
    async def notify(self, message: Mapping[str, Any]) -> bool | None:
        return None
"""
#: what is wrong -> a method with that mistake
BAD = {
    "a name": "    @impl.earn\n    def earn(self, evnt: Event, situation: Situation) -> list[Grant]:\n        return []\n",
    "a type": "    @impl.earn\n    def earn(self, event: str, situation: Situation) -> list[Grant]:\n        return []\n",
    "the answer": "    @impl.earn\n    def earn(self, event: Event, situation: Situation) -> list[str]:\n        return []\n",
    "one too many": "    @impl.needs\n    def needs(self, kind: str, event: Event) -> None:\n        return None\n",
    "no coroutine": "    @impl.notify\n    def notify(self, message: Mapping[str, Any]) -> bool:\n        return True\n",
    "a coroutine": "    @impl.needs\n    async def needs(self, kind: str) -> None:\n        return None\n",
}
FILE = HEAD + GOOD + "".join(f"\nclass Bad{n}:\n{method}" for n, method in enumerate(BAD.values()))
#: lines of FILE on which something is wrong
WRONG = [FILE[: FILE.index(f"class Bad{n}:")].count("\n") + 2 for n in range(len(BAD))]


def mypy(file: Path) -> str:
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, file.name]
    return subprocess.run(words, cwd=file.parent, capture_output=True, text=True, check=False).stdout


def pyright(file: Path) -> str:
    """As basedpyright brings it, whose wheels hold all it needs: the plain distribution downloads node when it runs."""
    (file.parent / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    words = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, file.name]
    return subprocess.run(words, cwd=file.parent, capture_output=True, text=True, check=False, timeout=600).stdout


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_each_wrong_signature_is_found_and_no_right_one(tmp_path: Path, checker: Callable[[Path], str]) -> None:
    file = tmp_path / "desk.py"
    file.write_text(FILE)
    said = checker(file)
    found = {int(line) for line in re.findall(r"desk\.py:(\d+)(?::\d+)?[ :-]+error", said)}
    assert sorted(found) == WRONG, said


def test_every_hook_has_its_typed_mark() -> None:
    assert {name for name in vars(impl) if not name.startswith("_")} == {*all_hooks()}


def test_a_hook_under_another_name_is_refused_when_it_is_imported() -> None:
    with pytest.raises(TypeError, match="implements the hook earn"):
        impl.earn(lambda self, event, situation: [])
