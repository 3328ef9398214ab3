"""Rows of CSV, Parquet and row-wise JSON files become events, in columns: read, joined and written as JSON by polars.

What comes out is the text a client would have sent, in canonical form, and goes through the same door.  Whatever a
file may hold, at most :data:`STRETCH` rows are in memory at once.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import attrs
import polars as pl
from msgspec import Meta, Struct, inspect
from msgspec.structs import fields as fields_of

from .errors import InvalidConfig, Problem
from .events import Facts
from .mapping import NO_ZONE, TOO_LONG, Column, Item, Plain, RowMapping, Target, flaw_at

#: Rows that are turned into events at once.
ROWS: Final = 20_000
#: Rows of a Parquet file that are asked for at once: polars reads the row group in which they are, and a file may be one.
STRETCH: Final = 100_000
#: A file with more rows is put in order on disk without asking first whether it is in order already.
LOOKED_AT: Final = 5_000_000

_PARQUET: Final = {".parquet", ".pq"}
#: What stands between the cells of a row.
_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_READERS: Final = {*_PARQUET, *_SEPARATORS, ".jsonl", ".ndjson"}


class Piece(NamedTuple):
    """One row of a file that has to be put in order, and the texts of which its event is made."""

    group: str
    row: int
    time: int | None
    body: str
    flaw: str


class Table:
    """A file read through a mapping."""

    def __init__(self, file: Path, mapping: RowMapping, *, too_long: frozenset[int] | None = None) -> None:
        """*too_long* are rows with more cells than there are columns, if somebody has looked for them already.

        Raises InvalidConfig if the file is not what its name says, or lacks columns that the mapping names, as its lookups do.
        """
        self.mapping = mapping
        self.too_long = _too_long(file) if too_long is None else too_long
        pl.Config.set_streaming_chunk_size(ROWS)  # what polars holds while it reads ahead, too
        self._path = file
        self._file = plain = _scan(file, ragged=bool(self.too_long))
        self._by_stretch = file.suffix.lower() in _PARQUET
        self._by_line = file.suffix.lower() in _SEPARATORS
        with _readable(file):
            found = set(plain.collect_schema().names())
            self.rows = int(plain.select(pl.len()).collect().item())
        self._lookups: list[tuple[str, pl.LazyFrame]] = []
        for lookup in mapping.lookups:
            other = _scan(file.parent / lookup.file)
            with _readable(file.parent / lookup.file):
                theirs = other.collect_schema().names()
            if lookup.on not in found or lookup.on not in theirs:
                raise InvalidConfig([Problem(f'{lookup.file} and {file.name} have no column "{lookup.on}" in common')])
            wanted = [name for name in theirs if name in mapping.columns - found]
            with _readable(file.parent / lookup.file):
                rows = other.select(lookup.on, *wanted).collect()
            if rows.get_column(lookup.on).is_duplicated().any():
                raise InvalidConfig([Problem(f'{lookup.file} has several rows with the same "{lookup.on}"')])
            self._lookups.append((lookup.on, rows.lazy()))
            found |= set(wanted)
        if missing := sorted(mapping.columns - found):
            raise InvalidConfig(
                [Problem(f'there is no column "{name}"; the file has {", ".join(sorted(found))}') for name in missing]
            )
        self._schema = self._looked_up(plain).collect_schema()
        self._group = mapping.group or "_row"
        self._plain = _Plain.of(self)

    # -- asked before anything is read ------------------------------------------------------------------------------

    def in_order(self) -> bool:
        """Whether times never go back and the rows of each event stand together."""
        return self.rows <= LOOKED_AT and self._stands(by_time=True)

    def together(self) -> bool:
        """Whether the rows of each event stand together."""
        return self.mapping.group is None or (self.rows <= LOOKED_AT and self._stands(by_time=False))

    def _stands(self, *, by_time: bool) -> bool:
        """Whether no value begins a run of equal groups twice, and if *by_time* no time goes back."""
        begun: list[pl.Series] = []
        last: pl.DataFrame | None = None
        for _, part in self._stretches():
            frame = self._order(part).collect()
            rows = frame if last is None else pl.concat([last, frame])
            times = rows.get_column("_time")
            if by_time and (times < times.shift(1)).any():
                return False
            if self.mapping.group is not None:
                groups = rows.get_column(self.mapping.group)
                begins = groups.ne_missing(groups.shift(1)).slice(1)
                begun += [groups.slice(1).filter(begins), *([groups.head(1)] if last is None else [])]
            last = rows.tail(1)
        return not begun or not pl.concat(begun).is_duplicated().any()

    def _order(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """What is asked about order: it needs no lookup, unless time or group come from one."""
        mapping = self.mapping
        asked = {*mapping.time.columns, *([mapping.group] if mapping.group else [])}
        own = set(rows.collect_schema().names())
        found = rows.select(sorted(asked)) if asked <= own else self._looked_up(rows)
        return self._without_blanks(found, asked & own).with_columns(_time=self._time())

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _stretches(self) -> Iterator[tuple[int, pl.LazyFrame]]:
        """The parts of the file that are read at once, each with how many rows are before it."""
        if not self._by_stretch:
            yield 0, self._file
            return
        for first in range(0, self.rows, STRETCH):
            yield first, self._file.slice(first, STRETCH)

    def _looked_up(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The columns that the mapping names: the file's own, and those of its lookups."""
        for on, more in self._lookups:
            rows = rows.join(more, on=on, how="left", maintain_order="left")
        return rows.select(sorted(self.mapping.columns))

    def _without_blanks(self, rows: pl.LazyFrame, columns: Collection[str]) -> pl.LazyFrame:
        """The rows that say something in one of *columns*: what spreadsheets leave behind as empty lines is no row."""
        if not self._by_line or not columns:
            return rows
        return rows.filter(~pl.all_horizontal(pl.col(name).is_null() for name in sorted(columns)))

    def _batches(self) -> Iterator[pl.DataFrame]:
        """All rows in the file's order, up to ROWS of them at once."""
        for first, part in self._stretches():
            rows = self._looked_up(part).with_row_index("_row", offset=first + 1)
            rows = self._without_blanks(rows, self.mapping.columns)
            rows = rows.with_columns(_time=self._time(), _flaw=self._flaws())
            yield from rows.collect_batches(chunk_size=ROWS, maintain_order=True)

    # -- events -------------------------------------------------------------------------------------------------------

    def items(self) -> Iterator[Item]:
        """The events in the file's order; the rows of each must stand together."""
        for frame in self._whole_groups():
            yield from self._items(frame)

    def _whole_groups(self) -> Iterator[pl.DataFrame]:
        kept: pl.DataFrame | None = None
        for batch in self._batches():
            frame = batch if kept is None else pl.concat([kept, batch])
            kept = None
            if self.mapping.group is not None:
                # the last event may go on in the next batch
                groups = frame.get_column(self._group)
                start = frame.height - int(groups.eq_missing(groups[-1]).reverse().cum_prod().sum())
                frame, kept = frame[:start], frame[start:]
            if frame.height:
                yield frame
        if kept is not None and kept.height:
            yield kept

    def _items(self, frame: pl.DataFrame) -> Iterator[Item]:
        """Plain events are made at once; whatever is not plain goes to the door as text, for its verdict."""
        if self._plain is None:
            yield from self._texts(frame)
            return
        made = self._plain.make(frame)
        odd = [n for n, (_, _, _, plain) in enumerate(made) if plain is None]
        texts: Iterator[Item] = iter(())
        if odd:
            rows = pl.int_ranges(
                pl.Series([made[n][0] for n in odd]), pl.Series([made[n][0] + made[n][1] for n in odd]), eager=True
            )
            texts = self._texts(frame[rows.explode()])
        rows_of = frame.get_column("_row")[[start for start, *_ in made]].to_list()
        for row, (_, _, at, plain) in zip(rows_of, made, strict=True):
            yield next(texts) if plain is None else Item(row, at, b"", None, plain)

    def _texts(self, frame: pl.DataFrame) -> Iterator[Item]:
        mapping = self.mapping
        if mapping.group is not None:
            first = sorted({*frame.columns} - {self._group, "_flaw", *_only_in(mapping)})
            frame = frame.group_by(self._group, maintain_order=True).agg(
                *(pl.col(name).first() for name in first),
                pl.col("_flaw").drop_nulls().first(),
                _list=pl.struct(self._field(target) for target in mapping.list_targets),
            )
        bodies = frame.select(self._body()).to_series()
        found = (frame.get_column("_row"), frame.get_column("_time"), bodies, frame.get_column("_flaw"))
        for row, time, body, flaw in zip(*(column.to_list() for column in found), strict=True):
            yield Item(row, time, body, None if flaw is None else flaw_at(flaw))

    def pieces(self) -> Iterator[list[Piece]]:
        """Row by row, for a file that has to be put in order; :meth:`join` makes events of them."""
        mapping = self.mapping
        for batch in self._batches():
            frame = batch
            if mapping.group is not None:
                frame = frame.with_columns(
                    _list=pl.concat_list(pl.struct(self._field(target) for target in mapping.list_targets))
                )
            texts = frame.select(self._body()).to_series().cast(pl.String).to_list()
            groups = frame.get_column(self._group).cast(pl.String).fill_null("").to_list()
            rows, times = frame.get_column("_row").to_list(), frame.get_column("_time").to_list()
            flaws = frame.get_column("_flaw").fill_null("").to_list()
            yield [Piece(*each) for each in zip(groups, rows, times, texts, flaws, strict=True)]

    # -- expressions --------------------------------------------------------------------------------------------------

    def _body(self) -> pl.Expr:
        mapping = self.mapping
        data = {target.name: self._field(target) for target in mapping.data}
        if mapping.list_name:
            data[mapping.list_name] = pl.col("_list")
        order = [name for name in mapping.kind.facts.__struct_fields__ if name in data]
        time = pl.col("_time").cast(pl.Datetime("us"))
        fraction = pl.when(pl.col("_time") % 1_000_000 != 0).then(time.dt.strftime(".%6f")).otherwise(pl.lit(""))
        event = {
            "id": self._text(mapping.id),
            "source": pl.lit(mapping.source),
            "type": pl.lit(mapping.kind.name),
            "time": pl.concat_str(time.dt.strftime("%Y-%m-%dT%H:%M:%S"), fraction, pl.lit("Z")),
            "data": pl.struct(data[name].alias(name) for name in order)
            if order
            else pl.struct(pl.lit(None).alias("_")),
        }
        if mapping.member is not None:
            event["member"] = self._text(mapping.member)
        targets = [*mapping.data, *mapping.list_targets]
        # polars writes what is not there as null; to the door absent and null are two things
        absent = list(
            dict.fromkeys(f',"{name}":null' for name in ("time", "member", *(target.name for target in targets)))
        )
        text = pl.struct(value.alias(name) for name, value in event.items()).struct.json_encode()
        return text.str.replace_many(absent, [""] * len(absent)).cast(pl.Binary).alias("body")

    def _field(self, target: Target) -> pl.Expr:
        match target.sort:
            case "number":
                value = self._number(target.column)[0]
            case "truth":
                value = pl.lit(target.column.value) if not target.column.columns else pl.col(target.column.columns[0])
            case _:
                value = self._text(target.column)
        if target.default is not None:  # canonical: what the class takes by itself is not written
            value = pl.when(value != target.default).then(value)
        return value.alias(target.name)

    @property
    def group(self) -> str:
        """The column whose equal values make one event."""
        return self._group

    def plain_number(self, target: Target) -> pl.Expr:
        """A number as Python will hold it; what is no whole number was found by the column ``_flaw``."""
        value = self._number(target.column)[0].cast(pl.Int64)
        return value if target.default is None else value.fill_null(target.default)

    def plain_text(self, column: Column) -> pl.Expr:
        """A text; null where there is none."""
        return self._text(column)

    def short(self, column: Column) -> bool:
        """Whether the column holds whole numbers: as texts they have up to twenty characters, none of them special."""
        return bool(column.columns) and self._schema[column.columns[0]].is_integer()

    def _text(self, column: Column) -> pl.Expr:
        if not column.columns:
            return pl.lit(str(column.value))
        return pl.col(column.columns[0]).cast(pl.String)

    def _number(self, column: Column) -> tuple[pl.Expr, pl.Expr]:
        """A whole number of the smallest unit, and whether what the file says is none."""
        if not column.columns:
            return pl.lit(column.value), pl.lit(value=False)
        parts = [self._whole(name, column.decimals) for name in column.columns]
        if len(parts) == 1:
            return parts[0]
        # in a sum an empty cell is nothing, unless all of them are empty
        empty = pl.all_horizontal(value.is_null() for value, _ in parts)
        return pl.when(~empty).then(pl.sum_horizontal(value for value, _ in parts)), pl.any_horizontal(
            wrong for _, wrong in parts
        )

    def _whole(self, name: str, decimals: int) -> tuple[pl.Expr, pl.Expr]:
        kind, column = self._schema[name], pl.col(name)
        if kind.is_integer():
            return column.cast(pl.Int64) * 10**decimals, pl.lit(value=False)
        if kind == pl.String:
            # digit by digit: what a text says exactly is never taken through a float
            digits = rf"^\s*([+-]?\d+)(?:\.(\d{{0,{decimals}}})0*)?\s*$"
            fraction = column.str.extract(digits, 2).fill_null("").str.pad_end(decimals, "0")
            whole = pl.concat_str(column.str.extract(digits, 1), fraction).cast(pl.Int64, strict=False)
            return whole, whole.is_null() & (column.str.strip_chars() != "")
        # the file itself keeps a double: the nearest whole number of cents is what was meant, if it is very near
        scaled = column.cast(pl.Float64) * 10**decimals
        whole = scaled.round()
        return whole.cast(pl.Int64, strict=False), (
            (scaled - whole).abs() > 1e-6 * (1 + scaled.abs() * 1e-9)
        ) | ~scaled.is_finite()

    def _time(self) -> pl.Expr:
        """Microseconds since 1970; null where no time can be read."""
        mapping = self.mapping
        if not mapping.time.columns:
            return pl.lit(None, dtype=pl.Int64)
        name = mapping.time.columns[0]
        column, kind = pl.col(name), self._schema[name]
        zone = str(mapping.zone) if mapping.zone is not None else None
        if kind == pl.String:
            own = pl.when(column.str.contains(_WITH_ZONE)).then(column)
            bare = pl.when(column.str.contains(_YEAR_FIRST) & ~column.str.contains(_WITH_ZONE)).then(column)
            found = own.str.to_datetime(time_unit="us", time_zone="UTC", strict=False).dt.epoch("us")
            if zone is None:
                return found
            local = bare.str.to_datetime(time_unit="us", strict=False)
            return pl.coalesce(found, _in_zone(local, zone).dt.epoch("us"))
        if not isinstance(kind, pl.Datetime):
            raise InvalidConfig([Problem(f'"{name}" holds {kind}; expected times')])
        if kind.time_zone is None:
            if zone is None:
                raise InvalidConfig([Problem(f'the times of "{name}" have no zone; say zone = "UTC" or another')])
            column = _in_zone(column, zone)
        return column.dt.epoch("us")

    def _flaws(self) -> pl.Expr:
        """Where a row says what is no time, or what no whole number can: the pointer's text, else null."""
        mapping = self.mapping
        found = pl.lit(None, dtype=pl.String)
        if mapping.time.columns:
            said = pl.col(mapping.time.columns[0])
            text = self._schema[mapping.time.columns[0]] == pl.String
            there = said.is_not_null() & (said != "") if text else said.is_not_null()
            wrong = pl.lit("/time")
            if text and mapping.zone is None:
                bare = said.str.contains(_YEAR_FIRST) & ~said.str.contains(_WITH_ZONE)
                wrong = pl.when(bare).then(pl.lit(NO_ZONE)).otherwise(wrong)
            found = pl.when(there & self._time().is_null()).then(wrong).otherwise(found)
        places = [(f"/data/{target.name}", target) for target in mapping.data]
        places += [(f"/data/{mapping.list_name}/-/{target.name}", target) for target in mapping.list_targets]
        for pointer, target in places:
            if target.sort == "number":
                found = pl.when(self._number(target.column)[1]).then(pl.lit(pointer)).otherwise(found)
        if self.too_long:  # then every other word on it may be another column's
            found = pl.when(pl.col("_row").is_in(sorted(self.too_long))).then(pl.lit(TOO_LONG)).otherwise(found)
        return found


