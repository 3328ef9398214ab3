"""Deciding about messages that became due: which channel each goes over, when, and why not over the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import attrs

from tallystick.ledger import instant, moment

from . import store
from .errands import Errand
from .plan import PUSHES, SYSTEMS, Cap, Decision, Wish, decide
from .settings import Settings, Way

#: Messages planned at once.
AT_ONCE = 500


def plan(errand: Errand) -> int:
    """Decide about messages that became due, channel by channel; how many there were."""
    settings, now = errand.plugin.settings, errand.now
    with errand.house.db.begin() as conn:
        found = store.unplanned(conn, errand.tenant, instant(now), AT_ONCE)
        if not found:
            return 0
        people = any(way.kind not in SYSTEMS for way in settings.ways)
        members = {row.member for row in found if row.member} if people else set()
        known = _Known(
            conn, errand, store.persons(conn, errand.tenant, members), store.wishes(conn, errand.tenant, members)
        )
        rows = []
        for row in found:
            for way in settings.ways:
                decision = _decide(known, row, way)
                due = decision.due
                rows.append(
                    {
                        "message": row.id, "channel": way.name, "state": "waiting" if due else "skipped",
                        "reason": decision.reason, "due_at": instant(due or now), "at": instant(now),
                    }
                )  # fmt: skip
        store.keep_plan(conn, errand.tenant, [row.id for row in found], rows)
    return len(found)


@attrs.define
class _Known:
    """What decisions rest on; what is not asked for is not looked up."""

    conn: Any
    errand: Errand
    persons: Mapping[int, store.Person]
    wishes: Mapping[int, list[Wish]]
    #: what was decided a moment ago and is not in the tables yet: (member, purpose, channel)
    decided: list[tuple[int, str, str]] = attrs.field(factory=list)

    def zone(self, member: int) -> ZoneInfo:
        """The member's zone, else the programme's."""
        said, otherwise = store.zone(self.conn, self.errand.tenant, member), self.errand.plugin.programme.zone
        try:
            return ZoneInfo(said) if said else otherwise
        except (ValueError, OSError):
            return otherwise

    def is_full(self, member: int, purpose: str, channel: str, caps: Sequence[Cap]) -> bool:
        """Whether a cap has no room for one more."""
        return any(
            store.counted(self.conn, self.errand.tenant, member, cap, self.errand.now)
            + sum(who == member and cap.concerns(*what) for who, *what in self.decided)
            >= cap.most
            for cap in caps
            if cap.concerns(purpose, channel)
        )


def _decide(known: _Known, row: Any, way: Way) -> Decision:
    settings, person = known.errand.plugin.settings, known.persons.get(row.member, store.Person())
    if way.kind not in SYSTEMS and person.status != "active":
        return Decision(reason="nobody")
    if not _can_say(settings, way, row.template):
        return Decision(reason="no_wording")
    concerned = way.kind not in SYSTEMS
    quiet = settings.quiet if way.kind in PUSHES and row.purpose != "service" else None
    decision = decide(
        purpose=row.purpose, channel=way.name, kind=way.kind, purposes=way.purposes, now=known.errand.now,
        expires=moment(row.expires_at) if row.expires_at else None,
        zone=known.zone(row.member) if quiet else known.errand.plugin.programme.zone,
        wishes=known.wishes.get(row.member, ()), quiet=quiet,
        full=concerned and known.is_full(row.member, row.purpose, way.name, settings.caps),
    )  # fmt: skip
    if decision.due is not None and settings.caps:
        known.decided.append((row.member, row.purpose, way.name))
    return decision


def _can_say(settings: Settings, way: Way, template: str) -> bool:
    if way.channel.templates is not None:
        return template in way.channel.templates
    return not way.channel.words or bool(template in settings.messages and settings.messages[template].words)
