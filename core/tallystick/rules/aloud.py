"""Rules as sentences, in English and Chinese, for terms and conditions; and the table of what happens at their thresholds.

The sentence is made from the checked tree, so it says what is computed; the table is executed, not written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from tallystick.rules import clock, operations
from tallystick.rules.rule import Firing, Rule
from tallystick.rules.ruleset import RuleSet
from tallystick.rules.tree import unparse
from tallystick.rules.typed import (
    Apply,
    Both,
    Checked,
    Choice,
    Constant,
    Each,
    Either,
    Element,
    Entry,
    Field,
    Items,
    Variable,
    path_of,
    walk,
)
from tallystick.rules.types import DATE, TIMESTAMP, strip

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Wording:
    """How facts and values are called.

    *zone* is the one instants are written in. *labels* names facts by their path, in the reader's language; a path without label is read word by word.
    *show* may write a value for the fact of that path (cents as money, say); None leaves it to the default.
    """

    language: Language = "en"
    zone: str = "UTC"
    labels: Mapping[str, str] = field(default_factory=dict)
    show: Callable[[str, Any], str | None] = lambda _path, _value: None

    def pick(self, english: str, chinese: str) -> str:
        """The text in the reader's language."""
        return chinese if self.language == "zh" else english

    def label(self, path: str) -> str:
        """What the fact of that path is called."""
        if path in self.labels:
            return self.labels[path]
        words = path.replace("[", ".").replace("]", "").replace('"', "").split(".")
        if self.language == "zh":
            return "的".join(_CHINESE.get(word, word) for word in words)
        return " ".join(_ENGLISH.get(word, word) for word in words).replace("_", " ")

    def value(self, value: Any, path: str = "") -> str:
        """A value, as it is written for readers."""
        shown = self.show(path, value)
        if shown is not None:
            return shown
        match value:
            case None:
                return self.pick("nothing", "无")
            case bool():
                return self.pick("yes", "是") if value else self.pick("no", "否")
            case str():
                return self.pick(f"“{value}”", f"「{value}」")
            case datetime():
                local = operations.local(value, clock.zone(self.zone)).replace(tzinfo=None)
                return local.isoformat(sep=" ", timespec="auto" if local.second or local.microsecond else "minutes")
            case date():
                return value.isoformat()
            case timedelta():
                return self.length(value)
            case Decimal():
                return f"{value:f}"
            case list() | tuple() | set() | frozenset():
                return self.pick(", ", "、").join(self.value(each) for each in value) or self.pick("none", "无")
        return str(value)

    def length(self, length: timedelta) -> str:
        """A duration in its largest whole unit."""
        for seconds, english, chinese in ((86_400, "days", "天"), (3_600, "hours", "小时"), (60, "minutes", "分钟")):
            if length and length % timedelta(seconds=seconds) == timedelta(0):
                return f"{length // timedelta(seconds=seconds)} {self.pick(english, chinese)}"
        return f"{length / timedelta(seconds=1):f}".rstrip("0").rstrip(".") + self.pick(" seconds", " 秒")


#: Plain English, times in UTC.
ENGLISH = Wording()

_ENGLISH = {"at": "time", "enrolled_at": "enrolment", "sku": "SKU"}
_CHINESE = {
    "amount": "金额", "at": "时间", "balance": "余额", "basis": "计分基数", "birthday": "生日", "brand": "品牌",
    "category": "品类", "channel": "渠道", "counter": "累计", "coupon": "优惠码", "currency": "币种", "day": "日",
    "discount": "折扣", "discounted": "打折", "eligible": "可积分金额", "enrolled_at": "入会时间", "event": "事件", "department": "部门", "kind": "类型", "line": "商品行", "lines": "商品行",
    "matched": "符合的行数", "member": "会员", "month": "月份", "now": "现在", "programme": "计划", "purchase": "消费",
    "purchases": "消费次数", "quantity": "数量", "sku": "货号", "status": "状态", "store": "门店", "tags": "标签",
    "tier": "等级", "tax": "税额", "today": "今天", "total": "总额", "visits": "到店次数", "weekday": "星期", "year": "年份",
}  # fmt: skip

