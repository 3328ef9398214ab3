"""How rows of a table become events: a small TOML file, checked with the place of every mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import attrs
from msgspec import NODEFAULT, inspect

from .document import Document, Path
from .errors import InvalidConfig, InvalidEvent, Problem, TallyError
from .events import EventKind, Facts
from .schema import nearest

Sort = Literal["text", "number", "truth"]


class Plain(NamedTuple):
    """An event whose facts were checked column by column and made without going through text."""

    id: str
    member: str
    facts: Facts
    claim: bytes = b""  #: its canonical form, if whoever read it has made it already


class Item(NamedTuple):
    """One event of a file: where it begins, when it happened as far as that can be read, and what it says."""

    row: int  #: line of a JSONL file, or first row of a table, counted from 1
    time: int | None  #: microseconds since 1970
    body: bytes  #: as a client would have sent it; empty if *plain* is there
    flaw: TallyError | None = None  #: what is wrong with it that no JSON can say
    plain: Plain | None = None


@attrs.frozen(kw_only=True)
class Column:
    """Where a field's value comes from: one column, the sum of several, or the same text for all rows."""

    columns: tuple[str, ...] = ()
    value: str | int | bool | None = None
    decimals: int = 0  #: digits after the point that the file writes and the house does not: 2 makes cents of dollars


@attrs.frozen(kw_only=True)
class Target:
    """One field of the facts and how it is written."""

    name: str
    sort: Sort
    default: Any  #: what the facts class takes if the field is absent; None if it must be there
    column: Column


@attrs.frozen(kw_only=True)
class Lookup:
    """A second file that adds columns to the rows."""

    file: str
    on: str  #: the column that both have


@attrs.frozen(kw_only=True)
class RowMapping:
    """What a mapping file says, ready to be used."""

    kind: EventKind
    source: str
    id: Column
    time: Column
    zone: ZoneInfo | None  #: of times that have none
    member: Column | None
    group: str | None  #: rows with the same value here are one event
    data: tuple[Target, ...]  #: in the order of the facts class
    list_name: str  #: the facts field that has an element per row; empty if a row is an event
    list_targets: tuple[Target, ...]
    lookups: tuple[Lookup, ...]

    @property
    def columns(self) -> frozenset[str]:
        """Every column that is read."""
        found = {self.group} if self.group else set()
        for column in (
            self.id,
            self.time,
            self.member,
            *(target.column for target in (*self.data, *self.list_targets)),
        ):
            if column is not None:
                found |= set(column.columns)
        return frozenset(found)


def load_mapping(path: FilePath, kinds: Mapping[str, EventKind]) -> RowMapping:
    """Read and check the mapping file at *path*.  Raises InvalidConfig with every mistake and its place."""
    try:
        document = Document.read(path)
    except Problem as problem:
        raise InvalidConfig([problem]) from None
    return read_mapping(document, kinds)


def read_mapping(document: Document, kinds: Mapping[str, EventKind]) -> RowMapping:
    """The mapping that *document* describes.  Raises InvalidConfig."""
    return _Reader(document, kinds).read()


_KEYS: Final = ("type", "source", "id", "time", "zone", "member", "group", "data", "rows", "lookups")


