"""By the clock: allowances end, and what nobody asks for any more is forgotten."""

from __future__ import annotations

from typing import Any, Final

from tallystick.errors import TallyError
from tallystick.ledger import instant

from . import store

#: How long after its end an allowance waits for frames of a device that is still without network, in microseconds.
GRACE: Final = 24 * 3600 * 1_000_000
#: How long frames and their answers are kept, in microseconds.
KEPT: Final = 30 * 86_400 * 1_000_000


def end_allowances(errand: Any) -> None:
    """End what is over, a day after its end: until then the device may bring what it gave in time."""
    now = instant(errand.now)
    with errand.house.reading() as conn:
        over = store.over_grants(conn, errand.tenant, now - GRACE)
    for one in over:
        [outcome] = errand.record([
            {
                "id": f"{one.device}/{one.id}/ended", "source": "vr_kiosk", "type": "vr_kiosk.allowance_ended",
                "time": errand.now.isoformat(), "data": {"device": one.device, "grant": one.id},
            }
        ])  # fmt: skip
        if not isinstance(outcome, TallyError):
            with errand.house.db.begin() as conn:
                store.end_grant(conn, errand.tenant, one.device, one.id)


def tidy(errand: Any) -> None:
    """Forget old frames, tries, used steps and sessions."""
    with errand.house.db.begin() as conn:
        store.tidy(conn, errand.tenant, instant(errand.now) - KEPT)
