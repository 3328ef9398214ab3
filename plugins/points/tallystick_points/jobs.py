"""Once a day: remind members of points that expire soon."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from tallystick import errands
from tallystick.ledger import member_name

from .hooks import Points
from .store import list_expiring

#: A job that did not run for up to a week catches up; who was reminded already is not reminded again.
CATCH_UP = timedelta(days=7)
#: Events sent through the door at once.
AT_ONCE = 500


Errand: TypeAlias = errands.Work[Points]


def remind(errand: Errand) -> int:
    """Say `points.expiring` of every member with a batch that comes within reach of the reminder; how often it was said.

    All of the event follows from the batch, its id and time as well: said again, it is the same event and changes nothing.
    """
    settings = errand.plugin.settings
    if not settings.remind_days:
        return 0
    reach = timedelta(days=settings.remind_days)
    until = errand.now + reach
    after = max(errand.now, until - CATCH_UP)
    said, behind = 0, int(errand.turn.progress or -1)
    while found := list_expiring(errand.house.reading, errand.tenant, settings.unit, after, until, behind=behind):
        for start in range(0, len(found), AT_ONCE):
            some = found[start : start + AT_ONCE]
            errand.record(
                {
                    "id": f"expiring/{member}/{last.isoformat()}", "source": "points", "type": "points.expiring",
                    "time": (last - reach).isoformat(), "member": member_name(member), "data": {"until": last.isoformat()},
                }
                for member, last in some
            )  # fmt: skip
            behind = some[-1][0]
            errand.turn.reached(str(behind))  # a reminder that was killed goes on with the next member
        said += len(found)
    return said
