"""The messages a tenant's plugins may ask for, each with its words: those it comes with, and the merchant's in front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from tallystick.manifest import DeclaredMessage

from .wording import Wording

LANGUAGES: Final = ("en", "zh")


@attrs.frozen(kw_only=True)
class Message:
    """What a message may name, how it is put, and an example."""

    facts: tuple[str, ...]
    purpose: str = "service"
    words: Mapping[str, Wording] = {}  #: by language
    example: Mapping[str, Any] = {}


def declared(messages: Iterable[DeclaredMessage]) -> dict[str, Message]:
    """The messages of plugins, as their manifests describe them."""
    return {
        one.id: Message(
            facts=one.facts,
            purpose=one.purpose,
            words={
                language: Wording(one.subject.in_language(language), one.text.in_language(language))
                for language in LANGUAGES
                if language in one.subject.languages and language in one.text.languages
            },
            example=one.example,
        )
        for one in messages
    }
