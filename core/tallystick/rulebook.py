"""The rules of a tenant's plugins, read: why they fired, why not and what it would take, in sentences, and what is suspicious.

Any plugin takes part that offers :class:`~tallystick.rules.HasRules`.  What was recorded stays the truth: numbers come from
the entry's own explanation; the rules are read again only to say what their conditions looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import attrs
import msgspec
from msgspec import Meta, Struct

from . import people, queries
from .engine import Look
from .errors import InvalidRequest, NotFound, TallyError, UnknownEntry, UnknownKind
from .events import Arrival, Event
from .generation import Generation
from .house import House
from .intake import read_document
from .later import later
from .ledger import Record, entry_name, moment, parse_entry, parse_member
from .problems import Language, problem_document
from .receipts import Reason, reason
from .rules import HasRules, HasStandings, RuleSet, lint
from .schema import nearest
from .situation import Balance, Chance, Member, Situation

if TYPE_CHECKING:
    from .rules import aloud, explain
    from .rules.aloud import Wording
else:
    aloud, explain = later("rules.aloud", "rules.explain")

#: Entries of a member that are looked through for one that a rule is about.
LOOKED = 200
#: Currencies whose smallest unit is not a hundredth (ISO 4217).
_DIGITS: Final[Mapping[str, int]] = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}
#: Facts that are money, by the last word of their path.
_MONEY: Final = frozenset("amount discount tax total net eligible paid_with_points basis".split())


class Fact(Struct, frozen=True, kw_only=True):
    """What a condition looked at."""

    fact: Annotated[str, Meta(description="the expression, as rules write it")]
    value: Any


class Counted(Struct, frozen=True, kw_only=True):
    """A line of the event that a rule counted."""

    line: Annotated[int, Meta(description="its place in the event, counted from 0")]
    amount: Annotated[int, Meta(description="what it brought")]
    sku: str = ""


class Told(Struct, frozen=True, kw_only=True):
    """Why one rule did what an entry says: the recorded step, the lines that made it, and what the rule asks for."""

    rule: str
    text: Annotated[str, Meta(description="a sentence")]
    lines: tuple[Counted, ...] = ()
    says: Annotated[
        str, Meta(description="the rule itself, as a sentence; empty if its plugin does not run any more")
    ] = ""
    facts: tuple[Fact, ...] = ()
    sentences: Annotated[tuple[str, ...], Meta(description="all of this for a person, line by line")] = ()


class Needed(Struct, frozen=True, kw_only=True):
    """Were this one fact so, the rule would fire; with one unit less it would not."""

    fact: str
    found: Any
    needed: Any
    by: Any = None
    line: int | None = None
    text: str


class WhyNot(Struct, frozen=True, kw_only=True):
    """Whether a rule fires for an event of a member, and if not, why not and what it would take."""

    rule: str
    kind: str
    fires: bool
    text: Annotated[str, Meta(description="the answer in one sentence")]
    entry: Annotated[str, Meta(description="the entry it is about; empty for an event that was only asked about")] = ""
    part: Annotated[str, Meta(description="what failed: given, when or lines")] = ""
    condition: Annotated[str, Meta(description="the first condition that failed, as it is written")] = ""
    facts: tuple[Fact, ...] = ()
    needed: Annotated[
        tuple[Needed, ...], Meta(description="changes of one fact that make it fire, the smallest first")
    ] = ()
    outcome: Annotated[
        tuple[Reason, ...], Meta(description="what the rule came to: recorded, or what a dry run says")
    ] = ()
    refused: Annotated[
        Mapping[str, Any] | None, Meta(description="the refusal of the event, if it would be refused")
    ] = None


class RuleView(Struct, frozen=True, kw_only=True):
    """A rule by its name."""

    rule: str
    kind: str
    plugin: str
    text: str


class Edge(Struct, frozen=True, kw_only=True):
    """What a rule does at one value of one fact, everything else as in the example."""

    fact: str
    value: Any
    fires: bool
    result: Any = None
    text: str


class RulePage(Struct, frozen=True, kw_only=True):
    """A rule, read aloud, with the table of its boundaries, which is executed."""

    rule: str
    kind: str
    plugin: str
    text: str
    parts: Mapping[str, str]
    edges: tuple[Edge, ...] = ()


class Place(Struct, frozen=True, kw_only=True):
    """One finding about the rules."""

    code: str
    severity: str
    rule: str
    text: str
    file: str = ""
    line: int = 0
    column: int = 0
    story: Annotated[str, Meta(description="a counter-example that tallystick.testing.play runs")] = ""


class Known(NamedTuple):
    """One rule of one plugin."""

    plugin: str
    offers: HasRules
    kind: str
    rules: RuleSet
    name: str

    @property
    def rule(self) -> str:
        """Its public name."""
        return f"{self.plugin}.{self.name}"


def rules_of(generation: Generation) -> Iterator[Known]:
    """Every rule of every plugin that offers its rules, by plugin and kind of event."""
    for part in generation.pipeline.parts:
        if isinstance(part.plugin, HasRules):
            for kind in generation.kinds:
                rules = part.plugin.rules_about(kind)
                for rule in rules or ():
                    assert rules is not None
                    yield Known(part.id, part.plugin, kind, rules, rule.name)


def find_rules(generation: Generation, rule: str) -> list[Known]:
    """The rule of that name, once for each kind of event it is about.  Raises NotFound with the nearest name."""
    known = list(rules_of(generation))
    found = [each for each in known if each.rule == rule]
    if not found:
        close = nearest(rule, [each.rule for each in known])
        raise NotFound(f"no rule {rule!r} runs here" + (f"; did you mean {close}?" if close else ""))
    return found


def wording_of(generation: Generation, language: Language) -> Wording:
    """How facts are called and written for readers: times in the programme's zone, money with its point."""
    programme = generation.programme
    digits = _DIGITS.get(programme.currency, 2)

    def show(path: str, value: Any) -> str | None:
        last = path.rstrip(")").rpartition(".")[2]
        if type(value) is int and (last in _MONEY or path in _MONEY):
            return f"{Decimal(value).scaleb(-digits):,f} {programme.currency}"
        return None

    return aloud.Wording(language=language, zone=str(programme.zone), show=show)


