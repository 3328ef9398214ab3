"""Short messages through any gateway that takes an HTTP form: the merchant declares the form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import attrs
import msgspec

from . import egress
from .channels import Parcel, Result, encode, read_secret, status_result

#: What a field may name.
PLACES: Final = ("phone", "text", "id")
_PLACE: Final = re.compile(r"\{(\w+)\}")
_PHONE: Final = re.compile(r"\+?[0-9]{6,15}")
#: Characters of a message; a gateway would split it into parts and charge for each.
LONGEST: Final = 670


@attrs.frozen(kw_only=True)
class Verdict:
    """Where a gateway that always answers 200 says what came of it."""

    field: str  #: of its JSON: ``code``, or ``result.code``
    good: str
    never: tuple[str, ...] = ()  #: answers after which trying again is of no use


@attrs.frozen(kw_only=True)
class Sms:
    """A gateway: where it is, what its form has, and how its answer is read."""

    url: str
    fields: Mapping[str, str]
    secrets: Mapping[str, Mapping[str, str]] = {}  #: fields that are secrets
    headers: Mapping[str, Mapping[str, str]] = {}  #: headers that are secrets
    json: bool = False
    verdict: Verdict | None = None
    allow: tuple[str, ...] = ()
    words: bool = True
    address: str = "phone"
    templates: None = None

    def send(self, parcel: Parcel) -> Result:
        """Fill the form in and hand it over."""
        assert parcel.wording is not None
        (said,) = parcel.addresses
        phone = re.sub(r"[\s().-]", "", said)
        if _PHONE.fullmatch(phone) is None:
            return Result("dead", "bad_address")
        text = "".join(c for c in parcel.wording.text.strip() if c.isprintable() or c == "\n")
        if len(text) > LONGEST:
            return Result("dead", "too_long")
        found = {"phone": phone, "text": text, "id": parcel.id}
        form = {name: _PLACE.sub(lambda place: found[place[1]], value) for name, value in self.fields.items()}
        form |= {name: read_secret(secret) for name, secret in self.secrets.items()}
        body = encode(form) if self.json else urlencode(form).encode()
        headers = {
            "content-type": "application/json" if self.json else "application/x-www-form-urlencoded",
            "user-agent": "Tallystick",
            "idempotency-key": parcel.id,
            **{name: read_secret(secret) for name, secret in self.headers.items()},
        }
        answer = egress.post(self.url, body, headers, self.allow)
        result = status_result(answer.status, never=(400, 410, 413, 422))
        return self._judged(self.verdict, answer.body) if result.state == "sent" and self.verdict else result

    def _judged(self, verdict: Verdict, body: bytes) -> Result:
        try:
            said: Any = msgspec.json.decode(body)
            for name in verdict.field.split("."):
                said = said[name]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
            return Result("again", "no_verdict")
        word = re.sub(r"[^\w.:-]", "_", str(said))[:60]
        if str(said) == verdict.good:
            return Result("sent", word)
        return Result("dead" if str(said) in verdict.never else "again", word)


def unknown_places(fields: Mapping[str, str]) -> list[str]:
    """Names in braces that nothing stands for."""
    return sorted({name for value in fields.values() for name in _PLACE.findall(value)} - set(PLACES))
