"""The how-to pages about messages do what they say: their settings in a house, their receiver as a program."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plugins.notify.tests.conftest import SECRET, START, Post, Shop, free_port
from tallystick import people
from tallystick.testing import make_stage
from tallystick_notify import jobs

GUIDES = Path(__file__).parents[3] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", (GUIDES / page).read_text(), re.DOTALL)
    return [text.replace("tenants.shop.", "") for text in found]


def test_reminders_go_out_by_mail_in_the_merchants_words(tmp_path: Path, post: Post) -> None:
    first, words = blocks("send-reminders.md", "toml")
    channel = re.sub(r"host = .*\n", f'host = "127.0.0.1"\nport = {post.port}\ntls = false\n', first)
    channel = re.sub(r"(user|password) = .*\n", "", channel)
    with make_stage(channel + words, f"sqlite:///{tmp_path / 'tally.db'}", tmp_path, start=START) as stage:
        shop = Shop(stage)
        with stage.house.db.begin() as conn:
            profile = people.Profile(email="ann@example.com")
            people.enrol(conn, stage.house.secret, "shop", stage.clock[0], external_ids=["ann"], profile=profile)
        stage._known.add("ann")
        stage.send(
            "purchase.completed",
            {"order": "R", "currency": "USD", "lines": [{"sku": "S", "amount": 120000}]},
            member="ann",
        )
        shop.goes_by(days=340)
        stage.house.run_jobs(force=True, only="points.remind")
        shop.works()
    (letter,) = post.letters
    assert b"Subject: 1,200 points wait for you" in letter
    assert b"List-Unsubscribe: <https://club.example.com/v1/notify/unsubscribe/" in letter


def test_the_receiver_of_the_page_knows_our_signature_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, port = tmp_path / "receiver.py", free_port()
    program.write_text(blocks("receive-webhooks.md", "python")[0])
    assert len(program.read_text().strip().splitlines()) <= 26
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
            jobs.wait_for_all()
            assert ("waiting", "401") in [tuple(row) for row in stage.rows("SELECT state, reason FROM notify_delivery")]
    finally:
        receiver.terminate()
        said, _ = receiver.communicate()
    assert said.decode().count("points.expiring") == 1
