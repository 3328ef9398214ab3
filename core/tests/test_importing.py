"""Files come in through the same door as everything else, in time order where history is played, once whatever happens."""

import codecs
import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner

from tallystick.cli import cli
from tallystick.document import Document
from tallystick.errors import InvalidConfig
from tallystick.events import CORE_KINDS
from tallystick.mapping import read_mapping

KINDS = {kind.name: kind for kind in CORE_KINDS}
MAPPING = """\
type = "purchase.completed"
source = "till-export"
group = "receipt"
id = "receipt"
time = "when"
zone = "America/New_York"
member = "card"

[data]
order = "receipt"
currency = { value = "USD" }
store = "store"

[rows.lines]
sku = "sku"
amount = { sum = ["price", "off"], decimals = 2 }
discount = { column = "off", decimals = 2 }
quantity = "n"
department = "department"
"""
#: receipt, when, card, store, sku, price, off, n, department
ROWS = [
    ("R-1", "2025-03-01 09:00:00", "C-1", "north", "TEA", "4.50", "0.50", "1", "GROCERY"),
    ("R-1", "2025-03-01 09:00:00", "C-1", "north", "CUP", "12.00", "", "2", 'HOME "&" GARDEN'),
    ("R-2", "2025-03-01 10:00:00", "C-2", "north", "TEA", "5.00", "0", "1", ""),
    ("R-3", "2025-03-02 08:00:00", "C-1", "south", "PIE", "0.99", "0.00", "1", "BÄCKEREI"),
]
NAMES = ("receipt", "when", "card", "store", "sku", "price", "off", "n", "department")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANG", "C.UTF-8")

    def run(*args: str, status: int = 0):
        result = CliRunner().invoke(cli, args)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout) if "--json" in args and result.stdout else result

    run("init", "--zone", "America/New_York")
    (tmp_path / "map.toml").write_text(MAPPING)
    return run


@pytest.fixture
def books(tmp_path):
    """What is in the journal: (id, received, earned), in its order."""

    def books():
        with sqlite3.connect(tmp_path / "tally.db") as conn:
            bodies = [json.loads(body) for (body,) in conn.execute("SELECT body FROM record ORDER BY entry")]
        conn.close()
        return [(body["id"], body["received"], sum(t[3] for t in body.get("transfers", []))) for body in bodies]

    return books


def table(rows, path):
    frame = pl.DataFrame(rows, schema=list(NAMES), orient="row")
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".parquet":
        # as an analyst's tools would write it: numbers as doubles, times as times
        money = pl.col("price", "off").replace("", None).cast(pl.Float64)
        frame.with_columns(money, pl.col("n").cast(pl.Int64), pl.col("when").str.to_datetime()).write_parquet(path)
    else:
        frame.write_ndjson(path)
    return str(path)


def event(id: str, cents: int, at: str, member: str = "C-1") -> bytes:
    data = {"order": id, "currency": "USD", "lines": [{"sku": "TEA", "amount": cents}]}
    return json.dumps(
        {"id": id, "source": "till", "type": "purchase.completed", "time": at, "member": member, "data": data}
    ).encode()


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_a_table_becomes_purchases(shop, books, tmp_path, name):
    shop("import", table(ROWS, tmp_path / name), "--mapping", "map.toml", "--history", "--enrol")
    assert [(id, earned) for id, _, earned in books()] == [("R-1", 16), ("R-2", 5), ("R-3", 0)]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 2, 0, 3), (2, 3, 0, 1)])
def test_scattered_rows_are_put_in_order_first(shop, books, tmp_path, name, order):
    """The same entries as from the sorted file, but for the order of a receipt's lines, which is the file's."""
    shop("import", table([ROWS[n] for n in order], tmp_path / name), "--mapping", "map.toml", "--history", "--enrol")
    assert [(id, earned) for id, _, earned in books()] == [("R-1", 16), ("R-2", 5), ("R-3", 0)]


