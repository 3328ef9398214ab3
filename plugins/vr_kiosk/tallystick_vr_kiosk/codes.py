"""Member codes: what a phone shows and a card bears.  They identify, and do nothing else.  Pure.

A code of a phone is ``TS1.<alias>.<step>.<mac>``: an alias that says nothing of the member, the half minute it was made
in, and ten characters (50 bits) of HMAC-SHA256 over both.  A code is good for its own step and the ones beside it, once; a
screenshot dies within sixty seconds.  A code of a printed card is ``TC1.<alias>.<mac>``: good until the card is replaced,
and therefore trusted with little.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Final, NamedTuple

#: Seconds of a step.
STEP: Final = 30
#: Steps before and after the present one that are taken: clocks differ.
SLACK: Final = 1
_LONG = re.compile(r"TS1\.([A-Z2-7]{16})\.([0-9]{1,12})\.([A-Z2-7]{10})")
_CARD = re.compile(r"TC1\.([A-Z2-7]{16})\.([A-Z2-7]{16})")


class Code(NamedTuple):
    """What a code says, believed or not."""

    alias: str
    step: int  #: 0 for a card
    mac: str

    @property
    def card(self) -> bool:
        """Whether it is a printed card's."""
        return not self.step


def step_of(seconds: int) -> int:
    """The step of an instant in seconds since 1970."""
    return seconds // STEP


def make_code(secret: bytes, alias: str, step: int) -> str:
    """What the phone shows in *step*; *secret* is the alias's own."""
    return f"TS1.{alias}.{step}.{_mac(secret, alias, step)}"


def make_card(secret: bytes, alias: str) -> str:
    """What a printed card bears."""
    return f"TC1.{alias}.{_mac(secret, alias, 0)}"


def read_code(text: str) -> Code | None:
    """The parts of a code; None if this is not one."""
    if found := _LONG.fullmatch(text):
        return Code(found[1], int(found[2]), found[3]) if int(found[2]) else None
    if found := _CARD.fullmatch(text):
        return Code(found[1], 0, found[2])
    return None


def is_right(secret: bytes, code: Code, now: int) -> bool:
    """Whether the code was made with *secret* and is good at *now* (seconds since 1970)."""
    fresh = code.card or abs(step_of(now) - code.step) <= SLACK
    return hmac.compare_digest(_mac(secret, code.alias, code.step), code.mac) and fresh


def secret_of(house_secret: bytes, tenant: str, alias: str) -> bytes:
    """The secret behind an alias; nobody stores it."""
    return hmac.digest(house_secret, f"vr_kiosk/code/{tenant}/{alias}".encode(), "sha256")


def _mac(secret: bytes, alias: str, step: int) -> str:
    made = base64.b32encode(hmac.digest(secret, f"{alias}/{step}".encode(), "sha256")).decode()
    return made[: 10 if step else 16]
