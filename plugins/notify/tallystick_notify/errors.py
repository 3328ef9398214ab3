"""How messages are refused, each with its public code."""

from __future__ import annotations

from tallystick.errors import TallyError


class AddressRefused(TallyError):
    """An address that messages do not go to: not public, or no http address."""

    code = "address_refused"
    chinese = "消息不会发送到这个地址。"


class TemplateRefused(TallyError):
    """A template reaches for what is not offered, or does not go with the facts."""

    code = "template_refused"
    chinese = "消息模板使用了不允许的内容，或与消息内容不符。"
