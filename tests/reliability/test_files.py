"""Files that mean harm: what comes in by the row is refused by the row, and what goes out starts no formula (S15)."""

import csv
import io

import pytest

from core.tests.lab import TENANT, Lab
from tallystick import database, exporting

#: What a spreadsheet would take for a formula, or a reader for the end of the text.
POISON = (
    "=HYPERLINK(1)",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    '"quoted"',
    "a,b;c",
    "\u202eolleh",
)


@pytest.mark.parametrize("book", exporting.BOOKS)
def test_no_cell_of_an_export_starts_a_formula(sqlite_url: str, book: str) -> None:
    lab = Lab(sqlite_url)
    lab.enrol("ann")
    for place, poison in enumerate(POISON):
        lab.buy("ann", 1_000, poison, id=f"{poison}{place}")
    with database.reading(lab.db) as conn:
        text = "".join(exporting.lines(exporting.rows(conn, TENANT, book), "csv"))
        found = list(exporting.rows(conn, TENANT, book))
    table = list(csv.reader(io.StringIO(text, newline="")))
    assert len(table) == 1 + len(found) > 1
    assert [cell for row in table for cell in row if cell[:1] in {"=", "+", "@", "\t", "\r"}] == []
    assert [cell for row in table for cell in row if cell[:1] == "-" and not cell[1:].isdecimal()] == []
    if book == "records":
        assert [row["order"] for row in found] == list(POISON), "as lines of JSON it is what it was"
        told = [row[table[0].index("order")] for row in table[1:]]
        assert [cell.removeprefix("'") if cell[1:2] in "=+-@\t\r" else cell for cell in told] == [
            poison.removeprefix("'") if poison == "'=1" else poison for poison in POISON
        ]
    lab.db.dispose()
