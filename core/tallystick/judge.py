"""What the house thinks of one event: plugins propose, reviewers vote, settle weighs, the page is written.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from . import deferring, mending, merging, undoing, vault
from .effects import VERDICTS, Effect, Keep, Put, Verdict
from .errors import (
    AlreadyDecided,
    Denied,
    GuestOrder,
    InvalidEvent,
    MemberInactive,
    OrderConflict,
    Refused,
    TallyError,
    UnknownEntry,
    UnknownMember,
    UnknownOrder,
)
from .events import Arrival, Decision, Event, EventKind, Facts, OrderAdvanced, Purchase, Refund
from .generation import Generation, fill
from .lane import Told
from .ledger import (
    EPOCH,
    HELD,
    NEVER,
    Lot,
    Record,
    Step,
    Transfer,
    entry_name,
    instant,
    member_name,
    moment,
    parse_entry,
    parse_member,
)
from .page import GAINS, Page, effects_document, spent_of
from .pipeline import Plan, Skipped
from .quotas import Tally, budget_caps, used_of
from .settle import Settlement, plugin_of, settle
from .situation import Birthday, Chance, Member, Original, Situation
from .windows import day_number, grain_of, start_of
from .working import NotRead, OrderEntry, Person, Working

#: Returns that may wait for one order.
MAX_PARKED = 100


#: Kinds of which plugins are not asked by `earn` and `redeem`, or only when others were looked at.
_OTHERWISE = frozenset(
    {
        "purchase.refunded", "purchase.cancelled", "order.advanced", "order.claimed", "entry.released", "entry.voided",
        "member.merged", "member.unmerged",
    }
)  # fmt: skip


def _is_active(event: Event, person: Person | None) -> bool:
    return person is not None and (person.view.status == "active" or event.kind == "member.enrolled")


class NoFacts(Facts, frozen=True):
    """Facts of events that need none."""


class Judged(NamedTuple):
    """What came of one event."""

    record: Record
    sealed: bytes
    page: Page
    skipped: Sequence[Skipped] = ()
    again: Sequence[Arrival] = ()  #: parked refunds that can be applied now


class Judge:
    """Judges the events of one tenant in one batch, one after the other, over one working state."""

    def __init__(self, working: Working, generation: Generation, secret: bytes) -> None:
        self.working, self.generation, self.secret = working, generation, secret
        self.chance = secret  #: what chance is drawn from; a dry run takes another
        self.older: Mapping[int, Generation] = _NONE  #: entry -> the generation that judges it, if it came late
        self.pipeline, self.programme, self.kinds = generation.pipeline, generation.programme, generation.kinds
        self.units, self.versions = generation.programme.units, generation.versions
        self._buckets: dict[str, _Buckets] = {}
        self._received: tuple[int, datetime] = (0, EPOCH)  #: of the last event, as a moment
        self._tally: Tally | None = None  #: of the event at hand, once something in it is bounded

    def judge(self, arrival: Arrival, entry: int, received: int) -> Judged:
        """Think one event through.  Raises the refusal; then the working state is as it was before."""
        self.working.begin()
        self._tally = None
        try:
            return self._judge(arrival, entry, received)
        except BaseException:
            self.working.undo()
            raise

    def _judge(self, arrival: Arrival, entry: int, received: int) -> Judged:
        person = self.person(arrival)
        event = self._event(arrival, person, received)
        match arrival.kind:
            case "purchase.completed":
                return self._sale(arrival, event, person, entry, received)
            case "purchase.refunded" | "purchase.cancelled":
                return self._refund(arrival, event, entry, received)
            case "order.advanced":
                return self._advance(arrival, event, entry, received)
            case "order.claimed":
                return self._claim_guest(arrival, event, person, entry, received)
            case "entry.released" | "entry.voided":
                return self._decide(arrival, event, entry, received)
            case "member.merged":
                return self._merge(arrival, event, entry, received)
            case "member.unmerged":
                return self._unmerge(arrival, event, entry, received)
        return self._plain(arrival, event, person, entry, received)

    def _event(self, arrival: Arrival, person: Person | None, received: int) -> Event:
        kind = self.kinds.get(arrival.kind)
        if self._received[0] != received:
            self._received = received, moment(received)
        return Event(
            tenant=arrival.tenant,
            id=arrival.id,
            source=arrival.source,
            kind=arrival.kind,
            at=arrival.at,
            received=self._received[1],
            member=person.number if person else 0,
            facts=arrival.facts,
            others=self._others(arrival, kind) if kind is not None and kind.members else _NOBODY,
            depth=arrival.depth,
        )

    def look(self, arrival: Arrival, entry: int, received: int) -> tuple[Event, Situation, Mapping[str, Situation]]:
        """What plugins see of an event: the situation, and that of each plugin which asked for own rows.  Nothing is judged."""
        person = self.person(arrival)
        event = self._event(arrival, person, received)
        plan = self.pipeline.plan(event.kind)
        situation = self.situation(event, plan, entry, person)
        return event, situation, self._private(plan, event, situation) if plan.own else _NONE

    def foresee(self, work: Sequence[tuple[Arrival, int, int]]) -> None:
        """Let plugins that run apart look at a whole batch before it is judged, event by event as ever."""
        looks = []
        for arrival, entry, received in work:
            if arrival.kind in _OTHERWISE or arrival.kind not in self.kinds or entry in self.older:
                continue
            try:
                look = self.look(arrival, entry, received)
            except (TallyError, NotRead):
                continue  # it will be refused, or judged once more is known
            if self._asked(look[0], self.person(arrival)):
                looks.append(look)
        self.pipeline.foresee(looks)

    # -- who ------------------------------------------------------------------------------------------------------

    def person(self, arrival: Arrival) -> Person | None:
        """The member an event is about; None for a guest."""
        if not arrival.member:
            return None
        number = self.working.references.get(arrival.member)
        person = self.working.people.get(number) if number is not None else None
        if person is None or person.view.status == "erased":
            raise UnknownMember(f"no member {arrival.member!r} here", pointer="/member")
        return person

    def _others(self, arrival: Arrival, kind: EventKind) -> dict[str, int]:
        others = {}
        for field in kind.members:
            reference = getattr(arrival.facts, field, None)
            if reference:
                number = self.working.references.get(reference)
                person = self.working.people.get(number) if number is not None else None
                if person is None or person.view.status != "active":
                    raise UnknownMember(f"no active member {reference!r} here", pointer=f"/data/{field}")
                others[field] = person.number
        return others

    def _key(self, member: int) -> bytes:
        person = self.working.people.get(member)
        return person.secret if person is not None and person.secret is not None else self.secret

    def seal(self, arrival: Arrival, entry: int, member: int) -> bytes:
        """The event's claims, encrypted under the member's key (a guest's under the house's)."""
        return vault.seal_facts(self._key(member), entry, arrival.canonical, self.working.epoch)

    # -- what a hook may look at --------------------------------------------------------------------------------------

    def situation(
        self, event: Event, plan: Plan, entry: int, person: Person | None, original: Original | None = None
    ) -> Situation:
        """Everything the plan's plugins declared they need, as it stands before this event."""
        working, needs = self.working, plan.needs
        member = person.view if person is not None else None
        if member is not None and (needs.profile or self.generation.ladders):
            member = self._full_view(member, needs.profile)
        balances = _NONE
        if needs.balances:
            now = instant(event.received)
            balances = MappingProxyType({unit: working.balance(event.member, unit, now) for unit in needs.balances})
        name = entry_name(entry)
        return Situation(
            now=event.received,
            programme=self.programme,
            member=member,
            balances=balances,
            counters=MappingProxyType(self._counters(plan, event)) if needs.counters else _NONE,
            own=_NONE,
            stock=MappingProxyType(working.stock) if needs.stock else _NONE,
            chance=Chance(self.chance, name),
            original=original,
            others={number: working.people[number].view for number in event.others.values()} if event.others else _NONE,
            entry=name,
        )

    def _counters(self, plan: Plan, event: Event) -> dict[tuple[str, str], int]:
        """What the declared counters stand at now."""
        day, member, stored = self.programme.local_date(event.at), event.member, self.working.counters.get
        buckets = self.buckets(plan, day)
        found = {key: stored((member, name, grain, start), 0) for key, name, grain, start in buckets.single}
        for key in buckets.shared:
            _, name, grain, start = buckets.counters[key]  # type: ignore[misc]
            found[key] = stored((0, name, grain, start), 0)
        for key in buckets.summed:
            found[key] = self.working.count(member, *key, day)
        return found

    def buckets(self, plan: Plan, day: date) -> _Buckets:
        """Where the declared counters of *plan* are kept on *day*."""
        found = self._buckets.get(plan.kind)
        if found is None or found.day != day:
            found = self._buckets[plan.kind] = _buckets(plan, day)
        return found

    def _full_view(self, member: Member, profile: bool) -> Member:
        tiers = self.working.tiers(member.number)
        body = self.working.profiles.get(member.number) if profile else None
        if not tiers and body is None:
            return member
        birthday = member.birthday
        if body is not None:
            opened = vault.open_sealed(self._key(member.number), body)
            document = msgspec.json.decode(opened) if opened else {}
            if document.get("birthday"):
                month, day = document["birthday"][-5:].split("-")
                birthday = Birthday(int(month), int(day))
        return Member(member.number, member.status, member.enrolled_at, member.tags, birthday, tiers, member.language)

    # -- the ordinary event -------------------------------------------------------------------------------------------

    def _plain(
        self, arrival: Arrival, event: Event, person: Person | None, entry: int, received: int, **more: Any
    ) -> Judged:
        page, verdict, reasons, skipped = self._think(event, person, entry, received)
        status = "recorded" if verdict == "allow" else ("step_up" if verdict == "step_up" else "held")
        rows: list[OrderEntry] = []
        order = getattr(arrival.facts, "order", "") or ""
        if order and not more:
            rows.append(OrderEntry(order, entry, "spend", event.member))
        return self._judged(arrival, event, page, entry, status, verdict, reasons, skipped, rows, order=order, **more)

    def _think(
        self, event: Event, person: Person | None, entry: int, received: int, reached: Collection[str] = ()
    ) -> tuple[Page, str, list[Verdict], list[Skipped]]:
        plan = self.pipeline.plan(event.kind)
        skipped: list[Skipped] = []
        proposals: Sequence[Effect] = ()
        active = _is_active(event, person)
        asked = self._asked(event, person)
        if not asked and plan.redeem is not None:
            if person is None:
                raise GuestOrder("this needs a member", pointer="/member")
            raise MemberInactive(f"the member is {person.view.status}", pointer="/member")
        situation = self.situation(event, plan, entry, person)
        own = self._private(plan, event, situation) if plan.own else _NONE
        if asked:
            if plan.earn is not None:
                proposals = self._ask(plan.earn, skipped, event, situation, own)
            if plan.redeem is not None:
                proposals = [*proposals, *self._ask(plan.redeem, skipped, event, situation, own)]
        verdict, reasons, counted = self._review(plan, event, situation, proposals, skipped, own)
        if verdict == "deny":
            reason = next(r for r in reasons if r.verdict == "deny")
            raise Denied(reason.gentle or "this cannot be done now", rule=reason.rule, reason=reason.reason)
        noted = [effect for effect in counted if type(effect) is Put] if counted else ()
        if len(noted) < len(counted):
            proposals = [*proposals, *[effect for effect in counted if type(effect) is not Put]]
        page = Page(entry, event, self.working, self.programme, received, held=verdict in ("hold", "step_up"))
        page.reached = reached
        page.apply(self._settle(proposals, situation.counters))
        if page.deferred:
            page.seen = deferring.looked_at(page.deferred, event.member, self._read(plan, event), self.working.own)
        if noted:  # what a reviewer remembers it remembers now, whatever becomes of a held event
            page.follow(noted, (), (), (), ())
        if active and verdict == "allow" and (plan.react is not None or plan.evaluate_tier is not None):
            self._follow(plan, page, event, situation, skipped, own, reasons)
        page.seed = hashlib.sha256(situation.chance.seed).hexdigest() if situation.chance.drawn else ""
        if skipped:
            page.kept = mending.keep(skipped, event, situation, own)
        return page, verdict, reasons, skipped

    def _asked(self, event: Event, person: Person | None) -> bool:
        """Whether plugins are asked what this member gains and spends."""
        kind = self.kinds[event.kind]
        # a kind that plugins declared for guests concerns the shop (shelves, tills), not a member
        if person is None:
            return kind.plugin != "core" and kind.guest
        return _is_active(event, person) or (person.view.status == "blocked" and kind.blocked)

    def _ask(self, hook: Any, skipped: list[Skipped], *arguments: Any) -> Sequence[Effect]:
        """Ask all plugins that implement a hook; who failed is noted and passed over."""
        effects, passed_over = hook(*arguments)
        if passed_over:
            skipped += passed_over
        if effects and self.pipeline.quotas:
            return self._within(hook.__name__, effects, skipped, arguments[0])
        return effects  # type: ignore[no-any-return]

    def _within(self, hook: str, effects: Sequence[Effect], skipped: list[Skipped], event: Event) -> Sequence[Effect]:
        """What stays within bounds that hold over all hooks of the event, and over the member's day."""
        if self._tally is None:
            self._tally = Tally(self.pipeline.quotas, self.versions)
        members = {event.member, *event.others.values()}
        used = used_of(self.working, self.pipeline.quotas, members, self.programme.local_date(event.at))
        admitted, refused = self._tally.admit(hook, effects, event.member, used)
        skipped += refused
        return admitted

    def _settle(self, proposals: Sequence[Effect], used: Mapping[tuple[str, str], int]) -> Settlement:
        """Weigh all proposals together; what plugins have left of their budgets cuts them."""
        if self.pipeline.budgets:
            proposals = [*proposals, *budget_caps(proposals, self.pipeline.budgets)]
        return settle(proposals, self.units, used, self.versions)

    def _private(self, plan: Plan, event: Event, situation: Situation) -> Mapping[str, Situation]:
        """The situation of each plugin that asked for own rows: nobody sees anybody else's."""
        private = {}
        own, member, s = self.working.own, f"m:{event.member}", situation
        for plugin, templates in plan.own.items():
            rows = {
                template: own.get((plugin, member if template == "{member}" else fill(template, event)), _NONE)
                for template in templates
            }
            private[plugin] = Situation(
                s.now,
                s.programme,
                s.member,
                s.balances,
                s.counters,
                rows,
                s.stock,
                s.chance,
                s.original,
                s.others,
                s.entry,
            )
        return private

    def _read(self, plan: Plan, event: Event) -> set[tuple[str, str]]:
        """(plugin, key) of the own rows that were read for an event."""
        member = f"m:{event.member}"
        keys = {(plugin, fill(template, event)) for plugin, templates in plan.own.items() for template in templates}
        return keys | {("core", member)} if self.generation.ladders else keys

    def _review(
        self,
        plan: Plan,
        event: Event,
        situation: Situation,
        proposals: Sequence[Effect],
        skipped: list[Skipped],
        own: Mapping[str, Situation],
    ) -> tuple[str, list[Verdict], Sequence[Effect]]:
        """The worst verdict, every reason, and what reviewers want counted."""
        if plan.review is None:
            return "allow", [], []
        said = self._ask(plan.review, skipped, event, situation, tuple(proposals), own)
        reasons = [effect for effect in said if type(effect) is Verdict]
        if not reasons:
            return "allow", [], said
        counted = [effect for effect in said if type(effect) is not Verdict]
        return max([r.verdict for r in reasons], key=VERDICTS.index), reasons, counted

    def _follow(
        self,
        plan: Plan,
        page: Page,
        event: Event,
        situation: Situation,
        skipped: list[Skipped],
        own: Mapping[str, Situation],
        reasons: list[Verdict] | None,
    ) -> None:
        """The second and last round: what follows from what was decided is reviewed and settled once more.

        Tiers are looked at last: what reactions give counts for them, too.
        """
        buckets = self.buckets(plan, self.programme.local_date(event.at))
        if plan.react is not None:
            outcome = Totals(page, event, buckets, whole=False)
            more = self._ask(plan.react, skipped, event, situation, outcome, own)
            if more:
                self._settle_more(plan, page, event, situation, more, skipped, own, reasons)
        if plan.evaluate_tier is not None and situation.member is not None:
            totals = Totals(page, event, buckets, whole=True)
            more = self._ask(
                plan.evaluate_tier, skipped, event, situation.member, totals, situation.now, situation, own
            )
            if more:
                self._settle_more(plan, page, event, situation, more, skipped, own, reasons)

    def _settle_more(
        self,
        plan: Plan,
        page: Page,
        event: Event,
        situation: Situation,
        more: Sequence[Effect],
        skipped: list[Skipped],
        own: Mapping[str, Situation],
        reasons: list[Verdict] | None,
    ) -> None:
        """What reviewers do not allow of it does not happen, and its cause stands.  *reasons* None: a person has decided."""
        if reasons is not None:
            verdict, said, _ = self._review(plan, event, situation, more, skipped, own)  # counted in the first round
            if verdict != "allow":
                reasons += said
                return
        used = self._counters(plan, event) if page.counts else situation.counters
        page.apply(self._settle(more, used))

    def _judged(
        self,
        arrival: Arrival,
        event: Event,
        page: Page,
        entry: int,
        status: str,
        verdict: str,
        reasons: Sequence[Verdict],
        skipped: Sequence[Skipped],
        rows: Sequence[OrderEntry] = (),
        again: Sequence[Arrival] = (),
        *,
        order: str = "",
        value: int = 0,
        **more: Any,
    ) -> Judged:
        if self._tally is not None and self._tally.today:
            day = day_number(page.day)
            page.count_again([(owner, name, "day", day, n, "") for (owner, name), n in self._tally.today.items() if n])
        working = self.working
        for row in rows:
            working.add_order(row)
        if working.merged:
            merging.follow(page)
        page.name_versions(self.versions)
        sealed = self.seal(arrival, entry, event.member)
        if page.kept:  # it holds what plugins may know of a person
            page.kept = vault.seal(self._key(event.member), page.kept, page.name.encode())
        if page.held or page.later:
            seen = page.seen if any(mark is not None for mark in page.seen) else ()
            deferred = effects_document(page.deferred)
            waiting = {"deferred": deferred, "seen": seen, "to": page.targets, "later": page.later}
            more["more"] = {**more.get("more", {}), **{name: value for name, value in waiting.items() if value}}
        if reasons:
            more["reasons"] = tuple(
                [{"rule": r.rule, "verdict": r.verdict, "reason": r.reason, "gentle": r.gentle} for r in reasons]
            )
        if skipped:
            more["skipped"] = tuple(
                [
                    {"plugin": s.plugin, "version": s.version, "hook": s.hook, "cause": s.cause, "error": s.error}
                    | ({"code": s.code} if s.code else {})
                    for s in skipped
                ]
            )
        if len(working.noted) > (
            arrival.kind == "purchase.completed"
        ):  # that a sale names its order goes without saying
            more["orders"] = working.notes()
        if working.took_now:
            more["took"] = tuple([(entry_name(of), place, amount) for of, place, amount in working.took_now])
        if working.restocked:
            more["restocks"] = tuple(working.restocked)
        if arrival.cause:
            more["cause"], more["depth"] = entry_name(arrival.cause), arrival.depth
        record = page.record(
            status=status, verdict=verdict, order=order, value=value, facts=hashlib.sha256(sealed).hexdigest(), actor=arrival.actor,
            **more,
        )  # fmt: skip
        return Judged(record, sealed, page, skipped, again)

    # -- orders -------------------------------------------------------------------------------------------------------

    def _sale(self, arrival: Arrival, event: Event, person: Person | None, entry: int, received: int) -> Judged:
        purchase: Purchase = arrival.facts  # type: ignore[assignment]
        known = self.working.orders.get(purchase.order)
        if known and self.working.order(purchase.order, "sale", "guest"):
            raise OrderConflict(f"order {purchase.order} was already recorded by another event", pointer="/data/order")
        page, verdict, reasons, skipped = self._think(event, person, entry, received)
        value = purchase.total
        sale = OrderEntry(purchase.order, entry, "sale", event.member, value)
        parked = self.working.order(purchase.order, "parked") if known else ()
        again = [waiting for row in parked if (waiting := self._unpark(row, arrival)) is not None]
        for row in parked:
            self.working.touch_order(row).role = "applied"
        status = "recorded" if verdict == "allow" else ("step_up" if verdict == "step_up" else "held")
        return self._judged(
            arrival,
            event,
            page,
            entry,
            status,
            verdict,
            reasons,
            skipped,
            [sale],
            again,
            order=purchase.order,
            value=value,
        )

    def _unpark(self, row: OrderEntry, sale: Arrival) -> Arrival | None:
        record, sealed = self.working.originals[row.entry]
        arrival = self.reopen(record, sealed)
        if arrival is None:
            return None  # whoever returned it was forgotten since
        arrival.id = f"{record.id}/applied"
        arrival.cause = row.entry
        if not row.member or row.member == self.working.references.get(sale.member):
            arrival.member = sale.member
        else:
            self.working.references[arrival.member] = row.member
        return arrival

    def not_applied(self, arrival: Arrival, entry: int, received: int, refusal: TallyError) -> Judged:
        """A return that had been accepted early and does not fit the sale after all: said so, and nothing taken."""
        self.working.begin()
        event = Event(
            tenant=arrival.tenant, id=arrival.id, source=arrival.source, kind=arrival.kind, at=arrival.at,
            received=moment(received), member=0, facts=arrival.facts, others=_NOBODY,
        )  # fmt: skip
        page = Page(entry, event, self.working, self.programme, received)
        said = Verdict(rule="core.refund", verdict="deny", reason=refusal.code, gentle=str(refusal))
        return self._judged(arrival, event, page, entry, "recorded", "deny", [said], (), order=arrival.facts.order)  # type: ignore[attr-defined]

    def reopen(self, record: Record, sealed: bytes | None) -> Arrival | None:
        """The event again as it came in; None if its member was forgotten since."""
        member = int(record.member[2:]) if record.member else 0
        opened = (
            vault.open_facts(self._key(member), parse_entry(record.entry) or 0, sealed) if sealed is not None else None
        )
        if opened is None:
            return None
        document = msgspec.json.decode(opened, type=_Claims)
        kind = self.kinds.get(record.kind)
        facts = msgspec.json.decode(document.data, type=kind.facts) if kind is not None else NoFacts()
        return Arrival(
            tenant=record.tenant, id=record.id, source=record.source, kind=record.kind, at=moment(record.at),
            member=record.member, facts=facts, canonical=opened,
        )  # fmt: skip

    def looked_at(self, record: Record, sealed: bytes | None) -> Event | None:
        """What plugins saw of a recorded event: of a claimed guest order, the purchase."""
        arrival = self.reopen(record, sealed)
        if arrival is None:
            return None
        facts, kind = arrival.facts, record.kind
        if kind == "order.claimed":
            facts, kind = self._purchase(record, sealed), "purchase.completed"  # type: ignore[assignment]
        named = self.kinds[kind].members if kind in self.kinds else ()
        references = self.working.references
        return Event(
            tenant=record.tenant, id=record.id, source=record.source, kind=kind, at=arrival.at, received=moment(record.received),
            member=parse_member(record.member) or 0, facts=facts,
            others={field: number for field in named if (number := references.get(getattr(facts, field, None) or ""))},
        )  # fmt: skip

    def _purchase(self, record: Record, sealed: bytes | None) -> Purchase | None:
        """What was bought; for a guest order that was linked later, what the guest bought."""
        opened = self.reopen(record, sealed)
        if opened is not None and isinstance(opened.facts, Purchase):
            return opened.facts
        cause = self.working.originals.get(parse_entry(record.cause) or 0) if record.cause else None
        return self._purchase(*cause) if cause is not None else None

    def _refund(self, arrival: Arrival, event: Event, entry: int, received: int) -> Judged:
        refund: Refund = arrival.facts  # type: ignore[assignment]
        sales = self.working.order(refund.order, "sale", "guest")
        if not sales:
            if len(self.working.order(refund.order, "parked")) >= MAX_PARKED:
                raise OrderConflict(
                    f"{MAX_PARKED} returns wait for order {refund.order} already", pointer="/data/order"
                )
            page = Page(entry, event, self.working, self.programme, received)
            row = OrderEntry(refund.order, entry, "parked", event.member)
            paid = self.working.order(refund.order, "spend") if arrival.kind == "purchase.cancelled" else []
            if paid and not refund.lines and refund.amount is None:
                return self._give_up(arrival, event, page, entry, paid, row)
            return self._judged(arrival, event, page, entry, "parked", "allow", (), (), [row], order=refund.order)
        sale = sales[-1]
        buyer = self.working.who(sale.member)
        if event.member and sale.member and event.member != buyer:
            raise InvalidEvent("the order belongs to another member", pointer="/member")
        event = msgspec.structs.replace(event, member=buyer)
        person = self.working.people.get(buyer)
        record, sealed = self.working.originals[sale.entry]
        purchase = self._purchase(record, sealed)
        before = sale.returned
        undoing.bring_back(self.working, sale, refund, purchase)
        made_good = [
            (row.entry, self.working.originals[row.entry][0]) for row in self.working.order(refund.order, "repair")
        ]
        original = Original(
            entry=record.entry,
            kind=record.kind,
            at=moment(record.at),
            facts=purchase,
            granted=tuple(
                (s.rule, s.unit, s.amount)
                for each in (record, *[by for _, by in made_good])
                for s in each.explanation
                if s.effect in GAINS
            ),
            value=sale.value,
            returned_before=before,
            returned=sale.returned,
        )
        page = Page(entry, event, self.working, self.programme, received)
        plan = self.pipeline.plan(event.kind)
        skipped: list[Skipped] = []
        proposals: list[Effect] = []
        situation = self.situation(event, plan, entry, person, original)
        own = self._private(plan, event, situation) if plan.own else _NONE
        if plan.reverse is not None and person is not None:
            proposals += self._ask(plan.reverse, skipped, event, original, situation, own)
        keep = undoing.kept(proposals)
        nets = [line.net for line in purchase.lines] if purchase is not None else []
        for number, gave in ((sale.entry, record), *made_good):
            undoing.take_back(page, gave, number, sale, nets, keep)
        for bought in [sale, *self.working.order(refund.order, "spend")]:
            if bought.entry in self.working.originals:
                told = self.working.originals[bought.entry][0]
                undoing.give_back(page, told, bought.entry, sale)
                if bought is not sale:  # what it gave, counted and took off the shelf goes the same way
                    undoing.take_back(page, told, bought.entry, sale, (), keep)
        page.apply(
            settle([e for e in proposals if not isinstance(e, Keep)], self.units, situation.counters, self.versions)
        )
        reasons: list[Verdict] = []
        outcome = dict(page.outcome)
        if person is not None and person.view.status == "active":
            self._follow(plan, page, event, situation, skipped, own, reasons)
        if skipped:
            page.kept = mending.keep(skipped, event, situation, own, outcome=outcome, returned=(before, sale.returned))
        row = OrderEntry(refund.order, entry, "refund", sale.member, sale.returned - before)
        return self._judged(
            arrival,
            event,
            page,
            entry,
            "recorded",
            "allow",
            reasons,
            skipped,
            [row],
            order=refund.order,
            value=sale.returned - before,
        )

    def _give_up(
        self, arrival: Arrival, event: Event, page: Page, entry: int, paid: Sequence[OrderEntry], row: OrderEntry
    ) -> Judged:
        """An order is cancelled of which nobody has heard but what paid for it: all of that goes back now.

        Should its sale still come, the cancellation is applied to it; what went back does not go back twice.
        """
        payer = self.working.who(paid[-1].member)
        if event.member and event.member != payer:
            raise InvalidEvent("the order belongs to another member", pointer="/member")
        page.event = event = msgspec.structs.replace(event, member=payer)
        for each in paid:
            record = self.working.originals[each.entry][0]
            for place, step, spent in spent_of(record):
                if step.effect == "spend":
                    undoing.put_back(page, record, each.entry, place, spent, -step.amount)
            undoing.take_back(page, record, each.entry, OrderEntry(row.order, each.entry, "sale", payer), (), {})
        return self._judged(arrival, event, page, entry, "recorded", "allow", (), (), [row], order=row.order)

    def _advance(self, arrival: Arrival, event: Event, entry: int, received: int) -> Judged:
        """What waited for this state of the order becomes usable."""
        facts: OrderAdvanced = arrival.facts  # type: ignore[assignment]
        sales = self.working.order(facts.order, "sale", "guest")
        if not sales:
            raise UnknownOrder(f"no order {facts.order} here", pointer="/data/order")
        sale = sales[-1]
        event = msgspec.structs.replace(event, member=sale.member)
        page = Page(entry, event, self.working, self.programme, received)
        for each in (sale, *self.working.order(facts.order, "repair")):
            self._open_lots(page, self.working.originals[each.entry][0], f"{facts.order}/{facts.state}", received)
        row = OrderEntry(facts.order, entry, "state", sale.member)
        return self._judged(arrival, event, page, entry, "recorded", "allow", (), (), [row], order=facts.order)

    def reached(self, order: str) -> set[str]:
        """States that *order* is known to have reached since it was placed."""
        advanced = [self.reopen(*self.working.originals[row.entry]) for row in self.working.order(order, "state")]
        return {each.facts.state for each in advanced if each is not None}  # type: ignore[attr-defined]

    def _open_lots(self, page: Page, record: Record, waits: str, received: int) -> None:
        """What waited for this becomes usable; what is held besides notes that it has nothing else to wait for."""
        later = (record.more or {}).get("later", {})
        for given in record.lots:
            found = self.working.lot(given.lot)
            if found is None:
                continue
            member, unit, lot = found
            usable_from, state = later.get(given.lot, (received, ""))
            if lot.held and waits != "held":
                if state == waits:
                    self._wait_for(page, member, unit, lot, "held, reached")
                continue
            if lot.waits != waits and not (lot.held and waits == "held"):
                continue
            account = self.working.touch(self.working.account(member, unit))
            self.working.touch_lot(lot)
            page.touched.add((member, unit))
            if waits == "held" and state and lot.waits != "held, reached":
                self._wait_for(page, member, unit, lot, state)
            else:
                lot.waits, lot.usable_from = "", max(received, usable_from)
                data = {"lot": given.lot, "amount": lot.left, "member": account.name, "usable_from": lot.usable_from}
                page.steps.append(Step(rule="core.release", effect="usable", unit=unit, data=data))
            page.expire(account)

    def _wait_for(self, page: Page, member: int, unit: str, lot: Lot, waits: str) -> None:
        """A lot goes on waiting, for something else than before; said in the journal, from which all can be made anew."""
        self.working.touch_lot(lot).waits = waits
        data = {"lot": lot.name, "member": member_name(member), "usable_from": NEVER, "waits": waits}
        page.steps.append(Step(rule="core.release", effect="awaits", unit=unit, data=data))

    def _claim_guest(self, arrival: Arrival, event: Event, person: Person | None, entry: int, received: int) -> Judged:
        """A guest order is linked to a member: it is judged now as if the member had bought it then.  Idempotent."""
        order = arrival.facts.order  # type: ignore[attr-defined]
        sales = self.working.order(order, "sale", "guest")
        if not sales:
            raise UnknownOrder(f"no order {order} here", pointer="/data/order")
        if person is None:
            raise UnknownMember("say to which member the order belongs", pointer="/member")
        sale = sales[-1]
        if self.working.who(sale.member) == person.number:
            page = Page(entry, event, self.working, self.programme, received)
            return self._judged(arrival, event, page, entry, "recorded", "allow", (), (), order=order)
        if sale.member:
            raise OrderConflict(f"order {order} belongs to another member", pointer="/data/order")
        opened = self.reopen(*self.working.originals[sale.entry])
        if opened is None or not isinstance(opened.facts, Purchase):
            raise UnknownOrder("the guest order cannot be read any more")
        bought = msgspec.structs.replace(event, kind="purchase.completed", facts=opened.facts, at=opened.at)
        page, verdict, reasons, skipped = self._think(bought, person, entry, received, self.reached(order))
        page.event = event
        row = OrderEntry(order, entry, "sale", person.number, sale.value, sale.returned)
        row.lines, row.loose = dict(sale.lines), sale.loose
        if self.working.order(order, "refund"):  # what came back before somebody claimed it earns nothing
            undoing.take_back(
                page, page.record(status="recorded"), entry, row, [line.net for line in opened.facts.lines], {}
            )
        self.working.touch_order(sale).role = "claimed"
        arrival.cause = sale.entry
        status = "recorded" if verdict == "allow" else "held"
        return self._judged(
            arrival, event, page, entry, status, verdict, reasons, skipped, [row], order=order, value=sale.value
        )

    # -- what was held, what is due -------------------------------------------------------------------------------------

    def _decide(self, arrival: Arrival, event: Event, entry: int, received: int) -> Judged:
        """Release or void a held entry: a new event that names it."""
        facts: Decision = arrival.facts  # type: ignore[assignment]
        number = parse_entry(facts.entry)
        found = self.working.originals.get(number) if number is not None else None
        if found is None or found[0].status not in ("held", "step_up"):
            raise UnknownEntry(f"{facts.entry} is no held entry", pointer="/data/entry")
        record, sealed = found
        decision = f"entry/{record.entry}"  # as we spell it: 01-2-0 is no other entry than 1-2-0
        if self.working.order(decision, "released", "voided"):
            raise AlreadyDecided(f"{record.entry} was already decided", pointer="/data/entry")
        member = int(record.member[2:]) if record.member else 0
        if event.member and event.member != self.working.who(member):
            raise InvalidEvent("the entry belongs to another member", pointer="/member")
        event = msgspec.structs.replace(event, member=member)
        anew = _NOT_ASKED
        if arrival.kind == "entry.released" and not self._sent_back(record, number or 0):
            anew = self._ask_anew(record, sealed, entry, event, number or 0)
        page = Page(entry, event, self.working, self.programme, received)
        skipped = list(anew.skipped)
        done = arrival.kind.removeprefix("entry.")
        if done == "released" and not anew.refused:
            self._open_lots(page, record, "held", received)
            self._release_spends(page, record, number or 0)
            if not self._sent_back(record, number or 0):
                self._release_rest(page, record, sealed, number or 0, anew, skipped)
        else:  # what would be refused by now is not done, whoever releases it
            done = "voided"
            page.steps += anew.steps
            undoing.void(page, record, number or 0)
        row = OrderEntry(decision, entry, done, member)
        return self._judged(
            arrival,
            event,
            page,
            entry,
            "recorded",
            "allow",
            (),
            skipped,
            [row],
            more={"decides": record.entry, "reason": facts.reason},
        )

    def _sent_back(self, record: Record, number: int) -> bool:
        """Whether a held sale was returned completely before somebody looked at it."""
        sale = next((row for row in self.working.order(record.order, "sale") if row.entry == number), None)
        return sale is not None and sale.returned >= sale.value and bool(self.working.order(record.order, "refund"))

    def _release_spends(self, page: Page, record: Record, number: int) -> None:
        """What was set aside goes where it was meant to go, less what came back meanwhile."""
        for place, step, spent in spent_of(record):
            left = -step.amount - self.working.taken.get((number, place), 0)
            for transfer, to in spent:
                amount = min(left, transfer.amount)
                left -= amount
                found = self.working.lot(transfer.lot)
                if not amount or found is None:
                    continue
                if (receiver := parse_member(to)) is not None:
                    source = self.working.account(found[0], transfer.unit)
                    page.hand_over(source, [(found[2], amount)], receiver, transfer.rule, debit=HELD)
                    self.working.take(number, place, amount)  # it is theirs now: nothing of it can be given back
                else:
                    page.transfers.append(Transfer(HELD, to, transfer.unit, amount, transfer.rule, transfer.lot))
            page.steps.append(Step(rule=step.rule, effect="released", unit=step.unit, data=step.data))
        page.gives = (*page.gives, *record.gives)

    def _ask_anew(self, record: Record, sealed: bytes | None, entry: int, event: Event, number: int) -> _Anew:
        """Plugins whose rows are others by now are asked again what they keep of a held event, as if it had not come yet.

        Of their answer the rows are taken: the rest was settled when the event came.  Who fails keeps what there is; who says
        no refuses the event, as it would if it came now.
        """
        member = event.member
        deferred = deferring.deferred_of(record)
        outrun = deferring.outrun(record, deferred, member, self.working.own)
        was = self.looked_at(record, sealed) if outrun else None
        person = self.working.people.get(member)
        if was is None or person is None or person.view.status != "active" or was.kind not in self.kinds:
            return _Anew(outrun)
        late = [effect for effect in deferred if deferring.row_of(effect, member) and plugin_of(effect.rule) in outrun]
        rows, steps, skipped, refused = list[Effect](), list[Step](), list[Skipped](), False
        undoing.void(Page(entry, event, self.working, self.programme, instant(event.received)), record, number)
        plan = self.pipeline.plan(was.kind)
        situation = self.situation(was, plan, number, person)  # under its own number: chance falls as it fell
        private = self._private(plan, was, situation)
        for plugin in dict.fromkeys(plugin_of(effect.rule) for effect in late):
            try:
                answers, failed = self.pipeline.ask_again(plugin, was, private.get(plugin, situation))
            except TallyError as refusal:
                rule = next(effect.rule for effect in late if plugin_of(effect.rule) == plugin)
                steps.append(Step(rule=rule, effect="outrun", note=refusal.code))
                refused = refused or isinstance(refusal, Refused)
                continue
            skipped += failed
            rows += [effect for effect in answers if deferring.row_of(effect, was.member) is not None]
        self.working.undo()
        self.working.begin()
        return _Anew(outrun, rows, steps, skipped, refused)

    def _release_rest(
        self, page: Page, record: Record, sealed: bytes | None, number: int, anew: _Anew, skipped: list[Skipped]
    ) -> None:
        """What the held event had put off happens now, and what follows from it; a person has reviewed it."""
        deferred, member = deferring.deferred_of(record), page.event.member
        if anew.outrun:
            deferred = [
                effect
                for effect in deferred
                if deferring.row_of(effect, member) is None or plugin_of(effect.rule) not in anew.outrun
            ]
        page.apply(settle(deferred, self.units, _NONE, self.versions))
        was = self.looked_at(record, sealed)
        person = self.working.people.get(member)
        if was is None or person is None or person.view.status != "active" or was.kind not in self.kinds:
            return
        page.steps += anew.steps
        page.apply(settle(anew.rows, self.units, _NONE, self.versions))
        plan = self.pipeline.plan(was.kind)
        was = msgspec.structs.replace(was, received=page.event.received)
        released, page.event = page.event, was
        for place, step in enumerate(record.explanation):
            amount = step.amount - self.working.taken.get((number, place), 0) if step.amount > 0 else step.amount
            if amount and (step.member or record.member) == record.member:
                page.outcome[step.unit] = page.outcome.get(step.unit, 0) + amount
        situation = self.situation(was, plan, page.entry, person)
        own, outcome = self._private(plan, was, situation), dict(page.outcome)
        self._follow(plan, page, was, situation, skipped, own, None)
        if skipped:
            page.kept = mending.keep(skipped, was, situation, own, outcome=outcome)
        page.event = released

    def _merge(self, arrival: Arrival, event: Event, entry: int, received: int) -> Judged:
        """Two members are one person.  Sent again it changes nothing: the source is then found as the other already."""
        page = Page(entry, event, self.working, self.programme, received)
        source, into = event.member, event.others["into"]
        more: dict[str, Any] = {}
        if source != into:
            more["more"] = {"merged": merging.merge(page, source, into, self.pipeline.join)}
            page.joined = (source, into)
        return self._judged(arrival, event, page, entry, "recorded", "allow", (), (), **more)

    def _unmerge(self, arrival: Arrival, event: Event, entry: int, received: int) -> Judged:
        """Two members who were merged part again."""
        number = parse_entry(arrival.facts.entry)  # type: ignore[attr-defined]
        found = self.working.originals.get(number) if number is not None else None
        if found is None:
            raise UnknownEntry("there is no such merge", pointer="/data/entry")
        page = Page(entry, event, self.working, self.programme, received)
        page.parted, _ = merging.part(page, found[0])
        page.event = msgspec.structs.replace(event, member=page.parted)
        return self._judged(arrival, page.event, page, entry, "recorded", "allow", (), ())


