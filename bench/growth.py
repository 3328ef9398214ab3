"""One earn among 10^4, 10^5 and 10^6 members: what it costs must not grow with them.

CPU microseconds of this process, and of the server on PostgreSQL; members are written as rows, each with an order, a batch
of points, a balance and a counter, and events come for members drawn at random.

    python bench/growth.py [sqlite|postgresql] [members ...]
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import jobs
import psutil

from tallystick import config, house
from tallystick.discovery import discover
from tallystick.document import Document
from tallystick.engine import Receipt
from tallystick.intake import read_document
from tallystick.ledger import instant, member_name, moment
from tallystick.yardstick import LINES, python_speed

EVENTS, BATCH = 4_000, 100


def main() -> None:
    backends = [word for word in sys.argv[1:] if not word.isdigit()] or ["sqlite", "postgresql"]
    sizes = [int(word) for word in sys.argv[1:] if word.isdigit()] or [10_000, 100_000, 1_000_000]
    print("| database | members | CPU us per earn | of the smallest | Python, ms per 10^6 |\n|---|---|---|---|---|")
    for backend in backends:
        costs: list[float] = []
        for size in sizes:
            with (
                tempfile.TemporaryDirectory(prefix="tally-bench-") as folder,
                jobs.database_in(folder, backend) as (url, server),
            ):
                costs.append(measure(url, Path(folder), size, server))
            share = f"{costs[-1] / costs[0]:.2f}"
            print(f"| {backend} | {size:,} | {costs[-1]:.1f} | {share} | {python_speed():.0f} |", flush=True)


def measure(url: str, folder: Path, size: int, server: psutil.Process | None) -> float:
    text = jobs.SETTINGS.replace("{url}", url).replace("{folder}", str(folder))
    checked = config.check(Document(text), installed=discover())
    house.prepare(checked)
    at = instant(moment(house.now()))
    built = house.build_house(checked, alone=True, clock=lambda: at)
    try:
        numbers = jobs.fill(built, size, at)
        if server is not None:
            with built.db.connect() as conn:
                conn.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")
        work = [arrivals(built, numbers, turn, at) for turn in range(3)]
        record(built, work[0])  # warm: statements are prepared, the cache is what it is in a shop
        best = min(cost(built, each, server) for each in work[1:])
    finally:
        built.close()
    return best


def arrivals(built: house.House, numbers: list[int], turn: int, at: int) -> list[Any]:
    draw, kinds = random.Random(turn), built.kinds(jobs.TENANT)
    return [
        read_document(
            {
                "id": f"{turn}-{n}", "source": "bench", "type": "purchase.completed", "time": moment(at).isoformat(),
                "member": member_name(draw.choice(numbers)),
                "data": {"order": f"{turn}-{n}", "currency": "CNY", "lines": LINES},
            },
            tenant=jobs.TENANT, kinds=kinds, received=moment(at),
        )
        for n in range(EVENTS)
    ]  # fmt: skip


def record(built: house.House, work: list[Any]) -> None:
    for start in range(0, EVENTS, BATCH):
        outcomes = built.engine.record(work[start : start + BATCH])
        assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes[0]


def cost(built: house.House, work: list[Any], server: psutil.Process | None) -> float:
    before = jobs.used(server)
    record(built, work)
    return (jobs.used(server) - before) / EVENTS * 1e6


if __name__ == "__main__":
    main()
