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

from .errors import TemplateRefused

#: Characters of a template, and of what it may come to.
LONGEST: Final = 16 * 1024
_NODES: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.If, nodes.For, nodes.Compare,
    nodes.Operand, nodes.Const, nodes.Filter, nodes.Not, nodes.And, nodes.Or,
)  # fmt: skip
_FILTERS: Final = frozenset({"number", "date"})


@attrs.frozen
class Wording:
    """The words of one message in one language."""

    subject: str
    text: str


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
    """The words for these facts, the subject on one line.  Raises TemplateRefused where the template and the facts do not go together."""
    return Wording(
        " ".join(fill(wording.subject, facts, language, zone).split()), fill(wording.text, facts, language, zone)
    )


def choose(words: Mapping[str, Wording], languages: tuple[str, ...]) -> tuple[str, Wording] | None:
    """The first of *languages* in which there are *words*, and these; ``zh-Hant`` falls back to ``zh``, then English, then any."""
    for language in (each for one in (*languages, "en") for each in (one, one.partition("-")[0])):
        if language in words:
            return language, words[language]
    return next(iter(words.items()), None)


def fill(text: str, facts: Mapping[str, Any], language: str, zone: ZoneInfo) -> str:
    """One template with its facts filled in.  Raises TemplateRefused where they do not go together."""
    if found := _refusal(text, tuple(facts)):
        raise TemplateRefused(found)
    try:
        made = _environment(language, zone).from_string(text).render(facts)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise TemplateRefused(f"the template does not fit the facts: {error}") from None
    if len(made) > LONGEST:
        raise TemplateRefused(f"the message is longer than {LONGEST} characters")
    return made


@lru_cache(maxsize=1024)
def _refusal(text: str, facts: tuple[str, ...]) -> str:
    # looked at before every message, for the facts may be others than those that were declared
    return next(objections(text, facts), "")
