"""What a broken plugin kept from a member, made good later: what was seen then, and the difference.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from .breaker import Skipped
from .effects import Command, Effect, Emit, Extend, Grant, Notify, Put, Restock, SetTier, Take
from .events import Event, Facts
from .hookspecs import ON_FAILURE
from .ledger import Record, Step, member_name, parse_member
from .page import GAINS
from .settle import Posting, plugin_of
from .situation import Balance, Member, Situation

#: The kind the house makes itself when it makes good; no door takes it.
REPAIRED_KIND: Final = "event.repaired"
#: Hooks whose part can be made good later.
REPAIRABLE: Final = frozenset(hook for hook, policy in ON_FAILURE.items() if policy == "skip_and_repair")
#: What a plugin proposes besides gains and counts, as far as it takes nothing from a member.
BESIDE: Final = (Put, SetTier, Extend, Notify, Command, Emit, Take, Restock)


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What plugins saw of an event in which one of them was passed over: kept sealed until it is made good.

    What a plugin keeps for itself is only looked at for those that did not fail: to one that failed the event comes late.
    """

    skipped: tuple[Skipped, ...] = ()
    member: Member | None = None
    others: Mapping[str, int] = {}  #: further members the event names, by field
    views: tuple[Member, ...] = ()  #: those members as they were
    balances: Mapping[str, Balance] = {}
    counters: tuple[tuple[str, str, int], ...] = ()
    own: Mapping[str, Mapping[str, Mapping[str, Any]]] = {}  #: plugin -> key template -> its rows
    outcome: Mapping[str, int] | None = None  #: what `react` saw
    returned: tuple[int, int] = (0, 0)  #: of a return: what had come back of the order before it, and with it

    def failed(self, *hooks: str) -> frozenset[str]:
        """Plugins that were passed over in one of *hooks*."""
        return frozenset(each.plugin for each in self.skipped if each.hook in hooks)


class Mending(Facts, frozen=True):
    """Make an entry good.  Only the house says so."""

    entry: str
    at: int  #: when the event happened: the settings of then judge it again
    kept: Kept


def repairable(skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """Those whose part can be made good."""
    return tuple([each for each in skipped if each.hook in REPAIRABLE])


def keep(
    skipped: Sequence[Skipped],
    event: Event,
    situation: Situation,
    own: Mapping[str, Situation],
    *,
    outcome: Mapping[str, int] | None = None,
    returned: tuple[int, int] = (0, 0),
) -> bytes:
    """What is to be kept, as JSON; empty if nothing can be made good."""
    owing = repairable(skipped)
    if not owing:
        return b""
    kept = Kept(
        skipped=owing,
        member=situation.member,
        others=dict(event.others),
        views=tuple(situation.others.values()),
        balances=dict(situation.balances),
        counters=tuple([(name, window, value) for (name, window), value in situation.counters.items()]),
        own={plugin: {key: dict(rows) for key, rows in private.own.items()} for plugin, private in own.items()},
        outcome=None if outcome is None else dict(outcome),
        returned=returned,
    )
    return msgspec.json.encode(kept)


def read_kept(text: bytes) -> Kept:
    """What :func:`keep` wrote."""
    return msgspec.json.decode(text, type=Kept)


def difference(
    record: Record,
    postings: Iterable[Posting],
    versions: Mapping[str, str],
    who: Callable[[int], int],
) -> list[tuple[Posting, Step]]:
    """By how much *postings* give more than *record* gave, per member and unit; each posting with its step.

    Where one rule would give more and another less only the sum counts: it is the least that the rules that give more can
    be cut to.  What plugins gave that do not run any more (they are not in *versions*) stays out of it.
    """
    own = parse_member(record.member) or 0
    had: dict[tuple[int, str, str], int] = {}
    for step in record.explanation:
        if step.effect in GAINS and plugin_of(step.rule) in versions:
            key = (who(parse_member(step.member) or own if step.member else own), step.unit, step.rule)
            had[key] = had.get(key, 0) + step.amount
    room: dict[tuple[int, str], int] = {}
    for (member, unit, _), amount in had.items():
        room[member, unit] = room.get((member, unit), 0) - amount
    new = [(who(posting.gain.to or own), posting.gain.unit, posting) for posting in postings]
    for member, unit, posting in new:
        room[member, unit] = room.get((member, unit), 0) + posting.amount
    found = []
    for member, unit, posting in new:
        known = min(posting.amount, had.get((member, unit, posting.rule), 0))
        if known:
            had[member, unit, posting.rule] -= known
        amount = min(posting.amount - known, room[member, unit])
        if amount > 0:
            room[member, unit] -= amount
            found.append(
                (Posting(posting.rule, amount, posting.gain, posting.weights), _step(posting, amount, versions))
            )
    return found


#: member, counter, grain, first day, amount, mode: as records have them
Counted = tuple[int, str, str, int, int, str]


def counts(
    had: Sequence[Counted], now: Sequence[Counted], plugins: frozenset[str], who: Callable[[int], int], *, whole: bool
) -> list[Counted]:
    """What is to be counted besides what was counted: more by anybody, more or less by *plugins*.

    *whole* False: only what *plugins* count was asked for again.
    """
    left: dict[tuple[int, str, str, int], int] = {}
    for member, counter, grain, start, amount, _ in had:
        key = (who(member), counter, grain, start)
        left[key] = left.get(key, 0) + amount
    found = []
    for member, counter, grain, start, amount, mode in now:
        late = counter.removeprefix("cap:").partition(".")[0] in plugins
        known = left.pop((member, counter, grain, start), 0)
        if late or (whole and amount > known):
            found.append((member, counter, grain, start, amount - known, mode))
    return [each for each in found if each[4]]


def _step(posting: Posting, amount: int, versions: Mapping[str, str]) -> Step:
    gain = posting.gain
    effect = "multiply" if posting.rule != gain.rule else "grant" if type(gain) is Grant else "bonus"
    return Step(
        rule=posting.rule, effect=effect, version=versions.get(plugin_of(posting.rule), ""), unit=gain.unit, amount=amount,
        note="repaired", lines=posting.weights, fixed=not gain.reversible,
        data=gain.data if posting.rule == gain.rule else None, member=member_name(gain.to) if gain.to else "",
    )  # fmt: skip


def beside(effects: Iterable[Effect], plugins: frozenset[str]) -> list[Effect]:
    """What *plugins* propose besides gains and counts."""
    return [effect for effect in effects if isinstance(effect, BESIDE) and plugin_of(effect.rule) in plugins]
