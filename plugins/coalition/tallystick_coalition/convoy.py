"""Many transfers at once: each phase of all of them is one batch, and each of them ends as it would have ended alone.

The events, their ids and the messages are those of :mod:`.exchange`, so that a convoy which is cut anywhere is brought to
its end as single transfers are: by saying it again, or by asking.  Only limits see a difference: all of a convoy is held
before anything of it is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from tallystick.errors import EventConflict, TallyError, UnknownMember

from .agreement import Kind
from .errors import NotPossible, OutsideTerms, TransferClosed
from .events import Amount, Id, Part, Text
from .exchange import (
    Answer,
    Books,
    Done,
    Message,
    Unreachable,
    check_same,
    in_time,
    refusal_of,
    refused,
    version_of,
)  # fmt: skip

#: How a transfer of a convoy ended: where it stands, or why not.
Ended = Done | TallyError | Unreachable
#: Transfers that travel together at most: what they hold is theirs alone for so long.
MOST = 1_000


class Note(NamedTuple):
    """One event for a brand's books."""

    kind: str
    id: str
    at: datetime
    member: int
    data: Mapping[str, Any]


class ManyBooks(Books, Protocol):
    """A brand's books, as they take many things at once."""

    def record_many(self, notes: Sequence[Note]) -> list[Mapping[str, Any] | TallyError | Unreachable]:
        """Record events as one batch; what each explanation says, or why not."""

    def rows_many(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """The plugin's own rows under each of *keys* that has any."""


class Way(Protocol):
    """The way to a partner, for many messages."""

    @property
    def name(self) -> str: ...
    def ask_many(self, messages: Sequence[Message]) -> list[Answer | None]:
        """Say messages of one action together; None where there was no answer.  Raises Unreachable."""


class Wish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One transfer of a convoy, as :func:`.exchange.send` and :func:`.exchange.take` have it."""

    transfer: Id
    amount: Amount
    kind: Kind = "convert"
    member: int = 0
    alias: str = ""
    order: Text = ""


# --- speaking to a partner -------------------------------------------------------------------------------------------


def send_many(books: ManyBooks, partner: Way, wishes: Sequence[Wish]) -> list[Ended]:
    """The source begins each of *wishes*; how they ended, in their order.  See :func:`.exchange.send`."""
    return _once_each(wishes, lambda some: _send(books, partner, some))


def take_many(books: ManyBooks, partner: Way, wishes: Sequence[Wish]) -> list[Ended]:
    """The target begins each of *wishes*; how they ended, in their order.  See :func:`.exchange.take`."""
    return _once_each(wishes, lambda some: _take(books, partner, some))


def resolve_many(books: ManyBooks, partner: Way, transfers: Iterable[str]) -> list[Ended]:
    """The source asks how transfers ended that it holds, and ends them in the same way; `held`: there was no answer."""
    names = list(dict.fromkeys(transfers))
    rows = _rows(books, partner.name, names)
    ended: dict[str, Ended] = {name: _told(name, rows[name]) for name in names if name in rows}
    ended |= _resolve(books, partner, {name: row for name, row in rows.items() if row["state"] == "held"}, {})
    return [ended[name] for name in names if name in ended]


def _once_each(wishes: Sequence[Wish], do: Callable[[Sequence[Wish]], Mapping[str, Ended]]) -> list[Ended]:
    """In convoys that are not too long; a transfer that is wished twice is begun once, and then asked about."""
    ended: dict[int, Ended] = {}
    waiting = list(range(len(wishes)))
    while waiting:
        first: dict[str, int] = {}
        for place in waiting:
            if len(first) < MOST:
                first.setdefault(wishes[place].transfer, place)
        done = do([wishes[place] for place in first.values()])
        ended |= {place: done[transfer] for transfer, place in first.items()}
        waiting = [place for place in waiting if place not in ended]
    return [ended[place] for place in range(len(wishes))]


def _send(books: ManyBooks, partner: Way, wishes: Sequence[Wish]) -> dict[str, Ended]:
    ended: dict[str, Ended] = {}
    rows = _rows(books, partner.name, [wish.transfer for wish in wishes])
    linked = books.rows_many({f"m:{wish.member}" for wish in wishes if not wish.alias})
    at = books.now
    version = version_of(books, partner.name, at)
    fresh, waiting, notes = {}, {}, []
    for wish in wishes:
        row = rows.get(wish.transfer)
        alias = wish.alias or linked.get(f"m:{wish.member}", {}).get(f"alias:{partner.name}", "")
        try:
            if row is not None:
                ended[wish.transfer] = _known(row, wish)
                if row["state"] == "held":
                    waiting[wish.transfer] = row
            elif not version:
                raise OutsideTerms("there is no agreement in force with this partner")
            elif not alias:
                raise NotPossible("the member is not known to this partner")
            else:
                fresh[wish.transfer] = wish, alias
                data = {"kind": wish.kind, "amount": wish.amount, "version": version}
                notes.append(_note(partner.name, wish.transfer, "held", at, wish.member, **data))
        except TallyError as refusal:
            ended[wish.transfer] = refusal
    messages = []
    for (wish, alias), told in zip(fresh.values(), books.record_many(notes), strict=True):
        if isinstance(told, Exception):
            ended[wish.transfer] = told
            continue
        row = {"state": "held", "member": wish.member, "gets": told["gets"], "owed": told["owed"]}
        waiting[wish.transfer] = row
        messages.append(
            Message(
                action="commit", sender=books.brand, at=at, transfer=wish.transfer, kind=wish.kind, alias=alias,
                amount=wish.amount, version=version, parts=msgspec.convert(told["parts"], type=tuple[Part, ...]),
            )
        )  # fmt: skip
    codes: dict[str, str] = {}
    accepted: dict[str, Answer] = {}
    for message, answer in zip(messages, _ask(partner, messages), strict=True):
        if answer is not None and answer.state == "committed":
            accepted[message.transfer] = answer
        elif answer is not None:
            codes[message.transfer] = answer.code
    ended |= _accept(books, partner, accepted)
    left = {name: row for name, row in waiting.items() if name not in accepted or _is_held(ended[name])}
    return ended | _resolve(books, partner, left, codes)


def _take(books: ManyBooks, partner: Way, wishes: Sequence[Wish]) -> dict[str, Ended]:
    ended: dict[str, Ended] = {}
    rows = _rows(books, partner.name, [wish.transfer for wish in wishes])
    at = books.now
    version = version_of(books, partner.name, at)
    asked, lost = [], []
    for wish in wishes:
        row = rows.get(wish.transfer)
        try:
            if row is not None and row["state"] == "committed":
                check_same(row, "redeem", wish.amount, wish.member)
                ended[wish.transfer] = _told(wish.transfer, row)
            elif not version:
                raise OutsideTerms("there is no agreement in force with this partner")
            else:
                asked.append(wish)
        except TallyError as refusal:
            ended[wish.transfer] = refusal
    common: dict[str, Any] = {"sender": books.brand, "at": at}
    holds = [
        Message(action="hold", transfer=w.transfer, kind="redeem", alias=w.alias, amount=w.amount, version=version, **common)
        for w in asked
    ]  # fmt: skip
    held, notes = [], []
    for wish, answer in zip(asked, _ask(partner, holds), strict=True):
        if answer is not None and answer.state == "held":
            held.append(wish.transfer)
            data = {
                "kind": "redeem", "amount": wish.amount, "version": version, "order": wish.order,
                "parts": msgspec.to_builtins(answer.parts),
            }  # fmt: skip
            notes.append(_note(partner.name, wish.transfer, "committed", at, wish.member, **data))
        else:
            lost.append(wish.transfer)
            ended[wish.transfer] = Unreachable() if answer is None else refusal_of(answer.code)
    confirms = []
    for transfer, told in zip(held, books.record_many(notes), strict=True):
        if isinstance(told, Exception):
            ended[transfer] = told
            if isinstance(told, TallyError):
                lost.append(transfer)
            continue
        ended[transfer] = Done(transfer=transfer, state="committed", gets=told["gets"], owed=told["owed"])
        confirms.append(
            Message(action="confirm", transfer=transfer, period=told["period"], owed=told["owed"], **common)
        )
    _ask(partner, confirms)  # the source holds and will ask: we have committed
    _give_up(books, partner, lost, common)
    return ended


def _known(row: Mapping[str, Any], wish: Wish) -> Done:
    if row["state"] == "released":
        return Done(transfer=wish.transfer, state="released", code=TransferClosed.code)
    check_same(row, wish.kind, wish.amount, wish.member)
    return _told(wish.transfer, row)


def _told(transfer: str, row: Mapping[str, Any]) -> Done:
    return Done(transfer=transfer, state=row["state"], gets=row.get("gets", 0), owed=row.get("owed", 0))


def _is_held(ended: Ended) -> bool:
    return isinstance(ended, Done) and ended.state == "held"


def _accept(books: ManyBooks, partner: Way, answers: Mapping[str, Answer]) -> dict[str, Ended]:
    notes = [
        _note(partner.name, transfer, "confirmed", books.now, period=answer.period, owed=answer.owed)
        for transfer, answer in answers.items()
    ]
    ended: dict[str, Ended] = {}
    for (transfer, answer), told in zip(answers.items(), books.record_many(notes), strict=True):
        if isinstance(told, Unreachable):
            ended[transfer] = Done(transfer=transfer, state="held", gets=answer.gets, owed=answer.owed)
        elif isinstance(told, TallyError) and not isinstance(told, EventConflict | TransferClosed):
            ended[transfer] = told
        else:
            ended[transfer] = Done(transfer=transfer, state="confirmed", gets=answer.gets, owed=answer.owed)
    return ended


def _resolve(
    books: ManyBooks, partner: Way, rows: Mapping[str, Mapping[str, Any]], codes: Mapping[str, str]
) -> dict[str, Ended]:
    """The target decides about each of *rows*, which are held; *codes* say why it refused."""
    ended: dict[str, Ended] = {
        name: Done(transfer=name, state="held", gets=row["gets"], owed=row["owed"]) for name, row in rows.items()
    }
    voids = [Message(action="void", sender=books.brand, at=books.now, transfer=transfer) for transfer in rows]
    accepted, released = {}, []
    for message, answer in zip(voids, _ask(partner, voids), strict=True):
        if answer is not None and answer.state == "committed":
            accepted[message.transfer] = answer
        elif answer is not None and answer.state == "voided":
            released.append(message.transfer)
    ended |= _accept(books, partner, accepted)
    notes = [
        _note(partner.name, name, "released", books.now, rows[name]["member"], reason=codes.get(name, ""))
        for name in released
    ]
    for name, told in zip(released, _record(books, notes), strict=True):
        if isinstance(told, TallyError) and not isinstance(told, EventConflict | TransferClosed):
            ended[name] = told
        elif not isinstance(told, Unreachable):
            ended[name] = Done(transfer=name, state="released", code=codes.get(name, "") or NotPossible.code)
    return ended


def _give_up(books: ManyBooks, partner: Way, transfers: Sequence[str], common: dict[str, Any]) -> None:
    """Never commit these, and say so; if nobody hears it, the source asks one day."""
    rows = _rows(books, partner.name, transfers)
    notes = [_note(partner.name, name, "voided", common["at"]) for name in transfers if name not in rows]
    told = iter(books.record_many(notes))
    voided = [
        name for name in transfers
        if (rows[name]["state"] == "voided" if name in rows else not isinstance(next(told), Exception))
    ]  # fmt: skip
    _ask(partner, [Message(action="release", transfer=name, **common) for name in voided])


def _ask(partner: Way, messages: Sequence[Message]) -> list[Answer | None]:
    if not messages:
        return []
    try:
        return partner.ask_many(messages)
    except Unreachable:
        return [None] * len(messages)


# --- hearing what a partner says -------------------------------------------------------------------------------------


def receive_many(books: ManyBooks, messages: Sequence[Message]) -> list[Answer | None]:
    """Do what a partner asks in messages of one action, each as :func:`.exchange.receive` would; None: nobody knows yet."""
    match messages[0].action:
        case "hold" | "commit":
            return _begin(books, messages)
        case "void":
            return _decide(books, messages, "voided", ("voided", "committed"))
        case "confirm":
            return _decide(books, messages, "confirmed", ("confirmed",))
        case "release":
            return _decide(books, messages, "released", ("released",))
    raise ValueError(f"{messages[0].action} is not said of many at once")


def _begin(books: ManyBooks, messages: Sequence[Message]) -> list[Answer | None]:
    aliases = books.rows_many({_alias(message) for message in messages if message.alias})
    answers: dict[int, Answer | None] = {}
    notes: dict[int, Note] = {}
    for place, message in enumerate(messages):
        data: dict[str, Any] = {"kind": message.kind, "amount": message.amount, "version": message.version}
        if message.action == "commit":
            data |= {"parts": msgspec.to_builtins(message.parts), "order": message.order}
        member = aliases.get(_alias(message), {}).get("member", 0)
        what = "held" if message.action == "hold" else "committed"
        try:
            in_time(books, message)
            notes[place] = _note(message.sender, message.transfer, what, message.at, member, **data)
        except TallyError as refusal:
            answers[place] = refused(refusal)
    for place, told in zip(notes, books.record_many(list(notes.values())), strict=True):
        if isinstance(told, Mapping):
            answers[place] = _begun(messages[place], told)
        else:
            answers[place] = refused(told) if isinstance(told, TallyError) else None
    return [answers[place] for place in range(len(messages))]


def _begun(message: Message, told: Mapping[str, Any]) -> Answer:
    if message.action == "commit":
        return Answer(state="committed", period=told["period"], owed=told["owed"], gets=told["gets"])
    parts = msgspec.convert(told["parts"], type=tuple[Part, ...])
    return Answer(state="held", owed=told["owed"], gets=told["gets"], parts=parts)


def _decide(books: ManyBooks, messages: Sequence[Message], what: str, ends: tuple[str, ...]) -> list[Answer | None]:
    """Bring transfers to their end, each once; how they stand then."""
    sender, names = messages[0].sender, [message.transfer for message in messages]
    rows = _rows(books, sender, names)
    notes: dict[str, Note] = {}
    for message in messages:
        row = rows.get(message.transfer)
        if row is None or row["state"] not in ends:
            data = {"period": message.period, "owed": message.owed} if what == "confirmed" else {}
            member = (row or {}).get("member", 0) if what == "released" else 0
            notes[message.transfer] = _note(sender, message.transfer, what, books.now, member, **data)
    failed = dict(zip(notes, _record(books, list(notes.values())), strict=True))
    rows = {**rows, **_rows(books, sender, list(notes))}
    return [_decided(message, rows.get(message.transfer), ends, failed.get(message.transfer)) for message in messages]


def _decided(
    message: Message, row: Mapping[str, Any] | None, ends: tuple[str, ...], told: Mapping[str, Any] | Exception | None
) -> Answer | None:
    if isinstance(told, Unreachable):
        return None
    if isinstance(told, TallyError) and not isinstance(told, EventConflict | TransferClosed):
        return refused(told)  # those two: somebody else brought it to an end a moment ago
    if row is None or row["state"] not in ends:
        return refused(TransferClosed())
    if message.action == "confirm" and (row["period"], row["owed"]) != (message.period, message.owed):
        return Answer(state="refused", code="coalition_mismatch")
    if row["state"] == "committed":
        return Answer(state="committed", period=row["period"], owed=row["owed"], gets=row["gets"])
    return Answer(state=row["state"])


# --- both ------------------------------------------------------------------------------------------------------------


def _note(partner: str, transfer: str, what: str, at: datetime, member: int = 0, **data: Any) -> Note:
    """What becomes of a transfer, under the id it has in :mod:`.exchange`."""
    return Note(f"coalition.{what}", f"{partner}/{transfer}/{what}", at, member, {"partner": partner, "transfer": transfer, **data})  # fmt: skip


def _record(books: ManyBooks, notes: Sequence[Note]) -> list[Mapping[str, Any] | TallyError | Unreachable]:
    """Record ends; where the member was forgotten meanwhile, nobody is there to give anything back to."""
    told = books.record_many(notes)
    gone = [place for place, each in enumerate(told) if isinstance(each, UnknownMember)]
    again = books.record_many([notes[place]._replace(member=0) for place in gone])
    for place, each in zip(gone, again, strict=True):
        told[place] = each
    return told


def _rows(books: ManyBooks, partner: str, transfers: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """How transfers stand, by their ids; those nobody knows are left out."""
    found = books.rows_many([f"transfer/{partner}/{transfer}" for transfer in transfers])
    states = {name: found.get(f"transfer/{partner}/{name}", {}).get("state") for name in transfers}
    return {name: state for name, state in states.items() if state}


def _alias(message: Message) -> str:
    return f"alias/{message.sender}/{message.alias}"
