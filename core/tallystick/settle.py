"""The one place where proposals become amounts: all effects of an event are weighed together, so order cannot matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Any, Final, TypeGuard, TypeVar

import msgspec

from .effects import (
    Bonus,
    Cap,
    Command,
    Count,
    Effect,
    Emit,
    Extend,
    Grant,
    Keep,
    LineBasis,
    Move,
    Multiply,
    Notify,
    Put,
    Restock,
    Restore,
    Revoke,
    SetTier,
    Spend,
    Take,
)
from .errors import EffectRefused
from .ledger import Step, member_name
from .situation import Rounding, Unit

#: Whole numbers up to this are the same to every reader of JSON.
_EXACT: Final = 1 << 53

Gain = Grant | Bonus
#: (counter, window) under which the core keeps what a cap has already let through
CapKey = tuple[str, str]


class Posting:
    """A gain on its way into a lot: who gets how much by which rule, under which terms."""

    __slots__ = ("amount", "gain", "rule", "weights")

    def __init__(self, rule: str, amount: int, gain: Gain, weights: LineBasis | None) -> None:
        self.rule, self.amount, self.gain, self.weights = rule, amount, gain, weights


class Settlement:
    """What all proposals of an event come to.  Most events need one or two of its rooms: the others stay empty tuples."""

    plain = False  #: nothing but gains
    postings: Sequence[Posting] = ()
    steps: Sequence[Step] = ()
    spends: Sequence[Spend] = ()
    moves: Sequence[Move] = ()
    counts: Sequence[Count] = ()
    caps: Sequence[tuple[Cap, int]] = ()  #: what each windowed cap let through
    takes: Sequence[Take | Restock] = ()
    puts: Sequence[Put] = ()
    tiers: Sequence[SetTier] = ()
    extends: Sequence[Extend] = ()
    revokes: Sequence[Revoke] = ()
    restores: Sequence[Restore] = ()
    keeps: Sequence[Keep] = ()
    intents: Sequence[Notify | Command] = ()
    emits: Sequence[Emit] = ()


def round_to_unit(value: Fraction, rounding: Rounding) -> int:
    """Round an exact amount to the smallest unit, as the programme declares it.

    >>> [round_to_unit(Fraction(57, 2), how) for how in ("floor", "half_up", "half_even", "ceil")]
    [28, 29, 28, 29]
    """
    floor, rest = divmod(value.numerator, value.denominator)
    if not rest or rounding == "floor":
        return floor
    if rounding == "ceil":
        return floor + 1
    twice = 2 * rest
    if twice == value.denominator:
        return floor + 1 if rounding == "half_up" or floor % 2 else floor
    return floor + (twice > value.denominator)


def cap_key(cap: Cap) -> CapKey:
    """The counter under which a windowed cap is kept: ``cap:<key or rule>`` in its window."""
    return f"cap:{cap.key or cap.rule}", cap.per


def settle(
    proposals: Iterable[Effect],
    units: Mapping[str, Unit],
    used: Mapping[CapKey, int],
    versions: Mapping[str, str],
) -> Settlement:
    """Weigh all proposals of one event together.

    Base grants add up; multipliers scale the lines they name; bonuses are flat; caps cut; the unit's rounding is
    applied once to the total.  *used* says what windowed caps have already let through, *versions* which version each
    plugin has.  Pure, and independent of the order of *proposals*.

    Raises :class:`EffectRefused` for an undeclared unit or an impossible amount.
    """
    out = Settlement()
    gains: list[Grant | Bonus | Multiply | Cap] = []
    plain = True
    for effect in proposals:
        kind = type(effect)
        if kind is Grant or kind is Bonus or kind is Multiply or kind is Cap:
            gains.append(effect)  # type: ignore[arg-type]
        else:
            _sort(effect, kind, out, units)
            plain = False
    if len(gains) == 1 and _stands_alone(gains[0]):
        _settle_alone(gains[0], units, versions, out)
    elif gains:
        by_unit = _by_unit(gains, units)
        for unit in sorted(by_unit):
            _settle_unit(by_unit[unit], units[unit], used, versions, out)
    out.plain = plain and bool(out.postings) and not out.caps
    return out


def _stands_alone(gain: Grant | Bonus | Multiply | Cap) -> TypeGuard[Gain]:
    """Whether the only proposal about gains is a gain of the member's own that a return takes back: nothing to weigh."""
    kind = type(gain)
    return (kind is Grant or kind is Bonus) and gain.reversible and not gain.to  # type: ignore[union-attr]


