"""What can be asked and said over HTTP: every door with its permission, what it takes and what it answers.

No HTTP library here: the functions take a :class:`Call` and return an :class:`Answer` or raise a refusal.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import attrs
import msgspec
from msgspec import Meta, Struct

from . import passes, people, queries, receipts, rulebook, switchboard
from .access import Principal, demand, may
from .engine import Outcome
from .errors import (
    AliasTaken,
    EventConflict,
    Forbidden,
    InvalidConfig,
    InvalidRequest,
    PluginBroken,
    TallyError,
    UnknownEntry,
    UnknownMember,
)
from .events import Arrival, EventKind, Name
from .house import House
from .intake import read_document, read_events
from .ledger import NEVER, Record, entry_name, instant, moment, parse_entry, parse_member
from .people import Birthdate, Detail, MemberRow, Profile
from .problems import Language, problem_document, status_of
from .receipts import STATUSES, Explanation, Receipt, receipt
from .store import Store

#: The permission of doors where each event's kind says what is needed.
BY_KIND: Final = "by kind"
#: The source of events that the house makes of other requests.
SOURCE: Final = "tallystick/http"


@attrs.frozen
class Call:
    """One request, checked: who asks, and what."""

    house: House
    principal: Principal
    permissions: Mapping[str, frozenset[str]]  #: brought by the tenant's plugins
    language: Language
    path: Mapping[str, str]
    query: Any
    body: Any

    @property
    def tenant(self) -> str:
        """Whose books this is about."""
        return self.principal.tenant


@attrs.frozen
class Answer:
    """What to send back."""

    body: Any
    status: int = 200


@attrs.frozen(kw_only=True)
class Door:
    """One method of one route."""

    method: str
    path: str
    permission: str
    #: None for events, which the HTTP door answers itself: it waits for the commit without holding a thread
    answer: Callable[[Call], Answer] | None
    summary: str
    answers: Mapping[int, Any]  #: status -> type of the body
    text: str = ""  #: what it does, where no function says so
    operation: str = ""  #: the operation's id, where no function says so
    query: type[Struct] | None = None
    body: type[Struct] | None = None
    #: the path names a member; a key of the role `member` gets no further than its own
    member: bool = False

    @property
    def name(self) -> str:
        """The operation's id in the OpenAPI document."""
        return self.answer.__name__ if self.answer is not None else self.operation or "post_events"

    @property
    def about(self) -> str:
        """What it does, in a few sentences."""
        said = self.answer.__doc__ if self.answer is not None else self.text
        return re.sub(r"\n +", "\n", said or "").strip()


# --- events ---------------------------------------------------------------------------------------------------------


class EventsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How the events are to be taken."""

    dry_run: Annotated[bool, Meta(description="answer what would be, and record nothing")] = False


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refusal, as RFC 9457 writes it."""

    type: str
    title: str
    status: int
    detail: Annotated[str, Meta(description="a sentence for a person")]
    code: Annotated[str, Meta(description="for programs; never renamed")]
    pointer: Annotated[str, Meta(description="JSON Pointer to the place in the body")] = ""
    details: Mapping[str, Any] = {}


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one event of an array."""

    status: int
    receipt: Receipt | None = None
    problem: Problem | None = None


def admit_events(call: Call, kinds: Mapping[str, EventKind]) -> tuple[list[Arrival | TallyError], bool]:
    """Read the events of a body, and refuse those of kinds that the key may not send."""
    items, single = read_events(
        call.body, tenant=call.tenant, kinds=kinds, received=moment(call.house.clock()), actor=call.principal.actor
    )
    for place, item in enumerate(items):
        if not isinstance(item, TallyError):
            permission = kinds[item.kind].permission
            try:
                if not may(call.principal, permission, call.permissions):
                    demand(call.principal, permission, call.permissions)
                _sign(item, call.principal, call.house.secret)
            except TallyError as error:
                items[place] = error
    return items, single


def _sign(arrival: Arrival, principal: Principal, secret: bytes) -> None:
    """Who does it is the key that says so, unless it names somebody; no key speaks in the name of another one.

    A second person is a second key: it sends the event that was refused to the first one, with what the refusal said.
    """
    facts = arrival.facts
    said = getattr(facts, "by", None)
    if isinstance(said, str) and said.startswith("key:") and said != principal.actor:
        raise Forbidden('"by" names another key than the one that sends it', pointer="/data/by")
    if said == "":
        arrival.facts = msgspec.structs.replace(facts, by=principal.actor)
    approval = getattr(facts, "approved_by", "")
    if approval:
        first = passes.signer_of(secret, arrival.tenant, approval, _claims(arrival))
        if first is None:
            raise Forbidden(
                "a second person approves with a key of their own: they send the same event, with what the refusal said",
                pointer="/data/approved_by",
            )
        if first == principal.key:
            raise Forbidden("the key that asked for it cannot be the second person", pointer="/data/approved_by")
        arrival.facts = msgspec.structs.replace(arrival.facts, approved_by=principal.actor)


def _claims(arrival: Arrival) -> bytes:
    """Everything the sender claims but who approved it."""
    document = msgspec.json.decode(arrival.canonical)
    document["data"].pop("approved_by", None)
    return msgspec.json.encode(document, order="deterministic")


def ask_for_a_second(call: Call, items: Sequence[Arrival | TallyError], outcomes: Sequence[Outcome]) -> None:
    """To a refusal that asks for a second person, add what another key sends with the same event."""
    for item, outcome in zip(items, outcomes, strict=True):
        wanted = isinstance(outcome, TallyError) and outcome.pointer == "/data/approved_by"
        if wanted and isinstance(item, Arrival) and getattr(item.facts, "approved_by", None) == "":
            signed = passes.sign_for(call.house.secret, item.tenant, call.principal.key, _claims(item))
            outcome.details = {**outcome.details, "approved_by": signed}  # type: ignore[union-attr]


def answer_events(outcomes: Sequence[Outcome], single: bool, language: Language, *, dry: bool = False) -> Answer:
    """The answer to a delivery; for a single event that was refused, raise the refusal."""
    if single:
        (outcome,) = outcomes
        if isinstance(outcome, TallyError):
            raise outcome
        return Answer(
            receipt(outcome.record, language, dry=dry and not outcome.repeated),
            STATUSES.get(outcome.record.status, 200),
        )
    items = [_item(outcome, language, dry) for outcome in outcomes]
    return Answer(items, 200 if all(item.status == 200 for item in items) else 207)


def dry_run(house: House, items: Sequence[Arrival | TallyError]) -> list[Outcome]:
    """What would come of events, each for itself."""
    outcomes: list[Outcome] = []
    for item in items:
        if isinstance(item, TallyError):
            outcomes.append(item)
            continue
        try:
            outcomes.append(house.dry_run(item))
        except TallyError as error:
            outcomes.append(error)
    return outcomes


def _item(outcome: Outcome, language: Language, dry: bool) -> Item:
    if isinstance(outcome, TallyError):
        document = problem_document(outcome, language)
        return Item(status=status_of(outcome), problem=msgspec.convert(document, Problem))
    record = outcome.record
    return Item(
        status=STATUSES.get(record.status, 200), receipt=receipt(record, language, dry=dry and not outcome.repeated)
    )


# --- members --------------------------------------------------------------------------------------------------------


class MemberView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A member, without anything that says who this is outside."""

    member: Annotated[str, Meta(description="`m-` and twelve digits")]
    status: str
    enrolled_at: datetime
    tags: tuple[str, ...] = ()
    language: str = ""
    profile: Profile | None = None  #: only for keys with the permission `profiles.read`, and only if asked for


class MemberQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What to tell of a member."""

    profile: Annotated[bool, Meta(description="tell also what the person told us; needs `profiles.read`")] = False


class Person(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person told us.  Encrypted under the member's own key, and gone when the member is forgotten."""

    name: Detail = ""
    phone: Annotated[str, Meta(max_length=32)] = ""
    email: Annotated[str, Meta(max_length=254)] = ""
    birthday: Annotated[Birthdate, Meta(description="`1990-05-17`, or `05-17`")] = ""
    address: Annotated[str, Meta(max_length=1024)] = ""
    more: Annotated[Mapping[Annotated[str, Meta(max_length=64)], Detail], Meta(max_length=64)] = {}


