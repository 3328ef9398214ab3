"""What goes to a printer, to the byte, in English and in Chinese; by itself behind a reward, and when somebody says so."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from plugins.vr_kiosk.tests.conftest import SETTINGS, Shop
from plugins.vr_kiosk.tests.street import wait_until
from tallystick.errors import InvalidRequest, UnknownEntry
from tallystick.testing import make_stage
from tallystick.values import Text
from tallystick_vr_kiosk import receipts, sim, store
from tallystick_vr_kiosk.commands import tell
from tallystick_vr_kiosk.settings import Reward, Settings

pytest.importorskip("escpos")

PLAIN = (
    b"\x1b!\x00\x1b{\x00\x1db\x00\x1bE\x00\x1b-\x00\x1bM\x00\x1ba\x01\x1dB\x00"  # as python-escpos sets everything back
)
ZONE = ZoneInfo("America/New_York")


def redemption(shop: Shop) -> Any:
    """Somebody with 80 points takes a coffee for 50 on 15 June 2025 at noon."""
    shop.buys("ann", 80)
    kiosk = shop.pair()
    session = shop.identify(kiosk, "ann")
    kiosk.say("redeem", {"session": session, "reward": "coffee"})
    return shop.stage.records("ann")[-1]


@pytest.mark.parametrize(
    "language, title, reward, paid, left, thanks",
    [
        ("en", b"Welcome", b"Coffee", b"Points: 50", b"Left: 30", b"Thank you!"),
        ("zh", "欢迎光临", "咖啡", "积分：50", "余额：30", "谢谢惠顾！"),
    ],
)
def test_a_receipt_to_the_byte(
    shop: Shop, language: str, title: Any, reward: Any, paid: Any, left: Any, thanks: Any
) -> None:
    def line(text: Any) -> bytes:
        return text + b"\n" if isinstance(text, bytes) else b"\x1c&" + text.encode("gbk") + b"\x1c.\n"

    record = redemption(shop)
    entry = record.entry.encode()
    printed = receipts.render(record, shop.errand.plugin.settings, ZONE, language, 30)
    size = len(entry) + 3
    assert printed == b"".join(
        [
            b"\x1b!\x00\x1b!\x00\x1b!0\x1ba\x01", line(title),
            b"\x1b!\x00\x1b!\x00\x1b!\x00" + PLAIN[3:], line(b"2025-06-15 12:00"), b"\n",
            b"\x1bE\x01\x1ba\x01", line(reward),
            b"\x1b!\x00\x1b!\x00\x1b!\x00" + PLAIN[3:], line(paid), line(left), b"\n",
            b"\x1d(k\x04\x001A2\x00\x1d(k\x03\x001C\x04\x1d(k\x03\x001E0",
            b"\x1d(k" + bytes([size & 0xFF, size >> 8]) + b"1P0" + entry + b"\x1d(k\x03\x001Q0",
            line(entry), line(thanks), b"\x1bd\x06\x1dV\x00",
        ]
    )  # fmt: skip


def test_a_title_cannot_command_the_printer(shop: Shop) -> None:
    evil = Text({"en": "Cof\x1bp\x00fee\n\x1dV\x00"})
    settings = Settings(title=evil, rewards={"coffee": Reward(name="coffee", title=evil, points=50)})
    printed = receipts.render(redemption(shop), settings, ZONE, "en")
    assert b"CofpfeeV\n" in printed and printed.count(b"\x1dV") == 1


def test_a_reward_is_followed_by_its_receipt_on_devices_with_a_printer(shop: Shop) -> None:
    shop.buys("ann", 200)
    plain, printing = shop.pair("plain"), shop.pair("printing")
    paper: list[bytes] = []
    printing.printer = paper.append
    for kiosk in (plain, printing):
        session = shop.identify(kiosk, "ann") if kiosk is plain else "here"
        if kiosk is printing:
            shop.goes_by(seconds=31)
            kiosk.say("identify", {"code": shop.code("ann")}, operation="here")
        took = kiosk.say("redeem", {"session": session, "reward": "coffee", "language": "zh"})
        assert took is not None and took["status"] == "done"
        assert ("receipt" in took["said"]) is (kiosk is printing)
    assert len(paper) == 1 and "咖啡".encode("gbk") in paper[0] and "余额：100".encode("gbk") in paper[0]


def test_a_receipt_is_printed_again_when_somebody_says_so(shop: Shop) -> None:
    entry = redemption(shop).entry
    kiosk = shop.pair()
    paper: list[bytes] = []
    kiosk.printer = paper.append
    with pytest.raises(UnknownEntry):
        tell(shop.errand, kiosk.pen.device, "print", facts=f'{{"entry": "{shop.stage.records("ann")[0].entry}"}}')
    tell(shop.errand, kiosk.pen.device, "print", facts=f'{{"entry": "{entry}"}}')
    kiosk.say("beat", {"version": "1"})
    assert len(paper) == 1 and b"Coffee\n" in paper[0] and entry.encode() in paper[0] and b"Left" not in paper[0]
    shop.goes_by(seconds=60)
    kiosk.say("beat", {"version": "1"})
    states = shop.stage.rows("SELECT state, said FROM vr_kiosk_command")
    assert (len(paper), [tuple(row) for row in states]) == (1, [("done", "printed")])


def test_a_printer_in_the_network_gets_the_bytes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        got: list[bytes] = []

        def take() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    got.append(connection.recv(100))

        thread = threading.Thread(target=take)
        thread.start()
        port = listening.getsockname()[1]
        sim.network_printer(f"127.0.0.1:{port}")(b"paper")
        thread.join()
    assert got == [b"", b"paper"]  # it was looked for first
    for address in (f"127.0.0.1:{port}", "127.0.0.1:nine"):
        with pytest.raises(InvalidRequest, match="no printer"):
            sim.network_printer(address)


# --- the printer beside a kiosk -----------------------------------------------------------------------------------------


class Counter:
    """A kiosk without a printer, one with, both at the main desk; Ann has taken a coffee at the kiosk."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.paper = shop, list[bytes]()
        shop.buys("ann", 200)
        self.kiosk, self.printer = shop.pair("Kiosk", "Main"), shop.pair("Printer", "Main")
        self.printer.printer = self.paper.append
        self.session = shop.identify(self.kiosk, "ann")
        took = self.kiosk.say("redeem", {"session": self.session, "reward": "coffee"})
        assert took is not None
        self.entry = took["said"]["entry"]

    def asks(self, **more: Any) -> dict[str, Any]:
        data = {"session": self.session, "entry": self.entry, **more}
        answer = self.kiosk.say("print", data)
        assert answer is not None
        return answer

    def asked(self) -> dict[str, str]:
        self.printer.say("beat", {})
        said: dict[str, str] = self.asks(language="zh")["said"]
        return {name: said[name] for name in ("printer", "command")}

    def commands(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.shop.stage.rows("SELECT device, state, said FROM vr_kiosk_command")]


