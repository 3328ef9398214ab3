"""The doorman of tiers: takes each event to the ladders it concerns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, Final

from msgspec.structs import replace

from tallystick.effects import Bonus, Count, Effect, Emit, Multiply, Notify, Put, SetTier
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.rules import RuleSet
from tallystick.rules import Standing as RuleStanding
from tallystick.situation import Member, Needs, Programme, Situation

from .course import Counted, Course
from .errors import NotJoinable, UnknownTier
from .events import Assigned, Changed, Joined, Reviewed, Warned
from .measure import Measuring, written_rule
from .rules import crossed
from .settings import PURCHASE, Settings
from .standing import Change, Standing, read_standing, written

ENROLLED: Final = "member.enrolled"
CHANGED: Final = "tiers.changed"
RETURNS: Final = ("purchase.refunded", "purchase.cancelled")
#: Kinds of our own at which every ladder is looked at.
MINE: Final = ("tiers.assigned", "tiers.joined", "tiers.reviewed", "tiers.warned")


class Tiers:
    """The plugin as one merchant has set it up; everything that can be worked out before an event comes, is."""

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.settings, self.programme = settings, programme
        self.courses = {ladder.name: Course(ladder, programme) for ladder in settings.ladders}
        self._measuring: dict[str, Measuring] = {}
        self._concerned: dict[str, tuple[Course, ...]] = {}
        #: ladders on which a purchase can do nothing but count
        self._plain = frozenset(
            course.ladder.name
            for course in self.courses.values()
            if all(metric.measure in ("spend", "visits", "counter") for metric in course.ladder.metrics)
            and not any(tier.sku for tier in course.ladder.tiers)
        )
        self._scaling = tuple(
            course
            for course in self.courses.values()
            if any(tier.multiplier is not None for tier in course.ladder.tiers)
        )
        self._keys = {
            course.ladder.name: tuple(
                [(name, key, f"counter:{key[0]}/{key[1]}") for name, key in course.counters.items()]
            )
            for course in self.courses.values()
        }
        self._quick = self._find_quick()
        self._today = (date.min, "")

    def _find_quick(self) -> tuple[tuple[Course, str, tuple[str, str], str], ...] | None:
        """(course, ladder, counter, its name after the event) if one number says of each ladder whether a purchase moves anybody."""
        found = []
        for course in self.concerned(PURCHASE):
            name, by = course.ladder.name, course.ladder.by
            if name not in self._plain or by not in course.counters:
                return None
            key = course.counters[by]
            found.append((course, name, key, f"counter:{key[0]}/{key[1]}"))
        return tuple(found)

    def _day(self, at: datetime) -> tuple[date, str]:
        """The local day of an instant, and how it is written."""
        day = self.programme.local_date(at)
        if day is not self._today[0]:
            self._today = (day, day.isoformat())
        return self._today

    def measuring(self, kind: str) -> Measuring:
        """What counts events of *kind*."""
        found = self._measuring.get(kind)
        if found is None:
            found = self._measuring[kind] = Measuring(self.settings.ladders, kind, self.programme)
        return found

    def concerned(self, kind: str) -> Sequence[Course]:
        """The ladders on which events of *kind* may move somebody."""
        found = self._concerned.get(kind)
        if found is None:
            if kind in MINE or kind in RETURNS or kind == ENROLLED:
                found = tuple(self.courses.values())
            elif kind == CHANGED:
                found = ()
            else:
                found = tuple([
                    course
                    for course in self.courses.values()
                    if any(kind in metric.on for metric in course.ladder.metrics)
                    or (kind == PURCHASE and any(tier.sku for tier in course.ladder.tiers))
                ])  # fmt: skip
            self._concerned[kind] = found
        return found

    def course(self, ladder: str, tier: str = "") -> Course:
        """The ladder of that name.  Raises UnknownTier, also if it has no such *tier*."""
        course = self.courses.get(ladder)
        if course is None or (tier and tier not in course.tiers):
            raise UnknownTier(f"no tier {tier!r} on a ladder {ladder!r}", pointer="/data/tier")
        return course

    # -- rules, to be read and asked ----------------------------------------------------------------------------------

    #: What only purchases have, and only if something was paid.
    spending = ("purchase.total", "purchase.lines", "purchase.items", "goods")

    def rules_about(self, kind: str) -> RuleSet | None:
        """The rules by which ladders count events of *kind*: ``LADDER.METRIC``."""
        rules = self.measuring(kind).rules
        return rules if len(rules) else None

    def facts_about(self, event: Event, situation: Situation) -> Mapping[str, Any]:
        """What those rules see of one event, by name."""
        return self.measuring(event.kind).facts(event, event.facts, situation.member)

    def standings_about(self, kind: str) -> Mapping[str, RuleStanding]:
        """None displaces another, and what is counted gives nothing by itself."""
        return {rule.name: RuleStanding("", free=False) for rule in self.measuring(kind).rules}

    def written_at(self, rule: str) -> tuple[str | int, ...]:
        """Where in the settings a metric is written."""
        return written_rule(rule, self.settings.ladders)

    # -- hooks ------------------------------------------------------------------------------------------------------

    @hookimpl
    def needs(self, kind: str) -> Needs | None:
        courses = self.concerned(kind)
        if not courses:
            return None
        counters = frozenset(key for course in courses for key in course.counters.values())
        return Needs(counters=counters, own={"{member}": frozenset(course.ladder.name for course in courses)})

    @hookimpl
    def earn(self, event: Event, situation: Situation) -> Sequence[Effect]:
        member = situation.member
        if member is None or member.status != "active":
            return ()
        if event.kind == CHANGED:
            return self._bonus(event)
        counts = self.measuring(event.kind).counts(event, member)
        if event.kind != PURCHASE or not self._scaling:
            return counts
        effects: list[Effect] = [*counts]
        added = {count.counter: count.amount for count in counts}
        for course in self._scaling:
            effects += self._multiplied(course, event, situation, member, added)
        return effects

    @hookimpl
    def redeem(self, event: Event) -> Sequence[Effect]:
        """Nothing is taken; but who gives a tier that is not there, or sells what is not for sale, hears no."""
        facts = event.facts
        if isinstance(facts, Assigned):
            self.course(facts.ladder, facts.tier)
        elif isinstance(facts, Joined):
            if self.course(facts.ladder, facts.tier).tiers[facts.tier].membership is None:
                raise NotJoinable(f"{facts.tier} has no membership", pointer="/data/tier")
        elif isinstance(facts, Warned):
            self.course(facts.ladder)
        return ()

    @hookimpl
    def join(self, source: Mapping[str, Any], into: Mapping[str, Any]) -> Sequence[Effect]:
        """Two members are one: what both have counted counts, and the better of both holds."""
        effects: list[Effect] = []
        for name, course in self.courses.items():
            if name not in source:
                continue
            mine = read_standing(source[name])
            theirs = read_standing(into[name]) if name in into else None
            standing = course.joined(mine, theirs) if theirs is not None else mine
            if theirs is not None:
                effects.append(Put(rule=f"tiers.{name}", name=name, value=written(standing)))
            if theirs is None or course.held(standing) != course.held(theirs):
                effects.append(self._set(course, standing, course.held(standing), "joined"))
        return effects

    @hookimpl
    def evaluate_tier(
        self, event: Event, member: Member, totals: Mapping[str, int], situation: Situation
    ) -> Sequence[Effect]:
        courses = self.concerned(event.kind)
        if not courses:
            return ()
        rows = situation.own.get("{member}", {})
        if event.kind == PURCHASE and self._quick is not None and situation.original is None:
            day = self._day(event.at)[1]
            for course, name, key, total in self._quick:
                row = rows.get(name)
                if row is None or not course.stays(row, day, situation.counters[key], totals[total]):
                    break
            else:  # true of most: nobody moves, and nothing is near
                return ()
        effects: list[Effect] = []
        for course in courses:
            effects += self._evaluated(course, event, member, totals, situation, rows)
        return effects

    # -- what they answer -------------------------------------------------------------------------------------------

    def _bonus(self, event: Event) -> Sequence[Effect]:
        """A bonus follows from a climb of ours; a note from outside, which nothing led to, gives nothing."""
        facts: Changed = event.facts
        course = self.courses.get(facts.ladder)
        if not facts.bonus or not event.depth or course is None or facts.tier not in course.tiers:
            return ()
        tier = course.tiers[facts.tier]
        rule = f"tiers.{course.ladder.name}.{tier.name}"
        if not tier.bonus:
            return ()
        expires_at = None
        if (valid := course.ladder.bonus_valid) is not None:
            expires_at = datetime.combine(
                valid.after(self._day(event.at)[0]), time.min, self.programme.zone
            ).astimezone(UTC)
        return [Bonus(rule=rule, unit=course.ladder.unit, amount=tier.bonus, expires_at=expires_at)]

    def _multiplied(
        self, course: Course, event: Event, situation: Situation, member: Member, added: Mapping[str, int]
    ) -> Iterator[Effect]:
        """Scale what the member gains by the tier held before the purchase, or with it if the ladder says so."""
        day, text = self._day(event.at)
        before = {name: situation.counters[key] for name, key in course.counters.items()}
        row = situation.own.get("{member}", {}).get(course.ladder.name)
        by = before.get(course.ladder.by)
        if (
            row is not None
            and by is not None
            and not course.ladder.includes_current
            and course.stays(row, text, by, by)
        ):
            yield from self._by_tier(course, row["earned"])
            return
        standing = read_standing(row) if row is not None else course.begin(day, member, before)
        standing, _ = course.until(standing, day, before, member)
        if course.ladder.includes_current:
            after = {name: before[name] + added.get(key[0], 0) for name, key in course.counters.items()}
            standing, _ = course.counted(standing, day, before, after, member, happened=day)
        yield from self._by_tier(course, course.held(standing))

    @staticmethod
    def _by_tier(course: Course, held: str) -> Iterator[Effect]:
        tier = course.tiers[held]
        if tier.multiplier is not None:
            rule = f"tiers.{course.ladder.name}.{tier.name}"
            yield Multiply(rule=rule, unit=course.ladder.unit, factor=tier.multiplier)

    def _evaluated(
        self,
        course: Course,
        event: Event,
        member: Member,
        totals: Mapping[str, int],
        situation: Situation,
        rows: Mapping[str, Any],
    ) -> list[Effect]:
        ladder = course.ladder
        day, _ = self._day(event.at)
        counters, keys = situation.counters, self._keys[ladder.name]
        before = {name: counters[key] for name, key, _ in keys}
        after = {name: totals[total] for name, _, total in keys}
        row = rows.get(ladder.name)
        if type(event.facts) is Reviewed:
            day = min(day, event.facts.day)  # nobody falls before the day has come, whatever was sent
        was = read_standing(row) if row is not None else None
        standing = was if was is not None else course.begin(day, member, before)
        standing, changes = course.until(standing, day, before, member)
        effects: list[Effect] = []
        if isinstance(event.facts, Warned) and event.facts.ladder == ladder.name:
            warning = self._warning(course, event.facts, standing, after, member)
            if warning is not None:
                standing = replace(standing, warned=event.facts.review)
                effects.append(warning)
        if situation.original is None:
            effects += self._gains(course, event, totals, after)
            standing = self._month(course, event, event.facts, standing, day, member, 1)
        standing, more = self._moved(course, event, member, situation, standing, day, before, after)
        changes += more
        if was is None or changes or standing != was:
            effects.append(Put(rule=f"tiers.{ladder.name}", name=ladder.name, value=written(standing)))
        if was is None and not changes:
            effects.append(self._set(course, standing, course.lowest, "began"))
        for change in changes:
            effects.append(self._set(course, standing, change.tier, change.reason))
            effects += self._told(course, change)
        if not any(course.rank(change.tier) > course.rank(change.was) for change in changes):
            effects += self._near(course, standing, day, before, after)
        return effects

    def _moved(
        self,
        course: Course,
        event: Event,
        member: Member,
        situation: Situation,
        standing: Standing,
        day: date,
        before: Counted,
        after: Counted,
    ) -> tuple[Standing, list[Change]]:
        """Where the event itself leads."""
        facts, original, name = event.facts, situation.original, course.ladder.name
        changes: list[Change] = []
        if isinstance(facts, Assigned) and facts.ladder == name:
            ends = date.fromordinal(facts.until.toordinal() + 1) if facts.until is not None else None
            standing, changes = course.give(standing, facts.tier, ends, day)
        elif isinstance(facts, Joined) and facts.ladder == name:
            standing, changes = course.join(standing, course.tiers[facts.tier], facts.order, day)
        elif event.kind == PURCHASE:
            skus = {line.sku for line in facts.lines}
            for tier in course.ladder.tiers:
                if tier.sku and tier.sku in skus:
                    standing, changes = course.join(standing, tier, facts.order, day)
        happened = day
        if original is not None:
            happened = self.programme.local_date(original.at)
            if original.complete:
                if original.facts is not None:
                    standing = self._month(course, event, original.facts, standing, happened, member, -1)
                if standing.paid_order and standing.paid_order == facts.order:
                    standing, changes = course.leave(standing, day)
        standing, more = course.counted(
            standing, day, before, after, member, happened=happened, returned=original is not None
        )
        return standing, changes + more

    def _gains(
        self, course: Course, event: Event, totals: Mapping[str, int], after: dict[str, int]
    ) -> Iterator[Effect]:
        """Count what was gained of a unit; spending it later takes nothing away."""
        for metric in course.ladder.metrics:
            gained = totals.get(metric.unit, 0) if metric.measure == "gains" and event.kind in metric.on else 0
            if gained > 0:
                counter, window = course.counters[metric.name]
                after[metric.name] += gained
                yield Count(rule=counter, counter=counter, window=window, amount=gained, by_share=True)

    def _month(
        self, course: Course, event: Event, facts: Any, standing: Standing, day: date, member: Member, step: int
    ) -> Standing:
        """Note in which month something happened, for ladders that count months."""
        if not course.counts_months:
            return standing
        measuring = self.measuring(PURCHASE if step < 0 else event.kind)
        name = course.ladder.name
        if name in measuring.monthly and name in measuring.months(event, facts, event.at, member):
            month = f"{day:%Y-%m}"
            times = max(0, standing.months.get(month, 0) + step)
            standing = replace(standing, months={**standing.months, month: times})
        return standing

    @staticmethod
    def _set(course: Course, standing: Standing, tier: str, reason: str) -> SetTier:
        name = course.ladder.name
        return SetTier(rule=f"tiers.{name}", ladder=name, tier=tier, reason=reason, until=course.ends(standing))

    @staticmethod
    def _told(course: Course, change: Change) -> Iterator[Effect]:
        """What others hear of a change: an event that follows from this one, and a message to the member."""
        name, rule = course.ladder.name, f"tiers.{course.ladder.name}"
        facts = Changed(
            ladder=name, was=change.was, tier=change.tier, reason=change.reason, day=change.day, bonus=change.bonus
        )
        yield Emit(rule=rule, kind=CHANGED, facts=facts)
        up = course.rank(change.tier) > course.rank(change.was)
        yield Notify(
            rule=rule, template="tiers.reached" if up else "tiers.lowered",
            facts={"ladder": name, "was": change.was, "tier": change.tier, "day": change.day.isoformat()},
        )  # fmt: skip

    @staticmethod
    def _near(course: Course, standing: Standing, day: date, before: Counted, after: Counted) -> Iterator[Effect]:
        """Tell a member who comes near the next tier what is missing, at most once for each tier and period."""
        ladder, rank = course.ladder, course.rank(course.held(standing))
        if not ladder.near or rank + 1 >= len(ladder.tiers):
            return
        after_it = ladder.tiers[rank + 1]
        if not after_it.at:
            return
        was = course.values(standing, before, day).get(ladder.by, 0)
        now = course.values(standing, after, day).get(ladder.by, 0)
        if now < after_it.at and crossed(was, now, course.near(after_it.at)):
            until = standing.review.isoformat() if ladder.periodic and standing.review is not None else ""
            yield Notify(
                rule=f"tiers.{ladder.name}", template="tiers.near", purpose="reminder",
                key=f"{ladder.name}/{after_it.name}/{standing.begin.isoformat()}",
                facts={"ladder": ladder.name, "tier": after_it.name, "missing": after_it.at - now, "before": until},
            )  # fmt: skip

    @staticmethod
    def _warning(course: Course, facts: Warned, standing: Standing, counted: Counted, member: Member) -> Notify | None:
        """Tell a member who would fall at the next review what is missing, at most once for each review."""
        ladder, rank = course.ladder, course.rank(standing.earned)
        target = course.next_verdict(standing, counted, member)
        if standing.review != facts.review or standing.warned == facts.review or course.rank(target) >= rank:
            return None
        tier = ladder.tiers[rank]
        keep = tier.at if tier.keep is None else tier.keep
        amount = course.values(standing, counted, facts.review).get(ladder.by, 0)
        told = {"ladder": ladder.name, "tier": tier.name, "next": target, "before": facts.review.isoformat()}
        return Notify(
            rule=f"tiers.{ladder.name}", template="tiers.at_risk", purpose="reminder",
            key=f"{ladder.name}/{facts.review.isoformat()}", facts={**told, "missing": max(0, (keep or 0) - amount)},
        )  # fmt: skip
