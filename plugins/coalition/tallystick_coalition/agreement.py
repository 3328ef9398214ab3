"""Agreements as data: what may flow between two brands, at which exact rates, within which limits; signed by both.

An agreement is canonical JSON (keys sorted, no spaces), so that both sides sign and hash the same bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct

from tallystick import values

from .errors import NotAgreed, OutsideTerms

FORMAT: Final = "tallystick-agreement/1"
#: What a signature is about, so that one made for something else proves nothing here.
PURPOSE: Final = b"tallystick-agreement/1\n"
#: No numerator or denominator of a rate is larger: sums of a period stay far within 64 bits.
MAX_TERM: Final = 10**6

Brand = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,39}$", max_length=40)]
Key = Annotated[str, Meta(min_length=44, max_length=44)]
Cap = Annotated[int, Meta(ge=0, le=10**12)]
#: An exact number of at least 0, as ``"3/2"`` or ``"1"``, in lowest terms.
Exact = Annotated[str, Meta(pattern="^[0-9]{1,7}(/[0-9]{1,7})?$", max_length=15)]
Instant = Annotated[datetime, Meta(tz=True)]
Kind = Literal["convert", "redeem", "earn"]


class Flow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that may flow.  The source's points leave (or its shop earns), and the source pays the target.

    ``convert``: points of the source become points of the target.  ``redeem``: points of the source pay at the target.
    ``earn``: a purchase at the source earns points of the target.
    """

    kind: Kind
    source: Brand
    target: Brand
    #: what one gets: points of the target per point (convert) or minor unit (earn), minor units of discount per point (redeem)
    rate: Exact
    #: minor units the source pays: per point of the source (convert, redeem) or of the target (earn)
    price: Exact
    rounds_for: Literal["brands", "member"] = "brands"  #: who has the fraction of what the member gets
    price_for: Literal["source", "target"] = "source"  #: who has the fraction of a minor unit of what is owed
    since: Instant | None = None
    until: Instant | None = None
    minimum: Annotated[int, Meta(ge=1, le=10**12)] = 1  #: of one transfer: points, or minor units (earn)
    maximum: Annotated[int, Meta(ge=1, le=10**12)] = 10**9
    open_cap: Cap | None = None  #: minor units the source may owe and not have paid
    day_cap: Cap | None = None  #: minor units the source may come to owe on one UTC day
    member_day: Cap | None = None  #: points (or minor units) of one member on one local day
    tags: Annotated[
        tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=16)
    ] = ()  #: members with one of these only
    valid_days: Annotated[int, Meta(ge=1, le=36_500)] | None = (
        None  #: converted or earned points live no longer than that
    )
    tier_credit: bool = False  #: whether points that came over count for tiers

    @property
    def place(self) -> tuple[str, str, str]:
        """What it is about."""
        return self.kind, self.source, self.target

    def gets(self, amount: int) -> int:
        """What the member gets for *amount*, rounded once.

        >>> Flow(kind="convert", source="a", target="b", rate="2/3", price="1").gets(100)
        66
        """
        return _rounded(exact(self.rate), amount, up=self.rounds_for == "member")

    def owed(self, amount: int) -> int:
        """Minor units the source owes the target for *amount*, rounded once."""
        basis = self.gets(amount) if self.kind == "earn" else amount
        return _rounded(exact(self.price), basis, up=self.price_for == "target")

    def holds(self, at: datetime) -> bool:
        """Whether it is in force at *at*."""
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


