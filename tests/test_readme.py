"""The first event of both README pages: what is sent is taken, and the answer shown is the answer given."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from tallystick import discovery, house
from tallystick.cli import cli
from tallystick.terminal import Desk
from tallystick.web import build_app

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "README.zh-CN.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DATA = re.compile(r"(/v1/\w+) .*?-d '(.*?)'\n", re.DOTALL)


def block(page: str, language: str, word: str) -> str:
    """The first block of *page* in *language* that has *word*."""
    return next(text for each, text in BLOCK.findall((ROOT / page).read_text()) if each == language and word in text)


def shown_of(given, shown):
    """What of *given* stands in *shown*: the page leaves fields out."""
    if isinstance(shown, dict):
        return {name: shown_of(given[name], each) for name, each in shown.items()}
    if isinstance(shown, list):
        return [shown_of(one, other) for one, other in zip(given, shown, strict=True)]
    return given


@pytest.mark.parametrize("page", PAGES)
def test_the_event_sent_is_answered_as_shown(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = json.loads(CliRunner().invoke(cli, ["init", "--json"]).stdout)["key"]
    command = block(page, "sh", "/v1/events").replace("'$(date -u +%FT%TZ)'", f"{datetime.now(UTC):%FT%TZ}")
    installed = discovery.discover()
    with house.build_house(Desk(tmp_path / "tally.toml", as_json=True).config(), installed=installed) as built:
        client = TestClient(build_app(built), headers={"Authorization": f"Bearer {key}"})
        answers = [client.post(path, json=json.loads(body)).json() for path, body in DATA.findall(command)]
    shown = json.loads(block(page, "json", "entry"))
    shown["member"] = answers[0]["member"]["member"]
    shown["lots"][0]["usable_from"] = answers[1]["received"]
    assert shown_of(answers[1], shown) == shown


@pytest.mark.parametrize("page", PAGES)
def test_the_story_prints_what_is_shown(page, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", block(page, "python", "make_stage")], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == block(page, "text", "points.base")
