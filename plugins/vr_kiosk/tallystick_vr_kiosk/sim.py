"""A device in Python: for sessions that are played again, for load, and as an example of how a device speaks.

A session is a file of JSON lines, one thing that happened each: ``{"after": 2.5, "kind": "identify", "data": {...}}``.
``after`` is seconds since the line before.  In ``data``, ``"session": "$name"`` stands for the session that the line with
``"as": "name"`` opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from tallystick.errors import InvalidRequest

from .frames import NOTHING, Pen

#: Takes a frame to the house; the answer's bytes.  Raises ConnectionError where there is no network.
Line = Callable[[bytes], bytes]


class Happened(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"as_": "as"}):
    """One line of a session."""

    kind: str
    after: float = 0.0
    data: dict[str, Any] = {}
    as_: str = ""
    offline: bool = False


@attrs.define
class Device:
    """A paired device with its queue: what could not be said is said later, in its order."""

    pen: Pen
    line: Line
    clock: Callable[[], datetime]
    queue: list[bytes] = attrs.Factory(list)
    answers: list[dict[str, Any]] = attrs.Factory(list)
    history: list[bytes] = attrs.Factory(list)

    @staticmethod
    def make(id: str, epoch: int, key: Ed25519PrivateKey, line: Line, clock: Callable[[], datetime]) -> Device:
        """A device that was just paired."""
        return Device(Pen(id, epoch, key, counter=0, last=NOTHING), line, clock)

    def say(
        self, kind: str, data: dict[str, Any], *, operation: str = "", offline: bool = False
    ) -> dict[str, Any] | None:
        """Say something; the answer, or None if it waits in the queue."""
        body = self.pen.write(kind, data, at=self.clock(), operation=operation, offline=offline)
        self.queue.append(body)
        self.history.append(body)
        if offline:
            return None
        return self.sync()

    def sync(self) -> dict[str, Any] | None:
        """Bring what waits in the queue; the last answer, or None if there is no network yet."""
        found = None
        while self.queue:
            try:
                found = msgspec.json.decode(self.line(self.queue[0]))
            except ConnectionError:
                return None
            if found.get("status") == "gap":
                self.queue[:0] = self.history[found["expected"] - 1 : found["counter"] - 1]
                continue
            self.queue.pop(0)
            self.answers.append(found)
        return found


def read_session(file: Path) -> list[Happened]:
    """The lines of a session.  Raises InvalidRequest, naming the line."""
    found = []
    for number, text in enumerate(file.read_bytes().splitlines(), 1):
        if text.strip():
            try:
                found.append(msgspec.json.decode(text, type=Happened))
            except msgspec.DecodeError as error:
                raise InvalidRequest(f"{file.name}, line {number}: {error}") from None
    return found


def play(
    session: Iterable[Happened], device: Device, *, fast: bool = False
) -> Iterator[tuple[Happened, dict[str, Any] | None]]:
    """Let the device do again what happened; with *fast*, without waiting in between."""
    sessions: dict[str, str] = {}
    for happened in session:
        if not fast and happened.after:
            time.sleep(min(happened.after, 60.0))
        data = {
            name: sessions.get(value[1:], value) if isinstance(value, str) and value[:1] == "$" else value
            for name, value in happened.data.items()
        }
        answer = device.say(happened.kind, data, offline=happened.offline)
        if happened.as_:
            sessions[happened.as_] = f"op-{device.pen.counter}"
        yield happened, answer