class NewMember(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who joins."""

    #: by which the person is known outside; at least one, so that sending the request again is safe
    external_ids: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=32)]
    profile: Person = Person()
    tags: people.Tags = ()
    language: people.Language = ""
    channel: Annotated[str, Meta(max_length=128)] = ""
    store: Annotated[str, Meta(max_length=128)] = ""
    invited_by: Name | None = None


class Joined(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A member who joined, and the receipt of joining."""

    member: MemberView
    receipt: Receipt


class ExternalId(Struct, frozen=True, forbid_unknown_fields=True):
    """Another id by which the member is to be found."""

    external_id: Name


class Claiming(Struct, frozen=True, forbid_unknown_fields=True):
    """A guest order that was the member's."""

    order: Name


class Merging(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The path's member and another one are the same person."""

    into: Annotated[Name, Meta(description="who stays; everything goes over to this member")]
    reason: Annotated[str, Meta(max_length=128)] = ""
    #: names this merge; without it the same two members are merged once, and again only under a name
    id: Annotated[str, Meta(max_length=64)] = ""


class Parting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge was a mistake."""

    entry: Annotated[Name, Meta(description="the entry of the merge, as its receipt names it")]
    reason: Annotated[str, Meta(max_length=128)] = ""


def post_member(call: Call) -> Answer:
    """Let a person join.  Sending it again answers the same; known ids with another profile are refused."""
    said: NewMember = call.body
    profile = Profile(**msgspec.structs.asdict(said.profile))
    house, tenant = call.house, call.tenant
    try:
        with house.db.begin() as conn:
            number = people.enrol(
                conn,
                house.secret,
                tenant,
                house.clock(),
                external_ids=said.external_ids,
                profile=profile,
                tags=said.tags,
                language=said.language,
            )
            row = people.load(conn, house.secret, tenant, said.external_ids[0])
            assert row.number == number
    except AliasTaken as taken:
        row = _same_person(call, said, profile, taken)
    facts = {"channel": said.channel, "store": said.store, "invited_by": said.invited_by}
    record = _say(call, "member.enrolled", f"enrol/{row.name}", row.name, facts, row.enrolled_at)
    return Answer(Joined(member=_view(row), receipt=receipt(record, call.language)), 201)


def _same_person(call: Call, said: NewMember, profile: Profile, taken: AliasTaken) -> MemberRow:
    """The member who joined with exactly this request before, else the refusal."""
    with call.house.reading() as conn:
        found = people.find(conn, call.house.secret, call.tenant, said.external_ids)
        numbers = {row.number for row in found.values()}
        if len(found) < len(set(said.external_ids)) or len(numbers) != 1:
            raise taken
        row = next(iter(found.values()))
        known = people.load_profile(conn, call.tenant, row.number)
    expected = msgspec.structs.replace(profile, external_ids=tuple(dict.fromkeys(said.external_ids)))
    if (known, row.tags, row.language) != (expected, said.tags, said.language):
        raise taken
    return row


def get_member(call: Call) -> Answer:
    """One member, by number or external id."""
    query: MemberQuery = call.query
    row = _member(call)
    profile = None
    if query.profile:
        demand(call.principal, "profiles.read", call.permissions)
        with call.house.reading() as conn:
            profile = people.load_profile(conn, call.tenant, row.number)
    return Answer(msgspec.structs.replace(_view(row), profile=profile))


def post_link(call: Call) -> Answer:
    """Let the member be found by another external id, too.  Saying it again changes nothing."""
    row = _member(call)
    with call.house.db.begin() as conn:
        people.link(conn, call.house.secret, call.tenant, row.number, call.body.external_id)
    return Answer(_view(row))


def post_claim(call: Call) -> Answer:
    """Link a guest order to the member, who earns for it now under the rules of then.  Saying it again answers the same."""
    row = _member(call)
    return _act(call, "order.claimed", ("claim", row.name, call.body.order), row.name, {"order": call.body.order})


def post_merge(call: Call) -> Answer:
    """Hand everything a member has over to another, who is the same person.  Saying it again answers the same."""
    source, said = call.path["member"], call.body
    facts = {"into": said.into, "reason": said.reason}
    return _act(call, "member.merged", ("merge", source, said.into, said.id), source, facts)


def post_unmerge(call: Call) -> Answer:
    """Part two members again, as far as nothing was spent meanwhile.  Saying it again answers the same."""
    row, said = _member(call), call.body
    number = parse_entry(said.entry)
    with call.house.reading() as conn:
        record = queries.load_record(conn, call.tenant, number) if number is not None else None
    merged = ((record.more or {}).get("merged") if record is not None else None) or {}
    if row.name not in {merged.get("source"), merged.get("into")}:
        raise UnknownEntry("there is no such merge of this member", pointer="/entry")
    return _act(call, "member.unmerged", ("unmerge", said.entry), "", {"entry": said.entry, "reason": said.reason})


def _member(call: Call) -> MemberRow:
    return _whose(call, call.path["member"])


def _whose(call: Call, member: str) -> MemberRow:
    """The member that is named; a key of the role `member` knows nobody but its own."""
    with call.house.reading() as conn:
        row = people.load(conn, call.house.secret, call.tenant, member)
        if call.principal.role == "member" and not people.is_same(conn, call.tenant, row.number, call.principal.member):
            raise UnknownMember
    return row


def _view(row: MemberRow) -> MemberView:
    return MemberView(
        member=row.name, status=row.status, enrolled_at=moment(row.enrolled_at), tags=row.tags, language=row.language
    )


def _act(call: Call, kind: str, said: tuple[str, ...], member: str, facts: Mapping[str, Any]) -> Answer:
    """Record the event that a request means, once: its id is made of what was *said*.

    Whoever said the same before, at another time, is answered with the receipt of then.
    """
    digest = hashlib.sha256("\x00".join(said).encode()).hexdigest()[:32]
    event_id = f"{said[0]}/{digest}"
    record = _claimed(call.house, call.tenant, event_id)
    if record is None:
        try:
            record = _say(call, kind, event_id, member, facts, call.house.clock())
        except EventConflict:  # said twice at once: the other one was first
            record = _claimed(call.house, call.tenant, event_id)
            if record is None:
                raise
    return Answer(receipt(record, call.language), STATUSES.get(record.status, 200))


def _say(call: Call, kind: str, event_id: str, member: str, facts: Mapping[str, Any], at: int) -> Record:
    """Record an event that follows from a request; places in the event's facts are told as places in the request's body."""
    house = call.house
    document = {
        "id": event_id,
        "source": SOURCE,
        "type": kind,
        "time": moment(at),
        "data": {name: value for name, value in facts.items() if value},
    }
    if member:
        document["member"] = member
    try:
        arrival = read_document(
            document,
            tenant=call.tenant,
            kinds=house.kinds(call.tenant),
            received=moment(house.clock()),
            actor=call.principal.actor,
        )
        future: Future[Outcome] = house.writer.submit(arrival)
        outcome = future.result()
        if isinstance(outcome, TallyError):
            raise outcome
    except TallyError as error:
        if error.pointer is not None:
            error.pointer = error.pointer.removeprefix("/data") if error.pointer.startswith("/data") else None
        raise
    return outcome.record


def _claimed(house: House, tenant: str, event_id: str) -> Record | None:
    with house.reading() as conn:
        store = Store(house.db.dialect.name, locking=False)
        entry = store.find_claim(store.cursor(conn), tenant, SOURCE, event_id)
        return queries.load_record(conn, tenant, entry) if entry is not None else None


# --- what a member has ----------------------------------------------------------------------------------------------


class BalancesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """When."""

    at: (
        Annotated[
            str,
            Meta(
                description="the instant asked about, with a zone; now if absent, never later",
                extra_json_schema={"format": "date-time"},
            ),
        ]
        | None
    ) = None


class Balances(Struct, frozen=True, kw_only=True):
    """A member's balance of every unit at one instant."""

    member: str
    at: datetime
    balances: Mapping[str, queries.Balance]


class LotsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which lots."""

    spent: Annotated[bool, Meta(description="also those with nothing left")] = False


class LotView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One lot as it stands."""

    lot: str
    unit: str
    amount: Annotated[int, Meta(description="what the grant gave")]
    left: int
    state: Annotated[str, Meta(description="usable, pending, due or spent")]
    usable_from: datetime | None = None  #: absent while it waits for something
    expires_at: datetime | None = None  #: absent if it never expires
    sliding: bool = False
    waits: str = ""


class Lots(Struct, frozen=True, kw_only=True):
    """A member's lots in the order in which they are spent."""

    member: str
    lots: tuple[LotView, ...]


class EntriesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which page."""

    after: (
        Annotated[str, Meta(max_length=40, pattern=r"^[0-9]+-[0-9]+$", description="`next` of the page before")] | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=queries.MAX_PAGE)] = 50


class EntryView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a member's statement."""

    entry: str
    type: str
    time: datetime
    received: datetime
    status: str
    own: Annotated[bool, Meta(description="whether the event was this member's own; a gift received was not")]
    changes: Annotated[Mapping[str, int], Meta(description="unit -> gained, or lost if negative")]
    order: str = ""
    cause: str = ""


class Entries(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of a member's statement, newest first."""

    member: str
    entries: tuple[EntryView, ...]
    next: Annotated[str, Meta(description="where the following page begins; absent after the last")] = ""


def get_balances(call: Call) -> Answer:
    """The member's balances, now or at any past instant."""
    now = call.house.clock()
    at = now if call.query.at is None else _instant(call.query.at)
    if at > now:
        raise InvalidRequest("nobody knows a balance of the future", parameter="at")
    row = _member(call)
    with call.house.reading() as conn:
        ask = queries.balances if call.query.at is None else queries.balances_at
        found = ask(conn, call.tenant, row.number, at)
    return Answer(Balances(member=row.name, at=moment(at), balances=found))


def _instant(text: str) -> int:
    try:
        return instant(msgspec.convert(text, Annotated[datetime, Meta(tz=True)]).astimezone(UTC))
    except msgspec.ValidationError:
        raise InvalidRequest(
            "expected a time with a zone, as RFC 3339 writes it: 2026-11-21T10:15:00Z", parameter="at"
        ) from None
    except OverflowError:
        raise InvalidRequest("that time is not on our calendar", parameter="at") from None


def get_lots(call: Call) -> Answer:
    """The member's lots: what is left of each, from when and until when it can be used."""
    row = _member(call)
    with call.house.reading() as conn:
        found = queries.lots(conn, call.tenant, row.number, call.house.clock(), spent=call.query.spent)
    return Answer(Lots(member=row.name, lots=tuple([_lot(lot) for lot in found])))


def _lot(lot: queries.LotRow) -> LotView:
    return LotView(
        lot=lot.lot,
        unit=lot.unit,
        amount=lot.amount,
        left=lot.left,
        state=lot.state,
        usable_from=moment(lot.usable_from) if lot.usable_from < NEVER else None,
        expires_at=moment(lot.expires_at) if lot.expires_at is not None else None,
        sliding=lot.sliding,
        waits=lot.waits,
    )


def get_entries(call: Call) -> Answer:
    """The member's statement, a page at a time."""
    row = _member(call)
    with call.house.reading() as conn:
        page = queries.statement(conn, call.tenant, row.number, after=call.query.after, limit=call.query.limit)
    lines = [
        EntryView(
            entry=line.entry,
            type=line.kind,
            time=moment(line.at),
            received=moment(line.received),
            status=line.status,
            own=line.own,
            changes=line.changes,
            order=line.order,
            cause=line.cause,
        )
        for line in page.lines
    ]
    return Answer(Entries(member=row.name, entries=tuple(lines), next=page.next or ""))


class Explained(Explanation, frozen=True, kw_only=True, omit_defaults=True):
    """An explanation with what each rule asks for and what its conditions looked at."""

    why: Annotated[tuple[rulebook.Told, ...], Meta(description="step by step; not for members")] = ()


def get_explanation(call: Call) -> Answer:
    """Why an entry is as it is: rules, versions and numbers as they were stored then, and what conditions looked at."""
    number = parse_entry(call.path["entry"])
    if number is None:
        raise UnknownEntry
    with call.house.reading() as conn:
        found = queries.explain(conn, call.tenant, number)
        member = call.principal.role == "member"
        if member and not people.is_same(
            conn, call.tenant, parse_member(found.record.member) or 0, call.principal.member
        ):
            raise UnknownEntry(f"there is no entry {entry_name(number)}")  # word for word as if it were missing
    said = receipts.explanation(
        found.record, call.language, full=not member, taken_back=found.taken_back, related=found.related
    )
    why = () if member else rulebook.told(call.house, call.tenant, number, call.language)
    return Answer(Explained(**{name: getattr(said, name) for name in said.__struct_fields__}, why=why))


class WhyNotQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom a question about a rule is about."""

    member: Annotated[str, Meta(min_length=1, max_length=200, description="number or external id")]
    entry: Annotated[str, Meta(description="by default the member's last one that the rule is about")] = ""


class WhyNotAbout(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event that may come; it is only asked about and never recorded."""

    member: Annotated[str, Meta(min_length=1, max_length=200, description="number or external id")]
    data: Annotated[Mapping[str, Any], Meta(description="the facts, as an event of the kind has them")]
    type: Annotated[str, Meta(description="by default the kind the rule is about")] = ""
    time: Annotated[datetime | None, Meta(description="by default now")] = None


def get_whynot(call: Call) -> Answer:
    """Why a rule did not fire for an entry, and the smallest changes of one fact that would have made it fire.

    What the rule saw is played back to the moment before the entry.
    """
    row = _whose(call, call.query.member)
    rule, asked = call.path["rule"], call.query.entry
    number = parse_entry(asked) if asked else rulebook.last_entry(call.house, call.tenant, row.name, rule)
    if number is None:
        raise UnknownEntry(f"there is no entry {asked}")
    return Answer(rulebook.whynot(call.house, call.tenant, rule, entry=number, member=row.name, language=call.language))


def post_whynot(call: Call) -> Answer:
    """Why a rule would not fire for an event that may come, and what it would take.  Nothing is recorded."""
    row, rule = _whose(call, call.body.member), call.path["rule"]
    document = {"data": call.body.data, "type": call.body.type}
    if call.body.time is not None:
        document["time"] = call.body.time.isoformat()
    arrival = rulebook.imagine(call.house, call.tenant, row.name, document, rule, call.principal.actor)
    return Answer(rulebook.whynot(call.house, call.tenant, rule, arrival=arrival, language=call.language))


# --- what broken plugins kept back ------------------------------------------------------------------------------------


class RepairQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How to repair."""

    dry_run: Annotated[bool, Meta(description="answer what would be given, and record nothing")] = False


class StillWaiting(Struct, frozen=True, kw_only=True):
    """An entry that cannot be made good yet."""

    entry: str
    plugin: str
    hook: str
    cause: Annotated[str, Meta(description="raised, refused, overran, open, sat_out or declined")]
    error: Annotated[str, Meta(description="what went wrong then")]
    code: Annotated[str, Meta(description="why not yet, for programs")]
    why: str


class Repairs(Struct, frozen=True, kw_only=True):
    """What a repair came to."""

    repaired: Annotated[
        tuple[Receipt, ...], Meta(description="the entries that make good; `cause` is what each makes good")
    ]
    nothing_owed: int
    waiting: tuple[StillWaiting, ...]


def post_repairs(call: Call) -> Answer:
    """Make good what broken plugins kept from members: judge these events again as of then and post what is missing.

    Nothing is ever taken, and sent again it does what is left.
    """
    dry = call.query.dry_run
    done = call.house.repair(call.tenant, dry_run=dry)
    return Answer(
        Repairs(
            repaired=tuple([receipt(record, call.language, dry=dry) for record in done.given]),
            nothing_owed=done.nothing,
            waiting=tuple([StillWaiting(**attrs.asdict(each)) for each in done.waiting]),
        )
    )


# --- the deployment -------------------------------------------------------------------------------------------------


class PluginView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An installed plugin, as it stands for the key's tenant."""

    id: str
    state: Annotated[str, Meta(description="enabled, available or broken")]
    version: str = ""
    summary: str = ""
    why: Annotated[str, Meta(description="why it is enabled, or what is wrong with it")] = ""
    required: bool = False


def get_plugins(call: Call) -> Answer:
    """The installed plugins: which are enabled, which could be, and which are broken and why."""
    tenant = call.house.tenants()[call.tenant]
    views = []
    for name in sorted({*call.house.installed, *tenant.left_out, *tenant.required}):
        installed, required = call.house.installed.get(name), name in tenant.required
        try:
            if installed is None:
                raise PluginBroken("it is not installed")
            manifest = installed.manifest
        except PluginBroken as error:
            views.append(PluginView(id=name, state="broken", why=error.message, required=required))
            continue
        enabled = name in tenant.plugins
        views.append(
            PluginView(
                id=name,
                state="enabled" if enabled else "broken" if name in tenant.left_out else "available",
                version=str(manifest.version),
                summary=manifest.summary.in_language(call.language),
                why=tenant.reasons.get(name, "") if enabled else tenant.left_out.get(name, ""),
                required=required,
            )
        )
    return Answer(views)


class PluginSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a plugin, as its table in tally.toml would have them."""

    settings: Mapping[str, Any]


class PluginChange(Struct, frozen=True, kw_only=True):
    """What is in force now."""

    generation: Annotated[int, Meta(description="judges every event recorded from now on")]
    plugins: Annotated[tuple[str, ...], Meta(description="that run now, in order")]
    changes: Annotated[tuple[str, ...], Meta(description="what runs otherwise than before, a sentence each")]
    tried: Annotated[int, Meta(description="recorded purchases it was tried on before")]


def post_plugin_enable(call: Call) -> Answer:
    """Let a plugin run for the key's tenant, at once and in every process.

    It is tried on recorded purchases first; if anything is wrong, what ran before goes on, and the refusal says why.
    """
    return _changed(call, switchboard.enable)


def post_plugin_disable(call: Call) -> Answer:
    """Let a plugin run no more for the key's tenant.  Its settings and all it gave stay; no event recorded after the answer is judged by it."""
    return _changed(call, switchboard.disable)


def put_plugin_settings(call: Call) -> Answer:
    """Give a plugin other settings, all of them, at once and in every process; whether it runs does not change."""
    try:
        return _changed(call, switchboard.configure, call.body.settings)
    except InvalidConfig as error:
        for problem in error.problems:  # places in the tenant's table are told as places in the body
            problem.pointer = (problem.pointer or "").replace(f"/plugins/{call.path['plugin']}", "/settings", 1)
        error.pointer = error.problems[0].pointer if error.problems else None
        raise


def _changed(call: Call, change: Callable[..., switchboard.Change], *said: Any) -> Answer:
    found = change(call.house, call.tenant, call.path["plugin"], *said, actor=call.principal.actor)
    return Answer(
        PluginChange(generation=found.generation, plugins=found.plugins, changes=found.changes, tried=found.tried)
    )


# --- the table ------------------------------------------------------------------------------------------------------

#: Every door that asks for a key.  What is not here does not exist.
DOORS: Final[tuple[Door, ...]] = (
    Door(
        method="POST",
        path="/v1/events",
        permission=BY_KIND,
        answer=None,
        summary="Record what happened",
        text=(
            "One event, or up to 1,000 in an array. Each kind of event says which permission it needs. "
            "An event sent again is answered with the receipt of the first time. "
            "In an array each event has its own answer, and a bad one leaves its neighbours alone."
        ),
        query=EventsQuery,
        answers={200: Receipt | list[Item], 202: Receipt, 207: list[Item]},
    ),
    Door(
        method="POST",
        path="/v1/members",
        permission="members.write",
        answer=post_member,
        summary="Let a person join",
        body=NewMember,
        answers={201: Joined},
    ),
    Door(
        method="GET",
        path="/v1/members/{member}",
        permission="members.read",
        answer=get_member,
        summary="One member",
        query=MemberQuery,
        answers={200: MemberView},
        member=True,
    ),
    Door(
        method="GET",
        path="/v1/members/{member}/balances",
        permission="members.read",
        answer=get_balances,
        summary="A member's balances, now or then",
        query=BalancesQuery,
        answers={200: Balances},
        member=True,
    ),
    Door(
        method="GET",
        path="/v1/members/{member}/lots",
        permission="members.read",
        answer=get_lots,
        summary="A member's lots",
        query=LotsQuery,
        answers={200: Lots},
        member=True,
    ),
    Door(
        method="GET",
        path="/v1/members/{member}/entries",
        permission="entries.read",
        answer=get_entries,
        summary="A member's statement",
        query=EntriesQuery,
        answers={200: Entries},
        member=True,
    ),
    Door(
        method="POST",
        path="/v1/members/{member}/link",
        permission="members.write",
        answer=post_link,
        summary="Give a member another external id",
        body=ExternalId,
        answers={200: MemberView},
        member=True,
    ),
    Door(
        method="POST",
        path="/v1/members/{member}/claim",
        permission="members.write",
        answer=post_claim,
        summary="Link a guest order to a member",
        body=Claiming,
        answers={200: Receipt, 202: Receipt},
        member=True,
    ),
    Door(
        method="POST",
        path="/v1/members/{member}/merge",
        permission="members.merge",
        answer=post_merge,
        summary="Merge a member into another",
        body=Merging,
        answers={200: Receipt},
        member=True,
    ),
    Door(
        method="POST",
        path="/v1/members/{member}/unmerge",
        permission="members.merge",
        answer=post_unmerge,
        summary="Part two merged members",
        body=Parting,
        answers={200: Receipt},
        member=True,
    ),
    Door(
        method="GET",
        path="/v1/entries/{entry}/explanation",
        permission="entries.read",
        answer=get_explanation,
        summary="Why an entry is as it is",
        answers={200: Explained},
    ),
    Door(
        method="GET",
        path="/v1/rules/{rule}/whynot",
        permission="rules.ask",
        answer=get_whynot,
        summary="Why a rule did not fire",
        query=WhyNotQuery,
        answers={200: rulebook.WhyNot},
    ),
    Door(
        method="POST",
        path="/v1/rules/{rule}/whynot",
        permission="rules.ask",
        answer=post_whynot,
        summary="Why a rule would not fire",
        body=WhyNotAbout,
        answers={200: rulebook.WhyNot},
    ),
    Door(
        method="POST",
        path="/v1/repairs",
        permission="entries.repair",
        answer=post_repairs,
        summary="Make good what broken plugins kept from members",
        query=RepairQuery,
        answers={200: Repairs},
    ),
    Door(
        method="GET",
        path="/v1/plugins",
        permission="plugins.read",
        answer=get_plugins,
        summary="Installed and enabled plugins",
        answers={200: list[PluginView]},
    ),
    Door(
        method="POST",
        path="/v1/plugins/{plugin}/enable",
        permission="plugins.write",
        answer=post_plugin_enable,
        summary="Switch a plugin on",
        answers={200: PluginChange},
    ),
    Door(
        method="POST",
        path="/v1/plugins/{plugin}/disable",
        permission="plugins.write",
        answer=post_plugin_disable,
        summary="Switch a plugin off",
        answers={200: PluginChange},
    ),
    Door(
        method="PUT",
        path="/v1/plugins/{plugin}/settings",
        permission="plugins.write",
        answer=put_plugin_settings,
        summary="Set a plugin up",
        body=PluginSettings,
        answers={200: PluginChange},
    ),
)
