"""What rewards come to as effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tallystick.effects import Bonus, Cap, Effect, Emit, Put

from .settings import Reward

#: Coupons and badges that one event can announce for one rule.
MOST_TOLD = 20


def rule_of(name: str, place: int = 0) -> str:
    """The public name of the *place*-th reward of something."""
    return f"gamification.{name}.{place}" if place else f"gamification.{name}"


def cap_counters(name: str, rewards: Sequence[Reward]) -> Iterator[tuple[str, str]]:
    """The budgets that must be known before these rewards can be given."""
    for place, reward in enumerate(rewards):
        if reward.budget:
            yield f"cap:{rule_of(name, place)}", "budget"


def times_of(reward: Reward, before: int, now: int) -> int:
    """How often a reward is given when the level goes from *before* to *now*."""
    if reward.level:
        return int(before < reward.level <= now)
    return now - before


def give(
    name: str,
    rewards: Sequence[Reward],
    *,
    before: int = 0,
    now: int = 1,
    to: int = 0,
    on: str = "",
    badges: Any = None,
) -> Iterator[Effect]:
    """The effects of reaching level *now* of *name* from level *before*.

    Amounts are flat, stand when an order is returned (whoever gives them decides about that), and are cut by their budget.
    *badges* are the member's badges so far: none is given twice at the same level.
    """
    for place, reward in enumerate(rewards):
        times, rule = times_of(reward, before, now), rule_of(name, place)
        if not times:
            continue
        if reward.unit:
            data = {"level": now} if now > 1 else None
            yield Bonus(rule=rule, unit=reward.unit, amount=reward.amount * times, reversible=False, to=to, data=data)
            if reward.budget:
                yield Cap(
                    rule=rule, unit=reward.unit, limit=reward.budget, per="budget", rules=frozenset((rule,)), key=rule
                )
        elif reward.badge and not to:
            level = 1 if reward.level else now
            held = (badges or {}).get(badge_row(reward.badge)) or {"level": 0}
            if held["level"] < level:
                yield Put(rule=rule, name=badge_row(reward.badge), value={"level": level, "on": on})
                yield _told(rule, name, "badge", reward.badge, level)
        elif reward.coupon and not to:
            first = max(before + 1, now - MOST_TOLD + 1) if not reward.level else now
            for level in range(first, now + 1):
                yield _told(rule, name, "coupon", reward.coupon, level)


def badge_row(badge: str) -> str:
    """The own row that holds a badge."""
    return f"badge:{badge}"


def _told(rule: str, source: str, reward: str, name: str, level: int) -> Emit:
    facts = {"source": source, "reward": reward, "name": name, "level": level}
    return Emit(rule=rule, kind="gamification.rewarded", facts=facts)
