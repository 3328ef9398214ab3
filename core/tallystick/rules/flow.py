"""What a condition tells about the facts it names: after ``x != null && x > 5``, x is there and at least 6.

The checker asks this for the left side of ``&&``, ``||`` and ``?:`` before it looks at what follows.
"""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.rules.operations import as_fixed
from tallystick.rules.typed import Apply, Both, Checked, Choice, Constant, Either, path_of
from tallystick.rules.types import Duration, Fixed, Int, Optional, Type, join, strip

#: Types of facts by their path, narrower than their declaration.
Known = Mapping[str, Type]

_MIRROR = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}
_OPPOSITE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}


def learn(node: Checked, truth: bool) -> Known:
    """What is known about facts where *node* is *truth*."""
    match node:
        case Apply(operation="not", arguments=(inner,)):
            return learn(inner, not truth)
        case Apply(operation="present", arguments=(target,)) if truth:
            return _named(target, strip(target.type))
        case Apply(operation="absent", arguments=(target,)) if not truth:
            return _named(target, strip(target.type))
        case Apply(operation="in", arguments=(target, _)) if truth and isinstance(target.type, Optional):
            return {}
        case Apply(operation=operation, arguments=(left, right)) if operation in _MIRROR:
            operation = operation if truth else _OPPOSITE[operation]
            return together(_compared(operation, left, right), _compared(_MIRROR[operation], right, left))
        case Both(items=items) | Either(items=items):
            known = [learn(item, truth) for item in items]
            # All items of a true && are true, all of a false || are false; otherwise at least one is.
            combine = together if isinstance(node, Both) == truth else either
            result = known[0]
            for each in known[1:]:
                result = combine(result, each)
            return result
        case Choice(test=test, yes=yes, no=no):
            return either(
                together(learn(test, True), learn(yes, truth)),
                together(learn(test, False), learn(no, truth)),
            )
    return {}


def together(left: Known, right: Known) -> Known:
    """Both hold."""
    if not left or not right:
        return left or right
    result = dict(left)
    for path, kind in right.items():
        result[path] = meet(result[path], kind) if path in result else kind
    return result


def either(left: Known, right: Known) -> Known:
    """At least one of the two holds."""
    both = {path: join(kind, right[path]) for path, kind in left.items() if path in right}
    return {path: kind for path, kind in both.items() if kind is not None}


def meet(left: Type, right: Type) -> Type:
    """The values both types hold; if their ranges do not touch (the place is never reached), the right one."""
    if isinstance(left, Optional) and isinstance(right, Optional):
        return Optional(meet(left.inner, right.inner))
    left, right = strip(left), strip(right)
    match left, right:
        case Int(), Int():
            low, high = max(left.low, right.low), min(left.high, right.high)
            return Int(low, high) if low <= high else right
        case Duration(), Duration():
            low, high = max(left.low, right.low), min(left.high, right.high)
            return Duration(low, high) if low <= high else right
        case Fixed(), Fixed() if left.scale == right.scale:
            low, high = max(left.low, right.low), min(left.high, right.high)
            return Fixed(low, high, left.scale) if low <= high else right
    return right


def _named(node: Checked, kind: Type) -> Known:
    path = path_of(node)
    return {} if path is None or isinstance(node, Constant) else {path: kind}


def _compared(operation: str, node: Checked, other: Checked) -> Known:
    path = path_of(node)
    if path is None or operation == "ne" or isinstance(other.type, Optional):
        return {}
    kind, bound = strip(node.type), other.type
    low: int | None
    high: int | None
    match kind, bound:
        case Int(), Int():
            low, high = _limits(operation, bound.low, bound.high, 1)
            return {path: _within(kind, low, high)}
        case Duration(), Duration():
            low, high = _limits(operation, bound.low, bound.high, 1)
            return {path: _within(kind, low, high)}
        case Fixed(), (Int() | Fixed()):
            # Compare at the finer scale, keep the fact's own: outwards, so that nothing possible is lost.
            edge = as_fixed(bound)
            up, down = 10 ** max(0, kind.scale - edge.scale), 10 ** max(0, edge.scale - kind.scale)
            low, high = _limits(operation, edge.low * up // down, -(-edge.high * up // down), 0)
            return {path: _within(kind, low, high)}
        case Int(), Fixed():
            low, high = _limits(operation, bound.low // 10**bound.scale, -(-bound.high // 10**bound.scale), 0)
            return {path: _within(kind, low, high)}
    return {path: kind} if operation == "eq" else {}


def _limits(operation: str, low: int, high: int, step: int) -> tuple[int | None, int | None]:
    match operation:
        case "lt":
            return None, high - step
        case "le":
            return None, high
        case "gt":
            return low + step, None
        case "ge":
            return low, None
    return low, high


def _within(kind: Int | Duration | Fixed, low: int | None, high: int | None) -> Type:
    bottom = kind.low if low is None else max(kind.low, low)
    top = kind.high if high is None else min(kind.high, high)
    if bottom > top:  # never reached: whatever the rule does there is harmless
        return kind
    if isinstance(kind, Fixed):
        return Fixed(bottom, top, kind.scale)
    return type(kind)(bottom, top)
