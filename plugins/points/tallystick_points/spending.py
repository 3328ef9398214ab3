"""Points go out: redeemed for a discount or a reward, given to another member, taken or given by staff."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from fractions import Fraction
from typing import Any, Final

from tallystick.effects import Bonus, Count, Effect, Move, Notify, Restock, Spend, Take
from tallystick.errors import LimitReached, MemberInactive
from tallystick.events import Event
from tallystick.rules import RuleText, compile_rules
from tallystick.situation import Needs, Programme, Situation

from .basis import times
from .earning import is_birthday
from .errors import BadGift, NotEligible, NotOffered, UnknownRate
from .events import Adjusted, Expiring, Gifted, Redeemed, Restocked
from .rules import check_approval, expiring_soon, payment
from .scope import benefits, needs_of, scope_for
from .settings import Gift, Limit, Reward, Settings
from .terms import Calendar, Schedule

OWN: Final = "points."  #: what the names of the plugin's own kinds begin with
REDEEMED: Final = "points.redeemed"
_MOMENT: Final = timedelta(microseconds=1)
_USES: Final = "_times"  #: ends the name of a counter that counts how often instead of how much


class Spending:
    """Everything but earning, as one merchant has set it up."""

    def __init__(self, settings: Settings, programme: Programme, calendar: Calendar) -> None:
        self._settings, self._calendar = settings, calendar
        self._rewards = {reward.name: reward for reward in settings.rewards}
        scope = scope_for(REDEEMED, settings, programme.units, programme.zone)
        self._conditions = {text.name: compile_rules([text], scope) for text in reward_texts(settings)}
        self._terms = Schedule(calendar, settings.expiry, Settings().pending)

    def needs(self, kind: str) -> Needs | None:
        """What must be known before points of the member can go out."""
        settings = self._settings
        own = Needs(balances=frozenset((settings.unit,)))
        match kind:
            case "points.redeemed":
                needs = own
                if settings.redeem is not None:
                    needs |= _limit_needs("points.redeemed", settings.redeem.limits)
                for reward in settings.rewards:
                    needs |= _limit_needs(_taken(reward.name), reward.limits)
                    if reward.name in self._conditions:
                        needs |= needs_of(self._conditions[reward.name].names, settings.counters)
                if any(reward.stock for reward in settings.rewards):
                    needs |= Needs(stock=frozenset((_shelf("{facts.reward}"),)))
                return needs
            case "points.gifted":
                return own | _limit_needs("points.gifted", settings.gift.limits if settings.gift else ())
            case "points.adjusted" | "points.expiring":
                return own
            case "points.restocked":
                return Needs(stock=frozenset((_shelf("{facts.reward}"),)))
            case _:
                return None

    def effects(self, event: Event, situation: Situation) -> list[Effect]:
        """What is to be taken and given for one of the plugin's own events; raises a Refused where the answer is no."""
        match event.facts:
            case Redeemed() as redeemed if redeemed.reward:
                return self._reward(redeemed, event, situation)
            case Redeemed() as redeemed:
                return self._discount(redeemed, event, situation)
            case Gifted() as gifted:
                return self._gift(gifted, event, situation)
            case Adjusted() as adjusted:
                return self._adjust(adjusted, event)
            case Expiring() as expiring:
                return self._remind(expiring, event, situation)
            case Restocked() as restocked:
                self._on_offer(restocked.reward)
                return [
                    Restock(
                        rule="points.restock",
                        key=_shelf(restocked.reward),
                        amount=restocked.pieces,
                        absolute=restocked.counted,
                    )
                ]
            case _:
                return []

    # --- a discount ----------------------------------------------------------------------------------------------

    def _discount(self, redeemed: Redeemed, event: Event, situation: Situation) -> list[Effect]:
        redeem = self._settings.redeem
        if redeem is None:
            raise NotOffered("this programme does not take points as payment")
        assert redeemed.points is not None
        programme, unit = situation.programme, self._settings.unit
        currency = redeemed.currency or programme.currency
        rate = _rate(programme, currency, self._calendar.day(event.at))
        total = None if redeemed.total is None else times(rate, redeemed.total)
        left, times_left = _left(redeem.limits, "points.redeemed", situation)
        usable = situation.balances[unit].usable
        paid = payment(
            redeemed.points, usable, redeem, total=total, left=left, times_left=times_left is None or times_left > 0
        )
        gives: dict[str, Any] = {
            "discount": times(1 / rate, paid.discount), "currency": currency, "points": paid.points, "status": paid.status,
        }  # fmt: skip
        data: dict[str, Any] = {"usable": usable}
        if paid.by:
            gives["by"] = paid.by
        if rate != 1:
            data |= {"rate": str(rate), "value": paid.discount}
        spend = Spend(
            rule="points.redeem",
            unit=unit,
            amount=paid.points,
            wanted=redeemed.points,
            order=redeemed.order,
            gives=gives,
            data=data,
        )
        return [
            spend,
            *(_count_limits("points.redeem", "points.redeemed", redeem.limits, paid.points) if paid.points else ()),
        ]

    # --- a reward ------------------------------------------------------------------------------------------------

    def _on_offer(self, name: str) -> Reward:
        reward = self._rewards.get(name)
        if reward is None:
            raise NotOffered(f"this programme has no reward {name!r}", pointer="/data/reward")
        return reward

    def _reward(self, redeemed: Redeemed, event: Event, situation: Situation) -> list[Effect]:
        reward = self._on_offer(redeemed.reward)
        day = self._calendar.day(event.at)
        if not reward.valid.holds(event.at, day):
            raise NotOffered(f"reward {reward.name!r} is not on offer at this time", pointer="/data/reward")
        self._check_eligible(reward, event, situation, day)
        counter, points = _taken(reward.name), reward.cost * redeemed.quantity
        left, times_left = _left(reward.limits, counter, situation)
        if (left is not None and left < points) or (times_left is not None and times_left < redeemed.quantity):
            raise LimitReached(f"the member's limit for reward {reward.name!r} is used up", reward=reward.name)
        rule = "points.reward"
        gives = {
            **reward.gives,
            "reward": reward.name,
            "quantity": redeemed.quantity,
            "points": points,
            "status": "applied",
        }
        effects: list[Effect] = [
            Spend(rule=rule, unit=self._settings.unit, amount=points, order=redeemed.order, gives=gives),
            *_count_limits(rule, counter, reward.limits, points, redeemed.quantity),
        ]
        if reward.stock:
            effects.append(Take(rule=rule, key=_shelf(reward.name), amount=redeemed.quantity))
        return effects

    def _check_eligible(self, reward: Reward, event: Event, situation: Situation, day: date) -> None:
        condition = self._conditions.get(reward.name)
        if condition is None:
            return
        counters = {counter.name: situation.counters.get(counter.key, 0) for counter in self._settings.counters}
        fired = condition.fire(
            facts=event.facts, event=event, member=situation.member, balance=situation.balances, counter=counters,
            programme=situation.programme, now=event.at, today=day, birthday_today=is_birthday(situation, day),
            benefit=benefits(situation.programme, situation.member),
        )  # fmt: skip
        if not fired:
            raise NotEligible(f"the member does not meet the condition for reward {reward.name!r}", reward=reward.name)

    # --- a gift --------------------------------------------------------------------------------------------------

    def _gift(self, gifted: Gifted, event: Event, situation: Situation) -> list[Effect]:
        gift = self._settings.gift
        if gift is None:
            raise NotOffered("this programme does not let members give points away")
        to = event.others.get("to", 0)
        _check_gift(gifted, gift, giver=event.member, to=to)
        recipient = situation.others.get(to)
        if recipient is not None and recipient.status != "active":
            raise MemberInactive("the member who is to get the points is not active", pointer="/data/to")
        left, times_left = _left(gift.limits, "points.gifted", situation)
        if (left is not None and left < gifted.points) or (times_left is not None and times_left < 1):
            raise LimitReached("the member's limit for gifts is used up", left=max(0, left or 0))
        move = Move(rule="points.gift", unit=self._settings.unit, amount=gifted.points, to=to)
        return [move, *_count_limits("points.gift", "points.gifted", gift.limits, gifted.points)]

    # --- by hand -------------------------------------------------------------------------------------------------

    def _adjust(self, adjusted: Adjusted, event: Event) -> list[Effect]:
        """The reason stays with the facts, under the member's key: it may speak of a person."""
        check_approval(adjusted, self._settings.approve_above)
        unit, data = self._settings.unit, {"approved": bool(adjusted.approved_by)}
        if adjusted.points < 0:
            return [Spend(rule="points.adjust", unit=unit, amount=-adjusted.points, account="adjusted", data=data)]
        terms = self._terms.on(self._calendar.day(event.at))
        if terms is None:
            raise NotOffered("points given today could never be used: the programme's last day has passed")
        given = Bonus(
            rule="points.adjust", unit=unit, amount=adjusted.points, expires_at=terms.expires_at, sliding=terms.sliding,
            reversible=False, data=data,
        )  # fmt: skip
        return [given]

    # --- reminders -------------------------------------------------------------------------------------------------

    def _remind(self, expiring: Expiring, event: Event, situation: Situation) -> list[Effect]:
        """Every batch that is about to expire, not only the first; nothing if all was spent meanwhile."""
        batches = expiring_soon(situation.balances[self._settings.unit].lots, event.received, expiring.until)
        if not batches:
            return []
        day = self._calendar.day
        facts = {
            "points": sum([batch.points for batch in batches]),
            # the first day on which they are gone is nobody's last chance: say the last good one
            "batches": [
                {"points": batch.points, "last_day": day(batch.expires_at - _MOMENT).isoformat()} for batch in batches
            ],
        }
        last = batches[-1].expires_at
        return [
            Notify(
                rule="points.remind",
                template="points.expiring",
                facts=facts,
                purpose="reminder",
                key=day(last).isoformat(),
                expires=last,
            )
        ]


