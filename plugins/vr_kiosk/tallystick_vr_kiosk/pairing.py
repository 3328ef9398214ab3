"""Pairing, in the shape of RFC 8628: the device shows eight letters, somebody who may approves them elsewhere."""

from __future__ import annotations

import secrets
from typing import Final

#: Twenty consonants that are not mistaken for each other, as RFC 8628 section 6.1 has them: 34.5 bits in eight letters.
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
LENGTH: Final = 8
#: How long the letters are good for, in microseconds.
LIFE: Final = 10 * 60 * 1_000_000


def make_letters() -> str:
    """Eight fresh letters."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def read_letters(said: str) -> str:
    """What somebody typed as it is compared: no dash, no space, no small letters.

    >>> read_letters(" bcdf-ghjk ")
    'BCDFGHJK'
    """
    return "".join(letter for letter in said.upper() if letter in LETTERS)


def show_letters(letters: str) -> str:
    """As people read them.

    >>> show_letters("BCDFGHJK")
    'BCDF-GHJK'
    """
    return f"{letters[:4]}-{letters[4:]}"


def number_of(public_key: str) -> str:
    """Six digits of a device's key, shown on the device and to whoever approves it: they must be the same."""
    return f"{int(public_key[:16], 16) % 1_000_000:06d}"
