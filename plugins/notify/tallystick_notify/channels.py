"""The ways a message goes out.  A channel is handed what it needs, sends once, and says what came of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import smtplib
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs
import msgspec

from . import egress
from .wording import Wording

_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+", re.ASCII)
_ONE_CLICK = "List-Unsubscribe-Post: List-Unsubscribe=One-Click"
_encode = msgspec.json.Encoder(order="deterministic").encode


@attrs.frozen(kw_only=True)
class Parcel:
    """A message, ready to go."""

    id: str  #: the same at every attempt: receivers tell a repetition by it
    tenant: str
    member: str  #: ``m-`` and digits, empty for nobody's
    template: str
    purpose: str
    facts: Mapping[str, Any]
    created: datetime
    now: datetime
    language: str = ""
    wording: Wording | None = None
    address: str = ""  #: for mail; read from the sealed profile a moment ago, kept nowhere
    unsubscribe: str = ""  #: what withdraws consent


@attrs.frozen
class Result:
    """What came of an attempt: sent, to be tried again, or never."""

    state: Literal["sent", "again", "dead"]
    reason: str = ""


class Channel(Protocol):
    """One way out, as the tenant has set it up."""

    @property
    def words(self) -> bool:
        """Whether it needs wording."""
        ...

    def send(self, parcel: Parcel) -> Result:
        """Send once.  What it raises counts as a failure that may pass."""
        ...


@attrs.frozen(kw_only=True)
class Inbox:
    """The member's inbox in the app: the message lies there as soon as it is due."""

    words: bool = True

    def send(self, parcel: Parcel) -> Result:  # noqa: ARG002  it is there already
        """Nothing goes anywhere."""
        return Result("sent")


@attrs.frozen(kw_only=True)
class File:
    """One JSON document per line, for tests and demonstrations."""

    path: Path
    words: bool = False

    def send(self, parcel: Parcel) -> Result:
        """Append a line."""
        words = {} if parcel.wording is None else {"subject": parcel.wording.subject, "text": parcel.wording.text}
        line = _encode(
            {"id": parcel.id, "member": parcel.member, "template": parcel.template, "facts": parcel.facts, **words}
        )
        with self.path.open("ab") as file:
            file.write(line + b"\n")
        return Result("sent")


@attrs.frozen(kw_only=True)
class Webhook:
    """Another system: a CloudEvent, signed as Standard Webhooks says with every secret that is in force."""

    url: str
    secrets: Sequence[Mapping[str, str]]
    allow: tuple[str, ...] = ()
    words: bool = False

    def send(self, parcel: Parcel) -> Result:
        """Post it once; 2xx is a delivery, 410 an end."""
        body = _encode(
            {
                "specversion": "1.0", "id": parcel.id, "source": f"tallystick/{parcel.tenant}", "type": parcel.template,
                "time": parcel.created, "datacontenttype": "application/json",
                "data": {"member": parcel.member, "purpose": parcel.purpose, "facts": parcel.facts},
            }
        )  # fmt: skip
        stamp = str(int(parcel.now.timestamp()))
        keys = [read_secret(one) for one in self.secrets]
        headers = {
            "content-type": "application/cloudevents+json",
            "user-agent": "Tallystick",
            "webhook-id": parcel.id,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(sign(key, parcel.id, stamp, body) for key in keys),
        }
        try:
            status = egress.post(self.url, body, headers, self.allow)
        except egress.AddressRefused as error:
            return Result("dead", error.code)
        except egress.Unanswered as error:
            return Result("again", str(error)[:80])
        if 200 <= status < 300:
            return Result("sent", str(status))
        return Result("dead" if status == 410 else "again", str(status))


def sign(secret: str, id: str, stamp: str, body: bytes) -> str:
    """``v1,`` and the signature; *secret* is ``whsec_`` and base64."""
    key = base64.b64decode(secret.strip().removeprefix("whsec_"))
    digest = hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


@attrs.frozen(kw_only=True)
class Mail:
    """Mail over SMTP, with a way to unsubscribe by one click where the merchant has a page for it."""

    host: str
    port: int
    sender: str
    tls: bool = True
    user: str = ""
    password: Mapping[str, str] = {}
    unsubscribe: str = ""  #: a page of the merchant's, with ``{token}``
    words: bool = True

    def send(self, parcel: Parcel) -> Result:
        """Hand it to the mail server."""
        assert parcel.wording is not None
        if _ADDRESS.fullmatch(parcel.address) is None:
            return Result("dead", "no_address" if not parcel.address else "bad_address")
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self.sender
        mail["To"] = parcel.address
        mail["Subject"] = "".join(c for c in parcel.wording.subject if c.isprintable())[:200]
        mail["Date"] = parcel.created
        mail["Message-ID"] = f"<{parcel.id}@{self.sender.rpartition('@')[2].rstrip('>')}>"
        mail["Content-Language"] = parcel.language
        mail.set_content(parcel.wording.text)
        letter = mail.as_bytes()
        if self.unsubscribe and parcel.purpose != "service":
            # written as it is: the library would fold a long address into something that no mail program understands
            page = self.unsubscribe.replace("{token}", parcel.unsubscribe)
            letter = f"List-Unsubscribe: <{page}>\r\n{_ONE_CLICK}\r\n".encode("ascii") + letter
        try:
            with smtplib.SMTP(self.host, self.port, timeout=egress.TIMEOUT) as server:
                if self.tls:
                    server.starttls()
                if self.user:
                    server.login(self.user, read_secret(self.password))
                server.sendmail(parseaddr(self.sender)[1], [parcel.address], letter)
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            return Result("dead", f"bounced_{code}") if code >= 500 else Result("again", str(code))
        except smtplib.SMTPResponseException as error:
            return Result("again", str(error.smtp_code))
        except OSError as error:
            return Result("again", type(error).__name__)
        return Result("sent")


def read_secret(said: Mapping[str, str]) -> str:
    """The secret that ``{ env = ... }`` or ``{ file = ... }`` points to, read when it is used and kept nowhere."""
    return os.environ[said["env"]] if "env" in said else Path(said["file"]).read_text(encoding="utf-8").strip()
