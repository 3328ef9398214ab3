"""For plugin authors: stories of one line per event, a house to play them in, and makers of events."""

from __future__ import annotations

from .stage import Stage, make_stage
from .stories import StoryFailed, play

__all__ = ["Stage", "StoryFailed", "make_stage", "play"]