@pytest.fixture
def counter(shop: Shop) -> Counter:
    return Counter(shop)


def test_the_printer_beside_the_kiosk_prints_and_the_kiosk_hears_of_it(counter: Counter, shop: Shop) -> None:
    about = counter.asked()
    assert counter.asks(**about)["said"] == {"state": "waiting"}
    counter.printer.say("beat", {})
    record = shop.stage.records("ann")[-1]
    assert counter.paper == [receipts.render(record, shop.errand.plugin.settings, ZONE, "zh")]
    assert counter.asks(**about)["said"] == {"state": "done"}
    again = counter.kiosk.history[-3]  # the same frame again asks for no second paper
    counter.kiosk.line(again)
    shop.goes_by(seconds=30)
    counter.printer.say("beat", {})
    assert (len(counter.paper), counter.commands()) == (1, [(about["printer"], "done", "printed")])


def test_a_printer_that_missed_it_is_told_again(counter: Counter, shop: Shop) -> None:
    about = counter.asked()
    shop.cut = True
    counter.printer.say("beat", {})  # its answer never came
    lost = counter.printer.queue.pop()
    shop.cut = False
    desk_answer = counter.printer.line(lost)
    assert b"escpos" in desk_answer and counter.paper == []
    shop.goes_by(seconds=21)
    counter.printer.say("beat", {})
    assert len(counter.paper) == 1 and counter.asks(**about)["said"] == {"state": "done"}