class Agreement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What two brands agree on.  A later version takes the place of the one before it."""

    format: Literal["tallystick-agreement/1"]
    name: Brand
    version: Annotated[int, Meta(ge=1, le=10**6)]
    brands: tuple[Brand, Brand]  #: in alphabetical order
    keys: Mapping[
        str, Annotated[tuple[Key, ...], Meta(min_length=1, max_length=2)]
    ]  #: public keys by brand; two while one is replaced
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3)]
    since: Instant
    until: Instant | None = None
    flows: Annotated[tuple[Flow, ...], Meta(min_length=1, max_length=32)]

    @property
    def label(self) -> str:
        """How lots and entries name it."""
        return f"{self.name}/{self.version}"

    def other(self, brand: str) -> str:
        """The partner of *brand*."""
        return self.brands[1] if brand == self.brands[0] else self.brands[0]

    def flow(self, kind: str, source: str, target: str, at: datetime) -> Flow:
        """The terms in force for this.  Raises OutsideTerms."""
        if at < self.since or (self.until is not None and at >= self.until):
            raise OutsideTerms(f"agreement {self.label} is not in force then")
        for flow in self.flows:
            if flow.place == (kind, source, target) and flow.holds(at):
                return flow
        raise OutsideTerms(f"agreement {self.label} has no terms for {kind} from {source} to {target}")


class Signed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agreement's text with the signatures of both."""

    text: Annotated[str, Meta(max_length=12_000)]
    signatures: Mapping[str, Annotated[str, Meta(max_length=88)]]


@lru_cache(maxsize=1_024)
def exact(text: str) -> Fraction:
    """The number that was written."""
    return values.exact(text)


def _rounded(rate: Fraction, amount: int, *, up: bool) -> int:
    """*rate* times *amount*, in whole numbers all the way."""
    whole = rate.numerator * amount
    return -(-whole // rate.denominator) if up else whole // rate.denominator


def canonical(agreement: Agreement) -> str:
    """The text that both sign: the same for the same agreement, whoever writes it."""
    return msgspec.json.encode(agreement, order="deterministic").decode()


def digest(text: str) -> str:
    """SHA-256 of an agreement's text."""
    return sha256(text.encode()).hexdigest()


@lru_cache(maxsize=2_048)
def read(text: str) -> Agreement:
    """The agreement in its canonical text.  Raises NotAgreed with what is wrong."""
    try:
        agreement = msgspec.json.decode(text, type=Agreement)
    except msgspec.MsgspecError as error:
        raise NotAgreed(f"this is no agreement: {error}") from None
    mistakes = list(check(agreement))
    if mistakes:
        raise NotAgreed("; ".join(mistakes))
    if canonical(agreement) != text:
        raise NotAgreed(
            "the text is not in canonical form: sorted keys, no spaces, nothing said that goes without saying"
        )
    return agreement


def check(agreement: Agreement) -> Iterator[str]:
    """What is wrong with an agreement that has the right form."""
    yield from _check_parties(agreement)
    for place, flow in enumerate(agreement.flows):
        for mistake in _check_flow(flow, agreement):
            yield f"flow {place}: {mistake}"
        for before, other in enumerate(agreement.flows[:place]):
            if other.place == flow.place and _overlap(other, flow):
                yield f"flow {place}: flow {before} says the same thing at the same time"
    yield from _check_round_trips(agreement)


def _check_parties(agreement: Agreement) -> Iterator[str]:
    one, two = agreement.brands
    if one >= two:
        yield f"brands must be two, in alphabetical order, not {one} and {two}"
    if set(agreement.keys) != {one, two}:
        yield "keys must be given for both brands and nobody else"
    for brand, keys in agreement.keys.items():
        for key in keys:
            if _public(key) is None:
                yield f"a key of {brand} is not 32 bytes in base64"
    if set(agreement.keys.get(one, ())) & set(agreement.keys.get(two, ())):
        yield "the brands cannot have a key in common"
    if agreement.until is not None and agreement.until <= agreement.since:
        yield "it ends before it begins"


def _check_flow(flow: Flow, agreement: Agreement) -> Iterator[str]:
    if {flow.source, flow.target} != set(agreement.brands):
        yield "source and target must be the two brands"
    for name in ("rate", "price"):
        text = getattr(flow, name)
        try:
            value = exact(text)
        except ValueError:
            yield f"{name} {text} is no number"
            continue
        if str(value) != text:
            yield f"{name} {text} is not in lowest terms, which are {value}"
        elif max(value.numerator, value.denominator) > MAX_TERM:
            yield f"{name} {text} has a term above {MAX_TERM}"
        elif value == 0 and name == "rate":
            yield "a rate of 0 gives nothing"
    if flow.minimum > flow.maximum:
        yield f"minimum {flow.minimum} is above maximum {flow.maximum}"
    if flow.since is not None and flow.until is not None and flow.until <= flow.since:
        yield "it ends before it begins"


def _overlap(one: Flow, two: Flow) -> bool:
    return (one.until is None or two.since is None or two.since < one.until) and (
        two.until is None or one.since is None or one.since < two.until
    )


def _check_round_trips(agreement: Agreement) -> Iterator[str]:
    """Points that go over and come back may not have become more: that would be a pump."""
    ways = [flow for flow in agreement.flows if flow.kind == "convert"]
    for there in ways:
        for back in ways:
            if (there.source, there.target) == (back.target, back.source) and there.source < there.target:
                if not _overlap(there, back):
                    continue
                whole = exact(there.rate) * exact(back.rate)
                if whole > 1 or (whole == 1 and "member" in (there.rounds_for, back.rounds_for)):
                    yield f"points converted from {there.source} to {there.target} and back become more: {there.rate} times {back.rate}"


# --- keys and signatures ---------------------------------------------------------------------------------------------


def new_key(seed: bytes) -> str:
    """A private key, as it is written into a file or an environment variable, of 32 secret bytes."""
    return base64.b64encode(seed).decode()


def _private(key: str) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(key.strip(), validate=True))
    except (ValueError, binascii.Error):
        raise NotAgreed("the brand's key is not 32 bytes in base64") from None


