"""The tutorial and the how-to of imports work as they stand: every shell block is run, every answer shown is given."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def bash(tmp_path):
    """A shell in an empty folder, in English; answers with all that was printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLY", "LC_"))}

    def bash(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path, env={**kept, "PATH": path, "LANG": "C.UTF-8"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr + done.stdout

    return bash


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((DOCS / page).read_text())


def test_the_tutorial_works_as_it_stands(bash, tmp_path):
    said = ""
    for language, text in blocks("tutorial/first-programme.md"):
        match language:
            case "sh":
                said = bash(text)
            case "text":
                assert [line for line in text.splitlines() if line not in said] == []
            case "toml":
                assert text in (tmp_path / "tally.toml").read_text()


def test_the_mapping_of_the_how_to_imports_a_table(bash, tmp_path):
    mapping = next(text for language, text in blocks("how-to/import-data.md") if language == "toml")
    command = [text for language, text in blocks("how-to/import-data.md") if language == "sh"][-1]
    (tmp_path / "mapping.toml").write_text(mapping)
    (tmp_path / "products.csv").write_text("sku,department\nTEA,GROCERY\n")
    (tmp_path / "sales.csv").write_text(
        "receipt,sold_at,card,store,sku,pieces,paid,discount\n"
        "R-1,2025-03-01 09:00:00,C-1,north,TEA,2,9.00,1.00\n"
        "R-1,2025-03-01 09:00:00,C-1,north,CUP,1,3.50,\n"
    )
    bash("tally init --zone America/New_York")
    assert "1 event recorded" in bash(command)
    assert "points: 12 " in bash("tally member show C-1")
