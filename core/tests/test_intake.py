"""What the door takes, what it refuses, and that nothing slips through in between."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from tallystick import intake
from tallystick.errors import InvalidEvent, TallyError, TooLarge, UnknownKind
from tallystick.events import CORE_KINDS, Arrival, EventKind, Facts, Name, Purchase
from tallystick.intake import LIMITS, Delivery, Limits, check_facts, read_document, read_event, read_events
from tallystick.strict_json import find_flaw

KINDS = {kind.name: kind for kind in CORE_KINDS}
NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
LINES = [
    {"sku": "COFFEE-250", "amount": 899, "department": "GROCERY"},
    {"sku": "MILK-1L", "amount": 258, "quantity": 2},
    {"sku": "FILTER-100", "amount": 349, "discount": 50},
]
DATA: dict[str, Any] = {"order": "R-1001", "currency": "USD", "lines": LINES}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "till-1-1",
    "source": "pos/main-street",
    "type": "purchase.completed",
    "time": "2026-11-21T10:15:00Z",
    "member": "C-1",
    "data": DATA,
}


def event(**changes: Any) -> dict[str, Any]:
    """The good event with some attributes changed; None removes one."""
    return {key: value for key, value in {**EVENT, **changes}.items() if value is not None}


def data(**changes: Any) -> dict[str, Any]:
    """The good event with some of its facts changed."""
    return event(data={key: value for key, value in {**DATA, **changes}.items() if value is not None})


def line(**changes: Any) -> dict[str, Any]:
    """The good event with its second line changed."""
    return data(lines=[LINES[0], {**LINES[1], **changes}, LINES[2]])


def text(document: Any) -> bytes:
    return json.dumps(document).encode()


def deliver(body: bytes, kinds: dict[str, EventKind] = KINDS, limits: Limits = LIMITS) -> Delivery:
    return read_events(body, tenant="t", kinds=kinds, received=NOW, actor="key:1", limits=limits)


def one(body: bytes, kinds: dict[str, EventKind] = KINDS) -> Arrival | TallyError:
    items, single = deliver(body, kinds)
    assert single
    assert len(items) == 1
    return items[0]


def taken(document: Any) -> Arrival:
    found = one(text(document))
    assert isinstance(found, Arrival), found
    return found


def test_a_good_event_becomes_an_arrival() -> None:
    arrival = taken(EVENT)
    assert (arrival.tenant, arrival.id, arrival.source, arrival.kind) == (
        "t",
        "till-1-1",
        "pos/main-street",
        "purchase.completed",
    )
    assert (arrival.at, arrival.member, arrival.actor) == (NOW, "C-1", "key:1")
    assert isinstance(arrival.facts, Purchase)
    assert arrival.facts.total == 899 + 258 + 349 - 50


@pytest.mark.parametrize("kind", CORE_KINDS, ids=lambda kind: kind.name)
def test_every_example_of_the_core_passes_its_own_door(kind: EventKind) -> None:
    assert taken(event(type=kind.name, data=kind.example)).kind == kind.name


@pytest.mark.parametrize("kind", CORE_KINDS, ids=lambda kind: kind.name)
def test_the_facts_of_the_core_are_exact(kind: EventKind) -> None:
    assert check_facts(kind.facts) == ()


# --- every mistake by name and place --------------------------------------------------------------------------------

MISTAKES: list[tuple[str, Any, str, str]] = [
    # what, document or bytes, pointer, reason
    ("unknown attribute", event(colour="red"), "/colour", "unknown_field"),
    ("unknown fact", data(colour="red"), "/data/colour", "unknown_field"),
    ("unknown fact of a line", line(colour="red"), "/data/lines/1/colour", "unknown_field"),
    ("no id", event(id=None), "/id", "missing"),
    ("empty id", event(id=""), "/id", "length"),
    ("id too long", event(id="x" * 129), "/id", "length"),
    ("id is a number", event(id=7), "/id", "wrong_type"),
    ("no source", event(source=None), "/source", "missing"),
    ("no time", event(time=None), "/time", "missing"),
    ("time without zone", event(time="2026-11-21T10:15:00"), "/time", "no_zone"),
    ("time is a number", event(time=1795256100), "/time", "wrong_type"),
    ("time is a day", event(time="2026-11-21"), "/time", "not_a_time"),
    ("time is not on the calendar", event(time="2026-02-30T10:15:00Z"), "/time", "not_a_time"),
    ("time before the calendar begins", event(time="0001-01-01T00:00:00+10:00"), "/time", "value"),
    ("no data", event(data=None), "/data", "missing"),
    ("data is a list", event(data=[]), "/data", "wrong_type"),
    ("no order", data(order=None), "/data/order", "missing"),
    ("order too long", data(order="x" * 129), "/data/order", "length"),
    ("amount is a text", line(amount="258"), "/data/lines/1/amount", "wrong_type"),
    ("amount is true", line(amount=True), "/data/lines/1/amount", "wrong_type"),
    ("amount is null", text(line(amount=0)).replace(b'"amount": 0', b'"amount": null'), "/data/lines/1/amount", "wrong_type"),
    ("amount below zero", line(amount=-1), "/data/lines/1/amount", "out_of_bounds"),
    ("amount beyond bounds", line(amount=10**12 + 1), "/data/lines/1/amount", "out_of_bounds"),
    ("amount beyond 64 bits", line(amount=2**64), "/data/lines/1/amount", "too_big"),
    ("amount of 5,000 digits", text(line(amount=0)).replace(b'"amount": 0', b'"amount": ' + b"9" * 5_000), "/data/lines/1/amount", "too_big"),
    ("fraction", line(amount=2.5), "/data/lines/1/amount", "fraction"),
    ("whole fraction", line(amount=2.0), "/data/lines/1/amount", "fraction"),
    ("exponent", text(line(amount=0)).replace(b'"amount": 0', b'"amount": 1e2'), "/data/lines/1/amount", "fraction"),
    ("minus zero", text(line(amount=0)).replace(b'"amount": 0', b'"amount": -0'), "/data/lines/1/amount", "minus_zero"),
    ("NaN", line(amount=float("nan")), "/data/lines/1/amount", "not_a_number"),
    ("infinity", line(amount=float("-inf")), "/data/lines/1/amount", "not_a_number"),
    ("currency in small letters", data(currency="usd"), "/data/currency", "pattern"),
    ("currency and a newline", data(currency="USD\n"), "/data/currency", "length"),
    ("no lines", data(lines=[]), "/data/lines", "size"),
    ("too many lines", data(lines=[LINES[0]] * 1_001), "/data/lines", "size"),
    ("not one of the choices", line(kind="gift"), "/data/lines/1/kind", "not_a_choice"),
    ("discount larger than the order", data(discount=10_000), "/data", "value"),
    ("NUL", data(order="R\x00"), "/data/order", "nul"),
    ("half a character", data(order="R\ud800"), "/data/order", "surrogate"),
    ("NUL in the id", event(id="a\x00"), "/id", "nul"),
    ("same key twice", text(EVENT).replace(b'"id":', b'"id": "other", "id":'), "/id", "duplicate_key"),
    ("same fact twice", text(EVENT).replace(b'"order":', b'"order": "R-1", "order":'), "/data/order", "duplicate_key"),
    ("same fact twice, in one line", text(EVENT).replace(b'"amount": 258', b'"amount": 0, "amount": 258'), "/data/lines/1/amount", "duplicate_key"),
    ("same fact twice, once escaped", text(EVENT).replace(b'"amount": 258', b'"am\\u006funt": 0, "amount": 258'), "/data/lines/1/amount", "duplicate_key"),
    ("same fact twice, hidden by an escaped colon", text(EVENT).replace(b'"order": "R-1001"', b'"order": "R", "order": "R\\u003a"'), "/data/order", "duplicate_key"),
    ("the same default twice", text(EVENT).replace(b'"amount": 258', b'"amount": 258, "tax": 0, "tax": 0'), "/data/lines/1/tax", "duplicate_key"),
    ("not UTF-8", text(EVENT).replace(b"R-1001", b"R-\xff"), "/data", "not_utf8"),
    ("member missing", event(type="member.enrolled", data={}, member=None), "/member", "missing"),
    ("member is empty", event(member=""), "/member", "length"),
    ("wrong specversion", event(specversion="0.3"), "/specversion", "not_a_choice"),
    ("not JSON inside", event(datacontenttype="text/xml"), "/datacontenttype", "not_a_choice"),
    ("a text", "hello", "", "wrong_type"),
    ("a number", 3, "", "wrong_type"),
    ("nothing", b"", "", "malformed"),
    ("cut off", text(EVENT)[:-1], "", "malformed"),
    ("something behind it", text(EVENT) + b"x", "", "malformed"),
    ("a byte order mark", b"\xef\xbb\xbf" + text(EVENT), "", "malformed"),
]  # fmt: skip


@pytest.mark.parametrize("body, pointer, reason", [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_named_with_its_place(body: Any, pointer: str, reason: str) -> None:
    error = one(body if isinstance(body, bytes) else text(body))
    assert isinstance(error, InvalidEvent), error
    assert (error.pointer or "", error.details["reason"]) == (pointer, reason)
    assert error.message


@pytest.mark.parametrize(
    "document",
    [row[1] for row in MISTAKES if isinstance(row[1], dict)],
    ids=[row[0] for row in MISTAKES if isinstance(row[1], dict)],
)
def test_a_document_gets_the_verdict_of_its_bytes(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent) as by_document:
        read_document(document, tenant="t", kinds=KINDS, received=NOW)
    by_bytes = one(text(document))
    assert isinstance(by_bytes, InvalidEvent)
    assert type(by_document.value) is type(by_bytes)
    assert by_document.value.pointer in {by_bytes.pointer, None}  # half a character is found before it is written


def test_a_good_document_becomes_the_same_arrival() -> None:
    assert read_document(EVENT, tenant="t", kinds=KINDS, received=NOW, actor="key:1") == taken(EVENT)
    assert read_document({**EVENT, "time": NOW}, tenant="t", kinds=KINDS, received=NOW, actor="key:1") == taken(EVENT)


@pytest.mark.parametrize("value", [Decimal("1.5"), {1, 2}, object(), b"bytes"], ids=lambda value: type(value).__name__)
def test_a_document_of_other_things_is_refused(value: object) -> None:
    with pytest.raises(InvalidEvent):
        read_document(line(amount=value), tenant="t", kinds=KINDS, received=NOW)


def test_an_unknown_kind_is_refused_by_name() -> None:
    error = one(text(event(type="purchase.imagined")))
    assert isinstance(error, UnknownKind)
    assert error.pointer == "/type"


@pytest.mark.parametrize(
    "ahead, refused",
    [(timedelta(minutes=5), False), (timedelta(minutes=5, microseconds=1), True), (timedelta(days=400), True)],
)
def test_the_future_is_five_minutes_long(ahead: timedelta, refused: bool) -> None:
    """Beyond them only what was recorded before is answered, which the engine looks up."""
    found = one(text(event(time=(NOW + ahead).isoformat())))
    assert isinstance(found, Arrival)
    assert found.early is refused


# --- deliveries of several ------------------------------------------------------------------------------------------


def test_a_bad_event_leaves_its_neighbours_alone() -> None:
    bodies = [text(event(id=f"e-{index}")) for index in range(3)]
    bodies[1] = bodies[1].replace(b'"order":', b'"order": "R-1", "order":')
    items, single = deliver(b"[" + b" ,\n".join(bodies) + b"]")
    assert not single
    first, second, third = items
    assert isinstance(first, Arrival)
    assert isinstance(third, Arrival)
    assert (first.id, third.id) == ("e-0", "e-2")
    assert isinstance(second, InvalidEvent)
    assert second.pointer == "/1/data/order"


@pytest.mark.parametrize("row", [row for row in MISTAKES if row[2]], ids=lambda row: row[0])
def test_in_an_array_the_pointer_begins_with_the_place(row: tuple[str, Any, str, str]) -> None:
    body = row[1] if isinstance(row[1], bytes) else text(row[1])
    good, bad, last = deliver(b"[" + text(EVENT) + b" , " + body + b", " + text(EVENT) + b" ] ").items
    assert isinstance(good, Arrival)
    assert good == last
    assert isinstance(bad, InvalidEvent)
    assert bad.pointer == "/1" + row[2]


def test_an_empty_array_holds_nothing() -> None:
    assert deliver(b" [] ") == ([], False)


@pytest.mark.parametrize("body", [b"[1,2", b"[" + text(EVENT) + b",]", b"[1 2]"])
def test_an_array_that_is_not_json_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        deliver(body)


def test_too_many_events_are_refused_as_a_whole() -> None:
    with pytest.raises(TooLarge):
        deliver(b"[" + b",".join([text(EVENT)] * 3) + b"]", limits=Limits(events=2))


@pytest.mark.parametrize("opening", [b"", b" "])
def test_a_body_beyond_the_limit_is_refused_as_a_whole(opening: bytes) -> None:
    with pytest.raises(TooLarge):
        deliver(opening + text(EVENT), limits=Limits(body=len(text(EVENT)) - 1))


@pytest.mark.parametrize("depth", [33, 200, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    nest = b"[" * depth + b"]" * depth
    assert isinstance(one(text(EVENT).replace(b'"R-1001"', nest)), TooLarge)
    try:
        (item,) = deliver(b"[" + nest + b"]").items
    except TallyError as error:  # so deep that the array could not be taken apart
        item = error
    assert isinstance(item, TooLarge)


# --- the canonical form ---------------------------------------------------------------------------------------------

EQUAL: list[tuple[str, bytes]] = [
    ("other order of keys", text(dict(reversed(EVENT.items())))),
    ("no whitespace", json.dumps(EVENT, separators=(",", ":")).encode()),
    ("more whitespace", json.dumps(EVENT, indent=4).encode()),
    ("defaults written out", text(data(discount=0, state="completed", payments=[], store="", lines=[{**LINES[0], "quantity": 1, "kind": "item"}, *LINES[1:]]))),
    ("the same instant in another zone", text(event(time="2026-11-21T18:15:00+08:00"))),
    ("the same instant, zone written otherwise", text(event(time="2026-11-21T18:15:00+0800"))),
    ("escaped letters", text(EVENT).replace(b"R-1001", b"\\u0052-1001")),
    ("without specversion", text(event(specversion=None))),
    ("with a subject and a content type", text(event(subject="a:b-c", datacontenttype="application/json"))),
]  # fmt: skip


@pytest.mark.parametrize("body", [row[1] for row in EQUAL], ids=[row[0] for row in EQUAL])
def test_equal_claims_have_equal_canonical_bytes(body: bytes) -> None:
    arrival = one(body)
    assert isinstance(arrival, Arrival), arrival
    assert arrival.canonical == taken(EVENT).canonical
    assert arrival.at == NOW
    assert arrival.at.tzinfo is UTC


@pytest.mark.parametrize(
    "document",
    [
        event(id="x"),
        event(source="x"),
        event(time="2026-11-21T10:15:00.000001Z"),
        event(member="C-2"),
        event(member=None),
        line(amount=259),
        data(store="x"),
    ],
)
def test_other_claims_have_other_canonical_bytes(document: dict[str, Any]) -> None:
    assert taken(document).canonical != taken(EVENT).canonical


def test_canonical_bytes_are_read_as_the_same_event() -> None:
    arrival = taken(EVENT)
    assert read_event(arrival.canonical, tenant="t", kinds=KINDS, received=NOW, actor="key:1") == arrival


# --- what plugins bring ---------------------------------------------------------------------------------------------


class Reading(Facts):
    """A kind with everything that makes the quick check uncertain."""

    meter: Name = "main"
    values: dict[str, Annotated[int, Meta(ge=-1_000, le=1_000)]] = {}
    taken_at: Annotated[datetime, Meta(tz=True)] | None = None
    inner: Reading | None = None
    weight: Annotated[int, Meta(ge=0, le=10**6)] = 1_000


class Loose(Struct):
    amount: float
    count: int
    when: datetime
    anything: Any


READING = attrs.evolve(CORE_KINDS[0], name="meter.read", facts=Reading)


@pytest.mark.parametrize(
    "facts, pointer, reason",
    [
        (b'{"values":{"a":1,"a":2}}', "/data/values/a", "duplicate_key"),
        (b'{"values":{"a":-0}}', "/data/values/a", "minus_zero"),
        (b'{"values":{"a~/b":-0}}', "/data/values/a~0~1b", "minus_zero"),
        (b'{"values":{"a":1.5}}', "/data/values/a", "fraction"),
        (b'{"inner":{"inner":{"meter":"a","meter":"b"}}}', "/data/inner/inner/meter", "duplicate_key"),
        (b'{"taken_at":"2026-11-21T10:15:00"}', "/data/taken_at", "no_zone"),
        (b'{"values":{"a":"x"}}', "/data/values", "wrong_type"),
    ],
)
def test_a_kind_of_a_plugin_gets_the_same_door(facts: bytes, pointer: str, reason: str) -> None:
    body = text(event(type="meter.read", data=7)).replace(b'"data": 7', b'"data": ' + facts)
    error = one(body, {"meter.read": READING})
    assert isinstance(error, InvalidEvent)
    assert (error.pointer, error.details["reason"]) == (pointer, reason)


def test_a_kind_that_holds_itself_ends_at_the_depth() -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {} if depth == 0 else {"inner": nested(depth - 1)}

    kinds = {"meter.read": READING}
    assert isinstance(one(text(event(type="meter.read", data=nested(30))), kinds), Arrival)
    assert isinstance(one(text(event(type="meter.read", data=nested(31))), kinds), TooLarge)


@pytest.mark.parametrize("facts", [{"meter": "main"}, {"weight": 1_000}, {"inner": {"meter": "main"}}])
def test_a_default_written_out_is_the_default_for_plugins_too(facts: dict[str, Any]) -> None:
    said = one(text(event(type="meter.read", data=facts)), {"meter.read": READING})
    bare = one(text(event(type="meter.read", data={"inner": {}} if "inner" in facts else {})), {"meter.read": READING})
    assert isinstance(said, Arrival)
    assert isinstance(bare, Arrival)
    assert said.canonical == bare.canonical


def test_facts_that_the_door_cannot_vouch_for_are_named() -> None:
    objections = check_facts(Loose)  # type: ignore[arg-type]
    assert [objection.split(":")[0] for objection in objections] == [
        "Loose",
        "Loose.amount",
        "Loose.count",
        "Loose.when",
        "Loose.anything",
    ]


# --- the quick check never misses what the exact one finds ----------------------------------------------------------

_AWKWARD = st.sampled_from(
    ["", "a", ":", "-0", "\\", '"', "é", "积分", ": -0", "\x00", "2026-11-21T10:15:00Z", "{", "\u003a"]
)


def _string(value: str, escape: bool) -> str:
    if escape:
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in value) + '"'
    return json.dumps(value, ensure_ascii=False)


@st.composite
def _members(draw: st.DrawFn, known: dict[str, st.SearchStrategy[str]], required: tuple[str, ...]) -> str:
    """A JSON object's text out of *known* members; keys may come twice, be escaped, and stand in any order."""
    keys = [*required, *draw(st.lists(st.sampled_from(sorted(known)), max_size=4))]
    pairs = []
    for key in draw(st.permutations(keys)):
        space = draw(st.sampled_from(["", "", " ", "\n\t"]))
        pairs.append(f"{_string(key, draw(st.integers(0, 9)) == 0)}{space}:{space}{draw(known[key])}")
    return "{" + ",".join(pairs) + "}"


