"""The house's time: the system's clock, except that it is never seen to go back.  Pure but for the clock it is given."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .ledger import DAY

log = logging.getLogger("tallystick")

#: A step back by no more than this is made up for gently; a longer one was a mistake that somebody has put right.
GENTLY = DAY


class SteadyClock:
    """Microseconds since 1970.

    After a step back the house's time goes on at half the speed until the system's clock has caught up: leases end,
    schedules go on, and what was granted before the step can be used after it.  The same holds for what another process
    wrote, whose clock is ahead.
    """

    def __init__(self, tell: Callable[[], int]) -> None:
        self.tell = tell
        self._told = tell()
        self._ahead = 0  #: how far the house is ahead of the clock it is given

    def __call__(self) -> int:
        before = self._told  # read first: another thread that asks meanwhile must not look like a step back
        told = self.tell()
        passed = told - before
        if passed >= 0:
            ahead = max(0, self._ahead - passed // 2)
        else:
            ahead = self._ahead - passed
            if ahead > GENTLY:
                log.warning(
                    "the clock went back by %s s: what was granted since then can be used when that time comes again",
                    -passed // 1_000_000,
                )
                ahead = 0
        self._told, self._ahead = told, ahead
        return told + ahead

    def saw(self, at: int) -> None:
        """Something was written at *at*: from now on it is no earlier than that, unless it is further than a day away."""
        behind = at - self()
        if behind > 0 and self._ahead + behind <= GENTLY:
            self._ahead += behind
