"""Receipts for printers that speak ESC/POS: made here, so that a device only passes bytes on to its printer."""

from __future__ import annotations

import importlib.util
from typing import Any, Final
from zoneinfo import ZoneInfo

from tallystick.errors import InvalidRequest
from tallystick.ledger import Record, moment

from .settings import Settings

_WORDS: Final = {
    "en": {"paid": "Points: {paid}", "left": "Left: {left}", "thanks": "Thank you!"},
    "zh": {"paid": "积分：{paid}", "left": "余额：{left}", "thanks": "谢谢惠顾！"},
}
#: FS & and FS . of ESC/POS: what stands between them is read as two bytes a character.
_CHINESE, _LATIN = b"\x1c\x26", b"\x1c\x2e"


def available() -> bool:
    """Whether receipts can be made here: whether python-escpos is installed."""
    return importlib.util.find_spec("escpos") is not None


def render(record: Record, settings: Settings, zone: ZoneInfo, language: str, left: int | None = None) -> bytes:
    """What a printer is sent for a redemption; *left* is the balance behind it, if it shall be told.

    Raises InvalidRequest if python-escpos is missing.
    """
    try:
        from escpos.printer import Dummy
    except ImportError:
        raise InvalidRequest("receipts need python-escpos: pip install 'tallystick-vr-kiosk[printer]'") from None
    words = _WORDS["zh" if language.startswith("zh") else "en"]
    paid = -sum(step.amount for step in record.explanation if step.unit == settings.unit and not step.member)
    paper = Dummy()
    paper.set(align="center", double_height=True, double_width=True)
    _line(paper, settings.title.in_language(language))
    paper.set_with_default(align="center")
    _line(paper, f"{moment(record.at).astimezone(zone):%Y-%m-%d %H:%M}")
    _line(paper, "")
    paper.set(align="center", bold=True)
    for gift in record.gives:
        reward = settings.rewards.get(str(gift.get("reward", "")))
        _line(paper, reward.title.in_language(language) if reward is not None else str(gift.get("reward", "")))
    paper.set_with_default(align="center")
    _line(paper, words["paid"].format(paid=paid))
    if left is not None:
        _line(paper, words["left"].format(left=left))
    _line(paper, "")
    paper.qr(record.entry, native=True, size=4)
    _line(paper, record.entry)
    _line(paper, words["thanks"])
    paper.cut()
    found: bytes = paper.output
    return found


def _line(paper: Any, text: str) -> None:
    """One line; printers have no escape from commands within a text, so there are none in it."""
    plain = "".join(letter for letter in text if letter.isprintable())
    line = plain.encode() if plain.isascii() else _CHINESE + plain.encode("gbk", "replace") + _LATIN
    paper._raw(line + b"\n")  # noqa: SLF001  python-escpos has no other way for bytes as they are