_words = st.builds(_string, st.one_of(_AWKWARD, st.text(max_size=3)), st.booleans())
_numbers = st.sampled_from(["0", "-0", "1", "7", "1000"])
_line = _members(
    {
        "sku": _words,
        "amount": _numbers,
        "quantity": _numbers,
        "tax": st.sampled_from(["0", "-0"]),
        "brand": _words,
        "kind": st.just('"item"'),
    },
    ("sku", "amount"),
)
_facts = _members(
    {
        "order": _words,
        "currency": st.just('"USD"'),
        "lines": st.lists(_line, min_size=1, max_size=2).map(lambda lines: "[" + ",".join(lines) + "]"),
        "discount": st.sampled_from(["0", "-0"]),
        "store": _words,
        "state": st.sampled_from(['"completed"', '"open"']),
        "coupons": st.lists(_words, max_size=2).map(lambda words: "[" + ",".join(words) + "]"),
    },
    ("order", "currency", "lines"),
)
_times = ["Z", "z", ".5Z", ".123456789Z", "+00:00", "-00:00", "+0000", "+02:00", "+0200", "-05:00", "-0500"]
_events = _members(
    {
        "id": _words,
        "source": _words,
        "type": st.just('"purchase.completed"'),
        "time": st.sampled_from([f'"2026-11-20T10:15:00{zone}"' for zone in _times]),
        "data": _facts,
        "member": _words,
        "specversion": st.just('"1.0"'),
        "datacontenttype": st.just('"application/json"'),
        "subject": _words,
    },
    ("id", "source", "type", "time", "data"),
)


