"""What opens without a key: unsubscribing, and what mail servers, browsers and WeChat tell us later.

Each is opened by a pass that the house has signed, and does the one thing the pass is about.
"""

from __future__ import annotations

import base64
from html import escape
from typing import Any, Final

from tallystick.errors import NotFound
from tallystick.ledger import instant

from . import store
from .channels import read_secret
from .jobs import take_bounce
from .letter import Brand
from .plan import allowed
from .wechat import WeChat, is_signed, read_news

_GIF: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_PURPOSES: Final = {
    "en": {"service": "service messages", "reminder": "reminders", "marketing": "news and offers"},
    "zh": {"service": "服务通知", "reminder": "提醒", "marketing": "资讯与优惠"},
}
_SAID: Final = {
    "en": {
        "ask": "Do you no longer want {what}?", "more": "They will no longer come this way. Your membership stays as it is.",
        "button": "Unsubscribe", "done": "You will get no more {what}.", "again": "You can change your mind in the app at any time.",
    },
    "zh": {
        "ask": "不再接收{what}？", "more": "退订后不会再通过此方式发送，您的会员权益不受影响。",
        "button": "退订", "done": "您将不再收到{what}。", "again": "您可以随时在会员中心重新开启。",
    },
}  # fmt: skip


def unsubscribe(knock: Any) -> str:
    """Stop messages of one purpose over one channel: GET shows a page and changes nothing, POST withdraws (RFC 8058)."""
    number, purpose, channel, message = knock.words
    member, said = int(number), _SAID[knock.language]
    words = {name: text.format(what=_PURPOSES[knock.language][purpose]) for name, text in said.items()}
    with knock.house.db.begin() as conn:
        stopped = not allowed(purpose, channel, store.wishes(conn, knock.tenant, [member]).get(member, ()))
        if knock.method == "POST" and not stopped:
            at = instant(knock.now)
            store.say(conn, knock.tenant, member, purpose, channel, given=False, wording="", via="one-click", at=at)
            store.note(conn, knock.tenant, message, channel, "unsubscribed", at)
            stopped = True
    if stopped:
        return _page(words["done"], f"<p>{words['again']}</p>", knock)
    button = f'<form method="post"><button name="List-Unsubscribe" value="One-Click">{words["button"]}</button></form>'
    return _page(words["ask"], f"<p>{words['more']}</p>{button}", knock)


def seen(knock: Any) -> tuple[str, bytes]:
    """A message was looked at: its picture was fetched, or the browser's service worker says so."""
    message, channel = knock.words
    with knock.house.db.begin() as conn:
        store.note(conn, knock.tenant, message, channel, "opened", instant(knock.now))
    return "image/gif", _GIF


def bounces(knock: Any) -> tuple[str, bytes]:
    """A letter that came back, as a mail server posts it; answers with what it was understood as."""
    errand = knock.house.errand("notify", knock.tenant, "notify.bounces")
    return "text/plain", (take_bounce(errand, knock.body) or "ignored").encode()


def wechat(knock: Any) -> tuple[str, bytes]:
    """WeChat's callback: GET proves to WeChat that it is us, POST tells what came of a message."""
    way = knock.plugin.settings.way(knock.words[0])
    if way is None or not isinstance(way.channel, WeChat) or not way.channel.token:
        raise NotFound("this link opens nothing")
    if not is_signed(read_secret(way.channel.token), knock.query, knock.now.timestamp()):
        raise NotFound("this link opens nothing")
    if knock.method == "GET":
        return "text/plain", knock.query.get("echostr", "").encode()
    if (news := read_news(knock.body)) is not None:
        reference, status = news
        with knock.house.db.begin() as conn:
            message, at = store.by_reference(conn, knock.tenant, way.name, reference), instant(knock.now)
            if status == "success":
                store.note(conn, knock.tenant, message, way.name, "delivered", at)
            else:
                reason = "blocked" if "block" in status else "failed"
                store.bounced(conn, knock.tenant, message, way.name, f"bounced_{reason}", at)
    return "text/plain", b"success"


def _page(title: str, body: str, knock: Any) -> str:
    brand: Brand = knock.plugin.settings.brand
    chinese = knock.language == "zh"
    return f"""\
<!doctype html>
<html lang="{"zh-CN" if chinese else "en"}"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>
:root{{color-scheme:light dark}}
body{{margin:0;min-height:100vh;display:grid;place-items:center;background:Canvas;color:CanvasText;
font:17px/1.6 -apple-system,BlinkMacSystemFont,"Segoe UI",Roboto,"PingFang SC","Microsoft YaHei",sans-serif}}
main{{max-width:30rem;padding:2.5rem 1.5rem;text-align:center}}
small{{opacity:.7}}h1{{font-size:1.6rem;line-height:1.3;margin:.6rem 0 1rem}}p{{margin:0 0 1.6rem}}
button{{font:inherit;font-weight:600;padding:.7rem 1.8rem;border:0;border-radius:.7rem;cursor:pointer;background:{brand.colour};color:{brand.ink}}}
button:focus-visible{{outline:3px solid Highlight;outline-offset:3px}}
</style></head><body><main><small>{escape(brand.name)}</small><h1>{escape(title)}</h1>{body}</main></body></html>
"""
