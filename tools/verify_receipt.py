#!/usr/bin/env python3
"""Check a Tallystick receipt without a database and without Tallystick: python verify_receipt.py RECEIPT VERIFIER-KEY"""

# Needs Python 3.11 and the package cryptography.  The verifier key is what the shop publishes (`tally head --key`).

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha(*parts: bytes) -> bytes:
    """SHA-256 of the parts, one after the other."""
    return hashlib.sha256(b"".join(parts)).digest()


def _need(fits: bool, why: str) -> None:
    if not fits:  # assertions are not looked at under python -O
        sys.exit(f"the receipt does not hold: {why}")


def root_of(leaf: bytes, index: int, count: int, path: list[str]) -> bytes:
    """RFC 9162 2.1.3.2: the Merkle root that the audit path leads to."""
    node, last, steps = leaf, count - 1, [base64.b64decode(step) for step in path]
    _need(0 <= index < count, "no such leaf")
    while last:
        if index % 2:
            node = sha(b"\x01", steps.pop(0), node)
        elif index < last:
            node = sha(b"\x01", node, steps.pop(0))
        index, last = index // 2, last // 2
    _need(not steps, "the path is too long")
    return node


def check(receipt: dict, key: str) -> str:
    """What the receipt proves; any step that does not fit raises."""
    name, _, encoded = key.strip().split("+", 2)
    text, _, signature = receipt["head"].partition("\n\n\u2014 ")
    signer, sealed = signature.split()
    _need(signer == name, "signed by somebody else")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:])
    public.verify(base64.b64decode(sealed)[4:], f"{text}\n".encode())
    _origin, size, tree, line, *_ = text.split("\n")
    _need(size == "1" and sha(b"\x00", line.encode()) == base64.b64decode(tree), "the head does not fit its root")
    writer, number, chain = line.split(" ")
    root = root_of(sha(b"\x00", receipt["record"].encode()), receipt["index"], receipt["count"], receipt["path"])
    place = b"".join(int(n).to_bytes(8, "big") for n in (writer, number, receipt["count"]))
    _need(sha(base64.b64decode(receipt["previous"]), root, place) == base64.b64decode(chain), "not in the signed batch")
    record = json.loads(receipt["record"])
    _need(record["entry"].startswith(f"{writer}-{number}-"), "the record names another batch")
    moved = [f"{debit} -> {credit} {amount} {unit}" for debit, credit, unit, amount, *_ in record.get("transfers", [])]
    return f"{record['entry']} {record['kind']} {record['status']}: {', '.join(moved)}"


if __name__ == "__main__":
    sys.stdout.write(f"the receipt holds: {check(json.loads(Path(sys.argv[1]).read_bytes()), sys.argv[2])}\n")
