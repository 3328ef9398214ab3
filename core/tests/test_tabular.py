"""Facts made column by column are the facts that the door reads of the same rows as text."""

import random
from datetime import UTC, datetime

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick import tabular
from tallystick.document import Document
from tallystick.errors import InvalidConfig, TallyError
from tallystick.events import CORE_KINDS
from tallystick.intake import read_event, take_facts
from tallystick.ledger import moment
from tallystick.mapping import read_mapping
from tallystick.reading import FRAME, read_beside
from tallystick.tabular import Table

KINDS = {kind.name: kind for kind in CORE_KINDS}
NOW = datetime(2026, 11, 21, tzinfo=UTC)
MAPPING = """\
type = "purchase.completed"
source = "export"
group = "receipt"
id = "receipt"
time = "at"
zone = "America/New_York"
member = "card"
[data]
order = "receipt"
currency = "money"
discount = { column = "whole_off", decimals = 2 }
store = "store"
[rows.lines]
sku = "sku"
amount = { sum = ["price", "off"], decimals = 2 }
discount = { column = "off", decimals = 2 }
quantity = "n"
kind = "kind"
brand = "brand"
"""
TEXTS = [
    "",
    "a",
    "x" * 128,
    "x" * 129,
    'say "hi"',
    "back\\slash",
    "tab\t",
    "zero\x00",
    "del\x7f",
    "咖啡",
    "é" * 128,
    "a:b-c",
    None,
]
CENTS = [0.0, 0.1, 12.34, 1e-9, 1.005, -1.0, 1e10, 1e12, float("nan"), float("inf"), 0.29, 1.15, None]
ROW = st.fixed_dictionaries({
    "receipt": st.sampled_from(["R-1", "R-1", "R-2", "", None, "x" * 129, 'R"3']),
    "at": st.sampled_from([datetime(2025, 3, 9, 2, 30), datetime(2025, 11, 2, 1, 30, 0, 250), datetime(2999, 1, 1), None]),  # noqa: DTZ001  as files have them: without a zone
    "card": st.sampled_from([*TEXTS, "C-1", "C-1"]),
    "money": st.sampled_from(["USD", "USD", "USD", "usd", "USDD", None]),
    "whole_off": st.sampled_from([0.0, 0.0, None, 0.01, 5.0]),
    "store": st.sampled_from(TEXTS),
    "sku": st.sampled_from(["TEA", "TEA", *TEXTS]),
    "price": st.sampled_from([1.0, 2.5, *CENTS]),
    "off": st.sampled_from([0.0, None, *CENTS]),
    "n": st.sampled_from([1, 1, 0, 2, 300, -1, 10**9, 10**9 + 1, None]),
    "kind": st.sampled_from(["item", "item", "reward", "gift", "", None]),
    "brand": st.sampled_from(TEXTS),
})  # fmt: skip
SCHEMA = {
    "receipt": pl.String, "at": pl.Datetime("us"), "card": pl.String, "money": pl.String, "whole_off": pl.Float64,
    "store": pl.String, "sku": pl.String, "price": pl.Float64, "off": pl.Float64, "n": pl.Int64, "kind": pl.String,
    "brand": pl.String,
}  # fmt: skip


def verdict(item):
    """The arrival, or the refusal by name and place."""
    try:
        if item.flaw is not None:
            raise item.flaw
        if item.plain is None:
            arrival = read_event(item.body, tenant="t", kinds=KINDS, received=NOW)
        else:
            arrival = take_facts(
                item.plain.facts, id=item.plain.id, source="export", at=moment(item.time), member=item.plain.member,
                tenant="t", kind=KINDS["purchase.completed"], received=NOW,
            )  # fmt: skip
    except TallyError as error:
        return error.code, error.pointer, error.details.get("reason")
    return msgspec.structs.astuple(arrival)


def table(rows, folder):
    file = folder / "rows.parquet"
    rows = sorted(
        rows, key=lambda row: (row["receipt"] is None, row["receipt"] or "")
    )  # rows of a group stand together
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(file)
    return Table(file, read_mapping(Document(MAPPING, "map.toml"), KINDS))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=1, max_size=6))
def test_both_ways_in_give_the_same_verdict(tmp_path, rows):
    read = table(rows, tmp_path)
    frames = [*read._whole_groups()]
    quick = [item for frame in frames for item in read._items(frame)]
    as_text = [item for frame in frames for item in read._texts(frame)]
    assert [verdict(item) for item in quick] == [verdict(item) for item in as_text]
    assert [(item.row, item.time) for item in quick] == [(item.row, item.time) for item in as_text]


PLAIN = {
    "receipt": "R-1", "at": datetime(2025, 3, 1, 9), "card": "C-1", "money": "USD", "whole_off": 0.0, "store": "北店",  # noqa: DTZ001
    "sku": "TEA", "price": 4.5, "off": 0.5, "n": 2, "kind": "item", "brand": None,
}  # fmt: skip


def test_a_plain_row_never_becomes_text(tmp_path):
    read = table([PLAIN, {**PLAIN, "receipt": "R-2", "card": None, "brand": "Own", "n": None}], tmp_path)
    assert all(item.plain is not None and item.body == b"" for item in read.items())


@pytest.mark.parametrize(
    "odd", [{"sku": "a\tb"}, {"n": -1}, {"price": 1.005}, {"card": ""}, {"kind": "gift"}, {"off": 99.0, "price": -1.0}]
)
def test_an_odd_row_goes_to_the_door_as_text_and_its_neighbours_stay_plain(tmp_path, odd):
    read = table([PLAIN, {**PLAIN, "receipt": "R-2", **odd}, {**PLAIN, "receipt": "R-3"}], tmp_path)
    assert [item.plain is not None for item in read.items()] == [True, False, True]