def test_times_are_read_in_their_zone_and_history_is_received_when_it_happened(shop, books, tmp_path):
    shop("import", table(ROWS, tmp_path / "rows.csv"), "--mapping", "map.toml", "--history", "--enrol")
    first = datetime(2025, 3, 1, 14, tzinfo=UTC)  # nine o'clock in New York
    assert books()[0][1] == int(first.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    "field, value, code, pointer",
    [
        ("price", "1.234", "invalid_event", "/data/lines/-/amount"),
        ("price", "abc", "invalid_event", "/data/lines/-/amount"),
        ("price", "-5", "invalid_event", "/data/lines/0/amount"),
        ("n", "1.5", "invalid_event", "/data/lines/-/quantity"),
        ("when", "yesterday", "invalid_event", "/time"),
        ("when", "2999-01-01 00:00:00", "too_early", "/time"),
        ("sku", "x" * 200, "invalid_event", "/data/lines/0/sku"),
        ("card", "m-123456789012", "unknown_member", "/member"),
    ],
)
@pytest.mark.parametrize("scattered", [False, True])
def test_a_bad_row_is_refused_by_name_and_its_neighbours_stand(
    shop, books, tmp_path, field, value, code, pointer, scattered
):
    bad = tuple(value if name == field else said for name, said in zip(NAMES, ROWS[2], strict=True))
    rows = [ROWS[1], bad, ROWS[3], ROWS[0]] if scattered else [ROWS[0], ROWS[1], bad, ROWS[3]]
    shop("import", table(rows, tmp_path / "rows.csv"), "--mapping", "map.toml", "--history", "--enrol", status=1)
    report = [json.loads(line) for line in (tmp_path / "rows.csv.refused.jsonl").read_text().splitlines()]
    assert [(row["row"], row["id"], row["code"], row["pointer"]) for row in report] == [
        (2 if scattered else 3, "R-2", code, pointer)
    ]
    assert [id for id, _, _ in books()] == ["R-1", "R-3"]


HEAD = "receipt,when,card,store,sku,price,off,n,department"


def refused(folder, name: str = "rows.csv"):
    report = folder / f"{name}.refused.jsonl"
    lines = report.read_text().splitlines() if report.exists() else []
    return [(row["row"], row["id"], row["pointer"]) for row in map(json.loads, lines)]


def test_a_file_as_spreadsheets_write_it(shop, books, tmp_path):
    """A byte order mark, lines that end as on Windows, quotation marks, breaks within a text, empty lines."""
    rows = [
        "",
        'R-1,2025-03-01 09:00:00,C-1,"Main, ""East""",TEA,4.50,,1,',
        ",,,,,,,,",
        "",
        'R-1,2025-03-01 09:00:00,C-1,x,"A\nB",3,,,',
        "",
    ]
    text = "\r\n".join([HEAD, *rows, "R-2,2025-03-01 10:00:00,,,PIE,2,,1", "", ""])
    (tmp_path / "rows.csv").write_bytes(text.encode("utf-8-sig"))
    shop("import", "rows.csv", "--mapping", "map.toml", "--history", "--enrol")
    assert [(id, earned) for id, _, earned in books()] == [("R-1", 7), ("R-2", 0)]


@pytest.mark.parametrize("scattered", [False, True])
def test_a_row_with_too_many_cells_is_refused_and_its_neighbours_stand(shop, books, tmp_path, scattered):
    """What lies behind a comma that nobody quoted would be read as another column's."""
    rows = ["R-1,2025-03-01 09:00:00,C-1,s,TEA,4.50,0,1,A", "", "R-2,2025-03-01 10:00:00,C-1,Main, East,TEA,1.00,0,1,A"]
    rows += ["R-3,2025-03-01 11:00:00,C-1,s,TEA,2.00,0,1,A,"] + [
        "R-1,2025-03-01 09:00:00,C-1,s,CUP,1.00,0,1,A"
    ] * scattered
    (tmp_path / "rows.csv").write_text("\n".join([HEAD, *rows, ""]))
    said = shop("import", "rows.csv", "--mapping", "map.toml", "--history", "--enrol", status=1).stderr
    assert "more cells" in said
    assert refused(tmp_path) == [(3, "R-2", None), (4, "R-3", None)]
    assert [(id, earned) for id, _, earned in books()] == [("R-1", 5 if scattered else 4)]


