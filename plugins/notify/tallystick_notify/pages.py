"""The page of messages, for whoever looks after them."""

from __future__ import annotations

from typing import Any

from .gallery import all_mails


def messages(request: Any) -> str:
    """Every message as it goes out by mail: each language, light and dark."""
    return all_mails(request.plugin.settings, request.plugin.programme.zone)
