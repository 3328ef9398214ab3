"""The tutorial for plugin authors is followed literally, in a fresh environment with the wheels of this workspace."""

import os
import re
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


def test_the_tutorial_for_plugins_works_as_it_stands(environment: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(environment), str(TOOLS), os.environ["PATH"]])
    kept = {
        name: each for name, each in os.environ.items() if not name.startswith(("TALLY", "LC_", "PYTHON", "PYTEST"))
    }
    said = ""
    for language, text in BLOCK.findall((ROOT / "docs" / "tutorial" / "first-plugin.md").read_text()):
        if language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=tmp_path, env={**kept, "PATH": path, "LANG": "C.UTF-8"}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, text + done.stdout + done.stderr
            said = done.stdout
        elif language == "python":
            rules = tmp_path / "tallystick-stars" / "tallystick_stars" / "rules.py"
            *before, _ = rules.read_text().splitlines(keepends=True)
            rules.write_text("".join(before) + text)
        else:
            assert [line for line in text.splitlines() if line not in said] == [], said
