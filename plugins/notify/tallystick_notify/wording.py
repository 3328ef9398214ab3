"""Templates: a small part of Jinja2, in the sandbox, that cannot reach beyond a message's facts and always ends.

Allowed are texts, names of facts and their parts, ``if``, ``for`` over a fact, comparisons and the filters ``number``
and ``date``.  What is not offered is refused when settings are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import attrs
from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_decimal
from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tallystick.errors import TallyError

#: Characters of a template, and of what it may come to.
LONGEST: Final = 16 * 1024
_NODES: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.If, nodes.For, nodes.Compare,
    nodes.Operand, nodes.Const, nodes.Filter, nodes.Not, nodes.And, nodes.Or,
)  # fmt: skip
_FILTERS: Final = frozenset({"number", "date"})


class TemplateRefused(TallyError):
    """A template reaches for what is not offered."""

    code = "template_refused"
    chinese = "消息模板使用了不允许的内容。"


@attrs.frozen
class Wording:
    """The words of one message in one language."""

    subject: str
    text: str


@attrs.frozen(kw_only=True)
class Shipped:
    """A message whose wording comes with the plugin: what it may name, and the words by language."""

    facts: tuple[str, ...]
    words: Mapping[str, Wording]
    example: Mapping[str, Any]


def _shipped(facts: str, example: Mapping[str, Any], *, en: tuple[str, str], zh: tuple[str, str]) -> Shipped:
    return Shipped(facts=tuple(facts.split()), words={"en": Wording(*en), "zh": Wording(*zh)}, example=example)


#: Default wordings; a merchant's own stand in front of them.
SHIPPED: Final[Mapping[str, Shipped]] = {
    "points.expiring": _shipped(
        "points batches", {"points": 1200, "batches": [{"points": 1200, "last_day": "2025-12-31"}]},
        en=("Some of your points expire soon", "{{ points|number }} of your points expire soon:\n{% for batch in batches %}{{ batch.points|number }} on {{ batch.last_day|date }}\n{% endfor %}"),
        zh=("您的积分即将过期", "您有 {{ points|number }} 积分即将过期：\n{% for batch in batches %}{{ batch.points|number }} 积分，有效期至{{ batch.last_day|date }}\n{% endfor %}"),
    ),
    "notify.held": _shipped(
        "entry order", {"entry": "1-42-0", "order": "R-1001"},
        en=("We are looking at {{ order or entry }}", "Something about {{ order or entry }} has to be looked at first. You will hear from us."),
        zh=("{{ order or entry }} 正在核对", "{{ order or entry }} 需要人工核对，结果将另行通知。"),
    ),
    "notify.released": _shipped(
        "entry order", {"entry": "1-42-0", "order": "R-1001"},
        en=("{{ order or entry }} is fine", "{{ order or entry }} was looked at, and everything is in order."),
        zh=("{{ order or entry }} 已通过核对", "{{ order or entry }} 已核对无误。"),
    ),
    "notify.voided": _shipped(
        "entry order", {"entry": "1-42-0", "order": "R-1001"},
        en=("{{ order or entry }} does not count", "{{ order or entry }} was looked at, and it does not count."),
        zh=("{{ order or entry }} 未通过核对", "{{ order or entry }} 经核对后已作废。"),
    ),
    "tiers.near": _shipped(
        "ladder tier missing before", {"ladder": "club", "tier": "gold", "missing": 3000, "before": "2025-12-31"},
        en=("{{ tier }} is near", "Only {{ missing|number }} more to reach {{ tier }}."),
        zh=("即将升级为 {{ tier }}", "再累积 {{ missing|number }} 即可升级为 {{ tier }}。"),
    ),
    "tiers.reached": _shipped(
        "ladder was tier day", {"ladder": "club", "was": "base", "tier": "gold", "day": "2025-12-31"},
        en=("You are {{ tier }} now", "You are {{ tier }} from {{ day|date }} on."),
        zh=("您已升级为 {{ tier }}", "自{{ day|date }}起，您的等级为 {{ tier }}。"),
    ),
    "tiers.lowered": _shipped(
        "ladder was tier day", {"ladder": "club", "was": "gold", "tier": "base", "day": "2025-12-31"},
        en=("Your tier has changed", "Your tier is {{ tier }} from {{ day|date }} on."),
        zh=("您的等级已调整", "自{{ day|date }}起，您的等级调整为 {{ tier }}。"),
    ),
    "tiers.at_risk": _shipped(
        "ladder tier next missing before", {"ladder": "club", "tier": "gold", "next": "base", "missing": 3000, "before": "2025-12-31"},
        en=("Keep your tier", "{{ missing|number }} more before {{ before|date }} keep you {{ tier }}."),
        zh=("保留您的等级", "在{{ before|date }}之前再累积 {{ missing|number }}，即可保留 {{ tier }} 等级。"),
    ),
}  # fmt: skip


def _locale(language: str) -> Locale:
    try:
        return Locale.parse(language.replace("-", "_"))
    except (ValueError, UnknownLocaleError):
        return Locale.parse("en")


def _number(value: Any, language: str) -> str:
    return str(format_decimal(value, locale=_locale(language)))


def _date(value: Any, language: str, zone: ZoneInfo) -> str:
    if not isinstance(value, date):
        text = str(value)
        value = datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(zone)
    return str(format_date(value, format="long", locale=_locale(language)))


@lru_cache(maxsize=64)
def _environment(language: str, zone: ZoneInfo) -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, cache_size=400)
    made.globals.clear()
    made.tests.clear()
    made.filters = {
        "number": lambda value: _number(value, language),
        "date": lambda value: _date(value, language, zone),
    }
    return made


_UTC: Final = ZoneInfo("UTC")


def objections(text: str, facts: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with a template that may name *facts*, a sentence each."""
    if len(text) > LONGEST:
        yield f"the template is longer than {LONGEST} characters"
        return
    environment = _environment("en", _UTC)
    try:
        tree = environment.parse(text)
    except (TemplateError, RecursionError) as error:
        yield f"the template cannot be read: {error}"
        return
    found = [objection for node in tree.find_all(nodes.Node) if (objection := _objection(node))]
    if found:  # looking for names would stumble over these
        yield from found
        return
    for name in sorted(find_undeclared_variables(tree) - set(facts)):
        yield f'"{name}" is no fact of this message; expected one of {", ".join(facts) or "none"}'


