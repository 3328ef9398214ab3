"""The doorman of risk: looks at each event before it is written, and learns from what was committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from tallystick.effects import Bonus, Effect, Grant, Move, Put, Spend, Verdict
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.rules import RuleSet
from tallystick.situation import Member, Needs, Original, Programme, Situation

from . import clerk
from . import store as rows_of
from .errors import UnknownCapability
from .events import Flagged, Restored, Restricted
from .memory import Memory, Seen, read_memory, read_touches, remember, touched, written
from .memory import Touch as Touched
from .memory import join as _join_memories
from .policies import Policies
from .settings import ADJUSTED, GIFTED, OBSERVED, PURCHASE, REDEEMED, RESTRICTED, Settings
from .signals import Moment, distance
from .watches import Watches

MEMBER: Final = "{member}"
#: The shared rows that an event of a kind may touch, by what they are about.
ROWS: Final[Mapping[str, Mapping[str, str]]] = {
    REDEEMED: {"device": "device/{facts.device}", "cashier": "cashier/{facts.cashier}"},
    GIFTED: {"device": "device/{facts.device}"},
    OBSERVED: {"device": "device/{facts.device}", "address": "address/{facts.address}"},
}
#: Whose memories an event may read beside its member's, in the order in which a moment has them.
SHARED: Final = ("device", "cashier", "address")
#: How events are called in memory.
WHAT: Final = {PURCHASE: "buy", REDEEMED: "spend", GIFTED: "give", ADJUSTED: "adjust", "member.enrolled": "join"}
ACTIONS: Final = {"login_failed": "fail", "joined": "joined", "login": "login"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: Final[Mapping[str, Any]] = {}
RETURNS: Final = frozenset(("purchase.refunded", "purchase.cancelled"))


class Looking(NamedTuple):
    """What is looked at when an event of one kind comes."""

    policies: Policies | None
    rows: Mapping[str, str]  #: of a device, a cashier, an address: where it is remembered
    capabilities: tuple[str, ...]  #: what may be restricted and would forbid it


class Risk:
    """The plugin as one merchant has set it up; everything that can be worked out before an event comes, is."""

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.settings, self.programme = settings, programme
        self._policies: dict[str, Policies | None] = {}
        self._looking: dict[str, Looking | None] = {}
        self.watches = Watches(settings, programme)
        names = sorted(settings.stores)
        self._places = {
            (one, other): distance(settings.stores[one], settings.stores[other])
            for one in names for other in names if one != other
        }  # fmt: skip
        self._capability = {
            kind: tuple([name for name, kinds in settings.capabilities.items() if kind in kinds])
            for kind in {kind for kinds in settings.capabilities.values() for kind in kinds}
        }

    def policies(self, kind: str) -> Policies | None:
        """The policies on events of *kind*."""
        if kind not in self._policies:
            found = any(kind in policy.on for policy in self.settings.policies)
            self._policies[kind] = Policies(kind, self.settings, self.programme) if found else None
        return self._policies[kind]

    def rules_about(self, kind: str) -> RuleSet | None:
        """The compiled policies on *kind*, to read them aloud, to check them, to explain them."""
        policies = self.policies(kind)
        return None if policies is None else policies.rules

    def facts_about(self, event: Event, situation: Situation) -> Mapping[str, Any]:
        """What those policies see of one event, by name; of points, what the event itself says."""
        policies, own = self.policies(event.kind), situation.own
        if policies is None:
            return {}
        mine = own.get(MEMBER, _NOTHING)
        points = getattr(event.facts, "points", 0) or 0
        rows = ROWS.get(event.kind, _NOTHING)
        shared = {about: read_touches(own.get(row, _NOTHING).get("seen")) for about, row in rows.items()}
        now = self._moment(
            policies, event, situation.member, mine.get("flags"), self._seen(event, situation, 0), read_memory(mine.get("seen")),
            shared, 0, points,
        )  # fmt: skip
        return policies.facts(event, situation.member, now)

    # -- hooks ------------------------------------------------------------------------------------------------------

    @hookimpl
    def needs(self, kind: str) -> Needs | None:
        if kind.startswith("risk.") and kind != OBSERVED:
            return Needs(own={MEMBER: frozenset(("flags", "restricted"))})
        if self._look(kind) is None:
            return None
        rows = {template: frozenset(("seen",)) for template in ROWS.get(kind, _NOTHING).values()}
        return Needs(own={MEMBER: frozenset(("seen", "flags", "restricted")), **rows})

    @hookimpl
    def redeem(self, event: Event, situation: Situation) -> Sequence[Effect]:
        """Flags and restrictions are remembered with the member."""
        facts, rows = event.facts, situation.own.get(MEMBER, _NOTHING)
        match facts:
            case Flagged():
                flags = {**_in_force(rows.get("flags"), event.at), facts.watch: _seconds(facts.until)}
                return [Put(rule="risk.flagged", name="flags", value=flags)]
            case Restricted():
                for name in facts.capabilities:
                    if name not in self.settings.capabilities:
                        raise UnknownCapability(f"there is no capability {name!r}", pointer="/data/capabilities")
                ends = dict.fromkeys(facts.capabilities, _seconds(facts.until))
                value = {**_in_force(rows.get("restricted"), event.at), **ends}
                return [Put(rule="risk.restricted", name="restricted", value=value)]
            case Restored():
                return [Put(rule="risk.restored", name=name, value=None) for name in ("restricted", "flags")]
        return ()

    @hookimpl
    def review(self, event: Event, situation: Situation, proposals: Sequence[Effect]) -> Sequence[Effect]:
        looking = self._look(event.kind)
        if looking is None:
            return ()
        own, member = situation.own, situation.member
        mine = own.get(MEMBER, _NOTHING) if event.member else _NOTHING
        if (restricted := mine.get("restricted")) and (denied := self._restricted(event, situation, restricted)):
            return [denied]
        given, taken = _amounts(event, proposals)
        seen = self._seen(event, situation, given - taken)
        memory = read_memory(mine.get("seen"))
        shared: Mapping[str, tuple[Touched, ...]] = _NOTHING
        if looking.rows:
            shared = {about: read_touches(own.get(row, _NOTHING).get("seen")) for about, row in looking.rows.items()}
        effects: list[Effect] = []
        if looking.policies is not None:
            now = self._moment(looking.policies, event, member, mine.get("flags"), seen, memory, shared, given, taken)
            found = looking.policies.verdicts(event, member, now)
            if found:
                effects += found
                if any(effect.verdict == "deny" for effect in found):
                    return effects
        if event.member:
            effects.append(Put(rule="risk.seen", name="seen", value=written(remember(memory, seen))))
        else:  # nobody remembers a guest, and watches hear of the sale all the same
            effects.append(Put(rule="risk.seen", key=rows_of.GUESTS, name=situation.entry, value=written(seen)))
        for about, touches in shared.items():
            name = getattr(event.facts, about, "")
            if name:
                value = written(touched(touches, Touched(seen.at, event.member, seen.what)))
                effects.append(Put(rule="risk.seen", key=f"{about}/{name}", name="seen", value=value))
        return effects

    @hookimpl
    def reverse(self, event: Event, original: Original, situation: Situation) -> Sequence[Effect]:
        """What came back is remembered; nobody can hold a return."""
        cents = original.returned - original.returned_before
        seen = replace(self._seen(event, situation, 0), what="back", cents=cents)
        memory = read_memory(situation.own.get(MEMBER, _NOTHING).get("seen"))
        return [Put(rule="risk.seen", name="seen", value=written(remember(memory, seen, returned=cents)))]

    @hookimpl
    def join(self, event: Event, source: Mapping[str, Any], into: Mapping[str, Any]) -> Sequence[Effect]:
        """Two members who are one are remembered as one; nobody gets rid of a restriction or a flag by it."""
        joined = _join_memories(read_memory(source.get("seen")), read_memory(into.get("seen")))
        effects = [Put(rule="risk.joined", name="seen", value=written(joined))]
        for name in ("flags", "restricted"):
            one, other = (_in_force(rows.get(name), event.received) for rows in (source, into))
            if one or other:
                ends = {each: max(one.get(each, 0), other.get(each, 0)) for each in {*one, *other}}
                effects.append(Put(rule="risk.joined", name=name, value=dict(sorted(ends.items()))))
        return effects

    @hookimpl
    def committed(self, batch: Sequence[Any], store: Any) -> None:
        """Learn traces, open cases, see which holds were decided."""
        records = [record for one in batch for record in one.records]
        clerk.take_down(store, self.programme.tenant, self.settings, records)

    @hookimpl
    def export_member(self, member: int, store: Any) -> Mapping[str, Any] | None:
        """Traces and cases."""
        return _everything(store, self.programme.tenant, member)

    @hookimpl
    def erase_member(self, member: int, store: Any) -> bool | None:
        """Forget traces and cases."""
        _forget(store, self.programme.tenant, member)
        return True

    # -- what an event leaves behind ----------------------------------------------------------------------------------

    def _look(self, kind: str) -> Looking | None:
        """What is looked at when an event of *kind* comes; None if it is none of our business."""
        if kind not in self._looking:
            policies, capabilities = self.policies(kind), self._capability.get(kind, ())
            known = kind in WHAT or kind == OBSERVED or kind in RETURNS
            found = Looking(policies, ROWS.get(kind, _NOTHING), capabilities)
            self._looking[kind] = found if known or capabilities or policies is not None else None
        return self._looking[kind]

    def _restricted(self, event: Event, situation: Situation, restricted: Mapping[str, int]) -> Verdict | None:
        names = self._capability.get(event.kind, ())
        held = [name for name in names if name in _in_force(restricted, event.received)]
        if not held:
            return None
        member: Member | None = situation.member
        spoken = (member.language if member is not None else "") or self.programme.language
        until = datetime.fromtimestamp(restricted[held[0]], UTC).isoformat()
        return Verdict(
            rule="risk.restricted", verdict="deny", reason=f"{held[0]} is restricted until {until}",
            gentle=RESTRICTED.in_language(spoken),
        )  # fmt: skip

    def _moment(
        self, policies: Policies, event: Event, member: Member | None, flags: Mapping[str, int] | None, seen: Seen, memory: Memory,
        shared: Mapping[str, tuple[Touched, ...]], given: int, taken: int,
    ) -> Moment:  # fmt: skip
        known = member is not None and policies.reads_age
        return Moment(
            seen.at, event.at, seen.what, event.member, _seconds(member.enrolled_at) if known else 0, memory,  # type: ignore[union-attr]
            seen.store, seen.device, seen.cents, given, taken, len(_in_force(flags, event.at)) if flags else 0,
            self._places, self.programme.zone, *([shared.get(about, ()) for about in SHARED] if shared else ()),
        )  # fmt: skip

    @staticmethod
    def _seen(event: Event, situation: Situation, points: int) -> Seen:
        """What of an event is remembered."""
        facts, kind, at = event.facts, event.kind, _seconds(event.at)
        if kind == PURCHASE:  # its device is the till's, and says nothing about the member
            return Seen(at, "buy", facts.store, "", points, facts.total, situation.entry, facts.cashier, facts.order)
        what = ACTIONS.get(facts.action, facts.action) if kind == OBSERVED else WHAT.get(kind, kind)
        return Seen(
            at, what, getattr(facts, "store", ""), getattr(facts, "device", ""), points, 0, situation.entry,
            getattr(facts, "cashier", "") or getattr(facts, "by", ""), getattr(facts, "order", "") or "",
            next(iter(event.others.values()), 0), getattr(facts, "address", ""),
        )  # fmt: skip


def _amounts(event: Event, proposals: Sequence[Effect]) -> tuple[int, int]:
    """What the event's own member would be given, and what be taken."""
    given = taken = 0
    for effect in proposals:
        kind = type(effect)
        if kind is Grant or kind is Bonus:
            if not effect.to or effect.to == event.member:  # type: ignore[attr-defined]
                given += effect.amount  # type: ignore[attr-defined]
        elif kind is Spend or kind is Move:
            taken += effect.amount  # type: ignore[attr-defined]
    return given, taken


def _seconds(when: datetime) -> int:
    return int(when.timestamp())


def _in_force(ends: Mapping[str, int] | None, when: datetime) -> dict[str, int]:
    """What has not ended at *when*."""
    at = _seconds(when)
    return {name: end for name, end in (ends or _NOTHING).items() if end > at}


# under names of their own: the hooks' argument is called `store`, as the contract has it
_everything, _forget = rows_of.everything, rows_of.forget
