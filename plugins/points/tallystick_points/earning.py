"""The merchant's earn rules about one kind of event, compiled once: an event comes in, proposals come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from math import floor
from typing import Any, Final

from msgspec.structs import replace

from tallystick.effects import Bonus, Cap, Count, Effect, Grant, Multiply
from tallystick.events import Event, Purchase
from tallystick.rules import Firing, RuleText, Scope, Standing, compile_rules
from tallystick.situation import Needs, Programme, Situation

from .basis import Lines, converted, earning_kinds, earning_lines, line_basis, order_basis, share_of_lines
from .errors import UnknownRate
from .rules import points_for, progressive
from .scope import PLACES, benefits, needs_of, scope_for
from .settings import PURCHASE, Band, Basis, Counter, Earn, Settings
from .terms import Calendar, Schedule, Terms

#: Blocked members earn nothing, but whoever joins is welcomed whatever the member's state is.
ENROLLED: Final = "member.enrolled"

Data = dict[str, Any]
#: Looks at a firing and puts what follows from it at the end of the list.
Propose = Callable[[Firing, "Look", list[Effect]], None]
#: (points, lines with their weights, the numbers that made the amount)
Amount = Callable[[Firing, "Look", list[Effect]], tuple[int, Lines | None, Data]]
Give = Callable[[int, Lines | None, Terms, int, Data], Effect]


class Look:
    """One event as the rules of this plugin look at it."""

    purchase: Purchase | None = None
    places: Sequence[int] | None = None  #: places in the purchase of the lines that earn, where some do not
    data: Mapping[str, Any] | None = None  #: currency and rate of a foreign order
    _lines: Lines | None = None
    _basis = -1

    def __init__(self, event: Event, day: date, counters: Mapping[tuple[str, str], int], policy: Basis) -> None:
        self.event, self.day, self.counters, self._policy = event, day, counters, policy

    @property
    def lines(self) -> Lines:
        """All lines that earn, with their basis."""
        found = self._lines
        if found is None:
            assert self.purchase is not None
            found = self._lines = earning_lines(self.purchase, self._policy)
        return found

    @property
    def basis(self) -> int:
        """What the whole order counts for."""
        if self._basis < 0:
            assert self.purchase is not None
            self._basis = order_basis(self.purchase, self.lines, self._policy)
        return self._basis

    def basis_of(self, firing: Firing) -> int:
        """What the lines of a rule about some lines count for."""
        assert self.purchase is not None
        return share_of_lines(self.purchase, firing.basis, self._policy)

    def lines_of(self, firing: Firing) -> Lines:
        """The lines a rule counted, by their places in the purchase."""
        places = self.places
        return firing.lines if places is None else tuple([(places[n], weight) for n, weight in firing.lines])


class Earning:
    """All earn rules about *kind*, as one merchant has set them up."""

    def __init__(self, kind: str, settings: Settings, programme: Programme, calendar: Calendar) -> None:
        self.kind = kind
        self._settings, self._calendar = settings, calendar
        self._schedules: dict[Any, Schedule] = {}
        self._kinds = earning_kinds(settings.basis)
        rules, counters = _about(kind, settings)
        scope = scope_for(kind, settings, programme.units, programme.zone)
        self.rules = compile_rules(
            [*map(_while_valid, rules, _texts(rules, settings)), *map(_counter_text, counters)], scope, places=PLACES
        )
        self.standings = {rule.name: _standing(rule, settings.groups) for rule in rules} | {
            f"counter.{counter.name}": Standing("", free=False) for counter in counters
        }
        self._propose = [self._proposal(rule) for rule in rules]
        self._propose += [_count(counter, of_lines=_is_of_lines(counter, scope)) for counter in counters]
        names = self.rules.names
        read = any(name.startswith("counter.") for name in names)
        self._counters = tuple((counter.name, counter.key) for counter in settings.counters if read)
        self._reads_eligible = "eligible" in names
        self._reads_birthday = "birthday_today" in names
        self._reads_benefits = any(name == "benefit" or name.startswith(("benefit.", "benefit[")) for name in names)
        self._first_counter = len(rules)
        spent = {(_spent(rule), rule.over) for rule in rules if rule.over}
        # what a cap has let through is kept by the core under this name
        capped = {(f"cap:{rule.rule}", rule.window) for rule in rules if rule.kind == "cap" and rule.window != "event"}
        self.needs = needs_of(names, settings.counters) | Needs(counters=frozenset(spent | capped))
        self._has_facts = "facts" in scope.names
        self._all_or_nothing = settings.basis.points == "none"

    def effects(self, event: Event, situation: Situation) -> list[Effect]:
        """What the rules propose for one event of a member.  Raises UnknownRate for a currency without a rate."""
        look = Look(event, self._calendar.day(event.at), situation.counters, self._settings.basis)
        out: list[Effect] = []
        propose = self._propose
        first = self._first_counter if self._earns_nothing(event.facts) else 0
        for firing in self.rules.fire(**self._facts(event, situation, look)):
            if firing.rule >= first:
                propose[firing.rule](firing, look, out)
        return out

    def facts(self, event: Event, situation: Situation) -> dict[str, Any]:
        """What the rules see of one event, by name: to explain them, or to ask what it would take."""
        look = Look(event, self._calendar.day(event.at), situation.counters, self._settings.basis)
        return self._facts(event, situation, look)

    def _earns_nothing(self, facts: Any) -> bool:
        """Whether an order is counted, but gives nothing because points paid for it."""
        return self._all_or_nothing and self.kind == PURCHASE and facts.paid_with_points > 0

    def _facts(self, event: Event, situation: Situation, look: Look) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "event": event,
            "member": situation.member,
            "balance": situation.balances,
            "counter": self._named(look.counters),
            "programme": situation.programme,
            "now": event.at,
            "today": look.day,
            "birthday_today": self._reads_birthday and is_birthday(situation, look.day),
            "benefit": benefits(situation.programme, situation.member) if self._reads_benefits else _NO_BENEFITS,
        }
        if self.kind != PURCHASE:
            if self._has_facts:
                facts["facts"] = event.facts
            return facts
        purchase = event.facts
        if purchase.currency != situation.programme.currency:
            purchase, look.data = _at_home(purchase, look.day, situation.programme)
        look.purchase = purchase
        earning = purchase.lines
        if not self._kinds.issuperset([line.kind for line in earning]):
            look.places = places = [place for place, line in enumerate(earning) if line.kind in self._kinds]
            earning = tuple([earning[place] for place in places])
        facts["purchase"] = purchase
        facts["earning"] = earning
        facts["eligible"] = look.basis if self._reads_eligible else 0
        return facts

    def _named(self, counters: Mapping[tuple[str, str], int]) -> Mapping[str, int]:
        return {name: counters.get(key, 0) for name, key in self._counters} if self._counters else _NONE

    # --- one function per rule, made once ------------------------------------------------------------------------

    def _proposal(self, rule: Earn) -> Propose:
        match rule.kind:
            case "multiply":
                return _multiply(rule)
            case "cap":
                return _cap(rule)
        return self._gain(rule)

    def _gain(self, rule: Earn) -> Propose:
        """A grant or bonus: how much, from which lines, under which terms."""
        expiry = rule.expiry or self._settings.expiry
        pending = rule.pending or self._settings.pending
        schedule = self._schedules.setdefault((expiry, pending), Schedule(self._calendar, expiry, pending))
        if _is_plain(rule, self._settings, schedule):
            return _plain(rule, schedule)
        amount_of, to_field = _amount(rule), rule.to
        give = _grant(rule, self._settings) if rule.kind == "grant" else _bonus(rule)
        # a rule that displaces or stops others does so even if it gives nothing itself
        even_nothing = rule.kind == "grant" and (rule.exclusive or rule.stop)

        def propose(firing: Firing, look: Look, out: list[Effect]) -> None:
            terms = schedule.on(look.day)
            if terms is None:
                return
            to = 0
            if to_field:
                to = look.event.others.get(to_field, 0)
                if not to:
                    return
            amount, lines, data = amount_of(firing, look, out)
            if amount > 0 or even_nothing:
                if look.data is not None:
                    data |= look.data
                out.append(give(amount, lines, terms, to, data))

        return propose


_NONE: Mapping[str, int] = {}
_NO_BENEFITS: Mapping[str, str] = {}


def is_birthday(situation: Situation, day: date) -> bool:
    """Whether the member's birthday is kept on *day*."""
    birthday = situation.member.birthday if situation.member is not None else None
    return birthday is not None and situation.programme.birthday(birthday, day.year) == day


