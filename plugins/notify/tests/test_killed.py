"""A process is killed in the middle of a delivery: nothing is lost, and what comes twice comes under the same id."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from plugins.notify.tests.conftest import Receiver, hook

PROGRAM = """\
import sys
from pathlib import Path
from tallystick import config, discovery, house
from tallystick.document import Document
file, now = Path(sys.argv[1]), int(sys.argv[2])
installed = discovery.discover()
checked = config.check(Document.read(file), installed=installed, folder=file.parent)
built = house.build_house(checked, installed=installed, clock=lambda: now)
built.run_jobs(force=True, only="notify.deliver")
from tallystick_notify import sending
sending.wait_for_all()
"""


def test_killed_while_a_delivery_is_under_way(shop, receiver: Receiver, tmp_path: Path) -> None:
    shop = shop(hook(receiver.url))
    receiver.answers = [500]
    shop.reminds()
    shop.goes_by(minutes=1)
    receiver.hold.clear()
    known = len(receiver.got)
    receiver.arrived.clear()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path / "tally.toml", str(shop.stage.clock[0])])
    try:
        assert receiver.arrived.wait(60), "the delivery is under way"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    receiver.hold.set()
    for _ in range(200):
        if len(receiver.got) > known:
            break
        time.sleep(0.05)
    shop.works()
    assert shop.deliveries()[0][:2] == ("crm", "waiting"), "it belongs to the one that was killed, for a while"
    shop.goes_by(minutes=16)  # the house gives up a job that was killed after 15
    shop.works()
    assert shop.deliveries() == [("crm", "sent", "204")]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == known + 2


def test_killed_in_the_middle_of_many_none_is_lost_and_none_comes_under_another_id(
    shop, receiver: Receiver, tmp_path: Path
) -> None:
    shop = shop(hook(receiver.url))
    ids = {shop.tells(shop.joins(f"m{n}")) for n in range(60)}
    many = threading.Event()

    def answer(_path: str, _body: bytes) -> tuple[int, bytes]:
        if len(receiver.got) >= 20:
            many.set()
        return 204, b""

    receiver.usual = answer
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path / "tally.toml", str(shop.stage.clock[0])])
    try:
        assert many.wait(60), "some have arrived"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    shop.goes_by(minutes=16)
    shop.works()
    assert {state for _, state, _ in shop.deliveries()} == {"sent"}
    assert {headers["webhook-id"] for headers, _ in receiver.got} == ids
