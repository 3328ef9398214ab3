"""The tutorial of two brands works as it stands: every shell block is run, every answer shown is given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_tutorial_works_as_it_stands(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLY", "LC_"))}
    said = ""
    for language, text in BLOCK.findall((DOCS / "tutorial" / "two-brands.md").read_text()):
        if language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], cwd=tmp_path, env={**kept, "PATH": path, "LANG": "C.UTF-8"},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            said = done.stderr + done.stdout
        else:
            assert [line for line in text.splitlines() if line not in said] == []
