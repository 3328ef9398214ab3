"""A brand's desk in a house: its books as the exchange uses them, the way to partners in the same house, and drawing up statements."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import attrs
import msgspec
from msgspec import Meta, Struct

from tallystick import errands
from tallystick.errors import TallyError
from tallystick.ledger import Record, instant, member_name

from . import agreement as agreements
from . import settle, store
from .agreement import Agreement
from .convoy import Note, receive_many
from .errors import NotAgreed, NotPossible, OutsideTerms
from .exchange import Answer, Message, Unreachable, receive
from .hooks import Coalition
from .line import Line
from .settle import Entry, SignedStatement, Statement

PLUGIN = "coalition"
#: Refusals that pass: whether it was recorded will be known later.
PASSING = ("unavailable", "plugin_failed", "tenant_not_served")


Errand: TypeAlias = errands.Errand[Coalition]


class Introduction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a brand in another deployment introduces itself, on a line that is signed."""

    brand: agreements.Brand
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3)]
    at: agreements.Instant  #: what its clock says
    key: Annotated[str, Meta(pattern="^([A-Za-z0-9+/]{43}=)?$", max_length=44)] = ""  #: signs agreements and statements
    agreement: Annotated[str, Meta(max_length=60)] = ""  #: the latest one that it knows
    hash: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$", max_length=64)] = ""