def _objection(node: nodes.Node) -> str:
    name = type(node).__name__.lower()
    match node:
        case nodes.For() if node.recursive or any(node.find_all(nodes.For)):
            return f"line {node.lineno}: {name} within {name} is not offered in templates"
        case nodes.Filter() if node.name not in _FILTERS:
            return f'line {node.lineno}: there is no filter "{node.name}"; expected number or date'
        case nodes.Getattr() if node.attr.startswith("_"):
            return f'line {node.lineno}: "{node.attr}" is not offered in templates'
    return "" if isinstance(node, _NODES) else f"line {node.lineno}: {name} is not offered in templates"


def render(wording: Wording, facts: Mapping[str, Any], language: str, zone: ZoneInfo) -> Wording:
    """The words for these facts.  Raises TemplateRefused where the template and the facts do not go together."""
    return Wording(
        " ".join(_fill(wording.subject, facts, language, zone).split()), _fill(wording.text, facts, language, zone)
    )


def _fill(text: str, facts: Mapping[str, Any], language: str, zone: ZoneInfo) -> str:
    found = next(objections(text, tuple(facts)), "")
    if found:
        raise TemplateRefused(found)
    try:
        made = _environment(language, zone).from_string(text).render(facts)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise TemplateRefused(f"the template does not fit the facts: {error}") from None
    if len(made) > LONGEST:
        raise TemplateRefused(f"the message is longer than {LONGEST} characters")
    return made


def choose(
    template: str, languages: tuple[str, ...], own: Mapping[str, Mapping[str, Wording]]
) -> tuple[str, Wording] | None:
    """The first of *languages* in which there are words, and these; ``zh-Hant`` falls back to ``zh``."""
    shipped = SHIPPED[template].words if template in SHIPPED else {}
    words = {**shipped, **own.get(template, {})}
    for language in (each for one in (*languages, "en") for each in (one, one.partition("-")[0])):
        if language in words:
            return language, words[language]
    return next(iter(words.items()), None)