def test_a_printer_without_paper_says_so(counter: Counter) -> None:
    def jammed(paper: bytes) -> None:
        raise OSError("out of paper")

    about = counter.asked()
    counter.printer.printer = jammed
    counter.printer.say("beat", {})
    assert counter.asks(**about)["said"] == {"state": "failed"}
    assert counter.commands() == [(about["printer"], "failed", "out of paper")]


def test_who_waits_no_longer_gets_no_paper_later_and_somebody_hears_of_the_printer(counter: Counter) -> None:
    about = counter.asked()
    assert counter.asks(**about, stop=True)["said"] == {"state": "given_up"}
    counter.printer.say("beat", {})
    assert (counter.paper, counter.shop.alarms()) == ([], ["command_given_up"])


@pytest.mark.parametrize("how", ["never there", "elsewhere", "silent", "revoked", "no place", "cannot print"])
def test_without_a_printer_that_answers_the_kiosk_is_told(shop: Shop, how: str) -> None:
    from tallystick_vr_kiosk import care

    counter = Counter(shop)
    if how != "never there":
        counter.printer.printer = counter.paper.append if how != "cannot print" else None
        counter.printer.say("beat", {})
    with shop.house.db.begin() as conn:
        for device in (counter.kiosk, counter.printer):
            if how in ("elsewhere", "no place"):
                place = "" if how == "no place" else device.pen.device
                store.change_device(conn, "shop", device.pen.device, place=place)
    if how == "silent":
        shop.goes_by(seconds=61)
    if how == "revoked":
        care.change_state(shop.errand, counter.printer.pen.device, "revoked")
    assert counter.asks()["code"] == "vr_kiosk_no_printer"
    assert counter.commands() == []


def test_a_kiosk_prints_only_what_its_member_took_there(counter: Counter, shop: Shop) -> None:
    counter.printer.say("beat", {})
    bought = shop.stage.records("ann")[0].entry
    other = shop.pair("Another", "Main")
    session = shop.identify(other, "bob")
    elsewhere = other.say("print", {"session": session, "entry": counter.entry})
    strange = counter.kiosk.say("print", {"session": "nobody", "entry": counter.entry})
    answers = [counter.asks(entry=entry) for entry in (bought, "1-999-0", "nonsense", "")]
    answers += [counter.asks(printer=counter.printer.pen.device, command=f"{other.pen.device}/op-1"), elsewhere]  # type: ignore[list-item]
    assert [one["code"] for one in answers] == ["vr_kiosk_not_offered"] * 6
    assert strange is not None and strange["code"] == "vr_kiosk_session_ended"
    assert counter.commands() == []


def test_a_printer_stands_at_a_place_until_it_is_stopped(tmp_path: Path) -> None:
    """``tally device printer``, in a process of its own, with a printer that is a socket."""
    with (
        make_stage(SETTINGS, f"sqlite:///{tmp_path / 'tally.db'}", tmp_path, start=datetime.now(UTC)) as stage,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        shop = Shop(stage)
        stage.enrol("ann")
        shop.buys("ann", 80)
        kiosk = shop.pair("Kiosk", "Main")
        session = shop.identify(kiosk, "ann")
        took = kiosk.say("redeem", {"session": session, "reward": "coffee"})
        assert took is not None
        listening.settimeout(60)
        command = [sys.executable, "-m", "tallystick", "device", "printer"]
        more = [f"127.0.0.1:{listening.getsockname()[1]}", "Main", "--config", str(tmp_path / "tally.toml")]
        with subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL) as process:
            try:
                listening.accept()[0].close()  # it looked for the printer first
                wait_until(lambda: stage.rows("SELECT 1 FROM vr_kiosk_device WHERE health LIKE '%escpos%'") != [])
                kiosk.say("print", {"session": session, "entry": took["said"]["entry"]})
                connection, _ = listening.accept()
                with connection:
                    assert b"Coffee\n" in b"".join(iter(lambda: connection.recv(4096), b""))
                wait_until(lambda: stage.rows("SELECT state FROM vr_kiosk_command") == [("done",)])
            finally:
                process.terminate()
                process.wait(60)
        assert stage.rows("SELECT state FROM vr_kiosk_device WHERE name = 'Printer'") == [("revoked",)]