def _settle_alone(gain: Gain, units: Mapping[str, Unit], versions: Mapping[str, str], out: Settlement) -> None:
    """What `_settle_unit` comes to for a gain that stands alone."""
    rule, unit, amount = gain.rule, gain.unit, gain.amount
    if unit not in units:
        raise _undeclared(gain)
    effect, version = "grant" if type(gain) is Grant else "bonus", versions.get(plugin_of(rule), "")
    out.steps = (Step(rule, effect, version, unit, amount, None, "", "", gain.lines, False, gain.data),)
    if amount:
        out.postings = (Posting(rule, amount, gain, gain.lines),)


class _Unit:
    """The gains of one unit before they are weighed."""

    __slots__ = ("bonuses", "caps", "factors", "grants")

    def __init__(self) -> None:
        self.grants: list[Grant] = []
        self.bonuses: list[Bonus] = []
        self.factors: list[Multiply] = []
        self.caps: list[Cap] = []


def _by_unit(gains: Iterable[Grant | Bonus | Multiply | Cap], units: Mapping[str, Unit]) -> dict[str, _Unit]:
    found: dict[str, _Unit] = {}
    for effect in gains:
        if effect.unit not in units:
            raise _undeclared(effect)
        unit = found.setdefault(effect.unit, _Unit())
        match effect:
            case Grant():
                unit.grants.append(effect)
            case Bonus():
                unit.bonuses.append(effect)
            case Multiply():
                unit.factors.append(effect)
            case Cap():
                unit.caps.append(effect)
    return found


def _undeclared(effect: Any) -> EffectRefused:
    return EffectRefused(f"{effect.rule}: unit {effect.unit!r} is not declared", rule=effect.rule, unit=effect.unit)


_ROOMS = {
    Spend: "spends", Move: "moves", Count: "counts", Take: "takes", Restock: "takes", Put: "puts", SetTier: "tiers",
    Extend: "extends", Revoke: "revokes", Restore: "restores", Keep: "keeps", Notify: "intents", Command: "intents", Emit: "emits",
}  # fmt: skip


#: Of these, the ones that are about a unit.
_OF_UNITS = frozenset(kind for kind in _ROOMS if "unit" in kind.__struct_fields__)


def _sort(effect: Any, kind: type[Effect], out: Settlement, units: Mapping[str, Unit]) -> None:
    room = _ROOMS.get(kind)
    if room is None:
        raise EffectRefused(f"{effect.rule}: {kind.__name__} cannot be settled", rule=effect.rule)
    if kind in _OF_UNITS and effect.unit not in units:
        raise _undeclared(effect)
    found = getattr(out, room)
    if found:
        found.append(effect)
    else:
        setattr(out, room, [effect])


@lru_cache(maxsize=4_096)
def plugin_of(rule: str) -> str:
    """The plugin a rule belongs to."""
    return rule.partition(".")[0]


def _version(rule: str, versions: Mapping[str, str]) -> str:
    return versions.get(plugin_of(rule), "")


def _settle_unit(
    gains: _Unit, unit: Unit, used: Mapping[CapKey, int], versions: Mapping[str, str], out: Settlement
) -> None:
    grants, steps = gains.grants, list(out.steps)
    settled = list(out.postings)
    if len(grants) > 1:
        _order(grants, _place)
        grants = _groups(grants, unit, versions, steps)
    postings = [Posting(grant.rule, grant.amount, grant, grant.lines) for grant in grants]
    if gains.factors and grants:
        _order(gains.factors, lambda multiply: multiply.rule)
        _multiply(grants, gains.factors, unit, postings)
    if gains.bonuses:
        _order(gains.bonuses, lambda bonus: (bonus.rule, bonus.amount, bonus.to))
        postings += [Posting(bonus.rule, bonus.amount, bonus, bonus.lines) for bonus in gains.bonuses]
    # the amount of each posting before caps is its step's "wanted" where a cap cuts it
    cut: dict[int, tuple[int, str]] = {}
    if gains.caps:
        caps = gains.caps
        _order(caps, lambda cap: (cap.rule, cap.per, cap.key, cap.limit))
        for cap in caps:
            _cap(cap, postings, used, cut)
        # only what all caps together have let through uses up any of them
        out.caps = (*out.caps, *((cap, _covered(cap, postings)) for cap in caps if cap.per != "event"))
    for index, posting in enumerate(postings):
        gain, amount = posting.gain, posting.amount
        if not cut and posting.rule == gain.rule and gain.reversible and not gain.to:
            effect = "grant" if type(gain) is Grant else "bonus"
            version = _version(gain.rule, versions)
            steps.append(
                Step(gain.rule, effect, version, unit.name, amount, None, "", "", posting.weights, False, gain.data)
            )
            if amount:
                settled.append(posting)
            continue
        wanted, by = cut.get(index, (None, ""))
        effect = "bonus" if type(gain) is Bonus else ("grant" if posting.rule == gain.rule else "multiply")
        steps.append(
            Step(
                rule=posting.rule,
                effect=effect,
                version=_version(posting.rule, versions),
                unit=unit.name,
                amount=amount,
                wanted=wanted,
                note="capped" if by else "",
                by=by,
                lines=posting.weights,
                fixed=not gain.reversible,
                data=gain.data if posting.rule == gain.rule else _factor_data(posting.rule, gains.factors),
                member=member_name(gain.to) if gain.to else "",
            )
        )
        if amount:
            settled.append(posting)
    out.postings, out.steps = settled, steps


