"""Template messages of a WeChat official account, and what WeChat tells about them later."""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any, Final

import attrs
import msgspec

from . import egress
from .channels import Parcel, Result, encode, read_secret
from .wording import fill

HOST: Final = "https://api.weixin.qq.com"
_OPENID: Final = re.compile(r"[A-Za-z0-9_-]{10,64}")
#: Answers after which the access token is fetched anew.
_STALE: Final = frozenset({40001, 40014, 42001})
#: Answers after which trying again is of no use: no follower, no such person, no such template, bad data.
_NEVER: Final = frozenset({40003, 40037, 40036, 43004, 43101, 47001, 47003, 48001, 48004, 50001})


@attrs.frozen(kw_only=True)
class Form:
    """A template as WeChat approved it, and what stands in its fields."""

    id: str
    data: Mapping[str, Mapping[str, str]]  #: language -> field -> template of ours
    url: str = ""  #: where a tap leads


@attrs.define
class _Ticket:
    """The access token, good for two hours and fetched once for all threads."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    text: str = ""
    until: float = 0.0


@attrs.frozen(kw_only=True)
class WeChat:
    """An official account."""

    app: str
    secret: Mapping[str, str]
    forms: Mapping[str, Form]
    token: Mapping[str, str] = {}  #: what callbacks are signed with
    host: str = HOST
    allow: tuple[str, ...] = ()
    address: str = "more.wechat"
    words: bool = False
    _ticket: _Ticket = attrs.field(factory=_Ticket, eq=False, repr=False)

    @property
    def templates(self) -> Collection[str]:
        """Those that are declared."""
        return self.forms

    def send(self, parcel: Parcel) -> Result:
        """Fill the template in and hand it over."""
        (openid,) = parcel.addresses
        if _OPENID.fullmatch(openid) is None:
            return Result("dead", "bad_address")
        form = self.forms[parcel.template]
        data = form.data.get(parcel.language.partition("-")[0]) or next(iter(form.data.values()))
        filled = {name: fill(text, parcel.facts, parcel.language or "en", parcel.zone) for name, text in data.items()}
        letter: dict[str, Any] = {
            "touser": openid, "template_id": form.id, "client_msg_id": parcel.id.removeprefix("msg_"),
            "data": {name: {"value": " ".join(text.split())} for name, text in filled.items()},
        }  # fmt: skip
        if form.url:
            letter["url"] = form.url
        for fresh in (False, True):
            token = self._access(fresh)
            if isinstance(token, Result):
                return token
            said = self._ask(f"/cgi-bin/message/template/send?access_token={token}", letter)
            code = said.get("errcode", -1)
            if code not in _STALE:
                break
        if code == 0:
            return Result("sent", reference=str(said.get("msgid", "")))
        return Result("dead" if code in _NEVER else "again", str(code))

    def _access(self, fresh: bool) -> str | Result:
        ticket = self._ticket
        with ticket.lock:
            if fresh or monotonic() > ticket.until:
                said = self._ask(
                    "/cgi-bin/stable_token",
                    {"grant_type": "client_credential", "appid": self.app, "secret": read_secret(self.secret)},
                )
                text = said.get("access_token")
                if not isinstance(text, str) or re.fullmatch(r"[\w.-]{1,1024}", text) is None:
                    return Result("again", f"token_{said.get('errcode', 'refused')}")
                ticket.text, ticket.until = text, monotonic() + max(60, int(said.get("expires_in", 7200)) - 300)
            return ticket.text

    def _ask(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/json", "user-agent": "Tallystick"}
        answer = egress.post(self.host + path, encode(document), headers, self.allow)
        try:
            said = msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {"errcode": -answer.status}
        return said


# --- what WeChat tells later -----------------------------------------------------------------------------------------

_FIELD: Final = re.compile(rb"<(\w+)>(?:<!\[CDATA\[(.{0,500}?)\]\]>|([^<]{0,500}))</\1>", re.DOTALL)


def is_signed(token: str, query: Mapping[str, str], now: float) -> bool:
    """Whether WeChat sent it, not longer than five minutes ago."""
    stamp = query.get("timestamp", "")
    right = hashlib.sha1("".join(sorted([token, stamp, query.get("nonce", "")])).encode(), usedforsecurity=False)
    fresh = stamp.isascii() and stamp.isdigit() and abs(now - int(stamp[:12])) < 300
    return fresh and hmac.compare_digest(right.hexdigest().encode(), query.get("signature", "").encode())


def read_news(body: bytes) -> tuple[str, str] | None:
    """(the message's number at WeChat, what came of it) of a callback; None if it tells of something else.

    Its XML is a list of fields; no parser that knows more than that is let near it.
    """
    found = {name: cdata or text for name, cdata, text in _FIELD.findall(body)}
    if found.get(b"Event") != b"TEMPLATESENDJOBFINISH":
        return None
    return found.get(b"MsgID", b"").decode("ascii", "replace"), found.get(b"Status", b"").decode("utf-8", "replace")
