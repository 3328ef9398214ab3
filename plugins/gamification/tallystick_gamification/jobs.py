"""Once a day: pay invitations whose purchases have stood long enough."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from tallystick import errands
from tallystick.ledger import member_name

from .hooks import Gamification
from .store import list_due

#: A job that did not run for up to a month catches up; who was paid is not paid again.
CATCH_UP = timedelta(days=31)
#: Events sent through the door at once.
AT_ONCE = 500


Errand: TypeAlias = errands.Errand[Gamification]


def pay_referrals(errand: Errand) -> int:
    """Say `gamification.referred` of every friend whose purchase stands; how many there were.

    The event's id follows from friend and order: said again, it is the same event and changes nothing.
    """
    today = errand.plugin.programme.local_date(errand.now)
    with errand.house.reading() as conn:
        found = list_due(conn, errand.tenant, (today - CATCH_UP).isoformat(), today.isoformat())
    for start in range(0, len(found), AT_ONCE):
        errand.record(
            {
                "id": f"referral/{friend}/{note['order']}", "source": "gamification", "type": "gamification.referred",
                "time": errand.now.isoformat(), "member": friend, "data": {"inviter": member_name(note["by"])},
            }
            for friend, note in found[start : start + AT_ONCE]
        )  # fmt: skip
    return len(found)
