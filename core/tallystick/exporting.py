"""The books as files: one line per row, for whoever wants to compute with them elsewhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

import msgspec
import sqlalchemy as sa

from . import tables
from .ledger import NEVER, entry_name, member_name, moment, parse_member

#: What can be exported, and in which order its rows come.
BOOKS: Final[Mapping[str, sa.Table]] = {
    "records": tables.record,
    "transfers": tables.transfer,
    "lots": tables.lot,
    "balances": tables.balance,
}


def rows(conn: sa.Connection, tenant: str, book: str) -> Iterator[dict[str, Any]]:
    """The rows of one of :data:`BOOKS`, in the order of its key; facts stay sealed and are left out."""
    table = BOOKS[book]
    columns = [column for column in table.columns if column.name not in {"tenant", "facts"}]
    query = sa.select(*columns).where(table.c.tenant == tenant).order_by(*table.primary_key.columns)
    for row in conn.execution_options(yield_per=1_000).execute(query).mappings():
        yield (
            msgspec.json.decode(row["body"])
            if book == "records"
            else {name: _readable(name, value) for name, value in row.items()}
        )


def write(found: Iterator[dict[str, Any]], form: str, output: IO[str]) -> int:
    """Write *found* to *output* as :func:`lines`; how many rows there were."""
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in found:
            count += 1
            yield row

    output.writelines(lines(counted(), form))
    return count


def lines(found: Iterator[dict[str, Any]], form: str) -> Iterator[str]:
    """As JSONL or CSV, a line at a time; what is nested stands in CSV as JSON."""
    if form == "jsonl":
        for row in found:
            yield msgspec.json.encode(row).decode() + "\n"
        return
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")  # then either of the two within a cell is quoted
    names: list[str] | None = None
    for row in found:
        record = "kind" in row
        if names is None:
            names = list(_RECORD if record else row)
            writer.writerow(names)
            yield _line(out)
        if record:  # in JSON it is what was sealed, to the letter
            row |= {name: moment(row[name]).isoformat() for name in ("at", "received")}
        writer.writerow([_cell(row.get(name)) for name in names])
        yield _line(out)


#: Columns of a record in CSV: those that have a value of their own; the explanation stays in JSONL.
_RECORD: Final = (
    "entry", "id", "source", "kind", "at", "received", "status", "member", "order", "value", "balances", "generation", "programme",
)  # fmt: skip


def _line(out: io.StringIO) -> str:
    """What was just written, with the end that lines have here."""
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text.removesuffix("\r\n") + "\n"


def _readable(name: str, value: Any) -> Any:
    if name == "entry":
        return entry_name(value)
    if name == "member":
        return member_name(value)
    if name in {"usable_from", "expires_at"}:
        return None if value >= NEVER else moment(value).isoformat()
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else value


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    # a cell that begins like this is a formula to a spreadsheet
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} and parse_member(value) is None:
        return f"'{value}"
    return value
