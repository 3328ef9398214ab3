"""Letters over SMTP, and what comes back of them."""

from __future__ import annotations

import email
import re
import smtplib
from collections.abc import Iterator, Mapping
from email.message import EmailMessage, Message
from email.policy import SMTP, default
from email.utils import parseaddr

import attrs

from . import egress
from .channels import Parcel, Result, read_secret
from .letter import PLAIN, Brand, letter

_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+", re.ASCII)
_ONE_CLICK = "List-Unsubscribe-Post: List-Unsubscribe=One-Click"


@attrs.frozen(kw_only=True)
class Mail:
    """Mail over SMTP.  What is not a service message can be unsubscribed by one click (RFC 8058)."""

    host: str
    port: int
    sender: str
    tls: bool = True
    user: str = ""
    password: Mapping[str, str] = {}
    bounces: str = ""  #: address that undeliverable mail goes back to
    pixel: bool = False
    brand: Brand = PLAIN
    words: bool = True
    address: str = "email"
    templates: None = None

    def send(self, parcel: Parcel) -> Result:
        """Hand it to the mail server."""
        (address,) = parcel.addresses
        if _ADDRESS.fullmatch(address) is None:
            return Result("dead", "bad_address")
        try:
            with smtplib.SMTP(self.host, self.port, timeout=egress.TIMEOUT) as server:
                if self.tls:
                    server.starttls()
                if self.user:
                    server.login(self.user, read_secret(self.password))
                server.sendmail(
                    self.bounces or parseaddr(self.sender)[1], [address], self._written(parcel, address),
                    rcpt_options=["NOTIFY=FAILURE"] if server.has_extn("dsn") else [],
                )  # fmt: skip
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            if code < 500:
                return Result("again", str(code))
            status = _STATUS.match(said.decode("ascii", "replace"))
            return Result("dead", f"bounced_{status[0] if status else code}", parcel.print)
        except smtplib.SMTPResponseException as error:
            return Result("again", str(error.smtp_code))
        except OSError as error:
            return Result("again", type(error).__name__)
        return Result("sent", reference=parcel.print)

    def _written(self, parcel: Parcel, address: str) -> bytes:
        assert parcel.wording is not None
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self.sender
        mail["To"] = address
        mail["Subject"] = "".join(c for c in parcel.wording.subject if c.isprintable())[:200]
        mail["Date"] = parcel.created
        mail["Message-ID"] = f"<{parcel.id}.{parcel.proof}@{self.sender.rpartition('@')[2].rstrip('>')}>"
        mail["Content-Language"] = parcel.language
        mail["Auto-Submitted"] = "auto-generated"
        unsubscribe = parcel.unsubscribe if parcel.purpose != "service" else ""
        mail.set_content(parcel.wording.text + (f"\n\n--\n{unsubscribe}\n" if unsubscribe else ""))
        pixel = parcel.seen if self.pixel else ""
        mail.add_alternative(
            letter(parcel.wording, parcel.language, self.brand, unsubscribe=unsubscribe, pixel=pixel), subtype="html"
        )
        written = mail.as_bytes()
        if unsubscribe:
            # written as it is: the library would fold a long address into something that no mail program understands
            written = f"List-Unsubscribe: <{unsubscribe}>\r\n{_ONE_CLICK}\r\n".encode("ascii") + written
        return written


@attrs.frozen
class Bounce:
    """What a mail server tells about one of our letters, long after it took it."""

    message: str  #: our id
    proof: str
    action: str  #: failed, delayed, delivered, relayed or expanded, as RFC 3464 says
    status: str  #: ``5.1.1`` and the like


_OURS = re.compile(r"<(msg_[0-9a-f]{32})\.([0-9a-f]{20})@[^<>\s]+>")
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_ACTIONS = ("failed", "delayed", "delivered", "relayed", "expanded")


def read_bounce(raw: bytes) -> Bounce | None:
    """What a delivery status notification (RFC 3464) says; None if it is none, or not about a letter of ours."""
    try:
        parts = list(email.message_from_bytes(raw, policy=default).walk())
        told = next((part for part in parts if part.get_content_type() == "message/delivery-status"), None)
        ours = next((found for part in parts for text in _ids(part) if (found := _OURS.search(text))), None)
        if told is None or ours is None:
            return None
        blocks: list[Message] = [block for block in told.get_payload() if isinstance(block, Message)]
        block = next((block for block in blocks if block["Action"]), None)
        if block is None:
            return None
        action, status = str(block["Action"]).strip().lower(), _STATUS.match(str(block["Status"] or "").strip())
    except (
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        RecursionError,
    ):  # what a parser raises at bytes from anywhere
        return None
    return Bounce(ours[1], ours[2], action, status[0] if status else "") if action in _ACTIONS else None


def _ids(part: Message) -> Iterator[str]:
    """Where a returned letter's Message-ID may stand."""
    match part.get_content_type():
        case "message/rfc822" if part.is_multipart():
            yield str(part.get_payload(0)["Message-ID"] or "")  # type: ignore[index]
        case "text/rfc822-headers" | "message/rfc822-headers" | "message/global-headers":
            body = part.get_payload(decode=True)
            yield body.decode("ascii", "replace") if isinstance(body, bytes) else str(part)
