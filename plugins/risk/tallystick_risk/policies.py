"""The policies on one kind of event, compiled: which signals they name, and what they say of one event.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tallystick.effects import Verdict
from tallystick.events import Event
from tallystick.rules import RuleSet, RuleText, compile_rules, names
from tallystick.situation import Member, Programme

from .scope import PLACES, has_facts, scope_of_policy
from .settings import PURCHASE, Policy, Settings
from .signals import SIGNALS, Moment

#: Whom policies see where a guest bought.
GUEST: Final = Member(number=0, status="active", enrolled_at=datetime(1970, 1, 1, tzinfo=UTC))


def texts_of(policies: Sequence[Policy]) -> list[RuleText]:
    """The conditions of *policies*, as the rule language compiles them."""
    return [RuleText(policy.name, when=policy.when) for policy in policies]


class Policies:
    """All policies on one kind of event."""

    def __init__(self, kind: str, settings: Settings, programme: Programme) -> None:
        self.policies = tuple([policy for policy in settings.policies if kind in policy.on])
        scope = scope_of_policy(kind, settings.limits, programme.zone)
        self.rules: RuleSet = compile_rules(texts_of(self.policies), scope, places=PLACES)
        self._limits, self._monitor, self._language = settings.limits, settings.monitor, programme.language
        self._room = "purchase" if kind == PURCHASE else "facts" if has_facts(kind) else ""
        named = [names(rule.when) for rule in self.rules]
        self._named = [
            (_part(paths, "signal"), [f"{name} {settings.limits[name]}" for name in _part(paths, "limit")])
            for paths in named
        ]
        signals = sorted({name for paths in named for name in _part(paths, "signal")})
        self._measures = tuple([(name, SIGNALS[name].measure) for name in signals])
        self._reads_goods = any(path.partition(".")[0] == "goods" for path in self.rules.names)
        self._fire = self.rules.fire
        #: Whether a signal asks how long the member has been one.
        self.reads_age = any(name.startswith("age_") for name in signals)
        #: Whose shared memories the signals read: device, cashier, address.
        self.shared = frozenset([SIGNALS[name].shared for name in signals]) - {""}

    def facts(self, event: Event, member: Member | None, now: Moment) -> dict[str, Any]:
        """What the policies see."""
        signals = {}
        for name, measure in self._measures:
            signals[name] = measure(now)
        given: dict[str, Any] = {"event": event, "member": member or GUEST, "limit": self._limits, "signal": signals}
        if self._room:
            given[self._room] = event.facts
            if self._reads_goods:
                given["goods"] = event.facts.goods
        return given

    def verdicts(self, event: Event, member: Member | None, now: Moment) -> list[Verdict]:
        """What they say of one event; nothing if nothing is unusual."""
        given = self.facts(event, member, now)
        fired = self._fire(**given)
        if not fired:
            return []
        return [self._verdict(firing.rule, given["signal"], member) for firing in fired]

    def _verdict(self, place: int, signals: Mapping[str, int], member: Member | None) -> Verdict:
        policy, (named, limits) = self.policies[place], self._named[place]
        numbers = ", ".join([f"{name} {signals[name]}" for name in named])
        against = f" (limits: {', '.join(limits)})" if limits else ""
        reason = f"{policy.reason.in_language(self._language)} {numbers}{against}".strip()
        rule = f"risk.{policy.name}"
        if self._monitor or policy.monitor:
            return Verdict(rule=rule, verdict="allow", reason=f"{policy.verdict}: {reason}")
        spoken = (member.language if member is not None else "") or self._language
        return Verdict(
            rule=rule, verdict=policy.verdict, reason=reason, gentle=policy.gentle.in_language(spoken),
            data={name: signals[name] for name in named},
        )  # fmt: skip


def _part(paths: frozenset[str], room: str) -> list[str]:
    return sorted(path.removeprefix(f"{room}.") for path in paths if path.startswith(f"{room}."))