class _Anew(NamedTuple):
    """What plugins say now of an event that was held, where what they had looked at is other by now."""

    outrun: frozenset[str] = frozenset()  #: the plugins it is about
    rows: Sequence[Effect] = ()  #: what they keep of it now
    steps: Sequence[Step] = ()
    skipped: Sequence[Skipped] = ()
    refused: bool = False  #: one of them said no


_NOT_ASKED = _Anew()


class _Buckets(NamedTuple):
    """Where the counters that one kind of event declares are kept on one day."""

    day: date
    #: (counter, window) -> (shared by all members, name, grain, start); None: a sum of days
    counters: Mapping[tuple[str, str], tuple[bool, str, str, int] | None]
    named: Mapping[str, tuple[str, str]]  #: by the names that `evaluate_tier` and `react` read them under
    single: Sequence[tuple[tuple[str, str], str, str, int]]  #: of these, the member's own buckets
    shared: Sequence[tuple[str, str]]  #: those of all members
    summed: Sequence[tuple[str, str]]  #: and those that are sums of days


def _buckets(plan: Plan, day: date) -> _Buckets:
    counters: dict[tuple[str, str], tuple[bool, str, str, int] | None] = {}
    for name, window in plan.needs.counters:
        grain = grain_of(window)
        single = window in (grain, "budget")
        counters[name, window] = (window == "budget", name, grain, start_of(window, day)) if single else None
    return _Buckets(
        day,
        counters,
        named={f"counter:{name}/{window}": (name, window) for name, window in counters},
        single=[(key, *bucket[1:]) for key, bucket in counters.items() if bucket is not None and not bucket[0]],
        shared=[key for key, bucket in counters.items() if bucket is not None and bucket[0]],
        summed=[key for key, bucket in counters.items() if bucket is None],
    )


