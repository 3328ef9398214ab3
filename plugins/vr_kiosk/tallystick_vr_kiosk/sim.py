"""A device in Python: for sessions that are played again, for load, and as an example of how a device speaks.

A session is a file of JSON lines, one thing that happened each: ``{"after": 2.5, "kind": "identify", "data": {...}}``.
``after`` is seconds since the line before.  In ``data``, ``"session": "$name"`` stands for the session that the line with
``"as": "name"`` opened, and ``"$code"`` and ``"$pin"`` for what a member shows: neither is written into a session.
"""

from __future__ import annotations

import base64
import shlex
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, get_args

import attrs
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct, structs

from tallystick.errors import InvalidRequest

from .frames import NOTHING, Kind, Pen

#: What a session does not say of a member.
SECRET: Final = ("code", "phone", "pin")
NOTHING_KEPT: Final[Mapping[str, str]] = MappingProxyType({})

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
    forgotten: int = 0  #: frames that are in the history no more
    printer: Callable[[bytes], object] | None = None  #: takes what an ESC/POS printer is to be sent

    @staticmethod
    def make(id: str, epoch: int, key: Ed25519PrivateKey, line: Line, clock: Callable[[], datetime]) -> Device:
        """A device that was just paired."""
        return Device(Pen(id, epoch, key, counter=0, last=NOTHING), line, clock)

    def say(
        self, kind: str, data: dict[str, Any], *, operation: str = "", offline: bool = False
    ) -> dict[str, Any] | None:
        """Say something; the answer, or None if it waits in the queue."""
        if self.printer is not None:
            data = {**data, **{"beat": {"printer": "escpos"}, "redeem": {"receipt": "escpos"}}.get(kind, {})}
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
                missing = found["expected"] - 1 - self.forgotten
                if missing < 0:
                    raise InvalidRequest("the house lacks frames that this device has forgotten; pair it anew")
                self.queue[:0] = self.history[missing : found["counter"] - 1 - self.forgotten]
                continue
            self.queue.pop(0)
            self.answers.append(found)
            self._print(found.get("said", {}))
        return found

    def forget(self) -> None:
        """Keep no frame that was answered; a device that runs for months must not grow."""
        if not self.queue:
            self.forgotten += len(self.history)
            self.history.clear()
            self.answers.clear()

    def _print(self, said: Mapping[str, Any]) -> None:
        """Print what an answer brings; of a command the house hears what came of it."""
        if self.printer is None:
            return
        if receipt := said.get("receipt"):
            self.printer(base64.b64decode(receipt))
        for command in said.get("commands", ()):
            if receipt := command.get("escpos"):
                try:
                    self.printer(base64.b64decode(receipt))
                    done = {"command": command["id"], "done": True, "said": "printed"}
                except OSError as error:  # out of paper, switched off
                    done = {"command": command["id"], "done": False, "said": str(error)[:200]}
                self.queue.append(self.pen.write("done", done, at=self.clock()))
                self.history.append(self.queue[-1])


def network_printer(address: str) -> Callable[[bytes], None]:
    """An ESC/POS printer in the network, ``host:9100``.  Raises InvalidRequest if it is not there."""
    host, _, port = address.partition(":")

    def send(paper: bytes) -> None:
        with socket.create_connection((host, int(port or 9100)), timeout=10) as printer:
            printer.sendall(paper)

    try:
        send(b"")
    except (ValueError, OSError):
        raise InvalidRequest(f"there is no printer at {address!r}") from None
    return send


def stand_by(device: Device, ended: Callable[[float], bool], pause: float = 3.0) -> int:
    """Let a device with a printer print what the house sends it, until *ended* says so; how many receipts there were.

    It says every *pause* seconds that it is there, and *ended* is asked with them.
    """
    receipts = 0
    while True:
        device.say("beat", {"version": "printer"})
        receipts += sum(
            bool(one.get("escpos")) for told in device.answers for one in told.get("said", {}).get("commands", ())
        )
        device.forget()
        if ended(pause):
            return receipts


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


def read_words(text: str) -> tuple[Happened, dict[str, str]]:
    """What somebody types: ``redeem reward=coffee pin=4711``; and what a session keeps to itself of it.

    The parts of an event beside its ``type`` are its facts.  Raises InvalidRequest.

    >>> read_words("event type=vr_kiosk.touched showroom=spring spot=lamp")[0].data["facts"]
    {'showroom': 'spring', 'spot': 'lamp'}
    """
    try:
        kind, *parts = shlex.split(text)
        said = dict(part.split("=", 1) for part in parts)
    except ValueError:
        raise InvalidRequest(f"{text!r}: expected words such as: redeem reward=coffee") from None
    if kind not in get_args(Kind) or kind == "raw":
        raise InvalidRequest(f"{kind!r}: expected {', '.join(one for one in get_args(Kind) if one != 'raw')}")
    offline = said.pop("offline", "") == "yes"
    kept = {f"${name}": said[name] for name in SECRET if name in said}
    data: dict[str, Any] = {name: f"${name}" if name in SECRET else value for name, value in said.items()}
    if kind == "event":
        data = {"type": data.pop("type", ""), "facts": data}
    if kind in ("event", "redeem", "end"):
        data["session"] = "$visit"
    return Happened(kind=kind, data=data, offline=offline, as_="visit" if kind == "identify" else ""), kept


def record(
    lines: Iterable[str], device: Device, file: IO[bytes], clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[Happened, dict[str, Any] | None]]:
    """Let the device do what is typed, and write it down with its pauses, so that it can be played again."""
    sessions: dict[str, str] = {}
    last = clock()
    for text in lines:
        if not text.strip():
            continue
        happened, kept = read_words(text)
        happened = structs.replace(happened, after=round(clock() - last, 1))
        last = clock()
        file.write(msgspec.json.encode(happened) + b"\n")
        file.flush()
        yield from play([happened], device, fast=True, names=sessions, kept=kept)


def play(
    session: Iterable[Happened], device: Device, *, fast: bool = False, names: dict[str, str] | None = None,
    kept: Mapping[str, str] = NOTHING_KEPT,
) -> Iterator[tuple[Happened, dict[str, Any] | None]]:  # fmt: skip
    """Let the device do again what happened; with *fast*, without waiting in between.

    *names* are sessions opened before, and *kept* what sessions do not say: ``$code`` and ``$pin``.
    """
    sessions = {} if names is None else names
    for happened in session:
        if not fast and happened.after:
            time.sleep(min(happened.after, 60.0))
        data = {
            name: kept.get(value, sessions.get(value[1:], value))
            if isinstance(value, str) and value[:1] == "$"
            else value
            for name, value in happened.data.items()
        }
        answer = device.say(happened.kind, data, offline=happened.offline)
        if happened.as_:
            sessions[happened.as_] = f"op-{device.pen.counter}"
        yield happened, answer
