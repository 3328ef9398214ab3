"""What frames ask for: who stands there, what happened, which reward; read and answered in one transaction.

What belongs into the ledger is not written here: it is :class:`Asked` for, and recorded behind the transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import attrs
import msgspec

from tallystick import queries
from tallystick.errors import UnknownEntry
from tallystick.ledger import instant, parse_entry, parse_member

from . import codes, receipts, store
from .errors import (
    AllowanceSpent,
    CodeRefused,
    ConfirmationNeeded,
    NoPrinter,
    NotOffered,
    SessionEnded,
    TooManyTries,
)
from .frames import Frame
from .settings import Reward, Settings
from .store import Connection

_SECOND: Final = 1_000_000
#: Wrong codes a minute, of one device and about one member.
TRIES: Final = 5
#: How long a session lives without a frame, and an offline one by the device's clock, in microseconds.
SESSION: Final = 120 * _SECOND
OFFLINE_SESSION: Final = 600 * _SECOND
#: How long ago a printer may have been heard of to be asked, in microseconds.
HEARD: Final = 60 * _SECOND


class Place(Protocol):
    """Whose devices they are, and when."""

    @property
    def house(self) -> Any: ...
    @property
    def tenant(self) -> str: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def now(self) -> datetime: ...


@attrs.frozen
class Asked:
    """An event that a frame asks to be recorded."""

    frame: Frame
    member: int
    kind: str
    facts: Mapping[str, Any]


@attrs.frozen
class Teller:
    """Answers frames, with everything read that they name."""

    at: Place
    conn: Connection
    sessions: Mapping[str, Any]
    members: Mapping[int, Any]

    @staticmethod
    def open(at: Place, conn: Connection, frames: Sequence[Frame]) -> Teller:
        """Read what *frames* name."""
        sessions = store.load_sessions(conn, at.tenant, [_named(one) for one in frames if one.data.get("session")])
        members = {row.member for row in sessions.values()}
        return Teller(at, conn, sessions, store.members_of(conn, at.tenant, members) if members else {})

    @property
    def _now(self) -> int:
        return instant(self.at.now)

    def ask(self, frame: Frame) -> Asked | dict[str, Any]:
        """What the frame is answered, or what it asks to be recorded.  Raises the refusal."""
        match frame.kind:
            case "identify":
                return self._identify(frame)
            case "event":
                return self._event(frame)
            case "redeem":
                return self.redeem(frame)
            case "print":
                return self._print(frame)
            case "done":
                store.answer_command(
                    self.conn, self.at.tenant, frame.device, str(frame.data.get("command", "")),
                    done=frame.data.get("done") is True, said=str(frame.data.get("said", "")),
                )  # fmt: skip
            case _:
                store.end_session(self.conn, self.at.tenant, _named(frame))
        return {}

    # -- who stands there ------------------------------------------------------------------------------------------------

    def _identify(self, frame: Frame) -> dict[str, Any]:
        if store.tries(self.conn, self.at.tenant, frame.device, self._now) >= TRIES:
            raise TooManyTries
        member, level = self._by_code(frame)
        if member and (said := self.welcome(frame, member, level)) is not None:
            return said
        self.wrong(frame.device)
        raise CodeRefused

    def _by_code(self, frame: Frame) -> tuple[int, str]:
        conn, tenant = self.conn, self.at.tenant
        at = instant(frame.at) if frame.offline else self._now
        code = codes.read_code(str(frame.data["code"]))
        row = store.find_alias(conn, tenant, code.alias) if code is not None else None
        if code is None or row is None:
            return 0, ""
        secret = codes.secret_of(self.at.house.secret, tenant, code.alias)
        if code.card is not (row.kind == "card") or not codes.is_right(secret, code, at // _SECOND):
            return 0, ""
        if not code.card and not store.use_code(conn, tenant, code.alias, code.step, _opened(frame)):
            return 0, ""
        return row.member, "card" if code.card else "code"

    def welcome(self, frame: Frame, member: int, level: str) -> dict[str, Any] | None:
        """Open a session and show the member's page; None if there is no such member any more."""
        row = store.members_of(self.conn, self.at.tenant, [member]).get(member)
        if row is None:
            return None
        until = (instant(frame.at) + OFFLINE_SESSION) if frame.offline else (self._now + SESSION)
        store.open_session(self.conn, self.at.tenant, _opened(frame), frame.device, row.number, level, until)
        return {"session": frame.operation, **self._view(row, level)}

    def wrong(self, device: str) -> None:
        """Somebody at the device was wrong once more."""
        conn, tenant = self.conn, self.at.tenant
        store.note_try(conn, tenant, device, self._now)
        if store.tries(conn, tenant, device, self._now) == TRIES:
            store.raise_alarm(conn, tenant, device, "guessing", f"{TRIES} wrong codes in a minute", self._now)

    def _view(self, row: Any, level: str) -> dict[str, Any]:
        """What the device may show of a member: nothing that says who it is."""
        settings, conn, tenant = self.at.settings, self.conn, self.at.tenant
        balance = queries.balances(conn, tenant, row.number, self._now).get(settings.unit)
        shelves = {name: f"vr_kiosk:reward/{name}" for name, one in settings.rewards.items() if one.stock}
        left = store.stock_left(conn, tenant, list(shelves.values()))
        return {
            "language": row.language,
            "level": level,
            "usable": balance.usable if balance else 0,
            "pending": balance.pending if balance else 0,
            "tiers": store.tiers_of(conn, tenant, row.number),
            "rewards": [
                {
                    "name": one.name, "title": one.title.languages, "points": one.points, "picture": one.picture,
                    "left": left.get(shelves[one.name], 0) if one.stock else None,
                    "confirm": level == "card" or one.points > settings.pin_above,
                }
                for one in settings.rewards.values()
            ],
            "wishes": [wish.product for wish in store.wishes(conn, tenant, row.number)],
            "found": {
                room: sorted(spots)
                for (_, room), spots in store.spots_found(conn, tenant, [row.number] if settings.showrooms else []).items()
                if room in settings.showrooms
            },
            "title": settings.title.in_language(row.language or "en"),
        }  # fmt: skip

    def who(self, frame: Frame) -> Any:
        """The session that a frame names.  Raises SessionEnded."""
        row = self.sessions.get(_named(frame))
        at = instant(frame.at) if frame.offline else self._now
        if row is None or row.device != frame.device or row.expires_at < at or row.member not in self.members:
            raise SessionEnded
        return row

    def _alive(self, frame: Frame) -> tuple[Any, Any]:
        """Session and member that a frame names; a session lives on by being used."""
        row = self.who(frame)
        if not frame.offline and row.expires_at - self._now < SESSION // 2:
            store.change_session(self.conn, self.at.tenant, row.id, expires_at=self._now + SESSION)
        return row, self.members[row.member]

    # -- what happened -----------------------------------------------------------------------------------------------------

    def _event(self, frame: Frame) -> Asked:
        _, member = self._alive(frame)
        kind, facts = str(frame.data.get("type", "")), frame.data.get("facts", {})
        if kind not in self.at.settings.sends or not isinstance(facts, Mapping):
            raise NotOffered(f"devices do not send {kind[:80]!r} here")
        if kind.startswith("vr_kiosk."):
            facts = self._checked(kind, facts, member)
        return Asked(frame, member.number, kind, facts)

    def _checked(self, kind: str, facts: Mapping[str, Any], member: Any) -> Mapping[str, Any]:
        """What happened in a showroom must be possible there; labels are ours to say."""
        room = self.at.settings.showrooms.get(str(facts.get("showroom", "")))
        if room is None:
            raise NotOffered("there is no such showroom")
        if kind == "vr_kiosk.attended":
            found = next((one for one in room.happenings if one.name == facts.get("happening")), None)
            tags = set(msgspec.json.decode(member.tags))
            if (
                found is None
                or not found.since <= self.at.now < found.until
                or (found.guests and not tags & {*found.guests})
            ):
                raise NotOffered("nothing like that happens now, or not for this member")
            return facts
        name = facts.get("product" if kind == "vr_kiosk.wished" else "spot")
        spot = room.spot(str(name))
        if spot is None or (kind == "vr_kiosk.wished" and not spot.product):
            raise NotOffered("there is no such thing in the showroom")
        if kind == "vr_kiosk.wished":
            return {"showroom": room.name, "product": spot.name}
        return {
            "showroom": room.name, "room": spot.room, "spot": spot.name, "action": facts.get("action", "touched"),
            "product": spot.name if spot.product else "", "labels": list(spot.labels),
        }  # fmt: skip

    # -- redeeming ---------------------------------------------------------------------------------------------------------

    def redeem(self, frame: Frame) -> Asked:
        """The reward that a frame asks for.  Raises ConfirmationNeeded where the member's PIN is missing."""
        reward = self._reward(frame)
        if self.asks_for_pin(frame):
            raise ConfirmationNeeded
        _, member = self._alive(frame)
        facts: dict[str, Any] = {"device": frame.device, "reward": reward.name}
        if frame.offline:
            facts |= {"grant": self._grant(frame), "at": frame.at.isoformat()}
        return Asked(frame, member.number, "vr_kiosk.redeemed", facts)

    def asks_for_pin(self, frame: Frame) -> bool:
        """Whether the reward is dear, or the code a card's, and no PIN was shown in this session yet."""
        reward, session = self._reward(frame), self.who(frame)
        return session.level != "pin" and (session.level == "card" or reward.points > self.at.settings.pin_above)

    def _reward(self, frame: Frame) -> Reward:
        reward = self.at.settings.rewards.get(str(frame.data.get("reward", "")))
        if reward is None:
            raise NotOffered("there is no such reward here")
        return reward

    def _grant(self, frame: Frame) -> str:
        """The allowance that an offline redemption names: it must have been open by the device's own clock."""
        conn, tenant, name = self.conn, self.at.tenant, str(frame.data.get("grant", ""))
        grants = store.open_grants(conn, tenant, [frame.device]).get(frame.device, ())
        found = next((one for one in grants if one.id == name), None)
        if found is None or instant(frame.at) > found.until:
            detail = "it gave a reward without an allowance while nobody could be asked"
            store.set_aside(conn, tenant, frame.device, AllowanceSpent.code, detail, self._now)
            raise AllowanceSpent("there is no such allowance, or it had ended")
        return name

    # -- receipts ----------------------------------------------------------------------------------------------------------

    def _print(self, frame: Frame) -> dict[str, Any]:
        """Have the receipt of a reward printed beside the device; or say what came of that, once it was asked for.

        Whoever waits no longer says so: then nobody prints it later, and somebody hears of the printer.
        Raises NoPrinter, and NotOffered for what was no reward of this member at this device.
        """
        conn, tenant, said = self.conn, self.at.tenant, frame.data
        _, member = self._alive(frame)
        if "command" in said:
            return {"state": self._printed(frame)}
        try:
            record = queries.load_record(conn, tenant, parse_entry(str(said.get("entry", ""))) or 0)
        except UnknownEntry:
            raise NotOffered("there is no such receipt") from None
        whose = store.members_of(conn, tenant, [parse_member(record.member) or 0]).values()
        here = record.source == f"vr_kiosk/{frame.device}" and record.gives
        if not here or member.number not in {row.number for row in whose}:
            raise NotOffered("there is no such receipt")
        printer = store.printer_beside(conn, tenant, frame.device, self._now - HEARD)
        if printer is None or not receipts.available():
            raise NoPrinter
        command, facts = _opened(frame), {"entry": record.entry, "language": str(said.get("language", ""))[:20]}
        store.add_command(conn, tenant, printer.id, command, "print", facts, self._now)
        return {"state": "waiting", "printer": printer.id, "name": printer.name, "command": command}

    def _printed(self, frame: Frame) -> str:
        conn, tenant, said = self.conn, self.at.tenant, frame.data
        printer, command = str(said.get("printer", "")), str(said["command"])
        row = store.load_command(conn, tenant, printer, command) if command.startswith(f"{frame.device}/") else None
        if row is None:
            raise NotOffered("there is no such receipt")
        if row.state == "waiting" and said.get("stop") is True:
            store.give_up(conn, tenant, row, self._now)
            return "given_up"
        return str(row.state)


def _named(frame: Frame) -> str:
    """The session that a frame names, as it is kept."""
    return f"{frame.device}/{frame.data.get('session', '')}"


def _opened(frame: Frame) -> str:
    """The session that a frame opens, as it is kept."""
    return f"{frame.device}/{frame.operation}"
