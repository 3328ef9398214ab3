"""Messages signed one by one, in a small profile of RFC 9421: what is covered, by which key, when, and in which order.

A request's signature covers method, path, digest of the body, sequence, time and nonce; an answer's covers its status, its
body and the signature that it answers.  Everything is written in one way only, and what is written otherwise is not heard.
The key comes along as `keyid`: what makes it the partner's is its fingerprint, which people have compared.  Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from . import agreement
from .errors import NotHeard

#: The name of our signature among others that a message may carry.
LABEL: Final = "coalition"
SEQUENCE: Final = "tallystick-sequence"
ASKED: Final = ("@method", "@path", "content-digest", SEQUENCE)
ANSWERED: Final = ("@status", "content-digest", f'"signature";req;key="{LABEL}"')
ASKED_TAG, ANSWERED_TAG = "tallystick-coalition/1", "tallystick-coalition-answer/1"

_B64 = "[A-Za-z0-9+/]"
_DIGEST = re.compile(rf"sha-256=:{_B64}{{43}}=:")
_SIGNATURE = re.compile(rf"{LABEL}=:({_B64}{{86}}==):")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_KEY = re.compile(rf"{_B64}{{43}}=")
_NONCE = re.compile(r"[A-Za-z0-9_-]{22}")
_INPUT = re.compile(
    rf'{LABEL}=(\("[^()]{{1,200}}\);created=([0-9]{{1,12}})(?:;nonce="({_NONCE.pattern})")?;keyid="({_KEY.pattern})";alg="ed25519";tag="([a-z0-9/-]{{1,40}})")'
)


class Stamp(NamedTuple):
    """What a request's signature says of the message."""

    key: str  #: the public key that signed it
    sequence: int  #: microseconds of the speaker's clock, larger with every message
    nonce: str

    @property
    def created(self) -> int:
        """When it was signed, in seconds since 1970."""
        return self.sequence // 1_000_000


def digest(body: bytes) -> str:
    """The Content-Digest of RFC 9530."""
    return f"sha-256=:{base64.b64encode(sha256(body).digest()).decode()}:"


def base(components: Sequence[tuple[str, str]], params: str) -> bytes:
    r"""What is signed: RFC 9421, section 2.5.  A component is named with its parameters, in quotes if it has any.

    >>> base([("@method", "POST")], '("@method");created=1').decode()
    '"@method": POST\n"@signature-params": ("@method");created=1'
    """
    lines = [f"{_named(name)}: {value}" for name, value in components]
    return "\n".join([*lines, f'"@signature-params": {params}']).encode()


def _named(component: str) -> str:
    return component if component.startswith('"') else f'"{component}"'


def _params(components: Sequence[str], key: str, created: int, tag: str, nonce: str = "") -> str:
    listed = " ".join(map(_named, components))
    once = f';nonce="{nonce}"' if nonce else ""
    return f'({listed});created={created}{once};keyid="{key}";alg="ed25519";tag="{tag}"'


def _signed(private: str, components: Sequence[tuple[str, str]], params: str) -> dict[str, str]:
    signature = agreement.sign(private, b"", base(components, params))
    return {"signature-input": f"{LABEL}={params}", "signature": f"{LABEL}=:{signature}:"}


def sign_request(private: str, path: str, body: bytes, stamp: Stamp) -> dict[str, str]:
    """The headers by which a POST of *body* to *path* is known to be ours; *private* is the private half of the stamp's key."""
    covered = {"content-digest": digest(body), SEQUENCE: str(stamp.sequence)}
    values = [("@method", "POST"), ("@path", path), *covered.items()]
    return {**covered, **_signed(private, values, _params(ASKED, stamp.key, stamp.created, ASKED_TAG, stamp.nonce))}


def read_request(prints: Collection[str], method: str, path: str, headers: Mapping[str, str], body: bytes) -> Stamp:
    """Who signed a request with one of the keys of these fingerprints, and what with.  Raises NotHeard; whether it is fresh is not looked at."""
    key, created, nonce, signature, params = _read(headers, ASKED_TAG, prints)
    sequence = headers.get(SEQUENCE, "")
    if _NUMBER.fullmatch(sequence) is None or int(sequence) // 1_000_000 != created:
        raise NotHeard("the sequence is not of the time at which it was signed")
    if not nonce or params != _params(ASKED, key, created, ASKED_TAG, nonce):
        raise NotHeard("something else is signed than what must be")
    values = [("@method", method), ("@path", path), ("content-digest", _digest(headers, body)), (SEQUENCE, sequence)]
    if not agreement.verify((key,), b"", base(values, params), signature):
        raise NotHeard("the signature is wrong")
    return Stamp(key, int(sequence), nonce)


def sign_answer(private: str, public: str, created: int, body: bytes, asked: str) -> dict[str, str]:
    """The headers by which *body* is known to be our answer to the request whose Signature header was *asked*."""
    covered = {"content-digest": digest(body)}
    values = [("@status", "200"), *covered.items(), (ANSWERED[2], _of(asked))]
    return {**covered, **_signed(private, values, _params(ANSWERED, public, created, ANSWERED_TAG))}


def check_answer(prints: Collection[str], status: int, headers: Mapping[str, str], body: bytes, asked: str) -> None:
    """That *body* is the answer of one of these keys to the request that was *asked*.  Raises NotHeard."""
    key, created, nonce, signature, params = _read(headers, ANSWERED_TAG, prints)
    if nonce or params != _params(ANSWERED, key, created, ANSWERED_TAG):
        raise NotHeard("something else is signed than what must be")
    values = [("@status", str(status)), ("content-digest", _digest(headers, body)), (ANSWERED[2], _of(asked))]
    if not agreement.verify((key,), b"", base(values, params), signature):
        raise NotHeard("the signature is wrong")


def _read(headers: Mapping[str, str], tag: str, prints: Collection[str]) -> tuple[str, int, str, str, str]:
    """(key, created, nonce, signature, what was said to be signed) of our label."""
    said = _INPUT.fullmatch(headers.get("signature-input", ""))
    signature = _SIGNATURE.fullmatch(headers.get("signature", ""))
    if said is None or signature is None:
        raise NotHeard("there is no signature, or it is not written as it must be")
    params, created, nonce, key, tagged = said.groups()
    if tagged != tag:
        raise NotHeard("the signature was made for something else")
    if agreement.fingerprint(key) not in prints:
        raise NotHeard(f"the key {agreement.fingerprint(key)} is not one of the partner's")
    return key, int(created), nonce or "", signature[1], params


def _digest(headers: Mapping[str, str], body: bytes) -> str:
    """The digest that was named, if it is the body's."""
    named = headers.get("content-digest", "")
    if _DIGEST.fullmatch(named) is None or named != digest(body):
        raise NotHeard("the body is not the one that was signed")
    return named


def _of(header: str) -> str:
    """Our signature in a Signature header."""
    return header.removeprefix(f"{LABEL}=")
