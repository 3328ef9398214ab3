"""The pages about brands work as they stand: every shell block is run, every answer shown is given."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["tutorial/two-brands.md", "how-to/brands-in-one-house.md"])
def test_the_page_works_as_it_stands(tmp_path: Path, page: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLY", "LC_"))}
    said = ""
    try:
        for language, text in BLOCK.findall((DOCS / page).read_text()):
            if language == "sh":
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", text], cwd=tmp_path, env={**kept, "PATH": path, "LANG": "C.UTF-8"},
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, done.stdout + done.stderr
                said = done.stderr + done.stdout
            else:
                assert [line for line in text.splitlines() if line not in said] == [], said
    finally:
        for file in tmp_path.glob("*/pid"):  # of a page that did not come to its end
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGTERM)