# --- why ----------------------------------------------------------------------------------------------------------------


def told(house: House, tenant: str, entry: int, language: Language = "en") -> tuple[Told, ...]:
    """Why each rule did what the entry says, line by line.  Raises UnknownEntry."""
    record, look = house.engine.look_back(tenant, entry)
    generation = look.generation if look is not None else house.registry.latest(tenant)
    wording = wording_of(generation, language)
    fired = _fired(look) if look is not None else {}
    found = []
    for step in record.explanation:
        said, rule, why = reason(step, language), "", None
        known = fired.get(step.rule)
        if known is not None:
            rule, why = _own_words(known[0], wording), known[1]
        lines = tuple(
            Counted(line=number, amount=amount, sku=_sku(look, number)) for number, amount in step.lines or ()
        )
        facts = tuple(Fact(fact=each.text, value=each.value) for each in why.facts) if why is not None else ()
        sentences = [said.text]
        sentences += [_counted(line, wording, step.data) for line in lines]
        if rule:
            sentences.append(rule)
        if why is not None and why.facts:
            sentences.append(explain.readings(why.facts, wording))
        found.append(
            Told(rule=step.rule, text=said.text, lines=lines, says=rule, facts=facts, sentences=tuple(sentences))
        )
    return tuple(found)


def _fired(look: Look) -> dict[str, tuple[Known, explain.Why]]:
    """The rules that fire for an event, by their public name, with what they read."""
    found: dict[str, tuple[Known, explain.Why]] = {}
    if look.situation.member is None:
        return found  # guests are nobody's business until their order is linked
    for known in {each.plugin: each for each in rules_of(look.generation) if each.kind == look.event.kind}.values():
        values = known.offers.facts_about(look.event, look.situation_of(known.plugin))
        for why in explain.why(known.rules, values):
            found[f"{known.plugin}.{why.rule}"] = known._replace(name=why.rule), why
    return found


def _own_words(known: Known, wording: Wording) -> str:
    return aloud.sentence(known.rules[known.rules.named(known.name)], wording)


def _sku(look: Look | None, number: int) -> str:
    lines: Sequence[Any] = getattr(look.event.facts, "lines", ()) if look is not None else ()
    return getattr(lines[number], "sku", "") if number < len(lines) else ""


def _counted(line: Counted, wording: Wording, data: Mapping[str, Any] | None) -> str:
    # where each line's own gain is its weight, it is points; elsewhere it is money
    amount = (
        f"{line.amount:,}" if data is not None and data.get("each") == "line" else wording.value(line.amount, "amount")
    )
    named = wording.pick(f" ({line.sku})", f"（{line.sku}）") if line.sku else ""
    return wording.pick(f"line {line.line + 1}{named}: {amount}", f"第{line.line + 1}行{named}：{amount}")


# --- why not --------------------------------------------------------------------------------------------------------------