class _Plain:
    """Makes the facts of events whose rows are plain: every value within the bounds of its field, no character that JSON
    escapes.  The bounds are those of the facts class, asked of whole columns instead of one value after another.
    """

    def __init__(self, table: Table, cls: type[Facts], element: type[Struct], bounds: inspect.VarTupleType) -> None:
        mapping = table.mapping
        self._cls, self._element = cls, element
        self._list, self._group = mapping.list_name, table.group
        self._least, self._most = bounds.min_length or 0, bounds.max_length or 1 << 30
        outer, inner = _types(cls), _types(element)
        name = inspect.type_info(Annotated[str, Meta(min_length=1, max_length=128)])
        self._elements = _Columns(
            table, [(_with_own(element, target), inner[target.name]) for target in mapping.list_targets]
        )
        own = [Target(name="id", sort="text", default=None, column=mapping.id)]
        if mapping.member is not None:
            own.append(Target(name="member", sort="text", default=None, column=mapping.member))
        self._names = _Columns(table, [(target, name) for target in own], guests=True)
        self._facts = _Columns(table, [(_with_own(cls, target), outer[target.name]) for target in mapping.data])
        self._make = _maker([target.name for target in mapping.list_targets])

    @staticmethod
    def of(table: Table) -> _Plain | None:
        """None if some field of the facts is not as simple as this needs."""
        mapping = table.mapping
        cls = mapping.kind.facts
        if not mapping.list_name:
            return None
        bounds = _unwrapped(_types(cls)[mapping.list_name])
        element = _unwrapped(bounds.item_type) if isinstance(bounds, inspect.VarTupleType) else None
        if not isinstance(element, inspect.StructType) or hasattr(element.cls, "__post_init__"):
            return None
        inner, outer = _types(element.cls), _types(cls)
        shapes = [inner[target.name] for target in mapping.list_targets] + [
            outer[target.name] for target in mapping.data
        ]
        if not all(
            isinstance(_unwrapped(shape), inspect.IntType | inspect.StrType | inspect.LiteralType) for shape in shapes
        ):
            return None
        return _Plain(table, cls, element.cls, bounds)

    def make(self, frame: pl.DataFrame) -> list[tuple[int, int, int, Plain | None]]:
        """Of each event where its rows begin, how many there are, when it happened, and the event if it is plain."""
        group = frame.get_column(self._group)
        changes = group.ne_missing(group.shift(1)).arg_true().to_list()
        edges = [*dict.fromkeys([0, *changes]), frame.height]
        values, odd = self._elements.read(frame)
        elements = self._make(self._element, *values)
        odd_rows = set((odd | frame.get_column("_flaw").is_not_null()).arg_true().to_list())
        first = frame[edges[:-1]]
        facts, odd_facts = self._facts.read(first)
        names, odd_names = self._names.read(first)
        times = first.get_column("_time")
        odd_events = (odd_facts | odd_names | times.is_null()).to_list()
        ids = names[0]
        members = names[1] if len(names) > 1 else [""] * len(ids)
        fields = self._facts.fields
        made: list[tuple[int, int, int, Plain | None]] = []
        for start, end, odd_event, time, id, member, *said in zip(
            edges[:-1], edges[1:], odd_events, times.to_list(), ids, members, *facts, strict=True
        ):
            plain: Plain | None = None
            if (
                not odd_event
                and self._least <= end - start <= self._most
                and (not odd_rows or odd_rows.isdisjoint(range(start, end)))
            ):
                more = dict(zip(fields, said, strict=True))
                more[self._list] = tuple(elements[start:end])
                with suppress(ValueError):  # what contradicts itself is told by the door
                    plain = Plain(id, member or "", self._cls(**more))
            made.append((start, end - start, time, plain))
        return made


