"""The watches: what is known of cashiers, devices, members, inviters and rings after the commit, and who stands out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple

from tallystick.ledger import member_name
from tallystick.rules import RuleSet, RuleText, compile_rules
from tallystick.situation import Programme

from . import store
from .rings import Gift, graph, ring_through
from .scope import scope_of_watch
from .settings import Settings, Watch
from .signals import FOUND
from .store import Sum, Trace

DAY: Final = 86_400
#: How far each kind of subject is looked back at, in days.
REACH: Final[Mapping[str, int]] = {"cashier": 30, "store": 30, "device": 7, "address": 7, "member": 90, "inviter": 30, "ring": 14}  # fmt: skip
#: Spending so soon after a purchase belongs to it.
SOON: Final = DAY
#: Whoever was invited and bought for less than that, in minor units, hardly bought.
HARDLY: Final = 1_000


class Known(NamedTuple):
    """What is known of one subject: its numbers, and the members whom it concerns."""

    subject: str
    signals: Mapping[str, int]
    members: tuple[int, ...]


class Finding(NamedTuple):
    """A watch found something."""

    watch: Watch
    subject: str
    members: tuple[int, ...]
    reason: str
    at: int  #: the event with which it became known


class Watches:
    """All watches of one tenant, compiled."""

    def __init__(self, settings: Settings, programme: Programme) -> None:
        self.programme, self._limits = programme, settings.limits
        self._by: dict[str, tuple[tuple[Watch, ...], RuleSet]] = {}
        for about in FOUND:
            found = tuple([watch for watch in settings.watches if watch.subject == about])
            if found:
                scope = scope_of_watch(about, settings.limits, programme.zone)
                texts = [RuleText(watch.name, when=watch.when) for watch in found]
                self._by[about] = (found, compile_rules(texts, scope))

    def look(self, conn: Any, traces: Iterable[Trace]) -> Iterator[Finding]:
        """What stands out now that *traces* are known; day by day, each day with what was known at its end."""
        for day in _days(traces, self.programme):
            yield from self._look(conn, day)

    def _look(self, conn: Any, traces: list[Trace]) -> Iterator[Finding]:
        at = store.last_at(traces)
        for about, (watches, rules) in self._by.items():
            subjects = {subject for one in traces if (subject := _TOUCHED[about](one))}
            if not subjects:
                continue
            for known in _KNOWN[about](conn, self.programme.tenant, subjects, at - REACH[about] * DAY, at):
                for firing in rules.fire(signal=known.signals, limit=self._limits):
                    watch = watches[firing.rule]
                    numbers = ", ".join([f"{name} {value}" for name, value in known.signals.items()])
                    reason = f"{watch.reason.in_language(self.programme.language)} {numbers}"
                    yield Finding(watch, known.subject, known.members, reason, at)


def _days(traces: Iterable[Trace], programme: Programme) -> list[list[Trace]]:
    days: dict[Any, list[Trace]] = {}
    for one in traces:
        days.setdefault(datetime.fromtimestamp(one.at, programme.zone).date(), []).append(one)
    return [days[day] for day in sorted(days)]


# --- which subjects a trace touches ------------------------------------------------------------------------------------

_TOUCHED: Final[Mapping[str, Callable[[Trace], Any]]] = {
    "cashier": lambda one: one.cashier,
    "store": lambda one: one.store,
    "device": lambda one: one.device,
    "address": lambda one: one.address,
    # members are looked at when something came back or was given to them
    "member": lambda one: one.member if one.what == "back" else one.other if one.what == "give" else 0,
    "inviter": lambda one: one.other if one.what == "join" else 0,
    "ring": lambda one: (one.member, one.other) if one.what == "give" and one.other else 0,
}


# --- what is known of them -----------------------------------------------------------------------------------------------


def _grouped(found: Iterable[Sum]) -> dict[Any, list[Sum]]:
    groups: dict[Any, list[Sum]] = {}
    for one in found:
        groups.setdefault(one.subject, []).append(one)
    return groups


def _times(found: Iterable[Sum], *whats: str) -> int:
    return sum([one.times for one in found if one.what in whats])


def _taken(found: Iterable[Sum]) -> int:
    return -sum([one.points for one in found if one.points < 0 and one.what in ("spend", "give")])


def _percent(part: int, whole: int) -> int:
    return part * 100 // whole if whole else 0


def _till(about: str) -> Callable[..., Iterator[Known]]:
    """Cashiers and stores."""

    def known(conn: Any, tenant: str, subjects: set[Any], since: int, until: int) -> Iterator[Known]:
        for subject, found in _grouped(store.sums(conn, tenant, about, subjects, since, until)).items():
            sales, returns = _times(found, "buy"), _times(found, "back")
            cents = {what: sum([one.cents for one in found if one.what == what]) for what in ("buy", "back")}
            cards = Counter({one.member: one.times for one in found if one.what == "buy" and one.member})
            (card, top), *_ = cards.most_common(1) or [(0, 0)]
            numbers = {
                "sales": sales, "members": len(cards), "top_sales": top, "top_percent": _percent(top, sales), "returns": returns,
                "returned_percent": _percent(cents["back"], cents["buy"]), "redemptions": _times(found, "spend"),
                "adjusted": sum([one.points for one in found if one.what == "adjust" and one.points > 0]),
                "events": sum([one.times for one in found]), "points": _taken(found),
            }  # fmt: skip
            if about == "store":
                numbers["redemptions_hour"] = _busiest(conn, tenant, subject, until)
            yield Known(
                subject, {name: numbers[name] for name in FOUND[about]}, (card,) if card and about == "cashier" else ()
            )

    return known


def _busiest(conn: Any, tenant: str, subject: str, until: int) -> int:
    """Most redemptions of a store within one hour of the last day."""
    times = [one.at for one in store.traces_of(conn, tenant, "store", [subject], until - DAY, until, "spend")]
    return max([sum(1 for other in times if at - 3_600 < other <= at) for at in times], default=0)


def _place(about: str) -> Callable[..., Iterator[Known]]:
    """Devices and addresses."""

    def known(conn: Any, tenant: str, subjects: set[Any], since: int, until: int) -> Iterator[Known]:
        for subject, found in _grouped(store.sums(conn, tenant, about, subjects, since, until)).items():
            spending = sorted({one.member for one in found if one.what in ("spend", "give")} - {0})
            numbers = {
                "members": len({one.member for one in found} - {0}), "redeeming": len(spending),
                "joined": len({one.member for one in found if one.what == "joined"} - {0}),
                "redemptions": _times(found, "spend", "give"), "points": _taken(found), "events": sum([one.times for one in found]),
            }  # fmt: skip
            yield Known(subject, numbers, tuple(spending))

    return known


def _members(conn: Any, tenant: str, subjects: set[int], since: int, until: int) -> Iterator[Known]:
    mine: dict[int, list[Trace]] = {member: [] for member in subjects}
    for one in store.traces_of(conn, tenant, "member", subjects, since, until):
        mine[one.member].append(one)
    givers: dict[int, set[int]] = {member: set() for member in subjects}
    for one in store.traces_of(conn, tenant, "other", subjects, since, until, "give"):
        givers[one.other].add(one.member)
    for member, found in sorted(mine.items()):
        bought = {one.order_id: one for one in found if one.what == "buy"}
        back = [one for one in found if one.what == "back" and one.order_id in bought]
        spent = [one.at for one in found if one.what == "spend"]
        quick = {
            one.order_id for one in back
            if any(bought[one.order_id].at < at <= min(one.at, bought[one.order_id].at + SOON) for at in spent)
        }  # fmt: skip
        numbers = {
            "purchases": len(bought), "returns": len({one.order_id for one in back}),
            "returned_percent": _percent(sum([one.cents for one in back]), sum([one.cents for one in bought.values()])),
            "redeemed_returns": len(quick), "givers": len(givers[member]),
            "gifts": sum([one.what == "give" for one in found]),
        }  # fmt: skip
        yield Known(member_name(member), numbers, (member,))


def _inviters(conn: Any, tenant: str, subjects: set[int], since: int, until: int) -> Iterator[Known]:
    invited: dict[int, set[int]] = {member: set() for member in subjects}
    for one in store.traces_of(conn, tenant, "other", subjects, since, until, "join"):
        invited[one.other].add(one.member)
    friends = {friend for found in invited.values() for friend in found}
    bought: dict[int, list[int]] = {friend: [] for friend in friends}
    rooms: dict[int, set[str]] = {friend: set() for friend in friends}
    for one in store.traces_of(conn, tenant, "member", friends, since, until, "buy", "joined", "login"):
        if one.what == "buy":
            bought[one.member].append(one.cents)
        else:
            rooms[one.member] |= {f"device/{one.device}", f"address/{one.address}"} - {"device/", "address/"}
    for member, found in sorted(invited.items()):
        idle = [friend for friend in found if len(bought[friend]) < 2 or sum(bought[friend]) < HARDLY]
        together = Counter([room for friend in found for room in rooms[friend]])
        numbers = {
            "invited": len(found), "invited_idle": len(idle), "idle_percent": _percent(len(idle), len(found)),
            "shared": max(together.values(), default=0),
        }  # fmt: skip
        yield Known(member_name(member), numbers, (member, *sorted(found)))


def _rings(conn: Any, tenant: str, subjects: set[tuple[int, int]], since: int, until: int) -> Iterator[Known]:
    gifts = [Gift(one.member, one.other, -one.points) for one in store.gifts(conn, tenant, since, until)]
    given, seen = graph(gifts), set[frozenset[int]]()
    for giver, taker in sorted(subjects):
        ring = ring_through(giver, taker, given)
        if not ring or frozenset(ring) in seen:
            continue
        seen.add(frozenset(ring))
        along = [gift for gift in gifts if (gift.giver, gift.taker) in {*pairwise(ring), (ring[-1], ring[0])}]
        numbers = {"size": len(ring), "points": sum([gift.points for gift in along]), "gifts": len(along)}
        yield Known(member_name(min(ring)), numbers, tuple(sorted(ring)))


_KNOWN: Final[Mapping[str, Callable[..., Iterator[Known]]]] = {
    "cashier": _till("cashier"), "store": _till("store"), "device": _place("device"), "address": _place("address"),
    "member": _members, "inviter": _inviters, "ring": _rings,
}  # fmt: skip