#: Operation -> (English, Chinese).
_FORMS: Mapping[str, tuple[str, str]] = {
    "eq": ("{0} is {1}", "{0}为{1}"),
    "ne": ("{0} is not {1}", "{0}不为{1}"),
    "lt": ("{0} is less than {1}", "{0}小于{1}"),
    "le": ("{0} is at most {1}", "{0}不超过{1}"),
    "gt": ("{0} is more than {1}", "{0}大于{1}"),
    "ge": ("{0} is at least {1}", "{0}不少于{1}"),
    "in": ("{0} is one of {1}", "{0}是{1}之一"),
    "in.map": ("{1} holds {0}", "{1}中有{0}"),
    "present": ("{0} is known", "有{0}"),
    "absent": ("{0} is not known", "没有{0}"),
    "not": ("it is not so that {0}", "并非{0}"),
    "int.add": ("{0} plus {1}", "{0}加{1}"),
    "int.sub": ("{0} minus {1}", "{0}减{1}"),
    "int.mul": ("{0} times {1}", "{0}乘以{1}"),
    "int.div": ("{0} divided by {1}, without the remainder", "{0}除以{1}的整数部分"),
    "int.mod": ("the remainder of {0} divided by {1}", "{0}除以{1}的余数"),
    "int.neg": ("minus {0}", "负{0}"),
    "int.abs": ("{0} without its sign", "{0}的绝对值"),
    "floor": ("{0}, rounded down", "{0}（向下取整）"),
    "ceil": ("{0}, rounded up", "{0}（向上取整）"),
    "round": ("{0}, rounded to the nearest whole number, halves up", "{0}（四舍五入）"),
    "decimal": ("{0}", "{0}"),
    "size": ("the number of {0}", "{0}的数目"),
    "sum": ("the sum of {0}", "{0}之和"),
    "startsWith": ("{0} begins with {1}", "{0}以{1}开头"),
    "endsWith": ("{0} ends with {1}", "{0}以{1}结尾"),
    "contains": ("{0} contains {1}", "{0}包含{1}"),
    "lowerAscii": ("{0} in small letters", "{0}（小写）"),
    "upperAscii": ("{0} in capital letters", "{0}（大写）"),
    "orValue": ("{0} (or else {1})", "{0}（若无则为{1}）"),
    "date.of": ("the day of {0}", "{0}当天"),
    "date.diff": ("the days from {1} to {0}", "从{1}到{0}的天数"),
    "date.year": ("the year of {0}", "{0}的年份"),
    "date.month": ("the month of {0}", "{0}的月份"),
    "date.day": ("the day of the month of {0}", "{0}是当月第几日"),
    "date.weekday": ("the day of the week of {0} (1 is Monday)", "{0}是星期几（1为星期一）"),
    "time.add": ("{1} after {0}", "{0}之后{1}"),
    "time.radd": ("{0} after {1}", "{1}之后{0}"),
    "time.sub": ("{1} before {0}", "{0}之前{1}"),
    "time.diff": ("the time from {1} to {0}", "从{1}到{0}的时间"),
    "getFullYear": ("the year of {0}", "{0}的年份"),
    "getMonth": ("the month of {0} (0 is January)", "{0}的月份（0为一月）"),
    "getDate": ("the day of the month of {0}", "{0}是当月第几日"),
    "getDayOfMonth": ("the day of the month of {0} (counted from 0)", "{0}是当月第几日（从0起）"),
    "getDayOfWeek": ("the day of the week of {0} (0 is Sunday)", "{0}是星期几（0为星期日）"),
    "getDayOfYear": ("the day of the year of {0} (counted from 0)", "{0}是当年第几日（从0起）"),
    "getHours": ("the hour of {0}", "{0}的小时"),
    "getMinutes": ("the minute of {0}", "{0}的分钟"),
    "getSeconds": ("the second of {0}", "{0}的秒"),
    "getMilliseconds": ("the millisecond of {0}", "{0}的毫秒"),
    "span.getHours": ("the hours in {0}", "{0}的小时数"),
    "span.getMinutes": ("the minutes in {0}", "{0}的分钟数"),
    "span.getSeconds": ("the seconds in {0}", "{0}的秒数"),
}
_TIMES = {
    "lt": ("{0} is before {1}", "{0}早于{1}"),
    "le": ("{0} is not after {1}", "{0}不晚于{1}"),
    "gt": ("{0} is after {1}", "{0}晚于{1}"),
    "ge": ("{0} is not before {1}", "{0}不早于{1}"),
}
_SAME = {"dec.add": "int.add", "dec.sub": "int.sub", "dec.mul": "int.mul", "dec.neg": "int.neg", "dec.abs": "int.abs",
         "str.add": "int.add", "span.add": "int.add", "span.sub": "int.sub", "span.neg": "int.neg"}  # fmt: skip