_E = TypeVar("_E", bound=Effect)


def _order(effects: list[_E], key: Callable[[_E], Any]) -> None:
    """Sort, and where *key* does not tell two apart, by everything they say: the order they came in cannot matter."""
    if len({key(effect) for effect in effects}) < len(effects):
        effects.sort(key=lambda effect: msgspec.json.encode(effect, enc_hook=str, order="deterministic"))
    effects.sort(key=key)


def _place(grant: Grant) -> tuple[Any, ...]:
    return grant.order, grant.rule, grant.amount, grant.to


def _factor_data(rule: str, factors: Sequence[Multiply]) -> Mapping[str, Any] | None:
    for factor in factors:
        if factor.rule == rule:
            return {"factor": str(factor.factor), **(factor.data or {})}
    return None


def _groups(grants: list[Grant], unit: Unit, versions: Mapping[str, str], steps: list[Step]) -> list[Grant]:
    """An exclusive grant displaces the stackable ones of its group; ``stop`` ends its group."""
    winner: dict[str, Grant] = {}
    stopped: dict[str, Grant] = {}
    for grant in grants:
        if grant.exclusive:
            best = winner.get(grant.group)
            if best is None or grant.priority > best.priority:
                winner[grant.group] = grant
    if not winner and not any(grant.stop for grant in grants):
        return grants
    kept: list[Grant] = []
    for grant in grants:
        best = winner.get(grant.group)
        end = stopped.get(grant.group)
        note, by = "", ""
        if best is not None and grant is not best:
            note, by = "displaced", best.rule
        elif end is not None:
            note, by = "stopped", end.rule
        if note:
            steps.append(
                Step(rule=grant.rule, effect="grant", version=_version(grant.rule, versions), unit=unit.name,
                     wanted=grant.amount, note=note, by=by, data=grant.data)
            )  # fmt: skip
            continue
        kept.append(grant)
        if grant.stop:
            stopped[grant.group] = grant
    return kept


def exact(factor: Decimal | Fraction | int) -> Fraction:
    """A factor as an exact fraction."""
    return factor if type(factor) is Fraction else Fraction(factor)


def combined_factor(factors: Iterable[Multiply]) -> Fraction:
    """Gains add (x2 and x3 give x4), compounding ones multiply with each other first, a 0 wins, never below 0."""
    compound, gain = Fraction(1), Fraction(0)
    for multiply in factors:
        factor = exact(multiply.factor)
        if factor == 0:
            return Fraction(0)
        if multiply.compound:
            compound *= factor
        else:
            gain += factor - 1
    return max(Fraction(0), compound + gain)


def _multiply(grants: Sequence[Grant], factors: Sequence[Multiply], unit: Unit, postings: list[Posting]) -> None:
    """Scale each grant's share of each line, round the total once, and say which multiplier added what.

    The members' shares are scaled per recipient, so that rounding of one never moves a point of another.
    """
    for multiply in factors:
        if exact(multiply.factor) < 0:
            raise EffectRefused(f"{multiply.rule}: a factor below 0", rule=multiply.rule)
    for to in sorted({grant.to for grant in grants}):
        scaled = _Scaled()
        for place, grant in enumerate(grants):
            if grant.to == to:
                for line, share in _shares(grant):
                    scaled.add(place, grant, line, share, [m for m in factors if _hits(m, grant, line)])
        _post_scaled(scaled, to, unit, postings)


def _hits(multiply: Multiply, grant: Grant, line: int | None) -> bool:
    return (multiply.rules is None or grant.rule in multiply.rules) and (
        multiply.lines is None or (line is not None and line in multiply.lines)
    )


class _Scaled:
    """What one recipient's grants come to after multipliers, and which multiplier added what."""

    __slots__ = ("extra", "host", "lost", "total", "weights")

    def __init__(self) -> None:
        self.total = Fraction(0)
        self.extra: dict[str, Fraction] = {}  #: multiplier -> what it added
        self.weights: dict[str, dict[int, Fraction]] = {}  #: the same by line
        self.host: dict[str, Grant] = {}  #: the grant whose terms the addition shares
        self.lost: dict[int, Fraction] = {}  #: place of a grant -> what factors below 1 took of it

    def add(self, place: int, grant: Grant, line: int | None, share: Fraction, hitting: Sequence[Multiply]) -> None:
        if not hitting:
            self.total += share
            return
        scaled = share * combined_factor(hitting)
        self.total += scaled
        gained = scaled - share
        if gained < 0:
            self.lost[place] = self.lost.get(place, Fraction(0)) - gained
            return
        # what the multipliers added is told apart in proportion to what each would add alone
        alone = [(m.rule, max(Fraction(0), exact(m.factor) - 1)) for m in hitting]
        whole = sum((part for _, part in alone), Fraction(0))
        for rule, part in alone:
            if part and whole:
                piece = gained * part / whole
                self.extra[rule] = self.extra.get(rule, Fraction(0)) + piece
                self.host.setdefault(rule, grant)
                if line is not None:
                    by_line = self.weights.setdefault(rule, {})
                    by_line[line] = by_line.get(line, Fraction(0)) + piece


