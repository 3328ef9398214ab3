"""The door for outside data: bytes in, checked arrivals out, and every mistake named with its place.

An event is a CloudEvents 1.0 JSON object: ``id``, ``source``, ``type``, ``time``, ``data``, beside them ``member`` and
optionally ``specversion``, ``datacontenttype`` and ``subject`` (read and not kept).  One object is one event, an array is
up to :attr:`Limits.events`.  HTTP, file import, the command line and proposals of plugins all come through here, so that
the same facts get the same verdict everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, inspect
from msgspec.structs import force_setattr

from .errors import InvalidEvent, InvalidRequest, TallyError, TooLarge, UnknownKind
from .events import Arrival, EventKind, Facts, Name, Text
from .strict_json import Flaw, find_flaw, pointer

T = TypeVar("T")
#: Where a sender finds the kinds a deployment knows.
KINDS_ARE_LISTED: Final = (
    'GET /openapi.json lists those that this house knows, the page "Event kinds" those of all plugins'
)
#: How far an event's time may lie ahead of the house's clock; further ahead it arrives :attr:`~tallystick.events.Arrival.early`.
AHEAD = timedelta(minutes=5)
#: The source of what the house does by itself: its ids are nobody else's to take.
HOUSE: Final = "tally"


class Limits(Struct, frozen=True, kw_only=True):
    """How much one delivery may hold."""

    body: int = 4 * 1024 * 1024  #: bytes
    events: int = 1_000
    depth: int = 32  #: nested objects and arrays, the event's own included


LIMITS = Limits()


class Delivery(NamedTuple):
    """What one body held: an arrival or a refusal per event, in the body's order."""

    items: list[Arrival | TallyError]
    single: bool  #: the body was one object, not an array


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """The attributes of an event, CloudEvents 1.0, and the member it is about."""

    id: Annotated[Name, Meta(description="unique within the source; sending the same event again is safe")]
    source: Annotated[Name, Meta(description="who says so, for example `pos/main-street`")]
    type: Annotated[Name, Meta(description="the event kind, for example `purchase.completed`")]
    time: Annotated[datetime, Meta(tz=True, description="when it happened; RFC 3339 with a zone")]
    data: Raw
    member: Annotated[Name, Meta(description="an external id or `m-` and twelve digits; absent for a guest")] = ""
    specversion: Literal["1.0"] | UnsetType = UNSET
    datacontenttype: Literal["application/json"] | UnsetType = UNSET
    subject: Text | UnsetType = UNSET


def read_events(
    body: bytes,
    *,
    tenant: str,
    kinds: Mapping[str, EventKind],
    received: datetime,
    actor: str = "",
    limits: Limits = LIMITS,
) -> Delivery:
    """Read one event or an array of events; a bad event becomes a refusal in its place and leaves its neighbours alone.

    Raises TooLarge or InvalidEvent if the body as a whole cannot be taken apart.
    """
    if len(body) > limits.body:
        raise TooLarge(f"the body is larger than {limits.body} bytes", limit=limits.body)
    latest = received + AHEAD
    if body.lstrip(_WHITESPACE)[:1] != b"[":
        try:
            return Delivery([_read(body, tenant, kinds, latest, actor, limits.depth)], True)
        except TallyError as error:
            return Delivery([error], True)
    items: list[Arrival | TallyError] = []
    for index, raw in enumerate(_split(body, limits)):
        try:
            items.append(_read(raw, tenant, kinds, latest, actor, limits.depth - 1))
        except TallyError as error:
            error.pointer = f"/{index}{error.pointer or ''}"
            items.append(error)
    return Delivery(items, False)


def read_event(
    body: bytes,
    *,
    tenant: str,
    kinds: Mapping[str, EventKind],
    received: datetime,
    actor: str = "",
    limits: Limits = LIMITS,
) -> Arrival:
    """Read exactly one event: a line of a JSONL file, for example.  Raises InvalidEvent, UnknownKind, TooLarge."""
    if len(body) > limits.body:
        raise TooLarge(f"the event is larger than {limits.body} bytes", limit=limits.body)
    return _read(body, tenant, kinds, received + AHEAD, actor, limits.depth)


