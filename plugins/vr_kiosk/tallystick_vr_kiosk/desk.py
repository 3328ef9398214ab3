"""The house's side of the conversation with devices: frames come in, answers go out, the same for the same frame.

All frames that came together are taken together: one transaction takes their numbers and does what is the plugin's own
to do, one batch records the events they ask for, and one more transaction keeps what they are answered.  If the house
dies in between, the devices send their frames again and what is missing is done then; whatever is done carries the
frame's operation as its identity, so that twice is once.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import attrs
import msgspec

from tallystick import queries
from tallystick.errors import InvalidRequest, TallyError, UnknownMember
from tallystick.ledger import instant, member_name, moment, parse_entry

from . import frames, receipts, store, tape
from .errors import AllowanceSpent, BadFrame, CodeRefused, DeviceRefused, NotOffered, OfflineLimit, TooManyTries
from .frames import Frame, Sealed
from .settings import Settings
from .store import Connection
from .teller import TRIES, Asked, Teller

_SECOND: Final = 1_000_000
#: How often a command is given, and the pause in between, in microseconds.
COMMAND_TRIES: Final = 5
COMMAND_PAUSE: Final = 20 * _SECOND
_encode = msgspec.json.Encoder(order="deterministic").encode
#: What hashes PINs and asks other plugins; everybody else must not wait for that.
_slow: Final = ThreadPoolExecutor(2, thread_name_prefix="tally-kiosk")


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


class _New(NamedTuple):
    """A frame that comes next, and its device's row before it."""

    place: int
    row: Any
    frame: Frame
    hash: str