@pytest.mark.parametrize(
    "row", [b'R-1,2025-03-01 09:00:00,"C-1,s,TEA,4.50,0,1,A', b"R-1,2025-03-01 09:00:00,\xff,s,TEA,4.50,0,1,A"]
)
def test_a_file_that_cannot_be_read_to_its_end_is_refused_before_anything_is_written(shop, books, tmp_path, row):
    good = b"R-0,2025-03-01 08:00:00,C-1,s,TEA,4.50,0,1,A"
    (tmp_path / "rows.csv").write_bytes(b"\n".join([HEAD.encode(), good, row, b""]))
    said = shop("import", "rows.csv", "--mapping", "map.toml", "--history", "--enrol", status=1).stderr
    assert "invalid_config: rows.csv cannot be read" in said
    assert books() == []


@pytest.mark.parametrize(
    "zone, times",
    [
        ("America/New_York", {"2025-03-01T10:00:00Z": 10, "2025-03-01T12:30:00+01:30": 11, "2025-03-01 07:00": 12}),
        ("America/New_York", {"2025/03/01 09:30:00.0": 14.5, "03/01/2025 10:00": None}),
        ("", {"2025-03-01T10:00:00Z": 10, "2025-03-01 07:00:00": None, "2025-03-02": None, "2025-03-01T13:00:00.000+0100": 12}),
    ],
    ids=["its own zone first", "year first", "no zone"],
)  # fmt: skip
def test_a_time_is_read_in_its_own_zone_else_in_the_mappings(shop, books, tmp_path, zone, times):
    """And where neither says one, or nobody can know which day is meant, the row is refused."""
    named = f'zone = "{zone}"\n' if zone else ""
    (tmp_path / "map.toml").write_text(MAPPING.replace('zone = "America/New_York"\n', named))
    rows = [f"R-{n},{time},C-1,s,TEA,4.50,0,1,A" for n, time in enumerate(times)]
    (tmp_path / "rows.csv").write_text("\n".join([HEAD, *rows, ""]))
    bad = [n for n, hour in enumerate(times.values()) if hour is None]
    shop("import", "rows.csv", "--mapping", "map.toml", "--history", "--enrol", status=1 if bad else 0)
    start = datetime(2025, 3, 1, tzinfo=UTC).timestamp()
    expected = {
        f"R-{n}": round((start + hour * 3600) * 1e6) for n, hour in enumerate(times.values()) if hour is not None
    }
    assert {id: received for id, received, _ in books()} == expected
    assert refused(tmp_path) == [(n + 1, f"R-{n}", "/time") for n in bad]


def test_events_in_jsonl_get_the_same_verdict_as_over_http(shop, tmp_path):
    lines = [
        event("1", 500, "2025-03-01T10:00:00Z"),
        b"{",
        event("2", 500, "2025-03-01T10:00:00"),
        event("1", 700, "2025-03-01T10:00:00Z"),
        event("3", 500, "2025-03-01T11:00:00Z").replace(b'"currency"', b'"money"'),
        event("1", 500, "2025-03-01T10:00:00Z"),
        b"",
        event("4", 500, "2025-03-01T12:00:00Z", "nobody"),
    ]
    shop("member", "add", "C-1")
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    told = shop("import", "events.jsonl", "--history", "--json", status=1)
    assert (told["recorded"], told["repeated"], told["refused"]) == (1, 1, 5)
    report = [json.loads(line) for line in (tmp_path / "events.jsonl.refused.jsonl").read_text().splitlines()]
    assert {row["row"]: row["code"] for row in report} == {
        2: "invalid_event", 3: "invalid_event", 4: "event_conflict", 5: "invalid_event", 8: "unknown_member",
    }  # fmt: skip


