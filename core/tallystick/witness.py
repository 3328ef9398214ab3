"""What can be checked without the house: heads signed by it, and receipts of single entries.  Pure.

A head is a `C2SP <https://c2sp.org>`_ checkpoint in a signed note: the sorted list of all writers' last batches, closed
writers too, under an RFC 6962 Merkle root and an Ed25519 signature.  A receipt holds one record, its audit path to the
root of its batch, and a head of just that batch.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

from .errors import InvalidRequest, ProofFailed
from .ledger import Head, Record, chain_hash, leaf_hash, merkle_root, moment, parse_entry, read_record, root_from_path

_ED25519 = b"\x01"
_FORMAT = "tallystick-receipt/1"


class Signer:
    """The house's signing key, which follows from the house's secret: nothing else has to be kept."""

    def __init__(self, secret: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(hmac.digest(secret, b"tallystick/head/1", "sha256"))
        public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        name = f"tallystick/{hashlib.sha256(public).hexdigest()[:16]}"
        self.key = VerifierKey(name, public)

    def sign(self, text: str) -> str:
        """*text*, which ends with a newline, as a signed note."""
        signature = base64.b64encode(self.key.id + self._private.sign(text.encode())).decode()
        return f"{text}\n\N{EM DASH} {self.key.name} {signature}\n"


class VerifierKey(NamedTuple):
    """What a shop publishes, so that anybody can check what its house signed."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    def open(self, note: str) -> str:
        """The text of a signed note; raises ProofFailed unless this key has signed exactly this text."""
        text, found, signatures = note.partition("\n\n\N{EM DASH} ")
        for line in f"\N{EM DASH} {signatures}".split("\n") if found else ():
            name, _, signature = line.removeprefix("\N{EM DASH} ").partition(" ")
            data = _bytes(signature)
            if name == self.name and data[:4] == self.id:
                try:
                    Ed25519PublicKey.from_public_bytes(self.public).verify(data[4:], f"{text}\n".encode())
                except InvalidSignature:
                    raise ProofFailed("the signature does not fit the text") from None
                return f"{text}\n"
        raise ProofFailed(f"it is not signed by {self.name}")


def read_key(text: str) -> VerifierKey:
    """A verifier key as ``name+id+key``; raises InvalidRequest."""
    name, _, rest = text.strip().partition("+")
    id, _, key = rest.partition("+")
    data = _bytes(key)
    found = VerifierKey(name, data[1:])
    if not name or data[:1] != _ED25519 or len(data) != 33 or id != found.id.hex():
        raise InvalidRequest("this is no verifier key")
    return found


def signer_of(note: str) -> str:
    """The name under which a note is signed; empty if it is not."""
    return note.partition("\n\n\N{EM DASH} ")[2].partition(" ")[0]


# --- heads ----------------------------------------------------------------------------------------------------------


def write_head(origin: str, heads: Iterable[Head], at: int) -> str:
    """The checkpoint's text: origin, number of writers, root over their lines; then the lines and the time."""
    lines = [_line(head) for head in sorted(heads, key=lambda head: head.writer)]
    root = merkle_root([leaf_hash(line.encode()) for line in lines])
    size = base64.b64encode(root).decode()
    return "\n".join([origin, str(len(lines)), size, *lines, f"at {moment(at).isoformat()}"]) + "\n"


def read_head(text: str) -> list[Head]:
    """The heads that a checkpoint's text lists; raises ProofFailed if they are not what its root says."""
    _origin, size, root, *lines = [*text.splitlines(), "", ""][: max(3, text.count("\n"))]
    lines = [line for line in lines if line and not line.startswith("at ")]
    if str(len(lines)) != size or merkle_root([leaf_hash(line.encode()) for line in lines]) != _bytes(root):
        raise ProofFailed("the list of writers does not fit the head's root")
    return [_parse(line) for line in lines]


def _line(head: Head) -> str:
    return f"{head.writer} {head.number} {base64.b64encode(head.chain).decode()}"


def _parse(line: str) -> Head:
    writer, number, chain = line.split(" ")
    return Head(writer=int(writer), number=int(number), chain=_bytes(chain))


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


# --- receipts -------------------------------------------------------------------------------------------------------


class EntryReceipt(Struct, frozen=True, kw_only=True):
    """The member's half of the stick: a record as it was hashed, its way to the batch's root, and the signed batch."""

    format: str
    record: str  #: canonical JSON, character by character
    index: int  #: the leaf's place in the batch
    count: int  #: how many leaves the batch has
    path: tuple[str, ...]  #: base64, from the leaf upwards
    previous: str  #: base64: the chain up to the batch before
    head: str  #: signed note that lists this batch


def write_receipt(body: bytes, index: int, count: int, path: Sequence[bytes], previous: bytes, head: str) -> bytes:
    """A receipt file: small JSON."""
    receipt = EntryReceipt(
        format=_FORMAT,
        record=body.decode(),
        index=index,
        count=count,
        path=tuple(base64.b64encode(step).decode() for step in path),
        previous=base64.b64encode(previous).decode(),
        head=head,
    )
    return msgspec.json.format(msgspec.json.encode(receipt), indent=1) + b"\n"


def read_receipt(data: bytes) -> EntryReceipt:
    """A receipt file; raises InvalidRequest if it is none."""
    try:
        receipt = msgspec.json.decode(data, type=EntryReceipt)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidRequest("this is no receipt") from None
    if receipt.format != _FORMAT:
        raise InvalidRequest(f"this house does not read {receipt.format!r}")
    return receipt


def check_receipt(receipt: EntryReceipt, key: VerifierKey) -> tuple[Record, Head]:
    """The record and the batch it stands in, if *key* signed that; raises ProofFailed at the first step that does not fit."""
    listed = read_head(key.open(receipt.head))
    if len(listed) != 1:
        raise ProofFailed("the head of a receipt lists its batch alone")
    head = listed[0]
    body = receipt.record.encode()
    try:
        root = root_from_path(leaf_hash(body), receipt.index, receipt.count, [_bytes(step) for step in receipt.path])
    except ValueError:
        raise ProofFailed("the path does not lead from the record to a root") from None
    if chain_hash(_bytes(receipt.previous), root, head.writer, head.number, receipt.count) != head.chain:
        raise ProofFailed("the record is not in the signed batch")
    record = read_record(body)
    entry = parse_entry(record.entry) or 0
    if entry >> 51 != head.writer or (entry >> 12) & 0x7FFFFFFFFF != head.number:
        raise ProofFailed("the record names another batch")
    return record, head