#: What comes of a frame: its answer, now or later, or the refusal of what is no frame or no device of ours.
Taken: TypeAlias = Answer | TallyError | Future[Answer]


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
        (taken,) = self.take_all([(device, body)])
        if isinstance(taken, Future):
            return taken.result()
        if isinstance(taken, TallyError):
            raise taken
        return taken

    def take_all(self, came: Sequence[tuple[str, bytes]]) -> list[Taken]:
        """Take a frame of each of many devices: what *take* returns or raises, for each."""
        assert len({device for device, _ in came}) == len(came), "a device's frames are taken one after the other"
        taken: list[Any] = [self._read(device, body) for device, body in came]
        with self.house.reading() as conn:  # signatures take their time: nobody must wait for it behind a lock
            known = store.load_devices(conn, self.tenant, [frame.device for _, frame in _heard(taken)])
        for place, believed in enumerate(taken):
            if not isinstance(believed, TallyError):
                sealed, frame = believed
                taken[place] = self._believed(sealed, frame, known.get(frame.device))
        asked = self._admit(taken, known)
        if asked:
            for place, answer in zip(asked, self._record([*asked.values()]), strict=True):
                taken[place] = answer
        return taken

    # -- whose frame it is ---------------------------------------------------------------------------------------------

    def _read(self, device: str, body: bytes) -> tuple[Sealed, Frame] | TallyError:
        try:
            sealed, frame = frames.read_wire(body)
        except BadFrame as refusal:
            return refusal
        return (sealed, frame) if frame.device == device else BadFrame("that is no frame of this device")

    def _believed(self, sealed: Sealed, frame: Frame, row: Any) -> tuple[Sealed, Frame] | TallyError:
        if row is None:
            return BadFrame("that is no frame of this device")
        try:
            frames.check_signature(sealed, row.public_key)
        except BadFrame as refusal:
            return refusal
        return sealed, frame

    # -- order ---------------------------------------------------------------------------------------------------------

    def _admit(self, taken: list[Any], known: Mapping[str, Any]) -> dict[int, Asked]:
        """Take the frames' numbers, and put what they are answered in the place of each; what shall be recorded first."""
        asked: dict[int, Asked] = {}
        slow: list[tuple[int, Frame]] = []
        if not _heard(taken):
            return asked
        with self.house.db.begin() as conn:
            fresh, again = self._in_order(conn, taken, known)
            teller = Teller.open(self, conn, [one.frame for one in fresh] + [frame for _, frame in again])
            ask = partial(self._ask, teller, asked, slow)
            self._take_new(conn, fresh, taken, ask)
            for place, frame in again:
                taken[place] = ask(place, frame)
            answered = [(frame, _kept(taken[place])) for place, frame in again if taken[place] is not None]
            store.keep_answers(conn, self.tenant, answered)
        for place, frame in slow:  # its number stands in the database before anybody looks at it again
            taken[place] = _slow.submit(self._slowly, frame)
        return asked

    def _in_order(
        self, conn: Connection, taken: list[Any], known: Mapping[str, Any]
    ) -> tuple[list[_New], list[tuple[int, Frame]]]:
        """The frames that come next, and those that came before and have no answer yet; all others are answered."""
        rows = store.load_devices(conn, self.tenant, [frame.device for _, frame in _heard(taken)], lock=True)
        fresh, again = [], []
        for place, believed in enumerate(taken):
            if isinstance(believed, TallyError):
                continue
            sealed, frame = believed
            row = rows.get(frame.device)
            if row is None or row.public_key != known[frame.device].public_key:  # paired anew in this moment
                checked = self._believed(sealed, frame, row)
                if isinstance(checked, TallyError):
                    taken[place] = checked
                    continue
            verdict, taken[place] = self._place(conn, row, frame, sealed.frame)
            if verdict == "new":
                fresh.append(_New(place, row, frame, frames.hash_of(sealed.frame)))
            elif taken[place] is None:
                again.append((place, frame))
        return fresh, again

    def _take_new(self, conn: Connection, fresh: Sequence[_New], taken: list[Any], ask: Any) -> None:
        """Answer frames, and take their numbers."""
        beats = [one.frame.device for one in fresh if one.frame.kind == "beat"]
        due = store.take_commands(conn, self.tenant, beats, self._now, tries=COMMAND_TRIES, pause=COMMAND_PAUSE)
        printing = {one.frame.device for one in fresh if one.frame.data.get("printer") == "escpos"}
        orders = {
            device: [self._order(conn, one, device in printing) for one in found] for device, found in due.items()
        }
        allowances = store.open_grants(conn, self.tenant, beats)
        kept, changes, lines = [], [], []
        for place, row, frame, hash in fresh:
            changed = {"counter": frame.counter, "last": hash, "seen_at": self._now}
            answer = self._within_limits(conn, row, frame, changed)
            if answer is None and frame.kind == "beat":
                answer = self._beat(frame, orders.get(frame.device, ()), allowances.get(frame.device, ()), changed)
            taken[place] = answer = answer or ask(place, frame)
            kept.append(
                {
                    "tenant": self.tenant, "device": frame.device, "epoch": frame.epoch, "counter": frame.counter,
                    "hash": hash, "answer": _kept(answer).decode() if answer is not None else "", "at": self._now,
                }
            )  # fmt: skip
            changes.append((row, changed))
            if row.recorded_until > self._now and (line := tape.line_of(frame)) is not None:
                lines.append((frame, line))
        store.keep_frames(conn, kept)
        store.keep_lines(conn, self.tenant, lines, self._now)
        store.touch_devices(conn, self.tenant, changes)

    def _place(self, conn: Connection, row: Any, frame: Frame, text: str) -> tuple[str, Answer | TallyError | None]:
        """Where the frame stands, and what it is answered if that says all."""
        if row.state != "active":
            return "", DeviceRefused(f"the device is {row.state}", state=row.state)
        old = frame.epoch == row.epoch and frame.counter <= row.counter
        known = store.load_frame(conn, self.tenant, frame.device, frame.epoch, frame.counter) if old else None
        verdict = frames.judge(
            frame, text, epoch=row.epoch, counter=row.counter, last=row.last, known=known.hash if known else None
        )
        answer: Answer | None = None
        match verdict:
            case "gap":
                answer = Answer("gap", frame.counter, expected=row.counter + 1)
            case "other_epoch":
                store.raise_alarm(
                    conn, self.tenant, frame.device, "other_epoch", f"a frame of epoch {frame.epoch}", self._now
                )
                answer = Answer("refused", frame.counter, code=DeviceRefused.code)
            case "copied":
                detail = f"frame {frame.counter} came with other bytes: the device may have been copied"
                store.set_aside(conn, self.tenant, frame.device, "copied", detail, self._now)
                answer = Answer("quarantined", frame.counter, code=DeviceRefused.code)
            case "again" if known is not None and known.answer:
                answer = Answer(**msgspec.json.decode(known.answer))
        return verdict, answer

    def _within_limits(self, conn: Connection, row: Any, frame: Frame, changed: dict[str, Any]) -> Answer | None:
        """Count what a device sends of the time offline; the refusal if it was too much."""
        if not frame.offline or frame.kind not in ("event", "raw"):
            return None
        day = self.now.toordinal()
        events = row.offline_events + 1 if row.offline_day == day else 1
        changed |= {"offline_day": day, "offline_events": events}
        if events <= self.settings.offline_events:
            return None
        detail = "too many events from the time offline"
        store.raise_alarm(conn, self.tenant, frame.device, OfflineLimit.code, detail, self._now)
        return Answer("refused", frame.counter, code=OfflineLimit.code)

    def _order(self, conn: Connection, order: Any, printing: bool) -> dict[str, Any]:
        """A command as the device is told it; a printer gets the bytes of the receipt that is to be printed."""
        facts = msgspec.json.decode(order.facts)
        found = {"id": order.id, "command": order.command, "facts": facts}
        if printing and order.command == "print" and facts.get("entry"):
            with contextlib.suppress(TallyError):
                record = queries.load_record(conn, self.tenant, parse_entry(str(facts["entry"])) or 0)
                found["escpos"] = self._receipt(record, str(facts.get("language", "")))
        return found

    def _receipt(self, record: Any, language: str, left: int | None = None) -> str:
        """What a printer is sent, in base64."""
        programme = self.house.errand("vr_kiosk", self.tenant, "vr_kiosk.line").plugin.programme
        paper = receipts.render(record, self.settings, programme.zone, language or programme.language, left)
        return base64.b64encode(paper).decode()

    def _beat(self, frame: Frame, orders: Sequence[Any], allowances: Sequence[Any], changed: dict[str, Any]) -> Answer:
        """The device is well; it is told what to do, what it may give, and what time it is."""
        said = {
            "now": self.now.isoformat(),
            "commands": list(orders),
            "allowances": [
                {"grant": one.id, "points": one.points, "until": moment(one.until).isoformat()}
                for one in allowances
                if one.until > self._now
            ],
        }
        plain = [(name, value) for name, value in frame.data.items() if isinstance(value, int | str | bool)]
        health = {name[:40]: value[:80] if isinstance(value, str) else value for name, value in plain[:12]}
        changed["version"] = str(frame.data.get("version", ""))[:40]
        changed["health"] = _encode(health).decode()
        return Answer("done", frame.counter, said)

    # -- what frames ask for ---------------------------------------------------------------------------------------------

    def _ask(
        self, teller: Teller, asked: dict[int, Asked], slow: list[tuple[int, Frame]], place: int, frame: Frame
    ) -> Answer | None:
        """What the frame is answered; None if something is to be recorded first, or it takes longer."""
        if _takes_long(frame):
            slow.append((place, frame))
            return None
        try:
            said = teller.ask(frame)
        except TallyError as refusal:
            return Answer("refused", frame.counter, code=refusal.code)
        if isinstance(said, Asked):
            asked[place] = said
            return None
        return Answer("done", frame.counter, said)

    def _record(self, asked: Sequence[Asked]) -> list[Answer]:
        """Record what frames ask for, and keep what they are answered."""
        errand = self.house.errand("vr_kiosk", self.tenant, "vr_kiosk.line")
        outcomes = _record_each(errand, [self._document(one) for one in asked])
        done = [(one, outcome.record) for one, outcome in zip(asked, outcomes, strict=True) if not _is_no(outcome)]
        with self.house.reading() as conn:
            seen = store.spots_found(conn, self.tenant, [one.member for one, _ in done if one.kind == _TOUCHED])
        tasks, touched = [], []
        for one, _ in done:
            if one.kind == _TOUCHED:
                spots = seen.setdefault((one.member, one.facts["showroom"]), set())
                if one.facts["spot"] not in spots:
                    spots.add(one.facts["spot"])
                    touched.append(one)
                tasks += self._tasks(one, spots)
        if tasks:
            _record_each(errand, tasks)  # before the spots are kept: after a crash they are touched again
        with self.house.db.begin() as conn:
            store.keep_found(conn, self.tenant, [(one.member, one.facts) for one in touched])
            store.keep_wishes(
                conn, self.tenant, [(one.member, one.facts) for one, _ in done if one.kind == _WISHED], self._now
            )
            for one, outcome in zip(asked, outcomes, strict=True):
                if isinstance(outcome, AllowanceSpent):
                    detail = "it gave more than its allowance while nobody could be asked"
                    store.set_aside(conn, self.tenant, one.frame.device, outcome.code, detail, self._now)
            purses = queries.balances_of(conn, self.tenant, {one.member for one, _ in done}, self._now)
            answers = [
                Answer("refused", one.frame.counter, code=outcome.code) if _is_no(outcome) else
                Answer("done", one.frame.counter, self._told(one.frame, outcome.record, purses.get(one.member, {})))
                for one, outcome in zip(asked, outcomes, strict=True)
            ]  # fmt: skip
            store.keep_answers(
                conn, self.tenant, [(one.frame, _kept(answer)) for one, answer in zip(asked, answers, strict=True)]
            )
        return answers

    def _document(self, asked: Asked) -> dict[str, Any]:
        """The event as it goes through the door; its id is the operation, so that it happens once however often it is sent."""
        frame = asked.frame
        at = min(frame.at.astimezone(UTC), self.now) if frame.offline else self.now
        return {
            "id": f"{frame.device}/{frame.operation}", "source": f"vr_kiosk/{frame.device}", "type": asked.kind,
            "time": at.isoformat(), "member": member_name(asked.member), "data": dict(asked.facts),
        }  # fmt: skip

    def _tasks(self, asked: Asked, seen: set[str]) -> list[dict[str, Any]]:
        """Whoever has found all that a task asks for has done it, once."""
        room, member = self.settings.showrooms[asked.facts["showroom"]], member_name(asked.member)
        return [
            {
                **self._document(asked), "id": f"task/{member}/{room.name}/{task.name}", "source": "vr_kiosk",
                "type": "vr_kiosk.task_done", "data": {"showroom": room.name, "task": task.name},
            }
            for task in room.tasks
            if task.label in asked.facts["labels"]
            and sum(task.label in spot.labels for spot in room.spots if spot.name in seen) >= task.count
        ]  # fmt: skip

    def _told(self, frame: Frame, record: Any, purse: Mapping[str, queries.Balance]) -> dict[str, Any]:
        """What came of an event, as a device may show it, and print it if it has a printer."""
        balance = purse.get(self.settings.unit)
        usable, pending = (balance.usable, balance.pending) if balance is not None else (0, 0)
        gained = {step.unit: 0 for step in record.explanation if step.unit}
        for step in record.explanation:
            if step.unit and not step.member:
                gained[step.unit] += step.amount
        said = {
            "entry": record.entry, "status": record.status, "gained": gained, "gives": list(record.gives),
            "usable": usable, "pending": pending,
        }  # fmt: skip
        if record.gives and frame.data.get("receipt") == "escpos":
            with contextlib.suppress(
                InvalidRequest
            ):  # without python-escpos here there is no paper, but the reward all the same
                said["receipt"] = self._receipt(record, str(frame.data.get("language", "")), usable)
        return said

    # -- what takes longer -----------------------------------------------------------------------------------------------

    def _slowly(self, frame: Frame) -> Answer:
        """In a thread of its own: PINs, which are hashed slowly on purpose, and what other plugins decode."""
        try:
            match frame.kind:
                case "identify":
                    said = self._identify(frame)
                case "redeem":
                    return self._redeem(frame)
                case _:
                    said = self._raw(frame)
            answer = Answer("done", frame.counter, said)
        except TallyError as refusal:
            answer = Answer("refused", frame.counter, code=refusal.code)
        with self.house.db.begin() as conn:
            store.keep_answers(conn, self.tenant, [(frame, _kept(answer))])
        return answer

    def _identify(self, frame: Frame) -> dict[str, Any]:
        """A member by external id and PIN; who does not exist costs as much time as a wrong PIN."""
        phone, pin = str(frame.data.get("phone", "")), str(frame.data.get("pin", ""))
        try:
            member = self.house.errand("vr_kiosk", self.tenant, "vr_kiosk.identify").member(phone) if phone else 0
        except UnknownMember:
            member = 0
        right = self._is_pin(frame.device, member, pin)
        with self.house.db.begin() as conn:
            teller = Teller.open(self, conn, [frame])
            if right and (said := teller.welcome(frame, member, "pin")) is not None:
                return said
            teller.wrong(frame.device)
        raise CodeRefused

    def _redeem(self, frame: Frame) -> Answer:
        with self.house.reading() as conn:
            teller = Teller.open(self, conn, [frame])
            asks = teller.asks_for_pin(frame)
        if asks:
            session = teller.who(frame)
            right = self._is_pin(frame.device, session.member, str(frame.data["pin"]))
            with self.house.db.begin() as conn:
                if right:
                    store.change_session(conn, self.tenant, session.id, level="pin")
                else:
                    Teller.open(self, conn, []).wrong(frame.device)
            if not right:
                raise CodeRefused
        with self.house.db.begin() as conn:
            asked = Teller.open(self, conn, [frame]).redeem(frame)
        (answer,) = self._record([asked])
        return answer

    def _is_pin(self, device: str, member: int, pin: str) -> bool:
        """Whether it is the member's PIN.  Raises TooManyTries, for right ones as well once there were too many wrong ones."""
        who = f"m:{member}"
        with self.house.reading() as conn:
            if max(store.tries(conn, self.tenant, one, self._now) for one in (who, device)) >= TRIES:
                raise TooManyTries
            row = store.load_pin(conn, self.tenant, member)
        right = store.is_pin(row, pin)  # outside of any transaction: it takes long
        with self.house.db.begin() as conn:
            if store.tries(conn, self.tenant, who, self._now) >= TRIES:
                raise TooManyTries
            if not right and member:
                store.note_try(conn, self.tenant, who, self._now)
        return right

    def _raw(self, frame: Frame) -> dict[str, Any]:
        """Bytes of a scanner or another device behind this one: the first plugin that understands them says what happened."""
        with self.house.db.begin() as conn:
            session = Teller.open(self, conn, [frame]).who(frame) if frame.data.get("session") else None
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
        made = []
        for place, one in enumerate(documents[:50]):
            if one.get("type") not in self.settings.sends:
                raise NotOffered("devices do not send that here")
            made.append(
                {
                    **one, "id": f"{frame.device}/{frame.operation}/{place}", "source": f"vr_kiosk/{frame.device}",
                    "time": self.now.isoformat(), **({"member": member_name(session.member)} if session else {}),
                }
            )  # fmt: skip
        outcomes = _record_each(self.house.errand("vr_kiosk", self.tenant, "vr_kiosk.line"), made)
        return {"entries": [one.code if _is_no(one) else one.record.entry for one in outcomes]}


_TOUCHED: Final = "vr_kiosk.touched"
_WISHED: Final = "vr_kiosk.wished"


def _heard(taken: Sequence[Any]) -> list[tuple[Sealed, Frame]]:
    return [one for one in taken if not isinstance(one, TallyError)]


def _kept(answer: Answer) -> bytes:
    return _encode(attrs.asdict(answer))


def _is_no(outcome: Any) -> bool:
    return isinstance(outcome, TallyError)


def _takes_long(frame: Frame) -> bool:
    match frame.kind:
        case "identify":
            return not frame.data.get("code")
        case "redeem":
            return bool(frame.data.get("pin"))
        case _:
            return frame.kind == "raw"


def _record_each(errand: Any, documents: Sequence[Mapping[str, Any]]) -> list[Any]:
    """One outcome each; what the door does not take spoils nobody else's."""
    try:
        return list(errand.record(documents)) if documents else []
    except TallyError as refusal:
        if len(documents) == 1:
            return [refusal]
        half = len(documents) // 2
        return [*_record_each(errand, documents[:half]), *_record_each(errand, documents[half:])]