def public_key(key: str) -> str:
    """The public half of a private *key*."""
    return base64.b64encode(_private(key).public_key().public_bytes_raw()).decode()


@lru_cache(maxsize=1_024)
def _public(key: str) -> Ed25519PublicKey | None:
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
    except (ValueError, binascii.Error):
        return None


def fingerprint(key: str) -> str:
    """What people compare on the phone: the beginning of the hash of a public key."""
    found = sha256(base64.b64decode(key)).hexdigest()[:32]
    return " ".join(found[place : place + 4] for place in range(0, 32, 4))


def sign(key: str, purpose: bytes, text: bytes) -> str:
    """Sign *text* for *purpose* with a private key."""
    return base64.b64encode(_private(key).sign(purpose + text)).decode()


def verify(keys: tuple[str, ...], purpose: bytes, text: bytes, signature: str) -> bool:
    """Whether one of the public *keys* signed *text* for *purpose*."""
    try:
        raw = base64.b64decode(signature, validate=True)
    except (ValueError, binascii.Error):
        return False
    for key in keys:
        public = _public(key)
        try:
            if public is not None:
                public.verify(raw, purpose + text)
                return True
        except InvalidSignature:
            continue
    return False


def accept(signed: Signed, brand: str, partner: str, before: Agreement | None) -> Agreement:
    """The agreement, if *brand* and *partner* have signed it and it follows the one *before*.

    A version after the first must be signed with keys that the one before it knows: a stolen database cannot replace keys.
    Raises NotAgreed.
    """
    agreement = read(signed.text)
    if set(agreement.brands) != {brand, partner}:
        raise NotAgreed(f"this agreement is between {' and '.join(agreement.brands)}")
    for each in agreement.brands:
        keys = tuple(before.keys[each] if before is not None else agreement.keys[each])
        if not verify(keys, PURPOSE, signed.text.encode(), signed.signatures.get(each, "")):
            raise NotAgreed(f"{each} has not signed this agreement")
    if before is not None and (agreement.name != before.name or agreement.version != before.version + 1):
        raise NotAgreed(f"version {before.version + 1} of {before.name} comes next, not {agreement.label}")
    if before is not None and agreement.currency != before.currency:
        raise NotAgreed(f"{before.name} is settled in {before.currency}")
    return agreement
