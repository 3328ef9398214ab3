"""The doorman of the coalition: each event to its rule, under the agreement in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from tallystick.effects import Bonus, Count, Effect, Emit, Put, Restore, Revoke, Spend
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.ledger import taken_by_now
from tallystick.situation import Needs, Original, Programme, Situation

from . import agreement as agreements
from . import rules
from . import store as books
from .agreement import Agreement, Flow, Signed
from .errors import (
    AliasTaken,
    ExposureReached,
    Mismatch,
    NotAgreed,
    NotPossible,
    OutsideTerms,
    TransferClosed,
    UnknownTransfer,
)
from .events import Agreed, Closed, Committed, Confirmed, Consented, Held, Paid, Released, Returned, Voided
from .rules import Pair, Provenance
from .settings import Settings

MEMBER: Final = "{member}"
PAIR: Final = "pair/{facts.partner}"
AGREEMENTS: Final = "agreements/{facts.partner}"
TRANSFER: Final = "transfer/{facts.partner}/{facts.transfer}"
ALIAS: Final = "alias/{facts.partner}/{facts.alias}"
ORDER: Final = "order/{order}"
RETURNS: Final = ("purchase.refunded", "purchase.cancelled")
STATE: Final = "state"
#: A counter that tiers may count, where an agreement says that what came over counts for them.
CREDIT: Final = "coalition.credit"
CREDIT_WINDOWS: Final = ("month", "quarter", "year", "lifetime")
#: Another one: minor units that members spent at partners, under such an agreement.
SPEND: Final = "coalition.spend"
#: A member's row: what came back of that and is still to be set off against what is counted next.
UNCOUNTED: Final = "uncounted"
#: How far the clocks of two brands may differ.
TOLERANCE: Final = timedelta(seconds=300)
#: Versions of an agreement that are kept at hand; all of them are in the journal.
KEPT: Final = 3

_ROWS: Final[Mapping[str, tuple[str, ...]]] = {
    "coalition.agreed": (AGREEMENTS,),
    "coalition.consented": (MEMBER, ALIAS),
    "coalition.held": (MEMBER, PAIR, AGREEMENTS, TRANSFER),
    "coalition.committed": (MEMBER, PAIR, AGREEMENTS, TRANSFER, ORDER),
    "coalition.voided": (TRANSFER,),
    "coalition.confirmed": (PAIR, TRANSFER),
    "coalition.released": (PAIR, TRANSFER),
    "coalition.returned": (MEMBER, PAIR, TRANSFER, ORDER),
    "coalition.closed": (PAIR,),
    "coalition.paid": (PAIR,),
}


class Coalition:
    """The plugin as one brand has set it up."""

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.settings, self.programme = settings, programme

    # -- hooks ----------------------------------------------------------------------------------------------------------

    @hookimpl
    def needs(self, kind: str) -> Needs | None:
        """Own rows by key; lots where points leave or come back; what a member sent to each partner today."""
        if kind in RETURNS:
            return Needs(own={ORDER: frozenset(("transfer",))})
        rows = _ROWS.get(kind)
        if rows is None:
            return None
        needs = Needs(own={row: frozenset((STATE,)) for row in rows})
        if kind in ("coalition.held", "coalition.released", "coalition.returned", "coalition.committed"):
            needs |= Needs(balances=frozenset((self.settings.unit,)))
        if kind == "coalition.held":
            needs |= Needs(counters=frozenset((_sent(partner), "day") for partner in self.settings.partners))
        if kind == "coalition.committed":
            counted = [(counter, window) for counter in (CREDIT, SPEND) for window in CREDIT_WINDOWS]
            needs |= Needs(counters=frozenset(counted))
        return needs

    @hookimpl
    def redeem(self, event: Event, situation: Situation) -> Sequence[Effect]:
        """What one of the coalition's own events comes to; raises a Refused where the answer is no."""
        match event.facts:
            case Agreed() as agreed:
                return self._agree(agreed, situation)
            case Consented() as consented:
                return self._consent(consented, event, situation)
            case Held() as held:
                return self._hold(held, event, situation)
            case Committed() as committed:
                return self._commit(committed, event, situation)
            case Voided() as voided:
                return self._void(voided, situation)
            case Confirmed() as confirmed:
                return self._confirm(confirmed, situation)
            case Released() as released:
                return self._release(released, event, situation)
            case Returned() as returned:
                return self._return(returned, event, situation)
            case Closed() as closed:
                return self._close(closed, situation)
            case Paid() as paid:
                return self._pay(paid, situation)
            case _:
                return []

    @hookimpl
    def reverse(self, event: Event, original: Original, situation: Situation) -> Sequence[Effect]:
        """An order that was paid with a partner's points comes back: its share of them goes back to the partner."""
        row = situation.own.get(ORDER, {}).get("transfer")
        if row is None:
            return []
        total = taken_by_now(row["amount"], original.value, original.returned)
        if total <= row.get("returned", 0):
            return []
        facts = Returned(partner=row["partner"], transfer=row["transfer"], total=total, period="")
        order = f"order/{event.facts.order}"
        return [
            Emit(rule="coalition.return", kind="coalition.returned", facts=facts),
            Put(rule="coalition.return", key=order, name="transfer", value={**row, "returned": total}),
        ]

    @hookimpl
    def committed(self, batch: Sequence[Any], store: Any) -> None:
        """Write down what is owed, and what waits for an answer."""
        books.project(store, (record for one in batch for record in one.records))

    @hookimpl
    def export_member(self, member: int, store: Any) -> Mapping[str, Any] | None:
        """Transfers of the member."""
        return books.of_member(store, self.programme.tenant, member)

    @hookimpl
    def erase_member(self, member: int, store: Any) -> bool:
        """Forget by which codes partners knew the member."""
        books.forget(store, self.programme.tenant, member)
        return True

    # -- agreements and consent -------------------------------------------------------------------------------------------

    def _known(self, partner: str) -> None:
        if partner not in self.settings.partners:
            raise NotPossible(f"{partner} is no partner of this brand", pointer="/data/partner")

    def _agree(self, agreed: Agreed, situation: Situation) -> list[Effect]:
        self._known(agreed.partner)
        rows = situation.own.get(AGREEMENTS, {})
        before = agreements.read(rows[max(rows, key=int)]["text"]) if rows else None
        signed = Signed(text=agreed.text, signatures=agreed.signatures)
        accepted = agreements.accept(signed, self.settings.brand, agreed.partner, before)
        if accepted.currency != self.programme.currency:
            raise NotAgreed(f"this brand's books are in {self.programme.currency}")
        rule, key = "coalition.agreement", f"agreements/{agreed.partner}"
        told = {"agreement": accepted.label, "hash": agreements.digest(agreed.text), "partner": agreed.partner}
        old = str(accepted.version - KEPT)
        return [
            self._say(rule, {"act": "agreed", **told}),
            Put(rule=rule, key=key, name=str(accepted.version), value={"text": agreed.text}),
            *([Put(rule=rule, key=key, name=old, value=None)] if old in rows else []),
        ]

    def _consent(self, consented: Consented, event: Event, situation: Situation) -> list[Effect]:
        self._known(consented.partner)
        rule, alias, name = "coalition.consent", consented.alias, f"alias:{consented.partner}"
        owner = situation.own.get(ALIAS, {}).get("member")
        mine = situation.own.get(MEMBER, {}).get(name)
        key = f"alias/{consented.partner}/{alias}"
        if owner not in (None, event.member) or (consented.given and mine not in (None, alias)):
            raise AliasTaken(pointer="/data/alias")
        if not consented.given and mine != alias:
            raise NotPossible(pointer="/data/alias")
        return [
            self._say(rule, {"act": "consented", "partner": consented.partner, "given": consented.given}),
            Put(rule=rule, name=name, value=alias if consented.given else None),
            Put(rule=rule, key=key, name="member", value=event.member if consented.given else None),
        ]

    # -- at the source ----------------------------------------------------------------------------------------------------

    def _terms(
        self, facts: Held | Committed, event: Event, situation: Situation, source: str, target: str
    ) -> tuple[Agreement, Flow]:
        self._known(facts.partner)
        rows = situation.own.get(AGREEMENTS, {})
        agreed = rules.in_force(rows, facts.version, event.at, agreements.read)
        flow = agreed.flow(facts.kind, source, target, event.at)
        rules.check_amount(flow, facts.amount)
        return agreed, flow

    def _hold(self, held: Held, event: Event, situation: Situation) -> list[Effect]:
        if situation.own.get(TRANSFER, {}).get(STATE):
            raise TransferClosed(f"transfer {held.transfer} is known already")
        agreed, flow = self._terms(held, event, situation, self.settings.brand, held.partner)
        rule, amount, owed = "coalition.hold", held.amount, flow.owed(held.amount)
        # limits of the pair come before anything about the member: what is said must not tell who is known here
        pair = _pair(situation).holding(flow, owed, event.at)
        parts: tuple[Any, ...] = ()
        if held.kind != "earn":
            member = situation.member
            if member is None or not situation.own.get(MEMBER, {}).get(f"alias:{held.partner}"):
                raise NotPossible
            if flow.tags and not set(flow.tags) & set(member.tags):
                raise NotPossible
            sent = situation.counters.get((_sent(held.partner), "day"), 0)
            if flow.member_day is not None and sent + amount > flow.member_day:
                raise ExposureReached(
                    f"a member may send {flow.member_day} a day", pointer="/member", left=max(0, flow.member_day - sent)
                )
            own = Provenance(self.settings.brand, self.settings.unit_cost, agreed.label)
            parts = rules.leaving(situation.balances[self.settings.unit].lots, amount, situation.now, own)
        state = {
            "state": "held", "kind": held.kind, "amount": amount, "gets": flow.gets(amount), "owed": owed,
            "version": held.version, "agreement": agreed.label, "at": event.at.isoformat(), "entry": situation.entry,
            "member": event.member, "source": self.settings.brand, "target": held.partner, "terms": _kept(flow),
        }  # fmt: skip
        told = {"act": "held", **_told(held, state), "parts": msgspec.to_builtins(parts)}
        return [
            Spend(rule=rule, unit=self.settings.unit, amount=0 if held.kind == "earn" else amount, account=f"coalition/{held.partner}", data=told),
            Put(rule=rule, key=_key(held), name=STATE, value=state),
            Put(rule=rule, key=f"pair/{held.partner}", name=STATE, value=pair.document()),
            *([Count(rule=rule, counter=_sent(held.partner), window="day", amount=amount)] if event.member else []),
        ]  # fmt: skip

    def _confirm(self, confirmed: Confirmed, situation: Situation) -> list[Effect]:
        row = self._row(situation, "source", "held")
        pair = _pair(situation)
        if confirmed.owed != row["owed"]:
            raise Mismatch(f"we owe {row['owed']} for this, not {confirmed.owed}", pointer="/data/owed")
        at = datetime.fromisoformat(row["at"])
        rules.check_period(confirmed.period, pair, rules.month_of(at - TOLERANCE), situation.now)
        rule = "coalition.confirm"
        row = {**row, "state": "confirmed", "period": confirmed.period, "returned": 0}
        return [
            self._say(rule, {"act": "confirmed", **_told(confirmed, row)}),
            Put(rule=rule, key=_key(confirmed), name=STATE, value=row),
            Put(rule=rule, key=f"pair/{confirmed.partner}", name=STATE, value=pair.decided(row["owed"], at, released=False).document()),
        ]  # fmt: skip

    def _release(self, released: Released, event: Event, situation: Situation) -> list[Effect]:
        rule, row = "coalition.release", situation.own.get(TRANSFER, {}).get(STATE)
        if row is None:  # what was to be held comes later than its end, if it comes at all
            gone = {"state": "released", "source": self.settings.brand, "target": released.partner}
            return [
                self._say(rule, {"act": "released", "partner": released.partner, "transfer": released.transfer}),
                Put(rule=rule, key=_key(released), name=STATE, value=gone),
            ]
        row = self._row(situation, "source", "held")
        at = datetime.fromisoformat(row["at"])
        pair = _pair(situation).decided(row["owed"], at, released=True)
        back = (
            [Restore(rule=rule, entry=row["entry"], of_rule="coalition.hold")]
            if row["kind"] != "earn" and event.member
            else []
        )
        return [
            *back,
            self._say(rule, {"act": "released", **_told(released, row)}),
            Put(rule=rule, key=_key(released), name=STATE, value={**row, "state": "released"}),
            Put(rule=rule, key=f"pair/{released.partner}", name=STATE, value=pair.document()),
        ]

    # -- at the target ----------------------------------------------------------------------------------------------------

    def _commit(self, committed: Committed, event: Event, situation: Situation) -> list[Effect]:
        if situation.own.get(TRANSFER, {}).get(STATE):
            raise TransferClosed(f"transfer {committed.transfer} is decided already")
        agreed, flow = self._terms(committed, event, situation, committed.partner, self.settings.brand)
        if committed.kind != "redeem" and not (
            event.member and situation.own.get(MEMBER, {}).get(f"alias:{committed.partner}")
        ):
            raise NotPossible
        rule, gets = "coalition.commit", flow.gets(committed.amount)
        period = rules.period_for(situation.now, _pair(situation).closed)
        state = {
            "state": "committed", "kind": committed.kind, "amount": committed.amount, "gets": gets,
            "owed": flow.owed(committed.amount), "version": committed.version, "agreement": agreed.label,
            "at": event.at.isoformat(), "entry": situation.entry, "member": event.member, "period": period, "returned": 0,
            "source": committed.partner, "target": self.settings.brand, "terms": _kept(flow),
        }  # fmt: skip
        told = {"act": "committed", **_told(committed, state), "parts": msgspec.to_builtins(committed.parts)}
        effects: list[Effect] = []
        if committed.kind == "redeem":
            gives = {
                "discount": gets, "currency": agreed.currency, "partner": committed.partner, "points": committed.amount,
                "status": "applied",
            }  # fmt: skip
            effects.append(Spend(rule=rule, unit=self.settings.unit, amount=0, gives=gives, data=told))
            if committed.order:
                paid = {"partner": committed.partner, "transfer": committed.transfer, "amount": committed.amount}
                effects.append(Put(rule=rule, key=f"order/{committed.order}", name="transfer", value=paid))
        else:
            effects += [self._say(rule, told), *self._arrive(committed, agreed, flow, situation)]
        return [*effects, Put(rule=rule, key=_key(committed), name=STATE, value=state)]

    def _arrive(self, committed: Committed, agreed: Agreement, flow: Flow, situation: Situation) -> list[Effect]:
        """Points that came over: never multiplied, and nothing for tiers unless the agreement says so."""
        rule = f"coalition.{committed.kind}"
        parts = committed.parts
        if committed.kind == "earn":
            funded = str(Provenance(committed.partner, agreements.exact(flow.price), agreed.label))
            gets = flow.gets(committed.amount)
            limit = rules.valid_until(situation.now, flow.valid_days)
            came = [rules.Arriving(gets, limit, funded)]
        else:
            came = rules.arriving(parts, committed.amount, flow, situation.now)
        credit = sum(one.amount for one in came)
        return [
            *[
                Bonus(rule=rule, unit=self.settings.unit, amount=one.amount, expires_at=one.expires, issuer=one.issuer, reversible=False)
                for one in came
            ],
            *(_credit(rule, credit, committed.amount if committed.kind == "earn" else 0, situation) if flow.tier_credit else ()),
        ]  # fmt: skip

    def _void(self, voided: Voided, situation: Situation) -> list[Effect]:
        row = situation.own.get(TRANSFER, {}).get(STATE)
        if row is not None and row["state"] != "voided":
            raise TransferClosed(f"transfer {voided.transfer} was committed")
        rule, gone = "coalition.void", {"state": "voided", "source": voided.partner, "target": self.settings.brand}
        told = {"act": "voided", "partner": voided.partner, "transfer": voided.transfer}
        return [self._say(rule, told), Put(rule=rule, key=_key(voided), name=STATE, value=gone)]

    # -- afterwards, at both ----------------------------------------------------------------------------------------------

    def _return(self, back: Returned, event: Event, situation: Situation) -> list[Effect]:
        row = situation.own.get(TRANSFER, {}).get(STATE)
        if row is None or row["state"] not in ("committed", "confirmed"):
            raise UnknownTransfer(pointer="/data/transfer")
        if row["kind"] == "convert":
            raise OutsideTerms("points that were converted do not go back by a return; convert them back")
        before, pair = row["returned"], _pair(situation)
        if not before < back.total <= row["amount"]:
            raise Mismatch(
                f"{before} of {row['amount']} has come back; {back.total} is not more", pointer="/data/total"
            )
        source = row["state"] == "confirmed"
        period = back.period or rules.period_for(situation.now, pair.closed)
        rules.check_period(period if back.period or not source else "", pair, row["period"], situation.now)
        flow = _flow(row)
        owed, gets = rules.returned(flow, row["amount"], before, back.total)
        rule = "coalition.return"
        effects: list[Effect] = []
        if source and row["kind"] == "redeem" and event.member:
            effects.append(Restore(rule=rule, entry=row["entry"], of_rule="coalition.hold", amount=back.total - before))
        if not source and row["kind"] == "earn" and gets and event.member:
            effects.append(Revoke(rule=rule, entry=row["entry"], of_rule="coalition.earn", amount=gets))
        if not source and row["kind"] == "earn" and flow.tier_credit and event.member:
            uncounted = rules.Uncounted(gets, back.total - before).plus(_uncounted(situation))
            effects.append(Put(rule=rule, name=UNCOUNTED, value=[*uncounted]))
        told = _told(back, {**row, "period": period, "owed": -owed, "amount": before - back.total, "gets": -gets})
        effects += [
            self._say(
                rule,
                {
                    "act": "returned",
                    **told,
                    "n": back.total,
                    "before": before,
                    "role": "source" if source else "target",
                },
            ),
            Put(rule=rule, key=_key(back), name=STATE, value={**row, "returned": back.total}),
        ]
        if source:
            effects.append(
                Put(
                    rule=rule,
                    key=f"pair/{back.partner}",
                    name=STATE,
                    value={**pair.document(), "open": pair.open - owed},
                )
            )
        return effects

    def _close(self, closed: Closed, situation: Situation) -> list[Effect]:
        self._known(closed.partner)
        rule, pair = "coalition.close", _pair(situation)
        if closed.period <= pair.closed:
            raise TransferClosed(f"{pair.closed} is closed already")
        month = rules.month_of(situation.now)
        if closed.period > month or (closed.period == month and not closed.early):
            raise OutsideTerms(f"{closed.period} is not over", pointer="/data/period")
        if any(month <= closed.period for month in pair.held):
            raise Mismatch("transfers of that time still wait for an answer")
        return [
            self._say(rule, {"act": "closed", "partner": closed.partner, "period": closed.period}),
            Put(
                rule=rule, key=f"pair/{closed.partner}", name=STATE, value={**pair.document(), "closed": closed.period}
            ),
        ]

    def _pay(self, paid: Paid, situation: Situation) -> list[Effect]:
        self._known(paid.partner)
        rule, pair = "coalition.pay", _pair(situation)
        if paid.period > pair.closed:
            raise OutsideTerms(f"{paid.period} is not closed", pointer="/data/period")
        if paid.period <= pair.paid:
            raise TransferClosed(f"{pair.paid} was paid already")
        told = {"act": "paid", "partner": paid.partner, "period": paid.period, "amount": paid.amount}
        rest = {**pair.document(), "open": pair.open - paid.amount, "paid": paid.period}
        return [self._say(rule, told), Put(rule=rule, key=f"pair/{paid.partner}", name=STATE, value=rest)]

    # -- small things -------------------------------------------------------------------------------------------------------

    def _say(self, rule: str, data: Mapping[str, Any]) -> Spend:
        """Takes nothing and says in the explanation what was done: from there the books of the coalition are made."""
        return Spend(rule=rule, unit=self.settings.unit, amount=0, data=data)

    def _row(self, situation: Situation, role: str, state: str) -> dict[str, Any]:
        row = situation.own.get(TRANSFER, {}).get(STATE)
        if row is None or row[role] != self.settings.brand:
            raise UnknownTransfer(pointer="/data/transfer")
        if row["state"] != state:
            raise TransferClosed(f"the transfer is {row['state']}")
        return dict(row)