class _Columns:
    """Values of several fields as lists, and which rows are not certain to be acceptable."""

    def __init__(self, table: Table, fields: Sequence[tuple[Target, Any]], *, guests: bool = False) -> None:
        self.fields = [target.name for target, _ in fields]
        self._select: list[pl.Expr] = []
        self._odd: list[pl.Expr] = [pl.lit(value=False)]
        self._texts: list[tuple[str, Any, bool]] = []
        for target, shape in fields:
            if target.sort == "number":
                value = table.plain_number(target)
                self._odd.append(_outside(pl.col(target.name), shape))
            else:
                value = table.plain_text(target.column)
                if target.default is not None:
                    value = value.fill_null(target.default)
                if not table.short(target.column) or not _takes_short(shape):
                    self._texts.append((target.name, shape, guests and target.name == "member"))
                elif not (guests and target.name == "member"):
                    self._odd.append(pl.col(target.name).is_null())
            self._select.append(value.alias(target.name))
        self._defaults = {target.name: target.default for target, _ in fields}

    def read(self, frame: pl.DataFrame) -> tuple[list[list[Any]], pl.Series]:
        """A list per field, and a mask of rows."""
        if not self.fields:
            return [], pl.repeat(value=False, n=frame.height, dtype=pl.Boolean, eager=True)
        columns = frame.with_columns(*self._select).select(self.fields)  # constants become columns, too
        odd = columns.select(_odd=pl.any_horizontal(*self._odd).fill_null(value=True)).get_column("_odd")
        if len(odd) != frame.height:
            odd = pl.repeat(odd[0], frame.height, dtype=pl.Boolean, eager=True)
        for name, shape, may_lack in self._texts:
            # the same few texts stand in most rows: each is looked at once
            column = columns.get_column(name)
            wrong = _outside(pl.col(name), shape)
            if self._defaults[name] is not None:
                wrong &= pl.col(name).ne_missing(self._defaults[name])
            if may_lack:
                wrong &= pl.col(name).is_not_null()
            bad = column.unique().to_frame().filter(wrong.fill_null(value=True)).get_column(name)
            if len(bad):
                odd |= column.is_in(bad.implode(), nulls_equal=True)
        return [self._settled(name, columns.get_column(name).to_list()) for name in self.fields], odd

    def _settled(self, name: str, values: list[Any]) -> list[Any]:
        """Defaults that the file wrote out become the default itself: msgspec leaves out only that very object."""
        default = self._defaults[name]
        if default is None or default == "" or (type(default) is int and -5 <= default <= 256):  # single objects
            return values
        return [default if value == default else value for value in values]


