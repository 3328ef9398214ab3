"""What a plugin may answer: every effect is checked against its type, the hook, the manifest's grants and the event.

An answer is checked whole and refused whole.  What passes is frozen: nobody can change it afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Final, Never, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields, force_setattr

from .effects import AMOUNTS, EFFECTS, Effect
from .errors import EffectRefused
from .events import MAX_AMOUNT, MAX_LINES, Event, EventKind, Purchase
from .manifest import Bounds
from .situation import Programme

_EARNING = (
    "Grant", "Multiply", "Bonus", "Cap", "Extend", "Revoke", "Restore", "Count", "Take", "Restock", "Put", "SetTier", "Notify", "Command", "Emit",
)  # fmt: skip
#: The effects each hook may propose, if the manifest grants them.
MAY_PROPOSE: Final[Mapping[str, frozenset[str]]] = {
    "earn": frozenset(_EARNING),
    "redeem": frozenset({*_EARNING, "Spend", "Move"}),
    "reverse": frozenset({"Keep", "Revoke", "Restore", "Count", "Restock", "Put", "Notify", "Command", "Emit"}),
    "review": frozenset({"Verdict", "Count", "Put"}),
    "evaluate_tier": frozenset({"SetTier", "Count", "Put", "Notify", "Emit"}),
    "react": frozenset(_EARNING),
    "join": frozenset({"Put", "SetTier", "Notify", "Emit"}),
}
#: No answer is longer than this, whatever a manifest grants.
MAX_EFFECTS: Final = 1_000
MAX_TEXT: Final = 1_000
#: Values in one document (data, facts, gives, value), their nesting, and its size as JSON in bytes.
MAX_VALUES, MAX_DEPTH, MAX_DOCUMENT = 2_000, 8, 20_000
MAX_FACTOR: Final = 1_000_000


class FrozenDict(dict[str, Any]):
    """A dict that stays as it is; still a dict, so that it encodes as one."""

    __slots__ = ()

    def _frozen(self, *_: Any, **__: Any) -> Never:
        raise TypeError("what plugins hand over cannot be changed afterwards")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _frozen


class Check(dict[type, Callable[[Any, Event | None], Sequence[Effect]]]):
    """Checks the answers of one *plugin* to one *hook*.

    By class of effect it holds the function that checks an answer which begins with such an effect; each is made when
    the plugin first proposes one.  The functions return the effects or raise EffectRefused.
    """

    __slots__ = ("_bounded", "_grants", "_hook", "_kinds", "_plugin", "_programme")

    def __init__(
        self,
        plugin: str,
        hook: str,
        grants: Mapping[str, Bounds],
        *,
        programme: Programme,
        kinds: Mapping[str, EventKind],
    ) -> None:
        self._plugin, self._hook, self._grants, self._programme, self._kinds = plugin, hook, grants, programme, kinds
        self._bounded = {
            name: bounds
            for name, bounds in grants.items()
            if bounds.max_count is not None or bounds.max_per_event is not None
        }

    def __call__(self, effects: Any, event: Event | None) -> Sequence[Effect]:
        """Check a non-empty answer of any type; *event* is None for hooks that see none."""
        if type(effects) is not list and type(effects) is not tuple:
            effects = listed(effects)
        return self[type(effects[0])](effects, event) if effects else ()

    def __missing__(self, effect: type) -> Callable[[Any, Event | None], Sequence[Effect]]:
        name = effect.__name__
        if EFFECTS.get(name) is not effect:
            raise EffectRefused(f"the answer holds a value of type {name[:64]}, which is no effect")
        if name not in MAY_PROPOSE[self._hook]:
            raise EffectRefused(f"{name} cannot be proposed by {self._hook}")
        if name not in self._grants:
            raise EffectRefused(f"{name} is not granted by the manifest")
        bounds = self._grants[name]
        units = frozenset(
            unit.name
            for unit in self._programme.units.values()
            if "*" in bounds.units
            or unit.name in bounds.units
            or (not bounds.units and unit.plugin in ("", self._plugin))
        )
        kinds = {
            kind.name: kind
            for kind in self._kinds.values()
            if kind.name in bounds.kinds or (not bounds.kinds and kind.plugin == self._plugin)
        }
        tops = [top for top in (bounds.max_amount, bounds.max_per_event, MAX_AMOUNT) if top is not None]
        factor = bounds.max_factor if bounds.max_factor is not None else Fraction(MAX_FACTOR)
        made = _maker(effect)(_Rules(self._plugin), units, min(tops), factor, kinds, self._other, self._together)
        self[effect] = made
        return made

    def _other(self, effect: Any, event: Event | None) -> None:
        """Check one effect of another class than the answer's first."""
        self[type(effect)]((effect,), event)

    def _together(self, effects: Sequence[Effect]) -> None:
        """Check an answer of several effects as a whole."""
        if len(effects) > MAX_EFFECTS:
            raise EffectRefused(f"{len(effects)} effects in one answer; at most {MAX_EFFECTS} are read")
        for name, bounds in self._bounded.items():
            mine = [effect for effect in effects if type(effect) is EFFECTS[name]]
            if bounds.max_count is not None and len(mine) > bounds.max_count:
                raise EffectRefused(f"{len(mine)} {name} effects; the manifest grants {bounds.max_count}")
            if bounds.max_per_event is not None and name in AMOUNTS:
                total = sum(effect.amount for effect in mine)  # type: ignore[attr-defined]
                if total > bounds.max_per_event:
                    raise EffectRefused(
                        f"{name} effects of {total} together; the manifest grants {bounds.max_per_event}"
                    )


