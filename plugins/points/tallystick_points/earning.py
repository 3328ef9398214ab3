"""The merchant's earn rules about one kind of event, compiled once: an event comes in, proposals come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from tallystick.effects import Bonus, Cap, Count, Effect, Grant, Multiply
from tallystick.events import Event, Purchase
from tallystick.rules import Firing, RuleText, compile_rules
from tallystick.situation import Needs, Programme, Situation

from .basis import Lines, converted, earning_kinds, earning_lines, order_basis, share_of_lines
from .errors import UnknownRate
from .rules import points_for, progressive
from .scope import needs_of, scope_for
from .settings import PURCHASE, Band, Counter, Earn, Expiry, Settings
from .terms import Calendar, Schedule, Terms

#: Blocked members earn nothing, but whoever joins is welcomed whatever the member's state is.
ENROLLED: Final = "member.enrolled"

Propose = Callable[[Firing, "Look", list[Effect]], None]


class Look:
    """One event as the rules of this plugin look at it."""

    __slots__ = ("_basis", "_lines", "at", "counters", "data", "day", "event", "policy", "purchase")

    def __init__(self, event: Event, purchase: Purchase | None, day: date, settings: Settings, counters: Mapping[Any, int]) -> None:
        self.event, self.purchase, self.day, self.at = event, purchase, day, event.at
        self.policy = settings.basis
        self.counters = counters
        self.data: Mapping[str, Any] | None = None  #: currency and rate of a foreign order
        self._lines: Lines | None = None
        self._basis = -1

    @property
    def lines(self) -> Lines:
        """All lines that earn, with their basis."""
        found = self._lines
        if found is None:
            assert self.purchase is not None
            found = self._lines = earning_lines(self.purchase, self.policy)
        return found

    @property
    def basis(self) -> int:
        """What the whole order counts for."""
        if self._basis < 0:
            assert self.purchase is not None
            self._basis = order_basis(self.purchase, self.lines, self.policy)
        return self._basis

    def basis_of(self, firing: Firing) -> int:
        """What the lines of a rule about some lines count for."""
        assert self.purchase is not None
        return share_of_lines(self.purchase, firing.basis, self.policy)


class Earning:
    """All earn rules about *kind*, as one merchant has set them up."""

    def __init__(self, kind: str, settings: Settings, programme: Programme, calendar: Calendar) -> None:
        self.kind = kind
        self._settings, self._programme, self._calendar = settings, programme, calendar
        self._schedules: dict[Any, Schedule] = {}
        rules = [rule for rule in settings.earn if rule.on == kind]
        counters = [counter for counter in settings.counters if counter.on == kind and not counter.of]
        scope = scope_for(kind, settings, programme.zone)
        texts = [_rule_text(rule, settings) for rule in rules] + [_counter_text(counter) for counter in counters]
        self.rules = compile_rules(texts, scope)
        self._propose: list[Propose] = [self._proposal(rule) for rule in rules] + [_count(counter) for counter in counters]
        self._counters = tuple((counter.name, counter.key) for counter in settings.counters)
        names = self.rules.names
        self._reads_counters = any(name.startswith("counter.") for name in names)
        self._reads_eligible = "eligible" in names
        self.needs = needs_of(names, settings.counters) | Needs(
            counters=frozenset((_spent(rule), rule.over) for rule in rules if rule.over)
        )

    def effects(self, event: Event, situation: Situation) -> list[Effect]:
        """What the rules propose for one event of a member.  Raises UnknownRate for a currency without a rate."""
        programme, day = situation.programme, self._calendar.day(event.at)
        counters = situation.counters
        named = {name: counters.get(key, 0) for name, key in self._counters} if self._reads_counters else _NONE
        out: list[Effect] = []
        if self.kind == PURCHASE:
            purchase: Purchase = event.facts
            look = Look(event, purchase, day, self._settings, counters)
            if purchase.currency != programme.currency:
                look.purchase, look.data = _at_home(purchase, day, programme)
                purchase = look.purchase
            if self._settings.basis.points == "none" and purchase.payments and purchase.paid_with_points:
                return out
            fired = self.rules.fire(
                purchase=purchase, eligible=look.basis if self._reads_eligible else 0, event=event, member=situation.member, balance=situation.balances, counter=named,
                programme=programme, now=event.at, today=day,
            )  # fmt: skip
        else:
            look = Look(event, None, day, self._settings, counters)
            fired = self.rules.fire(
                facts=event.facts, event=event, member=situation.member, balance=situation.balances, counter=named,
                programme=programme, now=event.at, today=day,
            )  # fmt: skip
        propose = self._propose
        for firing in fired:
            propose[firing.rule](firing, look, out)
        return out

    # --- one function per rule, made once ------------------------------------------------------------------------

    def _proposal(self, rule: Earn) -> Propose:
        match rule.kind:
            case "multiply":
                propose = _multiply(rule)
            case "cap":
                propose = _cap(rule)
            case _:
                propose = self._gain(rule)
        valid = rule.valid
        if valid.since is None and valid.until is None:
            return propose

        def propose_while_valid(firing: Firing, look: Look, out: list[Effect]) -> None:
            if valid.holds(look.at, look.day):
                propose(firing, look, out)

        return propose_while_valid

    def _gain(self, rule: Earn) -> Propose:
        """A grant or bonus: how much, from which lines, under which terms."""
        settings = self._settings
        expiry = rule.expiry or settings.expiry
        pending = rule.pending or settings.pending
        schedule = self._schedules.setdefault((expiry, pending), Schedule(self._calendar, expiry, pending))
        amount_of = _amount(rule)
        give = _grant(rule, settings) if rule.kind == "grant" else _bonus(rule)
        # a rule that displaces or stops others does so even if it gives nothing itself
        even_nothing = rule.kind == "grant" and (rule.exclusive or rule.stop)

        def propose(firing: Firing, look: Look, out: list[Effect]) -> None:
            terms = schedule.on(look.day)
            if terms is None:
                return
            to = 0
            if rule.to:
                to = look.event.others.get(rule.to, 0)
                if not to:
                    return
            amount, lines, data = amount_of(firing, look, out)
            if amount > 0 or even_nothing:
                if look.data is not None:
                    data = {**data, **look.data}
                out.append(give(amount, lines, terms, to, data))

        return propose


_NONE: Mapping[str, int] = {}
Amount = Callable[[Firing, Look, list[Effect]], tuple[int, Lines | None, dict[str, Any]]]
Give = Callable[[int, Lines | None, Terms, int, dict[str, Any]], Effect]


def _rule_text(rule: Earn, settings: Settings) -> RuleText:
    """The rule as a text of the rule language: what earns at all is put before what the merchant wrote."""
    when = rule.when or "true"
    if rule.on != PURCHASE or not (rule.lines or rule.each == "line"):
        return RuleText(rule.name, when=when, value=rule.value or None)
    kinds = ", ".join(f'"{kind}"' for kind in earning_kinds(settings.basis))
    eligible = f"line.kind in [{kinds}]"
    lines = f"{eligible} && ({rule.lines})" if rule.lines else eligible
    if rule.kind == "multiply":
        return RuleText(rule.name, when=when, lines=lines)
    basis = "line.amount - line.discount" if settings.basis.discounts == "net" else "line.amount"
    if settings.basis.tax == "excluded":
        basis += " - line.tax"
    if rule.each == "line" and rule.value:
        return RuleText(rule.name, when=when, lines=lines, basis=rule.value)
    return RuleText(rule.name, when=when, lines=lines, basis=basis, value=rule.value or None)


def _counter_text(counter: Counter) -> RuleText:
    return RuleText(f"counter.{counter.name}", when=counter.when or "true", value=counter.value)


def _at_home(purchase: Purchase, day: date, programme: Programme) -> tuple[Purchase, Mapping[str, Any]]:
    """The purchase in the programme's currency, and the rate to be recorded with every gain."""
    rate = programme.rate(purchase.currency, day)
    if rate is None:
        raise UnknownRate(f"no rate from {purchase.currency} to {programme.currency} is known for {day}")
    return converted(purchase, rate, programme.currency), {"currency": purchase.currency, "rate": str(rate)}


