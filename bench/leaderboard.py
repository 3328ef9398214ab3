"""The top 100 of 1,000,000 members, and one member's own place: `python bench/leaderboard.py [DATABASE_URL]`.

The database must be empty; without one, a SQLite file in a temporary folder is made and removed.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from tallystick import database, migrate
from tallystick.migrate import Part
from tallystick.tables import own
from tallystick_gamification import boards, store, tables

MEMBERS, HIDDEN, TURNS = 1_000_000, 10_000, 11


def fill(db: sa.Engine) -> None:
    migrate.upgrade(db, [migrate.CORE, Part("gamification", "tallystick_gamification.migrations")])
    draw = random.Random(1)
    with db.begin() as conn:
        for start in range(1, MEMBERS + 1, 50_000):
            rows = [
                {
                    "tenant": "t",
                    "board": "spend",
                    "start": 0,
                    "scope": "",
                    "member": member,
                    "score": draw.randrange(1, 100_000),
                }
                for member in range(start, start + 50_000)
            ]
            conn.execute(tables.score.insert(), rows)
        counted = Counter(
            boards.span_of(score)
            for (score,) in conn.execute(tables.score.select().with_only_columns(tables.score.c.score))
        )
        board = {"tenant": "t", "board": "spend", "start": 0, "scope": ""}
        conn.execute(tables.span.insert(), [{**board, "span": span, "members": n} for span, n in counted.items()])
        hidden = [
            {
                "tenant": "t",
                "plugin": "gamification",
                "key": "hidden",
                "name": f"m:{member}",
                "member": 0,
                "value": "true",
            }
            for member in draw.sample(range(1, MEMBERS + 1), HIDDEN)
        ]
        conn.execute(own.insert(), hidden)
    with db.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("ANALYZE")


def measure(db: sa.Engine, look: Callable[[sa.Connection], Any]) -> tuple[float, float, float]:
    """Median and slowest by the clock, and the CPU time of this process (all there is on SQLite), in milliseconds."""
    took, worked = [], []
    for _ in range(TURNS):
        with db.connect() as conn:
            began, busy = time.perf_counter(), time.process_time()
            look(conn)
            took.append((time.perf_counter() - began) * 1000)
            worked.append((time.process_time() - busy) * 1000)
    return statistics.median(took), max(took), statistics.median(worked)


def main(url: str) -> None:
    db = database.connect(url)
    fill(db)
    top = measure(db, lambda conn: store.top(conn, "t", "spend", 0, "", 100))
    mine = measure(db, lambda conn: store.place_of(conn, "t", "spend", 0, "", MEMBERS // 2))
    print(
        f"{db.dialect.name}: top 100 of {MEMBERS:,}: median {top[0]:.2f} ms, slowest {top[1]:.2f} ms, {top[2]:.2f} CPU ms"
    )
    print(f"{db.dialect.name}: own place: median {mine[0]:.2f} ms, slowest {mine[1]:.2f} ms, {mine[2]:.2f} CPU ms")
    db.dispose()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(f"sqlite:///{folder}/board.db")