def _takes_short(shape: Any) -> bool:
    kind = _unwrapped(shape)
    return (
        isinstance(kind, inspect.StrType)
        and (kind.min_length or 0) <= 1
        and (kind.max_length or 20) >= 20
        and kind.pattern is None
    )


def _maker(names: Sequence[str]) -> Callable[..., list[Struct]]:
    """A function that makes an element of each row, given the class and a list per field."""
    assert all(name.isidentifier() for name in names)
    keywords = ", ".join(f"{name}={name}_" for name in names)
    each, lists = ", ".join(f"{name}_" for name in names), ", ".join(names)
    # with keywords from a dict it would take twice as long; the names are fields of our own class
    found: Callable[..., list[Struct]] = eval(f"lambda _make, {lists}: [_make({keywords}) for {each}, in zip({lists})]")  # noqa: S307
    return found


def _with_own(cls: type[Struct], target: Target) -> Target:
    """A target whose default is the very object that the class has: a mapping that came from elsewhere has an equal one."""
    own = next(field.default for field in fields_of(cls) if field.name == target.name)
    return target if target.default is None else attrs.evolve(target, default=own)


def _types(cls: type[Struct]) -> dict[str, Any]:
    shape = inspect.type_info(cls)
    assert isinstance(shape, inspect.StructType)
    return {field.name: field.type for field in shape.fields}


