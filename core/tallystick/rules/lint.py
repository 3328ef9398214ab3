"""What is suspicious about rules that are correct: rules that never or always fire, that another always displaces, that take points.

Everything reported as certain is proved from the ranges of the types; what cannot be proved is not reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.errors import InvalidRule
from tallystick.rules import flow
from tallystick.rules.check import Typed, names, under
from tallystick.rules.operations import MEANING, as_fixed
from tallystick.rules.rule import Rule
from tallystick.rules.ruleset import RuleSet
from tallystick.rules.tree import unparse
from tallystick.rules.typed import Apply, Both, Checked, Choice, Constant, Either, path_of
from tallystick.rules.types import Duration, Fixed, Int, Optional, String, Type, nullable, rescale


@dataclass(frozen=True, slots=True)
class Standing:
    """How a rule stands to others of its group: the exclusive one of highest priority displaces the rest, and one that stops
    ends the group for those behind it.

    Of a rule that does not always do so when it fires, leave *exclusive* and *stop* out: nothing is proved from it then.
    """

    group: str
    priority: int = 0
    exclusive: bool = False
    stop: bool = False
    order: int = 0  #: its place among the rules of the group
    #: Whether it gives something that does not depend on what is spent.  None: if it has a value.
    free: bool | None = None


#: How bad each finding is: an ``error`` is certainly not meant, a ``warning`` hardly, a ``note`` is for whoever wants to know.
SEVERITIES: Mapping[str, str] = {
    "never_fires": "error",
    "no_line_counts": "error",
    "always_displaced": "error",
    "always_stopped": "error",
    "points_pump": "error",
    "always_fires": "warning",
    "ambiguous_group": "warning",
    "negative_value": "warning",
    "without_spending": "note",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspicion about one rule."""

    #: A key of :data:`SEVERITIES`.
    code: str
    rule: str
    english: str
    chinese: str
    file: str = ""
    line: int = 0
    column: int = 0
    part: str = "when"  #: which text of the rule

    @property
    def severity(self) -> str:
        """error, warning or note."""
        return SEVERITIES[self.code]

    def text(self, language: str = "en") -> str:
        """The finding in words."""
        return self.chinese if language == "zh" else self.english


def lint(
    rules: RuleSet, standings: Mapping[str, Standing] | None = None, *, spending: Sequence[str] = ()
) -> list[Finding]:
    """Everything suspicious in *rules*, in their order.

    *standings* says how rules displace each other. *spending* lists facts that only say something where something is paid
    (``purchase``, or ``purchase.total``): a rule with a value that reads none of them is reported.
    """
    standings = standings or {}
    found: list[Finding] = []
    for rule in rules:
        found += _alone(rule, spending, standings.get(rule.name))
    for rule in rules:
        found += _among(rule, rules, standings)
    return found


def _alone(rule: Rule, spending: Sequence[str], standing: Standing | None) -> Iterator[Finding]:
    certain = truth(rule.when.root)
    if certain is False:
        yield _finding("never_fires", rule, "its condition is never true", "条件永远不成立")
    elif certain is True and rule.when.text != "true":
        yield _finding("always_fires", rule, "its condition is always true; leave it out", "条件永远成立，可以省去")
    if rule.lines is not None and truth(rule.lines.root) is False:
        yield _finding("no_line_counts", rule, "no line can ever count", "没有商品行能被计入", "lines")
    if rule.value is not None:
        low = rule.value.type
        if isinstance(low, Int | Fixed) and low.low < 0:
            lowest = low.low if isinstance(low, Int) else f"{low.low}e-{low.scale}"
            yield _finding(
                "negative_value",
                rule,
                f"its value can be negative (down to {lowest}); write max(0, ...) if that is not meant",
                f"数值可能为负（低至 {lowest}）；若非本意，请写 max(0, ...)",
                "value",
            )
    free = standing.free if standing is not None and standing.free is not None else rule.value is not None
    if spending and free and not rule.counts and not _reads(rule, spending):
        yield _finding(
            "without_spending",
            rule,
            f"it gives something whatever is spent: it does not read {' or '.join(spending)}",
            f"无论是否消费都会给出奖励：它没有读取{'或'.join(spending)}",
        )


