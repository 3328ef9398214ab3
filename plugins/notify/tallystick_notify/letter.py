"""The look of our mail: one column, light or dark as the reader's device is, in the merchant's colour, without a script."""

from __future__ import annotations

import re
from html import escape
from typing import Final

import attrs

from .wording import Wording

_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")
_FONTS: Final = (
    "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,'Helvetica Neue',Arial,'PingFang SC','Hiragino Sans GB',"
    "'Microsoft YaHei','Noto Sans CJK SC',sans-serif"
)
_STYLE: Final = """\
:root{color-scheme:light dark;supported-color-schemes:light dark}
body{margin:0;padding:0;-webkit-text-size-adjust:100%}
a{color:inherit}
@media (max-width:480px){.card{border-radius:0!important}.pad{padding:28px 22px!important}.air{padding:0!important}}
@media (prefers-color-scheme:dark){
.air{background:#111315!important}.card{background:#1c1f22!important;box-shadow:none!important}
.head{color:#f4f5f6!important}.text{color:#d5d8db!important}.foot{color:#9aa1a8!important}.line{border-color:#2c3135!important}
}"""
_SAID: Final = {
    "en": ("You receive this as a member of {name}.", "Unsubscribe"),
    "zh": ("您收到此邮件，因为您是{name}的会员。", "退订"),
}


@attrs.frozen(kw_only=True)
class Brand:
    """How a merchant's mail looks."""

    name: str = ""
    colour: str = "#2f6f5e"
    logo: str = ""  #: address of a picture
    footer: str = ""  #: the merchant's address and what the law asks for

    @property
    def ink(self) -> str:
        """What can be read on the colour: white or black, whichever stands out more (WCAG's luminance)."""
        channels = [int(self.colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#ffffff"


PLAIN: Final = Brand()


def letter(wording: Wording, language: str, brand: Brand, *, unsubscribe: str = "", pixel: str = "") -> str:
    """The whole document for words that are filled in; nothing in them is taken for HTML."""
    assert _COLOUR.fullmatch(brand.colour), "settings are checked"
    chinese = language.partition("-")[0] == "zh"
    eye = f'<img src="{escape(pixel)}" width="1" height="1" alt="" style="display:block">' if pixel else ""
    return f"""\
<!doctype html>
<html lang="{"zh-CN" if chinese else "en"}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">
<title>{escape(wording.subject)}</title><style>{_STYLE}</style></head>
<body class="air" style="margin:0;background:#f3f4f5;font-family:{_FONTS}">
<table role="presentation" class="air" width="100%" cellpadding="0" cellspacing="0" style="background:#f3f4f5;padding:32px 12px"><tr><td align="center">
<table role="presentation" class="card" width="100%" cellpadding="0" cellspacing="0" style="max-width:600px;background:#ffffff;border-radius:14px;overflow:hidden;box-shadow:0 1px 3px rgba(20,24,28,.08)">
{_band(brand)}
<tr><td class="pad" style="padding:36px 40px 34px">
<h1 class="head" style="margin:0 0 18px;font-size:24px;line-height:1.3;font-weight:650;color:#16181a">{escape(wording.subject)}</h1>
{_paragraphs(wording.text)}
</td></tr>
{_foot(brand, "zh" if chinese else "en", unsubscribe)}
</table>{eye}</td></tr></table>
</body></html>
"""


def _band(brand: Brand) -> str:
    name, edge = escape(brand.name), "padding:22px 40px"
    said = f'<span style="font-size:17px;font-weight:600;letter-spacing:.01em">{name}</span>'
    if brand.logo:
        said = f'<img src="{escape(brand.logo)}" alt="{name}" height="32" style="display:block;height:32px;border:0">'
    elif not brand.name:
        said, edge = "", "height:6px;line-height:6px;font-size:0"
    return f'<tr><td style="{edge};background:{brand.colour};color:{brand.ink}">{said}</td></tr>'


def _foot(brand: Brand, language: str, unsubscribe: str) -> str:
    why, stop = _SAID[language]
    said = [escape(why.format(name=brand.name))] if brand.name else []
    said += [escape(brand.footer).replace("\n", "<br>")] if brand.footer else []
    said += [f'<a href="{escape(unsubscribe)}" style="text-decoration:underline">{stop}</a>'] if unsubscribe else []
    style = "padding:20px 40px 28px;border-top:1px solid #e8eaec;font-size:13px;line-height:1.6;color:#656d76"
    return f'<tr><td class="line foot pad" style="{style}">{"<br>".join(said)}</td></tr>' if said else ""


def _paragraphs(text: str) -> str:
    said = [escape(part.strip()).replace("\n", "<br>") for part in re.split(r"\n\s*\n", text) if part.strip()]
    style = "margin:0 0 14px;font-size:16px;line-height:1.65;color:#33383d"
    return "\n".join(f'<p class="text" style="{style}">{part}</p>' for part in said)