def take_facts(
    facts: Facts,
    *,
    id: str,
    source: str,
    at: datetime,
    member: str,
    tenant: str,
    kind: EventKind,
    received: datetime,
    actor: str = "",
    claim: bytes = b"",
) -> Arrival:
    """Take facts that were checked already, column by column: the arrival that :func:`read_event` makes of the same text.

    Only for readers whose checks are as strict as this door's; tests compare both.  *at* is in UTC.  *claim* is what
    :func:`claim_of` says of them, if somebody has asked it.  Raises InvalidEvent if the kind needs a member.
    """
    canonical = claim or claim_of(facts, id=id, source=source, at=at, member=member, kind=kind)
    return _arrive(id, source, kind, at, member, facts, canonical, tenant, received + AHEAD, actor)


def claim_of(facts: Facts, *, id: str, source: str, at: datetime, member: str, kind: EventKind) -> bytes:
    """The canonical form of everything that the sender of these facts claims."""
    return _encode(_Claim(id, source, kind.name, at, facts, member))


def read_document(
    document: Mapping[str, Any],
    *,
    tenant: str,
    kinds: Mapping[str, EventKind],
    received: datetime,
    actor: str = "",
    limits: Limits = LIMITS,
) -> Arrival:
    """Read one event that is already a document: a mapped row of a file, a plugin's proposal.

    It goes through the same door as bytes, so it gets the same verdict.  Raises as :func:`read_event`.
    """
    for path, value in _floats(document, ()):  # msgspec would write NaN as null
        raise InvalidEvent(
            f"found {value!r}; numbers are whole here: no decimal point and no exponent",
            pointer=pointer(*path),
            reason="fraction",
        )
    try:
        body = _encode(document)
    except UnicodeEncodeError:
        raise InvalidEvent("text holds half of a character (a lone UTF-16 surrogate)", reason="surrogate") from None
    except RecursionError:
        raise TooLarge("objects and arrays are nested too deeply", reason="too_deep") from None
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"this cannot be written as JSON: {error}", reason="malformed") from None
    return read_event(body, tenant=tenant, kinds=kinds, received=received, actor=actor, limits=limits)


def read_json(body: bytes, kind: type[T], *, limits: Limits = LIMITS) -> T:
    """Read any other body as strictly as an event; raises InvalidRequest or TooLarge."""
    if flaw := find_flaw(body, depth=limits.depth):
        raise _refusal(flaw, InvalidRequest)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _mistake(error, "", InvalidRequest) from None


@lru_cache(1024)  # every change of a tenant's plugins asks about the same classes again
def check_facts(facts: type[Facts]) -> tuple[str, ...]:
    """What is wrong with a plugin's facts class, one sentence each; empty if the door can promise exactness for it."""
    return tuple(dict.fromkeys(_objections(inspect.type_info(facts), facts.__name__, frozenset())))


# --- one event ------------------------------------------------------------------------------------------------------

_WHITESPACE = b" \t\r\n"
_BACKSLASH = ord("\\")  # looking for a number takes a fifth of the time of looking for bytes
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode
_read_envelope = msgspec.json.Decoder(Envelope).decode
_read_array = msgspec.json.Decoder(list[Raw]).decode
_LENIENT = json.JSONDecoder(parse_int=str, parse_float=str)  # builds no number: of a million digits, for example
_SPACE = re.compile(r"[ \t\r\n]*")


class _Claim(Struct, frozen=True, omit_defaults=True):
    """All that the sender claims, in the order of its canonical form."""

    id: str
    source: str
    type: str
    time: datetime
    data: Facts
    member: str = ""


