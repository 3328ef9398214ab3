"""How the commands ``tally`` and ``tallystick`` begin, and ``python -m tallystick``."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line."""
    # what a start imports stays: looking through it for garbage takes a tenth of the time and finds none
    gc.set_threshold(100_000, 50, 100)
    from .cli import main as run

    run()


if __name__ == "__main__":
    main()