def listed(effects: Any) -> list[Any]:
    """The effects of an answer that is neither a list nor a tuple."""
    if not isinstance(effects, Sequence) or isinstance(effects, str | bytes | bytearray):
        raise EffectRefused(f"the answer is of type {type(effects).__name__[:64]}; a sequence of effects is expected")
    return list(effects)


class _Rules(set[str]):
    """Names of rules seen and found right."""

    __slots__ = ("_prefix",)

    def __init__(self, plugin: str) -> None:
        self._prefix = f"{plugin}."

    def learn(self, rule: Any) -> None:
        if type(rule) is not str or not rule.startswith(self._prefix) or not len(self._prefix) < len(rule) <= 128:
            raise EffectRefused(f'"rule" does not begin with "{self._prefix}"')
        if len(self) < 1_000:  # a plugin that invents names without end shall not fill the memory
            self.add(rule)


# --- one check per class of effect -----------------------------------------------------------------------------------

#: Effects that take something: an amount of zero would say nothing.
_AT_LEAST_ONE: Final = frozenset({"Move", "Take"})
#: Effects with a field that the manifest bounds: the factor, the kind of event.
_WITH_BOUNDS: Final = frozenset({"Multiply", "Emit"})


@cache
def _maker(effect: type) -> Callable[..., Callable[[Any, Event | None], Sequence[Effect]]]:
    """Generate the check of answers that begin with one class of effect.

    Fields left at their default are right, and cost one comparison.
    """
    name = effect.__name__
    lines = [
        "def make(rules, units, top, factor, kinds, other, together):",
        "    def check(effects, event):",
        "        if type(effects) is not list and type(effects) is not tuple: effects = listed(effects)",
        "        try:",
        "            for e in effects:",
        "                if type(e) is not Effect:",
        "                    other(e, event)",
        "                    continue",
        "                if e.rule not in rules: rules.learn(e.rule)",
    ]
    names: dict[str, Any] = {
        "Effect": effect, "EffectRefused": EffectRefused, "datetime": datetime, "listed": listed, "no": _no,
    }  # fmt: skip
    for field in fields(effect):
        if field.name == "rule":
            continue
        value = f"e.{field.name}"
        if field.name == "unit":
            lines += [f"                if {value} not in units: refuse_unit()"]
        elif field.type is int and field.name in ("amount", "limit"):
            least = 1 if name in _AT_LEAST_ONE else 0
            lines += [
                f"                v = {value}",
                f"                if type(v) is not int or v < {least} or v > top:",
                f"                    refuse_amount('{field.name}', v, {least}, top)",
            ]
        else:
            wrong, expected = _INLINE.get(field.type, ("", ""))
            if (name, field.name) in _BY_NAME or not wrong or field.name in ("to", "member"):
                names[f"check_{field.name}"] = _field_check(name, field)
                extra = {"factor": ", factor", "kind": ", kinds"}.get(field.name, "") if name in _WITH_BOUNDS else ""
                act = f"check_{field.name}(e, '{field.name}', v, event{extra})"
            else:
                act = f"if {wrong}: no('{field.name}', '{expected}')"
            if field.required:
                lines += [f"                v = {value}", f"                {act}"]
            else:  # None, "", 0, True and False are single objects
                lines += [
                    f"                if {value} is not {field.default!r}:",
                    f"                    v = {value}",
                    f"                    {act}",
                ]
    lines += [
        "        except (TypeError, ValueError):",
        "            raise EffectRefused('a field holds a value of a wrong type') from None",
        "        if len(effects) > 1: together(effects)",
        "        return effects",
        "    return check",
    ]
    names |= {"refuse_unit": _refuse_unit, "refuse_amount": _refuse_amount}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # `is` with a literal: meant, see above
        exec(compile("\n".join(lines), f"<check {name}>", "exec"), names)  # noqa: S102  only names of our own fields
    made: Callable[..., Callable[[Any, Event | None], Sequence[Effect]]] = names["make"]
    return made