def whynot(
    house: House,
    tenant: str,
    rule: str,
    *,
    arrival: Arrival | None = None,
    entry: int = 0,
    member: str = "",
    language: Language = "en",
) -> WhyNot:
    """Why *rule* does not fire for an event that may come, or did not for the one of *entry*; and what it would take.

    An entry of somebody else than *member* is unknown.  For an entry, what the rule saw is played back to the moment before it.  Raises NotFound, UnknownEntry, UnknownMember, and
    InvalidRequest if the rule is not about events of that kind.
    """
    record: Record | None = None
    if arrival is not None:
        look: Look | None = house.engine.look(arrival)
    else:
        record, look = house.engine.look_back(tenant, entry)
        if member:
            with house.reading() as conn:
                asked = people.load(conn, house.secret, tenant, member).number
                if not people.is_same(conn, tenant, asked, parse_member(record.member) or 0):
                    raise UnknownEntry(f"there is no entry {entry_name(entry)}")
    if look is None:
        raise NotFound(f"what entry {entry_name(entry)} was about is forgotten with its member")
    kinds = find_rules(look.generation, rule)
    known = next((each for each in kinds if each.kind == look.event.kind), None)
    if known is None:
        about = ", ".join(each.kind for each in kinds)
        raise InvalidRequest(f"{rule} is about {about}, not about {look.event.kind}")
    values = known.offers.facts_about(look.event, look.situation_of(known.plugin))
    outcome, refused = _outcome(house, record, arrival, rule, language)
    return _answer(known, values, wording_of(look.generation, language), record, outcome, refused)


def _outcome(
    house: House, record: Record | None, arrival: Arrival | None, rule: str, language: Language
) -> tuple[tuple[Reason, ...], Mapping[str, Any] | None]:
    """What the rule came to: as it was recorded, or as a dry run has it."""
    if record is None:
        assert arrival is not None
        try:
            record = house.dry_run(arrival).record
        except TallyError as error:
            return (), problem_document(error, language)
    return tuple(reason(step, language) for step in record.explanation if step.rule == rule), None


def _answer(
    known: Known,
    values: Mapping[str, Any],
    wording: Wording,
    record: Record | None,
    outcome: tuple[Reason, ...],
    refused: Mapping[str, Any] | None,
) -> WhyNot:
    failed = explain.whynot(known.rules, known.name, values)
    places = _places(known.rules, values)
    if failed is None:
        came = wording.pick("; ", "；").join(each.text for each in outcome)
        if refused is not None:
            came = str(refused["detail"])
        nothing = wording.pick("nothing came of it", "但没有产生结果")
        text = wording.pick(f"{known.rule} fires: {came or nothing}.", f"{known.rule} 会触发：{came or nothing}。")
        changes: list[explain.Change] = []
    else:
        failed = dataclasses.replace(failed, rule=known.rule)
        text = explain.sentence(failed, wording)
        changes = explain.what_would_it_take(known.rules, known.name, values)
    return WhyNot(
        rule=known.rule,
        kind=known.kind,
        fires=failed is None,
        text=text,
        entry=record.entry if record is not None else "",
        part=failed.part if failed is not None else "",
        condition=failed.text if failed is not None else "",
        facts=tuple(Fact(fact=each.text, value=each.value) for each in failed.facts) if failed is not None else (),
        needed=tuple(_needed(change, known.rule, places, wording) for change in changes),
        outcome=outcome,
        refused=refused,
    )


def _needed(change: explain.Change, rule: str, places: Sequence[int], wording: Wording) -> Needed:
    line = places[change.line] if change.line is not None else None
    said = dataclasses.replace(change, rule=rule, line=line)
    return Needed(
        fact=change.text, found=change.found, needed=change.needed, by=change.by, line=line,
        text=explain.sentence(said, wording),
    )  # fmt: skip


def _places(rules: RuleSet, values: Mapping[str, Any]) -> Sequence[int]:
    """Where each of the lines that the rules look at stands in the purchase."""
    purchase = values.get("purchase")
    looked_at = values.get(rules.places.lines, getattr(purchase, "lines", ()))
    whole = {id(line): place for place, line in enumerate(getattr(purchase, "lines", ()))}
    return [whole.get(id(line), place) for place, line in enumerate(looked_at)]


# --- events to ask about --------------------------------------------------------------------------------------------------


def last_entry(house: House, tenant: str, member: str, rule: str) -> int:
    """The member's newest entry of a kind that *rule* is about.  Raises NotFound, UnknownMember."""
    kinds = {known.kind for known in find_rules(house.registry.latest(tenant), rule)}
    with house.reading() as conn:
        number = people.load(conn, house.secret, tenant, member).number
        lines = queries.statement(conn, tenant, number, limit=LOOKED).lines
    found = next((line.entry for line in lines if line.own and line.kind in kinds), None)
    if found is None:
        raise NotFound(f"{member} has no entry yet that {rule} is about ({', '.join(sorted(kinds))}); give an event")
    return parse_entry(found) or 0