def _unwrapped(shape: Any) -> Any:
    return _unwrapped(shape.type) if isinstance(shape, inspect.Metadata) else shape


#: Times as texts: which day "03/04/2025" is, only its writer knows.
_YEAR_FIRST: Final = r"^\s*\d{4}[-/]\d\d[-/]\d\d"
_WITH_ZONE: Final = _YEAR_FIRST + r".*:\d\d(?:[.,]\d+)?\s*(?:[zZ]|[+-]\d\d(?::?\d\d)?)\s*$"


def _in_zone(local: pl.Expr, zone: str) -> pl.Expr:
    """Local times as instants: the hour that comes twice in autumn is taken as the first; the one that spring skips is no time."""
    return local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")


#: What JSON writes with a backslash; DEL is none of it, and nobody types it.
_ESCAPED: Final = r'[\x00-\x1f"\\\x7f]'


def _outside(value: pl.Expr, shape: Any) -> pl.Expr:
    """Whether a value is not certain to be within the bounds of its type."""
    odd = value.is_null()
    match _unwrapped(shape):
        case inspect.IntType(ge=ge, le=le, gt=gt, lt=lt, multiple_of=step):
            for bound, wrong in ((ge, value.__lt__), (le, value.__gt__), (gt, value.__le__), (lt, value.__ge__)):
                if bound is not None:
                    odd |= wrong(bound)
            if step is not None:
                odd |= value % step != 0
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            odd |= value.str.contains(_ESCAPED)
            if least is not None:
                odd |= value.str.len_chars() < least
            if most is not None:
                odd |= value.str.len_chars() > most
            if pattern is not None:
                odd |= ~value.str.contains(pattern)
        case inspect.LiteralType(values=allowed):
            odd |= ~value.is_in(list(allowed))
    return odd


