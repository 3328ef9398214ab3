"""The page of messages, for whoever looks after them."""

from __future__ import annotations

from typing import Any

from .gallery import gallery


def messages(request: Any) -> str:
    """Every message as it goes out by mail: each language, light and dark."""
    settings = request.plugin.settings
    return gallery(settings, request.plugin.programme.zone, sorted(settings.messages))
