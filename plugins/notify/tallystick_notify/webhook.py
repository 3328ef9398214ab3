"""Messages to other systems: CloudEvents, signed as Standard Webhooks says."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import attrs
from msgspec import Meta, Struct

from . import egress
from .channels import Parcel, Result, encode, read_secret, status_result


class About(Struct, frozen=True, kw_only=True):
    """What a webhook is about."""

    member: Annotated[str, Meta(description="`m-` and twelve digits; empty if it concerns nobody")]
    purpose: Annotated[str, Meta(description="`service`, `reminder` or `marketing`")]
    facts: Annotated[Mapping[str, Any], Meta(description="what the message may name; see each message")]


class CloudEvent(Struct, frozen=True, kw_only=True):
    """The body of a webhook: CloudEvents 1.0 in JSON."""

    id: Annotated[str, Meta(description="the same at every attempt, and the header `webhook-id`")]
    source: Annotated[str, Meta(description="`tallystick/` and the tenant")]
    type: Annotated[str, Meta(description="the message's name")]
    time: Annotated[datetime, Meta(description="when it was decided")]
    data: About
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: Literal["application/json"] = "application/json"


def event(parcel: Parcel) -> CloudEvent:
    """The parcel as other systems get it."""
    return CloudEvent(
        id=parcel.id, source=f"tallystick/{parcel.tenant}", type=parcel.template, time=parcel.created,
        data=About(member=parcel.member, purpose=parcel.purpose, facts=parcel.facts),
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class Webhook:
    """Another system: a CloudEvent, signed with every secret that is in force."""

    url: str
    secrets: Sequence[Mapping[str, str]]
    allow: tuple[str, ...] = ()
    words: bool = False
    address: str = ""
    templates: None = None

    def send(self, parcel: Parcel) -> Result:
        """Post it once; 2xx is a delivery, 410 an end."""
        body, stamp = encode(event(parcel)), str(int(parcel.now.timestamp()))
        headers = {
            "content-type": "application/cloudevents+json",
            "user-agent": "Tallystick",
            "webhook-id": parcel.id,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(sign(read_secret(one), parcel.id, stamp, body) for one in self.secrets),
        }
        return status_result(egress.post(self.url, body, headers, self.allow).status, never=(410,))


def sign(secret: str, id: str, stamp: str, body: bytes) -> str:
    """``v1,`` and the signature; *secret* is ``whsec_`` and base64."""
    key = base64.b64decode(secret.strip().removeprefix("whsec_"))
    digest = hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
