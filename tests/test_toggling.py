"""A plugin is switched 200 times while two processes record 10,000 events."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import sqlalchemy as sa

from tallystick import config, database, discovery, people, switchboard, tables
from tallystick.house import build_house, prepare
from tallystick.ledger import Record, read_record
from tallystick.switchboard import judge_again, recorded_events

TILLS, TOGGLES, SIZE = 2, 200, 25

SETTINGS = """\
[house]
database = "{url}"
[tenants.shop]
zone = "UTC"
currency = "USD"
[tenants.shop.plugins.points]
[[tenants.shop.plugins.points.earn]]
name = "base"
points = 1
per = 100
"""


def test_two_hundred_changes_during_ten_thousand_events(database_url: str, tmp_path: Path) -> None:
    """No event is lost, each names its generation and is judged the same again, and "disabled" holds from the answer on."""
    file = tmp_path / "tally.toml"
    file.write_text(SETTINGS.format(url=database_url))
    installed = discovery.discover()
    checked = config.load(file, installed=installed)
    prepare(checked, installed=installed)
    house = build_house(checked, installed=installed)
    with house.db.begin() as conn:
        for n in range(7):
            people.enrol(conn, house.secret, "shop", house.clock(), external_ids=[f"m-{n}"])
    script = Path(__file__).with_name("toggling.py")
    tills = [
        subprocess.Popen(
            [sys.executable, script, file, f"till-{n}", str(SIZE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(TILLS)
    ]
    silent: list[
        tuple[dict[int, int], dict[int, int]]
    ] = []  #: per writer, batches between "disabled" and the next change
    try:
        for till in tills:
            assert till.stdout is not None and till.stdout.readline() == "ready\n"
        for n in range(TOGGLES):
            for till in tills:
                assert till.stdin is not None
                till.stdin.write("go\n")
                till.stdin.flush()
            if n % 2 == 0:
                switchboard.disable(house, "shop", "points", actor="test")
                since = heads(house.db)
            else:
                silent.append((since, heads(house.db)))
                switchboard.enable(house, "shop", "points", actor="test")
        said = [till.communicate(timeout=300)[0] for till in tills]
    finally:
        for till in tills:
            till.kill()
            till.wait()

    entries = [msgspec.json.decode(line) for text in said for line in text.splitlines()]
    assert sum(len(each) for each in entries) == TILLS * TOGGLES * SIZE == 10_000
    assert [code for each in entries for code in each if "-" not in code] == [], "refusals"

    records = load(house.db)
    assert len(records) == 10_000
    running = dict(generations(house.db))
    assert {record.generation for record in records} <= running.keys()
    for record in records:
        assert bool(record.lots) == ("points" in running[record.generation]), record.entry
    for since, until in silent:
        between = [r for r in records if since.get(writer(r), 0) < batch(r) <= until.get(writer(r), 0)]
        assert [r.entry for r in between if r.lots] == [], "lots after the answer"
    replayed = 0
    for number in sorted({record.generation for record in records})[::20]:
        generation = house.registry._compile("shop", number)  # as any process reads it from the books
        for record, arrival in recorded_events(house, generation, 5, looked=20_000, judged_by=number):
            again = judge_again(house, generation, record, arrival)
            assert (again.generation, again.explanation) == (record.generation, record.explanation)
            replayed += 1
    assert replayed > 20
    house.db.dispose()


def writer(record: Record) -> int:
    return int(record.entry.split("-")[0])


def batch(record: Record) -> int:
    return int(record.entry.split("-")[1])


def heads(db: sa.Engine) -> dict[int, int]:
    rows = tables.batch
    with database.reading(db) as conn:
        found = conn.execute(sa.select(rows.c.writer, sa.func.max(rows.c.number)).group_by(rows.c.writer)).all()
    return dict(found)


def generations(db: sa.Engine) -> list[tuple[int, dict[str, str]]]:
    rows = tables.programme
    with database.reading(db) as conn:
        return [
            (n, msgspec.json.decode(plugins))
            for n, plugins in conn.execute(sa.select(rows.c.generation, rows.c.plugins))
        ]


def load(db: sa.Engine) -> list[Record]:
    with database.reading(db) as conn:
        return [
            read_record(bytes(body))
            for body in conn.scalars(sa.select(tables.record.c.body).order_by(tables.record.c.entry))
        ]