def _field_check(effect: str, field: FieldInfo) -> Callable[..., None]:
    """The check for one field, by its name where that means more than its type."""
    check = _BY_NAME.get((effect, field.name))
    if check is not None:
        return check
    if field.name in ("to", "member"):
        return _check_member
    kind = field.type
    if get_origin(kind) is not None and get_origin(kind).__name__ == "Literal":
        return _one_of(get_args(kind))
    for types, check in _BY_TYPE:
        if kind == types:
            return check
    raise AssertionError(f"no check for {effect}.{field.name} of type {kind}")


def _no(field: str, expected: str) -> Never:
    raise EffectRefused(f'"{field}" is not {expected}')


def _refuse_unit() -> Never:
    raise EffectRefused('"unit" is not a unit of this programme that the manifest grants')


def _refuse_amount(field: str, value: Any, least: int, top: int) -> Never:
    if type(value) is not int:
        _no(field, "an integer")
    raise EffectRefused(
        f'"{field}" is {value if abs(value) < 10**30 else "enormous"}; from {least} to {top} is granted'
    )


def _accept(_effect: Any, _field: str, _value: Any, _event: Event | None) -> None:
    """Checked together with another field."""


def _check_basis(_effect: Any, field: str, value: Any, event: Event | None) -> None:
    if value is None:
        return
    facts = None if event is None else event.facts
    # other facts (a correction, a decision) may speak of the lines of an earlier order
    top = len(facts.lines) if type(facts) is Purchase else MAX_LINES
    if type(value) is not tuple or len(value) > MAX_LINES:
        _no(field, "a tuple of (line, basis)")
    for pair in value:
        if type(pair) is not tuple or len(pair) != 2:
            _no(field, "a tuple of (line, basis)")
        line, basis = pair
        if (
            type(line) is not int
            or type(basis) is not int
            or line < 0
            or basis < 0
            or line >= top
            or basis > MAX_AMOUNT
        ):
            _no(field, "a tuple of (line, basis) about lines of this event, the basis from 0")


def _check_lines(_effect: Any, field: str, value: Any, _event: Event | None) -> None:
    if value is not None and (
        type(value) is not frozenset
        or len(value) > MAX_LINES
        or not all(type(line) is int and 0 <= line < MAX_LINES for line in value)
    ):
        _no(field, "a frozenset of lines")


def _check_names(_effect: Any, field: str, value: Any, _event: Event | None) -> None:
    if value is not None and (
        type(value) is not frozenset or len(value) > MAX_EFFECTS or not all(type(name) is str for name in value)
    ):
        _no(field, "a frozenset of rules")


def _check_factor(_effect: Any, field: str, value: Any, _event: Event | None, top: Fraction) -> None:
    kind = type(value)
    if kind is Decimal:
        # 1E-999999999 is a small number whose fraction has no room in this world
        right = value.is_finite() and 0 <= value <= MAX_FACTOR and -30 <= int(value.as_tuple().exponent) <= 30
    else:
        right = (kind is int or kind is Fraction) and value >= 0
    if not right:
        _no(field, "an exact number from 0")
    if value > top:
        raise EffectRefused(f'"{field}" is larger than {top}, which is granted')


def _check_member(_effect: Any, field: str, value: Any, event: Event | None) -> None:
    if type(value) is not int:
        _no(field, "a member's number")
    if value and (event is None or (value != event.member and value not in event.others.values())):
        _no(field, "a member this event names")


def _one_of(choices: tuple[str, ...]) -> Callable[..., None]:
    def check(_effect: Any, field: str, value: Any, _event: Event | None) -> None:
        if value not in choices:
            _no(field, f"one of {', '.join(choices)}")

    return check


def _check_emitted(effect: Any, field: str, value: Any, _event: Event | None, kinds: Mapping[str, EventKind]) -> None:
    """A derived event is read as strictly as one that comes in at the door."""
    if type(value) is not str or value not in kinds:
        _no(field, "a kind of event the manifest grants")
    facts, expected = effect.facts, kinds[value].facts
    if type(facts) is not expected and not isinstance(facts, Mapping):
        _no("facts", f"of type {expected.__name__}, as {value} has it")
    try:
        document = facts if type(facts) is expected else _freeze("facts", facts)
        read = msgspec.json.decode(msgspec.json.encode(document), type=expected)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        _no("facts", f"what {value} may say")
    force_setattr(effect, "facts", read)