class _Reader:
    def __init__(self, document: Document, kinds: Mapping[str, EventKind]) -> None:
        self.document, self.kinds = document, kinds
        self.problems: list[Problem] = []

    def read(self) -> RowMapping:
        said = self.document.data
        for key in said:
            if key not in _KEYS:
                self._wrong((key,), f'unknown key "{key}"; expected one of {", ".join(_KEYS)}', key=True)
        kind = self._kind(said.get("type"))
        id_column, time = self._needed("id"), self._needed("time")
        member = self._column(("member",), said["member"]) if "member" in said else None
        group = said.get("group")
        if group is not None and not isinstance(group, str):
            self._wrong(("group",), "expected the name of a column")
        zone = self._zone(said.get("zone"))
        source = said.get("source")
        if not isinstance(source, str) or not source:
            self._wrong(("source",), 'expected who says so, for example source = "till-export"')
        shape: Any = inspect.type_info(kind.facts) if kind is not None else None
        rows = said.get("rows", {})
        name, targets = self._rows(shape, rows)
        if bool(name) is not bool(group):
            self._wrong(
                ("group",) if group else ("rows",),
                "group and rows go together: rows of one group are the elements of one list",
            )
        data = self._targets(("data",), said.get("data", {}), shape, {name}) if shape is not None else ()
        lookups = tuple(self._lookups(said.get("lookups", [])))
        if self.problems or kind is None or id_column is None or time is None:
            raise InvalidConfig(sorted(self.problems, key=lambda problem: (problem.line, problem.column)))
        return RowMapping(
            kind=kind, source=str(source), id=id_column, time=time, zone=zone, member=member, group=group,
            data=data, list_name=name, list_targets=targets, lookups=lookups,
        )  # fmt: skip

    def _wrong(self, path: Path, message: str, *, key: bool = False) -> None:
        self.problems.append(self.document.problem(path, message, key=key))

    def _kind(self, name: Any) -> EventKind | None:
        kind = self.kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            close = nearest(str(name), self.kinds)
            found = '"type" is missing' if name is None else f"found {name!r}"
            hint = f'; did you mean "{close}"?' if close else ""
            self._wrong(("type",), f"{found}; expected a kind of event{hint}")
        return kind

    def _zone(self, name: Any) -> ZoneInfo | None:
        if name is None:
            return None
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, TypeError, OSError):
            self._wrong(("zone",), f"found {name!r}; expected a time zone such as America/New_York")
            return None

    def _needed(self, key: str) -> Column | None:
        if key not in self.document.data:
            self._wrong((), f'"{key}" is missing; expected the name of a column')
            return None
        return self._column((key,), self.document.data[key])

    def _column(self, path: Path, said: Any) -> Column | None:
        match said:
            case str():
                return Column(columns=(said,))
            case {"column": str(name), **more} if not more.keys() - {"decimals"}:
                return self._scaled(path, (name,), more)
            case {"sum": [str(), *_] as names, **more} if not more.keys() - {"decimals"} and all(
                isinstance(n, str) for n in names
            ):
                return self._scaled(path, tuple(names), more)
            case {"value": (str() | int()) as value, **more} if not more:
                return Column(value=value)
        self._wrong(
            path,
            f'found {said!r}; expected a column such as "total", {{ sum = ["a", "b"], decimals = 2 }} or {{ value = "USD" }}',
        )
        return None

    def _scaled(self, path: Path, names: tuple[str, ...], more: Mapping[Any, Any]) -> Column | None:
        decimals = more.get("decimals", 0)
        if not isinstance(decimals, int) or not 0 <= decimals <= 6:
            self._wrong((*path, "decimals"), f"found {decimals!r}; expected a whole number from 0 to 6")
            return None
        return Column(columns=names, decimals=decimals)

    def _rows(self, shape: inspect.StructType | None, said: Any) -> tuple[str, tuple[Target, ...]]:
        if not said:
            return "", ()
        if not isinstance(said, Mapping) or len(said) != 1:
            self._wrong(("rows",), "expected one table, named as the list of the facts it fills: [rows.lines]")
            return "", ()
        name, fields = next(iter(said.items()))
        field = _fields(shape).get(name) if shape is not None else None
        inner = field and _element(field.type)
        if shape is not None and not isinstance(inner, inspect.StructType):
            self._wrong(("rows", name), f"{name} is no list of this kind's facts", key=True)
            return name, ()
        return name, self._targets(("rows", name), fields, inner, set()) if isinstance(
            inner, inspect.StructType
        ) else ()

    def _targets(self, path: Path, said: Any, shape: inspect.StructType, filled: set[str]) -> tuple[Target, ...]:
        if not isinstance(said, Mapping):
            self._wrong(path, "expected a table of fields")
            return ()
        fields = _fields(shape)
        for name in said:
            if name not in fields:
                close = nearest(name, fields)
                hint = f'; did you mean "{close}"?' if close else ""
                self._wrong((*path, name), f'{shape.cls.__name__} has no field "{name}"{hint}', key=True)
        found = []
        for name, field in fields.items():
            if name not in said:
                if field.required and name not in filled:
                    self._wrong(path, f'"{name}" is missing; {shape.cls.__name__} needs it')
                continue
            sort = _sort(field.type)
            column = self._column((*path, name), said[name])
            if sort is None:
                self._wrong((*path, name), f"{name} cannot be filled from a column", key=True)
            elif column is not None:
                default = None if field.default is NODEFAULT else field.default
                found.append(Target(name=name, sort=sort, default=default, column=column))
        return tuple(found)

    def _lookups(self, said: Any) -> Iterator[Lookup]:
        for place, each in enumerate(said if isinstance(said, list) else []):
            match each:
                case {"file": str(file), "on": str(on), **more} if not more:
                    yield Lookup(file=file, on=on)
                case _:
                    self._wrong(("lookups", place), 'expected { file = "products.csv", on = "product_id" }')


def _fields(shape: inspect.StructType) -> dict[str, inspect.Field]:
    return {field.encode_name: field for field in shape.fields}


def _plain(kind: Any) -> Any:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        others = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
        return _plain(others[0]) if len(others) == 1 else kind
    return kind


def _element(kind: Any) -> Any:
    kind = _plain(kind)
    return _plain(kind.item_type) if isinstance(kind, inspect.VarTupleType | inspect.ListType) else None


def _sort(kind: Any) -> Sort | None:
    match _plain(kind):
        case inspect.IntType():
            return "number"
        case inspect.BoolType():
            return "truth"
        case (
            inspect.StrType() | inspect.LiteralType() | inspect.EnumType() | inspect.DateType() | inspect.DateTimeType()
        ):
            return "text"
    return None


#: Marks of what is wrong with a row where a pointer does not say it: it has more cells than its file has columns; its time has
#: no zone, and the mapping names none.
TOO_LONG, NO_ZONE = "row", "zone"
#: By mark: reason, pointer and sentence.
_FLAWS: Final = {
    TOO_LONG: (
        "too_many_cells", None, "the row has more cells than the file has columns; a text with commas needs quotation marks",
    ),
    NO_ZONE: ("no_zone", "/time", 'this time has no zone; say zone = "UTC" or another in the mapping'),
    "/time": ("not_a_time", "/time", "this is no time that there is; expected one such as 2026-11-21 10:15:00"),
}  # fmt: skip


def flaw_at(mark: str) -> InvalidEvent:
    """What a row says that its event cannot, by its mark: a pointer to a number that is not whole, or one of those above."""
    reason, pointer, sentence = _FLAWS.get(mark, ("fraction", mark, "this is no whole number of the smallest unit"))
    return InvalidEvent(sentence, pointer=pointer, reason=reason)


def mark_of(flaw: TallyError | None) -> str | None:
    """What :func:`flaw_at` makes this flaw of again; None: it has none, or one that the door will find by itself."""
    if flaw is None:
        return None
    return next((mark for mark, (reason, *_) in _FLAWS.items() if flaw.details.get("reason") == reason), flaw.pointer)
