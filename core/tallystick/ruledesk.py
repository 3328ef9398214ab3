"""`tally rule`, `tally whynot` and `tally lint`: the rules read aloud, asked and looked over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .document import Document
from .errors import InvalidRequest
from .later import later
from .ledger import parse_entry
from .terminal import Desk, Group, command, language, option, say, tenant_of, tenant_option
from .workbench import in_force

if TYPE_CHECKING:
    from . import house, pumps, rulebook
    from .config import Config, Tenant
    from .generation import Generation
    from .rulebook import Place, Suspicion, WhyNot
    from .rules import lint as lints
else:
    house, pumps, rulebook, lints = later("house", "pumps", "rulebook", "rules.lint")

#: Who asks, as a dry run names it.
ACTOR = "command"


@click.group(cls=Group, name="ruledesk")
def ruledesk() -> None:
    """The commands of this module, which `tally` takes over."""


@ruledesk.group(cls=Group, name="rule")
def rules() -> None:
    """Rules, read aloud."""


def _generation(desk: Desk, tenant: str | None) -> Generation:
    chosen = in_force(desk)[tenant_of(desk.config(), tenant)]
    return house.build_generation(chosen, 0, 0, desk.installed())


@command(rules, "list")
@tenant_option
def list_rules(desk: Desk, tenant: str | None) -> None:
    """List all rules, each as a sentence."""
    found = rulebook.list_rules(_generation(desk, tenant), language())
    lines = [f"{each.rule}  ({each.kind})\n    {each.text}" for each in found] or [say("there are no rules")]
    desk.answer(msgspec.to_builtins(found), *lines)


@command(rules, "show")
@click.argument("rule")
@tenant_option
def show_rule(desk: Desk, rule: str, tenant: str | None) -> None:
    """Show a rule as a sentence, and what it does just below, at and just above each of its thresholds."""
    found = rulebook.show_rule(_generation(desk, tenant), rule, language())
    lines: list[str] = []
    for page in found:
        lines += [f"{page.rule}  ({page.kind})", f"  {page.text}"]
        lines += [f"  {name}: {text}" for name, text in page.parts.items()]
        lines += [f"    {edge.text}" for edge in page.edges]
    desk.answer(msgspec.to_builtins(found), *lines)


@command(ruledesk, "whynot")
@option("--member", required=True, help="Whom it is about.")
@option("--rule", required=True, help="The rule's public name, such as points.base.")
@option(
    "--event", help="An entry, or a JSON file with an event; by default the member's last one that the rule is about."
)
@tenant_option
def whynot(desk: Desk, member: str, rule: str, event: str | None, tenant: str | None) -> None:
    """Say why a rule did not fire, and the smallest change that would make it fire."""
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        entry = parse_entry(event) if event is not None else rulebook.last_entry(built, chosen, member, rule)
        if event is not None and entry is None:
            arrival = rulebook.imagine(built, chosen, member, _read(Path(event)), rule, ACTOR)
            answer = rulebook.whynot(built, chosen, rule, arrival=arrival, language=language())
        else:
            answer = rulebook.whynot(built, chosen, rule, member=member, entry=entry or 0, language=language())
    desk.answer(msgspec.to_builtins(answer), *lines_of(answer))


def _read(file: Path) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"{file}: {error.strerror}; expected an entry or a file with an event") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"{file}: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"{file}: expected one event, an object")
    return document


def lines_of(answer: WhyNot) -> Iterator[str]:
    """The answer for a person."""
    yield f"{answer.entry}  {answer.text}" if answer.entry else answer.text
    for change in answer.needed:
        yield f"  {change.text}"
    if not answer.fires and not answer.needed:
        yield "  " + say("No change of a single fact would make it fire.")
    if not answer.fires:
        yield from (f"  {each.text}" for each in answer.outcome)


@command(ruledesk, "lint")
@tenant_option
def lint(desk: Desk, tenant: str | None) -> None:
    """Look for rules that cannot be meant: they never fire, never count, or give more than they take.

    The exit status is 1 if one of them is certainly wrong.
    """
    found = desk.config()
    document = Document.read(desk.path)
    names = [tenant_of(found, tenant)] if tenant is not None else list(found.tenants)
    tenants = in_force(desk)
    places = [_place(document, name, each) for name in names for each in _suspicions(desk, found, tenants[name])]
    lines = []
    for each in places:
        where = f"{each.file}:{each.line}:{each.column}: " if each.file else ""
        lines.append(f"{where}{say(each.severity)}: {each.text}  [{each.code}]")
        lines += [f"    {line}" for line in each.story.splitlines()]
    desk.answer(msgspec.to_builtins(places), *(lines or [say("Nothing is suspicious about the rules.")]))
    if any(each.severity == "error" for each in places):
        click.get_current_context().exit(1)


def _suspicions(desk: Desk, config: Config, tenant: Tenant) -> Iterator[Suspicion]:
    """What reading the rules shows, and what trying them does."""
    generation = house.build_generation(tenant, 0, 0, desk.installed())
    yield from rulebook.suspicions(generation)
    tried = msgspec.structs.replace(config, tenants={**config.tenants, tenant.id: tenant})
    for pump in pumps.search(tried, tenant.id, desk.installed()):
        plugin, _, rule = pump.rule.partition(".")
        english = f"{rule}: buying and bringing everything back leaves {pump.gained:,} {pump.unit}"
        finding = lints.Finding(
            "points_pump", rule, english, f"{rule}：买入后全部退回，仍可留下 {pump.gained:,} {pump.unit}"
        )
        yield rulebook.Suspicion(plugin, finding, rulebook.written_at(generation, plugin, rule), pump.story)


def _place(document: Document, tenant: str, suspicion: Suspicion) -> Place:
    """The finding at the place where the merchant wrote the rule; a part that is not written is at the rule itself."""
    finding = suspicion.finding
    line = column = 0
    if suspicion.path:
        path = ("tenants", tenant, "plugins", suspicion.plugin, *suspicion.path)
        line, column = document.place(path)
    said = finding.text(language())
    return rulebook.Place(
        code=finding.code, severity=finding.severity, rule=f"{suspicion.plugin}.{finding.rule}",
        text=f"{suspicion.plugin}.{said}" if said.startswith(finding.rule) else said,
        file=document.file if line else "", line=line, column=column, story=suspicion.story,
    )  # fmt: skip