def test_events_in_jsonl_may_begin_with_a_byte_order_mark_and_end_lines_as_on_windows(shop, books, tmp_path):
    lines = [event("a", 500, "2025-03-01T10:00:00Z"), b"", b"  ", event("b", 500, "2025-03-01T11:00:00Z"), b""]
    (tmp_path / "events.jsonl").write_bytes(codecs.BOM_UTF8 + b"\r\n".join(lines))
    shop("import", "events.jsonl", "--history", "--enrol")
    assert [id for id, _, _ in books()] == ["a", "b"]


def test_history_in_jsonl_is_played_in_time_order(shop, books, tmp_path):
    start = datetime(2025, 3, 1, tzinfo=UTC)
    lines = [event(str(n), 100, (start + timedelta(hours=n * 37 % 100)).isoformat()) for n in range(100)]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    shop("import", "events.jsonl", "--history", "--enrol")
    times = [received for _, received, _ in books()]
    assert times == sorted(times)
    assert len(set(times)) == 100


def test_importing_twice_changes_nothing(shop, books, tmp_path):
    file = table(ROWS, tmp_path / "rows.csv")
    shop("import", file, "--mapping", "map.toml", "--history", "--enrol")
    before = books()
    told = shop("import", file, "--mapping", "map.toml", "--history", "--enrol", "--json")
    assert (told["recorded"], told["repeated"]) == (0, 3)
    assert books() == before


def test_an_interrupted_import_goes_on_where_it_stopped(shop, books, tmp_path, monkeypatch):
    monkeypatch.setattr("tallystick.importing.BATCH", 10)
    start = datetime(2025, 3, 1, tzinfo=UTC)
    lines = [event(str(n), 100, (start + timedelta(minutes=n)).isoformat()) for n in range(100)]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    calls = []

    def power_cut(_self, done):
        calls.append(done)
        if len(calls) == 4:
            raise KeyboardInterrupt  # recorded and not yet remembered: the worst moment

    with monkeypatch.context() as patch:
        write = __import__("tallystick.importing", fromlist=["Bookmark"]).Bookmark.write
        patch.setattr(
            "tallystick.importing.Bookmark.write",
            lambda self, done, **more: (power_cut(self, done), write(self, done, **more)),
        )
        CliRunner().invoke(cli, ["import", "events.jsonl", "--history", "--enrol"])
    assert len(books()) == 40
    told = shop("import", "events.jsonl", "--history", "--enrol", "--json")
    assert (told["skipped"], told["repeated"], told["recorded"]) == (30, 10, 60)
    assert [id for id, _, _ in books()] == [str(n) for n in range(100)]


KILLED = """
import os
from tallystick import importing
from tallystick.cli import cli

importing.BATCH, checkpoints, write = 10, [], importing.Bookmark.write

def kill(bookmark, *done, **more):
    checkpoints.append(done)
    if len(checkpoints) == 4:
        os._exit(9)
    write(bookmark, *done, **more)

importing.Bookmark.write = kill
cli(["import", "events.jsonl", "--history", "--enrol"])
"""


def test_rows_that_a_killed_import_refused_stand_in_the_report_once(shop, books, tmp_path):
    start = datetime(2025, 3, 1, tzinfo=UTC)
    lines = [event(str(n), 0 if n % 5 else -1, (start + timedelta(minutes=n)).isoformat()) for n in range(100)]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    assert subprocess.run([sys.executable, "-c", KILLED], check=False).returncode == 9
    told = shop("import", "events.jsonl", "--history", "--enrol", "--json", status=1)
    assert (told["skipped"], told["repeated"], told["recorded"]) == (30, 8, 48)
    assert [row for row, _, _ in refused(tmp_path, "events.jsonl")] == [n + 1 for n in range(0, 100, 5)]


