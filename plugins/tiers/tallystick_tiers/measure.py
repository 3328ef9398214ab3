"""What an event adds to the metrics of a ladder, compiled once per kind of event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any, Final

from tallystick.effects import Count
from tallystick.events import Purchase
from tallystick.rules import RuleText, compile_rules
from tallystick.situation import Member, Programme

from .errors import UnknownRate
from .scope import PLACES, scope_of_event
from .settings import PURCHASE, Ladder, Metric

#: Measures that this plugin counts by itself; the others are counted by the core or by other plugins.
OWN: Final = ("spend", "visits", "months")


def texts_of(ladder: Ladder, kind: str) -> list[RuleText]:
    """The rules of the metrics that are counted at events of *kind*."""
    return [_text(metric) for metric in ladder.metrics if metric.measure in OWN and kind in metric.on]


def _text(metric: Metric) -> RuleText:
    when = metric.when or "true"
    if metric.measure == "spend":
        return RuleText(metric.name, when=when, lines=metric.lines or "true", basis="line.net")
    return RuleText(metric.name, when=when, value=metric.value or "1")


class Measuring:
    """The metrics of one ladder that are counted at events of one kind."""

    def __init__(self, ladder: Ladder, kind: str, programme: Programme) -> None:
        self._programme, self._kind = programme, kind
        metrics = {metric.name: metric for metric in ladder.metrics}
        texts = texts_of(ladder, kind)
        self._rules = compile_rules(texts, scope_of_event(kind, programme.zone), places=PLACES)
        self._metrics = [metrics[text.name] for text in texts]
        self._window = ladder.window if ladder.rolling else "lifetime"
        self._names = [f"tiers.{ladder.name}.{text.name}" for text in texts]

    def amounts(self, event: Any, facts: Any, at: datetime, member: Member) -> list[tuple[Metric, int]]:
        """What one event adds, by metric.  Raises UnknownRate for a currency without a rate."""
        return [(self._metrics[rule], amount) for rule, amount in self._fire(event, facts, at, member)]

    def counts(self, event: Any, member: Member) -> list[Count]:
        """The counters that this event moves.  A return takes back its share of money, and a visit only with all of it."""
        return [
            Count(
                rule=self._names[rule], counter=self._names[rule], window=self._window, amount=amount,
                by_share=self._metrics[rule].measure == "spend" or bool(self._metrics[rule].value),
            )
            for rule, amount in self._fire(event, event.facts, event.at, member)
            if amount > 0 and self._metrics[rule].measure != "months"
        ]  # fmt: skip

    def _fire(self, event: Any, facts: Any, at: datetime, member: Member) -> Sequence[tuple[int, int]]:
        if not self._metrics:
            return ()
        if self._kind != PURCHASE:
            fired = self._rules.fire(event=event, member=member)
            return [(firing.rule, _whole(firing.value)) for firing in fired]
        purchase: Purchase = facts
        goods = tuple([line for line in purchase.lines if line.kind == "item"])
        rate: Fraction | None = Fraction(1)
        if purchase.currency != self._programme.currency:
            rate = self._programme.rate(purchase.currency, self._programme.local_date(at))
        found = []
        for firing in self._rules.fire(event=event, member=member, purchase=purchase, goods=goods):
            if self._metrics[firing.rule].measure != "spend":
                found.append((firing.rule, _whole(firing.value)))
                continue
            if rate is None:
                raise UnknownRate(f"no rate from {purchase.currency} to {self._programme.currency} on that day")
            found.append((firing.rule, spent(purchase, firing.basis, rate)))
        return found


def spent(purchase: Purchase, basis: int, rate: Fraction) -> int:
    """What lines worth *basis* cost in the programme's currency: less their share of the order's own discount.

    >>> from tallystick.events import Line
    >>> spent(Purchase(order="R", currency="USD", lines=(Line(sku="a", amount=4000),), discount=1000), 4000, Fraction(1))
    3000
    """
    if purchase.discount:
        whole = purchase.total + purchase.discount
        basis = basis * purchase.total // whole if whole else 0
    return basis if rate == 1 else basis * rate.numerator // rate.denominator


def _whole(value: Any) -> int:
    return value if type(value) is int else int(value)


def sum_by_name(found: Sequence[tuple[Metric, int]]) -> Mapping[str, int]:
    """The amounts by the names of their metrics."""
    return {metric.name: amount for metric, amount in found}
