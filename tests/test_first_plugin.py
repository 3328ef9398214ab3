"""Plugins from outside the workspace: the tutorial followed literally, and the example, in an environment of wheels."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TOOLS = Path(sys.executable).parent
WHEELS = ("core", "plugins/points")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that knows nothing of the workspace but its wheels."""
    folder = tmp_path_factory.mktemp("fresh")
    uv = str(TOOLS / "uv")
    for part in WHEELS:
        subprocess.run([uv, "build", "-q", "--wheel", part, "--out-dir", folder / "wheels"], cwd=ROOT, check=True)
    subprocess.run([uv, "venv", "-q", "--seed", "-p", sys.executable, folder / "env"], check=True)
    core, points = sorted((folder / "wheels").glob("*.whl"))
    words = [f"{core}[auth,cli,crypto,server]", str(points), "pytest"]
    constraints = ["-c", str(folder / "pins.txt")]
    lock = (ROOT / "requirements.lock").read_text()
    (folder / "pins.txt").write_text("\n".join(re.findall(r"^(\S+==[^\\\s;]+)", lock, re.MULTILINE)) + "\n")
    subprocess.run(
        [uv, "pip", "install", "-q", "-p", folder / "env" / "bin" / "python", *constraints, *words], check=True
    )
    return folder / "env" / "bin"


def sh(text: str, environment: Path, folder: Path) -> str:
    """What the commands of *text* say where only the fresh environment is found."""
    path = os.pathsep.join([str(environment), str(TOOLS), os.environ["PATH"]])
    kept = {
        name: each for name, each in os.environ.items() if not name.startswith(("TALLY", "LC_", "PYTHON", "PYTEST"))
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder, env={**kept, "PATH": path, "LANG": "C.UTF-8"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, text + done.stdout + done.stderr
    return done.stdout


def test_the_tutorial_for_plugins_works_as_it_stands(environment: Path, tmp_path: Path) -> None:
    said = ""
    for language, text in BLOCK.findall((ROOT / "docs" / "tutorial" / "first-plugin.md").read_text()):
        if language == "sh":
            said = sh(text, environment, tmp_path)
        elif language == "python":
            rules = tmp_path / "tallystick-stars" / "tallystick_stars" / "rules.py"
            *before, _ = rules.read_text().splitlines(keepends=True)
            rules.write_text("".join(before) + text)
        else:
            assert [line for line in text.splitlines() if line not in said] == [], said


BIRTHDAY = """
uv build -q --wheel birthday --out-dir dist
pip install -q --no-deps --no-index dist/tallystick_birthday-1.0.0-py3-none-any.whl
(cd birthday && python -m pytest -q)
tally certify birthday --level silver --at-least silver
tally init
tally plugins enable birthday
tally plugins config birthday --set points=250
tally member add C-1 --birthday 05-17
cat > events.jsonl <<'END'
{"id": "1", "source": "till", "type": "purchase.completed", "time": "2026-05-17T10:00:00Z", "member": "C-1", "data": {"order": "R-1", "currency": "USD", "lines": [{"sku": "TEA", "amount": 100}]}}
{"id": "2", "source": "till", "type": "purchase.completed", "time": "2026-05-17T11:00:00Z", "member": "C-1", "data": {"order": "R-2", "currency": "USD", "lines": [{"sku": "TEA", "amount": 100}]}}
END
tally import events.jsonl --history
tally member show C-1
"""


def test_the_example_is_installed_from_its_wheel_and_gives_its_gift(environment: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "birthday", tmp_path / "birthday")
    said = sh(BIRTHDAY, environment, tmp_path)
    assert "  points: 252 (posted 252, pending 0, due 0)\n" in said
    installed = "import tallystick_birthday; print(tallystick_birthday.__file__)"
    assert str(environment.parent) in sh(f"python -c '{installed}'", environment, tmp_path)