def _sent(partner: str) -> str:
    return f"coalition.sent.{partner}"


def _uncounted(situation: Situation) -> rules.Uncounted:
    return rules.Uncounted(*(situation.own.get(MEMBER, {}).get(UNCOUNTED) or (0, 0)))


def _credit(rule: str, points: int, spent: int, situation: Situation) -> list[Effect]:
    """What counts for tiers: points that came over, and minor units spent at the partner; less what came back before."""
    before = _uncounted(situation)
    counted, left = before.set_off(points, spent)
    counts: list[Effect] = [
        Count(rule=rule, counter=counter, window=window, amount=amount)
        for counter, amount in zip((CREDIT, SPEND), counted, strict=True) if amount
        for window in CREDIT_WINDOWS
    ]  # fmt: skip
    return counts if left == before else [*counts, Put(rule=rule, name=UNCOUNTED, value=[*left] if any(left) else None)]


def _key(facts: Any) -> str:
    return f"transfer/{facts.partner}/{facts.transfer}"


def _pair(situation: Situation) -> Pair:
    return msgspec.convert(situation.own.get(PAIR, {}).get(STATE) or {}, type=Pair)


def _told(facts: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """A transfer as both sides' books know it."""
    told = {
        name: row[name]
        for name in ("kind", "source", "target", "amount", "gets", "owed", "agreement", "period")
        if name in row
    }
    return {
        "partner": facts.partner,
        "transfer": facts.transfer,
        "member": row.get("member", 0),
        "at": row["at"],
        **told,
    }


_TERMS: Final = ("kind", "source", "target", "rate", "price", "rounds_for", "price_for", "tier_credit")


def _kept(flow: Flow) -> dict[str, Any]:
    return {name: getattr(flow, name) for name in _TERMS}


def _flow(row: Mapping[str, Any]) -> Flow:
    return msgspec.convert(row["terms"], type=Flow)