def _read(
    body: bytes, tenant: str, kinds: Mapping[str, EventKind], latest: datetime, actor: str, depth: int
) -> Arrival:
    place = ""
    try:
        envelope = _read_envelope(body)
        kind = kinds.get(envelope.type)
        if kind is None:
            raise UnknownKind(f'no event kind is called "{envelope.type}" here; {KINDS_ARE_LISTED}', pointer="/type")
        reader = _READERS.get(kind.facts) or _reader(kind.facts)
        place = "/data"
        facts = reader.decode(envelope.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        flaw = find_flaw(body, depth=depth)
        raise (_refusal(flaw) if flaw and flaw.reason != "malformed" else _mistake(error, place)) from None
    for settle in reader.settle:
        settle(facts)

    at = envelope.time
    if at.tzinfo is not UTC:
        try:
            at = at.astimezone(UTC)
        except OverflowError:
            raise InvalidEvent("the time is not on our calendar", pointer="/time", reason="value") from None
    canonical = _encode(_Claim(envelope.id, envelope.source, envelope.type, at, facts, envelope.member))
    if not _says_all(canonical, body, envelope, reader) and (flaw := find_flaw(body, depth=depth)):
        raise _refusal(flaw)
    return _arrive(envelope.id, envelope.source, kind, at, envelope.member, facts, canonical, tenant, latest, actor)


def _arrive(
    id: str,
    source: str,
    kind: EventKind,
    at: datetime,
    member: str,
    facts: Facts,
    canonical: bytes,
    tenant: str,
    latest: datetime,
    actor: str,
) -> Arrival:
    if source == HOUSE and actor != HOUSE:
        raise InvalidEvent(f'the source "{HOUSE}" is the house itself', pointer="/source", reason="reserved")
    if not member and not kind.guest:
        raise InvalidEvent(f"{kind.name} needs a member", pointer="/member", reason="missing", expected="member")
    # whether it is refused for its time is decided where its id is looked up: it may have been recorded before the clock was set back
    return Arrival(tenant, id, source, kind.name, at, member, facts, canonical, actor, early=at > latest)


def _says_all(canonical: bytes, body: bytes, envelope: Envelope, reader: _Reader) -> bool:
    r"""Whether the canonical form says everything that the body said; if this is not certain, False.

    A decoder that drops a repeated key drops its colon with it, and one that reads -0 as 0 drops a minus.  Neither the
    canonical form nor a body that was read into plain dicts and written again can gain one, as long as no character is
    escaped (``\u003a`` is a colon).  So if both have as many as the body, nothing was dropped.  Counting costs a
    thirtieth of looking.
    """
    if _BACKSLASH in body or not reader.closed:
        return False
    if canonical == body:
        return True
    colons, minuses = body.count(b":"), body.count(b"-")
    if reader.exact:
        kept_colons, kept_minuses = canonical.count(b":"), canonical.count(b"-")
        kept_colons += (envelope.specversion is not UNSET) + (envelope.datacontenttype is not UNSET)
        if (subject := envelope.subject) is not UNSET:
            kept_colons, kept_minuses = kept_colons + 1 + subject.count(":"), kept_minuses + subject.count("-")
        if kept_colons == colons and kept_minuses == minuses:
            return True
        # The canonical time ends in Z; an offset has a colon of its own.  Were the offset found in something dropped
        # instead, at least two colons would be missing: that one, and its key's.
        offset = _offset(envelope.time.tzinfo)
        kept_minuses += offset[:1] == b"-"
        if kept_colons + 1 == colons and kept_minuses == minuses and body.count(offset) == canonical.count(offset) + 1:
            return True
    again = _encode(_decode(body))  # defaults that were written out stand here, too
    return again.count(b":") == colons and again.count(b"-") == minuses


@lru_cache(maxsize=256)
def _offset(zone: tzinfo | None) -> bytes:
    """An offset as RFC 3339 writes it: ``+08:00``."""
    written = f"{datetime(2000, 1, 1, tzinfo=zone):%z}"
    return f"{written[:3]}:{written[3:]}".encode()


def _split(body: bytes, limits: Limits) -> list[bytes]:
    try:
        raws = [bytes(raw) for raw in _read_array(body)]
    except RecursionError:
        raise TooLarge("objects and arrays are nested too deeply", reason="too_deep", limit=limits.depth) from None
    except msgspec.DecodeError as error:
        found = _split_leniently(body)
        if found is None:
            raise _mistake(error, "") from None
        raws = found
    if len(raws) > limits.events:
        raise TooLarge(
            f"the array holds {len(raws)} events; this door takes {limits.events}",
            reason="too_many",
            limit=limits.events,
        )
    return raws


def _split_leniently(body: bytes) -> list[bytes] | None:
    """The elements of an array in which something is NaN or half a character: only that element is to be refused."""
    text = body.decode(errors="surrogateescape").strip(_WHITESPACE.decode())
    found, place = [], 1
    try:
        while True:
            start = _SPACE.match(text, place).end()  # type: ignore[union-attr]  # matches always
            place = _LENIENT.raw_decode(text, start)[1]
            found.append(text[start:place].encode(errors="surrogateescape"))
            place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
            if text[place : place + 1] != ",":
                return found if text[place:] == "]" else None
            place += 1
    except (ValueError, RecursionError):
        return None


def _floats(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], float]]:
    if isinstance(value, float):
        yield path, value
    elif len(path) > LIMITS.depth:
        return  # the door will find it too deep
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _floats(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _floats(item, (*path, index))


def read_query(said: Mapping[str, str], kind: type[T]) -> T:
    """The parameters of a query as one *kind*.  Raises InvalidRequest, which names the parameter."""
    try:
        return msgspec.convert(said, type=kind, strict=False)
    except msgspec.ValidationError as error:
        found = _mistake(error, "", InvalidRequest)
        parameter = (found.pointer or "").removeprefix("/")
        raise InvalidRequest(f"in the query, {parameter}: {found}", parameter=parameter, **found.details) from None


# --- refusals -------------------------------------------------------------------------------------------------------


def _refusal(flaw: Flaw, kind: type[TallyError] = InvalidEvent) -> TallyError:
    if flaw.reason == "too_deep":
        return TooLarge(flaw.sentence, pointer=flaw.pointer, reason=flaw.reason)
    return kind(flaw.sentence, pointer=flaw.pointer, reason=flaw.reason)


_PLACE = re.compile(r" - at `\$([^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")
_WORDS = {
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "an array",
    "float": "a number with a fraction",
    "datetime": "a time",
    "date": "a date",
}


def _mistake(error: Exception, place: str, kind: type[TallyError] = InvalidEvent) -> TallyError:
    """What msgspec found, with a JSON Pointer instead of its path and a sentence for a person."""
    if isinstance(error, RecursionError):
        return TooLarge("objects and arrays are nested too deeply", pointer=place, reason="too_deep")
    if isinstance(error, UnicodeDecodeError):
        return kind("the text is not UTF-8", pointer=place, reason="not_utf8")
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return kind(
            f"this is not JSON: {message.removeprefix('JSON is malformed: ')}", pointer=place, reason="malformed"
        )
    if found := _PLACE.search(message):
        message = message[: found.start()]
        for name, index in _STEP.findall(found[1]):
            if not name and not index:
                break  # msgspec does not tell the key of a dict: the pointer ends at the dict
            place += pointer(name or index)
    for pattern, reason, sentence in _MISTAKES:
        if known := pattern.fullmatch(message):
            words = known.groupdict()
            if "field" in words:
                place += pointer(words["field"])
            named = {key: _in_words(text) if key in {"expected", "found"} else text for key, text in words.items()}
            return kind(sentence.format(**named), pointer=place, reason=reason, **words)
    return kind(message, pointer=place, reason="value")


_MISTAKES: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), reason, sentence)
    for pattern, reason, sentence in (
        (r"Object contains unknown field `(?P<field>.*)`", "unknown_field", 'there is no field "{field}" here'),
        (r"Object missing required field `(?P<field>.*)`", "missing", '"{field}" is missing'),
        (r"Expected `(?P<expected>[^`]*)`, got `(?P<found>[^`]*)`", "wrong_type", "expected {expected}, found {found}"),
        (
            r"Expected `datetime` with a timezone component",
            "no_zone",
            "the time needs a zone, for example a Z at its end",
        ),
        (
            r"Invalid RFC3339 encoded datetime",
            "not_a_time",
            "this is not a time as RFC 3339 writes it: 2026-11-21T10:15:00Z",
        ),
        (r"Invalid enum value (?P<found>.*)", "not_a_choice", "{found} is not one of the values that may stand here"),
        (r"Expected `[^`]*` (?P<bound>[<>]=? -?\d+)", "out_of_bounds", "expected a number {bound}"),
        (r"Expected `str` of length (?P<bound>.*)", "length", "expected a text of length {bound}"),
        (r"Expected `(?:array|object)` of length (?P<bound>.*)", "size", "expected {bound} elements"),
        (r"Expected `str` matching regex (?P<pattern>.*)", "pattern", "expected a text of the form {pattern}"),
    )
)


