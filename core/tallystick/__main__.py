"""How the commands ``tally`` and ``tallystick`` begin, and ``python -m tallystick``."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line."""
    # what is imported stays, and events leave no cycles: looking for garbage as often as Python does takes a tenth of the
    # time of a start, which leaves 110,000 objects, and doubles the cost of an event
    gc.set_threshold(200_000, 50, 100)
    from .cli import cli

    cli(prog_name="tally")


if __name__ == "__main__":
    main()