@attrs.frozen
class Desk:
    """One brand's books in a house."""

    errand: Errand

    @property
    def brand(self) -> str:
        """What partners call it."""
        return self.errand.plugin.settings.brand

    @property
    def now(self) -> datetime:
        """The house's time."""
        return self.errand.now

    def record(self, kind: str, id: str, at: datetime, member: int, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Record one event; what its explanation says.  What somebody would have to look at first is not possible here."""
        (told,) = self.record_many([Note(kind, id, at, member, data)])
        if isinstance(told, Exception):
            raise told
        return told

    def record_many(self, notes: Sequence[Note]) -> list[Mapping[str, Any] | TallyError | Unreachable]:
        """Record events as one batch; what each explanation says, or why not, as :meth:`record` has it."""
        outcomes = self.errand.record([_document(*note) for note in notes]) if notes else ()
        return [self._told(note, outcome) for note, outcome in zip(notes, outcomes, strict=True)]

    def _told(self, note: Note, outcome: Any) -> Mapping[str, Any] | TallyError | Unreachable:
        if isinstance(outcome, TallyError):
            return Unreachable(outcome.message) if outcome.code in PASSING else outcome
        record: Record = outcome.record
        if record.status in (
            "held",
            "step_up",
        ):  # nobody waits at a till for that: it is undone, and the transfer refused
            void = {"entry": record.entry, "reason": "transfers between brands do not wait"}
            self.errand.record([_document("entry.voided", f"{note.id}/undone", self.now, 0, void)])
            return NotPossible()
        for step in record.explanation:
            if step.data and "act" in step.data:
                return step.data
        return NotPossible()

    def rows(self, key: str) -> Mapping[str, Any]:
        """The plugin's own rows under *key*."""
        return self.rows_many((key,)).get(key, {})

    def rows_many(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """The plugin's own rows under each of *keys* that has any."""
        if not keys:
            return {}
        with self.errand.house.reading() as conn:
            return store.rows_under(conn, self.errand.tenant, keys)

    def agreement(self, partner: str) -> Agreement | None:
        """The latest agreement with a partner."""
        rows = self.rows(f"agreements/{partner}")
        return agreements.read(rows[max(rows, key=int)]["text"]) if rows else None

    def key(self) -> str:
        """The brand's private key, read where it is used and kept nowhere.  Raises NotAgreed if there is none."""
        said = self.errand.plugin.settings.key
        found = os.environ.get(said["env"], "") if "env" in said else ""
        if "file" in said:
            try:
                found = (Path(self.errand.house.config.file).parent / said["file"]).read_text(encoding="utf-8").strip()
            except OSError:
                found = ""
        if not found:
            raise NotAgreed(f'{self.brand} has no key: make one with "tally coalition key" and name it in the settings')
        return found

    # -- books ------------------------------------------------------------------------------------------------------------

    def untold(self, partner: str, period: str) -> int:
        """Returns up to that period that the partner has not heard of."""
        self.errand.house.relay()
        with self.errand.house.reading() as conn:
            return store.count_untold(conn, self.errand.tenant, partner, period)

    def list_entries(self, partner: str, period: str) -> list[Entry]:
        """What happened with a partner in a period."""
        with self.errand.house.reading() as conn:
            return store.list_entries(conn, self.errand.tenant, partner, period)

    def draw_up(self, partner: str, period: str) -> Statement:
        """The statement of a period, from our own books."""
        agreed = self.agreement(partner)
        if agreed is None:
            raise OutsideTerms(f"there is no agreement with {partner}")
        return settle.draw_up(agreed.brands, period, agreed.currency, self.list_entries(partner, period))

    def statement(self, partner: str, period: str) -> str:
        """The signed statement, as JSON.  A period that is not closed has none."""
        if (self.rows(f"pair/{partner}").get("state") or {}).get("closed", "") < period:
            raise OutsideTerms(f"{period} is not closed")
        self.errand.house.relay()  # what was recorded before the close is in the books now
        return msgspec.json.encode(self.sign(self.draw_up(partner, period))).decode()

    def sign(self, statement: Statement) -> SignedStatement:
        """The statement as this brand hands it over."""
        return settle.sign(statement, self.brand, self.key() if self.errand.plugin.settings.key else "")

    def entries(self, partner: str, period: str) -> str:
        """The entries of a period, as JSON."""
        return msgspec.json.encode(self.list_entries(partner, period)).decode()

    def find(self, partner: str, period: str) -> Any | None:
        """The statement that was kept of a period, with the partner's and what they differ in; None before it is settled."""
        with self.errand.house.reading() as conn:
            return store.find_statement(conn, self.errand.tenant, partner, period)

    def places(self, partner: str, period: str) -> dict[tuple[str, int], str]:
        """The entries of the journal behind the entries of a period: there stand the lots."""
        with self.errand.house.reading() as conn:
            return store.lots_of(conn, self.errand.tenant, partner, period)

    def introduction(self, partner: str) -> str:
        """What this brand says of itself to a partner, as JSON."""
        agreed = self.agreement(partner)
        settings = self.errand.plugin.settings
        return msgspec.json.encode(
            Introduction(
                brand=self.brand, currency=self.errand.plugin.programme.currency, at=self.now,
                key=agreements.public_key(self.key()) if settings.key else "", agreement=agreed.label if agreed else "",
                hash=agreements.digest(agreements.canonical(agreed)) if agreed else "",
            )
        ).decode()  # fmt: skip

    # -- members ----------------------------------------------------------------------------------------------------------

    def alias(self, partner: str, member: int) -> str:
        """The code by which *partner* is to know the member: nobody else's, and nothing that leads to the member or to another code."""
        said = f"coalition/alias/{self.errand.tenant}/{partner}/{member}"
        found = hmac.digest(self.errand.house.secret, said.encode(), "sha256")[:15]
        return base64.b32encode(found).decode().lower()

    def link(self, partner: str, member: int, alias: str = "", *, given: bool = True) -> str:
        """The member agrees to be known to *partner* by a code, theirs or a new one; or takes that back.  The code."""
        alias = alias or (self.rows(f"m:{member}").get(f"alias:{partner}") or self.alias(partner, member))
        event = f"{partner}/{alias}/{member}/{'linked' if given else 'unlinked'}/{instant(self.now)}"
        self.record(
            "coalition.consented", event, self.now, member, {"partner": partner, "alias": alias, "given": given}
        )
        return alias


def _document(kind: str, id: str, at: datetime, member: int, data: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {"id": id, "source": PLUGIN, "type": kind, "time": at.isoformat(), "data": data}
    return {**document, "member": member_name(member)} if member else document


@attrs.frozen
class Neighbour:
    """A partner that is a tenant of the same house."""

    name: str
    desk: Desk

    def ask(self, message: Message) -> Answer:
        """Say something to the partner."""
        return receive(self.desk, message)

    def ask_many(self, messages: Sequence[Message]) -> list[Answer | None]:
        """Say messages of one action together."""
        return receive_many(self.desk, messages)


def introduction(desk: Desk, line: Line) -> Introduction | None:
    """What a partner in another deployment says of itself; None if it does not answer, or says that it is somebody else."""
    try:
        answer = line.ask(Message(action="hello", sender=desk.brand, at=desk.now))
        said = msgspec.json.decode(answer.body, type=Introduction)
    except (Unreachable, msgspec.MsgspecError):
        return None
    return said if said.brand == line.name else None


def partner_of(desk: Desk, name: str) -> Neighbour | Line:
    """The way to a partner.  Raises NotPossible if either does not name the other as its partner."""
    settings = desk.errand.plugin.settings
    known = settings.partners.get(name)
    if known is None:
        raise NotPossible(f"{name} is no partner of {settings.brand}")
    if known.url:
        return Line(desk.errand, known)
    try:
        errand = desk.errand.house.errand(PLUGIN, known.tenant, "coalition.exchange")
    except TallyError:
        raise NotPossible(f"{name} is not in this house") from None
    if errand.plugin is None:
        raise NotPossible(f"{name} takes no part in a coalition")
    theirs = errand.plugin.settings
    back = theirs.partners.get(settings.brand)
    if theirs.brand != name or back is None or back.tenant != desk.errand.tenant:
        raise NotPossible(f"{name} does not know {settings.brand} as its partner")
    return Neighbour(name, Desk(errand))


def compare(ours: Sequence[Entry], theirs: str, mine: Statement) -> str:
    """What our books and the partner's entries differ in, as JSON."""
    given = msgspec.json.decode(theirs, type=list[Entry])
    found = settle.differences(ours, given)
    return msgspec.json.encode(
        {
            "ours": mine.root,
            "theirs": settle.draw_up(mine.brands, mine.period, mine.currency, given).root,
            "differences": found,
        }
    ).decode()
