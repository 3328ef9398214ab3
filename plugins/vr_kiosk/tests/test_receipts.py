"""What goes to a printer, to the byte, in English and in Chinese; by itself behind a reward, and when somebody says so."""

from __future__ import annotations

import socket
import threading
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from plugins.vr_kiosk.tests.conftest import Shop
from tallystick.errors import InvalidRequest, UnknownEntry
from tallystick.values import Text
from tallystick_vr_kiosk import receipts, sim
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