def _reads(rule: Rule, spending: Sequence[str]) -> bool:
    read = {path for _, part in rule.parts for path in names(part)} | set(rule.given)
    return any(path == paid or path.startswith((f"{paid}.", f"{paid}[")) for path in read for paid in spending)


def _among(rule: Rule, rules: RuleSet, standings: Mapping[str, Standing]) -> Iterator[Finding]:
    own = standings.get(rule.name)
    if own is None:
        return
    for other in rules:
        its = standings.get(other.name)
        if other is rule or its is None or its.group != own.group:
            continue
        # whoever stops the group is kept, stopped by another before it, or displaced: the rule behind it never counts
        if its.stop and its.order < own.order and not own.exclusive and not its.exclusive and implies(rule, other):
            yield _finding(
                "always_stopped",
                rule,
                f"whenever it fires, {other.name} fires before it and ends the group",
                f"每当它触发时，{other.name} 已先触发并终止该组",
            )
        if not its.exclusive:
            continue
        stronger = its.priority > own.priority or not own.exclusive
        if stronger and implies(rule, other):
            yield _finding(
                "always_displaced",
                rule,
                f"whenever it fires, {other.name} fires too and displaces it",
                f"每当它触发时，{other.name} 也触发并取代它",
            )
        elif own.exclusive and its.priority == own.priority and other.name > rule.name and not excludes(rule, other):
            yield _finding(
                "ambiguous_group",
                rule,
                f"{other.name} is exclusive with the same priority, and both can fire at once",
                f"{other.name} 同样排他且优先级相同，两者可能同时触发",
            )


def _finding(code: str, rule: Rule, english: str, chinese: str, part: str = "when") -> Finding:
    source = dict(rule.parts)[part].source
    said = f"{rule.name}: {english}", f"{rule.name}：{chinese}"
    return Finding(code, rule.name, *said, source.file, source.line, source.column, part)


# --- proofs --------------------------------------------------------------------------------------------------------


def implies(rule: Rule, other: Rule) -> bool:
    """Whether *other* certainly fires where *rule* does."""
    same_lines = (None if rule.lines is None else rule.lines.text) == (
        None if other.lines is None else other.lines.text
    )
    if other.counts and not (rule.counts and (same_lines or other.lines is None)):
        return False
    if not other.given <= rule.given:
        return False
    said = {unparse(each.source) for each in _conjuncts(rule.when.root)}
    known = flow.together(_given(rule), flow.learn(rule.when.root, True))
    return all(
        unparse(each.source) in said or _certain(each, other, known) is True for each in _conjuncts(other.when.root)
    )


def excludes(rule: Rule, other: Rule) -> bool:
    """Whether the two certainly never fire together."""
    known = flow.together(_given(rule), flow.learn(rule.when.root, True))
    both = [*_conjuncts(rule.when.root), *_conjuncts(other.when.root)]
    if _contradict(both):
        return True
    return any(_certain(each, other, known) is False for each in _conjuncts(other.when.root))


def _given(rule: Rule) -> dict[str, Type]:
    kinds = rule.when.scope.names
    return {name: kind.inner for name in rule.given if isinstance(kind := kinds[name], Optional)}


def _certain(node: Checked, rule: Rule, known: flow.Known) -> bool | None:
    """What the node, taken from the rule's condition, comes to where *known* holds."""
    typed = Typed(node, node.source, rule.when.scope, 0, rule.when.source)
    try:
        return truth(under(typed, flow.together(_given(rule), known)))
    except InvalidRule:  # it leans on a guard of its own rule that stands further left
        return None


