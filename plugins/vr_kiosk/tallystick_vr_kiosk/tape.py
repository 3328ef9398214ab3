"""What a device sent, as a session that can be played again: nothing in it that is a member's, and pauses as they were.

The desk writes down what the frames of a recorded device say; whoever records takes it from there, in whatever process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import attrs
import msgspec

from tallystick.ledger import instant

from . import care, store
from .frames import Frame
from .sim import SECRET, Happened

_SECOND: Final = 1_000_000
#: For how long a recorder that died leaves its device recorded, in microseconds.
LEASE: Final = 60 * _SECOND
#: What a simulated device cannot do again: answer commands of this one, print its receipts, give out of its allowance, or
#: pass on bytes that may be anybody's.
_OWN: Final = ("done", "print", "raw")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A frame as it is written down."""

    kind: str
    at: int
    operation: str
    offline: bool
    data: dict[str, Any]


_encode = msgspec.json.Encoder(order="deterministic").encode


def line_of(frame: Frame) -> bytes | None:
    """What is written down of a frame; None if it cannot be done again."""
    if frame.kind in _OWN or frame.data.get("grant"):
        return None
    data = {name: f"${name}" if name in SECRET else value for name, value in frame.data.items()}
    return _encode(
        Line(kind=frame.kind, at=instant(frame.at), operation=frame.operation, offline=frame.offline, data=data)
    )


@attrs.define
class Tape:
    """Puts lines together to a session: each visit by a name of its own, each pause by the device's own clock."""

    _visits: dict[str, str] = attrs.Factory(dict)
    _last: int = 0

    def read(self, lines: Iterable[str]) -> Iterator[Happened]:
        """What happened, for a session's file; what belongs to a visit that began before is left out."""
        for text in lines:
            line = msgspec.json.decode(text, type=Line)
            data = dict(line.data)
            if line.kind == "identify":
                self._visits[line.operation] = f"visit{len(self._visits) + 1}"
            elif "session" in data:
                if data["session"] not in self._visits:
                    continue
                data["session"] = f"${self._visits[data['session']]}"
            pause = (line.at - self._last) / _SECOND if self._last else 0.0
            self._last = max(line.at, self._last)
            as_ = self._visits[line.operation] if line.kind == "identify" else ""
            yield Happened(kind=line.kind, after=max(0.0, round(pause, 1)), data=data, as_=as_, offline=line.offline)


def listen(errand: care.Errand, device: str, ended: Callable[[float], bool]) -> Iterator[Happened]:
    """What a paired device sends from now on, until *ended* says so, which is asked every second with the seconds to wait.

    Raises NotFound.
    """
    house, tape = errand.house, Tape()
    with house.db.begin() as conn:
        care.find(conn, errand.tenant, device)
        store.take_lines(conn, errand.tenant, device)  # what a recorder that died left behind
    over = False
    try:
        while not over:
            with house.db.begin() as conn:
                store.change_device(conn, errand.tenant, device, recorded_until=house.clock() + LEASE)
            over = ended(1.0)
            with house.db.begin() as conn:
                lines = store.take_lines(conn, errand.tenant, device)
            yield from tape.read(lines)
    finally:
        with house.db.begin() as conn:
            store.change_device(conn, errand.tenant, device, recorded_until=0)
            store.take_lines(conn, errand.tenant, device)