def join(pieces: Sequence[Piece], list_name: str) -> bytes:
    """The event of all *pieces* of one group: the first row's, with the list elements of every row."""
    first = pieces[0].body
    if len(pieces) > 1:
        # each body holds exactly one element, written by the same encoder with the same texts around it
        mark = f'"{list_name}":['
        start = first.index(mark) + len(mark)
        end = _end_of(first, start)
        elements = [first[start:end]]
        for piece in pieces[1:]:
            begin = piece.body.index(mark) + len(mark)
            elements.append(piece.body[begin : _end_of(piece.body, begin)])
        first = first[:start] + ",".join(elements) + first[end:]
    return first.encode()


def _end_of(text: str, start: int) -> int:
    """Where the object that begins at *start* ends; it holds no other."""
    inside, place = False, start
    while True:
        match text[place]:
            case '"':
                inside = not inside
            case "\\":
                place += 1
            case "}" if not inside:
                return place + 1
        place += 1


def _only_in(mapping: RowMapping) -> set[str]:
    """Columns that only the elements of the list need."""
    of_list = {name for target in mapping.list_targets for name in target.column.columns}
    others = {name for target in mapping.data for name in target.column.columns}
    for column in (mapping.id, mapping.time, mapping.member):
        others |= set(column.columns) if column is not None else set()
    return of_list - others


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Raises InvalidConfig where the file is not what its name says."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        (why, *_) = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidConfig([Problem(f"{file.name} cannot be read: {why}")]) from None