def _in_words(types: str) -> str:
    return " or ".join(_WORDS.get(name, name) for name in types.split(" | "))


# --- what is known of a facts class ---------------------------------------------------------------------------------


class _Reader(Struct, frozen=True):
    """How to read one class of facts."""

    decode: Callable[[Raw | bytes], Any]
    closed: bool  #: the class alone keeps out fractions, unbounded numbers, unknown fields and endless nesting
    exact: bool  #: moreover, its canonical form never has a colon or minus that the body had not
    settle: tuple[Callable[[Any], None], ...]  #: puts defaults that were written out back to the default itself


_READERS: dict[type[Facts], _Reader] = {}


def _reader(facts: type[Facts]) -> _Reader:
    shape = inspect.type_info(facts)
    reader = _READERS[facts] = _Reader(
        decode=msgspec.json.Decoder(facts).decode,
        closed=not check_facts(facts) and not _open(shape),
        exact=not any(_rewrites(shape, frozenset())),
        settle=_settlers(shape, frozenset()),
    )
    return reader


def _parts(shape: Any) -> Iterator[Any]:
    """The types directly inside a type."""
    match shape:
        case inspect.Metadata():
            yield shape.type
        case inspect.StructType():
            yield from (field.type for field in shape.fields)
        case inspect.UnionType():
            yield from shape.types
        case inspect.DictType():
            yield shape.key_type
            yield shape.value_type
        case inspect.TupleType():
            yield from shape.item_types
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            yield shape.item_type
        case _:
            pass


