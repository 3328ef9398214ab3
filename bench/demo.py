"""What the demo's year costs per event, stage by stage: reading, the door, the house.  CPU time of all threads.

The yardstick is a loop that inserts the same number of rows of 1 KiB into SQLite with synchronous=FULL, 2,000 a
transaction: the least a durable journal can cost on this machine.

    python bench/demo.py [baskets] [plugin ...]

With the names of plugins, the others of the demo's programme are left out: ``points`` alone is a house with one plugin.
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tallystick import demo, discovery
from tallystick.cli import establish
from tallystick.importing import BATCH, Importer, open_events
from tallystick.intake import take_facts
from tallystick.ledger import moment
from tallystick.terminal import Desk

LINES_PER_BASKET = 1_469_307 / demo.BASKETS


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    gc.collect()
    wall, cpu = time.perf_counter(), cpu_seconds()
    found = work()
    return found, time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """Of this process and of the one that read the file for it."""
    return sum(os.times()[:4])


def durable_rows(folder: Path, count: int) -> None:
    with sqlite3.connect(folder / "yardstick.db", isolation_level=None) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB)")
        for start in range(0, count, BATCH):
            conn.execute("BEGIN IMMEDIATE")
            conn.executemany(
                "INSERT INTO row VALUES (?, ?)", [(n, bytes(1_024)) for n in range(start, min(count, start + BATCH))]
            )
            conn.execute("COMMIT")


def programme(plugins: list[str]) -> str:
    """The demo's configuration, with these plugins only if any are named."""
    first, *sections = re.split(r"(?m)^(?=\[)", demo.render_config())
    of = re.compile(r"\[+tenants\.\w+\.plugins\.(\w+)")
    kept = [text for text in sections if not plugins or (found := of.match(text)) is None or found[1] in plugins]
    return "".join([first, *kept])


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else demo.BASKETS
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)  # as the commands begin
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        establish(folder / "tally.toml", programme(sys.argv[2:]), discovery.discover())
        with Desk(folder / "tally.toml", as_json=False).house() as house:
            data, mapping = demo.data_folder(), demo.mapping(house)
            demo.enrol_households(house, data)
            kind, now = mapping.kind, moment(house.clock())

            def read() -> list[Any]:
                file = data / "transactions.parquet"
                return list(itertools.islice(open_events(file, mapping, history=True, workspace=folder), count))

            def door() -> list[Any]:
                return [
                    take_facts(
                        item.plain.facts, id=item.plain.id, source=mapping.source, at=moment(item.time), member=item.plain.member,
                        tenant=demo.TENANT, kind=kind, received=now, claim=item.plain.claim,
                    )
                    for item in items
                ]  # fmt: skip

            _, yard_wall, yard_cpu = timed(lambda: durable_rows(folder, count))
            items, read_wall, read_cpu = timed(read)
            _, door_wall, door_cpu = timed(door)
            importer = Importer(house, demo.TENANT, mapping=mapping, history=True)
            _, all_wall, all_cpu = timed(lambda: importer.run(iter(items)))
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file() and "yardstick" not in file.name)

    def show(stage: str, wall: float, cpu: float) -> None:
        print(f"{stage:36}{cpu / count * 1e6:10.1f}{cpu / yard_cpu:12.1f}{count / wall:14,.0f}")

    print(f"{count:,} baskets, {LINES_PER_BASKET:.1f} lines each\n")
    print(f"{'':36}{'CPU us':>10}{'x yardstick':>12}{'events/s':>14}")
    show("yardstick: 1 KiB rows, durable", yard_wall, yard_cpu)
    show("reading the file", read_wall, read_cpu)
    show("the door alone", door_wall, door_cpu)
    show("the house (door, engine, days)", all_wall, all_cpu)
    show("in all, one after the other", read_wall + all_wall, read_cpu + all_cpu)
    print(f"\naim: {25 + 1.5 * LINES_PER_BASKET:.1f} CPU us and 15,000 events/s on two idle cores")
    print(
        f"{size / count:,.0f} bytes per event on disk; resident at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB (all events held at once here)"
    )


if __name__ == "__main__":
    main()
