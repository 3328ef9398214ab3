"""The plugin: what redeeming at a device takes and gives, and how allowances stand in the ledger as stock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.effects import Effect, Restock, Spend, Take
from tallystick.errors import OutOfStock
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.situation import Needs, Programme, Situation

from . import store as rows
from .errors import AllowanceSpent, NotOffered
from .events import AllowanceEnded, Allowed, Redeemed, Stocked
from .settings import Settings


class Kiosk:
    """Devices of one tenant."""

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.settings, self.programme = settings, programme

    @hookimpl
    def needs(self, kind: str) -> Needs | None:
        match kind:
            case "vr_kiosk.redeemed":
                return Needs(
                    balances=frozenset((self.settings.unit,) if self.settings.rewards else ()),
                    stock=frozenset((_allowance("{facts.device}", "{facts.grant}"), _shelf("{facts.reward}"))),
                )
            case "vr_kiosk.allowed" | "vr_kiosk.allowance_ended":
                return Needs(stock=frozenset((_allowance("{facts.device}", "{facts.grant}"),)))
            case "vr_kiosk.stocked":
                return Needs(stock=frozenset((_shelf("{facts.reward}"),)))
        return None

    @hookimpl
    def redeem(self, event: Event, situation: Situation) -> Sequence[Effect]:
        facts = event.facts
        match facts:
            case Redeemed():
                return self._redeemed(facts, situation)
            case Allowed():
                key = _allowance(facts.device, facts.grant)
                if situation.stock.get(key):
                    raise AllowanceSpent(f"allowance {facts.grant} was given already")
                return [Restock(rule="vr_kiosk.allowed", key=key, amount=facts.points, absolute=True)]
            case AllowanceEnded():
                key = _allowance(facts.device, facts.grant)
                return [Restock(rule="vr_kiosk.allowance_ended", key=key, amount=0, absolute=True)]
            case Stocked():
                if facts.reward not in self.settings.rewards or not self.settings.rewards[facts.reward].stock:
                    raise NotOffered(f"there is no reward {facts.reward!r} whose pieces are counted")
                key = _shelf(facts.reward)
                return [Restock(rule="vr_kiosk.stocked", key=key, amount=facts.pieces, absolute=facts.counted)]
        return ()

    def _redeemed(self, facts: Redeemed, situation: Situation) -> list[Effect]:
        """At a device that can ask, the member pays all of it or gets nothing.

        A device that could not ask has given the reward already.  What it gave comes out of its allowance, always and
        first: the ledger keeps that, so that all such devices together never give more than they were allowed.  The
        member pays what is there; the merchant bears the rest, which is said.
        """
        reward = self.settings.rewards.get(facts.reward)
        if reward is None:
            raise NotOffered(f"there is no reward {facts.reward!r} here", pointer="/data/reward")
        rule, unit = f"vr_kiosk.reward.{reward.name}", self.settings.unit
        found: list[Effect] = []
        if reward.stock:
            left = situation.stock.get(_shelf(reward.name), 0)
            if left < 1 and not facts.grant:
                raise OutOfStock(f"nothing left of {reward.name}", stock=reward.name, left=0)
            if left:
                found.append(Take(rule=rule, key=_shelf(reward.name), amount=1))
        gives = {"reward": reward.name}
        if not facts.grant:
            return [
                *found,
                Spend(rule=rule, unit=unit, amount=reward.points, gives=gives, data={"device": facts.device}),
            ]
        key = _allowance(facts.device, facts.grant)
        if situation.stock.get(key, 0) < reward.points:
            raise AllowanceSpent(f"the allowance {facts.grant} of {facts.device} does not cover {reward.points}")
        balance = situation.balances.get(unit)
        usable = max(0, balance.usable) if balance is not None else 0
        paid = min(usable, reward.points)
        data = {"device": facts.device, "grant": facts.grant, "short": reward.points - paid}
        spend = Spend(rule=rule, unit=unit, amount=paid, wanted=reward.points, gives=gives, data=data)
        return [*found, Take(rule=rule, key=key, amount=reward.points, reversible=False), spend]

    @hookimpl
    def committed(self, batch: Sequence[Any], store: Any) -> None:
        """Queue commands that were asked for, and end the sessions of members who are somebody else now."""
        rows.keep_commands(
            store,
            self.programme.tenant,
            ((one.at, intent) for one in batch for intent in one.intents if intent.channel == "command"),
        )

    @hookimpl
    def export_member(self, member: int, store: Any) -> Mapping[str, Any]:
        """Codes, wishes and whether there is a PIN."""
        return rows.everything(store, self.programme.tenant, member)

    @hookimpl
    def erase_member(self, member: int, store: Any) -> bool:
        """Forget codes, PIN, sessions and wishes."""
        rows.forget(store, self.programme.tenant, member)
        return True


def _allowance(device: str, grant: str) -> str:
    """The stock key of an allowance."""
    return f"vr_kiosk:allowance/{device}/{grant}"


def _shelf(reward: str) -> str:
    """The stock key of a reward."""
    return f"vr_kiosk:reward/{reward}"
