"""Rows of CSV, Parquet and row-wise JSON files become events, in columns: read, joined and written as JSON by polars.

What comes out is the text a client would have sent, in canonical form, and goes through the same door.  Whatever a
file may hold, at most :data:`ROWS` rows are in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from .errors import InvalidConfig, InvalidEvent, Problem
from .mapping import Column, RowMapping, Target

#: Rows that are turned into events at once.
ROWS: Final = 20_000
#: A file with more rows is put in order on disk without asking first whether it is in order already.
LOOKED_AT: Final = 5_000_000

_READERS: Final = {".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson"}


class Chunk(NamedTuple):
    """Some events, as a client would have sent them."""

    rows: Sequence[int]  #: the first row of each, counted from 1
    times: Sequence[int | None]  #: microseconds since 1970; None where no time could be read
    bodies: Sequence[bytes]
    flaws: dict[int, InvalidEvent]  #: what is wrong with a row that no JSON can say, by place in this chunk


class Piece(NamedTuple):
    """One row of a file that has to be put in order, and the texts of which its event is made."""

    group: str
    row: int
    time: int | None
    body: str
    flaw: str


class Table:
    """A file read through a mapping."""

    def __init__(self, file: Path, mapping: RowMapping) -> None:
        """Raises InvalidConfig if the mapping names columns that the file and its lookups lack."""
        self.mapping = mapping
        pl.Config.set_streaming_chunk_size(ROWS)  # what polars holds while it reads ahead, too
        frame = _scan(file)
        found = set(frame.collect_schema().names())
        for lookup in mapping.lookups:
            other = _scan(file.parent / lookup.file).collect()
            if lookup.on not in found or lookup.on not in other.columns:
                raise InvalidConfig([Problem(f'{lookup.file} and {file.name} have no column "{lookup.on}" in common')])
            wanted = [name for name in other.columns if name in mapping.columns - found]
            frame = frame.join(other.lazy().select(lookup.on, *wanted), on=lookup.on, how="left", maintain_order="left")
            found |= set(wanted)
        if missing := sorted(mapping.columns - found):
            raise InvalidConfig(
                [Problem(f'there is no column "{name}"; the file has {", ".join(sorted(found))}') for name in missing]
            )
        kept = frame.select(sorted(mapping.columns)).with_row_index("_row", offset=1)
        schema = kept.collect_schema()
        self._schema = schema
        self._frame = kept.with_columns(_time=self._time(), _flaw=self._flaws())
        self._group = mapping.group or "_row"
        self.rows = int(frame.select(pl.len()).collect().item())

    # -- asked before anything is read ------------------------------------------------------------------------------

    def in_order(self) -> bool:
        """Whether times never go back and the rows of each event stand together."""
        if self.rows > LOOKED_AT:
            return False
        time, group = pl.col("_time"), pl.col(self._group)
        grouped = (group != group.shift(1)).sum() + 1 == group.n_unique() if self.mapping.group else pl.lit(value=True)
        back = (time < time.shift(1)).any().fill_null(value=False)
        return bool(self._frame.select(~back & grouped).collect().item())

    def together(self) -> bool:
        """Whether the rows of each event stand together."""
        if self.mapping.group is None:
            return True
        if self.rows > LOOKED_AT:
            return False
        group = pl.col(self._group)
        return bool(self._frame.select((group != group.shift(1)).sum() + 1 == group.n_unique()).collect().item())

    # -- events -------------------------------------------------------------------------------------------------------

    def chunks(self) -> Iterator[Chunk]:
        """The events in the file's order; the rows of each must stand together."""
        kept: pl.DataFrame | None = None
        for batch in self._frame.collect_batches(chunk_size=ROWS, maintain_order=True):
            frame = batch if kept is None else pl.concat([kept, batch])
            kept = None
            if self.mapping.group is not None:
                # the last event may go on in the next batch
                last = frame.get_column(self._group)[-1]
                same = (
                    (frame.get_column(self._group) == last)
                    if last is not None
                    else frame.get_column(self._group).is_null()
                )
                start = frame.height - int(same.reverse().cum_prod().sum())
                frame, kept = frame[:start], frame[start:]
            if frame.height:
                yield self._chunk(frame)
        if kept is not None and kept.height:
            yield self._chunk(kept)

    def _chunk(self, frame: pl.DataFrame) -> Chunk:
        mapping = self.mapping
        if mapping.group is not None:
            first = sorted({*frame.columns} - {self._group, "_flaw", *_only_in(mapping)})
            frame = frame.group_by(self._group, maintain_order=True).agg(
                *(pl.col(name).first() for name in first),
                pl.col("_flaw").drop_nulls().first(),
                _list=pl.struct(self._field(target) for target in mapping.list_targets),
            )
        bodies = frame.select(self._body()).to_series()
        flaws = {
            place: _flaw(said) for place, said in enumerate(frame.get_column("_flaw").to_list()) if said is not None
        }
        return Chunk(frame.get_column("_row").to_list(), frame.get_column("_time").to_list(), bodies.to_list(), flaws)

    def pieces(self) -> Iterator[list[Piece]]:
        """Row by row, for a file that has to be put in order; :meth:`join` makes events of them."""
        mapping = self.mapping
        for batch in self._frame.collect_batches(chunk_size=ROWS, maintain_order=True):
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
            if zone is None:
                return column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False).dt.epoch("us")
            column, kind = column.str.to_datetime(time_unit="us", strict=False), pl.Datetime("us")
        if isinstance(kind, pl.Datetime) and kind.time_zone is None:
            if zone is None:
                raise InvalidConfig([Problem(f'the times of "{name}" have no zone; say zone = "UTC" or another')])
            # the hour that comes twice in autumn is taken as the first; the one that spring skips is no time
            column = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        elif not isinstance(kind, pl.Datetime):
            raise InvalidConfig([Problem(f'"{name}" holds {kind}; expected times')])
        return column.dt.epoch("us")

    def _flaws(self) -> pl.Expr:
        """Where a row says what no whole number can: the pointer's text, else null."""
        mapping = self.mapping
        found = pl.lit(None, dtype=pl.String)
        places = [(f"/data/{target.name}", target) for target in mapping.data]
        places += [(f"/data/{mapping.list_name}/-/{target.name}", target) for target in mapping.list_targets]
        for pointer, target in places:
            if target.sort == "number":
                found = pl.when(self._number(target.column)[1]).then(pl.lit(pointer)).otherwise(found)
        return found


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


def _flaw(pointer: str) -> InvalidEvent:
    return InvalidEvent("this is no whole number of the smallest unit", pointer=pointer, reason="fraction")


def _only_in(mapping: RowMapping) -> set[str]:
    """Columns that only the elements of the list need."""
    of_list = {name for target in mapping.list_targets for name in target.column.columns}
    others = {name for target in mapping.data for name in target.column.columns}
    for column in (mapping.id, mapping.time, mapping.member):
        others |= set(column.columns) if column is not None else set()
    return of_list - others


def _scan(file: Path) -> pl.LazyFrame:
    match file.suffix.lower():
        case ".parquet" | ".pq":
            return pl.scan_parquet(file)
        case ".csv":
            return pl.scan_csv(file, infer_schema=False)
        case ".tsv":
            return pl.scan_csv(file, infer_schema=False, separator="\t")
        case ".jsonl" | ".ndjson":
            return pl.scan_ndjson(file)
    raise InvalidConfig([Problem(f"{file.name}: expected a file that ends with {', '.join(sorted(_READERS))}")])


def column_kinds(file: Path) -> dict[str, Any]:
    """The columns of a file and what they hold, for a person who writes a mapping."""
    return {name: str(kind) for name, kind in _scan(file).collect_schema().items()}
