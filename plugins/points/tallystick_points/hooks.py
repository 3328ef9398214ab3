"""The doorman of points: takes each event to the room where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.effects import Effect, Extend, Move, Spend
from tallystick.errors import MemberInactive
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.rules import RuleSet, Standing
from tallystick.situation import Needs, Original, Programme, Situation

from .earning import ENROLLED, Earning, kinds_of
from .rules import kept
from .settings import Settings
from .spending import OWN, Spending
from .terms import Calendar, Schedule


class Points:
    """The plugin as one merchant has set it up; everything that can be worked out before an event comes, is."""

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.settings = settings
        self._calendar = Calendar(programme.zone)
        self._earning = {kind: Earning(kind, settings, programme, self._calendar) for kind in kinds_of(settings)}
        self._spending = Spending(settings, programme, self._calendar)
        # lots live on with the member's activity
        self._sliding = Schedule(self._calendar, settings.expiry, settings.pending)
        self._activity = frozenset(settings.activity if settings.expiry.policy == "activity" else ())

    def rules_about(self, kind: str) -> RuleSet | None:
        """The compiled earn rules about *kind*, to read them aloud, to check them, to explain them."""
        earning = self._earning.get(kind)
        return None if earning is None else earning.rules

    def facts_about(self, event: Event, situation: Situation) -> Mapping[str, Any]:
        """What those rules see of one event, by name."""
        earning = self._earning.get(event.kind)
        return {} if earning is None else earning.facts(event, situation)

    #: What only purchases have, and only if something was paid.
    spending = ("purchase.total", "purchase.lines", "purchase.items", "eligible", "earning")

    def standings_about(self, kind: str) -> Mapping[str, Standing]:
        """How those rules displace each other."""
        earning = self._earning.get(kind)
        return {} if earning is None else earning.standings

    def written_at(self, rule: str) -> tuple[str | int, ...]:
        """Where in the settings an earn rule or counter is written."""
        if rule.startswith("counter."):
            return ("counters", rule.removeprefix("counter."))
        return ("earn", [each.name for each in self.settings.earn].index(rule))

    @hookimpl
    def needs(self, kind: str) -> Needs | None:
        earning = self._earning.get(kind)
        spending = self._spending.needs(kind)
        if earning is None:
            return spending
        return earning.needs if spending is None else earning.needs | spending

    @hookimpl
    def earn(self, event: Event, situation: Situation) -> Sequence[Effect]:
        member = situation.member
        # guests earn when their order is linked; the blocked earn nothing, but are welcomed
        if member is None or (member.status != "active" and event.kind != ENROLLED):
            return ()
        earning = self._earning.get(event.kind)
        effects = earning.effects(event, situation) if earning is not None else []
        if event.kind in self._activity and not event.kind.startswith(OWN):
            effects.extend(self._extended(event))
        return effects

    @hookimpl
    def redeem(self, event: Event, situation: Situation) -> Sequence[Effect]:
        if not event.kind.startswith(OWN):
            return ()
        member = situation.member
        if member is not None and member.status != "active":
            raise MemberInactive
        effects = self._spending.effects(event, situation)
        if event.kind in self._activity and any(
            isinstance(effect, Spend | Move) and effect.amount for effect in effects
        ):
            effects.extend(self._extended(event))
        return effects

    @hookimpl
    def reverse(self, event: Event, original: Original) -> Sequence[Effect]:
        period = self.settings.keep_after
        if period is None:
            return ()
        day = self._calendar.day
        return kept(original, day(event.at), period.after(day(original.at)))

    def _extended(self, event: Event) -> Sequence[Extend]:
        terms = self._sliding.on(self._calendar.day(event.at))
        if terms is None or terms.expires_at is None:
            return ()
        return (Extend(rule="points.activity", unit=self.settings.unit, expires_at=terms.expires_at),)
