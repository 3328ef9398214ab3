"""What lies in deploy/ is what systemd and a builder of images understand, and what the page about it says."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNIT = (ROOT / "deploy" / "tallystick.service").read_text()
CONTAINER = (ROOT / "deploy" / "Containerfile").read_text()
PAGE = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
INSTRUCTIONS = "ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN STOPSIGNAL USER VOLUME WORKDIR".split()
VENV = Path(sys.executable).parent


def verified(text: str, folder: Path, analyze: str) -> str:
    """What systemd has to say about a unit whose programs are those of these tests; nothing if all is well."""
    unit = folder / "tallystick.service"
    unit.write_text(text.replace("/opt/tallystick/venv/bin", str(VENV)).replace("Documentation=", "# "))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    return done.stderr + "failed" * (done.returncode != 0)


def test_systemd_understands_the_unit(tmp_path, debian_tool) -> None:
    analyze = debian_tool("systemd-analyze", "systemd")
    assert verified(UNIT, tmp_path, analyze) == ""
    assert "NoNewPriviledges" in verified(UNIT.replace("NoNewPrivileges", "NoNewPriviledges"), tmp_path, analyze)


def test_the_unit_gives_the_process_little(tmp_path, debian_tool) -> None:
    analyze = debian_tool("systemd-analyze", "systemd")
    verified(UNIT, tmp_path, analyze)
    unit = tmp_path / "tallystick.service"
    done = subprocess.run([analyze, "security", "--offline=yes", unit], capture_output=True, text=True, check=True)
    (exposure,) = re.findall(r"Overall exposure level[^:]*: ([\d.]+)", done.stdout)
    assert tuple(map(int, exposure.split("."))) <= (2, 0), "systemd calls up to 2.0 OK"


@pytest.mark.parametrize("line", re.findall(r"(?m)^Exec\w+=(.*)$", UNIT))
def test_the_unit_calls_commands_that_exist(line: str) -> None:
    _, *words = shlex.split(line)
    done = subprocess.run([VENV / "tally", *words, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of every instruction, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", CONTAINER))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def test_the_containerfile_is_made_of_instructions_in_an_order_that_builds() -> None:
    found = instructions()
    assert [word for word, _ in found if word not in INSTRUCTIONS] == []
    assert found[0][0] == "FROM"
    stages = [rest.partition(" AS ")[2] for word, rest in found if word == "FROM"]
    for word, rest in found:
        if word == "COPY" and rest.startswith("--from="):
            assert rest.partition("=")[2].partition(" ")[0] in stages
        elif word == "COPY":
            assert all((ROOT / path).exists() for path in rest.split()[:-1])
        elif word in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list)
    (entry,) = [json.loads(rest) for word, rest in found if word == "ENTRYPOINT"]
    (start,) = [json.loads(rest) for word, rest in found if word == "CMD"]
    done = subprocess.run([VENV / entry[0], *start, "--help"], capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("where", [CONTAINER, PAGE], ids=["Containerfile", "deploy.md"])
def test_uv_knows_the_options_it_is_called_with(where: str) -> None:
    known = subprocess.run([VENV / "uv", "sync", "--help"], capture_output=True, text=True, check=True).stdout
    (said,) = re.findall(r"uv sync (.*)", where)
    assert [word for word in said.split() if word.startswith("--") and word not in known] == []


def test_the_page_names_what_is_there() -> None:
    for path in re.findall(r"deploy/\w[\w.]*", PAGE):
        assert (ROOT / path).is_file(), path
    for word in re.findall(r"TALLY__HOUSE__(\w+)", PAGE + CONTAINER):
        assert f"### house.{word.lower().removesuffix('_file')}" in (ROOT / "docs/reference/settings.md").read_text()