_MACROS: Mapping[str, tuple[str, str]] = {
    "exists": ("for at least one of {0}, {1}", "{0}中至少有一项{1}"),
    "all": ("for each of {0}, {1}", "{0}中每一项都{1}"),
    "exists_one": ("for exactly one of {0}, {1}", "{0}中恰有一项{1}"),
    "filter": ("those of {0} for which {1}", "{0}中{1}的各项"),
    "map": ("{1} of each of {0}", "{0}中每一项的{1}"),
    "sum": ("the sum over {0} of {1}", "{0}中各项的{1}之和"),
}
_WEEKDAYS = ("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(), "一二三四五六日")
_MONTHS = "January February March April May June July August September October November December".split()


def sentence(rule: Rule, wording: Wording = ENGLISH) -> str:
    """What the rule says, as one sentence."""
    always = isinstance(rule.when.root, Constant) and rule.when.root.value is True
    condition = (
        "" if always else (phrase if isinstance(rule.when.root, Both | Either) else _clause)(rule.when.root, wording)
    )
    lines = (
        None
        if rule.lines is None
        else (phrase if isinstance(rule.lines.root, Both | Either) else _clause)(rule.lines.root, wording)
    )
    parts: list[str] = []
    if rule.counts:
        which = wording.pick("all lines count", "计入所有商品行") if lines is None else wording.pick(
            f"lines count for which {lines}", f"计入{lines}的商品行"
        )  # fmt: skip
        each = "" if rule.basis is None else phrase(rule.basis.root, wording)
        parts.append(which + (wording.pick(f", each with {each}", f"，每行计{each}") if each else ""))
    if rule.value is not None:
        value = phrase(rule.value.root, wording)
        parts.append(wording.pick(f"the value is {value}", f"数值为{value}"))
    if not parts:
        parts.append(wording.pick("the rule applies", "本规则适用"))
    result = wording.pick("; ", "；").join(parts)
    if not condition:
        return wording.pick(f"Always: {result}.", f"任何情况下：{result}。")
    return wording.pick(f"If {condition}: {result}.", f"如果{condition}：{result}。")


def phrase(node: Checked, wording: Wording) -> str:
    """What the node says, as a part of a sentence."""
    path = path_of(node)
    if path is not None:
        return _fact(node, path, wording)
    match node:
        case Constant(value=value):
            return wording.value(value)
        case Both(items=items):
            return wording.pick(" and ", "，且").join(_clause(item, wording) for item in items)
        case Either(items=items):
            return wording.pick(" or ", "或").join(_clause(item, wording) for item in items)
        case Choice(test=test, yes=yes, no=no):
            one, two, asked = phrase(yes, wording), phrase(no, wording), phrase(test, wording)
            return wording.pick(f"{one} if {asked}, else {two}", f"若{asked}则为{one}，否则为{two}")
        case Items(items=items):
            return wording.pick(" or ", "、").join(phrase(item, wording) for item in items)
        case Element(target=target, index=index):
            where, which = phrase(target, wording), phrase(index, wording)
            return wording.pick(f"item {which} (from 0) of {where}", f"{where}的第{which}项（从0起）")
        case Entry(target=target, key=key):
            return wording.pick(
                f"{phrase(target, wording)} of {phrase(key, wording)}",
                f"{phrase(target, wording)}的{phrase(key, wording)}",
            )
        case Field(target=target, name=name):
            return wording.pick(
                f"{name} of {phrase(target, wording)}", f"{phrase(target, wording)}的{wording.label(name)}"
            )
        case Each(macro=macro, items=items_, body=body):
            return wording.pick(*_MACROS[macro]).format(phrase(items_, wording), _clause(body, wording))
        case Apply():
            return _operation(node, wording)
    raise AssertionError(node)


def _fact(node: Checked, path: str, wording: Wording) -> str:
    root = node
    while isinstance(root, Field | Entry | Element):
        root = root.target
    if isinstance(root, Variable):
        rest = path.removeprefix(root.name).removeprefix(".")
        return wording.pick("its ", "其") + wording.label(rest) if rest else wording.pick("it", "它")
    label = wording.label(path)
    return wording.pick(
        f"the {label}" if path not in wording.labels and isinstance(node, Field | Entry) else label, label
    )


def _clause(node: Checked, wording: Wording) -> str:
    text = phrase(node, wording)
    if isinstance(node, Both | Either):
        return wording.pick(f"({text})", f"（{text}）")
    return _state(node, text, wording, True) if path_of(node) is not None else text


def _state(node: Checked, text: str, wording: Wording, truth: bool) -> str:
    """A yes-or-no fact as a clause: the line is discounted."""
    path = path_of(node)
    if isinstance(node, Field) and path not in wording.labels:
        whose = phrase(node.target, wording)
        whose = (
            whose
            if whose.startswith("the ") or wording.language == "zh"
            else f"the {whose}"
            if whose != "it"
            else whose
        )
        what = wording.label(node.name)
        return wording.pick(f"{whose} is {'' if truth else 'not '}{what}", f"{whose}{'' if truth else '未'}{what}")
    return wording.pick(f"{text} is {'so' if truth else 'not so'}", f"{text}为{'是' if truth else '否'}")


def _operation(node: Apply, wording: Wording) -> str:
    operation, arguments = node.operation, node.arguments
    named = _calendar(operation, arguments, wording)
    if named is not None:
        return named
    shown = [_argument(each, arguments, wording) for each in arguments]
    if operation == "not" and path_of(arguments[0]) is not None:
        return _state(arguments[0], shown[0], wording, False)
    if operation in _TIMES and strip(arguments[0].type) in (TIMESTAMP, DATE):
        return wording.pick(*_TIMES[operation]).format(*shown)
    if operation == "in" and not isinstance(arguments[1], Items):
        return wording.pick(f"{shown[1]} hold {shown[0]}", f"{shown[1]}包含{shown[0]}")
    if operation.startswith("call:"):
        return f"{operation[5:]}({', '.join(shown)})"
    if operation in ("min", "max", "dec.min", "dec.max"):
        which = wording.pick("smallest", "最小值") if operation.endswith("min") else wording.pick("largest", "最大值")
        return wording.pick(f"the {which} of {', '.join(shown)}", f"{'、'.join(shown)}中的{which}")
    return wording.pick(*_FORMS[_SAME.get(operation, operation)]).format(*shown)


def _argument(node: Checked, arguments: tuple[Checked, ...], wording: Wording) -> str:
    """A constant is written the way the fact beside it is."""
    if isinstance(node, Constant):
        beside = next((path for each in arguments if (path := path_of(each)) is not None), "")
        return wording.value(node.value, beside)
    return phrase(node, wording)


def _calendar(operation: str, arguments: tuple[Checked, ...], wording: Wording) -> str | None:
    """``date(event.at).weekday == 2`` reads: is a Tuesday."""
    match operation, arguments:
        case "eq", (Apply(operation="date.weekday", arguments=(day,)), Constant(value=int(number))) if 1 <= number <= 7:
            text = phrase(day, wording)
            return wording.pick(f"{text} is a {_WEEKDAYS[0][number - 1]}", f"{text}是星期{_WEEKDAYS[1][number - 1]}")
        case "eq", (Apply(operation="date.month", arguments=(day,)), Constant(value=int(number))) if 1 <= number <= 12:
            text = phrase(day, wording)
            return wording.pick(f"{text} is in {_MONTHS[number - 1]}", f"{text}在{number}月")
    return None


# --- boundaries ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """What the rule does for one value of one fact, everything else as in the example event."""

    path: str
    value: Any
    firing: Firing | None


def boundaries(
    rules: RuleSet, name: str, values: Mapping[str, Any], *, assuming: Mapping[str, Any] | None = None
) -> list[Example]:
    """Just below, at and just above each threshold of the rule, executed on the example *values*.

    *assuming* is what other expressions of the rule are taken to be meanwhile (see `favour`).
    """
    number = rules.named(name)
    return [
        Example(path, value, rules.judge(number, values, {**(assuming or {}), path: value}))
        for path, edge in dict.fromkeys(_thresholds(rules[number]))
        for value in (edge - _unit(edge), edge, edge + _unit(edge))
    ]


def favour(rules: RuleSet, name: str, *, part: str = "when") -> dict[str, Any]:
    """Values under which the rule's own comparisons with constants hold, so that one of them can be looked at alone."""
    typed = dict(rules[rules.named(name)].parts).get(part)
    if typed is None:
        return {}
    root = typed.root
    found: dict[str, Any] = {}
    for node in root.items if isinstance(root, Both) else (root,):
        match node:
            case Apply(operation="eq" | "ge" | "le", arguments=(left, Constant(value=edge))) if edge is not None:
                found[unparse(left.source)] = edge
            case Apply(operation="gt" | "lt" as sign, arguments=(left, Constant(value=edge))) if not isinstance(
                edge, str
            ):
                found[unparse(left.source)] = edge + _unit(edge) if sign == "gt" else edge - _unit(edge)
            case Apply(operation="in", arguments=(left, Items(items=(Constant(value=first), *_)))):
                found[unparse(left.source)] = first
            case Apply(operation="not", arguments=(inner,)) if path_of(inner) is not None:
                found[unparse(inner.source)] = False
            case Field() | Entry() if path_of(node) is not None:
                found[unparse(node.source)] = True
    return found


def _thresholds(rule: Rule) -> Iterator[tuple[str, Any]]:
    for node in walk(rule.when.root):
        match node:
            case Apply(operation="lt" | "le" | "gt" | "ge" | "eq", arguments=(left, Constant(value=edge))):
                pass
            case Apply(operation="lt" | "le" | "gt" | "ge" | "eq", arguments=(Constant(value=edge), left)):
                pass
            case _:
                continue
        changeable = path_of(left) is not None or (isinstance(left, Each) and left.macro == "sum")
        if changeable and not isinstance(edge, str | bool) and edge is not None and not _inside_macro(left):
            yield unparse(left.source), edge


def _inside_macro(node: Checked) -> bool:
    own = {each.variable for each in walk(node) if isinstance(each, Each)}
    return any(isinstance(each, Variable) and each.name not in own for each in walk(node))


def _unit(edge: Any) -> Any:
    match edge:
        case datetime() | timedelta():
            return timedelta(seconds=1)
        case date():
            return timedelta(days=1)
        case Decimal():
            exponent = edge.as_tuple().exponent
            return Decimal(1).scaleb(exponent) if isinstance(exponent, int) else Decimal(1)
    return 1