class Totals(Mapping[str, int]):
    """What an event came to, looked up when a plugin asks: gains by unit, ``balance:UNIT`` and ``counter:NAME/WINDOW`` after it.

    Whoever goes through it meets all of it if it is *whole*, and otherwise the gains alone.
    """

    __slots__ = ("_buckets", "_member", "_page", "_whole")

    def __init__(self, page: Page, event: Event, buckets: _Buckets, *, whole: bool) -> None:
        self._page, self._member, self._buckets, self._whole = page, event.member, buckets, whole

    def get(self, name: str, default: Any = None) -> Any:
        found = self._page.outcome.get(name)
        if found is not None:
            return found
        key = self._buckets.named.get(name)
        if key is not None:
            bucket, working = self._buckets.counters[key], self._page.working
            if bucket is None:
                return working.count(self._member, *key, self._buckets.day)
            shared, counter, grain, start = bucket
            return working.counters.get((0 if shared else self._member, counter, grain, start), 0)
        if name.startswith("balance:"):
            return self._page.balances().get(name[8:], default)
        return default

    def __getitem__(self, name: str) -> int:
        found: int | None = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self._page.outcome
        if self._whole:
            yield from [f"balance:{unit}" for unit in self._page.balances()]
            yield from self._buckets.named

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __reduce__(self) -> Any:
        known = {**{f"balance:{unit}": n for unit, n in self._page.balances().items()}, **self._page.outcome}
        for name in self._buckets.named:
            known[name] = self[name]
        return Told, ({name: known[name] for name in self}, known)


class _Claims(msgspec.Struct):
    """What a sender claimed, as sealed; only the data is read again."""

    data: msgspec.Raw


_NONE: Mapping[Any, Any] = MappingProxyType({})
_NOBODY: Mapping[str, int] = MappingProxyType({})