def kinds_of(settings: Settings) -> list[str]:
    """The kinds of events that some rule or counter is about."""
    return list(
        dict.fromkeys(
            [*(rule.on for rule in settings.earn), *(counter.on for counter in settings.counters if not counter.of)]
        )
    )


def texts_of(kind: str, settings: Settings) -> list[RuleText]:
    """The rules about *kind* as the merchant wrote them, in the rule language: earn rules in their order, then counters."""
    rules, counters = _about(kind, settings)
    return _texts(rules, settings) + [_counter_text(counter) for counter in counters]


def _texts(rules: Sequence[Earn], settings: Settings) -> list[RuleText]:
    return [_rule_text(rule, settings.basis) for rule in rules]


def _while_valid(rule: Earn, text: RuleText) -> RuleText:
    """The rule with the time in which it is valid as a part of its condition, so that whoever reads it reads that, too."""
    since, until = rule.valid.since, rule.valid.until
    limits = [
        *([_bound(">=", since)] if since is not None else ()),
        *([_bound("<" if isinstance(until, datetime) else "<=", until)] if until is not None else ()),
    ]
    if not limits:
        return text
    # the clock first: it is cheap, and most days it settles the matter
    return replace(text, when=" && ".join([*limits, *([f"({text.when})"] if text.when != "true" else ())]))


