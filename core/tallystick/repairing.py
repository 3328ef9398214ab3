"""Judges an event again in which a plugin was passed over, and makes good what it kept from the member.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import msgspec

from . import mending, undoing
from .effects import Count, Effect, Grant, Keep, Move, Spend
from .errors import NothingOwed, NotRepaired, UnknownEntry, UnknownMember
from .events import Arrival, Event, Purchase
from .judge import Judge, Judged, Totals
from .ledger import NEVER, Record, Step, entry_name, instant, moment, parse_entry
from .mending import Kept, Mending
from .page import GAINS, Page
from .pipeline import Plan, Skipped
from .settle import Posting, Settlement, plugin_of, settle
from .situation import Chance, Original, Situation
from .working import OrderEntry, Working

_NONE: Mapping[Any, Any] = MappingProxyType({})
_RETURNS = frozenset({"purchase.refunded", "purchase.cancelled"})


def seen_then(judge: Judge, facts: Mending) -> tuple[Record, Event] | None:
    """The entry that is to be made good, and the event as plugins saw it; None if its member was forgotten since."""
    number = parse_entry(facts.entry)
    found = judge.working.originals.get(number) if number is not None else None
    if found is None:
        raise UnknownEntry(f"there is no entry {facts.entry}")
    record = found[0]
    decided = parse_entry((record.more or {}).get("decides", "")) if record.kind == "entry.released" else None
    seen = judge.working.originals.get(decided) if decided is not None else found
    was = judge.looked_at(*seen) if seen is not None else None
    if was is None or (was.facts is None and was.kind == "purchase.completed"):
        return None
    who = judge.working.who
    return record, msgspec.structs.replace(
        was,
        member=who(was.member),
        received=moment(record.received),
        others={field: who(number) for field, number in facts.kept.others.items()},
    )


class Repairer(Judge):
    """Judges what the house says to make good."""

    def _judge(self, arrival: Arrival, entry: int, received: int) -> Judged:
        try:
            person = self.person(arrival)
        except UnknownMember:
            raise NothingOwed("the member was forgotten") from None
        return self._repair(arrival, self._event(arrival, person, received), entry, received)

    def _within(self, hook: str, effects: Sequence[Effect], skipped: list[Skipped], event: Event) -> Sequence[Effect]:  # noqa: ARG002
        return effects  # each answer was within its own bounds; the day it belongs to is over

    def _repair(self, arrival: Arrival, event: Event, entry: int, received: int) -> Judged:
        """Judge an event again as of then, with the plugins that had failed; post what it gives more.  Never takes.

        What those plugins keep themselves, and all limits, stand as they are now: to them the event comes late.
        """
        facts: Mending = arrival.facts  # type: ignore[assignment]
        found = seen_then(self, facts)
        if found is None:
            raise NothingOwed("the member was forgotten")
        record, was = found
        kept, number = facts.kept, parse_entry(record.entry) or 0
        self._can_be_repaired(record, was, kept)
        plan, sale = self.pipeline.plan(was.kind), self._sale_of(record, number)
        page = Page(entry, was, self.working, self.programme, received)
        # what is counted meanwhile counts on a sheet of its own, without what the event itself had counted
        sheet = Page(entry, was, Working(self.working.tenant), self.programme, received)
        sheet.working.counters = dict(self.working.counters)
        counted = record.counts if _judged_whole(record) else ()
        for member, counter, grain, start, amount, _ in counted:
            sheet.working.add((self.working.who(member), counter, grain, start), -amount)
        situation, own = self._situation_of_then(record, was, plan, sheet.working, kept, entry)
        postings, mine, keeps = self._judge_as_then(record, was, plan, sheet, situation, own, kept)
        page.seed = hashlib.sha256(situation.chance.seed).hexdigest() if situation.chance.drawn else ""
        more = mending.difference(record, postings, self.versions, self.working.who)
        more += self._kept_after_all(record, keeps)
        page.reached = self.reached(sale.order) if sale is not None else ()
        page.grant([posting for posting, _ in more])
        page.steps += [step for _, step in more]
        failed = kept.failed("earn", "reverse", "react")
        page.count_again(mending.counts(counted, sheet.counts, failed, self.working.who, whole=_judged_whole(record)))
        if sale is not None and sale.returned:
            nets = [line.net for line in was.facts.lines] if isinstance(was.facts, Purchase) else []
            undoing.take_back(page, page.record(status="recorded"), entry, sale, nets, {})
        page.apply(settle(mine, self.units, _NONE, self.versions))
        if not (more or page.counts or mine):
            raise NothingOwed
        skipped: list[Skipped] = []
        person = self.working.people.get(was.member)
        if page.outcome and person is not None and person.view.status == "active" and plan.evaluate_tier is not None:
            now = self.situation(was, plan, entry, person)
            tiers = attrs.evolve(plan, react=None)
            self._follow(tiers, page, was, now, skipped, self._private(plan, was, now), None)
        page.event = msgspec.structs.replace(event, member=was.member)
        page.repairs, arrival.cause = number, number
        rows = [OrderEntry(sale.order, entry, "repair", was.member)] if sale is not None else []
        about = {"repairs": record.entry, "plugins": sorted({each.plugin for each in kept.skipped})}
        return self._judged(
            arrival, page.event, page, entry, "recorded", "allow", (), skipped, rows, order=record.order, more=about
        )

    def _can_be_repaired(self, record: Record, was: Event, kept: Kept) -> None:
        decision = f"entry/{record.entry}"
        if self.working.order(decision, "voided"):
            raise NothingOwed("the entry was voided")
        if record.status in ("held", "step_up") and not self.working.order(decision, "released"):
            raise NotRepaired("the entry is held: it waits for a decision")
        gone = sorted({each.plugin for each in kept.skipped} - set(self.versions))
        if gone or was.kind not in self.kinds:
            raise NotRepaired(f"{', '.join(gone) or was.kind} is not enabled", plugins=gone)

    def _sale_of(self, record: Record, number: int) -> OrderEntry | None:
        """The sale that *record* is."""
        return next((row for row in self.working.order(record.order, "sale") if row.entry == number), None)

    def _situation_of_then(
        self, record: Record, was: Event, plan: Plan, counted: Working, kept: Kept, entry: int
    ) -> tuple[Situation, Mapping[str, Situation]]:
        """What was looked at then; of what the plugins that failed keep themselves, what it is now."""
        failed, working, day = kept.failed("earn", "reverse", "react"), self.working, self.programme.local_date(was.at)
        then = {(name, window): value for name, window, value in kept.counters}
        counters = {}
        for name, window in plan.needs.counters:
            value = counted.count(0 if window == "budget" else was.member, name, window, day)
            late = name.removeprefix("cap:").partition(".")[0] in failed or window == "budget"
            counters[name, window] = value if late else then.get((name, window), value)
        member = kept.member
        if member is None and (person := working.people.get(was.member)) is not None:
            member = self._full_view(person.view, plan.needs.profile)
        situation = Situation(
            now=was.received,
            programme=self.programme,
            member=msgspec.structs.replace(member, number=was.member) if member is not None else None,
            balances=MappingProxyType(
                {
                    unit: kept.balances.get(unit) or working.balance(was.member, unit, instant(was.received))
                    for unit in plan.needs.balances
                }
            ),
            counters=MappingProxyType(counters),
            own=_NONE,
            stock=MappingProxyType(working.stock),
            chance=Chance(self.chance, record.entry),
            original=self._returned_then(record, kept),
            others={working.who(view.number): view for view in kept.views},
            entry=entry_name(entry),
        )
        own = {}
        for plugin, now in self._private(plan, was, situation).items():
            rows = kept.own.get(plugin)
            own[plugin] = now if plugin in failed or rows is None else msgspec.structs.replace(situation, own=rows)
        return situation, own

    def _returned_then(self, record: Record, kept: Kept) -> Original | None:
        """Of a return: the sale it took back, as far as it had come back then."""
        if record.kind not in _RETURNS:
            return None
        sale = next(iter(self.working.order(record.order, "sale")), None)
        if sale is None:
            raise NothingOwed("its sale is not known")
        sold, sealed = self.working.originals[sale.entry]
        before, returned = kept.returned
        return Original(
            entry=sold.entry,
            kind=sold.kind,
            at=moment(sold.at),
            facts=self._purchase(sold, sealed),
            granted=tuple((s.rule, s.unit, s.amount) for s in sold.explanation if s.effect in GAINS),
            value=sale.value,
            returned_before=before,
            returned=returned,
        )

    def _judge_as_then(
        self,
        record: Record,
        was: Event,
        plan: Plan,
        sheet: Page,
        situation: Situation,
        own: Mapping[str, Situation],
        kept: Kept,
    ) -> tuple[list[Posting], list[Effect], list[Keep]]:
        """All gains as they should have been, what the failed plugins propose beside them, and what they would keep.

        Raises NotRepaired if somebody fails again.
        """
        skipped: list[Skipped] = []
        mine: list[Effect] = []
        keeps: list[Keep] = []
        postings: list[Posting] = []
        outcome = kept.outcome
        if situation.original is not None:
            if plan.reverse is not None:
                answers = self._ask(plan.reverse, skipped, was, situation.original, situation, own)
                failed = kept.failed("reverse")
                keeps = [e for e in answers if isinstance(e, Keep) and plugin_of(e.rule) in failed]
                mine += mending.beside(answers, failed)
                sheet.count(settle([e for e in answers if isinstance(e, Count)], self.units, _NONE, self.versions))
        elif _judged_whole(record):
            proposals: list[Effect] = []
            if plan.earn is not None:
                proposals += self._ask(plan.earn, skipped, was, situation, own)
                mine += mending.beside(proposals, kept.failed("earn"))
            if plan.redeem is not None:
                proposals += self._ask(plan.redeem, skipped, was, situation, own)
            first = self._settle(proposals, self._used(plan, was, sheet.working))
            postings += first.postings
            sheet.count(first)
            outcome = _outcome(first, was.member)
        active = situation.member is not None and situation.member.status == "active"
        if plan.react is not None and active and record.status == "recorded":
            sheet.outcome = dict(outcome or {})
            buckets = self.buckets(plan, self.programme.local_date(was.at))
            totals = Totals(sheet, was, buckets, whole=False)
            more = list(self._ask(plan.react, skipped, was, situation, totals, own))
            reviewed = record.kind != "entry.released" and bool(more)
            if reviewed and self._review(plan, was, situation, more, skipped, own)[0] != "allow":
                more = []
            second = self._settle(more, self._used(plan, was, sheet.working))
            postings += second.postings
            sheet.count(second)
            mine += mending.beside(more, kept.failed("react"))
        again = mending.repairable(skipped)
        if again:
            raise NotRepaired(
                f"{again[0].plugin} still fails in {again[0].hook}: {again[0].error}",
                plugin=again[0].plugin, hook=again[0].hook, cause=again[0].cause,
            )  # fmt: skip
        return postings, mine, keeps

    def _used(self, plan: Plan, was: Event, counted: Working) -> dict[tuple[str, str], int]:
        """What limits have let through by now."""
        day = self.programme.local_date(was.at)
        return {
            (name, window): counted.count(0 if window == "budget" else was.member, name, window, day)
            for name, window in plan.needs.counters
        }

    def _kept_after_all(self, record: Record, keeps: Sequence[Keep]) -> list[tuple[Posting, Step]]:
        """What a return took although a plugin would have kept it: given again, on the terms of the lots it came from."""
        taken: dict[tuple[str, str], int] = {}
        for step in record.explanation:
            if step.effect == "take_back" and not step.member:
                taken[step.rule, step.unit] = taken.get((step.rule, step.unit), 0) - step.amount
        found = []
        for keep in keeps:
            amount = min(keep.amount, taken.get((keep.of_rule, keep.unit), 0))
            if amount <= 0:
                continue
            taken[keep.of_rule, keep.unit] -= amount
            lots = [self.working.lot(t.lot) for t in record.transfers if t.rule == keep.of_rule and t.lot]
            ends = max((lot[2].expires_at for lot in lots if lot is not None), default=NEVER)
            gain = Grant(
                rule=keep.rule, unit=keep.unit, amount=amount, reversible=False,
                expires_at=None if ends >= NEVER else moment(ends),
            )  # fmt: skip
            step = Step(
                rule=keep.rule, effect="grant", version=self.versions.get(plugin_of(keep.rule), ""), unit=keep.unit,
                amount=amount, note="repaired", fixed=True,
            )  # fmt: skip
            found.append((Posting(keep.rule, amount, gain, None), step))
        return found


def _judged_whole(record: Record) -> bool:
    """Whether everything the entry gave and counted was proposed by plugins then."""
    return record.kind != "entry.released" and record.kind not in _RETURNS


def _outcome(settled: Settlement, member: int) -> dict[str, int]:
    """What *member* gains by a settlement, per unit."""
    found: dict[str, int] = {}
    for posting in settled.postings:
        if posting.gain.to in (0, member):
            found[posting.gain.unit] = found.get(posting.gain.unit, 0) + posting.amount
    spent: tuple[Spend | Move, ...] = (*settled.spends, *settled.moves)
    for each in spent:
        found[each.unit] = found.get(each.unit, 0) - each.amount
    return found