def truth(node: Checked) -> bool | None:
    """Whether the node is certainly true or certainly false, by the ranges of what it reads."""
    match node:
        case Constant(value=bool(value)):
            return value
        case Both(items=items):
            values = [truth(item) for item in items]
            return False if False in values or _contradict(items) else True if all(values) else None
        case Either(items=items):
            values = [truth(item) for item in items]
            return True if True in values else None if None in values else False
        case Choice(test=test, yes=yes, no=no):
            asked = truth(test)
            if asked is not None:
                return truth(yes if asked else no)
            one, two = truth(yes), truth(no)
            return one if one == two else None
        case Apply(operation="not", arguments=(inner,)):
            opposite = truth(inner)
            return None if opposite is None else not opposite
        case Apply(operation="present", arguments=(target,)):
            return None if nullable(target.type) else True
        case Apply(operation="absent", arguments=(target,)):
            return None if nullable(target.type) else False
        case Apply(operation=operation, arguments=(left, right)) if operation in _COMPARE:
            return _compare(operation, left, right)
    return None


_COMPARE = {"eq", "ne", "lt", "le", "gt", "ge"}


def _compare(operation: str, left: Checked, right: Checked) -> bool | None:
    if isinstance(left, Constant) and isinstance(right, Constant):
        return _ordered(operation, left.value, right.value)
    if path_of(left) is not None and path_of(left) == path_of(right):
        return operation in ("eq", "le", "ge")
    if operation in ("eq", "ne") and isinstance(left.type, String) and isinstance(right.type, String):
        apart = left.type.choices and right.type.choices and not set(left.type.choices) & set(right.type.choices)
        return (operation == "ne") if apart else None
    one, two = _range(left.type), _range(right.type)
    if one is None or two is None:
        return None
    one, two = _aligned(left.type, right.type) or (one, two)
    (low, high), (floor, ceiling) = one, two
    match operation:
        case "lt":
            return True if high < floor else False if low >= ceiling else None
        case "le":
            return True if high <= floor else False if low > ceiling else None
        case "gt":
            return True if low > ceiling else False if high <= floor else None
        case "ge":
            return True if low >= ceiling else False if high < floor else None
    apart, same = high < floor or low > ceiling, low == high == floor == ceiling
    return (operation == "eq") if same else (operation == "ne") if apart else None


def _ordered(operation: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    return bool(MEANING[operation](left, right))


def _range(kind: Type) -> tuple[int, int] | None:
    return (kind.low, kind.high) if isinstance(kind, Int | Fixed | Duration) else None


def _aligned(left: Type, right: Type) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Ranges of two numbers at the same scale."""
    if not (isinstance(left, Int | Fixed) and isinstance(right, Int | Fixed)):
        return None
    one, two = as_fixed(left), as_fixed(right)
    scale = max(one.scale, two.scale)
    one, two = rescale(one, scale), rescale(two, scale)
    return (one.low, one.high), (two.low, two.high)


def _contradict(items: Sequence[Checked]) -> bool:
    """Whether one fact would have to equal two different constants, or an instant lie before and after itself."""
    equal: dict[str, Any] = {}
    floor: dict[str, Any] = {}
    ceiling: dict[str, Any] = {}
    for item in items:
        match item:
            case Apply(operation=operation, arguments=(left, Constant(value=value))) if value is not None:
                path = unparse(left.source)
                if operation == "eq" and equal.setdefault(path, value) != value:
                    return True
                if operation in ("gt", "ge") and not isinstance(value, str | bool):
                    floor[path] = max(floor.get(path, value), value)
                if operation in ("lt", "le") and not isinstance(value, str | bool):
                    ceiling[path] = min(ceiling.get(path, value), value)
    return any(floor[path] > ceiling[path] for path in floor if path in ceiling)


def _conjuncts(node: Checked) -> tuple[Checked, ...]:
    return node.items if isinstance(node, Both) else (node,)
