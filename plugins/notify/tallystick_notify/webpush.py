"""Web push: messages to browsers, encrypted for the one browser (RFC 8291), under our own name (VAPID, RFC 8292)."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Final
from urllib.parse import urlsplit

import attrs
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Meta, Struct

from . import egress
from .channels import Parcel, Result, encode, read_secret, status_result
from .errors import AddressRefused

#: Bytes of a message that every push service takes.
LARGEST: Final = 3993
_HALF: Final = 43_200


class Keys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a message to the browser is encrypted with, in base64url."""

    p256dh: Annotated[str, Meta(min_length=80, max_length=100)]
    auth: Annotated[str, Meta(min_length=20, max_length=30)]


class Subscription(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"expiration_time": "expirationTime"}
):
    """One browser of a member, as ``PushSubscription.toJSON()`` gives it."""

    endpoint: Annotated[str, Meta(min_length=10, max_length=1000, pattern="^https?://")]
    keys: Keys
    expiration_time: int | None = None


@attrs.frozen(kw_only=True)
class WebPush:
    """Push services of all browsers, to which we are known by one key."""

    vapid: Mapping[str, str]  #: our private key: 32 bytes in base64url
    contact: str  #: ``mailto:`` or https, whom a push service writes to when something is wrong
    ttl: int = 6 * _HALF  #: seconds for which the push service keeps a message for a browser that is off
    allow: tuple[str, ...] = ()
    words: bool = True
    address: str = "push"
    templates: None = None

    def send(self, parcel: Parcel) -> Result:
        """Push it to every browser of the member; a repetition takes the place of what it repeats."""
        assert parcel.wording is not None
        news = {"id": parcel.id, "title": parcel.wording.subject, "body": parcel.wording.text, "seen": parcel.seen}
        body = encode(news)
        if len(body) > LARGEST:
            body = encode({**news, "body": parcel.wording.text[: LARGEST // 8]})
        found, gone = [], []
        for text in parcel.addresses:
            one = msgspec.json.decode(text, type=Subscription)
            result = self._push(one, body, parcel)
            found.append(result)
            if result.reason in ("404", "410"):
                gone.append(text)
        best = next(one for state in ("sent", "again", "dead") for one in found if one.state == state)
        return attrs.evolve(best, gone=tuple(gone))

    def _push(self, to: Subscription, body: bytes, parcel: Parcel) -> Result:
        try:
            sealed = encrypt(body, _decode(to.keys.p256dh), _decode(to.keys.auth))
        except (ValueError, binascii.Error):
            return Result("dead", "bad_address")
        parts = urlsplit(to.endpoint)
        headers = {
            "content-type": "application/octet-stream", "content-encoding": "aes128gcm", "ttl": str(self.ttl),
            "urgency": "normal", "topic": parcel.id.removeprefix("msg_")[:32], "user-agent": "Tallystick",
            "authorization": vapid(
                read_secret(self.vapid), f"{parts.scheme}://{parts.netloc}", self.contact, int(parcel.now.timestamp()) // _HALF
            ),
        }  # fmt: skip
        try:
            answer = egress.post(to.endpoint, sealed, headers, self.allow)
        except AddressRefused as error:
            return Result("dead", error.code)
        return status_result(answer.status, never=(400, 404, 410, 413))

    def public(self) -> str:
        """What a browser subscribes with: ``applicationServerKey``."""
        return _encode(_point(_private(read_secret(self.vapid)).public_key()))


def encrypt(
    text: bytes, browser: bytes, auth: bytes, *, key: ec.EllipticCurvePrivateKey | None = None, salt: bytes = b""
) -> bytes:
    """*text* for the *browser*'s public key: RFC 8291 over the one record of RFC 8188.

    *key* and *salt* are drawn for each message; they are arguments for the example of the RFC.  Raises ValueError.
    """
    if len(auth) != 16:
        raise ValueError("the secret of a subscription has 16 bytes")
    key, salt = key or ec.generate_private_key(ec.SECP256R1()), salt or os.urandom(16)
    theirs, ours = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), browser), _point(key.public_key())
    shared = key.exchange(ec.ECDH(), theirs)
    seed = _expand(hmac.digest(auth, shared, "sha256"), b"WebPush: info\x00" + browser + ours, 32)
    mixed = hmac.digest(salt, seed, "sha256")
    sealing, nonce = (
        _expand(mixed, b"Content-Encoding: aes128gcm\x00", 16),
        _expand(mixed, b"Content-Encoding: nonce\x00", 12),
    )
    head = salt + (4096).to_bytes(4, "big") + bytes([len(ours)]) + ours
    return head + AESGCM(sealing).encrypt(nonce, text + b"\x02", None)


@lru_cache(maxsize=256)
def vapid(secret: str, audience: str, contact: str, half: int) -> str:
    """The header that says who we are: signed once in a *half* day for each push service, good for six hours longer."""
    key = _private(secret)
    claims = {"aud": audience, "exp": (half + 1) * _HALF + _HALF // 2, "sub": contact}
    said = f"{_encode(encode({'alg': 'ES256', 'typ': 'JWT'}))}.{_encode(encode(claims))}"
    r, s = decode_dss_signature(key.sign(said.encode(), ec.ECDSA(SHA256())))
    return f"vapid t={said}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}, k={_encode(_point(key.public_key()))}"


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


def _private(secret: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(_decode(secret), "big"), ec.SECP256R1())


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
