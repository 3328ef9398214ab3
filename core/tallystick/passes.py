"""Links that need no key: what they open is written in them, under the house's signature, and they open nothing else."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

import msgspec
from msgspec import Struct

from .errors import NotFound

#: Characters of a pass, and bytes of its signature: 128 bits are guessed by nobody.
LONGEST: Final = 600
_PROOF: Final = 16


class Pass(Struct, frozen=True, array_like=True):
    """Which door of which tenant it opens, and what it is about: nothing that must stay secret, for anybody can read it."""

    door: str  #: the route's id, ``notify.unsubscribe``
    tenant: str
    words: tuple[str, ...] = ()


def issue(secret: bytes, found: Pass) -> str:
    """The pass as it stands in a link: letters, digits, ``-`` and ``_``."""
    said = msgspec.json.encode(found)
    text = _text(_proof(secret, said) + said)
    assert len(text) <= LONGEST, "a pass says who and what in a few words"
    return text


def read(secret: bytes, text: str, door: str) -> Pass:
    """What the pass says.  Raises NotFound, always the same, if it is not ours or is for another door."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        said = sealed[_PROOF:]
        # one pass has one spelling: the last letter has bits that mean nothing
        if not hmac.compare_digest(sealed[:_PROOF], _proof(secret, said)) or _text(sealed) != text:
            raise ValueError
        found = msgspec.json.decode(said, type=Pass)
        if found.door != door:
            raise ValueError
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise NotFound("this link opens nothing") from None
    return found


def sign_for(secret: bytes, tenant: str, key: str, claims: bytes) -> str:
    """That *key* stands for an event with these claims: what the second person sends back with it."""
    return f"{key}.{_text(_proof(secret, msgspec.json.encode(('claims', tenant, key)) + claims))}"


def signer_of(secret: bytes, tenant: str, text: str, claims: bytes) -> str | None:
    """The id of the key that stands for these claims; None if the house has not said so."""
    key = text.partition(".")[0]
    return key if hmac.compare_digest(sign_for(secret, tenant, key, claims).encode(), text.encode()) else None


def _proof(secret: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, b"tallystick/pass/1\x00" + said, "sha256")[:_PROOF]


def _text(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")
