"""What devices and the house say to each other: numbered, chained and signed frames.  Pure.

A frame is a JSON text and the Ed25519 signature over exactly its bytes, so that nobody has to agree on a canonical form.
Each names the device, the epoch of its pairing, its number in that epoch and the hash of the frame before, and so every
frame has one place in one order.  The house takes number ``last + 1``.  The last frames may come again, as often as the
network likes: equal bytes get the old answer.  Other bytes under a number that was used mean that the device was copied:
it is set aside until a person has looked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct

from .errors import BadFrame

#: Bytes of a frame on the wire.
MAX_FRAME: Final = 16 * 1024
#: What the first frame of an epoch names as the one before it.
NOTHING: Final = "0" * 64

_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Hash = Annotated[str, Meta(min_length=64, max_length=64, pattern="^[0-9a-f]+$")]
_Count = Annotated[int, Meta(ge=1, le=1 << 53)]  # what a browser can count


#: What devices say.
Kind = Literal["beat", "identify", "event", "redeem", "print", "raw", "done", "end"]


class Frame(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that a device says."""

    device: _Name
    epoch: _Count  #: which pairing; a restored snapshot of the device belongs to an earlier one
    counter: _Count
    previous: _Hash  #: SHA-256 of the text of the frame before
    at: Annotated[datetime, Meta(tz=True)]  #: by the device's own clock: a claim
    operation: _Name  #: what it is about; sent again under another number, it is still the same operation
    offline: bool = False  #: whether it happened while the house could not be asked
    kind: Kind
    data: dict[str, Any] = {}


class Sealed(Struct, frozen=True, forbid_unknown_fields=True):
    """A frame on the wire."""

    frame: str
    signature: Annotated[str, Meta(max_length=128)]


_wire = msgspec.json.Decoder(Sealed)
_frame = msgspec.json.Decoder(Frame)


def hash_of(text: str) -> str:
    """By what the next frame names the one with this *text*."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_wire(body: bytes) -> tuple[Sealed, Frame]:
    """A frame from the wire, not yet believed.  Raises BadFrame."""
    if len(body) > MAX_FRAME:
        raise BadFrame(f"a frame has at most {MAX_FRAME} bytes")
    try:
        sealed = _wire.decode(body)
        frame = _frame.decode(sealed.frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadFrame("that is no frame") from None
    return sealed, frame


def check_signature(sealed: Sealed, public_key: str) -> None:
    """Raise BadFrame unless the frame was signed with the device's key."""
    try:
        signature = base64.b64decode(sealed.signature, altchars=b"-_", validate=True)
        _key(public_key).verify(signature, sealed.frame.encode())
    except (InvalidSignature, binascii.Error, ValueError):
        raise BadFrame("the signature is not this device's") from None


def check_key(public_key: str) -> None:
    """Raise BadFrame unless this can be an Ed25519 public key, in 64 hex digits."""
    try:
        _key(public_key)
    except ValueError:
        raise BadFrame("a device's public key is 32 bytes in hex") from None


def _key(public_key: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))


# --- order ----------------------------------------------------------------------------------------------------------

#: What the house does with a frame that is the device's own.
Verdict = Literal["new", "again", "gap", "copied", "other_epoch"]


def judge(frame: Frame, text: str, *, epoch: int, counter: int, last: str, known: str | None) -> Verdict:
    """Where a frame stands that a device in this state sends.

    *counter* is the last number taken and *last* the hash of its frame; *known* is the hash that is remembered under
    the frame's own number, if it was taken already.

    >>> judge(frame, text, epoch=1, counter=6, last=hash_of(before), known=None)  # doctest: +SKIP
    'new'
    """
    if frame.epoch != epoch:
        return "other_epoch"
    if frame.counter <= counter:
        # a number whose frame is forgotten was answered long ago: its sender has moved on, and a copy has not
        return "again" if known == hash_of(text) else "copied"
    if frame.counter > counter + 1:
        return "gap"
    return "new" if frame.previous == last else "copied"


# --- the device's side ----------------------------------------------------------------------------------------------


class Pen:
    """Writes a device's frames.  The browser has its own; this one is for simulators, tests and devices in Python."""

    def __init__(
        self, device: str, epoch: int, key: Ed25519PrivateKey, *, counter: int = 0, last: str = NOTHING
    ) -> None:
        self.device, self.epoch, self.key = device, epoch, key
        self.counter, self.last = counter, last

    def write(
        self, kind: str, data: dict[str, Any], *, at: datetime, operation: str = "", offline: bool = False
    ) -> bytes:
        """The next frame, as it goes over the wire."""
        frame = Frame(
            device=self.device, epoch=self.epoch, counter=self.counter + 1, previous=self.last, at=at,
            operation=operation or f"op-{self.counter + 1}", offline=offline, kind=kind, data=data,  # type: ignore[arg-type]
        )  # fmt: skip
        text = msgspec.json.encode(frame).decode()
        self.counter, self.last = frame.counter, hash_of(text)
        return seal(text, self.key)


def seal(text: str, key: Ed25519PrivateKey) -> bytes:
    """A frame's text with its signature."""
    signature = base64.urlsafe_b64encode(key.sign(text.encode())).decode()
    return msgspec.json.encode(Sealed(text, signature))
