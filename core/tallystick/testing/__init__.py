"""For plugin authors: stories of one line per event, a house to play them in, and makers of what pure hooks look at.

Installed with pytest, the fixtures of :mod:`tallystick.fixtures` are there by themselves.
"""

from __future__ import annotations

from .golden import GoldenDiffers
from .makers import Maker, make_balance, make_event, make_member, make_plugin, make_purchase
from .stage import Stage, make_stage
from .stories import StoryFailed, play

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
    "make_stage",
    "play",
]