@given(_events)
@example(text(EVENT).decode())
def test_whatever_passes_has_no_flaw(body: str) -> None:
    """The quick check of the door may be uncertain, and must never be wrong."""
    found = one(body.encode())
    flaw = find_flaw(body.encode(), depth=32)
    if isinstance(found, Arrival):
        assert flaw is None
    elif flaw is not None:
        assert isinstance(found, InvalidEvent)
        assert (found.pointer, found.details["reason"]) == (flaw.pointer, flaw.reason)


@given(_events)
def test_the_quick_check_is_certain_only_where_nothing_was_dropped(body: str) -> None:
    raw = body.encode()
    try:
        envelope = intake._read_envelope(raw)
        reader = intake._reader(Purchase)
        facts = reader.decode(envelope.data)
    except (intake.msgspec.DecodeError, UnicodeDecodeError):
        return
    at = envelope.time.astimezone(UTC)
    canonical = intake._encode(intake._Claim(envelope.id, envelope.source, envelope.type, at, facts, envelope.member))
    if intake._says_all(canonical, raw, envelope, reader):
        assert find_flaw(raw, depth=32) is None


@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**63), 2**63 - 1),
            st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))),
        ),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=3),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_clean_json_has_no_flaw(value: Any) -> None:
    assert find_flaw(json.dumps(value).encode(), depth=32) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_door(body: bytes) -> None:
    """Whatever comes, the answer is an arrival or a refusal by name."""
    try:
        items = deliver(body).items
    except TallyError:
        return
    assert all(isinstance(item, Arrival | TallyError) for item in items)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))])))
def test_no_time_breaks_the_door(at: datetime) -> None:
    assert isinstance(one(text(event(time=at.isoformat()))), Arrival | TallyError)
