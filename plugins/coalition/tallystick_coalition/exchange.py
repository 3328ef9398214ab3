"""Two phases between two brands: hold at the source, commit at the target, confirm or release; the same over any way.

Every message may be lost, repeated or late.  The target decides: once it has committed nothing can be released, and once
it has said that it never will, it never does.  Who does not know asks; nobody assumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

from tallystick.errors import EventConflict, Refused, TallyError, UnknownMember

from .agreement import Brand, Kind
from .errors import (
    ExposureReached,
    Mismatch,
    NotAgreed,
    NotPossible,
    OutsideTerms,
    TransferClosed,
    UnknownTransfer,
)
from .events import Alias, Amount, Id, Owed, Part, Period, Text, Version
from .hooks import TOLERANCE

Action = Literal["hello", "hold", "commit", "void", "confirm", "release", "return", "close", "statement", "entries"]


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one brand says to another."""

    action: Action
    sender: Brand
    at: datetime
    transfer: Id | Literal[""] = ""
    kind: Kind | Literal[""] = ""
    alias: Alias | Literal[""] = ""
    amount: Amount | Literal[0] = 0
    version: Version | Literal[0] = 0
    parts: Annotated[tuple[Part, ...], Meta(max_length=200)] = ()
    order: Text = ""
    period: Period | Literal[""] = ""
    owed: Owed = 0
    total: Amount | Literal[0] = 0
    before: Owed = 0  #: of `return`: what had come back before it


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What comes back.  ``state`` is where the transfer stands then; refused: nothing was changed, and ``code`` says why."""

    state: Literal["held", "committed", "voided", "confirmed", "released", "returned", "closed", "told", "refused"]
    code: Annotated[str, Meta(pattern="^[a-z_]*$", max_length=64)] = ""
    period: Period | Literal[""] = ""
    owed: Owed = 0
    gets: Owed = 0
    parts: Annotated[tuple[Part, ...], Meta(max_length=200)] = ()
    body: str = ""


class Unreachable(Exception):
    """No answer: whether the message arrived is not known."""


class Books(Protocol):
    """A brand's own books: where its events are recorded and its rows are read."""

    @property
    def brand(self) -> str: ...
    @property
    def now(self) -> datetime: ...
    def record(self, kind: str, id: str, at: datetime, member: int, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Record one event; what its explanation says.  Raises its refusal, or Unreachable if that is not known."""

    def rows(self, key: str) -> Mapping[str, Any]:
        """The plugin's own rows under *key*."""

    def untold(self, partner: str, period: str) -> int:
        """Returns up to that period that the partner has not heard of."""

    def statement(self, partner: str, period: str) -> str:
        """The signed statement of a period with a partner, as JSON."""

    def entries(self, partner: str, period: str) -> str:
        """The entries of a period with a partner, as JSON."""

    def introduction(self, partner: str) -> str:
        """What this brand says of itself, as JSON."""


class Partner(Protocol):
    """The way to a partner."""

    @property
    def name(self) -> str: ...
    def ask(self, message: Message) -> Answer:
        """Say something to the partner.  Raises Unreachable."""


# --- hearing what a partner says -------------------------------------------------------------------------------------

#: What a partner may hear of; whatever else a refusal is about, it is about the member, and is told as one and the same.
_TOLD = (OutsideTerms, ExposureReached, Mismatch, TransferClosed, UnknownTransfer, NotAgreed)


def receive(books: Books, message: Message) -> Answer:
    """Do what a partner asks, once however often it is said; the same message has the same answer."""
    try:
        in_time(books, message)
        return _ACTIONS[message.action](books, message)
    except TallyError as refusal:
        return refused(refusal)


def in_time(books: Books, message: Message) -> None:
    """What begins a transfer is said now.  Raises OutsideTerms."""
    if message.action in ("hold", "commit") and abs(message.at - books.now) > TOLERANCE:
        raise OutsideTerms("the message is too old, or our clocks differ")


def refused(refusal: TallyError) -> Answer:
    """What the partner hears of a refusal."""
    if (
        isinstance(refusal, _TOLD) and refusal.pointer != "/member"
    ):  # what is about the member would tell that it is there
        return Answer(state="refused", code=refusal.code)
    return Answer(state="refused", code=(Mismatch if isinstance(refusal, EventConflict) else NotPossible).code)


def _hold(books: Books, message: Message) -> Answer:
    member = books.rows(f"alias/{message.sender}/{message.alias}").get("member", 0) if message.alias else 0
    told = _say(books, message, "held", member, kind=message.kind, amount=message.amount, version=message.version)
    parts = msgspec.convert(told["parts"], type=tuple[Part, ...])
    return Answer(state="held", owed=told["owed"], gets=told["gets"], parts=parts)


def _commit(books: Books, message: Message) -> Answer:
    member = books.rows(f"alias/{message.sender}/{message.alias}").get("member", 0) if message.alias else 0
    told = _say(
        books, message, "committed", member, kind=message.kind, amount=message.amount, version=message.version,
        parts=msgspec.to_builtins(message.parts), order=message.order,
    )  # fmt: skip
    return Answer(state="committed", period=told["period"], owed=told["owed"], gets=told["gets"])


def _void(books: Books, message: Message) -> Answer:
    row = _decide(books, message, "voided", ("voided", "committed"))
    if row["state"] != "committed":
        return Answer(state="voided")
    return Answer(state="committed", period=row["period"], owed=row["owed"], gets=row["gets"])


def _confirm(books: Books, message: Message) -> Answer:
    row = _decide(books, message, "confirmed", ("confirmed",), period=message.period, owed=message.owed)
    if (row["period"], row["owed"]) != (message.period, message.owed):
        raise Mismatch
    return Answer(state="confirmed")


def _release(books: Books, message: Message) -> Answer:
    _decide(books, message, "released", ("released",))
    return Answer(state="released")


def _return(books: Books, message: Message) -> Answer:
    row = _row(books, message.sender, message.transfer) or {}
    if row.get("returned", 0) < message.before:
        raise Mismatch("an earlier return is to be told first")
    if row.get("returned", 0) < message.total:
        _say(books, message, "returned", row.get("member", 0), total=message.total, period=message.period)
    return Answer(state="returned")


def _decide(books: Books, message: Message, what: str, ends: tuple[str, ...], **data: Any) -> Mapping[str, Any]:
    """Bring a transfer to its end, once; how it stands then."""
    row = _row(books, message.sender, message.transfer)
    if row is None or row["state"] not in ends:
        with suppress(EventConflict, TransferClosed):  # somebody else brought it to an end a moment ago
            _say(books, message, what, (row or {}).get("member", 0) if what == "released" else 0, **data)
        row = _row(books, message.sender, message.transfer)
    if row is None or row["state"] not in ends:
        raise TransferClosed
    return row


def _close(books: Books, message: Message) -> Answer:
    pair = books.rows(f"pair/{message.sender}").get("state") or {}
    if pair.get("closed", "") < message.period:
        close(books, message.sender, message.period)
    return Answer(state="closed")


def _statement(books: Books, message: Message) -> Answer:
    return Answer(state="told", body=books.statement(message.sender, message.period))


def _entries(books: Books, message: Message) -> Answer:
    return Answer(state="told", body=books.entries(message.sender, message.period))


def _hello(books: Books, message: Message) -> Answer:
    return Answer(state="told", body=books.introduction(message.sender))


_ACTIONS: Final = {
    "hello": _hello,
    "hold": _hold, "commit": _commit, "void": _void, "confirm": _confirm, "release": _release, "return": _return,
    "close": _close, "statement": _statement, "entries": _entries,
}  # fmt: skip


def _say(books: Books, message: Message, what: str, member: int, **data: Any) -> Mapping[str, Any]:
    """Record what a message says.  A beginning has the message's time, so that said again it is the same event."""
    at = message.at if what in ("held", "committed") else books.now
    return _note(books, message.sender, message.transfer, what, at, member, **data)


def _note(
    books: Books, partner: str, transfer: str, what: str, at: datetime, member: int = 0, **data: Any
) -> Mapping[str, Any]:
    """Record what becomes of a transfer, under an id that says so."""
    end = f"/{data['total']}" if what == "returned" else ""
    data = {"partner": partner, "transfer": transfer, **data}
    kind, event = f"coalition.{what}", f"{partner}/{transfer}/{what}{end}"
    try:
        return books.record(kind, event, at, member, data)
    except UnknownMember:
        if what not in ("released", "returned"):
            raise
        return books.record(kind, event, at, 0, data)  # forgotten meanwhile: nobody is there to give anything back to


def _row(books: Books, partner: str, transfer: str) -> Mapping[str, Any] | None:
    return books.rows(f"transfer/{partner}/{transfer}").get("state")


# --- speaking to a partner -------------------------------------------------------------------------------------------


class Done(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a transfer stands.  `held`: the partner has not answered; it is asked again until it does."""

    transfer: str
    state: Literal["held", "confirmed", "released", "committed"]
    gets: int = 0
    owed: int = 0
    code: str = ""  #: why it was released


def version_of(books: Books, partner: str, at: datetime) -> int:
    """The version of the agreement that is in force, 0 if none is: then everything is refused by name."""
    from . import agreement

    rows = books.rows(f"agreements/{partner}")
    return max((int(name) for name, row in rows.items() if agreement.read(row["text"]).since <= at), default=0)


def alias_of(books: Books, partner: str, member: int) -> str:
    """The code by which the partner knows the member.  Raises NotPossible if the member did not agree to one."""
    alias = books.rows(f"m:{member}").get(f"alias:{partner}")
    if not alias:
        raise NotPossible("the member is not known to this partner")
    return str(alias)


def send(
    books: Books, partner: Partner, *, transfer: str, kind: Kind, amount: int, member: int = 0, alias: str = ""
) -> Done:
    """The source begins: convert the member's points, or let a member of the partner (*alias*) earn there.

    Asked again with the same transfer, nothing more happens, and where it stands is told.  Raises the source's own refusal; a refusal of the partner's releases what was held.
    """
    known = _row(books, partner.name, transfer)
    if known is not None:
        if known["state"] == "released":
            return Done(transfer=transfer, state="released", code=TransferClosed.code)
        check_same(known, kind, amount, member)
        try:
            return resolve(books, partner, transfer)
        except Unreachable:
            return Done(transfer=transfer, state="held", gets=known["gets"], owed=known["owed"])
    at = books.now
    version = version_of(books, partner.name, at)
    if not version:
        raise OutsideTerms("there is no agreement in force with this partner")
    alias = alias or alias_of(books, partner.name, member)
    try:
        told = _note(books, partner.name, transfer, "held", at, member, kind=kind, amount=amount, version=version)
    except EventConflict:
        if _row(books, partner.name, transfer) is None:
            raise
        # somebody said the same a moment ago: now it is known
        return send(books, partner, transfer=transfer, kind=kind, amount=amount, member=member, alias=alias)
    parts = msgspec.convert(told["parts"], type=tuple[Part, ...])
    message = Message(
        action="commit",
        sender=books.brand,
        at=at,
        transfer=transfer,
        kind=kind,
        alias=alias,
        amount=amount,
        version=version,
        parts=parts,
    )
    code = ""
    with suppress(Unreachable):
        answer = partner.ask(message)
        if answer.state == "committed":
            return _accept(books, partner, transfer, answer)
        code = answer.code
    try:
        return resolve(books, partner, transfer, code)
    except Unreachable:
        return Done(transfer=transfer, state="held", gets=told["gets"], owed=told["owed"])


def take(
    books: Books, partner: Partner, *, transfer: str, alias: str, points: int, order: str = "", member: int = 0
) -> Done:
    """The target begins: whoever shows *alias* pays here with the partner's points.

    Asked again with the same transfer, nothing more happens.  Raises the refusal, or Unreachable.
    """
    known = _row(books, partner.name, transfer)
    if known is not None and known["state"] == "committed":
        check_same(known, "redeem", points, member)
        return Done(transfer=transfer, state="committed", gets=known["gets"], owed=known["owed"])
    at = books.now
    version = version_of(books, partner.name, at)
    if not version:
        raise OutsideTerms("there is no agreement in force with this partner")
    common: dict[str, Any] = {"sender": books.brand, "transfer": transfer}
    try:
        answer = partner.ask(
            Message(action="hold", at=at, kind="redeem", alias=alias, amount=points, version=version, **common)
        )
    except Unreachable:
        _give_up(books, partner, at, common)
        raise
    if answer.state != "held":
        _give_up(books, partner, at, common)
        raise refusal_of(answer.code)
    try:
        parts = msgspec.to_builtins(answer.parts)
        told = _note(
            books, partner.name, transfer, "committed", at, member,
            kind="redeem", amount=points, version=version, parts=parts, order=order,
        )  # fmt: skip
    except EventConflict:
        if (_row(books, partner.name, transfer) or {}).get("state") != "committed":
            raise
        return take(books, partner, transfer=transfer, alias=alias, points=points, order=order, member=member)
    except TallyError:
        _give_up(books, partner, at, common)
        raise
    with suppress(Unreachable):  # the source holds and will ask: we have committed
        partner.ask(Message(action="confirm", at=at, period=told["period"], owed=told["owed"], **common))
    return Done(transfer=transfer, state="committed", gets=told["gets"], owed=told["owed"])


def check_same(row: Mapping[str, Any], kind: str, amount: int, member: int) -> None:
    """A transfer that is known is the one that is meant.  Raises Mismatch."""
    if (row["kind"], row["amount"], row["member"]) != (kind, amount, member):
        raise Mismatch("this transfer is known with other facts")


def _give_up(books: Books, partner: Partner, at: datetime, common: dict[str, Any]) -> None:
    """Never commit this, and say so; if nobody hears it, the source asks one day."""
    row = _row(books, partner.name, common["transfer"])
    if row is None:
        _note(books, partner.name, common["transfer"], "voided", at)
    elif row["state"] != "voided":
        return  # the same transfer was committed before: it stands
    with suppress(Unreachable):
        partner.ask(Message(action="release", at=at, **common))


def resolve(books: Books, partner: Partner, transfer: str, code: str = "") -> Done:
    """The source asks how a transfer it holds ended, and ends it in the same way.  Raises Unreachable."""
    row = _row(books, partner.name, transfer)
    if row is None:
        raise UnknownTransfer
    if row["state"] != "held":
        return Done(transfer=transfer, state=row["state"], gets=row.get("gets", 0), owed=row.get("owed", 0))
    answer = partner.ask(Message(action="void", sender=books.brand, at=books.now, transfer=transfer))
    if answer.state == "committed":
        return _accept(books, partner, transfer, answer)
    if answer.state != "voided":
        raise Unreachable
    with suppress(EventConflict, TransferClosed):  # it was released a moment ago
        _note(books, partner.name, transfer, "released", books.now, row["member"], reason=code)
    return Done(transfer=transfer, state="released", code=code or NotPossible.code)


def _accept(books: Books, partner: Partner, transfer: str, answer: Answer) -> Done:
    with suppress(EventConflict, TransferClosed):  # it was confirmed a moment ago
        _note(books, partner.name, transfer, "confirmed", books.now, period=answer.period, owed=answer.owed)
    return Done(transfer=transfer, state="confirmed", gets=answer.gets, owed=answer.owed)


def give_back(books: Books, partner: Partner, *, transfer: str, total: int) -> None:
    """The target gives back: *total* of the transfer has come back in all.  The partner is told until it has heard."""
    row = _row(books, partner.name, transfer)
    if row is None:
        raise UnknownTransfer
    member = row["member"] if row["kind"] == "earn" else 0
    told = _note(books, partner.name, transfer, "returned", books.now, member, total=total, period="")
    with suppress(Unreachable):  # the job tells it
        tell_return(books, partner, transfer, total, told["before"], told["period"])


def tell_return(books: Books, partner: Partner, transfer: str, total: int, before: int, period: str) -> bool:
    """Tell the source what came back; whether it took it.  Raises Unreachable.

    It may never have heard that we committed, so that is said first; and returns are told in their order.
    """
    row = _row(books, partner.name, transfer) or {}
    common: dict[str, Any] = {"sender": books.brand, "at": books.now, "transfer": transfer}
    partner.ask(Message(action="confirm", period=row["period"], owed=row["owed"], **common))
    back = Message(action="return", total=total, before=before, period=period, **common)
    return partner.ask(back).state == "returned"


def close(books: Books, partner: str, period: str, *, early: bool = False) -> None:
    """Close a period with a partner, *early* before it is over.

    Raises Mismatch while transfers or returns of that time wait for an answer.
    """
    pair = books.rows(f"pair/{partner}").get("state") or {}
    if pair.get("closed", "") < period:
        if books.untold(partner, period):
            raise Mismatch("returns of that time were not told yet")
        data = {"partner": partner, "period": period, **({"early": True} if early else {})}
        books.record("coalition.closed", f"{partner}/closed/{period}", books.now, 0, data)


_REFUSALS: Final[Mapping[str, type[Refused]]] = {
    one.code: one for one in (NotPossible, OutsideTerms, ExposureReached, Mismatch, TransferClosed, UnknownTransfer)
}


def refusal_of(code: str) -> Refused:
    """What a partner's *code* says here."""
    return _REFUSALS.get(code, NotPossible)()
