"""The doorman of gamification: takes each event to the room where it is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from tallystick import rules
from tallystick.effects import Count, Effect, Put, Restock, Spend, Take
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.ledger import member_name
from tallystick.rules import BOOL, RuleSet, RuleText, Standing, compile_expression, compile_rules
from tallystick.situation import Member, Needs, Programme, Situation

from . import checkin, draws, forms, store
from .checkin import read_streak
from .draws import Round, read_round
from .errors import (
    AlreadyAnswered,
    DrawChanged,
    DrawNotOpen,
    DrawOpen,
    LimitReached,
    NotEligible,
    NotOffered,
    ReferralNotDue,
    SelfReferral,
)
from .events import Answered, DrawClosed, Drawn, DrawOpened, NameShown, Referred, Stocked
from .joining import join
from .paid import Payer
from .rewards import cap_counters, give
from .scope import PLACES, scope_of_event, scope_of_member
from .settings import PURCHASE, Draw, Prize, Settings, Task
from .tasks import ORDER_ROW, Tasks, task_row
from .telling import Teller
from .watch import Watch

ENROLLED: Final = "member.enrolled"
RETURNS: Final = ("purchase.refunded", "purchase.cancelled")
CHECKED_IN: Final = "gamification.checked_in"
DRAWN: Final = "gamification.drawn"
ROUNDS: Final = "draw/{facts.draw}"
INVITER: Final = "{others.inviter}"
MEMBER: Final = "{member}"


class Reacting(NamedTuple):
    """What is done once an event of one kind was decided."""

    payer: Payer | None  #: pays levels of plain tasks
    watch: Watch | None  #: has tasks that are kept by the day
    referral: bool
    back: bool  #: takes back, for returns


class Gamification:
    """The plugin as one merchant has set it up; everything that can be worked out before an event comes, is."""

    #: What only purchases have, and only if something was paid.
    spending = ("purchase.total", "purchase.lines", "purchase.items", "goods")

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.settings, self.programme = settings, programme
        self.tasks = Tasks(settings.tasks, programme)
        self._watches: dict[str, Watch | None] = {}
        self._reacting: dict[str, Reacting | None] = {}
        self._endless = {task.name: task.repeat == "completion" for task in settings.tasks}
        self._teller = Teller(settings, programme.language)
        members = scope_of_member(programme.zone)
        self._may_draw = {
            draw.name: compile_expression(rules.check(draw.when, members, BOOL))
            for draw in settings.draws.values()
            if draw.when
        }
        scope = scope_of_event(PURCHASE, programme.units, programme.zone)
        when = settings.referral.when if settings.referral is not None else ""
        self._qualifies = compile_rules([RuleText("referral", when=when or "true")], scope, places=PLACES)

    def watch(self, kind: str) -> Watch | None:
        """What looks at events of *kind*; None if nothing does."""
        if kind not in self._watches:
            boards = [board for board in self.settings.boards if board.on == kind]
            plain = [each.task for each in self.tasks.plain.values() if each.task.on == kind]
            kept = self.tasks.kept_on(kind)
            found = Watch(kind, plain, kept, boards, self.programme) if boards or plain or kept else None
            self._watches[kind] = found
        return self._watches[kind]

    def reacting(self, kind: str) -> Reacting | None:
        """What follows from events of *kind*; None if nothing does."""
        if kind not in self._reacting:
            self._reacting[kind] = self._find_reacting(kind)
        return self._reacting[kind]

    def _find_reacting(self, kind: str) -> Reacting | None:
        back, watch = kind in RETURNS, self.watch(kind)
        plain = [each for each in self.tasks.plain.values() if each.task.on == kind or (back and _falls(each.task))]
        kept = watch if watch is not None and watch.kept else None
        referral = self.settings.referral is not None and (back or kind in (PURCHASE, ENROLLED))
        back = back and self.tasks.returns
        if not (plain or kept is not None or referral or back):
            return None
        return Reacting(Payer(plain, self.programme, self._teller) if plain else None, kept, referral, back)

    # -- rules, to be read and asked ----------------------------------------------------------------------------------

    def rules_about(self, kind: str) -> RuleSet | None:
        """The rules of tasks and leaderboards about *kind*."""
        watch = self.watch(kind)
        return None if watch is None else watch.rules

    def facts_about(self, event: Event, situation: Situation) -> Mapping[str, Any]:
        """What those rules see of one event, by name; what the member gains by it is not known before."""
        watch = self.watch(event.kind)
        return {} if watch is None else watch.facts(event, situation, {})

    def standings_about(self, kind: str) -> Mapping[str, Standing]:
        """None displaces another; a task that does not add up money is worked on for nothing."""
        watch = self.watch(kind)
        if watch is None:
            return {}
        return {rule.name: Standing("", free=False) for rule in watch.rules}

    def written_at(self, rule: str) -> tuple[str | int, ...]:
        """Where in the settings a rule is written."""
        if rule.startswith("board."):
            return ("leaderboards", [board.name for board in self.settings.boards].index(rule.removeprefix("board.")))
        return ("tasks", [task.name for task in self.settings.tasks].index(rule))

    # -- hooks ------------------------------------------------------------------------------------------------------

    @hookimpl
    def needs(self, kind: str) -> Needs | None:
        found = self._needs(kind) or Needs()
        reacting = self.reacting(kind)
        if reacting is None:
            return found if found != Needs() else None
        if reacting.payer is not None:
            found |= reacting.payer.needs
        if reacting.watch is not None:
            found |= self.tasks.needs(reacting.watch.kept)
        if reacting.back:
            kept = frozenset(task_row(name) for name in self.tasks.by_name if name not in self.tasks.plain)
            found |= Needs(own={MEMBER: kept, ORDER_ROW: frozenset(("tasks",))})
        if reacting.referral:
            found |= Needs(own={MEMBER: frozenset(("referral",))})
        watch = self.watch(kind)
        return found | Needs(profile=watch is not None and watch.reads_profile)

    @hookimpl
    def earn(self, event: Event, situation: Situation) -> Sequence[Effect]:
        watch = self.watch(event.kind)
        if watch is None:
            return ()
        member = situation.member
        return watch.counts(event, situation) if member is not None and member.status == "active" else ()

    @hookimpl
    def redeem(self, event: Event, situation: Situation) -> Sequence[Effect]:
        effects = self._redeemed(event, situation)
        return [*effects, *self._teller.of_badges(effects)] if effects else effects

    def _redeemed(self, event: Event, situation: Situation) -> Sequence[Effect]:
        day, facts = self.programme.local_date(event.at), event.facts
        match facts:
            case Drawn():
                return self._drawn(facts, situation, day)
            case DrawOpened() | DrawClosed():
                return self._round(facts, situation)
            case Stocked():
                return self._stocked(facts)
            case Answered():
                return self._answered(event, facts, situation, day)
            case Referred():
                return self._referred(event, facts, situation, day)
            case NameShown():
                return [
                    Put(rule="gamification.shown", name="shown_as", value=facts.name or None),
                    *_hidden("gamification.shown", event.member, hidden=facts.hidden),
                ]
        if event.kind == CHECKED_IN:
            return self._checked_in(situation, day)
        if event.kind == ENROLLED and event.others.get("invited_by") == event.member:
            raise SelfReferral("nobody can invite themselves", pointer="/data/invited_by")
        return ()

    @hookimpl
    def react(self, event: Event, situation: Situation, outcome: Mapping[str, int]) -> Sequence[Effect]:
        reacting = self.reacting(event.kind)
        if reacting is None:
            return ()
        effects = reacting.payer.effects(event, situation, outcome) if reacting.payer is not None else []
        original = situation.original
        if original is not None:
            if reacting.back:
                effects += self.tasks.taken_back(event, situation, original)
            if reacting.referral:
                effects += self._referral_back(event, situation)
            return effects
        if reacting.watch is not None:
            effects += self.tasks.react(event, situation, outcome, reacting.watch)
        if reacting.referral:
            effects += self._referral(event, situation)
        return [*effects, *self._teller.of_badges(effects)] if effects else ()

    @hookimpl
    def join(self, event: Event, source: Mapping[str, Any], into: Mapping[str, Any]) -> Sequence[Effect]:
        rule = "gamification.join"
        found: list[Effect] = [
            Put(rule=rule, name=name, value=value) for name, value in join(source, into, self._endless)
        ]
        if source.get("hidden") and not into.get("hidden"):  # who did not want to be seen is not seen now either
            found += _hidden(rule, event.member, hidden=True)
        return found

    @hookimpl
    def committed(self, batch: Sequence[Any], store: Any) -> None:
        project = [record for one in batch for record in one.records]
        _project(store, project)

    @hookimpl
    def export_member(self, member: int, store: Any) -> Mapping[str, Any] | None:
        return {"scores": _scores(store, self.programme.tenant, member)}

    @hookimpl
    def erase_member(self, member: int, store: Any) -> bool | None:
        _forget(store, self.programme.tenant, member)
        return True

    # -- what must be known -----------------------------------------------------------------------------------------

    def _needs(self, kind: str) -> Needs | None:
        settings = self.settings
        badges = frozenset(f"badge:{name}" for name in settings.badges)
        if kind == CHECKED_IN and settings.calendar is not None:
            unit = settings.calendar.freeze_unit
            days = [(f"check_in.{place}", rewards) for place, rewards in enumerate(settings.calendar.days, 1)]
            return Needs(
                own={MEMBER: badges | {checkin.ROW}},
                balances=frozenset((unit,)) if unit else frozenset(),
                counters=frozenset(counter for name, rewards in days for counter in cap_counters(name, rewards)),
            )
        if kind == DRAWN:
            found = settings.draws.values()
            prizes = {prize.name for draw in found for prize in draw.prizes if prize.stock}
            rewards = [(f"{d.name}.{p.name}", (p.reward,)) for d in found for p in d.prizes if p.reward is not None]
            return Needs(
                own={MEMBER: badges, ROUNDS: frozenset(("round",))},
                balances=frozenset(draw.unit for draw in found if draw.cost),
                stock=frozenset(shelf("{facts.draw}", prize) for prize in prizes),
                counters=frozenset((drawn_counter(draw), limit.window) for draw in found for limit in draw.limits)
                | frozenset(counter for name, given in rewards for counter in cap_counters(name, given)),
            )
        if kind in ("gamification.draw_opened", "gamification.draw_closed"):
            return Needs(own={ROUNDS: frozenset(("round",))})
        if kind == "gamification.stocked":
            return Needs(stock=frozenset((shelf("{facts.draw}", "{facts.prize}"),)))
        if kind in forms.KINDS:
            rewards_of = [(form.name, form.rewards) for form in settings.forms.values()]
            return Needs(
                own={MEMBER: badges | frozenset(map(forms.form_row, settings.forms))},
                counters=frozenset(counter for name, given in rewards_of for counter in cap_counters(name, given)),
            )
        if kind == "gamification.referred" and settings.referral is not None:
            sides = [("referral.inviter", settings.referral.inviter), ("referral.friend", settings.referral.friend)]
            return Needs(
                own={MEMBER: badges | {"referral"}, INVITER: frozenset(("invited",))},
                counters=frozenset(counter for name, given in sides for counter in cap_counters(name, given)),
            )
        return None

    # -- check-ins --------------------------------------------------------------------------------------------------

    def _checked_in(self, situation: Situation, day: date) -> list[Effect]:
        calendar, rows = self.settings.calendar, situation.own.get(MEMBER, {})
        if calendar is None:
            raise NotOffered("this programme has no check-ins")
        freezes = situation.balances[calendar.freeze_unit].usable if calendar.freeze_unit else 0
        streak = checkin.check_in(read_streak(rows.get(checkin.ROW)), day.toordinal(), freezes)
        place = streak.place(len(calendar.days))
        effects: list[Effect] = [Put(rule="gamification.check_in", name=checkin.ROW, value=checkin.written(streak))]
        if streak.frozen:
            data = {"days": streak.frozen}
            effects.append(
                Spend(
                    rule="gamification.freeze",
                    unit=calendar.freeze_unit,
                    amount=streak.frozen,
                    account="used",
                    data=data,
                )
            )
        effects += give(f"check_in.{place + 1}", calendar.days[place], on=day.isoformat(), badges=rows)
        return effects

    # -- draws ------------------------------------------------------------------------------------------------------

    def draw(self, name: str) -> Draw:
        """The draw of that name.  Raises NotOffered."""
        found = self.settings.draws.get(name)
        if found is None:
            raise NotOffered(f"there is no draw {name!r}", pointer="/data/draw")
        return found

    def may_draw(self, draw: Draw, member: Member, day: date) -> bool:
        """Whether a member meets the draw's condition."""
        may = self._may_draw.get(draw.name)
        return may is None or bool(may(member=member, today=day))

    def _drawn(self, facts: Drawn, situation: Situation, day: date) -> list[Effect]:
        draw, rows = self.draw(facts.draw), situation.own.get(MEMBER, {})
        round_ = read_round(situation.own.get(ROUNDS, {}).get("round"))
        if round_ is None or not round_.open or not draw.span.holds(day):
            raise DrawNotOpen(f"{draw.name} is not open")
        if round_.table != draw.table:
            raise DrawChanged(f"the prizes of {draw.name} have changed since the round was opened")
        if situation.member is None or not self.may_draw(draw, situation.member, day):
            raise NotEligible(f"this member may not draw {draw.name}")
        counter = drawn_counter(draw)
        for limit in draw.limits:
            if situation.counters[counter, limit.window] >= limit.times:
                raise LimitReached(f"{limit.times} draws per {limit.window}")
        place = draws.draw(bytes.fromhex(round_.seed), situation.entry, facts.salt, draw.table)
        drawn = draw.prizes[place]
        gone = drawn.stock and situation.stock.get(shelf(draw.name, drawn.name), 0) < 1
        prize = next(prize for prize in draw.prizes if prize.name == draw.instead) if gone else drawn
        effects = [*self._won(draw, prize, rows, day), *self._teller.of_prize(draw, prize, situation.entry)]
        data = {"draw": draw.name, "round": round_.number, "salt": facts.salt, "drawn": drawn.name, "prize": prize.name}
        gives = {**prize.gives, "draw": draw.name, "prize": prize.name, "place": draw.prizes.index(prize)}
        unit = draw.unit or next(iter(self.programme.units))
        effects.append(
            Spend(rule=f"gamification.{draw.name}", unit=unit, amount=draw.cost, account="used", gives=gives, data=data)
        )
        windows = {limit.window for limit in draw.limits} or {"lifetime"}
        effects += [
            Count(rule=f"gamification.{draw.name}", counter=counter, window=window) for window in sorted(windows)
        ]
        return effects

    @staticmethod
    def _won(draw: Draw, prize: Prize, rows: Mapping[str, Any], day: date) -> list[Effect]:
        name = f"{draw.name}.{prize.name}"
        effects: list[Effect] = []
        if prize.stock:
            effects.append(Take(rule=f"gamification.{name}", key=shelf(draw.name, prize.name)))
        if prize.reward is not None:
            effects += give(name, (prize.reward,), on=day.isoformat(), badges=rows)
        return effects

    def _round(self, facts: DrawOpened | DrawClosed, situation: Situation) -> list[Effect]:
        """Open or close a round.  The seed is the chance of the entry that opens it, so its record holds the seed's hash."""
        draw = self.draw(facts.draw)
        round_ = read_round(situation.own.get(ROUNDS, {}).get("round"))
        if isinstance(facts, DrawClosed):
            if round_ is None or not round_.open:
                raise DrawNotOpen(f"{draw.name} is not open")
            closed = round_._replace(open=False)
            names = ("round", f"round:{round_.number}")
            return [_keep(draw, name, closed) for name in names]
        if round_ is not None and round_.open:
            raise DrawOpen(f"{draw.name} is open already")
        chance = situation.chance
        chance.below(2)  # the record keeps the seed's hash where chance was drawn
        number = round_.number + 1 if round_ is not None else 1
        return [_keep(draw, "round", Round(number, chance.seed.hex(), draw.table, open=True))]

    def _stocked(self, facts: Stocked) -> list[Effect]:
        draw = self.draw(facts.draw)
        if not any(prize.name == facts.prize and prize.stock for prize in draw.prizes):
            raise NotOffered(f"{draw.name} has no prize {facts.prize!r} with stock", pointer="/data/prize")
        key = shelf(draw.name, facts.prize)
        return [Restock(rule="gamification.stocked", key=key, amount=facts.pieces, absolute=facts.counted)]

    # -- answers ----------------------------------------------------------------------------------------------------

    def _answered(self, event: Event, facts: Answered, situation: Situation, day: date) -> list[Effect]:
        form, rows = self.settings.forms.get(facts.form), situation.own.get(MEMBER, {})
        if form is None or form.kind != forms.KINDS[event.kind] or not form.span.holds(day):
            raise NotOffered(f"{facts.form!r} cannot be answered now", pointer="/data/form")
        row = forms.form_row(form.name)
        if row in rows:
            raise AlreadyAnswered(f"{form.name} was answered before")
        forms.check_answers(form, facts.answers)
        value = {"on": day.isoformat(), "right": forms.right(form, facts.answers)}
        effects: list[Effect] = [Put(rule=f"gamification.{form.name}", name=row, value=value)]
        if form.kind == "vote":  # one number for everybody, without names
            effects += [
                Count(
                    rule=f"gamification.{form.name}",
                    counter=f"gamification.vote.{form.name}/{question}/{answer}",
                    window="budget",
                )
                for question, answer in sorted(facts.answers.items())
            ]
        if forms.passed(form, facts.answers):
            effects += give(form.name, form.rewards, on=day.isoformat(), badges=rows)
        return effects

    # -- referral ---------------------------------------------------------------------------------------------------

    def _referral(self, event: Event, situation: Situation) -> Iterator[Effect]:
        """Remember who invited whom, and from when the friend's first qualifying purchase pays."""
        referral, day = self.settings.referral, self.programme.local_date(event.at)
        assert referral is not None
        if event.kind == ENROLLED and (by := event.others.get("invited_by")):
            yield Put(rule="gamification.referral", name="referral", value={"by": by, "on": day.isoformat()})
        if event.kind != PURCHASE:
            return
        row = situation.own.get(MEMBER, {}).get("referral")
        if not row or "order" in row or row.get("paid"):
            return
        purchase = event.facts
        facts = {
            "event": event, "member": situation.member, "today": day, "purchase": purchase,
            "gained": dict.fromkeys(self.programme.units, 0), "goods": purchase.goods,
        }  # fmt: skip
        if not self._qualifies.fire(**facts):
            return
        due = (day + timedelta(days=referral.days)).isoformat()
        yield Put(rule="gamification.referral", name="referral", value={**row, "order": purchase.order, "due": due})
        note = {"by": row["by"], "order": purchase.order}
        yield Put(rule="gamification.referral", key=f"referrals/{due}", name=member_name(event.member), value=note)

    def _referral_back(self, event: Event, situation: Situation) -> Iterator[Effect]:
        """Of what came back in time, in part or whole, nobody is paid; the next qualifying purchase may."""
        row = situation.own.get(MEMBER, {}).get("referral")
        if not row or row.get("paid") or row.get("order") != event.facts.order:
            return
        left = {key: value for key, value in row.items() if key not in ("order", "due")}
        yield Put(rule="gamification.referral", name="referral", value=left)
        yield Put(
            rule="gamification.referral", key=f"referrals/{row['due']}", name=member_name(event.member), value=None
        )

    def _referred(self, event: Event, facts: Referred, situation: Situation, day: date) -> list[Effect]:
        referral, rows = self.settings.referral, situation.own.get(MEMBER, {})
        row, inviter = rows.get("referral") or {}, event.others["inviter"]
        today = max(day, self.programme.local_date(event.received)).isoformat()
        if referral is None or row.get("by") != inviter or row.get("paid") or row.get("due", "9") > today:
            raise ReferralNotDue(f"{facts.inviter} is owed nothing for this member")
        effects: list[Effect] = [
            Put(rule="gamification.referral", name="referral", value={**row, "paid": today}),
            Put(
                rule="gamification.referral", key=f"referrals/{row['due']}", name=member_name(event.member), value=None
            ),
        ]
        effects += give("referral.friend", referral.friend, on=today, badges=rows)
        invited = situation.own.get(INVITER, {}).get("invited") or 0
        if not referral.limit or invited < referral.limit:
            effects += give("referral.inviter", referral.inviter, to=inviter)
            effects.append(Put(rule="gamification.referral", key=f"m:{inviter}", name="invited", value=invited + 1))
        return effects


def _falls(task: Task) -> bool:
    """Whether a return may take back what a plain task has given."""
    return task.on == PURCHASE and task.refund == "reward"


def _hidden(rule: str, member: int, *, hidden: bool) -> list[Effect]:
    """On the member's own row, and in the list that leaderboards read."""
    return [
        Put(rule=rule, name="hidden", value=hidden or None),
        Put(rule=rule, key=store.HIDDEN, name=f"m:{member}", value=hidden or None),
    ]


def shelf(draw: str, prize: str) -> str:
    """The stock key of a prize."""
    return f"gamification:{draw}/{prize}"


def drawn_counter(draw: Draw) -> str:
    """The counter of a member's draws."""
    return f"gamification.drawn.{draw.name}"


def _keep(draw: Draw, name: str, round_: Round) -> Put:
    return Put(rule=f"gamification.{draw.name}", key=f"draw/{draw.name}", name=name, value=draws.written(round_))


# under names of their own: the hooks' argument is called `store`, as the contract has it
_project, _scores, _forget = store.project, store.scores_of, store.forget