def _too_long(file: Path) -> frozenset[int]:
    """Rows, counted from 1, of a CSV or TSV file that have more cells than it has columns.  They are looked for one by one only
    if there are any: reading the file once says whether, and whether it can be read to its end.

    Raises InvalidConfig if it cannot.
    """
    separator = _SEPARATORS.get(file.suffix.lower())
    if separator is None:
        return frozenset()
    with _readable(file):
        try:
            _read_through(_scan(file))
        except pl.exceptions.ComputeError as error:
            if "more fields" not in str(error):
                raise
        else:
            return frozenset()
        _read_through(_scan(file, ragged=True))
    csv.field_size_limit(sys.maxsize)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, delimiter=separator)
        columns = len(next(row for row in rows if row))
        return frozenset(n for n, row in enumerate(rows, 1) if len(row) > columns)


def _read_through(rows: pl.LazyFrame) -> None:
    for _ in rows.collect_batches(chunk_size=ROWS):
        pass


def _scan(file: Path, *, ragged: bool = False) -> pl.LazyFrame:
    """The rows of *file*; where it is *ragged*, without the cells that stand behind the last column."""
    match file.suffix.lower():
        case suffix if suffix in _PARQUET:
            return pl.scan_parquet(file)
        case suffix if suffix in _SEPARATORS:
            return pl.scan_csv(file, infer_schema=False, separator=_SEPARATORS[suffix], truncate_ragged_lines=ragged)
        case ".jsonl" | ".ndjson":
            return pl.scan_ndjson(file)
    raise InvalidConfig([Problem(f"{file.name}: expected a file that ends with {', '.join(sorted(_READERS))}")])


def column_kinds(file: Path) -> dict[str, Any]:
    """The columns of a file and what they hold, for a person who writes a mapping."""
    return {name: str(kind) for name, kind in _scan(file).collect_schema().items()}