def reward_texts(settings: Settings) -> list[RuleText]:
    """The conditions of rewards as texts of the rule language."""
    return [RuleText(reward.name, when=reward.when) for reward in settings.rewards if reward.when]


def _shelf(reward: str) -> str:
    """The stock key of a reward."""
    return f"points:reward.{reward}"


def _taken(reward: str) -> str:
    """The counter of a reward."""
    return f"points.reward.{reward}"


def _rate(programme: Programme, currency: str, day: date) -> Fraction:
    rate = programme.rate(currency, day)
    if rate is None:
        raise UnknownRate(
            f"no rate from {currency} to {programme.currency} is known for {day}", pointer="/data/currency"
        )
    return rate


def _check_gift(gifted: Gifted, gift: Gift, *, giver: int, to: int) -> None:
    if to == giver:
        raise BadGift("points cannot be given to oneself", pointer="/data/to")
    if gifted.points < gift.minimum:
        raise BadGift(f"a gift has at least {gift.minimum} points", pointer="/data/points", minimum=gift.minimum)
    if gift.maximum is not None and gifted.points > gift.maximum:
        raise BadGift(f"a gift has at most {gift.maximum} points", pointer="/data/points", maximum=gift.maximum)


# --- limits per member ---------------------------------------------------------------------------------------------


def _limit_needs(counter: str, limits: Iterable[Limit]) -> Needs:
    keys = {(counter, limit.window) for limit in limits if limit.points is not None}
    keys |= {(counter + _USES, limit.window) for limit in limits if limit.times is not None}
    return Needs(counters=frozenset(keys))


def _left(limits: Iterable[Limit], counter: str, situation: Situation) -> tuple[int | None, int | None]:
    """How many points, and how many times, the member may still; None: no limit."""
    points, uses = [], []
    for limit in limits:
        if limit.points is not None:
            points.append(limit.points - situation.counters.get((counter, limit.window), 0))
        if limit.times is not None:
            uses.append(limit.times - situation.counters.get((counter + _USES, limit.window), 0))
    return min(points, default=None), min(uses, default=None)


def _count_limits(rule: str, counter: str, limits: Iterable[Limit], points: int, uses: int = 1) -> Iterator[Count]:
    windows: Mapping[tuple[str, str], int] = {
        **{(counter, limit.window): points for limit in limits if limit.points is not None},
        **{(counter + _USES, limit.window): uses for limit in limits if limit.times is not None},
    }
    for (name, window), amount in windows.items():
        yield Count(rule=rule, counter=name, window=window, amount=amount)
