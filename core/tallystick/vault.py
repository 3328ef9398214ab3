"""Sealing what is personal: facts and profiles under the member's own key, external ids as keyed fingerprints.

Destroying a member's key is forgetting the member: the journal's hashes cover only sealed bytes and still verify.
"""

from __future__ import annotations

import hmac
import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32


def new_key() -> bytes:
    """A fresh random key."""
    return os.urandom(KEY_BYTES)


def derive(secret: bytes) -> bytes:
    """Thirty-two bytes to work with, from whatever the operator calls a secret."""
    return hmac.digest(secret, b"tallystick/house/1", "sha256")


def print_of(secret: bytes) -> bytes:
    """By what a wrong secret is noticed; tells nothing about the right one."""
    return hmac.digest(secret, b"tallystick/print/1", "sha256")


@lru_cache(maxsize=65_536)
def fingerprint(secret: bytes, tenant: str, name: str) -> str:
    """Thirty-two hex digits by which an external id is found again, and not read, without the house's *secret*."""
    return hmac.digest(secret, f"{tenant}\x00{name}".encode(), "sha256").hex()[:32]


@lru_cache(maxsize=65_536)
def _cipher(key: bytes) -> AESGCM:
    # building the cipher costs twice as much as using it
    return AESGCM(key)


def seal_facts(key: bytes, entry: int, facts: bytes, epoch: int = 0) -> bytes:
    """Encrypt an event's facts.  The nonce is the entry's number and the *epoch* of the writer's lease: after a backup was
    restored the numbers come again, but no epoch does.
    """
    lease = epoch.to_bytes(4, "big")
    return lease + _cipher(key).encrypt(lease + entry.to_bytes(8, "big"), facts, None)


def open_facts(key: bytes | None, entry: int, sealed: bytes) -> bytes | None:
    """The facts again; None if the key was destroyed or is another."""
    if key is None:
        return None
    cipher, number = _cipher(key), entry.to_bytes(8, "big")
    # before the epoch was part of the nonce, it was not written in front either
    for nonce, text in ((sealed[:4] + number, sealed[4:]), (b"\0\0\0\0" + number, sealed)):
        try:
            return cipher.decrypt(nonce, text, None)
        except (InvalidTag, ValueError):
            continue
    return None


def seal(key: bytes, text: bytes, context: bytes = b"") -> bytes:
    """Encrypt something that changes, under a random nonce; *context* must be the same when it is opened."""
    nonce = b"\xff" + os.urandom(11)  # entries never have this first byte: the two kinds of nonce cannot meet
    return nonce + _cipher(key).encrypt(nonce, text, context)


def open_sealed(key: bytes | None, sealed: bytes, context: bytes = b"") -> bytes | None:
    """The text again; None if the key was destroyed or is another."""
    if key is None:
        return None
    try:
        return _cipher(key).decrypt(sealed[:12], sealed[12:], context)
    except InvalidTag:
        return None


def forget_ciphers() -> None:
    """Drop cached ciphers, so that a destroyed key is gone from this process too."""
    _cipher.cache_clear()
    fingerprint.cache_clear()