def _bound(sign: str, edge: date | datetime) -> str:
    if isinstance(edge, datetime):
        return f'event.at {sign} timestamp("{edge.isoformat()}")'
    return f'today {sign} date("{edge.isoformat()}")'


def _standing(rule: Earn, groups: Mapping[str, str]) -> Standing:
    gives = rule.kind in ("grant", "bonus")
    if rule.kind != "grant":
        return Standing(
            f"{rule.kind}/{rule.name}", order=rule.order, free=gives and rule.per is None and not rule.bands
        )
    # for somebody else it gives something only if there is somebody; who is the best of a group shows only then
    certain = not rule.to and groups.get(rule.group) != "best"
    return Standing(
        f"{rule.unit}/{rule.group}",
        priority=rule.priority,
        exclusive=rule.exclusive and certain,
        stop=rule.stop and certain,
        order=rule.order,
        free=rule.per is None and not rule.bands,
    )


def _about(kind: str, settings: Settings) -> tuple[list[Earn], list[Counter]]:
    rules = [rule for rule in settings.earn if rule.on == kind]
    return rules, [counter for counter in settings.counters if counter.on == kind and not counter.of]


def _rule_text(rule: Earn, basis: Basis) -> RuleText:
    when = rule.when or "true"
    if rule.kind in ("multiply", "cap"):
        return RuleText(rule.name, when=when, lines=rule.lines or None)
    if rule.on != PURCHASE or not (rule.lines or rule.each == "line"):
        return RuleText(rule.name, when=when, value=rule.value or None)
    if rule.each == "line" and rule.value:
        return RuleText(rule.name, when=when, lines=rule.lines or None, basis=rule.value)
    return RuleText(rule.name, when=when, lines=rule.lines or None, basis=line_basis(basis), value=rule.value or None)


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
    if rule.each == "line":
        return _line_by_line(rule)
    if rule.bands:
        return _banded(rule)
    if rule.value:
        return _valued(rule)
    return _flat(rule) if rule.per is None else _by_money(rule.points or 0, rule.per, limited=bool(rule.lines))


