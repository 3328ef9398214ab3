"""The house's side of the conversation with devices: a frame comes in, an answer goes out, the same for the same frame.

A frame's number is taken first, then what it asks for is done.  If the house dies in between, the device sends the frame
again and it is done then; whatever is done carries the frame's operation as its identity, so that twice is once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs
import msgspec

from tallystick.errors import TallyError, UnknownMember
from tallystick.ledger import instant, member_name, moment

from . import codes, frames, store
from .errors import (
    AllowanceSpent,
    BadFrame,
    CodeRefused,
    ConfirmationNeeded,
    DeviceRefused,
    NotOffered,
    OfflineLimit,
    SessionEnded,
    TooManyTries,
)
from .frames import Frame
from .settings import Settings
from .store import Connection

_SECOND: Final = 1_000_000
#: Wrong codes a minute, of one device and about one member.
TRIES: Final = 5
#: How long a session lives without a frame, and an offline one by the device's clock, in microseconds.
SESSION: Final = 120 * _SECOND
OFFLINE_SESSION: Final = 600 * _SECOND
#: How often a command is given, and the pause in between, in microseconds.
COMMAND_TRIES: Final = 5
COMMAND_PAUSE: Final = 20 * _SECOND
_encode = msgspec.json.Encoder(order="deterministic").encode


@attrs.frozen
class Answer:
    """What a device is told about one frame."""

    status: str  #: done, refused, again, gap, quarantined
    counter: int
    said: Mapping[str, Any] = {}
    code: str = ""
    expected: int = 0  #: of a gap: the number that is waited for

    def encoded(self) -> bytes:
        """As it goes out."""
        found: dict[str, Any] = {"status": self.status, "counter": self.counter}
        if self.code:
            found["code"] = self.code
        if self.expected:
            found["expected"] = self.expected
        if self.said:
            found["said"] = dict(self.said)
        return _encode(found)


@attrs.frozen
class Desk:
    """Takes frames of one tenant's devices."""

    house: Any
    tenant: str
    settings: Settings
    now: datetime

    @property
    def _now(self) -> int:
        return instant(self.now)

    def take(self, device: str, body: bytes) -> Answer:
        """Take one frame of *device*.  Raises BadFrame, DeviceRefused; every other refusal is an answer."""
        sealed, frame = frames.read_wire(body)
        with self.house.db.begin() as conn:
            row = store.load_device(conn, self.tenant, device, lock=True)
            if row is None or frame.device != device:
                raise BadFrame("that is no frame of this device")
            frames.check_signature(sealed, row.public_key)
            answer = self._admit(conn, row, frame, sealed.frame)
        if answer is not None:
            return answer
        return self._done(frame)

    # -- order ---------------------------------------------------------------------------------------------------------

    def _admit(self, conn: Connection, row: Any, frame: Frame, text: str) -> Answer | None:
        """Take the frame's number; None if it is to be done now."""
        if row.state != "active":
            raise DeviceRefused(f"the device is {row.state}", state=row.state)
        old = frame.epoch == row.epoch and frame.counter <= row.counter
        known = store.load_frame(conn, self.tenant, frame.device, frame.epoch, frame.counter) if old else None
        verdict = frames.judge(
            frame, text, epoch=row.epoch, counter=row.counter, last=row.last, known=known.hash if known else None
        )
        match verdict:
            case "gap":
                return Answer("gap", frame.counter, expected=row.counter + 1)
            case "other_epoch":
                store.raise_alarm(
                    conn, self.tenant, frame.device, "other_epoch", f"a frame of epoch {frame.epoch}", self._now
                )
                return Answer("refused", frame.counter, code=DeviceRefused.code)
            case "copied":
                detail = f"frame {frame.counter} came with other bytes: the device may have been copied"
                store.set_aside(conn, self.tenant, frame.device, "copied", detail, self._now)
                return Answer("quarantined", frame.counter, code=DeviceRefused.code)
            case "again":
                return Answer(**msgspec.json.decode(known.answer)) if known is not None and known.answer else None
        hash = frames.hash_of(text)
        changes: dict[str, Any] = {"counter": frame.counter, "last": hash, "seen_at": self._now}
        answer: Answer | None = None
        if frame.offline and frame.kind in ("event", "raw"):
            day = self.now.toordinal()
            events = row.offline_events + 1 if row.offline_day == day else 1
            changes |= {"offline_day": day, "offline_events": events}
            if events > self.settings.offline_events:
                answer = Answer("refused", frame.counter, code=OfflineLimit.code)
                detail = "too many events from the time offline"
                store.raise_alarm(conn, self.tenant, frame.device, OfflineLimit.code, detail, self._now)
        elif frame.kind == "beat":
            answer, more = self._beat(conn, frame)
            changes |= more
        body = _encode(attrs.asdict(answer)).decode() if answer is not None else ""
        store.keep_frame(
            conn, self.tenant, frame.device, frame.epoch, frame.counter, hash=hash, answer=body, at=self._now
        )
        store.touch_device(conn, self.tenant, row, **changes)
        return answer

    def _keep(self, conn: Connection, frame: Frame, answer: Answer) -> None:
        body = _encode(attrs.asdict(answer))
        store.keep_answer(conn, self.tenant, frame.device, frame.epoch, frame.counter, body)

    def _beat(self, conn: Connection, frame: Frame) -> tuple[Answer, dict[str, Any]]:
        """The device is well; it is told what to do, what it may give, and what time it is."""
        given = store.take_commands(
            conn, self.tenant, frame.device, self._now, tries=COMMAND_TRIES, pause=COMMAND_PAUSE
        )
        allowances = store.grants(conn, self.tenant, frame.device)
        said = {
            "now": self.now.isoformat(),
            "commands": [
                {"id": one.id, "command": one.command, "facts": msgspec.json.decode(one.facts)} for one in given
            ],
            "allowances": [
                {"grant": one.id, "points": one.points, "until": moment(one.until).isoformat()}
                for one in allowances
                if one.until > self._now
            ],
        }
        health = {name: value for name, value in frame.data.items() if isinstance(value, int | str | bool)}
        version = str(frame.data.get("version", ""))[:40]
        return Answer("done", frame.counter, said), {"version": version, "health": _encode(health).decode()[:1000]}

    # -- what frames ask for ---------------------------------------------------------------------------------------------

    def _done(self, frame: Frame) -> Answer:
        """Do what a frame asks for, once; every refusal is an answer."""
        try:
            match frame.kind:
                case "identify":
                    said = self._identify(frame)
                case "event":
                    said = self._event(frame)
                case "redeem":
                    said = self._redeem(frame)
                case "raw":
                    said = self._raw(frame)
                case "done":
                    said = self._receipt(frame)
                case _:
                    with self.house.db.begin() as conn:
                        store.end_session(
                            conn, self.tenant, self._session_id(frame, str(frame.data.get("session", "")))
                        )
                    said = {}
            answer = Answer("done", frame.counter, said)
        except TallyError as refusal:
            answer = Answer("refused", frame.counter, code=refusal.code)
        if frame.kind in (
            "identify",
            "redeem",
        ):  # what was refused or seen once stays so; the rest is the ledger's to repeat
            with self.house.db.begin() as conn:
                self._keep(conn, frame, answer)
        return answer

    def _session_id(self, frame: Frame, operation: str) -> str:
        return f"{frame.device}/{operation}"

    def _identify(self, frame: Frame) -> dict[str, Any]:
        data, at = frame.data, instant(frame.at) if frame.offline else self._now
        code, phone = str(data.get("code", "")), str(data.get("phone", ""))
        with self.house.db.begin() as conn:
            self._not_too_often(conn, frame.device)
        level = "pin"
        member: int | None
        if code:
            with self.house.db.begin() as conn:
                member, level = self._by_code(conn, code, at, self._session_id(frame, frame.operation))
        else:
            member = self._by_phone(phone, str(data.get("pin", "")))
        with self.house.db.begin() as conn:
            row = store.member_of(conn, self.tenant, member) if member else None
            if row is None:
                self._wrong(conn, frame.device)
            else:
                until = at + (OFFLINE_SESSION if frame.offline else SESSION)
                id = self._session_id(frame, frame.operation)
                store.open_session(conn, self.tenant, id, frame.device, row.number, level, until)
                return {"session": frame.operation, **self._view(conn, row, level)}
        raise CodeRefused

    def _by_code(self, conn: Connection, text: str, at: int, operation: str) -> tuple[int | None, str]:
        code = codes.read_code(text)
        row = store.find_alias(conn, self.tenant, code.alias) if code is not None else None
        if code is None or row is None:
            return None, ""
        secret = codes.secret_of(self.house.secret, self.tenant, code.alias)
        if code.card is not (row.kind == "card") or not codes.is_right(secret, code, at // _SECOND):
            return None, ""
        if not code.card and not store.use_code(conn, self.tenant, code.alias, code.step, operation):
            return None, ""
        return row.member, "card" if code.card else "code"

    def _by_phone(self, phone: str, pin: str) -> int | None:
        """A member by external id and PIN; who does not exist costs as much time as a wrong PIN."""
        try:
            member = self.house.errand("vr_kiosk", self.tenant, "vr_kiosk.identify").member(phone) if phone else 0
        except UnknownMember:
            member = 0
        with self.house.db.begin() as conn:
            self._not_too_often(conn, f"m:{member}")
            right = store.is_pin(conn, self.tenant, member, pin)
            if not right and member:
                store.note_try(conn, self.tenant, f"m:{member}", self._now)
        return member if right else None

    def _not_too_often(self, conn: Connection, who: str) -> None:
        if store.tries(conn, self.tenant, who, self._now) >= TRIES:
            raise TooManyTries

    def _wrong(self, conn: Connection, device: str) -> None:
        store.note_try(conn, self.tenant, device, self._now)
        if store.tries(conn, self.tenant, device, self._now) == TRIES:
            store.raise_alarm(conn, self.tenant, device, "guessing", f"{TRIES} wrong codes in a minute", self._now)

    def _view(self, conn: Connection, row: Any, level: str) -> dict[str, Any]:
        """What the device may show of a member: nothing that says who it is."""
        settings = self.settings
        usable, pending = store.usable(conn, self.tenant, row.number, settings.unit, self._now)
        shelves = {name: f"vr_kiosk:reward/{name}" for name, one in settings.rewards.items() if one.stock}
        left = store.stock_left(conn, self.tenant, list(shelves.values()))
        language = row.language or "en"
        return {
            "language": row.language,
            "level": level,
            "usable": usable,
            "pending": pending,
            "tiers": store.tiers_of(conn, self.tenant, row.number),
            "rewards": [
                {
                    "name": one.name, "title": one.title.languages, "points": one.points, "picture": one.picture,
                    "left": left.get(shelves[one.name], 0) if one.stock else None,
                    "confirm": level == "card" or one.points > settings.pin_above,
                }
                for one in settings.rewards.values()
            ],
            "wishes": [wish.product for wish in store.wishes(conn, self.tenant, row.number)],
            "title": settings.title.in_language(language),
        }  # fmt: skip

    def _who(self, frame: Frame) -> Any:
        """The session that a frame names; it lives on by being used."""
        id = self._session_id(frame, str(frame.data.get("session", "")))
        at = instant(frame.at) if frame.offline else self._now
        with self.house.db.connect() as conn:
            row = store.load_session(conn, self.tenant, id)
        if row is None or row.device != frame.device or row.expires_at < at:
            raise SessionEnded
        if not frame.offline and row.expires_at - at < SESSION // 2:
            with self.house.db.begin() as conn:
                store.change_session(conn, self.tenant, id, expires_at=at + SESSION)
        return row

    # -- events ----------------------------------------------------------------------------------------------------------

    def _event(self, frame: Frame) -> dict[str, Any]:
        session = self._who(frame)
        with self.house.db.connect() as conn:
            member = store.member_of(conn, self.tenant, session.member)
        kind, facts = str(frame.data.get("type", "")), frame.data.get("facts", {})
        if member is None or kind not in self.settings.sends or not isinstance(facts, Mapping):
            raise NotOffered(f"devices do not send {kind[:80]!r} here")
        if kind.startswith("vr_kiosk."):
            facts = self._checked(kind, facts, member)
        outcome = self._record(frame, kind, facts, member.number)
        if kind == "vr_kiosk.touched":
            self._touched(frame, facts, member.number)
        elif kind == "vr_kiosk.wished":
            with self.house.db.begin() as conn:
                store.keep_wish(
                    conn, self.tenant, member.number, str(facts["product"]), str(facts["showroom"]), self._now
                )
        return self._told(outcome, member.number)

    def _checked(self, kind: str, facts: Mapping[str, Any], member: Any) -> Mapping[str, Any]:
        """What happened in a showroom must be possible there; labels are ours to say."""
        room = self.settings.showrooms.get(str(facts.get("showroom", "")))
        if room is None:
            raise NotOffered("there is no such showroom")
        if kind == "vr_kiosk.attended":
            found = next((one for one in room.happenings if one.name == facts.get("happening")), None)
            tags = set(msgspec.json.decode(member.tags))
            if (
                found is None
                or not found.since <= self.now < found.until
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

    def _touched(self, frame: Frame, facts: Mapping[str, Any], member: int) -> None:
        """Whoever has found all that a task asks for has done it, once."""
        room, spot = self.settings.showrooms[str(facts["showroom"])], str(facts["spot"])
        with self.house.db.connect() as conn:
            seen = store.spots_found(conn, self.tenant, member, room.name)
        if spot not in seen:
            with self.house.db.begin() as conn:
                store.keep_found(conn, self.tenant, member, room.name, spot)
        seen.add(spot)
        for task in room.tasks:
            if sum(task.label in spot.labels for spot in room.spots if spot.name in seen) >= task.count:
                said = {"showroom": room.name, "task": task.name}
                self._record(
                    frame, "vr_kiosk.task_done", said, member, id=f"task/{member_name(member)}/{room.name}/{task.name}"
                )

    def _record(self, frame: Frame, kind: str, facts: Mapping[str, Any], member: int, *, id: str = "") -> Any:
        """Send one event through the door; its id is the operation, so that it happens once however often it is sent."""
        at = min(frame.at.astimezone(UTC), self.now) if frame.offline else self.now
        document = {
            "id": id or f"{frame.device}/{frame.operation}", "source": f"vr_kiosk/{frame.device}" if not id else "vr_kiosk",
            "type": kind, "time": at.isoformat(), "member": member_name(member), "data": dict(facts),
        }  # fmt: skip
        [outcome] = self.house.errand("vr_kiosk", self.tenant, f"device:{frame.device}").record([document])
        return outcome

    def _told(self, outcome: Any, member: int) -> dict[str, Any]:
        """What came of an event, as a device may show it.  Raises the refusal."""
        if isinstance(outcome, TallyError):
            raise outcome
        record = outcome.record
        with self.house.db.connect() as conn:
            usable, pending = store.usable(conn, self.tenant, member, self.settings.unit, self._now)
        gained = {step.unit: 0 for step in record.explanation if step.unit}
        for step in record.explanation:
            if step.unit and not step.member:
                gained[step.unit] += step.amount
        return {
            "entry": record.entry, "status": record.status, "gained": gained, "gives": list(record.gives),
            "usable": usable, "pending": pending,
        }  # fmt: skip

    # -- redeeming ---------------------------------------------------------------------------------------------------------

    def _redeem(self, frame: Frame) -> dict[str, Any]:
        reward = self.settings.rewards.get(str(frame.data.get("reward", "")))
        if reward is None:
            raise NotOffered("there is no such reward here")
        pin = str(frame.data.get("pin", ""))
        session = self._who(frame)
        with self.house.db.connect() as conn:
            member = store.member_of(conn, self.tenant, session.member)
        if member is None:
            raise SessionEnded
        if (session.level == "card" or reward.points > self.settings.pin_above) and session.level != "pin":
            self._confirm(frame, session, member.number, pin)
        facts: dict[str, Any] = {"device": frame.device, "reward": reward.name}
        if frame.offline:
            facts |= {"grant": self._grant(frame), "at": frame.at.isoformat()}
        outcome = self._record(frame, "vr_kiosk.redeemed", facts, member.number)
        if isinstance(outcome, AllowanceSpent):
            with self.house.db.begin() as conn:
                detail = "it gave more than its allowance while nobody could be asked"
                store.set_aside(conn, self.tenant, frame.device, outcome.code, detail, self._now)
        return self._told(outcome, member.number)

    def _confirm(self, frame: Frame, session: Any, member: int, pin: str) -> None:
        if not pin:
            raise ConfirmationNeeded
        right = False
        with self.house.db.begin() as conn:
            self._not_too_often(conn, f"m:{member}")
            right = store.is_pin(conn, self.tenant, member, pin)
            if right:
                store.change_session(conn, self.tenant, session.id, level="pin")
            else:
                store.note_try(conn, self.tenant, f"m:{member}", self._now)
                self._wrong(conn, frame.device)
        if not right:
            raise CodeRefused

    def _grant(self, frame: Frame) -> str:
        """The allowance that an offline redemption names: it must have been open by the device's own clock."""
        name = str(frame.data.get("grant", ""))
        with self.house.db.begin() as conn:
            found = next((one for one in store.grants(conn, self.tenant, frame.device) if one.id == name), None)
            if found is None or instant(frame.at) > found.until:
                detail = "it gave a reward without an allowance while nobody could be asked"
                store.set_aside(conn, self.tenant, frame.device, AllowanceSpent.code, detail, self._now)
            else:
                return name
        raise AllowanceSpent("there is no such allowance, or it had ended")

    # -- devices of others, receipts -----------------------------------------------------------------------------------------

    def _raw(self, frame: Frame) -> dict[str, Any]:
        """Bytes of a scanner or another device behind this one: the first plugin that understands them says what happened."""
        session = self._who(frame) if frame.data.get("session") else None
        with self.house.db.connect() as conn:
            row = store.load_device(conn, self.tenant, frame.device)
        body = str(frame.data.get("bytes", "")).encode()
        about = {"id": row.id, "name": row.name, "place": row.place}
        pipeline = self.house.registry.latest(self.tenant).pipeline
        documents: Sequence[Mapping[str, Any]] | None = None
        for plugin, decode in pipeline.implementations("decode"):
            try:
                documents = decode(frame=body, device=about)
            except Exception as error:  # noqa: BLE001  whatever a plugin raises: the frame is dropped, and somebody hears of it
                with self.house.db.begin() as conn:
                    detail = f"{plugin} could not read a frame: {type(error).__name__}"
                    store.raise_alarm(conn, self.tenant, frame.device, "decode_failed", detail, self._now)
                continue
            if documents is not None:
                break
        if documents is None:
            raise BadFrame("no plugin understands this device")
        told = []
        for place, one in enumerate(documents[:50]):
            if one.get("type") not in self.settings.sends:
                raise NotOffered("devices do not send that here")
            document = {
                **one, "id": f"{frame.device}/{frame.operation}/{place}", "source": f"vr_kiosk/{frame.device}",
                "time": self.now.isoformat(), **({"member": member_name(session.member)} if session else {}),
            }  # fmt: skip
            [outcome] = self.house.errand("vr_kiosk", self.tenant, f"device:{frame.device}").record([document])
            told.append(outcome.code if isinstance(outcome, TallyError) else outcome.record.entry)
        return {"entries": told}

    def _receipt(self, frame: Frame) -> dict[str, Any]:
        """A device says what came of a command."""
        with self.house.db.begin() as conn:
            store.answer_command(
                conn, self.tenant, frame.device, str(frame.data.get("command", "")),
                done=frame.data.get("done") is True, said=str(frame.data.get("said", "")),
            )  # fmt: skip
        return {}
