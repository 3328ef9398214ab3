"""Work by the clock: watches look, holds end, old traces go."""

from __future__ import annotations

from . import docket, store
from .docket import Errand


def watch(errand: Errand) -> int:
    """Let the watches look at what was learned since they looked last."""
    return docket.keep_watch(errand)


def timeouts(errand: Errand) -> int:
    """End what nobody decided, as its policy declares."""
    return docket.end_holds(errand)


def sweep(errand: Errand) -> int:
    """Forget traces that are older than the merchant keeps them."""
    before = int((errand.now - errand.plugin.settings.keep).timestamp())
    with errand.house.db.begin() as conn:
        return store.sweep(conn, errand.tenant, before)