def _by_money(points: int, per: int, *, limited: bool) -> Amount:
    def of_order(_firing: Firing, look: Look, _out: list[Effect]) -> tuple[int, Lines | None, Data]:
        basis = look.basis
        return points_for(basis, points, per), look.lines, {"basis": basis, "points": points, "per": per}

    def of_lines(firing: Firing, look: Look, _out: list[Effect]) -> tuple[int, Lines | None, Data]:
        basis = look.basis_of(firing)
        return points_for(basis, points, per), look.lines_of(firing), {"basis": basis, "points": points, "per": per}

    return of_lines if limited else of_order


def _flat(rule: Earn) -> Amount:
    points, limited = rule.points or 0, bool(rule.lines)

    def amount(firing: Firing, look: Look, _out: list[Effect]) -> tuple[int, Lines | None, Data]:
        return points, (look.lines_of(firing) if limited else None), {"points": points}

    return amount


def _valued(rule: Earn) -> Amount:
    limited = bool(rule.lines)

    def amount(firing: Firing, look: Look, _out: list[Effect]) -> tuple[int, Lines | None, Data]:
        lines = None if look.purchase is None else look.lines_of(firing) if limited else look.lines
        return max(0, floor(firing.value)), lines, {"value": firing.value}

    return amount


def _line_by_line(rule: Earn) -> Amount:
    points, per, value = rule.points or 0, rule.per, bool(rule.value)

    def amount(firing: Firing, look: Look, _out: list[Effect]) -> tuple[int, Lines | None, Data]:
        lines = look.lines_of(firing)
        if value:
            gains = tuple([(line, max(0, gain)) for line, gain in lines])
        elif per is None:
            gains = tuple([(line, points) for line, _ in lines])
        else:
            whole = firing.basis or 1
            part = look.basis_of(firing)  # what is left of it after payment with points
            gains = tuple([(line, points_for(basis * part // whole, points, per)) for line, basis in lines])
        # each line's own gain is its weight: a refund of the line takes back exactly that
        return sum([gain for _, gain in gains]), gains, {"each": "line", "lines": len(gains)}

    return amount


def _banded(rule: Earn) -> Amount:
    bands: Sequence[Band] = rule.bands
    limited, over, counter = bool(rule.lines), rule.over, _spent(rule)
    key = (counter, over)

    def amount(firing: Firing, look: Look, out: list[Effect]) -> tuple[int, Lines | None, Data]:
        basis, lines = (look.basis_of(firing), look.lines_of(firing)) if limited else (look.basis, look.lines)
        before = look.counters.get(key, 0) if over else 0
        if over and basis:
            out.append(Count(rule=rule.rule, counter=counter, window=over, amount=basis, by_share=True, lines=lines))
        return progressive(basis, before, bands), lines, {"basis": basis, "before": before}

    return amount


# --- effects ---------------------------------------------------------------------------------------------------------


def _grant(rule: Earn, settings: Settings) -> Give:
    name, unit, order, reversible, stop = rule.rule, rule.unit, rule.order, rule.reversible, rule.stop
    group, exclusive, priority = rule.group, rule.exclusive, rule.priority

    def give(amount: int, lines: Lines | None, terms: Terms, to: int, data: Data) -> Effect:
        return Grant(
            rule=name, unit=unit, amount=amount, lines=lines,
            usable_from=terms.usable_from, usable_state=terms.usable_state, expires_at=terms.expires_at, sliding=terms.sliding,
            group=group, order=order, priority=priority, exclusive=exclusive, stop=stop,
            reversible=reversible, to=to, data=data,
        )  # fmt: skip

    def give_best(amount: int, lines: Lines | None, terms: Terms, to: int, data: Data) -> Effect:
        """Of a "best" group only the largest gain stands, for each member on its own."""
        return Grant(
            rule=name, unit=unit, amount=amount, lines=lines,
            usable_from=terms.usable_from, usable_state=terms.usable_state, expires_at=terms.expires_at, sliding=terms.sliding,
            group=f"{group}@{to}", order=order, priority=amount, exclusive=True, stop=stop,
            reversible=reversible, to=to, data=data,
        )  # fmt: skip

    return give_best if settings.groups.get(group) == "best" else give


def _is_plain(rule: Earn, settings: Settings, schedule: Schedule) -> bool:
    """Whether a rule gives points of an order, for money or flat, to the member, under terms without conditions."""
    placed = rule.group or rule.exclusive or rule.priority or rule.stop or settings.groups.get(rule.group) == "best"
    whole = rule.points is not None and rule.each == "order" and not rule.to
    return whole and not placed and rule.reversible and schedule.plain


def _plain(rule: Earn, schedule: Schedule) -> Propose:
    """What most rules do, in half the time: one step, and fields with their defaults are not written again."""
    name, unit, order, points, per, limited = (
        rule.rule,
        rule.unit,
        rule.order,
        rule.points or 0,
        rule.per,
        bool(rule.lines),
    )
    flat, grants, terms_on = {"points": points}, rule.kind == "grant", schedule.on

    def propose(firing: Firing, look: Look, out: list[Effect]) -> None:
        terms = terms_on(look.day)
        if terms is None:
            return
        data: Data = flat
        amount, lines = points, None
        if limited:
            lines = look.lines_of(firing)
        if per is not None:
            if limited:
                basis = look.basis_of(firing)
            else:
                basis, lines = look.basis, look.lines
            amount = basis * points // per
            data = {"basis": basis, "points": points, "per": per}
        if amount <= 0:
            return
        if look.data is not None:
            data = {**data, **look.data}
        if grants:
            out.append(
                Grant(
                    rule=name,
                    unit=unit,
                    amount=amount,
                    lines=lines,
                    expires_at=terms.expires_at,
                    order=order,
                    data=data,
                )
            )
        else:
            out.append(Bonus(rule=name, unit=unit, amount=amount, lines=lines, expires_at=terms.expires_at, data=data))

    return propose


def _bonus(rule: Earn) -> Give:
    name, unit, reversible = rule.rule, rule.unit, rule.reversible

    def give(amount: int, lines: Lines | None, terms: Terms, to: int, data: Data) -> Effect:
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
    if not rule.lines:
        return _always(Multiply(rule=name, unit=unit, factor=factor, rules=rules, compound=compound))

    def propose(firing: Firing, look: Look, out: list[Effect]) -> None:
        lines = frozenset([line for line, _ in look.lines_of(firing)])
        out.append(Multiply(rule=name, unit=unit, factor=factor, lines=lines, rules=rules, compound=compound))

    return propose


def _cap(rule: Earn) -> Propose:
    assert rule.limit is not None
    rules = frozenset(rule.of) or None
    return _always(
        Cap(rule=rule.rule, unit=rule.unit, limit=rule.limit, per=rule.window, rules=rules, whole=rule.whole)
    )


def _always(effect: Effect) -> Propose:
    def propose(_firing: Firing, _look: Look, out: list[Effect]) -> None:
        out.append(effect)

    return propose


def _is_of_lines(counter: Counter, scope: Scope) -> bool:
    """Whether a counter adds up what earns: then only what comes back of that makes it smaller."""
    names = compile_rules([_counter_text(counter)], scope, places=PLACES).names
    return "eligible" in names and not any(name.partition(".")[0] == "purchase" for name in names)


def _count(counter: Counter, *, of_lines: bool) -> Propose:
    rule, (name, window) = f"points.{counter.name}", counter.key
    by_share = counter.value != "1"

    def propose(firing: Firing, look: Look, out: list[Effect]) -> None:
        amount = floor(firing.value)
        if amount > 0:
            lines = look.lines if of_lines else None
            out.append(Count(rule=rule, counter=name, window=window, amount=amount, by_share=by_share, lines=lines))

    return propose