def _check_document(effect: Any, field: str, value: Any, _event: Event | None) -> None:
    if type(value) is FrozenDict:
        return
    if type(value) is dict:
        encoded = _encoded(field, value)
        if _BRACKET not in encoded and _BRACE not in encoded[1:]:  # flat: nothing in it can be changed
            force_setattr(effect, field, FrozenDict(value))
            return
    elif not isinstance(value, Mapping):
        _no(field, "a mapping")
    frozen = _freeze(field, value)
    _encoded(field, frozen)
    force_setattr(effect, field, frozen)


def _check_optional_document(effect: Any, field: str, value: Any, event: Event | None) -> None:
    if value is not None:
        _check_document(effect, field, value, event)


def _check_value(effect: Any, field: str, value: Any, _event: Event | None) -> None:
    if type(value) is str and len(value) * 6 < MAX_DOCUMENT and value.isascii():
        return  # short enough however it is escaped
    if value is not None and type(value) is not FrozenDict:
        frozen = _freeze(field, value)
        _encoded(field, frozen)
        force_setattr(effect, field, frozen)


_BRACE, _BRACKET = ord("{"), ord("[")
_encode = msgspec.json.Encoder(order="deterministic").encode  # as the ledger will


def _encoded(field: str, value: Any) -> bytes:
    try:
        encoded = _encode(value)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        _no(field, "JSON")
    if len(encoded) > MAX_DOCUMENT:
        _no(field, f"a document of at most {MAX_DOCUMENT} bytes")
    return encoded


#: Values that are right as they are.
_SCALARS: Final = frozenset({bool, int, str, float, type(None), Decimal, datetime, date})


def _freeze(field: str, value: Any, depth: int = MAX_DEPTH, left: list[int] | None = None) -> Any:
    """A frozen copy of a JSON-like value; *left* is how many values more it may hold."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if left is None:
        left = [MAX_VALUES - 1]
    if kind is not dict and kind is not list and kind is not tuple and not isinstance(value, Mapping):
        _no(field, f"JSON; it holds a value of type {type(value).__name__[:64]}")
    left[0] -= len(value)
    if left[0] < 0 or depth < (1 if value else 0):
        _no(field, f"a document of at most {MAX_VALUES} values, {MAX_DEPTH} deep")
    # most of what is held is right as it is, and gets no call of its own
    if kind is list or kind is tuple:
        return tuple([one if type(one) in _SCALARS else _freeze(field, one, depth - 1, left) for one in value])
    if not {type(key) for key in value} <= {str}:
        _no(field, "keyed by texts")
    return FrozenDict(
        {key: one if type(one) in _SCALARS else _freeze(field, one, depth - 1, left) for key, one in value.items()}
    )


#: Fields whose name says more than their type.
_BY_NAME: Final[Mapping[tuple[str, str], Callable[..., None]]] = {
    ("Emit", "kind"): _check_emitted,
    ("Emit", "facts"): _accept,
}
#: Types that are checked in place: what is wrong about a value v, and what is expected.
_INLINE: Final[Mapping[Any, tuple[str, str]]] = {
    str: (f"type(v) is not str or len(v) > {MAX_TEXT}", f"a text of at most {MAX_TEXT} characters"),
    bool: ("v is not True and v is not False", "true or false"),
    int: (f"type(v) is not int or v > {MAX_AMOUNT} or v < -{MAX_AMOUNT}", "a whole number within bounds"),
    int | None: (f"v is not None and (type(v) is not int or v > {MAX_AMOUNT} or v < 0)", "a whole number from 0"),
    datetime: ("type(v) is not datetime or v.tzinfo is None", "an instant with its zone"),
    datetime | None: ("v is not None and (type(v) is not datetime or v.tzinfo is None)", "an instant with its zone"),
}
_BY_TYPE: Final[tuple[tuple[Any, Callable[..., None]], ...]] = (
    (tuple[tuple[int, int], ...] | None, _check_basis),
    (frozenset[int] | None, _check_lines),
    (frozenset[str] | None, _check_names),
    (Decimal | Fraction | int, _check_factor),
    (Mapping[str, Any], _check_document),
    (Mapping[str, Any] | None, _check_optional_document),
    (Any, _check_value),
)
