"""One ladder as a merchant has set it up: where what was counted of a member leads, and what follows from time alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from msgspec.structs import replace

from tallystick.rules import RuleText, compile_rules
from tallystick.situation import Member, Programme

from .rules import Condition, Rung, fallen, months_within, period_of, reached, retained
from .scope import PLACES, scope_of_tier
from .settings import Ladder, Tier
from .standing import Change, Reason, Standing

#: What counters say of a member: metric -> number, over all time or over the last days.
Counted = Mapping[str, int]


class Bounds(NamedTuple):
    """Whoever counts from *least* to below *higher* stays; at a review from *at_review* on, and nobody if that is None."""

    least: int
    at_review: int | None
    higher: int


class Course:
    """The rules of one ladder, ready to be applied.  Pure: standing in, standing and changes out."""

    def __init__(self, ladder: Ladder, programme: Programme) -> None:
        self.ladder, self.programme = ladder, programme
        self.tiers: Mapping[str, Tier] = {tier.name: tier for tier in ladder.tiers}
        self.ranks = {tier.name: rank for rank, tier in enumerate(ladder.tiers)}
        self.rungs = tuple(
            Rung(tier.name, tier.at, tier.keep, self._condition(tier.when), self._condition(tier.keep_when))
            for tier in ladder.tiers
        )
        self.lowest = ladder.tiers[0].name
        window = ladder.window if ladder.rolling else "lifetime"
        #: metric -> the counter and window under which the core keeps it
        self.counters = {
            metric.name: (
                metric.counter if metric.measure == "counter" else f"tiers.{ladder.name}.{metric.name}",
                window,
            )
            for metric in ladder.metrics
            if metric.measure != "months"
        }
        self._months = tuple(metric.name for metric in ladder.metrics if metric.measure == "months")
        self.counts_months = bool(self._months)
        #: whether there are days on which members are looked at
        self.reviews = ladder.periodic or ladder.review is not None
        self._days = timedelta(days=int(ladder.window[1:-1]) - 1) if ladder.rolling else None

        self._simple = all(rung.when is None and rung.keep_when is None for rung in self.rungs)
        self._marks = {rung.name: self._mark(rank) for rank, rung in enumerate(self.rungs)}

    def _mark(self, rank: int) -> tuple[int, int, int]:
        """For who stands at *rank*: from where on a higher tier is reached, below what one falls, where the next is near."""
        above = [rung.at for rung in self.rungs[rank + 1 :] if rung.at is not None]
        rung = self.rungs[rank]
        floor = (rung.at or 0) if rung.keep is None else rung.keep
        following = self.rungs[rank + 1].at if rank + 1 < len(self.rungs) else None
        return (
            min(above, default=1 << 62),
            floor if rank and self.ladder.downgrade == "at_once" else 0,
            self.near(following) if following and self.ladder.near else 1 << 62,
        )

    def near(self, threshold: int) -> int:
        """From where on a threshold is near."""
        return -(-threshold * self.ladder.near.numerator // self.ladder.near.denominator)

    def _condition(self, text: str) -> Condition | None:
        if not text:
            return None
        scope = scope_of_tier([metric.name for metric in self.ladder.metrics], self.programme.zone)
        fire = compile_rules([RuleText("condition", when=text)], scope, places=PLACES).fire
        return lambda values, member: bool(fire(metric=values, member=member))

    # -- who stands where ---------------------------------------------------------------------------------------------

    def rank(self, tier: str) -> int:
        """The tier's place on the ladder; a tier that is no longer there counts as the lowest."""
        return self.ranks.get(tier, 0)

    def held(self, standing: Standing) -> str:
        """The tier a member holds: what was earned, given and paid for, whichever is highest."""
        return self.ladder.tiers[
            max(self.rank(standing.earned), self.rank(standing.gift), self.rank(standing.paid))
        ].name

    def begin(self, day: date, member: Member, counted: Counted) -> Standing:
        """The standing of somebody who was not on the ladder before *day*."""
        first, review = day, None
        if self.ladder.periodic and self.ladder.window != "review":
            first, review = period_of(self.ladder.window, day, self.programme.local_date(member.enrolled_at))
        elif self.ladder.review is not None:
            review = self.ladder.review.after(day)
        base = dict(counted) if self.ladder.periodic else {}
        return Standing(earned=self.lowest, confirmed=self.lowest, begin=first, since=day, review=review, base=base)

    def values(self, standing: Standing, counted: Counted, last: date) -> dict[str, int]:
        """What counts in the window that ends with *last*, by metric."""
        base = standing.base
        found = {name: max(0, number - base.get(name, 0)) if base else number for name, number in counted.items()}
        if self._months:
            first = last - self._days if self._days is not None else standing.begin if self.ladder.periodic else None
            found |= dict.fromkeys(self._months, months_within(standing.months, first, last))
        return found

    def bounds(self) -> Mapping[str, Bounds] | None:
        """By tier, between which values of the metric a member stays as the days pass; None if more than that metric decides."""
        if not self._simple or self.counts_months or self.ladder.by not in self.counters:
            return None
        over = self.ladder.periodic and (self.ladder.valid == "period" or self.ladder.downgrade == "at_once")
        found = {}
        for rank, rung in enumerate(self.rungs):
            higher, least, _ = self._marks[rung.name]
            keep = rung.at if rung.keep is None else rung.keep
            at_review = keep if not over else None
            if rank == 0 or self.ladder.downgrade == "never":
                at_review = 0
            found[rung.name] = Bounds(least, at_review, higher)
        return found

    def stays(self, row: Mapping[str, Any], day: str, was: int, now: int) -> bool:
        """Whether a purchase of *day*, at which the metric that decides goes from *was* to *now*, leaves everything as the own row
        *row* has it: true of most, and told by comparing with the next marks.

        False only says that one has to look.
        """
        marks = self._marks.get(row["earned"])
        if marks is None or not self._simple or row["begin"] > day or row.get("review", "9") <= day:
            return False
        if "gift" in row or "paid" in row or "lower" in row:
            return False
        if "base" in row:
            base = row["base"].get(self.ladder.by, 0)
            was, now = was - base, now - base
        higher, least, near = marks
        return least <= now < higher and (was >= near or now < near)

    # -- what follows from time -----------------------------------------------------------------------------------------

    def until(self, standing: Standing, day: date, counted: Counted, member: Member) -> tuple[Standing, list[Change]]:
        """Let the days pass up to *day*: reviews, ends of grace, of gifts and of memberships, in their order.

        *counted* is what stood when *day* began: nothing was counted in between, or it would have been looked at then.
        """
        changes: list[Change] = []
        while True:
            ends: tuple[tuple[date | None, Reason], ...] = (
                (standing.lower_on, "grace_over"), (standing.review, "review"), (standing.gift_ends, "gift_over"),
                (standing.paid_ends, "membership_over"),
            )  # fmt: skip
            due = [(on, reason) for on, reason in ends if on is not None and on <= day]
            if not due:
                return standing, changes
            on, reason = min(due, key=lambda end: end[0])
            before = standing
            if reason == "review":
                standing = self._reviewed(standing, on, counted, member)
            elif reason == "grace_over":
                standing = self._after_grace(standing, on, counted, member)
            elif reason == "gift_over":
                standing = replace(standing, gift="", gift_ends=None)
            else:
                standing = replace(standing, paid="", paid_ends=None, paid_order="")
            standing = self._noted(before, standing, reason, on, changes)

    def next_verdict(self, standing: Standing, counted: Counted, member: Member) -> str:
        """The tier of merit that the next review would leave, if nothing more was counted."""
        if standing.review is None:
            return standing.earned
        found = self._reviewed(standing, standing.review, counted, member)
        return found.lower or found.earned

    def _reviewed(self, standing: Standing, on: date, counted: Counted, member: Member) -> Standing:
        ladder, rank = self.ladder, self.rank(standing.earned)
        came_to = self.values(standing, counted, on - timedelta(days=1))
        best = reached(self.rungs, ladder.by, came_to, member)
        target = rank
        if best > rank and ladder.upgrade == "at_review":
            target = best
        elif ladder.downgrade != "never":
            over = ladder.periodic and (ladder.valid == "period" or ladder.downgrade == "at_once")
            judged = dict.fromkeys(came_to, 0) if over else came_to
            kept = retained(self.rungs, ladder.by, rank, judged, member)
            target = fallen(rank, kept, soft_landing=ladder.soft_landing)
        standing = replace(
            standing, begin=on, review=self._after(on, member), base=dict(counted) if ladder.periodic else {}, closed=came_to,
            lower="", lower_on=None,
        )  # fmt: skip
        if target < rank and ladder.grace_days:
            falls = on + timedelta(days=ladder.grace_days)
            return replace(standing, confirmed=standing.earned, lower=self.rungs[target].name, lower_on=falls)
        tier = self.rungs[target].name
        return replace(standing, earned=tier, confirmed=tier)

    def _after(self, on: date, member: Member) -> date | None:
        """The review after the one on *on*."""
        if self.ladder.periodic and self.ladder.window != "review":
            return period_of(self.ladder.window, on, self.programme.local_date(member.enrolled_at))[1]
        return self.ladder.review.after(on) if self.ladder.review is not None else None

    def _after_grace(self, standing: Standing, on: date, counted: Counted, member: Member) -> Standing:
        by, rank = self.ladder.by, self.rank(standing.earned)
        values = self.values(standing, counted, on - timedelta(days=1))
        if retained(self.rungs, by, rank, values, member) < rank:
            rank = min(rank, max(self.rank(standing.lower), reached(self.rungs, by, values, member)))
        tier = self.rungs[rank].name
        return replace(standing, earned=tier, confirmed=tier, lower="", lower_on=None)

    # -- what follows from what was counted -----------------------------------------------------------------------------

    def counted(
        self,
        standing: Standing,
        day: date,
        before: Counted,
        after: Counted,
        member: Member,
        *,
        happened: date | None = None,
        returned: bool = False,
    ) -> tuple[Standing, list[Change]]:
        """Judge what an event of *day* has counted.

        *happened* is the day of what is counted or, of a return, of what was bought: what belongs to a period that was
        closed last goes there, and may still lift the member that the review had left below; what is older goes nowhere.
        """
        was, changes = standing, list[Change]()
        belated = False
        if self.ladder.periodic and happened is not None and happened < standing.begin:
            shift = {name: number - before.get(name, 0) for name, number in after.items()}
            base = {name: standing.base.get(name, 0) + shift.get(name, 0) for name in after}
            closed = standing.closed
            if happened >= self._closed_since(standing, member):
                closed = {name: max(0, number + shift.get(name, 0)) for name, number in closed.items()}
                belated = not returned
            standing = replace(standing, base=base, closed=closed)
        ladder, by, rank = self.ladder, self.ladder.by, self.rank(standing.earned)
        values = self.values(standing, after, day)
        best = reached(self.rungs, by, values, member)
        late = reached(self.rungs, by, standing.closed, member) if belated else 0
        if late > rank or (best > rank and ladder.upgrade == "at_once"):
            rank = max(late, best if ladder.upgrade == "at_once" else 0)
            tier = self.rungs[rank].name
            standing = replace(standing, earned=tier, lower="", lower_on=None)
            if late == rank:
                standing = replace(standing, confirmed=tier)
            if ladder.rolling and ladder.review is not None:  # the new tier is held for its whole term
                standing = replace(standing, begin=day, review=ladder.review.after(day))
            return self._noted(was, standing, "reached", day, changes), changes
        if standing.lower and (
            retained(self.rungs, by, rank, values, member) >= rank
            or (belated and retained(self.rungs, by, rank, standing.closed, member) >= rank)
        ):
            standing = replace(standing, lower="", lower_on=None)
        if best < rank:
            if ladder.downgrade == "at_once" and self._lands(before, after):
                kept = retained(self.rungs, by, rank, values, member)
                target = fallen(rank, kept, soft_landing=ladder.soft_landing)
            elif returned and ladder.returns == "at_once":
                target = min(rank, max(best, self.rank(standing.confirmed)))
            else:
                target = rank
            if target < rank:
                standing = replace(standing, earned=self.rungs[target].name)
                return self._noted(was, standing, "returned" if returned else "lost", day, changes), changes
        return standing, changes

    def _closed_since(self, standing: Standing, member: Member) -> date:
        """The first day of the period that was closed last: what is older was judged by a review before that one."""
        if self.ladder.window == "review":
            return date.min
        last = standing.begin - timedelta(days=1)
        return period_of(self.ladder.window, last, self.programme.local_date(member.enrolled_at))[0]

    def _lands(self, before: Counted, after: Counted) -> bool:
        """Whether one may fall now: with a soft landing one step for each loss, not one for each look."""
        if not self.ladder.soft_landing or self.ladder.rolling or not self._simple:
            return True
        return any(after[name] < number for name, number in before.items())

    def as_of(self, standing: Standing, day: date, counted: Counted, member: Member) -> tuple[Standing, list[Change]]:
        """Where a member stands on *day* if nothing happens: what a review finds."""
        standing, changes = self.until(standing, day, counted, member)
        standing, more = self.counted(standing, day, counted, counted, member)
        return standing, changes + more

    def joined(self, mine: Standing, theirs: Standing) -> Standing:
        """Where one person stands who was two members: *theirs* goes on, what both counted counts, the better of both holds.

        Counters are added up by the core, so what they stood at when the period began is, too.
        """
        better = max((mine, theirs), key=lambda each: self.rank(each.earned))
        gift = max((mine, theirs), key=lambda each: (self.rank(each.gift) if each.gift else -1, _last(each.gift_ends)))
        paid = max((mine, theirs), key=lambda each: (self.rank(each.paid) if each.paid else -1, _last(each.paid_ends)))
        kept = max((mine.confirmed, theirs.confirmed), key=self.rank)
        falls = theirs.lower and theirs.earned == better.earned
        standing = replace(
            theirs, earned=better.earned, confirmed=kept, base=_added(mine.base, theirs.base), closed=_added(mine.closed, theirs.closed),
            lower=theirs.lower if falls else "", lower_on=theirs.lower_on if falls else None, gift=gift.gift, gift_ends=gift.gift_ends,
            paid=paid.paid, paid_ends=paid.paid_ends, paid_order=paid.paid_order, months=_added(mine.months, theirs.months),
            rewarded=(*theirs.rewarded, *[name for name in mine.rewarded if name not in theirs.rewarded]),
        )  # fmt: skip
        return standing if self.held(standing) == self.held(theirs) else replace(standing, since=mine.since)

    # -- what people decide -----------------------------------------------------------------------------------------------

    def give(self, standing: Standing, tier: str, ends: date | None, day: date) -> tuple[Standing, list[Change]]:
        """Hold a member at *tier* or above until *ends*; an empty tier ends the gift."""
        changes: list[Change] = []
        given = replace(standing, gift=tier, gift_ends=ends if tier else None)
        return self._noted(standing, given, "gift" if tier else "gift_over", day, changes), changes

    def join(self, standing: Standing, tier: Tier, order: str, day: date) -> tuple[Standing, list[Change]]:
        """A membership for its term; bought again before its end, for one more term."""
        assert tier.membership is not None
        changes: list[Change] = []
        start = day
        if standing.paid == tier.name and standing.paid_ends is not None:
            start = max(day, standing.paid_ends)
        joined = replace(standing, paid=tier.name, paid_ends=tier.membership.after(start), paid_order=order)
        return self._noted(standing, joined, "membership", day, changes), changes

    def leave(self, standing: Standing, day: date) -> tuple[Standing, list[Change]]:
        """The order that paid for a membership came back."""
        changes: list[Change] = []
        left = replace(standing, paid="", paid_ends=None, paid_order="")
        return self._noted(standing, left, "membership_over", day, changes), changes

    def _noted(self, before: Standing, after: Standing, reason: Reason, day: date, changes: list[Change]) -> Standing:
        """Note the change of the tier that is held, and whether its bonus is due: once for each real climb."""
        was, now = self.rank(self.held(before)), self.rank(self.held(after))
        if was == now:
            return after
        bonus = False
        if now > was:
            if reason in ("reached", "review", "membership"):
                tier = self.ladder.tiers[now]
                bonus = tier.bonus > 0 and tier.name not in after.rewarded
                climbed = [
                    each.name for each in self.ladder.tiers[was + 1 : now + 1] if each.name not in after.rewarded
                ]
                after = replace(after, rewarded=(*after.rewarded, *climbed))
        elif reason != "returned":  # what a return took away was no real climb; reached again it pays nothing
            after = replace(after, rewarded=tuple(name for name in after.rewarded if self.rank(name) <= now))
        changes.append(Change(self.ladder.tiers[was].name, self.ladder.tiers[now].name, reason, day, bonus))
        return replace(after, since=day)

    def ends(self, standing: Standing) -> datetime | None:
        """When the tier that is held is looked at again."""
        ends = [day for day in (standing.lower_on, standing.review) if day is not None]
        return datetime.combine(min(ends), datetime.min.time(), self.programme.zone) if ends else None


def _added(some: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: some.get(name, 0) + more.get(name, 0) for name in sorted({*some, *more})}


def _last(ends: date | None) -> date:
    """An end to compare: none is the last of all."""
    return date.max if ends is None else ends
