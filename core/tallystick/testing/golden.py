"""Golden effects: what a plugin proposed when somebody last read it, in a file that reviewers see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..effects import Effect
from ..page import effects_document


class GoldenDiffers(AssertionError):
    """The effects are others than in the reviewed file; ``pytest --update-golden`` writes it anew."""


def compare(effects: Sequence[Effect], file: Path, *, update: bool = False) -> None:
    """Raise :class:`GoldenDiffers` unless *effects* are those in *file*; with *update* write them there."""
    now = msgspec.json.format(msgspec.json.encode(effects_document(effects), order="deterministic"), indent=2) + b"\n"
    if update:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(now)
        return
    if not file.exists():
        raise GoldenDiffers(
            f"{file} is not there yet; look at the effects and run pytest --update-golden:\n{now.decode()}"
        )
    before = file.read_bytes()
    if before != now:
        raise GoldenDiffers(f"{file} says\n{before.decode()}\nand it is\n{now.decode()}")
