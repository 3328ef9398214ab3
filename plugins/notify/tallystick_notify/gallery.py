"""All messages of a tenant on one page, as members get them by mail: in each language, light and dark, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final
from zoneinfo import ZoneInfo

from .errors import TemplateRefused
from .letter import letter
from .settings import Settings
from .wording import Wording, render

_STYLE: Final = """\
:root{color-scheme:light dark}
body{margin:0;padding:2.5rem clamp(1rem,4vw,3.5rem) 4rem;background:Canvas;color:CanvasText;
font:16px/1.55 -apple-system,BlinkMacSystemFont,"Segoe UI",Roboto,"PingFang SC","Microsoft YaHei",sans-serif}
h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.05rem;margin:2.6rem 0 .2rem;font-family:ui-monospace,monospace}
p{margin:0 0 1rem;opacity:.75}
section>div{display:grid;gap:1.2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr))}
figure{margin:0}figcaption{font-size:.85rem;opacity:.7;margin:0 0 .4rem}
iframe{width:100%;height:25rem;border:1px solid color-mix(in srgb,CanvasText 18%,transparent);border-radius:.8rem;background:#fff}
"""
_NAMES: Final = {"en": "English", "zh": "中文"}


def all_mails(settings: Settings, zone: ZoneInfo) -> str:
    """The page, with the messages' own examples."""
    title = escape(settings.brand.name or "Messages")
    return f"""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{_STYLE}</style></head><body><h1>{title}</h1>
<p>Every message as it goes out by mail, with examples. 每条消息的邮件样式（示例数据）。</p>
{"".join(_section(settings, zone, name) for name in sorted(settings.messages))}
</body></html>
"""


def _section(settings: Settings, zone: ZoneInfo, name: str) -> str:
    message = settings.messages[name]
    mails = "".join(_mails(settings, zone, message.words, message.example))
    return f"<section><h2>{escape(name)}</h2><p>{escape(message.purpose)}</p><div>{mails}</div></section>"


def _mails(settings: Settings, zone: ZoneInfo, words: Mapping[str, Wording], facts: Mapping[str, Any]) -> Iterator[str]:
    for language, wording in words.items():
        try:
            filled = render(wording, facts, language, zone)
        except TemplateRefused as error:
            yield f"<figure><figcaption>{_NAMES[language]}</figcaption>{escape(str(error))}</figure>"
            continue
        mail = letter(filled, language, settings.brand, unsubscribe="#")
        for scheme in ("light", "dark"):
            # a device that prefers the other scheme is played by taking its rules for the only ones, or by leaving them out
            query = "(prefers-color-scheme:dark)"
            played = mail.replace(query, "all" if scheme == "dark" else "not all")
            yield (
                f"<figure><figcaption>{_NAMES[language]} · {scheme}</figcaption>"
                f'<iframe sandbox title="{escape(filled.subject)}" srcdoc="{escape(played)}"></iframe></figure>'
            )