def _post_scaled(scaled: _Scaled, to: int, unit: Unit, postings: list[Posting]) -> None:
    rounded = round_to_unit(scaled.total, unit.rounding)
    for place, lost in scaled.lost.items():
        # the fraction stays with the total's rounding
        postings[place].amount -= lost.numerator // lost.denominator
    mine = [posting for posting in postings if posting.gain.to == to]
    left = sum([posting.amount for posting in mine])
    names = sorted(scaled.extra)
    for rule, amount in zip(names, _apportion(rounded - left, [scaled.extra[name] for name in names]), strict=True):
        mine.append(Posting(rule, amount, scaled.host[rule], _line_weights(scaled.weights.get(rule))))
        postings.append(mine[-1])
    _trim(mine, sum([posting.amount for posting in mine]) - rounded)
    if not names and rounded > left:  # only rounding up is left: it belongs to the first grant
        mine[0].amount += rounded - left


def _shares(grant: Grant) -> list[tuple[int | None, Fraction]]:
    """The grant by line: each line's part of the amount, in proportion to its basis."""
    if not grant.lines:
        return [(None, Fraction(grant.amount))]
    whole = sum([basis for _, basis in grant.lines])
    if whole == 0:
        return [(None, Fraction(grant.amount))]
    return [(line, Fraction(grant.amount * basis, whole)) for line, basis in grant.lines]


def _line_weights(weights: Mapping[int, Fraction] | None) -> LineBasis | None:
    """The parts as whole numbers in the same proportion: a return of some lines takes back exactly theirs."""
    if not weights:
        return None
    scale = lcm(*[weight.denominator for weight in weights.values()])
    whole = {line: weight.numerator * (scale // weight.denominator) for line, weight in weights.items()}
    if max(whole.values()) > _EXACT:  # no reader of JSON would have them right, and money this odd is not seen
        whole = {line: int(weight * 1000) for line, weight in weights.items()}
    return tuple(sorted(whole.items()))


def _trim(postings: Sequence[Posting], short: int) -> None:
    """Take what rounding left too much from the last postings."""
    for posting in reversed(postings):
        if short <= 0:
            return
        taken = min(posting.amount, short)
        posting.amount -= taken
        short -= taken


def _apportion(amount: int, parts: Sequence[Fraction]) -> list[int]:
    """Split *amount* in proportion to *parts* by largest remainder; ties go to the first."""
    whole = sum(parts, Fraction(0))
    if amount <= 0 or not whole:
        return [0] * len(parts)
    exactly = [amount * part / whole for part in parts]
    shares = [part.numerator // part.denominator for part in exactly]
    order = sorted(range(len(parts)), key=lambda i: (shares[i] - exactly[i], i))
    for i in order[: amount - sum(shares)]:
        shares[i] += 1
    return shares


def _covered(cap: Cap, postings: Sequence[Posting]) -> int:
    """What *cap* is about, in all."""
    return sum([posting.amount for posting in postings if cap.rules is None or posting.rule in cap.rules])


def _cap(cap: Cap, postings: list[Posting], used: Mapping[CapKey, int], cut: dict[int, tuple[int, str]]) -> None:
    if cap.limit < 0:
        raise EffectRefused(f"{cap.rule}: a limit below 0", rule=cap.rule)
    covered = [i for i, posting in enumerate(postings) if cap.rules is None or posting.rule in cap.rules]
    total = sum([postings[i].amount for i in covered])
    windowed = cap.per != "event"
    key = cap_key(cap)
    if windowed and key not in used:  # unread it would be 0 for ever, and the cap would never bite
        raise EffectRefused(f"{cap.rule}: counter {key[0]!r} per {key[1]} was not declared in needs", rule=cap.rule)
    room = cap.limit - used[key] if windowed else cap.limit
    over = total - max(0, room)
    if over > 0 and cap.whole:
        over = total
    if over > 0:
        # bonuses and multipliers stand last and are cut first: the base is what the member was promised
        for i in reversed(covered):
            taken = min(postings[i].amount, over)
            if taken:
                cut.setdefault(i, (postings[i].amount, cap.rule))
                postings[i].amount -= taken
                over -= taken
