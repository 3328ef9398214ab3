"""Recompute a round of a draw: `python verify.py proof.json`.  Needs nothing but Python; see `tally gamification proof`."""

import hashlib
import hmac
import json
import sys
from pathlib import Path


def prize(seed: bytes, entry: str, salt: str, table: list[tuple[str, int]]) -> str:
    """The prize that an entry wins."""
    total = sum(weight for _, weight in table)
    limit, attempt, number = 2**256 - 2**256 % total, 0, 2**256
    while number >= limit:
        digest = hmac.digest(seed, f"{entry}/{salt}/{attempt}".encode(), "sha256")
        number, attempt = int.from_bytes(digest, "big"), attempt + 1
    number, place = number % total, 0
    while number >= table[place][1]:
        number, place = number - table[place][1], place + 1
    return table[place][0]


proof = json.loads(Path(sys.argv[1]).read_text("utf-8"))
seed = bytes.fromhex(proof["seed"])
if hashlib.sha256(seed).hexdigest() != proof["commitment"]:
    sys.exit("the seed is not the one that was committed")
wrong = [d["entry"] for d in proof["draws"] if prize(seed, d["entry"], d["salt"], proof["table"]) != d["drawn"]]
sys.exit(f"drawn otherwise: {', '.join(wrong)}" if wrong else 0)