def _objections(shape: Any, name: str, above: frozenset[Any]) -> Iterator[str]:
    match shape:
        case inspect.StructType(cls=cls) if cls in above:
            return
        case inspect.StructType(cls=cls):
            above |= {cls}
            if not shape.forbid_unknown_fields:
                yield f"{name}: {cls.__name__} takes unknown fields; subclass Facts"
            for field in shape.fields:
                yield from _objections(field.type, f"{name}.{field.name}", above)
            return
        case inspect.FloatType() | inspect.DecimalType():
            yield f"{name}: fractions are not exact; count in the smallest unit"
        case inspect.AnyType() | inspect.RawType():
            yield f"{name}: anything at all may stand here; say what"
        case inspect.DateTimeType() | inspect.TimeType() if shape.tz is not True:
            yield f"{name}: a time needs a zone; annotate it with Meta(tz=True)"
        case inspect.IntType() if (shape.ge is None and shape.gt is None) or (shape.le is None and shape.lt is None):
            yield f"{name}: the number needs a lower and an upper bound"
        case _:
            pass
    for part in _parts(shape):
        yield from _objections(part, name, above)


def _open(shape: Any, above: frozenset[Any] = frozenset()) -> bool:
    """Whether the type may hold itself, or something this module does not know."""
    if isinstance(shape, inspect.StructType):
        if shape.cls in above:
            return True
        above |= {shape.cls}
    elif not isinstance(shape, _KNOWN):
        return True
    return any(_open(part, above) for part in _parts(shape))


