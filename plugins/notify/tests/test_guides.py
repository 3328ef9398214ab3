"""The how-to pages about messages do what they say: their settings in a house, their receiver as a program."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from plugins.notify.tests.conftest import POINTS, SECRET, START, Post, Shop, free_port
from plugins.notify.tests.test_effects import dsn
from tallystick import keys
from tallystick.cli import cli
from tallystick.testing import make_stage
from tallystick.web import build_app
from tallystick_notify import sending

GUIDES = Path(__file__).parents[3] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", (GUIDES / page).read_text(), re.DOTALL)
    return [text.replace("tenants.shop.", "") for text in found]


def typed(page: str, folder: Path) -> dict[str, str]:
    """What the page's `tally` commands say."""
    said = {}
    for line in "".join(blocks(page, "sh")).splitlines():
        if line.startswith("tally "):
            words = [*shlex.split(line)[1:], "--config", str(folder / "tally.toml")]
            found = CliRunner().invoke(cli, words, env={"LANG": "C.UTF-8"})
            assert found.exit_code == 0, found.output
            said[line] = found.output
    return said


def test_reminders_go_out_by_mail_in_the_merchants_words_and_look(
    tmp_path: Path, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = "send-reminders.md"
    first, words, brand, bounces = blocks(page, "toml")
    first += bounces.partition("\n")[2].replace("/var/mail/bounces", str(tmp_path / "bounces"))
    channel = re.sub(r"host = .*\n", f'host = "127.0.0.1"\nport = {post.port}\ntls = false\n', first)
    channel = re.sub(r"(user|password) = .*\n", "", channel)
    for name in ("new", "cur"):
        (tmp_path / "bounces" / name).mkdir(parents=True)
    with make_stage(channel + words + brand, f"sqlite:///{tmp_path / 'tally.db'}", tmp_path, start=START) as stage:
        shop = Shop(stage)
        shop.joins("C-1001", email="ann@example.com")
        lines = [{"sku": "S", "amount": 120000}]
        stage.send("purchase.completed", {"order": "R", "currency": "USD", "lines": lines}, member="C-1001")
        shop.goes_by(days=340)
        stage.house.run_jobs(force=True, only="points.remind")
        shop.works()
        (letter,) = post.letters
        head = letter.decode().replace("\r\n", "\n").partition("\n\n")[0]
        (tmp_path / "bounces" / "new" / "1").write_bytes(dsn(head))
        stage.house.run_jobs(force=True, only="notify.bounces")
        assert shop.deliveries() == [("letters", "bounced", "bounced_5.1.1")]
        with TestClient(build_app(stage.house)) as client, stage.house.db.begin() as conn:
            key = keys.create(conn, tenant="shop", role="integrator", name="app", now=stage.clock[0])[1]
            conn.commit()
            asked, said = re.findall(r'"\$HOUSE(/v1/notify/members/[^"]+)"', "".join(blocks(page, "sh")))
            document = json.loads(re.findall(r"-d '([^']+)'", "".join(blocks(page, "sh")))[0])
            headers = {"authorization": f"Bearer {key}"}
            assert client.get(asked, headers=headers).json()["preferences"][0]["channel"] == "letters"
            assert client.post(said, headers=headers, json=document).json()[0]["wording"] == "2026-11"
    assert b"Subject: 1,200 points wait for you" in letter
    assert b"List-Unsubscribe: <https://club.example.com/v1/notify/unsubscribe/" in letter
    commands = typed(page, tmp_path)
    assert any("https://club.example.com/v1/notify/bounces/" in text for text in commands.values())
    gallery = (tmp_path / "messages.html").read_text()
    assert gallery.count("Corner Shop, 1 Main Street") >= 4 and "1,200 points wait for you" in gallery


def test_the_channels_of_the_page_are_settings_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "reach-members.md"
    maker = next(line for line in "".join(blocks(page, "sh")).splitlines() if line.startswith("python3"))
    made = subprocess.run([sys.executable, "-c", shlex.split(maker)[2]], capture_output=True, text=True, check=True)
    monkeypatch.setenv("VAPID_KEY", made.stdout.strip())
    settings = POINTS + "".join(blocks(page, "toml"))
    with make_stage(settings, f"sqlite:///{tmp_path / 'tally.db'}", tmp_path, start=START) as stage:
        settings = stage.house.errand("notify", "shop", "notify.deliver").plugin.settings
        assert {way.kind for way in settings.ways} == {"sms", "wechat", "webpush", "apprise"}
        assert len(settings.way("browsers").channel.public()) == 87
    assert "/v1/notify/wechat/" in "".join(typed(page, tmp_path).values())


def test_the_receiver_of_the_page_knows_our_signature_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, port = tmp_path / "receiver.py", free_port()
    program.write_text(blocks("receive-webhooks.md", "python")[0])
    assert len([line for line in program.read_text().splitlines() if line]) <= 20
    channel, _ = blocks("receive-webhooks.md", "toml")
    channel = channel.replace("https://crm.example.com", f"http://127.0.0.1:{port}") + 'allow_private = ["127.0.0.1"]\n'
    points = '[plugins.points]\nexpiry = { policy = "rolling", after = "P30D" }\nremind = { days = 7 }\n'
    points += '[[plugins.points.earn]]\nname = "base"\npoints = 1\nper = 100\n'
    monkeypatch.setenv("CRM_SECRET", SECRET)
    receiver = subprocess.Popen(
        [sys.executable, program],
        env={**os.environ, "PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as knocking:
                if knocking.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        start = START.fromtimestamp(time.time(), START.tzinfo).replace(microsecond=0)
        begun = start.fromtimestamp(start.timestamp() - 25 * 86_400, start.tzinfo)
        with make_stage(points + channel, f"sqlite:///{tmp_path / 'tally.db'}", tmp_path, start=begun) as stage:
            Shop(stage).reminds()
            assert stage.rows("SELECT state, reason FROM notify_delivery") == [("sent", "204")]
            monkeypatch.setenv("CRM_SECRET", "whsec_" + "A" * 32)
            Shop(stage).reminds("bob")
            sending.wait_for_all()
            assert ("waiting", "401") in [tuple(row) for row in stage.rows("SELECT state, reason FROM notify_delivery")]
    finally:
        receiver.terminate()
        said, _ = receiver.communicate()
    assert said.decode().count("points.expiring") == 1
