"""What is remembered of a member, a device, a cashier or an address to judge the next event.  Pure, small, bounded.

A memory is one own row, written with the event that it remembers, as text: the house checks and keeps a text faster than
a tree.  Times are seconds since 1970: of the event, as its source says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec import Struct
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

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
#: What failed, or what others did: the member was not active by it.
PASSIVE: Final = frozenset(("fail", "back"))


class Seen(Struct, frozen=True, array_like=True, gc=False, omit_defaults=True):
    """One event in memory."""

    at: int
    what: str  #: buy, spend, give, login, fail, back, or another kind by its name
    store: str = ""
    device: str = ""
    points: int = 0  #: above 0 given to the member, below 0 taken
    cents: int = 0
    entry: str = ""
    cashier: str = ""
    order: str = ""
    other: int = 0  #: another member whom the event names
    address: str = ""


class Device(Struct, frozen=True, array_like=True, gc=False):
    """A device and when it was first seen with the member."""

    name: str
    since: int


class Memory(Struct, frozen=True, array_like=True):
    """What is remembered of a member."""

    last: int = 0  #: when the member did something; 0: never, as far as is known
    gap: int = 0  #: the last long silence, in seconds ...
    woke: int = 0  #: ... and when it ended
    bought: int = 0  #: purchases so far
    usual: int = 0  #: the usual purchase, in minor units
    sold: int = 0  #: bought so far, in minor units
    returned: int = 0  #: of that returned
    returns: int = 0
    devices: tuple[Device, ...] = ()  #: oldest first
    events: tuple[Seen, ...] = ()  #: of the last days, in the order they came

    def since(self, at: int, span: int, *whats: str) -> Iterator[Seen]:
        """What happened in the *span* seconds before *at*, that moment included."""
        for seen in self.events:
            if at - span < seen.at <= at and (not whats or seen.what in whats):
                yield seen


class Touch(Struct, frozen=True, array_like=True, gc=False):
    """Who was where: one event in the memory of a device, a cashier or an address."""

    at: int
    member: int
    what: str


NOTHING: Final = Memory()
_read: Final = Decoder(Memory).decode
_read_touches: Final = Decoder(tuple[Touch, ...]).decode
_write: Final = Encoder().encode


def read_memory(value: str | None) -> Memory:
    """A memory as it was written; nothing if nothing is known."""
    return _read(value) if value else NOTHING


def read_touches(value: str | None) -> tuple[Touch, ...]:
    """What is remembered under a shared key."""
    return _read_touches(value) if value else ()


def written(value: Any) -> str:
    """A memory as it is kept."""
    return _write(value).decode()


def remember(memory: Memory, seen: Seen, *, returned: int = 0) -> Memory:
    """The memory after one more event.

    Late events join what is remembered and change neither the last activity nor the silences.
    """
    at, last, gap, woke = seen.at, memory.last, memory.gap, memory.woke
    oldest = (last if last > at else at) - SPAN
    events = memory.events
    events = (*[one for one in events if one.at > oldest], seen) if events else (seen,)
    if len(events) > MOST:
        events = _spare(events)
    if at > last and seen.what not in PASSIVE:
        if last and at - last >= GAP:
            gap, woke = at - last, at
        last = at
    if seen.what == "buy":
        bought, cents, usual = memory.bought + 1, seen.cents, memory.usual
        # the first purchases are averaged, later ones move the average a little, and an outlier no further than ten times
        usual += (min(cents, 10 * usual if bought > INERTIA else cents) - usual) // min(bought, INERTIA)
        return Memory(
            last, gap, woke, bought, usual, memory.sold + cents, memory.returned, memory.returns, memory.devices, events
        )
    devices = memory.devices
    if seen.device and seen.what not in PASSIVE and seen.device not in [known.name for known in devices]:
        devices = (*devices, Device(seen.device, at))[-DEVICES:]
    return replace(
        memory, last=last, gap=gap, woke=woke, returned=memory.returned + returned, returns=memory.returns + (returned > 0),
        devices=devices, events=events,
    )  # fmt: skip


def join(one: Memory, other: Memory) -> Memory:
    """What is remembered of two members who turned out to be one."""
    recent = one if one.last >= other.last else other
    since = {device.name: device.since for device in (*other.devices, *one.devices)}
    for device in other.devices:
        since[device.name] = min(since[device.name], device.since)
    devices = sorted([Device(name, at) for name, at in since.items()], key=lambda device: device.since)
    bought = one.bought + other.bought
    return Memory(
        recent.last, recent.gap, recent.woke, bought,
        (one.usual * one.bought + other.usual * other.bought) // bought if bought else 0,
        one.sold + other.sold, one.returned + other.returned, one.returns + other.returns,
        tuple(devices[-DEVICES:]), tuple(sorted((*one.events, *other.events), key=lambda seen: seen.at)[-MOST:]),
    )  # fmt: skip


def _spare(events: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """One event less: a flood of logins makes nobody forget what was spent."""
    for place, seen in enumerate(events):
        if seen.what in ("login", "fail"):
            return (*events[:place], *events[place + 1 :])
    return events[1:]


def touched(touches: Iterable[Touch], touch: Touch) -> tuple[Touch, ...]:
    """One more; of a day, and at most so many."""
    return (*[one for one in touches if one.at > touch.at - DAY], touch)[-2 * MOST :]
