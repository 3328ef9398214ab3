"""How plugins say they are: each is asked in a thread of its own, so that one that hangs keeps nobody waiting for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from .breaker import describe

K = TypeVar("K", bound=Hashable)
#: Seconds a plugin has to say how it is, and seconds before it is asked again.
PATIENCE, EVERY = 2.0, 10.0


class Visit:
    """One plugin is asked how it is."""

    def __init__(self, health: Callable[[], Any]) -> None:
        self._health = health
        self._said: list[str] = []
        self.begun = time.monotonic()
        self._thread = threading.Thread(target=self._ask, name="tally-health", daemon=True)
        self._thread.start()

    def why(self, patience: float = PATIENCE) -> str:
        """Why it is not well; empty if it is.  Waits for the answer, for *patience* seconds from the question on."""
        self._thread.join(max(0.0, self.begun + patience - time.monotonic()))
        return self._said[0] if self._said else f"does not say how it is within {patience:g} seconds"

    @property
    def over(self) -> bool:
        """Whether it has answered."""
        return bool(self._said)

    def _ask(self) -> None:
        try:
            said = self._health()
            if said is None or (isinstance(said, Mapping) and said.get("ok", True)):
                why = ""
            elif isinstance(said, Mapping):
                why = f"says that it is not well: {str(said)[:500]}"
            else:
                why = f'answers {type(said).__name__[:64]} in health; expected None or a mapping such as {{"ok": true}}'
        except BaseException as error:  # noqa: BLE001  nothing of a plugin's gets out of its own thread
            why = f"does not say how it is: {describe(error)}"
        self._said.append(why)


class Rounds:
    """Visits to all plugins of a house, each at most once in a while however often somebody wants to know."""

    def __init__(self, *, every: float = EVERY, patience: float = PATIENCE) -> None:
        self._every, self._patience = every, patience
        self._visits: Mapping[Any, Visit] = {}
        self._lock = threading.Lock()

    def unwell(self, plugins: Mapping[K, Callable[[], Any]]) -> dict[K, str]:
        """Which of *plugins* (their hooks, by whatever tells them apart) are not well, and why."""
        with self._lock:
            now = time.monotonic()
            visits = {key: self._visits[key] for key in plugins if key in self._visits}
            for key, health in plugins.items():
                last = visits.get(key)
                if last is None or (last.over and now - last.begun >= self._every):  # one that hangs is not asked again
                    visits[key] = Visit(health)
            self._visits = visits
        found = {key: visit.why(self._patience) for key, visit in visits.items()}
        return {key: why for key, why in found.items() if why}