def _spent(rule: Earn) -> str:
    """The counter of what a member has spent under the bands of *rule*."""
    return f"points.bands.{rule.name}"


# --- amounts ---------------------------------------------------------------------------------------------------------


def _amount(rule: Earn) -> Amount:
    """How much a rule gives: (amount, lines with their weights, the numbers that made it)."""
    if rule.each == "line":
        return _line_by_line(rule)
    if rule.bands:
        return _banded(rule)
    if rule.value:
        return _valued(rule)
    points, per, limited = rule.points or 0, rule.per, bool(rule.lines)
    if per is None:

        def flat(firing: Firing, look: Look, out: list[Effect]) -> tuple[int, Lines | None, dict[str, Any]]:
            return points, (firing.lines if limited else None), {"points": points}

        return flat

    def by_money(firing: Firing, look: Look, out: list[Effect]) -> tuple[int, Lines | None, dict[str, Any]]:
        if limited:
            basis, lines = look.basis_of(firing), firing.lines
        else:
            basis, lines = look.basis, look.lines
        return points_for(basis, points, per), lines, {"basis": basis, "points": points, "per": per}

    return by_money


def _line_by_line(rule: Earn) -> Amount:
    points, per = rule.points or 0, rule.per

    def amount(firing: Firing, look: Look, out: list[Effect]) -> tuple[int, Lines | None, dict[str, Any]]:
        if rule.value:
            gains = [(line, max(0, value)) for line, value in firing.lines]
        elif per is None:
            gains = [(line, points) for line, _ in firing.lines]
        else:
            whole = firing.basis
            part = look.basis_of(firing)  # what is left of it after payment with points
            gains = [
                (line, points_for(basis if part == whole else basis * part // whole, points, per)) for line, basis in firing.lines
            ]
        # each line's own gain is its weight: a refund of the line takes back exactly that
        return sum([gain for _, gain in gains]), tuple(gains), {"lines": len(gains), "each": "line"}

    return amount


def _valued(rule: Earn) -> Amount:
    limited = bool(rule.lines)

    def amount(firing: Firing, look: Look, out: list[Effect]) -> tuple[int, Lines | None, dict[str, Any]]:
        lines = None if look.purchase is None else firing.lines if limited else look.lines
        return max(0, firing.value), lines, {"value": firing.value}

    return amount


def _banded(rule: Earn) -> Amount:
    bands: Sequence[Band] = rule.bands
    limited, over, counter = bool(rule.lines), rule.over, _spent(rule)
    key = (counter, over)

    def amount(firing: Firing, look: Look, out: list[Effect]) -> tuple[int, Lines | None, dict[str, Any]]:
        if limited:
            basis, lines = look.basis_of(firing), firing.lines
        else:
            basis, lines = look.basis, look.lines
        before = look.counters.get(key, 0) if over else 0
        if over and basis:
            out.append(Count(rule=rule.rule, counter=counter, window=over, amount=basis))
        return progressive(basis, before, bands), lines, {"basis": basis, "before": before}

    return amount


# --- effects ---------------------------------------------------------------------------------------------------------


def _grant(rule: Earn, settings: Settings) -> Give:
    name, unit, order, reversible, stop = rule.rule, rule.unit, rule.order, rule.reversible, rule.stop
    best = settings.groups.get(rule.group) == "best"
    group, exclusive, priority = rule.group, rule.exclusive, rule.priority

    def give(amount: int, lines: Lines | None, terms: Terms, to: int, data: dict[str, Any]) -> Effect:
        return Grant(
            rule=name, unit=unit, amount=amount, lines=lines,
            usable_from=terms.usable_from, usable_state=terms.usable_state, expires_at=terms.expires_at, sliding=terms.sliding,
            group=group, order=order, priority=priority, exclusive=exclusive, stop=stop,
            reversible=reversible, to=to, data=data,
        )  # fmt: skip

    def give_best(amount: int, lines: Lines | None, terms: Terms, to: int, data: dict[str, Any]) -> Effect:
        """Of a "best" group only the largest gain stands, for each member on its own."""
        return Grant(
            rule=name, unit=unit, amount=amount, lines=lines,
            usable_from=terms.usable_from, usable_state=terms.usable_state, expires_at=terms.expires_at, sliding=terms.sliding,
            group=f"{group}@{to}", order=order, priority=amount, exclusive=True, stop=stop,
            reversible=reversible, to=to, data=data,
        )  # fmt: skip

    return give_best if best else give


def _bonus(rule: Earn) -> Give:
    name, unit, reversible = rule.rule, rule.unit, rule.reversible

    def give(amount: int, lines: Lines | None, terms: Terms, to: int, data: dict[str, Any]) -> Effect:
        return Bonus(
            rule=name, unit=unit, amount=amount, lines=lines,
            usable_from=terms.usable_from, usable_state=terms.usable_state, expires_at=terms.expires_at, sliding=terms.sliding,
            reversible=reversible, to=to, data=data,
        )  # fmt: skip

    return give


def _multiply(rule: Earn) -> Propose:
    assert rule.factor is not None
    name, unit, factor, compound = rule.rule, rule.unit, rule.factor, rule.compound
    rules = frozenset(rule.of) or None
    everything = Multiply(rule=name, unit=unit, factor=factor, rules=rules, compound=compound)
    if not rule.lines:
        return lambda firing, look, out: out.append(everything)

    def propose(firing: Firing, look: Look, out: list[Effect]) -> None:
        lines = frozenset([line for line, _ in firing.lines])
        out.append(Multiply(rule=name, unit=unit, factor=factor, lines=lines, rules=rules, compound=compound))

    return propose


def _cap(rule: Earn) -> Propose:
    assert rule.limit is not None
    cap = Cap(
        rule=rule.rule, unit=rule.unit, limit=rule.limit, per=rule.window, rules=frozenset(rule.of) or None, whole=rule.whole
    )
    return lambda firing, look, out: out.append(cap)


def _count(counter: Counter) -> Propose:
    name, window = counter.key

    def propose(firing: Firing, look: Look, out: list[Effect]) -> None:
        if firing.value:
            out.append(Count(rule=f"points.{counter.name}", counter=name, window=window, amount=firing.value))

    return propose