_PLAIN = (
    inspect.StrType, inspect.IntType, inspect.BoolType, inspect.NoneType, inspect.LiteralType, inspect.EnumType, inspect.DateType,
)  # fmt: skip
_HOLDING = (
    inspect.Metadata, inspect.UnionType, inspect.DictType, inspect.TupleType, inspect.ListType, inspect.VarTupleType,
    inspect.SetType, inspect.FrozenSetType,
)  # fmt: skip
_KNOWN = (*_PLAIN, *_HOLDING, inspect.DateTimeType, inspect.TimeType, inspect.UUIDType, inspect.BytesType)


def _rewrites(shape: Any, above: frozenset[Any]) -> Iterator[bool]:
    """True for each part that may be written with a colon or minus its sender did not write: times, tags, made-up defaults."""
    if isinstance(shape, inspect.StructType):
        if shape.cls in above:
            return
        above |= {shape.cls}
        yield shape.tag_field is not None or not shape.cls.__struct_config__.omit_defaults
        yield from (field.default_factory not in {msgspec.NODEFAULT, list, dict, set} for field in shape.fields)
    elif not isinstance(shape, (*_PLAIN, *_HOLDING)):
        yield True
    for part in _parts(shape):
        yield from _rewrites(part, above)


def _settlers(shape: Any, above: frozenset[Any]) -> tuple[Callable[[Any], None], ...]:
    """Equal claims must give equal bytes, and msgspec leaves out a default only if it is the very same object."""
    if not isinstance(shape, inspect.StructType):
        return ()
    if shape.cls in above:
        return (_settle_again(shape.cls),)
    above |= {shape.cls}
    found: list[Callable[[Any], None]] = []
    for field in shape.fields:
        if field.default is not msgspec.NODEFAULT and not _same_object(field.type, field.default):
            found.append(_settle_default(field.name, field.default))
        if inner := _settlers(_item(field.type), above):
            found.append(_settle_inside(field.name, inner))
    _SETTLERS[shape.cls] = tuple(found)
    return _SETTLERS[shape.cls]


_SETTLERS: dict[type, tuple[Callable[[Any], None], ...]] = {}


def _same_object(shape: Any, default: Any) -> bool:
    """Whether decoding this default gives the default itself."""
    shape = shape.type if isinstance(shape, inspect.Metadata) else shape
    if (
        default is None
        or default is UNSET
        or isinstance(default, bool)
        or isinstance(shape, inspect.LiteralType | inspect.EnumType)
    ):
        return True
    if isinstance(default, int):
        return -5 <= default <= 256
    return default in ("", ())


def _item(shape: Any) -> Any:
    """The struct inside a field: the field's own, an element's, or the one beside null."""
    while isinstance(shape, _HOLDING):
        inner = [part for part in _parts(shape) if not isinstance(part, _PLAIN)]
        if len(inner) != 1:
            return None
        shape = inner[0]
    return shape


def _settle_default(name: str, default: Any) -> Callable[[Any], None]:
    def settle(facts: Any) -> None:
        value = getattr(facts, name)
        if value is not default and value == default:
            force_setattr(facts, name, default)

    return settle


def _settle_inside(name: str, inner: tuple[Callable[[Any], None], ...]) -> Callable[[Any], None]:
    def settle(facts: Any) -> None:
        value = getattr(facts, name)
        if value is None:
            return
        for item in [value] if isinstance(value, Struct) else value.values() if isinstance(value, Mapping) else value:
            for each in inner:
                each(item)

    return settle


def _settle_again(cls: type) -> Callable[[Any], None]:
    """For a class that holds itself."""

    def settle(facts: Any) -> None:
        for each in _SETTLERS[cls]:
            each(facts)

    return settle
