"""What is remembered of a member, a device, a cashier or an address to judge the next event.  Pure, small, bounded.

A memory is one own row, written with the event that it remembers.  Times are seconds since 1970: of the event, as its
source says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

HOUR: Final = 3_600
DAY: Final = 86_400
#: How long single events are remembered, and how many at most.
SPAN: Final = 2 * DAY
MOST: Final = 48
#: Devices of a member that are remembered.
DEVICES: Final = 6
#: A gap that is worth remembering, and for how long the member counts as just awoken.
GAP: Final = 14 * DAY
AWAKE: Final = 2 * DAY
#: A device is new for so long.
NEW: Final = 7 * DAY
#: The usual amount moves by this part of each difference.
INERTIA: Final = 8


class Seen(NamedTuple):
    """One event in memory."""

    at: int
    what: str  #: buy, spend, give, login, fail, back, or another kind by its name
    store: str
    device: str
    points: int  #: above 0 given to the member, below 0 taken
    cents: int


class Memory(NamedTuple):
    """What is remembered of a member."""

    last: int = 0  #: when the member did something; 0: never, as far as is known
    gap: int = 0  #: the last long silence, in seconds ...
    woke: int = 0  #: ... and when it ended
    bought: int = 0  #: purchases so far
    usual: int = 0  #: the usual purchase, in minor units
    sold: int = 0  #: bought so far, in minor units
    returned: int = 0  #: of that returned
    returns: int = 0
    devices: tuple[tuple[str, int], ...] = ()  #: with when each was first seen, oldest first
    events: tuple[Seen, ...] = ()  #: of the last days, in the order they came

    def since(self, at: int, span: int, *whats: str) -> Iterator[Seen]:
        """What happened in the *span* seconds before *at*, that moment included."""
        for seen in self.events:
            if at - span < seen.at <= at and (not whats or seen.what in whats):
                yield seen


#: What failed, or what others did: the member was not active by it.
PASSIVE: Final = frozenset(("fail", "back"))


def read_memory(value: Any) -> Memory:
    """A memory as it was written; nothing if nothing is known."""
    if not value:
        return Memory()
    *numbers, devices, events = value
    last, gap, woke, bought, usual, sold, returned, returns = numbers
    return Memory(
        last, gap, woke, bought, usual, sold, returned, returns,
        tuple([(name, at) for name, at in devices]), tuple([Seen(*one) for one in events]),
    )  # fmt: skip


def remember(memory: Memory, seen: Seen, *, returned: int = 0) -> Memory:
    """The memory after one more event.

    Late events join what is remembered and change neither the last activity nor the silences.
    """
    latest = max(memory.last, seen.at)
    events = (*[one for one in memory.events if one.at > latest - SPAN], seen)
    if len(events) > MOST:
        events = _spare(events)
    last, gap, woke = memory.last, memory.gap, memory.woke
    if seen.what not in PASSIVE and seen.at > last:
        if last and seen.at - last >= GAP:
            gap, woke = seen.at - last, seen.at
        last = seen.at
    devices = memory.devices
    if seen.device and seen.what not in ("buy", "fail", "back") and seen.device not in [name for name, _ in devices]:
        devices = (*devices, (seen.device, seen.at))[-DEVICES:]
    bought, usual, sold = memory.bought, memory.usual, memory.sold
    if seen.what == "buy":
        bought, sold = bought + 1, sold + seen.cents
        # the first purchases are averaged, later ones move the average a little; an outlier moves it no further than ten times
        share = min(bought, INERTIA)
        usual += (min(seen.cents, 10 * usual if bought > INERTIA else seen.cents) - usual) // share
    return Memory(
        last,
        gap,
        woke,
        bought,
        usual,
        sold,
        memory.returned + returned,
        memory.returns + (returned > 0),
        devices,
        events,
    )


def written(memory: Memory) -> list[Any]:
    """A memory as it is kept: a list of lists."""
    *numbers, devices, events = memory
    return [*numbers, [list(one) for one in devices], [list(one) for one in events]]


def _spare(events: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """One event less: a flood of logins makes nobody forget what was spent."""
    for place, seen in enumerate(events):
        if seen.what in ("login", "fail"):
            return (*events[:place], *events[place + 1 :])
    return events[1:]


class Touch(NamedTuple):
    """Who was where: one event in the memory of a device, a cashier or an address."""

    at: int
    member: int
    what: str


def read_touches(value: Any) -> tuple[Touch, ...]:
    """What is remembered under a shared key."""
    return tuple([Touch(*one) for one in value or ()])


def touched(touches: Iterable[Touch], touch: Touch) -> tuple[Touch, ...]:
    """One more; of a day, and at most so many."""
    return (*[one for one in touches if one.at > touch.at - DAY], touch)[-2 * MOST :]