def test_days_end_as_history_is_played(shop, tmp_path):
    """Points of the first of March live thirty days: they expire as the thirty-first begins, not today."""
    config = tmp_path / "tally.toml"
    config.write_text(
        config.read_text() + '\n[tenants.shop.plugins.points.expiry]\npolicy = "rolling"\nafter = "P30D"\n'
    )
    lines = [
        event("1", 10_000, "2025-03-01T15:00:00Z"),
        event("2", 20_000, "2025-04-02T15:00:00Z"),
        event("3", 30_000, "2025-07-01T15:00:00Z"),
    ]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    told = shop("import", "events.jsonl", "--history", "--enrol", "--json")
    assert told["swept"] == 2
    records = [json.loads(line) for line in shop("export", "records").stdout.splitlines()]
    assert [(record["kind"], record["received"] // 86_400_000_000) for record in records] == [
        ("purchase.completed", 20_148), ("lots.expired", 20_178), ("purchase.completed", 20_180),
        ("lots.expired", 20_210), ("purchase.completed", 20_270),
    ]  # fmt: skip
    assert shop("verify", "--json")["findings"] == []


def test_only_a_mapping_says_how_a_table_is_meant(shop, tmp_path):
    said = shop("import", table(ROWS, tmp_path / "rows.csv"), status=1).stderr
    assert "invalid_config" in said
    assert "--mapping" in said


@pytest.mark.parametrize(
    "was, now, said",
    [
        ('source = "till-export"\n', "", "expected who says so"),
        ('type = "purchase.completed"', 'type = "purchase.complete"', 'did you mean "purchase.completed"?'),
        ('sku = "sku"', 'skuu = "sku"', 'did you mean "sku"?'),
        ('sku = "sku"\n', "", '"sku" is missing'),
        ("decimals = 2 }\ndiscount", "decimals = 9 }\ndiscount", "from 0 to 6"),
        ('zone = "America/New_York"', 'zone = "Mars"', "expected a time zone"),
        ('group = "receipt"\n', "", "group and rows go together"),
        ('{ value = "USD" }', "{ values = 3 }", "expected a column"),
        ('store = "store"', "stores = 3", 'has no field "stores"'),
        ("[data]", "[datum]", 'unknown key "datum"'),
    ],
)
def test_a_mistake_in_a_mapping_is_named_with_its_place(was, now, said):
    assert was in MAPPING
    with pytest.raises(InvalidConfig) as caught:
        read_mapping(Document(MAPPING.replace(was, now), "map.toml"), KINDS)
    assert said in str(caught.value)
    assert all(problem.file == "map.toml" and problem.line for problem in caught.value.problems)


def test_a_column_that_is_not_there_is_named(shop, tmp_path):
    (tmp_path / "map.toml").write_text(MAPPING.replace('"department"\n', '"depart"\n'))
    assert (
        'there is no column "depart"'
        in shop("import", table(ROWS, tmp_path / "rows.csv"), "--mapping", "map.toml", status=1).stderr
    )


def test_a_second_file_adds_columns(shop, books, tmp_path):
    (tmp_path / "prices.csv").write_text("sku,list\nTEA,3.00\nCUP,4.00\n")
    mapping = MAPPING.replace(
        'amount = { sum = ["price", "off"], decimals = 2 }', 'amount = { column = "list", decimals = 2 }'
    )
    mapping = 'lookups = [{ file = "prices.csv", on = "sku" }]\n' + mapping.replace(
        'discount = { column = "off", decimals = 2 }\n', ""
    )
    (tmp_path / "map.toml").write_text(mapping)
    shop("import", table(ROWS[:3], tmp_path / "rows.csv"), "--mapping", "map.toml", "--history", "--enrol")
    assert [(id, earned) for id, _, earned in books()] == [("R-1", 7), ("R-2", 3)]
