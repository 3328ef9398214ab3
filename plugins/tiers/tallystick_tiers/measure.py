"""What an event adds to the metrics of all ladders, compiled once per kind of event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any, Final, NamedTuple

from tallystick.effects import Count
from tallystick.events import Event, Purchase
from tallystick.rules import RuleSet, RuleText, compile_rules
from tallystick.situation import Member, Programme

from .errors import UnknownRate
from .scope import PLACES, scope_of_event
from .settings import PURCHASE, Ladder, Metric

#: Measures that this plugin counts by itself; the others are counted by the core or by other plugins.
OWN: Final = ("spend", "visits", "months")
_ONE: Final = Fraction(1)


def texts_of(ladder: Ladder, kind: str) -> list[RuleText]:
    """The rules of the metrics that are counted at events of *kind*."""
    return [_text(metric) for metric in ladder.metrics if metric.measure in OWN and kind in metric.on]


def _text(metric: Metric) -> RuleText:
    when = metric.when or "true"
    if metric.measure == "spend":
        return RuleText(metric.name, when=when, lines=metric.lines or "true", basis="line.net")
    return RuleText(metric.name, when=when, value=metric.value or "1")


class _Measured(NamedTuple):
    """One metric, and the counter that keeps it."""

    ladder: str
    metric: Metric
    counter: str
    window: str
    spend: bool
    share: bool  #: whether a return takes back its share, and not only all of it


class Measuring:
    """The metrics of all ladders that are counted at events of one kind."""

    def __init__(self, ladders: Sequence[Ladder], kind: str, programme: Programme) -> None:
        self._programme, self._kind = programme, kind
        texts, self._measured = list[RuleText](), list[_Measured]()
        for ladder in ladders:
            metrics = {metric.name: metric for metric in ladder.metrics}
            for text in texts_of(ladder, kind):
                metric, name = metrics[text.name], f"{ladder.name}.{text.name}"
                texts.append(RuleText(name, when=text.when, lines=text.lines, basis=text.basis, value=text.value))
                window = ladder.window if ladder.rolling else "lifetime"
                spend = metric.measure == "spend"
                share = spend or bool(metric.value)
                self._measured.append(_Measured(ladder.name, metric, f"tiers.{name}", window, spend, share))
        self.rules: RuleSet = compile_rules(texts, scope_of_event(kind, programme.zone), places=PLACES)
        #: ladders whose months are counted
        self.monthly = frozenset(each.ladder for each in self._measured if each.metric.measure == "months")

    def facts(self, event: Event, facts: Any, member: Member | None) -> dict[str, Any]:
        """What the rules see of an event, by name."""
        if self._kind != PURCHASE:
            return {"event": event, "member": member}
        return {"event": event, "member": member, "purchase": facts, "goods": facts.goods}

    def months(self, event: Event, facts: Any, at: datetime, member: Member) -> frozenset[str]:
        """The ladders in whose months an event counts.  Raises UnknownRate for a currency without a rate."""
        found = self._fire(event, facts, at, member)
        return frozenset(each.ladder for each, amount in found if amount > 0 and each.metric.measure == "months")

    def counts(self, event: Event, member: Member) -> list[Count]:
        """The counters that this event moves.  A return takes back its share of money, and a visit only with all of it."""
        if not self._measured:
            return []
        return [
            Count(rule=each.counter, counter=each.counter, window=each.window, amount=amount, by_share=each.share)
            for each, amount in self._fire(event, event.facts, event.at, member)
            if amount > 0 and each.metric.measure != "months"
        ]

    def _fire(self, event: Event, facts: Any, at: datetime, member: Member) -> list[tuple[_Measured, int]]:
        found: list[tuple[_Measured, int]] = []
        measured = self._measured
        for firing in self.rules.fire(**self.facts(event, facts, member)):
            each = measured[firing.rule]
            amount = spent(facts, firing.basis, self._rate(facts, at)) if each.spend else _whole(firing.value)
            found.append((each, amount))
        return found

    def _rate(self, purchase: Purchase, at: datetime) -> Fraction:
        if purchase.currency == self._programme.currency:
            return _ONE
        rate = self._programme.rate(purchase.currency, self._programme.local_date(at))
        if rate is None:
            raise UnknownRate(f"no rate from {purchase.currency} to {self._programme.currency} on that day")
        return rate


def spent(purchase: Purchase, basis: int, rate: Fraction) -> int:
    """What lines worth *basis* cost in the programme's currency: less their share of the order's own discount.

    >>> from tallystick.events import Line
    >>> spent(Purchase(order="R", currency="USD", lines=(Line(sku="a", amount=4000),), discount=1000), 4000, Fraction(1))
    3000
    """
    if purchase.discount:
        whole = purchase.total + purchase.discount
        basis = basis * purchase.total // whole if whole else 0
    return basis if rate is _ONE else basis * rate.numerator // rate.denominator


def _whole(value: Any) -> int:
    return value if type(value) is int else int(value)


def written_rule(rule: str, ladders: Sequence[Ladder]) -> tuple[str | int, ...]:
    """Where in the settings the rule of a metric is written.  Raises ValueError if nobody wrote it."""
    ladder, _, metric = rule.partition(".")
    place = [each.name for each in ladders].index(ladder)
    return ("ladders", place, "metrics", metric)