def imagine(house: House, tenant: str, member: str, document: Mapping[str, Any], rule: str, actor: str) -> Arrival:
    """An event to ask about: *document* needs to say no more than ``data``; it is never recorded.  Raises InvalidEvent."""
    kinds = house.kinds(tenant)
    kind = document.get("type") or find_rules(house.registry.latest(tenant), rule)[0].kind
    if kind not in kinds:
        raise UnknownKind(f"no kind of event {kind!r} here", pointer="/type")
    now = moment(house.clock())
    whole = {
        "id": "asked",
        "source": "tallystick/whynot",
        "time": now.isoformat(),
        **document,
        "type": kind,
        "member": member,
    }
    return read_document(whole, tenant=tenant, kinds=kinds, received=now, actor=actor)


# --- read aloud -----------------------------------------------------------------------------------------------------------


def list_rules(generation: Generation, language: Language = "en") -> list[RuleView]:
    """Every rule with its sentence."""
    wording = wording_of(generation, language)
    return [
        RuleView(rule=known.rule, kind=known.kind, plugin=known.plugin, text=_own_words(known, wording))
        for known in rules_of(generation)
    ]


def show_rule(generation: Generation, rule: str, language: Language = "en") -> list[RulePage]:
    """The rule read aloud, and what it does at its thresholds, once for each kind it is about.  Raises NotFound."""
    wording = wording_of(generation, language)
    pages = []
    for known in find_rules(generation, rule):
        checked = known.rules[known.rules.named(known.name)]
        event, situation = example(generation, known.kind)
        values = known.offers.facts_about(event, situation)
        edges = tuple(
            Edge(
                fact=each.path, value=each.value, fires=each.firing is not None,
                result=each.firing.value if each.firing is not None else None,
                text=_edge(each, wording),
            )
            for each in aloud.boundaries(known.rules, known.name, values, assuming=aloud.favour(known.rules, known.name))
        )  # fmt: skip
        pages.append(
            RulePage(
                rule=known.rule, kind=known.kind, plugin=known.plugin, text=_own_words(known, wording),
                parts={name: part.text for name, part in checked.parts if part.text != "true"}, edges=edges,
            )
        )  # fmt: skip
    return pages


def _edge(example: aloud.Example, wording: Wording) -> str:
    label, value = wording.label(example.path), wording.value(example.value, example.path)
    if example.firing is None:
        return wording.pick(f"{label} {value}: no", f"{label} {value}：不触发")
    result = example.firing.value
    if result is None:
        return wording.pick(f"{label} {value}: yes", f"{label} {value}：触发")
    return wording.pick(f"{label} {value}: yes, {result}", f"{label} {value}：触发，得{result}")


def example(generation: Generation, kind: str) -> tuple[Event, Situation]:
    """The kind's own example, done by an active member of whom nothing else is known, at noon UTC of a Monday."""
    declared, programme = generation.kinds[kind], generation.programme
    at = datetime(2025, 1, 6, 12, tzinfo=UTC)
    others = dict.fromkeys(declared.members, 2)
    event = Event(
        tenant=programme.tenant, id="example", source="tallystick", kind=kind, at=at, received=at, member=1,
        facts=msgspec.convert({**_currency(declared.example, programme.currency)}, declared.facts), others=others,
    )  # fmt: skip
    members = {number: Member(number=number, status="active", enrolled_at=at) for number in (1, 2)}
    situation = Situation(
        now=at, programme=programme, member=members[1], balances=dict.fromkeys(programme.units, Balance()),
        counters={}, own={}, stock={}, chance=Chance(b"", "example"), others={2: members[2]},
    )  # fmt: skip
    return event, situation


def _currency(facts: Mapping[str, Any], currency: str) -> dict[str, Any]:
    return {**facts, "currency": currency} if "currency" in facts else dict(facts)


# --- lint -----------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Suspicion:
    """A finding of one plugin's rules, and where in that plugin's settings the rule is written."""

    plugin: str
    finding: lint.Finding
    path: tuple[str | int, ...]
    story: str = ""


def suspicions(generation: Generation) -> list[Suspicion]:
    """What is suspicious about the rules of every plugin that offers them."""
    found = []
    for part in generation.pipeline.parts:
        offers = part.plugin
        if not isinstance(offers, HasRules):
            continue
        for kind in generation.kinds:
            rules = offers.rules_about(kind)
            if rules is None:
                continue
            placed = offers if isinstance(offers, HasStandings) else None
            standings, spending = (placed.standings_about(kind), placed.spending) if placed is not None else ({}, ())
            for finding in lint.lint(rules, standings, spending=spending):
                path = (*placed.written_at(finding.rule), finding.part) if placed is not None else ()
                found.append(Suspicion(part.id, finding, path))
    return found


def written_at(generation: Generation, plugin: str, rule: str) -> tuple[str | int, ...]:
    """Where in the plugin's settings a rule is written, if it says so."""
    offers = next((part.plugin for part in generation.pipeline.parts if part.id == plugin), None)
    if not isinstance(offers, HasStandings):
        return ()
    try:
        return offers.written_at(rule)
    except (ValueError, KeyError):  # a rule of the plugin's own, which nobody wrote
        return ()
