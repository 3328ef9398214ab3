"""For plugin authors: stories of one line per event, a house to play them in, and makers of what pure hooks look at.

Installed with pytest, the fixtures of :mod:`tallystick.fixtures` are there by themselves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .golden import GoldenDiffers
    from .makers import Maker, make_balance, make_event, make_member, make_plugin, make_purchase, make_situation
    from .stage import Stage, make_stage
    from .stories import StoryFailed, play

#: name -> module.  Each is imported when it is asked for: who tries a pure rule does not wait for a house.
_HOMES: Final = {
    "GoldenDiffers": "golden",
    "Maker": "makers",
    "Stage": "stage",
    "StoryFailed": "stories",
    "make_balance": "makers",
    "make_event": "makers",
    "make_member": "makers",
    "make_plugin": "makers",
    "make_purchase": "makers",
    "make_situation": "makers",
    "make_stage": "stage",
    "play": "stories",
}

__all__ = [
    "GoldenDiffers",
    "Maker",
    "Stage",
    "StoryFailed",
    "make_balance",
    "make_event",
    "make_member",
    "make_plugin",
    "make_purchase",
    "make_situation",
    "make_stage",
    "play",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    found = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return found