def test_more_lines_than_an_event_may_have_are_refused(tmp_path):
    read = table([PLAIN] * 1_001, tmp_path)
    assert [verdict(item)[:2] for item in read.items()] == [("invalid_event", "/data/lines")]


def test_cents_are_what_a_person_reads_in_the_file(tmp_path):
    """0.29 and 1.15 have no exact double; the nearest whole number of cents is what was meant."""
    rows = [{**PLAIN, "receipt": f"R-{n:03}", "price": n / 100, "off": None} for n in range(1_000)]
    assert [item.plain.facts.lines[0].amount for item in table(rows, tmp_path).items()] == [*range(1_000)]


def test_events_are_whole_wherever_one_stretch_of_a_file_ends_and_the_next_begins(tmp_path, monkeypatch):
    rows = [{**PLAIN, "receipt": f"R-{n:02}", "n": line} for n in range(9) for line in range(1, 2 + n % 4)]
    whole = [*table(rows, tmp_path).items()]
    for stretch in range(1, len(rows)):
        monkeypatch.setattr(tabular, "STRETCH", stretch)
        assert [*Table(tmp_path / "rows.parquet", read_mapping(Document(MAPPING, "map.toml"), KINDS)).items()] == whole


@pytest.mark.parametrize(
    "receipts, minutes, together, in_order",
    [
        ("AABCC", "00123", True, True),
        ("AABCC", "00121", True, False),
        ("AABAC", "00123", False, False),
        ("AB?C?", "00112", False, False),
        ("A??BC", "01122", True, True),
        ("?ABCD", "0?123", True, True),
        ("ABCDE", "4?321", True, False),
        ("A", "0", True, True),
    ],
)
@pytest.mark.parametrize("stretch", [1, 2, 3, 100])
def test_order_is_seen_across_the_ends_of_stretches(
    tmp_path, monkeypatch, rules, receipts, minutes, together, in_order, stretch
):
    """A question mark is a cell without a value."""
    monkeypatch.setattr(tabular, "STRETCH", stretch)
    times = [None if minute == "?" else datetime(2025, 3, 1, 9, int(minute)) for minute in minutes]  # noqa: DTZ001
    rows = [
        {**PLAIN, "receipt": None if name == "?" else name, "at": at} for name, at in zip(receipts, times, strict=True)
    ]
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(tmp_path / "rows.parquet")
    read = Table(tmp_path / "rows.parquet", rules)
    assert (read.together(), read.in_order()) == (together, in_order)


# --- read by a process of its own ---------------------------------------------------------------------------------------


@pytest.fixture
def rules():
    return read_mapping(Document(MAPPING, "map.toml"), KINDS)


def odd_rows(count):
    """Events of one to three lines; every fourth says something that is not plain, or not right."""
    chance = random.Random(7)
    for n in range(count):
        odd = (
            {"sku": chance.choice(TEXTS), "off": chance.choice(CENTS), "card": chance.choice(TEXTS)}
            if n % 4 == 0
            else {}
        )
        for line in range(chance.randint(1, 3)):
            yield {**PLAIN, "receipt": f"R-{n:05}", "quantity": line, **odd}


def test_both_readers_give_the_same_events_row_by_row(tmp_path, rules):
    here = [*table(odd_rows(2 * FRAME + 10), tmp_path).items()]
    beside = [*read_beside(tmp_path / "rows.parquet", rules)]
    assert len(here) == 2 * FRAME + 10
    assert {item.plain is None for item in here} == {True, False}
    assert [(i.row, i.time, i.body, i.plain is None) for i in beside] == [
        (i.row, i.time, i.body, i.plain is None) for i in here
    ]
    assert [verdict(item) for item in beside] == [verdict(item) for item in here]


def test_the_claim_that_comes_over_is_the_one_that_the_door_makes_of_the_facts(tmp_path, rules):
    table(odd_rows(20), tmp_path)
    for item in read_beside(tmp_path / "rows.parquet", rules):
        if item.plain is not None:
            assert item.plain.claim == verdict(item)[7]


def test_whoever_has_enough_leaves_the_rest(tmp_path, rules):
    table(odd_rows(5 * FRAME), tmp_path)
    events = read_beside(tmp_path / "rows.parquet", rules)
    assert next(events).row == 1
    events.close()


def test_a_file_that_cannot_be_read_to_its_end_is_said_to_be_so(tmp_path, rules):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InvalidConfig, match="cannot be read to its end"):
        next(read_beside(tmp_path / "rows.parquet", rules))


@pytest.mark.parametrize("name, body", [("rows.csv", b""), ("rows.parquet", b"PAR1 and no more")])
def test_a_file_that_is_not_what_its_name_says_is_refused_by_name(tmp_path, rules, name, body):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(InvalidConfig, match=f"{name} cannot be read"):
        Table(tmp_path / name, rules)


def test_a_time_that_there_is_not_is_no_missing_time(tmp_path):
    columns = {**PLAIN, "at": "2026-03-32 10:00:00"}
    pl.DataFrame([columns, {**columns, "receipt": "R-2", "at": None}]).write_csv(tmp_path / "rows.csv")
    read = Table(tmp_path / "rows.csv", read_mapping(Document(MAPPING, "map.toml"), KINDS))
    wrong, absent = (verdict(item) for item in read.items())
    assert wrong == ("invalid_event", "/time", "not_a_time")
    assert absent == ("invalid_event", "/time", "missing")
